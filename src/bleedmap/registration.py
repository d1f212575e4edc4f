"""Lay two head CTs of one patient upon each other: a rigid motion found by the skull, and how well the skulls fit.

Both volumes are brought to one even lattice. Masked cross-correlation (Padfield 2012, IEEE Trans Image Process 21:2706)
finds the shift for some turns of the head; Gauss-Newton steps on the difference of HU around the bone refine the best
ones, from coarse to fine, with Huber's weights, so that what has moved or grown in between counts less. No volume is
changed: the motion only says which places belong together.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray, FloatArray
from bleedmap.geometry import SliceGrid
from bleedmap.volume import Volume

_LATTICE_MM, _SEARCH_MM = 2.5, 7.5
_MARGIN_MM = 15.0  # of the lattice around the skull: the scalp
_SHOWN_HU = (-150.0, 850.0)  # differences beyond these values tell nothing of the head's place
_BONE_HU = 200.0  # on the lattice, where thin bone is mixed with its neighbours
_AIR_HU = -1000.0
_AROUND_BONE_MM = 8.0
_MOST_POINTS = 12_000
_HUBER_HU = 60.0
_TURNS_DEG = (0.0, 16.0)  # of the head, about each axis and about two at a time: half as much more is within reach
_LEAST_COMMON = 0.45  # of the smaller skull, in the common coverage: less says nothing of the whole
_REFINED = 2  # of the best turns
_BLURS_MM = (5.0, 2.5, 1.2)
_STEPS = 15
SAME_HEAD = 0.75  # correlation around the skull from which on two volumes show one head (docs/measured.md)
LEAST_DEPTH_MM = 27.0  # of common skull; of six slices of 5 mm a motion is found within 2 mm, of four only within 12
_SMALL_MM = 0.01  # a step that moves the skull less ends the refinement


@dataclass(frozen=True, eq=False)
class Alignment:
    """The motion from a first volume to a second one."""

    matrix: DoubleArray  # 4×4, LPS mm of the first -> LPS mm of the second
    skull_overlap: float  # Dice of both skulls where both volumes show the head; 0 where they have nothing in common
    correlation: float  # of HU around the skull there
    common: float  # share of the smaller skull that lies in the common coverage
    depth_mm: float  # of the skull there, along its shortest axis: a few slices leave the motion open

    @property
    def fits(self) -> bool:
        """Whether the two volumes show one head, aligned."""
        return self.correlation >= SAME_HEAD and self.common >= _LEAST_COMMON and self.depth_mm >= LEAST_DEPTH_MM

    @property
    def turn_deg(self) -> float:
        """Angle of the head's turn."""
        return float(np.degrees(Rotation.from_matrix(self.matrix[:3, :3]).magnitude()))

    def to_second(self, places_mm: AnyArray) -> DoubleArray:
        """(…, 3) places of the first -> of the second."""
        return np.asarray(places_mm @ self.matrix[:3, :3].T + self.matrix[:3, 3], np.float64)

    def to_first(self, places_mm: AnyArray) -> DoubleArray:
        """(…, 3) places of the second -> of the first."""
        return np.asarray((places_mm - self.matrix[:3, 3]) @ self.matrix[:3, :3], np.float64)


@dataclass(frozen=True, eq=False)
class _Lattice:
    """A volume on an even lattice along L, P and S; index order (x, y, z)."""

    hu: FloatArray  # clipped; what lies outside the volume is air
    seen: BoolArray  # whether it lies inside
    skull: BoolArray  # the largest connected bone
    origin_mm: DoubleArray  # of the first voxel
    step_mm: float  # between voxels

    def index(self, places_mm: AnyArray) -> DoubleArray:
        return np.asarray((places_mm - self.origin_mm) / self.step_mm, np.float64)

    def places(self, where: BoolArray) -> DoubleArray:
        return np.asarray(np.argwhere(where) * self.step_mm + self.origin_mm, np.float64)


def align(first: Volume, second: Volume) -> Alignment:
    """Find the rigid motion between two volumes of one head, of any spacing, tilt, orientation and coverage.

    It always gives the best that it finds; whether the heads fit, `fits` says.
    """
    fixed, moving = _to_lattice(first), _to_lattice(second)
    if not fixed.skull.any() or not moving.skull.any():
        return Alignment(np.eye(4), 0.0, 0.0, 0.0, 0.0)
    begun = sorted(_search(fixed, moving), key=lambda one: -one[0])[:_REFINED]
    refined = [_refine(fixed, moving, motion) for _, motion in begun]
    rated = [_rate(fixed, moving, motion) for motion in refined]
    return max(rated, key=lambda one: one.correlation if one.common >= _LEAST_COMMON else one.correlation - 2)


