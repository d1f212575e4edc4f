"""Clinical measures of lesions: side, diameters, ABC/2, distance to the skull.

They are taken on axial slices, whichever way the study's slices run, and from each slice's own place: uneven, tilted
and thin stacks are measured as they lie.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray, FloatArray
from bleedmap.geometry import AxialTurn, SliceGrid
from bleedmap.postprocess import Abc2, Measures, Side, find_box, find_corners, label_in_box
from bleedmap.study.gate.anatomy import BONE_HU, Cavity, find_cavity, grow
from bleedmap.volume import Mask, Volume

MIDLINE_MM = 3.0  # nearer to the middle a voxel counts for neither side
NARROW_MM = 10.0  # what crosses the middle and reaches no farther lies on the midline, not on both sides
_CROSSES = 0.1  # of a lesion's volume on the other side
_WHOLE, _HALF = 0.75, 0.25  # of the largest slice's area: from here on a slice counts whole, or half (Kothari 1996)
_PART_OF_SKULL = 0.05  # of the largest bone's voxels; a calcified pineal gland or plexus has less
_BONE_MM = 0.9  # between the pixels in which the inner table is looked for
_MOST_POINTS = 1500  # of all lesions' surfaces; more lie nearer together than bone is told apart
_RIM_POINTS, _ROUNDS = 500, 15  # of the search for the middle
_TURNED = 0.45  # tangent of a head's turn in the slice from which the search begins anew
_FAR_MM = 6.0  # a point farther off its mirror image counts no more
_LEAST_SHOWN_MM = 25.0  # of the cavity's height; below, its tilt is not told
_MOST_UNLIKE_MM = 3.0  # of CT-ICH's heads 1.1 to 2.9, a newborn's 3.2; of a head cut off beside the middle 3.4 and more
_MOST_TURNED = 0.71  # cosine of 45°: the middle lies nearer to sagittal than to another plane
_BESIDE = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], np.bool_)


@dataclass(frozen=True, eq=False)
class Midplane:
    """The head's own middle, between left and right."""

    normal: DoubleArray  # (3,) unit vector to the patient's left, in LPS
    offset_mm: float  # `normal @ place` of every place on it


def measure_lesions(mask: Mask, volume: Volume, *, sides_known: bool = True) -> tuple[Measures, ...]:
    """Measure the 26-connected lesions of a mask, in the order of `postprocess.lesions`.

    Args:
        mask: in the standard view; its slices may be coronal or sagittal.
        volume: on the mask's grid.
        sides_known: whether the grid tells left from right.
    """
    labels, box = label_in_box(mask.array)
    if not labels.size:
        return ()
    turn = AxialTurn.find(mask.grid)
    if turn is not None:
        box, labels = turn.turn_box(box, volume.hu.shape), turn.apply(labels)
        volume = Volume(turn.apply(volume.hu), turn.turn_grid(mask.grid, volume.hu.shape))
    grid = volume.grid
    corner = tuple(span.start for span in box)
    cavity = find_cavity(volume)
    midplane = find_midplane(cavity, grid) if sides_known else None
    spans = ndimage.find_objects(labels)
    lesions = [labels[span] == number for number, span in enumerate(spans, 1)]
    corners = [tuple(one.start + first for one, first in zip(span, corner, strict=True)) for span in spans]
    skull_mm = _measure_to_skull(lesions, corners, grid, _find_inner_table(cavity, volume.hu, grid))
    return tuple(
        _measure(lesion, at, grid, midplane, near) for lesion, at, near in zip(lesions, corners, skull_mm, strict=True)
    )


