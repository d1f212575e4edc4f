"""What a fold chooses on its validation patients."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("sklearn")

from bleedmap.errors import InputError
from bleedmap.folds import choices as fold_choices
from bleedmap.folds.choices import (
    best_threshold,
    choose,
    choose_for_all,
    conformal,
    familiar_of,
)
from bleedmap.folds.evidence import StudyPrediction, extract_evidence, read_evidence, write_evidence
from bleedmap.inference import certainty
from bleedmap.inference.backends import Segmented
from bleedmap.inference.outline import outline_prediction
from bleedmap.training.studies import VOXEL_ML


def patient(seed: int, bleeds: bool, *, alarm: float = 0.0) -> StudyPrediction:
    """Six slices of 20×20; two bleed: the network marks a square of 8×8 at 0.65 where the reference has 6×6 at 0.9."""
    random = np.random.default_rng(seed)
    reference = np.zeros((6, 20, 20), np.bool_)
    pixels = np.full((6, 20, 20), 0.01, np.float32)
    labels = random.normal(-3, 0.5, (6, 6)).astype(np.float32)
    types = np.zeros((6, 5), np.bool_)
    if bleeds:
        reference[2:4, 6:12, 6:12] = True
        pixels[2:4, 5:13, 5:13], pixels[2:4, 6:12, 6:12] = 0.65, 0.9
        labels[2:4, 0] += 5
        labels[2:4, 1] += 5
        types[2:4, 0] = True
    elif alarm:
        pixels[5, :4, :4] = 0.95
        labels[5, 0] = alarm
    features = random.normal(0, 1, (6, 320)).astype(np.float32)
    return StudyPrediction(Segmented(pixels, pixels.mean(axis=(1, 2)), labels, features), reference, types)


@pytest.fixture(scope="module")
def validation() -> list[StudyPrediction]:
    return [patient(seed, seed % 2 == 0, alarm=-1.5 if seed in (1, 3) else 0.0) for seed in range(10)]


TRAINING = np.random.default_rng(99).normal(0, 1, (400, 320)).astype(np.float32)


def test_the_threshold_that_outlines_best_is_chosen(validation: list[StudyPrediction]) -> None:
    chosen = choose(validation, TRAINING)
    assert chosen.pixel_threshold == 0.7  # the reference's own square, not the wide one


def test_the_gate_closes_false_alarms_and_no_bleed(validation: list[StudyPrediction]) -> None:
    settings = choose(validation, TRAINING).settings
    marked = [outline_prediction(one.segmented, settings, 0.7, None).mask.any(axis=(1, 2)) for one in validation]
    free = np.concatenate([one for one, said in zip(marked, validation, strict=True) if not said.reference.any()])
    bleeding = np.concatenate([one[2:4] for one, said in zip(marked, validation, strict=True) if said.reference.any()])
    assert settings.gate > 0
    assert free.mean() <= fold_choices.MARKED_ALLOWED
    assert bleeding.all()


def test_probabilities_order_and_thresholds_part_the_sides(validation: list[StudyPrediction]) -> None:
    settings = choose(validation, TRAINING).settings
    told = [certainty.estimate_certainty(one.segmented, None, True, settings) for one in validation]
    bleeds = np.array([one.reference.any() for one in validation])
    study = np.array([one.study for one in told])
    assert ((study >= settings.study_threshold) == bleeds).all()
    assert all(one.types[0][1] > 0.5 for one, bleeding in zip(told, bleeds, strict=True) if bleeding)


def test_a_study_can_rest_on_its_neighbours_and_volume_too(validation: list[StudyPrediction]) -> None:
    """Calibration of three parts parts the sides, in the folds and in all patients together; one is the default."""
    chosen = choose(validation, TRAINING, study_parts=3)
    assert len(choose(validation, TRAINING).settings.study_weights) == 2
    assert len(chosen.settings.study_weights) == 4
    told = [certainty.study_probability(one.segmented, chosen.settings) for one in validation]
    bleeds = np.array([one.reference.any() for one in validation])
    assert ((np.array(told) >= chosen.settings.study_threshold) == bleeds).all()
    together = choose_for_all([extract_evidence(one) for one in validation], [(1, 1)] * 3, [chosen] * 3, TRAINING)
    assert together.settings.study_weights == pytest.approx(chosen.settings.study_weights)


def test_the_smallest_bleed_is_in_the_patients_own_ml(validation: list[StudyPrediction]) -> None:
    """The same region is large enough by large voxels, and not by small ones."""
    larger = [replace(one, voxel_ml=4 * one.voxel_ml) for one in validation]
    least = 100 * VOXEL_ML  # of a region of 72 voxels
    assert choose(validation, TRAINING, smallest_ml=(0.0, least)).settings.smallest_ml == 0
    assert choose(larger, TRAINING, smallest_ml=(0.0, least)).settings.smallest_ml == least


def test_the_interval_covers_what_it_was_fitted_on(validation: list[StudyPrediction]) -> None:
    """The network marks nothing wrong at its threshold: the interval is as narrow as that."""
    assert choose(validation, TRAINING).settings.spread == pytest.approx(0, abs=1e-9)
    assert conformal([0.1, 0.2, 0.3, 0.4]) == 0.4  # four of five: the next stays below the highest of four
    assert conformal(list(np.arange(1, 10) / 10)) == pytest.approx(0.8)


def test_best_threshold_lies_between_the_sides() -> None:
    truth = np.array([False, False, True, True])
    assert best_threshold(truth, np.array([0.1, 0.2, 0.6, 0.9])) == pytest.approx(0.4)


def test_strangers_are_far(validation: list[StudyPrediction]) -> None:
    features = [one.segmented.features for one in validation]
    familiar = familiar_of(TRAINING, features)
    assert all(familiar.distance(one) <= familiar.farthest for one in features)
    assert familiar.distance(np.full((6, 320), 3, np.float32) + features[0]) > familiar.farthest


def test_all_patients_together_take_the_folds_medians(validation: list[StudyPrediction]) -> None:
    folds = [choose(validation[first:], TRAINING) for first in (0, 1, 2)]
    volumes = [(100, 150), (200, 200), (50, 10)]
    together = choose_for_all([extract_evidence(one) for one in validation], volumes, folds, TRAINING)
    assert together.pixel_threshold == 0.7
    assert together.settings.gate == np.median([one.settings.gate for one in folds])
    assert together.settings.familiar is not None
    assert together.settings.familiar.farthest == np.median([one.settings.familiar.farthest for one in folds])
    assert together.settings.spread == pytest.approx(np.log(150 / 110))  # the worst of three, below 80 % of four


def test_evidence_comes_back(validation: list[StudyPrediction], tmp_path) -> None:
    write_evidence(tmp_path, 7, validation[0])
    stored, made = read_evidence(tmp_path, 7), extract_evidence(validation[0])
    for name in ("slices", "types", "has_lesion", "has_type"):
        assert np.array_equal(getattr(stored, name), getattr(made, name))
    (tmp_path / "008.npz").write_bytes(b"PK\x03\x04")
    for missing in (8, 9):
        with pytest.raises(InputError):
            read_evidence(tmp_path, missing)


def test_small_false_alarms_go_where_that_costs_no_bleed(validation: list[StudyPrediction]) -> None:
    """A speck of 40 voxels in every patient's lowest slice."""
    specked = []
    for one in validation:
        pixels = one.segmented.probability.copy()
        pixels[0, :5, :8] = 0.95
        specked.append(replace(one, segmented=replace(one.segmented, probability=pixels)))
    least = 40.5 * VOXEL_ML
    kept, dropped = (choose(specked, TRAINING, smallest_ml=ones).settings for ones in ((0.0,), (0.0, least)))
    assert (kept.smallest_ml, dropped.smallest_ml) == (0, least)
    for one in specked:
        marked = outline_prediction(one.segmented, replace(dropped, gate=0.0), 0.7, VOXEL_ML).mask
        assert np.array_equal(marked, one.reference)


def test_fewer_false_alarms_for_a_little_dice(validation: list[StudyPrediction]) -> None:
    """Half of a bleed's last row is only found at 0.3, where a bleed-free patient's slice is marked, too."""
    others = []
    for number, one in enumerate(validation):
        pixels, labels = one.segmented.probability.copy(), one.segmented.labels
        assert labels is not None
        if one.reference.any():
            pixels[pixels == np.float32(0.65)] = 0.01
            pixels[2:4, 11, 9:12] = 0.35
        elif number == 5:
            pixels[5, :2, :2], labels = 0.4, labels.copy()
            labels[5, 0] = 4.0  # no gate closes it
        others.append(replace(one, segmented=replace(one.segmented, probability=pixels, labels=labels)))
    best = choose(others, TRAINING)
    fewer = choose(others, TRAINING, dice_for_fewer=0.1)
    assert best.pixel_threshold <= 0.3
    assert fewer.pixel_threshold == 0.5


def test_a_bleed_smaller_than_that_is_worth_more(validation: list[StudyPrediction]) -> None:
    largest = max(int(one.reference.sum()) for one in validation)
    assert choose(validation, TRAINING, smallest_ml=(0.0, 2 * largest * VOXEL_ML)).settings.smallest_ml == 0
