"""Studies that are asked for: the count of a sender, and a study moved from a real Orthanc to our listener."""

import time
from dataclasses import replace
from io import BytesIO

import pytest
from sqlalchemy import select

from bleedmap.server.config import Dicom, Peer
from bleedmap.server.dicom.listener import Listener
from bleedmap.server.dicom.receive import Receiver
from bleedmap.server.dicom.send import AwayError
from bleedmap.server.place import Place
from bleedmap.server.store import queue, studies, tables
from bleedmap.server.store.engine import open_database, prepare, prepared_database
from bleedmap.server.store.studies import Arrival
from bleedmap.server.store.tables import Step
from bleedmap.server.work import fetch
from bleedmap.server.work.fetch import ask_counts, count_instances, do_fetch, request_fetch
from bleedmap.server.work.versions import complete_studies
from free_port import free_port
from orthanc_server import run_orthanc
from phantom_studies import make_study


def test_a_study_is_fetched_counted_and_complete_without_waiting(sqlite_settings, tmp_path):
    port = free_port()
    with run_orthanc(tmp_path / "orthanc", peer=("BLEEDMAP", port)) as orthanc:
        study = make_study(1, slices=24, side=64)
        for one in study:
            stream = BytesIO()
            one.save_as(stream, enforce_file_format=True)
            orthanc.ask("/instances", stream.getvalue())
        peer = Peer("ORTHANC", "127.0.0.1", ("store", "query"), orthanc.dicom_port)
        settings = replace(sqlite_settings, dicom=Dicom(listen=f"127.0.0.1:{port}", quiet_s=600.0, peer=(peer,)))
        place, database = Place(settings.data), open_database(settings)
        prepare(database)
        assert count_instances(settings, peer, study[0].StudyInstanceUID) == 24
        assert count_instances(settings, peer, "1.2.3") == 0
        with pytest.raises(AwayError, match="no connection"):
            count_instances(settings, replace(peer, port=free_port()), "1.2.3")
        receiver = Receiver(settings, place)
        listener = Listener(settings, receiver, lambda report: None)
        try:
            number = request_fetch(database, place, "ORTHANC", study[0].StudyInstanceUID)
            job = queue.claim(database, (Step.FETCH,), "test")
            do_fetch(database, place, settings, job)
        finally:
            time.sleep(0.3)
            listener.close()
        receiver.flush(database, listener.list_held())
        assert complete_studies(database, place, settings.dicom.quiet_s) == 1, "all of it is there: no quiet time"
        with database.read() as connection:
            row = connection.execute(select(tables.study)).mappings().one()
            history = connection.execute(select(tables.event.c.reason)).scalars().all()
        assert (row["id"], row["cause"], row["instances"], row["expected"]) == (number, "fetched", 24, 24)
        assert history[-1] == "all that its sender stated"
        with database.write() as connection:
            changed = {"state": "receiving", "expected": None, "sender_ae": "ORTHANC", "last_seen": 1.0}
            connection.execute(tables.study.update().values(**changed))
        ask_counts(database, settings, {})
        with database.read() as connection:
            assert connection.execute(select(tables.study.c.expected)).scalar_one() == 24
        database.close()


def test_a_sender_that_still_receives_itself_is_asked_again_before_its_count_counts(sqlite_settings, monkeypatch):
    """A PACS that passes each slice on as it comes holds few of a study at first."""
    peer = Peer("PACS", "127.0.0.1", ("store", "query"), 104)
    settings = replace(sqlite_settings, dicom=Dicom(peer=(peer,)))
    Place(settings.data)
    answers = iter((5, 24, 24, 0))
    monkeypatch.setattr(fetch, "count_instances", lambda *given: next(answers))
    with prepared_database(settings) as database:
        whole = []
        for came, ago_s in ((5, 0.5), (5, 4.0), (20, 0.5), (20, 4.0), (24, 0.5), (24, 4.0)):
            with database.write() as connection:
                now = database.now(connection)
                arrival = Arrival("a", "1.2.3", "PACS", came, False, ago_s)
                studies.note_arrivals(connection, now, [arrival], 5.0)
            ask_counts(database, settings, {})
            with database.read() as connection:
                whole.append(len(studies.find_quiet(connection, now, 600.0)))
        assert whole == [0, 1, 0, 0, 0, 1]
        assert list(answers) == [0], "asked in each pause alone"


@pytest.mark.parametrize(("held", "why"), [(3, "sent no CT image of it"), (0, "does not hold the study")])
def test_a_study_of_which_no_ct_came_waits_for_nothing(sqlite_settings, monkeypatch, held, why):
    peer = Peer("PACS", "127.0.0.1", ("store", "query"), 104)
    settings = replace(sqlite_settings, dicom=Dicom(peer=(peer,)))
    place = Place(settings.data)
    monkeypatch.setattr(fetch, "count_instances", lambda *given: held)
    monkeypatch.setattr(fetch, "move_study", lambda *given: None)
    with prepared_database(settings) as database:
        request_fetch(database, place, "PACS", "1.2.3")
        do_fetch(database, place, settings, queue.claim(database, (Step.FETCH,), "test"))
        with database.read() as connection:
            row = connection.execute(select(tables.study)).mappings().one()
    assert (row["state"], row["error"]) == ("failed", f"PACS {why}")
