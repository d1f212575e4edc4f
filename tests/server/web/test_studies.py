"""The worklist, a study's files, readings, corrections, and administration, as a browser asks for them."""

import gzip
import io
import time
import zipfile

import httpx
import nibabel as nib
import numpy as np
import pytest
from sqlalchemy import insert, select

from bleedmap.server import view
from bleedmap.server.config import Settings
from bleedmap.server.store.tables import job
from bleedmap.server.store.tables import study as study_rows
from server_studies import NAME, NUMBER, add_row, add_study, phantom, scanned
from server_web import Server, serve_web


def correct(client: httpx.Client, study: str, body: bytes, base: str, version: int = 1) -> httpx.Response:
    return client.put(
        f"/api/studies/{study}/corrections", params={"version": version, "base": base}, content=body,
        headers={"Content-Type": "application/gzip"},
    )  # fmt: skip


def test_the_order_is_the_one_that_is_said(sqlite_settings: Settings) -> None:
    with serve_web(sqlite_settings) as server:
        now = time.time()
        rows = [
            ("likely", {"verdict": "bleed marked", "score": 0.9}),
            ("less likely", {"verdict": "bleed marked", "score": 0.6}),
            ("no verdict", {"verdict": "no verdict", "score": 0.99, "first_seen": now + 9}),
            ("refused", {"state": "refused", "error": "3 slices", "first_seen": now + 8}),
            ("failed", {"state": "failed", "first_seen": now + 7}),
            ("receiving", {"state": "receiving", "first_seen": now + 20}),
            ("negative", {"verdict": "no bleed marked", "score": 0.4, "first_seen": now + 30}),
        ]  # fmt: skip
        made = {
            name: add_row(server.database, **{"first_seen": now - 7200, **values}) for name, values in reversed(rows)
        }
        again = add_row(server.database, verdict="no bleed marked", state="superseded")
        add_row(server.database, id=again, version=2, verdict="bleed marked", score=0.7, cause="late slices")
        client = server.client("reader", name="Anna")
        listed = client.get("/api/studies").json()
        names = {number: name for name, number in made.items()} | {again: "again"}
        order = [names[one["id"]] for one in listed["studies"]]
        assert order == ["likely", "again", "less likely", "no verdict", "refused", "failed", "receiving", "negative"]
        assert dict(map(tuple, listed["counts"])) == {
            "all": 8, "unread": 8, "bleed marked": 3, "needs a person": 3, "not yet looked at": 1, "no bleed marked": 1
        }  # fmt: skip
        assert listed["oldest_unread_s"] == pytest.approx(7200, abs=60)
        assert listed["studies"][1]["moved"] == "moved from “no bleed marked” (version 1): late slices"
        assert listed["studies"][0]["patient"]["name"] == NAME
        said = client.post(
            f"/api/studies/{made['likely']}/readings", json={"version": 1, "says": "agree", "words": "x"}
        )
        assert said.status_code == 201
        after = client.get("/api/studies").json()
        assert after["studies"][-1]["id"] == made["likely"]
        assert after["studies"][-1]["read_by"] == ["Anna"]
        arrival = client.get("/api/studies?order=arrival").json()
        assert [names[one["id"]] for one in arrival["studies"]][:2] == ["negative", "receiving"]
        assert len(client.get("/api/studies?state=failed").json()["studies"]) == 1
        waits = client.post(f"/api/studies/{made['receiving']}/readings", json={"version": 1, "says": "agree"})
        assert waits.status_code == 409
        for says, status in (("agree", 409), ("false alarm", 409), ("missed", 201)):  # no outline was made of it
            given = client.post(f"/api/studies/{made['refused']}/readings", json={"version": 1, "says": says})
            assert given.status_code == status
        wrong = client.post(f"/api/studies/{made['likely']}/readings", json={"version": 1, "says": "maybe"})
        assert wrong.status_code == 422


def test_what_a_long_list_does_not_show_is_counted_and_said(sqlite_settings: Settings) -> None:
    """A reader of one sender's studies sees them, however many another has sent since."""
    with serve_web(sqlite_settings) as server:
        now = time.time()
        add_row(server.database, sender_ae="CT2", first_seen=now - 7200, verdict="no bleed marked")
        with server.database.write() as connection:
            first = dict(connection.execute(select(study_rows)).mappings().one())
            other = first | {"sender_ae": "CT1", "verdict": "bleed marked", "score": 0.9, "first_seen": now}
            rows = [other | {"id": f"{one:020}", "key": f"{one}"} for one in range(5000)]
            connection.execute(insert(study_rows), rows)
        listed = server.client("reader").get("/api/studies").json()
        assert (len(listed["studies"]), dict(listed["counts"])["all"]) == (5000, 5001)
        assert dict(listed["counts"])["no bleed marked"] == 1
        assert listed["order"].endswith("Shown are the first 5,000 of 5,001.")
        assert listed["oldest_unread_s"] == pytest.approx(7200, abs=60)
        mine = server.client("reader", senders="CT2").get("/api/studies").json()
        assert [one["sender_ae"] for one in mine["studies"]] == ["CT2"]
        assert dict(mine["counts"])["all"] == 1
        assert mine["order"].endswith("No study is left out.")


