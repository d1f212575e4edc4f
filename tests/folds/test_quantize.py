"""int8 files: what is made, what runs them, what is refused."""

import hashlib
import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import onnx
import pytest

if find_spec("nncf") is None:  # found, not imported: it would call home before it is kept from it
    pytest.skip("needs the extra 'int8'", allow_module_level=True)

from click.testing import CliRunner

from bleedmap.bench.network import base_runners, phantom_slices
from bleedmap.cli.export import command as export
from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.errors import DataError, MissingExtraError, SettingsError, WeightsError
from bleedmap.folds import quantize
from bleedmap.folds.int8 import calibration_slices, make_int8, trained_patients
from bleedmap.folds.quantize import quantize_int8
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.torch_backend import TorchBackend
from bleedmap.inference.weights import locate
from shipped_network import copy_shipped


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The installed weights, their slices of a phantom, and the same in int8."""
    weights = locate()
    slices = phantom_slices(weights)
    path = tmp_path_factory.mktemp("int8") / "lite.int8.onnx"
    sha256 = quantize_int8(weights, slices, path, {"data": "a phantom", "patients": []})
    small = locate(path)  # holds it against the .sha256 beside it
    assert small.sha256 == sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    return weights, slices, small


def test_the_file_is_small_and_tells_its_story(pair):
    weights, slices, small = pair
    assert len(small.content) < 0.65 * len(weights.content)
    told = small.record["int8"]
    assert small.record == weights.record | {"name": f"{weights.name}-int8", "int8": told}
    assert told["made_from_sha256"] == weights.sha256
    assert told["slices"] == len(slices)
    assert small.threshold == weights.threshold
    model = onnx.load_model_from_string(small.content)
    kinds = {onnx.TensorProto.DataType.Name(one.data_type) for one in model.graph.initializer}
    assert "INT8" in kinds
    floats = [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT]
    assert all(np.prod(one.dims) < quantize.LARGE for one in floats)
    assert b"/site-packages/" not in small.content  # no folder of the machine that it was made on


def test_openvino_runs_it_in_int8_and_answers_alike(pair):
    weights, slices, small = pair
    whole = OpenVinoBackend(weights).predict(slices)
    for precision in ("fp32", "auto"):
        backend = OpenVinoBackend(small, precision)
        assert backend.record.precision == "int8"
        told = backend.predict(slices)
        assert told.labels is not None
        assert whole.labels is not None
        assert np.abs(told.probability - whole.probability).mean() < 2e-3
        assert np.abs(told.labels - whole.labels).max() < 3
        first, second = told.probability >= small.threshold, whole.probability >= weights.threshold
        assert 2 * (first & second).sum() / (first.sum() + second.sum()) > 0.8


def test_a_compiled_network_from_the_cache_still_says_int8(pair, tmp_path, monkeypatch):
    monkeypatch.setenv("BLEEDMAP_CACHE", str(tmp_path / "cache"))
    _, slices, small = pair
    first, second = OpenVinoBackend(small), OpenVinoBackend(small)
    assert first.record == second.record
    assert second.record.precision == "int8"
    np.testing.assert_array_equal(first.predict(slices[:1]).probability, second.predict(slices[:1]).probability)


def test_what_cannot_be_made_or_run_is_refused(pair, tmp_path, monkeypatch):
    weights, slices, small = pair
    with pytest.raises(WeightsError, match="int8"):
        TorchBackend(small)
    with pytest.raises(WeightsError, match="int8 already"):
        quantize_int8(small, slices, tmp_path / "again.onnx", {})
    for wrong in (slices[:0], slices[:, :1], slices[0], slices + 1, slices.astype(np.float64), slices * np.nan):
        with pytest.raises(SettingsError):
            quantize_int8(weights, wrong, tmp_path / "wrong.onnx", {})
    monkeypatch.setattr(quantize, "_NEEDS", (("no_such_module", "nncf"),))
    with pytest.raises(MissingExtraError, match="nncf"):
        quantize_int8(weights, slices, tmp_path / "lacking.onnx", {})
    assert not list(tmp_path.iterdir())


def test_only_training_patients_calibrate(jpeg_release, tmp_path):
    data = open_ct_ich(jpeg_release)
    weights = copy_shipped(tmp_path / "fold.onnx", trained_patients=["049", "051"])
    chosen = trained_patients(weights, data)
    assert [one.number for one in chosen] == [49, 51]
    seen = []
    slices = calibration_slices(weights, data, chosen, lambda done, of: seen.append((done, of)))
    assert slices.shape == (6, 3, 288, 288)  # three slices each, all of them
    assert seen == [(1, 2), (2, 2)]
    with pytest.raises(DataError, match="1 of the patients"):
        trained_patients(copy_shipped(tmp_path / "other.onnx", trained_patients=["049", "130"]), data)
    with pytest.raises(WeightsError, match="does not say which patients"):
        make_int8(copy_shipped(tmp_path / "older.onnx", trained_patients=None), data, tmp_path / "no.onnx")


def test_export_writes_int8_and_calls_nobody(jpeg_release, tmp_path):
    """Standard output is JSON alone. NNCF would report its use by the package that OpenVINO does, which is hidden."""
    copy_shipped(tmp_path / "fold.onnx", trained_patients=["050"])
    out = tmp_path / "fold.int8.onnx"
    code = """
import socket, sys
def refused(*arguments):
    raise AssertionError("a connection was tried")
socket.socket.connect = socket.getaddrinfo = refused
from bleedmap.cli.main import bleedmap
bleedmap(sys.argv[1:], standalone_mode=False)
from nncf.telemetry import wrapper
assert not isinstance(wrapper.telemetry, wrapper.NNCFTelemetry)
"""
    words = ["export", str(tmp_path / "fold.onnx"), "-o", str(out), "--int8", "--json", "--data", str(jpeg_release)]
    ended = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["int8"]["patients"] == ["050"]
    assert told["sha256"] == locate(out).sha256
    assert told["bytes"] == out.stat().st_size


@pytest.mark.parametrize(
    "words", [["--int8", "--name", "other"], ["--data", "ct-ich"], ["--int8", "-o", "fold.onnx", "--data", "ct-ich"]]
)
def test_flags_that_do_not_fit_are_refused(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    before = copy_shipped(tmp_path / "fold.onnx").sha256
    ended = CliRunner().invoke(export, ["fold.onnx", "-o", "out.onnx", *words])
    assert ended.exit_code == 2
    assert locate(tmp_path / "fold.onnx").sha256 == before


def test_bench_takes_the_int8_file_beside_the_weights(pair, tmp_path):
    _, _, small = pair
    copied = copy_shipped(tmp_path / "network.onnx")
    made = locate(small.path)
    record = made.record | {"int8": made.record["int8"] | {"made_from_sha256": copied.sha256}}
    model = onnx.load_model_from_string(made.content)
    onnx.helper.set_model_props(model, {"bleedmap": json.dumps(record)})
    (tmp_path / "network.int8.onnx").write_bytes(model.SerializeToString())
    runners, left_out = base_runners(copied, 1)
    assert "openvino int8" in [one.title for one in runners]
    assert not [name for name in left_out if name.startswith("int8")]
    runners, left_out = base_runners(small, 1)
    assert [one.title for one in runners] == ["openvino int8"]
