"""Augmentation: everything random of an epoch is drawn first, from the seed, then applied on the device."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray
from bleedmap.training.config import TrainConfig
from bleedmap.window import BRAIN

LARGEST_ROTATION = math.radians(20)
LARGEST_SCALING = 0.2
LARGEST_SHIFT = 0.08  # of the side
LARGEST_LEVEL_SHIFT_HU = 6.0
LARGEST_GAIN = 0.1
LARGEST_NOISE_HU = 4.0


@dataclass(frozen=True, eq=False)
class EpochDraw:
    """One epoch's order and transforms, a row a sample.

    Attributes:
        order: (samples,) index into the training side.
        mirror_columns, mirror_rows: (samples,) bool, left–right and top–bottom.
        affine: (samples, 2, 3) output → input, in units of half the side; None without warp.
        intensity: (samples, 4) level shift, gain, noise (in units of the window) and the noise's seed; or None.
    """

    order: AnyArray
    mirror_columns: BoolArray
    mirror_rows: BoolArray
    affine: DoubleArray | None
    intensity: DoubleArray | None

    def __len__(self) -> int:
        return len(self.order)

    def on(self, device: torch.device) -> "PlacedDraw":
        """The same as tensors on the device that holds the data: one transfer an epoch, none a step."""
        affine = None if self.affine is None else torch.from_numpy(self.affine).to(device, torch.float32)
        order, columns, rows = (
            torch.from_numpy(array).to(device) for array in (self.order, self.mirror_columns, self.mirror_rows)
        )
        return PlacedDraw(order, columns, rows, affine, self.intensity)


@dataclass(frozen=True, eq=False)
class PlacedDraw:
    """An `EpochDraw` on a device; intensity stays on the host, where its seeds are needed."""

    order: Tensor
    mirror_columns: Tensor
    mirror_rows: Tensor
    affine: Tensor | None
    intensity: DoubleArray | None


def draw_epoch(config: TrainConfig, has_lesion: BoolArray, epoch: int) -> EpochDraw:
    """Draw epoch number `epoch` (from 1); the same for the same config, side and epoch."""
    random = np.random.default_rng([config.seed, epoch])
    order = np.arange(len(has_lesion))
    if config.lesion_free == "matched":
        lesion, free = order[has_lesion], order[~has_lesion]
        order = np.concatenate([lesion, random.choice(free, min(len(lesion), len(free)), replace=False)])
    columns = rows = np.zeros(len(order), bool)
    if config.mirrors == "fresh":
        columns, rows = random.random((2, len(order))) < 0.5
    elif config.mirrors == "offline":
        kind = np.repeat([0, 1, 2], len(order))
        order, columns, rows = np.tile(order, 3), kind == 1, kind == 2
    turn = random.permutation(len(order))
    return EpochDraw(
        order[turn],
        columns[turn],
        rows[turn],
        _draw_affine(random, len(order), config.warp) if config.warp else None,
        _draw_intensity(random, len(order), config.intensity) if config.intensity else None,
    )


def _draw_affine(random: np.random.Generator, count: int, strength: float) -> DoubleArray:
    angle = random.uniform(-1, 1, count) * LARGEST_ROTATION * strength
    scale = np.exp(random.uniform(-1, 1, count) * LARGEST_SCALING * strength)
    stretch = np.exp(random.uniform(-0.3, 0.3, count) * LARGEST_SCALING * strength)
    shift = random.uniform(-2, 2, (count, 2)) * LARGEST_SHIFT * strength
    cosine, sine = np.cos(angle), np.sin(angle)
    affine = np.empty((count, 2, 3))
    affine[:, 0] = np.stack([scale * stretch * cosine, -scale * sine, shift[:, 0]], axis=1)
    affine[:, 1] = np.stack([scale * stretch * sine, scale * cosine, shift[:, 1]], axis=1)
    return affine


def _draw_intensity(random: np.random.Generator, count: int, strength: float) -> DoubleArray:
    """(samples, 4): level shift, gain, noise and the noise's own seed."""
    return np.stack(
        [
            random.uniform(-1, 1, count) * LARGEST_LEVEL_SHIFT_HU / BRAIN.width_hu * strength,
            1 + random.uniform(-1, 1, count) * LARGEST_GAIN * strength,
            random.uniform(0, 1, count) * LARGEST_NOISE_HU / BRAIN.width_hu * strength,
            random.integers(0, 2**31, count),
        ],
        axis=1,
    )


def apply(draw: PlacedDraw, part: slice, inputs: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Gather and transform some of an epoch's samples on the device that holds the data.

    Args:
        draw: the epoch, on that device.
        part: n positions in the draw.
        inputs: (slices, 1, size, size) float32 in 0 to 1, the whole training side.
        masks: the same shape, uint8 0 or 1.

    Returns:
        Input and reference, both (n, 1, size, size) float32.
    """
    index = draw.order[part]
    both = torch.cat([inputs[index], masks[index].to(inputs.dtype)], dim=1)  # (n, 2, size, size)
    for axis, chosen in ((3, draw.mirror_columns[part]), (2, draw.mirror_rows[part])):
        both = torch.where(chosen[:, None, None, None], both.flip(axis), both)
    if draw.affine is not None:
        grid = functional.affine_grid(draw.affine[part], list(both.shape), align_corners=False)
        both = functional.grid_sample(both, grid, align_corners=False)
    slices, reference = both[:, :1], (both[:, 1:] >= 0.5).to(both.dtype)
    if draw.intensity is not None:
        slices = _change_intensity(slices, draw.intensity[part])
    return slices, reference


def _change_intensity(slices: Tensor, drawn: DoubleArray) -> Tensor:
    level, gain, noise = (
        torch.from_numpy(drawn[:, column]).to(slices.device, slices.dtype)[:, None, None, None] for column in range(3)
    )
    random = torch.Generator(slices.device).manual_seed(int(drawn[:, 3].sum()))
    speckle = torch.randn(slices.shape, generator=random, device=slices.device, dtype=slices.dtype)
    tissue = (slices > 0.02) & (slices < 0.98)  # what the window clips stays clipped: air black, bone white
    return torch.where(tissue, (slices * gain + level + noise * speckle).clamp(0, 1), slices)
