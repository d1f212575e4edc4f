"""Agreement of volumes, worked by hand."""

import numpy as np
import pytest

from bleedmap.metrics.agreement import bland_altman
from bleedmap.metrics.bootstrap import patient_bootstrap


def test_bias_and_limits_by_hand():
    reference, measured = np.array([10.0, 20.0, 30.0]), np.array([12.0, 19.0, 35.0])  # +2, -1, +5
    found = bland_altman(reference, measured, np.array(["a", "b", "c"]), resamples=200, seed=0)
    assert found is not None
    assert (found.studies, found.patients, found.bias) == (3, 3, 2.0)
    assert (found.low, found.high) == pytest.approx((2 - 1.96 * 3, 2 + 1.96 * 3))
    assert (found.mean_absolute, found.median_absolute) == pytest.approx((8 / 3, 2.0))
    assert found.bias_interval is not None
    assert -1 <= found.bias_interval[0] <= 2 <= found.bias_interval[1] <= 5


def test_one_patient_has_no_spread_over_patients():
    reference, measured = np.array([10.0, 20.0]), np.array([12.0, 19.0])
    found = bland_altman(reference, measured, np.array(["a", "a"]), resamples=50, seed=0)
    assert found is not None
    assert found.patients == 1
    assert found.bias_interval is None
    alone = bland_altman(reference[:1], measured[:1], np.array(["a"]), resamples=5, seed=0)
    assert alone is not None
    assert (alone.low, alone.high) == (None, None)
    assert bland_altman(reference[:0], measured[:0], np.array([]), resamples=5, seed=0) is None


def test_the_interval_is_the_bootstraps_with_its_draws_and_seed():
    random = np.random.default_rng(0)
    reference, measured, patients = random.random(9), random.random(9), np.arange(9)
    found = bland_altman(reference, measured, patients, resamples=30, seed=5)
    assert found is not None
    ((low, high),) = patient_bootstrap(
        patients, lambda rows, _: [(measured - reference)[rows].mean()], resamples=30, seed=5
    )
    assert found.bias_interval == (low, high)


def test_two_studies_have_limits():
    found = bland_altman(np.zeros(2), np.array([1.0, 3.0]), np.array(["a", "b"]), resamples=5, seed=0)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((2 - 1.96 * np.sqrt(2), 2 + 1.96 * np.sqrt(2)))
