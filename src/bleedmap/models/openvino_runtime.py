"""OpenVINO with its usage statistics off: the one place that imports it.

`import openvino` alone reports the import to Google Analytics and writes an identifier under ~/intel, without
asking (openvino/tools/ovc/__init__.py, seen in 2026.4). A program that reads patients' images may not call
anyone, so the package that reports is hidden first; OpenVINO then falls back to its own empty stand-in.
"""

import importlib
import sys
from typing import Any

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
ov: Any = importlib.import_module("openvino")


def read_model(content: bytes) -> Any:
    """An ONNX file's bytes -> OpenVINO's model.

    Raises:
        RuntimeError: not a network that OpenVINO can read.
    """
    return ov.Core().read_model(content)
