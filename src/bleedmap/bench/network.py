"""The network alone: every backend in turn on the same slices, one or some at a time, in one run."""

import importlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from statistics import median
from typing import Any

import numpy as np

from bleedmap.arrays import FloatArray, Progress, ignore
from bleedmap.bench.machine import MATRIX, matrix_product
from bleedmap.errors import SettingsError
from bleedmap.inference.openvino_backend import OpenVinoBackend, read_network
from bleedmap.inference.openvino_runtime import core, cpu_properties
from bleedmap.inference.weights import WeightsFile
from bleedmap.phantom.bleeds import Bleed
from bleedmap.phantom.head import PhantomSettings, make_phantom
from bleedmap.preprocess import bone_input, network_input, stack_channels

SLICES = 8  # of a turn, after those that warm up
REFERENCE = "torch eager fp32"  # the plain way, that ratios and differences are against
_HEAD = PhantomSettings(
    seed=13, shape=(12, 256, 256), spacing_mm=(10.0, 0.9, 0.9), bleeds=(Bleed("IPH", 20.0, "left"),)
)


@dataclass(frozen=True, eq=False)
class Runner:
    """A loaded network.

    `predict`: slices (n, channels, size, size) float32 -> probability (n, size, size) float32.
    `takes`: slices that it is given at a time, which need not compute as one batch; None: those of a batch.
    """

    name: str  # what computes: 'openvino', 'torch eager', …
    precision: str  # of the arithmetic that it really uses
    predict: Callable[[FloatArray], FloatArray]
    takes: int | None = None

    @property
    def title(self) -> str:
        """Name and precision."""
        return f"{self.name} {self.precision}"


def base_runners(weights: WeightsFile, threads: int | None, batch: int = 1) -> tuple[list[Runner], dict[str, str]]:
    """What runs without torch, for `batch` slices at a time; and what does not run here -> why."""
    runners, left_out = [_openvino(weights, "fp32", threads, batch)], {}
    try:
        runners.append(_openvino(weights, "bf16", threads, batch))
    except SettingsError:
        left_out["openvino bf16"] = "this processor does not compute bf16"
    if batch > 1:
        left_out["openvino auto"] = "it computes each slice by itself"
    else:
        chosen = _openvino(weights, "auto", threads)
        if chosen.precision != "fp32":
            runners.append(chosen)
    if importlib.util.find_spec("onnxruntime") is None:
        left_out["onnxruntime"] = "not installed"
    else:
        runners.append(_onnxruntime(weights, threads))
    return runners, left_out


def _openvino(weights: WeightsFile, precision: Any, threads: int | None, batch: int = 1) -> Runner:
    """Each slice by itself, as many under way as in `segment`; else compiled for a batch, as nothing else here is."""
    backend = OpenVinoBackend(weights, precision, threads)
    if batch == 1:
        return Runner("openvino", backend.record.precision, lambda some: backend.predict(some).probability, SLICES)
    config = cpu_properties("bf16" if precision == "bf16" else "f32", threads)
    request = core().compile_model(read_network(weights, batch), "CPU", config).create_infer_request()

    def predict(some: FloatArray) -> FloatArray:
        probability: FloatArray = request.infer({"slices": some}, share_outputs=True)["probability"][:, 0].copy()
        return probability

    return Runner("openvino", backend.record.precision, predict)


def _onnxruntime(weights: WeightsFile, threads: int | None) -> Runner:
    library: Any = importlib.import_module("onnxruntime")  # no dependency: measured where somebody has it
    options = library.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = library.InferenceSession(weights.content, options, providers=["CPUExecutionProvider"])

    def predict(some: FloatArray) -> FloatArray:
        probability: FloatArray = session.run(["probability"], {"slices": some})[0][:, 0]
        return probability

    return Runner("onnxruntime", "fp32", predict)


