"""A web server as `bleedmap serve` runs it, on a port of its own, and a client that is logged in."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from bleedmap.server.config import Limits, Settings
from bleedmap.server.config import Server as Where
from bleedmap.server.place import Place
from bleedmap.server.store import users
from bleedmap.server.store.engine import Database, open_database
from bleedmap.server.web.app import make_app
from bleedmap.server.web.login import hash_password
from free_port import free_port

PASSWORD = "correct horse battery"


@dataclass(frozen=True)
class Server:
    """A running web server."""

    url: str
    settings: Settings
    place: Place
    database: Database

    def client(self, role: str | None = None, *, name: str = "", senders: str = "") -> httpx.Client:
        """A client as a browser would ask; with a role, of a new user who is logged in."""
        headers = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"}
        if role is not None:
            with self.database.write() as connection:
                now = self.database.now(connection)
                number = users.add_user(connection, now, name or f"{role}-{time.time_ns()}", role, senders=senders)
                token = users.begin_session(connection, now, number, "")
            headers["Cookie"] = f"__Host-bleedmap={token}"
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def add_user(self, name: str, role: str, **more: Any) -> None:
        """Add a user with the tests' password."""
        hashed = hash_password(PASSWORD, name)
        with self.database.write() as connection:
            users.add_user(connection, self.database.now(connection), name, role, password=hashed, **more)


def small_settings(folder: Path, **changes: Any) -> Settings:
    """Settings of a small server in `folder`; nothing is kept free, for small disks."""
    given = {"server": Where(str(folder / "data")), "limits": Limits(free_gb=0.0), **changes}
    return replace(Settings(), **given)


@contextmanager
def serve_web(settings: Settings) -> Iterator[Server]:
    """Run the web server of `settings` in this process, until left."""
    port = free_port()
    web = replace(settings.web, listen=f"127.0.0.1:{port}", metrics="")
    settings = replace(settings, web=web)
    program = uvicorn.Server(
        uvicorn.Config(make_app(settings), port=port, log_level="warning", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=program.run)
    thread.start()
    try:
        while not program.started:
            assert thread.is_alive(), "the web server did not start"
            time.sleep(0.02)
        database = open_database(settings)
        yield Server(f"http://127.0.0.1:{port}", settings, Place(settings.data), database)
        database.close()
    finally:
        program.should_exit = True
        thread.join()
