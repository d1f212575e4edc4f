"""Overlap of two masks: counts first, scores second.

What an empty mask scores is an argument of every score that can meet one: `empty` is the score where reference
and prediction are both empty. A false positive on an empty reference always scores Dice 0 and IoU 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray


@dataclass(frozen=True, eq=False)
class Counts:
    """Pixel counts, one row for each slice (or patient): each column (n,) integer."""

    true_positive: AnyArray
    false_positive: AnyArray
    false_negative: AnyArray
    true_negative: AnyArray

    def __len__(self) -> int:
        return len(self.true_positive)

    def rows(self, chosen: AnyArray) -> "Counts":
        """Some of the rows, by index or bool."""
        return Counts(*(column[chosen] for column in self._columns()))

    def pooled(self) -> "Counts":
        """All rows as one, (1,)."""
        return Counts(*(column.sum(keepdims=True) for column in self._columns()))

    def grouped(self, group: AnyArray) -> "Counts":
        """Rows added up by group, in the groups' sorted order: slices (n,) -> patients."""
        _, index = np.unique(group, return_inverse=True)
        return Counts(*(np.bincount(index, column).astype(np.int64) for column in self._columns()))

    def background(self) -> "Counts":
        """The counts of the background: what was neither lesion nor marked is now the hit."""
        return Counts(self.true_negative, self.false_negative, self.false_positive, self.true_positive)

    @property
    def reference(self) -> AnyArray:
        """(n,) pixels of the reference."""
        return self.true_positive + self.false_negative

    @property
    def predicted(self) -> AnyArray:
        """(n,) pixels of the prediction."""
        return self.true_positive + self.false_positive

    def to_dict(self) -> dict[str, list[int]]:
        """As JSON can hold it: a list for each column."""
        return {column.name: getattr(self, column.name).tolist() for column in fields(self)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Counts":
        """From `to_dict`; other entries of `content` are left alone."""
        return cls(*(np.array(content[column.name], np.int64) for column in fields(cls)))

    def _columns(self) -> tuple[AnyArray, AnyArray, AnyArray, AnyArray]:
        return self.true_positive, self.false_positive, self.false_negative, self.true_negative


def count(reference: BoolArray, prediction: BoolArray) -> Counts:
    """Count pixels of each slice of two masks, (slice, row, column) bool each.

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"reference {reference.shape} and prediction {prediction.shape} differ in shape")
    axes = tuple(range(1, reference.ndim))
    hit = (reference & prediction).sum(axis=axes, dtype=np.int64)
    marked = prediction.sum(axis=axes, dtype=np.int64)
    lesion = reference.sum(axis=axes, dtype=np.int64)
    pixels = int(np.prod(reference.shape[1:]))
    return Counts(hit, marked - hit, lesion - hit, pixels - marked - lesion + hit)


def concatenate(parts: Sequence[Counts]) -> Counts:
    """The rows of several counts, one after the other."""
    columns = zip(*(part._columns() for part in parts), strict=True)
    return Counts(*(np.concatenate(column) for column in columns))


def dice(counts: Counts, *, empty: float) -> DoubleArray:
    """Dice score, 2·TP / (2·TP + FP + FN), (n,)."""
    return _ratio(2 * counts.true_positive, counts.reference + counts.predicted, empty)


def iou(counts: Counts, *, empty: float) -> DoubleArray:
    """Intersection over union, TP / (TP + FP + FN), (n,)."""
    return _ratio(counts.true_positive, counts.reference + counts.false_positive, empty)


def mean_iou(counts: Counts, *, empty: float) -> DoubleArray:
    """Mean of lesion and background IoU, (n,): the thesis' measure."""
    return (iou(counts, empty=empty) + iou(counts.background(), empty=empty)) / 2


def accuracy(counts: Counts) -> DoubleArray:
    """Share of pixels that agree, (n,)."""
    agreed = counts.true_positive + counts.true_negative
    return _ratio(agreed, agreed + counts.false_positive + counts.false_negative, np.nan)


def precision(counts: Counts, *, empty: float) -> DoubleArray:
    """Precision, TP / (TP + FP), (n,); `empty` where nothing was predicted."""
    return _ratio(counts.true_positive, counts.predicted, empty)


def recall(counts: Counts, *, empty: float) -> DoubleArray:
    """Recall or sensitivity, TP / (TP + FN), (n,); `empty` where the reference is empty."""
    return _ratio(counts.true_positive, counts.reference, empty)


def _ratio(above: AnyArray, below: AnyArray, empty: float) -> DoubleArray:
    score = np.full(np.shape(below), empty, np.float64)
    return np.divide(above, below, out=score, where=np.asarray(below) > 0)
