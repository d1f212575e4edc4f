"""A recipe's training of seconds on made studies: `python tiny_lite.py FOLDER` trains it, alone or under torchrun."""

import sys
from pathlib import Path

import numpy as np
import torch

from bleedmap.models.networks import LABELS
from bleedmap.training import steps
from bleedmap.training.config import Recipe
from bleedmap.training.device import choose_machine
from bleedmap.training.loop import start_together
from bleedmap.training.samples import Pools, Samples

RECIPE = Recipe(size=64, steps=12, lesion=3, lesion_free=2, phantom=1, phantoms=1, learning_rate=3e-3, average=0.8)


def make_samples(studies: int, seed: int, side: int = 82) -> Samples:
    """Grey studies of four slices; every other slice has a bright disc, a lesion."""
    random = np.random.default_rng(seed)
    slices = random.normal(90, 8, (4 * studies, side, side)).clip(0, 255)
    rows, columns = np.mgrid[:side, :side]
    masks = np.zeros(slices.shape, np.uint8)
    labels = np.zeros((len(slices), len(LABELS)), np.float32)
    for index in range(0, len(slices), 2):
        row, column = random.integers(20, side - 20, 2)
        masks[index][(rows - row) ** 2 + (columns - column) ** 2 < 64] = 255
        labels[index, [0, 2]] = 1
    return Samples(
        (slices + masks * 0.3).clip(0, 255).astype(np.uint8), masks, labels, np.repeat(np.arange(studies), 4)
    )


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    steps.ROUND = 4
    machine = choose_machine("cpu", "fp32")
    start_together(machine)
    network = steps.train_recipe(RECIPE, lambda: Pools(make_samples(5, 0), make_samples(2, 1)), machine, folder)
    weights = torch.cat([value.flatten() for value in network.parameters()])
    (folder / f"rank-{machine.rank}.txt").write_text(weights.detach().numpy().tobytes().hex())
    if machine.processes > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
