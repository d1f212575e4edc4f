"""People who log in: a name, a role, and from which senders they see studies."""

from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from bleedmap.errors import SettingsError
from bleedmap.server.place import new_id
from bleedmap.server.store import sessions
from bleedmap.server.store.tables import session, user

ROLES = ("reader", "admin")
LONGEST_NAME = 64


def add_user(
    connection: Connection, now: float, name: str, role: str, *, password: str = "", subject: str = "",
    senders: str = "",
) -> str:  # fmt: skip
    """Add a user; return the identifier.

    Args:
        connection: of the transaction.
        now: the moment.
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
    """Find a user by name, whatever its case."""
    return connection.execute(select(user).where(func.lower(user.c.name) == name.strip().lower())).mappings().first()


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
    sessions.end_all(connection, number)


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
    sessions.end_all(connection, number)
