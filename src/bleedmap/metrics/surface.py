"""Distances between the surfaces of two masks, in mm.

A surface voxel has a neighbour by a face outside its mask, or lies at the array's edge. From each surface voxel of
either mask the distance to the nearest one of the other is taken, between voxel centres. HD95 is the larger of the two
directions' 95th percentiles (Huttenlocher et al. 1993 for the maximum); the mean distance is over both directions'
voxels together (average symmetric surface distance). Where a mask is empty there is no distance.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bleedmap.arrays import BoolArray, DoubleArray

_PERCENTILE = 95


@dataclass(frozen=True)
class SurfaceDistance:
    """The distance of two surfaces: `hd95_mm`, and `mean_mm` over both directions."""

    hd95_mm: float
    mean_mm: float


def surface_distance(
    reference: BoolArray, prediction: BoolArray, spacing_mm: tuple[float, float, float]
) -> SurfaceDistance | None:
    """Measure the distance of two masks' surfaces; None where either is empty.

    Args:
        reference: (slice, row, column) bool.
        prediction: the same shape.
        spacing_mm: (slice, row, column) of an even, upright grid.

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"reference {reference.shape} and prediction {prediction.shape} differ in shape")
    if not reference.any() or not prediction.any():
        return None
    (box,) = ndimage.find_objects((reference | prediction).astype(np.uint8))
    one, other = _surface(reference[box]), _surface(prediction[box])
    there, back = _distance_to(other, spacing_mm)[one], _distance_to(one, spacing_mm)[other]
    hd95 = max(float(np.percentile(way, _PERCENTILE)) for way in (there, back))
    return SurfaceDistance(hd95, float(np.concatenate([there, back]).mean()))


def _surface(mask: BoolArray) -> BoolArray:
    """The box is cut at the masks' own ends, so that its edge is surface too."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask), np.bool_)


def _distance_to(surface: BoolArray, spacing_mm: tuple[float, float, float]) -> DoubleArray:
    """Each voxel's distance in mm to the nearest voxel of a surface."""
    return np.asarray(ndimage.distance_transform_edt(~surface, sampling=spacing_mm), np.float64)
