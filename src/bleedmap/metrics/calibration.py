"""Calibration: reliability bins, expected calibration error, Brier score. Of cases given 0.7, seven in ten bleed.

`has_lesion` is (n,) bool; `probability` is (n,), 0 to 1.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray

BINS = 10
Binning = Literal["width", "count"]


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability table: cases of like probability."""

    low: float  # where the bin begins, included
    high: float  # where it ends; included in the last bin only
    cases: int  # how many; empty bins are kept in a table, and weigh nothing
    mean_probability: float | None  # of the cases; None without any
    share: float | None  # of the cases that bleed; None without any


def reliability(has_lesion: BoolArray, probability: AnyArray, bins: int = BINS) -> list[Bin]:
    """Sort cases into bins of equal width from 0 to 1: the reliability table.

    Raises:
        ValueError: a probability is below 0, above 1 or NaN.
    """
    bin_of = _equal_width(_check(probability), bins)
    table = []
    for number in range(bins):
        inside = bin_of == number
        cases = int(inside.sum())
        mean, share = (float(of[inside].mean()) if cases else None for of in (probability, has_lesion))
        table.append(Bin(number / bins, (number + 1) / bins, cases, mean, share))
    return table


def expected_calibration_error(
    has_lesion: BoolArray, probability: AnyArray, bins: int = BINS, binning: Binning = "width"
) -> float:
    """Mean over cases of |share that bleeds - mean probability| of the case's bin (Naeini 2015, Guo 2017).

    Where most cases lie in one bin near 0, bins of equal width hide what happens there; bins of equal counts (ties
    kept together) do not. Few cases a bin make it too high: it is no measure for some dozen cases.

    Returns:
        0 to 1; NaN without cases.

    Raises:
        ValueError: a probability is below 0, above 1 or NaN.
    """
    probability = _check(probability)
    if not len(probability):
        return float("nan")
    bin_of = _equal_width(probability, bins) if binning == "width" else _equal_count(probability, bins)
    gap = np.bincount(bin_of, weights=has_lesion - probability, minlength=bins)
    return float(np.abs(gap).sum() / len(probability))


def brier(has_lesion: BoolArray, probability: AnyArray) -> float:
    """Mean squared distance of probability and truth (Brier 1950), 0 to 1; NaN without cases.

    A constant forecast of the share p of bleeding cases scores p·(1 - p): that is to be beaten.

    Raises:
        ValueError: a probability is below 0, above 1 or NaN.
    """
    probability = _check(probability)
    return float(((probability - has_lesion) ** 2).mean()) if len(probability) else float("nan")


def _check(probability: AnyArray) -> DoubleArray:
    values = np.asarray(probability, np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError("a probability below 0, above 1 or not a number")
    return values


def _equal_width(probability: DoubleArray, bins: int) -> AnyArray:
    return np.minimum((probability * bins).astype(np.int64), bins - 1)


def _equal_count(probability: DoubleArray, bins: int) -> AnyArray:
    """Bins by rank; equal probabilities share the bin of the first of them."""
    first = np.searchsorted(np.sort(probability), probability, side="left")
    return first * bins // len(probability)
