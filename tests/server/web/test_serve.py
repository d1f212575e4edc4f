"""The whole program with its pages: uploaded, segmented, shown; logs and addresses tell nothing of anybody."""

from io import BytesIO
from pathlib import Path

import httpx

from bleedmap.server.config import Web
from bleedmap.server.store import users
from free_port import free_port
from phantom_studies import NAME, NUMBER, make_study
from running_server import run_server, spot_settings


def test_an_uploaded_study_is_segmented_and_shown(tmp_path: Path) -> None:
    ports = free_port(), free_port()
    web = Web(listen=f"127.0.0.1:{ports[1]}", metrics=f"127.0.0.1:{free_port()}")
    settings = spot_settings(tmp_path, ports[0], web=web)
    url = f"http://{settings.web.listen}"
    instances = make_study(1)
    with run_server(settings, ports[0], only=("listener", "web", "worker")) as server:
        with server.database.write() as connection:
            now = server.database.now(connection)
            user = users.add_user(connection, now, "Anna", "reader")
            token = users.begin_session(connection, now, user, "")
        headers = {"Cookie": f"__Host-bleedmap={token}", "Origin": url}
        client = httpx.Client(base_url=url, headers=headers, transport=httpx.HTTPTransport(retries=5), timeout=30)
        for one in instances:
            stream = BytesIO()
            one.save_as(stream, enforce_file_format=True)
            kind = {"Content-Type": "application/dicom"}
            assert client.post("/api/uploads", content=stream.getvalue(), headers=kind).json()["kept"] == 1
        server.wait(lambda rows: bool(rows) and rows[0]["state"] == "delivered")
        (listed,) = client.get("/api/studies").json()["studies"]
        assert (listed["verdict"], listed["sender_ae"]) == ("bleed marked", "upload")
        assert listed["patient"]["name"] == NAME
        words = client.get(f"/api/studies/{listed['id']}/v1/view").json()
        assert words["shape"] == [len(instances), *words["shape"][1:]]
        assert words["lesions"]
        assert client.get("/readyz").json() == {"ready": True}
        figures = httpx.get(f"http://{settings.web.metrics}/metrics").text
        assert 'bleedmap_studies{state="delivered"} 1.0' in figures
        assert "bleedmap_receive_to_result_seconds{" in figures
    told = server.log.read_text()
    held = "\n".join(str(one) for one in settings.data.rglob("*"))
    for secret in (NAME, NUMBER, instances[0].StudyInstanceUID, instances[0].SOPInstanceUID, token):
        assert secret not in told
        assert secret not in held
        assert secret not in figures
