"""Training by a `Recipe`: steps, a moving average of the weights, checkpoints that continue exactly."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bleedmap.errors import OutputError, SettingsError
from bleedmap.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from bleedmap.models.imagenet import load_encoder
from bleedmap.models.lite_unet import Answer, LiteUNet, build_lite
from bleedmap.training.device import Machine
from bleedmap.training.losses import soft_dice
from bleedmap.training.recipe import Recipe
from bleedmap.training.sampling import Pools, apply, draw_step

SAVE_EVERY_S = 60.0
LARGEST_GRADIENT = 5.0  # norm over all parameters
_REPORT_EVERY = 20  # steps
# What recipes of the first trainings did not name; and a setting that is gone, whose every kept network had none.
_LATER = {"painted": 0, "paintings": 0, "start_share": 0.0}
_GONE = {"pasted": 0.0}

Report = Callable[[int, dict[str, float]], None]


@dataclass
class _State:
    """What a checkpoint holds."""

    network: LiteUNet
    average: dict[str, Tensor]
    optimiser: torch.optim.Optimizer
    step: int


def fit(
    recipe: Recipe, pools: Pools, machine: Machine, folder: Path, start: Mapping[str, Tensor] | None = None,
    report: Report = lambda step, losses: None,
) -> LiteUNet:  # fmt: skip
    """Train to the recipe's last step, from the folder's checkpoint where there is one.

    Args:
        recipe: the settings.
        pools: what is trained on.
        machine: device and precision.
        folder: of `checkpoint.safetensors`, removed at the end, and `network.safetensors`, the weights kept.
        start: weights of a network to begin from, of which the recipe's share is kept; ImageNet's encoder without.
        report: called with the step and the losses, every twentieth step.

    Returns:
        The network with the weights kept, ready to predict.

    Raises:
        OutputError: the folder's checkpoint is of another recipe.
        SettingsError: a share of the start is to be kept, and there is none.
    """
    if recipe.start_share and start is None:
        raise SettingsError(
            "start_share", found=f"{recipe.start_share} of no network",
            needed="a network that the training goes on from", remedy="give one, or keep no share",
        )  # fmt: skip
    finished, checkpoint = folder / "network.safetensors", folder / "checkpoint.safetensors"
    if finished.is_file():
        return load_fitted(finished, recipe)
    state = _begin(recipe, machine, start)
    if checkpoint.is_file():
        _continue(state, recipe, checkpoint)
    saved = time.monotonic()
    while state.step < recipe.steps:
        losses = _train_step(state, recipe, pools, machine)
        if state.step % _REPORT_EVERY == 0 or state.step == recipe.steps:
            report(state.step, {name: float(value) for name, value in losses.items()})
        if time.monotonic() - saved >= SAVE_EVERY_S and state.step < recipe.steps:
            _save(state, recipe, checkpoint)
            saved = time.monotonic()
    kept = _between(state.average, start, recipe.start_share) if start is not None else state.average
    tensors = {f"network/{name}": tensor for name, tensor in kept.items()}
    write_checkpoint(finished, Checkpoint(tensors, {"recipe": recipe.to_dict(), "step": state.step}))
    checkpoint.unlink(missing_ok=True)
    return load_fitted(finished, recipe)


def _between(after: Mapping[str, Tensor], before: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights between two networks of which one went on from the other: `share` of the earlier one's."""
    return {
        name: torch.lerp(tensor, before[name].to(tensor), share) if tensor.is_floating_point() else tensor
        for name, tensor in after.items()
    }


def load_fitted(path: Path, recipe: Recipe) -> LiteUNet:
    """A finished network, ready to predict.

    Raises:
        OutputError: it was trained by another recipe.
    """
    stored = read_checkpoint(path)
    _check_recipe(stored, recipe, path)
    network = build_lite(recipe.network(), recipe.seed)
    network.load_state_dict(stored.part("network"))
    return network.eval()


def rate(recipe: Recipe, step: int) -> float:
    """The learning rate's part at `step`, 0 to 1: a linear rise, then a cosine to 0."""
    rise = max(1, round(recipe.warm_up * recipe.steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, recipe.steps - rise)))


