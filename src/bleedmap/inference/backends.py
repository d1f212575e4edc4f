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


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a network says of n slices.

    Attributes:
        probability: (n, size, size) float32 in 0 to 1, of pixels.
        labels: (n, 6) float32 logits in the order of `bleedmap.models.networks.LABELS`; None from an older network.
        features: (n, channels) float32, by which a slice is held against the training data; None likewise.
    """

    probability: FloatArray
    labels: FloatArray | None = None
    features: FloatArray | None = None


class Backend(Protocol):
    """A network that is loaded and ready."""

    @property
    def record(self) -> BackendRecord:
        """What ran."""

    def predict(self, slices: FloatArray) -> Prediction:
        """Slices (n, channels, size, size) float32 in 0 to 1 -> what the network says of each."""
