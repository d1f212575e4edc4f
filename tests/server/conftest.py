"""A server's folder and its database, on SQLite and on PostgreSQL by a parameter."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bleedmap.server.config import Server, Settings
from bleedmap.server.place import Place
from bleedmap.server.store.engine import Database, prepared_database
from postgres_server import run_postgres
from server_web import small_settings

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with run_postgres() as url:
        yield url


@pytest.fixture
def sqlite_settings(tmp_path: Path) -> Settings:
    return small_settings(tmp_path)


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "sqlite":
        return small_settings(tmp_path)
    url, name = request.getfixturevalue("postgres"), f"test{next(_NUMBERS)}"
    with psycopg.connect(url.replace("+psycopg", "") + "/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return small_settings(tmp_path, server=Server(str(tmp_path / "data"), f"{url}/{name}"))


@pytest.fixture
def place(settings: Settings) -> Place:
    return Place(settings.data)


@pytest.fixture
def database(settings: Settings, place: Place) -> Iterator[Database]:
    with prepared_database(settings) as opened:
        yield opened
