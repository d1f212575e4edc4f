"""How sure: calibration, gate, interval, abstention; and how a fold chooses them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bleedmap.errors import WeightsError
from bleedmap.inference import certainty
from bleedmap.inference.backends import Segmented
from bleedmap.inference.certainty import CertaintySettings, Familiar
from bleedmap.inference.outline import outline_prediction
from bleedmap.inference.weights import WeightsFile
from bleedmap.postprocess import clear_small, without_small

SETTINGS = CertaintySettings(
    slice_weights=(1.0, 0.5, 0.5, 1.0), study_weights=(1.0, -0.5), type_weights=(2.0, -1.0), gate=0.2,
    slice_threshold=0.4, study_threshold=0.5, spread=0.3, offset_ml=0.1, coverage=0.8, doubt=(0.4, 0.6),
    familiar=Familiar((0.0, 1.0), ((1.0, 0.0), (0.0, 0.5)), 2.0),
)  # fmt: skip


def said(presence: list[float], *, extent: float = 1e-3, features: float = 0.5) -> Segmented:
    """A study of small slices whose presence logits are given; types' logits stand one below another."""
    count = len(presence)
    labels = np.zeros((count, 6), np.float32)
    labels[:, 0] = presence
    labels[:, 1:] = np.array(presence)[:, None] - np.arange(5)
    pixels = np.full((count, 4, 4), 0.9, np.float32)
    return Segmented(pixels, np.full(count, extent, np.float32), labels, np.full((count, 2), features, np.float32))


def test_evidence_is_the_slice_its_neighbours_and_the_extent() -> None:
    evidence = certainty.slice_evidence(said([1.0, 3.0, -1.0], extent=0.01))
    assert evidence[:, 0].tolist() == [1, 3, -1]
    assert evidence[:, 1].tolist() == [2, 0, 1]  # ends are their own neighbours
    assert evidence[:, 2] == pytest.approx(np.log10(0.01001))


def test_the_study_is_as_sure_as_its_surest_slice() -> None:
    quiet, loud = said([-5.0] * 4), said([-5.0, -5.0, 6.0, -5.0])
    odds = certainty.slice_log_odds(loud, SETTINGS)
    told = certainty.estimate_certainty(loud, 3.0, True, SETTINGS)
    assert told.study == pytest.approx(1 / (1 + np.exp(-(odds.max() - 0.5))))
    assert told.study > 0.9
    assert certainty.estimate_certainty(quiet, 0.0, False, SETTINGS).study < 0.1
    assert [name for name, _ in told.types] == ["EDH", "IPH", "SDH", "IVH", "SAH"]
    assert [value for _, value in told.types] == sorted((value for _, value in told.types), reverse=True)


def test_a_study_can_rest_on_slices_side_by_side_and_on_the_volume() -> None:
    """A lone peak and three slices of the same height: the surest slice alone cannot tell them apart."""
    lone, side_by_side = said([-5.0, -5.0, 3.0, -5.0, -5.0]), said([-5.0, 3.0, 3.0, 3.0, -5.0])
    alone = replace(SETTINGS, slice_weights=(1.0, 0.0, 0.0, 0.0))
    assert certainty.study_probability(lone, alone) == certainty.study_probability(side_by_side, alone)
    both = replace(alone, study_weights=(0.5, 0.5, 0.0))
    assert certainty.study_probability(side_by_side, both) > certainty.study_probability(lone, both) + 0.3
    by_volume = replace(alone, study_weights=(0.0, 0.0, 1.0, 3.0))
    told = [certainty.study_probability(said([0.0] * 3, extent=one), by_volume) for one in (0.0, 1e-3, 0.1)]
    assert told == sorted(told)
    assert told[1] == pytest.approx(1 / (1 + np.exp(-(np.log10(1.01e-3) + 3))), abs=1e-4)
    parts = certainty.study_evidence(certainty.slice_evidence(lone), np.array([-5.0, -5.0, 3.0, -5.0, -5.0]))
    assert parts[:2].tolist() == pytest.approx([3.0, -7 / 3])
    assert np.isfinite(certainty.study_probability(said([1.0]), replace(by_volume, study_weights=(1.0, 1.0, 1.0, 0.0))))


@pytest.mark.parametrize("count", [1, 5])
def test_another_number_of_a_studys_weights_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="weights of a study"):
        CertaintySettings.from_dict(SETTINGS.to_dict() | {"study_weights": [1.0] * count})


