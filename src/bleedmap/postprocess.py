"""Probability -> mask -> lesions."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bleedmap.arrays import AnyArray, BoolArray, FloatArray

THRESHOLD = 0.5  # a pixel is lesion from here on; the thesis' scale starts at the same value


@dataclass(frozen=True)
class Lesion:
    """One connected lesion.

    Attributes:
        voxels: how many voxels it has.
        slices: how many slices it touches, the first of them (from 0) and the last.
        centroid: mean (slice, row, column) index.
        highest_probability: the largest probability in it.
    """

    voxels: int
    first_slice: int
    last_slice: int
    centroid: tuple[float, float, float]
    highest_probability: float


def to_mask(probability: FloatArray, threshold: float = THRESHOLD) -> BoolArray:
    """Probability of any shape -> bool, lesion where probability >= threshold."""
    return probability >= threshold


def lesions(mask: BoolArray, probability: FloatArray) -> list[Lesion]:
    """The 26-connected lesions of a mask, largest first.

    Args:
        mask: (slice, row, column) bool.
        probability: (slice, row, column) float32.
    """
    labels, count = ndimage.label(mask, np.ones((3, 3, 3), bool))
    if count == 0:
        return []
    index = np.arange(1, count + 1)
    voxels = np.bincount(labels.ravel())[1:]
    centroids: AnyArray = np.array(ndimage.center_of_mass(mask, labels, index))  # (lesions, 3)
    highest = ndimage.maximum(probability, labels, index)
    spans = ndimage.find_objects(labels)
    found = [
        Lesion(int(size), span[0].start, span[0].stop - 1, (centre[0], centre[1], centre[2]), float(peak))
        for size, span, centre, peak in zip(voxels, spans, centroids.tolist(), highest, strict=True)
    ]
    return sorted(found, key=lambda lesion: -lesion.voxels)
