"""OpenVINO with its usage statistics off: the one place that imports it.

`import openvino` alone reports the import to Google Analytics and writes an identifier under ~/intel, without
asking (openvino/tools/ovc/__init__.py, seen in 2026.4). A program that reads patients' images may not call
anyone, so the package that reports is hidden first; OpenVINO then falls back to its own empty stand-in.
Its converter of other formats, half of the time that the import takes, is not loaded with it.
"""

import importlib
import sys
from functools import lru_cache
from typing import Any

_CONVERTER = "openvino.tools.ovc"
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
sys.modules.setdefault(_CONVERTER, None)  # type: ignore[arg-type]
ov: Any = importlib.import_module("openvino")
if sys.modules[_CONVERTER] is None:
    del sys.modules[_CONVERTER]  # whoever wants it can still import it


@lru_cache(maxsize=1)
def core() -> Any:
    """The process' one `ov.Core`, kept to its end.

    OpenVINO 2026.4 sets a signal stack of its own for the thread that first uses a core's CPU plugin and gives back,
    when the last of that core goes, the one that it had met. Of two cores, the second may so give back the first one's
    freed stack: then the next signal, Ctrl-C or a child's end, kills the process.
    """
    return ov.Core()


def cpu_properties(hint: str, threads: int | None, requests: int = 1) -> dict[str, str | int]:
    """OpenVINO's properties of a network on the CPU.

    Its threads are not bound to cores: each process binds its own from the first core on, whoever is there already, so
    that of two processes with a thread each the second core was idle (openvino issue 32444).

    Args:
        hint: the precision, as OpenVINO calls it: 'f32' or 'bf16'.
        threads: of the processor's; None: OpenVINO's own choice.
        requests: at the same time, at most: the threads share them out as OpenVINO finds best.
    """
    properties: dict[str, str | int] = {"INFERENCE_PRECISION_HINT": hint, "ENABLE_CPU_PINNING": False}
    if requests == 1:
        properties["PERFORMANCE_HINT"] = "LATENCY"
    else:
        properties |= {"PERFORMANCE_HINT": "THROUGHPUT", "PERFORMANCE_HINT_NUM_REQUESTS": requests}
    if threads is not None:
        properties["INFERENCE_NUM_THREADS"] = threads
    return properties


def read_model(content: bytes) -> Any:
    """An ONNX file's bytes -> OpenVINO's model.

    Raises:
        RuntimeError: not a network that OpenVINO can read.
    """
    return core().read_model(content)


def upsampling_apart(model: Any) -> tuple[Any, Any]:
    """A U-Net in two: all up to its first upsampling, and all that follows it, the decoder.

    Args:
        model: with static shapes; taken apart, so not to be used again.

    Returns:
        The first part, whose first outputs are the second's inputs in their order; and the second.

    Raises:
        RuntimeError: it has no upsampling.
    """
    operations = model.get_ordered_ops()
    first = next((one for one in operations if one.get_type_name() == "Interpolate"), None)
    if first is None:
        raise RuntimeError("a network without upsampling")
    after: set[str] = {first.get_friendly_name()}
    fixed: set[str] = set()
    cuts: dict[tuple[str, int], list[Any]] = {}  # an output of the first part -> inputs of the second
    for one in operations:  # each after all that it takes
        name, inputs = one.get_friendly_name(), one.inputs()
        sources = [end.get_source_output() for end in inputs]
        before = [source.get_node().get_friendly_name() for source in sources]
        if one.get_type_name() != "Parameter" and fixed.issuperset(before):
            fixed.add(name)  # a constant, or made of constants alone: it goes with whom it serves
        elif not after.isdisjoint(before) or name in after:
            after.add(name)
            for end, source, origin in zip(inputs, sources, before, strict=True):
                if origin not in after | fixed:
                    cuts.setdefault((origin, source.get_index()), []).append(end)
    ends, entries = [], []
    for served in cuts.values():
        source = served[0].get_source_output()
        entry = ov.opset13.parameter(source.get_shape(), source.get_element_type())
        ends.append(ov.opset13.result(source))
        entries.append(entry)
        for end in served:
            end.replace_source_output(entry.output(0))
    results = [(one.get_friendly_name() in after, one) for one in model.get_results()]
    front = ov.Model([*ends, *(one for late, one in results if not late)], model.get_parameters(), "encoder")
    return front, ov.Model([one for late, one in results if late], entries, "decoder")
