"""The whole server as a user runs it, beside a real Orthanc: studies in, results out, each once, and confirmed."""

import os
import re
import signal
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from bleedmap.server.config import Target
from bleedmap.server.store import tables
from debian_programs import complaints
from dicom_sender import send
from free_port import free_port
from orthanc_server import Orthanc, run_orthanc
from phantom_studies import NAME, NUMBER, make_study
from running_server import Server, run_server, spot_settings
from server_studies import as_bytes

_PACS = ("SEG", "SR", "OT")
_QUIET_S = 1.0


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    return free_port(), free_port()


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory, ports) -> Iterator[Orthanc]:
    with run_orthanc(tmp_path_factory.mktemp("orthanc"), peer=("BLEEDMAP", ports[0]), dicomweb=True) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory, orthanc, ports) -> Iterator[Server]:
    """A server with Orthanc as its two targets: by DIMSE with storage commitment, and by DICOMweb."""
    folder = tmp_path_factory.mktemp("serve")
    targets = (
        Target("pacs", "dimse", "ORTHANC", f"127.0.0.1:{orthanc.dicom_port}"),
        Target("web", "dicomweb", url=f"http://127.0.0.1:{orthanc.http_port}/dicom-web", send=("seg", "sr")),
    )
    with run_server(spot_settings(folder, ports[0], _QUIET_S, target=targets), ports[0]) as running:
        yield running


def of(server: Server, uid: str) -> list:
    return sorted((one for one in server.rows() if one["uid"] == uid), key=lambda one: one["version"])


def test_a_study_comes_back_to_the_pacs_confirmed_and_valid(server, orthanc, tmp_path):
    sent = make_study(1)
    uid = sent[0].StudyInstanceUID
    assert set(send(server.port, sent)) == {0}
    server.wait(lambda rows: any(one["uid"] == uid and one["state"] == "delivered" for one in rows))
    (row,) = of(server, uid)
    assert (row["verdict"], row["instances"], row["waiting"]) == ("bleed marked", 24, "")
    assert row["volume_ml"] > 1
    results = server.settings.data / "studies" / row["id"] / "v1/results/dicom"
    made = {dcmread(path).SOPInstanceUID: path for path in results.rglob("*.dcm")}
    held = {
        entry["uid"]: entry for entry in ({"uid": u, "found": orthanc.json("/tools/lookup", u.encode())} for u in made)
    }
    assert all(len(entry["found"]) == 1 for entry in held.values()), "each object once"
    deliveries = server.rows(tables.delivery)
    assert {one["state"] for one in deliveries} == {"confirmed"}
    assert {one["sop_uid"] for one in deliveries} == set(made)
    for name in ("segmentation.dcm", "report.dcm"):
        back = orthanc.stored(dcmread(results / name).SOPInstanceUID)
        back.save_as(tmp_path / name)
        assert complaints(tmp_path / name) == complaints(results / name)
        assert not [one for one in complaints(tmp_path / name) if one.startswith("Error")]
        assert back.PatientName == NAME


@pytest.mark.exhaustive
def test_slices_that_come_later_make_a_next_version_and_the_same_again_makes_none(server, orthanc):
    sent = make_study(2)
    uid = sent[0].StudyInstanceUID
    send(server.port, sent[:20])
    server.wait(lambda rows: any(one["uid"] == uid and one["state"] == "delivered" for one in rows))
    send(server.port, sent[20:])
    server.wait(lambda rows: sorted(one["state"] for one in rows if one["uid"] == uid) == ["delivered", "superseded"])
    first, second = of(server, uid)
    assert (first["instances"], second["instances"], second["cause"]) == (20, 24, "late slices")
    home = server.settings.data / "studies" / first["id"]
    assert len(list((home / "v2/dicom").iterdir())) == 24
    earlier, later = (dcmread(home / version / "results/dicom/report.dcm") for version in ("v1", "v2"))
    (named,) = later.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert named.ReferencedSOPInstanceUID == earlier.SOPInstanceUID
    assert not [one for one in complaints(home / "v2/results/dicom/report.dcm") if one.startswith("Error")]
    before = orthanc.count_by_modality()
    send(server.port, sent)
    passed = server.wait(
        lambda rows: sum(one["count"] for one in rows if one["reason"] == "already held") >= 24,
        table=tables.passed_over,
    )
    assert passed
    time.sleep(1)
    assert [one["state"] for one in of(server, uid)] == ["superseded", "delivered"]
    assert orthanc.count_by_modality() == before


