"""A run folder: config, split, code version, metrics, checkpoint, best weights."""

import json
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bleedmap import __version__
from bleedmap.datasets.splits import Split, read_split
from bleedmap.errors import InputError, OutputError, SettingsError
from bleedmap.io.files import write_json, written_whole
from bleedmap.models.checkpoint import Checkpoint, read_checkpoint
from bleedmap.models.unet import UNet, build
from bleedmap.training.config import TrainConfig


@dataclass(frozen=True)
class Run:
    """The files of one training run."""

    folder: Path

    @property
    def config_file(self) -> Path:
        """The TrainConfig as JSON."""
        return self.folder / "config.json"

    @property
    def split_file(self) -> Path:
        """The split that was trained on."""
        return self.folder / "split.json"

    @property
    def record_file(self) -> Path:
        """Code version, machine and progress."""
        return self.folder / "run.json"

    @property
    def metrics_file(self) -> Path:
        """One JSON object an epoch."""
        return self.folder / "metrics.jsonl"

    @property
    def checkpoint_file(self) -> Path:
        """Network and optimiser after the last whole epoch: what `--resume` continues."""
        return self.folder / "checkpoint.safetensors"

    @property
    def best_file(self) -> Path:
        """The network of the epoch with the best validation Dice."""
        return self.folder / "best.safetensors"

    def begin(self, config: TrainConfig, split: Split, machine: str) -> None:
        """Write what the run is; refuse a folder that holds another.

        Raises:
            OutputError: the folder is not empty.
        """
        if self.folder.exists() and any(self.folder.iterdir()):
            raise OutputError(
                self.folder,
                found="already holds files",
                needed="a new folder for a new run",
                remedy="give another folder, or continue this run with `bleedmap train --resume`",
            )
        write_json(self.config_file, config.to_dict())
        split.write(self.split_file)
        write_json(self.record_file, {"code": code_version(), "machine": machine} | _versions())

    def config(self) -> TrainConfig:
        """The run's settings."""
        return TrainConfig.from_dict(_read_json(self.config_file))

    def split(self) -> Split:
        """The run's split."""
        return read_split(self.split_file)

    def best(self) -> tuple[UNet, Checkpoint]:
        """The network with the best validation Dice, ready to predict, and its checkpoint.

        Raises:
            WeightsError: no validation has finished yet, or the file is damaged.
        """
        checkpoint = read_checkpoint(self.best_file)
        network = build(self.config().network_settings(), seed=0)
        network.load_state_dict(checkpoint.part("network"))
        return network.eval(), checkpoint

    def metrics(self) -> list[dict[str, Any]]:
        """One entry an epoch, in order; empty before the first."""
        if not self.metrics_file.exists():
            return []
        return [json.loads(line) for line in self.metrics_file.read_text("utf-8").splitlines()]

    def write_metrics(self, entries: list[dict[str, Any]]) -> None:
        """Replace the whole file, so that it never holds half a line."""
        with written_whole(self.metrics_file) as beside:
            beside.write_text("".join(json.dumps(entry) + "\n" for entry in entries), "utf-8")


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
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(
            path,
            found=f"cannot be read ({error})",
            needed="JSON",
            remedy="restore the file, or begin a new run",
        ) from error
    assert isinstance(content, dict)
    return content


def code_version() -> str:
    """The package's version, and the commit where the code is run from a git checkout."""
    here = Path(__file__).parent
    try:
        told = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{told.stdout.strip()}"


def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": str(torch.__version__)}
