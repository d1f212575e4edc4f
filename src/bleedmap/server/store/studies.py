"""Studies in the database: what arrives, what becomes of it, the worklist and its order."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, case, delete, exists, func, insert, literal, or_, select, update

from bleedmap.errors import BleedmapError
from bleedmap.server.log import logger
from bleedmap.server.place import new_id
from bleedmap.server.store import audit, queue
from bleedmap.server.store.engine import Database
from bleedmap.server.store.queue import Job
from bleedmap.server.store.tables import (
    FINISHED,
    MOVES,
    JobState,
    StudyState,
    event,
    identity,
    job,
    passed_over,
    reading,
    study,
)

_CLOCK_BACK_S = 60.0  # a last slice so far ahead came before the clock was set back


class MoveError(BleedmapError):
    """A state that does not follow on the one before."""

    exit_code = 1


def check_move(study: str, before: str, after: str) -> None:
    """Refuse a move that is not among `MOVES`.

    Raises:
        MoveError: so it is.
    """
    if StudyState(after) not in MOVES[StudyState(before)]:
        raise MoveError(
            f"study {study}", found=f"'{after}' after '{before}'",
            needed=f"one of {', '.join(sorted(MOVES[StudyState(before)])) or 'nothing: it is gone'}",
            remedy="report this: two processes disagree",
        )  # fmt: skip


@dataclass(frozen=True)
class Arrival:
    """What came of a study since the database was last told."""

    key: str  # of its folder in `incoming`
    uid: str  # Study Instance UID
    sender_ae: str  # who sent the last slice
    instances: int  # slices that lie in `incoming` now
    held: bool  # whether an association that may send more of it is open
    age_s: float = 0.0  # since its last slice came
    who: dict[str, str] = field(default_factory=dict)  # the columns of `identity`
    about: dict[str, str] = field(default_factory=dict)  # columns of `study`: description, study_at


def note_arrivals(connection: Connection, now: float, arrivals: Iterable[Arrival], hold_s: float) -> None:
    """Record what arrived: a new study, more of one that is being received, or a next version of one that was not.

    Args:
        arrivals: one a study.
        hold_s: an open association holds its study so much longer.
    """
    for one in arrivals:
        newest = find_newest(connection, study.c.key == one.key)
        sender = one.sender_ae or ("" if newest is None else newest["sender_ae"])  # files alone do not tell it
        values: dict[str, Any] = {
            "last_seen": now - one.age_s, "sender_ae": sender, "instances": one.instances,
            "held_until": now + hold_s if one.held else 0.0,
        }  # fmt: skip
        if newest is not None and newest["state"] == StudyState.RECEIVING:
            number, version, cause = newest["id"], newest["version"], newest["cause"]
            is_first = not newest["instances"]  # it was asked for, and comes now
            values |= {name: said for name, said in one.about.items() if not newest[name]}
            if newest["expected"] is not None and newest["instances"] >= newest["expected"]:
                values["expected"] = None  # more came than its sender held then: it is asked once more
            change(connection, number, version, **values)
        else:
            number, version = (new_id(), 1) if newest is None else (newest["id"], newest["version"] + 1)
            cause, is_first = "arrived" if newest is None else "late slices", True
            connection.execute(
                insert(study).values(
                    id=number, version=version, uid=one.uid, key=one.key, state=StudyState.RECEIVING,
                    state_since=now, cause=cause, first_seen=now, **values, **one.about,
                )
            )  # fmt: skip
        if is_first:
            from_whom = f"{cause}, from {sender or 'a file'}"
            add_event(connection, now, number, version, StudyState.RECEIVING, from_whom)
            audit.record(connection, now, f"ae:{sender}", "study received", study=number, version=version)
        _note_patient(connection, now, number, version, f"ae:{sender}", one.who)


def _note_patient(
    connection: Connection, now: float, number: str, version: int, actor: str, who: dict[str, str]
) -> None:
    """Keep who the patient is, as the last slices say: an emergency's name and number are often corrected later."""
    same = identity.c.study == number
    held = connection.execute(select(identity).where(same)).mappings().first()
    if held is None:
        connection.execute(insert(identity).values(study=number, **who))
        return
    other = {name: said for name, said in who.items() if said and said != held[name]}
    if other:
        connection.execute(update(identity).where(same).values(**other))
        what = [name.replace("patient_id", "number").replace("_", " ") for name in other]
        add_event(connection, now, number, version, "patient changed", f"now with another {', '.join(what)}")
        audit.record(connection, now, actor, "patient changed", study=number, version=version, what=what)


