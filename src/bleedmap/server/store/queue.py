"""The queue of jobs, in the database itself, so that a job and what it changed are one transaction.

A job is claimed with a lease, which its process renews; whoever dies loses it. `finish` is refused where the lease is
no longer ours: what was done meanwhile is done again by its new holder, and every step may be done twice.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from bleedmap.server.config import BACKOFF_S, LEASE_S, LONGEST_BACKOFF_S
from bleedmap.server.store.engine import Database
from bleedmap.server.store.tables import JobState, Step
from bleedmap.server.store.tables import job as jobs
from bleedmap.server.store.tables import study as versions

_CLOCK_BACK_S = 2 * LONGEST_BACKOFF_S  # a moment so far ahead was written before the clock was set back


class LostLeaseError(Exception):
    """The job belongs to another process by now: what was done is not recorded."""


@dataclass(frozen=True)
class Job:
    """A claimed job: the row, as it was claimed."""

    id: int
    study: str
    version: int
    step: Step
    target: str
    attempt: int
    errors: int
    lease: str


def enqueue(
    connection: Connection, study: str, version: int, step: Step, target: str = "", *, due: float = 0.0
) -> None:
    """Add a job, due now or later; one that is there is made due again, whatever became of it, unless it is held."""
    same = and_(jobs.c.study == study, jobs.c.version == version, jobs.c.step == step, jobs.c.target == target)
    row = connection.execute(select(jobs.c.id, jobs.c.lease).where(same)).first()
    if row is None:
        values = {"study": study, "version": version, "step": step, "target": target}
        connection.execute(insert(jobs).values(**values, state=JobState.READY, due=due))
    elif not row.lease:
        connection.execute(
            update(jobs).where(jobs.c.id == row.id).values(state=JobState.READY, due=due, attempt=0, errors=0, error="")
        )


def claim(database: Database, steps: tuple[Step, ...], holder: str, lease_s: float = LEASE_S) -> Job | None:
    """Take the job that is longest due; None where there is none.

    Two processes never get the same job: PostgreSQL skips rows that another is claiming, SQLite lets one writer in.
    """
    with database.write() as connection:
        now = database.now(connection)
        is_due = or_(jobs.c.due <= now, jobs.c.due > now + _CLOCK_BACK_S)
        is_free = or_(jobs.c.lease == "", jobs.c.leased_until <= now, jobs.c.leased_until > now + _CLOCK_BACK_S)
        row = connection.execute(
            select(jobs)
            .where(jobs.c.step.in_(steps), jobs.c.state.in_((JobState.READY, JobState.WAITING)), is_due, is_free)
            .order_by(jobs.c.due, jobs.c.id).limit(1).with_for_update(skip_locked=True)
        ).first()  # fmt: skip
        if row is None:
            return None
        lease = f"{holder}#{random.getrandbits(64):016x}"
        taken = {"lease": lease, "leased_until": now + lease_s, "attempt": row.attempt + 1}
        connection.execute(update(jobs).where(jobs.c.id == row.id).values(**taken))
    return Job(row.id, row.study, row.version, Step(row.step), row.target, row.attempt + 1, row.errors, lease)


def release_dead(database: Database, host: str, is_alive: Callable[[int], bool]) -> int:
    """Free the jobs of this machine's processes that are dead, before their leases run out; return their number.

    Args:
        host: of this machine, as it stands in the holders' names: kind:host:pid.
        is_alive: whether a process of this machine lives.
    """
    freed = 0
    with database.write() as connection:
        for row in connection.execute(select(jobs.c.id, jobs.c.lease).where(jobs.c.lease != "")).all():
            kind, _, rest = row.lease.partition("#")[0].partition(":")
            home, _, pid = rest.rpartition(":")
            if kind and home == host and pid.isdigit() and not is_alive(int(pid)):
                same = and_(jobs.c.id == row.id, jobs.c.lease == row.lease)
                freed += connection.execute(update(jobs).where(same).values(lease="", leased_until=0.0)).rowcount
    return freed


def renew(database: Database, job: Job, lease_s: float = LEASE_S) -> bool:
    """Hold a job longer; False where it belongs to another by now."""
    with database.write() as connection:
        until = database.now(connection) + lease_s
        done = connection.execute(_ours(job).values(leased_until=until))
        return done.rowcount == 1


def is_held(connection: Connection, job: Job) -> bool:
    """Whether a job is still ours: to be asked before an act that others see."""
    same = select(jobs.c.id).where(jobs.c.id == job.id, jobs.c.lease == job.lease)
    return connection.execute(same.with_for_update()).first() is not None


def finish(connection: Connection, job: Job) -> None:
    """End a job well, in the transaction that records what it did.

    Raises:
        LostLeaseError: it is no longer ours; the transaction must not be committed.
    """
    _end(connection, job, state=JobState.DONE, error="")


def put_off(connection: Connection, job: Job, reason: str, now: float, *, is_error: bool = True) -> float:
    """Let a job wait, longer each time; return when it is tried again.

    Args:
        reason: for what it waits, in words without identifiers.
        is_error: count it among the job's errors.

    Raises:
        LostLeaseError: it is no longer ours.
    """
    wait_s = min(BACKOFF_S * 2.0 ** min(job.attempt - 1, 20), LONGEST_BACKOFF_S) * random.uniform(0.8, 1.2)
    _end(connection, job, state=JobState.WAITING, error=reason, due=now + wait_s, errors=job.errors + is_error)
    return now + wait_s


def wake(connection: Connection, step: Step, target: str, reason: str) -> None:
    """Let all jobs be due that wait for a target with this reason, since it answers again."""
    waiting = and_(jobs.c.step == step, jobs.c.target == target, jobs.c.state == JobState.WAITING, jobs.c.lease == "")
    connection.execute(update(jobs).where(waiting, jobs.c.error.endswith(reason)).values(due=0.0))


def give_up(connection: Connection, job: Job, reason: str) -> None:
    """End a job that has failed for good.

    Raises:
        LostLeaseError: it is no longer ours.
    """
    _end(connection, job, state=JobState.FAILED, error=reason, errors=job.errors + 1)


def count_jobs(connection: Connection) -> dict[tuple[str, str], int]:
    """Count the jobs that are not done, by step and state."""
    rows = connection.execute(
        select(jobs.c.step, jobs.c.state, func.count()).where(jobs.c.state != JobState.DONE).group_by(
            jobs.c.step, jobs.c.state
        )
    )  # fmt: skip
    return {(step, state): count for step, state, count in rows}


def find_oldest_open(connection: Connection) -> float | None:
    """Since when the version whose job is open longest is in its state; None where no job is."""
    same = and_(versions.c.id == jobs.c.study, versions.c.version == jobs.c.version)
    is_open = jobs.c.state.in_((JobState.READY, JobState.WAITING))
    query = select(func.min(versions.c.state_since)).select_from(jobs.join(versions, same)).where(is_open)
    return connection.execute(query).scalar_one_or_none()


def _ours(job: Job) -> Any:
    return update(jobs).where(jobs.c.id == job.id, jobs.c.lease == job.lease)


def _end(connection: Connection, job: Job, **values: object) -> None:
    if connection.execute(_ours(job).values(lease="", leased_until=0.0, **values)).rowcount != 1:
        raise LostLeaseError(f"job {job.id}")
