"""torch (extra `train`): the same ONNX file's weights on a CPU, an NVIDIA or an Apple GPU."""

import numpy as np
import torch

from bleedmap.arrays import FloatArray
from bleedmap.inference.backends import BackendRecord
from bleedmap.models.device import require_device
from bleedmap.models.export import load_onnx
from bleedmap.models.weights import WeightsFile

_BATCH = 8  # slices at a time


class TorchBackend:
    """The U-Net in torch, always in fp32: TF32 convolutions are kept off.

    Args:
        weights: a checked ONNX file.
        device: 'cpu', 'cuda' or 'mps'.

    Raises:
        SettingsError: a device that is not there.
    """

    def __init__(self, weights: WeightsFile, device: str = "cpu") -> None:
        network, _ = load_onnx(weights.content, weights.path)
        self._device = torch.device(require_device(device))
        self._network = network.to(self._device)
        self.record = BackendRecord(f"torch {torch.__version__}", device, "fp32")

    def predict(self, slices: FloatArray) -> FloatArray:
        """(n, size, size) float32 in 0 to 1 -> probability (n, size, size) float32 in 0 to 1."""
        probability = np.empty(slices.shape, np.float32)
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            for start in range(0, len(slices), _BATCH):
                chunk = torch.from_numpy(slices[start : start + _BATCH]).to(self._device)
                logits = self._network(chunk[:, None])  # (n, 1, size, size)
                probability[start : start + _BATCH] = torch.sigmoid(logits)[:, 0].cpu().numpy()
        return probability
