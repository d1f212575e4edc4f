"""Split the planes of one series into stacks, and put each stack's slices in order and in their exact places.

Scouts, other sizes, angles and passes over the head are set apart first. Order follows position along the normal, never
file names or instance numbers: DICOM PS3.3 C.7.6.2.1.1. Nothing is resampled: a gantry's tilt, uneven or missing slices
are kept in the grid. What no grid can say is refused.
"""

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bleedmap.arrays import DoubleArray
from bleedmap.errors import InputError
from bleedmap.geometry import EVEN_WITHIN_MM, PlaneTurn, SliceGrid
from bleedmap.io.dicom.header import text
from bleedmap.io.dicom.planes import MOST_SLICES, Plane, sop_class

PARALLEL_WITHIN_DEG = 1.0
AXIAL_WITHIN_DEG = 45.0
SAME_PLACE_MM = 0.05  # slices nearer than this are one place; thin overlapping slices are 0.1 mm apart or more
LARGEST_GAP_MM = 30.0  # beyond it the slices beside a gap would stand for more than a head's structure
_OBLIQUE_FROM_DEG = 30.0
_COSINE_WITHIN = 1e-3  # of unit length and right angles; files round to 6 digits, some to 4
_SPACING_MM = (0.05, 5.0)
_SIDE_PIXELS = (32, 2048)
_LARGEST_SHEAR_DEG = 45.0
_TURNED_FROM_DEG = 0.1
_TILT_AGREES_DEG = 1.0
_STACK = 4  # slices: fewer are no pass over the head


@dataclass(frozen=True, eq=False)
class Stack:
    """Planes of one series that agree in kind, size, angle and pass.

    Attributes:
        planes: in the order of the files.
        part, parts: its number from 1 among those of its series.
        differs: in what the parts differ, in words; '' for an only part.
        kind: what all its planes share but their angle; stacks of equal kind differ by angle or pass.
    """

    planes: tuple[Plane, ...]
    part: int
    parts: int
    differs: str
    kind: Hashable

    def turned_against(self, other: "Stack") -> float | None:
        """Return the angle in degrees to another stack of the same kind; None for others, and parallel ones."""
        if self.kind != other.kind or not (self.planes[0].has_place and other.planes[0].has_place):
            return None
        angle = angle_deg(self.planes[0], other.planes[0])
        return angle if angle > PARALLEL_WITHIN_DEG else None


def split_into_stacks(planes: Sequence[Plane]) -> list[Stack]:
    """Split the planes of one series into stacks, the largest first."""
    reasons: list[str] = []
    parts = [(_find_kind(group[0]), group) for group in _group_planes(planes, _find_kind, reasons, "kind or size")]
    parts = [(kind, part) for kind, group in parts for part in _split_by_angle(group, reasons)]
    parts = [(kind, part) for kind, group in parts for part in _split_by_pass(group, reasons)]
    parts.sort(key=lambda one: -len(one[1]))
    differs = ", ".join(dict.fromkeys(reasons))
    return [Stack(tuple(part), number, len(parts), differs, kind) for number, (kind, part) in enumerate(parts, start=1)]


def _group_planes(
    planes: Iterable[Plane], key: Callable[[Plane], Hashable], reasons: list[str], reason: str
) -> list[list[Plane]]:
    groups: dict[Hashable, list[Plane]] = {}
    for plane in planes:
        groups.setdefault(key(plane), []).append(plane)
    if len(groups) > 1:
        reasons.append(reason)
    return list(groups.values())


def _find_kind(plane: Plane) -> Hashable:
    """Tell planes apart by image type (ORIGINAL, AXIAL …), size, pixel spacing, frame of reference and class."""
    spacing = tuple(round(one, 3) for one in plane.spacing_mm)
    frame = text(plane.file.header, "FrameOfReferenceUID")
    kind = (plane.image_type[:1], plane.image_type[2:3])
    one_file = plane.file if plane.frame is not None else None  # results refer to one multi-frame instance
    return sop_class(plane.file), one_file, kind, plane.rows, plane.columns, spacing, frame, plane.has_place


