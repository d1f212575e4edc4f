"""`bleedmap batch` from a DICOMweb server or a bucket: the same results as from a folder, and back; nothing is lost."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from batch_runs import rows_of, summary_of
from bleedmap.archive.remote import dicomweb, store, web
from bleedmap.archive.remote.dicomweb import DicomwebArchive
from bleedmap.archive.remote.web import Service
from bleedmap.phantom.dicom import CtOptions, ct_instances, write_series
from bleedmap.volume import Volume
from certificates import write_certificate
from command_line import run
from disturbed_web import Disturbed, disturbed_web
from free_port import free_port
from orthanc_server import Orthanc, run_orthanc

NETWORK = ("--processes", 1, "--threads", 1)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory, heads: tuple[Volume, Volume]) -> Path:
    """Two heads, one of them bleeding, as folders of DICOM."""
    folder = tmp_path_factory.mktemp("studies")
    for number, head in enumerate(heads):
        write_series(folder / f"head{number}", ct_instances(head, options=CtOptions(seed=number)))
    return folder


@pytest.fixture(scope="module")
def from_folder(studies: Path, weights: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the two from their folder."""
    out = tmp_path_factory.mktemp("results") / "folder"
    assert run("batch", studies, "-o", out, "--weights", weights, *NETWORK) == 0
    return out


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory, studies: Path) -> Iterator[Orthanc]:
    """Orthanc with DICOMweb, which holds the two."""
    with run_orthanc(tmp_path_factory.mktemp("orthanc"), dicomweb=True) as running:
        for path in studies.rglob("*.dcm"):
            running.ask("/instances", path.read_bytes())
        yield running


@pytest.fixture
def server(orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disturbed]:
    """A server before it, which does what a test says; pauses are short, and no results are left behind."""
    monkeypatch.setattr(web, "PAUSES_S", (0.01, 0.01))
    monkeypatch.setenv("NETRC", os.devnull)
    with disturbed_web(f"http://127.0.0.1:{orthanc.http_port}") as running:
        running.url += "/dicom-web"
        yield running
    for series in orthanc.json("/series?expand"):
        if series["MainDicomTags"]["Modality"] != "CT":
            orthanc.ask(f"/series/{series['ID']}", method="DELETE")


@pytest.fixture
def batch(weights: str, tmp_path: Path):
    return lambda *arguments: run("batch", *arguments, "-o", tmp_path / "out", "--weights", weights, *NETWORK)


def masks_of(out: Path) -> dict[str, np.ndarray]:
    """A study's UID -> its mask and probability."""
    return {
        row["study_uid"]: np.stack([nib.load(path).get_fdata() for path in sorted((out / name).glob("*.nii.gz"))])
        for name, row in rows_of(out).items()
    }


def check_equal(out: Path, other: Path) -> None:
    ours, theirs = masks_of(out), masks_of(other)
    assert ours.keys() == theirs.keys()
    assert len(ours) == 2
    assert all(np.array_equal(ours[uid], theirs[uid]) for uid in ours)


def count_asked(server: Disturbed, method: str, part: str) -> int:
    return sum(one.method == method and part in one.path for one in server.asked)


def test_results_equal_those_of_a_folder_and_come_back_once(
    server: Disturbed, orthanc: Orthanc, batch, from_folder: Path, tmp_path: Path
) -> None:
    assert batch(server.url, "--send", server.url) == 0
    check_equal(tmp_path / "out", from_folder)
    held = orthanc.count_by_modality()
    assert (held["CT"], held["SEG"], held["SR"]) == (28, 2, 2)
    assert held["OT"] > 0
    assert {path.parent.name for path in (tmp_path / "out/.batch").rglob("*") if path.is_file()} <= {
        "done",
        "sent",
        "locks",
        ".batch",
    }  # fmt: skip - no copy of an image is left
    posted = count_asked(server, "POST", "/studies/")
    assert batch(server.url, "--send", server.url) == 0
    assert orthanc.count_by_modality() == held
    assert count_asked(server, "POST", "/studies/") == posted


