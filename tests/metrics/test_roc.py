"""ROC curves, their areas and operating points: worked by hand and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import special, stats
from sklearn import metrics as sk

from bleedmap.metrics.roc import PixelRoc, at_specificity, at_threshold, roc_auc, roc_curve

truths = hnp.arrays(bool, st.integers(1, 60))


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


@given(hnp.arrays(bool, 40), hnp.arrays(np.float32, 40, elements=st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])))
@settings(max_examples=60, deadline=None)
def test_roc_auc_agrees_with_scikit_learn(truth, score):
    roc = PixelRoc()
    roc.add(truth, score)
    if truth.all() or not truth.any():
        assert roc_auc(truth, score) is None
        assert roc.area() is None
        return
    expected = sk.roc_auc_score(truth, score)
    assert roc_auc(truth, score) == pytest.approx(expected)
    assert roc.area() == pytest.approx(expected)  # all scores lie in bins of their own


@given(st.integers(0, 2**31), st.floats(-40, 40), st.floats(-5, 5), st.floats(0.1, 20))
@settings(max_examples=60, deadline=None)
def test_pixel_auc_is_within_1e_4_of_the_exact_one_wherever_the_probabilities_lie(seed, centre, apart, spread):
    """Log odds around any centre: nearly all pixels may lie below 1/4096, or above 4095/4096, as a network's do."""
    random = np.random.default_rng(seed)
    truth = random.random(20_000) < 0.05
    score = special.expit(random.normal(centre + apart * truth, spread)).astype(np.float32)
    roc = PixelRoc()
    for part in np.array_split(np.arange(len(truth)), 7):
        roc.add(truth[part], score[part])
    assert roc.area() == pytest.approx(sk.roc_auc_score(truth, score), abs=1e-4)


def test_pixels_below_any_step_of_probability_are_told_apart() -> None:
    truth = np.array([[True, False], [False, True]])
    for score in ([[3e-9, 1e-9], [-0.0, 4e-9]], [[1 - 2e-7, 0.4], [0.5, 1.0]]):
        roc = PixelRoc()
        roc.add(truth, np.array(score, np.float32))
        assert roc.area() == 1


def test_the_roc_curve_encloses_the_area_and_passes_its_point() -> None:
    random = np.random.default_rng(0)
    truth, score = random.random(200) < 0.3, np.round(random.random(200), 1)
    false_positive_rate, sensitivity = roc_curve(truth, score)
    assert np.trapezoid(sensitivity, false_positive_rate) == pytest.approx(roc_auc(truth, score))
    assert (false_positive_rate[0], sensitivity[0]) == (0, 0)
    assert (false_positive_rate[-1], sensitivity[-1]) == (1, 1)
    point = at_specificity(truth, score, 0.9)
    assert point is not None
    at = np.argmin(np.abs(false_positive_rate - (1 - point.specificity)))
    assert sensitivity[at] == pytest.approx(point.sensitivity)


@given(st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_area_is_mann_and_whitneys(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.random(30) < 0.4
    truth[:2] = True, False
    score = random.integers(0, 8, 30) / 8
    u = stats.mannwhitneyu(score[truth], score[~truth], method="asymptotic").statistic
    assert roc_auc(truth, score) == float(u) / (truth.sum() * (~truth).sum())


TRUTH = np.array([True, True, False, False, True, False])
SCORE = np.array([0.9, 0.4, 0.4, 0.1, 0.1, 0.8])


def test_area_curve_and_point_by_hand():
    """Of nine pairs 0.9 wins three; 0.4 wins one, ties one; 0.1 ties one: 5 of 9."""
    assert roc_auc(TRUTH, SCORE) == pytest.approx(5 / 9)
    false_positive_rate, sensitivity = roc_curve(TRUTH, SCORE)
    assert false_positive_rate == pytest.approx([0, 0, 1 / 3, 2 / 3, 1])
    assert sensitivity == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 1])
    point = at_threshold(TRUTH, SCORE, 0.4)
    assert (point.threshold, point.sensitivity, point.specificity) == pytest.approx((0.4, 2 / 3, 1 / 3))


@pytest.mark.filterwarnings("error")
def test_one_case_and_none():
    assert np.isnan(at_threshold(np.zeros(2, bool), np.arange(2.0), 1).sensitivity)
    false_positive_rate, sensitivity = roc_curve(np.array([True, False]), np.array([0.2, 0.7]))
    assert (false_positive_rate.tolist(), sensitivity.tolist()) == ([0, 1, 1], [0, 0, 1])


def test_an_area_with_a_score_that_is_no_number_is_none():
    assert np.isnan(roc_auc(TRUTH, np.array([0.9, np.nan, 0.4, 0.1, 0.1, 0.8])))
    assert roc_auc(TRUTH[:2], np.array([np.nan, 0.5])) is None
    assert roc_auc(~TRUTH[:2], np.array([np.nan, 0.5])) is None


def test_a_curve_of_one_group_alone_has_no_number_that_is_not_finite():
    for truth in (np.ones(2, bool), np.zeros(2, bool)):
        rates = np.concatenate(roc_curve(truth, np.array([0.2, 0.7])))
        assert np.isfinite(rates).all()


def test_a_specificity_is_reached_within_rounding():
    """Of ten bleed-free cases nine lie below 0.9: 0.9 in binary is no sum of tenths."""
    truth = np.append(np.zeros(10, bool), True)
    score = np.append(np.arange(10) / 10, 0.95)
    assert at_specificity(truth, score, 0.9).threshold == 0.9
    assert at_specificity(truth, score, 0.9 + 5e-10).threshold == 0.9
    assert at_specificity(truth, score, 0.9 + 1e-6).threshold == 0.95


def test_pixels_by_hand():
    roc = PixelRoc()
    assert roc.area() is None
    roc.add(np.array([[True]]), np.array([[0.5]], np.float32))
    assert roc.area() is None
    roc.add(np.array([[False, False, True]]), np.array([[0.5, 1.0, 0.75]], np.float64))
    roc.add(np.array([False]), np.array([0.0], np.float32))
    # 0.5: a tie, a loss, a win; 0.75: a win, a loss, a win
    assert roc.area() == pytest.approx(3.5 / 6)
    alone = PixelRoc()
    alone.add(np.array([False, False]), np.array([0.5, 1.0], np.float32))
    assert alone.area() is None


@pytest.mark.parametrize("low", [2**-30, 2**-12, 0.1, 0.25, 0.499, 0.5, 0.501, 0.75, 0.9, 1 - 2**-12])
def test_pixels_that_differ_by_a_thousandth_of_the_odds_are_told_apart(low):
    roc = PixelRoc()
    roc.add(np.array([False, True]), np.array([low, low + 1e-3 * min(low, 1 - low)], np.float32))
    assert roc.area() == 1
