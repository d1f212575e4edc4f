"""OpenVINO on the CPU: the backend of every plain install, and compiled networks kept on disk.

The next start loads a kept network in place of compiling it. What is kept is OpenVINO's own export, which native code
parses: nothing is read from a folder that others could write to, nothing whose hash does not fit, and a key binds each
file to all that it was made for. OpenVINO's own CACHE_DIR, measured in its place, takes 0.12 s of processor time more
at each start (0.25 s in place of 0.13 s, medians of seven), checks no hash and removes no old file.
"""

import hashlib
import json
import os
import platform
import sys
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bleedmap.arrays import FloatArray
from bleedmap.errors import OutputError, SettingsError
from bleedmap.inference.backends import BackendRecord, Precision, Prediction, available_threads, check_threads
from bleedmap.inference.openvino_runtime import core, cpu_properties, ov, read_model, upsampling_apart
from bleedmap.inference.weights import WeightsFile
from bleedmap.io.files import written_whole
from bleedmap.models.networks import LiteUNetSettings

_NAMES = {"f32": "fp32", "f16": "fp16"}  # OpenVINO's -> ours
_UNDER_WAY = 4  # slices at most: each takes memory, of the installed network 17 MiB
_ENCODER_FP32 = "fp32, decoder bf16"
Part = Literal["whole", "encoder", "decoder"]
_PARTS = ("encoder", "decoder")
VARIABLE = "BLEEDMAP_CACHE"  # a folder for the files, or 'off'
KEPT = 8  # files; those used last
_SUFFIX = ".bleedmap"  # nobody else's: the folder may hold other files
_FORMAT = 1  # of the files; counted up where their making changes
_LEFT_S = 3600.0  # an unfinished file of this age is a killed process'
_DIGEST = hashlib.sha256().digest_size  # bytes


class OpenVinoBackend:
    """One compiled network, which runs one slice at a time, several requests in flight.

    Memory stays small and results do not depend on the batch; OpenVINO chooses how many requests are in flight.

    Args:
        weights: a checked ONNX file.
        precision: 'fp32' gives every machine the same answer up to rounding, torch's; 'auto' the fastest known to keep
            it: where the processor has bf16, `LiteUNet`'s decoder is in bf16, whose rounding hardly shows, as the
            encoder's does; 'bf16' is all in bf16, other at lesions' edges.
        threads: of the processor's; None: OpenVINO's own choice.
        one_by_one: whether all threads work at one slice, for slices that come one by one; else several are in flight.

    Raises:
        SettingsError: more threads than there are; bf16 that the processor has not.
    """

    def __init__(
        self, weights: WeightsFile, precision: Precision = "fp32", threads: int | None = None,
        one_by_one: bool = False,
    ) -> None:  # fmt: skip
        check_threads(threads)
        self._size = weights.preprocessing.size
        self._tells_labels = isinstance(weights.network, LiteUNetSettings)
        if precision == "bf16" and not _computes_bf16():
            raise SettingsError(
                "precision", found="bf16", needed="a processor that computes bf16 (AMX or AVX512-BF16)",
                remedy="use --precision auto, which takes what is there",
            )  # fmt: skip
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


def _computes_bf16() -> bool:
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def cache_folder() -> Path | None:
    """Where compiled networks are kept: `BLEEDMAP_CACHE`, or the platform's folder for caches; None: nowhere."""
    stated = os.environ.get(VARIABLE, "").strip()
    if stated:
        return None if stated.lower() == "off" else Path(stated).expanduser()
    try:
        home = Path.home()
    except RuntimeError:  # no HOME, and a user without an entry
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local") / "bleedmap" / "cache"
    if sys.platform == "darwin":
        return home / "Library/Caches/bleedmap"
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))  # relative ones are to be ignored: XDG Base Directory 0.8
    return (base if base.is_absolute() else home / ".cache") / "bleedmap"


