"""Both studies on the same planes, to be looked at side by side: those of the first study, and as many beyond its ends.

The planes are for the eye alone. Every volume is measured on each study's own slices.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray, FloatArray
from bleedmap.comparison.compare import Comparison
from bleedmap.comparison.examination import Examination
from bleedmap.geometry import AxialTurn, SliceGrid
from bleedmap.postprocess import label_lesions
from bleedmap.registration import Alignment, find_voxels, lies_inside
from bleedmap.results.pictures import edge_letters
from bleedmap.study.words import spans

LEAST_APART_MM = 4.0  # planes lie no nearer: of thin slices every few are shown, each averaged over what it stands for
_MOST_SIDE, _LEAST_PIXEL_MM = 300, 0.7
_BODY_HU, _MARGIN_MM = -300.0, 6.0
_LEAST_SEEN = 0.05  # of a plane, before a study shows it
_AIR_HU = -1000.0
_MOST_NUMBERS = 255  # of lesions shown; the smaller ones share the last
_MOST_LAYERS = 6  # of a thin study that a plane is the mean of


@dataclass(frozen=True, eq=False)
class Half:
    """One study on one plane.

    `slice`: the study's slice nearest to the plane's middle, from 0; None where it shows nothing of the plane.
    `lesions`: number of each lesion on the plane -> where its name stands, (row, column).
    """

    hu: FloatArray  # (row, column); air where the study shows nothing
    probability: FloatArray  # the same; 0 there
    slice: int | None
    lesions: dict[int, tuple[float, float]]


@dataclass(frozen=True, eq=False)
class Plane:
    """A plane, and both studies on it."""

    first: Half
    second: Half

    @property
    def marked(self) -> bool:
        """Whether either study is marked on it."""
        return bool(self.first.lesions or self.second.lesions)


@dataclass(frozen=True, eq=False)
class Planes:
    """All planes, feet to head, of one shape."""

    planes: tuple[Plane, ...]  # in their order
    pixel_mm: float  # of a pixel's side
    letters: dict[str, str]  # of `edge_letters`


def lay_out(comparison: Comparison) -> Planes:
    """Sample both studies on common planes.

    Where the heads could not be aligned, the second is laid with its middle upon the first one's.
    """
    first, second = comparison.first, comparison.second
    alignment = comparison.alignment if comparison.alignment.fits else _centre(first, second)
    turn = AxialTurn.find(first.volume.grid)
    base = first.volume.grid if turn is None else turn.turn_grid(first.volume.grid, first.volume.hu.shape)
    apart = base.spacing_mm[0]
    every = max(1, round(LEAST_APART_MM / apart)) if apart < LEAST_APART_MM else 1
    body = np.concatenate([_body(first), alignment.to_first(_body(second))])
    origins = _extend(base.origins_mm[every // 2 :: every], base, body)
    rows, columns, pixel_mm = _frame(base, body)
    steps = [one / np.linalg.norm(one) for one in (base.row_step_mm, base.column_step_mm)]
    in_plane = rows[:, None, None] * steps[0] + columns[None, :, None] * steps[1]
    samplers = [_Sampler(first, every * apart), _Sampler(second, every * apart)]
    planes = []
    for origin in origins:
        places = origin + in_plane
        halves = [samplers[0].take(places, base.normal), samplers[1].take(
            alignment.to_second(places), alignment.matrix[:3, :3] @ base.normal
        )]  # fmt: skip
        if any(one.slice is not None for one in halves):
            planes.append(Plane(*halves))
    return Planes(tuple(planes), pixel_mm, edge_letters(base))


def _centre(first: Examination, second: Examination) -> Alignment:
    middles = [one.volume.grid.to_mm((np.array(one.volume.hu.shape) - 1) / 2) for one in (first, second)]
    matrix = np.eye(4)
    matrix[:3, 3] = middles[1] - middles[0]
    return Alignment(matrix, 0.0, 0.0, 0.0, 0.0)


def _body(one: Examination) -> DoubleArray:
    """(n, 3) places in mm of the body and all that is marked, thinned out."""
    down, across = (max(1, round(4 / mm)) for mm in one.volume.grid.spacing_mm[1:])
    coarse = ndimage.binary_opening(one.volume.hu[:, ::down, ::across] > _BODY_HU, np.ones((1, 3, 3), np.bool_))
    marked = np.argwhere(one.mask.array)
    return one.volume.grid.to_mm(np.concatenate([np.argwhere(coarse) * (1, down, across), marked]))


def _extend(origins: DoubleArray, base: SliceGrid, body: DoubleArray) -> DoubleArray:
    """Add planes at both ends, as far as there is a body."""
    apart = (
        base.extents_mm[0] if len(origins) < 2 else float((origins[-1] - origins[0]) @ base.normal) / (len(origins) - 1)
    )
    heights = (body - origins[0]) @ base.normal
    last_mm = float((origins[-1] - origins[0]) @ base.normal)
    below, above = (max(0, int(one / apart)) for one in (-heights.min(), heights.max() - last_mm))
    up = base.normal * apart
    before, after = np.arange(-below, 0)[:, None] * up, np.arange(1, above + 1)[:, None] * up
    return np.concatenate([origins[0] + before, origins, origins[-1] + after])


def _frame(base: SliceGrid, body: DoubleArray) -> tuple[DoubleArray, DoubleArray, float]:
    """Places of rows and columns in mm from a plane's origin, around the body, and the pixels' side."""
    _, row_mm, column_mm = base.spacing_mm
    in_plane = base.to_index(body)[:, 1:] * (row_mm, column_mm)
    low, high = in_plane.min(axis=0) - _MARGIN_MM, in_plane.max(axis=0) + _MARGIN_MM
    pixel_mm = max(_LEAST_PIXEL_MM, float((high - low).max()) / _MOST_SIDE)
    rows, columns = (np.arange(start, stop, pixel_mm) for start, stop in zip(low, high, strict=True))
    return rows, columns, pixel_mm


class _Sampler:
    """One study, sampled on planes that stand for `thick_mm`."""

    def __init__(self, one: Examination, thick_mm: float) -> None:
        self._one, self._labels = one, label_lesions(one.mask.array, _MOST_NUMBERS)
        apart = one.volume.grid.spacing_mm[0]
        count = int(np.clip(round(thick_mm / apart), 1, _MOST_LAYERS))
        self._heights_mm = ((np.arange(count) + 0.5) / count - 0.5) * min(thick_mm, count * apart)
        marked = np.flatnonzero(one.mask.array.any(axis=(1, 2)))
        self._marked = (int(marked[0]) - 1, int(marked[-1]) + 1) if marked.size else None

    def take(self, places: DoubleArray, normal: DoubleArray) -> Half:
        """Average over the plane's thickness; (row, column, 3) places in this study's mm."""
        volume, grid = self._one.volume, self._one.volume.grid
        last = np.array(volume.hu.shape) - 1
        hu, probability = (np.zeros(places.shape[:2], np.float32) for _ in range(2))
        inside = np.zeros(places.shape[:2], np.bool_)
        for height in self._heights_mm:
            index = grid.to_index(places + height * normal)
            inside |= lies_inside(index, volume.hu.shape)
            clipped = np.moveaxis(np.clip(index, 0, last), -1, 0)
            hu += ndimage.map_coordinates(volume.hu, clipped, order=1)
            if self._near_marked(clipped[0]):
                probability += ndimage.map_coordinates(self._one.probability.array, clipped, order=1)
        hu, probability = (one / np.float32(len(self._heights_mm)) for one in (hu, probability))
        nearest = find_voxels(grid.to_index(places), volume.hu.shape)
        lesions = self._find_lesions(nearest, inside) if self._near_marked(nearest[0]) else {}
        middle = int(nearest[0][inside].mean().round()) if inside.mean() > _LEAST_SEEN else None
        return Half(
            np.where(inside, hu, np.float32(_AIR_HU)), np.where(inside, probability, np.float32(0)), middle, lesions
        )

    def _near_marked(self, slices: AnyArray) -> bool:
        return self._marked is not None and slices.max() >= self._marked[0] and slices.min() <= self._marked[1]

    def _find_lesions(self, nearest: tuple[AnyArray, ...], inside: BoolArray) -> dict[int, tuple[float, float]]:
        """Each lesion's number -> its upper right end on the plane."""
        labels = np.where(inside, self._labels[nearest], 0)
        boxes = enumerate(ndimage.find_objects(labels), 1)
        return {number: (float(box[0].start), float(box[1].stop)) for number, box in boxes if box is not None}


def describe_half(half: Half) -> str:
    """'slice 12, lesions 1, 2'; what a study shows on a plane."""
    if half.slice is None:
        return "not scanned here"
    if not half.lesions:
        return f"slice {half.slice + 1}"
    return f"slice {half.slice + 1}, {'lesion' if len(half.lesions) == 1 else 'lesions'} {spans(sorted(half.lesions))}"