def test_a_thousand_studies_are_listed_at_once(sqlite_settings: Settings) -> None:
    with serve_web(sqlite_settings) as server:
        add_row(server.database)
        with server.database.write() as connection:
            first = dict(connection.execute(select(study_rows)).mappings().one())
            rows = [first | {"id": f"{one:020}", "key": f"{one}", "score": one / 1000} for one in range(999)]
            connection.execute(insert(study_rows), rows)
        client = server.client("reader")
        begun = time.process_time()
        listed = client.get("/api/studies").json()
        assert len(listed["studies"]) == 1000
        assert time.process_time() - begun < 2


def test_files_of_a_study(server: Server, study: str, reader: httpx.Client) -> None:
    about = reader.get(f"/api/studies/{study}").json()
    assert about["has_view"] is True
    assert about["files"] == ["report.html", "dicom.zip", "images.zip"]
    packed = gzip.decompress(reader.get(f"/api/studies/{study}/v1/stack.nii.gz").content)
    stack = np.asarray(nib.Nifti1Image.from_bytes(packed).dataobj)
    np.testing.assert_allclose(
        stack.transpose(2, 1, 0), phantom().volume.hu, atol=0.51
    )  # whole HU, as scanners store them
    results = zipfile.ZipFile(io.BytesIO(reader.get(f"/api/studies/{study}/v1/dicom.zip").content))
    assert results.testzip() is None
    assert {"segmentation.dcm", "report.dcm"} <= set(results.namelist())
    images = zipfile.ZipFile(io.BytesIO(reader.get(f"/api/studies/{study}/v1/images.zip").content))
    assert len(images.namelist()) == 14
    assert reader.get(f"/api/studies/{study}/v2/view").status_code == 404
    base = f"/api/studies/{study}/v1/slices"
    plain, marked = (reader.get(f"{base}/8.png?overlay={one}").content for one in (0, 1))
    assert plain.startswith(b"\x89PNG")
    assert plain != marked
    assert {reader.get(f"{base}/{one}.png").status_code for one in (0, 15, 10**9)} == {404}
    assert reader.get(f"{base}/1.png?width=0").status_code == 422


def test_a_correction_returns_to_the_same_voxels(server: Server, study: str, reader: httpx.Client) -> None:
    words = reader.get(f"/api/studies/{study}/v1/view").json()
    body = reader.get(f"/api/studies/{study}/v1/mask.nii.gz").content
    mask = view.read_correction(body, tuple(words["shape"]))
    np.testing.assert_array_equal(mask, phantom().mask.array)
    drawn = mask.copy()
    drawn[3, 10:20, 30:50] = True
    kept = correct(reader, study, view.pack_mask(drawn, words), words["mask_sha256"])
    assert kept.status_code == 201
    assert kept.json()["voxels"] == drawn.sum()
    back = reader.get(f"/api/studies/{study}/corrections/{kept.json()['number']}.nii.gz").content
    np.testing.assert_array_equal(view.read_correction(back, drawn.shape), drawn)
    following = correct(reader, study, view.pack_mask(mask, words), kept.json()["sha256"])
    assert following.json()["number"] == kept.json()["number"] + 1
    for made, expected in ((kept, drawn), (following, mask)):  # the earlier one stays as it is
        body = reader.get(f"/api/studies/{study}/corrections/{made.json()['number']}.nii.gz").content
        np.testing.assert_array_equal(view.read_correction(body, drawn.shape), expected)
    about = reader.get(f"/api/studies/{study}").json()
    assert [one["user"] for one in about["corrections"]][:2] == ["Anna", "Anna"]
    assert correct(reader, study, view.pack_mask(mask, words), "0" * 64).status_code == 409
    assert correct(reader, study, view.pack_mask(mask, words), words["mask_sha256"], version=2).status_code == 404
    with server.database.read() as connection:  # the result stays as it is
        row = connection.execute(select(study_rows).where(study_rows.c.id == study)).mappings().one()
    assert row["volume_ml"] == pytest.approx(phantom().mask.volume_ml, rel=0.01)


