"""What a step sees: slices and their random changes, drawn first from (seed, step), then applied."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray
from bleedmap.training.recipe import Recipe
from bleedmap.training.samples import Samples
from bleedmap.window import BRAIN

ROTATION = math.radians(20)
SCALING = 0.2
STRETCH = 0.08
SHIFT = 0.08  # of the side
LEVEL_HU, GAIN, NOISE_HU, SHADING_HU = 8.0, 0.15, 6.0, 4.0
BLUR, SHARPEN = 1.0, 0.6  # part of the way to, or away from, a 3×3 binomial mean
_SHADING_CELLS = 4
_NONE: AnyArray = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Pools:
    """Where a batch's slices come from: training patients, phantoms, and blood painted into those patients."""

    patients: Samples
    phantoms: Samples | None
    paintings: Samples | None = None

    @cached_property
    def lesion_weights(self) -> DoubleArray:
        """(n,) chance of each slice among those with a lesion: a patient's share grows with the root of its slices."""
        has = self.patients.has_lesion
        _, inverse, counts = np.unique(self.patients.study[has], return_inverse=True, return_counts=True)
        weights = np.zeros(len(has))
        weights[has] = 1 / np.sqrt(counts[inverse])
        normed: DoubleArray = weights / weights.sum()
        return normed

    @cached_property
    def painting_rows(self) -> AnyArray:
        """Rows of the paintings that a batch takes: an outermost slice, cut from its study, has no neighbour."""
        assert self.paintings is not None
        study = self.paintings.study
        inner: AnyArray = np.flatnonzero((study[1:-1] == study[:-2]) & (study[1:-1] == study[2:])) + 1
        return inner


@dataclass(frozen=True, eq=False)
class Draw:
    """One step's slices and changes, a row a sample: first lesion, then lesion-free slices, then phantoms', then
    paintings.

    Attributes:
        patient_rows, phantom_rows, painting_rows: rows in the three pools.
        mirror, upside_down, alone: (k,) left and right exchanged; neighbours exchanged; or replaced by the slice.
        affine: (k, 2, 3) output → input, in units of half the side.
        level, gain, noise, blur: (k,) in units of the window; blur above 0, sharpening below.
        shading: (k, 4, 4) in units of the window.
        noise_seed: of the noise itself.
    """

    patient_rows: AnyArray
    phantom_rows: AnyArray
    painting_rows: AnyArray
    mirror: BoolArray
    upside_down: BoolArray
    alone: BoolArray
    affine: DoubleArray
    level: DoubleArray
    gain: DoubleArray
    noise: DoubleArray
    blur: DoubleArray
    shading: DoubleArray
    noise_seed: int


def draw_step(recipe: Recipe, pools: Pools, step: int) -> Draw:
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
    return Draw(
        np.concatenate([lesion, free]), phantom, painting,
        random.random(count) < 0.5, random.random(count) < 0.5, random.random(count) < recipe.alone,
        _affine(random, count, recipe.warp),
        random.uniform(-1, 1, count) * LEVEL_HU / window * strength,
        1 + random.uniform(-1, 1, count) * GAIN * strength,
        random.uniform(0, 1, count) ** 2 * NOISE_HU / window * strength,
        blur,
        random.uniform(-1, 1, (count, _SHADING_CELLS, _SHADING_CELLS)) * SHADING_HU / window * strength,
        int(random.integers(0, 2**31)),
    )  # fmt: skip


def _affine(random: np.random.Generator, count: int, strength: float) -> DoubleArray:
    angle = random.uniform(-1, 1, count) * ROTATION * strength
    scale = np.exp(random.uniform(-1, 1, count) * SCALING * strength)
    stretch = np.exp(random.uniform(-1, 1, count) * STRETCH * strength)
    shift = random.uniform(-2, 2, (count, 2)) * SHIFT * strength
    cosine, sine = np.cos(angle), np.sin(angle)
    rows = [
        np.stack([scale * stretch * cosine, -scale * sine, shift[:, 0]], axis=1),
        np.stack([scale * stretch * sine, scale * cosine, shift[:, 1]], axis=1),
    ]
    affine: DoubleArray = np.stack(rows, axis=1)
    return affine


def apply(draw: Draw, pools: Pools, recipe: Recipe) -> tuple[Tensor, Tensor, Tensor]:
    """The batch that a draw describes.

    Returns:
        Slices (k, channels, size, size) float32 in 0 to 1; the lesion's share of each pixel of half the rows and
        columns, (k, 1, size/2, size/2); labels (k, 6).
    """
    parts = [_gather(pools.patients, draw.patient_rows, recipe.neighbours)]
    if pools.phantoms is not None:
        parts.append(_gather(pools.phantoms, draw.phantom_rows, recipe.neighbours))
    if pools.paintings is not None:
        parts.append(_gather(pools.paintings, draw.painting_rows, recipe.neighbours))
    slices, masks, labels = (
        torch.cat([torch.from_numpy(one) for one in column]) for column in zip(*parts, strict=True)
    )
    both = torch.cat([slices, masks[:, None]], dim=1).float().div_(255)
    both = torch.cat([_rearranged(both[:, :-1], draw), both[:, -1:]], dim=1)
    affine = torch.from_numpy(draw.affine).float()
    affine[:, :, 0] *= torch.from_numpy(np.where(draw.mirror, -1.0, 1.0)).float()[:, None]
    grid = functional.affine_grid(affine, [len(both), 1, recipe.size, recipe.size], align_corners=False)
    both = functional.grid_sample(both, grid, align_corners=False)
    return _changed(both[:, :-1], draw), functional.avg_pool2d(both[:, -1:], 2), labels


def _gather(samples: Samples, rows: AnyArray, reach: int) -> tuple[AnyArray, AnyArray, AnyArray]:
    return samples.slices[samples.neighbours(rows, reach)], samples.masks[rows], samples.labels[rows]


def _rearranged(slices: Tensor, draw: Draw) -> Tensor:
    """Neighbours exchanged or replaced, as drawn."""
    turned, middle = torch.from_numpy(draw.upside_down), slices.shape[1] // 2
    slices = torch.where(turned[:, None, None, None], slices.flip(1), slices)
    alone = torch.from_numpy(draw.alone)[:, None, None, None]
    return torch.where(alone, slices[:, middle : middle + 1].expand_as(slices), slices)


def _changed(slices: Tensor, draw: Draw) -> Tensor:
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
