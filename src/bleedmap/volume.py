"""An array and its grid, which never part."""

from dataclasses import dataclass

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, FloatArray
from bleedmap.errors import InputError
from bleedmap.geometry import SliceGrid


def _check(name: str, array: AnyArray, grid: SliceGrid) -> None:
    if array.ndim != 3 or 0 in array.shape or len(array) != len(grid):
        raise InputError(
            name,
            found=f"an array of shape {array.shape} on a grid of {len(grid)} slices",
            needed="three axes (slice, row, column), none empty, and a place for each slice",
            remedy="give one volume of a single time point and channel",
        )


def _describe(kind: str, array: AnyArray, grid: SliceGrid) -> str:
    size = " × ".join(map(str, array.shape))
    return f"{kind}({size}; {' × '.join(f'{one:.3g}' for one in grid.spacing_mm)} mm)"


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """A CT volume: `hu` (slice, row, column) float32, feet to head, and where its voxels lie."""

    hu: FloatArray
    grid: SliceGrid

    def __post_init__(self) -> None:
        _check("volume", self.hu, self.grid)
        bad = sum(plane.size - int(np.isfinite(plane).sum()) for plane in self.hu)
        if bad:
            raise InputError(
                "volume",
                found=f"{bad:,} of {self.hu.size:,} voxels are not finite (NaN or infinity)",
                needed="a finite number of HU in every voxel",
                remedy="convert the study again, or fill padding with air (-1000 HU)",
            )

    def __repr__(self) -> str:
        return _describe("Volume", self.hu, self.grid)


@dataclass(frozen=True, eq=False, repr=False)
class Mask:
    """A lesion mask: `array` (slice, row, column) bool, and where its voxels lie."""

    array: BoolArray
    grid: SliceGrid

    def __post_init__(self) -> None:
        _check("mask", self.array, self.grid)

    def __repr__(self) -> str:
        return _describe("Mask", self.array, self.grid)

    @property
    def volume_ml(self) -> float:
        """Volume of all marked voxels, in mL; each slice counts with what it stands for."""
        return float(self.array.sum(axis=(1, 2)) @ self.grid.voxel_ml)


@dataclass(frozen=True, eq=False, repr=False)
class ProbabilityMap:
    """Probability of hemorrhage: `array` (slice, row, column) float32 in 0 to 1, and where its voxels lie."""

    array: FloatArray
    grid: SliceGrid

    def __post_init__(self) -> None:
        _check("probability map", self.array, self.grid)

    def __repr__(self) -> str:
        return _describe("ProbabilityMap", self.array, self.grid)
