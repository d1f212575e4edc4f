"""Who may ask what: every route without a login, as a reader, for a stranger's study; and what every answer carries."""

import re

import httpx
import pytest
from sqlalchemy import select

from bleedmap.server.store.tables import audit, user
from bleedmap.server.web.security import PUBLIC
from server_studies import add_row, add_study, phantom, scanned
from server_web import Server

JSON = {"Content-Type": "application/json"}
# What each change needs, so that it is refused for who asks and not for what is asked.
BODIES = {
    "/api/studies/{number}/readings": {"json": {"version": 1, "says": "agree"}},
    "/api/studies/{number}/corrections": {
        "params": {"version": 1, "base": "0" * 64}, "content": b"x", "headers": {"Content-Type": "application/gzip"}
    },
    "/api/me/password": {"json": {"old": "x", "new": "x" * 12}},
}  # fmt: skip
VALUES = {"{version}": "1", "{name}": "stack", "{what}": "dicom", "{slice_number}": "1", "{made}": "1"}


@pytest.fixture(scope="module")
def routes(server: Server) -> list[tuple[str, str]]:
    paths = server.client("admin").get("/api/openapi.json").json()["paths"]
    found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    assert len(found) > 25
    return [one for one in found if one not in PUBLIC]


def ask(client: httpx.Client, method: str, path: str, number: str) -> httpx.Response:
    filled = path.replace("{number}", number)
    for name, value in VALUES.items():
        filled = filled.replace(name, value)
    return client.request(method, filled, **BODIES.get(path, {"headers": JSON} if method != "GET" else {}))


def test_no_route_answers_without_a_login(server: Server, study: str, routes: list[tuple[str, str]]) -> None:
    stranger = server.client()
    for method, path in routes:
        assert ask(stranger, method, path, study).status_code == 401, (method, path)
    assert stranger.get("/api/never").status_code == 401
    assert {stranger.get(one).status_code for one in ("/", "/healthz", "/api/login")} == {200}
    assert stranger.get("/readyz").status_code == 503  # no worker lives


def test_a_reader_reads_and_administers_nothing(server: Server, study: str, routes: list[tuple[str, str]]) -> None:
    reader = server.client("reader")
    admin_only = {path for _, path in routes if path.startswith("/api/admin")}
    admin_only |= {"/api/studies/{number}/again", "/api/studies/{number}/deliver"}
    for method, path in routes:
        if path in admin_only:
            assert ask(reader, method, path, study).status_code == 403, (method, path)
    assert reader.get("/api/never").status_code == 404


def test_a_study_of_another_sender_is_not_there(server: Server, study: str, routes: list[tuple[str, str]]) -> None:
    stranger, unknown = server.client("admin", senders="CT2,CT3"), server.client("reader")
    own = add_row(server.database, sender_ae="CT3")
    for method, path in routes:
        if "{number}" in path and not path.startswith("/api/admin"):
            assert ask(stranger, method, path, study).status_code == 404, (method, path)
            if "admin" not in path and not path.endswith(("again", "deliver")):
                assert ask(unknown, method, path, "0" * 20).status_code == 404, (method, path)
    listed = stranger.get("/api/studies").json()
    assert [one["id"] for one in listed["studies"]] == [own]
    assert dict(map(tuple, listed["counts"]))["all"] == 1
    assert stranger.get(f"/api/studies/{own}").status_code == 200


