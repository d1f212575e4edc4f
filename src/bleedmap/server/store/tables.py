"""The tables of the server and the states in them; `engine.prepare` makes them.

Moments are seconds since 1970, UTC, as floats. Identifiers of studies, users and sessions are random texts. A study
is one row a version: slices that come later make version N+1 beside version N, under the same `id`. `reading`,
`correction`, `event` and `audit` only grow: no row of them is changed or deleted.
"""

from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Column,
    Double,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()


class StudyState(StrEnum):
    """What has become of one version of a study; `study.waiting` says beside it what its next step waits for."""

    RECEIVING = "receiving"  # slices may still come
    COMPLETE = "complete"  # quiet, or the stated count is there; to be segmented
    SEGMENTED = "segmented"  # the result stands; not yet confirmed by all targets
    DELIVERED = "delivered"  # every target has confirmed every object; without targets, as soon as it is segmented
    REFUSED = "refused"  # by an input check: a result with a reason, sent nowhere
    FAILED = "failed"  # the attempts are used up: a person is asked
    SUPERSEDED = "superseded"  # a later version has a result of its own
    GONE = "gone"  # deleted by age; the row stays


class JobState(StrEnum):
    """Where a job stands; a job that is held by a process has a lease besides."""

    READY = "ready"
    WAITING = "waiting"  # tried; its error says for what it waits, its due when it is tried again
    DONE = "done"
    FAILED = "failed"


class Step(StrEnum):
    """What a job does."""

    SEGMENT = "segment"
    DELIVER = "deliver"
    FETCH = "fetch"


_S = StudyState
MOVES: dict[StudyState, frozenset[StudyState]] = {
    _S.RECEIVING: frozenset({_S.COMPLETE, _S.FAILED}),
    _S.COMPLETE: frozenset({_S.SEGMENTED, _S.REFUSED, _S.FAILED, _S.DELIVERED}),
    _S.SEGMENTED: frozenset({_S.DELIVERED, _S.FAILED, _S.SUPERSEDED, _S.GONE}),
    _S.DELIVERED: frozenset({_S.SEGMENTED, _S.SUPERSEDED, _S.GONE}),  # back: a person sends it once more
    _S.REFUSED: frozenset({_S.SUPERSEDED, _S.GONE}),
    _S.FAILED: frozenset({_S.COMPLETE, _S.SEGMENTED, _S.SUPERSEDED, _S.GONE}),  # a person tries again
    _S.SUPERSEDED: frozenset({_S.GONE}),
    _S.GONE: frozenset(),
}
FINISHED = frozenset({_S.SEGMENTED, _S.DELIVERED, _S.REFUSED, _S.FAILED})  # has an outcome to show


def _number() -> Column[Any]:
    """A row's own number, which is never given twice (in SQLite: with `sqlite_autoincrement`)."""
    return Column("id", Integer, Identity(), primary_key=True)


study = Table(
    "study", metadata,
    Column("id", Text, primary_key=True, comment="random; the same for all versions; in URLs and paths"),
    Column("version", Integer, primary_key=True, comment="from 1"),
    Column("uid", Text, nullable=False, comment="Study Instance UID: never in logs, paths or URLs"),
    Column("key", Text, nullable=False, comment="keyed hash of the UID: names its folder in incoming/"),
    Column("state", Text, nullable=False, comment="StudyState"),
    Column("state_since", Double, nullable=False),
    Column("waiting", Text, nullable=False, default="", comment="what its next step waits for, in words; '' nothing"),
    Column("cause", Text, nullable=False, default="arrived", comment="arrived, late slices, asked again, fetched"),
    Column("first_seen", Double, nullable=False, comment="its first slice came"),
    Column("last_seen", Double, nullable=False, comment="its last slice came"),
    Column("held_until", Double, nullable=False, default=0.0, comment="an open association holds it until then"),
    Column("instances", Integer, nullable=False, default=0),
    Column("expected", Integer, nullable=True, comment="instances that its sender says it has; None: not asked"),
    Column("sender_ae", Text, nullable=False, default=""),
    Column("description", Text, nullable=False, default="", comment="of the study: 'CT HEAD W/O'"),
    Column("study_at", Text, nullable=False, default="", comment="when it was scanned: ISO 8601, '' where not stated"),
    Column("verdict", Text, nullable=True, comment="study.words.Verdict; None: not yet looked at, refused or failed"),
    Column("score", Double, nullable=True, comment="probability of a bleed in the study, 0 to 1; orders the worklist"),
    Column("volume_ml", Double, nullable=True, comment="of all lesions"),
    Column("lesions", Integer, nullable=True),
    Column("headline", Text, nullable=False, default="", comment="the result in a sentence"),
    Column("made_at", Double, nullable=True, comment="the moment that its results carry; set before they are made"),
    Column("weights", Text, nullable=True, comment="name and SHA-256 of what made the result"),
    Column("error", Text, nullable=False, default="", comment="why it was refused, has failed, or no target gets it"),
    Column("delete_after", Double, nullable=True, comment="its images are deleted then; None: not decided or never"),
    UniqueConstraint("key", "version", name="study_key"),
    Index("study_state", "state", "last_seen"), Index("study_uid", "uid"),
)  # fmt: skip

