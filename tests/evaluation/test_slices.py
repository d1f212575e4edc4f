"""Scores of slices under each convention, worked by hand: what empty slices lend, and what false positives cost."""

import numpy as np
import pytest

from bleedmap.evaluation.slices import SliceResults, score
from bleedmap.metrics import overlap


@pytest.fixture(scope="module")
def found() -> dict:
    """Of 100 pixels each: 3 of 4 hit and 3 beside them; 2 missed; nothing and nothing; 1 marked where nothing is."""
    reference, prediction = np.zeros((2, 4, 10, 10), bool)
    reference[0].flat[:4] = prediction[0].flat[1:7] = True
    reference[1].flat[:2] = prediction[3].flat[:1] = True
    highest = np.array([0.9, 0.4, 0.1, 0.7], np.float32)
    return score(
        SliceResults(
            ("1/1", "1/2", "2/1", "2/2"), np.array(["1", "1", "2", "2"]), reference.any(axis=(1, 2)), highest,
            overlap.count(reference, prediction), None,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("thesis_pooled", {"dice": 6 / 13, "accuracy": 1 - 7 / 400}),
        ("thesis_per_slice", {
            "dice": (0.6 + 0 + 1 + 0) / 4, "accuracy": (0.96 + 0.98 + 1 + 0.99) / 4,
            "mean_iou": ((3 / 7 + 93 / 97) / 2 + 0.98 / 2 + 1 + 0.99 / 2) / 4,
        }),
        ("strict", {
            "lesion_slice_dice": 0.3, "lesion_slice_iou": 3 / 14, "lesion_slice_precision": 0.25,
            "lesion_slice_recall": 0.375, "patient_mean_dice": 0.3, "patient_stack_dice": 0.5,
            "pooled_precision": 3 / 7, "pooled_recall": 0.5, "lesion_free_slices": 2, "lesion_free_slices_marked": 0.5,
        }),
        ("detection", {"slice_roc_auc": 0.75}),
    ],
)  # fmt: skip
def test_worked_by_hand(found: dict, group: str, expected: dict[str, float]) -> None:
    assert {name: found[group][name] for name in expected} == pytest.approx(expected)
    assert (found["slices"], found["lesion_slices"], found["patients"], found["lesion_patients"]) == (4, 2, 2, 1)
