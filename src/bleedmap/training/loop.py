"""The training loop: rounds, curves, and a checkpoint from which a stopped run goes on to the very same weights.

A `Task` says what a round is: a pass over single slices (`bleedmap.training.passes`), or steps of a recipe
(`bleedmap.training.steps`). Whatever is random in a round is drawn from the seed and the round's number, so that a
resumed run is the same run.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter

from bleedmap.arrays import ignore
from bleedmap.models.checkpoint import Checkpoint, load_network, read_checkpoint, write_checkpoint
from bleedmap.training.device import Machine
from bleedmap.training.run import Run

Report = Callable[[float, dict[str, Any]], None]  # units done, and the metrics of a round that ended, else {}


@dataclass
class State:
    """What a checkpoint holds."""

    network: nn.Module  # being trained
    optimiser: torch.optim.Optimizer  # of its parameters
    average: dict[str, Tensor] = field(default_factory=dict)  # moving average of the weights; empty where none is kept
    done: int = 0  # epochs, or steps
    best_dice: float = -1.0  # the highest validation Dice so far, where one is measured


class Task(Protocol):
    """What is trained."""

    state: State  # network, optimiser and progress
    unit: str  # what `state.done` counts, 'epoch' or 'step': its name in metrics and records
    end: int  # the number of them
    save_every_s: float  # least seconds between checkpoints; what came after the last one is computed again on resuming

    def train_round(self, report: Report) -> dict[str, Any]:
        """Train some units, move `state.done` on, and return the metrics."""

    def finish_round(self) -> dict[str, Any]:
        """What one process alone does after a round, as validation, and its metrics."""

    def describe(self) -> dict[str, Any]:
        """Settings and progress, for a checkpoint's record."""


def train(task: Task, run: Run, machine: Machine, report: Report = ignore) -> None:
    """Train `task` to its end, after `resume`.

    Args:
        run: its folder receives checkpoint, metrics and TensorBoard curves.
        report: called within rounds, and after each with its metrics.
    """
    state, leads, saved = task.state, machine.rank == 0, -math.inf
    entries = [entry for entry in run.metrics() if entry[task.unit] <= state.done]
    curves = SummaryWriter(run.curves_folder, purge_step=state.done + 1) if leads else None
    while state.done < task.end:
        begun = time.monotonic()
        entry = task.train_round(report)
        if not leads:
            continue
        entry = {task.unit: state.done} | entry | task.finish_round()
        entry["seconds"] = round(time.monotonic() - begun, 2)
        entries.append(entry)
        if state.done == task.end or time.monotonic() - saved >= task.save_every_s:
            run.write_metrics(entries)
            write_checkpoint(run.checkpoint_file, Checkpoint(_tensors(state), task.describe()))
            saved = time.monotonic()
        assert curves is not None
        for name, value in entry.items():
            curves.add_scalar(name, value, state.done)
        report(state.done, entry)
    if curves is not None:
        curves.close()


def resume(task: Task, run: Run) -> None:
    """Put the run's checkpoint, where there is one, into the task's state."""
    if not run.checkpoint_file.exists():
        return
    stored, state = read_checkpoint(run.checkpoint_file), task.state
    load_network(state.network, stored, run.checkpoint_file)
    for name, tensor in stored.part("average").items():
        state.average[name].copy_(tensor)
    _load_optimiser(state.optimiser, stored)
    state.done, state.best_dice = int(stored.record[task.unit]), stored.record.get("best_dice", -1.0)


def start_together(machine: Machine) -> None:
    """Under torchrun: join the other processes, and wait until the first has begun the run folder."""
    if machine.processes > 1:
        distributed.init_process_group("nccl" if machine.device.type == "cuda" else "gloo")
        distributed.barrier()


def wait_for_others(machine: Machine) -> None:
    """Under torchrun: wait until all processes have come here."""
    if machine.processes > 1:
        distributed.barrier()


def prepare_network(network: nn.Module, machine: Machine) -> nn.Module:
    """The network as the loop calls it: across processes, compiled; the same parameters."""
    whole = network if machine.processes == 1 else DistributedDataParallel(network)
    if machine.device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # shapes do not change: the fastest kernels are worth a search
    if machine.compiled:
        torch._dynamo.reset()  # what earlier runs of this process compiled counts against a limit of eight
    # Two shapes, whole batches and an epoch's last: each is compiled for itself.
    return torch.compile(whole, dynamic=False) if machine.compiled else whole  # type: ignore[return-value]


def rise_and_fall(highest: float, step: int, steps: int, rise: int) -> float:
    """A learning rate at `step` of `steps`: a linear rise of `rise` steps to the highest, then a cosine to 0."""
    if step < rise:
        return highest * (step + 1) / rise
    return highest * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def autocast(machine: Machine) -> torch.autocast:
    """bf16 where the machine trains in it."""
    return torch.autocast(machine.device.type, torch.bfloat16, enabled=machine.bf16)


def network_tensors(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as a checkpoint names them."""
    return {f"network/{name}": tensor for name, tensor in weights.items()}


def _tensors(state: State) -> dict[str, Tensor]:
    tensors = network_tensors(state.network.state_dict())
    tensors |= {f"average/{name}": tensor for name, tensor in state.average.items()}
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{kind}": tensor for kind, tensor in moments.items()}
    return tensors


def _load_optimiser(optimiser: torch.optim.Optimizer, stored: Checkpoint) -> None:
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in stored.part("optimiser").items():
        index, kind = name.split("/")
        if tensor.ndim:  # in the parameter's own memory layout, as the fused Adam wants it; `step` is a scalar
            tensor = torch.empty_like(parameters[int(index)]).copy_(tensor)  # noqa: PLW2901
        moments.setdefault(int(index), {})[kind] = tensor
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
