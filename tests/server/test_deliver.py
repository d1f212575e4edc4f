"""Results go to targets one by one, against a real PACS behind a web server that a test disturbs: once, confirmed."""

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydicom import Dataset
from sqlalchemy import select

from bleedmap.archive.remote.dicomweb import Object
from bleedmap.server.config import Settings, Target
from bleedmap.server.place import Place
from bleedmap.server.store import queue, tables
from bleedmap.server.store.engine import Database
from bleedmap.server.store.tables import Step
from bleedmap.server.work import deliver as module
from bleedmap.server.work.deliver import do_deliver, record_report
from disturbed_web import Disturbed, disturbed_web
from orthanc_server import Orthanc, run_orthanc
from server_studies import add_study, phantom, scanned

pytestmark = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with run_orthanc(tmp_path_factory.mktemp("orthanc"), dicomweb=True) as running:
        yield running


@pytest.fixture
def web(orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disturbed]:
    """The server before Orthanc, which holds nothing at first."""
    monkeypatch.setenv("NETRC", os.devnull)
    for study in orthanc.json("/studies"):
        orthanc.ask(f"/studies/{study}", method="DELETE")
    with disturbed_web(f"http://127.0.0.1:{orthanc.http_port}") as running:
        yield running


@pytest.fixture
def study(settings: Settings, database: Database, place: Place, web: Disturbed) -> Settings:
    """Settings of two targets that are the same PACS, each with a job for a segmented study."""
    url = f"{web.url}/dicom-web"
    targets = (Target("one", "dicomweb", url=url, send=("seg", "sr")), Target("two", "dicomweb", url=url))
    number = add_study(place, database, scanned(), phantom().mask.array, state="segmented")
    with database.write() as connection:
        for target in targets:
            queue.enqueue(connection, number, 1, Step.DELIVER, target.name)
    return replace(settings, target=targets)


def deliver(database: Database, place: Place, settings: Settings) -> None:
    job = queue.claim(database, (Step.DELIVER,), "sender")
    assert job is not None
    do_deliver(database, place, settings, job)


def read_states(database: Database) -> tuple[str, dict[str, str]]:
    """The study's state, and each target's job's."""
    with database.read() as connection:
        state = connection.execute(select(tables.study.c.state)).scalar_one()
        jobs = connection.execute(select(tables.job.c.target, tables.job.c.state)).all()
    return state, {target: one for target, one in jobs}  # noqa: C416 - rows are no pairs for mypy


def count_sent(web: Disturbed, orthanc: Orthanc) -> tuple[int, int]:
    """Requests that sent something, and objects that the PACS holds."""
    posts = sum(one.method == "POST" for one in web.asked)
    return posts, sum(orthanc.count_by_modality().values())


def test_a_study_is_delivered_when_the_last_target_holds_it_and_nothing_goes_twice(
    study: Settings, database: Database, place: Place, web: Disturbed, orthanc: Orthanc
) -> None:
    deliver(database, place, study)
    assert read_states(database) == ("segmented", {"one": "done", "two": "ready"})
    posts, held = count_sent(web, orthanc)
    assert (posts > 0, held) == (True, 2)
    web.asked.clear()
    deliver(database, place, study)  # both objects are there already: only the pictures go
    assert read_states(database) == ("delivered", {"one": "done", "two": "done"})
    made = sum(1 for _ in place.root.glob("studies/*/v1/results/dicom/**/*.dcm"))
    assert count_sent(web, orthanc) == (posts, made)
    with database.read() as connection:
        deliveries = connection.execute(select(tables.delivery.c.state)).scalars().all()
    assert set(deliveries) == {"confirmed"}
    (number,) = {one["study"] for one in _jobs(database)}
    with database.write() as connection:
        queue.enqueue(connection, number, 1, Step.DELIVER, "two")
    web.asked.clear()
    deliver(database, place, study)
    assert count_sent(web, orthanc) == (0, made), "what a target holds is not sent once more"


def _jobs(database: Database) -> list:
    with database.read() as connection:
        return list(connection.execute(select(tables.job)).mappings())


def test_what_a_target_took_and_does_not_hold_is_not_delivered(
    study: Settings, database: Database, place: Place, web: Disturbed, orthanc: Orthanc
) -> None:
    web.disturb = lambda asked: b"{}" if asked.method == "POST" else None  # as if all were taken
    deliver(database, place, study)
    state, jobs = read_states(database)
    assert (state, jobs["one"]) == ("segmented", "waiting")
    (error,) = (one["error"] for one in _jobs(database) if one["target"] == "one")
    assert error == "one: has not confirmed 2 of 2 objects"
    assert count_sent(web, orthanc) == (1, 0)


def test_a_report_hours_after_it_was_asked_for_is_known(
    settings: Settings, database: Database, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of archives that commit at their leisure; the sender looks again meanwhile, and asks once."""
    settings = replace(settings, target=(Target("pacs", "dimse", "PACS", "127.0.0.1:1", send=("seg", "sr")),))
    number = add_study(place, database, scanned(), phantom().mask.array, state="segmented")
    with database.write() as connection:
        queue.enqueue(connection, number, 1, Step.DELIVER, "pacs")
    asked: list[tuple[list[Object], str]] = []

    def ask(settings: Settings, target: Target, objects: list[Object], transaction: str, *more: object) -> bool:
        asked.append((objects, transaction))
        return False

    monkeypatch.setattr(module, "find_held", lambda *given: set())
    monkeypatch.setattr(module, "send_objects", lambda settings, target, objects: {one.sop_uid: "" for one in objects})
    monkeypatch.setattr(module, "ask_commitment", ask)
    for _ in range(3):
        deliver(database, place, settings)
        (job,) = _jobs(database)
        assert (job["state"], job["error"]) == ("waiting", "pacs: has not reported on storage commitment yet")
        with database.write() as connection:
            connection.execute(tables.job.update().values(due=0.0))
    report, (objects, transaction) = Dataset(), asked[0]
    report.TransactionUID, report.ReferencedSOPSequence = transaction, []
    for one in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.sop_class, one.sop_uid
        report.ReferencedSOPSequence.append(item)
    assert record_report(database, report) == len(objects) == 2
    deliver(database, place, settings)
    assert read_states(database) == ("delivered", {"pacs": "done"})
    assert len(asked) == 1

    with database.write() as connection:
        queue.enqueue(connection, number, 1, Step.DELIVER, "pacs")
    deliver(database, place, settings)
    assert len(asked) == 2, "a person asked for it once more"
    with database.write() as connection:
        connection.execute(tables.job.update().values(due=0.0))
        connection.execute(tables.delivery.update().values(asked_at=0.0))
    deliver(database, place, settings)
    assert len(asked) == 3, "a report that is due for a day may be lost"


def test_what_goes_to_no_target_any_more_is_not_said_to_be_confirmed(
    study: Settings, database: Database, place: Place
) -> None:
    for _ in range(2):
        deliver(database, place, replace(study, target=()))
    assert read_states(database) == ("delivered", {"one": "failed", "two": "failed"})
    with database.read() as connection:
        reason = connection.execute(select(tables.event.c.reason).order_by(tables.event.c.id.desc())).scalars().first()
    assert reason == "no target of the settings waits for it"