def losses_of(answer: Answer, cover: Tensor, labels: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """The parts of the loss, weighted; `cover` (n, 1, size/2, size/2) in 0 to 1."""
    logits = answer.logits.float()
    return {
        "dice": 1 - soft_dice(logits, cover),
        "pixels": functional.binary_cross_entropy_with_logits(logits, cover),
        "labels": recipe.labels_weight * functional.binary_cross_entropy_with_logits(answer.labels.float(), labels),
    }


def _train_step(state: _State, recipe: Recipe, pools: Pools, machine: Machine) -> dict[str, Tensor]:
    device = machine.device
    slices, cover, labels = (one.to(device) for one in apply(draw_step(recipe, pools, state.step), pools, recipe))
    part = rate(recipe, state.step)
    for group in state.optimiser.param_groups:
        group["lr"] = part * group["highest"]
    torch.manual_seed(recipe.seed * 1_000_003 + state.step)  # dropout
    state.network.train()
    with torch.autocast(device.type, torch.bfloat16, enabled=machine.bf16):
        answer = state.network(slices.contiguous(memory_format=torch.channels_last))
    losses = losses_of(answer, cover, labels, recipe)
    state.optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(sum(losses.values(), torch.zeros((), device=device)))
    nn.utils.clip_grad_norm_(state.network.parameters(), LARGEST_GRADIENT)
    state.optimiser.step()
    state.step += 1
    _take_average(state, recipe)
    return {name: value.detach() for name, value in losses.items()}


@torch.no_grad()
def _take_average(state: _State, recipe: Recipe) -> None:
    decay = min(recipe.average, state.step / (state.step + 10))  # follows at first
    current = state.network.state_dict()
    names = [name for name, tensor in state.average.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([state.average[name] for name in names], [current[name] for name in names], 1 - decay)


def _begin(recipe: Recipe, machine: Machine, start: Mapping[str, Tensor] | None) -> _State:
    network = build_lite(recipe.network(), recipe.seed)
    if start is None:
        load_encoder(network)
    else:
        network.load_state_dict(dict(start))
    network = network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    groups = [
        {"params": network.encoder_parameters(), "highest": recipe.learning_rate * recipe.encoder_rate},
        {"params": network.new_parameters(), "highest": recipe.learning_rate},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=machine.device.type != "mps")
    average = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    return _State(network, average, optimiser, 0)


def _save(state: _State, recipe: Recipe, path: Path) -> None:
    tensors = {f"network/{name}": tensor for name, tensor in state.network.state_dict().items()}
    tensors |= {f"average/{name}": tensor for name, tensor in state.average.items()}
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{index}/{kind}": tensor for kind, tensor in moments.items()}
    write_checkpoint(path, Checkpoint(tensors, {"recipe": recipe.to_dict(), "step": state.step}))


def _continue(state: _State, recipe: Recipe, path: Path) -> None:
    stored = read_checkpoint(path)
    _check_recipe(stored, recipe, path)
    state.network.load_state_dict(stored.part("network"))
    for name, tensor in stored.part("average").items():
        state.average[name].copy_(tensor)
    parameters = [one for group in state.optimiser.param_groups for one in group["params"]]
    moments: dict[int, dict[str, Any]] = {}
    for name, tensor in stored.part("optimiser").items():
        index, kind = name.split("/")
        value = torch.empty_like(parameters[int(index)]).copy_(tensor) if tensor.ndim else tensor
        moments.setdefault(int(index), {})[kind] = value
    state.optimiser.load_state_dict({"state": moments, "param_groups": state.optimiser.state_dict()["param_groups"]})
    state.step = int(stored.record["step"])


def _check_recipe(stored: Checkpoint, recipe: Recipe, path: Path) -> None:
    record = stored.record.get("recipe")
    wanted = _GONE | json.loads(json.dumps(recipe.to_dict()))
    if not isinstance(record, dict) or _GONE | _LATER | record != wanted:
        raise OutputError(
            path, found="weights of another recipe", needed="the recipe that this command trains by",
            remedy="give another folder, or remove this one",
        )  # fmt: skip
