"""OpenVINO on the CPU: the backend of every plain install."""

import numpy as np

from bleedmap.arrays import FloatArray
from bleedmap.inference.backends import BackendRecord, Precision, Prediction, check_threads
from bleedmap.models.networks import LiteUNetSettings
from bleedmap.models.openvino_runtime import ov, read_model
from bleedmap.models.weights import WeightsFile

_NAMES = {"f32": "fp32", "f16": "fp16"}  # OpenVINO's -> ours


class OpenVinoBackend:
    """One compiled network; a slice at a time, so that memory stays small and answers do not depend on company.

    Args:
        weights: a checked ONNX file.
        precision: 'fp32' gives every machine the same answer, torch's; 'auto' lets OpenVINO take bf16 where the
            processor has it, about twice as fast, with probabilities that differ at the lesions' edges.
        threads: of the processor's; None: OpenVINO's own choice.

    Raises:
        SettingsError: more threads than there are.
    """

    def __init__(self, weights: WeightsFile, precision: Precision = "fp32", threads: int | None = None) -> None:
        check_threads(threads)
        self._size = int(weights.record["preprocessing"]["size"])
        model = read_model(weights.content)
        model.reshape([1, weights.network.channels, self._size, self._size])
        config: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY"}
        if precision == "fp32":
            config["INFERENCE_PRECISION_HINT"] = "f32"
        if threads is not None:
            config["INFERENCE_NUM_THREADS"] = threads
        compiled = ov.Core().compile_model(model, "CPU", config)
        used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.record = BackendRecord(f"openvino {ov.__version__.split('-')[0]}", "cpu", _NAMES.get(used, used))
        self._request = compiled.create_infer_request()
        self._tells_labels = isinstance(weights.network, LiteUNetSettings)

    def predict(self, slices: FloatArray) -> Prediction:
        """As `Backend.predict`."""
        probability = np.empty((len(slices), self._size, self._size), np.float32)
        labels, features = [], []
        for index, one in enumerate(slices):
            answer = self._request.infer({"slices": one[None]})
            probability[index] = answer["probability"][0, 0]
            if self._tells_labels:
                labels.append(answer["labels"][0].copy())
                features.append(answer["features"][0].copy())
        if not labels:
            return Prediction(probability)
        return Prediction(probability, np.stack(labels), np.stack(features))
