"""The training loop. Every random draw of an epoch comes from (seed, epoch), so that a resumed run is the same run."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from bleedmap.metrics.overlap import Counts, accuracy, dice, mean_iou
from bleedmap.models.checkpoint import Checkpoint, load_network, read_checkpoint, write_checkpoint
from bleedmap.models.unet import UNet, build
from bleedmap.training.augment import EpochDraw, apply, draw_epoch
from bleedmap.training.config import TrainConfig
from bleedmap.training.data import Side
from bleedmap.training.device import Machine
from bleedmap.training.losses import batch_loss, soft_dice
from bleedmap.training.run import Run

WARM_UP = 0.03  # of all steps, with the cosine schedule
KERAS_EPSILON = 1e-7  # Adam's, as the thesis' library has it
MOMENTUM = 0.9  # of gradient descent

SAVE_EVERY_S = 10.0  # seconds between checkpoints: with an epoch in half a second, one an epoch would cost more than it

Report = Callable[[int, int, dict[str, Any]], None]


@dataclass
class _State:
    """What a checkpoint holds."""

    network: UNet
    optimiser: torch.optim.Optimizer
    epoch: int
    best_dice: float


def train(
    run: Run, config: TrainConfig, training: Side, validation: Side, machine: Machine,
    report: Report = lambda epoch, step, entry: None, *, save_every_s: float = SAVE_EVERY_S,
) -> UNet:  # fmt: skip
    """Train until `config.epochs`, from the run's checkpoint where there is one.

    Args:
        run: its folder receives checkpoint, best weights, metrics and TensorBoard curves.
        config: the settings.
        training: the training side.
        validation: measured every `config.validate_every` epochs; decides which weights are the best.
        machine: device, precision and this process' place among several.
        report: called after each step with (epoch, steps done of it, {}) and after each epoch with its metrics.
        save_every_s: least seconds between checkpoints; what came after the last one is computed again on resuming.

    Returns:
        The network as it stands after the last epoch.
    """
    training, validation = training.to(machine.device), validation.to(machine.device)
    state = restore(run, config, machine)
    entries = [entry for entry in run.metrics() if entry["epoch"] <= state.epoch]
    leads = machine.rank == 0
    curves = SummaryWriter(run.folder / "curves", purge_step=state.epoch + 1) if leads else None
    network = prepared(state.network, machine)
    has_lesion, saved = training.has_lesion, -math.inf
    for epoch in range(state.epoch + 1, config.epochs + 1):
        begun = time.monotonic()
        drawn = draw_epoch(config, has_lesion, epoch)
        torch.manual_seed(config.seed * 1_000_003 + epoch * 1_009 + machine.rank)  # dropout
        losses = train_epoch(network, state.optimiser, config, drawn, training, machine, epoch, report)
        state.epoch = epoch
        if not leads:
            continue
        entry: dict[str, Any] = {"epoch": epoch, "samples": len(drawn), "loss": float(np.mean(losses))}
        if epoch % config.validate_every == 0 or epoch == config.epochs:
            entry |= validate(state.network, validation, config, machine)
            if entry["validation_dice"] > state.best_dice:
                state.best_dice = entry["validation_dice"]
                _write_network(run.best_file, state, config)
        if config.keep_every and epoch % config.keep_every == 0:
            _write_network(run.kept_file(epoch), state, config)
        entry["seconds"] = round(time.monotonic() - begun, 2)
        entries.append(entry)
        if epoch == config.epochs or time.monotonic() - saved >= save_every_s:
            run.write_metrics(entries)
            _save(run, state, config)
            saved = time.monotonic()
        assert curves is not None
        for name, value in entry.items():
            curves.add_scalar(name, value, epoch)
        report(epoch, 0, entry)
    if curves is not None:
        curves.close()
    return state.network


def start_together(machine: Machine) -> None:
    """Under torchrun: join the other processes, and wait until the first has begun the run folder."""
    if machine.processes > 1:
        distributed.init_process_group("nccl" if machine.device.type == "cuda" else "gloo")
        distributed.barrier()


def steps_per_epoch(samples: int, config: TrainConfig, processes: int = 1) -> int:
    """Steps of an epoch; a last batch too small to give every process a slice is left out."""
    whole, rest = divmod(samples, config.batch_size)
    return whole + (rest >= processes)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The rate at `step` of `steps`, a pure function of the two."""
    if config.schedule == "constant":
        return config.learning_rate
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train_epoch(
    network: nn.Module, optimiser: torch.optim.Optimizer, config: TrainConfig, drawn: EpochDraw, side: Side,
    machine: Machine, epoch: int, report: Report = lambda epoch, step, entry: None,
) -> list[float]:  # fmt: skip
    """One pass over the samples of `drawn`; the loss of each step. Nothing waits for the device before the end."""
    network.train()
    placed = drawn.on(side.inputs.device)
    steps = steps_per_epoch(len(drawn), config, machine.processes)
    losses = []
    for step in range(steps):
        rate = learning_rate(config, (epoch - 1) * steps + step, config.epochs * steps)
        for group in optimiser.param_groups:
            group["lr"] = rate
        first, end = step * config.batch_size, min((step + 1) * config.batch_size, len(drawn))
        mine = slice(first + machine.rank, end, machine.processes)
        slices, reference = apply(placed, mine, side.inputs, side.masks)
        with _autocast(machine):
            logits = network(slices.contiguous(memory_format=torch.channels_last))
        loss = batch_loss(config.loss, logits, reference)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(loss.detach())
        report(epoch, step + 1, {})
    return [float(loss) for loss in losses]


