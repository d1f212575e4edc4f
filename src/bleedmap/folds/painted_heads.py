"""Does a network outline painted blood that it has not seen? If not, it has learned its paintings, not bleeds."""

from typing import Any

import numpy as np
import torch

from bleedmap.errors import SettingsError
from bleedmap.models.lite_unet import LiteUNet
from bleedmap.models.networks import LABELS
from bleedmap.training.augment import apply_step, draw_plain
from bleedmap.training.bleed_shapes import SLICE_MM, VIEW_MM
from bleedmap.training.config import Recipe
from bleedmap.training.painting import load_paintings
from bleedmap.training.samples import Pools, Samples

PAINTINGS = 10  # of a head
_SEED = 1_000_000  # far from those of trainings


def judge_paintings(patients: Samples, recipe: Recipe, network: LiteUNet, threshold: float) -> list[dict[str, Any]]:
    """Outline new paintings in the heads of patients who do not bleed.

    Args:
        patients: as the recipe's slices are stored; those who bleed are passed by.
        recipe: of the network's training; in a frame of known size paintings have the sizes that lesions measure.
        network: ready to predict, on the CPU.

    Returns:
        Of each painting its `type`, `ml` by the frame's size, and the `dice` of its volume on the network's own grid,
        nothing marked 0. Empty where no head is fit for painting.
    """
    try:
        paintings = load_paintings(patients, PAINTINGS, _SEED, frame_mm=recipe.frame_mm)
    except SettingsError:
        return []
    pools, found = Pools(patients, None, paintings), []
    voxel_ml = ((recipe.frame_mm or VIEW_MM) / (recipe.size // 2)) ** 2 * SLICE_MM / 1000
    for number in np.unique(paintings.study):
        rows = pools.painting_rows[paintings.study[pools.painting_rows] == number]
        slices, cover, labels = apply_step(draw_plain(rows), pools, recipe)
        with torch.inference_mode():
            marked = network(slices.contiguous(memory_format=torch.channels_last)).logits[:, 0].sigmoid() >= threshold
        reference = cover[:, 0] >= 0.5
        if not reference.any():  # less than a pixel of the network's grid
            continue
        total = int(marked.sum() + reference.sum())
        kind = LABELS[1 + int(labels[:, 1:].amax(dim=0).argmax())]
        dice = 2 * int((marked & reference).sum()) / total
        found.append({"type": kind, "ml": round(int(reference.sum()) * voxel_ml, 2), "dice": round(dice, 4)})
    return found