def hold(connection: Connection, keys: Iterable[str], until: float) -> None:
    """Hold studies open for which an association is alive, though it sends nothing now; until 0: hold them no more."""
    keys = list(keys)
    if keys:
        receiving = and_(study.c.key.in_(keys), study.c.state == StudyState.RECEIVING)
        connection.execute(update(study).where(receiving).values(held_until=until))


def count_passed_over(connection: Connection, now: float, sender_ae: str, sop_class: str, reason: str, n: int) -> None:
    """Add to the count of what was accepted and is not processed."""
    same = and_(
        passed_over.c.sender_ae == sender_ae, passed_over.c.sop_class == sop_class, passed_over.c.reason == reason
    )
    values = {"count": passed_over.c.count + n, "last_at": now}
    if connection.execute(update(passed_over).where(same).values(**values)).rowcount == 0:
        row = {"sender_ae": sender_ae, "sop_class": sop_class, "reason": reason}
        connection.execute(insert(passed_over).values(**row, count=n, last_at=now))


def find_quiet(connection: Connection, now: float, quiet_s: float) -> list[RowMapping]:
    """Find studies that are whole: no open association holds them, and they are quiet, or the stated count is there.

    A next version waits until the one before has taken its slices.
    """
    earlier = study.alias()
    before = exists().where(
        earlier.c.id == study.c.id, earlier.c.version < study.c.version,
        earlier.c.state.in_((StudyState.RECEIVING, StudyState.COMPLETE)),
    )  # fmt: skip
    is_quiet = or_(study.c.last_seen <= now - quiet_s, study.c.last_seen > now + _CLOCK_BACK_S)
    is_free = or_(study.c.held_until <= now, study.c.held_until > now + _CLOCK_BACK_S)
    has_all = and_(study.c.expected.is_not(None), study.c.instances >= study.c.expected)
    whole = and_(study.c.state == StudyState.RECEIVING, study.c.instances > 0, ~before, is_free, or_(is_quiet, has_all))
    return list(connection.execute(select(study).where(whole).order_by(study.c.first_seen)).mappings())


def list_receiving(connection: Connection, senders: list[str]) -> list[RowMapping]:
    """Versions that are still being received from these senders, and of which something is there."""
    receiving = and_(study.c.state == StudyState.RECEIVING, study.c.instances > 0, study.c.sender_ae.in_(senders))
    return list(connection.execute(select(study).where(receiving)).mappings())


def find(connection: Connection, number: str, version: int | None = None) -> RowMapping | None:
    """A version of a study; None: the newest. None is returned where there is none."""
    if version is None:
        return find_newest(connection, study.c.id == number)
    same = and_(study.c.id == number, study.c.version == version)
    return connection.execute(select(study).where(same)).mappings().first()


def find_shown(connection: Connection, number: str) -> RowMapping | None:
    """The newest version of a study that has an outcome, else the newest: as the worklist chooses."""
    is_open = study.c.state.in_((StudyState.RECEIVING, StudyState.COMPLETE))
    shown = select(study).where(study.c.id == number).order_by(is_open, study.c.version.desc()).limit(1)
    return connection.execute(shown).mappings().first()


def find_newest(connection: Connection, condition: Any) -> RowMapping | None:
    """The newest version of the study that fulfils a condition on the table `study`."""
    newest = select(study).where(condition).order_by(study.c.version.desc()).limit(1)
    return connection.execute(newest).mappings().first()


