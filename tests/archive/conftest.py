"""Two heads and a tiny network, made once for all tests of batches."""

import onnx
import pytest
from onnx import helper

from bleedmap.phantom.head import Bleed, PhantomSettings, make_phantom
from bleedmap.volume import Volume
from tiny_network import write_tiny_network


@pytest.fixture(scope="session")
def heads() -> tuple[Volume, Volume]:
    """One with a bleed, one without."""

    def head(*bleeds: Bleed) -> Volume:
        settings = PhantomSettings(seed=1, spacing_mm=(10.0, 1.8, 1.8), shape=(14, 128, 128), bleeds=bleeds)
        return make_phantom(settings).volume

    return head(Bleed("IPH", 30.0, "left")), head()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny network, its marks made smaller by a pixel all around: the skull's edge is no bleed."""
    path = tmp_path_factory.mktemp("weights") / "tiny.onnx"
    write_tiny_network(path)
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "whole"
    model.graph.node.extend(
        [
            helper.make_node("Neg", ["whole"], ["turned"]),
            helper.make_node("MaxPool", ["turned"], ["eroded"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            helper.make_node("Neg", ["eroded"], ["probability"]),
        ]
    )
    onnx.save(model, path)
    return str(path)
