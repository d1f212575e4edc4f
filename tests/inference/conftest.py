"""A small U-Net, made once for all tests of inference."""

import pytest

from bleedmap.inference.weights import WeightsFile, locate
from tiny_network import RECORD, SIZE


@pytest.fixture(scope="module")
def unet(tmp_path_factory: pytest.TempPathFactory) -> WeightsFile:
    """A real, small U-Net with random weights, exported as a release would be."""
    pytest.importorskip("torch")
    import torch

    from bleedmap.models.export import export_onnx
    from bleedmap.models.networks import UNetSettings
    from bleedmap.models.unet import build

    settings = UNetSettings(filters=(8, 16, 32))
    network = build(settings, seed=1)
    with torch.no_grad():
        network.head.weight *= 20  # logits that spread, so that a wrong answer shows
    path = tmp_path_factory.mktemp("unet") / "unet.onnx"
    export_onnx(network, SIZE, {**RECORD, "name": "unet", "network": settings.to_dict()}, path)
    return locate(path)
