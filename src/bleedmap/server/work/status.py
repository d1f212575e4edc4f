"""How a server is: its processes, studies, jobs and disk, in figures without anything of a patient."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from bleedmap.server.config import Settings
from bleedmap.server.limits import BEAT_OLD_S, GB, free_bytes
from bleedmap.server.states import JobState
from bleedmap.server.store import queue, studies
from bleedmap.server.store.engine import Database, explain_away, is_away
from bleedmap.server.store.schema import prepare
from bleedmap.server.store.tables import job, passed_over, process


def read_status(settings: Settings, open_database: Callable[[Settings], Database]) -> dict[str, Any]:
    """Read the figures, as JSON can hold them.

    Raises:
        ResourceError: the database cannot be reached.
        DataError: it was made by a newer version of the program.
    """
    database = open_database(settings)
    try:
        prepare(database)
        with database.read() as connection:
            now = database.now(connection)
            living = select(process.c.kind, func.count()).where(process.c.beat_at > now - BEAT_OLD_S)
            waiting = select(job.c.error, func.count()).where(job.c.state == JobState.WAITING, job.c.error != "")
            oldest = queue.find_oldest_due(connection)
            total = func.sum(passed_over.c.count).label("count")
            passed = select(passed_over.c.sender_ae, passed_over.c.reason, total)
            return {
                "processes": {one.kind: one[1] for one in connection.execute(living.group_by(process.c.kind))},
                "studies": studies.count_states(connection),
                "jobs": [
                    {"step": step, "state": state, "count": n}
                    for (step, state), n in sorted(queue.count_jobs(connection).items())
                ],
                "waiting": [
                    {"reason": reason, "count": n} for reason, n in connection.execute(waiting.group_by(job.c.error))
                ],
                "passed_over": [
                    {"sender_ae": one.sender_ae, "reason": one.reason, "count": one.count}
                    for one in connection.execute(passed.group_by(passed_over.c.sender_ae, passed_over.c.reason))
                ],
                "oldest_waiting_s": None if oldest is None else max(0.0, now - oldest),
                "free_gb": round(free_bytes(settings.data) / GB, 2),
            }  # fmt: skip
    except DBAPIError as error:
        if is_away(error):
            raise explain_away(error) from error
        raise
    finally:
        database.close()
