"""Orthanc on free loopback ports, with storage of its own; with DICOMweb where asked for."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from pydicom import Dataset, dcmread

from debian_programs import program
from free_port import free_port

_OPEN = build_opener(ProxyHandler({})).open  # loopback never goes through a proxy
_DICOMWEB = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")


@dataclass(frozen=True)
class Orthanc:
    """A running server."""

    http_port: int
    dicom_port: int

    def ask(self, path: str, body: bytes | None = None, method: str | None = None) -> bytes:
        """GET, or POST where there is a body."""
        request = Request(f"http://127.0.0.1:{self.http_port}{path}", data=body, method=method)
        with _OPEN(request, timeout=30) as answer:
            return answer.read()

    def json(self, path: str, body: bytes | None = None):
        return json.loads(self.ask(path, body))

    def stored(self, uid: str) -> Dataset:
        """An instance by its SOP Instance UID, as the server gives it out."""
        (number,) = self.json("/tools/lookup", uid.encode())
        return dcmread(BytesIO(self.ask(f"/instances/{number['ID']}/file")))

    def count_by_modality(self) -> dict[str, int]:
        """Instances it holds, by their modality."""
        counts: dict[str, int] = {}
        for series in self.json("/series?expand"):
            kind = series["MainDicomTags"]["Modality"]
            counts[kind] = counts.get(kind, 0) + len(series["Instances"])
        return counts


@contextmanager
def run_orthanc(
    folder: Path, *, peer: tuple[str, int] | None = None, dicomweb: bool = False, **settings: object
) -> Iterator[Orthanc]:
    """Yield a running Orthanc; skipped where it is missing, failing in CI.

    Args:
        folder: of its own.
        peer: AE title and port on loopback of a modality that it knows as 'bleedmap'.
        dicomweb: with the plugin.
        settings: of Orthanc, changed.
    """  # fmt: skip
    server = program("Orthanc", "orthanc")
    if dicomweb and not _DICOMWEB.exists():
        program("the DICOMweb plugin", "orthanc-dicomweb")
    running = Orthanc(free_port(), free_port())
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {
        "Name": "test", "StorageDirectory": str(folder / "storage"), "IndexDirectory": str(folder / "index"),
        "HttpPort": running.http_port, "DicomPort": running.dicom_port, "DicomAet": "ORTHANC",
        "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "DicomCheckCalledAet": False,
        "Plugins": [str(_DICOMWEB.resolve())] if dicomweb else [], "DicomAlwaysAllowFind": True,
        "DicomModalities": {"bleedmap": [peer[0], "127.0.0.1", peer[1]]} if peer else {}, **settings,
    }  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(chosen))
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([server, str(folder / "orthanc.json")], stdout=log, stderr=log)
        try:
            for _ in range(300):
                assert process.poll() is None, (folder / "log").read_text(errors="replace")
                try:
                    running.ask("/system")
                    break
                except (URLError, ConnectionError):
                    time.sleep(0.1)
            else:
                pytest.fail(f"Orthanc does not answer: {(folder / 'log').read_text(errors='replace')}")
            yield running
        finally:
            process.terminate()
            process.wait(timeout=30)
