"""What the voxels' values are, whatever they show: air, bone, padding, metal, blank slices."""

from dataclasses import dataclass

import numpy as np

from bleedmap.study.gate.anatomy import BODY_HU, PADDING_HU
from bleedmap.volume import Volume

AIR_HU = -700.0  # below: air with its noise; lung lies above, and CT-ICH's bone window shows no less than -900
BONE_HU = 300.0  # above: bone; no soft tissue or blood, and few calcifications of 5 mm slices
METAL_HU = 3000.0  # above any bone; 12-bit scanners store no more than 3071
_EVERY = 4  # slices are looked at on every fourth row and column
_CONSTANT_HU = 1.0


@dataclass(frozen=True)
class Values:
    """Measurements of a volume's HU.

    Attributes:
        lowest: of all voxels.
        highest: of all voxels.
        air_share: of the voxels that are no padding, below -700 HU.
        air_hu: the air's median; None where there is none.
        bone_share: of the voxels that are no padding, above 300 HU.
        padding_share: of all voxels, below -1100 HU.
        metal_ml: above 3000 HU.
        blank: indices of slices of one value, or without anything denser than air.
    """

    lowest: float
    highest: float
    air_share: float
    air_hu: float | None
    bone_share: float
    padding_share: float
    metal_ml: float
    blank: tuple[int, ...]


def measure_values(volume: Volume) -> Values:
    """Measure a volume; lowest, highest and metal on all voxels, the rest on every fourth row and column."""
    hu = np.ascontiguousarray(volume.hu[:, ::_EVERY, ::_EVERY])
    highest = float(volume.hu.max())
    real = hu[hu >= PADDING_HU]
    air = real[real < AIR_HU]
    tops, bottoms = hu.max(axis=(1, 2)), hu.min(axis=(1, 2))
    blank = (tops < BODY_HU) | (tops - bottoms < _CONSTANT_HU)
    dense = (volume.hu > METAL_HU).sum(axis=(1, 2)) if highest > METAL_HU else np.zeros(len(hu))
    return Values(
        lowest=float(volume.hu.min()),
        highest=highest,
        air_share=air.size / max(1, real.size),
        air_hu=float(np.median(air)) if air.size else None,
        bone_share=int((real > BONE_HU).sum()) / max(1, real.size),
        padding_share=1 - real.size / hu.size,
        metal_ml=float(dense @ volume.grid.voxel_ml),
        blank=tuple(int(index) for index in np.flatnonzero(blank)),
    )
