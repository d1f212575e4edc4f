"""Training slices per second: this program's loops, each in turn with a plain loop of the same network, in one run."""

import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from bleedmap.bench.machine import MATRIX
from bleedmap.models.lite_unet import Depthwise, Inverted, LiteUNet, build_lite, load_encoder
from bleedmap.models.networks import LABELS
from bleedmap.models.unet import build
from bleedmap.training.augment import apply_step, draw_epoch, draw_step
from bleedmap.training.config import Recipe, TrainConfig
from bleedmap.training.device import Machine, choose_machine, keep_memory
from bleedmap.training.loop import prepare_network
from bleedmap.training.losses import batch_loss, lite_losses
from bleedmap.training.passes import make_optimiser, train_epoch
from bleedmap.training.samples import Pools, Samples, Side
from bleedmap.training.steps import Steps

LESION_SHARE = 0.5  # of the made slices, as in the thesis' balanced set
FLOP_FACTOR = 3  # a training step is a forward pass and a backward one of twice its cost
PLAIN_STEPS = 5  # of a recipe's plain loop in a turn
_SLICES, _STUDIES = 48, 4  # of a pool, made of noise: speed does not depend on what they show

Loop = Callable[[int], int]  # trains a turn, numbered from 0; returns the slices that it trained


def _measure_in_turn(plain: Loop, ours: Loop, turns: int, machine: Machine, name: str) -> dict[str, Any]:
    """Slices/s of both loops, `turns` each after one that warms up; their medians and ratio. `name`: of the turns."""
    rates: dict[str, list[float]] = {"plain": [], "ours": []}
    for turn in range(turns + 1):
        for loop, own in ((plain, rates["plain"]), (ours, rates["ours"])):
            begun = time.perf_counter()
            slices = loop(turn)
            _wait(machine)
            if turn:
                own.append(slices / (time.perf_counter() - begun))
    slow, fast = median(rates["plain"]), median(rates["ours"])
    return {
        "plain_slices_per_s": round(slow, 2), "ours_slices_per_s": round(fast, 2), "ratio": round(fast / slow, 2),
        f"plain_{name}": [round(one, 2) for one in rates["plain"]],
        f"ours_{name}": [round(one, 2) for one in rates["ours"]],
    }  # fmt: skip


def measure_passes(config: TrainConfig, machine: Machine, slices: int, epochs: int, workers: int = 0) -> dict[str, Any]:
    """Train a network of the thesis on the same made slices by both loops, epoch by epoch in turn.

    Args:
        config: network, size, batch, augmentation.
        machine: where ours runs; the plain loop runs on the same device in fp32, not compiled. (On CUDA torch lets
            fp32 convolutions take TF32 unless told otherwise; so does the plain loop.)
        slices: of an epoch; made of noise, as speed does not depend on what they show.
        workers: processes that feed the plain loop's DataLoader; 0 feeds it from the training process.

    Returns:
        Medians, their ratio, and the share of the machine's own rate in a 4096³ matrix product of ours' precision.
    """
    side = _make_side(slices, config.size, config.seed)
    plain, ours = _plain_passes(config, machine, side, workers), _our_passes(config, machine, side)
    found = _measure_in_turn(plain, ours, epochs, machine, "epochs")
    flop, matrix = FLOP_FACTOR * forward_flop(config), _matrix_tflops(machine)
    tflops = found["ours_slices_per_s"] * flop / 1e12
    return found | {
        "gflop_per_training_slice": round(flop / 1e9, 2), "ours_tflops": round(tflops, 3),
        "matrix_product_tflops": round(matrix, 3), "share": round(tflops / matrix, 3),
    }  # fmt: skip


def measure_recipe(recipe: Recipe, threads: int | None, repeats: int) -> dict[str, Any]:
    """Train by a recipe and by a plain loop, `repeats` turns each. To be called in a process of its own.

    The plain loop has the same batches, losses and optimiser, in fp32, eager, with rows and columns innermost, and
    learns the depthwise filters too, as torch does unless told otherwise.

    Args:
        recipe: its `steps` do not matter.
        threads: torch's; None: its own choice.
    """
    keep_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    machine, pools = choose_machine(), _make_pools(recipe)
    task = Steps(recipe, pools, machine, None)

    def ours(turn: int) -> int:
        slices: int = task.train_round(lambda done, entry: None)["samples"]
        return slices

    found = _measure_in_turn(_plain_steps(recipe, pools, machine), ours, repeats, machine, "turns")
    return {"machine": machine.describe(), "size": recipe.size, "batch": recipe.batch, **found}


def forward_flop(config: TrainConfig) -> float:
    """Floating-point operations of one forward pass of one slice; multiply and add are two."""
    network = build(config.network_settings(), 0).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 1, config.size, config.size))
    return float(counter.get_total_flops())


