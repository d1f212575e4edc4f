"""Load and faults on a whole server beside a real Orthanc, on loopback; each part prints a row of docs/measured.md.

    python tests/server/measure_server.py -o /tmp/measured load --studies 200
    python tests/server/measure_server.py -o /tmp/measured receive | kills | disk | pacs | database | pdus | clients
    python tests/server/measure_server.py -o /tmp/measured pages --studies 5000

What it kills and fills are its own processes and folders. `disk` mounts a small tmpfs, which needs root.
"""

import argparse
import copy
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).parents[1] / "support/server"))

from pydicom import Dataset, dcmread
from pydicom.uid import MRImageStorage, generate_uid
from sqlalchemy import insert, select

from bleedmap.server.config import Dicom, Limits, Server, Settings, Target, Worker
from bleedmap.server.store import tables
from dicom_sender import echo, send
from free_port import free_port
from orthanc_server import Orthanc, run_orthanc
from pdu_mutations import mutate, record_speech
from phantom_studies import make_study
from running_server import Server as Running
from running_server import run_server
from server_studies import add_row
from server_web import serve_web, small_settings
from tiny_network import write_spot_network

QUIET_S = 2.0
OBJECTS = ("SEG", "SR", "OT")
WEIGHTS = ""  # of --weights


def make_settings(folder: Path, pacs_port: int, **changes) -> Settings:
    target = Target("pacs", "dimse", "ORTHANC", f"127.0.0.1:{pacs_port}")
    dicom = Dicom(listen=f"127.0.0.1:{free_port()}", quiet_s=QUIET_S, max_associations_per_address=40)
    worker = Worker(processes=2, weights=WEIGHTS)
    return small_settings(folder, **{"dicom": dicom, "target": (target,), "worker": worker, **changes})


def port_of(settings: Settings) -> int:
    return int(settings.dicom.listen.split(":")[1])


