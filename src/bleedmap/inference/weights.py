"""Trained weights: one ONNX file that carries its preprocessing and story. Nothing pickled is ever loaded.

The file's bytes are read once: what was hashed is what is parsed and run.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Literal

from bleedmap.errors import SettingsError, WeightsError, usable
from bleedmap.inference.certainty import CertaintySettings
from bleedmap.inference.openvino_runtime import read_model
from bleedmap.models.networks import OUTPUTS, LiteUNetSettings, UNetSettings, settings_from_dict
from bleedmap.preprocess import Preprocessing
from bleedmap.window import Window

FOLDER = Path(__file__).parents[1] / "weights"
METADATA_KEY = "bleedmap"
_EXPORT = "give an .onnx file that `bleedmap export` wrote"
_UPDATE = "update bleedmap, or export the network again"
_REINSTALL = "install bleedmap again: the file was changed or cut short"


@dataclass(frozen=True)
class InstalledWeights:
    """Weights that came with the program, as the manifest lists them; the file may be missing or damaged."""

    name: str
    path: Path
    sha256: str
    bytes: int
    description: str
    licence: str
    attribution: str
    is_default: bool

    @property
    def state(self) -> Literal["ok", "missing", "damaged"]:
        """Whether the file is there, with the hash of the manifest."""
        if not self.path.is_file():
            return "missing"
        return "ok" if hashlib.sha256(self.path.read_bytes()).hexdigest() == self.sha256 else "damaged"


@dataclass(frozen=True)
class MeasuredOn:
    """The slices that a network was trained and measured on; the defaults are CT-ICH's, for files that do not say.

    `spacing_mm`: from slice to slice, lowest and highest at which its figures are taken to hold.
    """

    thickness_mm: float = 5.0  # of each slice
    spacing_mm: tuple[float, float] = (3.5, 7.5)

    @classmethod
    def around(cls, spacings_mm: Sequence[float]) -> "MeasuredOn":
        """Those of studies whose slices lie that far apart, with as much room beyond as CT-ICH's 5 mm are given."""
        low, high = (round(part * one, 2) for part, one in ((0.7, min(spacings_mm)), (1.5, max(spacings_mm))))
        return cls(round(median(spacings_mm), 1), (low, high))


@dataclass(frozen=True, eq=False)
class WeightsFile:
    """A network ready to load.

    `content`: the whole ONNX file: `slices` (n, channels, size, size) 0 to 1 -> `probability` (n, 1, size, size) and,
    from newer networks, labels and features.
    """

    name: str  # as the file calls itself
    path: Path  # where it was read from
    sha256: str  # of `content`
    content: bytes = field(repr=False)
    record: dict[str, Any] = field(repr=False)  # the JSON under the file's metadata key 'bleedmap'

    @property
    def threshold(self) -> float:
        """The probability from which on a pixel is lesion, as the weights were measured."""
        return float(self.record["threshold"])

    @property
    def trained_on(self) -> str:
        """The data that the network learned from, in words."""
        return str(self.record["trained_on"])

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing that the network was trained with.

        Raises:
            WeightsError: the file's record of it cannot be used.
        """
        needed = "size, frame and window, as `bleedmap export` writes them"
        remedy = "export the run again with this version"
        with usable(self.path, WeightsError, needed, remedy, SettingsError, found="its preprocessing cannot be used"):
            record = self.record["preprocessing"]
            required = {"size": record["size"], "frame": record["frame"], "window": Window(**record["window"])}
            return Preprocessing(**{**record, **required})

    @cached_property
    def measured_on(self) -> MeasuredOn:
        """The slices on which the network was measured, from the record's 'measured_on'.

        Raises:
            WeightsError: they cannot be used.
        """
        content = self.record.get("measured_on", {})
        needed = "thickness_mm, and the lowest and highest spacing_mm"
        found = "the slices that it was measured on cannot be used"
        with usable(self.path, WeightsError, needed, _UPDATE, found=found):
            low, high = map(float, content.get("spacing_mm", MeasuredOn.spacing_mm))
            return MeasuredOn(float(content.get("thickness_mm", MeasuredOn.thickness_mm)), (low, high))

    @cached_property
    def certainty(self) -> CertaintySettings | None:
        """The numbers by which the program says how sure it is; None for older weights.

        Raises:
            WeightsError: they cannot be used.
        """
        content = self.record.get("certainty")
        if content is None:
            return None
        found = "its numbers of certainty cannot be used"
        with usable(self.path, WeightsError, "those that this version writes", _UPDATE, found=found):
            return CertaintySettings.from_dict(content)

    @cached_property
    def network(self) -> UNetSettings | LiteUNetSettings:
        """The network's definition."""
        return settings_from_dict(self.record["network"])


