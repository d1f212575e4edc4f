"""Scores against scikit-image and scikit-learn on random masks, and what an empty mask scores and costs."""

import json

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


COUNTS = overlap.Counts(*(np.array(column) for column in ([3, 0, 2], [1, 5, 4], [2, 0, 7], [10, 20, 40])))


def test_counts_by_hand():
    reference = np.array([[[1, 1, 0, 0, 1]], [[0, 0, 0, 0, 0]]], bool)
    prediction = np.array([[[1, 0, 1, 0, 1]], [[0, 0, 0, 0, 1]]], bool)
    counts = overlap.count(reference, prediction)
    assert counts.to_dict() == {
        "true_positive": [2, 0], "false_positive": [1, 1], "false_negative": [1, 0], "true_negative": [1, 4],
    }  # fmt: skip
    assert {column.dtype for column in vars(counts).values()} == {np.dtype(np.int64)}
    assert len(counts) == 2
    many = np.ones((1, 300), bool)
    assert overlap.count(many, many).true_positive.tolist() == [300]  # more than a byte holds


def test_each_score_by_hand():
    assert COUNTS.reference.tolist() == [5, 0, 9]
    assert COUNTS.predicted.tolist() == [4, 5, 6]
    assert overlap.dice(COUNTS, empty=1.0) == pytest.approx([6 / 9, 0, 4 / 15])
    assert overlap.iou(COUNTS, empty=1.0) == pytest.approx([3 / 6, 0, 2 / 13])
    assert overlap.mean_iou(COUNTS, empty=1.0) == pytest.approx(
        [(3 / 6 + 10 / 13) / 2, (0 + 20 / 25) / 2, (2 / 13 + 40 / 51) / 2]
    )
    assert overlap.accuracy(COUNTS) == pytest.approx([13 / 16, 20 / 25, 42 / 53])
    assert overlap.precision(COUNTS, empty=0.5) == pytest.approx([3 / 4, 0, 2 / 6])
    assert overlap.recall(COUNTS, empty=0.5) == pytest.approx([3 / 5, 0.5, 2 / 9])


def test_what_each_score_gives_without_pixels_is_the_argument():
    nothing = overlap.Counts(*(np.zeros(1, np.int64),) * 4)
    for score in (overlap.dice, overlap.iou, overlap.mean_iou, overlap.precision, overlap.recall):
        assert score(nothing, empty=0.25).tolist() == [0.25]
    assert np.isnan(overlap.accuracy(nothing)).all()
    one = overlap.Counts(*(np.array([number]) for number in (1, 0, 0, 0)))
    assert overlap.dice(one, empty=0.25).tolist() == [1]  # a pixel is one already
    assert overlap.iou(COUNTS, empty=1) == pytest.approx(overlap.iou(COUNTS, empty=1.0))  # whole or not


def test_rows_are_chosen_pooled_grouped_and_joined():
    assert COUNTS.rows(np.array([True, False, True])).to_dict() == COUNTS.rows(np.array([0, 2])).to_dict()
    assert COUNTS.rows(np.array([2])).to_dict() == {
        "true_positive": [2], "false_positive": [4], "false_negative": [7], "true_negative": [40],
    }  # fmt: skip
    assert COUNTS.pooled().to_dict() == {
        "true_positive": [5], "false_positive": [10], "false_negative": [9], "true_negative": [70],
    }  # fmt: skip
    grouped = COUNTS.grouped(np.array(["b", "a", "b"]))
    assert grouped.to_dict() == {
        "true_positive": [0, 5], "false_positive": [5, 5], "false_negative": [0, 9], "true_negative": [20, 50],
    }  # fmt: skip
    assert grouped.true_positive.dtype == np.int64
    assert COUNTS.background().to_dict() == {
        "true_positive": [10, 20, 40], "false_positive": [2, 0, 7], "false_negative": [1, 5, 4],
        "true_negative": [3, 0, 2],
    }  # fmt: skip
    parts = [COUNTS.rows(np.array([0])), COUNTS.rows(np.array([1, 2]))]
    assert overlap.concatenate(parts).to_dict() == COUNTS.to_dict()


def test_counts_come_back_from_json():
    again = overlap.Counts.from_dict(json.loads(json.dumps(COUNTS.to_dict())) | {"study": "a"})
    assert again.to_dict() == COUNTS.to_dict()
    none = overlap.Counts.from_dict({name: [] for name in COUNTS.to_dict()})
    assert none.true_positive.dtype == np.int64
