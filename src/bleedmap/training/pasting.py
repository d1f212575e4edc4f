"""Lesions cut from one head and pasted into another's slice of the same height: more heads for the few that bleed.

After CarveMix (Zhang et al., MICCAI 2021, arXiv:2108.06883), which mixes two patients' slices by a region around the
lesion; ours stays within the receiving skull, and may turn the lesion's sides.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bleedmap.arrays import AnyArray, BoolArray
from bleedmap.training.samples import Samples

HEIGHT_SLICES = 2  # heads are compared from the top; scans begin at different heights, but end at the vertex
LEAST_KEPT = 0.6  # of the lesion's area: where the skull leaves less of it, nothing is pasted
_RIM = 7  # pixels: side of the squares by which the lesion is widened, then smoothed: it fades out within 6 pixels
_AIR, _BONE = 0.02, 0.98  # of the window


@dataclass(frozen=True, eq=False)
class Pasting:
    """What a step pastes.

    Attributes:
        samples: (j,) which of the step's samples are pasted, ascending.
        into: (j,) the receiving slices' rows among the patients' samples; they bear no lesion.
        turned: (j,) whether left and right of the lesion are exchanged before.
    """

    samples: AnyArray
    into: AnyArray
    turned: BoolArray


def draw_pasting(
    random: np.random.Generator, part: float, donors: AnyArray, heights: AnyArray, patients: Samples
) -> Pasting:
    """Draw which samples are pasted, and into which slices.

    Args:
        random: the step's.
        part: of the donors.
        donors: (d,) places in the batch of the samples whose lesion may be pasted.
        heights: (d,) their distance from the top, in slices.
        patients: where the receiving slices come from.
    """
    chosen = random.random(len(donors)) < part
    free, top = ~patients.has_lesion, patients.from_top
    into = []
    for height in heights[chosen]:
        near = np.flatnonzero(free & (abs(top - height) <= HEIGHT_SLICES))
        into.append(random.choice(near if near.size else np.flatnonzero(free)))
    return Pasting(donors[chosen], np.array(into, np.int64), random.random(int(chosen.sum())) < 0.5)


def paste(donor: Tensor, mask: Tensor, into: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Paste lesions.

    Args:
        donor: (j, channels, side, side) in 0 to 1, the slices with the lesion and their neighbours.
        mask: the same shape, the lesion's share of each pixel.
        into: the same shape, the receiving slices.

    Returns:
        The slices; their masks (j, side, side), of the middle channel; and (j,) whether it was done: elsewhere both
        are the donor's own.
    """
    rim = functional.avg_pool2d(functional.max_pool2d(mask, _RIM, 1, _RIM // 2), _RIM, 1, _RIM // 2)
    inside = _within_skull(into).float()
    part, kept = rim * inside, mask * inside
    middle = donor.shape[1] // 2
    before, after = mask[:, middle].sum(dim=(1, 2)), kept[:, middle].sum(dim=(1, 2))
    done = after >= LEAST_KEPT * before
    mixed = into + part * (donor - into)
    return (
        torch.where(done[:, None, None, None], mixed, donor),
        torch.where(done[:, None, None], kept[:, middle], mask[:, middle]), done,
    )  # fmt: skip


def _within_skull(slices: Tensor) -> Tensor:
    """(j, channels, side, side) bool: tissue with bone on all four sides, in its row and in its column."""
    bone = slices >= _BONE
    around = torch.ones_like(bone)
    for axis in (2, 3):
        around &= bone.cummax(axis).values & bone.flip(axis).cummax(axis).values.flip(axis)
    return around & ~bone & (slices > _AIR)
