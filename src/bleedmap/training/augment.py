"""Augmentation: everything random is drawn first, from the seed, then applied.

Of single slices an epoch is drawn and applied on the device (`EpochDraw`); of whole studies a step, with neighbours,
applied on the CPU (`StepDraw`).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray
from bleedmap.training.bleed_shapes import VIEW_MM, find_inside_skull
from bleedmap.training.config import Recipe, TrainConfig
from bleedmap.training.samples import Pools, Samples
from bleedmap.window import BRAIN

ROTATION = math.radians(20)
SCALING = 0.2
SHIFT = 0.08  # of the side
# Of single slices:
LARGEST_LEVEL_SHIFT_HU = 6.0
LARGEST_GAIN = 0.1
LARGEST_NOISE_HU = 4.0
# Of whole studies:
STRETCH = 0.08
LEVEL_HU, GAIN, NOISE_HU, SHADING_HU = 8.0, 0.15, 6.0, 4.0
BLUR, SHARPEN = 1.0, 0.6  # part of the way to, or away from, a 3×3 binomial mean
_SHADING_CELLS = 4
_NONE: AnyArray = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class EpochDraw:
    """One epoch's order and transforms, a row a sample.

    `mirror_columns`, `mirror_rows`: (samples,) bool, left–right and top–bottom.
    `intensity`: (samples, 4) level shift, gain, noise (in units of the window) and the noise's seed, or None; it stays
    on the host, where its seeds are needed.
    """

    order: Tensor  # (samples,) index into the training side
    mirror_columns: Tensor
    mirror_rows: Tensor
    affine: Tensor | None  # (samples, 2, 3) float32 output → input, in units of half the side; None without warp
    intensity: DoubleArray | None

    def __len__(self) -> int:
        return len(self.order)

    def to(self, device: torch.device) -> "EpochDraw":
        """The same on the device that holds the data: one transfer an epoch, none a step."""
        affine = None if self.affine is None else self.affine.to(device)
        order, columns, rows = (one.to(device) for one in (self.order, self.mirror_columns, self.mirror_rows))
        return EpochDraw(order, columns, rows, affine, self.intensity)


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
    affine = _draw_affine(random, len(order), config.warp, (0.3, SCALING)) if config.warp else None
    return EpochDraw(
        torch.from_numpy(order[turn]),
        torch.from_numpy(columns[turn]),
        torch.from_numpy(rows[turn]),
        None if affine is None else torch.from_numpy(affine).float(),
        _draw_intensity(random, len(order), config.intensity) if config.intensity else None,
    )


def _draw_affine(
    random: np.random.Generator, count: int, strength: float, stretch_range: tuple[float, float]
) -> DoubleArray:
    """(count, 2, 3): rotation, scaling, stretching (within the product of `stretch_range`) and shift."""
    angle = random.uniform(-1, 1, count) * ROTATION * strength
    scale = np.exp(random.uniform(-1, 1, count) * SCALING * strength)
    reach, most = stretch_range
    stretch = np.exp(random.uniform(-reach, reach, count) * most * strength)
    shift = random.uniform(-2, 2, (count, 2)) * SHIFT * strength
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


def apply_epoch(draw: EpochDraw, part: slice, inputs: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Gather and transform some of an epoch's samples on the device that holds the data.

    Args:
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


@dataclass(frozen=True, eq=False)
class StepDraw:
    """One step's slices and changes, a row a sample: first lesion, then lesion-free slices, then phantoms', then
    paintings.

    `patient_rows`, `phantom_rows`, `painting_rows`: rows in the three pools.
    `mirror`, `upside_down`, `alone`: (k,) left and right exchanged; neighbours exchanged; or replaced by the slice.
    `level`, `gain`, `noise`, `blur`: (k,) in units of the window; blur above 0, sharpening below.
    """

    patient_rows: AnyArray
    phantom_rows: AnyArray
    painting_rows: AnyArray
    mirror: BoolArray
    upside_down: BoolArray
    alone: BoolArray
    affine: DoubleArray  # (k, 2, 3) output → input, in units of half the side
    level: DoubleArray
    gain: DoubleArray
    noise: DoubleArray
    blur: DoubleArray
    shading: DoubleArray  # (k, 4, 4) in units of the window
    noise_seed: int  # of the noise itself
    boneless: BoolArray | None = None  # (k,) whether bone is not seen; None where no sample lacks it


def draw_step(recipe: Recipe, pools: Pools, step: int) -> StepDraw:
    """Draw step number `step`; the same for the same recipe, pools and step."""
    random = np.random.default_rng([recipe.seed, step])
    patients = pools.patients
    lesion = free = phantom = painting = _NONE
    if recipe.lesion:
        lesion = random.choice(len(patients.study), recipe.lesion, p=pools.lesion_weights)
    if recipe.lesion_free:
        free = random.choice(np.flatnonzero(~patients.has_lesion), recipe.lesion_free)
    if pools.phantoms is not None:
        phantom = random.integers(0, len(pools.phantoms.study), recipe.phantom)
    if pools.paintings is not None:
        painting = random.choice(pools.painting_rows, recipe.painted)
    count, window = recipe.batch, BRAIN.width_hu
    strength = recipe.intensity
    blur = random.uniform(-SHARPEN, BLUR, count) * (random.random(count) < 0.5) * strength
    return StepDraw(
        np.concatenate([lesion, free]), phantom, painting,
        random.random(count) < 0.5, random.random(count) < 0.5, random.random(count) < recipe.alone,
        _draw_affine(random, count, recipe.warp, (1.0, STRETCH)),
        random.uniform(-1, 1, count) * LEVEL_HU / window * strength,
        1 + random.uniform(-1, 1, count) * GAIN * strength,
        random.uniform(0, 1, count) ** 2 * NOISE_HU / window * strength,
        blur,
        random.uniform(-1, 1, (count, _SHADING_CELLS, _SHADING_CELLS)) * SHADING_HU / window * strength,
        int(random.integers(0, 2**31)),
        random.random(count) < recipe.boneless if recipe.boneless else None,
    )  # fmt: skip


def draw_plain(painting_rows: AnyArray) -> StepDraw:
    """These paintings alone, with nothing changed at random."""
    count = len(painting_rows)
    none, nothing = np.zeros(count, np.bool_), np.zeros(count)
    return StepDraw(
        _NONE, _NONE, painting_rows, none, none, none, np.tile(np.eye(2, 3), (count, 1, 1)), nothing, nothing + 1,
        nothing, nothing, np.zeros((count, _SHADING_CELLS, _SHADING_CELLS)), 0,
    )  # fmt: skip


def apply_step(draw: StepDraw, pools: Pools, recipe: Recipe) -> tuple[Tensor, Tensor, Tensor]:
    """The batch that a draw describes.

    Returns:
        Slices (k, channels, size, size) float32 in 0 to 1; the lesion's share of each pixel that the network tells, and
        where the recipe asks for it that of the inside of the skull, (k, 1 or 2, …) as in `lite_losses`; labels (k, 6).
    """
    rows = (
        (pools.patients, draw.patient_rows),
        (pools.phantoms, draw.phantom_rows),
        (pools.paintings, draw.painting_rows),
    )
    parts = [_gather(pool, of_pool, recipe) for pool, of_pool in rows if pool is not None]
    slices, others, labels = (
        torch.cat([torch.from_numpy(one) for one in column]) for column in zip(*parts, strict=True)
    )
    others = others.float().div_(255)  # bone where it is seen, then the mask
    if draw.boneless is not None:
        others[torch.from_numpy(draw.boneless), :-1] = 0
    regions = 1
    if recipe.skull:
        regions, inside = 2, _inside_skulls(slices[:, recipe.neighbours], others[:, -1], recipe)
        others = torch.cat([others, inside], dim=1)
    slices = _rearranged(slices.float().div_(255), draw)
    if recipe.mirrored:
        slices = torch.cat([slices, slices[:, recipe.neighbours][:, None].flip(3)], dim=1)
    grey, both = slices.shape[1], torch.cat([slices, others], dim=1)
    affine = torch.from_numpy(draw.affine).float()
    affine[:, :, 0] *= torch.from_numpy(np.where(draw.mirror, -1.0, 1.0)).float()[:, None]
    grid = functional.affine_grid(affine, [len(both), 1, recipe.size, recipe.size], align_corners=False)
    both = functional.grid_sample(both, grid, align_corners=False)
    slices, bones, cover = _changed(both[:, :grey], draw), both[:, grey:-regions], both[:, -regions:]
    seen = 2 * recipe.neighbours + 1  # bone stands between the slices and the mirror image, as in `stack_channels`
    told = cover if recipe.fine else functional.avg_pool2d(cover, 2)
    return torch.cat([slices[:, :seen], bones, slices[:, seen:]], dim=1), told, labels


def _inside_skulls(slices: Tensor, share: Tensor, recipe: Recipe) -> Tensor:
    """(k, 1, side, side) 0 or 1: the inside of each slice's skull, blood as bright as bone in it."""
    pixel_mm = (recipe.frame_mm or VIEW_MM) / slices.shape[-1]
    found = [find_inside_skull(one, pixel_mm) for one in slices.numpy()]
    whole = [one | (blood > 0.5) if one.any() else one for one, blood in zip(found, share.numpy(), strict=True)]
    return torch.from_numpy(np.stack(whole)).float()[:, None]


