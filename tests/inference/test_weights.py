"""Weights files: installed or of one's own, checked before they are parsed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bleedmap.errors import WeightsError
from bleedmap.inference.weights import WeightsFile, installed, locate
from tiny_network import RECORD, SIZE, write_tiny_network


def manifest(folder: Path, **entry: Any) -> str:
    sha256 = write_tiny_network(folder / "tiny.onnx")
    size = (folder / "tiny.onnx").stat().st_size
    stated = {"file": "tiny.onnx", "sha256": sha256, "bytes": size, "description": "tests'", **entry}
    content = {"default": "tiny", "weights": {"tiny": stated}}
    (folder / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    return sha256


def test_a_file_of_ones_own(tiny: WeightsFile) -> None:
    assert (tiny.name, tiny.threshold, tiny.trained_on) == ("tiny", 0.5, RECORD["trained_on"])
    assert tiny.sha256 == hashlib.sha256(tiny.path.read_bytes()).hexdigest()
    assert tiny.network.filters == (4, 8)
    assert tiny.preprocessing.size == SIZE


def test_installed_weights_by_default_and_by_name(tmp_path: Path) -> None:
    sha256 = manifest(tmp_path, licence="Apache-2.0")
    listed = installed(tmp_path)
    assert [(one.name, one.state, one.is_default, one.licence) for one in listed] == [
        ("tiny", "ok", True, "Apache-2.0")
    ]
    assert locate(None, tmp_path).sha256 == locate("tiny", tmp_path).sha256 == sha256


def test_no_weights_installed_says_what_to_do(tmp_path: Path) -> None:
    assert installed(tmp_path) == []
    with pytest.raises(WeightsError, match="no weights are installed") as caught:
        locate(None, tmp_path)
    assert "--weights" in caught.value.remedy


def test_damaged_weights_are_refused_before_they_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = manifest(tmp_path)
    path = tmp_path / "tiny.onnx"
    damaged = bytearray(path.read_bytes())
    damaged[40] ^= 1
    path.write_bytes(damaged)
    parsed: list[bytes] = []
    monkeypatch.setattr("bleedmap.inference.weights.read_model", parsed.append)
    with pytest.raises(WeightsError) as caught:
        locate(None, tmp_path)
    message = caught.value.explain()
    assert all(part in message for part in (str(path), expected, hashlib.sha256(damaged).hexdigest(), "install"))
    assert parsed == []
    assert installed(tmp_path)[0].state == "damaged"
    path.unlink()
    assert installed(tmp_path)[0].state == "missing"
    with pytest.raises(WeightsError, match="no such file"):
        locate(None, tmp_path)


def test_a_manifest_cannot_point_outside_its_folder(tmp_path: Path) -> None:
    inner = tmp_path / "weights"
    inner.mkdir()
    manifest(inner, file="../tiny.onnx")
    assert installed(inner)[0].path == inner / "tiny.onnx"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"default": "a", "weights": {"a": {}}}', '{"weights": 3}'])
def test_a_broken_manifest_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(content, encoding="utf-8")
    with pytest.raises(WeightsError, match="cannot be read as the list of weights"):
        installed(tmp_path)


def test_a_hash_beside_ones_own_file_is_held(tiny: WeightsFile) -> None:
    beside = tiny.path.with_name("tiny.onnx.sha256")
    beside.write_text(f"{tiny.sha256}  tiny.onnx\n", encoding="utf-8")
    assert locate(tiny.path).sha256 == tiny.sha256
    beside.write_text("0" * 64, encoding="utf-8")
    with pytest.raises(WeightsError, match=tiny.sha256):
        locate(tiny.path)


@pytest.mark.parametrize("content", [b"", b"hello", bytes(400)])
def test_what_is_no_network_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other.onnx").write_bytes(content)
    with pytest.raises(WeightsError, match="not a network of bleedmap's"):
        locate(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    "changes",
    [
        {"input_name": "image"}, {"size": 32}, {"name": None}, {"threshold": None}, {"threshold": 0},
        {"threshold": "a"}, {"trained_on": None},
    ],
)  # fmt: skip
def test_another_network_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    write_tiny_network(tmp_path / "other.onnx", **changes)
    with pytest.raises(WeightsError, match="not a network of bleedmap's"):
        locate(tmp_path / "other.onnx")


@pytest.mark.parametrize(
    "preprocessing",
    [None, [], {"size": SIZE}, {"size": SIZE, "frame": "odd", "window": {"level_hu": 40, "width_hu": 120}},
     {"size": SIZE, "frame": "whole", "window": {"level_hu": 40, "width_hu": 0}},
     {"size": SIZE, "frame": "whole", "window": {"level_hu": 40, "width_hu": 120}, "of_a_later_version": 1}],
)  # fmt: skip
def test_unusable_preprocessing_is_refused(preprocessing: dict[str, Any], tmp_path: Path) -> None:
    write_tiny_network(tmp_path / "other.onnx", preprocessing=preprocessing)
    with pytest.raises(WeightsError, match="preprocessing cannot be used"):
        locate(tmp_path / "other.onnx")


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "nothing"])
def test_pickles_and_unknown_names_are_refused_unread(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(WeightsError, match=r"neither installed weights nor an \.onnx file"):
        locate(tmp_path / name, tmp_path)