# Who the patient is, apart from what is said of the study.
identity = Table(
    "identity", metadata,
    Column("study", Text, primary_key=True, comment="study.id"),
    Column("name", Text, nullable=False, default="", comment="as DICOM has it: FAMILY^GIVEN"),
    Column("patient_id", Text, nullable=False, default=""),
    Column("birth_date", Text, nullable=False, default="", comment="YYYYMMDD"),
    Column("sex", Text, nullable=False, default=""),
    Column("accession", Text, nullable=False, default=""),
)  # fmt: skip

# The queue. A job belongs to the process that holds its lease, and to nobody once `leased_until` is past.
job = Table(
    "job", metadata,
    _number(),
    Column("study", Text, nullable=False), Column("version", Integer, nullable=False),
    Column("step", Text, nullable=False, comment="Step"),
    Column("target", Text, nullable=False, default="", comment="of deliver: the target's name; of fetch: the peer's"),
    Column("state", Text, nullable=False, comment="JobState"),
    Column("due", Double, nullable=False, comment="not before"),
    Column("attempt", Integer, nullable=False, default=0, comment="how often it was claimed"),
    Column("errors", Integer, nullable=False, default=0, comment="how often it ended by an error"),
    Column("lease", Text, nullable=False, default="", comment="who holds it; '' nobody"),
    Column("leased_until", Double, nullable=False, default=0.0),
    Column("error", Text, nullable=False, default="", comment="the last one, or what it waits for"),
    UniqueConstraint("study", "version", "step", "target", name="job_once"),
    ForeignKeyConstraint(["study", "version"], ["study.id", "study.version"]),
    Index("job_due", "state", "due"), sqlite_autoincrement=True,
)  # fmt: skip

# What of a result a target holds: a row for each object of a deliver job.
delivery = Table(
    "delivery", metadata,
    Column("job", Integer, primary_key=True), Column("sop_uid", Text, primary_key=True),
    Column("sop_class", Text, nullable=False),
    Column("state", Text, nullable=False, comment="open, sent, missing, confirmed"),
    Column("transaction_uid", Text, nullable=False, default="", comment="of the storage commitment that asks for it"),
    Column("asked_at", Double, nullable=True, comment="when the target was last asked whether it holds it"),
    Column("status", Text, nullable=False, default="", comment="the target's last answer, as 0x0112 or HTTP 409"),
    ForeignKeyConstraint(["job"], ["job.id"]),
    Index("delivery_transaction", "transaction_uid"),
)  # fmt: skip

# A person who logs in. `password` is argon2id's encoded hash; '' for those who log in by OpenID Connect.
user = Table(
    "user", metadata,
    Column("id", Text, primary_key=True), Column("name", Text, nullable=False, unique=True),
    Column("password", Text, nullable=False, default=""),
    Column("role", Text, nullable=False, comment="reader or admin"),
    Column("subject", Text, nullable=False, default="", comment="issuer and subject of OpenID Connect; '' of our own"),
    Column("senders", Text, nullable=False, default="", comment="AE titles whose studies are seen, by commas; '' all"),
    Column("created_at", Double, nullable=False), Column("disabled_at", Double, nullable=True),
)  # fmt: skip

# A login. Only the SHA-256 of the cookie's token is stored.
session = Table(
    "session", metadata,
    Column("token_sha256", Text, primary_key=True), Column("user", Text, nullable=False),
    Column("created_at", Double, nullable=False), Column("seen_at", Double, nullable=False),
    Column("address", Text, nullable=False, default=""),
    ForeignKeyConstraint(["user"], ["user.id"]),
)  # fmt: skip

