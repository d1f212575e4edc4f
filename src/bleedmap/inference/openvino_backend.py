"""OpenVINO on the CPU: the backend of every plain install."""

from typing import Any

import numpy as np

from bleedmap.arrays import FloatArray
from bleedmap.errors import SettingsError
from bleedmap.inference.backends import BackendRecord, Precision, Prediction, available_threads, check_threads
from bleedmap.models.compiled import load_compiled
from bleedmap.models.networks import LiteUNetSettings
from bleedmap.models.openvino_runtime import core, cpu_properties, ov
from bleedmap.models.weights import WeightsFile

_NAMES = {"f32": "fp32", "f16": "fp16"}  # OpenVINO's -> ours
_ENCODER_FP32 = "fp32, decoder bf16"


class OpenVinoBackend:
    """One compiled network; a slice at a time, so that memory stays small and answers do not depend on company.

    Args:
        weights: a checked ONNX file.
        precision: 'fp32' gives every machine the same answer up to rounding, torch's; 'auto' the fastest known to keep
            it: where the processor has bf16, `LiteUNet`'s decoder is in bf16, whose rounding hardly shows, as the
            encoder's does; 'bf16' is all in bf16, other at lesions' edges.
        threads: of the processor's; None: OpenVINO's own choice.

    Raises:
        SettingsError: more threads than there are; bf16 that the processor has not, or of an int8 file.
    """

    def __init__(self, weights: WeightsFile, precision: Precision = "fp32", threads: int | None = None) -> None:
        check_threads(threads)
        self._size = int(weights.record["preprocessing"]["size"])
        self._tells_labels = isinstance(weights.network, LiteUNetSettings)
        if precision == "bf16":
            _check_bf16(weights)
        fp32, bf16 = (cpu_properties(hint, threads) for hint in ("f32", "bf16"))
        self._decoder = None
        if precision == "auto" and self._tells_labels and not weights.is_int8 and _computes_bf16():
            compiled = load_compiled(weights, fp32, available_threads(), "encoder")
            decoder = load_compiled(weights, bf16, available_threads(), "decoder")
            self._decoder, used = decoder.create_infer_request(), _ENCODER_FP32
        else:
            compiled = load_compiled(weights, bf16 if precision == "bf16" else fp32, available_threads())
            used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
            used = "int8" if weights.is_int8 and _runs_int8(compiled) else _NAMES.get(used, used)
        self.record = BackendRecord(f"openvino {ov.__version__.split('-')[0]}", "cpu", used)
        self._request = compiled.create_infer_request()
        if self._decoder is not None:  # reads where the encoder writes
            for index in range(len(decoder.inputs)):
                self._decoder.set_input_tensor(index, self._request.get_output_tensor(index))

    def predict(self, slices: FloatArray) -> Prediction:
        """As `Backend.predict`."""
        probability = np.empty((len(slices), self._size, self._size), np.float32)
        labels, features = [], []
        for index, one in enumerate(slices):
            answer = self._request.infer({"slices": one[None]}, share_outputs=True)
            last = answer if self._decoder is None else self._decoder.infer(share_outputs=True)
            probability[index] = last["probability"][0, 0]
            if self._tells_labels:
                labels.append(answer["labels"][0].copy())
                features.append(answer["features"][0].copy())
        if not labels:
            return Prediction(probability)
        return Prediction(probability, np.stack(labels), np.stack(features))


def _check_bf16(weights: WeightsFile) -> None:
    """An int8 file's other layers stay in fp32: OpenVINO 2026.4 cannot compile some such files in bf16."""
    if weights.is_int8 or not _computes_bf16():
        raise SettingsError(
            "precision", found="bf16", needed="float weights, and a processor that computes bf16 (AMX or AVX512-BF16)",
            remedy="use --precision auto, which takes what is there",
        )  # fmt: skip


def _computes_bf16() -> bool:
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _runs_int8(compiled: Any) -> bool:
    """Whether this processor computes convolutions in int8: a file of int8 weights can be run in fp32 too."""
    operations = (one.get_rt_info() for one in compiled.get_runtime_model().get_ops())
    return any(
        one["layerType"].astype(str) == "Convolution" and one["runtimePrecision"].astype(str) in ("i8", "u8")
        for one in operations
    )
