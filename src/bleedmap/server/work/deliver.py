"""Bring results to a target, each object once: ask what it holds, send what is missing, ask again.

A study is delivered when the target itself says that it holds every object. What was sent is noted before it is sent.
"""

from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import generate_uid
from sqlalchemy import RowMapping, func, insert, select, update

from bleedmap.archive.remote.dicomweb import Object
from bleedmap.server.config import Settings, Target
from bleedmap.server.dicom.send import (
    NO_CONNECTION,
    AwayError,
    UnsupportedError,
    ask_commitment,
    find_held,
    send_objects,
)
from bleedmap.server.log import describe_fault, logger
from bleedmap.server.place import Place
from bleedmap.server.store import audit, queue, studies
from bleedmap.server.store.engine import Database, is_away
from bleedmap.server.store.queue import Job
from bleedmap.server.store.tables import JobState, Step, StudyState, delivery
from bleedmap.server.store.tables import job as jobs
from bleedmap.server.work.versions import finish_study

CONFIRMED, MISSING, SENT, OPEN = "confirmed", "missing", "sent", "open"
_REPORT_WAIT_S = 10.0  # for storage commitment's report; a later one is taken by the listener
_ASK_AGAIN_S = 12 * 3600.0  # some report only when their archive has it; the report on an earlier asking is not known
_NOT_YET = "has not reported on storage commitment yet"
_FILES = {
    "seg": "segmentation.dcm", "sr": "report.dcm", "probability": "probability.dcm", "pictures": "pictures/*.dcm",
}  # fmt: skip


def do_deliver(database: Database, place: Place, settings: Settings, job: Job) -> None:
    """Do a job of delivering: all is confirmed, or it waits with the reason.

    Raises:
        LostLeaseError: the job belongs to another process by now.
        DBAPIError: the database is away; the job is done again when it is back.
    """
    target = next((one for one in settings.target if one.name == job.target), None)
    with database.write() as connection:
        row = studies.find(connection, job.study, job.version)
        assert row is not None
        if job.attempt == 1:  # asked for anew: what was confirmed long ago may be gone
            held = {uid for uid, state in _read_rows(connection, job).items() if state == CONFIRMED}
            _set(connection, job, held, state=SENT)
            _set(connection, job, set(_read_rows(connection, job)), transaction_uid="")
        rows = _read_rows(connection, job)
        begun = any(state != OPEN for state in rows.values())
        if target is None or row["state"] == StudyState.GONE or (row["state"] == StudyState.SUPERSEDED and not begun):
            reason = "a later version has a result" if target else "the target is no longer among the settings"
            queue.give_up(connection, job, reason)
            now = database.now(connection)
            studies.add_event(connection, now, job.study, job.version, "not sent", f"{job.target}: {reason}")
            _conclude(connection, now, settings, job)
            return
        objects = list_objects(place, row, target)
        for one in objects:
            if one.sop_uid not in rows:
                made = {"job": job.id, "sop_uid": one.sop_uid, "sop_class": one.sop_class, "state": OPEN}
                connection.execute(insert(delivery).values(**made))
    try:
        _bring(database, settings, target, job, objects)
    except (AwayError, OSError) as error:
        why = str(error) if isinstance(error, AwayError) else "a result cannot be read"
        studies.put_off(database, job, f"{target.name}: {why}")
    except Exception as error:
        if is_away(error) or isinstance(error, queue.LostLeaseError):
            raise
        logger.error("delivery of study %s: %s", job.study, describe_fault(error))
        studies.put_off(database, job, f"{target.name}: a fault of the program; tried again")
    else:
        with database.write() as connection:
            now = database.now(connection)
            queue.finish(connection, job)
            queue.wake(connection, Step.DELIVER, target.name, NO_CONNECTION)
            said = f"{target.name} holds {len(objects)} objects"
            audit.record(connection, now, "server", "results sent", study=job.study, target=target.name)
            studies.add_event(connection, now, job.study, job.version, "sent", said)
            _conclude(connection, now, settings, job)
        logger.info("study %s v%d: %s", job.study, job.version, said)


def list_objects(place: Place, row: RowMapping, target: Target) -> list[Object]:
    """The objects of a result that a target gets."""
    folder: Path = place.results(row["id"], row["version"]) / "dicom"
    return [Object.read(path) for kind in target.send for path in sorted(folder.glob(_FILES[kind]))]


def _bring(database: Database, settings: Settings, target: Target, job: Job, objects: list[Object]) -> None:
    held = _ask_first(database, settings, target, job, objects)
    missing = [one for one in objects if one.sop_uid not in held]
    if not missing:
        return
    with database.write() as connection:
        if not queue.is_held(connection, job):
            raise queue.LostLeaseError(f"job {job.id}")
        _set(connection, job, {one.sop_uid for one in missing}, state=SENT, status="", transaction_uid="")
    answers = send_objects(settings, target, missing)
    refused = {uid: status for uid, status in answers.items() if status}
    if refused:
        with database.write() as connection:
            for uid, status in refused.items():
                _set(connection, job, {uid}, state=MISSING, status=status)
        raise AwayError(f"refuses {len(refused)} of {len(objects)} objects: {', '.join(sorted(set(refused.values())))}")
    held = _ask(database, settings, target, job, objects)
    lacking = sum(one.sop_uid not in held for one in objects)
    if lacking:
        raise AwayError(f"has not confirmed {lacking} of {len(objects)} objects")


