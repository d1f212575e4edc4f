"""Affines: index (slice, row, column, 1) -> patient coordinates in mm, LPS (DICOM PS3.3 C.7.6.2.1.1)."""

import numpy as np

from bleedmap.arrays import AnyArray, DoubleArray

_RAS_FROM_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])  # its own inverse


def swap_lps_ras(affine: AnyArray) -> DoubleArray:
    """A 4×4 affine to LPS mm -> the same to RAS mm, and back."""
    return np.asarray(_RAS_FROM_LPS @ affine, dtype=np.float64)


def spacing_mm(affine: AnyArray) -> tuple[float, float, float]:
    """Distance between neighbouring (slices, rows, columns), in mm."""
    slice_mm, row_mm, column_mm = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :3], axis=0)
    return float(slice_mm), float(row_mm), float(column_mm)


def voxel_volume_ml(affine: AnyArray) -> float:
    """Volume of one voxel in mL: |det| of the affine, so that a sheared (tilted) grid is right too."""
    return float(abs(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3])) / 1000.0)


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
