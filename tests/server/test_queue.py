"""The queue under SIGKILL: real processes, killed at random and at each point around what they do outwards."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from bleedmap.server.config import Settings
from bleedmap.server.store import queue, tables
from bleedmap.server.store.engine import Database, open_database
from bleedmap.server.store.tables import JobState, Step

POINTS = ("claimed", "before the act", "after the act", "before the commit", "after the commit")
_LEASE_S = 0.5


def add_studies(database: Database, count: int) -> None:
    with database.write() as connection:
        for number in range(count):
            row = {"id": f"s{number:04d}", "version": 1, "uid": f"1.2.{number}", "key": f"k{number}"}
            moments = {"state_since": 0.0, "first_seen": 0.0, "last_seen": 0.0}
            connection.execute(insert(tables.study).values(**row, **moments, state="complete"))
            queue.enqueue(connection, row["id"], 1, Step.SEGMENT)


def work(settings: Settings, out: str, kill_at: str, idle_s: float) -> None:
    """Do jobs until none is left: an outward act, then the job's end and the next step in one transaction."""
    database, last = open_database(settings), time.monotonic()

    def reach(point: str) -> None:
        if point == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    while time.monotonic() - last < idle_s:
        job = queue.claim(database, (Step.SEGMENT, Step.DELIVER), f"p{os.getpid()}", _LEASE_S)
        if job is None:
            time.sleep(0.02)
            continue
        last = time.monotonic()
        reach("claimed")
        reach("before the act")
        with (Path(out) / f"{job.study}.{job.step}").open("a") as file:
            file.write("x")
        reach("after the act")
        try:
            with database.write() as connection:
                queue.finish(connection, job)
                if job.step == Step.SEGMENT:
                    queue.enqueue(connection, job.study, job.version, Step.DELIVER, "pacs")
                reach("before the commit")
        except queue.LostLeaseError:
            continue
        reach("after the commit")


def start(settings: Settings, out: Path, kill_at: str = "", idle_s: float = 1.2):
    process = multiprocessing.get_context("fork").Process(target=work, args=(settings, str(out), kill_at, idle_s))
    process.start()
    return process


def count_done(database: Database) -> int:
    with database.read() as connection:
        done = select(func.count()).where(tables.job.c.state == JobState.DONE).select_from(tables.job)
        return connection.execute(done).scalar_one()


def test_a_kill_at_each_point_loses_and_doubles_nothing(settings, database, tmp_path):
    add_studies(database, 2)
    for point in POINTS:  # each process is killed at its first job; the lease it leaves runs out
        killed = start(settings, tmp_path, point)
        killed.join(30)
        assert killed.exitcode == -signal.SIGKILL, point
    last = start(settings, tmp_path)
    last.join(30)
    assert last.exitcode == 0
    assert count_done(database) == 4
    acts = {one.name: len(one.read_text()) for one in tmp_path.iterdir() if one.is_file()}
    assert set(acts) == {f"s{number:04d}.{step}" for number in range(2) for step in ("segment", "deliver")}
    assert sum(acts.values()) == 4 + 2, "an act is done again where the kill came between it and its commit"


@pytest.mark.exhaustive
def test_random_kills_of_three_workers_lose_nothing(settings, database, tmp_path):
    add_studies(database, 150)
    workers, kills = [start(settings, tmp_path, idle_s=3.0) for _ in range(3)], 0
    while kills < 20 and count_done(database) < 300:
        time.sleep(0.25)
        victim = workers.pop(0)
        os.kill(victim.pid, signal.SIGKILL)
        victim.join(10)
        kills += 1
        workers.append(start(settings, tmp_path, idle_s=3.0))
    for worker in workers:
        worker.join(60)
    assert count_done(database) == 300
    assert len([one for one in tmp_path.iterdir() if one.suffix in (".segment", ".deliver")]) == 300


