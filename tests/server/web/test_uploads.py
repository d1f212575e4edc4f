"""Uploads: what is no study, too large, or a trap leaves nothing behind; a study arrives as by C-STORE."""

import gzip
import io
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from bleedmap.server.config import Limits, Settings
from bleedmap.server.store.tables import passed_over, study
from server_studies import as_bytes, as_zip, scanned
from server_web import Server, serve_web

DICOM, ZIP = {"Content-Type": "application/dicom"}, {"Content-Type": "application/zip"}


@pytest.fixture
def server(sqlite_settings: Settings) -> Iterator[Server]:
    limits = Limits(free_gb=0.0, upload_gb=0.01, study_gb=0.02)
    with serve_web(replace(sqlite_settings, limits=limits)) as running:
        yield running


def as_encrypted_zip() -> bytes:
    data = bytearray(as_zip({"a": b"z" * 99}))
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + flags] |= 1
    return bytes(data)


def list_files(server: Server) -> list[Path]:
    return [one for one in server.place.root.rglob("*") if one.is_file() and "incoming" in one.parts]


def test_files_and_zips_arrive(server: Server) -> None:
    client = server.client("reader")
    instances = [as_bytes(one) for one in scanned()]
    assert client.post("/api/uploads", content=instances[0], headers=DICOM).json() == {"kept": 1, "passed_over": {}}
    files = {f"../../x/{number}": one for number, one in enumerate(instances)} | {"notes.txt": b"words"}
    answer = client.post("/api/uploads", content=as_zip(files), headers=ZIP)
    assert answer.json() == {"kept": 13, "passed_over": {"already held": 1, "not DICOM": 1}}
    assert len(list_files(server)) == 14
    with server.database.read() as connection:
        row = connection.execute(select(study)).mappings().one()
        counted = connection.execute(select(passed_over.c.reason)).scalars().all()
    assert (row["state"], row["instances"], row["sender_ae"]) == ("receiving", 14, "upload")
    assert counted == ["already held"]


def test_what_a_zip_holds_beside_slices_is_called_what_it_is(server: Server) -> None:
    slices = [as_bytes(one) for one in scanned()]
    files = {
        "study.zip": as_zip({"slice": slices[1]}), "cut.dcm": slices[2][:200], "letter.pdf": b"%PDF",
        "DICOMDIR": slices[3][:132] + b"\2\0\2\0UI\x14\x001.2.840.10008.1.3.10\0", "slice.dcm": slices[0],
    }  # fmt: skip
    answer = server.client("reader").post("/api/uploads", content=as_zip(files), headers=ZIP)
    left_out = {"zip inside the zip, which is not opened": 1, "damaged DICOM": 1, "not DICOM": 2}
    assert answer.json() == {"kept": 1, "passed_over": left_out}


def test_traps_are_refused_with_the_limit_named(server: Server) -> None:
    client = server.client("reader")
    bomb = as_zip({f"{number}": bytes(5_000_000) for number in range(6)})
    assert len(bomb) < 100_000
    cases: list[tuple[bytes, dict[str, str], int, str]] = [
        (bytes(10_000_001), DICOM, 413, "10,000,000 bytes"), (bomb, ZIP, 413, "0.02 GB when unpacked"),
        (b"no DICOM at all", DICOM, 422, "DICOM"), (b"", DICOM, 422, "it is an empty file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(500), DICOM, 422, "it is a PNG picture"),
        (gzip.compress(bytes(500)), DICOM, 422, "it is a file packed by gzip"),
        (as_zip({"a": b"x" * 5000})[:-40], ZIP, 422, "The zip is damaged"),
        (as_zip({"a": b"y" * 99})[:60], ZIP, 422, "The zip is damaged"),
        (as_encrypted_zip(), ZIP, 422, "The zip is encrypted"),
    ]  # fmt: skip
    for content, headers, status, words in cases:
        answer = client.post("/api/uploads", content=content, headers=headers)
        assert (answer.status_code, words in answer.text) == (status, True), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
    endless = client.post("/api/uploads", content=(bytes(1 << 20) for _ in range(20)), headers=DICOM)
    assert endless.status_code == 413
    assert list_files(server) == []


def test_slices_before_a_fault_of_the_zip_are_told(server: Server) -> None:
    """Kept they are: a study is made of them, whether the sender tries again or not."""
    client, mark = server.client("reader"), b"the last file"
    files = {str(number): as_bytes(one) for number, one in enumerate(scanned())} | {"last": mark}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    damaged = stream.getvalue().replace(mark, b"another words")
    answer = client.post("/api/uploads", content=damaged, headers=ZIP)
    assert answer.status_code == 422
    assert answer.json()["title"] == "The zip is damaged (slices of it that were kept: 14)"
    with server.database.read() as connection:
        row = connection.execute(select(study)).mappings().one()
    assert (row["state"], row["instances"]) == ("receiving", 14)


def test_a_full_disk_is_said(sqlite_settings: Settings) -> None:
    with serve_web(replace(sqlite_settings, limits=Limits(free_gb=1e9))) as server:
        client: httpx.Client = server.client("reader")
        answer = client.post("/api/uploads", content=as_bytes(scanned()[0]), headers=DICOM)
        assert (answer.status_code, answer.json()["title"]) == (507, "The disk is full")
        assert list_files(server) == []
