"""`bleedmap bench`: what it counts, what it tells and what it refuses. How fast things are, the command itself says."""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from bleedmap.bench import network as bench_network  # noqa: E402
from bleedmap.bench import torch_backends as bench_torch  # noqa: E402
from bleedmap.bench.machine import describe_machine, in_fresh_process, matrix_product  # noqa: E402
from bleedmap.bench.network import (  # noqa: E402
    REFERENCE,
    Runner,
    base_runners,
    flop_per_slice,
    matrix_form,
    measure_network,
    phantom_slices,
)
from bleedmap.bench.study import Load, measure_study  # noqa: E402
from bleedmap.bench.training import measure_recipe, plain_network  # noqa: E402
from bleedmap.cli.bench import command, print_tables  # noqa: E402
from bleedmap.errors import OutputError, SettingsError, WeightsError  # noqa: E402
from bleedmap.inference.openvino_backend import OpenVinoBackend  # noqa: E402
from bleedmap.inference.torch_backend import TorchBackend  # noqa: E402
from bleedmap.inference.weights import WeightsFile, locate  # noqa: E402
from bleedmap.models.export import Answering, export_onnx, load_onnx  # noqa: E402
from bleedmap.models.lite_unet import (  # noqa: E402
    Depthwise,
    build_lite,
    load_encoder,
)
from bleedmap.models.networks import LiteUNetSettings, UNetSettings, network_settings  # noqa: E402
from bleedmap.models.unet import build  # noqa: E402
from bleedmap.training.config import Recipe  # noqa: E402
from bleedmap.training.device import Machine  # noqa: E402
from plain_install import without_training_packages  # noqa: E402

SMALL = Recipe(size=32, lesion=1, lesion_free=1, phantom=0)


