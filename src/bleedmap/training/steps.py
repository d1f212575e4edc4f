"""Training by a `Recipe`, in steps over whole studies: the network that ships, and those of the folds."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bleedmap.arrays import ignore
from bleedmap.errors import OutputError, SettingsError
from bleedmap.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from bleedmap.models.lite_unet import LiteUNet, build_lite, drop_guides, load_encoder
from bleedmap.preprocess import Preprocessing
from bleedmap.training.augment import apply_step, draw_step
from bleedmap.training.config import LiteConfig, Recipe
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
    wait_for_others,
)
from bleedmap.training.losses import lite_losses
from bleedmap.training.painting import load_paintings
from bleedmap.training.run import Run
from bleedmap.training.samples import Pools, Samples, load_phantoms, load_studies
from bleedmap.training.studies import Studies

SAVE_EVERY_S = 60.0
ROUND = 20  # steps between metrics
LARGEST_GRADIENT = 5.0  # norm over all parameters
# What recipes of the first trainings did not name; and a setting that is gone, whose every kept network had none.
_LATER = {
    "painted": 0, "paintings": 0, "start_share": 0.0, "frame_mm": 0.0, "bone": False, "boneless": 0.0,
    "mirrored": False, "decoys": 0.0, "slice_dice": 0.0, "free_weight": 1.0, "varied": False,
    "deep": 0.0, "skull": 0.0, "fine": 0,
}  # fmt: skip
_GONE = {"pasted": 0.0}

Work = Callable[[str, int, int, str], None]  # what is being done, done, of, last words


class Steps:
    """A `Task` whose round is some steps of a recipe; a moving average of the weights is what is kept.

    Each of several processes takes its share of every batch; batch norm and Dice are then of that share, and the
    gradients' mean is what all of them step by: other weights than one process', as good a training.
    """

    unit = "step"

    def __init__(self, recipe: Recipe, pools: Pools, machine: Machine, start: Mapping[str, Tensor] | None) -> None:
        if machine.processes > recipe.batch:
            raise SettingsError(
                "processes", found=f"{machine.processes} processes for batches of {recipe.batch} slices",
                needed="a slice for each process at least", remedy="start fewer processes",
            )  # fmt: skip
        self._recipe, self._pools, self._machine = recipe, pools, replace(machine, compiled=False)
        network = build_lite(recipe.network(), recipe.seed, recipe.guided)
        if start is None:
            load_encoder(network, slices=2 * recipe.neighbours + 1)
        else:
            network.load_state_dict(network.state_dict() | dict(start))
        network = network.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network: LiteUNet = network
        groups = [
            {"params": network.encoder_parameters(), "highest": recipe.learning_rate * recipe.encoder_rate},
            {"params": network.new_parameters(), "highest": recipe.learning_rate},
        ]
        optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay, fused=machine.device.type != "mps")
        self.state = State(network, optimiser, {name: one.clone() for name, one in network.state_dict().items()})
        self.end, self.save_every_s = recipe.steps, SAVE_EVERY_S
        self._called: nn.Module | None = None

    def train_round(self, report: Report) -> dict[str, Any]:
        """Steps up to the next multiple of `ROUND`; the parts of the loss are their means."""
        if self._called is None:
            self._called = prepare_network(self.network, self._machine)
        found = [self._train_step(self._called)]
        while self.state.done % ROUND and self.state.done < self.end:
            report(self.state.done, {})
            found.append(self._train_step(self._called))
        parts = {name: float(torch.stack([one[name] for one in found]).mean()) for name in found[0]}
        return {"samples": len(found) * self._recipe.batch, "loss": sum(parts.values()), **parts}

    def finish_round(self) -> dict[str, Any]:
        """Nothing: a recipe has as many steps as it says, and no validation chooses among them."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Settings and progress, for a checkpoint's record."""
        return {"recipe": self._recipe.to_dict(), "step": self.state.done}

    def _train_step(self, called: nn.Module) -> dict[str, Tensor]:
        recipe, state, machine = self._recipe, self.state, self._machine
        whole = apply_step(draw_step(recipe, self._pools, state.done), self._pools, recipe)
        slices, cover, labels = (one[machine.rank :: machine.processes].to(machine.device) for one in whole)
        part = find_rate(recipe, state.done)
        for group in state.optimiser.param_groups:
            group["lr"] = part * group["highest"]
        torch.manual_seed(recipe.seed * 1_000_003 + state.done + machine.rank * 1_000_000_007)  # dropout
        self.network.train()
        with autocast(machine):
            answer = called(slices.contiguous(memory_format=torch.channels_last))
        losses = lite_losses(answer, cover, labels, recipe)
        state.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(sum(losses.values(), torch.zeros((), device=machine.device)))
        nn.utils.clip_grad_norm_(self.network.parameters(), LARGEST_GRADIENT)
        state.optimiser.step()
        state.done += 1
        self._take_average()
        return {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def _take_average(self) -> None:
        state = self.state
        decay = min(self._recipe.average, state.done / (state.done + 10))  # follows at first
        current = state.network.state_dict()
        names = [name for name, tensor in state.average.items() if tensor.is_floating_point()]
        torch._foreach_lerp_([state.average[name] for name in names], [current[name] for name in names], 1 - decay)


def train_recipe(
    recipe: Recipe, pools: Callable[[], Pools], machine: Machine, folder: Path,
    start: Mapping[str, Tensor] | None = None, report: Report = ignore,
) -> LiteUNet:  # fmt: skip
    """Train to the recipe's last step, from the folder's checkpoint where there is one.

    Args:
        pools: gives what is trained on; not called where the network is there already.
        folder: of metrics, curves, `checkpoint.safetensors`, removed at the end, and `network.safetensors`, the
            weights kept.
        start: weights of a network to begin from, of which the recipe's share is kept; ImageNet's encoder without.
        report: called after each step, and with the metrics after every twentieth.

    Returns:
        The network with the weights kept, ready to predict.

    Raises:
        OutputError: the folder's files are of another recipe.
        SettingsError: a share of the start is to be kept, and there is none; or more processes than slices of a batch.
    """
    if recipe.start_share and start is None:
        raise SettingsError(
            "start_share", found=f"{recipe.start_share} of no network",
            needed="a network that the training goes on from", remedy="give one, or keep no share",
        )  # fmt: skip
    run = Run(folder)
    if run.network_file.is_file():
        return load_recipe_network(run.network_file, recipe)
    if run.checkpoint_file.is_file():
        _check_recipe(read_checkpoint(run.checkpoint_file), recipe, run.checkpoint_file)
    task = Steps(recipe, pools(), machine, start)
    resume(task, run)
    train(task, run, machine, report)
    if machine.rank == 0:
        kept = drop_guides(task.state.average)
        kept = kept if start is None else _mix(kept, start, recipe.start_share)
        write_checkpoint(run.network_file, Checkpoint(network_tensors(kept), task.describe()))
        run.checkpoint_file.unlink(missing_ok=True)
    wait_for_others(machine)
    return load_recipe_network(run.network_file, recipe)


def load_recipe_network(path: Path, recipe: Recipe) -> LiteUNet:
    """A finished network, ready to predict.

    Raises:
        OutputError: it was trained by another recipe.
    """
    stored = read_checkpoint(path)
    _check_recipe(stored, recipe, path)
    network = build_lite(recipe.network(), recipe.seed)
    network.load_state_dict(stored.part("network"))
    return network.eval()


@dataclass(frozen=True, eq=False)
class PoolSource:
    """What recipes are trained on; patients and phantoms are read once for each size."""

    studies: Studies  # with references
    cache: Path | None  # a folder that keeps the decoded slices for the next run; None: they are decoded again
    report: Work  # called as work goes on
    _patients: dict[Preprocessing, Samples] = field(default_factory=dict)
    _phantoms: dict[tuple[Preprocessing, int, int], Samples] = field(default_factory=dict)

    def pools(self, recipe: Recipe, patients: tuple[int, ...]) -> Pools:
        """Those patients and, where the recipe has them, phantoms and paintings; phantoms alone without patients."""
        phantoms = self._read_phantoms(recipe) if recipe.phantom else None
        if not recipe.lesion and not recipe.lesion_free and not recipe.painted:
            assert phantoms is not None
            return Pools(phantoms, phantoms)
        samples = self.read_patients(recipe).of(patients)
        if not recipe.painted:
            return Pools(samples, phantoms)
        paintings = load_paintings(
            samples, recipe.paintings, recipe.seed, lambda done, of: self.report("painting bleeds", done, of, ""),
            recipe.frame_mm, recipe.decoys, recipe.varied,
        )  # fmt: skip
        return Pools(samples, phantoms, paintings)

    def read_patients(self, recipe: Recipe) -> Samples:
        """All patients, as the recipe's slices are stored."""
        key = recipe.stored()
        if key not in self._patients:
            self._patients[key] = load_studies(
                self.studies, key, self.cache, lambda done, of: self.report("reading studies", done, of, "")
            )
        return self._patients[key]

    def _read_phantoms(self, recipe: Recipe) -> Samples:
        key = (recipe.stored(), recipe.phantoms, recipe.seed)
        if key not in self._phantoms:
            self._phantoms[key] = load_phantoms(
                recipe.phantoms, recipe.stored(), recipe.seed,
                lambda done, of: self.report("making phantoms", done, of, ""),
            )  # fmt: skip
        return self._phantoms[key]


def train_stages(
    run: Run, config: LiteConfig, source: PoolSource, patients: tuple[int, ...], machine: Machine
) -> LiteUNet:
    """Train the stages one after the other, each in a folder of its own below the run's, from where they stand.

    The first begins with the run's `start_file`, where there is one, else with ImageNet's encoder.

    Returns:
        The last stage's network, ready to predict.
    """
    start = dict(read_checkpoint(run.start_file).part("network")) if run.start_file.is_file() else None
    network: LiteUNet | None = None
    for name, recipe in config.stages:
        wait_for_others(machine)  # so that all find the same files
        network = train_recipe(
            recipe, lambda: source.pools(recipe, patients), machine, run.folder / name, start,  # noqa: B023
            report_steps(source.report, f"stage {name}", recipe.steps),
        )  # fmt: skip
        start = dict(network.state_dict())
    assert network is not None
    return network


def report_steps(report: Work, what: str, steps: int) -> Report:
    """A loop's report in words: the parts of the loss after each round."""

    def tell(done: float, entry: dict[str, Any]) -> None:
        parts = (f"{name} {entry[name]:.3f}" for name in ("dice", "pixels", "labels") if entry)
        if entry:
            report(what, int(done), steps, "  ".join(parts))

    return tell


def find_rate(recipe: Recipe, step: int) -> float:
    """The learning rate's part at `step`, 0 to 1."""
    return rise_and_fall(1.0, step, recipe.steps, max(1, round(recipe.warm_up * recipe.steps)))


def _mix(after: Mapping[str, Tensor], before: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights between two networks of which one went on from the other: `share` of the earlier one's."""
    return {
        name: torch.lerp(tensor, before[name].to(tensor), share) if tensor.is_floating_point() else tensor
        for name, tensor in after.items()
    }


def _check_recipe(stored: Checkpoint, recipe: Recipe, path: Path) -> None:
    record = stored.record.get("recipe")
    wanted = _GONE | json.loads(json.dumps(recipe.to_dict()))
    if not isinstance(record, dict) or _GONE | _LATER | record != wanted:
        raise OutputError(
            path, found="weights of another recipe", needed="the recipe that this command trains by",
            remedy="give another folder, or remove this one",
        )  # fmt: skip
