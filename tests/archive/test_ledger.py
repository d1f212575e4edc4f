"""The ledger of jobs: real processes that share it, that are killed in the middle of a job, and that resume."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bleedmap.archive import locks
from bleedmap.archive.ledger import Job, Ledger
from bleedmap.archive.locks import locked
from bleedmap.archive.workers import run_jobs
from bleedmap.errors import OutputError, SettingsError
from bleedmap.io.names import short_hash
from refusing_share import EVERYTHING, share

SETTINGS = {"threshold": 0.5, "window": [40, 80]}
JOBS = [Job(key, f"digest of {key}", SETTINGS) for key in ("a", "b/c", "ä#1", "d", "e")]
# Does the jobs of a folder; each takes a moment, and is written down in a file of its own for each time it was done.
WORKER = """
import os, sys, time
from pathlib import Path
from bleedmap.archive.ledger import Job, Ledger
from bleedmap.archive.workers import run_jobs
from test_ledger import JOBS, is_finished
folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
ledger = Ledger(folder, ".jobs")
def do(job):
    (ledger.begin(job) / "half").write_text("half")
    time.sleep(seconds)
    with (folder / "turns.txt").open("a") as turns:
        turns.write(f"{job.key}\\n")
    ledger.finish(job, {"made": job.key})
