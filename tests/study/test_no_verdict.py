"""When the program gives no verdict and no interval: the whole of `Segmenter.segment`, with the installed network."""

from dataclasses import replace

import numpy as np
import pytest

from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.phantom.head import Bleed, PhantomSettings, make_phantom
from bleedmap.study.read import read_study
from bleedmap.study.segment import Segmenter
from remembering import Remembering
from shipped_network import copy_shipped

GOOD = Acquisition(
    modality="CT", image_type=("ORIGINAL", "PRIMARY", "AXIAL"), body_part="HEAD", contrast="", kvp=120.0,
    kernel="J40s", age_years=54.0, thickness_mm=5.0, unread="",
)  # fmt: skip


@pytest.fixture(scope="module")
def study():
    settings = PhantomSettings(
        seed=13,
        spacing_mm=(5.0, 1.6, 1.6),
        shape=(28, 144, 144),
        bleeds=(Bleed("IPH", 20.0, "left"), Bleed("EDH", 25.0, "right")),
    )
    return replace(read_study(make_phantom(settings).volume), acquisition=GOOD)


@pytest.fixture(scope="module")
def segmenter():
    loaded = Segmenter.load(precision="fp32")
    return replace(loaded, backend=Remembering(loaded.backend))  # only what is made of its answers differs


def test_a_plain_head_with_bleeds_has_a_verdict_and_an_interval(study, segmenter):
    found = segmenter.segment(study).certainty
    assert found.abstained == ()
    low_ml, high_ml = found.volume_ml
    assert low_ml < 45 < high_ml


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"kvp": 60.0}, "kvp"),
        ({"kernel": "H70h"}, "kernel"),
        ({"thickness_mm": 2.0}, "slice spacing"),
        ({"image_type": ("DERIVED", "SECONDARY", "MIP")}, "image type"),
    ],
)
def test_a_warning_of_an_input_check_leads_to_no_verdict(study, segmenter, change, name):
    doubted = replace(study, acquisition=replace(GOOD, **change))
    result = segmenter.segment(doubted)
    assert any(f"'{name}'" in reason for reason in result.certainty.abstained)
    assert result.mask.array.any()  # the outline is given all the same


@pytest.mark.parametrize("change", [{"age_years": 8.0}, {"body_part": "CHEST"}])
def test_age_and_body_part_alone_do_not(study, segmenter, change):
    assert segmenter.segment(replace(study, acquisition=replace(GOOD, **change))).certainty.abstained == ()


def test_an_accepted_refusal_leads_to_no_verdict(study, segmenter):
    given = replace(study, acquisition=replace(GOOD, contrast="OMNIPAQUE 350"))
    assert any("'contrast'" in reason for reason in segmenter.segment(given, accept=("contrast",)).certainty.abstained)


def test_there_is_no_interval_for_a_threshold_that_it_was_not_fitted_for(study, segmenter):
    other = replace(segmenter, threshold=segmenter.threshold + 0.01)
    assert segmenter.segment(study).certainty.volume_ml is not None
    assert other.segment(study).certainty.volume_ml is None


def test_small_regions_are_judged_at_the_threshold_in_use(study, segmenter, tmp_path):
    """What a region holds is counted from the user's threshold on: nothing that is marked may hold less."""
    weights = copy_shipped(tmp_path / "w.onnx", certainty={**segmenter.weights.record["certainty"], "smallest_ml": 5.0})
    for threshold in (0.2, 0.5, 0.9, 0.99):
        result = replace(segmenter, weights=weights, threshold=threshold).segment(study)
        volumes = [result.findings.lesion_ml(one) for one in result.findings.lesions]
        assert volumes, threshold
        assert min(volumes) >= 5.0
        unmarked = result.probability.array[~result.mask.array]
        assert np.all(unmarked < threshold)