def sample(volume: Volume, places_mm: DoubleArray) -> tuple[FloatArray, BoolArray]:
    """HU at some places, interpolated, and whether each lies in the volume, with what its outermost slices stand for.

    Args:
        places_mm: (…, 3) LPS mm.

    Returns:
        (…,) HU, air outside; (…,) bool.
    """
    index = volume.grid.to_index(places_mm)
    values = ndimage.map_coordinates(volume.hu, np.moveaxis(index, -1, 0), order=1, mode="nearest")
    inside = lies_inside(index, volume.hu.shape)
    return np.where(inside, values, np.float32(_AIR_HU)), inside


def lies_inside(index: AnyArray, shape: tuple[int, ...]) -> BoolArray:
    """Whether each index (…, 3) lies in a volume of `shape`, with what its outermost voxels stand for, (…,)."""
    return np.asarray(np.all((index >= -0.5) & (index <= np.array(shape) - 0.5), axis=-1))


def find_voxels(index: AnyArray, shape: tuple[int, ...]) -> tuple[AnyArray, ...]:
    """Find the voxel nearest to each index (…, 3) in a volume of `shape`, an array (…,) for each axis."""
    return tuple(np.moveaxis(np.clip(np.rint(index), 0, np.array(shape) - 1).astype(int), -1, 0))


def _to_lattice(volume: Volume) -> _Lattice:
    coarse = _coarsen(volume)
    shape, grid = np.array(coarse.hu.shape), coarse.grid
    ends = np.array(np.meshgrid(*[(-0.5, count - 0.5) for count in shape[1:]], indexing="ij")).reshape(2, -1).T
    corners = np.concatenate(
        [grid.origins_mm[[0, -1], None] + ends @ np.stack([grid.row_step_mm, grid.column_step_mm])]
    )
    beyond = grid.normal * grid.extents_mm.max()
    corners = np.concatenate([corners.reshape(-1, 3) - beyond, corners.reshape(-1, 3) + beyond])
    low, high = corners.min(axis=0), corners.max(axis=0)
    counts = np.ceil((high - low) / _LATTICE_MM).astype(int) + 1
    hu, seen = np.empty(counts, np.float32), np.empty(counts, np.bool_)
    y, z = np.meshgrid(*(low[axis] + np.arange(counts[axis]) * _LATTICE_MM for axis in (1, 2)), indexing="ij")
    for x in range(counts[0]):
        places = np.stack([np.full_like(y, low[0] + x * _LATTICE_MM), y, z], axis=-1)
        hu[x], seen[x] = sample(coarse, places)
    return _cut(_Lattice(np.clip(hu, *_SHOWN_HU), seen, _largest(hu > _BONE_HU), low, _LATTICE_MM))


def _cut(lattice: _Lattice) -> _Lattice:
    """The part around the skull."""
    found = ndimage.find_objects(lattice.skull.astype(np.uint8))
    if not found:
        return lattice
    margin = round(_MARGIN_MM / lattice.step_mm)
    box = tuple(slice(max(0, one.start - margin), one.stop + margin) for one in found[0])
    origin = lattice.origin_mm + np.array([one.start for one in box]) * lattice.step_mm
    return replace(lattice, hu=lattice.hu[box], seen=lattice.seen[box], skull=lattice.skull[box], origin_mm=origin)


