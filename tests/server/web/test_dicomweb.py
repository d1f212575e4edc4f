"""DICOMweb: what is stored is found and comes back byte for byte; wrong requests are answered, not served."""

import io
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from pydicom.encaps import get_frame
from python_multipart.multipart import MultipartParser
from sqlalchemy import select

from bleedmap.archive.remote.dicomweb import DicomwebArchive
from bleedmap.archive.remote.web import Service
from bleedmap.phantom.dicom import CtOptions
from bleedmap.phantom.dicom_enhanced import enhanced_ct
from bleedmap.server.store.tables import study as study_rows
from server_studies import NAME, NUMBER, add_row, add_study, as_bytes, phantom, scanned
from server_web import Server


@pytest.fixture(scope="module")
def client(server: Server) -> httpx.Client:
    token = (server.place.root / "keys/dicomweb-token").read_text().strip()
    return httpx.Client(base_url=f"{server.url}/dicomweb", headers={"Authorization": f"Bearer {token}"}, timeout=30)


@pytest.fixture(scope="module")
def images(server: Server) -> Path:
    """The files of a study whose rows and files agree on its UID."""
    instances = scanned()
    uid = instances[0].StudyInstanceUID
    number = add_study(server.place, server.database, instances, phantom().mask.array, uid=uid)
    return server.place.dicom(number, 1)


def parts_of(answer: httpx.Response) -> list[bytes]:
    boundary = answer.headers["content-type"].split("boundary=")[1].encode()
    found: list[bytes] = []
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": lambda: found.append(b""),
            "on_part_data": lambda data, first, last: found.append(found.pop() + data[first:last]),
        },
    )
    parser.write(answer.content)
    return found


def pack(*files: bytes, boundary: str = "x1y2", kind: str = "application/dicom") -> tuple[bytes, dict[str, str]]:
    parts = b"".join(f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n".encode() + one + b"\r\n" for one in files)
    headers = {"Content-Type": f'multipart/related; type="{kind}"; boundary={boundary}'}
    return parts + f"--{boundary}--\r\n".encode(), headers


def test_a_study_is_found_and_comes_back_byte_for_byte(client: httpx.Client, images: Path) -> None:
    files = {dcmread(one).SOPInstanceUID: one for one in images.iterdir()}
    any_one = dcmread(next(iter(files.values())))
    uid, series = any_one.StudyInstanceUID, any_one.SeriesInstanceUID
    (found,) = client.get("/studies", params={"PatientName": "fam*", "PatientID": NUMBER, "limit": 5}).json()
    assert found["0020000D"]["Value"] == [uid]
    assert found["00100010"]["Value"] == [{"Alphabetic": NAME}]
    listed = {one["0020000E"]["Value"][0]: one for one in client.get(f"/studies/{uid}/series").json()}
    assert sorted(one["00080060"]["Value"][0] for one in listed.values()) == ["CT", "OT", "SEG", "SR"]
    assert listed[series]["00201209"]["Value"] == [14]
    ct = client.get(f"/studies/{uid}/series/{series}/instances").json()
    assert {one["00080018"]["Value"][0] for one in ct} == set(files)
    base = f"/studies/{uid}/series/{series}"
    header = client.get(f"{base}/metadata").json()
    assert len(header) == 14
    assert all("7FE00010" not in one for one in header)
    back = parts_of(client.get(base))
    assert sorted(back) == sorted(one.read_bytes() for one in files.values())
    one, path = next(iter(files.items()))
    answer = client.get(f"{base}/instances/{one}/frames/1")
    assert parts_of(answer) == [dcmread(path).PixelData]
    assert client.get(f"{base}/instances/{one}/frames/2").status_code == 404
    assert client.get(f"{base}/instances/{one}/metadata").json()[0]["00080018"]["Value"] == [one]
    seg = next(key for key, value in listed.items() if value["00080060"]["Value"] == ["SEG"])
    (segmentation,) = parts_of(client.get(f"/studies/{uid}/series/{seg}"))
    made = dcmread(io.BytesIO(segmentation))
    frames = parts_of(client.get(f"/studies/{uid}/series/{seg}/instances/{made.SOPInstanceUID}/frames/1,2"))
    assert len(frames) == 2
    assert frames[0] == made.PixelData[: made.Rows * made.Columns // 8]
    assert len(parts_of(client.get(f"/studies/{uid}"))) == sum(one["00201209"]["Value"][0] for one in listed.values())
    assert client.get("/studies/1.2.3").status_code == 404
    assert client.get(f"{base}/instances/1.2.3").status_code == 404
    assert client.get("/studies/x'y").status_code == 422


@pytest.mark.parametrize("syntax", ["explicit", "jpeg-ls"])
def test_each_frame_is_given_by_its_own_number(server: Server, client: httpx.Client, syntax: str) -> None:
    made = enhanced_ct(phantom().volume, options=CtOptions(transfer_syntax=syntax))
    made.StudyInstanceUID = f"1.2.840.78.{len(syntax)}"
    number = add_row(server.database, uid=made.StudyInstanceUID)
    folder = server.place.dicom(number, 1)
    folder.mkdir(parents=True)
    (folder / "one.dcm").write_bytes(as_bytes(made))
    count, size = int(made.NumberOfFrames), made.Rows * made.Columns * 2
    expected = [
        get_frame(made.PixelData, index, number_of_frames=count)
        if syntax == "jpeg-ls" else made.PixelData[index * size : (index + 1) * size]
        for index in range(count)
    ]  # fmt: skip
    assert len(set(expected)) == count
    base = f"/studies/{made.StudyInstanceUID}/series/{made.SeriesInstanceUID}/instances/{made.SOPInstanceUID}/frames"
    asked = [count, 1, 3]
    assert parts_of(client.get(f"{base}/{count},1,3")) == [expected[one - 1] for one in asked]
    assert client.get(f"{base}/{count + 1}").status_code == client.get(f"{base}/0").status_code == 404


def test_a_batch_fetches_from_it_what_it_holds(server: Server, images: Path, tmp_path: Path) -> None:
    token = str(server.place.root / "keys/dicomweb-token")
    archive = DicomwebArchive(Service(f"{server.url}/dicomweb", token))
    uid = dcmread(next(images.iterdir())).StudyInstanceUID
    (source,) = [one for one in archive.find().sources if one.uid == uid]
    fetched = archive.fetch(source, tmp_path)
    assert sorted(Path(one).read_bytes() for one in fetched.files) == sorted(
        one.read_bytes() for one in images.iterdir()
    )
    assert archive.identify(source)["patient_id"] == NUMBER


def test_keys_of_a_search(server: Server, client: httpx.Client) -> None:
    add_row(server.database, uid="1.2.34", study_at="2020-03-04T05:06:07", description="ODD ONE", sender_ae="CT9")

    def count(**keys: object) -> int:
        return len(client.get("/studies", params=keys).json())

    assert (
        count(StudyInstanceUID="1.2.34") == count(StudyInstanceUID="1.2.34,9.9") == count(**{"0020000D": "1.2.34"}) == 1
    )
    assert count(StudyDate="20200101-20200401") == count(StudyDate="-20200304") == count(StudyDate="20200304") == 1
    assert count(StudyDate="20200305-20200401") == count(StudyDescription="ODD") == count(PatientID="never") == 0
    assert count(StudyDescription="odd*") == count(ModalitiesInStudy="CT", StudyDate="2020*") == 1
    everything = count()
    assert count(limit=1) == 1
    assert count(offset=1) == everything - 1
    assert count(limit=0) == 0
    assert client.get("/studies?limit=x").status_code == 400
    session = server.client("reader", senders="CT9")
    assert len(session.get("/dicomweb/studies").json()) == 1
    assert session.get("/dicomweb/studies/1.2.34/series").status_code == 404  # no files


def test_what_is_stored_arrives_as_by_c_store(server: Server, client: httpx.Client) -> None:
    instances = scanned()
    for number, one in enumerate(instances):
        one.StudyInstanceUID, one.SOPInstanceUID = "1.2.840.77", f"1.2.840.77.{number}"
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    body, headers = pack(*map(as_bytes, instances))
    answer = client.post("/studies", content=body, headers=headers)
    assert answer.status_code == 200
    assert len(answer.json()["00081199"]["Value"]) == 14
    with server.database.read() as connection:
        row = connection.execute(select(study_rows).where(study_rows.c.uid == "1.2.840.77")).mappings().one()
    assert (row["state"], row["instances"], row["sender_ae"]) == ("receiving", 14, "STOW")
    mixed, headers = pack(as_bytes(instances[0]), b"no DICOM")
    half = client.post("/studies", content=mixed, headers=headers)
    assert half.status_code == 202
    assert half.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xC000]
    other, headers = pack(as_bytes(instances[1]))
    assert client.post("/studies/1.2.3", content=other, headers=headers).status_code == 409
    parts = server.place.root / "incoming/parts"
    assert list(parts.iterdir()) == []
    wrong: list[tuple[bytes, dict[str, str], int]] = [
        (body[: len(body) // 2], headers, 400), (b"nothing", headers, 400), (pack()[0], headers, 400),
        (pack(b"{}", kind="application/dicom+json")[0], pack(b"", kind="application/dicom+json")[1], 415),
        (body, {"Content-Type": "multipart/related"}, 415), (bytes(20_000_001), headers, 413),
        (body, {"Content-Type": "application/dicom"}, 415),
    ]  # fmt: skip
    for content, said, status in wrong:
        assert client.post("/studies", content=content, headers=said).status_code == status, said
    assert list(parts.iterdir()) == []