# What a reader says of a result. Append-only: the newest of a reader for a version counts.
reading = Table(
    "reading", metadata,
    _number(),
    Column("study", Text, nullable=False), Column("version", Integer, nullable=False),
    Column("user", Text, nullable=False), Column("at", Double, nullable=False),
    Column("says", Text, nullable=False, comment="agree, missed, false alarm, cannot say"),
    Column("words", Text, nullable=False, default=""),
    Column("seconds_open", Double, nullable=True), Column("slices_seen", Integer, nullable=True),
    ForeignKeyConstraint(["study", "version"], ["study.id", "study.version"]),
    ForeignKeyConstraint(["user"], ["user.id"]),
    Index("reading_study", "study", "version"), sqlite_autoincrement=True,
)  # fmt: skip

# An outline that a reader drew. Append-only: `number` counts those of a study. The file lies in corrections/ID/.
correction = Table(
    "correction", metadata,
    _number(),
    Column("study", Text, nullable=False), Column("version", Integer, nullable=False),
    Column("number", Integer, nullable=False, comment="from 1, within the study"),
    Column("user", Text, nullable=False), Column("at", Double, nullable=False),
    Column("file", Text, nullable=False, comment="its name in corrections/ID/"),
    Column("sha256", Text, nullable=False), Column("base_sha256", Text, nullable=False, comment="of what it changes"),
    Column("voxels", Integer, nullable=False, comment="that are marked"),
    UniqueConstraint("study", "number", name="correction_number"),
    ForeignKeyConstraint(["study", "version"], ["study.id", "study.version"]),
    ForeignKeyConstraint(["user"], ["user.id"]),
    sqlite_autoincrement=True,
)  # fmt: skip

# The history of a study: every state with its time and reason. Append-only.
event = Table(
    "event", metadata,
    _number(),
    Column("study", Text, nullable=False), Column("version", Integer, nullable=False),
    Column("at", Double, nullable=False), Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False, default="", comment="in words, without identifiers"),
    Index("event_study", "study", "id"), sqlite_autoincrement=True,
)  # fmt: skip

# Who did what. Append-only: each row holds the hash of the row before, so that a change or a gap is seen.
audit = Table(
    "audit", metadata,
    Column("id", Integer, primary_key=True, comment="from 1, without gaps"),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False, comment="user id, 'ae:CT1', or 'server'"),
    Column("address", Text, nullable=False, default=""),
    Column("action", Text, nullable=False, comment="as 'login', 'login failed', 'study opened', 'study received'"),
    Column("outcome", Text, nullable=False, default="ok", comment="ok, refused, failed"),
    Column("study", Text, nullable=False, default="", comment="study.id, or ''"),
    Column("detail", Text, nullable=False, default="{}", comment="JSON, without names, numbers or UIDs of patients"),
    Column("before", Text, nullable=False, comment="hash of the row before; '' of the first"),
    Column("hash", Text, nullable=False, unique=True, comment="SHA-256 over all columns above"),
)  # fmt: skip

# What was accepted and is not processed, counted: nothing received is dropped silently.
passed_over = Table(
    "passed_over", metadata,
    Column("sender_ae", Text, primary_key=True), Column("sop_class", Text, primary_key=True),
    Column("reason", Text, primary_key=True, comment="not a CT, own result, already held"),
    Column("count", Integer, nullable=False), Column("last_at", Double, nullable=False),
)  # fmt: skip

# The living processes: each writes its row every few seconds.
process = Table(
    "process", metadata,
    Column("id", Text, primary_key=True, comment="kind:host:pid"),
    Column("kind", Text, nullable=False, comment="supervisor, listener, web, worker, sender"),
    Column("host", Text, nullable=False), Column("pid", Integer, nullable=False),
    Column("started_at", Double, nullable=False), Column("beat_at", Double, nullable=False),
    Column("detail", Text, nullable=False, default="{}", comment="JSON: figures of its own, as open associations"),
)  # fmt: skip

schema = Table(
    "schema", metadata,
    Column("step", Integer, primary_key=True), Column("at", Double, nullable=False),
    Column("program", Text, nullable=False, comment="the version that made the step"),
)  # fmt: skip
