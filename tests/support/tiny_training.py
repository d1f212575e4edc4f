"""Settings, split and slices of a training run of seconds."""

import numpy as np
import torch

from bleedmap.datasets.splits import Split
from bleedmap.training.samples import Side

CONFIG = {
    "network": "model-2", "width": 1 / 16, "size": 32, "epochs": 6, "batch_size": 4, "learning_rate": 3e-3,
    "warp": 0.5, "intensity": 0.5, "loss": "dice+bce", "seed": 3,
}  # fmt: skip
SPLIT = Split("patient", 0, True, "0" * 64, "test", None, None, ("001/1",), ("002/1",), ("003/1",))


def make_side(count: int, seed: int) -> Side:
    """Grey slices with a bright disc in two of three."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32]
    inputs = random.normal(0.3, 0.03, (count, 1, 32, 32)).astype(np.float32).clip(0, 1)
    masks = np.zeros((count, 1, 32, 32), np.uint8)
    for index in range(count):
        if index % 3:
            row, column = random.integers(8, 24, 2)
            masks[index, 0] = (rows - row) ** 2 + (columns - column) ** 2 < 16
    inputs += 0.3 * masks
    return Side(tuple(f"001/{index + 1}" for index in range(count)), torch.from_numpy(inputs), torch.from_numpy(masks))
