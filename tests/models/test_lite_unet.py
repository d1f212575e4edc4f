"""The U-Net on EfficientNet-Lite0: its encoder, its fixed depthwise gradient, its export."""

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from bleedmap.errors import WeightsError  # noqa: E402
from bleedmap.inference.openvino_backend import OpenVinoBackend  # noqa: E402
from bleedmap.inference.torch_backend import TorchBackend  # noqa: E402
from bleedmap.inference.weights import locate  # noqa: E402
from bleedmap.models.export import Answering, export_onnx, load_onnx  # noqa: E402
from bleedmap.models.lite_unet import (  # noqa: E402  # noqa: E402
    ENCODER_FILE,
    STAGES,
    Depthwise,
    LiteUNet,
    build_lite,
    load_encoder,
)
from bleedmap.models.networks import LABELS, LiteUNetSettings, UNetSettings, settings_from_dict  # noqa: E402
from published_encoder import fold_batch_norm  # noqa: E402

SETTINGS, FINE = LiteUNetSettings(), LiteUNetSettings(decoder=(*LiteUNetSettings.decoder, 8))
RECORD = {
    "name": "lite", "network": SETTINGS.to_dict(), "threshold": 0.5, "trained_on": "nothing",
    "preprocessing": {
        "size": 64, "frame": "study", "neighbours": 1, "window": {"level_hu": 40.0, "width_hu": 120.0},
    },
}  # fmt: skip


def make(settings: LiteUNetSettings) -> LiteUNet:
    built = build_lite(settings, seed=1)
    load_encoder(built)
    return built.eval()


@pytest.fixture(scope="module")
def network() -> LiteUNet:
    return make(SETTINGS)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_the_fixed_depthwise_gradient_is_the_convolutions_own(stride: int, kernel: int) -> None:
    layer = Depthwise(4, kernel, stride).double()
    generator = torch.Generator().manual_seed(0)
    for part in (layer.weight, layer.bias):
        part.data = torch.randn(part.shape, generator=generator, dtype=torch.float64)
    x = torch.randn(2, 4, 16, 12, generator=generator, dtype=torch.float64, requires_grad=True)
    fixed, plain = layer.train()(x), layer.eval()(x)
    assert torch.equal(fixed, plain)
    weights = torch.randn(fixed.shape, generator=generator, dtype=torch.float64)
    ours, torchs = (torch.autograd.grad(answer, x, weights)[0] for answer in (fixed, plain))
    torch.testing.assert_close(ours, torchs)


def test_stride_two_pads_as_tensorflow_does() -> None:
    """An even side: nothing above and left of a 3×3, one below and right."""
    layer = Depthwise(1, 3, 2).eval()
    layer.weight.data[0, 0, 0, 0] = 1  # the corner picks the pixel itself
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert layer(x).flatten().tolist() == [0, 2, 8, 10]


def test_folding_equals_batch_norm() -> None:
    random = torch.Generator().manual_seed(3)
    published, shapes = {}, {"_conv_stem": (32, 3, 3, 3)}
    norms, number = {"_conv_stem": "_bn0"}, 0
    for expansion, kernel, _, inward, outward, blocks in STAGES:
        for block in range(blocks):
            width, name = (inward if block == 0 else outward), f"_blocks.{number}."
            if expansion > 1:
                shapes[f"{name}_expand_conv"], norms[f"{name}_expand_conv"] = (
                    (width * expansion, width, 1, 1),
                    f"{name}_bn0",
                )
            shapes[f"{name}_depthwise_conv"] = (width * expansion, 1, kernel, kernel)
            shapes[f"{name}_project_conv"] = (outward, width * expansion, 1, 1)
            norms[f"{name}_depthwise_conv"], norms[f"{name}_project_conv"] = f"{name}_bn1", f"{name}_bn2"
            number += 1
    for conv, shape in shapes.items():
        published[f"{conv}.weight"] = torch.randn(shape, generator=random)
        for part in ("weight", "bias", "running_mean", "running_var"):
            published[f"{norms[conv]}.{part}"] = torch.rand(shape[0], generator=random) + 0.5
    ours = fold_batch_norm(published)
    assert set(ours) == {name for name, _ in build_lite(SETTINGS, 0).named_parameters() if name.startswith("st")}
    x = torch.randn(1, 3, 9, 9, generator=random)
    plain = functional.batch_norm(
        functional.conv2d(x, published["_conv_stem.weight"]), published["_bn0.running_mean"],
        published["_bn0.running_var"], published["_bn0.weight"], published["_bn0.bias"], eps=1e-3,
    )  # fmt: skip
    torch.testing.assert_close(
        functional.conv2d(x, ours["stem.weight"], ours["stem.bias"]), plain, rtol=1e-4, atol=1e-4
    )


