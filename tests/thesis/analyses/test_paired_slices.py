"""Draws, AUCs and sign flips against their plain forms."""

import numpy as np
import pytest

from analysis_tables import SMALL
from bleedmap.metrics.bootstrap import patient_bootstrap
from bleedmap.metrics.roc import roc_auc
from bleedmap_thesis.analyses import (
    paired_slices,
)


def test_fast_bootstrap_draws_what_the_plain_one_draws():
    random = np.random.default_rng(5)
    patients, values = np.repeat(np.arange(15), random.integers(1, 8, 15)), random.random
    dice = values(len(patients))
    plain = patient_bootstrap(
        patients, lambda rows, _: [float(dice[rows].mean())], resamples=paired_slices.RESAMPLES, seed=0
    )
    fast = paired_slices.estimate_mean(patients, dice)
    assert (fast.low, fast.high) == pytest.approx(tuple(plain[0]))
    assert fast.value == pytest.approx(dice.mean())


def test_auc_and_its_draws_are_those_of_every_fold(results):
    cells = paired_slices.select(results, SMALL, "folds", "sift", "slice")
    of = paired_slices.gather(cells, paired_slices.find_lesions(results, SMALL))
    names = np.unique(of.patients)
    value, draws = paired_slices.draw_auc(of, names)
    folds = [roc_auc(one.lesion, one.score) for one in (of.rows(of.folds == fold) for fold in range(1, 6))]
    assert value == pytest.approx(np.mean(folds))
    weights = paired_slices.draw_patients(len(names))[7].astype(int)
    again = []
    for fold in range(1, 6):
        rows = np.flatnonzero(of.folds == fold)
        rows = np.repeat(rows, weights[np.searchsorted(names, of.patients[rows])])
        again.append(roc_auc(of.lesion[rows], of.score[rows]))
    assert draws[7] == pytest.approx(np.mean(again))


def test_sign_flips_of_few_patients_are_counted():
    """Three patients, all of one sign: 2 of the 8 flips are as far from 0."""
    p = paired_slices.compute_sign_flip_p(np.array(["a", "b", "c"]), np.array([1.0, 2.0, 3.0]))
    assert p == pytest.approx(2 / 8, abs=0.01)
