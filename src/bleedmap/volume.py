"""An array and its affine, which never part."""

from dataclasses import dataclass

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray, FloatArray
from bleedmap.errors import InputError
from bleedmap.geometry import spacing_mm, voxel_volume_ml


def _check(name: str, array: AnyArray, affine: AnyArray) -> None:
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(
            name,
            found=f"an array of shape {array.shape}",
            needed="three axes (slice, row, column), none empty",
            remedy="give one volume of a single time point and channel",
        )
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or voxel_volume_ml(affine) == 0:
        raise InputError(
            name,
            found=f"an affine that maps the grid to no volume: {np.asarray(affine).tolist()}",
            needed="a finite, invertible 4×4 affine to mm",
            remedy="convert the study again from its DICOM files",
        )


@dataclass(frozen=True, eq=False)
class Volume:
    """A CT volume: `hu` (slice, row, column) float32, and its affine to LPS mm."""

    hu: FloatArray
    affine: DoubleArray

    def __post_init__(self) -> None:
        _check("volume", self.hu, self.affine)
        bad = int(self.hu.size - np.isfinite(self.hu).sum())
        if bad:
            raise InputError(
                "volume",
                found=f"{bad:,} of {self.hu.size:,} voxels are not finite (NaN or infinity)",
                needed="a finite number of HU in every voxel",
                remedy="convert the study again, or fill padding with air (-1000 HU)",
            )

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """(slice, row, column) spacing in mm."""
        return spacing_mm(self.affine)


@dataclass(frozen=True, eq=False)
class Mask:
    """A lesion mask: `array` (slice, row, column) bool, and its affine to LPS mm."""

    array: BoolArray
    affine: DoubleArray

    def __post_init__(self) -> None:
        _check("mask", self.array, self.affine)

    @property
    def volume_ml(self) -> float:
        """Volume of all marked voxels, in mL."""
        return float(self.array.sum()) * voxel_volume_ml(self.affine)


@dataclass(frozen=True, eq=False)
class ProbabilityMap:
    """Probability of hemorrhage: `array` (slice, row, column) float32 in 0 to 1, and its affine to LPS mm."""

    array: FloatArray
    affine: DoubleArray

    def __post_init__(self) -> None:
        _check("probability map", self.array, self.affine)
