"""Ways of scoring, by hand."""

import numpy as np
import pytest

from analysis_tables import marked
from bleedmap_thesis.analyses import (
    trained_conventions,
)
from bleedmap_thesis.analyses.conventions import TABLE_1
from bleedmap_thesis.record import Evaluation


def test_scores_of_the_comparison_by_hand():
    scores = trained_conventions.score_as_compared(marked(("a/1", "b/1", "c/1"), [5, 0, 0], [5, 0, 7], [5, 10, 0]))
    assert scores == {
        "dice": pytest.approx(0.25),
        "iou": pytest.approx(1 / 6),
        "mean_iou": pytest.approx((1 / 3 + 85 / 95 + 0 + 90 / 100) / 4),
        "accuracy": pytest.approx(1 - 27 / 300),
    }
    assert trained_conventions.score_as_compared(Evaluation(0, ("a/1",), np.zeros(1, np.float32), None))["dice"] is None


def test_conventions_by_hand():
    one = marked(("a/1", "b/1", "c/1"), [5, 0, 0], [5, 0, 7], [5, 0, 0])
    found = {name: score(trained_conventions.compute_masses(one, soft)) for name, (soft, score) in
             trained_conventions.CONVENTIONS.items()}  # fmt: skip
    assert found["pooled, lesion"] == pytest.approx((10 / 27, 5 / 22))
    assert found["lesion slices, lesion"] == pytest.approx((0.5, 1 / 3))
    assert found["lesion slices, mean"] == pytest.approx((0.5, (1 / 3 + 85 / 95) / 2))
    assert found["all slices, empty 1, lesion"] == pytest.approx((1.5 / 3, (1 / 3 + 1) / 3))
    assert found["all slices, empty 0, lesion"] == pytest.approx((0.5 / 3, 1 / 9))
    assert found["all slices, empty left out, lesion"] == pytest.approx((0.25, 1 / 6))
    assert found["all slices, empty Dice 1 and IoU 0, lesion"] == pytest.approx((0.5, 1 / 9))
    two = {name: score(trained_conventions.compute_masses(one, soft, 2)) for name, (soft, score) in
           trained_conventions.CONVENTIONS.items()}  # fmt: skip
    # a and b are one batch, c with its marks of nothing the next: Dice 10/20 and 0.
    assert two["batches, lesion"] == pytest.approx((0.25, 1 / 6))
    assert two["batches, mean"] == pytest.approx((0.25, (1 / 3 + 185 / 195 + 0 + 93 / 100) / 4))
    assert found["batches, lesion"] == found["pooled, lesion"]  # three slices are less than a batch
    assert found["soft, pooled, lesion"] == found["pooled, lesion"]  # probabilities of 0 and 1


def test_place_is_0_for_like_slices_and_1_for_all_or_nothing():
    assert trained_conventions.place(0.6, 0.6 / 1.4) == pytest.approx(0)
    assert trained_conventions.place(0.6, 0.6) == pytest.approx(1)
    low, high = trained_conventions.place_table_1()
    assert all(low < trained_conventions.place(row.dice, row.mean_iou) < high for row in TABLE_1)
