"""Tables, states, worklist and audit, on SQLite and on PostgreSQL."""

import hashlib

import pytest
from sqlalchemy import select, text, update

from bleedmap.errors import DataError
from bleedmap.server.store import audit, queue, studies, tables
from bleedmap.server.store.engine import open_database, prepare
from bleedmap.server.store.studies import Arrival, MoveError
from bleedmap.server.store.tables import FINISHED, MOVES, Step, StudyState

WHO = {"name": "DOE^JANE", "patient_id": "4711", "birth_date": "19600101", "sex": "F", "accession": "A1"}


def arrive(database, key: str, *, now: float = 1000.0, instances: int = 3, held: bool = False, expected=None) -> str:
    with database.write() as connection:
        one = Arrival(key, f"1.2.{key}", "CT1", instances, held, 0.0, WHO, {"description": "CT HEAD"})
        studies.note_arrivals(connection, now, [one], 5.0)
        found = studies.find_newest(connection, tables.study.c.key == key)
        studies.change(connection, found["id"], found["version"], expected=expected)
    return found["id"]


def move(database, number: str, *states: StudyState, version: int = 1, **values) -> None:
    with database.write() as connection:
        for state in states:
            studies.move(connection, 2000.0, number, version, state, **values)


def test_a_change_of_the_tables_gets_a_number():
    """Databases that are there must be brought to it: `prepare` in store/engine.py."""
    columns = [
        (name, one.name, type(one.type).__name__, one.nullable, one.primary_key)
        for name, table in sorted(tables.metadata.tables.items()) for one in table.c
    ]  # fmt: skip
    assert hashlib.sha256(repr(columns).encode()).hexdigest()[:16] == "5b995d1e94b4121d"


def test_preparing_again_changes_nothing_and_a_newer_database_is_refused(database):
    arrive(database, "a")
    assert prepare(database) == 1
    with database.write() as connection:
        connection.execute(text("INSERT INTO schema VALUES (99, 0, '9.0')"))
    with pytest.raises(DataError, match=r"made by bleedmap 9\.0"):
        prepare(database)


def test_a_commit_outlives_the_process(database, settings):
    number = arrive(database, "a")
    again = open_database(settings)
    with again.read() as connection:
        row = studies.find(connection, number)
        assert (row["state"], row["instances"], row["sender_ae"]) == ("receiving", 3, "CT1")
        who = connection.execute(select(tables.identity)).mappings().one()
        assert {key: who[key] for key in WHO} == WHO
    again.close()


def test_the_patient_is_who_the_last_slices_name(database):
    """An emergency comes without a name; what is corrected in the PACS and sent again is what the worklist shows."""
    number = arrive(database, "a")
    move(database, number, StudyState.COMPLETE, StudyState.SEGMENTED)
    with database.write() as connection:
        who = {"name": "ROE^RICHARD", "patient_id": "4712", "birth_date": "", "sex": "F", "accession": "A1"}
        studies.note_arrivals(connection, 1100.0, [Arrival("a", "1.2.a", "PACS", 3, False, 0.0, who)], 5.0)
        shown = connection.execute(select(tables.identity)).mappings().one()
        assert {key: shown[key] for key in WHO} == WHO | {"name": "ROE^RICHARD", "patient_id": "4712"}
        told = studies.list_history(connection, number)[-1]
        assert (told["version"], told["state"]) == (2, "patient changed")
        assert told["reason"] == "now with another name, number"
        last = connection.execute(select(tables.audit).order_by(tables.audit.c.id.desc())).mappings().first()
        assert (last["action"], last["actor"]) == ("patient changed", "ae:PACS")
        assert last["detail"] == '{"version": 2, "what": ["name", "number"]}'


def test_a_start_that_finds_files_keeps_who_sent_them(database):
    """Readers who see one sender's studies alone would lose it else."""
    arrive(database, "a")
    with database.write() as connection:
        studies.note_arrivals(connection, 1001.0, [Arrival("a", "1.2.a", "", 4, False, 0.0, WHO)], 5.0)
        row = connection.execute(select(tables.study)).mappings().one()
    assert (row["sender_ae"], row["instances"]) == ("CT1", 4)


def test_a_study_is_whole_when_quiet_or_counted_and_no_association_holds_it(database):
    arrive(database, "quiet", now=1000.0)
    arrive(database, "late", now=1010.0)
    arrive(database, "held", now=1000.0, held=True)
    arrive(database, "counted", now=1014.0, instances=3, expected=3)
    arrive(database, "counting", now=1014.0, instances=3, expected=4)
    for now, keys in ((1014.1, ["counted"]), (1014.5, ["counted"]), (1015.0, ["quiet", "held", "counted"])):
        with database.write() as connection:
            if now == 1014.5:
                studies.hold(connection, ["held"], now + 5.0)
            found = [one["key"] for one in studies.find_quiet(connection, now, 15.0)]
            assert found == [key for key in keys if key != "held"], now
    with database.read() as connection:
        found = {one["key"] for one in studies.find_quiet(connection, 1030.0, 15.0)}
        assert found == {"quiet", "late", "held", "counted", "counting"}
        back = {one["key"] for one in studies.find_quiet(connection, 1010.0 - 3600, 15.0)}
        assert {"quiet", "late"} <= back, "a clock set back by an hour holds nothing up"