def _measure(
    lesion: BoolArray, corner: tuple[int, ...], grid: SliceGrid, midplane: Midplane | None, skull_mm: float | None
) -> Measures:
    """Measure one lesion, (slice, row, column) of its box, which begins at `corner` of the grid."""
    extents_mm = grid.extents_mm[corner[0] : corner[0] + len(lesion)]
    areas = lesion.sum(axis=(1, 2))
    steps = _steps_in_plane(grid)
    axes = [_find_longest(plane, steps) for plane in lesion]
    longest, largest = int(np.argmax([length for length, _ in axes])), int(areas.argmax())
    across_mm = {at: _measure_across(lesion[at], steps, axes[at][1]) for at in {longest, largest}}
    return Measures(
        side=None if midplane is None else _tell_side(lesion, corner, grid, midplane),
        longest_mm=axes[longest][0],
        perpendicular_mm=across_mm[longest],
        height_mm=float(extents_mm.sum()),
        abc2=Abc2(axes[largest][0], across_mm[largest], float(_weigh_slices(areas) @ extents_mm)),
        skull_mm=skull_mm,
    )


def _weigh_slices(areas: AnyArray) -> DoubleArray:
    """(slice,) how much each slice counts for C of ABC/2, by its area beside the largest one (Kothari 1996)."""
    share = areas / areas.max()
    return np.where(share > _WHOLE, 1.0, np.where(share >= _HALF, 0.5, 0.0))


def _steps_in_plane(grid: SliceGrid) -> DoubleArray:
    """(2, 2) way of a row and of a column, in mm, in a frame whose first axis runs along the rows' way."""
    row_mm, column_mm = np.linalg.norm(grid.row_step_mm), np.linalg.norm(grid.column_step_mm)
    along = float(grid.row_step_mm @ grid.column_step_mm / row_mm)  # 0 where rows and columns are at right angles
    return np.array([[row_mm, 0.0], [along, np.sqrt(column_mm**2 - along**2)]])


def _find_longest(plane: BoolArray, steps: DoubleArray) -> tuple[float, DoubleArray]:
    """Largest distance of two outer corners of pixels of a slice, in mm, and its direction, a unit vector."""
    if not plane.any():
        return 0.0, np.zeros(2)
    places = find_corners(plane) @ steps
    apart = places[:, None] - places
    squared = (apart**2).sum(axis=2)
    pair = np.unravel_index(int(squared.argmax()), squared.shape)
    longest = float(np.sqrt(squared[pair]))
    return longest, apart[pair] / longest


def _measure_across(plane: BoolArray, steps: DoubleArray, axis: DoubleArray) -> float:
    """The longest line at right angles to an axis, in mm, between two points of a slice's pixels.

    Args:
        plane: (row, column).
        steps: (2, 2) of a row and of a column.
        axis: (2,) unit vector in the steps' frame.
    """
    steps = steps @ np.stack([axis, (-axis[1], axis[0])], axis=1)  # along the axis, and across
    edge = plane & ~ndimage.binary_erosion(plane, _BESIDE[0])
    middle = np.argwhere(edge) @ steps
    into = np.linalg.inv(steps)  # along and across -> rows and columns, of which a pixel has a half to either side
    reach = np.abs(steps[:, 0]).sum() / 2
    step = np.linalg.norm(steps, axis=1).min() / 4  # between the lines that are tried
    lines = np.ceil((middle[:, :1] - reach) / step).astype(int) + np.arange(int(2 * reach / step) + 1)
    off = lines * step - middle[:, :1]  # of each line from each pixel's middle
    top = np.full(off.shape, np.inf)
    bottom = -top
    for along, across in into.T:  # the pixel's two pairs of sides
        if abs(across) > 1e-9:
            top = np.minimum(top, (0.5 - np.sign(across) * along * off) / abs(across))
            bottom = np.maximum(bottom, (-0.5 - np.sign(across) * along * off) / abs(across))
    crossed = (np.abs(off) <= reach) & (top >= bottom)
    at = lines[crossed] - lines.min()
    high, low = np.full(at.max() + 1, -np.inf), np.full(at.max() + 1, np.inf)
    np.maximum.at(high, at, (middle[:, 1:] + top)[crossed])
    np.minimum.at(low, at, (middle[:, 1:] + bottom)[crossed])
    return float((high - low).max())


