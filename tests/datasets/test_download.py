"""Downloads from a server on this machine that breaks off, refuses, and sends damaged bytes."""

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bleedmap.cli.main import main
from bleedmap.datasets.checksums import SUMS, parse_sums, verify
from bleedmap.datasets.download import Downloaded, download
from bleedmap.errors import DataError, DownloadError, OutputError, SettingsError

FILES = {
    "hemorrhage_diagnosis.csv": b"PatientNumber\n49\n",
    "Patients_CT/049/brain/1.jpg": bytes(range(256)) * 400,
    "Patients_CT/049/brain/1 copy.jpg": b"name with a blank",
}
BIG = "Patients_CT/049/brain/1.jpg"


@dataclass
class Publisher:
    """A server's files and its faults; `requests` are paths in order of arrival."""

    files: dict[str, bytes]
    url: str = ""
    requests: list[str] = field(default_factory=list)
    # path -> answers in place of the right one, used up one by one: a status, or bytes to send and break off
    faults: dict[str, list[int | bytes]] = field(default_factory=dict)
    content_type: str = "application/octet-stream"

    def list_files(self) -> None:
        lines = [f"{hashlib.sha256(content).hexdigest()} {name}\n" for name, content in self.files.items()]
        self.files[SUMS] = "".join(lines).encode()


def _handler(publisher: Publisher) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix("/1.0.0/").replace("%20", " ")
            publisher.requests.append(name)
            faults = publisher.faults.get(name)
            fault = faults.pop(0) if faults else None
            if isinstance(fault, int) or name not in publisher.files:
                self.send_error(fault if isinstance(fault, int) else 404)
                return
            content = publisher.files[name]
            self.send_response(200)
            self.send_header("Content-Type", publisher.content_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if fault is None else fault)

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher(dict(FILES))
    publisher.list_files()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(publisher))
    publisher.url = f"http://127.0.0.1:{server.server_port}/1.0.0"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield publisher
    server.shutdown()
    server.server_close()
    thread.join()


Fetch = Callable[..., Downloaded]


