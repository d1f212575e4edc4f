"""The web application: guard, routes, and the page's files."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from secrets import token_urlsafe

from fastapi import FastAPI, Response
from sqlalchemy import func, select
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from bleedmap import __version__
from bleedmap.server.config import Settings
from bleedmap.server.limits import BEAT_OLD_S
from bleedmap.server.place import Place
from bleedmap.server.store import users
from bleedmap.server.store.engine import open_database
from bleedmap.server.store.schema import prepare
from bleedmap.server.store.tables import process
from bleedmap.server.web import admin, dicomweb, errors, live, login, results, studies, uploads
from bleedmap.server.web.context import Parts, Web, as_json
from bleedmap.server.web.metrics import serve_metrics
from bleedmap.server.web.security import TOKEN, Guard

STATIC = Path(__file__).parents[1] / "static"


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
    app.state.web = web
    errors.install(app)
    for module in (login, live, studies, results, uploads, admin, dicomweb):
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
