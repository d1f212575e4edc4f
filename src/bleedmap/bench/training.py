"""Training slices per second by our recipe's step, and by a plain loop of the same network, in turn in one run."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bleedmap.models.imagenet import load_encoder
from bleedmap.models.lite_unet import Depthwise, Inverted, LiteUNet, build_lite
from bleedmap.training.device import Machine, choose_machine, keep_memory
from bleedmap.training.fit import fit, losses_of
from bleedmap.training.recipe import Recipe
from bleedmap.training.samples import Samples
from bleedmap.training.sampling import Pools, apply, draw_step

OUR_STEPS, PLAIN_STEPS = 20, 5  # of a turn; `fit` reports every twentieth step
_SLICES, _STUDIES = 48, 4  # of a pool, made of noise: speed does not depend on what they show
_LABELS = 6


def measure_training(recipe: Recipe, threads: int | None, repeats: int) -> dict[str, Any]:
    """Slices/s of `fit` and of the plain loop: `repeats` turns each, after one that warms up.

    The plain loop has the same batches, losses and optimiser, in fp32, eager, with rows and columns innermost, and
    learns the depthwise filters too, as torch does unless told otherwise. To be called in a process of its own.

    Args:
        recipe: its `steps` are replaced.
        threads: torch's; None: its own choice.
        repeats: turns of each.
    """
    keep_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    machine, pools = choose_machine(), _pools(recipe)
    settings = Recipe.from_dict(recipe.to_dict() | {"steps": OUR_STEPS * (repeats + 1)})
    plain = _plain_loop(settings, pools, machine)
    rates: dict[str, list[float]] = {"ours": [], "plain": []}
    begun = [0, time.perf_counter()]

    def report(step: int, losses: dict[str, float]) -> None:
        rates["ours"].append((step - begun[0]) * recipe.batch / (time.perf_counter() - begun[1]))
        rates["plain"].append(plain(PLAIN_STEPS))
        begun[:] = step, time.perf_counter()

    with TemporaryDirectory(prefix="bleedmap-bench-") as place:
        fit(settings, pools, machine, Path(place), report=report)
    turns = {name: [round(one, 2) for one in found[1:]] for name, found in rates.items()}
    ours, slow = median(rates["ours"][1:]), median(rates["plain"][1:])
    return {
        "machine": machine.describe(), "size": recipe.size, "batch": recipe.batch,
        "ours_slices_per_s": round(ours, 2), "plain_slices_per_s": round(slow, 2), "ratio": round(ours / slow, 2),
        "ours_turns": turns["ours"], "plain_turns": turns["plain"],
    }  # fmt: skip


def plain_network(recipe: Recipe) -> LiteUNet:
    """The recipe's network at its start, with depthwise convolutions that learn, as torch has them."""
    network = build_lite(recipe.network(), recipe.seed)
    load_encoder(network)
    for block in network.modules():
        if isinstance(block, Inverted):
            block.depthwise = _trainable(block.depthwise)  # type: ignore[assignment]
    return network


def _trainable(fixed: Depthwise) -> nn.Sequential:
    channels, _, kernel, _ = fixed.weight.shape
    before = (kernel - 2) // 2  # TensorFlow's padding for a stride of 2, as `Depthwise` has it
    edges = (before, kernel - 2 - before) if fixed.stride == 2 else (kernel // 2, kernel // 2)
    plain = nn.Conv2d(channels, channels, kernel, fixed.stride, groups=channels)
    with torch.no_grad():
        plain.weight.copy_(fixed.weight)
        assert plain.bias is not None
        plain.bias.copy_(fixed.bias)
    return nn.Sequential(nn.ZeroPad2d(edges * 2), plain)


def _plain_loop(recipe: Recipe, pools: Pools, machine: Machine) -> Callable[[int], float]:
    """A function that trains some steps and says how many slices/s."""
    network = plain_network(recipe).to(machine.device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)

    def train(steps: int) -> float:
        begun, loss = time.perf_counter(), torch.zeros(())
        for step in range(steps):
            batch = apply(draw_step(recipe, pools, step), pools, recipe)
            slices, cover, labels = (one.to(machine.device) for one in batch)
            losses: dict[str, Tensor] = losses_of(network(slices), cover, labels, recipe)
            loss = torch.stack(list(losses.values())).sum()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        if not math.isfinite(loss.item()):  # also waits for a GPU
            raise RuntimeError("the plain loop's loss is not finite")
        return steps * recipe.batch / (time.perf_counter() - begun)

    return train


def _pools(recipe: Recipe) -> Pools:
    random, side = np.random.default_rng(recipe.seed), recipe.stored().size

    def noise() -> Samples:
        labels = np.zeros((_SLICES, _LABELS), np.float32)
        labels[::2, 0] = 1
        slices = random.integers(0, 256, (_SLICES, side, side), np.uint8)
        masks = np.where((slices > 250) & (labels[:, :1, None] > 0), 255, 0).astype(np.uint8)
        return Samples(slices, masks, labels, np.repeat(np.arange(_STUDIES), _SLICES // _STUDIES))

    return Pools(noise(), noise() if recipe.phantom else None)
