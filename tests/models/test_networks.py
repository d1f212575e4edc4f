"""One contract for every network: sizes, counts, dropout, gradients, export equals eager."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bleedmap.errors import SettingsError, WeightsError
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.weights import locate
from bleedmap.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from bleedmap.models.export import export_onnx, load_onnx
from bleedmap.models.networks import NETWORKS, UNetSettings, network_settings
from bleedmap.models.unet import Block, build
from bleedmap.training.losses import batch_loss

SMALL = {  # the same definitions, narrow enough for a test of many sizes
    name: UNetSettings(
        tuple(count // 16 for count in settings.filters), 1, settings.batch_norm, settings.dropout,
        settings.bottom_dropout,
    )
    for name, settings in NETWORKS.items()
}  # fmt: skip
SMALL["5×5 kernel, strided"] = replace(SMALL["model-2"], kernel=5, downsample="stride")
RECORD = {"name": "test", "trained_on": "nothing", "threshold": 0.5}


@pytest.mark.parametrize(
    ("name", "expected"), [("model-1", 7_699_009), ("model-2", 7_699_009), ("original", 31_030_593)]
)
def test_parameter_count_is_the_published_one(name, expected):
    network = build(NETWORKS[name], seed=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected
    assert NETWORKS[name].parameter_count() == expected


@pytest.mark.parametrize("name", SMALL)
def test_the_formula_counts_every_parameter(name):
    network = build(SMALL[name], seed=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == SMALL[name].parameter_count()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [(64, 64), (33, 47), (17, 16), (1, 1), (50, 8)])
def test_any_size_in_is_the_size_out(name, shape):
    network = build(SMALL[name], seed=0).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 1, *shape)).shape == (2, 1, *shape)


@pytest.mark.parametrize("name", SMALL)
def test_padding_does_not_reach_far_from_the_border(name):
    """An odd size answers in its middle as the even size does that it is cut from: nothing is shifted."""
    network = build(SMALL[name], seed=0).eval()
    whole = torch.rand(1, 1, 192, 192)
    with torch.no_grad():
        even, odd = network(whole), network(whole[..., :191, :187])
    assert torch.allclose(even[..., :16, :16], odd[..., :16, :16], atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_gradient_reaches_every_parameter(name):
    network = build(SMALL[name], seed=0).train()
    reference = (torch.rand(2, 1, 48, 48) > 0.8).float()
    batch_loss("dice", network(torch.rand(2, 1, 48, 48)), reference).backward()
    for label, parameter in network.named_parameters():
        assert parameter.grad is not None, label
        # A bias right before batch norm is cancelled by it, so that its gradient is 0 but for rounding.
        if not (SMALL[name].batch_norm and label.endswith("conv2.bias")):
            assert parameter.grad.abs().sum() > 0, label


def test_dropout_stands_where_the_thesis_puts_it():
    """Model 2: rate 0.1 between the two convolutions of each of the seven blocks; Model 1: none."""
    for name, rate in (("model-1", 0.0), ("model-2", 0.1)):
        blocks = [module for module in build(NETWORKS[name], seed=0).modules() if isinstance(module, Block)]
        assert [block.dropout.p for block in blocks] == [rate] * 7
    seen: list[str] = []
    block = Block(1, 4, NETWORKS["model-2"])
    for label, layer in block.named_children():
        layer.register_forward_hook(lambda *_, label=label: seen.append(label))
    block(torch.rand(1, 1, 8, 8))
    assert seen == ["conv1", "dropout", "conv2", "norm"]


def test_dropout_acts_in_training_only():
    network, slices = build(SMALL["model-2"], seed=0), torch.rand(2, 1, 32, 32)
    network.train()
    assert not torch.equal(network(slices), network(slices))
    network.eval()
    assert torch.equal(network(slices), network(slices))


def test_same_seed_same_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, other = (build(SMALL["model-1"], seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.head.weight, second.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize("name", [name for name in SMALL if name != "model-1"])  # it is model-2 without dropout
def test_export_equals_eager(name, tmp_path):
    network = build(SMALL[name], seed=3)
    network.train()
    with torch.no_grad():
        network(torch.rand(4, 1, 32, 32))  # moves batch norm's statistics off their start
    network.eval()
    record = RECORD | {
        "network": SMALL[name].to_dict(),
        "preprocessing": {"size": 64, "frame": "whole", "window": {"level_hu": 40, "width_hu": 120}},
    }
    path = tmp_path / "network.onnx"
    sha256 = export_onnx(network, 64, record, path)
    weights = locate(path)
    slices = np.random.default_rng(0).random((3, 64, 64), np.float32)
    with torch.no_grad():
        eager = torch.sigmoid(network(torch.from_numpy(slices)[:, None]))[:, 0].numpy()
        again, stored = load_onnx(path.read_bytes(), path)
        reloaded = torch.sigmoid(again(torch.from_numpy(slices)[:, None]))[:, 0].numpy()
    exported = OpenVinoBackend(weights).predict(slices[:, None]).probability
    assert weights.sha256 == sha256
    assert not any(trace in path.read_bytes() for trace in (b'File "', b"stack_trace", b".py"))  # no machine's paths
    assert stored == record
    np.testing.assert_allclose(exported, reloaded, atol=1e-5)  # the same fp16 weights
    np.testing.assert_allclose(exported, eager, atol=2e-3)  # weights rounded to fp16


def test_a_settings_error_names_the_networks():
    with pytest.raises(SettingsError, match="model-9"):
        network_settings("model-9")
    with pytest.raises(SettingsError):
        UNetSettings(filters=(64,))
    with pytest.raises(SettingsError):
        UNetSettings(dropout=1.0)
    with pytest.raises(SettingsError, match="depth"):
        UNetSettings.from_dict({"filters": [8, 16], "depth": 3})


def test_checkpoint_round_trip_and_damage(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    tensors = {"network/a": torch.rand(3, 4), "optimiser/0/step": torch.tensor(7.0)}
    write_checkpoint(path, Checkpoint(tensors, {"epoch": 7}))
    stored = read_checkpoint(path)
    assert stored.record == {"epoch": 7}
    assert torch.equal(stored.part("network")["a"], tensors["network/a"])
    assert set(stored.part("optimiser")) == {"0/step"}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(WeightsError, match="cannot be read"):
        read_checkpoint(path)
    with pytest.raises(WeightsError, match="no such file"):
        read_checkpoint(tmp_path / "none.safetensors")


def test_a_pickle_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    torch.save(nn.Linear(2, 2).state_dict(), path)
    with pytest.raises(WeightsError):
        read_checkpoint(path)