def test_an_answer_that_is_cut_is_asked_for_again(server: Disturbed, batch, from_folder: Path, tmp_path: Path) -> None:
    cuts = iter(("cut", 503, "cut", "lose"))

    def disturb(asked: object) -> object:
        path = asked.path.partition("?")[0]
        return next(cuts, None) if "/series/" in path and not path.endswith("instances") else None

    server.disturb = disturb
    assert batch(server.url) == 0
    assert next(cuts, None) is None
    check_equal(tmp_path / "out", from_folder)


def test_a_study_waits_while_its_server_is_away_and_is_not_lost(
    server: Disturbed, batch, from_folder: Path, studies: Path, tmp_path: Path
) -> None:
    first, second = sorted(masks_of(from_folder))
    server.disturb = lambda asked: 503 if f"/studies/{first}/series/" in asked.path else None
    assert batch(server.url) == 1
    rows = {row["study_uid"]: row for row in summary_of(tmp_path / "out")["studies"]}
    assert rows[first]["status"] == "waiting"
    assert rows[first]["error"].startswith("HTTP 503 Service Unavailable (needed: ")
    assert rows[second]["status"] in ("found", "not found", "no verdict")
    server.disturb, server.asked[:] = lambda asked: None, []
    assert batch(server.url) == 0
    assert not count_asked(server, "GET", f"/studies/{second}/series/")  # it is done
    check_equal(tmp_path / "out", from_folder)


@pytest.mark.parametrize("how", [503, "cut", "lose"])
def test_results_wait_and_are_sent_once(
    server: Disturbed, orthanc: Orthanc, batch, tmp_path: Path, capsys, how: object
) -> None:
    """Also where the server took them, and its answer was lost."""
    server.disturb = lambda asked: how if asked.method == "POST" else None
    ended = batch(server.url, "--send", server.url)
    assert ended == (1 if how == 503 else 0)  # a lost answer: it is asked what it holds, and holds all
    if how == 503:
        assert "wait to be sent" in capsys.readouterr().out
        assert "SEG" not in orthanc.count_by_modality()
    made = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")}
    server.disturb = lambda asked: None
    assert batch(server.url, "--send", server.url) == 0
    assert made == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.dcm")}  # segmented once
    held = orthanc.count_by_modality()
    assert held["SEG"] + held["SR"] + held["OT"] == len(made)


def test_the_parts_of_an_instance_list_that_do_not_come_are_missed(server: Disturbed, batch, tmp_path: Path) -> None:
    """A server that states more than it sends is no server of whole studies."""
    extra = {"00080018": {"vr": "UI", "Value": ["1.2.3"]}}

    def disturb(asked: object) -> object:
        return json.dumps([extra]).encode() if asked.path.partition("?")[0].endswith("/instances") else None

    server.disturb = disturb
    assert batch(server.url) == 1
    assert {row["status"] for row in summary_of(tmp_path / "out")["studies"]} == {"waiting"}
    assert "sent all but 1" in summary_of(tmp_path / "out")["studies"][0]["error"]


def test_a_list_that_comes_in_pieces_is_whole(
    server: Disturbed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dicomweb, "_PIECE", 4)
    archive = DicomwebArchive(Service(server.url))
    sources = archive.find().sources
    assert len(sources) == 2
    server.asked.clear()
    assert len(archive.fetch(sources[0], tmp_path).files) == 14
    asked = [one.path for one in server.asked if "/instances?" in one.path]
    assert [path.rpartition("offset=")[2] for path in asked] == ["0", "4", "8", "12"]


def test_a_study_that_has_lost_an_instance_is_another_one(server: Disturbed, orthanc: Orthanc) -> None:
    archive = DicomwebArchive(Service(server.url))
    before = {one.uid: one.digest for one in archive.find().sources}
    lost = orthanc.json("/instances")[0]
    content = orthanc.ask(f"/instances/{lost}/file")
    orthanc.ask(f"/instances/{lost}", method="DELETE")
    try:
        without = {one.uid: one.digest for one in archive.find().sources}
    finally:
        orthanc.ask("/instances", content)
    assert before.keys() == without.keys()
    assert sum(before[uid] != without[uid] for uid in before) == 1
    assert {one.uid: one.digest for one in archive.find().sources} == before