def _coarsen(volume: Volume) -> Volume:
    """Average pixels, and slices of an even stack, to about half of the lattice's step."""
    hu, grid = volume.hu, volume.grid
    apart_mm, row_mm, column_mm = grid.spacing_mm
    across, down, along = (max(1, int(_LATTICE_MM / 2 / one)) for one in (column_mm, row_mm, apart_mm))
    along = along if grid.is_even else 1
    count, rows, columns = (size // step for size, step in zip(hu.shape, (along, down, across), strict=True))
    if not count or not rows or not columns:
        return volume
    cut = hu[: count * along, : rows * down, : columns * across]
    parts = cut.reshape(count, along, rows, down, columns, across)
    corner = grid.row_step_mm * (down - 1) / 2 + grid.column_step_mm * (across - 1) / 2
    origins = grid.origins_mm[: count * along].reshape(count, along, 3).mean(axis=1) + corner
    thickness = grid.thickness_mm * along
    return Volume(
        parts.mean(axis=(1, 3, 5), dtype=np.float32),
        SliceGrid(origins, grid.row_step_mm * down, grid.column_step_mm * across, thickness),
    )


def _largest(mask: BoolArray) -> BoolArray:
    labels, count = ndimage.label(mask)
    if not count:
        return mask
    return np.asarray(labels == 1 + int(np.bincount(labels.ravel())[1:].argmax()))


def _search(fixed: _Lattice, moving: _Lattice) -> Iterator[tuple[float, DoubleArray]]:
    """Yield (correlation, motion) for each of some turns of the head, at the shift where it is highest."""
    step = _SEARCH_MM
    fixed, moving = (_blur(one, step / 2) for one in (fixed, moving))
    still = _thin(fixed, np.eye(3))
    least = _LEAST_COMMON * min(float(one[2].sum()) for one in (still, _thin(moving, np.eye(3))))
    for turn in _list_turns():
        # A turned lattice of the moving head: its index i is the place turn⁻¹·(origin + i·step).
        turned = _thin(moving, turn)
        shape = [fft.next_fast_len(a + b, real=True) for a, b in zip(still[0].shape, turned[0].shape, strict=True)]
        score, shift = _correlate(still, turned, shape, least)
        motion = np.eye(4)
        motion[:3, :3] = turn.T
        motion[:3, 3] = turn.T @ (turned[3] - still[3] - shift * step)
        yield score, motion


def _list_turns() -> list[DoubleArray]:
    zero, some = _TURNS_DEG
    angles = [(zero, zero, zero)]
    for axis in range(3):
        angles += [tuple(sign * some if one == axis else zero for one in range(3)) for sign in (-1, 1)]  # type: ignore[misc]
        pair = [one for one in range(3) if one != axis]
        for signs in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            both = dict(zip(pair, signs, strict=True))
            angles.append(tuple(0.7 * some * both.get(one, 0) for one in range(3)))  # type: ignore[arg-type]
    return [np.asarray(Rotation.from_rotvec(one, degrees=True).as_matrix(), np.float64) for one in angles]


def _thin(lattice: _Lattice, turn: DoubleArray) -> tuple[FloatArray, FloatArray, FloatArray, DoubleArray]:
    """(values, seen, skull, origin) of a blurred head turned by `turn`, on a coarser lattice along the turned axes."""
    ends = np.array(np.meshgrid(*[(0, count - 1) for count in lattice.hu.shape])).reshape(3, -1).T
    corners = (ends * lattice.step_mm + lattice.origin_mm) @ turn.T
    low, high = corners.min(axis=0), corners.max(axis=0)
    counts = np.ceil((high - low) / _SEARCH_MM).astype(int) + 1
    matrix = turn.T * (_SEARCH_MM / lattice.step_mm)
    offset = lattice.index(turn.T @ low)
    shape = tuple(counts.tolist())
    values, seen, skull = (
        ndimage.affine_transform(np.asarray(one, np.float32), matrix, offset, shape, order=1, cval=outside)
        for one, outside in ((lattice.hu, _SHOWN_HU[0]), (lattice.seen, 0.0), (lattice.skull, 0.0))
    )
    seen = np.asarray(seen > 0.5, np.float32)
    return (values - _SHOWN_HU[0]) * seen, seen, skull, low


def _correlate(
    still: tuple[AnyArray, ...], turned: tuple[AnyArray, ...], shape: list[int], least: float
) -> tuple[float, DoubleArray]:
    """The highest masked correlation over all shifts, in steps; and that shift of `turned` against `still`."""
    a, seen_a, skull_a = (fft.rfftn(one, shape) for one in still[:3])
    b, seen_b, skull_b = (np.conj(fft.rfftn(one, shape)) for one in turned[:3])
    a2, b2 = fft.rfftn(still[0] ** 2, shape), np.conj(fft.rfftn(turned[0] ** 2, shape))
    back = [
        fft.irfftn(one, shape)
        for one in (seen_a * seen_b, a * seen_b, seen_a * b, a2 * seen_b, seen_a * b2, a * b, skull_a * seen_b,
                    seen_a * skull_b)
    ]  # fmt: skip
    count, sum_a, sum_b, square_a, square_b, product, common_a, common_b = back
    count = np.maximum(count, 1)
    spread_a, spread_b = square_a - sum_a**2 / count, square_b - sum_b**2 / count
    floor = 1e-4 * max(float(spread_a.max()), float(spread_b.max()))
    found = (product - sum_a * sum_b / count) / np.sqrt(np.maximum(spread_a, floor) * np.maximum(spread_b, floor))
    found[np.minimum(common_a, common_b) < least] = -1
    best = np.unravel_index(int(found.argmax()), found.shape)
    shift = np.array([one - size if one > size // 2 else one for one, size in zip(best, shape, strict=True)], float)
    return float(found[best]), shift


def _refine(fixed: _Lattice, moving: _Lattice, motion: DoubleArray) -> DoubleArray:
    near = ndimage.distance_transform_edt(~fixed.skull, sampling=fixed.step_mm) <= _AROUND_BONE_MM
    places = fixed.places(near & fixed.seen)
    places = places[:: max(1, len(places) // _MOST_POINTS)]
    for blur_mm in _BLURS_MM:
        motion = _descend(_blur(fixed, blur_mm), _blur(moving, blur_mm), places, motion)
    return motion


def _blur(lattice: _Lattice, blur_mm: float) -> _Lattice:
    return replace(lattice, hu=ndimage.gaussian_filter(lattice.hu, blur_mm / lattice.step_mm))


def _descend(fixed: _Lattice, moving: _Lattice, places: DoubleArray, motion: DoubleArray) -> DoubleArray:
    """Gauss-Newton on the differences of HU at `places` of the fixed head, with Huber's weights."""
    wanted = _interpolate(fixed.hu, fixed.index(places))
    slopes = [np.asarray(np.gradient(moving.hu, moving.step_mm, axis=axis)) for axis in range(3)]
    last = np.array(moving.hu.shape) - 1
    radius_mm = float(np.sqrt(((places - places.mean(axis=0)) ** 2).sum(axis=1).mean()))
    for _ in range(_STEPS):
        moved = places @ motion[:3, :3].T + motion[:3, 3]
        index = moving.index(moved)
        nearest = np.clip(np.rint(index), 0, last).astype(int)
        used = np.all((index >= 0) & (index <= last), axis=1) & moving.seen[tuple(nearest.T)]
        if int(used.sum()) < 100:
            break
        middle = moved[used].mean(axis=0)
        slope = np.stack([_interpolate(one, index[used]) for one in slopes], axis=1)
        off = _interpolate(moving.hu, index[used]) - wanted[used]
        jacobian = np.concatenate([np.cross(moved[used] - middle, slope), slope], axis=1)
        weights = np.minimum(1.0, _HUBER_HU / np.maximum(np.abs(off), 1e-6))
        normal = jacobian.T @ (jacobian * weights[:, None])
        normal[np.diag_indices(6)] *= 1.001
        change = -np.linalg.solve(normal + 1e-6 * np.eye(6), jacobian.T @ (weights * off))
        step = np.eye(4)
        step[:3, :3] = Rotation.from_rotvec(change[:3]).as_matrix()
        step[:3, 3] = middle + change[3:] - step[:3, :3] @ middle
        motion = step @ motion
        if np.linalg.norm(change[:3]) * radius_mm + np.linalg.norm(change[3:]) < _SMALL_MM:
            break
    return motion


def _interpolate(array: AnyArray, index: DoubleArray) -> DoubleArray:
    return np.asarray(ndimage.map_coordinates(array, index.T, order=1, mode="nearest"), np.float64)


def _rate(fixed: _Lattice, moving: _Lattice, motion: DoubleArray) -> Alignment:
    """Measure how well the skulls fit where both volumes show the head."""
    linear = motion[:3, :3]
    offset = moving.index(linear @ fixed.origin_mm + motion[:3, 3])
    there, seen, skull = (
        ndimage.affine_transform(np.asarray(one, np.float32), linear, offset, fixed.hu.shape, order=1, cval=outside)
        for one, outside in ((moving.hu, _SHOWN_HU[0]), (moving.seen, 0.0), (moving.skull, 0.0))
    )
    both = fixed.seen & (seen > 0.5)
    mine, theirs = fixed.skull & both, (skull > 0.5) & both
    bone = int(mine.sum()) + int(theirs.sum())
    near = both & (ndimage.binary_dilation(mine, iterations=2) | theirs)
    varies = near.any() and fixed.hu[near].std() > 0 and there[near].std() > 0
    smaller = min(int(fixed.skull.sum()), int(moving.skull.sum()))
    return Alignment(
        motion,
        2 * int((mine & theirs).sum()) / bone if bone else 0.0,
        float(np.corrcoef(fixed.hu[near], there[near])[0, 1]) if varies else 0.0,
        min(1.0, bone / 2 / smaller),
        _measure_depth(mine, fixed.step_mm),
    )


def _measure_depth(skull: BoolArray, step_mm: float) -> float:
    """Depth in mm of a slab that spreads as much as the voxels do along their shortest axis."""
    if not skull.any():
        return 0.0
    spread = np.linalg.eigvalsh(np.cov(np.argwhere(skull).T.astype(np.float64)))[0] if skull.sum() > 3 else 0.0
    return float(np.sqrt(12 * max(0.0, spread)) * step_mm)
