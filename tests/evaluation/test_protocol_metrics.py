"""Lesions, calibration and operating points: worked by hand, against scikit-learn, and what empty masks count."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from bleedmap.metrics.calibration import brier, expected_calibration_error, reliability
from bleedmap.metrics.lesions import FOUND_IOU, compare
from bleedmap.metrics.roc import at_specificity, at_threshold
from bleedmap.postprocess import label_lesions

masks = hnp.arrays(bool, (3, 5, 6))
truths = hnp.arrays(bool, st.integers(1, 60))


class TestLesions:
    def test_worked_by_hand(self):
        """Lesion A of 10 marked in 4 of 6 (IoU 4/12), B of 20 touched in 1 of 9 (1/28), C missed; one region alone."""
        reference, marked = np.zeros((2, 1, 60), np.int32)
        reference[0, :10], reference[0, 20:40], reference[0, 50:53] = 1, 2, 3
        marked[0, 6:12], marked[0, 39:48], marked[0, 55] = 1, 2, 3
        lesions, regions = compare(reference, marked)
        assert lesions.voxels.tolist() == [10, 20, 3]
        assert lesions.shared.tolist() == [4, 1, 0]
        assert lesions.best_iou == pytest.approx([4 / 12, 1 / 28, 0])
        assert lesions.touched.tolist() == [True, True, False]
        assert lesions.overlapped.tolist() == [True, False, False]
        assert regions.voxels.tolist() == [6, 9, 1]
        assert regions.shared.tolist() == [4, 1, 0]
        assert regions.touched.tolist() == [True, True, False]
        assert regions.overlapped.tolist() == [True, False, False]

    def test_a_region_over_two_lesions_finds_both_and_parts_of_one_find_it_once(self):
        reference, marked = np.zeros((2, 1, 30), np.int32)
        reference[0, :10], reference[0, 12:22] = 1, 2
        marked[0, :22] = 1
        lesions, regions = compare(reference, marked)
        assert lesions.overlapped.all()
        assert len(regions) == 1
        assert regions.best_iou[0] == pytest.approx(10 / 22)
        parts, whole = compare(marked, reference)
        assert len(parts) == 1
        assert parts.overlapped.all()
        assert whole.overlapped.all()

    def test_the_threshold_is_reached_at_a_tenth(self):
        reference, marked = np.zeros((2, 20), np.int32)
        reference[:10], marked[9] = 1, 1
        assert compare(reference, marked)[0].best_iou[0] == FOUND_IOU
        assert compare(reference, marked)[0].overlapped.all()

    def test_nothing_against_nothing_and_false_alarms_alone(self):
        nothing, marked = np.zeros((2, 2, 4, 4), np.int32)
        marked[0, 0, 0] = 1
        assert [len(pieces) for pieces in compare(nothing, nothing)] == [0, 0]
        lesions, regions = compare(nothing, marked)
        assert len(lesions) == 0
        assert not regions.touched.any()
        assert not regions.overlapped.any()

    def test_pieces_that_touch_at_a_corner_between_slices_are_one_lesion(self):
        mask = np.zeros((2, 3, 3), bool)
        mask[0, 0, 0] = mask[1, 1, 1] = True
        assert compare(label_lesions(mask), label_lesions(mask))[0].voxels.tolist() == [2]

    @given(masks, masks)
    @settings(max_examples=60, deadline=None)
    def test_agrees_with_masks_compared_one_by_one(self, reference, prediction):
        labels, marks = label_lesions(reference), label_lesions(prediction)
        lesions, regions = compare(labels, marks)
        assert lesions.voxels.sum() == reference.sum()
        assert lesions.shared.sum() == regions.shared.sum() == (reference & prediction).sum()
        for number in range(1, len(lesions) + 1):
            one = labels == number
            ious = [(one & (marks == k)).sum() / (one | (marks == k)).sum() for k in range(1, len(regions) + 1)]
            assert lesions.best_iou[number - 1] == pytest.approx(max(ious, default=0))
            assert lesions.touched[number - 1] == (one & prediction).any()
        assert not (lesions.overlapped & ~lesions.touched).any()
        assert not (regions.overlapped & ~regions.touched).any()

    @given(masks, masks)
    @settings(max_examples=30, deadline=None)
    def test_swapping_the_masks_swaps_the_answers(self, reference, prediction):
        one, other = compare(label_lesions(reference), label_lesions(prediction))
        also_other, also_one = compare(label_lesions(prediction), label_lesions(reference))
        for pieces, again in ((one, also_one), (other, also_other)):
            assert np.array_equal(pieces.shared, again.shared)
            assert np.array_equal(pieces.best_iou, again.best_iou)

    def test_shapes_that_differ_are_refused(self):
        with pytest.raises(ValueError, match="differ in shape"):
            compare(np.zeros((1, 2), int), np.zeros((2, 1), int))


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

    def test_none_and_nonsense(self):
        nobody = np.zeros(0)
        assert np.isnan(expected_calibration_error(nobody > 0, nobody))
        assert np.isnan(brier(nobody > 0, nobody))
        for wrong in (-0.1, 1.1, np.nan):
            with pytest.raises(ValueError, match="probability"):
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


class TestOperatingPoint:
    TRUTH = np.array([True, True, True, False, False, False, False])
    SCORE = np.array([0.9, 0.5, 0.2, 0.5, 0.3, 0.1, 0.0])

    @pytest.mark.parametrize(
        ("specificity", "threshold", "sensitivity", "reached"),
        [(0.5, 0.2, 1.0, 0.5), (0.75, 0.5, 2 / 3, 0.75), (0.76, 0.9, 1 / 3, 1.0), (0.0, 0.0, 1.0, 0.0)],
    )
    def test_worked_by_hand(self, specificity, threshold, sensitivity, reached):
        """Thresholds are scores; at 0.5 a bleed-free case ties with a lesion: both are called, 3 of 4 are not."""
        point = at_specificity(self.TRUTH, self.SCORE, specificity)
        assert point.threshold == threshold
        assert (point.sensitivity, point.specificity) == pytest.approx((sensitivity, reached))

    def test_where_bleed_free_scores_highest_nothing_may_be_called(self):
        point = at_specificity(np.array([True, False]), np.array([0.2, 0.9]), 1.0)
        assert (point.threshold, point.sensitivity, point.specificity) == (np.inf, 0.0, 1.0)

    def test_one_group_alone(self):
        for truth in (np.ones(3, bool), np.zeros(3, bool)):
            assert at_specificity(truth, np.arange(3.0), 0.9) is None
        assert np.isnan(at_threshold(np.ones(3, bool), np.arange(3.0), 1).specificity)

    @given(truths, st.integers(0, 2**31), st.sampled_from([0.5, 0.9, 0.95, 1.0]))
    @settings(max_examples=80, deadline=None)
    def test_the_best_point_of_scikit_learns_curve(self, truth, seed, specificity):
        score = np.random.default_rng(seed).random(len(truth)).round(1)
        point = at_specificity(truth, score, specificity)
        if truth.all() or not truth.any():
            assert point is None
            return
        false_rate, true_rate, _ = sk.roc_curve(truth, score, drop_intermediate=False)
        assert point.sensitivity == pytest.approx(true_rate[1 - false_rate >= specificity - 1e-9].max())
        assert point.specificity >= specificity - 1e-9
        assert at_threshold(truth, score, point.threshold) == point
