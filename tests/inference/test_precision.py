"""bf16 where its rounding hardly shows: the installed network's decoder, never its encoder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bleedmap.arrays import FloatArray
from bleedmap.errors import SettingsError
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.openvino_runtime import core, read_model, upsampling_apart
from bleedmap.inference.weights import WeightsFile, locate
from bleedmap.phantom.head import Bleed, PhantomSettings, make_phantom
from bleedmap.postprocess import to_mask
from bleedmap.preprocess import network_input, stack_channels
from tiny_network import write_tiny_network

HEAD = PhantomSettings(seed=5, shape=(12, 256, 256), spacing_mm=(10.0, 0.9, 0.9), bleeds=(Bleed("IPH", 30.0, "left"),))


@pytest.fixture(scope="module")
def shipped() -> WeightsFile:
    return locate("ct-ich-lite")


@pytest.fixture(scope="module")
def slices(shipped: WeightsFile) -> FloatArray:
    settings = shipped.preprocessing
    inputs, _ = network_input(make_phantom(HEAD).volume.hu, settings, (0.9, 0.9))
    return stack_channels(inputs, None, settings, np.arange(len(inputs)))


def capabilities() -> list[str]:
    told: list[str] = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return told


def test_bf16_is_another_answer_and_says_so(shipped: WeightsFile, slices: FloatArray) -> None:
    if "BF16" not in capabilities():
        with pytest.raises(SettingsError, match="precision: bf16") as refused:
            OpenVinoBackend(shipped, "bf16", 1)
        assert "--precision auto" in refused.value.remedy
        return
    exact, whole = OpenVinoBackend(shipped, threads=1), OpenVinoBackend(shipped, "bf16", 1)
    assert whole.record.precision == "bf16"
    assert np.abs(whole.predict(slices).probability - exact.predict(slices).probability).max() > 1e-4


def test_auto_is_within_the_stated_tolerance_of_fp32(shipped: WeightsFile, slices: FloatArray) -> None:
    exact, faster = OpenVinoBackend(shipped, threads=1), OpenVinoBackend(shipped, "auto", 1)
    first, second = exact.predict(slices), faster.predict(slices)
    assert exact.record.precision == "fp32"
    assert first.labels is not None
    assert second.labels is not None
    if "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        assert faster.record.precision == "fp32, decoder bf16"
        assert not np.array_equal(first.probability, second.probability)  # it is used
        assert np.array_equal(second.labels, first.labels)  # the encoder is the same
    else:
        assert faster.record.precision == "fp32"
    assert np.abs(first.probability - second.probability).max() < 0.02
    marks = [to_mask(one.probability, shipped.threshold) for one in (first, second)]
    assert marks[0].any()
    assert 2 * (marks[0] & marks[1]).sum() / (marks[0].sum() + marks[1].sum()) > 0.995


def test_the_two_parts_are_the_whole(shipped: WeightsFile, slices: FloatArray) -> None:
    def compiled(model: Any) -> Any:
        return core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1})

    model = read_model(shipped.content)
    model.reshape([1, *slices.shape[1:]])
    encoder, decoder = (compiled(part) for part in upsampling_apart(model))
    exact = OpenVinoBackend(shipped, threads=1).predict(slices[:2])
    for index, one in enumerate(slices[:2]):
        said = encoder({"slices": one[None]})
        told = decoder([said[place] for place in range(len(decoder.inputs))])
        np.testing.assert_allclose(told["probability"][0, 0], exact.probability[index], atol=1e-5)
        assert exact.features is not None
        np.testing.assert_allclose(said["features"][0], exact.features[index], atol=1e-5)


def test_slices_under_way_together_do_not_meet_in_two_parts(
    shipped: WeightsFile, slices: FloatArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor without bf16 OpenVINO imitates it or takes fp32: two parts all the same."""
    monkeypatch.setattr("bleedmap.inference.openvino_backend._computes_bf16", lambda: True)
    monkeypatch.setenv("BLEEDMAP_CACHE", "off")
    backend = OpenVinoBackend(shipped, "auto")
    assert backend.record.precision == "fp32, decoder bf16"
    together, alone = backend.predict(slices), [backend.predict(one[None]) for one in slices]
    for name in ("probability", "labels", "features"):
        np.testing.assert_array_equal(getattr(together, name), np.concatenate([getattr(one, name) for one in alone]))


def test_a_network_without_upsampling_has_no_parts(tmp_path: Path) -> None:
    write_tiny_network(tmp_path / "tiny.onnx")
    with pytest.raises(RuntimeError, match="without upsampling"):
        upsampling_apart(read_model((tmp_path / "tiny.onnx").read_bytes()))
