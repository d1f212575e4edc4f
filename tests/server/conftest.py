"""A server's folder and its database, on SQLite and on PostgreSQL by a parameter."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from bleedmap.server.config import Limits, Server, Settings
from bleedmap.server.place import Place
from bleedmap.server.store.engine import Database, open_database, prepare
from postgres_server import run_postgres

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with run_postgres() as url:
        yield url


def make_settings(folder: Path, database: str = "sqlite") -> Settings:
    """Settings of a small server in `folder`; nothing is kept free, for small disks."""
    return replace(Settings(), server=Server(str(folder), database), limits=Limits(free_gb=0.0))


@pytest.fixture
def sqlite_settings(tmp_path: Path) -> Settings:
    return make_settings(tmp_path / "data")


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "sqlite":
        return make_settings(tmp_path / "data")
    url, name = request.getfixturevalue("postgres"), f"test{next(_NUMBERS)}"
    with psycopg.connect(url.replace("+psycopg", "") + "/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return make_settings(tmp_path / "data", f"{url}/{name}")


@pytest.fixture
def place(settings: Settings) -> Place:
    return Place(settings.data)


@pytest.fixture
def database(settings: Settings, place: Place) -> Iterator[Database]:
    opened = open_database(settings)
    prepare(opened)
    yield opened
    opened.close()