def _autocast(machine: Machine) -> torch.autocast:
    return torch.autocast(machine.device.type, torch.bfloat16, enabled=machine.bf16)


@torch.no_grad()
def predict(network: UNet, inputs: Tensor, machine: Machine, batch_size: int = 16) -> Tensor:
    """Logits (n, 1, size, size) float32 of inputs of that shape."""
    network.eval()
    parts = []
    with _autocast(machine):
        for batch in torch.split(inputs, batch_size):
            parts.append(network(batch.contiguous(memory_format=torch.channels_last)).float())
    return torch.cat(parts)


def validate(network: UNet, side: Side, config: TrainConfig, machine: Machine) -> dict[str, float]:
    """Loss and pooled scores of a side at the network's size; masks thresholded at 0.5."""
    logits = predict(network, side.inputs, machine)
    pooled = _pooled_counts(logits >= 0, side.masks > 0)
    return {
        "validation_loss": float(batch_loss(config.loss, logits, side.masks)),
        "validation_soft_dice": float(soft_dice(logits, side.masks)),
        "validation_dice": float(dice(pooled, empty=1.0)[0]),
        "validation_mean_iou": float(mean_iou(pooled, empty=1.0)[0]),
        "validation_accuracy": float(accuracy(pooled)[0]),
    }


def _pooled_counts(prediction: Tensor, reference: Tensor) -> Counts:
    """All pixels of all slices as one row, counted on the device."""
    pairs = ((reference, prediction), (~reference, prediction), (reference, ~prediction), (~reference, ~prediction))
    return Counts(*(np.array([int((one & other).sum())]) for one, other in pairs))


def prepared(network: UNet, machine: Machine) -> nn.Module:
    """The network as the loop calls it: across processes, compiled; the same parameters."""
    whole: nn.Module = network if machine.processes == 1 else DistributedDataParallel(network)
    if machine.device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # shapes do not change: the fastest kernels are worth a search
    if machine.compiled:
        torch._dynamo.reset()  # what earlier runs of this process compiled counts against a limit of eight
    # Two shapes, whole batches and an epoch's last: each is compiled for itself.
    return torch.compile(whole, dynamic=False) if machine.compiled else whole  # type: ignore[return-value]


def restore(run: Run, config: TrainConfig, machine: Machine) -> _State:
    """Network and optimiser from the run's checkpoint, or fresh where there is none."""
    network = build(config.network_settings(), config.seed)
    network = network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = optimiser_of(network, config)
    state = _State(network, optimiser, epoch=0, best_dice=-1.0)
    if run.checkpoint_file.exists():
        stored = read_checkpoint(run.checkpoint_file)
        load_network(network, stored, run.checkpoint_file)
        _load_optimiser(optimiser, stored)
        state.epoch, state.best_dice = stored.record["epoch"], stored.record["best_dice"]
    return state


def optimiser_of(network: UNet, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser that the settings ask for, with fresh moments."""
    if config.optimiser == "sgd":
        return torch.optim.SGD(network.parameters(), lr=config.learning_rate, momentum=MOMENTUM, nesterov=True)
    fused = next(network.parameters()).device.type == "cuda"  # one kernel for all parameters
    return torch.optim.Adam(network.parameters(), lr=config.learning_rate, eps=KERAS_EPSILON, fused=fused)


def _load_optimiser(optimiser: torch.optim.Optimizer, stored: Checkpoint) -> None:
    groups, parameters = optimiser.state_dict()["param_groups"], optimiser.param_groups[0]["params"]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in stored.part("optimiser").items():
        index, kind = name.split("/")
        if tensor.ndim:  # in the parameter's own memory layout, as the fused Adam wants it; `step` is a scalar
            tensor = torch.empty_like(parameters[int(index)]).copy_(tensor)  # noqa: PLW2901
        moments.setdefault(int(index), {})[kind] = tensor
    optimiser.load_state_dict({"state": moments, "param_groups": groups})


def _record(state: _State, config: TrainConfig) -> dict[str, Any]:
    return {"config": config.to_dict(), "epoch": state.epoch, "best_dice": state.best_dice}


def _save(run: Run, state: _State, config: TrainConfig) -> None:
    tensors = {f"network/{name}": tensor for name, tensor in state.network.state_dict().items()}
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{kind}": tensor for kind, tensor in moments.items()}
    write_checkpoint(run.checkpoint_file, Checkpoint(tensors, _record(state, config)))


def _write_network(path: Path, state: _State, config: TrainConfig) -> None:
    tensors = {f"network/{name}": tensor for name, tensor in state.network.state_dict().items()}
    write_checkpoint(path, Checkpoint(tensors, _record(state, config)))
