"""What a worker records of a version: who gets it, when its images go, and when it has been tried too often."""

import errno
import json
from dataclasses import replace

import pytest
from sqlalchemy import select

from bleedmap.io.dicom.read import LEFT_OUT
from bleedmap.results.save import SUMMARY
from bleedmap.server.config import Limits, Target
from bleedmap.server.store import queue, tables
from bleedmap.server.store.tables import Step
from bleedmap.server.work import segment
from bleedmap.server.work.segment import _record, do_segment, list_targets
from server_studies import add_row, add_study, phantom, scanned

DAY_S = 86400.0
TARGETS = (Target("pacs"), Target("web", "dicomweb", url="http://127.0.0.1:1"), Target("alarm", when="bleed"))
sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


@pytest.mark.parametrize(
    ("verdict", "files", "names"),
    [
        ("bleed marked", {"dicom_report": "r"}, ["pacs", "web", "alarm"]),
        ("no bleed marked", {"dicom_report": "r"}, ["pacs", "web"]),
        ("no verdict", {"dicom_report": "r"}, ["pacs", "web"]),
        ("bleed marked", {}, []),  # its DICOM results could refer to no image
    ],
)
def test_who_gets_a_result(sqlite_settings, verdict: str, files: dict[str, str], names: list[str]) -> None:
    chosen = list_targets(replace(sqlite_settings, target=TARGETS), {"verdict": verdict, "files": files})
    assert [one.name for one in chosen] == names


@sqlite
@pytest.mark.parametrize(
    ("targets", "days", "state"), [(TARGETS, 2.0, "segmented"), ((), 2.0, "delivered"), ((), 0.0, "delivered")]
)
def test_a_result_goes_to_all_its_targets_or_is_where_it_belongs(
    settings, database, place, targets: tuple[Target, ...], days: float, state: str
) -> None:
    settings = replace(settings, target=targets, limits=Limits(keep_days=days))
    number = add_study(place, database, scanned(), phantom().mask.array, state="complete")
    with database.write() as connection:
        connection.execute(tables.study.update().values(instances=2))
        queue.enqueue(connection, number, 1, Step.SEGMENT)
    job = queue.claim(database, (Step.SEGMENT,), "a")
    assert job is not None
    with database.read() as connection:
        now = database.now(connection)
    _record(database, place, settings, job, json.loads((place.results(number, 1) / SUMMARY).read_text("utf-8")))
    with database.read() as connection:
        row = connection.execute(select(tables.study)).mappings().one()
        jobs = connection.execute(select(tables.job.c.step, tables.job.c.target, tables.job.c.state)).all()
    assert (row["state"], row["verdict"], row["lesions"]) == (state, "bleed marked", 1)
    assert row["instances"] == 14, "all slices, of which two came for this version"
    assert set(map(tuple, jobs)) == {
        ("segment", "", "done"), *(("deliver", one.name, "ready") for one in targets),
    }  # fmt: skip
    kept_s = None if row["delete_after"] is None else row["delete_after"] - now
    assert kept_s == (pytest.approx(2 * DAY_S, abs=60) if days and not targets else None)


@sqlite
@pytest.mark.parametrize(("targets", "told"), [(TARGETS, True), ((), False)])
def test_a_result_without_dicom_says_why_no_target_gets_it(settings, database, place, targets, told: bool) -> None:
    number = add_study(place, database, scanned(), phantom().mask.array, state="complete")
    with database.write() as connection:
        queue.enqueue(connection, number, 1, Step.SEGMENT)
    job = queue.claim(database, (Step.SEGMENT,), "a")
    assert job is not None
    summary = json.loads((place.results(number, 1) / SUMMARY).read_text("utf-8"))
    why = f"{LEFT_OUT}, as they could not refer to the images: SOP Instance UID has 88 characters."
    summary |= {"files": {}, "notes": ["Another note.", why]}
    _record(database, place, replace(settings, target=targets), job, summary)
    with database.read() as connection:
        row = connection.execute(select(tables.study)).mappings().one()
    assert (row["state"], row["error"]) == ("delivered", why if told else "")


@sqlite
def test_a_study_that_ended_its_worker_too_often_fails_and_is_left(settings, database, place) -> None:
    settings = replace(settings, limits=Limits(attempts=3))
    number = add_row(database, state="complete")
    with database.write() as connection:
        queue.enqueue(connection, number, 1, Step.SEGMENT)
    for _ in range(4):
        with database.write() as connection:
            connection.execute(tables.job.update().values(lease="", leased_until=0.0))
        job = queue.claim(database, (Step.SEGMENT,), "killed")
        assert job is not None
    do_segment(database, place, settings, None, job)  # type: ignore[arg-type] - the network is not asked
    with database.read() as connection:
        row = connection.execute(select(tables.study)).mappings().one()
    assert (row["state"], row["error"]) == ("failed", "its worker ended 3 times")
    assert queue.claim(database, (Step.SEGMENT,), "b") is None


@sqlite
def test_a_disk_that_is_full_for_long_fails_no_study(settings, database, place, monkeypatch) -> None:
    def fail(*given: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(segment, "segment_version", fail)
    settings = replace(settings, limits=Limits(attempts=3))
    number = add_row(database, state="complete")
    with database.write() as connection:
        queue.enqueue(connection, number, 1, Step.SEGMENT)
    for _ in range(6):
        with database.write() as connection:
            connection.execute(tables.job.update().values(due=0.0))
        job = queue.claim(database, (Step.SEGMENT,), "a")
        assert job is not None
        do_segment(database, place, settings, None, job)  # type: ignore[arg-type] - the network is not asked
    with database.read() as connection:
        row = connection.execute(select(tables.study)).mappings().one()
    assert (row["state"], row["waiting"]) == ("complete", "disk: No space left on device")