@pytest.fixture
def own_threads():
    """torch's number of threads is the whole process': put back for the tests that follow."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def exported(folder: Path, settings: UNetSettings | LiteUNetSettings) -> WeightsFile:
    network = build_lite(settings, 0) if isinstance(settings, LiteUNetSettings) else build(settings, 0)
    record = {
        "name": "small", "network": settings.to_dict(), "threshold": 0.5, "trained_on": "nothing",
        "preprocessing": {
            "size": 64, "frame": "study", "neighbours": settings.channels // 2,
            "window": {"level_hu": 40.0, "width_hu": 120.0},
        },
    }  # fmt: skip
    export_onnx(network, 64, record, folder / "small.onnx")
    return locate(folder / "small.onnx")


@pytest.mark.exhaustive
def test_openvino_is_held_against_torch_on_the_installed_network(own_threads):
    weights = locate()
    ours, plain = OpenVinoBackend(weights, "fp32", 1), TorchBackend(weights, "cpu", 1)
    runners = [
        Runner("openvino", "fp32", lambda some: ours.predict(some).probability),
        Runner("torch eager", "fp32", lambda some: plain.predict(some).probability),
    ]
    told = measure_network(weights, runners, threads=1, repeats=2, matrix_side=256)
    assert told["reference"] == REFERENCE
    first, reference = told["backends"]
    assert reference["ratio"] == 1
    form, ratio = next(iter(told["matrix_product_ratios"].items()))
    assert ratio == pytest.approx(told["matrix_product_tflops"][form] / reference["tflops"], rel=0.2)  # rounding
    assert reference["largest_difference"] == 0
    assert first["largest_difference"] < 1e-4
    assert len(first["turns"]) == 2
    assert first["ratio"] == pytest.approx(first["slices_per_s"] / reference["slices_per_s"], rel=0.02)


@pytest.mark.exhaustive
@pytest.mark.parametrize("settings", [LiteUNetSettings(), UNetSettings((4, 8), channels=1)])
def test_operations_are_counted_as_torch_counts_them(tmp_path, settings):
    weights = exported(tmp_path, settings)
    network, _ = load_onnx(weights.content, weights.path)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        Answering(network).eval()(torch.zeros(1, settings.channels, 64, 64))
    assert flop_per_slice(weights) == counter.get_total_flops()


@pytest.mark.exhaustive
@pytest.mark.parametrize("lacking", ["compiler", "bf16"])
def test_torch_measures_what_the_machine_can_and_says_what_not(tmp_path, monkeypatch, own_threads, lacking):
    """On a machine with both, either is taken away: compiling twice over takes long."""
    weights = exported(tmp_path, UNetSettings((4, 8), channels=1))
    if lacking == "compiler":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setattr(bench_torch, "choose_machine", lambda *_: Machine(torch.device("cpu"), bf16=False))
    runners, left_out = bench_torch.torch_runners(weights, 1)
    told = measure_network(weights, runners, threads=1, repeats=1, matrix_side=256)
    found = {f"{one['name']} {one['precision']}": one for one in told["backends"]}
    assert found["torch eager fp32"]["ratio"] == 1
    assert ("torch compiled" if lacking == "compiler" else "torch bf16") in left_out
    if shutil.which("g++"):
        assert "torch compiled fp32" in found
    for one in found.values():
        assert one["largest_difference"] < (1e-4 if one["precision"] == "fp32" else 0.05)
        assert one["slices_per_s"] == pytest.approx(1e3 / one["ms_per_slice"], rel=0.05)


@pytest.mark.exhaustive
def test_several_slices_at_a_time_are_answered_as_one_at_a_time(tmp_path, own_threads, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # no compiler: compiling takes long, and is another test's
    weights = exported(tmp_path, LiteUNetSettings())
    runners, left_out = base_runners(weights, 1, batch=4)
    more, _ = bench_torch.torch_runners(weights, 1, batch=4)
    told = measure_network(weights, [*runners, *more], threads=1, repeats=1, matrix_side=256, batch=4)
    assert told["batch"] == 4
    assert "openvino auto" in left_out
    in_fp32 = [one for one in told["backends"] if one["precision"] == "fp32"]
    assert {one["name"] for one in in_fp32} >= {"openvino", "torch eager"}
    assert all(one["largest_difference"] < 1e-4 for one in in_fp32)
    one, some = OpenVinoBackend(weights, "fp32", 1), phantom_slices(weights)
    np.testing.assert_allclose(runners[0].predict(some[:4]), one.predict(some[:4]).probability, rtol=0, atol=1e-5)


@pytest.mark.exhaustive
def test_a_network_of_the_thesis_is_measured_untrained(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # as above
    monkeypatch.setattr(bench_network, "SLICES", 2)  # each takes long, and so does a product of 4096³
    monkeypatch.setattr(bench_network, "matrix_product", lambda form, threads, _: matrix_product(form, threads, 256))
    weights = locate(bench_torch.untrained("model-2", tmp_path))
    assert weights.network == network_settings("model-2")
    assert flop_per_slice(weights) == pytest.approx(73.4e9, rel=0.01)
    for words in (["--weights", "ct-ich-first"], ["--part", "study"]):
        refused = CliRunner().invoke(command, ["--network", "model-2", *words])
        assert refused.exit_code == 2
        assert "thesis" in refused.output or "untrained" in refused.output
    told = CliRunner().invoke(
        command, ["--network", "model-2", "--batch", "2", "--repeats", "1", "--threads", "1", "--json"]
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["network"]["batch"] == 2
    assert json.loads(told.stdout)["weights"]["name"] == "model-2, untrained"
    alone = without_training_packages("bench", "--network", "model-2")
    assert alone.returncode == 2
    assert "bleedmap[train]" in alone.stderr


@pytest.mark.exhaustive
def test_a_plain_install_measures_openvino_alone_and_says_so(tmp_path):
    out = tmp_path / "bench"
    ended = without_training_packages(
        "bench", "--part", "network", "--repeats", "1", "--threads", "1", "-o", str(out), "--json",
        first="from bleedmap.bench import machine; machine.MATRIX = 256",  # a product of 4096³ takes seconds
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert {"machine", "weights", "threads", "repeats", "left_out", "network"} == set(told)
    assert {"torch"} <= set(told["left_out"])
    assert told["network"]["reference"] == "openvino fp32"
    for one in told["network"]["backends"]:
        assert one["name"] in ("openvino", "onnxruntime")
        assert one["slices_per_s"] > 0
        assert one["share"] > 0
        assert told["network"]["matrix_product_tflops"][matrix_form(one["precision"])] > 0
    assert json.loads((out / "bench.json").read_text("utf-8")) == told


@pytest.mark.exhaustive
def test_a_study_is_measured_cold_and_warm():
    told = measure_study(Load(None, 1), 1, (10, 128, 128))
    warm = told["warm"]
    assert list(warm["parts_s"]) == ["read", "network", "rest_of_segmenting", "save"]
    assert all(value > 0 for value in warm["parts_s"].values())
    assert math.isclose(sum(warm["shares"].values()), 1, abs_tol=0.01)
    if sys.platform == "linux":
        assert 50 < told["cold"]["peak_mib"] < 2000
        assert 50 < warm["peak_mib"] < 2000


def test_the_plain_loop_trains_the_same_network_with_learning_depthwise_filters():
    plain, ours = plain_network(SMALL), build_lite(SMALL.network(), SMALL.seed)
    load_encoder(ours)
    slices = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected, found = ours.eval()(slices), plain.eval()(slices)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(one, Depthwise) for one in plain.modules())
    plain.train()(slices).features.sum().backward()
    filters = [one.weight for one in plain.modules() if isinstance(one, torch.nn.Conv2d) and one.groups > 1]
    assert len(filters) == sum(isinstance(one, Depthwise) for one in ours.modules())
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in filters)


@pytest.mark.exhaustive
def test_training_is_measured_in_turn():
    told = in_fresh_process(measure_recipe, SMALL, 1, 2)
    assert len(told["ours_turns"]) == len(told["plain_turns"]) == 2
    assert told["ratio"] == pytest.approx(told["ours_slices_per_s"] / told["plain_slices_per_s"], rel=0.01)


def made_record() -> dict:
    """All parts, figures made up."""
    sizes = [{"shape": [n, n, n], "seconds": n / 10, "parts_s": {}, "peak_mib": 300.0, "times": []} for n in (10, 30)]
    parts = {"read": 0.5, "network": 1.0, "rest_of_segmenting": 0.25, "save": 0.25}
    backend = {
        "name": "openvino", "precision": "fp32", "slices_per_s": 20.0, "ms_per_slice": 50.0, "tflops": 0.04,
        "share": 0.4, "ratio": 1.5, "largest_difference": 1e-6, "turns": [20.0],
    }  # fmt: skip
    return {
        "machine": describe_machine(), "weights": {"name": "made", "sha256": "0"}, "threads": None, "repeats": 5,
        "left_out": {"onnxruntime": "not installed"},
        "network": {
            "batch": 1, "input": [3, 64, 64], "gflop_per_slice": 2.0, "reference": REFERENCE,
            "matrix_product_tflops": {"fp32": 0.1}, "matrix_product_ratios": {"fp32": 3.75}, "backends": [backend],
        },
        "study": {
            "shape": [30, 512, 512], "cold": {"seconds": 4.0, "peak_mib": 400.0, "times": []},
            "warm": {"seconds": 2.0, "parts_s": parts, "shares": {k: v / 2 for k, v in parts.items()}, "peak_mib": 1.0},
        },
        "growth": {
            "slices": sizes, "pixels": sizes,
            "studies": [
                {"studies": count, "processes": processes, "seconds": 4.0, "seconds_per_study": 4.0, "peak_mib": None}
                for count, processes in ((1, 1), (10, 2))
            ],
        },
        "training": {
            "machine": "cpu, fp32", "size": 224, "batch": 8, "ours_slices_per_s": 20.0, "plain_slices_per_s": 10.0,
            "ratio": 2.0,
        },
    }  # fmt: skip


def test_tables_tell_every_part(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    print_tables(made_record())
    printed = capsys.readouterr().out
    for words in (
        "openvino fp32",
        "rest of segmenting",
        "batch of 1, a fresh process",
        "batch of 10, 2 fresh processes, MiB of the first",
        "the recipe, cpu, fp32",
        "left out: onnxruntime",
        "40%",
        "3.8 ×",
    ):
        assert words in printed, printed


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["--threads", "100000"], SettingsError),
        (["--weights", "no-such.onnx"], WeightsError),
        (["-o", "occupied"], OutputError),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(tmp_path, monkeypatch, words, refused):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied/mine.txt").write_text("mine")
    ended = CliRunner().invoke(command, words)
    assert isinstance(ended.exception, refused)


@pytest.mark.parametrize(
    "words",
    [["--part", "disk"], ["--shape", "4", "512", "512"], ["--repeats", "0"], ["--part", "study", "--batch", "4"]],
)
def test_flags_are_checked(words):
    assert CliRunner().invoke(command, words).exit_code == 2


def test_training_asked_for_by_name_needs_its_extra():
    ended = without_training_packages("bench", "--part", "training")
    assert ended.returncode == 2
    assert "pip install 'bleedmap[train]'" in ended.stderr


def test_segment_and_batch_take_threads(tmp_path):
    for verb in ("segment", "batch"):
        words = [verb, str(tmp_path), "-o", str(tmp_path / "out"), "--threads", "100000"]
        ended = subprocess.run(
            [sys.executable, "-m", "bleedmap.cli.main", *words], capture_output=True, text=True, check=False
        )
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr
