"""Compiled networks kept on disk: found again by what they were made for alone, and never a reason to fail."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bleedmap.arrays import FloatArray
from bleedmap.inference import openvino_backend
from bleedmap.inference.openvino_backend import KEPT, VARIABLE, OpenVinoBackend, cache_folder, load_compiled, seal
from bleedmap.inference.weights import WeightsFile, locate
from tiny_network import SIZE, write_tiny_network

SLICES = np.linspace(0, 1, SIZE * SIZE, dtype=np.float32).reshape(1, 1, SIZE, SIZE)
RUN = """import sys
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.weights import locate
import numpy as np
weights = locate(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
slices = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(1, 1, 64, 64)
print(float(OpenVinoBackend(weights, threads=1).predict(slices).probability.sum()))"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def answer(weights: WeightsFile) -> FloatArray:
    return OpenVinoBackend(weights, threads=1).predict(SLICES).probability


def blobs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.bleedmap"))


def blob_of_another_network(tmp_path: Path) -> bytes:
    """Twice the tiny network's answer: what is really run shows."""
    import onnx
    from onnx import helper

    path = tmp_path / "other.onnx"
    write_tiny_network(path)
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "whole"
    model.graph.node.append(helper.make_node("Add", ["whole", "whole"], ["probability"]))
    onnx.save(model, path)
    other = load_compiled(locate(path), {"INFERENCE_PRECISION_HINT": "f32"}, 1)
    exported = other.export_model().getvalue()
    assert isinstance(exported, bytes)
    return exported


def test_the_second_start_runs_what_the_first_one_kept(tiny: WeightsFile, folder: Path, tmp_path: Path) -> None:
    first = answer(tiny)
    (blob,) = blobs(folder)
    assert np.array_equal(answer(tiny), first)
    assert blobs(folder) == [blob]
    blob.write_bytes(seal(blob.stem, blob_of_another_network(tmp_path)))
    np.testing.assert_allclose(answer(tiny), 2 * first, atol=1e-6)  # it is the file that is run


def test_nothing_else_meets_it(tiny: WeightsFile, folder: Path, tmp_path: Path) -> None:
    answer(tiny)
    write_tiny_network(tmp_path / "changed.onnx", threshold=0.4)
    for other in (
        lambda: load_compiled(tiny, {"PERFORMANCE_HINT": "LATENCY"}, 1),
        lambda: OpenVinoBackend(tiny),
        lambda: load_compiled(tiny, {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}, 77),
        lambda: OpenVinoBackend(locate(tmp_path / "changed.onnx"), threads=1),
    ):
        before = len(blobs(folder))
        other()
        assert len(blobs(folder)) == before + 1


def test_another_machine_or_version_meets_none(
    tiny: WeightsFile, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(tiny)
    for place, name, value in (
        (openvino_backend, "_instructions", lambda: "flags: none"),
        (openvino_backend.ov, "get_version", lambda: "1999.0"),
        (openvino_backend.platform, "machine", lambda: "abacus"),
    ):
        before = len(blobs(folder))
        monkeypatch.setattr(place, name, value)
        answer(tiny)
        assert len(blobs(folder)) == before + 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "renamed", "no blob"])
def test_a_damaged_file_is_made_anew(tiny: WeightsFile, folder: Path, damage: str) -> None:
    first = answer(tiny)
    (blob,) = blobs(folder)
    whole = blob.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    damaged = {
        "cut": whole[:-100], "flipped": bytes(flipped), "empty": b"",
        "renamed": seal("another", whole[32:]), "no blob": seal(blob.stem, b"not OpenVINO's"),
    }[damage]  # fmt: skip
    blob.write_bytes(damaged)
    assert np.array_equal(answer(tiny), first)
    assert blob.read_bytes() != damaged
    assert np.array_equal(answer(tiny), first)


