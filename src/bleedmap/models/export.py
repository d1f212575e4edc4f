"""A trained network as one ONNX file: fp16 weights, its preprocessing and its story inside."""

import hashlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from bleedmap.errors import WeightsError
from bleedmap.io.files import written_whole
from bleedmap.models.lite_unet import LiteUNet, build_lite
from bleedmap.models.networks import OUTPUTS, LiteUNetSettings, UNetSettings, settings_from_dict
from bleedmap.models.unet import UNet, build

METADATA_KEY = "bleedmap"


Network = UNet | LiteUNet


class Answering(nn.Module):
    """Slices → probability (n, 1, size, size); from a `LiteUNet` also labels (n, 6) and features (n, 320)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, slices: Tensor) -> tuple[Tensor, ...]:
        if isinstance(self.network, UNet):
            return (torch.sigmoid(self.network(slices)),)
        answer = self.network(slices)
        return (self.network.probability(answer), answer.labels, answer.features)


def export_onnx(network: Network, size: int, record: dict[str, Any], path: Path) -> str:
    """Write `slices` (n, channels, size, size) → what `Answering` gives, by name, n free; return the file's SHA-256.

    Args:
        network: the trained network; its weights are rounded to fp16 in the file.
        record: stored as JSON under the metadata key 'bleedmap'.
    """
    model = onnx.ModelProto()
    model.CopyFrom(_trace(network.settings, size))
    _store_as_half(model, Answering(network).state_dict())
    helper.set_model_props(model, {METADATA_KEY: json.dumps(record, sort_keys=True)})
    model.producer_name, model.doc_string = "bleedmap", "Research software, not a medical device."
    onnx.checker.check_model(model)
    content = model.SerializeToString(deterministic=True)
    with written_whole(path) as temporary:
        temporary.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


@lru_cache(maxsize=4)
def _trace(settings: UNetSettings | LiteUNetSettings, size: int) -> onnx.ModelProto:
    """The graph of such a network, with any weights: tracing takes seconds, and the graph is the settings' alone."""
    network = build(settings, seed=0) if isinstance(settings, UNetSettings) else build_lite(settings, seed=0)
    with _without_chatter():
        program = torch.onnx.export(
            Answering(network).eval(),
            (torch.zeros(2, settings.channels, size, size),),
            input_names=["slices"],
            output_names=list(OUTPUTS[type(settings)]),
            dynamic_shapes={"slices": {0: torch.export.Dim("n")}},
            dynamo=True,
            optimize=False,  # keeps batch norm apart, so that initialisers carry the network's own names
            verbose=False,
        )
    assert program is not None
    model: onnx.ModelProto = program.model_proto  # made anew at each asking
    _forget_source(model)
    return model


@contextmanager
def _without_chatter() -> Iterator[None]:
    """The exporter warns of packages that it does not need and of its own deprecations."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _store_as_half(model: onnx.ModelProto, weights: dict[str, Tensor]) -> None:
    """Each float32 initialiser takes its weights, as float16 and a Cast: half the file, the same float32 arithmetic."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        name, half = tensor.name, weights[tensor.name].numpy().astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(half, f"{name}.half"))
        casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _forget_source(model: onnx.ModelProto) -> None:
    """Drop the exporter's stack traces: they name folders of the machine that it ran on."""
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.graph.metadata_props[:]


def load_onnx(content: bytes, path: Path) -> tuple[Network, dict[str, Any]]:
    """The torch network of an exported file, and its record.

    Raises:
        WeightsError: not one of bleedmap's exports.
    """
    try:
        model = onnx.load_model_from_string(content)
        record = json.loads({entry.key: entry.value for entry in model.metadata_props}[METADATA_KEY])
        settings = settings_from_dict(record["network"])
        network = build(settings, seed=0) if isinstance(settings, UNetSettings) else build_lite(settings, seed=0)
        stored = {
            tensor.name.removesuffix(".half").removeprefix("network."): torch.from_numpy(
                numpy_helper.to_array(tensor).astype(np.float32)
            )
            for tensor in model.graph.initializer
            if tensor.name.endswith(".half")
        }
        missing, unknown = network.load_state_dict(stored, strict=False)
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]
        if missing or unknown:
            raise ValueError(f"{len(missing)} weights missing, {len(unknown)} unknown")
    except MemoryError:
        raise
    except Exception as error:  # protobuf's own errors share no base class
        raise WeightsError(
            path,
            found=f"cannot be read as bleedmap's ONNX ({error})",
            needed="an .onnx file that `bleedmap export` wrote",
            remedy="export the run again",
        ) from error
    return network.eval(), record
