"""torch (extra `train`): the same ONNX file's weights on a CPU, an NVIDIA or an Apple GPU."""

import numpy as np
import torch

from bleedmap.arrays import FloatArray
from bleedmap.inference.backends import BackendRecord, Prediction, check_threads
from bleedmap.inference.weights import WeightsFile
from bleedmap.models.device import require_device
from bleedmap.models.export import Answering, load_onnx

_BATCH = 8  # slices at a time


class TorchBackend:
    """The network in torch, always in fp32: TF32 convolutions are kept off.

    Args:
        weights: a checked ONNX file.
        device: 'cpu', 'cuda' or 'mps'.
        threads: of the processor's, for all that torch does in this process; None: torch's own choice.

    Raises:
        SettingsError: a device that is not there, or more threads than there are.
    """

    def __init__(self, weights: WeightsFile, device: str = "cpu", threads: int | None = None) -> None:
        check_threads(threads)
        if threads is not None:
            torch.set_num_threads(threads)
        network, _ = load_onnx(weights.content, weights.path)
        self._device = torch.device(require_device(device))
        self._network = Answering(network).eval().to(self._device)
        self.record = BackendRecord(f"torch {torch.__version__}", device, "fp32")

    def predict(self, slices: FloatArray) -> Prediction:
        """As `Backend.predict`."""
        parts = []
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            for start in range(0, len(slices), _BATCH):
                chunk = torch.from_numpy(slices[start : start + _BATCH]).to(self._device)
                parts.append([one.cpu().numpy() for one in self._network(chunk)])
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return Prediction(columns[0][:, 0], *columns[1:])
