"""Checkpoints as safetensors: network, optimiser and counters in one file, written whole, no pickle."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bleedmap.errors import WeightsError, usable
from bleedmap.io.files import written_whole

_KEY = "bleedmap"


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name ("network/…", "optimiser/…"), and what describes them, as JSON can hold it."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors under `name`/, without that prefix."""
        prefix = f"{name}/"
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def load_network(network: nn.Module, checkpoint: Checkpoint, path: Path) -> None:
    """Put the checkpoint's weights into `network`.

    Raises:
        WeightsError: they are of another network.
    """
    try:
        network.load_state_dict(checkpoint.part("network"))
    except RuntimeError as error:
        raise WeightsError(
            path,
            found=f"weights of another network ({str(error).splitlines()[-1].strip()})",
            needed="weights of the network that the run's config.json describes",
            remedy="restore both files from the same run",
        ) from error


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a kill at any moment leaves the old file or the new one."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    with written_whole(path) as temporary:
        temporary.write_bytes(save(tensors, metadata={_KEY: json.dumps(checkpoint.record, sort_keys=True)}))


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        WeightsError: missing, damaged, or not one of bleedmap's.
    """
    needed, remedy = "a .safetensors checkpoint that `bleedmap train` wrote", "check the path, or train again"
    with (
        usable(path, WeightsError, needed, remedy, SafetensorError, found="cannot be read as a checkpoint"),
        safe_open(path, framework="pt") as stored,
    ):
        record = json.loads((stored.metadata() or {})[_KEY])
        return Checkpoint({name: stored.get_tensor(name) for name in stored.keys()}, record)  # noqa: SIM118
