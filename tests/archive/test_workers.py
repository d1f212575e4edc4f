"""Several processes at one batch: the same results, a true count, and nothing left behind whatever ends them."""

import os
import re
import resource
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batch_runs import begun, files_of, lasting, rows_of, summary_of, until
from bleedmap.archive.find import find_studies
from bleedmap.archive.run import NO_WORKERS, BatchOptions, Step, Workers, count_open, run_batch
from bleedmap.archive.workers import count_processes, run_in_parallel
from bleedmap.arrays import FloatArray
from bleedmap.inference.backends import Backend, Prediction, available_threads
from bleedmap.io import nifti
from bleedmap.study.segment import Segmenter
from bleedmap.volume import Volume
from command_line import run

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


def sleep(say: Callable[[Any], None], seconds: float, woken: Path) -> None:
    say("here")
    time.sleep(seconds)
    woken.touch()


def fail(say: Callable[[Any], None]) -> None:
    say("going")
    raise SystemExit(3)


def talk(say: Callable[[Any], None], errors: Path) -> None:
    """For ever; what `say` raises is kept, as a batch keeps what a study's turn raises."""
    try:
        while True:
            say("here")
            time.sleep(0.01)
    except Exception as error:
        errors.write_text(repr(error), "utf-8")


def ignore(*said: object) -> None:
    pass


def test_they_are_heard_to_their_end_and_a_fault_is_only_an_end() -> None:
    told: list[tuple[int, Any]] = []
    tell = lambda *one: told.append(one)  # noqa: E731
    with run_in_parallel(2, fail, tell, tell):
        pass
    assert sorted(told, key=str) == [(0, "going"), (0, 3), (1, "going"), (1, 3)]


def test_an_error_here_ends_them(tmp_path: Path) -> None:
    threads, codes, woken = threading.active_count(), [], tmp_path / "woken"
    ended = lambda number, code: codes.append(code)  # noqa: E731
    with pytest.raises(KeyboardInterrupt), run_in_parallel(1, partial(sleep, seconds=300, woken=woken), ignore, ended):
        raise KeyboardInterrupt
    assert not woken.exists()
    assert codes == [0]  # that we ended it is not worth telling
    assert threading.active_count() == threads


def test_where_nobody_can_listen_a_process_ends_without_a_word_of_its_study(tmp_path: Path) -> None:
    def broken(number: int, said: Any) -> None:
        raise BrokenPipeError  # as standard error does behind `| head`

    errors = tmp_path / "errors.txt"
    with pytest.raises(BrokenPipeError), run_in_parallel(1, partial(talk, errors=errors), broken, ignore):
        pass
    assert not errors.exists()


def test_where_the_system_gives_no_process_there_is_none() -> None:
    told: list[object] = []
    tell = lambda *one: told.append(one)  # noqa: E731
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))  # not one file more
    try:
        with run_in_parallel(2, fail, tell, tell):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert told == []


