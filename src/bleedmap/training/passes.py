"""Training by passes over single slices, as the thesis does: an epoch shows each slice of the training side once."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bleedmap.arrays import ignore
from bleedmap.metrics.overlap import Counts, accuracy, dice, mean_iou
from bleedmap.models.checkpoint import Checkpoint, write_checkpoint
from bleedmap.models.unet import UNet, build
from bleedmap.training.augment import EpochDraw, apply_epoch, draw_epoch
from bleedmap.training.config import TrainConfig
from bleedmap.training.device import Machine
from bleedmap.training.loop import (
    Report,
    State,
    autocast,
    network_tensors,
    prepare_network,
    resume,
    rise_and_fall,
    train,
)
from bleedmap.training.losses import batch_loss, soft_dice
from bleedmap.training.run import Run
from bleedmap.training.samples import Side

WARM_UP = 0.03  # of all steps, with the cosine schedule
KERAS_EPSILON = 1e-7  # Adam's, as the thesis' library has it
MOMENTUM = 0.9  # of gradient descent
SAVE_EVERY_S = 10.0  # seconds between checkpoints: with an epoch in half a second, one an epoch would cost more than it


class Passes:
    """A `Task` whose round is an epoch; the weights of the epoch with the best validation Dice are kept."""

    unit = "epoch"

    def __init__(self, run: Run, config: TrainConfig, training: Side, validation: Side, machine: Machine) -> None:
        self._run, self._config, self._machine = run, config, machine
        self._training, self._validation = training.to(machine.device), validation.to(machine.device)
        network = build(config.network_settings(), config.seed)
        network = network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network: UNet = network
        self.state = State(network, make_optimiser(network, config))
        self.end, self.save_every_s = config.epochs, SAVE_EVERY_S
        self._has_lesion = training.has_lesion
        self._called: nn.Module | None = None

    def train_round(self, report: Report) -> dict[str, Any]:
        """One pass over the training side."""
        config, epoch = self._config, self.state.done + 1
        if self._called is None:
            self._called = prepare_network(self.network, self._machine)
        drawn = draw_epoch(config, self._has_lesion, epoch)
        torch.manual_seed(config.seed * 1_000_003 + epoch * 1_009 + self._machine.rank)  # dropout
        losses = train_epoch(
            self._called, self.state.optimiser, config, drawn, self._training, self._machine, epoch, report
        )
        self.state.done = epoch
        return {"samples": len(drawn), "loss": float(np.mean(losses))}

    def finish_round(self) -> dict[str, Any]:
        """Validate, and keep the best network and those that `keep_every` asks for."""
        config, state, entry = self._config, self.state, dict[str, Any]()
        if state.done % config.validate_every == 0 or state.done == config.epochs:
            entry = validate(self.network, self._validation, config, self._machine)
            if entry["validation_dice"] > state.best_dice:
                state.best_dice = entry["validation_dice"]
                self._write_network(self._run.best_file)
        if config.keep_every and state.done % config.keep_every == 0:
            self._write_network(self._run.kept_file(state.done))
        return entry

    def describe(self) -> dict[str, Any]:
        """Settings and progress, for a checkpoint's record."""
        return {"config": self._config.to_dict(), "epoch": self.state.done, "best_dice": self.state.best_dice}

    def _write_network(self, path: Path) -> None:
        write_checkpoint(path, Checkpoint(network_tensors(self.network.state_dict()), self.describe()))


def train_passes(
    run: Run, config: TrainConfig, training: Side, validation: Side, machine: Machine,
    report: Report = ignore,
) -> UNet:  # fmt: skip
    """Train until `config.epochs`, from the run's checkpoint where there is one; return the network as it then stands.

    Args:
        run: its folder receives checkpoint, best weights, metrics and TensorBoard curves.
        validation: measured every `config.validate_every` epochs; decides which weights are the best.
        report: called after each step with the epochs done (with fractions) and {}, and after each epoch with its
            metrics.
    """
    task = Passes(run, config, training, validation, machine)
    resume(task, run)
    train(task, run, machine, report)
    return task.network


def steps_per_epoch(samples: int, config: TrainConfig, processes: int = 1) -> int:
    """Steps of an epoch; a last batch too small to give every process a slice is left out."""
    whole, rest = divmod(samples, config.batch_size)
    return whole + (rest >= processes)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The rate at `step` of `steps`, a pure function of the two."""
    if config.schedule == "constant":
        return config.learning_rate
    return rise_and_fall(config.learning_rate, step, steps, max(1, round(WARM_UP * steps)))


def train_epoch(
    network: nn.Module, optimiser: torch.optim.Optimizer, config: TrainConfig, drawn: EpochDraw, side: Side,
    machine: Machine, epoch: int, report: Report = ignore,
) -> list[float]:  # fmt: skip
    """One pass over the samples of `drawn`; the loss of each step. Nothing waits for the device before the end."""
    network.train()
    placed = drawn.to(side.inputs.device)
    steps = steps_per_epoch(len(drawn), config, machine.processes)
    losses = []
    for step in range(steps):
        rate = learning_rate(config, (epoch - 1) * steps + step, config.epochs * steps)
        for group in optimiser.param_groups:
            group["lr"] = rate
        first, end = step * config.batch_size, min((step + 1) * config.batch_size, len(drawn))
        mine = slice(first + machine.rank, end, machine.processes)
        slices, reference = apply_epoch(placed, mine, side.inputs, side.masks)
        with autocast(machine):
            logits = network(slices.contiguous(memory_format=torch.channels_last))
        loss = batch_loss(config.loss, logits, reference)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(loss.detach())
        report(epoch - 1 + (step + 1) / (steps + 1), {})
    return [float(loss) for loss in losses]


@torch.no_grad()
def predict(network: nn.Module, inputs: Tensor, machine: Machine, batch_size: int = 16) -> Tensor:
    """Logits (n, 1, size, size) float32 of inputs of that shape, by a network of the thesis."""
    network.eval()
    parts = []
    with autocast(machine):
        for batch in torch.split(inputs, batch_size):
            parts.append(network(batch.contiguous(memory_format=torch.channels_last)).float())
    return torch.cat(parts)


def validate(network: UNet, side: Side, config: TrainConfig, machine: Machine) -> dict[str, float]:
    """Loss and pooled scores of a side at the network's size; masks thresholded at 0.5."""
    logits = predict(network, side.inputs, machine)
    pooled = _count_pooled(logits >= 0, side.masks > 0)
    return {
        "validation_loss": float(batch_loss(config.loss, logits, side.masks)),
        "validation_soft_dice": float(soft_dice(logits, side.masks)),
        "validation_dice": float(dice(pooled, empty=1.0)[0]),
        "validation_mean_iou": float(mean_iou(pooled, empty=1.0)[0]),
        "validation_accuracy": float(accuracy(pooled)[0]),
    }


def _count_pooled(prediction: Tensor, reference: Tensor) -> Counts:
    """All pixels of all slices as one row, counted on the device."""
    pairs = ((reference, prediction), (~reference, prediction), (reference, ~prediction), (~reference, ~prediction))
    return Counts(*(np.array([int((one & other).sum())]) for one, other in pairs))


def make_optimiser(network: UNet, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser that the settings ask for, with fresh moments."""
    if config.optimiser == "sgd":
        return torch.optim.SGD(network.parameters(), lr=config.learning_rate, momentum=MOMENTUM, nesterov=True)
    fused = next(network.parameters()).device.type == "cuda"  # one kernel for all parameters
    return torch.optim.Adam(network.parameters(), lr=config.learning_rate, eps=KERAS_EPSILON, fused=fused)
