"""Log in and out: the first administrator by a token that only the server's owner can read, then by password."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from fastapi import APIRouter, Request, Response
from sqlalchemy import RowMapping, update

from bleedmap.server.store import audit, users
from bleedmap.server.store.tables import user as user_table
from bleedmap.server.web.context import Actor, Asking, Given, Parts, Refusal, Text, Web, as_json
from bleedmap.server.web.security import cookie_name, find_address, takes_secure

FIRST_RUN = "keys/first-run-token"
SHORTEST = 12  # characters of a password
_AT_ONCE = threading.BoundedSemaphore(2)  # hashes: each takes 64 MiB and a quarter of a second
_HASHER = PasswordHasher()  # argon2id with RFC 9106's second choice
_NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
_PER_NAME, _PER_ADDRESS = "10/15 minutes", "40/15 minutes"

router = APIRouter()


class _Login(Given):
    name: Text
    password: Text


class _FirstRun(_Login):
    token: Text


class _Change(Given):
    old: Text
    new: Text


@router.get("/api/login")
def describe_door(web: Parts, request: Request) -> Response:
    """How one may log in here, and who is logged in; nothing else is told to strangers."""
    actor: Actor | None = request.scope["state"]["actor"]
    me = None if actor is None else _describe(actor)
    with web.database.read() as connection:
        none = users.count_users(connection) == 0
    has_oidc = bool(web.settings.oidc.issuer)
    return as_json({"first_run": none and not has_oidc, "passwords": not none, "oidc": has_oidc, "me": me})


@router.post("/api/login")
def log_in(web: Parts, request: Request, given: _Login) -> Response:
    """Log in by name and password."""
    web.throttle("login", _PER_ADDRESS, find_address(request))
    web.throttle("login", _PER_NAME, "name", users.fold_name(given.name))
    with web.database.read() as connection:
        row = users.find_by_name(connection, given.name)
    known = row is not None and row["password"] and row["disabled_at"] is None
    fits = verify_password(row["password"] if row is not None and known else _NOBODY, given.password)
    if row is None or not known or not fits:
        note_refusal(web, request, "unknown" if row is None else row["id"], "refused")
        raise Refusal(401, "Name or password is wrong", remedy="try again; an administrator can set a new password")
    return enter(web, request, row)


@router.post("/api/first-run")
def make_first(web: Parts, request: Request, given: _FirstRun) -> Response:
    """Make the first administrator, with the token that the server wrote into its folder."""
    web.throttle("first-run", _PER_NAME, find_address(request))
    path = web.place.root / FIRST_RUN
    if not path.is_file() or path.read_text("utf-8").strip() != given.token.strip():
        raise Refusal(401, "The token is not the server's", "the line in keys/first-run-token", "read it there again")
    hashed = hash_password(given.password, given.name)
    with web.database.write() as connection:
        if users.count_users(connection):
            raise Refusal(409, "There is an administrator already", remedy="log in")
        number = users.add_user(connection, web.database.now(connection), given.name, "admin", password=hashed)
        audit.record(connection, web.database.now(connection), number, "first run", address=find_address(request))
        row = users.find_by_name(connection, given.name)
    path.unlink(missing_ok=True)
    assert row is not None
    return enter(web, request, row)


@router.post("/api/logout", status_code=204)
def log_out(web: Parts, request: Request, actor: Asking) -> Response:
    """End this session."""
    with web.database.write() as connection:
        users.end_session(connection, request.cookies.get(cookie_name(request), ""))
        web.record(connection, actor, "logout")
    answer = Response(status_code=204)
    answer.delete_cookie(cookie_name(request), path="/", secure=takes_secure(request), httponly=True, samesite="strict")
    return answer


@router.get("/api/me")
def describe_me(actor: Asking) -> Response:
    """Who is logged in."""
    return as_json(_describe(actor))


def _describe(actor: Actor) -> dict[str, Any]:
    return {"name": actor.name, "role": actor.role, "password": actor.has_password}


@router.put("/api/me/password", status_code=204)
def change_password(web: Parts, request: Request, actor: Asking, given: _Change) -> Response:
    """Change one's password; all other sessions end, and this one gets a new token."""
    web.throttle("password", _PER_NAME, actor.id)
    with web.database.read() as connection:
        row = users.find_by_name(connection, actor.name)
    if row is None or not row["password"] or not verify_password(row["password"], given.old):
        raise Refusal(403, "The present password is wrong", remedy="try again")
    hashed = hash_password(given.new, actor.name)
    with web.database.write() as connection:
        connection.execute(update(user_table).where(user_table.c.id == actor.id).values(password=hashed))
        users.end_sessions(connection, actor.id)
        web.record(connection, actor, "password changed")
        token = users.begin_session(connection, web.database.now(connection), actor.id, actor.address)
    answer = Response(status_code=204)
    set_cookie(answer, request, token)
    return answer


def enter(
    web: Web, request: Request, row: RowMapping, how: str = "password", answer: Response | None = None
) -> Response:
    """Begin a session, always with a new token, which goes with `answer`; None: one that says who entered."""
    actor = Actor.of(row, find_address(request))
    with web.database.write() as connection:
        web.record(connection, actor, "login", how=how)
        token = users.begin_session(connection, web.database.now(connection), actor.id, actor.address)
    answer = answer or as_json(_describe(actor))
    set_cookie(answer, request, token)
    return answer


def note_refusal(web: Web, request: Request, who: str, outcome: str, **detail: str) -> None:
    """Record that somebody was not let in: 'refused' or 'failed'."""
    with web.database.write() as connection:
        now, address = web.database.now(connection), find_address(request)
        audit.record(connection, now, who, "login", outcome=outcome, address=address, **detail)


def set_cookie(answer: Response, request: Request, token: str) -> None:
    """Hand a session's token to the browser: no script reads it, no other site sends it."""
    settings: dict[str, Any] = {"path": "/", "httponly": True, "samesite": "strict", "secure": takes_secure(request)}
    answer.set_cookie(cookie_name(request), token, **settings)


def hash_password(password: str, name: str) -> str:
    """Hash a new password.

    Raises:
        Refusal: too short, or it is the name.
    """
    if len(password) < SHORTEST or not re.sub(re.escape(name), "", password, flags=re.IGNORECASE).strip():
        raise Refusal(422, "The password is too easy", f"at least {SHORTEST} characters, other than the name")
    with _slot():
        return _HASHER.hash(password)


def verify_password(hashed: str, password: str) -> bool:
    """Whether a password is the hashed one; it takes as long where it is not."""
    with _slot():
        try:
            return _HASHER.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False


@contextmanager
def _slot() -> Iterator[None]:
    """One of the few hashes at once; who waits too long is sent away, not queued."""
    if not _AT_ONCE.acquire(timeout=5):
        raise Refusal(503, "Too many people log in at this moment", remedy="try again", headers={"Retry-After": "5"})
    try:
        yield
    finally:
        _AT_ONCE.release()
