"""Compute shapes in mm: signed distances (negative inside), soft edges, smooth noise, resampling.

All fields are float32 arrays (z, y, x) on one lattice fixed in mm, so that a head does not depend on the scan's grid.
x grows to the patient's left, y to the back, z to the vertex (LPS).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

from bleedmap.arrays import AnyArray, DoubleArray, FloatArray

LATTICE_MM = 2.0
X_MM, Y_MM, Z_MM = (np.arange(-half, half + 1, LATTICE_MM, dtype=np.float32) for half in (92.0, 116.0, 92.0))
LATTICE_SHAPE = (len(Z_MM), len(Y_MM), len(X_MM))

Weights = sparse.csr_array[np.float32, tuple[int, int]]
Point = tuple[float, float, float]


class Coordinates(NamedTuple):
    """Coordinates (x, y, z) of every point of the lattice, in mm; each (z, y, x) float32."""

    x: FloatArray
    y: FloatArray
    z: FloatArray

    def mirror(self) -> "Coordinates":
        """Return the same with |x|: a shape placed at x > 0 appears on both sides."""
        return Coordinates(np.abs(self.x), self.y, self.z)


def lattice() -> Coordinates:
    """Return the lattice's own coordinates, broadcastable to (z, y, x)."""
    return Coordinates(X_MM[None, None, :], Y_MM[None, :, None], Z_MM[:, None, None])


def along(at: Coordinates, direction: AnyArray) -> FloatArray:
    """Return the coordinate along a direction (x, y, z)."""
    total = np.float32(direction[0]) * at.x + np.float32(direction[1]) * at.y + np.float32(direction[2]) * at.z
    return np.asarray(total, np.float32)