def test_shards_days_and_uids_choose_studies(server: Disturbed, batch, from_folder: Path, tmp_path: Path) -> None:
    for part in ("1/2", "2/2"):
        assert batch(server.url, "--shard", part) == 0
    assert run("batch", server.url, "-o", tmp_path / "out", "--merge") == 0
    check_equal(tmp_path / "out", from_folder)
    uid = sorted(masks_of(from_folder))[0]
    (tmp_path / "uids").write_text(f"# one\n{uid}\n")
    assert run("batch", server.url, "-o", tmp_path / "out", "--merge", "--search", "--uids", tmp_path / "uids") == 0
    server.asked.clear()
    assert batch(f"{server.url}/studies/{uid}") == 0
    assert count_asked(server, "GET", "/studies?") == 0  # one study is asked for by its name
    assert batch(server.url, "--since", "1900-01-01", "--until", "1900-12-31") == 2
    assert any("StudyDate=19000101-19001231" in one.path for one in server.asked)


@pytest.mark.parametrize(
    ("what", "found", "remedy"),
    [
        (401, "HTTP 401 Unauthorized", "--token-file"),
        (404, "holds no study that fits", "--since"),
        (405, "HTTP 405", "check the URL"),
        (b"<!DOCTYPE html><p>Welcome", "answers with text/html, which is not JSON", "check the URL"),
        (b'{"a": 1}', "its answer to a search is no list", "check the URL"),
        (b"[]", "holds no study that fits", "--since"),
        (503, "HTTP 503", "wait until it does"),
    ],
)
def test_a_wrong_server_is_named_with_a_remedy(server: Disturbed, batch, capsys, what, found, remedy) -> None:
    server.disturb = lambda asked: what
    assert batch(server.url) == 2
    said = capsys.readouterr().err
    assert server.url in said
    assert found in said
    assert remedy in said