def move(
    connection: Connection, now: float, number: str, version: int, state: StudyState, reason: str = "", **values: Any
) -> None:
    """Move a version to another state, tell its history, and change other columns with it.

    An outcome of a later version supersedes the earlier ones.

    Raises:
        MoveError: the state does not follow on the one before.
    """
    before = connection.execute(
        select(study.c.state).where(study.c.id == number, study.c.version == version).with_for_update()
    ).scalar_one()
    check_move(number, before, state)
    changed = {"state": state, "state_since": now, "waiting": "", **values}
    change(connection, number, version, **changed)
    add_event(connection, now, number, version, state, reason)
    if state in FINISHED:
        rows = connection.execute(
            select(study.c.version, study.c.state).where(study.c.id == number, study.c.version < version)
        ).all()
        for earlier, was in rows:
            if was not in (StudyState.SUPERSEDED, StudyState.GONE):
                said = f"version {version} has a result"
                move(connection, now, number, earlier, StudyState.SUPERSEDED, said)


def put_off(database: Database, job: Job, reason: str) -> None:
    """Let a job wait and say for what, beside the state of its version; its history is told where that is new.

    Raises:
        LostLeaseError: the job is no longer ours.
    """
    with database.write() as connection:
        now = database.now(connection)
        queue.put_off(connection, job, reason, now)
        row = find(connection, job.study, job.version)
        if row is not None and row["waiting"] != reason:
            change(connection, job.study, job.version, waiting=reason)
            add_event(connection, now, job.study, job.version, "waiting", reason)
    logger.warning("study %s v%d waits: %s", job.study, job.version, reason)


def change(connection: Connection, number: str, version: int, **values: Any) -> None:
    """Change columns of a version that are not its state."""
    connection.execute(update(study).where(study.c.id == number, study.c.version == version).values(**values))


def let_superseded_age(connection: Connection, number: str, delete_after: float | None) -> None:
    """Let superseded versions be deleted with their successor that never were delivered or refused themselves."""
    old = and_(study.c.id == number, study.c.state == StudyState.SUPERSEDED, study.c.delete_after.is_(None))
    connection.execute(update(study).where(old).values(delete_after=delete_after))


def forget(connection: Connection, number: str, version: int) -> None:
    """Take back a next version that turned out to hold nothing new."""
    connection.execute(delete(job).where(job.c.study == number, job.c.version == version))  # of fetching it
    connection.execute(delete(study).where(study.c.id == number, study.c.version == version))
    connection.execute(delete(event).where(event.c.study == number, event.c.version == version))


def make_again(connection: Connection, now: float, number: str, reason: str) -> int:
    """Make a next version of a study with the same slices, to be segmented once more; return its number.

    The caller enqueues its job.

    Raises:
        KeyError: there is no such study.
        MoveError: a version of it is under way, or its images are deleted.
    """
    newest = find(connection, number)
    if newest is None:
        raise KeyError(number)
    check_move(number, newest["state"], StudyState.SUPERSEDED)
    kept = ("id", "uid", "key", "first_seen", "last_seen", "instances", "sender_ae", "description", "study_at")
    values = {name: newest[name] for name in kept} | {"version": newest["version"] + 1, "cause": "asked again"}
    connection.execute(insert(study).values(**values, state=StudyState.COMPLETE, state_since=now))
    add_event(connection, now, number, newest["version"] + 1, StudyState.COMPLETE, reason)
    return int(newest["version"]) + 1


def add_event(connection: Connection, now: float, number: str, version: int, state: str, reason: str) -> None:
    """Add to the history of a study."""
    row = {"study": number, "version": version, "at": now, "state": state, "reason": reason}
    connection.execute(insert(event).values(**row))


def list_history(connection: Connection, number: str) -> list[RowMapping]:
    """Every state of a study with its moment and reason, the first one first."""
    rows = select(event).where(event.c.study == number).order_by(event.c.id)
    return list(connection.execute(rows).mappings())


_other = study.alias()
_read_at = (
    select(func.max(reading.c.at)).where(reading.c.study == study.c.id, reading.c.version == study.c.version)
    .scalar_subquery().label("read_at")
)  # fmt: skip
_rank = case(
    (study.c.verdict == "bleed marked", 0),
    (or_(study.c.verdict == "no verdict", study.c.state.in_((StudyState.REFUSED, StudyState.FAILED))), 1),
    (study.c.verdict.is_(None), 2),
    else_=3,
).label("group_rank")


def _has_version(compared: Any) -> Any:
    """Whether a study has another version that still counts."""
    counts = _other.c.state.not_in((StudyState.SUPERSEDED, StudyState.GONE))
    return exists().where(_other.c.id == study.c.id, compared, counts)


