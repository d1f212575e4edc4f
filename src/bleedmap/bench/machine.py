"""What a benchmark states about the machine: its processor, its memory, and how fast it multiplies matrices."""

import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np

from bleedmap.inference.backends import available_threads
from bleedmap.inference.openvino_runtime import core, cpu_properties, ov

MATRIX = 4096  # rows and columns of the product that stands for the machine's own rate
_HINTS = {"fp32": "f32", "bf16": "bf16"}  # our precisions -> OpenVINO's
_PACKAGES = ("bleedmap", "numpy", "openvino", "torch", "onnxruntime")
_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


def describe_machine() -> dict[str, Any]:
    """Processor, threads, memory, load at this moment (Unix), system, and versions of what computes."""
    return {
        "processor": str(core().get_property("CPU", "FULL_DEVICE_NAME")),
        "cores": _cores(),
        "threads": available_threads(),
        "memory_gib": _memory_gib(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def matrix_product(precision: str, threads: int | None, side: int = MATRIX) -> Callable[[], float]:
    """A function that multiplies two matrices (side³) and says at how many TFLOP/s.

    By OpenVINO, which every install has and which uses as many threads as the network: torch's fp32 product (MKL)
    reaches about half of it on AMD's processors, and shares of that would pass 100 %.

    Args:
        precision: 'fp32' or 'bf16'.
        threads: None: OpenVINO's own choice.
    """
    one = np.random.default_rng(0).random((side, side), np.float32)
    left, right = (ov.opset13.parameter(list(one.shape), np.float32) for _ in range(2))
    model = ov.Model([ov.opset13.matmul(left, right, False, False)], [left, right])
    request = core().compile_model(model, "CPU", cpu_properties(_HINTS[precision], threads)).create_infer_request()

    def multiply() -> float:
        begun = time.perf_counter()
        request.infer([one, one], share_inputs=True)
        return float(2 * side**3 / (time.perf_counter() - begun) / 1e12)

    multiply()  # the first one warms up
    return multiply


def in_fresh_process(
    function: Callable[_Arguments, _Answer], *arguments: _Arguments.args, **named: _Arguments.kwargs
) -> _Answer:
    """Call a module's function in a new process: nothing that ran before weighs on its time or memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments, **named).result()


def peak_mib() -> float | None:
    """The most memory that this process has held, in MiB; None where the system does not say (Linux does).

    Not ru_maxrss, which begins with what the process held that started this one.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))


def _cores() -> int | None:
    """Physical cores; None where the system does not say (Linux does)."""
    folder = Path("/sys/devices/system/cpu")
    siblings = {path.read_text() for path in folder.glob("cpu[0-9]*/topology/thread_siblings_list")}
    return len(siblings) or None


def _memory_gib() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