def _split_by_angle(planes: Sequence[Plane], reasons: list[str]) -> list[list[Plane]]:
    if not planes[0].has_place:
        return [list(planes)]
    groups: list[list[Plane]] = []
    for plane in planes:
        near = (group for group in groups if angle_deg(group[0], plane) <= PARALLEL_WITHIN_DEG)
        group = next(near, None)
        if group is None:
            groups.append([plane])
        else:
            group.append(plane)
    if len(groups) > 1:
        reasons.append("angle")
    return groups


def _split_by_pass(planes: Sequence[Plane], reasons: list[str]) -> list[list[Plane]]:
    """Split planes that take places twice by acquisition number or time, if that leaves whole stacks without doubles.

    A number or time for each slice, as in a sequential scan, sets none apart.
    """
    if not planes[0].has_place:
        return [list(planes)]
    places = _count_places(planes)
    if places == len(planes):
        apart = _group_planes(planes, lambda plane: plane.moments[0], [], "")
        if not _are_interleaved(apart):
            return [list(planes)]
        reasons.append("pass over the head")
        return apart
    for column in range(len(planes[0].moments)):
        apart = _group_planes(planes, lambda plane: plane.moments[column], [], "")  # noqa: B023 - called at once
        if (
            len(apart) > 1
            and all(_count_places(group) == len(group) for group in apart)
            and (max(map(len, apart)) > places / 2)
        ):
            reasons.append("pass over the head")
            return apart
    return [list(planes)]


def _are_interleaved(apart: Sequence[Sequence[Plane]]) -> bool:
    """Whether two acquisitions of several slices cover the same heights, as two passes do.

    Skull base and vertex scanned one after the other do not, nor do slices with a number each.
    """
    if len(apart) < 2 or min(map(len, apart)) < _STACK:
        return False
    spans = sorted((float(np.min(heights)), float(np.max(heights))) for heights in map(heights_mm, apart))
    return any(
        min(high, next_high) - next_low > (next_high - next_low) / 2
        for (_, high), (next_low, next_high) in itertools.pairwise(spans)
    )


def _count_places(planes: Sequence[Plane]) -> int:
    heights = np.sort(heights_mm(planes))
    return 1 + int((np.diff(heights) > SAME_PLACE_MM).sum())


def angle_deg(one: Plane, other: Plane) -> float:
    """Return the largest angle between the rows, or the columns, of two planes."""
    mine, theirs = np.reshape(one.orientation, (2, 3)), np.reshape(other.orientation, (2, 3))
    chords = np.linalg.norm(mine - theirs, axis=1)  # exact for small angles, where an arc cosine is not
    return float(np.degrees(2 * np.arcsin(np.clip(chords.max() / 2, 0, 1))))


