"""Scores against scikit-image and scikit-learn on random masks, and what an empty mask scores and costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from bleedmap.metrics import overlap

masks = hnp.arrays(bool, (4, 6, 5))


@given(masks, masks)
@settings(max_examples=60, deadline=None)
def test_scores_agree_with_scikit_learn(reference, prediction):
    counts = overlap.count(reference, prediction)
    for row, (one, other) in enumerate(zip(reference, prediction, strict=True)):
        true, guess = one.ravel(), other.ravel()
        matrix = sk.confusion_matrix(true, guess, labels=[False, True])
        assert [c[row] for c in (counts.true_negative, counts.false_positive)] == matrix[0].tolist()
        assert [c[row] for c in (counts.false_negative, counts.true_positive)] == matrix[1].tolist()
        assert overlap.accuracy(counts)[row] == pytest.approx(sk.accuracy_score(true, guess))
        assert overlap.dice(counts, empty=1.0)[row] == pytest.approx(sk.f1_score(true, guess, zero_division=1.0))
        assert overlap.iou(counts, empty=1.0)[row] == pytest.approx(sk.jaccard_score(true, guess, zero_division=1.0))
        both = [sk.jaccard_score(true == side, guess == side, zero_division=1.0) for side in (True, False)]
        assert overlap.mean_iou(counts, empty=1.0)[row] == pytest.approx(np.mean(both))
        assert overlap.precision(counts, empty=0.0)[row] == pytest.approx(
            sk.precision_score(true, guess, zero_division=0.0)
        )
        assert overlap.recall(counts, empty=0.0)[row] == pytest.approx(sk.recall_score(true, guess, zero_division=0.0))


@given(masks, masks)
@settings(max_examples=40, deadline=None)
def test_pooling_is_counting_all_at_once(reference, prediction):
    pooled = overlap.count(reference, prediction).pooled()
    flat = overlap.count(reference.reshape(1, -1, 5), prediction.reshape(1, -1, 5))
    assert overlap.dice(pooled, empty=1.0)[0] == overlap.dice(flat, empty=1.0)[0]
    group = np.array(["b", "a", "b", "a"])
    grouped = overlap.count(reference, prediction).grouped(group)
    assert len(grouped) == 2
    assert grouped.true_positive[0] == (reference[[1, 3]] & prediction[[1, 3]]).sum()


def test_dice_and_mean_iou_of_a_mask_worked_by_hand():
    """Reference 4 pixels, prediction 6, 3 shared, of 100: Dice 6/10, IoU 3/7, background 93/97."""
    reference, prediction = np.zeros((2, 1, 10, 10), bool)
    reference.flat[:4] = prediction.flat[1:7] = True
    counts = overlap.count(reference, prediction)
    assert overlap.dice(counts, empty=1.0)[0] == pytest.approx(0.6)
    assert overlap.iou(counts, empty=1.0)[0] == pytest.approx(3 / 7)
    assert overlap.mean_iou(counts, empty=1.0)[0] == pytest.approx((3 / 7 + 93 / 97) / 2)
    assert overlap.accuracy(counts)[0] == pytest.approx(0.96)


def test_an_empty_prediction_over_a_tenth_scores_as_the_thesis_says():
    reference = np.zeros((1, 10, 10), bool)
    reference[0, 0] = True
    counts = overlap.count(reference, np.zeros_like(reference))
    assert overlap.mean_iou(counts, empty=1.0)[0] == pytest.approx(0.45)


def test_what_an_empty_reference_scores_and_a_false_positive_costs():
    empty = np.zeros((2, 4, 4), bool)
    marked = empty.copy()
    marked[1, 0, 0] = True
    counts = overlap.count(empty, marked)
    assert overlap.dice(counts, empty=1.0).tolist() == [1.0, 0.0]
    assert overlap.iou(counts, empty=1.0).tolist() == [1.0, 0.0]
    assert np.isnan(overlap.dice(counts, empty=np.nan)).tolist() == [True, False]


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        overlap.count(np.zeros((1, 2, 2), bool), np.zeros((1, 2, 3), bool))
