"""From a URL to a database: SQLite in a folder, or PostgreSQL for several hosts. The same code runs on both."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from sqlalchemy import Connection, Engine, create_engine, event, insert, inspect, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, NoSuchModuleError, OperationalError

from bleedmap import __version__
from bleedmap.errors import DataError, MissingExtraError, ResourceError, SettingsError
from bleedmap.server.config import Settings
from bleedmap.server.place import give_to_owner
from bleedmap.server.store.tables import metadata, schema

_BUSY_S = 30  # how long a writer waits for the one before it
_FILE = "server.db"
_BAD_URL = (
    "server.database", "another kind of database, or no URL", "sqlite, or postgresql+psycopg://user@host/name",
    "mend [server] database in the settings",
)  # fmt: skip
_NO_LOG = b"\1\1"  # versions to write and read, https://www.sqlite.org/fileformat.html: 2 and 2 with a log
_LOCK = 0x626C65  # of PostgreSQL, so that two servers that start at once do not both make the tables
_SHAPE = 1  # of `tables`: a change there needs the next number here, and what brings earlier databases to it
_GONE = ("database is locked", "disk i/o error", "database or disk is full", "unable to open database")


class Database:
    """A database, and how transactions are made in it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dialect = engine.dialect.name

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that may write; SQLite lets one in at a time, from its beginning."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads: nobody waits for it."""
        with self.engine.connect().execution_options(bleedmap_reads=True) as connection, connection.begin():
            yield connection

    def now(self, connection: Connection) -> float:
        """The moment, by the clock that all processes share: PostgreSQL's own, or this machine's."""
        if self.dialect == "postgresql":
            return float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
        return time.time()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_database(settings: Settings) -> Database:
    """Open the database that the settings name; nothing is connected yet.

    Raises:
        SettingsError: a URL of another kind.
        MissingExtraError: of PostgreSQL, whose driver is not installed.
    """
    url = settings.server.database
    if url == "sqlite":
        return _open_sqlite(settings.data / _FILE)
    try:
        engine = create_engine(
            url, pool_pre_ping=True, pool_size=5, max_overflow=10, pool_timeout=_BUSY_S, hide_parameters=True
        )
    except ModuleNotFoundError as error:
        raise MissingExtraError("PostgreSQL", "postgres", error.name or "psycopg") from error
    except (ArgumentError, NoSuchModuleError) as error:
        raise SettingsError(*_BAD_URL) from error
    if engine.dialect.name != "postgresql":
        raise SettingsError(*_BAD_URL)
    return Database(engine)


@contextmanager
def prepared_database(settings: Settings) -> Iterator[Database]:
    """Yield the database that the settings name, with its tables; it is closed at the end.

    Raises:
        SettingsError, MissingExtraError, DataError: as `open_database` and `prepare`.
        ResourceError: it cannot be reached.
    """
    database = open_database(settings)
    try:
        prepare(database)
        yield database
    except DBAPIError as error:
        if is_away(error):
            raise explain_away(error) from error
        raise
    finally:
        database.close()


def _open_sqlite(path: Path) -> Database:
    _drop_strange_log(path)
    engine = create_engine(
        f"sqlite:///{path}", hide_parameters=True, connect_args={"timeout": _BUSY_S, "check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        path.touch()
        give_to_owner(path)  # what SQLite makes beside it follows it
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("bleedmap_reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return Database(engine)


def _drop_strange_log(path: Path) -> None:
    """Drop the log of an earlier database beside a backup that was put in its place: SQLite would play it on that.

    A database in use is in WAL mode by its header, a backup of ours is not.
    """
    log = path.with_name(f"{path.name}-wal")

    def is_strange() -> bool:  # the log first: one that is ours is there only once the header says so
        if not log.exists() or not path.exists():
            return False
        with path.open("rb") as file:
            return file.read(20)[18:] == _NO_LOG

    if is_strange():
        with FileLock(path.with_name("restore.lock")):
            if is_strange():
                log.unlink()
                path.with_name(f"{path.name}-shm").unlink(missing_ok=True)


def is_away(error: BaseException) -> bool:
    """Whether an error means that the database cannot be reached now, so that trying again makes sense."""
    return isinstance(error, OperationalError | InterfaceError) or (
        isinstance(error, DBAPIError) and (error.connection_invalidated or any(one in str(error) for one in _GONE))
    )


def explain_away(error: BaseException) -> ResourceError:
    """The error to show where the database cannot be reached; no statement or value of it is told."""
    said = str(getattr(error, "orig", error)).strip().split("\n")[0]
    return ResourceError(
        "database", found=f"cannot be reached: {said}", needed="the database of the settings, running",
        remedy="start it, or mend [server] database; nothing received is lost meanwhile",
    )  # fmt: skip


def prepare(database: Database) -> int:
    """Make the tables where they are not there yet, all or none; return the number of their shape.

    Raises:
        DataError: the database was made by a newer version of the program.
    """
    with database.write() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        if not inspect(connection).has_table("schema"):
            metadata.create_all(connection)
            now = database.now(connection)
            connection.execute(insert(schema).values(step=_SHAPE, at=now, program=__version__))
        last = connection.execute(select(schema).order_by(schema.c.step.desc()).limit(1)).one()
        if last.step > _SHAPE:
            raise DataError(
                "database", found=f"made by bleedmap {last.program}: its shape is step {last.step}",
                needed=f"step {_SHAPE} or earlier, which bleedmap {__version__} knows",
                remedy="install the newer version again, or restore the backup from before it",
            )  # fmt: skip
    return _SHAPE
