"""Every route against requests that schemathesis makes from our OpenAPI: none makes an error of the server."""

import logging

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error

from server_web import Server

pytestmark = pytest.mark.exhaustive
_EXAMPLES = 25


def test_no_request_makes_a_server_error(server: Server, study: str, caplog: pytest.LogCaptureFixture) -> None:
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