def _ask_first(database: Database, settings: Settings, target: Target, job: Job, objects: list[Object]) -> set[str]:
    """Ask before anything is sent. Where nothing was ever sent, a target that does not answer queries holds nothing."""
    with database.read() as connection:
        rows = _read_rows(connection, job)
    confirmed = {uid for uid, state in rows.items() if state == CONFIRMED}
    if all(one.sop_uid in confirmed for one in objects):
        return confirmed
    if any(state == SENT for state in rows.values()):
        return _ask(database, settings, target, job, objects)
    try:
        return _note_held(database, job, find_held(settings, target, objects))
    except UnsupportedError:
        return confirmed


def _ask(database: Database, settings: Settings, target: Target, job: Job, objects: list[Object]) -> set[str]:
    """Ask whether a target holds what was sent: storage commitment, else a query."""
    if target.kind != "dimse" or not target.commitment:
        return _note_held(database, job, find_held(settings, target, objects))
    transaction = str(generate_uid())
    with database.write() as connection:
        if _is_asked(connection, job, database.now(connection)):
            raise AwayError(_NOT_YET)
        _set(connection, job, {one.sop_uid for one in objects}, transaction_uid=transaction, asked_at=None)
    pending = (delivery.c.job == job.id) & delivery.c.asked_at.is_(None)

    def is_answered() -> bool:
        with database.read() as connection:
            return connection.execute(select(func.count()).select_from(delivery).where(pending)).scalar_one() == 0

    try:
        came = ask_commitment(
            settings, target, objects, transaction,
            lambda report: record_report(database, report), is_answered, _REPORT_WAIT_S,
        )  # fmt: skip
    except UnsupportedError:
        return _note_held(database, job, find_held(settings, target, objects))
    if not came:
        with database.write() as connection:  # asked it was: from now its report is waited for
            connection.execute(update(delivery).where(pending).values(asked_at=database.now(connection)))
        raise AwayError(_NOT_YET)
    with database.read() as connection:
        return {uid for uid, state in _read_rows(connection, job).items() if state == CONFIRMED}


def _is_asked(connection: Any, job: Job, now: float) -> bool:
    """Whether a target's report on what was sent last may still come."""
    lately = delivery.c.asked_at.between(now - _ASK_AGAIN_S, now + _ASK_AGAIN_S)  # a clock may be set back
    open_ones = (delivery.c.job == job.id) & (delivery.c.state == SENT) & (delivery.c.transaction_uid != "") & lately
    return connection.execute(select(delivery.c.sop_uid).where(open_ones).limit(1)).first() is not None


def record_report(database: Database, report: Dataset) -> int:
    """Record what a target reports, for the objects that this transaction asked for; return their number."""
    transaction = str(report.get("TransactionUID", ""))
    if not transaction:
        return 0
    said = {str(one.ReferencedSOPInstanceUID): (CONFIRMED, "") for one in report.get("ReferencedSOPSequence", [])}
    for one in report.get("FailedSOPSequence", []):
        reason = f"0x{int(one.get('FailureReason', 0)):04X}"
        said.setdefault(str(one.ReferencedSOPInstanceUID), (MISSING, reason))
    known = 0
    with database.write() as connection:
        now = database.now(connection)
        asked = delivery.c.transaction_uid == transaction
        rows = connection.execute(select(delivery.c.job, delivery.c.sop_uid).where(asked)).all()
        for job, uid in rows:
            if uid in said:
                known += 1
                state, status = said[uid]
                one = asked & (delivery.c.job == job) & (delivery.c.sop_uid == uid)
                connection.execute(update(delivery).where(one).values(state=state, status=status, asked_at=now))
        waiting = jobs.c.id.in_({row.job for row in rows}) & (jobs.c.lease == "")
        connection.execute(update(jobs).where(waiting).values(due=0.0))  # its answer is there: look at once
    return known


def _note_held(database: Database, job: Job, held: set[str]) -> set[str]:
    with database.write() as connection:
        _set(connection, job, held, state=CONFIRMED, asked_at=database.now(connection), status="")
    return held


def _read_rows(connection: Any, job: Job) -> dict[str, str]:
    rows = connection.execute(select(delivery.c.sop_uid, delivery.c.state).where(delivery.c.job == job.id))
    return {row.sop_uid: row.state for row in rows}


def _set(connection: Any, job: Job, uids: set[str], **values: Any) -> None:
    where = (delivery.c.job == job.id) & delivery.c.sop_uid.in_(uids)
    connection.execute(update(delivery).where(where).values(**values))


def _conclude(connection: Any, now: float, settings: Settings, job: Job) -> None:
    """Say that a version is delivered, once no job of its is left."""
    mine = (jobs.c.study == job.study) & (jobs.c.version == job.version) & (jobs.c.step == Step.DELIVER)
    states = set(connection.execute(select(jobs.c.state).where(mine)).scalars())
    current = studies.find(connection, job.study, job.version)
    is_open = current is not None and current["state"] == StudyState.SEGMENTED
    if is_open and not states & {JobState.READY, JobState.WAITING}:
        is_short = JobState.FAILED in states  # of a target that was taken out of the settings, or renamed there
        said = "no target of the settings waits for it" if is_short else "every target has confirmed every object"
        finish_study(connection, now, settings, job, StudyState.DELIVERED, said)
    elif current is not None:
        studies.change(connection, job.study, job.version, waiting="")