rest = run_jobs(ledger, JOBS, do, is_finished(ledger), wait=False)
run_jobs(ledger, rest, do, is_finished(ledger), wait=True)
"""


def is_finished(ledger: Ledger) -> Callable[[Job], bool]:
    def check(job: Job) -> bool:
        found = ledger.read(job)
        return found is not None and found.job == job

    return check


def start(folder: Path, seconds: float) -> "subprocess.Popen[str]":
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", WORKER, str(folder), str(seconds)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": here}, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "out", ".jobs")
    ledger.open(SETTINGS, remedy="give another folder", hints={})
    return ledger


def turns(ledger: Ledger) -> list[str]:
    return (ledger.folder / "turns.txt").read_text("utf-8").splitlines()


def test_two_processes_do_each_job_exactly_once(ledger: Ledger) -> None:
    two = [start(ledger.folder, 0.05) for _ in range(2)]
    assert [one.communicate(timeout=60)[1] for one in two] == ["", ""]
    assert sorted(turns(ledger)) == sorted(one.key for one in JOBS)
    assert sorted(one.job.key for one in ledger.read_all()) == sorted(one.key for one in JOBS)
    assert all(is_finished(ledger)(one) for one in JOBS)
    assert not list((ledger.state / "work").iterdir())


def test_a_process_killed_in_the_middle_of_a_job_leaves_it_open_and_unlocked(ledger: Ledger) -> None:
    process = start(ledger.folder, 60)
    until(lambda: list(ledger.state.glob("work/*/half")))
    with ledger.claim(JOBS[0], wait=False) as ours:
        assert not ours
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with ledger.claim(JOBS[0], wait=True) as ours:
        assert ours
        assert ledger.read(JOBS[0]) is None
        assert not list(ledger.begin(JOBS[0]).iterdir())  # what it left is gone
    assert start(ledger.folder, 0).wait(60) == 0
    assert turns(ledger) == [one.key for one in JOBS]


def test_who_waits_for_a_killed_process_does_its_job(ledger: Ledger) -> None:
    first = start(ledger.folder, 60)
    until(lambda: list(ledger.state.glob("work/*/half")))
    second = start(ledger.folder, 0)
    until(lambda: len(list(ledger.read_all())) == len(JOBS) - 1)
    assert second.poll() is None  # it waits
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.wait(60) == 0
    assert turns(ledger) == [one.key for one in (*JOBS[1:], JOBS[0])]


def test_a_job_is_finished_for_its_own_input_and_settings_alone(ledger: Ledger) -> None:
    job = JOBS[0]
    ledger.begin(job)
    ledger.finish(job, {"made": [1, None]})
    found = ledger.read(job)
    assert found is not None
    assert (found.job, found.content) == (job, {"made": [1, None]})
    for other in (Job("a", "changed", SETTINGS), Job("a", job.digest, SETTINGS | {"threshold": 0.9})):
        assert not is_finished(ledger)(other)
    ledger.begin(job)
    ledger.finish(job, {"made": [1, None]})
    again = ledger.read(job)
    assert again is not None
    assert again.turn != found.turn


def test_the_old_record_is_gone_while_its_job_is_done_again(ledger: Ledger) -> None:
    ledger.begin(JOBS[0])
    ledger.finish(JOBS[0], {"made": "before"})
    changed = Job("a", "changed since", SETTINGS)

    def fail(job: Job) -> None:
        ledger.begin(job)
        assert list(ledger.read_all()) == []
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs(ledger, [changed], fail, is_finished(ledger), wait=False)
    assert ledger.read(changed) is None
    with ledger.claim(changed, wait=False) as ours:
        assert ours  # an error lets go of the claim


@pytest.mark.parametrize("spoilt", ["", "{", "[]", "null", "{}", '{"key": "a"}'])
def test_a_record_that_someone_spoilt_is_none(ledger: Ledger, spoilt: str) -> None:
    ledger.begin(JOBS[0])
    ledger.finish(JOBS[0], {})
    (ledger.state / "done" / f"{short_hash('a')}.json").write_text(spoilt, "utf-8")
    assert ledger.read(JOBS[0]) is None
    assert list(ledger.read_all()) == []


def test_a_record_without_key_and_settings_is_of_its_folder(ledger: Ledger) -> None:
    """As external validations wrote them."""
    path = ledger.state / "done" / f"{short_hash('a')}.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"digest": JOBS[0].digest, "study": {"name": "a"}}), "utf-8")
    found = ledger.read(JOBS[0])
    assert found is not None
    assert (found.job, found.content) == (JOBS[0], {"study": {"name": "a"}})


def test_other_settings_are_refused_by_name_with_a_remedy(ledger: Ledger) -> None:
    now = {"threshold": 0.9, "window": [40, 80], "precision": "bf16"}
    with pytest.raises(SettingsError) as refused:
        ledger.open(now, remedy="give another folder", hints={"precision": "give fp32", "window": "no"})
    assert "threshold 0.5, now 0.9; precision None, now 'bf16'" in refused.value.found
    assert refused.value.remedy == "give another folder; give fp32"
    assert ledger.settings() == SETTINGS
    ledger.open(now, remedy="", hints={}, overwrite=True)
    assert ledger.settings() == now
    with pytest.raises(SettingsError, match="precision 'bf16', now None"):
        ledger.open({"threshold": 0.9, "window": [40, 80]}, remedy="", hints={})


def test_folders_of_others_are_refused_and_our_own_may_hold_anything(ledger: Ledger, tmp_path: Path) -> None:
    (ledger.folder / "notes.txt").write_text("mine", "utf-8")
    ledger.refuse_foreign_files()
    (tmp_path / "theirs").mkdir()
    for number in range(5):
        (tmp_path / f"theirs/{number}.docx").write_text("theirs", "utf-8")
    with pytest.raises(OutputError, match=r"not earlier results of this command: 0.docx, 1.docx, 2.docx and 2 more"):
        Ledger(tmp_path / "theirs", ".jobs").open(SETTINGS, remedy="", hints={})
    with pytest.raises(OutputError, match="is a file"):
        Ledger(tmp_path / "theirs/0.docx", ".jobs").open(SETTINGS, remedy="", hints={})
    assert len(list((tmp_path / "theirs").iterdir())) == 5
    (tmp_path / "empty").mkdir()
    Ledger(tmp_path / "empty", ".jobs").open(SETTINGS, remedy="", hints={})


def test_a_ledger_can_be_sent_to_another_process(ledger: Ledger) -> None:
    ledger.begin(JOBS[2])
    ledger.finish(JOBS[2], {"made": "ä"})
    other: Ledger = pickle.loads(pickle.dumps(ledger))
    assert other.read(JOBS[2]) == ledger.read(JOBS[2])


def test_a_lock_where_nothing_can_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(OutputError, match="cannot be written"), locked(tmp_path / "file/locks/a.lock"):
        pass


HOLDER = """
import sys, time
from pathlib import Path
from bleedmap.archive import locks
locks._BEAT_S = 0.05
with locks.locked(Path(sys.argv[1])) as ours:
    print(ours, flush=True)
    time.sleep(float(sys.argv[2]) * ours)
