"""The network in torch as it can be run for speed: eager and compiled, fp32 and bf16."""

import shutil
import sys
from pathlib import Path

import numpy as np
import torch

from bleedmap.arrays import FloatArray
from bleedmap.bench.network import Runner
from bleedmap.inference.torch_backend import TorchBackend
from bleedmap.inference.weights import WeightsFile
from bleedmap.models.export import Answering, export_onnx, load_onnx
from bleedmap.models.networks import network_settings
from bleedmap.models.unet import build
from bleedmap.training.config import TrainConfig
from bleedmap.training.device import choose_machine
from bleedmap.window import BRAIN


def torch_runners(weights: WeightsFile, threads: int | None, batch: int = 1) -> tuple[list[Runner], dict[str, str]]:
    """Eager fp32 is this program's own torch backend, which sets the threads; and what does not run here, with why.
    Compiled for `batch` slices at a time."""
    backend = TorchBackend(weights, "cpu", threads)
    runners, left_out = [Runner("torch eager", "fp32", lambda some: backend.predict(some).probability)], {}
    has_bf16 = choose_machine("cpu", "auto").bf16
    if has_bf16:
        runners.append(_runner(weights, bf16=True, compiled=False))
    else:
        left_out["torch bf16"] = "this processor has no bf16 arithmetic"
    if sys.platform == "win32" or not any(map(shutil.which, ("g++", "clang++", "c++"))):
        return runners, left_out | {"torch compiled": "no C++ compiler here"}
    for bf16 in (False, True) if has_bf16 else (False,):
        runner = _runner(weights, bf16=bf16, compiled=True)
        try:
            runner.predict(np.zeros((batch, weights.network.channels, *[weights.preprocessing.size] * 2), np.float32))
            runners.append(runner)
        except Exception as error:  # the compilers behind it share no error of their own
            left_out[runner.title] = f"cannot be compiled here: {str(error).strip().splitlines()[0]}"
    return runners, left_out


def untrained(name: str, folder: Path) -> Path:
    """An untrained network of the thesis, one of `NETWORKS`, exported into `folder`: for its speed alone."""
    settings, preprocessing = network_settings(name), TrainConfig(network=name).preprocessing()
    record = {
        "name": f"{name}, untrained", "network": settings.to_dict(), "threshold": 0.5, "trained_on": "nothing",
        "preprocessing": {
            "size": preprocessing.size, "frame": preprocessing.frame,
            "window": {"level_hu": BRAIN.level_hu, "width_hu": BRAIN.width_hu},
        },
    }  # fmt: skip
    path = folder / f"{name}.onnx"
    export_onnx(build(settings, 0), preprocessing.size, record, path)
    return path


def _runner(weights: WeightsFile, *, bf16: bool, compiled: bool) -> Runner:
    """channels_last, under autocast where bf16: as the network is trained."""
    network, _ = load_onnx(weights.content, weights.path)
    plain = Answering(network).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    called = torch.compile(plain, dynamic=False) if compiled else plain

    def predict(some: FloatArray) -> FloatArray:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            answer = called(torch.from_numpy(some).contiguous(memory_format=torch.channels_last))
        probability: FloatArray = answer[0][:, 0].float().numpy()
        return probability

    return Runner("torch compiled" if compiled else "torch eager", "bf16" if bf16 else "fp32", predict)
