"""Thin slices get the verdict of the same head in slices of 5 mm, and no more false marks."""

from dataclasses import replace

import numpy as np
import pytest

from bleedmap.inference.slabs import make_slabs
from bleedmap.inference.weights import MeasuredOn
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.phantom.head import Bleed, PhantomSettings, make_phantom
from bleedmap.results.tables import summary
from bleedmap.study.gate.gate import check_input
from bleedmap.study.read import read_study
from bleedmap.study.segment import Segmenter
from bleedmap.volume import Volume
from thin_slices import HEADS, SPACINGS_MM, run_phantoms, table


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
    assert any("outlined on 28 slabs of 5.0 mm" in one for one in result.notes)
    assert summary(result, {})["slabs"]["shape"] == [28, 128, 128]


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
    assert shown["slice count"].found == "70 slices, 28 slabs"
    assert shown["slice spacing"].found == "2.00 mm, averaged to slabs of 5.0 mm, slices 2 mm thick"
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


@pytest.mark.exhaustive
@pytest.mark.parametrize("head", HEADS)
def test_every_type_and_thickness(head):
    thick, *others = run_phantoms([head], SPACINGS_MM)
    for row in others:
        said = table([thick, row])
        assert row.verdict == thick.verdict, said
        assert row.lesions <= thick.lesions + ("SAH" in head), said
        assert row.false_ml <= thick.false_ml + 0.3, said
        assert row.found_ml == pytest.approx(thick.found_ml, rel=0.15), said
        assert (row.dice or 1) > (thick.dice or 1) - 0.05, said