def installed(folder: Path = FOLDER) -> list[InstalledWeights]:
    """The weights that the manifest in `folder` lists, the default first; none without a manifest.

    Raises:
        WeightsError: a manifest that cannot be read.
    """
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return []
    needed, wrong = "the manifest that came with the program", "cannot be read as the list of weights"
    with usable(manifest, WeightsError, needed, _REINSTALL, found=wrong):
        content = json.loads(manifest.read_text(encoding="utf-8"))
        found = [
            InstalledWeights(
                name=name,
                path=folder / Path(entry["file"]).name,
                sha256=entry["sha256"],
                bytes=int(entry["bytes"]),
                description=entry["description"],
                licence=entry.get("licence", ""),
                attribution=entry.get("attribution", ""),
                is_default=name == content["default"],
            )
            for name, entry in content["weights"].items()
        ]
    return sorted(found, key=lambda weights: not weights.is_default)


def locate(name_or_path: str | Path | None = None, folder: Path = FOLDER) -> WeightsFile:
    """The installed default (None), installed weights by name, or a user's own .onnx file.

    Hashes are checked before anything is parsed: the manifest's, or that of a `<file>.sha256` beside one's own.

    Raises:
        WeightsError: none installed, no such file or name, another hash, or not one of bleedmap's networks.
    """
    listed = {weights.name: weights for weights in installed(folder)}
    if name_or_path is None:
        chosen = next((weights for weights in listed.values() if weights.is_default), None)
        if chosen is None:
            raise WeightsError(
                "weights",
                found="no weights are installed with this copy of bleedmap",
                needed="a trained network",
                remedy=f"{_EXPORT} with --weights, or install a release, which carries one",
            )
    else:
        chosen = listed.get(str(name_or_path))
    if chosen is not None:
        with usable(chosen.path, WeightsError, "the weights' file", _REINSTALL, found="cannot be read"):
            content = chosen.path.read_bytes()
        return _parse(chosen.path, content, _check_hash(chosen.path, content, chosen.sha256, _REINSTALL))
    return _locate_own(Path(str(name_or_path)), list(listed))


def _locate_own(path: Path, names: list[str]) -> WeightsFile:
    if path.suffix.lower() != ".onnx":
        raise WeightsError(
            path,
            found="neither installed weights nor an .onnx file",
            needed=f"one of {', '.join(names)}, or an .onnx file" if names else "an .onnx file",
            remedy=f"{_EXPORT}; `bleedmap models` lists what is installed",
        )
    with usable(path, WeightsError, "the weights' file", "check the path", found="cannot be read"):
        content = path.read_bytes()
    stated = path.with_name(f"{path.name}.sha256")
    expected = (stated.read_text(encoding="utf-8", errors="replace").split() or [""])[0] if stated.is_file() else None
    return _parse(path, content, _check_hash(path, content, expected, f"copy the file again, or correct {stated.name}"))


def _check_hash(path: Path, content: bytes, expected: str | None, remedy: str) -> str:
    found = hashlib.sha256(content).hexdigest()
    if expected is not None and found != expected.lower():
        raise WeightsError(path, found=f"SHA-256 {found}", needed=f"SHA-256 {expected}", remedy=remedy)
    return found


def _parse(path: Path, content: bytes, sha256: str) -> WeightsFile:
    """Read the metadata and hold the file against what the program feeds it."""
    try:
        model = read_model(content)
        record = json.loads(model.get_rt_info(["framework", METADATA_KEY]).value)
        weights = WeightsFile(str(record["name"]), path, sha256, content, record)
        _check_ends(model, weights.preprocessing.size, weights.network)
        if weights.preprocessing.channels != weights.network.channels:
            raise ValueError(f"preprocessing of {weights.preprocessing.channels} channels")
        if not 0 < weights.threshold <= 1:
            raise ValueError(f"threshold {weights.threshold}")
        if weights.certainty is not None and not 0 <= weights.certainty.gate <= 1:
            raise ValueError(f"gate {weights.certainty.gate}")
        assert weights.trained_on
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            path,
            found=f"not a network of bleedmap's ({str(error).strip().splitlines()[-1] if str(error) else 'damaged'})",
            needed=f"ONNX with 'slices' and 'probability' and bleedmap's metadata ('{METADATA_KEY}')",
            remedy=_EXPORT,
        ) from error
    return weights


def _check_ends(model: Any, size: int, network: UNetSettings | LiteUNetSettings) -> None:
    pictures = {"slices": network.channels, "probability": 1}
    for ends, names in ((model.inputs, ("slices",)), (model.outputs, OUTPUTS[type(network)])):
        if len(ends) != len(names):
            raise ValueError(f"{len(ends)} ends in place of {', '.join(names)}")
        for end, name in zip(ends, names, strict=True):
            if name not in end.get_names():
                raise ValueError(f"no '{name}'")
            if name in pictures:
                _check_picture(end.get_partial_shape(), name, (pictures[name], size, size))


def _check_picture(shape: Any, name: str, needed: tuple[int, int, int]) -> None:
    lengths = [axis.get_length() if axis.is_static else None for axis in shape]
    if len(lengths) != 4 or any(found not in (None, right) for found, right in zip(lengths[1:], needed, strict=True)):
        raise ValueError(f"'{name}' of shape {shape}, not (n, {', '.join(map(str, needed))})")
