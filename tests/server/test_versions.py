"""Versions: how their slices come together, and how they are deleted by age: images first, then results."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import select, update

from bleedmap.server.config import Limits
from bleedmap.server.dicom.receive import Receiver
from bleedmap.server.place import Place
from bleedmap.server.store import queue, studies, tables
from bleedmap.server.store.engine import Database
from bleedmap.server.store.studies import Arrival
from bleedmap.server.store.tables import Step, StudyState
from bleedmap.server.work.fetch import request_fetch
from bleedmap.server.work.versions import collect, complete_studies, delete_expired, finish_study
from phantom_studies import make_study
from server_studies import as_bytes

sqlite = pytest.mark.parametrize("settings", ["sqlite"], indirect=True)


def test_images_go_first_then_results_and_the_row_stays(settings, database, place):
    settings = replace(settings, limits=Limits(keep_days=1, keep_results_days=3))
    with database.write() as connection:
        now = database.now(connection)
        for key in ("old", "young", "waiting"):
            studies.note_arrivals(connection, now, [Arrival(key, f"1.2.{key}", "CT1", 1, False)], 5.0)
            number = studies.find_newest(connection, tables.study.c.key == key)["id"]
            studies.move(connection, now, number, 1, StudyState.COMPLETE)
            studies.move(connection, now, number, 1, StudyState.SEGMENTED)
            for folder in (place.dicom(number, 1), place.view(number, 1), place.results(number, 1)):
                folder.mkdir(parents=True)
                (folder / "file").write_bytes(b"x")
            if key != "waiting":
                after = now + (-1 if key == "old" else 3600)
                studies.move(connection, now, number, 1, StudyState.DELIVERED, delete_after=after)

    def left() -> dict[str, tuple[str, list[str]]]:
        with database.read() as connection:
            rows = connection.execute(select(tables.study)).mappings().all()
        found = {}
        for row in rows:
            home = place.version(row["id"], 1)
            found[row["key"]] = (row["state"], sorted(one.name for one in home.iterdir()) if home.exists() else [])
        return found

    everything = ["dicom", "results", "view"]
    others = {"young": ("delivered", everything), "waiting": ("segmented", everything)}
    assert delete_expired(database, place, settings) == 1
    assert left() == {"old": ("delivered", ["results"]), **others}
    assert delete_expired(database, place, settings) == 0, "its results are kept two days more"
    with database.write() as connection:
        old = tables.study.c.key == "old"
        connection.execute(update(tables.study).where(old).values(delete_after=tables.study.c.delete_after - 2 * 86400))
    assert delete_expired(database, place, settings) == 1
    assert left() == {"old": ("gone", []), **others}
    with database.read() as connection:
        told = [(one["action"], one["detail"]) for one in connection.execute(select(tables.audit)).mappings()][-2:]
    assert [action for action, _ in told] == ["deleted by age"] * 2
    assert ['"images"' in detail for _, detail in told] == [True, False]


def test_what_a_later_version_supersedes_is_deleted_with_it_once_nothing_of_it_is_to_be_sent(settings, database, place):
    settings = replace(settings, limits=Limits(keep_days=1, keep_results_days=3))
    with database.write() as connection:
        now = database.now(connection) - 2 * 86400
        for version in (1, 2, 3):
            studies.note_arrivals(connection, now, [Arrival("a", "1.2.a", "CT1", 1, False)], 5.0)
            number = studies.find_newest(connection, tables.study.c.key == "a")["id"]
            studies.move(connection, now, number, version, StudyState.COMPLETE)
            studies.move(connection, now, number, version, StudyState.SEGMENTED)
            place.dicom(number, version).mkdir(parents=True)
            queue.enqueue(connection, number, version, Step.DELIVER, "pacs", due=float(version))
    first, _, third = (queue.claim(database, (Step.DELIVER,), "a") for _ in range(3))
    assert first is not None
    assert third is not None
    with database.write() as connection:
        for job in (first, third):
            queue.finish(connection, job)
        finish_study(connection, now, settings, third, StudyState.DELIVERED, "all")

    def held() -> list[bool]:
        return [place.dicom(number, version).exists() for version in (1, 2, 3)]

    assert delete_expired(database, place, settings) == 2
    assert held() == [False, True, False], "something of the second one is on its way"
    with database.write() as connection:
        connection.execute(update(tables.job).values(state="done"))
    assert delete_expired(database, place, settings) == 1
    assert held() == [False] * 3


def receive(settings, database: Database, sent: list[Dataset]) -> None:
    receiver = Receiver(settings, Place(settings.data))
    for one in sent:
        receiver.store([as_bytes(one)], "CT1")
    receiver.flush(database)


def collect_newest(settings, database: Database) -> dict[str, np.ndarray]:
    """Complete and collect the newest version, as its worker would; SOP Instance UID -> pixels."""
    place = Place(settings.data)
    complete_studies(database, place, 0.0)
    with database.read() as connection:
        row = max(connection.execute(select(tables.study)).mappings(), key=lambda one: one["version"])
    folder = collect(place, row)
    with database.write() as connection:
        studies.move(connection, 0.0, row["id"], row["version"], StudyState.SEGMENTED, verdict="no verdict")
    read = [dcmread(path) for path in folder.iterdir()]
    return {one.SOPInstanceUID: one.pixel_array for one in read}


@sqlite
def test_a_slice_that_was_made_anew_takes_the_place_of_the_earlier_one(settings, database) -> None:
    """Of the same size, so that its bytes tell; the others stay, and one that came late is added."""
    sent = make_study(1, side=64)
    receive(settings, database, sent[:-1])
    first = collect_newest(settings, database)
    assert first.keys() == {one.SOPInstanceUID for one in sent[:-1]}
    words = sent[3].pixel_array.copy()
    words[30:34, 30:34] += 7
    sent[3].PixelData = words.tobytes()
    receive(settings, database, [sent[2], sent[3], sent[-1]])
    second = collect_newest(settings, database)
    assert second.keys() == {one.SOPInstanceUID for one in sent}
    for one in sent:
        np.testing.assert_array_equal(second[one.SOPInstanceUID], one.pixel_array)
    assert not np.array_equal(first[sent[3].SOPInstanceUID], second[sent[3].SOPInstanceUID])
    with database.read() as connection:
        passed = connection.execute(select(tables.passed_over)).mappings().all()
    assert [(one["reason"], one["count"]) for one in passed] == [("already held", 1)]


@sqlite
def test_what_comes_again_as_it_is_makes_no_version(settings, database) -> None:
    sent = make_study(1, side=64)
    receive(settings, database, sent)
    collect_newest(settings, database)
    receive(settings, database, sent[:5])
    assert complete_studies(database, Place(settings.data), 0.0) == 0
    with database.read() as connection:
        assert [one["version"] for one in connection.execute(select(tables.study)).mappings()] == [1]


@sqlite
def test_slices_of_which_the_database_was_never_told_are_told_when_they_come_again(settings, database) -> None:
    """As of an upload while the database was away: its sender tries once more, and all of it is held already."""
    sent, untold = make_study(1, side=64), Receiver(settings, Place(settings.data))
    for one in sent:
        untold.store([as_bytes(one)], "STOW")
    receive(settings, database, sent)
    with database.read() as connection:
        (row,) = connection.execute(select(tables.study)).mappings()
    assert (row["state"], row["instances"]) == ("receiving", len(sent))


def test_a_study_that_was_asked_for_has_its_patient(settings, database) -> None:
    """And one odd byte in a text holds no other study up: PostgreSQL takes no NUL."""
    sent = make_study(1, side=64)[:5]
    for one in sent:
        one.PatientName, one.PatientID, one.StudyDescription = "DOE^JANE", "47\x0011", "CT HEAD"
    request_fetch(database, Place(settings.data), "PACS", sent[0].StudyInstanceUID)
    receive(settings, database, sent)
    with database.read() as connection:
        (row,), (who,) = (connection.execute(select(one)).mappings().all() for one in (tables.study, tables.identity))
        actions = connection.execute(select(tables.audit.c.action)).scalars().all()
    assert (row["state"], row["instances"], row["description"]) == ("receiving", 5, "CT HEAD")
    assert (who["name"], who["patient_id"]) == ("DOE^JANE", "4711")
    assert actions == ["study asked for", "study received"]