def test_the_encoder_sees_edges_as_imagenet_taught_it(network: LiteUNet) -> None:
    """Its weights are not the fresh ones: filters of the stem sum to different answers on an edge and a plain."""
    plain, edge = torch.full((1, 3, 64, 64), 0.5), torch.zeros(1, 3, 64, 64)
    edge[..., 32:] = 1
    said = [network(x).features for x in (plain, edge)]
    assert (said[0] - said[1]).abs().mean() > 0.1
    assert ENCODER_FILE.stat().st_size < 6_000_000


def test_other_channel_counts_share_the_stem() -> None:
    wide = build_lite(LiteUNetSettings(channels=5), seed=0)
    load_encoder(wide)
    assert torch.equal(wide.stem.weight[:, 0], wide.stem.weight[:, 4])


def test_damaged_encoder_is_refused(tmp_path: Path, network: LiteUNet) -> None:
    damaged = tmp_path / "encoder.safetensors"
    damaged.write_bytes(ENCODER_FILE.read_bytes()[:1000])
    for path, found in ((damaged, "cannot be used"), (tmp_path / "none.safetensors", "no such file")):
        with pytest.raises(WeightsError, match=found):
            load_encoder(network, path)


@pytest.mark.exhaustive
@pytest.mark.parametrize("settings", [SETTINGS, FINE])
def test_export_answers_as_torch_does(settings: LiteUNetSettings, tmp_path: Path) -> None:
    path, network = tmp_path / "lite.onnx", make(settings)
    export_onnx(network, 64, RECORD | {"network": settings.to_dict()}, path)
    assert path.stat().st_size < 8_000_000
    weights = locate(path)
    assert weights.network == settings
    slices = np.random.default_rng(0).random((3, 3, 64, 64), np.float32)
    ours, torchs = OpenVinoBackend(weights).predict(slices), TorchBackend(weights).predict(slices)
    with torch.no_grad():
        whole = Answering(network)(torch.from_numpy(slices))
    for index, name in enumerate(("probability", "labels", "features")):
        one, other = getattr(ours, name), getattr(torchs, name)
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=2e-4)
        np.testing.assert_allclose(one, whole[index].numpy().reshape(one.shape), atol=0.05)  # fp16 weights
    assert ours.labels is not None
    assert ours.labels.shape == (3, len(LABELS))


def test_a_fine_network_tells_pixels_at_its_inputs_own_size() -> None:
    slices = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for settings, side in ((SETTINGS, 32), (FINE, 64)):
        network = make(settings)
        answer = network(slices)
        assert answer.logits.shape == (1, 1, side, side)
        assert network.probability(answer).shape == (1, 1, 64, 64)
    with pytest.raises(ValueError, match="3 steps"):
        LiteUNetSettings.from_dict({**SETTINGS.to_dict(), "decoder": [8, 8, 8]})


def test_export_comes_back(network: LiteUNet, tmp_path: Path) -> None:
    path = tmp_path / "lite.onnx"
    export_onnx(network, 64, RECORD, path)
    again, record = load_onnx(path.read_bytes(), path)
    assert isinstance(again, LiteUNet)
    assert record["name"] == "lite"
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(again(x).labels, network(x).labels, atol=0.02, rtol=0.02)


@pytest.mark.exhaustive
def test_a_file_with_other_ends_is_refused(network: LiteUNet, tmp_path: Path) -> None:
    """The record says three channels, the file takes five."""
    path = tmp_path / "lite.onnx"
    wide = build_lite(LiteUNetSettings(channels=5), seed=0)
    export_onnx(wide, 64, RECORD, path)
    with pytest.raises(WeightsError, match="slices"):
        locate(path)


@pytest.mark.parametrize("settings", [LiteUNetSettings(channels=1, dropout=0.0), UNetSettings(filters=(4, 8))])
def test_settings_come_back_from_json(settings: LiteUNetSettings | UNetSettings) -> None:
    assert settings_from_dict(settings.to_dict()) == settings


def test_training_changes_all_but_the_depthwise_filters() -> None:
    network = build_lite(SETTINGS, seed=0).train()
    load_encoder(network)
    answer = network(torch.rand(2, 3, 64, 64))
    (answer.logits.sum() + answer.labels.sum()).backward()
    without = {name for name, part in network.named_parameters() if part.grad is None}
    assert without
    assert all(".depthwise." in name for name in without)
    counted = len(network.encoder_parameters()) + len(network.new_parameters()) + len(without)
    assert counted == len(list(network.parameters()))
