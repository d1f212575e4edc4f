"""Every route against requests that schemathesis makes from our OpenAPI: none makes an error of the server."""

import logging
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error

from bleedmap.server.config import Limits, Settings
from bleedmap.server.config import Server as Where
from server_studies import add_study, phantom, scanned
from server_web import Server, serve_web

pytestmark = pytest.mark.exhaustive
_EXAMPLES = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    where = Where(str(tmp_path_factory.mktemp("fuzz") / "data"))
    with serve_web(Settings(server=where, limits=Limits(free_gb=0.0, upload_gb=0.01))) as running:
        yield running


def test_no_request_makes_a_server_error(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    study = add_study(server.place, server.database, scanned(), phantom().mask.array)
    client = server.client("admin", name="fuzz")
    headers = {name: client.headers[name] for name in ("Cookie", "Origin")}
    schema = schemathesis.openapi.from_dict(client.get("/api/openapi.json").json())
    schema.config.update(base_url=server.url)
    tried = 0
    for wrapped in schema.get_all_operations():
        operation = wrapped.ok()
        if operation.path in ("/api/live", "/api/logout", "/api/admin/users/{number}", "/api/me/password"):
            continue  # endless, or it would end the session that the others need

        @settings(max_examples=_EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            nonlocal tried
            if case.path_parameters and "number" in case.path_parameters:
                case.path_parameters["number"] = study  # one that is there: the rest is the fuzz's
            case.call_and_validate(headers=headers, checks=(not_a_server_error,), timeout=30)
            tried += 1

        check()
    assert tried > 500
    assert not [one for one in caplog.records if one.levelno >= logging.ERROR and one.name.startswith("bleedmap")]
