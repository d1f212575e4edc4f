"""Where the process meets the system: real processes with streams, signals and limits that a test sets."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch_runs import rows_of, until
from bleedmap.errors import ResourceError, find_shortage
from bleedmap.io import nifti
from bleedmap.phantom.dicom import CtOptions, ct_instances, write_series
from bleedmap.phantom.head import PhantomSettings, make_phantom
from refusing_share import on_a_share

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="sets limits and streams as Linux has them")

NAME = "Schädel 頭"
RESULTS = {"summary.json", "report.html"}
Ended = subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small head, as NIfTI with a foreign name and as DICOM in JPEG 2000."""
    folder = tmp_path_factory.mktemp("edge")
    volume = make_phantom(PhantomSettings(spacing_mm=(10.0, 3.6, 3.6), shape=(14, 64, 64))).volume
    nifti.write(folder / f"{NAME}.nii", volume)
    write_series(folder / "packed", ct_instances(volume, options=CtOptions(transfer_syntax="jpeg-2000")))
    return folder


def bleedmap(
    *words: object, redirect: str = "", environment: dict[str, str] | None = None,
    limit: Callable[[], None] | None = None,
) -> Ended:  # fmt: skip
    """Run in a shell, whose redirections and pipes are `redirect`; the exit code is bleedmap's own."""
    line = f'set -o pipefail; "$@" {redirect}'
    return subprocess.run(
        ["bash", "-c", line, "bash", sys.executable, "-m", "bleedmap", *map(str, words)],
        env={**os.environ, **(environment or {})}, capture_output=True, check=False, timeout=600, preexec_fn=limit,
    )  # fmt: skip


def segment(folder: Path, weights: str, out: Path, **how: Any) -> Ended:
    return bleedmap(
        "segment", folder / f"{NAME}.nii", "-o", out, "--weights", weights, "--accept", "slice-count", **how
    )


@pytest.mark.parametrize(
    "encoding",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "LC_ALL": "C"},
    ],
)  # fmt: skip
def test_a_name_that_the_terminal_cannot_show_is_spelled(
    encoding: dict[str, str], folder: Path, weights: str, tmp_path: Path
) -> None:
    ended = segment(folder, weights, tmp_path / NAME, environment=encoding)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"report.html" in ended.stdout


def test_json_for_programs_stays_json_in_ascii(folder: Path, weights: str, tmp_path: Path) -> None:
    bytes_name = os.fsdecode(os.fsencode(tmp_path) + b"/\xe4")
    command = ("segment", folder / f"{NAME}.nii", "-o", bytes_name, "--weights", weights, "--accept", "slice-count")
    for encoding in ("ascii", "utf-8"):
        ended = bleedmap(*command, "--json", "--overwrite", environment={"PYTHONIOENCODING": encoding})
        assert (ended.returncode, ended.stderr) == (0, b"")
        content = json.loads(ended.stdout)
        assert content["source"].endswith(f"{NAME}.nii")
        assert content["out"] == bytes_name


@pytest.mark.parametrize(
    ("redirect", "code", "message"),
    [
        (">/dev/full", 2, b"standard output: cannot be written: No space left on device"), ("| true", 141, b""),
        (">&-", 0, b""), ("2>&-", 0, b""), ("2>/dev/full", 0, b""), ("<&- >&- 2>&-", 0, b""),
    ],
)  # fmt: skip
def test_streams_that_take_nothing_lose_no_results_and_give_no_traceback(
    redirect: str, code: int, message: bytes, folder: Path, weights: str, tmp_path: Path
) -> None:
    ended = segment(folder, weights, tmp_path / "out", redirect=redirect)
    assert ended.returncode == code, ended.stderr
    assert message in ended.stderr
    assert b"Traceback" not in ended.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} >= RESULTS
    assert nifti.read_volume(next((tmp_path / "out").glob("*probseg*")))[0].hu.shape == (14, 64, 64)  # nothing in it


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full", "2>&1 | true", ">&- 2>&-"])
def test_an_error_that_cannot_be_told_has_its_exit_code(redirect: str, tmp_path: Path) -> None:
    ended = bleedmap("phantom", "-o", tmp_path / "out", redirect=redirect)
    assert ended.returncode == 2
    assert b"Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(("words", "code"), [("--help", 2), ("--version", 2), ("models", 2), ("--absent", 2)])
def test_every_verb_meets_a_full_stream(words: str, code: int) -> None:
    ended = bleedmap(words, redirect=">/dev/full")
    assert ended.returncode == code
    assert b"Traceback" not in ended.stderr


def limited(kind: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (value, value))