def test_later_slices_make_a_next_version_which_supersedes_once_it_has_an_outcome(database):
    number = arrive(database, "a")
    move(database, number, StudyState.COMPLETE)
    assert arrive(database, "a", now=1100.0, instances=1) == number
    with database.read() as connection:
        assert [one["version"] for one in studies.find_quiet(connection, 1200.0, 15.0)] == [], "version 1 comes first"
    move(database, number, StudyState.SEGMENTED, verdict="bleed marked", score=0.9)
    with database.read() as connection:
        (row,) = studies.list_worklist(connection)
        assert (row["version"], row["arriving"], row["name"]) == (1, True, "DOE^JANE")
        assert [one["version"] for one in studies.find_quiet(connection, 1200.0, 15.0)] == [2]
    move(database, number, StudyState.COMPLETE, StudyState.REFUSED, version=2, error="no head")
    with database.read() as connection:
        (row,) = studies.list_worklist(connection)
        assert (row["version"], row["arriving"]) == (2, False)
        told = [(one["version"], one["state"]) for one in studies.list_history(connection, number)]
    assert told == [
        (1, "receiving"), (1, "complete"), (2, "receiving"), (1, "segmented"), (2, "complete"), (2, "refused"),
        (1, "superseded"),
    ]  # fmt: skip


def test_the_worklist_puts_bleeds_first_and_leaves_nothing_out(database):
    rows = {
        "none": {"verdict": "no bleed marked", "score": 0.1}, "low": {"verdict": "bleed marked", "score": 0.6},
        "high": {"verdict": "bleed marked", "score": 0.9}, "unsure": {"verdict": "no verdict", "score": 0.99},
        "read": {"verdict": "bleed marked", "score": 1.0},
    }  # fmt: skip
    names = {arrive(database, "waits", now=500.0): "waits"}
    for moment, (key, values) in enumerate(rows.items()):
        number = arrive(database, key, now=1000.0 + moment)
        names[number] = key
        move(database, number, StudyState.COMPLETE, StudyState.SEGMENTED, **values)
    refused = arrive(database, "refused", now=1.0)
    names[refused] = "refused"
    move(database, refused, StudyState.COMPLETE, StudyState.REFUSED)
    with database.write() as connection:
        read = next(number for number, key in names.items() if key == "read")
        connection.execute(tables.user.insert().values(id="u", name="reader", role="reader", created_at=0.0))
        connection.execute(tables.reading.insert().values(study=read, version=1, user="u", at=3000.0, says="agree"))
    with database.read() as connection:
        order = [names[one["id"]] for one in studies.list_worklist(connection)]
        assert order == ["high", "low", "unsure", "refused", "waits", "none", "read"]
        arrival = [names[one["id"]] for one in studies.list_worklist(connection, order="arrival")]
        assert arrival == ["read", "unsure", "high", "low", "none", "waits", "refused"]
        assert sum(studies.count_states(connection).values()) == len(names)


def test_states_that_do_not_follow_are_refused(database):
    number = arrive(database, "a")
    with pytest.raises(MoveError, match="'delivered' after 'receiving'"):
        move(database, number, StudyState.DELIVERED)
    assert all(StudyState.SUPERSEDED in MOVES[one] for one in FINISHED)


def test_a_change_in_the_audit_is_found(database):
    with database.write() as connection:
        for moment in range(5):
            audit.record(connection, float(moment), "u1", "study opened", study="s", slices=moment)
    with database.read() as connection:
        assert audit.find_break(connection) is None
    with database.write() as connection:
        connection.execute(update(tables.audit).where(tables.audit.c.id == 3).values(actor="nobody"))
        assert audit.find_break(connection) == 3


def test_a_next_version_that_holds_nothing_new_is_taken_back_with_its_jobs(database):
    number = arrive(database, "a")
    move(database, number, StudyState.COMPLETE, StudyState.SEGMENTED)
    arrive(database, "a", now=1100.0)
    with database.write() as connection:
        queue.enqueue(connection, number, 2, Step.FETCH, "PACS")
        studies.forget(connection, number, 2)
        assert studies.find(connection, number)["version"] == 1
        assert queue.count_jobs(connection) == {}
