"""The one outline step: a study, pictures and a prediction of the folds are gated, cleared and judged alike."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.outline import outline_prediction, outline_slices, segment_slices
from bleedmap.inference.weights import WeightsFile, locate
from bleedmap.phantom.bleeds import Bleed
from bleedmap.study.read import read_study
from bleedmap.study.segment import Segmenter
from bleedmap.volume import Volume
from drawn_heads import small_head


@pytest.fixture(scope="module")
def volume() -> Volume:
    return small_head(Bleed("IPH", 30.0, "left")).volume


@pytest.fixture(scope="module")
def backend() -> OpenVinoBackend:
    return OpenVinoBackend(locate(), "fp32")


def changed(change: dict[str, float]) -> WeightsFile:
    """The installed weights with other numbers of certainty."""
    weights = locate()
    assert weights.certainty is not None
    return replace(weights, record=weights.record | {"certainty": asdict(replace(weights.certainty, **change))})


@pytest.mark.parametrize("change", [{}, {"smallest_ml": 1e6}, {"gate": 1.0}, {"gate": 0.0}])
def test_a_study_is_outlined_as_the_folds_are(change: dict[str, float], volume: Volume, backend: OpenVinoBackend):
    """Folds gate and clear a study's whole probability; `segment` enlarges only the slices that the gate opens."""
    weights = changed(change)
    result = Segmenter(weights, backend, weights.threshold).segment(read_study(volume))
    said = segment_slices(volume.hu, weights.preprocessing, backend, pixel_mm=volume.grid.spacing_mm[1:])
    before = said.probability.copy()
    expected = outline_prediction(said, weights.certainty, weights.threshold, volume.grid.voxel_ml)
    assert np.array_equal(said.probability, before)
    assert np.array_equal(result.probability.array, expected.probability)
    assert np.array_equal(result.mask.array, expected.mask)
    assert result.certainty is not None
    assert expected.certainty is not None
    doubts = len(result.certainty.abstained) - len(expected.certainty.abstained)
    assert replace(result.certainty, abstained=result.certainty.abstained[:-doubts]) == expected.certainty
    assert "10.0 mm apart" in result.certainty.abstained[-1]
    assert expected.probability.any() == (change.get("gate") != 1.0)
    assert expected.mask.any() == (change in ({}, {"gate": 0.0}))


def test_pictures_have_a_gate_but_no_smallest_bleed(volume: Volume, backend: OpenVinoBackend) -> None:
    weights = changed({"smallest_ml": 1e6})
    outline = outline_slices(volume.hu, weights, backend)
    assert outline.mask.any()
    assert outline.certainty is not None
    assert outline.certainty.volume_ml is None
    assert not outline_slices(volume.hu, changed({"gate": 1.0}), backend).mask.any()


def test_an_interval_needs_the_threshold_that_it_was_fitted_for(volume: Volume, backend: OpenVinoBackend) -> None:
    weights = locate()
    fitted, other = (
        outline_slices(volume.hu, weights, backend, grid=volume.grid, threshold=at) for at in (None, 0.99)
    )  # fmt: skip
    assert fitted.certainty is not None
    assert other.certainty is not None
    assert fitted.certainty.volume_ml is not None
    assert other.certainty.volume_ml is None
    assert other.mask.sum() < fitted.mask.sum()


def test_weights_that_say_nothing_of_certainty_have_neither_gate_nor_smallest_bleed(
    volume: Volume, backend: OpenVinoBackend
) -> None:
    shipped = locate()
    silent = replace(shipped, record={name: one for name, one in shipped.record.items() if name != "certainty"})
    outline = outline_slices(volume.hu, silent, backend, grid=volume.grid)
    said = segment_slices(volume.hu, silent.preprocessing, backend, pixel_mm=volume.grid.spacing_mm[1:])
    assert outline.certainty is None
    assert np.array_equal(outline.probability, said.probability)
