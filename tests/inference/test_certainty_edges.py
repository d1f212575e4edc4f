"""Exactly at a threshold: the gate opens, the doubt begins, and the interval belongs to one threshold alone."""

from dataclasses import replace

import numpy as np
import pytest

from bleedmap.inference import certainty
from bleedmap.inference.backends import Segmented
from bleedmap.inference.certainty import CertaintySettings, Familiar

# Log odds of a slice are its presence logit, and the study's are its surest slice's: 0 is a probability of exactly 0.5.
PLAIN = CertaintySettings(
    slice_weights=(1.0, 0.0, 0.0, 0.0), study_weights=(1.0, 0.0), type_weights=(1.0, 0.0), gate=0.5,
    slice_threshold=0.5, study_threshold=0.5, spread=0.3, offset_ml=0.1, coverage=0.8, doubt=(0.5, 0.6),
)  # fmt: skip


def slices_of(*presence: float, features: np.ndarray | None = None) -> Segmented:
    labels = np.zeros((len(presence), 6), np.float32)
    labels[:, 0] = presence
    pixels = np.full((len(presence), 4, 4), 0.9, np.float32)
    extent = np.full(len(presence), 1e-3, np.float32)
    return Segmented(pixels, extent, labels, np.zeros((len(presence), 2), np.float32) if features is None else features)


def test_a_slice_exactly_at_the_gate_is_open():
    assert certainty.gate_slices(slices_of(0.0, -1e-3, 1e-3), PLAIN).tolist() == [True, False, True]


def test_the_doubt_holds_its_lower_end_and_not_its_upper_one():
    assert "too near to even" in certainty.estimate_certainty(slices_of(0.0), 1.0, True, PLAIN).abstained[0]
    upper = replace(PLAIN, doubt=(0.4, 0.5))
    assert certainty.estimate_certainty(slices_of(0.0), 1.0, True, upper).abstained == ()


def test_a_study_exactly_at_its_threshold_is_called_bleeding():
    sure = replace(PLAIN, doubt=(0.0, 0.0))
    assert certainty.estimate_certainty(slices_of(0.0), 1.0, True, sure).abstained == ()
    assert "disagree" in certainty.estimate_certainty(slices_of(0.0), None, False, sure).abstained[0]


def test_the_study_is_as_familiar_as_its_median_slice():
    """Distances 0, 0, 0, 3 and 12: the median is 0, the mean 3, the largest 12."""
    far = Familiar((0.0,), ((1.0,),), 2.0)
    assert far.distance(np.array([[0], [0], [0], [3], [12]], np.float32)) == 0
    assert far.distance(np.array([[3], [3], [12], [0], [3]], np.float32)) == 3


def test_exactly_as_far_as_the_farthest_is_still_familiar():
    for where, told in ((2.0, False), (2.001, True)):
        features = np.full((3, 1), where, np.float32)
        settings = replace(PLAIN, doubt=(0.0, 0.0), familiar=Familiar((0.0,), ((1.0,),), 2.0))
        found = certainty.estimate_certainty(slices_of(5.0, 5.0, 5.0, features=features), 1.0, True, settings)
        assert any("unlike" in reason for reason in found.abstained) == told


def test_the_first_and_the_last_slice_have_themselves_as_neighbours():
    odds = np.array([3.0, 3.0])
    assert certainty.study_evidence(np.zeros((2, 3)), odds).tolist() == [3.0, 3.0, 0.0]
    assert certainty.study_evidence(np.zeros((3, 3)), np.array([3.0, 0.0, 0.0])).tolist() == [3.0, 2.0, 0.0]


def test_log_odds_are_cut_off_at_40():
    least = 1 / (1 + np.exp(40.0))
    found = certainty.probability(np.array([-1000, -40, -39, 1000], np.float32))
    assert found.dtype == np.float64
    assert found[:2] / least == pytest.approx(1)
    assert found[2] > found[1] * 2
    assert found[3] == 1


def test_four_weights_of_a_study_are_read():
    stored = PLAIN.to_dict() | {"study_weights": [1.0, 2.0, 3.0, 4.0]}
    assert CertaintySettings.from_dict(stored).study_weights == (1.0, 2.0, 3.0, 4.0)


def test_a_network_without_presence_has_no_evidence():
    told = replace(slices_of(0.0), labels=None)
    with pytest.raises(ValueError, match=r"^a network that tells no presence$"):
        certainty.slice_evidence(told)


def test_a_types_constant_is_added():
    found = certainty.type_probabilities(slices_of(0.0), replace(PLAIN, type_weights=(1.0, 2.0)))
    assert np.allclose(found, 1 / (1 + np.exp(-2.0)))


def test_slices_interval_and_words_are_those_of_the_study():
    sure = replace(PLAIN, doubt=(0.0, 0.0))
    found = certainty.estimate_certainty(slices_of(0.0, 2.0), 10.0, True, sure)
    assert np.allclose(found.slices, [0.5, 1 / (1 + np.exp(-2.0))])
    assert (found.volume_ml, found.coverage) == (certainty.volume_interval(10.0, sure, 0.1), 0.8)
    (marked,) = certainty.estimate_certainty(slices_of(-2.0), 10.0, True, sure).abstained
    (clean,) = certainty.estimate_certainty(slices_of(2.0), None, False, sure).abstained
    assert marked == "The outline marks a bleed, but the probability of a bleed is 0.12: the two disagree."
    assert clean == "The outline marks none, but the probability of a bleed is 0.88: the two disagree."
