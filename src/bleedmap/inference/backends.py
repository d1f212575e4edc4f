"""What a backend is: slices in, probabilities out, and what it ran on."""

from dataclasses import dataclass
from typing import Literal, Protocol

from bleedmap.arrays import FloatArray

Precision = Literal["auto", "fp32"]


@dataclass(frozen=True)
class BackendRecord:
    """What a result states about how it was computed.

    Attributes:
        name: 'openvino' or 'torch', with its version.
        device: 'cpu', 'cuda' or 'mps'.
        precision: of the arithmetic that was really used: 'fp32', 'bf16' or 'fp16'.
    """

    name: str
    device: str
    precision: str


class Backend(Protocol):
    """A network that is loaded and ready."""

    @property
    def record(self) -> BackendRecord:
        """What ran."""

    def predict(self, slices: FloatArray) -> FloatArray:
        """(n, size, size) float32 in 0 to 1 -> probability (n, size, size) float32 in 0 to 1."""
