"""What readers say of results, and the outlines that they draw. Rows are only added."""

from collections import defaultdict
from typing import Any

from sqlalchemy import Column, Connection, RowMapping, Table, func, insert, select

from bleedmap.server.store.tables import correction, reading, user
from bleedmap.server.store.tables import study as study_rows


def add_reading(
    connection: Connection, now: float, study: str, version: int, user_id: str, says: str, words: str = "",
    seconds_open: float | None = None, slices_seen: int | None = None,
) -> None:  # fmt: skip
    """Add what a reader says of a version; the newest of a reader counts, the earlier ones stay."""
    values = {"study": study, "version": version, "user": user_id, "at": now, "says": says, "words": words}
    connection.execute(insert(reading).values(**values, seconds_open=seconds_open, slices_seen=slices_seen))


def list_readings(connection: Connection, study: str | None = None) -> list[RowMapping]:
    """All readings of a study, or of all, with `user_name`; the first one first."""
    return _list(connection, reading, study, reading.c.id)


def _list(connection: Connection, table: Table, study: str | None, *order: Column[Any]) -> list[RowMapping]:
    query = select(table, user.c.name.label("user_name")).join(user, user.c.id == table.c.user)
    if study is not None:
        query = query.where(table.c.study == study)
    return list(connection.execute(query.order_by(*order)).mappings())


def list_readers(connection: Connection) -> dict[tuple[str, int], list[str]]:
    """Who has read which version of which study, by name."""
    query = select(reading.c.study, reading.c.version, user.c.name).distinct().join(user, user.c.id == reading.c.user)
    readers: dict[tuple[str, int], list[str]] = defaultdict(list)
    for study, version, name in connection.execute(query.order_by(user.c.name)):
        readers[study, version].append(name)
    return readers


def add_correction(
    connection: Connection, now: float, study: str, version: int, user_id: str, *, file: str, sha256: str,
    base_sha256: str, voxels: int,
) -> int:  # fmt: skip
    """Add a drawn outline, whose file is there; return its number within the study.

    Two readers who save at the same moment wait for each other, so that each number is given once.
    """
    connection.execute(select(study_rows.c.id).where(study_rows.c.id == study).with_for_update())
    last = connection.execute(select(func.max(correction.c.number)).where(correction.c.study == study)).scalar_one()
    number = 1 + (last or 0)
    values = {"study": study, "version": version, "number": number, "user": user_id, "at": now, "file": file}
    connection.execute(insert(correction).values(**values, sha256=sha256, base_sha256=base_sha256, voxels=voxels))
    return int(number)


def list_corrections(connection: Connection, study: str | None = None) -> list[RowMapping]:
    """All corrections of a study, or of all, with `user_name`; the first one first."""
    return _list(connection, correction, study, correction.c.study, correction.c.number)
