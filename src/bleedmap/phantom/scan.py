"""Scan the same phantom in any way: tilted gantry, oblique planes, uneven or missing slices, odd pixels.

A fine phantom is computed once and kept; a scan samples it, each slice averaged over its thickness and each pixel over
its width. So the truth is one, whatever the geometry.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
from scipy import ndimage

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray, FloatArray
from bleedmap.errors import SettingsError
from bleedmap.geometry import SliceGrid
from bleedmap.phantom import physics as phantom_physics
from bleedmap.phantom.head import PhantomSettings, TrueBleed, make_phantom
from bleedmap.phantom.shapes import rotation
from bleedmap.volume import Mask, Volume

_FINE_MM = (1.0, 0.9, 0.9)
_FINE_SHAPE = (184, 290, 240)  # what the head's fields cover, and the headrest behind it
_BLOOD_MM = (0.5, 0.9, 0.9)  # sampled this finely: its share of a voxel decides the truth
_AIR_HU = -1000.0


@dataclass(frozen=True)
class ScanGeometry:
    """Where a scan's slices lie. The table runs feet to head through the middle of the head.

    `thickness_mm`: of each slice along its normal; None: no gap and no overlap, before slices are left out.
    `turn_deg`: rotation of the whole stack, table and all, about (x, y, z) in this order: oblique planes.
    `positions_mm`: the slices' places along the table, from its middle, rising; instead of `slices`, `spacing_mm`.

    Raises:
        SettingsError: values that no scanner could take.
    """

    slices: int = 30  # how many, before any is left out
    spacing_mm: float = 5.0  # the table's step; with a tilt, the distance along the normal is cos(tilt) of it
    thickness_mm: float | None = None
    shape: tuple[int, int] = (128, 128)  # (rows, columns)
    pixel_mm: tuple[float, float] = (1.8, 1.8)  # from row to row, from column to column
    tilt_deg: float = 0.0  # of the gantry, about the patient's x axis, while the table steps along z: a sheared stack
    turn_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    positions_mm: tuple[float, ...] | None = None
    missing: tuple[int, ...] = ()  # numbers of slices left out, from 0 at the feet

    def __post_init__(self) -> None:
        if not -45 <= self.tilt_deg <= 45:
            raise _refusal("tilt", f"{self.tilt_deg}°", "-45° to 45°", "for example 20")
        if self.slices < 1 or not 0.2 <= self.spacing_mm <= 20 or not 0.1 <= (self.thickness_mm or 1) <= 20:
            found = f"{self.slices} slices, {self.spacing_mm} mm apart, {self.thickness_mm or self.spacing_mm} mm thick"
            needed = "at least one, 0.2 to 20 mm apart, 0.1 to 20 mm thick"
            raise _refusal("slices", found, needed, "for example 30, 5 mm apart")
        if min(self.shape) < 2 or not all(0.2 <= one <= 10 for one in self.pixel_mm):
            found, needed = f"{self.shape} of {self.pixel_mm} mm", "at least 2 × 2, of 0.2 to 10 mm"
            raise _refusal("pixels", found, needed, "for example 128 × 128 of 1.8 mm")
        if self.positions_mm is not None and (len(self.positions_mm) < 1 or (np.diff(self.positions_mm) <= 0).any()):
            raise _refusal("positions", f"{self.positions_mm} mm", "places that rise", "sort them and name each once")
        count = len(self.table_mm)
        if any(not 0 <= one < count for one in self.missing) or len(set(self.missing)) >= count:
            needed = f"numbers from 0 to {count - 1}, and a slice that stays"
            raise _refusal("missing slices", f"{self.missing} of {count}", needed, "name fewer, or others")

    @property
    def table_mm(self) -> DoubleArray:
        """(slice,) places along the table before any slice is left out."""
        if self.positions_mm is not None:
            return np.asarray(self.positions_mm, np.float64)
        return np.asarray((np.arange(self.slices) - (self.slices - 1) / 2) * self.spacing_mm, np.float64)

    def grid(self) -> SliceGrid:
        """Make the scan's grid, in the phantom's LPS mm."""
        return self._make_grid(np.delete(self.table_mm, list(self.missing)))

    def thicknesses_mm(self) -> DoubleArray:
        """Return (slice,) the thickness that each slice of the grid is the mean of."""
        whole = self._make_grid(self.table_mm)
        own = np.full(len(whole), self.thickness_mm) if self.thickness_mm else whole.extents_mm
        return np.asarray(np.delete(own, list(self.missing)), np.float64)

    def _make_grid(self, table_mm: DoubleArray) -> SliceGrid:
        turned = rotation(self.turn_deg)
        plane = turned @ rotation((self.tilt_deg, 0.0, 0.0))
        row_step, column_step = plane[:, 1] * self.pixel_mm[0], plane[:, 0] * self.pixel_mm[1]
        corner = -((self.shape[0] - 1) / 2 * row_step + (self.shape[1] - 1) / 2 * column_step)
        apart = float(np.median(np.diff(self.table_mm))) if len(self.table_mm) > 1 else self.spacing_mm
        thickness = self.thickness_mm or apart * float(np.cos(np.radians(self.tilt_deg)))
        return SliceGrid(table_mm[:, None] * turned[:, 2] + corner, row_step, column_step, thickness)


def _refusal(subject: str, found: str, needed: str, remedy: str) -> SettingsError:
    return SettingsError(f"scan geometry, {subject}", found=found, needed=needed, remedy=remedy)


@dataclass(frozen=True, eq=False)
class PhantomScan:
    """A scanned phantom and its truth."""

    volume: Volume  # the CT, in HU
    mask: Mask  # every bleed's voxels, as many as the blood in these slices fills: the scan's own truth
    bleeds: tuple[TrueBleed, ...]  # in the order asked for, with the volumes of the fine phantom
    true_volume_ml: float  # of all blood in the fine phantom, whatever the scan sees of it
    true_centroid_mm: DoubleArray  # (3,) centre of that blood, LPS; NaN in a healthy head


def scan(settings: PhantomSettings, geometry: ScanGeometry) -> PhantomScan:
    """Scan the head of `settings` on any geometry; the settings' own spacing and shape do not count.

    The first scan of a head takes about three seconds more than the next ones.
    """
    fine = _fine_phantom(replace(settings, spacing_mm=_FINE_MM, shape=_FINE_SHAPE, noise_hu=0.0))
    grid = geometry.grid()
    thick_mm = geometry.thicknesses_mm()
    hu = _sample(fine.volume.hu, fine.volume.grid, grid, thick_mm, geometry.shape, _FINE_MM, _AIR_HU)
    _add_noise(hu, geometry, settings)
    block, block_grid = _cut_out(fine.mask)
    shares = _sample(block, block_grid, grid, thick_mm, geometry.shape, _BLOOD_MM, 0.0)
    mask = Mask(_choose_fullest(shares, grid.voxel_ml), grid)
    centroid = np.argwhere(fine.mask.array).mean(axis=0) if fine.mask.array.any() else np.full(3, np.nan)
    return PhantomScan(Volume(hu, grid), mask, fine.bleeds, fine.mask.volume_ml, fine.mask.grid.to_mm(centroid))


_fine_phantom = lru_cache(maxsize=2)(make_phantom)  # some 90 MB each


def _cut_out(mask: Mask) -> tuple[FloatArray, SliceGrid]:
    """Cut out the part that holds all of a mask, with a rim of zeros where there is room; return it and its grid."""
    found = ndimage.find_objects(mask.array.astype(np.uint8))
    start = np.array([max(0, axis.start - 1) for axis in found[0]] if found else [0, 0, 0])
    stop = np.array([axis.stop + 1 for axis in found[0]] if found else [2, 2, 2])
    block = mask.array[tuple(map(slice, start, stop))]
    grid, into_plane = mask.grid, start[1] * mask.grid.row_step_mm + start[2] * mask.grid.column_step_mm
    return block.astype(np.float32), replace(grid, origins_mm=grid.origins_mm[start[0] : stop[0]] + into_plane)


def _sample(
    fine: FloatArray, fine_grid: SliceGrid, grid: SliceGrid, thick_mm: DoubleArray, shape: tuple[int, int],
    part_mm: tuple[float, float, float], outside: float,
) -> FloatArray:  # fmt: skip
    """Average `fine` over each voxel (slice, row, column) of a grid, by points at most about `part_mm` apart."""
    to_fine = np.linalg.inv(fine_grid.affine)
    ends = np.array(list(product(*((-1, count) for count in fine.shape))))
    ends_mm = ends @ fine_grid.affine[:3, :3].T + fine_grid.affine[:3, 3]
    sampled = np.full((len(grid), *shape), outside, np.float32)
    for index, origin in enumerate(grid.origins_mm):
        steps = np.stack([grid.normal * thick_mm[index], grid.row_step_mm, grid.column_step_mm], axis=1)
        parts = np.maximum(1, np.rint(np.linalg.norm(steps, axis=0) / part_mm)).astype(int)
        layers, down, across = parts.tolist()
        small = steps / parts
        reached = (ends_mm - origin) @ np.linalg.inv(steps).T  # beyond it, all is outside
        low, high = np.floor(reached.min(axis=0)).astype(int), np.ceil(reached.max(axis=0)).astype(int) + 1
        (top, left), (bottom, right) = low[1:].clip(0), np.minimum(high[1:], shape)
        if low[0] > 0 or high[0] <= 0 or top >= bottom or left >= right:
            continue
        # the middle of the first part, along each axis
        first_mm = origin + steps @ (0, top, left) + small @ ((1 - parts) / 2)
        points = ndimage.affine_transform(
            fine, to_fine[:3, :3] @ small, to_fine[:3, :3] @ first_mm + to_fine[:3, 3],
            output_shape=(layers, (bottom - top) * down, (right - left) * across), order=1, mode="constant",
            cval=outside,
        )  # fmt: skip
        within = points.reshape(layers, bottom - top, down, right - left, across)
        sampled[index, top:bottom, left:right] = within.mean(axis=(0, 2, 4))
    return sampled


def _add_noise(hu: FloatArray, geometry: ScanGeometry, settings: PhantomSettings) -> None:
    if not settings.noise_hu:
        return
    generator = np.random.default_rng([settings.seed, 5])
    rows_mm, columns_mm = (
        (np.arange(count) - (count - 1) / 2) * step
        for count, step in zip(geometry.shape, geometry.pixel_mm, strict=True)
    )
    for index in range(len(hu)):
        hu[index] += phantom_physics.noise_hu(generator, rows_mm, columns_mm, settings.noise_hu)
    np.maximum(hu, -1024, out=hu)


def _choose_fullest(shares: FloatArray, voxel_ml: AnyArray) -> BoolArray:
    """Choose the voxels with the most blood, as many as all blood fills."""
    each_ml = np.broadcast_to(voxel_ml[:, None, None], shares.shape)
    some = shares > 0
    chance = np.random.default_rng(0).permutation(int(some.sum()))  # among equals, so that no side is preferred
    order = np.lexsort((chance, -shares[some]))
    filled_ml = np.cumsum(each_ml[some][order])
    blood_ml = float((shares[some] * each_ml[some]).sum())
    chosen = np.zeros(len(order), bool)
    chosen[order[: int(np.searchsorted(filled_ml, blood_ml))]] = True
    mask = np.zeros(shares.shape, bool)
    mask[some] = chosen
    return mask
