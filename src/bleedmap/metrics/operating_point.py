"""One point of the ROC curve: the decision that a threshold makes, and the threshold that a specificity asks for."""

from dataclasses import dataclass

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray


@dataclass(frozen=True)
class OperatingPoint:
    """A case is called bleeding where its score >= threshold."""

    threshold: float
    sensitivity: float  # NaN without bleeding cases
    specificity: float  # NaN without bleed-free cases


def at_threshold(has_lesion: BoolArray, score: AnyArray, threshold: float) -> OperatingPoint:
    """Sensitivity and specificity of a threshold.

    Args:
        has_lesion: (n,) bool.
        score: (n,), higher means more likely.
        threshold: a case is called bleeding from this score on.
    """
    called = score >= threshold
    return OperatingPoint(float(threshold), share(called[has_lesion]), share(~called[~has_lesion]))


def at_specificity(has_lesion: BoolArray, score: AnyArray, specificity: float) -> OperatingPoint | None:
    """The lowest threshold whose specificity is at least `specificity`: the most sensitive such point.

    Thresholds are the scores themselves and infinity (nothing called), so ties are never cut and the specificity
    may be higher than asked. Read off the same cases, it describes the ROC curve; it is no promise for others.

    Args:
        has_lesion: (n,) bool.
        score: (n,), higher means more likely.
        specificity: 0 to 1.

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
