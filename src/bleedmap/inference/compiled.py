"""Compiled networks kept on disk, so that the next start loads in place of compiling.

What is kept is OpenVINO's own export of a compiled network, which native code parses: nothing is read from a folder
that others could write to, nothing whose hash does not fit, and a key binds each file to all that it was made for.
OpenVINO's own CACHE_DIR, measured in its place, takes 0.12 s of processor time more at each start (0.25 s in place of
0.13 s, medians of seven), checks no hash and removes no old file.
"""

import hashlib
import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from bleedmap.errors import OutputError
from bleedmap.inference.openvino_runtime import core, ov, read_model, upsampling_apart
from bleedmap.inference.weights import WeightsFile
from bleedmap.io.files import written_whole

Part = Literal["whole", "encoder", "decoder"]
_PARTS = ("encoder", "decoder")
VARIABLE = "BLEEDMAP_CACHE"  # a folder for the files, or 'off'
KEPT = 8  # files; those used last
_SUFFIX = ".bleedmap"  # nobody else's: the folder may hold other files
_FORMAT = 1  # of the files; counted up where their making changes
_LEFT_S = 3600.0  # an unfinished file of this age is a killed process'
_DIGEST = hashlib.sha256().digest_size  # bytes


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
        config: OpenVINO's properties.
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
        kept = _kept(path, key)
        if kept is not None:
            with suppress(RuntimeError):  # what OpenVINO no longer takes is made anew
                return core().import_model(kept, "CPU", dict(config))
    compiled = core().compile_model(_model(weights, part), "CPU", dict(config))
    if path is not None:
        _keep(path, compiled)
    return compiled


def _model(weights: WeightsFile, part: Part) -> Any:
    model, size = read_model(weights.content), int(weights.record["preprocessing"]["size"])
    model.reshape([1, weights.network.channels, size, size])
    return model if part == "whole" else upsampling_apart(model)[_PARTS.index(part)]


def sealed(key: str, blob: bytes) -> bytes:
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


def _kept(path: Path, key: str) -> bytes | None:
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
            beside.write_bytes(sealed(path.stem, blob))
        _tidy(path.parent)


def _tidy(folder: Path) -> None:
    """Keep the `KEPT` files used last; nothing of killed processes."""
    blobs = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda one: one.stat().st_mtime, reverse=True)
    finished = [one for one in blobs if not one.name.startswith(".")]
    left = [one for one in blobs if one.name.startswith(".") and time.time() - one.stat().st_mtime > _LEFT_S]
    for one in [*finished[KEPT:], *left]:
        one.unlink(missing_ok=True)