def load_compiled(weights: WeightsFile, config: Mapping[str, str | int], threads: int, part: Part = "whole") -> Any:
    """A network compiled for one slice at a time on the CPU, from the cache where it is there.

    Args:
        weights: a checked ONNX file.
        threads: that this process may use; what is kept serves this number alone.
        part: of the network, as `upsampling_apart` makes them.

    Raises:
        RuntimeError: OpenVINO cannot compile the network.
    """
    path = None
    folder = cache_folder()
    if folder is not None and _is_private(folder):
        key = _key(weights, config, threads, part)
        path = folder / f"{key}{_SUFFIX}"
        kept = _read_kept(path, key)
        if kept is not None:
            with suppress(RuntimeError):  # what OpenVINO no longer takes is made anew
                return core().import_model(kept, "CPU", dict(config))
    model = read_network(weights)
    if part != "whole":
        model = upsampling_apart(model)[_PARTS.index(part)]
    compiled = core().compile_model(model, "CPU", dict(config))
    if path is not None:
        _keep(path, compiled)
    return compiled


def read_network(weights: WeightsFile, batch: int = 1) -> Any:
    """OpenVINO's model of a file, for a number of slices at a time."""
    model, size = read_model(weights.content), weights.preprocessing.size
    model.reshape([batch, weights.network.channels, size, size])
    return model


def seal(key: str, blob: bytes) -> bytes:
    """A file's content: SHA-256 of key and blob, then the blob."""
    return _digest(key, blob) + blob


def _digest(key: str, blob: bytes) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(blob)
    return digest.digest()


def _is_private(folder: Path) -> bool:
    """Whether the folder, made where it is missing, is ours and nobody else can write to it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return False
    return _is_ours(found)


def _is_ours(found: os.stat_result) -> bool:
    """Whether it belongs to this user and nobody else can write to it; Windows' own rights are trusted."""
    return sys.platform == "win32" or (found.st_uid == os.geteuid() and not found.st_mode & 0o022)


def _key(weights: WeightsFile, config: Mapping[str, str | int], threads: int, part: Part) -> str:
    """Of all that a compiled network depends on; hexadecimal."""
    made_for = {
        "format": _FORMAT,
        "openvino": ov.get_version(),
        "weights": weights.sha256,
        "part": part,
        "config": dict(config),
        "threads": threads,
        "platform": f"{sys.platform} {platform.machine()}",
        "processor": core().get_property("CPU", "FULL_DEVICE_NAME"),
        "can": sorted(core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        "instructions": _instructions(),
    }
    return hashlib.sha256(json.dumps(made_for, sort_keys=True).encode()).hexdigest()


def _instructions() -> str:
    """The processor's instruction sets, where the system tells: a virtual machine may hide some of its model's."""
    with suppress(OSError), Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as stream:
        return next((line for line in stream if line.startswith(("flags", "Features"))), "")
    return ""


def _read_kept(path: Path, key: str) -> bytes | None:
    """The blob of a whole, undamaged file, which counts as used; else None."""
    try:
        if not _is_ours(path.stat()):
            return None
        content = path.read_bytes()
    except OSError:
        return None
    with suppress(OSError):  # a folder that is only read
        os.utime(path)
    blob = content[_DIGEST:]
    return blob if content[:_DIGEST] == _digest(key, blob) else None


def _keep(path: Path, compiled: Any) -> None:
    """Write a compiled network for the next start; where it cannot be written, nothing is lost."""
    with suppress(OutputError, OSError, RuntimeError):
        blob = compiled.export_model().getvalue()
        with written_whole(path) as beside:
            beside.touch(mode=0o600)
            beside.write_bytes(seal(path.stem, blob))
        _tidy(path.parent)


def _tidy(folder: Path) -> None:
    """Keep the `KEPT` files used last; nothing of killed processes."""
    blobs = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda one: one.stat().st_mtime, reverse=True)
    finished = [one for one in blobs if not one.name.startswith(".")]
    left = [one for one in blobs if one.name.startswith(".") and time.time() - one.stat().st_mtime > _LEFT_S]
    for one in [*finished[KEPT:], *left]:
        one.unlink(missing_ok=True)