def test_the_folder_is_ones_own(tiny: WeightsFile, folder: Path) -> None:
    answer(tiny)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (blob,) = blobs(folder)
    blob.unlink()
    folder.chmod(0o777)  # others could put a file there
    answer(tiny)
    assert not blobs(folder)


def test_where_nothing_can_be_kept_it_goes_without(
    tiny: WeightsFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder", "utf-8")
    first = None
    for stated in ("off", "OFF", str(tmp_path / "file"), str(tmp_path / "file/below"), "/proc/nothing"):
        monkeypatch.setenv(VARIABLE, stated)
        now = answer(tiny)
        first = now if first is None else first
        assert np.array_equal(now, first)
    assert not capfd.readouterr().err


def test_the_folder_by_habit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/bleedmap"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache/bleedmap"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache/bleedmap"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cache_folder() == tmp_path / "Library/Caches/bleedmap"


def test_a_user_without_a_home(tiny: WeightsFile, tmp_path: Path) -> None:
    """No HOME, and a number that no account has."""
    if os.geteuid() != 0:
        pytest.skip("needs to become another user")
    names = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME", VARIABLE)}
    code = (
        "import os, pwd; from bleedmap.inference.openvino_backend import cache_folder; os.setuid(54321); "
        "print(cache_folder())"
    )
    ended = subprocess.run([sys.executable, "-c", code], env=names, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.strip()) == (0, "None"), ended.stderr


def test_two_processes_at_once(tiny: WeightsFile, folder: Path) -> None:
    two = [
        subprocess.Popen(
            [sys.executable, "-c", RUN, str(tiny.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for one in two:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    said = []
    for one in two:  # both go at this moment
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    for one in two:
        out, err = one.communicate(timeout=600)
        assert (one.returncode, err) == (0, "")
        said.append(float(out))
    assert said == [float(answer(tiny).sum())] * 2
    (blob,) = blobs(folder)
    assert blob.read_bytes() == seal(blob.stem, blob.read_bytes()[32:])
    assert not [one for one in folder.iterdir() if one != blob]


def test_old_ones_and_what_was_left_unfinished_go(tiny: WeightsFile, folder: Path) -> None:
    folder.mkdir(mode=0o700)
    for number in range(KEPT + 3):
        (folder / f"{number}.bleedmap").write_bytes(b"x")
        os.utime(folder / f"{number}.bleedmap", (number, number))
    (folder / ".part-1.x.bleedmap").write_bytes(b"x")
    os.utime(folder / ".part-1.x.bleedmap", (1, 1))
    (folder / "openvino.blob").write_bytes(b"x")  # a stranger's
    os.utime(folder / "openvino.blob", (1, 1))
    (folder / ".part-2.x.bleedmap").write_bytes(b"x")  # another process may be at it
    answer(tiny)
    kept = {one.name for one in folder.iterdir()}
    assert len(kept) == KEPT + 2
    assert "openvino.blob" in kept
    assert ".part-2.x.bleedmap" in kept
    assert "3.bleedmap" not in kept
    assert f"{KEPT + 2}.bleedmap" in kept


def test_a_file_that_others_may_have_written_is_not_read(tiny: WeightsFile, folder: Path) -> None:
    answer(tiny)
    (kept,) = blobs(folder)
    assert not kept.stat().st_mode & 0o077
    kept.chmod(0o660)
    before = kept.stat().st_mtime_ns
    answer(tiny)
    (again,) = blobs(folder)
    assert again.stat().st_mtime_ns > before  # made anew
    assert not again.stat().st_mode & 0o077


def test_a_folder_that_is_only_read_serves(tiny: WeightsFile, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = answer(tiny)
    (kept,) = blobs(folder)
    os.utime(kept, (1000, 1000))

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(openvino_backend.os, "utime", refused)  # root, who runs this in a container, may write anywhere
    assert np.array_equal(answer(tiny), expected)
    assert kept.stat().st_mtime == 1000  # neither touched nor written again
