"""Logging in by OpenID Connect, against a provider that runs as a process of its own."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from bleedmap.server.config import Oidc
from bleedmap.server.work.check import check_settings
from free_port import free_port
from server_web import Server, serve_web, small_settings

PROGRAM = Path(__file__).parents[2] / "support/server/oidc_provider.py"


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    url = f"http://127.0.0.1:{free_port()}"
    process = subprocess.Popen([sys.executable, str(PROGRAM), url.rsplit(":", 1)[1], "bleedmap", "a secret"])
    for _ in range(200):
        try:
            httpx.get(f"{url}/jwks")
            break
        except httpx.TransportError:
            time.sleep(0.05)
    yield url
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def server(provider: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("oidc")
    (folder / "secret").write_text("a secret\n")
    oidc = Oidc(provider, "bleedmap", str(folder / "secret"), reader_group="readers", admin_group="admins")
    with serve_web(small_settings(folder, oidc=oidc)) as running:
        yield running


def log_in(server: Server, provider: str, person: str, fault: str = "", cookie: str | None = None) -> httpx.Response:
    """Go through the provider as a browser does; return our answer to its."""
    httpx.get(f"{provider}/be", params={"person": person, "fault": fault})
    client = httpx.Client(headers={"Origin": ""})
    begun = client.get(f"{server.url}/api/oidc/start")
    assert begun.status_code == 303
    back = client.get(begun.headers["location"])
    held = begun.headers["set-cookie"].split(";")[0] if cookie is None else cookie
    return client.get(back.headers["location"], headers={"Cookie": held})


def who(server: Server, answer: httpx.Response) -> dict[str, object]:
    tokens = [one for one in answer.headers.get_list("set-cookie") if one.startswith("__Host-bleedmap=")]
    me: dict[str, object] = httpx.get(f"{server.url}/api/me", headers={"Cookie": tokens[0].split(";")[0]}).json()
    return me


def test_groups_say_who_enters(server: Server, provider: str) -> None:
    door = httpx.get(f"{server.url}/api/login").json()
    assert door == {"first_run": False, "passwords": False, "oidc": True, "me": None}
    for person, role in (("anna", "reader"), ("root", "admin"), ("anna", "reader")):
        answer = log_in(server, provider, person)
        assert answer.headers["location"] == "/"
        assert who(server, answer) == {"name": person, "role": role, "password": False}
    refused = log_in(server, provider, "guest")
    assert refused.headers["location"] == "/?login=refused"
    assert "set-cookie" not in refused.headers


@pytest.mark.parametrize("fault", ["signature", "audience", "nonce", "issuer", "old"])
def test_a_token_that_is_not_ours_is_refused(server: Server, provider: str, fault: str) -> None:
    assert log_in(server, provider, "anna", fault).headers["location"] == "/?login=failed"


def test_an_answer_in_another_browser_is_refused(server: Server, provider: str) -> None:
    assert log_in(server, provider, "anna", cookie="bleedmap-oidc=another").headers["location"] == "/?login=failed"
    assert httpx.get(f"{server.url}/api/oidc/callback?state=&code=x").headers["location"] == "/?login=failed"


def test_a_disabled_person_stays_out(server: Server, provider: str) -> None:
    assert log_in(server, provider, "anna").headers["location"] == "/"
    admin = server.client("admin")
    number = next(one["id"] for one in admin.get("/api/admin/users").json()["users"] if one["name"] == "anna")
    assert admin.put(f"/api/admin/users/{number}", json={"disabled": True}).status_code == 204
    assert log_in(server, provider, "anna").headers["location"] == "/?login=refused"


def test_a_provider_that_cannot_be_asked_is_named_in_the_log_and_by_the_check(
    provider: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = Oidc(f"http://127.0.0.1:{free_port()}", "bleedmap", reader_group="readers")
    for oidc, told in (
        (away, "ConnectError"), (replace(away, issuer=provider.replace("127.0.0.1", "localhost")), "its issuer is not"),
        (replace(away, issuer=provider, client_secret_file=str(tmp_path / "no")), "No such file"),
    ):  # fmt: skip
        found = dict(check_settings(small_settings(tmp_path / "check", oidc=oidc)))
        assert told in found[f"OpenID Connect {oidc.issuer}"]
        caplog.clear()
        with serve_web(small_settings(tmp_path / told, oidc=oidc)) as running:
            answer = httpx.get(f"{running.url}/api/oidc/start")
        assert (answer.status_code, answer.headers["location"]) == (303, "/?login=failed")
        assert told in caplog.text
    good = small_settings(tmp_path / "good", oidc=replace(away, issuer=provider))
    assert dict(check_settings(good))[f"OpenID Connect {provider}"] == ""