class Patient:
    """A backend that begins when another process has said something."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self.record, self.heard = backend, backend.record, threading.Event()

    def predict(self, slices: FloatArray) -> Prediction:
        assert self.heard.wait(60)
        return self._backend.predict(slices)


def test_the_results_are_those_of_one_process_and_the_count_is_true(seven: Path, weights: str, tmp_path: Path) -> None:
    alone, out = tmp_path / "alone", tmp_path / "out"
    steps: list[Step] = []
    found, segmenter = find_studies(seven, alone), Segmenter.load(weights, threads=1)
    run_batch(found, alone, segmenter, workers=NO_WORKERS)
    patient = Patient(segmenter.backend)

    def report(step: Step) -> None:
        steps.append(step)
        if step.process is not None:
            patient.heard.set()

    workers = Workers(2, weights, threads=1)
    summary = run_batch(found, out, replace(segmenter, backend=patient), report=report, workers=workers)
    assert (summary["open"], len(summary["studies"])) == (0, STUDIES)
    assert lasting(rows_of(out)) == lasting(rows_of(alone))
    assert files_of(out) == files_of(alone)
    ended = [one.name for one in steps if one.row is not None]
    assert sorted(ended) == sorted(rows_of(out))  # each once, whoever did it
    assert {one.process for one in steps if one.row is not None} > {None}
    assert not any(one.exit_code for one in steps)
    assert steps[-1].done == STUDIES
    assert all(0 <= one.done <= STUDIES for one in steps)
    done = [one.done for one in steps if one.row is not None]
    assert all(count <= one for count, one in enumerate(done, start=1))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
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
    _, said = process.communicate(timeout=600)
    assert "Traceback" not in said
    if ending is not signal.SIGKILL:
        assert process.returncode == 128 + ending
        assert "give the same command again to continue" in said
    until(lambda: not is_running(worker))
    assert run("batch", seven, "-o", out, "--weights", weights, "--processes", 1) == 0
    assert (summary_of(out)["open"], len(rows_of(out))) == (0, STUDIES)
    assert not list(out.glob(".batch/work/*"))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes in /proc")
def test_a_killed_process_is_missed_by_nobody(seven: Path, weights: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = begun(seven, "-o", out, "--weights", weights, "--processes", 2)
    until(lambda: children(process.pid))
    os.kill(children(process.pid)[0], signal.SIGKILL)
    said, lines = process.communicate(timeout=600)
    assert process.returncode == 0, lines
    assert f"{STUDIES} studies: 3 found, 3 not found, 1 refused, 0 failed" in said
    done = [line for line in lines.splitlines() if re.match(r"\d+/7", line)]
    assert len(done) == STUDIES
    assert [line for line in lines.splitlines() if line not in done] == [
        "one of the processes ended early, exit code -9; the others take its studies"
    ]


def test_weights_that_only_one_process_can_load_leave_it_the_work(seven: Path, weights: str, tmp_path: Path) -> None:
    segmenter, out = Segmenter.load(weights, threads=1), tmp_path / "out"
    workers, steps = Workers(1, str(tmp_path / "missing.onnx")), list[Step]()
    summary = run_batch(find_studies(seven, out), out, segmenter, report=steps.append, workers=workers)
    assert summary["open"] == 0
    assert [(one.process, one.exit_code) for one in steps if one.process is not None] == [(0, 2)]


def test_a_refusal_has_one_more_turn_with_retry_not_one_in_every_process(weights: str, tmp_path: Path) -> None:
    folder, out, steps = tmp_path / "in", tmp_path / "out", list[Step]()
    folder.mkdir()
    for number in range(STUDIES):
        (folder / f"{number}.nii.gz").write_bytes(b"\x1f\x8b torn")
    found, segmenter = find_studies(folder, out), Segmenter.load(weights, threads=1)
    run_batch(found, out, segmenter)
    workers = Workers(2, weights, threads=1)
    run_batch(found, out, segmenter, BatchOptions(retry=True), steps.append, workers)
    assert sorted(one.name for one in steps if one.row is not None) == [str(number) for number in range(STUDIES)]


def test_few_studies_take_few_processes_and_those_that_are_done_none(seven: Path, weights: str, tmp_path: Path) -> None:
    assert [count_processes(open_, 4) for open_ in (0, 1, 3, 4, 7, 9, 10, 100)] == [1, 1, 1, 2, 3, 3, 4, 4]
    assert count_processes(100) == min(4, available_threads())
    out = tmp_path / "out"
    found = find_studies(seven, out)
    assert count_open(found, out, retry=False, overwrite=False) == STUDIES
    run_batch(found, out, Segmenter.load(weights, threads=1))
    assert count_open(found, out, retry=False, overwrite=False) == 0
    assert count_open(found, out, retry=True, overwrite=False) == 1
    assert count_open(found, out, retry=False, overwrite=True) == STUDIES
    os.utime(seven / "0/head.nii", (1, 1))
    assert count_open(find_studies(seven, out), out, retry=False, overwrite=False) == 1