def check_plane(plane: Plane) -> None:
    """Refuse a plane whose place or size is missing or cannot be.

    Raises:
        InputError: says what, with figures.
    """
    rows, down = np.reshape(plane.orientation or (np.nan,) * 6, (2, 3))
    lengths = np.array([np.linalg.norm(rows), np.linalg.norm(down)])
    low, high = _SPACING_MM
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"):
        if not (reading := plane.readings[keyword]).numbers:
            raise InputError(
                plane.name, found=reading.found, needed="the place and size of every slice", remedy=reading.remedy
            )
    if np.abs(lengths - 1).max() > _COSINE_WITHIN or abs(rows @ down) > _COSINE_WITHIN:
        found = (
            f"direction cosines of length {lengths[0]:.4f} and {lengths[1]:.4f}, {rows @ down:+.4f} off right angles"
        )
        raise _refuse_value(plane, "ImageOrientationPatient", found, "unit vectors at right angles")
    if not all(low < one <= high for one in plane.spacing_mm):
        found = f"pixels of {plane.spacing_mm[0]:g} × {plane.spacing_mm[1]:g} mm"
        raise _refuse_value(plane, "PixelSpacing", found, f"more than {low:g} and at most {high:g} mm")
    if max(map(abs, plane.position_mm)) > 1e5:
        found = f"a position of {plane.position_mm} mm"
        raise _refuse_value(plane, "ImagePositionPatient", found, "a place within 100 m of the scanner")
    if not all(_SIDE_PIXELS[0] <= one <= _SIDE_PIXELS[1] for one in (plane.rows, plane.columns)):
        found = f"{plane.rows:,} rows of {plane.columns:,} pixels"
        raise _refusal(plane.name, found, f"{_SIDE_PIXELS[0]} to {_SIDE_PIXELS[1]:,} of either")
    if not plane.tilt_to_axial_deg <= AXIAL_WITHIN_DEG:
        found = f"planes turned {plane.tilt_to_axial_deg:.0f}° from axial"
        raise _refusal(plane.name, found, f"axial slices, or oblique up to {AXIAL_WITHIN_DEG:.0f}°")


def _refuse_value(plane: Plane, keyword: str, found: str, needed: str) -> InputError:
    reading = plane.readings[keyword]
    return InputError(plane.name, found=f"{found}, by {reading.name}", needed=needed, remedy=reading.remedy)


def heights_mm(planes: Sequence[Plane]) -> DoubleArray:
    """Return (plane,) places along the first plane's normal, towards the head."""
    return np.asarray(np.array([plane.position_mm for plane in planes]) @ planes[0].normal, np.float64)


def order_planes(planes: Sequence[Plane]) -> tuple[tuple[Plane, ...], ...]:
    """Check planes and order them feet to head, those at one place together.

    Raises:
        InputError: as `check_plane`; planes that are not parallel or of one size, or too many.
    """
    first = planes[0]
    for plane in planes:
        check_plane(plane)
        if (plane.rows, plane.columns) != (first.rows, first.columns):
            found = f"{plane.rows} × {plane.columns} pixels, where others have {first.rows} × {first.columns}"
            raise _refusal(plane.name, found, "images of one size")
        if angle_deg(first, plane) > PARALLEL_WITHIN_DEG:
            found = f"a plane turned {angle_deg(first, plane):.1f}° against the first"
            raise _refusal(plane.name, found, f"parallel planes, within {PARALLEL_WITHIN_DEG:g}°")
    heights = heights_mm(planes)
    order = np.argsort(heights, kind="stable")
    starts = np.flatnonzero(np.diff(heights[order]) > SAME_PLACE_MM) + 1
    places = tuple(tuple(planes[index] for index in part) for part in np.split(order, starts))
    if len(places) > MOST_SLICES:
        raise _refusal(first.file.place.path, f"{len(places):,} slices", f"at most {MOST_SLICES:,}")
    return places


def build_stored_grid(planes: Sequence[Plane]) -> SliceGrid:
    """Build the grid of slices in order, with rows and columns as stored.

    Raises:
        InputError: a gap that is too large, a shear beyond any gantry, or a lone slice without thickness.
    """
    first = planes[0]
    cosines = np.mean([plane.orientation for plane in planes], axis=0)
    row_mm, column_mm = np.mean([plane.spacing_mm for plane in planes], axis=0)
    if len(planes) == 1 and first.thickness_mm is None:
        found = f"a single slice without thickness; {first.readings['SliceThickness'].found}"
        raise _refusal(first.name, found, "a thickness, or several slices")
    grid = SliceGrid(
        origins_mm=np.array([plane.position_mm for plane in planes], np.float64),
        row_step_mm=np.asarray(cosines[3:] * row_mm, np.float64),
        column_step_mm=np.asarray(cosines[:3] * column_mm, np.float64),
        thickness_mm=first.thickness_mm or float(np.diff(heights_mm(planes)).min()),
    )
    gaps = np.diff(grid.heights_mm)
    if gaps.max(initial=0) > LARGEST_GAP_MM:
        at = int(gaps.argmax())
        found = f"a gap of {gaps[at]:.1f} mm between slices {at + 1} and {at + 2} (median {np.median(gaps):.2f} mm)"
        raise _refusal(first.file.place.path, found, f"slices no more than {LARGEST_GAP_MM:g} mm apart")
    if grid.shear_deg > _LARGEST_SHEAR_DEG:
        found = f"slices that follow one another at {grid.shear_deg:.0f}° to their normal"
        raise _refusal(first.file.place.path, found, f"a gantry tilt of at most {_LARGEST_SHEAR_DEG:.0f}°")
    return grid


