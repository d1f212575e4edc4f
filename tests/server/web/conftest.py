"""A web server for the tests of a module, and a study in it with all its files."""

from collections.abc import Iterator

import httpx
import pytest

from bleedmap.server.config import Limits, Target
from server_studies import add_study, phantom, scanned
from server_web import Server, serve_web, small_settings


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = Limits(free_gb=0.0, upload_gb=0.02)
    target = Target(name="pacs", ae_title="PACS", address="127.0.0.1:4242")
    with serve_web(small_settings(tmp_path_factory.mktemp("web"), limits=limits, target=(target,))) as running:
        yield running


@pytest.fixture(scope="module")
def study(server: Server) -> str:
    return add_study(server.place, server.database, scanned(), phantom().mask.array)


@pytest.fixture(scope="module")
def reader(server: Server) -> httpx.Client:
    return server.client("reader", name="Anna")
