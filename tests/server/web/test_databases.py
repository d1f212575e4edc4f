"""Every page's data on SQLite and on PostgreSQL: the same answers."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import insert

from bleedmap.server.config import Settings, Target
from bleedmap.server.store import queue, readings, users
from bleedmap.server.store.engine import Database
from bleedmap.server.store.tables import Step, delivery, process
from bleedmap.server.web.context import Web
from bleedmap.server.web.metrics import Figures
from server_studies import add_row
from server_web import serve_web


def test_corrections_saved_at_once_have_numbers_of_their_own(database: Database) -> None:
    number = add_row(database)
    with database.write() as connection:
        user = users.add_user(connection, 0.0, "Anna", "reader")

    def save(count: int) -> int:
        with database.write() as connection:
            file = f"{count}.nii.gz"
            return readings.add_correction(
                connection, 1.0, number, 1, user, file=file, sha256="", base_sha256="", voxels=0
            )

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(save, range(12))) == list(range(1, 13))


def test_all_lists_answer_alike(settings: Settings) -> None:
    settings = replace(settings, target=(Target(name="pacs", ae_title="PACS", address="127.0.0.1:4242"),))
    with serve_web(settings) as server:
        first = add_row(server.database, verdict="bleed marked", score=0.9, uid="1.2.3", state="segmented")
        add_row(server.database, id=add_row(server.database, state="superseded"), version=2, verdict="no verdict")
        with server.database.write() as connection:
            queue.enqueue(connection, first, 1, Step.DELIVER, "pacs")
            objects = [("1.1", "confirmed"), ("1.2", "open")]
            connection.execute(
                insert(delivery), [{"job": 1, "sop_uid": uid, "sop_class": "1", "state": one} for uid, one in objects]
            )
            now = server.database.now(connection)
            beat = {"kind": "worker", "host": "here", "pid": 1, "started_at": now, "beat_at": now}
            connection.execute(insert(process).values(id="worker:here:1", **beat))
        admin = server.client("admin", name="Root")
        assert admin.post(f"/api/studies/{first}/readings", json={"version": 1, "says": "agree"}).status_code == 201
        listed = admin.get("/api/studies").json()
        assert [one["verdict"] for one in listed["studies"]] == ["no verdict", "bleed marked"]
        about = admin.get(f"/api/studies/{first}").json()
        assert about["deliveries"] == [{"target": "pacs", "state": "ready", "error": "", "objects": 2, "confirmed": 1}]
        assert admin.get("/api/admin/peers").json()["targets"][0]["held"] == 1
        shown = admin.get("/api/admin/queue").json()
        assert (shown["counts"], shown["processes"][0]["alive"]) == ([["deliver", "ready", 1]], True)
        assert admin.get("/api/admin/audit").json()["whole"] is True
        assert admin.get("/api/admin/users").json()["users"][0]["last_seen"] > 0
        assert admin.get("/dicomweb/studies?StudyInstanceUID=1.2.3").json()[0]["00100020"]["Value"] == ["ID-4711"]
        assert admin.get("/readyz").json() == {"ready": True}
        registry = CollectorRegistry()
        registry.register(Figures(Web(settings, server.database, server.place)))
        told = generate_latest(registry).decode()
        for line in (
            'bleedmap_deliveries{result="confirmed",target="pacs"} 1.0',
            'bleedmap_queue_depth{state="ready",step="deliver"} 1.0',
            'bleedmap_receive_to_result_seconds{quantile="0.5"}',
        ):
            assert line in told
