"""The worklist and one study: what stands in the database, as JSON."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from sqlalchemy import RowMapping, case, func, select

from bleedmap.server import view
from bleedmap.server.store import readings, studies
from bleedmap.server.store.tables import StudyState, delivery, job, study
from bleedmap.server.web.context import Asking, Parts, StudyId, Web, as_json, find_for, pick

GROUPS = ("bleed marked", "needs a person", "not yet looked at", "no bleed marked")  # by `group_rank`
_ORDERS = {
    "worklist": (
        "Order: unread studies first; among these, bleed marked, the most probable first; then those that need a "
        "person (no verdict, refused by an input check, failed); then those not yet looked at; then no bleed marked; "
        "else by arrival, the newest first."
    ),
    "arrival": "Order: by arrival, the newest first.",
}
_SHOWN = (
    "id", "version", "state", "waiting", "cause", "score", "verdict", "headline", "volume_ml", "first_seen",
    "study_at", "description", "sender_ae", "instances", "error",
)  # fmt: skip
_WHO = ("name", "patient_id", "birth_date", "sex", "accession")

router = APIRouter()


@router.get("/api/studies")
def list_studies(
    web: Parts, actor: Asking, order: Literal["worklist", "arrival"] = "worklist",
    state: Annotated[StudyState | None, Query()] = None,
) -> Response:  # fmt: skip
    """The worklist, with its order in words and the count of every group."""
    with web.database.read() as connection:
        now = web.database.now(connection)
        rows = studies.list_worklist(connection, order=order, state=state, senders=actor.senders)
        counts = studies.count_worklist(connection, state=state, senders=actor.senders)
        readers = readings.list_readers(connection)
        before = _list_earlier(connection)
    total, oldest = sum(counts.groups), counts.oldest_unread
    left_out = f"Shown are the first {len(rows):,} of {total:,}." if total > len(rows) else "No study is left out."
    return as_json(
        {
            "order": f"{_ORDERS[order]} {left_out}", "now": now,
            "oldest_unread_s": None if oldest is None else now - oldest,
            "counts": [["all", total], ["unread", counts.unread], *zip(GROUPS, counts.groups, strict=True)],
            "studies": [_describe(row, readers.get((row["id"], row["version"]), []), before) for row in rows],
        }
    )  # fmt: skip


def _list_earlier(connection: Any) -> dict[tuple[str, int], str]:
    """What was said of versions that have been superseded."""
    query = select(study.c.id, study.c.version, study.c.verdict)
    rows = connection.execute(query.where(study.c.state == StudyState.SUPERSEDED))
    return {(row.id, row.version): row.verdict or "no result" for row in rows}


def _describe(row: RowMapping, readers: list[str], before: dict[tuple[str, int], str]) -> dict[str, Any]:
    moved = ""
    if (row["id"], row["version"] - 1) in before:
        said = before[row["id"], row["version"] - 1]
        moved = f"moved from “{said}” (version {row['version'] - 1}): {row['cause']}"
    if row["arriving"]:
        moved = f"{moved}; more slices arrive" if moved else "more slices arrive: it will be looked at again"
    return pick(row, *_SHOWN) | {
        "group": GROUPS[row["group_rank"]], "unread": row["read_at"] is None, "read_by": readers, "moved": moved,
        "patient": {name: row[name] or "" for name in _WHO},
    }  # fmt: skip


@router.get("/api/studies/{number}")
def describe_study(web: Parts, actor: Asking, number: StudyId) -> Response:
    """One study: its state and history, what readers said and drew, what each target holds."""
    with web.database.read() as connection:
        row = find_for(connection, actor, number)
        listed = studies.list_worklist(connection, order="arrival", number=number)
        said = readings.list_readings(connection, number)
        drawn = readings.list_corrections(connection, number)
        events = studies.list_history(connection, number)
        sent = _list_deliveries(connection, number, row["version"])
        before = _list_earlier(connection)
    shown = listed[0] if listed else row
    readers = sorted({one["user_name"] for one in said if one["version"] == shown["version"]})
    folder = web.place.version(number, shown["version"])
    return as_json(
        _describe(shown, readers, before)
        | {
            "has_view": (folder / "view" / view.WORDS).is_file(),
            "files": list_files(web, number, shown["version"]),
            "events": [pick(one, "version", "at", "state", "reason") for one in events],
            "readings": [pick(one, "version", "at", "says", "words") | {"user": one["user_name"]} for one in said],
            "corrections": [
                pick(one, "number", "version", "at", "voxels", "sha256") | {"user": one["user_name"]} for one in drawn
            ],
            "deliveries": sent,
        }
    )


def _list_deliveries(connection: Any, number: str, version: int) -> list[dict[str, Any]]:
    confirmed = func.sum(case((delivery.c.state == "confirmed", 1), else_=0))
    query = (
        select(job.c.target, job.c.state, job.c.error, func.count(delivery.c.sop_uid), confirmed)
        .outerjoin(delivery, delivery.c.job == job.c.id)
        .where(job.c.study == number, job.c.version == version, job.c.step == "deliver")
        .group_by(job.c.id, job.c.target, job.c.state, job.c.error).order_by(job.c.target)
    )  # fmt: skip
    names = ("target", "state", "error", "objects", "confirmed")
    return [dict(zip(names, row, strict=True)) for row in connection.execute(query)]


def list_files(web: Web, number: str, version: int) -> list[str]:
    """Which files of a version can be fetched."""
    results = web.place.results(number, version)
    there = {
        "report.html": results / "report.html", "dicom.zip": results / "dicom",
        "images.zip": web.place.dicom(number, version),
    }  # fmt: skip
    return [name for name, path in there.items() if path.exists()]
