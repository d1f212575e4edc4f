"""SIGKILL before and after each act that others see: nothing lost, nothing doubled, no half result."""

import hashlib
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread
from sqlalchemy import select, update

from bleedmap.server.config import Dicom, Target, Worker
from bleedmap.server.dicom.receive import Receiver
from bleedmap.server.place import Place
from bleedmap.server.store import queue, tables
from bleedmap.server.store.engine import open_database
from bleedmap.server.store.tables import Step
from bleedmap.server.work import deliver, segment, versions
from free_port import free_port
from orthanc_server import run_orthanc
from phantom_studies import make_study
from tiny_network import write_spot_network

# (module, function, kill before it or after it): each act of a study's way, in order.
POINTS = [
    (versions.queue, "enqueue", "before"), (versions.queue, "enqueue", "after"),
    (versions, "sync", "before"), (segment, "collect", "before"), (segment, "collect", "after"),
    (segment, "save", "before"), (segment, "save", "after"), (segment.queue, "finish", "after"),
    (deliver, "find_held", "after"), (deliver, "send_objects", "before"), (deliver, "send_objects", "after"),
    (deliver, "find_held", "before"), (deliver.queue, "finish", "before"), (deliver.queue, "finish", "after"),
    (None, "", ""),
]  # fmt: skip
NO_KILL = len(POINTS) - 1


def kill_at(owner, name: str, when: str) -> None:
    act = getattr(owner, name)

    def killed(*arguments, **named):
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        act(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, killed)


def go_on(settings, number: int) -> None:
    """Do all that is due: complete, segment, deliver; as the processes of a server do it, killed at a point."""
    from bleedmap.study.segment import Segmenter

    database, place = open_database(settings), Place(settings.data)
    if POINTS[number][0] is not None:
        kill_at(*POINTS[number])
    versions.complete_studies(database, place, 0.0)
    segmenter = None
    while job := queue.claim(database, (Step.SEGMENT, Step.DELIVER), "test", 60.0):
        if job.step == Step.SEGMENT:
            segmenter = segmenter or Segmenter.load(settings.worker.weights, threads=1)
            segment.do_segment(database, place, settings, segmenter, job)
        else:
            deliver.do_deliver(database, place, settings, job)


def run_child(settings, number: int = NO_KILL) -> int:
    """From a process of its own that has loaded what the children need: this one may hold threads, and a fork none."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([deliver.__name__, segment.__name__, "bleedmap.study.segment"])
    child = context.Process(target=go_on, args=(settings, number))
    child.start()
    child.join(60)
    assert child.exitcode is not None
    return child.exitcode


def free_leases(database) -> None:
    """Let the leases of the dead run out at once, and what waits be due."""
    with database.write() as connection:
        connection.execute(update(tables.job).values(leased_until=0.0, due=0.0))


def receive(settings, database, study) -> None:
    receiver = Receiver(settings, Place(settings.data))
    for one in study:
        path = settings.data / "one.dcm"
        one.save_as(path, enforce_file_format=True)
        receiver.store([path.read_bytes()], "CT1")
        path.unlink()
    receiver.flush(database)


def with_target(settings, tmp_path, port: int, dicom_port: int):
    write_spot_network(tmp_path / "spot.onnx")
    return replace(
        settings, worker=Worker(weights=str(tmp_path / "spot.onnx")), dicom=Dicom(listen=f"127.0.0.1:{dicom_port}"),
        target=(Target("pacs", "dimse", "ORTHANC", f"127.0.0.1:{port}", commitment=False),),
    )  # fmt: skip


def digest(folder: Path) -> dict[str, str]:
    return {one.name: hashlib.sha256(one.read_bytes()).hexdigest() for one in folder.rglob("*.dcm")}


ON_BOTH = pytest.mark.parametrize(
    "settings", ["sqlite", pytest.param("postgresql", marks=pytest.mark.exhaustive)], indirect=True
)


@pytest.mark.exhaustive
@ON_BOTH
def test_a_kill_around_each_act_loses_and_doubles_nothing(settings, database, tmp_path):
    with run_orthanc(tmp_path / "orthanc") as orthanc:
        settings = with_target(settings, tmp_path, orthanc.dicom_port, free_port())
        receive(settings, database, make_study(1, side=64))
        seen: list[dict[str, str]] = []
        for number, point in enumerate(POINTS):
            free_leases(database)
            code = run_child(settings, number)
            assert code == (-signal.SIGKILL if point[0] else 0), (point, code)
            results = list(settings.data.glob("studies/*/v1/results/dicom"))
            seen += [digest(one) for one in results]
            with database.read() as connection:
                states = connection.execute(select(tables.study.c.state)).scalars().all()
            assert len(states) == 1
            assert (states[0] in ("segmented", "delivered")) <= bool(results), "a result is recorded when it is there"
        assert states == ["delivered"]
        assert all(one == seen[-1] for one in seen), "results that were there never change"
        made = [dcmread(one).SOPInstanceUID for one in settings.data.glob("studies/*/v1/results/dicom/**/*.dcm")]
        assert sum(orthanc.count_by_modality().values()) == len(made)
        assert all(len(orthanc.json("/tools/lookup", uid.encode())) == 1 for uid in made)
        with database.read() as connection:
            jobs = connection.execute(select(tables.job.c.step, tables.job.c.state)).all()
        assert sorted(map(tuple, jobs)) == [("deliver", "done"), ("segment", "done")]


def test_a_result_that_is_made_twice_is_the_same_objects(sqlite_settings, tmp_path):
    settings = with_target(sqlite_settings, tmp_path, free_port(), free_port())
    made = []
    for turn in range(2):
        home = replace(settings, server=replace(settings.server, data=str(tmp_path / f"twice{turn}")))
        Place(home.data)
        (home.data / "keys/place.key").write_text("0" * 64)
        opened = open_database(home)
        segment_one(home, opened)
        made.append({one.name: dcmread(one) for one in home.data.glob("studies/*/v1/results/dicom/**/*.dcm")})
        opened.close()
    assert made[0].keys() == made[1].keys()
    for name, one in made[0].items():
        assert one == made[1][name], name


def segment_one(settings, database) -> None:
    from bleedmap.server.store.engine import prepare

    prepare(database)
    receive(settings, database, make_study(1, side=64))
    versions.complete_studies(database, Place(settings.data), 0.0)
    with database.write() as connection:
        connection.execute(update(tables.study).values(made_at=1_700_000_000.0))
    run_child(replace(settings, target=()))


@ON_BOTH
def test_a_pacs_that_is_away_is_waited_for_and_told(settings, database, tmp_path):
    settings = with_target(settings, tmp_path, port := free_port(), free_port())
    receive(settings, database, make_study(1, side=64))
    assert run_child(settings) == 0
    with database.read() as connection:
        row = connection.execute(select(tables.study)).mappings().one()
        job = connection.execute(select(tables.job).where(tables.job.c.step == "deliver")).mappings().one()
    assert (row["state"], row["waiting"]) == ("segmented", "pacs: no connection")
    assert (job["state"], job["attempt"]) == ("waiting", 1)
    with run_orthanc(tmp_path / "orthanc", DicomPort=port) as orthanc:
        free_leases(database)
        assert run_child(settings) == 0
        assert sum(orthanc.count_by_modality().values()) == 9
    with database.read() as connection:
        row = connection.execute(select(tables.study)).mappings().one()
    assert (row["state"], row["waiting"]) == ("delivered", "")
