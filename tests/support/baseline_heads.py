"""Heads with and without a bright disc, and a baseline run on them."""

import numpy as np
import torch

from bleedmap.training.device import Machine
from bleedmap.training.samples import Side
from bleedmap_thesis.baselines import BASELINES, Prediction

CPU = Machine(torch.device("cpu"), bf16=False)


def heads(patients: int, seed: int, size: int = 64, disc: float = 0.08) -> Side:
    """Two slices of each patient: a skull, brain with some texture, and in every second patient a bright disc."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    ids, inputs, masks = [], [], []
    for patient in range(patients):
        radius = np.hypot(rows / random.uniform(0.40, 0.44), columns / random.uniform(0.34, 0.38)) / size
        at = random.uniform(-0.15, 0.15, 2) * size
        lesion = np.hypot(rows - at[0], columns - at[1]) < random.uniform(0.9, 1.2) * disc * size
        for number in (1, 2):
            unit = np.where(radius < 0.88, 0.45 + 0.3 * lesion * (patient % 2), 1.0)
            unit = np.where(radius < 1, unit + (radius < 0.88) * random.normal(0, 0.02, unit.shape), 0)
            ids.append(f"{seed}{patient:03d}/{number}")
            inputs.append(unit.clip(0, 1))
            masks.append(lesion * (patient % 2))
    return Side(
        tuple(ids),
        torch.tensor(np.stack(inputs)[:, None], dtype=torch.float32),
        torch.tensor(np.stack(masks)[:, None], dtype=torch.uint8),
    )


def run(name: str, training: Side, test: Side, seed: int = 0) -> Prediction:
    told: list[tuple[int, int]] = []
    found = BASELINES[name](training, test, CPU, seed, lambda done, of: told.append((done, of)))
    assert told[-1][0] == told[-1][1]  # the bar ends full
    assert found.score.shape == (len(test.ids),)
    assert np.isfinite(found.score).all()
    assert all(len(column) == len(test.ids) for column in found.extra.values())
    assert found.mask is None or found.mask.shape == tuple(test.masks[:, 0].shape)
    return found