@given(st.floats(0, 500), st.floats(0, 2))
def test_the_interval_holds_the_volume_and_nothing_below_zero(volume: float, spread: float) -> None:
    low, high = certainty.volume_interval(volume, replace(SETTINGS, spread=spread), 0.1)
    assert 0 <= low <= volume + 1e-9
    assert high >= volume - 1e-9


def test_an_unmarked_study_has_an_interval_too() -> None:
    low, high = certainty.volume_interval(0.0, SETTINGS, 0.1)
    assert low == 0
    assert high == pytest.approx(0.1 * np.exp(0.3) - 0.1)


def test_pictures_have_no_interval() -> None:
    assert certainty.estimate_certainty(said([1.0]), None, True, SETTINGS).volume_ml is None


def test_the_gate_closes_slices_that_hardly_bleed() -> None:
    pixels = outline_prediction(said([-9.0, 9.0, 9.0, -9.0, -9.0]), SETTINGS, 0.5, None).probability
    assert (pixels.max(axis=(1, 2)) > 0).tolist() == [False, True, True, False, False]
    assert pixels[1].min() == np.float32(0.9)


@pytest.mark.parametrize(
    ("presence", "marked", "features", "words"),
    [
        (8.0, True, 0.5, None), (-8.0, False, 0.5, None),
        (0.7, True, 0.5, "too near to even"), (8.0, False, 0.5, "disagree"), (-8.0, True, 0.5, "disagree"),
        (8.0, True, 9.0, "unlike"),
    ],
)  # fmt: skip
def test_no_verdict_where_it_would_not_hold(presence: float, marked: bool, features: float, words: str | None) -> None:
    told = certainty.estimate_certainty(said([presence], features=features), 1.0, marked, SETTINGS)
    if words is None:
        assert told.abstained == ()
    else:
        assert len(told.abstained) == 1
        assert words in told.abstained[0]


def test_further_doubts_are_told_too() -> None:
    told = certainty.estimate_certainty(said([8.0]), 1.0, True, SETTINGS, ("The patient is a child.",))
    assert told.abstained == ("The patient is a child.",)


def test_distance_is_by_the_training_datas_own_spread() -> None:
    far = Familiar((0.0, 1.0), ((1.0, 0.0), (0.0, 0.5)), 2.0)
    assert far.distance(np.array([[0, 1], [0, 1]], np.float32)) == 0
    assert far.distance(np.array([[3, 1]], np.float32)) == pytest.approx(3 / np.sqrt(2))
    slices = np.array([[40, 1], [0, 1], [3, 9]], np.float32)  # 40/√2, 0 and 5/√2 away: the median of the three counts
    assert far.distance(slices) == pytest.approx(5 / np.sqrt(2))


def weights(record: dict) -> WeightsFile:
    return WeightsFile("w", Path("w.onnx"), "0" * 64, b"", record)


def test_settings_come_back_from_the_file() -> None:
    import json

    stored = json.loads(json.dumps(SETTINGS.to_dict()))
    assert weights({"certainty": stored}).certainty == SETTINGS
    assert weights({}).certainty is None


@pytest.mark.parametrize("change", [{"gate": None, "unknown": 1}, {"doubt": "x"}])
def test_settings_that_cannot_be_used_are_refused(change: dict) -> None:
    with pytest.raises(WeightsError, match="certainty"):
        assert weights({"certainty": SETTINGS.to_dict() | change}).certainty
    with pytest.raises(WeightsError, match="certainty"):
        assert weights({"certainty": {}}).certainty


def test_small_regions_are_not_marked_by_what_they_hold() -> None:
    """Of three regions from 0.5 on: eight voxels; four on a slice that stands for three times as much; one."""
    pixels = np.zeros((4, 9, 9), np.float32)
    pixels[0:2, 0:2, 0:2], pixels[3, 5:7, 5:7], pixels[0, 8, 8], pixels[0, 5, 5] = 0.9, 0.6, 1.0, 0.4
    voxel_ml = np.array([0.01, 0.01, 0.01, 0.03])
    assert (without_small(pixels, 0.5, voxel_ml, 0.0) == pixels).all()
    changed = pixels.copy()
    clear_small(changed, 0.5, voxel_ml, 0.05)
    assert (changed == without_small(pixels, 0.5, voxel_ml, 0.05)).all()
    assert (changed >= 0.5).sum() == 12
    for smallest_ml, left in ((0.005, 13), (0.05, 12), (0.1, 4), (0.2, 0)):
        kept = without_small(pixels, 0.5, voxel_ml, smallest_ml)
        assert (kept >= 0.5).sum() == left
        assert kept[0, 5, 5] == pixels[0, 5, 5]  # what is not marked stays
    assert (pixels >= 0.5).sum() == 13  # as it was given