def test_results_that_come_back_are_not_processed(server, orthanc):
    rows = len(server.rows())
    sent = [
        orthanc.ask(f"/instances/{number}/file")
        for series in orthanc.json("/series?expand") if series["MainDicomTags"]["Modality"] in _PACS
        for number in series["Instances"][:1]
    ]  # fmt: skip
    assert set(send(server.port, [dcmread(BytesIO(one)) for one in sent])) == {0}
    server.wait(lambda passed: any(one["reason"] == "own result" for one in passed), table=tables.passed_over)
    time.sleep(_QUIET_S + 1.5)
    assert len(server.rows()) == rows


@pytest.mark.exhaustive
def test_orthanc_sends_each_new_study_by_the_script_of_the_documentation(server, ports, tmp_path):
    page = (Path(__file__).parents[2] / "docs/server.md").read_text("utf-8")
    script = tmp_path / "route.lua"
    script.write_text(re.findall(r"```lua\n(.*?)```", page, re.S)[0])
    sent = make_study(6)
    uid = sent[0].StudyInstanceUID
    with run_orthanc(
        tmp_path / "orthanc", peer=("BLEEDMAP", ports[0]), StableAge=1, LuaScripts=[str(script)]
    ) as router:
        for one in sent:
            router.ask("/instances", as_bytes(one))
        server.wait(lambda rows: any(one["uid"] == uid and one["state"] == "delivered" for one in rows))
    assert of(server, uid)[0]["instances"] == len(sent)


def test_what_an_input_check_refuses_is_a_result_with_a_reason_and_sent_nowhere(server, orthanc):
    before = orthanc.count_by_modality()
    sent = make_study(3)[:24]
    for one in sent:
        one.PixelData = bytes(len(one.PixelData))
    send(server.port, sent)
    uid = sent[0].StudyInstanceUID
    server.wait(lambda rows: any(one["uid"] == uid and one["state"] == "refused" for one in rows))
    (row,) = of(server, uid)
    assert row["error"]
    assert row["verdict"] is None
    assert orthanc.count_by_modality() == before


@pytest.mark.exhaustive
def test_processes_that_are_killed_are_started_again_and_nothing_is_lost(server):
    sent = [make_study(number) for number in (4, 5)]
    for kind, study in zip(("worker", "listener"), sent, strict=True):
        assert set(send(server.port, study)) == {0}
        os.kill(server.pids(kind)[-1], signal.SIGKILL)
        uid = study[0].StudyInstanceUID
        until = time.monotonic() + 20
        while time.monotonic() < until:
            rows = of(server, uid)
            if rows and rows[-1]["state"] == "delivered":
                break
            time.sleep(0.2)
        assert [one["state"] for one in of(server, uid)] == ["delivered"], kind
        server.wait(lambda rows, kind=kind: bool(server.pids(kind)), table=tables.process)
        wait_for_echo(server)


def wait_for_echo(server: Server) -> None:
    from dicom_sender import echo

    until = time.monotonic() + 10
    while True:
        try:
            assert echo(server.port) == 0
            return
        except AssertionError:
            assert time.monotonic() < until
            time.sleep(0.2)


def test_no_log_line_and_no_path_tells_who_the_patient_is(server):
    log = server.log.read_text(errors="replace")
    assert "study " in log
    uids = [str(one["uid"]) for one in server.rows()]
    paths = "\n".join(str(path.relative_to(server.settings.data)) for path in server.settings.data.rglob("*"))
    events = "\n".join(one["reason"] for one in server.rows(tables.event))
    details = "\n".join(one["detail"] + one["action"] for one in server.rows(tables.audit))
    for secret in (NAME, "ANNA", NUMBER, "ACC-1", *uids):
        for where, text in (("log", log), ("paths", paths), ("events", events), ("audit", details)):
            assert secret not in text, (where, secret)
