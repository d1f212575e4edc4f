"""Train a network that says 'bleed or not' on the training side, score the test side with it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bleedmap.arrays import FloatArray
from bleedmap.training.data import Progress, Side
from bleedmap.training.device import Machine
from bleedmap_thesis.baselines.base import Baseline, Prediction, bleeds_to_learn
from bleedmap_thesis.baselines.networks import build_classifier


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained: Adam, cross-entropy, so many epochs, no validation, no early stop."""

    epochs: int
    learning_rate: float
    batch_size: int


# Epochs are what about a minute on two CPU cores allows for 450 slices of 128×128.
RECIPES = {
    "cnn-13": Recipe(epochs=30, learning_rate=1e-3, batch_size=16),
    "alexnet": Recipe(epochs=10, learning_rate=1e-4, batch_size=32),
    "resnet-50": Recipe(epochs=7, learning_rate=1e-3, batch_size=16),
}
_AT_A_TIME = 32  # slices, when they are scored


def classifier(name: str) -> Baseline:
    """The baseline that trains the classifier called `name`, by its recipe.

    Mirrors (left–right and top–bottom) are drawn anew each epoch. The score is the probability of a bleed, after
    the last epoch. The same seed on the same machine gives the same scores.
    """

    def run(training: Side, test: Side, machine: Machine, seed: int, progress: Progress) -> Prediction:
        bleeds_to_learn(training)
        network = build_classifier(name, seed).to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.random.fork_rng(devices=[machine.device] if machine.device.type == "cuda" else []):
            torch.manual_seed(seed)  # of dropout
            _train(network, RECIPES[name], training.to(machine.device), machine, seed, progress)
        parameters = sum(one.numel() for one in network.parameters())
        return Prediction(_score(network, test, machine), None, None, {}, parameters)

    return run


def _train(network: nn.Module, recipe: Recipe, training: Side, machine: Machine, seed: int, progress: Progress) -> None:
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, fused=True)
    bleeds = torch.from_numpy(training.has_lesion.astype(np.float32)).to(machine.device)
    network.train()
    for epoch in range(recipe.epochs):
        random = np.random.default_rng([seed, epoch])
        order = random.permutation(len(bleeds))
        mirrors = torch.from_numpy(random.random((2, len(bleeds))) < 0.5).to(machine.device)
        # Parts of nearly the same size: a last batch of one slice would have no variance to norm by.
        for part in np.array_split(order, max(1, round(len(order) / recipe.batch_size))):
            rows = torch.from_numpy(part).to(machine.device)
            slices = _mirrored(training.inputs[rows], mirrors[:, rows])
            loss = functional.binary_cross_entropy_with_logits(_logits(network, slices, machine), bleeds[rows])
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
        progress(epoch + 1, recipe.epochs)


def _mirrored(slices: Tensor, mirrors: Tensor) -> Tensor:
    """(n, 1, size, size), flipped along the rows or columns where `mirrors` (2, n) says so."""
    for axis, chosen in zip((2, 3), mirrors, strict=True):
        slices = torch.where(chosen[:, None, None, None], slices.flip(axis), slices)
    return slices


def _logits(network: nn.Module, slices: Tensor, machine: Machine) -> Tensor:
    with torch.autocast(machine.device.type, torch.bfloat16, enabled=machine.bf16):
        logits: Tensor = network(slices.contiguous(memory_format=torch.channels_last))
    return logits.float()


@torch.no_grad()
def _score(network: nn.Module, test: Side, machine: Machine) -> FloatArray:
    network.eval()
    parts = [_logits(network, part.to(machine.device), machine) for part in torch.split(test.inputs, _AT_A_TIME)]
    return np.asarray(torch.sigmoid(torch.cat(parts)).cpu().numpy())