def test_a_bomb_in_a_correction_is_refused(server: Server, study: str, reader: httpx.Client) -> None:
    words = reader.get(f"/api/studies/{study}/v1/view").json()
    before = {one.name for one in server.place.corrections(study).glob("*")}
    bomb = gzip.compress(bytes(150_000_000), 1)
    begun = time.process_time()
    answer = correct(reader, study, bomb, words["mask_sha256"])
    assert answer.status_code == 422
    assert "bytes when unpacked" in answer.json()["title"]
    assert time.process_time() - begun < 5
    long = correct(reader, study, bytes(64 * 1024 * 1024 + 1), words["mask_sha256"])
    assert (long.status_code, "67,108,864 bytes" in long.json()["detail"]) == (413, True)
    image = nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.diag([-1, -1, 1, 1]))
    assert correct(reader, study, gzip.compress(image.to_bytes()), words["mask_sha256"]).status_code == 422
    assert {one.name for one in server.place.corrections(study).glob("*")} == before


def test_administrators_ask_for_it_once_more(server: Server) -> None:
    number = add_study(server.place, server.database, scanned(), phantom().mask.array)
    admin = server.client("admin")
    images = server.place.dicom(number, 1)
    images.rename(images.with_name("away"))
    assert admin.post(f"/api/studies/{number}/again").status_code == 409
    images.with_name("away").rename(images)
    assert admin.post(f"/api/studies/{number}/deliver").json() == {"targets": ["pacs"]}
    assert admin.post(f"/api/studies/{number}/again").json() == {"version": 2}
    assert admin.post(f"/api/studies/{number}/again").status_code == 409  # under way
    with server.database.read() as connection:
        jobs = connection.execute(select(job.c.step, job.c.version, job.c.target).where(job.c.study == number)).all()
    assert set(map(tuple, jobs)) == {("deliver", 1, "pacs"), ("segment", 2, "")}
    about = admin.get(f"/api/studies/{number}").json()
    assert about["version"] == 1
    assert about["moved"] == "more slices arrive: it will be looked at again"
    assert about["deliveries"][0]["target"] == "pacs"


def test_administration(server: Server) -> None:
    admin = server.client("admin", name="Root")
    given = {"name": "Bea", "password": "a long password", "role": "reader", "senders": " CT1 ,CT2"}
    number = admin.post("/api/admin/users", json=given).json()["id"]
    assert admin.post("/api/admin/users", json=given | {"name": "bea"}).status_code == 422
    users = {one["name"]: one for one in admin.get("/api/admin/users").json()["users"]}
    assert (users["Bea"]["senders"], users["Bea"]["disabled"]) == ("CT1,CT2", False)
    assert "password" not in str(users)
    change = {"disabled": True, "role": "admin", "password": "another password"}
    assert admin.put(f"/api/admin/users/{number}", json=change).status_code == 204
    assert admin.put(f"/api/admin/users/{number}", json={}).status_code == 422
    assert admin.put("/api/admin/users/" + "0" * 20, json=change).status_code == 404
    queue, disk, peers, audit = (admin.get(f"/api/admin/{one}").json() for one in ("queue", "disk", "peers", "audit"))
    assert set(queue) == {"now", "jobs", "counts", "processes", "passed_over"}
    assert disk["free_gb"] > 0
    assert peers["targets"][0]["where"] == "PACS at 127.0.0.1:4242"
    assert audit["whole"] is True
    assert audit["rows"][0]["action"] == "user changed"
    assert NUMBER not in str(audit)
    older = admin.get(f"/api/admin/audit?before={audit['rows'][0]['id']}").json()
    assert older["rows"][0]["id"] == audit["rows"][0]["id"] - 1


def test_the_last_administrator_stays(sqlite_settings: Settings) -> None:
    with serve_web(sqlite_settings) as server:
        admin = server.client("admin", name="Root")
        number = admin.get("/api/admin/users").json()["users"][0]["id"]
        answer = admin.put(f"/api/admin/users/{number}", json={"role": "reader"})
        assert (answer.status_code, answer.json()["title"]) == (422, "The last administrator")
        assert admin.get("/api/me").json()["role"] == "admin"


def test_pages_are_told_of_changes(server: Server, reader: httpx.Client) -> None:
    with reader.stream("GET", "/api/live") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "retry: 2000"
        add_row(server.database)
        assert next(one for one in lines if one.startswith("data:"))