def _choose_listed(state: str | None, senders: Collection[str]) -> Any:
    """What the worklist shows of each study, in this state and of these senders where they are given."""
    chosen = and_(study.c.state != StudyState.SUPERSEDED, ~_has_version(_other.c.version < study.c.version))
    if state is not None:
        chosen = and_(chosen, study.c.state == state)
    return and_(chosen, study.c.sender_ae.in_(senders)) if senders else chosen


def list_worklist(
    connection: Connection, *, order: str = "worklist", state: str | None = None, senders: Collection[str] = (),
    number: str | None = None, uid: str | None = None, limit: int = 5000,
) -> list[RowMapping]:  # fmt: skip
    """List the studies, one row each: the newest version that has an outcome, else the newest.

    Args:
        order: 'worklist' (unread first; of these: bleed marked, by probability; needs a person: no verdict, refused,
            failed; not yet looked at; no bleed marked; then arrival) or 'arrival'.
        state: only studies in this state; None: all.
        senders: only studies of these AE titles; none: all.
        number, uid: only this study, by its identifier or its Study Instance UID; None: all.
        limit: most rows.

    Returns:
        Rows with the columns of `study`; `group_rank` 0 to 3 as above; `arriving`, whether a later version is under
        way; `read_at`, the last reading of this version, or None; and name, patient_id, birth_date, sex, accession.
    """
    later = _has_version(_other.c.version > study.c.version)
    who = [one for one in identity.c if one.name != "study"]
    query = (
        select(study, _rank, later.label("arriving"), _read_at, *who)
        .select_from(study.outerjoin(identity, identity.c.study == study.c.id))
        .where(_choose_listed(state, senders))
    )
    if number is not None:
        query = query.where(study.c.id == number)
    if uid is not None:
        query = query.where(study.c.uid == uid)
    arrival = study.c.first_seen.desc()
    if order == "worklist":
        by_score = case((_rank == 0, func.coalesce(study.c.score, literal(0.0))), else_=literal(0.0)).desc()
        query = query.order_by(_read_at.is_not(None), _rank, by_score, arrival)
    else:
        query = query.order_by(arrival)
    return list(connection.execute(query.limit(limit)).mappings())


@dataclass(frozen=True)
class Counts:
    """How many studies a worklist has, however many rows of it are shown."""

    groups: tuple[int, ...]  # of each `group_rank`, 0 to 3
    unread: int  # without a reading of their version
    oldest_unread: float | None  # when the first of these arrived; None: there is none


def count_worklist(connection: Connection, *, state: str | None = None, senders: Collection[str] = ()) -> Counts:
    """Count the studies that `list_worklist` would list without a limit."""
    listed = select(_rank, _read_at, study.c.first_seen).where(_choose_listed(state, senders)).subquery()
    unread = listed.c.read_at.is_(None)
    rows = connection.execute(
        select(listed.c.group_rank, unread, func.count(), func.min(listed.c.first_seen))
        .group_by(listed.c.group_rank, unread)
    ).all()  # fmt: skip
    groups = tuple(sum(count for rank, _, count, _ in rows if rank == one) for one in range(4))
    open_ones = [(count, first) for _, is_unread, count, first in rows if is_unread]
    return Counts(groups, sum(count for count, _ in open_ones), min((one for _, one in open_ones), default=None))


def list_expired(connection: Connection, now: float) -> list[RowMapping]:
    """Versions whose images are to be deleted by their age; none that still is to be sent."""
    is_open = job.c.state.in_((JobState.READY, JobState.WAITING))
    to_send = exists().where(job.c.study == study.c.id, job.c.version == study.c.version, is_open)
    old = and_(study.c.delete_after <= now, study.c.state != StudyState.GONE, ~to_send)
    return list(connection.execute(select(study).where(old).order_by(study.c.delete_after)).mappings())


def count_states(connection: Connection) -> dict[str, int]:
    """Count the versions in each state."""
    rows = connection.execute(select(study.c.state, func.count()).group_by(study.c.state))
    return {state: count for state, count in rows}  # noqa: C416 - rows are no pairs for mypy
