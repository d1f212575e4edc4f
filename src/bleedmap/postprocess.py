"""Probability -> mask -> lesions."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray, FloatArray

THRESHOLD = 0.5  # a pixel is lesion from here on; the thesis' scale starts at the same value
Side = Literal["left", "right", "both", "midline"]


@dataclass(frozen=True)
class Abc2:
    """A, B and C of half their product, which estimates a bleed's volume at the bedside.

    Kothari et al., The ABCs of measuring intracerebral hemorrhage volumes, Stroke 27(8), 1996: on the axial slice where
    the bleed's area is largest, A is its largest diameter and B the largest one at right angles to it. C is the sum of
    the slices' thicknesses: slices of more than 75 % of that area count whole, from 25 % on half, others not at all.
    Made for parenchymal bleeds; of crescents and films it is no estimate.
    """

    a_mm: float
    b_mm: float
    c_mm: float

    @property
    def ml(self) -> float:
        """A × B × C / 2, in mL; as in the paper, not rounded to half a centimetre."""
        return self.a_mm * self.b_mm * self.c_mm / 2000


@dataclass(frozen=True)
class Measures:
    """What a clinician measures of one lesion, on axial slices; `study.measures` takes them.

    `side`: of the patient, by the head's own middle; None where that was not found or left and right are not known.
    `skull_mm`: smallest distance to the inner table of the skull, to a millimetre or so in the slice; None where no
    cranial cavity was found.
    """

    side: Side | None
    longest_mm: float  # largest distance between the outer corners of two of its pixels within one axial slice
    perpendicular_mm: float  # on that slice, the longest line at right angles to it between two points of the lesion
    height_mm: float  # from its lowest slice to its highest, each with what it stands for
    abc2: Abc2  # the bedside estimate of its volume
    skull_mm: float | None


@dataclass(frozen=True)
class Lesion:
    """One connected lesion.

    `voxels_by_slice`: its voxels, from its first slice to its last; slices may stand for different volumes.
    `measures`: None where pixels have no size.
    """

    voxels: int  # how many voxels it has
    voxels_by_slice: tuple[int, ...]
    first: tuple[int, int, int]  # lowest (slice, row, column) index that it touches
    last: tuple[int, int, int]  # highest, included
    centroid: tuple[float, float, float]  # mean (slice, row, column) index
    highest_probability: float  # the largest probability in it
    mean_probability: float  # over its voxels
    mean_hu: float | None  # over its voxels; None where the slices are pictures, whose window clips
    measures: Measures | None = None


def to_mask(probability: FloatArray, threshold: float = THRESHOLD) -> BoolArray:
    """Probability of any shape -> bool, lesion where probability >= threshold."""
    return probability >= threshold


def without_small(
    probability: FloatArray, threshold: float, voxel_ml: float | DoubleArray, smallest_ml: float
) -> FloatArray:
    """A copy of the probability after `clear_small`."""
    kept = probability.copy()
    clear_small(kept, threshold, voxel_ml, smallest_ml)
    return kept


def clear_small(probability: FloatArray, threshold: float, voxel_ml: float | DoubleArray, smallest_ml: float) -> None:
    """Set 26-connected regions from `threshold` on that hold less than `smallest_ml` to 0, in place.

    Args:
        probability: (slice, row, column).
        threshold: from which on a voxel is marked.
        voxel_ml: what a voxel stands for; or (slice,), of each slice's.
        smallest_ml: 0 keeps all.
    """
    mask = probability >= threshold
    if smallest_ml <= 0 or not mask.any():
        return
    box = find_box(mask)
    labels = _numbered(mask[box])
    of_slices = np.broadcast_to(voxel_ml, len(probability))[box[0]]
    most = int(labels.max()) + 1
    held = sum(np.bincount(one.ravel(), minlength=most) * ml for one, ml in zip(labels, of_slices, strict=True))
    small = np.asarray(held) < smallest_ml
    small[0] = False
    if small.any():
        probability[box][small[labels]] = 0


def lesions(mask: BoolArray, probability: FloatArray, hu: FloatArray | None = None) -> list[Lesion]:
    """The 26-connected lesions of a mask, largest first.

    Args:
        mask: (slice, row, column) bool.
        probability: (slice, row, column) float32.
        hu: (slice, row, column); None where HU are not known.
    """
    labels, box = label_in_box(mask)
    corner = tuple(span.start for span in box)
    arrays = labels, probability[box], None if hu is None else hu[box]
    found = ndimage.find_objects(labels) if labels.size else []
    return [_lesion(number, spans, corner, arrays) for number, spans in enumerate(found, 1)]


def label_in_box(mask: BoolArray) -> tuple[AnyArray, tuple[slice, ...]]:
    """`label_lesions` of the box around all that is marked, and where that lies; both empty where nothing is."""
    box = find_box(mask)  # lesions are small beside the volume
    return _numbered(mask[box]), box


def label_lesions(mask: BoolArray, most: int | None = None) -> AnyArray:
    """(slice, row, column) bool -> int32: 0, or the number of the 26-connected lesion, 1 for the largest.

    With `most`, at most 255, it is uint8, and the smaller lesions share that number.
    """
    numbered, box = label_in_box(mask)
    if most is not None:
        assert most <= np.iinfo(np.uint8).max
        numbered = np.minimum(numbered, most).astype(np.uint8)
    labels = np.zeros(mask.shape, numbered.dtype)
    labels[box] = numbered
    return labels


def _numbered(mask: BoolArray) -> AnyArray:
    """`label_lesions` of a box around all that is marked."""
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3), bool))
    sizes = np.bincount(labels.ravel())[1:]
    numbers = np.zeros(len(sizes) + 1, np.int32)
    numbers[1 + np.argsort(-sizes, kind="stable")] = np.arange(1, len(sizes) + 1)
    return numbers[labels]


def find_box(mask: BoolArray) -> tuple[slice, ...]:
    """What holds all that is marked, along each axis; nothing where nothing is."""
    if not mask.any():
        return (slice(0, 0),) * mask.ndim
    marked = np.any(mask, axis=(1, 2)), np.any(mask, axis=(0, 2)), np.any(mask, axis=(0, 1))
    return tuple(slice(int(one[0]), int(one[-1]) + 1) for one in map(np.flatnonzero, marked))


def _lesion(
    number: int,
    spans: tuple[slice, ...],
    corner: tuple[int, ...],
    arrays: tuple[AnyArray, FloatArray, FloatArray | None],
) -> Lesion:
    """One label's measures, within its box: `spans` of `arrays` (labels, probability, HU) that begin at `corner`."""
    labels, probability, hu = arrays
    inside = labels[spans] == number
    starts = [int(span.start) + first for span, first in zip(spans, corner, strict=True)]
    ends = [start + count - 1 for start, count in zip(starts, inside.shape, strict=True)]
    indices = np.nonzero(inside)
    probabilities = probability[spans][inside].astype(np.float64)
    return Lesion(
        voxels=int(inside.sum()),
        voxels_by_slice=tuple(int(count) for count in inside.sum(axis=(1, 2))),
        first=(starts[0], starts[1], starts[2]),
        last=(ends[0], ends[1], ends[2]),
        centroid=(
            float(indices[0].mean() + starts[0]),
            float(indices[1].mean() + starts[1]),
            float(indices[2].mean() + starts[2]),
        ),
        highest_probability=float(probabilities.max()),
        mean_probability=float(probabilities.mean()),
        mean_hu=None if hu is None else float(hu[spans][inside].mean(dtype=np.float64)),
    )


