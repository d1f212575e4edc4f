"""Is there a bleed or not: area under the ROC curve, for slices and for pixels."""

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, FloatArray

PIXEL_BINS = 4096  # of probability; pixels of one bin count as ties


def roc_auc(has_lesion: BoolArray, score: AnyArray) -> float | None:
    """Area under the ROC curve, ties counted half (Mann–Whitney's U over n₁·n₂), without U's p-value: a bootstrap
    asks for thousands.

    Args:
        has_lesion: (n,) bool.
        score: (n,), higher means more likely.

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


class PixelRoc:
    """ROC AUC over pixels, gathered slice by slice in `PIXEL_BINS` bins of probability."""

    def __init__(self) -> None:
        self._lesion = np.zeros(PIXEL_BINS, np.int64)
        self._rest = np.zeros(PIXEL_BINS, np.int64)

    def add(self, reference: BoolArray, probability: FloatArray) -> None:
        """Count pixels of any shape, probability in 0 to 1."""
        bins = np.minimum((probability * PIXEL_BINS).astype(np.int64), PIXEL_BINS - 1)
        marked = np.bincount(bins[reference], minlength=PIXEL_BINS)
        self._lesion += marked
        self._rest += np.bincount(bins.ravel(), minlength=PIXEL_BINS) - marked

    def area(self) -> float | None:
        """0 to 1, or None where there is no lesion pixel or nothing else."""
        lesion, rest = int(self._lesion.sum()), int(self._rest.sum())
        if not lesion or not rest:
            return None
        below = np.cumsum(self._rest) - self._rest
        wins = float((self._lesion * (below + self._rest / 2)).sum())
        return wins / (float(lesion) * float(rest))
