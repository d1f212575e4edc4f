"""The web application: guard, routes, the page's files, and the events that tell pages of changes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from secrets import token_urlsafe

from fastapi import APIRouter, FastAPI, Request, Response
from sqlalchemy import func, select
from starlette.responses import FileResponse, StreamingResponse
from starlette.staticfiles import StaticFiles

from bleedmap import __version__
from bleedmap.server.config import BEAT_OLD_S, Settings
from bleedmap.server.place import Place
from bleedmap.server.store import users
from bleedmap.server.store.engine import open_database, prepare
from bleedmap.server.store.tables import correction, event, job, process, reading, study
from bleedmap.server.web import admin, dicomweb, login, results, studies, uploads
from bleedmap.server.web.context import Parts, Refusal, Web, as_json, install_errors
from bleedmap.server.web.metrics import serve_metrics
from bleedmap.server.web.security import TOKEN, Guard

STATIC = Path(__file__).parents[1] / "static"
_EVERY_S, _ALIVE_S, _LONGEST_S = 1.0, 15.0, 600.0  # a page asks again by itself, with its session checked anew
_MOST_PAGES = 200  # at once

router = APIRouter()


def make_app(settings: Settings) -> Guard:
    """Make the ASGI application of a server; its tables and secrets are made where they are not there yet.

    Raises:
        OutputError: the folder cannot be written.
        DataError: the database is of a newer version.
    """
    place, database = Place(settings.data), open_database(settings)
    prepare(database)
    web = Web(settings, database, place)
    place.read_secret(TOKEN, token_urlsafe)
    with database.read() as connection:
        if not users.count_users(connection) and not settings.oidc.issuer:
            place.read_secret(login.FIRST_RUN, token_urlsafe)

    @asynccontextmanager
    async def live_with_metrics(app: FastAPI) -> AsyncIterator[None]:
        with serve_metrics(web):
            yield
        database.close()

    app = FastAPI(
        title="bleedmap", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json",
        lifespan=live_with_metrics,
    )  # fmt: skip
    app.state.web, app.state.watch = web, Watch(web)
    install_errors(app)
    app.include_router(router)
    for module in (login, studies, results, uploads, admin, dicomweb):
        app.include_router(module.router)
    if settings.oidc.issuer:
        from bleedmap.server.web import oidc  # noqa: PLC0415 - an extra of its own

        app.include_router(oidc.router)
    app.add_api_route("/healthz", lambda: as_json({"alive": True}), include_in_schema=False)
    app.add_api_route("/readyz", _tell_ready, include_in_schema=False)
    app.add_api_route("/", _give_page, include_in_schema=False)
    app.mount("/static", _Static(directory=STATIC))
    return Guard(app, web)


class _Static(StaticFiles):
    """The page's files, whose names change with their content."""

    def file_response(self, *given: object, **named: object) -> Response:
        answer = super().file_response(*given, **named)  # type: ignore[arg-type]
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return answer


def _give_page() -> Response:
    """The one page; what it shows it asks for, with the reader's session."""
    return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")


def _tell_ready(web: Parts) -> Response:
    """Whether the database answers and a worker lives."""
    ready = False
    with suppress(Exception), web.database.read() as connection:
        now = web.database.now(connection)
        living = select(func.count()).where(process.c.kind == "worker", process.c.beat_at > now - BEAT_OLD_S)
        ready = bool(connection.execute(living).scalar_one())
    return as_json({"ready": ready}, 200 if ready else 503)


class Watch:
    """One look at the database a second, whatever number of pages wait for it."""

    def __init__(self, web: Web) -> None:
        self.web, self.mark, self.looked, self.pages = web, "", 0.0, 0
        self._lock = asyncio.Lock()

    async def look(self) -> str:
        """What changes whenever a list or a study would look different."""
        async with self._lock:
            if time.monotonic() - self.looked > _EVERY_S * 0.9:
                self.mark = await asyncio.to_thread(self._read)
                self.looked = time.monotonic()
        return self.mark

    def _read(self) -> str:
        parts = [func.max(event.c.id), func.max(reading.c.id), func.max(correction.c.id), func.sum(study.c.instances)]
        queries = [select(one).scalar_subquery() for one in (*parts, func.sum(job.c.attempt))]
        try:
            with self.web.database.read() as connection:
                return "-".join(str(one) for one in connection.execute(select(*queries)).one())
        except Exception:  # the database is away: nothing new is known
            return self.mark


@router.get("/api/live")
async def tell(request: Request) -> Response:
    """A stream of server-sent events, one whenever something has changed; pages load it themselves."""
    watch: Watch = request.app.state.watch
    if watch.pages >= _MOST_PAGES:
        raise Refusal(503, "Too many pages are open", f"at most {_MOST_PAGES}", headers={"Retry-After": "30"})
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(watch, request), media_type="text/event-stream", headers=headers)


async def _stream(watch: Watch, request: Request) -> AsyncIterator[str]:
    watch.pages += 1
    try:
        seen, begun, said = await watch.look(), time.monotonic(), time.monotonic()
        yield f"retry: 2000\ndata: {seen}\n\n"  # something may have changed since the page was loaded
        while time.monotonic() - begun < _LONGEST_S and not await request.is_disconnected():
            await asyncio.sleep(_EVERY_S)
            now = await watch.look()
            if now != seen:
                seen, said = now, time.monotonic()
                yield f"data: {now}\n\n"
            elif time.monotonic() - said > _ALIVE_S:
                said = time.monotonic()
                yield ": alive\n\n"
    finally:
        watch.pages -= 1
