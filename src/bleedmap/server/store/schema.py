"""The database's shape, made by numbered steps that are never changed; a newer database is refused.

`tables` says what the steps make, and a test compares the two.
"""

from sqlalchemy import insert, inspect, select, text

from bleedmap import __version__
from bleedmap.errors import DataError
from bleedmap.server.store import tables
from bleedmap.server.store.engine import Database

_STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE study (
            id TEXT NOT NULL, version INTEGER NOT NULL, uid TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL,
            state_since DOUBLE PRECISION NOT NULL, waiting TEXT NOT NULL DEFAULT '',
            cause TEXT NOT NULL DEFAULT 'arrived', first_seen DOUBLE PRECISION NOT NULL,
            last_seen DOUBLE PRECISION NOT NULL, held_until DOUBLE PRECISION NOT NULL DEFAULT 0,
            instances INTEGER NOT NULL DEFAULT 0, expected INTEGER, sender_ae TEXT NOT NULL DEFAULT '',
            description TEXT NOT NULL DEFAULT '', study_at TEXT NOT NULL DEFAULT '', verdict TEXT,
            score DOUBLE PRECISION, volume_ml DOUBLE PRECISION, lesions INTEGER, headline TEXT NOT NULL DEFAULT '',
            made_at DOUBLE PRECISION, weights TEXT, error TEXT NOT NULL DEFAULT '', delete_after DOUBLE PRECISION,
            PRIMARY KEY (id, version), CONSTRAINT study_key UNIQUE (key, version))""",
        "CREATE INDEX study_state ON study (state, last_seen)",
        "CREATE INDEX study_uid ON study (uid)",
        """CREATE TABLE identity (
            study TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL DEFAULT '', patient_id TEXT NOT NULL DEFAULT '',
            birth_date TEXT NOT NULL DEFAULT '', sex TEXT NOT NULL DEFAULT '', accession TEXT NOT NULL DEFAULT '')""",
        """CREATE TABLE job (
            id {serial}, study TEXT NOT NULL, version INTEGER NOT NULL, step TEXT NOT NULL,
            target TEXT NOT NULL DEFAULT '', state TEXT NOT NULL, due DOUBLE PRECISION NOT NULL,
            attempt INTEGER NOT NULL DEFAULT 0, errors INTEGER NOT NULL DEFAULT 0, lease TEXT NOT NULL DEFAULT '',
            leased_until DOUBLE PRECISION NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '',
            CONSTRAINT job_once UNIQUE (study, version, step, target),
            FOREIGN KEY (study, version) REFERENCES study (id, version))""",
        "CREATE INDEX job_due ON job (state, due)",
        """CREATE TABLE delivery (
            job INTEGER NOT NULL REFERENCES job (id), sop_uid TEXT NOT NULL, sop_class TEXT NOT NULL,
            state TEXT NOT NULL, transaction_uid TEXT NOT NULL DEFAULT '', asked_at DOUBLE PRECISION,
            status TEXT NOT NULL DEFAULT '', PRIMARY KEY (job, sop_uid))""",
        "CREATE INDEX delivery_transaction ON delivery (transaction_uid)",
        """CREATE TABLE "user" (
            id TEXT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, password TEXT NOT NULL DEFAULT '',
            role TEXT NOT NULL, subject TEXT NOT NULL DEFAULT '', senders TEXT NOT NULL DEFAULT '',
            created_at DOUBLE PRECISION NOT NULL, disabled_at DOUBLE PRECISION)""",
        """CREATE TABLE session (
            token_sha256 TEXT NOT NULL PRIMARY KEY, "user" TEXT NOT NULL REFERENCES "user" (id),
            created_at DOUBLE PRECISION NOT NULL, seen_at DOUBLE PRECISION NOT NULL,
            address TEXT NOT NULL DEFAULT '')""",
        """CREATE TABLE reading (
            id {serial}, study TEXT NOT NULL, version INTEGER NOT NULL, "user" TEXT NOT NULL REFERENCES "user" (id),
            at DOUBLE PRECISION NOT NULL, says TEXT NOT NULL, words TEXT NOT NULL DEFAULT '',
            seconds_open DOUBLE PRECISION, slices_seen INTEGER,
            FOREIGN KEY (study, version) REFERENCES study (id, version))""",
        "CREATE INDEX reading_study ON reading (study, version)",
        """CREATE TABLE correction (
            id {serial}, study TEXT NOT NULL, version INTEGER NOT NULL, number INTEGER NOT NULL,
            "user" TEXT NOT NULL REFERENCES "user" (id), at DOUBLE PRECISION NOT NULL, file TEXT NOT NULL,
            sha256 TEXT NOT NULL, base_sha256 TEXT NOT NULL, voxels INTEGER NOT NULL,
            CONSTRAINT correction_number UNIQUE (study, number),
            FOREIGN KEY (study, version) REFERENCES study (id, version))""",
        """CREATE TABLE event (
            id {serial}, study TEXT NOT NULL, version INTEGER NOT NULL, at DOUBLE PRECISION NOT NULL,
            state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '')""",
        "CREATE INDEX event_study ON event (study, id)",
        """CREATE TABLE audit (
            id INTEGER NOT NULL PRIMARY KEY, at DOUBLE PRECISION NOT NULL, actor TEXT NOT NULL,
            address TEXT NOT NULL DEFAULT '', action TEXT NOT NULL, outcome TEXT NOT NULL DEFAULT 'ok',
            study TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '{{}}', before TEXT NOT NULL,
            hash TEXT NOT NULL UNIQUE)""",
        """CREATE TABLE passed_over (
            sender_ae TEXT NOT NULL, sop_class TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL,
            last_at DOUBLE PRECISION NOT NULL, PRIMARY KEY (sender_ae, sop_class, reason))""",
        """CREATE TABLE process (
            id TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL,
            started_at DOUBLE PRECISION NOT NULL, beat_at DOUBLE PRECISION NOT NULL,
            detail TEXT NOT NULL DEFAULT '{{}}')""",
    ),
)
_SERIAL = {
    "sqlite": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
    "postgresql": "INTEGER GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY",
}
_LOCK = 0x626C65  # of PostgreSQL, so that two servers that start at once do not both make the tables
_FIRST = "CREATE TABLE schema (step INTEGER NOT NULL PRIMARY KEY, at DOUBLE PRECISION NOT NULL, program TEXT NOT NULL)"


def prepare(database: Database) -> int:
    """Make the steps that the database lacks, each whole or not at all; return its number of steps.

    Raises:
        DataError: the database was made by a newer version of the program.
    """
    with database.write() as connection:
        if database.dialect == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        if not inspect(connection).has_table("schema"):
            connection.execute(text(_FIRST))
        rows = connection.execute(select(tables.schema.c.step, tables.schema.c.program)).all()
        done = max((row.step for row in rows), default=0)
        if done > len(_STEPS):
            raise DataError(
                "database", found=f"made by bleedmap {rows[-1].program}: its shape is step {done}",
                needed=f"step {len(_STEPS)} or earlier, which bleedmap {__version__} knows",
                remedy="install the newer version again, or restore the backup from before it",
            )  # fmt: skip
        for number, statements in enumerate(_STEPS[done:], done + 1):
            for statement in statements:
                connection.execute(text(statement.format(serial=_SERIAL[database.dialect])))
            now = database.now(connection)
            connection.execute(insert(tables.schema).values(step=number, at=now, program=__version__))
    return len(_STEPS)
