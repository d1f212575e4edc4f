"""A network small enough for tests: it marks what is as bright as fresh blood, and nothing darker or brighter."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bleedmap.study.gate.pictures import PICTURE_CHECKS

SIZE = 64
ANY_PICTURE = tuple(word for name in PICTURE_CHECKS for word in ("--accept", name))  # tests' heads have no skull
RECORD = {
    "name": "tiny",
    "network": {"filters": [4, 8]},
    "preprocessing": {"size": SIZE, "frame": "whole", "window": {"level_hu": 40.0, "width_hu": 120.0}},
    "threshold": 0.5,
    "trained_on": "nothing: made for tests",
}


def write_tiny_network(path: Path, size: int = SIZE, *, input_name: str = "slices", **changes: Any) -> str:
    """sigmoid(60·(x − 50 HU)) · sigmoid(60·(90 HU − x)) as ONNX; returns its SHA-256. `changes` go to the record."""
    record = {key: value for key, value in {**RECORD, **changes}.items() if value is not None}
    low, high = (50 + 20) / 120, (90 + 20) / 120
    weights = np.array([60, -60], np.float16).reshape(2, 1, 1, 1)
    bias = np.array([-60 * low, 60 * high], np.float16)
    stored = [numpy_helper.from_array(weights, "w.half"), numpy_helper.from_array(bias, "b.half")]
    nodes = [
        helper.make_node("Cast", ["w.half"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["b.half"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Conv", [input_name, "w", "b"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["sides"]),
        helper.make_node("ReduceProd", ["sides"], ["probability"], axes=[1], keepdims=1),
    ]
    shape = ["n", 1, size, size]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (input_name, "probability")]
    graph = helper.make_graph(nodes, "tiny", ends[:1], ends[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {"bleedmap": json.dumps(record)})
    content = model.SerializeToString(deterministic=True)
    path.write_bytes(content)
    assert onnx.load_model_from_string(content).graph.name == "tiny"
    return hashlib.sha256(content).hexdigest()


def write_spot_network(path: Path) -> None:
    """The tiny network, its marks made smaller by a pixel all around: the skull's edge is no bleed."""
    write_tiny_network(path)
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "whole"
    turns = [("Neg", "whole", "turned", {}), ("MaxPool", "turned", "eroded", {"kernel_shape": [3, 3], "pads": [1] * 4})]
    for kind, before, after, options in (*turns, ("Neg", "eroded", "probability", {})):
        model.graph.node.append(helper.make_node(kind, [before], [after], **options))
    onnx.save(model, path)


def head_hu(rows: int = 128, columns: int = 128, *, bleed: bool = True) -> np.ndarray[Any, Any]:
    """A disc of brain (30 HU) in air with, for `bleed`, a disc of blood (70 HU) right of and below its centre."""
    row, column = np.mgrid[:rows, :columns]
    hu = np.full((rows, columns), -1000.0, np.float32)
    hu[np.hypot((row - rows / 2) / rows, (column - columns / 2) / columns) < 0.4] = 30
    if bleed:
        hu[np.hypot(row - 0.6 * rows, column - 0.65 * columns) < 0.1 * min(rows, columns)] = 70
    return hu
