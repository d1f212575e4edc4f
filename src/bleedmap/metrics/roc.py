"""Detection: the ROC curve, its area for slices and for pixels, and the point that a threshold or specificity gives.

`has_lesion` is (n,) bool; `score` is (n,), and higher means more likely.
"""

from dataclasses import dataclass

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray, FloatArray

# Of float32's 23 of mantissa: a bin spans at most 1/8192 of its probability, or of what is left to 1.
_DROPPED_BITS = 10
_HALF = int(np.float32(0.5).view(np.uint32)) >> _DROPPED_BITS


def roc_auc(has_lesion: BoolArray, score: AnyArray) -> float | None:
    """Area under the ROC curve, ties counted half (Mann–Whitney's U over n₁·n₂), without U's p-value: a bootstrap
    asks for thousands.

    Returns:
        0 to 1, or None where one of the two groups is empty; NaN where a score is.
    """
    positive, negative = score[has_lesion], np.sort(score[~has_lesion])
    if not len(positive) or not len(negative):
        return None
    if np.isnan(score).any():
        return float("nan")
    below, not_above = (np.searchsorted(negative, positive, side=side) for side in ("left", "right"))
    return float((below + not_above).sum()) / (2 * len(positive) * len(negative))


def roc_curve(has_lesion: BoolArray, score: AnyArray) -> tuple[DoubleArray, DoubleArray]:
    """The ROC curve at every threshold, from nothing called to everything called; ties are one step.

    Returns:
        False-positive rates and sensitivities, (thresholds,) each.
    """
    thresholds = np.concatenate([[np.inf], np.unique(score)[::-1]])
    bleeding, free = np.sort(score[has_lesion]), np.sort(score[~has_lesion])
    false_positive_rate, sensitivity = (
        1 - np.searchsorted(own, thresholds, side="left") / max(1, len(own)) for own in (free, bleeding)
    )
    return false_positive_rate, sensitivity


@dataclass(frozen=True)
class OperatingPoint:
    """The decision of a threshold: a case is called bleeding where its score >= threshold."""

    threshold: float
    sensitivity: float  # NaN without bleeding cases
    specificity: float  # NaN without bleed-free cases


def at_threshold(has_lesion: BoolArray, score: AnyArray, threshold: float) -> OperatingPoint:
    """Compute sensitivity and specificity of a threshold, from which on a case is called bleeding."""
    called = score >= threshold
    return OperatingPoint(float(threshold), share(called[has_lesion]), share(~called[~has_lesion]))


def at_specificity(has_lesion: BoolArray, score: AnyArray, specificity: float) -> OperatingPoint | None:
    """Find the lowest threshold whose specificity is at least `specificity`: the most sensitive such point.

    Thresholds are the scores themselves and infinity (nothing called), so ties are never cut and the specificity
    may be higher than asked. Read off the same cases, it describes the ROC curve; it is no promise for others.

    Returns:
        None where there is no bleeding or no bleed-free case.
    """
    if not has_lesion.any() or has_lesion.all():
        return None
    free = np.sort(score[~has_lesion])
    thresholds = np.append(np.unique(score), np.inf)
    reached = np.searchsorted(free, thresholds, side="left") / len(free)
    return at_threshold(has_lesion, score, float(thresholds[np.argmax(reached >= specificity - 1e-9)]))


def share(flags: BoolArray) -> float:
    """Share of True, NaN of none."""
    return float(flags.mean()) if len(flags) else float("nan")


class PixelRoc:
    """ROC AUC over pixels, gathered slice by slice in 2,064,385 bins, about 8,000 for each halving of the odds.

    Most pixels of a confident network lie near 0 or 1, where equal steps of probability would make ties of them.
    Pixels of one bin count as ties, so the area is off by no more than half the chance that a lesion's pixel and
    another fall into the same bin without being equal.
    """

    def __init__(self) -> None:
        self._lesion = np.zeros(2 * _HALF + 1, np.int64)
        self._rest = np.zeros(2 * _HALF + 1, np.int64)

    def add(self, reference: BoolArray, probability: FloatArray) -> None:
        """Count pixels of any shape, probability in 0 to 1."""
        probability = np.abs(probability.astype(np.float32, copy=False))  # -0.0 is 0
        upper = probability > 0.5
        # A positive float's bits, read as a whole number, grow with it: finely near 0, and by 1 - p near 1.
        bits = np.where(upper, np.float32(1) - probability, probability).view(np.uint32) >> _DROPPED_BITS
        bins = np.where(upper, 2 * _HALF - bits.astype(np.int64), bits)
        np.add.at(self._lesion, bins[reference], 1)
        np.add.at(self._rest, bins[~reference], 1)

    def area(self) -> float | None:
        """0 to 1, or None where there is no lesion pixel or nothing else."""
        lesion, rest = int(self._lesion.sum()), int(self._rest.sum())
        if not lesion or not rest:
            return None
        below = np.cumsum(self._rest) - self._rest
        wins = float((self._lesion * (below + self._rest / 2)).sum())
        return wins / (float(lesion) * float(rest))