def test_two_claims_never_get_one_job_and_a_lost_lease_ends_nothing(database):
    add_studies(database, 2)
    first = queue.claim(database, (Step.SEGMENT,), "a", 60)
    second = queue.claim(database, (Step.SEGMENT,), "b", 60)
    assert {first.study, second.study} == {"s0000", "s0001"}
    assert queue.claim(database, (Step.SEGMENT,), "c") is None
    assert queue.claim(database, (Step.DELIVER,), "c") is None
    with database.write() as connection:
        run_out = tables.job.update().where(tables.job.c.id == first.id).values(leased_until=0.0)
        connection.execute(run_out)
    taken_over = queue.claim(database, (Step.SEGMENT,), "c")
    assert (taken_over.id, taken_over.attempt) == (first.id, 2)
    assert not queue.renew(database, first)
    assert queue.renew(database, taken_over)
    with pytest.raises(queue.LostLeaseError), database.write() as connection:
        queue.finish(connection, first)
    with database.write() as connection:
        queue.finish(connection, taken_over)
    assert count_done(database) == 1


def test_a_job_that_waits_comes_again_later_each_time(database):
    add_studies(database, 1)
    waits = []
    for _ in range(10):
        with database.write() as connection:
            connection.execute(tables.job.update().values(due=0.0))
        job = queue.claim(database, (Step.SEGMENT,), "a")
        with database.write() as connection:
            waits.append(queue.put_off(connection, job, "the disk is full", 0.0))
    assert all(0.8 * 5 * 2**n <= wait <= 1.2 * 5 * 2**n for n, wait in enumerate(waits[:7]))
    assert all(0.8 * 900 <= wait <= 1.2 * 900 for wait in waits[8:])
    with database.read() as connection:
        row = connection.execute(select(tables.job)).mappings().one()
        assert (row["state"], row["error"], row["errors"], row["attempt"]) == ("waiting", "the disk is full", 10, 10)
        assert queue.count_jobs(connection) == {("segment", "waiting"): 1}


def test_a_clock_that_was_set_back_holds_no_job_up(database, monkeypatch):
    add_studies(database, 1)
    with database.write() as connection:
        ahead = database.now(connection) + 3600
        connection.execute(tables.job.update().values(due=ahead, lease="dead", leased_until=ahead + 60))
    assert queue.claim(database, (Step.SEGMENT,), "a") is not None


def test_how_long_the_oldest_open_job_has_waited_is_known(database):
    """Whether nobody takes it or it is put off again and again: an alarm hangs on it."""

    def find_oldest() -> float | None:
        with database.read() as connection:
            return queue.find_oldest_open(connection)

    add_studies(database, 2)
    with database.write() as connection:
        for number in range(2):
            one = tables.study.c.id == f"s{number:04d}"
            connection.execute(tables.study.update().where(one).values(state_since=100.0 * (number + 1)))
    assert find_oldest() == 100.0
    job = queue.claim(database, (Step.SEGMENT,), "a")
    with database.write() as connection:
        queue.put_off(connection, job, "the disk is full", database.now(connection))
    assert find_oldest() == 100.0
    with database.write() as connection:
        connection.execute(tables.job.update().where(tables.job.c.study == "s0000").values(state=JobState.DONE))
    assert find_oldest() == 200.0
    with database.write() as connection:
        connection.execute(tables.job.update().values(state=JobState.DONE))
    assert find_oldest() is None


def test_a_job_is_enqueued_once(database):
    add_studies(database, 1)
    with database.write() as connection:
        queue.enqueue(connection, "s0000", 1, Step.SEGMENT)
    job = queue.claim(database, (Step.SEGMENT,), "a")
    with database.write() as connection:
        queue.enqueue(connection, "s0000", 1, Step.SEGMENT)
    assert queue.claim(database, (Step.SEGMENT,), "b") is None
    with database.write() as connection:
        queue.give_up(connection, job, "three errors")
        queue.enqueue(connection, "s0000", 1, Step.SEGMENT)
    assert queue.claim(database, (Step.SEGMENT,), "b").attempt == 1


def test_jobs_of_dead_processes_of_this_machine_are_free_at_once(database):
    add_studies(database, 3)
    for holder in ("worker:here:1", "worker:here:2", "worker:there:1"):
        queue.claim(database, (Step.SEGMENT,), holder)
    assert queue.release_dead(database, "here", lambda pid: pid == 2) == 1
    assert queue.claim(database, (Step.SEGMENT,), "worker:here:3").study == "s0000"
    assert queue.claim(database, (Step.SEGMENT,), "worker:here:3") is None
