"""Bring results to a target, each object once: ask what it holds, send what is missing, ask again.

A study is delivered when the target itself says that it holds every object. What was sent is noted before it is sent.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping, func, insert, select, update

from bleedmap.archive.remote.dicomweb import Object
from bleedmap.server.config import Settings, Target
from bleedmap.server.dicom import commitment
from bleedmap.server.dicom.commitment import CONFIRMED, MISSING, OPEN, SENT
from bleedmap.server.dicom.send import (
    NO_CONNECTION,
    AwayError,
    UnsupportedError,
    find_held,
    send_objects,
)
from bleedmap.server.log import describe_fault, logger
from bleedmap.server.place import Place
from bleedmap.server.states import JobState, Step, StudyState
from bleedmap.server.store import audit, queue, studies
from bleedmap.server.store.engine import Database, is_away
from bleedmap.server.store.queue import Job
from bleedmap.server.store.tables import delivery
from bleedmap.server.store.tables import job as jobs
from bleedmap.server.work.segment import finish_study

_REPORT_WAIT_S = 10.0  # for storage commitment's report; a later one is taken by the listener
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
            once = (delivery.c.job == job.id) & (delivery.c.state == CONFIRMED)
            connection.execute(update(delivery).where(once).values(state=SENT))
        rows = _read_rows(connection, job)
        begun = any(state != OPEN for state in rows.values())
        if target is None or row["state"] == StudyState.GONE or (row["state"] == StudyState.SUPERSEDED and not begun):
            reason = "a later version has a result" if target else "the target is no longer among the settings"
            queue.give_up(connection, job, reason)
            now = database.now(connection)
            studies.add_event(connection, now, job.study, job.version, "not sent", f"{job.target}: {reason}")
            _conclude(connection, now, settings, job, row)
            return
        objects = list_objects(place, row, target)
        for one in objects:
            if one.sop_uid not in rows:
                made = {"job": job.id, "sop_uid": one.sop_uid, "sop_class": one.sop_class, "state": OPEN}
                connection.execute(insert(delivery).values(**made))
    try:
        _bring(database, settings, target, job, objects)
    except (AwayError, OSError) as error:
        _wait(database, job, f"{target.name}: {error if isinstance(error, AwayError) else 'a result cannot be read'}")
    except queue.LostLeaseError:
        raise
    except Exception as error:
        if is_away(error):
            raise
        logger.error("delivery of study %s: %s", job.study, describe_fault(error))
        _wait(database, job, f"{target.name}: a fault of the program; tried again")
    else:
        with database.write() as connection:
            now = database.now(connection)
            queue.finish(connection, job)
            queue.wake(connection, Step.DELIVER, target.name, NO_CONNECTION)
            said = f"{target.name} holds {len(objects)} objects"
            audit.record(connection, now, "server", "results sent", study=job.study, target=target.name)
            studies.add_event(connection, now, job.study, job.version, "sent", said)
            _conclude(connection, now, settings, job, row)
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
        _set(connection, job, missing, state=SENT, status="")
    answers = send_objects(settings, target, missing)
    refused = {uid: status for uid, status in answers.items() if status}
    if refused:
        with database.write() as connection:
            for uid, status in refused.items():
                where = (delivery.c.job == job.id) & (delivery.c.sop_uid == uid)
                connection.execute(update(delivery).where(where).values(state=MISSING, status=status))
        raise AwayError(f"refuses {len(refused)} of {len(objects)} objects: {', '.join(sorted(set(refused.values())))}")
    held = _ask(database, settings, target, job, objects)
    if any(one.sop_uid not in held for one in objects):
        lacking = sum(one.sop_uid not in held for one in objects)
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
    transaction = commitment.new_transaction()
    with database.write() as connection:
        _set(connection, job, objects, transaction_uid=transaction, asked_at=None)
    pending = (delivery.c.job == job.id) & delivery.c.asked_at.is_(None)

    def is_answered() -> bool:
        with database.read() as connection:
            return connection.execute(select(func.count()).select_from(delivery).where(pending)).scalar_one() == 0

    try:
        came = commitment.ask_commitment(
            settings, target, objects, transaction,
            lambda report: commitment.record_report(database, report), is_answered, _REPORT_WAIT_S,
        )  # fmt: skip
    except UnsupportedError:
        return _note_held(database, job, find_held(settings, target, objects))
    if not came:
        raise AwayError("has not reported on storage commitment yet")
    with database.read() as connection:
        return {uid for uid, state in _read_rows(connection, job).items() if state == CONFIRMED}


def _note_held(database: Database, job: Job, held: set[str]) -> set[str]:
    with database.write() as connection:
        now = database.now(connection)
        where = (delivery.c.job == job.id) & delivery.c.sop_uid.in_(held)
        connection.execute(update(delivery).where(where).values(state=CONFIRMED, asked_at=now, status=""))
    return held


def _read_rows(connection: Any, job: Job) -> dict[str, str]:
    rows = connection.execute(select(delivery.c.sop_uid, delivery.c.state).where(delivery.c.job == job.id))
    return {uid: state for uid, state in rows}  # noqa: C416 - rows are no pairs for mypy


def _set(connection: Any, job: Job, objects: list[Object], **values: Any) -> None:
    where = (delivery.c.job == job.id) & delivery.c.sop_uid.in_([one.sop_uid for one in objects])
    connection.execute(update(delivery).where(where).values(**values))


def _conclude(connection: Any, now: float, settings: Settings, job: Job, row: RowMapping) -> None:
    """Say that a version is delivered, once no job of its is left."""
    rest = select(func.count()).select_from(jobs).where(
        jobs.c.study == job.study, jobs.c.version == job.version, jobs.c.step == Step.DELIVER,
        jobs.c.state.in_((JobState.READY, JobState.WAITING)),
    )  # fmt: skip
    left = connection.execute(rest).scalar_one()
    current = studies.find(connection, job.study, job.version)
    if not left and current is not None and current["state"] == StudyState.SEGMENTED:
        finish_study(connection, now, job.study, job.version, settings, "every target has confirmed every object")
    elif current is not None:
        studies.change(connection, job.study, job.version, waiting="")


def _wait(database: Database, job: Job, reason: str) -> None:
    with database.write() as connection:
        now = database.now(connection)
        queue.put_off(connection, job, reason, now)
        studies.await_something(connection, now, job.study, job.version, reason)
    logger.warning("study %s v%d waits: %s", job.study, job.version, reason)
