"""Thin slices get the verdict of the same head in slices of 5 mm, and no more false marks."""

from dataclasses import replace

import numpy as np
import pytest

from bleedmap.geometry import AxialTurn
from bleedmap.inference.slabs import make_slabs
from bleedmap.inference.weights import MeasuredOn
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.phantom.dicom import ct_instances, write_series
from bleedmap.phantom.head import Bleed, PhantomSettings, make_phantom
from bleedmap.results.pictures import capture_pictures
from bleedmap.results.tables import summary
from bleedmap.study.gate.gate import check_input
from bleedmap.study.read import read_study
from bleedmap.study.segment import Segmenter
from bleedmap.volume import Volume
from thin_slices import run_phantoms, table


@pytest.fixture(scope="module")
def thin():
    settings = PhantomSettings(
        seed=13, spacing_mm=(2.0, 1.8, 1.8), shape=(70, 128, 128), noise_hu=6.0,
        bleeds=(Bleed("IPH", 20.0, "left"), Bleed("EDH", 25.0, "right")),
    )  # fmt: skip
    return make_phantom(settings)


def test_a_thin_study_has_a_verdict_on_its_own_slices(thin):
    steps = []
    result = Segmenter.load(precision="fp32").segment(read_study(thin.volume), advance=steps.append)
    assert result.certainty.abstained == ()
    assert result.mask.array.shape == thin.volume.hu.shape
    assert len(result.findings.lesions) == 2
    assert result.volume_ml == pytest.approx(thin.mask.volume_ml, rel=0.2)
    low_ml, high_ml = result.certainty.volume_ml
    assert low_ml < result.volume_ml < high_ml
    assert len(result.certainty.slices) == sum(steps) == 70
    assert any("outlined on 35 slabs of 4.0 mm" in one for one in result.notes)
    assert summary(result, {})["slabs"]["shape"] == [35, 128, 128]


def test_checks_of_the_scan_speak_of_the_slices_and_of_the_slabs(thin):
    """What was read and what the network is shown: spacing, count, noise, brain."""
    noisy = thin.volume.hu + np.random.default_rng(0).normal(0, 30, thin.volume.hu.shape).astype(np.float32)
    volume = Volume(noisy, thin.volume.grid)
    slabs = make_slabs(volume, MeasuredOn())
    alone, shown = (
        {one.name: one for one in check_input(volume, Acquisition(thickness_mm=2.0), of)} for of in (None, slabs)
    )
    assert alone["noise"].verdict == "warning"
    assert shown["noise"].verdict == "pass"
    assert shown["slice count"].found == "70 slices, 35 slabs"
    assert shown["slice spacing"].found == "2.00 mm, averaged to slabs of 4.0 mm, slices 2 mm thick"
    first, last = (int(word) for word in shown["coverage"].found.split(" of ")[0].split()[3::2])
    assert 1 <= first < 20
    assert 50 < last <= 70
    damaged = noisy.copy()
    damaged[30] = -1000
    assert {one.name: one for one in check_input(Volume(damaged, volume.grid), None, slabs)}[
        "blank slices"
    ].found.endswith("slice 31")


def test_a_short_thin_stack_is_too_few_slabs(thin):
    volume = Volume(thin.volume.hu[30:38], replace(thin.volume.grid, origins_mm=thin.volume.grid.origins_mm[30:38]))
    checks = {one.name: one for one in check_input(volume, None, make_slabs(volume, MeasuredOn()))}
    assert checks["slice count"].verdict == "refusal"


@pytest.fixture(scope="module")
def fine():
    settings = PhantomSettings(
        seed=13, spacing_mm=(1.5, 1.5, 1.5), shape=(100, 150, 130), noise_hu=6.0,
        bleeds=(Bleed("IPH", 20.0, "left"), Bleed("EDH", 25.0, "right")),
    )  # fmt: skip
    return make_phantom(settings)


@pytest.fixture(scope="module")
def axial(fine):
    """The volume in whole HU, as DICOM stores them, outlined on its axial slices."""
    return Segmenter.load(precision="fp32").segment(read_study(Volume(np.rint(fine.volume.hu), fine.volume.grid)))


@pytest.mark.parametrize(
    ("side", "turn"),
    [("coronal", AxialTurn((1, 0, 2), (False, True, False))), ("sagittal", AxialTurn((2, 0, 1), (True, True, False)))],
)
def test_coronal_and_sagittal_series_are_outlined_on_their_own_slices(axial, side, turn, tmp_path):
    """From DICOM files to the mask: it lies where the axial volume's does, voxel for voxel."""
    hu, grid = axial.volume.hu, axial.volume.grid
    turned = Volume(np.ascontiguousarray(turn.apply(hu)), turn.turn_grid(grid, hu.shape))
    write_series(tmp_path / side, ct_instances(turned))
    study = read_study(tmp_path / side)
    assert study.volume.hu.shape == turned.hu.shape
    result = Segmenter.load(precision="fp32").segment(study)
    assert result.certainty.abstained == axial.certainty.abstained == ()
    assert any(f"The slices are {side}. 100 axial ones were cut" in one for one in result.notes)
    assert result.volume_ml == pytest.approx(axial.volume_ml, rel=1e-3)
    expected = turn.apply(axial.mask.array)
    if np.dot(study.volume.grid.normal, turned.grid.normal) < 0:
        expected = expected[::-1]
    assert np.array_equal(result.mask.array, expected)
    marked = result.mask.array.any(axis=(1, 2))
    slices = np.array(result.certainty.slices)
    assert slices[marked].min() > 0.5
    assert slices[~marked].max() == min(axial.certainty.slices)
    assert 2 < len(capture_pictures(result)) <= marked.sum() / 2


@pytest.mark.exhaustive
@pytest.mark.parametrize("head", ["none", "EDH 25 mL", "SDH 40 mL"])
def test_thin_heads_are_judged_as_thick_ones(head):
    """Every type at every thickness takes hours: tests/support/matrices/thin_slices.py."""
    thick, *others = run_phantoms([head], (1.0, 3.0))
    for row in others:
        said = table([thick, row])
        assert row.verdict in (thick.verdict, *(["no verdict"] if head.startswith("none") else [])), (
            said
        )  # by its noise
        assert row.lesions <= thick.lesions + ("SAH" in head), said
        assert row.false_ml <= thick.false_ml + 0.3, said
        assert row.found_ml == pytest.approx(thick.found_ml, rel=0.25), said
        assert (row.dice or 1) > (thick.dice or 1) - 0.1, said
