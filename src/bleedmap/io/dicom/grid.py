"""Where the planes of one stack lie: checked one by one, in order along their normal, and as a grid.

Order follows position, never file names or instance numbers: DICOM PS3.3 C.7.6.2.1.1. Nothing is resampled: a gantry's
tilt, uneven or missing slices are kept in the grid. What no grid can say is refused.
"""

from collections.abc import Sequence

import numpy as np

from bleedmap.arrays import DoubleArray
from bleedmap.errors import InputError
from bleedmap.geometry import EVEN_WITHIN_MM, SliceGrid
from bleedmap.io.dicom.planes import MOST_SLICES, Plane

PARALLEL_WITHIN_DEG = 1.0
SAME_PLACE_MM = 0.05  # slices nearer than this are one place; thin overlapping slices are 0.1 mm apart or more
LARGEST_GAP_MM = 30.0  # beyond it the slices beside a gap would stand for more than a head's structure
_OBLIQUE_FROM_DEG = 30.0
_COSINE_WITHIN = 1e-3  # of unit length and right angles; files round to 6 digits, some to 4
_SPACING_MM = (0.05, 5.0)
_SIDE_PIXELS = (32, 2048)
_LARGEST_SHEAR_DEG = 45.0
_TURNED_FROM_DEG = 0.1
_TILT_AGREES_DEG = 1.0


def count_places(planes: Sequence[Plane]) -> int:
    """Return at how many places planes lie."""
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


def describe_geometry(grid: SliceGrid, planes: Sequence[Plane]) -> list[str]:
    """Describe what a reader should know of the slices' geometry, each in a sentence with its figures."""
    notes, stated_deg = [], planes[0].stated_tilt_deg
    shear = grid.shear_deg if len(grid) > 1 else 0.0
    shift = grid.slice_step_mm - (grid.slice_step_mm @ grid.normal) * grid.normal  # within the planes
    if shear > 0.5:
        sideways = abs(shift[0]) > np.linalg.norm(shift[1:])
        kind = "The table moved sideways: slices are shifted by" if sideways else "The gantry was tilted by"
        notes.append(f"{kind} {shear:.1f}°; each slice is kept in its own place, nothing is resampled.")
    # Sizes are compared, signs are not: the CT Image IOD defines none, and makers differ (a GE HiSpeed states +18.5°
    # where `gantry_tilt_deg` is -18.5°).
    if stated_deg is not None and len(grid) > 1 and abs(abs(stated_deg) - shear) > _TILT_AGREES_DEG:
        notes.append(
            f"The header states a gantry tilt of {stated_deg:.1f}°, the slices' positions one of {shear:.1f}°; "
            "the positions were used."
        )
    if grid.tilt_to_axial_deg >= _OBLIQUE_FROM_DEG:
        notes.append(f"The slices are oblique: {grid.tilt_to_axial_deg:.0f}° from axial.")
    turned_deg = max(angle_deg(planes[0], plane) for plane in planes)
    if turned_deg > _TURNED_FROM_DEG:
        notes.append(f"The slices are turned against each other by up to {turned_deg:.2f}°; the mean was used.")
    return [*notes, *_describe_gaps(grid, planes)]


def _describe_gaps(grid: SliceGrid, planes: Sequence[Plane]) -> list[str]:
    if len(grid) < 3:
        return []
    notes = []
    gaps = np.diff(grid.heights_mm)
    usual = float(np.median(gaps))
    missing = [(at, round(gap / usual) - 1) for at, gap in enumerate(gaps) if _is_multiple(gap, usual)]
    if len(missing) > max(1, len(gaps) / 4):
        missing = []  # rather a second, wider spacing
    if missing:
        places = ", ".join(f"{at + 1} and {at + 2}" for at, _ in missing[:5]) + (", …" if len(missing) > 5 else "")
        count = sum(one for _, one in missing)
        notes.append(
            f"{count} slice{'s seem' if count > 1 else ' seems'} to be missing, between slices {places}: gaps of up to "
            f"{gaps.max():.1f} mm where {usual:.2f} mm is usual. The slices beside a gap stand for half of it each."
        )
    others = np.delete(gaps, [at for at, _ in missing])
    if others.max() - others.min() > EVEN_WITHIN_MM and not grid.is_even:
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
