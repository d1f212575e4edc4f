"""The audit: who did what, in rows that each hold the hash of the row before."""

import hashlib
import json
from typing import Any

from sqlalchemy import Connection, insert, select, text

from bleedmap.server.store.tables import audit

_LOCK = 0x617564  # of PostgreSQL: one row after the other


def record(
    connection: Connection, now: float, actor: str, action: str, *, study: str = "", outcome: str = "ok",
    address: str = "", **detail: Any,
) -> None:  # fmt: skip
    """Add a row, in the transaction of what it tells; `detail` holds no name, number or UID of a patient."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    last = connection.execute(select(audit.c.id, audit.c.hash).order_by(audit.c.id.desc()).limit(1)).first()
    row = {
        "id": 1 if last is None else last.id + 1, "at": now, "actor": actor, "address": address, "action": action,
        "outcome": outcome, "study": study, "detail": json.dumps(detail, sort_keys=True),
        "before": "" if last is None else last.hash,
    }  # fmt: skip
    connection.execute(insert(audit).values(**row, hash=_hash(row)))


def find_break(connection: Connection) -> int | None:
    """Find the first row that does not follow on the one before, or was changed; None: the chain is whole."""
    before = ""
    for number, row in enumerate(connection.execute(select(audit).order_by(audit.c.id)).mappings(), 1):
        held = {key: value for key, value in row.items() if key != "hash"}
        if row["id"] != number or row["before"] != before or row["hash"] != _hash(held):
            return number
        before = row["hash"]
    return None


def _hash(row: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()
