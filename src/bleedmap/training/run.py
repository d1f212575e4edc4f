"""A run folder: config, split, code version, metrics, curves, checkpoint, weights.

A run of `LiteConfig` has a folder of metrics, curves, checkpoint and weights for each stage below its own.
"""

import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from bleedmap import __version__
from bleedmap.datasets import own_split
from bleedmap.datasets.own_split import OwnSplit, read_own_split
from bleedmap.datasets.splits import Split, read_split
from bleedmap.errors import InputError, OutputError, SettingsError, SplitError, usable
from bleedmap.io.files import write_json, written_whole
from bleedmap.models.checkpoint import Checkpoint, load_network, read_checkpoint, write_checkpoint
from bleedmap.models.lite_unet import LiteUNet, build_lite
from bleedmap.models.unet import UNet, build
from bleedmap.training.config import LiteConfig, TrainConfig, read_config
from bleedmap.training.device import Machine, choose_machine

_NEEDED, _REMEDY = "the JSON that `bleedmap train` wrote", "restore the file, or begin a new run"


class Run:
    """The files of one training run.

    Attributes:
        folder: of the run.
        config_file: the settings as JSON.
        split_file: the split that was trained on.
        record_file: code version and machine.
        metrics_file: one JSON object an epoch, or every twenty steps.
        checkpoint_file: network and optimiser after one of the last epochs: what `--resume` continues.
        curves_folder: what TensorBoard shows.
        start_file: the weights that the first stage begins with, where they are not ImageNet's.
        network_file: the weights that a recipe's training ended with.
        best_file: the network to export: of the epoch with the best validation Dice, or of the last stage with what was
            chosen for it on the validation side.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config_file = folder / "config.json"
        self.split_file = folder / "split.json"
        self.record_file = folder / "run.json"
        self.metrics_file = folder / "metrics.jsonl"
        self.checkpoint_file = folder / "checkpoint.safetensors"
        self.curves_folder = folder / "curves"
        self.start_file = folder / "start.safetensors"
        self.network_file = folder / "network.safetensors"
        self.best_file = folder / "best.safetensors"

    def kept_file(self, epoch: int) -> Path:
        """The network as it stood after that epoch, where `keep_every` asked for it."""
        return self.folder / f"kept/epoch-{epoch:04d}.safetensors"

    def refuse_occupied(self) -> None:
        """Refuse a place that holds anything: to be asked before long work begins.

        Raises:
            OutputError: it is a file, or a folder that is not empty.
        """
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise OutputError(
                self.folder,
                found="already holds files" if self.folder.is_dir() else "is a file",
                needed="a new folder for a new run",
                remedy="give another folder, or continue this run with `bleedmap train --resume`",
            )

    def begin(
        self, config: TrainConfig | LiteConfig, split: Split | OwnSplit, machine: Machine,
        start: Checkpoint | None = None,
    ) -> None:  # fmt: skip
        """Write what the run is; `start` is what its first stage begins with.

        Raises:
            OutputError: the folder is not empty, or cannot be written.
        """
        self.refuse_occupied()
        if start is not None:
            write_checkpoint(self.start_file, start)
        write_json(self.config_file, config.to_dict())
        split.write(self.split_file)
        where = {
            "device": machine.device.type, "bf16": machine.bf16, "compiled": machine.compiled,
            "processes": machine.processes, "threads": torch.get_num_threads(),
        }  # fmt: skip
        versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
        write_json(self.record_file, {"code": code_version(), **where, **versions})

    def record(self) -> dict[str, Any]:
        """Code version, and how the run computes: device, bf16, compiled, processes, threads."""
        return _read_json(self.record_file)

    def machine(self) -> Machine:
        """The machine as the run began: a resumed run computes as before, with as many threads (sets torch's).

        Raises:
            SettingsError: this machine lacks that device, or another number of processes was started.
        """
        record = self.record()
        with usable(self.record_file, SettingsError, _NEEDED, _REMEDY, found="lacks a value"):
            device, bf16, processes = str(record["device"]), bool(record["bf16"]), int(record["processes"])
        machine = choose_machine(device, "bf16" if bf16 else "fp32", compiled=bool(record.get("compiled", False)))
        if machine.processes != processes:
            raise SettingsError(
                self.folder,
                found=f"{machine.processes} process(es)",
                needed=f"{processes}, as the run began",
                remedy=f"resume it under torchrun --nproc-per-node {processes}" if processes > 1 else "start it alone",
            )
        if machine.device.type == "cpu" and (threads := record.get("threads")):
            torch.set_num_threads(int(threads))  # sums in another order differ in the last digit
        return machine

    def settings(self) -> TrainConfig | LiteConfig:
        """The run's settings, of either kind."""
        return read_config(_read_json(self.config_file))

    def config(self) -> TrainConfig:
        """The settings of a run by passes over slices.

        Raises:
            SettingsError: the run trains in stages.
        """
        config = self.settings()
        if isinstance(config, LiteConfig):
            raise SettingsError(
                self.folder, found="a run in stages over whole studies", needed="a run of a network of the thesis",
                remedy="look at the run's curves with TensorBoard, or measure it with `bleedmap evaluate`",
            )  # fmt: skip
        return config

    def split(self) -> Split:
        """The run's split of CT-ICH.

        Raises:
            SplitError: it was trained on studies of one's own.
        """
        if self.is_own:
            raise SplitError(
                self.folder, found="a run on studies of one's own", needed="a run on CT-ICH",
                remedy="measure it with `bleedmap export RUN -o own.onnx`, then `bleedmap evaluate --studies FOLDER "
                "--weights own.onnx`",
            )  # fmt: skip
        return read_split(self.split_file)

    @property
    def is_own(self) -> bool:
        """Whether it was trained on studies of one's own."""
        return self.split_file.is_file() and _read_json(self.split_file).get("format") == own_split.FORMAT

    def own_split(self) -> OwnSplit:
        """The run's split of one's own studies."""
        return read_own_split(self.split_file)

    def best(self) -> tuple[UNet | LiteUNet, Checkpoint]:
        """The network of `best_file`, ready to predict, and its checkpoint.

        Raises:
            WeightsError: the run has not come so far, or the file is damaged.
        """
        return self._network(self.best_file)

    def kept(self, epoch: int) -> tuple[UNet | LiteUNet, Checkpoint]:
        """The network as it stood after a kept epoch, ready to predict, and its checkpoint.

        Raises:
            WeightsError: that epoch was not kept, or the file is damaged.
        """
        return self._network(self.kept_file(epoch))

    def _network(self, file: Path) -> tuple[UNet | LiteUNet, Checkpoint]:
        checkpoint, config = read_checkpoint(file), self.settings()
        network: UNet | LiteUNet
        if isinstance(config, LiteConfig):
            network = build_lite(config.recipe.network(), seed=0)
        else:
            network = build(config.network_settings(), seed=0)
        load_network(network, checkpoint, file)
        return network.eval(), checkpoint

    def metrics(self) -> list[dict[str, Any]]:
        """One entry a round, in order; empty before the first."""
        if not self.metrics_file.exists():
            return []
        with usable(self.metrics_file, SettingsError, _NEEDED, _REMEDY, found="cannot be read"):
            entries = [json.loads(line) for line in self.metrics_file.read_text("utf-8").splitlines()]
            return sorted(entries, key=lambda entry: int(entry["epoch"] if "epoch" in entry else entry["step"]))

    def write_metrics(self, entries: list[dict[str, Any]]) -> None:
        """Replace the whole file, so that it never holds half a line."""
        with written_whole(self.metrics_file) as temporary:
            temporary.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")


def open_run(folder: Path) -> Run:
    """A run that exists.

    Raises:
        InputError: the folder is no run.
    """
    run = Run(folder)
    if not run.config_file.is_file():
        raise InputError(
            folder,
            found="no config.json in it" if folder.is_dir() else "no such folder",
            needed="the folder of a run that `bleedmap train` began",
            remedy="check the path",
        )
    return run


def _read_json(path: Path) -> dict[str, Any]:
    with usable(path, SettingsError, _NEEDED, _REMEDY, found="cannot be read"):
        content = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not an object")
        return content


def code_version() -> str:
    """The package's version, and the commit where the code is run from a git checkout."""
    here = Path(__file__).parent
    try:
        found = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{found.stdout.strip()}"
