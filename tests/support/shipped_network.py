"""The installed network under another record: real weights for tests that need no real patients."""

import json
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

from bleedmap.inference.weights import METADATA_KEY, WeightsFile, locate


def copy_shipped(path: Path, **changes: Any) -> WeightsFile:
    """Write it to `path`; `changes` go to the record, None takes an entry out."""
    weights = locate()
    record = {key: value for key, value in {**weights.record, **changes}.items() if value is not None}
    model = onnx.load_model_from_string(weights.content)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(record, sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return locate(path)
