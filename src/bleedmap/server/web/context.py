"""What all routes share: settings, database, folder, who asks; and errors.

Errors are RFC 9457 problems: what is wrong, what is needed, what to do; never a trace or a path.
"""

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from fastapi import Depends, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from pydantic import BaseModel, ConfigDict, StringConstraints
from sqlalchemy import Connection, RowMapping
from starlette.exceptions import HTTPException
from starlette.responses import Response

from bleedmap.errors import BleedmapError
from bleedmap.server.config import Settings
from bleedmap.server.log import describe_fault, logger
from bleedmap.server.place import Place
from bleedmap.server.store import audit, studies
from bleedmap.server.store.engine import Database, is_away

StudyId = Annotated[str, Path(pattern=r"^[0-9a-z]{20}$")]
Version = Annotated[int, Path(ge=1, le=1_000_000)]
Text = Annotated[str, StringConstraints(max_length=256)]
_OPENED = parse("1/10 minutes")
_TITLES = {404: "Not found", 405: "Not a method of this address"}


class Given(BaseModel):
    """What a request holds as JSON: what its routes name, and nothing else."""

    model_config = ConfigDict(extra="forbid")


class Refusal(Exception):  # noqa: N818 - it is what the server answers, not a fault
    """An answer other than success: `title` says what is wrong, in words for the reader."""

    def __init__(
        self, status: int, title: str, needed: str = "", remedy: str = "", headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(title)
        self.status, self.title, self.needed, self.remedy, self.headers = status, title, needed, remedy, headers

    def answer(self) -> Response:
        """Make the response."""
        return problem(self.status, self.title, self.needed, self.remedy, self.headers)


@dataclass(frozen=True)
class Actor:
    """Who asks: a user with a session, or a machine with the token of DICOMweb."""

    id: str
    name: str
    role: str
    senders: frozenset[str]
    has_password: bool
    address: str

    @classmethod
    def of(cls, row: RowMapping, address: str) -> Self:
        """Make it of a row with the columns of `user`."""
        senders = frozenset(one for one in row["senders"].split(",") if one)
        return cls(row["id"], row["name"], row["role"], senders, bool(row["password"]), address)

    def may_see(self, row: RowMapping) -> bool:
        """Whether a study's sender is among those whose studies this one sees."""
        return not self.senders or row["sender_ae"] in self.senders


@dataclass(frozen=True)
class Web:
    """The server's parts, made once."""

    settings: Settings
    database: Database
    place: Place
    limiter: MovingWindowRateLimiter = field(default_factory=lambda: MovingWindowRateLimiter(MemoryStorage()))

    def throttle(self, what: str, rate: str, *keys: str) -> None:
        """Count one more; refuse above the rate, as '10/15 minutes'.

        Raises:
            Refusal: 429, with how long to wait.
        """
        limit = parse(rate)
        if not self.limiter.hit(limit, what, *keys):
            raise Refusal(
                429, "Too many attempts", f"at most {rate}", "wait, then try again",
                {"Retry-After": str(int(limit.get_expiry()))},
            )  # fmt: skip

    def record(self, connection: Connection, actor: Actor, action: str, study: str = "", **detail: Any) -> None:
        """Add a row to the audit, in the transaction of what it tells."""
        now = self.database.now(connection)
        audit.record(connection, now, actor.id, action, study=study, address=actor.address, **detail)

    def note_opened(self, actor: Actor, study: str, version: int, *, anew: bool = False) -> None:
        """Record that somebody looks at a study, whichever part was asked for: of many requests, one in ten minutes.

        Args:
            anew: record it in any case: the page was opened.
        """
        keys = ("opened", actor.id, actor.address, study, str(version))
        if anew or self.limiter.test(_OPENED, *keys):
            self.note(actor, "study opened", study, version=version)
            self.limiter.hit(_OPENED, *keys)  # last: what could not be recorded is recorded with the next request

    def note(self, actor: Actor, action: str, study: str = "", **detail: Any) -> None:
        """Add a row to the audit, in a transaction of its own."""
        with self.database.write() as connection:
            self.record(connection, actor, action, study, **detail)


def web_of(request: Request) -> Web:
    """The server's parts."""
    web: Web = request.app.state.web
    return web


def actor_of(request: Request) -> Actor:
    """Who asks: the guard has found out before any route is reached."""
    actor: Actor = request.scope["state"]["actor"]
    return actor


Parts = Annotated[Web, Depends(web_of)]
Asking = Annotated[Actor, Depends(actor_of)]


def find_for(connection: Connection, actor: Actor, study: str, version: int | None = None) -> RowMapping:
    """Find a version of a study that `actor` may see; None: the one that the worklist shows.

    Raises:
        Refusal: 404, whether it is not there or is another's.
    """
    row = studies.find(connection, study, version) if version is not None else studies.find_shown(connection, study)
    if row is None or not actor.may_see(row):
        raise Refusal(404, "No such study")
    return row


def as_json(content: Any, status: int = 200) -> Response:
    """Make a JSON response; plainly, for a list of thousands."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(body, status_code=status, media_type="application/json")


def pick(row: RowMapping, *names: str) -> dict[str, Any]:
    """Some columns of a row."""
    return {name: row[name] for name in names}


def problem(
    status: int, title: str, needed: str = "", remedy: str = "", headers: dict[str, str] | None = None
) -> Response:
    """Make an RFC 9457 response: type, title, status, detail, and `remedy` beside them."""
    content: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    if needed:
        content["detail"] = f"Needed: {needed}"
    if remedy:
        content["remedy"] = remedy
    body = json.dumps(content, ensure_ascii=False)
    return Response(body, status_code=status, media_type="application/problem+json", headers=headers)


def install_errors(app: FastAPI) -> None:
    """Have every error of the routes answered as a problem."""

    @app.exception_handler(Refusal)
    def refuse(request: Request, error: Refusal) -> Response:
        return error.answer()

    @app.exception_handler(BleedmapError)
    def explain(request: Request, error: BleedmapError) -> Response:
        return problem(422, error.found[:1].upper() + error.found[1:], error.needed, error.remedy)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()[:3])
        return problem(422, "The request does not fit this address", wrong)

    @app.exception_handler(HTTPException)
    def told(request: Request, error: HTTPException) -> Response:
        title = _TITLES.get(error.status_code, str(error.detail))
        return problem(error.status_code, title, headers=dict(error.headers or {}))

    app.exception_handler(Exception)(fail)


def fail(request: Request, error: Exception) -> Response:
    """Answer what nobody foresaw; the log holds where, and no value of the request."""
    if is_away(error):
        return problem(
            503, "The database cannot be reached", "the database of the settings, running", "try again in a minute",
            {"Retry-After": "30"},
        )  # fmt: skip
    logger.error("a request failed: %s", describe_fault(error))
    return problem(500, "The server failed at this", "", "try again; if it stays so, tell the administrator")