def test_changes_come_from_our_own_page_in_json(server: Server) -> None:
    client = server.client("reader")
    foreign = [
        {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"}, {"Origin": "", "Sec-Fetch-Site": ""},
    ]  # fmt: skip
    for headers in foreign:
        assert client.post("/api/logout", headers=headers).status_code == 403
    form = client.post("/api/logout", data={"a": "b"})
    assert (form.status_code, form.headers["content-type"]) == (415, "application/problem+json")
    assert client.post("/api/logout", content=b'{"a":1}', headers={"Content-Type": "text/plain"}).status_code == 415
    assert client.post("/api/login", content=b"[" * 70_000, headers=JSON).status_code == 413
    assert client.post("/api/login", content=iter([b"{}"]), headers=JSON).status_code == 413
    assert client.get("/api/me", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/api/me").status_code == 200
    assert client.post("/api/logout").status_code == 204


def test_every_answer_carries_its_headers(server: Server, study: str) -> None:
    client = server.client("reader")
    for path in ("/", "/api/me", "/api/studies", "/api/never", f"/api/studies/{study}/v1/stack.nii.gz"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
    script = client.get("/").text.split('src="')[1].split('"')[0]
    assert "immutable" in client.get(f"/{script}").headers["cache-control"]
    assert client.get("/static/../app.py").status_code == 404
    assert client.get("/static/..%2f..%2fweb/app.py").status_code == 404
    report = client.get(f"/api/studies/{study}/v1/report.html")
    policy = report.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts;")
    assert "'sha256-" in policy
    assert "unsafe" not in policy
    assert "</main>" in report.text
    links = re.findall(r'<a href="([^"]*)"', report.text.split("<main", 1)[1])
    assert all(one.startswith("#") for one in links)  # no route gives the files beside it


def test_the_machines_token_opens_dicomweb_alone(server: Server) -> None:
    token = (server.place.root / "keys/dicomweb-token").read_text().strip()
    client = server.client()
    assert client.get("/api/studies", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert client.get("/dicomweb/studies", headers={"Authorization": "Bearer guess"}).status_code == 401


def test_an_error_of_ours_tells_nothing(server: Server, study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*given: object) -> None:
        raise RuntimeError("FAMILY^GIVEN")

    monkeypatch.setattr("bleedmap.server.store.readings.list_readings", fail)
    answer = server.client("reader").get(f"/api/studies/{study}")
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "FAMILY" not in answer.text


def test_opening_a_study_is_recorded(server: Server, study: str) -> None:
    client = server.client("reader", name="Reader of records")
    client.get(f"/api/studies/{study}/v1/view")
    client.get(f"/api/studies/{study}/v1/dicom.zip")
    with server.database.read() as connection:
        rows = connection.execute(select(audit).where(audit.c.study == study).order_by(audit.c.id.desc())).mappings()
        assert [one["action"] for one in rows][:2] == ["exported", "study opened"]


def test_whichever_part_of_a_study_is_asked_for_is_recorded_as_opening_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An array or a picture without the page, and what a viewer asks by DICOMweb: once, not with every request."""
    instances = scanned()
    first = instances[0]
    number = add_study(server.place, server.database, instances, phantom().mask.array, uid=first.StudyInstanceUID)
    home, web = f"/api/studies/{number}/v1", f"/dicomweb/studies/{first.StudyInstanceUID}"
    frame = f"{web}/series/{first.SeriesInstanceUID}/instances/{first.SOPInstanceUID}/frames/1"
    for path in (f"{home}/stack.nii.gz", f"{home}/slices/1.png", f"{web}/metadata", f"{web}/instances", frame):
        client = server.client("reader", name=path[-60:])
        assert [client.get(path).status_code for _ in range(2)] == [200, 200], path
        with server.database.read() as connection:
            who = select(user.c.id).where(user.c.name == path[-60:]).scalar_subquery()
            rows = connection.execute(select(audit.c.action, audit.c.study).where(audit.c.actor == who)).all()
        assert list(map(tuple, rows)) == [("study opened", number)], path
    admin = server.client("admin", name="Admin of locks")
    with monkeypatch.context() as broken:
        broken.setattr(type(server.database), "write", lambda database: (_ for _ in ()).throw(ConnectionError()))
        assert admin.get(f"{home}/stack.nii.gz").status_code == 500
    assert admin.get(f"{home}/stack.nii.gz").status_code == 200
    with server.database.read() as connection:
        last = connection.execute(select(audit.c.action, audit.c.study).order_by(audit.c.id.desc())).first()
    assert last == ("study opened", number), "nothing is given that is not recorded"
    reader = server.client("reader", name="Retriever")
    assert reader.get(web).status_code == 200
    with server.database.read() as connection:
        last = connection.execute(select(audit.c.action, audit.c.study).order_by(audit.c.id.desc())).first()
    assert last == ("instances retrieved", number)
