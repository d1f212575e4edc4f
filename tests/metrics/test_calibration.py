"""Calibration: worked by hand, against scikit-learn, and without cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from bleedmap.metrics.calibration import brier, expected_calibration_error, reliability

truths = hnp.arrays(bool, st.integers(1, 60))


class TestCalibration:
    TRUTH = np.array([False, False, True, True, False, True, True, True])
    SAID = np.array([0.05, 0.05, 0.15, 0.15, 0.95, 0.95, 0.95, 1.0])

    def test_reliability_worked_by_hand(self):
        """Bin 0: 2 cases, none bleeds; bin 1: 2, both; bin 9: 4 cases, 3 bleed, mean 0.9625."""
        table = reliability(self.TRUTH, self.SAID)
        assert [one.cases for one in table] == [2, 2, 0, 0, 0, 0, 0, 0, 0, 4]
        assert [table[k].share for k in (0, 1, 9)] == [0.0, 1.0, 0.75]
        assert table[9].mean_probability == pytest.approx(0.9625)
        assert table[2].mean_probability is None
        assert (table[9].low, table[9].high) == (0.9, 1.0)

    def test_error_worked_by_hand(self):
        """(2·|0 - 0.05| + 2·|1 - 0.15| + 4·|0.75 - 0.9625|) / 8."""
        assert expected_calibration_error(self.TRUTH, self.SAID) == pytest.approx((0.1 + 1.7 + 0.85) / 8)

    def test_equal_counts_see_what_one_wide_bin_hides(self):
        """Of 100 cases at 0.02 and 100 at 0.08, only the first bleed: right on average, wrong each."""
        said = np.repeat([0.02, 0.08], 100)
        truth = np.zeros(200, bool)
        truth[:10] = True
        assert expected_calibration_error(truth, said) == pytest.approx(0.0, abs=1e-12)
        assert expected_calibration_error(truth, said, bins=2, binning="count") == pytest.approx(0.08)

    def test_ties_are_not_torn_by_equal_counts(self):
        truth = np.array([True, False] * 50)
        assert expected_calibration_error(truth, np.full(100, 0.5), binning="count") == 0

    def test_brier_worked_by_hand_and_the_constant_forecast(self):
        assert brier(np.array([True, False]), np.array([0.8, 0.4])) == pytest.approx((0.04 + 0.16) / 2)
        truth = np.arange(2501) < 318
        assert brier(truth, np.full(2501, 318 / 2501)) == pytest.approx(0.111, abs=5e-4)

    def test_single_precision_is_enough_of_an_input(self):
        """The mean of squares is taken in double precision."""
        said = np.full(3, 0.1, np.float32)
        assert brier(np.zeros(3, bool), said) == pytest.approx(float(np.float32(0.1)) ** 2, rel=1e-12)
        assert expected_calibration_error(np.zeros(3, bool), said) == pytest.approx(float(np.float32(0.1)), rel=1e-12)

    @pytest.mark.filterwarnings("error")
    def test_none_and_nonsense(self):
        nobody = np.zeros(0)
        assert np.isnan(expected_calibration_error(nobody > 0, nobody))
        assert np.isnan(brier(nobody > 0, nobody))
        for wrong in (-0.1, 1.1, np.nan):
            with pytest.raises(ValueError, match=r"^a probability below 0, above 1 or not a number$"):
                brier(np.array([True]), np.array([wrong]))

    @given(truths, st.integers(0, 2**31), st.sampled_from(["width", "count"]))
    @settings(max_examples=80, deadline=None)
    def test_bounds_and_scikit_learn(self, truth, seed, binning):
        said = np.random.default_rng(seed).random(len(truth)).round(2)
        error = expected_calibration_error(truth, said, binning=binning)
        assert abs(truth.mean() - said.mean()) - 1e-9 <= error <= 1
        assert brier(truth, said) == pytest.approx(np.mean((truth - said) ** 2))
        if 0 < truth.sum() < len(truth):
            assert brier(truth, said) == pytest.approx(sk.brier_score_loss(truth, said))
        order = np.random.default_rng(seed).permutation(len(truth))
        assert expected_calibration_error(truth[order], said[order], binning=binning) == pytest.approx(error)

    @given(truths)
    @settings(max_examples=20, deadline=None)
    def test_the_truth_itself_is_perfect(self, truth):
        assert expected_calibration_error(truth, truth.astype(float)) == 0
        assert brier(truth, truth.astype(float)) == 0