def _tell_side(lesion: BoolArray, corner: tuple[int, ...], grid: SliceGrid, midplane: Midplane) -> Side:
    """On which side of the head a lesion lies; 'both' where a tenth of it lies on either and it reaches far."""
    slices, rows, columns = (found + first for found, first in zip(np.nonzero(lesion), corner, strict=True))
    heights = grid.origins_mm @ midplane.normal - midplane.offset_mm
    off_mm = heights[slices] + rows * (grid.row_step_mm @ midplane.normal)
    off_mm += columns * (grid.column_step_mm @ midplane.normal)
    parts = grid.extents_mm[slices]
    parts = parts / parts.sum()
    left, right = float(parts[off_mm > MIDLINE_MM].sum()), float(parts[off_mm < -MIDLINE_MM].sum())
    if min(left, right) >= _CROSSES:
        beyond = float(parts[np.abs(off_mm) > NARROW_MM].sum())
        return "both" if beyond >= _CROSSES else "midline"
    if max(left, right) < 0.5:
        return "midline"
    return "left" if left > right else "right"


def find_midplane(cavity: Cavity, grid: SliceGrid) -> Midplane | None:
    """Find the plane that mirrors the cranial cavity's rim onto itself; None where there is none that does.

    Each point of the rim is mirrored and moved onto the surface through the nearest point there, in a few rounds of
    least squares in which far ones count little (Chen and Medioni, Image and Vision Computing 10(3), 1992).

    Args:
        cavity: of an axial volume.
    """
    shown = np.flatnonzero(cavity.shown)
    heights_mm = grid.heights_mm[cavity.coarse.numbers[shown]]
    if len(shown) < 3 or heights_mm[-1] - heights_mm[0] < _LEAST_SHOWN_MM:
        return None
    steps_mm = np.stack([grid.row_step_mm * cavity.coarse.steps[1], grid.column_step_mm * cavity.coarse.steps[2]])
    across = steps_mm[1] / np.linalg.norm(steps_mm[1])
    back = np.cross(grid.normal, across)
    frame = np.stack([across, back, grid.normal], axis=1)  # to the left, the back, the head, as near as slices lie
    inside = cavity.inside[shown]
    rim = np.nonzero(inside & ~ndimage.binary_erosion(inside, _BESIDE, border_value=1))
    in_plane = np.stack(rim[1:], axis=1) @ steps_mm
    places = (grid.origins_mm[cavity.coarse.numbers[shown[rim[0]]]] + in_plane) @ frame
    outward = _slope_outward(inside, rim, heights_mm, np.linalg.norm(steps_mm, axis=1))
    normal, offset, unlike = _mirror(places, outward, 0.0)
    if unlike > _MOST_UNLIKE_MM:  # the head may be turned so far that another plane was nearer
        tried = [_mirror(places, outward, turned) for turned in (-_TURNED, _TURNED)]
        normal, offset, unlike = min([(normal, offset, unlike), *tried], key=lambda one: one[2])
    normal = frame @ normal
    if unlike > _MOST_UNLIKE_MM or normal[0] < _MOST_TURNED:
        return None
    return Midplane(normal, offset)


def _slope_outward(
    inside: BoolArray, rim: tuple[AnyArray, ...], heights_mm: DoubleArray, pixel_mm: DoubleArray
) -> DoubleArray:
    """(point, 3) unit vectors out of the cavity at the rim's points: along columns, rows, slices."""
    span = [slice(max(0, int(one.min()) - 1), int(one.max()) + 2) for one in rim[1:]]
    smooth = ndimage.gaussian_filter(inside[:, span[0], span[1]].astype(np.float32), (0.6, 1.5, 1.5), truncate=2.0)
    at = rim[0], rim[1] - span[0].start, rim[2] - span[1].start
    slopes = np.stack([-np.asarray(one)[at] for one in np.gradient(smooth, heights_mm, *pixel_mm)][::-1], axis=1)
    return np.asarray(slopes / np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 1e-9), np.float64)