def measure_network(
    weights: WeightsFile, runners: Sequence[Runner], threads: int | None, repeats: int,
    progress: Progress = ignore, matrix_side: int = MATRIX, batch: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Slices/s of each runner: `repeats` rounds, in each of which all have their turn, so that load falls on all.

    The machine's own matrix products have their turn too; the best one counts.

    Args:
        runners: those to compare; the first is the reference where `REFERENCE` is not among them.
        threads: as the runners were loaded with.
        batch: slices that compute as one: 1, 2, 4 or 8, which divide a turn.
    """
    slices, answers = phantom_slices(weights), {}
    rates: dict[str, list[float]] = {one.title: [] for one in runners}
    forms = sorted({matrix_form(one.precision) for one in runners})
    products = {form: matrix_product(form, threads, matrix_side) for form in forms}
    matrix = dict.fromkeys(products, 0.0)
    for turn in range(repeats):
        for index, one in enumerate(runners):
            rate, answers[one.title] = _turn(one, slices, batch)
            rates[one.title].append(rate)
            progress(turn * len(runners) + index + 1, repeats * len(runners))
        matrix = {form: max(matrix[form], multiply()) for form, multiply in products.items()}
    reference = next((one for one in runners if one.title == REFERENCE), runners[0])
    gflop, plain = flop_per_slice(weights) / 1e9, median(rates[reference.title])
    ratios = {form: round(rate / (plain * gflop / 1e3), 2) for form, rate in matrix.items()}

    def describe(one: Runner) -> dict[str, Any]:
        rate = median(rates[one.title])
        tflops = rate * gflop / 1e3
        return {
            "name": one.name, "precision": one.precision, "slices_per_s": round(rate, 2),
            "ms_per_slice": round(1e3 / rate, 2), "tflops": round(tflops, 4),
            "share": round(tflops / matrix[matrix_form(one.precision)], 3), "ratio": round(rate / plain, 2),
            "largest_difference": float(np.abs(answers[one.title] - answers[reference.title]).max()),
            "turns": [round(turn, 2) for turn in rates[one.title]],
        }  # fmt: skip

    return {
        "batch": batch, "input": list(slices.shape[1:]), "gflop_per_slice": round(gflop, 3),
        "reference": reference.title,
        "matrix_product_tflops": {form: round(rate, 3) for form, rate in matrix.items()},
        "matrix_product_ratios": ratios, "backends": [describe(one) for one in runners],
    }  # fmt: skip


def matrix_form(precision: str) -> str:
    """The number format whose matrix product a backend is held against: of several, bf16, the faster one."""
    return "bf16" if "bf16" in precision else precision


def phantom_slices(weights: WeightsFile) -> FloatArray:
    """(SLICES, channels, size, size) of a phantom head with a bleed, as the network would get them."""
    settings = weights.preprocessing
    hu = make_phantom(_HEAD).volume.hu
    inputs, frames = network_input(hu, settings, _HEAD.spacing_mm[1:])
    first = (len(inputs) - SLICES) // 2
    rows = np.arange(first, first + SLICES)
    slices: FloatArray = stack_channels(inputs, bone_input(hu, frames, settings), settings, rows)
    return slices


def _turn(runner: Runner, slices: FloatArray, batch: int) -> tuple[float, FloatArray]:
    """Slices/s, and the probabilities (slices, size, size)."""
    takes = runner.takes or batch
    runner.predict(slices[:takes])
    begun = time.perf_counter()
    parts = [runner.predict(slices[index : index + takes]) for index in range(0, len(slices), takes)]
    return len(slices) / (time.perf_counter() - begun), np.concatenate(parts)


def flop_per_slice(weights: WeightsFile) -> float:
    """Floating-point operations of a slice: convolutions and matrix products of the file's graph; multiply and add
    are two.
    """
    return float(sum(_flop(one) for one in read_network(weights).get_ops()))


def _flop(operation: Any) -> int:
    kind = operation.get_type_name()
    if kind not in ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"):
        return 0
    taken, by, out = (
        [int(length) for length in end.get_shape()]
        for end in (operation.input(0), operation.input(1), operation.output(0))
    )
    if kind == "ConvolutionBackpropData":  # weights (in, out, rows, columns): each input pixel meets all of them
        return 2 * prod(taken) * prod(by[1:])
    if kind == "MatMul":
        return 2 * prod(out) * (taken[-2] if operation.get_attributes()["transpose_a"] else taken[-1])
    filters = 2 if kind == "GroupConvolution" else 1  # weights (groups, out, in, rows, columns), or without groups
    return 2 * prod(out) * prod(by[filters:])
