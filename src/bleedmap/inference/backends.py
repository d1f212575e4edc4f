"""What a backend is: slices in, what the network says of them out, and what it ran on."""

import os
from dataclasses import dataclass
from typing import Literal, Protocol

from bleedmap.arrays import FloatArray
from bleedmap.errors import SettingsError

Precision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True)
class BackendRecord:
    """What a result states about how it was computed."""

    name: str  # 'openvino' or 'torch', with its version
    device: str  # 'cpu', 'cuda' or 'mps'
    precision: str  # of the arithmetic that was really used: 'fp32', 'bf16', 'fp16', or 'fp32, decoder bf16'


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of n slices.

    `labels`: (n, 6) float32 logits in the order of `bleedmap.models.networks.LABELS`; None from an older network.
    `features`: (n, channels) float32, by which a slice is held against the training data; None likewise.
    """

    probability: FloatArray  # (n, size, size) float32 in 0 to 1, of pixels
    labels: FloatArray | None = None
    features: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Segmented:
    """What the network says of a study.

    `probability`: (slice, row, column) float32 in 0 to 1, on the study's grid; 0 in slices that were not wanted.
    `labels`, `features`: of each slice, as `Prediction`; None from an older network.
    """

    probability: FloatArray
    extent: FloatArray  # (slice,) mean probability over the network's view: the lesion's expected share of it
    labels: FloatArray | None
    features: FloatArray | None


class Backend(Protocol):
    """A network that is loaded and ready."""

    @property
    def record(self) -> BackendRecord:
        """What ran."""

    def predict(self, slices: FloatArray) -> Prediction:
        """Slices (n, channels, size, size) float32 in 0 to 1 -> what the network says of each."""


def available_threads() -> int:
    """The processor's threads that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_threads(threads: int | None) -> None:
    """Refuse a number of threads that this machine has not; None leaves it to the backend.

    Raises:
        SettingsError: below 1 or above `available_threads`.
    """
    if threads is not None and not 1 <= threads <= available_threads():
        raise SettingsError(
            "threads", found=f"{threads}", needed=f"1 to {available_threads()}, as this machine has",
            remedy="leave it out for the backend's own choice",
        )  # fmt: skip
