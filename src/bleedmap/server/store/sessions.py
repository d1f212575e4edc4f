"""Logins: random tokens, of which only the SHA-256 is stored; they end by themselves."""

import hashlib
import secrets

from sqlalchemy import Connection, RowMapping, delete, insert, or_, select, update

from bleedmap.server.store.tables import session, user

IDLE_S, LONGEST_S = 30 * 60.0, 12 * 3600.0  # OWASP ASVS 3.3: ends when idle, and in any case
_SEEN_EVERY_S = 60.0  # the moment of the last request is written no more often


def begin(connection: Connection, now: float, user_id: str, address: str) -> str:
    """Begin a session; return its token, which nobody else ever sees. Sessions that have ended are deleted."""
    ended = or_(session.c.created_at < now - LONGEST_S, session.c.seen_at < now - IDLE_S)
    connection.execute(delete(session).where(ended))
    token = secrets.token_urlsafe(32)
    values = {"token_sha256": _hash(token), "user": user_id, "created_at": now, "seen_at": now, "address": address}
    connection.execute(insert(session).values(**values))
    return token


def find(connection: Connection, now: float, token: str) -> RowMapping | None:
    """Find who a token belongs to: the columns of `user`, and `seen_at`; None where the session has ended."""
    query = (
        select(user, session.c.seen_at)
        .join(session, session.c.user == user.c.id)
        .where(
            session.c.token_sha256 == _hash(token), user.c.disabled_at.is_(None),
            session.c.created_at > now - LONGEST_S, session.c.seen_at > now - IDLE_S,
        )
    )  # fmt: skip
    return connection.execute(query).mappings().first()


def is_stale(seen_at: float, now: float) -> bool:
    """Whether the moment of the last request is to be written anew."""
    return now - seen_at > _SEEN_EVERY_S


def touch(connection: Connection, now: float, token: str) -> None:
    """Write down that the session is used."""
    connection.execute(update(session).where(session.c.token_sha256 == _hash(token)).values(seen_at=now))


def end(connection: Connection, token: str) -> None:
    """End a session."""
    connection.execute(delete(session).where(session.c.token_sha256 == _hash(token)))


def end_all(connection: Connection, user_id: str) -> None:
    """End all sessions of a user."""
    connection.execute(delete(session).where(session.c.user == user_id))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
