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
        voxels_by_slice: the same from its first slice to its last; slices may stand for different volumes.
        first: lowest (slice, row, column) index that it touches.
        last: highest, included.
        centroid: mean (slice, row, column) index.
        highest_probability: the largest probability in it.
        mean_probability: over its voxels.
        mean_hu: over its voxels; None where the slices are pictures, whose window clips.
    """

    voxels: int
    voxels_by_slice: tuple[int, ...]
    first: tuple[int, int, int]
    last: tuple[int, int, int]
    centroid: tuple[float, float, float]
    highest_probability: float
    mean_probability: float
    mean_hu: float | None


def to_mask(probability: FloatArray, threshold: float = THRESHOLD) -> BoolArray:
    """Probability of any shape -> bool, lesion where probability >= threshold."""
    return probability >= threshold


def lesions(mask: BoolArray, probability: FloatArray, hu: FloatArray | None = None) -> list[Lesion]:
    """The 26-connected lesions of a mask, largest first.

    Args:
        mask: (slice, row, column) bool.
        probability: (slice, row, column) float32.
        hu: (slice, row, column); None where HU are not known.
    """
    labels = label_lesions(mask)
    return [
        _lesion(number, spans, labels, probability, hu)
        for number, spans in enumerate(ndimage.find_objects(labels), 1)
    ]  # fmt: skip


def label_lesions(mask: BoolArray) -> AnyArray:
    """(slice, row, column) bool -> int32: 0, or the number of the 26-connected lesion, 1 for the largest."""
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3), bool))
    sizes = np.bincount(labels.ravel())[1:]
    numbers = np.zeros(len(sizes) + 1, np.int32)
    numbers[1 + np.argsort(-sizes, kind="stable")] = np.arange(1, len(sizes) + 1)
    return numbers[labels]


def _lesion(
    number: int, spans: tuple[slice, ...], labels: AnyArray, probability: FloatArray, hu: FloatArray | None
) -> Lesion:
    """One label's measures, taken within its box alone."""
    inside = labels[spans] == number
    starts = tuple(int(span.start) for span in spans)
    indices = np.nonzero(inside)
    probabilities = probability[spans][inside].astype(np.float64)
    return Lesion(
        voxels=int(inside.sum()),
        voxels_by_slice=tuple(int(count) for count in inside.sum(axis=(1, 2))),
        first=(starts[0], starts[1], starts[2]),
        last=(int(spans[0].stop) - 1, int(spans[1].stop) - 1, int(spans[2].stop) - 1),
        centroid=(
            float(indices[0].mean() + starts[0]),
            float(indices[1].mean() + starts[1]),
            float(indices[2].mean() + starts[2]),
        ),
        highest_probability=float(probabilities.max()),
        mean_probability=float(probabilities.mean()),
        mean_hu=None if hu is None else float(hu[spans][inside].mean(dtype=np.float64)),
    )
