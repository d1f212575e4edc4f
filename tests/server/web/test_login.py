"""Logging in: the first run, passwords, their throttle, sessions and their ends."""

import unicodedata
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import select, update

from bleedmap.server.config import Settings
from bleedmap.server.store import audit, users
from bleedmap.server.store.tables import audit as audit_rows
from bleedmap.server.store.tables import session
from server_web import PASSWORD, Server, serve_web


@pytest.fixture
def server(sqlite_settings: Settings) -> Iterator[Server]:
    with serve_web(sqlite_settings) as running:
        yield running


def log_in(client: httpx.Client, name: str, password: str) -> httpx.Response:
    return client.post("/api/login", json={"name": name, "password": password})


def test_the_first_run_makes_one_administrator(server: Server) -> None:
    client = server.client()
    assert client.get("/api/login").json() == {"first_run": True, "passwords": False, "oidc": False, "me": None}
    path = server.place.root / "keys/first-run-token"
    assert path.stat().st_mode & 0o777 == 0o600
    given = {"name": "Root", "password": PASSWORD, "token": "guess"}
    assert client.post("/api/first-run", json=given).status_code == 401
    given["token"] = path.read_text()
    short = client.post("/api/first-run", json=given | {"password": "short"})
    assert (short.status_code, short.json()["title"]) == (422, "The password is too easy")
    made = client.post("/api/first-run", json=given)
    assert made.json() == {"name": "Root", "role": "admin", "password": True}
    cookie = made.headers["set-cookie"]
    assert cookie.startswith("__Host-bleedmap=")
    for part in ("HttpOnly", "Path=/", "SameSite=strict", "Secure"):
        assert part in cookie
    assert not path.exists()
    assert client.post("/api/first-run", json=given).status_code == 401
    assert client.get("/api/login").json()["first_run"] is False
    token = cookie.split("=", 1)[1].split(";")[0]
    for file in (server.place.root / "server.db", server.place.root / "server.db-wal"):
        assert token.encode() not in file.read_bytes()


@pytest.mark.parametrize("name", ["\u00d6zg\u00fcr", "\u0141ukasz", "\u0418\u0432\u0430\u043d"])
def test_a_name_of_other_than_ascii_letters_enters(sqlite_settings: Settings, name: str) -> None:
    with serve_web(sqlite_settings) as server:
        client = server.client()
        token = (server.place.root / "keys/first-run-token").read_text()
        given = {"name": name, "password": PASSWORD, "token": token}
        assert client.post("/api/first-run", json=given).status_code == 200
        for said in (name, name.upper(), unicodedata.normalize("NFD", name)):
            assert log_in(client, said, PASSWORD).status_code == 200, said
        admin = server.client("admin")
        again = {"name": name.lower(), "password": PASSWORD, "role": "reader"}
        assert admin.post("/api/admin/users", json=again).json()["title"] == "The name is taken"


def test_sessions_rotate_and_end(server: Server) -> None:
    server.add_user("Anna", "reader")
    client = server.client()
    first = log_in(client, "anna", PASSWORD)
    assert first.status_code == 200
    tokens = [
        first.headers["set-cookie"].split(";")[0],
        log_in(client, "Anna", PASSWORD).headers["set-cookie"].split(";")[0],
    ]
    assert tokens[0] != tokens[1]
    assert [client.get("/api/me", headers={"Cookie": one}).status_code for one in tokens] == [200, 200]
    assert client.post("/api/logout", headers={"Cookie": tokens[0]}).status_code == 204
    assert [client.get("/api/me", headers={"Cookie": one}).status_code for one in tokens] == [401, 200]
    change = {"old": PASSWORD, "new": "another long one"}
    changed = client.put("/api/me/password", json=change, headers={"Cookie": tokens[1]})
    assert changed.status_code == 204
    assert client.get("/api/me", headers={"Cookie": tokens[1]}).status_code == 401
    fresh = changed.headers["set-cookie"].split(";")[0]
    assert client.get("/api/me", headers={"Cookie": fresh}).json()["name"] == "Anna"
    for column, age in ((session.c.seen_at, users.IDLE_S), (session.c.created_at, users.LONGEST_S)):
        with server.database.write() as connection:
            connection.execute(update(session).values({column: column - age - 1}))
        assert client.get("/api/me", headers={"Cookie": fresh}).status_code == 401
        with server.database.write() as connection:
            connection.execute(update(session).values({column: column + age + 1}))
        assert client.get("/api/me", headers={"Cookie": fresh}).status_code == 200
    with server.database.write() as connection:
        connection.execute(update(session).values(seen_at=session.c.seen_at - 600))
        before = connection.execute(select(session.c.seen_at)).scalar_one()
    for quiet, moved in (({"Bleedmap-Quiet": "1"}, False), ({}, True)):  # a page that asks by itself counts for nothing
        client.get("/api/studies", headers={"Cookie": fresh, **quiet})
        with server.database.read() as connection:
            assert (connection.execute(select(session.c.seen_at)).scalar_one() > before) == moved
    with server.database.write() as connection:
        row = users.find_by_name(connection, "Anna")
        assert row is not None
        users.add_user(connection, 0.0, "Root", "admin")
        users.change_user(connection, row["id"], disabled_at=1.0)
    assert client.get("/api/me", headers={"Cookie": fresh}).status_code == 401
    assert log_in(client, "Anna", "another long one").status_code == 401


def test_guesses_are_throttled_and_recorded(server: Server) -> None:
    server.add_user("Anna", "reader")
    client = server.client()
    codes = [log_in(client, "Anna" if number % 2 else "nobody", "wrong").status_code for number in range(22)]
    assert codes.count(401) == 20
    assert codes[-2:] == [429, 429]
    late = log_in(client, "Anna", PASSWORD)
    assert late.status_code == 429
    assert int(late.headers["retry-after"]) > 0
    with server.database.read() as connection:
        rows = connection.execute(select(audit_rows).where(audit_rows.c.outcome == "refused")).all()
        assert audit.find_break(connection) is None
    assert len(rows) == 20
    assert "wrong" not in str(rows)