def plain_network(recipe: Recipe) -> LiteUNet:
    """The recipe's network at its start, with depthwise convolutions that learn, as torch has them."""
    network = build_lite(recipe.network(), recipe.seed)
    load_encoder(network)
    for block in network.modules():
        if isinstance(block, Inverted):
            block.depthwise = _make_trainable(block.depthwise)  # type: ignore[assignment]
    return network


def _make_trainable(fixed: Depthwise) -> nn.Sequential:
    channels, _, kernel, _ = fixed.weight.shape
    before = (kernel - 2) // 2  # TensorFlow's padding for a stride of 2, as `Depthwise` has it
    edges = (before, kernel - 2 - before) if fixed.stride == 2 else (kernel // 2, kernel // 2)
    plain = nn.Conv2d(channels, channels, kernel, fixed.stride, groups=channels)
    with torch.no_grad():
        plain.weight.copy_(fixed.weight)
        assert plain.bias is not None
        plain.bias.copy_(fixed.bias)
    return nn.Sequential(nn.ZeroPad2d(edges * 2), plain)


def _plain_passes(config: TrainConfig, machine: Machine, side: Side, workers: int) -> Loop:
    """As tutorials write it: samples one by one from a DataLoader, mirrored on the host, moved batch by batch."""
    network = build(config.network_settings(), config.seed).to(machine.device).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    loader = DataLoader(
        TensorDataset(side.inputs, side.masks), config.batch_size, shuffle=True, collate_fn=_mirror,
        pin_memory=machine.device.type == "cuda", num_workers=workers, persistent_workers=workers > 0,
    )  # fmt: skip

    def train(turn: int) -> int:
        for inputs, masks in loader:
            loss = batch_loss(config.loss, network(inputs.to(machine.device)), masks.to(machine.device))
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        return len(side.ids)

    return train


def _mirror(samples: list[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
    pairs = []
    for one, mask in samples:
        axes = [axis for axis in (1, 2) if torch.rand(()) < 0.5]
        pairs.append((one.flip(axes), mask.flip(axes)))
    inputs, masks = zip(*pairs, strict=True)
    return torch.stack(inputs), torch.stack(masks)


def _our_passes(config: TrainConfig, machine: Machine, side: Side) -> Loop:
    network = build(config.network_settings(), config.seed)
    network = network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    called, optimiser = prepare_network(network, machine), make_optimiser(network, config)
    placed = side.to(machine.device)

    def train(turn: int) -> int:
        train_epoch(called, optimiser, config, draw_epoch(config, side.has_lesion, turn), placed, machine, turn)
        return len(side.ids)

    return train


def _plain_steps(recipe: Recipe, pools: Pools, machine: Machine) -> Loop:
    network = plain_network(recipe).to(machine.device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)

    def train(turn: int) -> int:
        loss = torch.zeros(())
        for step in range(PLAIN_STEPS):
            batch = apply_step(draw_step(recipe, pools, step), pools, recipe)
            slices, cover, labels = (one.to(machine.device) for one in batch)
            losses: dict[str, Tensor] = lite_losses(network(slices), cover, labels, recipe)
            loss = torch.stack(list(losses.values())).sum()
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
        if not math.isfinite(loss.item()):
            raise RuntimeError("the plain loop's loss is not finite")
        return PLAIN_STEPS * recipe.batch

    return train


def _make_side(slices: int, size: int, seed: int) -> Side:
    random = torch.Generator().manual_seed(seed)
    inputs = torch.rand((slices, 1, size, size), generator=random)
    lesion = (torch.arange(slices) < slices * LESION_SHARE)[:, None, None, None]
    masks = ((inputs > 0.99) & lesion).to(torch.uint8)
    return Side(tuple(f"000/{number + 1}" for number in range(slices)), inputs, masks)


def _make_pools(recipe: Recipe) -> Pools:
    random, side = np.random.default_rng(recipe.seed), recipe.stored().size

    def noise() -> Samples:
        labels = np.zeros((_SLICES, len(LABELS)), np.float32)
        labels[::2, 0] = 1
        slices = random.integers(0, 256, (_SLICES, side, side), np.uint8)
        masks = np.where((slices > 250) & (labels[:, :1, None] > 0), 255, 0).astype(np.uint8)
        return Samples(slices, masks, labels, np.repeat(np.arange(_STUDIES), _SLICES // _STUDIES))

    return Pools(noise(), noise() if recipe.phantom else None)


def _matrix_tflops(machine: Machine) -> float:
    """The best of five 4096³ matrix products, in TFLOP/s."""
    form = torch.bfloat16 if machine.bf16 else torch.float32
    one = torch.rand((MATRIX, MATRIX), device=machine.device).to(form)
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        _ = one @ one
        _wait(machine)
        seconds.append(time.perf_counter() - begun)
    return 2 * MATRIX**3 / min(seconds) / 1e12


def _wait(machine: Machine) -> None:
    if machine.device.type == "cuda":
        torch.cuda.synchronize(machine.device)
