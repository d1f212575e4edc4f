"""Thin slices as the network knows slices: averaged to slabs of about 5 mm, and the outline given back to each slice.

The network was trained on thick slices. In a thin one noise looks like blood, and its neighbours show the same anatomy.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import ndimage

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray, FloatArray
from bleedmap.geometry import SliceGrid
from bleedmap.inference.weights import MeasuredOn
from bleedmap.volume import Volume

_NEIGHBOURS = 7  # distances whose median is the usual one here: two slices that nearly meet make no thin study
_ALIGNED_PIXELS = 0.05  # slices shifted by less against their slab lie on it
_MIDDLE = 0.5  # between marked and not, on the scale on which slices lie between slabs


@dataclass(frozen=True, eq=False)
class Slabs:
    """Slabs, which the network is shown in place of a study's slices.

    `volume`: the slabs' mean HU, feet to head, on the slices' own rows and columns; where slices are thick enough a
    slab is the slice itself.
    """

    volume: Volume
    slices: SliceGrid  # where the slices lie
    shares: DoubleArray  # (slab, slice) part of each slice in each slab; the parts of a slab sum to 1

    @property
    def apart_mm(self) -> float:
        """Mean distance of the slabs, along their normal."""
        return float(self.volume.grid.extents_mm.mean())

    @property
    def words(self) -> str:
        """Say so in a clause: 'outlined on 28 slabs of 5.0 mm'."""
        slabs = "1 slab" if len(self.shares) == 1 else f"{len(self.shares):,} slabs"
        return f"outlined on {slabs} of {self.apart_mm:.1f} mm"

    @property
    def note(self) -> str:
        """Tell the reader, in sentences."""
        return (
            f"{len(self.slices):,} slices are thin, {self.slices.spacing_mm[0]:.2f} mm apart: bleeds were "
            f"{self.words}, averaged from them, and the outline was given back to each slice."
        )

    @property
    def home(self) -> AnyArray:
        """(slice,) the slab that holds most of each slice."""
        return np.asarray(self.shares.argmax(axis=0))

    def span_slices(self, first: int, last: int) -> tuple[int, int]:
        """Find the first and last slice that a span of slabs is made of, from the first slab to the last."""
        held = np.flatnonzero(self.shares[first : last + 1].any(axis=0))
        return int(held[0]), int(held[-1])

    def average(self, array: AnyArray) -> FloatArray:
        """Average what lies on the slices, (slice, row, column), to the slabs, as their HU were."""
        return _average_all(array, self.shares, self.slices, self.volume.grid)

    def give_back(self, probability: FloatArray, threshold: float) -> FloatArray:
        """Give each slice its probability, on the line between the two slabs around it.

        On that line a pixel that is marked in one slab alone ends half way to the other, as a slice does for which
        nothing else is known, so that volumes stay: `threshold` lies in the middle of its scale. HU of the thin slices
        have no say, for their noise would pepper the outline.

        Args:
            probability: (slab, row, column) float32.
            threshold: from which on a pixel is marked.

        Returns:
            (slice, row, column) float32; pages of memory that stay 0 are not touched.
        """
        seen, slices = self.volume.grid, self.slices
        heights_mm = (seen.origins_mm - slices.origins_mm[0]) @ slices.normal
        places = np.interp(slices.heights_mm, heights_mm, np.arange(len(seen)))
        of_slices, of_slabs = _in_pixels(slices, slices.origins_mm), _in_pixels(slices, seen.origins_mm)
        lines = {int(slab): _to_line(probability[slab], threshold) for slab in np.flatnonzero(probability.any((1, 2)))}
        given = np.zeros((len(slices), *probability.shape[1:]), np.float32)
        for index, place in enumerate(places):
            below = int(place)
            around = ((below, below + 1 - place), (below + 1, place - below))
            parts = [
                np.float32(share) * _shifted(lines[slab], of_slabs[slab] - of_slices[index], "constant")
                for slab, share in around
                if share > 0 and slab in lines
            ]
            if parts:
                given[index] = _from_line(sum(parts[1:], parts[0]), threshold)
        return given


def make_slabs(volume: Volume, measured: MeasuredOn) -> Slabs | None:
    """Average thin slices to slabs; None where no slices are thin, so that the network is shown them as they are.

    Slices nearer than the network was measured on are averaged in runs: over slabs of whole slices, as many as come
    nearest to the thickness that it knows, two at least. Where slices are missing, or thick enough, a run ends. Slices
    that are shifted against each other, by a tilted gantry or a table that moved, are laid onto each other first.

    Args:
        volume: in the standard view.
        measured: on what slices the network was.
    """
    grid = volume.grid
    thin = _join_thin(grid, measured.spacing_mm[0])
    if not thin.any():
        return None
    shares = _share(grid, thin, measured.thickness_mm)
    origins_mm = shares @ grid.origins_mm
    seen = replace(grid, origins_mm=origins_mm, thickness_mm=measured.thickness_mm)
    return Slabs(Volume(_average_all(volume.hu, shares, grid, seen), seen), grid, shares)


def _join_thin(grid: SliceGrid, lowest_mm: float) -> BoolArray:
    """(slice - 1,) whether a slice and the next are of one run of thin ones."""
    distances = np.diff(grid.heights_mm)
    if not distances.size:
        return np.zeros(0, np.bool_)
    usual = ndimage.median_filter(distances, _NEIGHBOURS, mode="reflect")
    return np.asarray((usual < lowest_mm) & (distances < lowest_mm))


def _share(grid: SliceGrid, thin: BoolArray, thickness_mm: float) -> DoubleArray:
    """(slab, slice) parts. Each slice reaches half the way to its neighbours, but not into a gap around its run."""
    heights, distances = grid.heights_mm, np.diff(grid.heights_mm)
    starts = np.append(0, np.flatnonzero(~thin) + 1)
    shares = []
    for run in np.split(np.arange(len(grid)), starts[1:]):
        of_run = np.zeros((1, len(grid)))
        of_run[0, run] = 1
        if len(run) > 1:
            between = (heights[run][1:] + heights[run][:-1]) / 2
            inside = distances[run[:-1]]
            edges = np.r_[heights[run[0]] - inside[0] / 2, between, heights[run[-1]] + inside[-1] / 2]
            whole_mm = edges[-1] - edges[0]
            each_mm = float(np.median(inside))
            slab_mm = each_mm * max(2, round(thickness_mm / each_mm))
            even = np.linspace(edges[0], edges[-1], max(1, round(whole_mm / slab_mm)) + 1)
            slabs = np.unique(edges[np.abs(edges[:, None] - even).argmin(axis=0)])  # whole slices
            lower, upper = np.maximum(edges[:-1], slabs[:-1, None]), np.minimum(edges[1:], slabs[1:, None])
            of_run = np.zeros((len(slabs) - 1, len(grid)))
            of_run[:, run] = np.clip(upper - lower, 0, None)
        shares.append(of_run / of_run.sum(axis=1, keepdims=True))
    return np.concatenate(shares)


def _average_all(array: AnyArray, shares: DoubleArray, slices: SliceGrid, slabs: SliceGrid) -> FloatArray:
    """(slab, row, column) means of (slice, row, column), each slice laid onto its slab."""
    of_slices, of_slabs = _in_pixels(slices, slices.origins_mm), _in_pixels(slices, slabs.origins_mm)
    means = np.zeros((len(shares), *array.shape[1:]), np.float32)
    for slab, parts in enumerate(shares):
        for index in np.flatnonzero(parts):
            plane = np.asarray(array[index], np.float32)
            means[slab] += np.float32(parts[index]) * _shifted(plane, of_slices[index] - of_slabs[slab], "nearest")
    return means


def _in_pixels(grid: SliceGrid, places_mm: DoubleArray) -> DoubleArray:
    """(n, 3) places -> (n, 2) rows and columns from the coordinates' origin, along the grid's planes."""
    steps_mm = np.stack([grid.row_step_mm, grid.column_step_mm])
    return np.asarray(places_mm @ np.linalg.pinv(steps_mm), np.float64)


def _shifted(plane: FloatArray, shift: DoubleArray, beyond: Literal["nearest", "constant"]) -> FloatArray:
    if np.abs(shift).max() < _ALIGNED_PIXELS:
        return plane
    return np.asarray(ndimage.shift(plane, shift, order=1, mode=beyond, output=np.float32))


def _to_line(probability: FloatArray, threshold: float) -> FloatArray:
    """Probability -> a scale from 0 to 1 on which the threshold lies in the middle."""
    return np.interp(probability, (0.0, threshold, 1.0), (0.0, _MIDDLE, 1.0)).astype(np.float32)


def _from_line(line: FloatArray, threshold: float) -> FloatArray:
    """Undo `_to_line`: the upper of two straight lines that meet at the threshold, or the lower one."""
    upper, lower = line * np.float32(threshold / _MIDDLE), (line - 1) * np.float32((1 - threshold) / (1 - _MIDDLE)) + 1
    return np.asarray(np.maximum(upper, lower) if threshold < _MIDDLE else np.minimum(upper, lower))
