"""Server-sent events: the pages are told that something has changed, and load it themselves."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from sqlalchemy import func, select
from starlette.responses import Response, StreamingResponse

from bleedmap.server.store.tables import correction, event, job, reading, study
from bleedmap.server.web.context import Parts, Web, web_of
from bleedmap.server.web.errors import Refusal

_EVERY_S, _ALIVE_S, _LONGEST_S = 1.0, 15.0, 600.0  # a page asks again by itself, with its session checked anew
_MOST = 200  # pages at once

router = APIRouter()


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


def watch_of(request: Request) -> Watch:
    """The server's one watch."""
    web = web_of(request)
    if not hasattr(request.app.state, "watch"):
        request.app.state.watch = Watch(web)
    watch: Watch = request.app.state.watch
    return watch


@router.get("/api/live")
async def tell(web: Parts, watch: Annotated[Watch, Depends(watch_of)], request: Request) -> Response:
    """A stream of events, one whenever something has changed."""
    if watch.pages >= _MOST:
        raise Refusal(503, "Too many pages are open", f"at most {_MOST}", headers={"Retry-After": "30"})
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(watch, request), media_type="text/event-stream", headers=headers)


async def _stream(watch: Watch, request: Request) -> AsyncIterator[str]:
    watch.pages += 1
    try:
        yield "retry: 2000\n\n"
        seen, begun, said = await watch.look(), time.monotonic(), time.monotonic()
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