def _mirror(places: DoubleArray, outward: DoubleArray, turned: float) -> tuple[DoubleArray, float, float]:
    """(point, 3) of a surface and its unit normals -> unit normal and offset of its mirror plane, and what is left.

    The plane runs through the middle, shifted along x, and leans by two slopes: three unknowns. `turned`: the first of
    the slopes, to begin with.
    """
    tree, middle = KDTree(places), places.mean(axis=0)
    points = places[:: max(1, len(places) // _RIM_POINTS)]

    def plane(lean: DoubleArray) -> tuple[DoubleArray, float]:
        normal = np.array([1.0, -lean[1], -lean[2]])
        size = np.linalg.norm(normal)
        return normal / size, float((normal @ middle + lean[0]) / size)

    def mirrored(lean: DoubleArray) -> DoubleArray:
        normal, offset = plane(lean)
        return points - 2 * (points @ normal - offset)[:, None] * normal

    lean = np.array([0.0, turned, 0.0])
    left = np.zeros(len(points))
    small = np.array([0.1, 1e-3, 1e-3])
    for _ in range(_ROUNDS):
        there = mirrored(lean)
        near = tree.query(there)[1]
        left = ((there - places[near]) * outward[near]).sum(axis=1)
        change = np.stack([((mirrored(lean + by) - there) * outward[near]).sum(axis=1) / by.sum()
            for by in np.diag(small)], axis=1)  # fmt: skip
        usual = 1.4826 * float(np.median(np.abs(left))) + 0.3
        weight = 1 / (1 + (left / (2 * usual)) ** 2)
        weighted = change.T * weight
        move = np.linalg.solve(weighted @ change + np.diag([1e-3, 1e3, 1e3]), weighted @ left)
        lean -= move
        if np.abs(move * (1, 80, 60)).max() < 0.2:  # mm at the head's ends
            break
    return *plane(lean), float(np.mean(np.minimum(np.abs(left), _FAR_MM)))


def _measure_to_skull(
    lesions: list[BoolArray], corners: list[tuple[int, ...]], grid: SliceGrid, table_mm: DoubleArray
) -> list[float | None]:
    """Each lesion's smallest distance, voxel to voxel, to the points of the inner table; None where none is seen."""
    if not len(table_mm):
        return [None] * len(lesions)
    surfaces = [np.argwhere(one & ~ndimage.binary_erosion(one)) for one in lesions]
    every = max(1, sum(map(len, surfaces)) // _MOST_POINTS)
    tree = KDTree(table_mm)
    found: list[float | None] = []
    for surface, corner in zip(surfaces, corners, strict=True):
        slices, rows, columns = (surface[::every] + corner).T
        places = grid.origins_mm[slices] + rows[:, None] * grid.row_step_mm + columns[:, None] * grid.column_step_mm
        found.append(float(np.min(tree.query(places)[0])))
    return found


def _find_inner_table(cavity: Cavity, hu: FloatArray, grid: SliceGrid) -> DoubleArray:
    """(point, 3) where bone of the skull begins around the cavity, in LPS mm.

    Looked for on the cavity's slices, every millimetre or so. Bone that lies apart from the skull, as a calcified
    gland, is none.
    """
    labels, count = ndimage.label(cavity.coarse.hu > BONE_HU, np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    skull = (sizes >= max(1.0, _PART_OF_SKULL * sizes.max()))[labels]
    near = grow(cavity.inside, 2) & grow(skull, 2)
    if not near.any():
        return np.empty((0, 3))
    box = find_box(near)
    finer = [max(1, round(_BONE_MM / mm)) for mm in grid.spacing_mm[1:]]
    rows, columns = (
        np.arange(span.start * coarse, min(span.stop * coarse, count), fine)
        for span, coarse, count, fine in zip(box[1:], cavity.coarse.steps[1:], hu.shape[1:], finer, strict=True)
    )
    looked_at = slice(rows[0], rows[-1] + 1, finer[0]), slice(columns[0], columns[-1] + 1, finer[1])
    bone = hu[(slice(None, None, cavity.coarse.steps[0]), *looked_at)] > BONE_HU
    near = near[:, rows // cavity.coarse.steps[1]][:, :, columns // cavity.coarse.steps[2]]
    rim = bone & near & grow(~bone, 1)
    slices, down, right = np.nonzero(rim)
    in_plane = rows[down][:, None] * grid.row_step_mm + columns[right][:, None] * grid.column_step_mm
    return grid.origins_mm[cavity.coarse.numbers[slices]] + in_plane
