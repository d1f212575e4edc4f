"""Errors as RFC 9457 problems: what is wrong, what is needed, what to do; never a trace or a path."""

import json
import logging
import traceback
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from bleedmap.errors import BleedmapError
from bleedmap.server.store.engine import is_away

_LOG = logging.getLogger("bleedmap.server.web")
_TITLES = {404: "Not found", 405: "Not a method of this address"}


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


def install(app: FastAPI) -> None:
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
    place = traceback.extract_tb(error.__traceback__)[-1]
    _LOG.error("a request failed: %s at %s:%s", type(error).__name__, place.name, place.lineno)
    return problem(500, "The server failed at this", "", "try again; if it stays so, tell the administrator")
