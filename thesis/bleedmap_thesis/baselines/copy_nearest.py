"""Copy the mask of the nearest training slice: not a thesis baseline but our control for leakage.

It learns nothing. What it scores on a split is what neighbouring slices of the same patients give away.
"""

import numpy as np
import torch
from torch import Tensor

from bleedmap.arrays import Progress
from bleedmap.training.device import Machine
from bleedmap.training.samples import Side
from bleedmap_thesis.baselines.base import Prediction

# Axes of (n, size, size) to mirror: as the networks saw the training slices.
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (2,), (1,), (1, 2))


def copy_nearest(training: Side, test: Side, machine: Machine, seed: int, progress: Progress) -> Prediction:
    """Each test slice gets the mask of the training slice that looks most like it, mirrored or not.

    Nearest is by root-mean-square difference of the inputs. The score is the copied mask's share of the slice.
    Nothing is drawn: the seed changes nothing.

    Returns:
        Masks; and for each slice `nearest` (the training slice's id), `distance` (0 to 1) and `same_patient`.
    """
    known, slices = training.inputs[:, 0].to(machine.device), test.inputs[:, 0].to(machine.device)
    row, mirror = _nearest(known, slices, progress)
    mask = torch.empty(slices.shape, dtype=torch.bool)
    distance = torch.empty(len(slices))
    for index, (here, axes) in enumerate(zip(row, (_MIRRORS[kind] for kind in mirror), strict=True)):
        # Anew, from the difference itself: an exact copy is at exactly 0.
        difference = slices[index] - known[here][None].flip(axes)[0]
        distance[index] = difference.square().mean().sqrt()
        mask[index] = training.masks[here].flip(axes)[0] > 0
    nearest = [training.ids[here] for here in row]
    extra = {
        "nearest": nearest,
        "distance": [round(value, 6) for value in distance.tolist()],
        "same_patient": [a.split("/")[0] == b.split("/")[0] for a, b in zip(test.ids, nearest, strict=True)],
    }
    score = mask.flatten(1).float().mean(dim=1)
    return Prediction(np.asarray(score.numpy()), np.asarray(mask.numpy()), extra, None)


def _nearest(known: Tensor, slices: Tensor, progress: Progress) -> tuple[list[int], list[int]]:
    """For each of the slices (n, size, size): row among `known` (m, size, size), and index into _MIRRORS.

    |a - b|² = |a|² + |b|² - 2·a·b, and mirroring b is the same as mirroring a: one matrix product a mirror,
    n×m numbers at a time.
    """
    flat = known.flatten(1)
    squares = flat.square().sum(dim=1)
    found = []
    for done, axes in enumerate(_MIRRORS, start=1):
        beyond = squares - 2 * slices.flip(axes).flatten(1) @ flat.T  # (n, m), less |a|², the same for all
        found.append(beyond.min(dim=1))
        progress(done, len(_MIRRORS))
    mirror = torch.stack([one.values for one in found]).argmin(dim=0)
    row = torch.stack([one.indices for one in found]).gather(0, mirror[None])[0]
    return row.tolist(), mirror.tolist()