def find_standard_turn(grid: SliceGrid) -> PlaneTurn:
    """Find the turn that brings stored rows and columns front to back and right to left, as near as they can."""
    down, along = grid.row_step_mm / np.linalg.norm(grid.row_step_mm), grid.column_step_mm
    along = along / np.linalg.norm(along)
    transpose = bool(abs(along[1]) + abs(down[0]) > abs(along[0]) + abs(down[1]))
    down, along = (along, down) if transpose else (down, along)
    return PlaneTurn(transpose, flip_rows=bool(down[1] < 0), flip_columns=bool(along[0] < 0))


def turn_grid(grid: SliceGrid, turn: PlaneTurn, rows: int, columns: int) -> SliceGrid:
    """Return the grid of the same slices after `turn.apply`.

    Args:
        grid: as stored.
        turn: to the standard view.
        rows, columns: of the stored images.
    """
    down, along, height, width = grid.row_step_mm, grid.column_step_mm, rows, columns
    if turn.transpose:
        down, along, height, width = along, down, width, height
    origins = grid.origins_mm
    if turn.flip_rows:
        origins, down = origins + (height - 1) * down, -down
    if turn.flip_columns:
        origins, along = origins + (width - 1) * along, -along
    return replace(grid, origins_mm=origins, row_step_mm=down, column_step_mm=along)


class StoredPlanes(NamedTuple):
    """Where slices lie with their rows and columns as stored: PS3.3 C.7.6.2.1.1.

    Attributes:
        positions_mm: (slice, 3) centre of each slice's first stored pixel, LPS.
        orientation: (6,) cosines, along a row, then down a column.
        pixel_mm: from row to row, from column to column.
    """

    positions_mm: DoubleArray
    orientation: DoubleArray
    pixel_mm: tuple[float, float]


def locate_stored_planes(grid: SliceGrid, shape: tuple[int, int], turn: PlaneTurn) -> StoredPlanes:
    """Locate a grid's slices with their rows and columns as stored.

    Args:
        grid: in the standard view.
        shape: (rows, columns) in the standard view.
        turn: from the stored rows and columns to that view.
    """
    down, across, first = grid.row_step_mm, grid.column_step_mm, np.zeros(3)
    if turn.flip_rows:
        first, down = first + (shape[0] - 1) * down, -down
    if turn.flip_columns:
        first, across = first + (shape[1] - 1) * across, -across
    if turn.transpose:
        down, across = across, down
    down_mm, across_mm = float(np.linalg.norm(down)), float(np.linalg.norm(across))
    orientation = np.concatenate([across / across_mm, down / down_mm])
    return StoredPlanes(grid.origins_mm + first, orientation, (down_mm, across_mm))


def describe_geometry(grid: SliceGrid, planes: Sequence[Plane], stated_tilt_deg: float | None) -> tuple[str, ...]:
    """Describe what a reader should know of the slices' geometry, each in a sentence with its figures."""
    found = [*_describe_angles(grid, planes, stated_tilt_deg), *_describe_gaps(grid, planes)]
    return tuple(found)