def rotation(angles_deg: Point) -> DoubleArray:
    """Make the (3, 3) rotation about x, then y, then z, of LPS."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(np.radians(angles_deg)), np.sin(np.radians(angles_deg))
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float64)


def ellipsoid(at: Coordinates, centre: Point, semi_axes: Point) -> FloatArray:
    """Compute the signed distance to an ellipsoid, first order (exact on the surface and for a sphere)."""
    scaled = [(one - middle) / axis for one, middle, axis in zip(at, centre, semi_axes, strict=True)]
    slope = _length([one / axis for one, axis in zip(scaled, semi_axes, strict=True)])
    radius = _length(scaled)
    return np.asarray(radius * (radius - 1) / np.maximum(slope, 1e-6), np.float32)


def _length(vector: list[FloatArray]) -> FloatArray:
    """Compute the length of (x, y, z) at each point, in place: new arrays of this size take longer than the sum."""
    total, *others = vector
    total *= total
    for one in others:
        total += np.square(one, out=one)
    return np.sqrt(total, out=total)


def capsule(at: Coordinates, start: Point, end: Point, radii: tuple[float, float]) -> FloatArray:
    """Compute the signed distance to a rod from `start` to `end` of radius radii[0] to radii[1]."""
    offset = [one - begin for one, begin in zip(at, start, strict=True)]
    rod = [last - first for first, last in zip(start, end, strict=True)]
    length = sum(one * one for one in rod)
    share = sum((one * step for one, step in zip(offset[1:], rod[1:], strict=True)), offset[0] * rod[0])
    share /= length
    np.clip(share, 0, 1, out=share)
    across = [one - share * step for one, step in zip(offset, rod, strict=True)]
    return np.asarray(_length(across) - (radii[0] + share * (radii[1] - radii[0])), np.float32)


def rod_chain(at: Coordinates, points: Sequence[tuple[Point, float]], blend_mm: float) -> FloatArray:
    """Join capsules through (point, radius) in turn, melted together over `blend_mm`."""
    (begin, first), *rest = points
    joined: FloatArray | None = None
    for point, radius in rest:
        piece = capsule(at, begin, point, (first, radius))
        joined = piece if joined is None else smooth_union(joined, piece, blend_mm)
        begin, first = point, radius
    assert joined is not None
    return joined


def union(*distances: AnyArray) -> FloatArray:
    """Unite several shapes: the nearest counts."""
    return np.asarray(np.minimum.reduce(distances), np.float32)


def smooth_union(one: FloatArray, other: FloatArray, blend_mm: float) -> FloatArray:
    """Unite two shapes with a fillet of `blend_mm` (polynomial smooth minimum)."""
    share = np.clip(0.5 + 0.5 * (other - one) / blend_mm, 0, 1)
    return np.asarray(other + (one - other) * share - blend_mm * share * (1 - share), np.float32)


def true_distance(field: FloatArray) -> FloatArray:
    """Turn a function that changes sign on a surface into the signed distance to it in mm, to first order."""
    slopes = np.gradient(field, LATTICE_MM)
    steepness = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + slopes[2] ** 2)
    least = 0.25 * float(steepness.mean())  # where the slope vanishes, only the sign counts
    return np.asarray(np.clip(field / np.maximum(steepness, least), -200, 200), np.float32)


def inside(distance: AnyArray, edge_mm: float = 1.0) -> FloatArray:
    """Turn a signed distance into the fraction inside, 0 to 1, changing over `edge_mm` across the surface."""
    share = 0.5 - distance / edge_mm
    return np.asarray(np.clip(share, 0, 1, out=share), np.float32)


def smooth_noise(generator: np.random.Generator, grain_mm: float) -> FloatArray:
    """Draw noise with structures of about `grain_mm` on the lattice, mean 0, standard deviation 1."""
    weights, sizes = [], []
    for axis in (Z_MM, Y_MM, X_MM):
        knots = np.arange(axis[0] - grain_mm, axis[-1] + 2 * grain_mm, grain_mm)
        weights.append(cubic_weights(axis, knots))
        sizes.append(len(knots))
    noise = generator.standard_normal(sizes, dtype=np.float32)
    smooth = resample(noise, *weights)
    return np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)


def cubic_weights(positions_mm: AnyArray, axis_mm: AnyArray) -> Weights:
    """Compute (positions, axis) weights of cubic convolution (Keys, IEEE TASSP 29(6), 1981), clamped at the ends."""
    step = float(axis_mm[1] - axis_mm[0])
    clamped = np.clip((np.asarray(positions_mm) - axis_mm[0]) / step, 0, len(axis_mm) - 1)
    apart = np.abs(clamped[:, None] - np.arange(len(axis_mm)))
    near = (1.5 * apart - 2.5) * apart**2 + 1
    far = ((-0.5 * apart + 2.5) * apart - 4) * apart + 2
    weights = np.where(apart <= 1, near, np.where(apart < 2, far, 0))
    return sparse.csr_array((weights / weights.sum(axis=1, keepdims=True)).astype(np.float32))


def resample(field: FloatArray, *weights: Weights) -> FloatArray:
    """Resample every axis in turn by its weights (new, old). Sparse: dense products would wake all the cores."""
    for axis, along_axis in enumerate(weights):
        front = np.moveaxis(field, axis, 0)
        new = along_axis @ front.reshape(len(front), -1)
        field = np.moveaxis(new.reshape(-1, *front.shape[1:]), 0, axis)
    return np.ascontiguousarray(field)


def halve_step(field: FloatArray, axis: int) -> FloatArray:
    """Put a value between every two along an axis: n -> 2 n - 1; cubic convolution at the middle."""
    shape = list(field.shape)
    shape[axis] = 2 * shape[axis] - 1
    finer = np.empty(shape, np.float32)
    old, new = np.moveaxis(field, axis, 0), np.moveaxis(finer, axis, 0)
    middle = old[:-1] + old[1:]
    middle *= np.float32(0.5625)
    outer = old[:-3] + old[3:]
    outer *= np.float32(0.0625)
    middle[1:-1] -= outer
    middle[[0, -1]] = (old[[0, -2]] + old[[1, -1]]) * np.float32(0.5)
    new[::2], new[1::2] = old, middle
    return finer
