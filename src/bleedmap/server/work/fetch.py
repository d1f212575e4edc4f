"""Ask a peer for a study: how many instances it has (C-FIND), and to send them to us (C-MOVE)."""

import time
from contextlib import suppress
from typing import Any

from pydicom import Dataset
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)
from sqlalchemy import select

from bleedmap.server.config import Peer, Settings, Target
from bleedmap.server.dicom.send import AwayError, associate, describe_status
from bleedmap.server.place import Place, new_id
from bleedmap.server.store import audit, queue, studies
from bleedmap.server.store.engine import Database
from bleedmap.server.store.queue import Job
from bleedmap.server.store.tables import Step, StudyState
from bleedmap.server.store.tables import study as study_table
from bleedmap.server.work.versions import count_slices

_UNKNOWN = 1_000_000  # more than any study has: its sender does not say, so that only quiet makes it complete
_PAUSE_S = 3.0  # after a study's last slice, and between two questions about it
_COUNT = "NumberOfStudyRelatedInstances"


def request_fetch(database: Database, place: Place, peer: str, study_uid: str) -> str:
    """Ask for a study by its UID, to be fetched from a peer, once more where it is known; return its `study.id`."""
    key = place.key_of(study_uid)
    with database.write() as connection:
        now = database.now(connection)
        known = studies.find_newest(connection, study_table.c.key == key)
        if known is None:
            number = new_id()
            row = {"id": number, "version": 1, "uid": study_uid, "key": key, "state": StudyState.RECEIVING}
            moments = {"state_since": now, "first_seen": now, "last_seen": now, "held_until": now + 600}
            connection.execute(study_table.insert().values(**row, **moments, cause="fetched", sender_ae=peer))
            studies.add_event(connection, now, number, 1, StudyState.RECEIVING, f"asked of {peer}")
        else:
            number = str(known["id"])
        version = 1 if known is None else int(known["version"])
        queue.enqueue(connection, number, version, Step.FETCH, peer)
        audit.record(connection, now, "server", "study asked for", study=number, peer=peer)
    return number


def do_fetch(database: Database, place: Place, settings: Settings, job: Job) -> None:
    """Do a job of fetching: the peer has sent, or it is tried again.

    Raises:
        LostLeaseError: the job belongs to another process by now.
    """
    with database.read() as connection:
        uid = connection.execute(select(study_table.c.uid).where(study_table.c.id == job.study)).scalars().first()
    peer = list_askable(settings).get(job.target)
    try:
        if peer is None or uid is None:
            raise AwayError("is no peer that may be asked")
        expected = count_instances(settings, peer, uid)
        why = "sent no CT image of it"
        if expected == 0:
            why = "does not hold the study"
        else:
            move_study(settings, peer, uid)
    except AwayError as error:
        studies.put_off(database, job, f"{job.target}: {error}")
        return
    with database.write() as connection:
        queue.finish(connection, job)
        studies.change(connection, job.study, job.version, expected=expected, held_until=0.0, waiting="")
        row = studies.find(connection, job.study, job.version)
        waits = row is not None and row["state"] == StudyState.RECEIVING and not row["instances"]
        if row is not None and waits and not count_slices(place.incoming(row["key"])):  # no other is kept
            reason, now = f"{job.target} {why}", database.now(connection)
            studies.move(connection, now, job.study, job.version, StudyState.FAILED, reason, error=reason)


def ask_counts(database: Database, settings: Settings, asked: dict[str, float]) -> None:
    """Ask senders that may be asked how many instances they hold of the studies that they have paused sending.

    A study is whole if its sender holds no more than we do. One that passes on slices as they come to itself holds
    more a moment later: so it is asked some seconds after the last slice, and once more after each that follows.

    Args:
        asked: study -> when it was asked about, by the monotonic clock; kept from call to call.
    """
    peers = list_askable(settings)
    if not peers:
        return
    with database.read() as connection:
        now = database.now(connection)
        paused = [
            row for row in studies.list_receiving(connection, list(peers))
            if row["expected"] is None and max(row["last_seen"] + _PAUSE_S, row["held_until"]) <= now
        ]  # fmt: skip
    for key in asked.keys() - {row["key"] for row in paused}:
        del asked[key]
    for row in paused:
        if time.monotonic() - asked.get(row["key"], -_PAUSE_S) < _PAUSE_S:
            continue
        asked[row["key"]] = time.monotonic()
        count = None
        with suppress(AwayError):
            count = count_instances(settings, peers[row["sender_ae"]], row["uid"])
        if count and count > row["instances"]:
            continue  # more is on its way, or some of it is no CT
        with database.write() as connection:
            unchanged = studies.find(connection, row["id"], row["version"])
            if unchanged is not None and unchanged["last_seen"] == row["last_seen"]:
                studies.change(connection, row["id"], row["version"], expected=count or _UNKNOWN)


def list_askable(settings: Settings) -> dict[str, Peer]:
    """The peers that may be asked, by their AE titles."""
    return {one.ae_title: one for one in settings.dicom.peer if "query" in one.may and one.port}


def count_instances(settings: Settings, peer: Peer, study_uid: str) -> int | None:
    """Ask how many instances a peer holds of a study; None: it does not say.

    Raises:
        AwayError: it cannot be reached, or does not answer the query.
    """
    find, query = StudyRootQueryRetrieveInformationModelFind, Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study_uid
    setattr(query, _COUNT, None)
    count: int | None = 0
    with associate(settings, _as_target(peer), [(find, None)]) as association:
        for status, found in association.send_c_find(query, find):
            if not status or status.Status not in (0x0000, 0xFF00, 0xFF01):
                raise AwayError("does not answer the query")
            if found is not None:
                value: Any = found.get(_COUNT)
                count = int(value) if value not in (None, "") else None
    return count


def move_study(settings: Settings, peer: Peer, study_uid: str) -> None:
    """Let a peer send a study to our listener.

    Raises:
        AwayError: it cannot be reached, or some of it was not sent.
    """
    move, query = StudyRootQueryRetrieveInformationModelMove, Dataset()
    query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", study_uid
    last: Any = None
    with associate(settings, _as_target(peer), [(move, None)]) as association:
        for status, _ in association.send_c_move(query, settings.dicom.ae_title, move):
            last = status
    if not last or last.Status != 0x0000:
        raise AwayError(f"its answer to C-MOVE: {describe_status(last)}")


def _as_target(peer: Peer) -> Target:
    return Target(peer.ae_title, "dimse", peer.ae_title, f"{peer.address}:{peer.port}")