def _describe_angles(grid: SliceGrid, planes: Sequence[Plane], stated_deg: float | None) -> list[str]:
    notes = []
    shear = grid.shear_deg if len(grid) > 1 else 0.0
    shift = grid.slice_step_mm - (grid.slice_step_mm @ grid.normal) * grid.normal  # within the planes
    if shear > 0.5:
        sideways = abs(shift[0]) > np.linalg.norm(shift[1:])
        kind = "The table moved sideways: slices are shifted by" if sideways else "The gantry was tilted by"
        notes.append(f"{kind} {shear:.1f}°; each slice is kept in its own place, nothing is resampled.")
    if stated_deg is not None and len(grid) > 1 and abs(abs(stated_deg) - shear) > _TILT_AGREES_DEG:
        notes.append(
            f"The header states a gantry tilt of {abs(stated_deg):.1f}°, the slices' positions one of {shear:.1f}°; "
            "the positions were used."
        )
    if grid.tilt_to_axial_deg >= _OBLIQUE_FROM_DEG:
        notes.append(f"The slices are oblique: {grid.tilt_to_axial_deg:.0f}° from axial.")
    turned_deg = max(angle_deg(planes[0], plane) for plane in planes)
    if turned_deg > _TURNED_FROM_DEG:
        notes.append(f"The slices are turned against each other by up to {turned_deg:.2f}°; the mean was used.")
    return notes


def _describe_gaps(grid: SliceGrid, planes: Sequence[Plane]) -> list[str]:
    if len(grid) < 3:
        return []
    notes = []
    gaps = np.diff(grid.heights_mm)
    usual = float(np.median(gaps))
    missing = [(at, round(gap / usual) - 1) for at, gap in enumerate(gaps) if _is_multiple(gap, usual)]
    if len(missing) > len(gaps) / 4:
        missing = []  # rather a second, wider spacing
    if missing:
        places = ", ".join(f"{at + 1} and {at + 2}" for at, _ in missing[:5]) + (", …" if len(missing) > 5 else "")
        count = sum(one for _, one in missing)
        notes.append(
            f"{count} slice{'s seem' if count > 1 else ' seems'} to be missing, between slices {places}: gaps of up to "
            f"{gaps.max():.1f} mm where {usual:.2f} mm is usual. The slices beside a gap stand for half of it each."
        )
    others = np.delete(gaps, [at for at, _ in missing])
    if others.max() - others.min() > EVEN_WITHIN_MM:
        notes.append(
            f"The slices are uneven, {others.min():.2f} to {others.max():.2f} mm apart; each counts with its own."
        )
    thickness = planes[0].thickness_mm or 0.0
    if thickness > 0 and usual < 0.95 * thickness:
        notes.append(f"The slices overlap: {thickness:g} mm thick, {usual:.2f} mm apart.")
    elif thickness > 0 and usual > 1.1 * thickness:
        notes.append(f"There are gaps between all slices: {thickness:g} mm thick, {usual:.2f} mm apart.")
    sideways = grid.origins_mm - np.outer(grid.heights_mm, grid.normal)
    line = np.polynomial.polynomial.polyfit(grid.heights_mm, sideways, 1)
    off = np.linalg.norm(sideways - line[0] - np.outer(grid.heights_mm, line[1]), axis=1).max()
    if off > 0.5:
        notes.append(f"The slices are shifted in plane against each other by up to {off:.1f} mm; each keeps its place.")
    return notes


def _is_multiple(gap: float, usual: float) -> bool:
    """Whether whole slices are missing: twice the usual distance or more, within a tenth of one."""
    times = round(gap / usual)
    return times >= 2 and abs(gap - times * usual) <= 0.1 * usual


def _refusal(subject: object, found: str, needed: str) -> InputError:
    return InputError(str(subject), found=found, needed=needed, remedy="export the original axial series again")
