"""Administration: users, audit, peers, queue, disk. The guard lets administrators alone reach these."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from sqlalchemy import case, func, select

from bleedmap.server.config import BEAT_OLD_S, GB
from bleedmap.server.place import free_bytes
from bleedmap.server.store import audit, users
from bleedmap.server.store.tables import audit as audit_rows
from bleedmap.server.store.tables import delivery, job, passed_over, process
from bleedmap.server.store.tables import user as user_table
from bleedmap.server.web.context import Asking, Given, Parts, Refusal, StudyId, Text, as_json, pick
from bleedmap.server.web.login import hash_password

_MOST_ROWS = 200

router = APIRouter(prefix="/api/admin")


@router.get("/users")
def list_users(web: Parts) -> Response:
    """All users."""
    with web.database.read() as connection:
        rows = users.list_users(connection)
    shown = [
        pick(row, "id", "name", "role", "senders", "last_seen")
        | {"oidc": bool(row["subject"]), "disabled": row["disabled_at"] is not None}
        for row in rows
    ]
    return as_json({"users": shown})


class _User(Given):
    name: Text
    password: Text
    role: Literal["reader", "admin"]
    senders: Text = ""


@router.post("/users", status_code=201)
def add_user(web: Parts, actor: Asking, given: _User) -> Response:
    """Add a user who logs in by password."""
    hashed = hash_password(given.password, given.name)
    with web.database.write() as connection:
        now = web.database.now(connection)
        number = users.add_user(connection, now, given.name, given.role, password=hashed, senders=given.senders)
        web.record(connection, actor, "user added", user=number, role=given.role)
    return as_json({"id": number}, 201)


class _Change(Given):
    role: Literal["reader", "admin"] | None = None
    senders: Text | None = None
    disabled: bool | None = None
    password: Text | None = None


@router.put("/users/{number}", status_code=204)
def change_user(web: Parts, actor: Asking, number: StudyId, given: _Change) -> Response:
    """Change what a user may, or set a new password; the user's sessions end."""
    with web.database.read() as connection:
        rows = [one for one in users.list_users(connection) if one["id"] == number]
    if not rows:
        raise Refusal(404, "No such user")
    values: dict[str, Any] = {} if given.role is None else {"role": given.role}
    if given.senders is not None:
        values["senders"] = users.split_senders(given.senders)
    if given.password is not None:
        values["password"] = hash_password(given.password, rows[0]["name"])
    told = sorted(values)
    with web.database.write() as connection:
        now = web.database.now(connection)
        if given.disabled is not None:
            values["disabled_at"] = now if given.disabled else None
            told.append("disabled" if given.disabled else "enabled")
        if not values:
            raise Refusal(422, "Nothing to change", "role, senders, disabled or password")
        users.change_user(connection, number, **values)
        web.record(connection, actor, "user changed", user=number, what=told)
    return Response(status_code=204)


@router.get("/audit")
def list_audit(web: Parts, before: Annotated[int | None, Query(ge=1, le=2**53)] = None) -> Response:
    """The newest rows of the audit, or those before one, and whether the chain of hashes is whole."""
    query = (
        select(audit_rows, user_table.c.name.label("who"))
        .outerjoin(user_table, user_table.c.id == audit_rows.c.actor)
        .order_by(audit_rows.c.id.desc()).limit(_MOST_ROWS)
    )  # fmt: skip
    if before is not None:
        query = query.where(audit_rows.c.id < before)
    with web.database.read() as connection:
        rows = connection.execute(query).mappings().all()
        broken = audit.find_break(connection)
        total = connection.execute(select(func.count()).select_from(audit_rows)).scalar_one()
    names = ("id", "at", "address", "action", "outcome", "study", "detail")
    shown = [pick(row, *names) | {"actor": row["who"] or row["actor"]} for row in rows]
    return as_json({"whole": broken is None, "broken_at": broken, "total": total, "rows": shown})


@router.get("/queue")
def describe_queue(web: Parts) -> Response:
    """Jobs that are not done, the living processes, and what was accepted and not processed."""
    waiting = select(job).where(job.c.state != "done").order_by(job.c.due).limit(_MOST_ROWS)
    counted = select(job.c.step, job.c.state, func.count()).group_by(job.c.step, job.c.state)
    newest = select(passed_over).order_by(passed_over.c.last_at.desc()).limit(50)
    with web.database.read() as connection:
        now = web.database.now(connection)
        jobs = connection.execute(waiting).mappings().all()
        counts = connection.execute(counted).all()
        processes = connection.execute(select(process).order_by(process.c.kind, process.c.id)).mappings().all()
        passed = connection.execute(newest).mappings().all()
    names = ("id", "study", "version", "step", "target", "state", "due", "attempt", "error")
    return as_json(
        {
            "now": now, "jobs": [pick(row, *names) for row in jobs], "counts": sorted(map(list, counts)),
            "processes": [
                pick(row, "id", "kind", "started_at")
                | {"age_s": now - row["beat_at"], "alive": now - row["beat_at"] < BEAT_OLD_S}
                for row in processes
            ],
            "passed_over": [pick(row, "sender_ae", "reason", "count", "last_at") for row in passed],
        }
    )  # fmt: skip


@router.get("/disk")
def describe_disk(web: Parts) -> Response:
    """Free space, and what each folder takes."""
    root = web.place.root
    folders = ("incoming", "studies", "corrections", "logs")
    used = [[name, _measure(root / name) / GB] for name in folders]
    return as_json({"free_gb": free_bytes(root) / GB, "kept_free_gb": web.settings.limits.free_gb, "used": used})


def _measure(folder: Path) -> int:
    """Bytes of all files below a folder."""
    size = 0
    for top, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # gone meanwhile
                size += os.lstat(os.path.join(top, name)).st_size  # noqa: PTH118 - many of them
    return size


@router.get("/peers")
def describe_peers(web: Parts) -> Response:
    """Who may send, and what each target holds; both are set in the configuration file."""
    dicom = web.settings.dicom
    held = func.sum(case((delivery.c.state == "confirmed", 1), else_=0))
    opened = func.sum(case((delivery.c.state != "confirmed", 1), else_=0))
    query = select(job.c.target, held, opened, func.max(job.c.error)).outerjoin(delivery, delivery.c.job == job.c.id)
    with web.database.read() as connection:
        rows = connection.execute(query.where(job.c.step == "deliver").group_by(job.c.target)).all()
    figures = {row[0]: (row[1] or 0, row[2] or 0, row[3] or "") for row in rows}
    targets = []
    for one in web.settings.target:
        confirmed, waits, error = figures.get(one.name, (0, 0, ""))
        where = one.url if one.kind == "dicomweb" else f"{one.ae_title} at {one.address}"
        targets.append(
            {"name": one.name, "kind": one.kind, "where": where, "send": list(one.send), "when": one.when,
             "held": confirmed, "open": waits, "error": error}
        )  # fmt: skip
    peers = [{"ae_title": one.ae_title, "address": one.address, "may": list(one.may)} for one in dicom.peer]
    return as_json({"ae_title": dicom.ae_title, "listen": dicom.listen, "peers": peers, "targets": targets})
