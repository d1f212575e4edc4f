"""OpenVINO on the CPU: the backend of every plain install."""

from collections import deque
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np

from bleedmap.arrays import FloatArray
from bleedmap.errors import SettingsError
from bleedmap.inference.backends import BackendRecord, Precision, Prediction, available_threads, check_threads
from bleedmap.inference.compiled import load_compiled
from bleedmap.inference.openvino_runtime import core, cpu_properties, ov
from bleedmap.inference.weights import WeightsFile
from bleedmap.models.networks import LiteUNetSettings

_NAMES = {"f32": "fp32", "f16": "fp16"}  # OpenVINO's -> ours
_UNDER_WAY = 4  # slices at most: each takes memory, of the installed network 17 MiB
_ENCODER_FP32 = "fp32, decoder bf16"


class OpenVinoBackend:
    """One compiled network; each slice by itself, so that memory stays small and answers do not depend on company, and
    as many under way as OpenVINO finds best.

    Args:
        weights: a checked ONNX file.
        precision: 'fp32' gives every machine the same answer up to rounding, torch's; 'auto' the fastest known to keep
            it: where the processor has bf16, `LiteUNet`'s decoder is in bf16, whose rounding hardly shows, as the
            encoder's does; 'bf16' is all in bf16, other at lesions' edges.
        threads: of the processor's; None: OpenVINO's own choice.
        one_by_one: slices come so, and all threads are at each; else several are under way.

    Raises:
        SettingsError: more threads than there are; bf16 that the processor has not.
    """

    def __init__(
        self, weights: WeightsFile, precision: Precision = "fp32", threads: int | None = None,
        one_by_one: bool = False,
    ) -> None:  # fmt: skip
        check_threads(threads)
        self._size = int(weights.record["preprocessing"]["size"])
        self._tells_labels = isinstance(weights.network, LiteUNetSettings)
        if precision == "bf16":
            _check_bf16()
        fp32, bf16 = (cpu_properties(hint, threads, 1 if one_by_one else _UNDER_WAY) for hint in ("f32", "bf16"))
        if precision == "auto" and self._tells_labels and _computes_bf16():
            parts = [
                load_compiled(weights, fp32, available_threads(), "encoder"),
                load_compiled(weights, bf16, available_threads(), "decoder"),
            ]
            used = _ENCODER_FP32
        else:
            parts = [load_compiled(weights, bf16 if precision == "bf16" else fp32, available_threads())]
            used = parts[0].get_property("INFERENCE_PRECISION_HINT").get_type_name()
            used = _NAMES.get(used, used)
        self.record = BackendRecord(f"openvino {ov.__version__.split('-')[0]}", "cpu", used)
        self._lanes = [_Lane(parts) for _ in range(parts[0].get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))]

    def predict(self, slices: FloatArray) -> Prediction:
        """As `Backend.predict`."""
        probability = np.empty((len(slices), self._size, self._size), np.float32)
        labels, features = [], []
        coming, free, busy = deque(enumerate(slices)), deque(self._lanes), deque[_Lane]()
        try:
            while coming or busy:
                if coming and free:
                    busy.append(free.popleft())
                    busy[-1].begin(*coming.popleft())
                    continue
                lane = busy.popleft()  # begun first, so that answers come in the slices' order
                if lane.goes_on():
                    busy.append(lane)
                    continue
                free.append(lane)
                probability[lane.index] = lane.said("probability")[0]
                if self._tells_labels:
                    labels.append(lane.said("labels").copy())
                    features.append(lane.said("features").copy())
        except BaseException:
            for lane in self._lanes:
                lane.end()
            raise
        if not labels:
            return Prediction(probability)
        return Prediction(probability, np.stack(labels), np.stack(features))


class _Lane:
    """What a slice passes through: a request for each part of the network, reading where the one before it writes.

    One thread of Python begins them and waits: from two, OpenVINO 2026.4 may wait for ever, its first `Tensor.data`
    behind Python's lock and Python's lock behind that.
    """

    def __init__(self, parts: list[Any]) -> None:
        self.index = 0  # of the slice
        self._requests, self._part = [one.create_infer_request() for one in parts], 0
        for before, after in pairwise(self._requests):
            for place in range(len(after.model_inputs)):
                after.set_input_tensor(place, before.get_output_tensor(place))

    def begin(self, index: int, one: FloatArray) -> None:
        """`one`: (channels, size, size)."""
        self.index, self._part = index, 0
        self._requests[0].start_async({"slices": one[None]})

    def goes_on(self) -> bool:
        """Wait for the part that computes, begin the next one; False: there is none."""
        self._requests[self._part].wait()
        self._part += 1
        if self._part == len(self._requests):
            return False
        self._requests[self._part].start_async()
        return True

    def said(self, output: str) -> FloatArray:
        """An output, without its batch axis; the next slice overwrites it."""
        said: FloatArray = self._requests[-1 if output == "probability" else 0].get_tensor(output).data[0]
        return said

    def end(self) -> None:
        """After an error: wait until nothing computes, so that another slice can begin."""
        for one in self._requests:
            with suppress(RuntimeError):
                one.wait()


def _check_bf16() -> None:
    if not _computes_bf16():
        raise SettingsError(
            "precision", found="bf16", needed="a processor that computes bf16 (AMX or AVX512-BF16)",
            remedy="use --precision auto, which takes what is there",
        )  # fmt: skip


def _computes_bf16() -> bool:
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
