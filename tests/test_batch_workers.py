"""Several processes at one batch: the same results, a true count, and nothing left behind whatever ends them."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from test_batch import files_of, heads, lasting, rows_of, run, summary_of, until, weights

from bleedmap.io import nifti
from bleedmap.study.batch import ALONE, Company, Step, run_batch
from bleedmap.study.batch_find import find_studies
from bleedmap.study.batch_workers import beside
from bleedmap.study.segment import Segmenter
from bleedmap.volume import Volume

__all__ = ["heads", "weights"]  # fixtures
STUDIES = 7


@pytest.fixture
def seven(tmp_path: Path, heads: tuple[Volume, Volume]) -> Path:
    """Six NIfTI studies, with a bleed and without in turn, and a torn file."""
    folder = tmp_path / "seven"
    for number in range(STUDIES - 1):
        (folder / f"{number}").mkdir(parents=True)
        nifti.write(folder / f"{number}/head.nii", heads[number % 2])
    (folder / "bad.nii.gz").write_bytes(b"\x1f\x8b torn")
    return folder


def begun(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bleedmap.cli.main", "batch", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def children(pid: int) -> list[int]:
    """Those that work; not the one with which Python's multiprocessing counts semaphores."""
    found = []
    for one in Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split():
        try:
            words = Path(f"/proc/{one}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in words:
            found.append(int(one))
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def sleep(say: Callable[[Any], None], seconds: float) -> None:
    say("here")
    time.sleep(seconds)


def fail(say: Callable[[Any], None]) -> None:
    say("going")
    raise SystemExit(3)


def listened(work: Callable[[Callable[[Any], None]], None], inside: Callable[[], None]) -> list[tuple[int, Any]]:
    heard: list[tuple[int, Any]] = []
    with beside(2, work, lambda number, said: heard.append((number, said))):
        inside()
    return heard


def test_they_are_heard_to_their_end_and_a_fault_is_only_an_end() -> None:
    heard = listened(fail, lambda: None)
    assert sorted(heard, key=str) == [(0, "going"), (0, None), (1, "going"), (1, None)]


def test_an_error_here_ends_them() -> None:
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt), beside(1, partial(sleep, seconds=300), lambda number, said: None):
        raise KeyboardInterrupt
    assert time.monotonic() - begin < 30
    assert threading.active_count() < 20


def test_the_results_are_those_of_one_process_and_the_count_is_true(seven: Path, weights: str, tmp_path: Path) -> None:
    alone, out = tmp_path / "alone", tmp_path / "out"
    steps: list[Step] = []
    found, segmenter = find_studies(seven, alone), Segmenter.load(weights, threads=1)
    run_batch(found, alone, segmenter, company=ALONE)
    summary = run_batch(found, out, segmenter, report=steps.append, company=Company(2, weights, threads=1))
    assert (summary["open"], len(summary["studies"])) == (0, STUDIES)
    assert lasting(rows_of(out)) == lasting(rows_of(alone))
    assert files_of(out) == files_of(alone)
    ended = [one.name for one in steps if one.row is not None]
    assert sorted(ended) == sorted(rows_of(out))  # each once, whoever did it
    assert steps[-1].done == STUDIES
    assert all(0 <= one.done <= STUDIES for one in steps)
    done = [one.done for one in steps if one.row is not None]
    assert all(count <= one for count, one in enumerate(done, start=1))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_stopped_at_any_moment_nobody_stays_and_the_next_run_goes_on(
    seven: Path, weights: str, tmp_path: Path, ending: signal.Signals
) -> None:
    out = tmp_path / "out"
    process = begun(seven, "-o", out, "--weights", weights, "--processes", 2)
    until(lambda: list(out.glob(".batch/work/*/.part-*/*dseg*")) and children(process.pid))
    (worker,) = children(process.pid)
    if ending is signal.SIGINT:
        os.killpg(process.pid, ending)  # as a terminal does: to all
    else:
        process.send_signal(ending)
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    until(lambda: not is_running(worker), 10)
    assert run("batch", seven, "-o", out, "--weights", weights, "--processes", 1) == 0
    assert (summary_of(out)["open"], len(rows_of(out))) == (0, STUDIES)
    assert not list(out.glob(".batch/work/*"))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
def test_a_killed_process_is_missed_by_nobody(seven: Path, weights: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = begun(seven, "-o", out, "--weights", weights, "--processes", 2)
    until(lambda: children(process.pid))
    os.kill(children(process.pid)[0], signal.SIGKILL)
    said, lines = process.communicate(timeout=120)
    assert process.returncode == 0, lines
    assert f"{STUDIES} studies: 3 found, 3 not found, 1 refused, 0 failed" in said
    assert [re.match(r"\d+/7", line) is not None for line in lines.splitlines()] == [True] * STUDIES


def test_weights_that_only_one_process_can_load_leave_it_the_work(seven: Path, weights: str, tmp_path: Path) -> None:
    segmenter, out = Segmenter.load(weights, threads=1), tmp_path / "out"
    company = Company(1, str(tmp_path / "missing.onnx"))
    assert run_batch(find_studies(seven, out), out, segmenter, company=company)["open"] == 0