@pytest.mark.parametrize(
    ("mebibytes", "verb"), [(100, "segment"), (560, "segment"), (250, "batch"), (400, "evaluate"), (900, "train")]
)
def test_memory_that_is_not_to_be_had_is_told(mebibytes: int, verb: str, folder: Path, tmp_path: Path) -> None:
    words = {
        "segment": ["segment", folder / f"{NAME}.nii"], "batch": ["batch", folder],
        "evaluate": ["evaluate", "--studies", folder], "train": ["train", "--split", tmp_path / "split.json"],
    }  # fmt: skip
    ended = bleedmap(*words[verb], "-o", tmp_path / "out", limit=limited(resource.RLIMIT_AS, mebibytes << 20))
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(b"error: memory: the system does not give as much as is needed")
    assert b"ulimit -v" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_compressed_pixels_are_decoded_under_a_limit_of_memory_too(folder: Path, weights: str, tmp_path: Path) -> None:
    ended = bleedmap(
        "segment", folder / "packed", "-o", tmp_path / "out", "--weights", weights, "--accept", "slice-count",
        "--no-dicom", limit=limited(resource.RLIMIT_AS, 1700 << 20),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ("fork=EAGAIN", "error: threads and processes: "), ("thread=EAGAIN", "error: threads and processes: "),
        ("fork=ENOSYS", "error: decoder of compressed pixels: its process cannot be started"),
    ],
)  # fmt: skip
def test_processes_and_threads_that_the_system_refuses_are_told(
    refused: str, message: str, folder: Path, weights: str, tmp_path: Path
) -> None:
    flags = ("-o", tmp_path / "out", "--weights", weights, "--accept", "slice-count")
    ended = on_a_share(refused, "-m", "bleedmap", "segment", folder / "packed", *flags)
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False), ended.stderr
    assert ended.stderr.startswith(message)
    assert list(tmp_path.iterdir()) == [Path(weights)]


def test_a_study_whose_decoder_cannot_start_fails_alone_and_has_its_turn_with_retry(
    folder: Path, weights: str, tmp_path: Path
) -> None:
    command = ("-m", "bleedmap", "batch", folder, "-o", tmp_path / "out", "--weights", weights)
    ended = on_a_share("fork=EAGAIN", *command, "--accept", "slice-count", "--processes", 2)
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False), ended.stderr
    rows = rows_of(tmp_path / "out")
    assert rows["packed"]["status"] == "failed"
    assert "no more of them" in rows["packed"]["error"]
    assert "--retry" in rows["packed"]["error"]
    assert rows["Schädel_頭"]["status"] in ("found", "not found")
    ended = bleedmap(*command[2:], "--accept", "slice-count", "--retry")
    assert ended.returncode == 0, ended.stderr
    assert rows_of(tmp_path / "out")["packed"]["status"] in ("found", "not found")


def test_a_decoder_without_python_or_folder_for_temporary_files_is_told(
    folder: Path, weights: str, tmp_path: Path
) -> None:
    words = ["segment", str(folder / "packed"), "-o", str(tmp_path / "out"), "--weights", weights]
    code = f"import sys, bleedmap.__main__ as one; sys.executable = '/absent/python'; one.main({words!r})"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: decoder of compressed pixels: its process cannot be started (/absent/python")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_in_the_middle_leaves_nothing_and_says_how_to_go_on(
    number: signal.Signals, code: int, folder: Path, weights: str, tmp_path: Path
) -> None:
    words = ("segment", folder / f"{NAME}.nii", "-o", tmp_path / "out", "--accept", "slice-count")
    process = subprocess.Popen(
        [sys.executable, "-m", "bleedmap", *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "BLEEDMAP_CACHE": "off"},
    )  # fmt: skip
    maps = Path(f"/proc/{process.pid}/maps")
    until(lambda: "openvino_intel_cpu" in maps.read_text("utf-8"))  # the network is being compiled
    process.send_signal(number)
    _, said = process.communicate(timeout=600)
    assert (process.returncode, said.strip()) == (code, "stopped; give the same command again")
    assert list(tmp_path.iterdir()) == [Path(weights)]


def test_a_signal_that_is_ignored_as_under_nohup_stays_ignored(folder: Path, weights: str, tmp_path: Path) -> None:
    line = 'trap "" HUP; "$@" & child=$!; sleep 1; kill -HUP $child; wait $child'
    words = ("segment", folder / f"{NAME}.nii", "-o", tmp_path / "out", "--weights", weights, "--accept", "slice-count")
    ended = subprocess.run(
        ["bash", "-c", line, "bash", sys.executable, "-m", "bleedmap", *map(str, words)],
        capture_output=True, check=False, timeout=600,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("error", "subject"),
    [
        (MemoryError(), "memory"), (OSError(12, "Cannot allocate memory"), "memory"),
        (RuntimeError("std::bad_alloc"), "memory"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:119] . DefaultCPUAllocator: can't allocate memory"), "memory"),
        (ImportError("libx.so: failed to map segment from shared object"), "memory"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "threads and processes"),
        (RuntimeError("can't start new thread"), "threads and processes"),
        (OSError(24, "Too many open files"), "open files"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "memory of the GPU"),
    ],
)  # fmt: skip
def test_each_word_for_a_shortage_is_known_also_behind_another_error(error: Exception, subject: str) -> None:
    shortage = find_shortage(error)
    assert isinstance(shortage, ResourceError)
    assert shortage.subject == subject
    outer = ValueError("a file that cannot be read")
    outer.__cause__ = error
    assert find_shortage(outer) is not None


def test_other_errors_are_no_shortage() -> None:
    for error in (ValueError("out of memory"), RuntimeError("shape"), OSError(28, "No space left on device"), None):
        assert find_shortage(error) is None
