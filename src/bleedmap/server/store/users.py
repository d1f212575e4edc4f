"""People who log in: a name, a role, from which senders they see studies; and their sessions.

A session is a random token, of which only the SHA-256 is stored; it ends by itself.
"""

import hashlib
import secrets
import unicodedata
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, or_, select, update

from bleedmap.errors import SettingsError
from bleedmap.server.place import new_id
from bleedmap.server.store.tables import session, user

ROLES = ("reader", "admin")
LONGEST_NAME = 64
IDLE_S, LONGEST_S = 30 * 60.0, 12 * 3600.0  # OWASP ASVS 3.3: a session ends when idle, and in any case
SEEN_EVERY_S = 60.0  # the moment of a session's last request is written no more often


def add_user(
    connection: Connection, now: float, name: str, role: str, *, password: str = "", subject: str = "",
    senders: str = "",
) -> str:  # fmt: skip
    """Add a user; return the identifier.

    Args:
        name: unique, whatever its case.
        role: reader or admin.
        password: argon2's encoded hash; '' for those who log in by OpenID Connect.
        subject: issuer and subject of OpenID Connect.
        senders: AE titles whose studies are seen, with commas between; '' all.

    Raises:
        SettingsError: a name that is taken or cannot be one, or a role that is none.
    """
    name = name.strip()
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable() or role not in ROLES:
        raise SettingsError(
            "user", found="a name or a role that cannot be one", needed=f"1 to {LONGEST_NAME} characters; {ROLES}",
            remedy="give another name",
        )  # fmt: skip
    if find_by_name(connection, name) is not None:
        raise SettingsError("user", found="the name is taken", needed="a name of its own", remedy="give another name")
    number = new_id()
    values = {"id": number, "name": name, "role": role, "password": password, "subject": subject}
    connection.execute(insert(user).values(**values, senders=split_senders(senders), created_at=now))
    return number


def split_senders(senders: str) -> str:
    """' CT1,CT2 ' -> 'CT1,CT2'."""
    return ",".join(one.strip() for one in senders.split(",") if one.strip())


def find_by_name(connection: Connection, name: str) -> RowMapping | None:
    """Find a user by name, whatever its case; compared here, for SQLite knows the case of ASCII letters alone."""
    rows = connection.execute(select(user)).mappings()
    return next((row for row in rows if fold_name(row["name"]) == fold_name(name)), None)


def fold_name(name: str) -> str:
    """A name without what does not tell two users apart: case, blanks around it, and how an accent is written."""
    return unicodedata.normalize("NFC", name.strip().lower())


def find_by_subject(connection: Connection, subject: str) -> RowMapping | None:
    """Find a user of OpenID Connect."""
    return connection.execute(select(user).where(user.c.subject == subject)).mappings().first()


def list_users(connection: Connection) -> list[RowMapping]:
    """List all users with `last_seen`, the last moment of a session that is still kept, by name."""
    seen = select(func.max(session.c.seen_at)).where(session.c.user == user.c.id).scalar_subquery().label("last_seen")
    return list(connection.execute(select(user, seen).order_by(func.lower(user.c.name))).mappings())


def count_users(connection: Connection) -> int:
    """Count the users, disabled ones too."""
    return int(connection.execute(select(func.count()).select_from(user)).scalar_one())


def set_role(connection: Connection, number: str, role: str) -> None:
    """Give a user of OpenID Connect the role that the provider's groups say now; earlier sessions end."""
    connection.execute(update(user).where(user.c.id == number).values(role=role))
    end_sessions(connection, number)


def change_user(connection: Connection, number: str, **values: Any) -> None:
    """Change columns of a user; sessions end where role, password, senders or admission change.

    Raises:
        SettingsError: no administrator would be left.
    """
    connection.execute(update(user).where(user.c.id == number).values(**values))
    admins = select(func.count()).where(user.c.role == "admin", user.c.disabled_at.is_(None))
    if not connection.execute(admins).scalar_one():
        raise SettingsError(
            "user", found="the last administrator", needed="at least one who is not disabled",
            remedy="make another user an administrator first",
        )  # fmt: skip
    end_sessions(connection, number)


def begin_session(connection: Connection, now: float, user_id: str, address: str) -> str:
    """Begin a session; return its token, which nobody else ever sees. Sessions that have ended are deleted."""
    ended = or_(session.c.created_at < now - LONGEST_S, session.c.seen_at < now - IDLE_S)
    connection.execute(delete(session).where(ended))
    token = secrets.token_urlsafe(32)
    values = {"token_sha256": _hash(token), "user": user_id, "created_at": now, "seen_at": now, "address": address}
    connection.execute(insert(session).values(**values))
    return token


def find_session(connection: Connection, now: float, token: str) -> RowMapping | None:
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


def touch_session(connection: Connection, now: float, token: str) -> None:
    """Write down that the session is used."""
    connection.execute(update(session).where(session.c.token_sha256 == _hash(token)).values(seen_at=now))


def end_session(connection: Connection, token: str) -> None:
    """End a session."""
    connection.execute(delete(session).where(session.c.token_sha256 == _hash(token)))


def end_sessions(connection: Connection, user_id: str) -> None:
    """End all sessions of a user."""
    connection.execute(delete(session).where(session.c.user == user_id))


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
