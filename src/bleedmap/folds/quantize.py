"""A network in int8: one more ONNX file, of the same shape and record, whose numbers NNCF chose on real slices.

NNCF's post-training quantisation: Kozlov et al., arXiv:2002.08679. OpenVINO runs the pairs of QuantizeLinear and
DequantizeLinear that it leaves in the graph as int8 convolutions; so does ONNX Runtime, torch does not.
"""

import hashlib
import importlib
import importlib.util
import io
import json
import logging
import math
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxscript import optimizer

from bleedmap.arrays import FloatArray
from bleedmap.errors import MissingExtraError, SettingsError, WeightsError
from bleedmap.inference.weights import METADATA_KEY, WeightsFile
from bleedmap.io.files import written_whole

LARGE = 1024  # numbers of a layer that stays in float, from which on they are stored as fp16
ROUNDING = 1e-3  # by which averaging may leave 0 to 1
_NEEDS = (("nncf", "nncf"), ("onnxruntime", "onnxruntime"))  # module -> package, of the extra 'int8'


def quantize_int8(weights: WeightsFile, slices: FloatArray, path: Path, calibration: dict[str, Any]) -> str:
    """Write `weights` in int8 to `path`, whole or not at all, and its SHA-256 to `path`.sha256.

    Threshold, certainty and all else of the record carry over; 'int8' is added, and ends the name.

    Args:
        weights: a checked file with float weights.
        slices: (n, channels, size, size) float32 in 0 to 1, as the network gets them, of patients that it was trained
            on: they set the ranges of its numbers.
        path: the .onnx file.
        calibration: what these slices are, as JSON can hold it; for the record.

    Returns:
        The file's SHA-256.

    Raises:
        WeightsError: in int8 already, or a network that cannot be quantised.
        SettingsError: slices of another shape, none, or not in 0 to 1.
        MissingExtraError: NNCF or ONNX Runtime, by which it looks at the network's numbers, is not installed.
        OutputError: the disk is full, or the folder cannot be written.
    """
    check_float(weights)
    _check(slices, weights)
    nncf = _library()
    try:
        model = _quantised(nncf, _folded(weights.content), slices)
    except Exception as error:  # NNCF's, ONNX Runtime's and protobuf's errors share no class of their own
        raise _unusable(weights, f"cannot be quantised ({_last_line(error)})", "export the network again") from error
    _finish(model, _record(weights, len(slices), calibration, nncf.__version__))
    content = model.SerializeToString(deterministic=True)
    sha256 = hashlib.sha256(content).hexdigest()
    with written_whole(path) as beside:
        beside.write_bytes(content)
    with written_whole(path.with_name(f"{path.name}.sha256")) as beside:
        beside.write_text(f"{sha256}  {path.name}\n", encoding="utf-8")
    return sha256


def check_float(weights: WeightsFile) -> None:
    """Refuse what `quantize_int8` would refuse, before slices are read for it.

    Raises:
        WeightsError: in int8 already.
        MissingExtraError: NNCF or ONNX Runtime is not installed.
    """
    if weights.is_int8:
        raise _unusable(weights, "in int8 already", "give the file that it was made from")
    if missing := missing_for_int8():
        raise MissingExtraError("int8", "int8", missing)


def missing_for_int8() -> str | None:
    """The package that quantising lacks here; None where all are installed."""
    return next((package for module, package in _NEEDS if importlib.util.find_spec(module) is None), None)


def _check(slices: FloatArray, weights: WeightsFile) -> None:
    size = int(weights.record["preprocessing"]["size"])
    wanted = (weights.network.channels, size, size)
    fits = slices.ndim == 4 and slices.shape[1:] == wanted and slices.dtype == np.float32 and len(slices)
    if not fits or not (slices.min() > -ROUNDING and slices.max() < 1 + ROUNDING):
        raise SettingsError(
            "calibration slices", found=f"{slices.dtype} of shape {slices.shape}",
            needed=f"one or more of float32, (n, {', '.join(map(str, wanted))}), in 0 to 1",
            remedy="prepare them as the network's input is",
        )  # fmt: skip


def _library() -> Any:
    """NNCF, quiet. Its usage statistics would go by the package that `openvino_runtime` hides, imported before."""
    nncf: Any = importlib.import_module("nncf")
    nncf.set_log_level(logging.ERROR)
    return nncf


def _folded(content: bytes) -> onnx.ModelProto:
    """The same network as plain as it can be: float32 weights, constants worked out, batch norm in its convolution."""
    model = onnx.load_model_from_string(content)
    halves = {one.name: one for one in model.graph.initializer if one.data_type == TensorProto.FLOAT16}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in halves:
            half = halves[node.input[0]]
            half.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(half).astype(np.float32), node.output[0]))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    # The default limits, against files that grow, would leave the larger weights apart from their batch norm.
    folded: onnx.ModelProto = optimizer.optimize(model, input_size_limit=2**30, output_size_limit=2**30)
    return folded


def _quantised(nncf: Any, model: onnx.ModelProto, slices: FloatArray) -> onnx.ModelProto:
    """QuantizeLinear and DequantizeLinear around all but the ends; weights as int8."""
    advanced: Any = importlib.import_module("nncf.quantization.advanced_parameters")
    ranges: Any = importlib.import_module("nncf.quantization.range_estimator")
    with redirect_stdout(io.StringIO()):  # its progress bars
        quantised: onnx.ModelProto = nncf.quantize(
            model,
            nncf.Dataset([{"slices": one[None]} for one in slices]),
            subset_size=len(slices),
            target_device=nncf.TargetDevice.CPU,
            # 'mixed' has zero points, with which OpenVINO 2026.4 answers otherwise than the file's own arithmetic.
            preset=nncf.QuantizationPreset.PERFORMANCE,
            ignored_scope=nncf.IgnoredScope(names=_ends(model)),
            advanced_parameters=advanced.AdvancedQuantizationParameters(
                # Lesions are rare: the mean of the slices' extremes would cut off what they do to the numbers.
                activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX,
                disable_bias_correction=True,  # it set the biases right for slices without lesions: worse outlines
            ),
        )
    return quantised


def _ends(model: onnx.ModelProto) -> list[str]:
    """The last operations: they cost little, say much, and stay in float."""
    nodes = model.graph.node
    heads = [node.name for node in nodes if node.op_type in ("ReduceMean", "ReduceMax", "Gemm")]  # presence, features
    last = [node.name for node in nodes if node.op_type == "Conv"][-1]  # of one filter: the pixels' logits
    return [*heads, last]


def _finish(model: onnx.ModelProto, record: dict[str, Any]) -> None:
    """The record in, the tools' notes out, the large float weights as fp16."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and math.prod(tensor.dims) >= LARGE:
            name, half = tensor.name, numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:], model.graph.value_info[:], model.graph.metadata_props[:]
    for node in nodes:
        del node.metadata_props[:]
        node.doc_string = ""
    model.graph.node.extend(nodes)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(record, sort_keys=True)})
    model.producer_name, model.doc_string = "bleedmap", "Research software, not a medical device."
    onnx.checker.check_model(model)


def _record(weights: WeightsFile, slices: int, calibration: dict[str, Any], version: str) -> dict[str, Any]:
    made = {"made_from": weights.name, "made_from_sha256": weights.sha256, "slices": slices, "tool": f"NNCF {version}"}
    return {**weights.record, "name": f"{weights.name}-int8", "int8": calibration | made}


def _unusable(weights: WeightsFile, found: str, remedy: str) -> WeightsError:
    return WeightsError(weights.path, found=found, needed="one of bleedmap's networks in float weights", remedy=remedy)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