def rss_mb(pid: int) -> float:
    with Path(f"/proc/{pid}/status").open() as file:
        return next((int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS")), 0.0)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def send_surely(port: int, study: list[Dataset], title: str) -> int:
    """As a scanner does: what was not answered with success is sent again; returns how often it began."""
    for turn in range(1, 200):
        try:
            if set(send(port, study, title=title)) == {0}:
                return turn
        except Exception:
            pass
        time.sleep(0.5)
    raise AssertionError("never taken")


def send_from(count: int, port: int, studies: list[int], make: Callable[[int], list[Dataset]], on_sent=None) -> None:
    """Send studies from several senders at once."""

    def one(sender: int) -> None:
        for number in studies[sender::count]:
            turns = send_surely(port, make(number), f"CT{sender}")
            if on_sent:
                on_sent(number, turns)

    threads = [threading.Thread(target=one, args=(sender,)) for sender in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def whole(out: Path, **changes) -> Iterator[tuple[Running, Orthanc]]:
    """A server and its PACS."""
    pacs = free_port()
    settings = make_settings(out, pacs, **changes)
    with (
        run_orthanc(out / "orthanc", peer=("BLEEDMAP", port_of(settings)), DicomPort=pacs) as orthanc,
        run_server(settings, port_of(settings)) as server,
    ):
        yield server, orthanc


@contextmanager
def listener_alone(out: Path) -> Iterator[tuple[Running, int]]:
    """A server of one process, the listener, and its number."""
    settings = make_settings(out, free_port())
    settings = replace(settings, dicom=replace(settings.dicom, max_associations_per_address=20))
    with run_server(settings, port_of(settings), only=("listener",)) as server:
        server.wait(lambda _: bool(server.pids("listener")))
        (pid,) = server.pids("listener")
        yield server, pid


def wait_for_delivery(server: Running, count: int, seconds: float) -> list:
    def met(rows) -> bool:
        newest = {one["id"]: one["state"] for one in sorted(rows, key=lambda one: one["version"])}
        return sum(state == "delivered" for state in newest.values()) >= count

    return server.wait(met, seconds)


def judge(server: Running, orthanc: Orthanc, count: int) -> dict[str, object]:
    """Count what was lost, doubled or half: every object of every delivered version, once, at the PACS."""
    rows = [one for one in server.rows() if one["state"] in ("delivered", "superseded")]
    made: Counter[str] = Counter()
    half = 0
    for row in rows:
        folder = server.settings.data / "studies" / row["id"] / f"v{row['version']}/results"
        files = list((folder / "dicom").rglob("*.dcm"))
        half += not (folder / "summary.json").exists()
        made.update(str(dcmread(one, stop_before_pixels=True).SOPInstanceUID) for one in files)
    held = {one["sop_uid"] for one in server.rows(tables.delivery) if one["state"] == "confirmed"}
    at_pacs = sum(orthanc.count_by_modality().get(kind, 0) for kind in OBJECTS)
    studies = {one["uid"] for one in rows}
    return {
        "studies sent": count, "studies delivered": len(studies), "versions": len(rows), "half results": half,
        "objects made": len(made), "confirmed": len(held & set(made)), "at the PACS": at_pacs,
        "lost": count - len(studies), "doubled": at_pacs - len(held),
    }  # fmt: skip


def measure_load(out: Path, count: int) -> dict[str, object]:
    """Studies from four senders, with the network that ships; times from the last slice to the result and the PACS."""
    sent: dict[int, float] = {}
    most: Counter[str] = Counter()
    with whole(out) as (server, orthanc):
        stop = threading.Event()

        def watch() -> None:
            while not stop.wait(2):
                for kind in ("listener", "worker", "sender"):
                    for pid in server.pids(kind):
                        most[kind] = max(most[kind], int(rss_mb(pid)))

        threading.Thread(target=watch, daemon=True).start()
        began = time.time()
        send_from(4, server.port, list(range(count)), make_study, lambda number, _: sent.update({number: time.time()}))
        received_s = time.time() - began
        wait_for_delivery(server, count, 3600)
        took_s = time.time() - began
        stop.set()
        uids = {make_study(number)[0].StudyInstanceUID: number for number in range(count)}
        numbers = {one["id"]: sent[uids[one["uid"]]] for one in server.rows()}
        first = {}
        for one in server.rows(tables.event):
            first.setdefault((one["study"], one["state"]), one["at"])
        result = [first[key, "segmented"] - at for key, at in numbers.items()]
        pacs = [first[key, "delivered"] - at for key, at in numbers.items()]
        return {
            **judge(server, orthanc, count), "sending s": round(received_s, 1), "all done s": round(took_s, 1),
            "studies/s": round(count / took_s, 2), "result p50 s": round(percentile(result, 0.5), 1),
            "result p95 s": round(percentile(result, 0.95), 1), "PACS p50 s": round(percentile(pacs, 0.5), 1),
            "PACS p95 s": round(percentile(pacs, 0.95), 1), **{f"{kind} RSS MB": value for kind, value in most.items()},
        }  # fmt: skip


def measure_single(out: Path, count: int) -> dict[str, object]:
    """One study at a time on an idle server: from the release of its association to the result and the PACS."""
    result, pacs = [], []
    with whole(out) as (server, orthanc):
        for number in range(count):
            study = make_study(number, slices=28, side=512)
            send(server.port, study)
            at, uid = time.time(), study[0].StudyInstanceUID
            rows = server.wait(
                lambda rows, uid=uid: any(one["uid"] == uid and one["state"] == "delivered" for one in rows), 120
            )
            (key,) = [one["id"] for one in rows if one["uid"] == uid]
            moments = {one["state"]: one["at"] for one in server.rows(tables.event) if one["study"] == key}
            result.append(moments["segmented"] - at)
            pacs.append(moments["delivered"] - at)
        return {
            **judge(server, orthanc, count), "quiet s": QUIET_S, "result p50 s": round(percentile(result, 0.5), 1),
            "result max s": round(max(result), 1), "PACS p50 s": round(percentile(pacs, 0.5), 1),
            "PACS max s": round(max(pacs), 1),
        }  # fmt: skip


def measure_orthanc(out: Path, count: int) -> dict[str, object]:
    """Orthanc sends studies that it holds, every fourth with an object of another class; results come back to it."""
    with whole(out) as (server, orthanc):
        uids = []
        for number in range(count):
            study = make_study(number)
            uids.append(study[0].StudyInstanceUID)
            if number % 4 == 3:
                study.append(as_other_class(study[0]))
            for one in study:
                stream = BytesIO()
                one.save_as(stream, enforce_file_format=True)
                orthanc.ask("/instances", stream.getvalue())
        began = time.monotonic()
        for uid in uids:
            (found,) = orthanc.json("/tools/lookup", uid.encode())
            orthanc.ask("/modalities/bleedmap/store", json.dumps({"Resources": [found["ID"]]}).encode())
        wait_for_delivery(server, count, 900)
        took_s = round(time.monotonic() - began)
        passed = {one["reason"]: one["count"] for one in server.rows(tables.passed_over)}
        return {**judge(server, orthanc, count), "s": took_s, "not processed": passed}


def as_other_class(one: Dataset) -> Dataset:
    """An image of the same study that is no CT."""
    other = copy.deepcopy(one)
    other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = MRImageStorage
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    other.SeriesInstanceUID, other.Modality = generate_uid(), "MR"
    return other


def measure_receive(out: Path, count: int) -> dict[str, object]:
    """Receiving alone: 28 slices of 512 × 512 a study, four senders of dcmtk, each its own studies."""
    folders = []
    for number in range(4):
        folder = out / f"sender{number}"
        folder.mkdir(parents=True)
        for index in range(count // 4):
            for place, one in enumerate(make_study(4 * index + number, slices=28, side=512)):
                one.save_as(folder / f"{index:03d}-{place:03d}.dcm", enforce_file_format=True)
        folders.append(folder)
    size = sum(one.stat().st_size for folder in folders for one in folder.iterdir())
    files = sum(1 for folder in folders for _ in folder.iterdir())
    with listener_alone(out) as (server, pid):
        began = time.monotonic()
        senders = [
            subprocess.Popen(["storescu", "-aet", f"CT{number}", "127.0.0.1", str(server.port), "+sd", str(folder)])
            for number, folder in enumerate(folders)
        ]  # fmt: skip
        codes = [one.wait() for one in senders]
        took_s = time.monotonic() - began
        data = server.settings.data
        kept = len([*data.glob("incoming/*/*.dcm"), *data.glob("studies/*/*/*/*.dcm")])
        return {
            "files": files, "kept": kept, "exit codes": codes, "MB": round(size / 1e6), "s": round(took_s, 1),
            "MB/s": round(size / 1e6 / took_s, 1), "files/s": round(files / took_s),
            "listener RSS MB": round(rss_mb(pid)),
        }  # fmt: skip


def measure_kills(out: Path, count: int) -> dict[str, object]:
    """kill -9 of each kind of process at 20 random moments while studies come; the supervisor is started again."""
    draw, killed, recovery = random.Random(1), Counter(), []
    pacs = free_port()
    settings = replace(make_settings(out, pacs), limits=Limits(free_gb=0.0, attempts=100))
    with run_orthanc(out / "orthanc", peer=("BLEEDMAP", port_of(settings)), DicomPort=pacs) as orthanc:
        sending = None
        for turn in range(4):  # the supervisor's own deaths lie between the turns
            with run_server(settings, port_of(settings)) as server:
                if sending is None:
                    sending = threading.Thread(target=send_from, args=(4, server.port, list(range(count)), make_study))
                    sending.start()
                for _ in range(20):
                    kinds = [kind for kind in ("listener", "worker", "sender") if killed[kind] < 20]
                    time.sleep(draw.uniform(0.2, 2.5))
                    kind = draw.choice(kinds) if kinds else ""
                    pids = server.pids(kind) if kind else []
                    if pids:
                        os.kill(draw.choice(pids), signal.SIGKILL)
                        killed[kind] += 1
                        if kind == "listener":
                            recovery.append(recover(server.port))
                if turn < 3:
                    killed["supervisor"] += 1
                    os.kill(server.process.pid, signal.SIGKILL)
                    server.process.wait()
                    continue
                sending.join()
                wait_for_delivery(server, count, 1800)
                return {
                    **judge(server, orthanc, count), "killed": dict(killed),
                    "listener answers again after s, longest": round(max(recovery), 1),
                }  # fmt: skip
    raise AssertionError


def recover(port: int) -> float:
    began = time.monotonic()
    while True:
        try:
            echo(port)
            return time.monotonic() - began
        except Exception:
            time.sleep(0.05)


def measure_disk(out: Path, count: int) -> dict[str, object]:
    """A disk of 40 MB is full: C-STORE says so, work waits with the reason, and all goes on once there is space."""
    data = out / "data"
    data.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=0700", "tmpfs", str(data)], check=True)
    try:
        with whole(out) as (server, orthanc):
            ballast = data / "ballast"
            send(server.port, make_study(0))
            wait_for_delivery(server, 1, 120)
            fill(ballast, 0.25)
            statuses: Counter[str] = Counter()
            try:
                statuses.update(f"0x{one:04X}" for one in send(server.port, make_study(1)))
            except Exception as error:
                statuses[type(error).__name__] += 1
            time.sleep(QUIET_S + 10)
            waiting = sorted({one["waiting"] for one in server.rows() if one["waiting"]})
            ballast.unlink()
            send_from(2, server.port, list(range(1, count)), make_study)
            wait_for_delivery(server, count, 300)
            return {**judge(server, orthanc, count), "statuses while full": dict(statuses), "waiting": waiting}
    finally:
        subprocess.run(["umount", "-l", str(data)], check=False)


def fill(path: Path, left_mb: float) -> None:
    """Write until the disk has no more than `left_mb`."""
    with path.open("wb") as file:
        while os.statvfs(path).f_bavail * os.statvfs(path).f_frsize > left_mb * 1e6:
            try:
                file.write(bytes(100_000))
                file.flush()
            except OSError:
                return


def measure_pacs(out: Path, count: int) -> dict[str, object]:
    """The PACS is away for a minute while studies come."""
    pacs = free_port()
    settings = make_settings(out, pacs)
    named = {"peer": ("BLEEDMAP", port_of(settings)), "DicomPort": pacs}
    with run_server(settings, port_of(settings)) as server:
        send_from(2, server.port, list(range(count)), make_study)
        server.wait(lambda rows: sum(one["state"] == "segmented" for one in rows) == count, 300)
        time.sleep(60)
        waiting = Counter(one["waiting"] for one in server.rows())
        with run_orthanc(out / "orthanc", **named) as orthanc:
            began = time.monotonic()
            wait_for_delivery(server, count, 1200)
            caught_up_s = round(time.monotonic() - began)
            return {**judge(server, orthanc, count), "waiting": dict(waiting), "caught up s": caught_up_s}


def measure_database(out: Path, count: int) -> dict[str, object]:
    """PostgreSQL is away for 30 s while studies come."""
    from postgres_server import run_postgres

    with run_postgres() as url:
        name = url.split("//")[1].split("@")[0]
        port = url.rsplit(":", 1)[1]
        home = next(Path("/tmp").glob("bleedmap-postgres-*"))
        program = str(sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1] / "pg_ctl")
        control = ["runuser", "-u", "postgres", "--", program, "-D", str(home / "data"), "-s", "-w"]
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={home}"
        place = Server(str(out / "data"), f"{url}/{name}")
        pacs = free_port()
        settings = replace(make_settings(out, pacs), server=place)
        with (
            run_orthanc(out / "orthanc", peer=("BLEEDMAP", port_of(settings)), DicomPort=pacs) as orthanc,
            run_server(settings, port_of(settings)) as server,
        ):
            send_from(2, server.port, list(range(count // 2)), make_study)
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, cwd="/tmp")
            began = time.monotonic()
            statuses: Counter[int] = Counter()
            for number in range(count // 2, count):
                statuses.update(send(server.port, make_study(number)))
            time.sleep(max(0.0, 30 - (time.monotonic() - began)))
            start = [*control, "-l", str(home / "log"), "-o", options, "start"]
            subprocess.run(start, check=True, cwd="/tmp", stdout=subprocess.DEVNULL)
            wait_for_delivery(server, count, 300)
            return {**judge(server, orthanc, count), "statuses while away": dict(statuses)}


def measure_pdus(out: Path, count: int) -> dict[str, object]:
    """Mutated PDUs of a true association, each over a connection of its own; echoes from another address meanwhile."""
    draw, spoken = random.Random(2), record_speech()
    with listener_alone(out) as (server, pid):
        before, slowest, stop = rss_mb(pid), [0.0], threading.Event()
        failed: list[str] = []

        def watch() -> None:
            while not stop.wait(0.2):
                began = time.monotonic()
                try:
                    echo(server.port, bind_address=("127.0.0.2", 0))
                except Exception as error:
                    failed.append(type(error).__name__)
                slowest[0] = max(slowest[0], time.monotonic() - began)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        began = time.monotonic()
        for _ in range(count):
            try:
                with socket.create_connection(("127.0.0.1", server.port), timeout=5) as one:
                    one.sendall(mutate(draw, spoken))
            except OSError:
                pass
        stop.set()
        watcher.join()
        time.sleep(6)
        return {
            "mutated": count, "s": round(time.monotonic() - began), "echo slowest s": round(slowest[0], 2),
            "echoes failed": len(failed), "RSS before MB": round(before), "RSS after MB": round(rss_mb(pid)),
            "same process": server.pids("listener") == [pid],
        }  # fmt: skip


def measure_clients(out: Path, count: int) -> dict[str, object]:
    """Silent clients, and slow ones that send a byte a second, while another sends studies and echoes."""
    with listener_alone(out) as (server, pid):
        silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(count)]
        began, answered = time.monotonic(), []
        while time.monotonic() - began < 20:
            start = time.monotonic()
            try:
                echo(server.port, bind_address=("127.0.0.2", 0))
                answered.append((time.monotonic() - began, time.monotonic() - start))
            except Exception:
                pass
            time.sleep(0.2)
        for one in silent:
            one.close()
        after = [took for at, took in answered if at > 7]
        return {
            "silent": count, "first echo after s": round(answered[0][0], 1), "then slowest s": round(max(after), 2),
            "RSS MB": round(rss_mb(pid)),
        }  # fmt: skip


def measure_pages(out: Path, count: int) -> dict[str, object]:
    """Pages with so many studies: wall time and that of the processor, of server and client in this process."""
    verdicts, measured = ("bleed marked", "no verdict", "no bleed marked"), {}
    with serve_web(small_settings(out)) as server:
        add_row(server.database, verdict="bleed marked", score=0.5)
        with server.database.write() as connection:
            first, who = (
                dict(connection.execute(select(one)).mappings().one()) for one in (tables.study, tables.identity)
            )
            own = [{"id": f"{one:020}", "key": f"{one}", "uid": f"1.2.{one}"} for one in range(count - 1)]
            rows = [first | one | {"score": n / count, "verdict": verdicts[n % 3]} for n, one in enumerate(own)]
            connection.execute(insert(tables.study), rows)
            connection.execute(insert(tables.identity), [who | {"study": one["id"]} for one in own])
        client = server.client("reader")
        for path in ("/api/studies", "/dicomweb/studies?limit=101", f"/dicomweb/studies?limit={count}"):
            times = []
            for _ in range(9):
                wall, work = time.perf_counter(), time.process_time()
                client.get(path).raise_for_status()
                times.append((1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - work)))
            measured[path] = "{:.0f} ms, {:.0f} ms of the processor".format(*map(median, zip(*times, strict=True)))
    return measured


PARTS = {
    "load": (measure_load, 200), "single": (measure_single, 5), "receive": (measure_receive, 40),
    "orthanc": (measure_orthanc, 20), "kills": (measure_kills, 40), "disk": (measure_disk, 4),
    "pacs": (measure_pacs, 6), "database": (measure_database, 6), "pdus": (measure_pdus, 10_000),
    "clients": (measure_clients, 40), "pages": (measure_pages, 5000),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("-o", "--out", type=Path, required=True, help="a new or empty folder")
    parser.add_argument("--studies", type=int, help="how many studies, connections or PDUs")
    parser.add_argument(
        "--weights", default="", help="of the workers; 'tiny': a network of the tests, for slow machines"
    )
    given = parser.parse_args()
    act, count = PARTS[given.part]
    given.out.mkdir(parents=True, exist_ok=True)
    if given.weights == "tiny":
        write_spot_network(given.out / "spot.onnx")
        given.weights = str(given.out / "spot.onnx")
    globals()["WEIGHTS"] = given.weights
    row = act(given.out, given.studies or count)
    print(json.dumps({"part": given.part, **row}, indent=1))


if __name__ == "__main__":
    main()
