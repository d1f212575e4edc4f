"""What all routes share: settings, database, folder, and who asks."""

import json
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Path, Request
from limits import parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy import Connection, RowMapping
from starlette.responses import Response

from bleedmap.server.config import Settings
from bleedmap.server.place import Place
from bleedmap.server.store import audit, studies
from bleedmap.server.store.engine import Database
from bleedmap.server.web.errors import Refusal

StudyId = Annotated[str, Path(pattern=r"^[0-9a-z]{20}$")]
Version = Annotated[int, Path(ge=1, le=1_000_000)]


@dataclass(frozen=True)
class Actor:
    """Who asks: a user with a session, or a machine with the token of DICOMweb."""

    id: str
    name: str
    role: str
    senders: frozenset[str]
    has_password: bool
    address: str

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
    row = studies.find(connection, study, version) if version is not None else find_shown(connection, study)
    if row is None or not actor.may_see(row):
        raise Refusal(404, "No such study")
    return row


def find_shown(connection: Connection, study: str) -> RowMapping | None:
    """The newest version that has an outcome, else the newest: as the worklist chooses."""
    newest = studies.find(connection, study)
    if newest is None:
        return None
    for version in range(int(newest["version"]), 0, -1):
        row = studies.find(connection, study, version)
        if row is not None and row["state"] not in ("receiving", "complete"):
            return row
    return newest


def as_json(content: Any, status: int = 200) -> Response:
    """Make a JSON response; plainly, for a list of thousands."""
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return Response(body, status_code=status, media_type="application/json")