@pytest.fixture
def fetch(publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # pooch waits for seconds between tries

    def run(**settings: int) -> Downloaded:
        return download(tmp_path / "ct-ich", publisher.url, **settings)

    return run


def files_in(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_fetches_everything_under_its_own_name(publisher: Publisher, tmp_path: Path) -> None:
    steps = []
    result = download(tmp_path / "ct-ich", publisher.url, progress=lambda done, of: steps.append((done, of)))
    assert files_in(tmp_path / "ct-ich") == publisher.files
    assert result == Downloaded(3, 0, sum(map(len, publisher.files.values())))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert verify(tmp_path / "ct-ich").intact == tuple(FILES)


def test_second_run_fetches_only_what_is_missing_or_changed(publisher: Publisher, fetch: Fetch, tmp_path: Path) -> None:
    fetch()
    (tmp_path / "ct-ich" / BIG).write_bytes(b"changed")
    (tmp_path / "ct-ich/hemorrhage_diagnosis.csv").unlink()
    publisher.requests.clear()
    result = fetch()
    assert (result.fetched, result.kept) == (2, 1)
    assert Counter(publisher.requests) == {SUMS: 1, BIG: 1, "hemorrhage_diagnosis.csv": 1}
    assert files_in(tmp_path / "ct-ich") == publisher.files


def test_fetches_anew_what_a_broken_connection_left_half(publisher: Publisher, fetch: Fetch, tmp_path: Path) -> None:
    publisher.faults[BIG] = [FILES[BIG][:70_000]]
    result = fetch()
    assert publisher.requests.count(BIG) == 2
    assert files_in(tmp_path / "ct-ich") == publisher.files
    assert result.received_bytes == sum(map(len, publisher.files.values()))


def test_the_list_may_break_off_too(publisher: Publisher, fetch: Fetch) -> None:
    publisher.faults[SUMS] = [publisher.files[SUMS][:70], 503]
    assert fetch().fetched == 3


def test_gives_up_and_fetches_the_rest_in_the_next_run(publisher: Publisher, fetch: Fetch, tmp_path: Path) -> None:
    publisher.faults[BIG] = [FILES[BIG][:1000], 500, 502]
    with pytest.raises(DownloadError, match=r"502\) \(tried 3 times\)") as caught:
        fetch(tries=3, connections=1)
    assert "run the same command again" in caught.value.remedy
    assert set(files_in(tmp_path / "ct-ich")) <= set(FILES) - {BIG}  # whole files under their own names, no half one
    kept = files_in(tmp_path / "ct-ich")
    publisher.requests.clear()
    assert fetch().kept == len(kept)
    assert set(publisher.requests) == {SUMS, *FILES} - set(kept)
    assert files_in(tmp_path / "ct-ich") == publisher.files


def test_a_half_file_is_not_taken_for_a_whole_one(publisher: Publisher, fetch: Fetch, tmp_path: Path) -> None:
    half = tmp_path / "ct-ich" / BIG
    half.parent.mkdir(parents=True)
    half.write_bytes(FILES[BIG][:500])
    assert fetch().fetched == 3
    assert files_in(tmp_path / "ct-ich") == publisher.files


def test_damaged_bytes_once(publisher: Publisher, fetch: Fetch, tmp_path: Path) -> None:
    publisher.faults[BIG] = [bytes(len(FILES[BIG]))]
    fetch()
    assert files_in(tmp_path / "ct-ich") == publisher.files


def test_damaged_bytes_always(publisher: Publisher, fetch: Fetch, tmp_path: Path) -> None:
    publisher.files[BIG] = bytes(1000)
    with pytest.raises(DownloadError, match="does not match the publisher's SHA-256 sum"):
        fetch(tries=2)
    assert publisher.requests.count(BIG) == 2
    assert set(files_in(tmp_path / "ct-ich")) <= set(FILES) - {BIG}


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("name", [SUMS, BIG])
def test_login_is_needed(publisher: Publisher, fetch: Fetch, status: int, name: str) -> None:
    publisher.faults[name] = [status]
    with pytest.raises(DownloadError, match=str(status)) as caught:
        fetch()
    assert publisher.requests.count(name) == 1  # asked once: trying again would not help
    assert caught.value.remedy.startswith("log in at the publisher's page")
    assert "--data" in caught.value.remedy


def test_login_page(publisher: Publisher, fetch: Fetch) -> None:
    publisher.content_type = "text/html; charset=utf-8"
    with pytest.raises(DownloadError, match="a web page, not the file") as caught:
        fetch()
    assert "log in" in caught.value.remedy


def test_not_there(publisher: Publisher, fetch: Fetch) -> None:
    del publisher.files[BIG]
    with pytest.raises(DownloadError, match="404"):
        fetch()
    assert publisher.requests.count(BIG) == 1


def test_nobody_answers(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no connection"):
        download(tmp_path, "http://127.0.0.1:9/", tries=1)


def test_other_schemes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        download(tmp_path, tmp_path.as_uri())


@pytest.mark.parametrize(
    "name", ["../evil.jpg", "/etc/evil.jpg", "a/../../evil.jpg", "a\\..\\evil.jpg", "c:/evil.jpg", "evil\x1b[2J"]
)
def test_listed_paths_stay_in_the_folder(publisher: Publisher, fetch: Fetch, tmp_path: Path, name: str) -> None:
    publisher.files = {name: b"evil"}
    publisher.list_files()
    with pytest.raises(DownloadError, match="leads out of the folder"):
        fetch()
    assert files_in(tmp_path) == {}


def test_links_stay_in_the_folder(publisher: Publisher, fetch: Fetch, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "ct-ich").mkdir()
    (tmp_path / "ct-ich/Patients_CT").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DownloadError, match="a link leads out of the folder"):
        fetch()
    assert files_in(tmp_path / "elsewhere") == {}


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\xff\xfe\x00"])
def test_list_that_is_none(publisher: Publisher, fetch: Fetch, content: bytes) -> None:
    publisher.files[SUMS] = content
    with pytest.raises(DownloadError, match=SUMS):
        fetch()


def test_folder_that_cannot_be_written(publisher: Publisher, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError):
        download(tmp_path / "file/ct-ich", publisher.url)


def test_the_verb(publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "ct-ich"
    publisher.faults[BIG] = [403]
    with pytest.raises(SystemExit) as caught:
        main(["data", "download", "-o", str(out), "--url", publisher.url])
    assert caught.value.code == 2
    assert "log in at the publisher's page" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["data", "download", "-o", str(out), "--url", publisher.url])
    assert caught.value.code == 0
    assert files_in(out) == publisher.files
    assert "CC BY 4.0" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["data", "download", "-o", str(out), "--url", publisher.url, "--json"])
    assert json.loads(capsys.readouterr().out) == {
        "folder": str(out), "fetched": 0, "kept": 3, "received_bytes": len(publisher.files[SUMS]),
    }  # fmt: skip


class TestSums:
    def test_both_writers_forms(self) -> None:
        one, two = "a" * 64, "B" * 64
        text = f"\ufeff{one}  ./Patients_CT/1.jpg\r\n\n{two} *x y.csv\n"
        assert parse_sums(text, "list") == {"Patients_CT/1.jpg": one, "x y.csv": two.lower()}

    def test_verify(self, tmp_path: Path) -> None:
        lines = [f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in "abc"]
        (tmp_path / "SHA256SUMS").write_text("".join(lines))
        (tmp_path / "a").write_text("a")
        (tmp_path / "b").write_text("changed")
        result = verify(tmp_path)
        assert (result.intact, result.missing, result.changed) == (("a",), ("c",), ("b",))

    def test_no_list(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no list of checksums"):
            verify(tmp_path)

    def test_list_of_another_kind(self, tmp_path: Path) -> None:
        (tmp_path / "SHA256SUMS").write_bytes(b"\xff\xfe")
        with pytest.raises(DataError, match="cannot be read"):
            verify(tmp_path)