def test_what_cannot_be_reached_or_opened_is_named(batch, capsys, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(web, "PAUSES_S", ())
    url = f"http://127.0.0.1:{free_port()}/dicom-web"
    for arguments, words in (
        ((url,), (url, "cannot be reached", "Connection refused")),
        (("https://anna:secret@127.0.0.1/dicom-web",), ("holds a user name or a password", "~/.netrc")),
        ((url, "--token-file", tmp_path / "none"), ("none: cannot be read", "--token-file")),
        (("http://pacs.example/dicom-web", "--token-file", tmp_path / "none"), ("a token, and no TLS", "https")),
        (("ftpx://host/a",), ("ftpx://", "no kind of store")),
        (("ftp://host/a",), ("ftp://", "no kind of store")),
        ((url, "--uids", tmp_path / "none"), ("none: cannot be read", "--uids")),
        ((f"{url}/studies/..%2F..",), ("Study Instance UID",)),
        ((tmp_path, "--since", "2020-01-01"), ("are for URLs",)),
    ):
        assert batch(*arguments) == 2
        said = capsys.readouterr().err
        assert all(word in said for word in words), said
        assert "secret" not in said
        assert "Traceback" not in said


def test_a_token_goes_to_its_own_server_alone(server: Disturbed, batch, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "token").write_text("s3cr3t-word\n")
    other = server.url.replace("127.0.0.1", "localhost").removesuffix("/dicom-web")
    server.disturb = lambda asked: other if "127.0.0.1" in asked.headers["Host"] else None
    assert batch(server.url, "--token-file", tmp_path / "token") == 0
    given = {(one.headers["Host"].split(":")[0], one.headers.get("Authorization")) for one in server.asked}
    assert given == {("127.0.0.1", "Bearer s3cr3t-word"), ("localhost", None)}
    told = "".join(capsys.readouterr()) + "".join(
        path.read_text(errors="replace") for path in (tmp_path / "out").rglob("*") if path.is_file()
    )
    assert "s3cr3t" not in told
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login anna password w0rd")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.asked.clear()
    assert batch(server.url) == 0
    assert {one.headers.get("Authorization", "")[:6] for one in server.asked} == {"Basic ", ""}


def test_a_password_is_not_sent_where_others_can_read_it(batch, tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "netrc").write_text("machine pacs.example login anna password w0rd")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr(web, "PAUSES_S", ())
    for arguments in (("http://pacs.example/dicom-web",), (tmp_path, "--send", "http://pacs.example/dicom-web")):
        assert batch(*arguments) == 2
        said = capsys.readouterr().err
        assert "a password of ~/.netrc, and no TLS" in said
        assert "w0rd" not in said
    assert batch("http://elsewhere.invalid/dicom-web") == 2  # of a host that the file does not name
    assert "cannot be reached" in capsys.readouterr().err


def test_a_certificate_is_checked(orthanc: Orthanc, server: Disturbed, batch, tmp_path: Path, capsys) -> None:
    pair = write_certificate(tmp_path)
    with disturbed_web(f"http://127.0.0.1:{orthanc.http_port}", pair) as secure:
        assert batch(f"{secure.url}/dicom-web") == 2
        said = capsys.readouterr().err
        assert "its certificate is not trusted" in said
        assert "--ca-file" in said
        assert not secure.asked
        assert batch(f"{secure.url}/dicom-web", "--ca-file", pair[0]) == 0
        assert batch(f"{secure.url}/dicom-web", "--ca-file", pair[1]) == 2
        secure.disturb = lambda asked: server.url
        assert (
            batch(
                f"{secure.url}/dicom-web",
                "--ca-file",
                pair[0],
            )
            == 2
        )  # never away from TLS
    assert not server.asked


def test_names_that_a_server_gives_lead_nowhere_else(server: Disturbed, batch, tmp_path: Path, capsys) -> None:
    evil = [{"0020000D": {"vr": "UI", "Value": [one]}} for one in ("../../../evil", "1.2/../..", "/etc/passwd", 7, "")]
    server.disturb = lambda asked: json.dumps(evil).encode() if "/studies?" in asked.path else None
    before = set(tmp_path.parent.rglob("*"))
    assert batch(server.url) == 2
    assert "holds no study that fits" in capsys.readouterr().err
    assert {path for path in set(tmp_path.parent.rglob("*")) - before if "evil" in path.name} == set()
    assert all(".." not in one.path for one in server.asked)


def test_one_study_by_its_url(server: Disturbed, from_folder: Path, weights: str, tmp_path: Path, capsys) -> None:
    for uid, theirs in masks_of(from_folder).items():
        out = tmp_path / uid
        assert run("segment", f"dicomweb+{server.url}/studies/{uid}", "-o", out, "--weights", weights, "--json") == 0
        summary = json.loads(capsys.readouterr().out)
        assert summary["source"] == f"{server.url}/{uid}"
        ours = np.stack([nib.load(path).get_fdata() for path in sorted(out.glob("*.nii.gz"))])
        assert np.array_equal(ours, theirs)
    assert {path.name for path in tmp_path.iterdir()} == set(masks_of(from_folder))  # no copy is left
    assert run("segment", server.url, "-o", tmp_path / "out", "--weights", weights) == 2
    assert "holds 2 studies that fit" in capsys.readouterr().err


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A bucket of a server that speaks S3, on this machine."""
    import boto3
    import fsspec
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"), ("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_EC2_METADATA_DISABLED", "true"), ("NO_PROXY", "127.0.0.1"),
        ("AWS_CONFIG_FILE", os.devnull), ("AWS_SHARED_CREDENTIALS_FILE", os.devnull),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="heads")
    monkeypatch.setattr(web, "PAUSES_S", ())
    fsspec.config.conf.clear()
    store._connect.cache_clear()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    yield client
    moto.stop()


def test_a_bucket_gives_the_same_results_and_takes_them(
    bucket, batch, studies: Path, from_folder: Path, tmp_path: Path, capsys
) -> None:
    for path in studies.rglob("*.dcm"):
        bucket.put_object(Bucket="heads", Key=f"in/{path.relative_to(studies)}", Body=path.read_bytes())
    for key in ("in/a//b.dcm", "in/.hidden/x.dcm", "in/notes.txt"):
        bucket.put_object(Bucket="heads", Key=key, Body=b"words")
    assert batch("s3://heads/in", "--send", "s3://heads/out") == 0
    check_equal(tmp_path / "out", from_folder)
    assert rows_of(tmp_path / "out").keys() == rows_of(from_folder).keys()  # names as from a folder
    reasons = {one["reason"]: one["count"] for one in summary_of(tmp_path / "out")["passed_by"]}
    assert reasons["its name cannot be a file's"] == 1
    assert reasons["hidden"] == 1

    def listed() -> dict[str, object]:
        return {one["Key"]: one["LastModified"] for one in bucket.list_objects_v2(Bucket="heads")["Contents"]}

    sent = {key: at for key, at in listed().items() if key.startswith("out/")}
    here = {
        f"out/{path.relative_to(tmp_path / 'out')}"
        for path in (tmp_path / "out").rglob("*") if path.is_file() and ".batch" not in path.parts
    }  # fmt: skip
    assert set(sent) == here
    assert batch("s3://heads/in", "--send", "s3://heads/out") == 0
    tables = ("summary.csv", "summary.json", "lesions.csv", "data-dictionary.csv", "index.html")
    again = {key: at for key, at in listed().items() if key.startswith("out/")}
    assert all(again[key] == at for key, at in sent.items() if not key.endswith(tables) and "thumb" not in key)


def test_a_bucket_that_is_not_there_is_named(bucket, batch, capsys, monkeypatch) -> None:
    assert batch("s3://nobody/in") == 2
    said = capsys.readouterr().err
    assert "s3://nobody/in" in said
    assert "not there" in said or "holds nothing" in said
    assert batch("s3://heads/empty") == 2
    assert "holds nothing" in capsys.readouterr().err


def test_a_folder_by_its_url(batch, studies: Path, from_folder: Path, tmp_path: Path) -> None:
    assert batch(f"file://{studies}", "--send", f"file://{tmp_path}/sent") == 0
    check_equal(tmp_path / "out", from_folder)
    for name in rows_of(tmp_path / "out"):
        ours, theirs = tmp_path / "out" / name, tmp_path / "sent" / name
        files = {path.relative_to(ours) for path in ours.rglob("*") if path.is_file()}
        assert files == {path.relative_to(theirs) for path in theirs.rglob("*") if path.is_file()}
        assert all((ours / one).read_bytes() == (theirs / one).read_bytes() for one in files)


def cut_files(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Have a folder that stands for a store keep the last byte of each file that is moved, without a word."""
    from fsspec.implementations.local import LocalFileSystem

    whole = getattr(LocalFileSystem, name)

    def cut(self, source: str, target: str, *rest: object, **more: object) -> None:
        whole(self, source, target, *rest, **more)
        if os.path.isfile(target):  # noqa: PTH113 - as fsspec names it
            os.truncate(target, os.path.getsize(target) - 1)  # noqa: PTH202

    monkeypatch.setattr(LocalFileSystem, name, cut)


def test_what_a_store_took_in_part_waits_and_is_sent_again(
    batch, studies: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    monkeypatch.setattr(web, "PAUSES_S", ())
    with monkeypatch.context() as patch:
        cut_files(patch, "put_file")
        assert batch(studies, "--send", f"file://{tmp_path}/sent") == 1
    assert "wait to be sent" in capsys.readouterr().out
    assert batch(studies, "--send", f"file://{tmp_path}/sent") == 0
    for name in rows_of(tmp_path / "out"):
        for path in (tmp_path / "out" / name).rglob("*.*"):
            assert (tmp_path / "sent" / path.relative_to(tmp_path / "out")).read_bytes() == path.read_bytes()


def test_what_a_store_gives_in_part_is_fetched_again(
    batch, studies: Path, from_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(web, "PAUSES_S", ())
    with monkeypatch.context() as patch:
        cut_files(patch, "get_file")
        assert batch(f"file://{studies}") == 1
    waiting = summary_of(tmp_path / "out")["studies"]
    assert {row["status"] for row in waiting} == {"waiting"}
    assert "fewer bytes than it says" in waiting[0]["error"]
    assert batch(f"file://{studies}") == 0
    check_equal(tmp_path / "out", from_folder)
