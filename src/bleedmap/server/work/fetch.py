"""Ask a peer for a study: how many instances it has (C-FIND), and to send them to us (C-MOVE)."""

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

_UNKNOWN = 1_000_000  # more than any study has: its sender does not say, so that only quiet makes it complete
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
        if expected == 0:
            raise AwayError("does not hold the study")
        move_study(settings, peer, uid)
    except AwayError as error:
        studies.put_off(database, job, f"{job.target}: {error}")
        return
    with database.write() as connection:
        queue.finish(connection, job)
        studies.change(connection, job.study, job.version, expected=expected, held_until=0.0, waiting="")


def ask_counts(database: Database, settings: Settings) -> None:
    """Ask senders that may be asked how many instances the studies have that they are sending: once a study."""
    peers = list_askable(settings)
    if not peers:
        return
    query = select(study_table).where(
        study_table.c.state == StudyState.RECEIVING, study_table.c.expected.is_(None),
        study_table.c.sender_ae.in_(peers),
    )  # fmt: skip
    with database.read() as connection:
        rows = connection.execute(query).mappings().all()
    for row in rows:
        count = None
        with suppress(AwayError):
            count = count_instances(settings, peers[row["sender_ae"]], row["uid"])
        with database.write() as connection:
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
