"""Where voxels lie: affines and stacks of slices, index (slice, row, column) -> patient coordinates in LPS mm.

LPS and the affine of a slice: DICOM PS3.3 C.7.6.2.1.1.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import NamedTuple

import numpy as np

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.errors import InputError

EVEN_WITHIN_MM = 0.1  # a slice this near to its place on an even stack is on it; positions are stored rounded
AXIAL_WITHIN_DEG = 45.0  # slices turned by more are nearer to coronal or sagittal ones
_EXTENT_WITHIN = 0.02  # of what a slice stands for: layers of an even grid need not hold it more closely
_MOST_LAYERS, _MOST_VOXELS = 512, 1 << 27  # of an even grid, or twice the slices where that is more
_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # its own inverse


def swap_lps_ras(affine: AnyArray) -> DoubleArray:
    """A 4×4 affine to LPS mm -> the same to RAS mm, and back."""
    return np.asarray(_RAS_FROM_LPS @ affine, dtype=np.float64)


def axial_affine(spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> DoubleArray:
    """An affine to LPS mm for axial slices, feet to head, with the grid's centre at the origin.

    Args:
        spacing: (slice, row, column) in mm.
        shape: (slices, rows, columns).
    """
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing  # slice -> S, row -> P, column -> L
    affine[3, 3] = 1.0
    affine[:3, 3] = -affine[:3, :3] @ ((np.asarray(shape) - 1) / 2)
    return affine


@dataclass(frozen=True, eq=False)
class SliceGrid:
    """Parallel slices, each with a place of its own: even or uneven, upright or sheared by a gantry tilt, oblique.

    Attributes:
        origins_mm: (slice, 3) centre of each slice's first pixel, in LPS mm.
        row_step_mm: (3,) from one row to the next.
        column_step_mm: (3,) from one column to the next.
        thickness_mm: what a lone slice stands for; in a stack the distances say it.

    Raises:
        InputError: numbers that are not finite, pixels without area, or slices that do not follow one another.
    """

    origins_mm: DoubleArray
    row_step_mm: DoubleArray
    column_step_mm: DoubleArray
    thickness_mm: float

    def __post_init__(self) -> None:
        numbers = np.concatenate([self.origins_mm.ravel(), self.row_step_mm, self.column_step_mm, [self.thickness_mm]])
        if not np.isfinite(numbers).all() or self.pixel_area_mm2 == 0 or len(self.origins_mm) == 0:
            raise InputError(
                "slice grid",
                found=f"slices that span no volume (steps {self.row_step_mm.tolist()}, {self.column_step_mm.tolist()})",
                needed="finite positions, and rows and columns that are not parallel",
                remedy="convert the study again from its DICOM files",
            )
        if (np.diff(self.heights_mm) <= 0).any() or self.thickness_mm <= 0:
            raise InputError(
                "slice grid",
                found=f"slices at heights {np.round(self.heights_mm, 3).tolist()} mm, thickness {self.thickness_mm} mm",
                needed="slices that follow one another, each above the one before",
                remedy="sort the slices by position and leave doubled ones out",
            )

    @classmethod
    def from_affine(cls, affine: AnyArray, slices: int) -> "SliceGrid":
        """An even stack.

        Args:
            affine: 4×4, index (slice, row, column, 1) to LPS mm.

        Raises:
            InputError: the affine is not finite, or maps to no volume.
        """
        affine = np.asarray(affine, np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
            raise InputError(
                "affine",
                found=f"an affine that maps the grid to no volume: {affine.tolist()}",
                needed="a finite, invertible 4×4 affine to mm",
                remedy="convert the study again from its DICOM files",
            )
        origins = affine[:3, 3] + np.arange(slices, dtype=np.float64)[:, None] * affine[:3, 0]
        normal = np.cross(affine[:3, 1], affine[:3, 2])
        thickness = abs(affine[:3, 0] @ normal) / np.linalg.norm(normal)
        return cls(np.asarray(origins, np.float64), affine[:3, 1], affine[:3, 2], float(thickness))

    def __len__(self) -> int:
        return len(self.origins_mm)

    @property
    def pixel_area_mm2(self) -> float:
        """Area of a pixel."""
        return float(np.linalg.norm(np.cross(self.row_step_mm, self.column_step_mm)))

    @cached_property
    def normal(self) -> DoubleArray:
        """(3,) unit vector at right angles to the slices, from the first to the last; for a lone one, to the head."""
        normal = np.cross(self.row_step_mm, self.column_step_mm) / self.pixel_area_mm2
        along = (self.origins_mm[-1] - self.origins_mm[0]) @ normal if len(self) > 1 else normal[2]
        return np.asarray(normal if along >= 0 else -normal, np.float64)

    @cached_property
    def heights_mm(self) -> DoubleArray:
        """(slice,) distance of each slice from the first, along the normal."""
        return np.asarray((self.origins_mm - self.origins_mm[0]) @ self.normal, np.float64)

    @cached_property
    def extents_mm(self) -> DoubleArray:
        """(slice,) how much of the normal each slice stands for: half the way to either neighbour.

        At the ends the way to the one neighbour counts for both sides. So an even stack has its spacing (places are
        stored rounded), a sheared one its spacing along the normal, and where a slice is missing its neighbours share
        the gap.
        """
        if len(self) == 1:
            return np.array([self.thickness_mm])
        if self.is_even:
            return np.full(len(self), self.heights_mm[-1] / (len(self) - 1))
        gaps = np.diff(self.heights_mm)
        return np.asarray((np.append(gaps[0], gaps) + np.append(gaps, gaps[-1])) / 2, np.float64)

    @cached_property
    def voxel_ml(self) -> DoubleArray:
        """(slice,) volume that one pixel of each slice stands for, in mL."""
        return np.asarray(self.extents_mm * (self.pixel_area_mm2 / 1000.0), np.float64)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(slice, row, column): median distance of slices along the normal, and the pixel's height and width."""
        between = float(np.median(np.diff(self.heights_mm))) if len(self) > 1 else self.thickness_mm
        return between, float(np.linalg.norm(self.row_step_mm)), float(np.linalg.norm(self.column_step_mm))

    @cached_property
    def slice_step_mm(self) -> DoubleArray:
        """(3,) mean step from one slice to the next."""
        if len(self) == 1:
            return self.normal * self.thickness_mm
        return np.asarray((self.origins_mm[-1] - self.origins_mm[0]) / (len(self) - 1), np.float64)

    @property
    def shear_deg(self) -> float:
        """Angle between the way from slice to slice and the normal: the gantry's tilt. 0 for an upright stack."""
        step = self.slice_step_mm
        return float(np.degrees(np.arccos(np.clip(step @ self.normal / np.linalg.norm(step), -1, 1))))

    @property
    def gantry_tilt_deg(self) -> float:
        """The shear along the rows' way from front to back, with the sign that DICOM gives a gantry's tilt.

        PS3.3 C.8.22.5.2: negative where the gantry's top leans away from where the table enters it. For a patient on
        the back, head first, the top is in front and the table comes from the feet.
        """
        along, down = self.slice_step_mm, self.row_step_mm
        return float(np.degrees(np.arcsin(np.clip(along @ down / np.linalg.norm(along) / np.linalg.norm(down), -1, 1))))

    @property
    def tilt_to_axial_deg(self) -> float:
        """Angle between the slices' normal and the patient's head-foot axis."""
        return float(np.degrees(np.arccos(np.clip(abs(self.normal[2]), 0, 1))))

    @cached_property
    def is_even(self) -> bool:
        """Whether one affine describes every slice's place within 0.1 mm."""
        places = self.origins_mm[0] + np.arange(len(self))[:, None] * self.slice_step_mm
        return bool(np.abs(places - self.origins_mm).max() <= EVEN_WITHIN_MM)

    @property
    def affine(self) -> DoubleArray:
        """4×4, index (slice, row, column, 1) to LPS mm.

        Raises:
            InputError: the slices are uneven, so that no affine holds.
        """
        if not self.is_even:
            gaps = np.diff(self.heights_mm)
            raise InputError(
                "slice grid",
                found=f"uneven slices, {gaps.min():.2f} to {gaps.max():.2f} mm apart",
                needed="even slices: one affine cannot describe these",
                remedy="use the grid's own positions, or `evenly`",
            )
        affine = np.eye(4)
        affine[:3, 0], affine[:3, 1], affine[:3, 2] = self.slice_step_mm, self.row_step_mm, self.column_step_mm
        affine[:3, 3] = self.origins_mm[0]
        return affine

    def to_mm(self, index: AnyArray) -> DoubleArray:
        """(…, 3) index (slice, row, column), fractions allowed -> (…, 3) LPS mm; beyond the ends, the end's place."""
        index = np.asarray(index, np.float64)
        numbers = np.arange(len(self))
        origin = np.stack([np.interp(index[..., 0], numbers, axis) for axis in self.origins_mm.T], axis=-1)
        in_plane = index[..., 1, None] * self.row_step_mm + index[..., 2, None] * self.column_step_mm
        return np.asarray(origin + in_plane, np.float64)

    def to_index(self, places_mm: AnyArray) -> DoubleArray:
        """(…, 3) LPS mm -> (…, 3) index (slice, row, column), fractions allowed; slices go on beyond the ends."""
        places = np.asarray(places_mm, np.float64) - self.origins_mm[0]
        height, numbers = places @ self.normal, np.arange(len(self), dtype=np.float64)
        first_mm, last_mm = self.extents_mm[0], self.extents_mm[-1]  # to a slice beyond either end
        heights = np.array([self.heights_mm[0] - first_mm, *self.heights_mm, self.heights_mm[-1] + last_mm])
        index = np.interp(height, heights, np.array([-1.0, *numbers, float(len(self))]))
        index = np.where(height < heights[0], (height - self.heights_mm[0]) / first_mm, index)
        index = np.where(height > heights[-1], numbers[-1] + (height - self.heights_mm[-1]) / last_mm, index)
        corner = np.stack(
            [np.interp(index, numbers, axis) for axis in (self.origins_mm - self.origins_mm[0]).T], axis=-1
        )
        steps = np.stack([self.row_step_mm, self.column_step_mm], axis=1)
        return np.concatenate([index[..., None], (places - corner) @ np.linalg.pinv(steps).T], axis=-1)

    def evenly(self, pixels: int = 1) -> "EvenLayers":
        """An even grid whose layers hold what each slice stands for, as `extents_mm` says.

        It reaches from the lower edge of the first slice to the upper edge of the last one. The step is the widest at
        which every slice has its extent within 2 %, or the best of those that make no more than 512 layers.

        Args:
            pixels: of a slice; large ones have fewer layers.
        """
        if self.is_even:
            return EvenLayers(self, np.arange(len(self)), np.zeros((len(self), 2), np.int64), (0, 0), 0.0)
        edges = np.cumsum([0.0, *self.extents_mm])
        most = max(2 * len(self), min(_MOST_LAYERS, _MOST_VOXELS // pixels))
        best, off = len(self), np.inf
        for count in range(len(self), most + 1):
            layers = np.diff(np.rint(edges * (count / edges[-1])))
            now = float(np.abs(layers * (edges[-1] / count) / self.extents_mm - 1).max())
            if now < off:
                best, off = count, now
            if off <= _EXTENT_WITHIN:
                break
        step = edges[-1] / best
        slices = np.repeat(np.arange(len(self)), np.diff(np.rint(edges / step)).astype(np.int64))
        heights = (np.arange(best) + 0.5) * step - self.extents_mm[0] / 2
        along = self.slice_step_mm / (self.slice_step_mm @ self.normal)
        corners = self._shift_in_plane(along)
        if np.abs(corners).max() > 0.5:  # no straight stack: whole pixels over upright layers
            corners = self._shift_in_plane(self.normal)
        corners = np.rint(corners).astype(np.int64)
        along = along if not corners.any() else self.normal
        lowest = corners.min(axis=0)
        first = self.origins_mm[0] + lowest[0] * self.row_step_mm + lowest[1] * self.column_step_mm
        grid = replace(self, origins_mm=first + heights[:, None] * along, thickness_mm=float(step))
        rows, columns = (corners.max(axis=0) - lowest).tolist()
        return EvenLayers(grid, slices, (corners - lowest)[slices], (rows, columns), off)

    def _shift_in_plane(self, along: DoubleArray) -> DoubleArray:
        """(slice, 2) rows and columns by which slices lie off the line that runs `along` from the first one."""
        off_mm = self.origins_mm - self.origins_mm[0] - self.heights_mm[:, None] * along
        steps = np.stack([self.row_step_mm, self.column_step_mm], axis=1)
        return np.asarray(off_mm @ np.linalg.pinv(steps).T, np.float64)


@dataclass(frozen=True, eq=False)
class EvenLayers:
    """An uneven stack on an even grid."""

    grid: SliceGrid  # the layers, in a frame that holds every slice
    slices: AnyArray  # (layer,) number of the slice that each shows
    corners: AnyArray  # (layer, 2) row and column of the frame at which that slice begins
    margin: tuple[int, int]  # rows and columns that the frame has more than a slice
    off: float  # largest error of a slice's extent in layers, as a share of it


class StoredPlanes(NamedTuple):
    """Where slices lie with their rows and columns as stored: PS3.3 C.7.6.2.1.1."""

    positions_mm: DoubleArray  # (slice, 3) centre of each slice's first stored pixel, LPS
    orientation: DoubleArray  # (6,) cosines, along a row, then down a column
    pixel_mm: tuple[float, float]  # from row to row, from column to column


@dataclass(frozen=True)
class PlaneTurn:
    """How a slice's stored rows and columns lie in the standard view (rows front to back, columns right to left).

    First transposed, then flipped; every turn can be undone exactly.
    """

    transpose: bool = False
    flip_rows: bool = False
    flip_columns: bool = False

    @classmethod
    def find(cls, grid: SliceGrid) -> "PlaneTurn":
        """Find the turn that brings stored rows and columns front to back and right to left, as near as they can.

        Those of coronal slices run head to feet and right to left, of sagittal ones head to feet and front to back.
        """
        rows, columns = (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)
        if grid.tilt_to_axial_deg > AXIAL_WITHIN_DEG:
            rows = (0.0, 0.0, -1.0)
            columns = (0.0, 1.0, 0.0) if abs(grid.normal[0]) > abs(grid.normal[1]) else columns
        down, along = grid.row_step_mm / np.linalg.norm(grid.row_step_mm), grid.column_step_mm
        along = along / np.linalg.norm(along)
        transpose = bool(abs(along @ rows) + abs(down @ columns) > abs(along @ columns) + abs(down @ rows))
        down, along = (along, down) if transpose else (down, along)
        return cls(transpose, flip_rows=bool(down @ rows < 0), flip_columns=bool(along @ columns < 0))

    def apply(self, planes: AnyArray) -> AnyArray:
        """(…, row, column) as stored -> as viewed."""
        turned = planes.swapaxes(-1, -2) if self.transpose else planes
        turned = turned[..., ::-1, :] if self.flip_rows else turned
        return turned[..., ::-1] if self.flip_columns else turned

    @property
    def inverse(self) -> "PlaneTurn":
        """The turn from the standard view back; a transposition lets rows and columns change their flips."""
        flips = (self.flip_columns, self.flip_rows) if self.transpose else (self.flip_rows, self.flip_columns)
        return PlaneTurn(self.transpose, *flips)

    def undo(self, planes: AnyArray) -> AnyArray:
        """(…, row, column) as viewed -> as stored."""
        return self.inverse.apply(planes)

    def turn_grid(self, grid: SliceGrid, rows: int, columns: int) -> SliceGrid:
        """Return the grid of the same slices after `apply`, from that of images of so many stored rows and columns."""
        down, along, height, width = grid.row_step_mm, grid.column_step_mm, rows, columns
        if self.transpose:
            down, along, height, width = along, down, width, height
        origins = grid.origins_mm
        if self.flip_rows:
            origins, down = origins + (height - 1) * down, -down
        if self.flip_columns:
            origins, along = origins + (width - 1) * along, -along
        return replace(grid, origins_mm=origins, row_step_mm=down, column_step_mm=along)

    def locate_stored(self, grid: SliceGrid, shape: tuple[int, int]) -> StoredPlanes:
        """Locate the slices with their rows and columns as stored.

        Args:
            grid: in the standard view.
            shape: (rows, columns) in the standard view.
        """
        stored = self.inverse.turn_grid(grid, *shape)
        _, down_mm, across_mm = stored.spacing_mm
        orientation = np.concatenate([stored.column_step_mm / across_mm, stored.row_step_mm / down_mm])
        return StoredPlanes(stored.origins_mm, orientation, (down_mm, across_mm))


@dataclass(frozen=True)
class AxialTurn:
    """How a stack of coronal or sagittal slices is cut into axial ones: its axes in another order, some reversed.

    Nothing is resampled, and every turn can be undone exactly.
    """

    order: tuple[int, int, int]  # which axis of the stack becomes (slice, row, column)
    reverse: tuple[bool, bool, bool]  # which of these run the other way then

    @classmethod
    def find(cls, grid: SliceGrid) -> "AxialTurn | None":
        """Find the turn to slices feet to head, rows front to back, columns right to left, as near as axes can.

        None where slices are nearest to axial already, or uneven, so that they would make uneven rows.
        """
        if len(grid) < 2 or grid.tilt_to_axial_deg <= AXIAL_WITHIN_DEG or not grid.is_even:
            return None
        steps = grid.affine[:3, :3]
        along = (steps / np.linalg.norm(steps, axis=0))[[2, 1, 0]]  # (S, P, L) of each axis
        orders = [(first, second, third) for first, second, third in permutations(range(3))]
        order = max(orders, key=lambda one: sum(abs(along[axis, one[axis]]) for axis in range(3)))
        if order[0] == 0:
            return None
        slices, rows, columns = (bool(along[axis, order[axis]] < 0) for axis in range(3))
        return cls(order, (slices, rows, columns))

    def apply(self, array: AnyArray) -> AnyArray:
        """Turn (slice, row, column) of the stack to axial slices; a view of the same values."""
        return array.transpose(self.order)[self._steps]

    def undo(self, array: AnyArray) -> AnyArray:
        """Turn axial slices back to (slice, row, column) of the stack."""
        return array[self._steps].transpose(np.argsort(self.order))

    def turn_grid(self, grid: SliceGrid, shape: tuple[int, ...]) -> SliceGrid:
        """Return the axial slices' grid of a stack of `shape`."""
        affine = grid.affine.copy()
        affine[:3, :3] = grid.affine[:3, list(self.order)]
        for axis, (source, reverse) in enumerate(zip(self.order, self.reverse, strict=True)):
            if reverse:
                affine[:3, 3] += (shape[source] - 1) * affine[:3, axis]
                affine[:3, axis] *= -1
        return SliceGrid.from_affine(affine, shape[self.order[0]])

    def turn_box(self, box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
        """Return where a box of the stack, of `shape`, lies among the axial slices."""
        return tuple(
            slice(shape[source] - box[source].stop, shape[source] - box[source].start) if reverse else box[source]
            for source, reverse in zip(self.order, self.reverse, strict=True)
        )

    @property
    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if one else 1) for one in self.reverse)