def find_corners(plane: BoolArray) -> DoubleArray:
    """(corner, 2) row and column of the pixels' corners between which the longest distance lies."""
    rows = np.flatnonzero(plane.any(axis=1))
    edges = np.union1d(rows, rows + 1)  # above row 0, row 1, …
    low, high = np.full(len(plane) + 1, np.inf), np.full(len(plane) + 1, -np.inf)
    first, last = plane[rows].argmax(axis=1), plane.shape[1] - plane[rows, ::-1].argmax(axis=1)
    for below in (0, 1):  # an edge belongs to the row under it and to that over it
        low[rows + below] = np.minimum(low[rows + below], first)
        high[rows + below] = np.maximum(high[rows + below], last)
    left, right = np.column_stack([edges, low[edges]]), np.column_stack([edges, -high[edges]])
    return np.concatenate([_bulge(left), _bulge(right) * (1, -1)]) - 0.5


def _bulge(chain: DoubleArray) -> DoubleArray:
    """Points down the rows, without those on or behind the line between their neighbours: no end of a longest line."""
    while len(chain) > 2:
        step, across = chain[1:-1] - chain[:-2], chain[2:] - chain[:-2]
        keep = np.ones(len(chain), bool)
        keep[1:-1] = step[:, 1] * across[:, 0] < across[:, 1] * step[:, 0]
        if keep.all():
            break
        chain = chain[keep]
    return chain