def _gather(samples: Samples, rows: AnyArray, recipe: Recipe) -> tuple[AnyArray, AnyArray, AnyArray]:
    """Slices with neighbours; bone where it is seen, and the mask; labels."""
    others = samples.masks[rows][:, None]
    if recipe.bone:
        assert samples.bones is not None
        others = np.concatenate([samples.bones[rows][:, None], others], axis=1)
    return samples.slices[samples.neighbours(rows, recipe.neighbours)], others, samples.labels[rows]


def _rearranged(slices: Tensor, draw: StepDraw) -> Tensor:
    """Neighbours exchanged or replaced, as drawn."""
    turned, middle = torch.from_numpy(draw.upside_down), slices.shape[1] // 2
    slices = torch.where(turned[:, None, None, None], slices.flip(1), slices)
    alone = torch.from_numpy(draw.alone)[:, None, None, None]
    return torch.where(alone, slices[:, middle : middle + 1].expand_as(slices), slices)


def _changed(slices: Tensor, draw: StepDraw) -> Tensor:
    """Kernel, gain, level, shading and noise; what the window clips stays clipped: air black, bone white."""
    level, gain, noise, blur = (
        torch.from_numpy(one).float()[:, None, None, None] for one in (draw.level, draw.gain, draw.noise, draw.blur)
    )
    weights = torch.tensor([1.0, 2.0, 1.0])
    kernel = (weights[:, None] * weights / 16).expand(slices.shape[1], 1, 3, 3)
    changed = slices + blur * (functional.conv2d(slices, kernel, padding=1, groups=slices.shape[1]) - slices)
    shading = functional.interpolate(
        torch.from_numpy(draw.shading).float()[:, None], slices.shape[2:], mode="bilinear", align_corners=True
    )
    random = torch.Generator().manual_seed(draw.noise_seed)
    speckle = torch.randn(slices.shape, generator=random)
    changed = changed * gain + level + shading + noise * speckle
    tissue = (slices > 0.02) & (slices < 0.98)
    return torch.where(tissue, changed, slices).clamp_(0, 1)