"""
REFUSED = ["flock=ENOSYS", "flock=ENOLCK", "flock=ENOTSUP", "flock=EINVAL"]


def hold(path: Path, seconds: float, refused: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLDER, str(path), str(seconds)]
    return subprocess.Popen(command, env=share(refused), stdout=subprocess.PIPE, text=True)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("refused", REFUSED)
def test_a_share_without_locks_has_one_holder_and_a_killed_one_lets_go(tmp_path: Path, refused: str) -> None:
    path = tmp_path / "locks/a.lock"
    first = hold(path, 60, refused)
    assert said(first) == "True"
    second = hold(path, 60, refused)
    assert said(second) == "False"
    first.kill()
    first.communicate()
    third = hold(path, 0, refused)
    assert said(third) == "True"
    assert third.wait(60) == 0
    assert not list(path.parent.glob("*.held"))


def test_signs_of_life_from_another_machine_are_respected_and_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "_lock_by_disk", lambda path, wait: None)
    monkeypatch.setattr(locks, "_HOST", "another machine")
    monkeypatch.setattr(locks, "_DEAD_S", 1.0)
    path = tmp_path / "a.lock"
    holder = hold(path, 60, "flock=ENOSYS")
    assert said(holder) == "True"
    begun = time.monotonic()
    with locked(path) as ours:
        assert not ours
    took: list[float] = []

    def take() -> None:
        with locked(path, wait=True) as ours:
            assert ours
            took.append(time.monotonic())

    waiting = threading.Thread(target=take)
    waiting.start()
    waiting.join(3)
    assert waiting.is_alive()  # it lives, for longer than one that gives no signs would
    holder.kill()
    holder.communicate()
    waiting.join(30)
    assert took
    assert took[0] - begun > 3
    assert not path.with_suffix(".held").exists()


def test_a_lock_that_a_power_cut_left_empty_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_lock_by_disk", lambda path, wait: None)
    monkeypatch.setattr(locks, "_DEAD_S", 0.5)
    (tmp_path / "a.held").touch()
    with locked(tmp_path / "a.lock") as ours:
        assert not ours
    with locked(tmp_path / "a.lock", wait=True) as ours:
        assert ours


def test_of_many_who_find_a_dead_lock_one_takes_it_at_a_time(tmp_path: Path) -> None:
    first = hold(tmp_path / "a.lock", 60, "flock=ENOSYS")
    assert said(first) == "True"
    first.kill()
    first.communicate()
    code = HOLDER.replace("locked(Path(sys.argv[1]))", "locked(Path(sys.argv[1]), wait=True)").replace(
        "print(ours, flush=True)", "place = Path(sys.argv[1] + '.inside'); place.touch(exist_ok=False)"
    )
    code += "    place.unlink()\n"
    command = [sys.executable, "-c", code, str(tmp_path / "a.lock"), "0.1"]
    several = [
        subprocess.Popen(command, env=share("flock=ENOSYS"), stderr=subprocess.PIPE, text=True) for _ in range(6)
    ]
    assert [one.communicate(timeout=60)[1] for one in several] == [""] * 6


def test_two_processes_share_the_jobs_of_a_folder_on_a_share(ledger: Ledger) -> None:
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**share(EVERYTHING), "PYTHONPATH": here}
    command = [sys.executable, "-c", WORKER, str(ledger.folder), "0.05"]
    two = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [one.communicate(timeout=120)[1] for one in two] == ["", ""]
    assert sorted(turns(ledger)) == sorted(one.key for one in JOBS)
    assert sorted(one.job.key for one in ledger.read_all()) == sorted(one.key for one in JOBS)
    assert not list(ledger.state.rglob("*.held"))
