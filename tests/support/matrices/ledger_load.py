"""What a batch's ledger costs: empty jobs by the hundred thousand, in some processes, and the tables of them all.

Run as a script it prints the table in Markdown: `python tests/support/matrices/ledger_load.py [JOBS] [PROCESSES]`.
"""

import resource
import sys
import time
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from bleedmap.archive.find import Found, Source
from bleedmap.archive.ledger import Job
from bleedmap.archive.shards import Shard, batch_ledger, read_list, write_list
from bleedmap.archive.summary import Row, write_summary
from bleedmap.archive.workers import run_jobs

SETTINGS = {
    "folder": "/archive", "weights": "none", "weights_sha256": "0" * 64, "threshold": 0.5, "precision": "fp32",
    "dicom": True, "fractional": False, "version": "0",
}  # fmt: skip
LESION = ["1", "IPH", 12.3, 41.2, 0.81, 0.99, 12, 20, "left", 3]  # about as long as a real one


def sources(count: int) -> Found:
    """Studies of thirty files each, of which none is there."""
    found = []
    for number in range(count):
        place = f"2019/{number % 365:03d}/study-{number:07d}"
        files = tuple(f"/archive/{place}/{slice_:03d}.dcm" for slice_ in range(30))
        found.append(Source(Path(f"/archive/{place}"), place, f"1.2.840.{number}", files, f"{number:064x}"))
    return Found(Path("/archive"), tuple(found), ())


def work(out: Path, number: int, of: int) -> tuple[float, float, float]:
    """One shard's empty jobs; processor seconds, seconds, and this process' peak MB."""
    ledger, started = batch_ledger(out), time.monotonic()
    listed = read_list(ledger, Path("/archive"), Shard(number, of))
    assert listed is not None

    def do(job: Job) -> None:
        ledger.begin(job)
        types = {"EDH": 0.01, "IPH": 0.97, "IVH": 0.02, "SAH": 0.11, "SDH": 0.05}
        row = Row(listed.names[job.key], job.key, "1.2.840", "found", None, 0.97, types, 12.3, 4.5, 30.1, 0.8, 1, 12.3)
        ledger.finish(job, {"row": asdict(row), "lesions": [LESION]})

    jobs = [Job(one.key, one.digest, SETTINGS) for one in listed.found.sources]
    run_jobs(ledger, jobs, do, lambda job: ledger.read(job) is not None, wait=False)
    return time.process_time(), time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def merge(out: Path) -> tuple[float, float]:
    """Seconds and peak MB of the tables of all."""
    ledger, started = batch_ledger(out), time.monotonic()
    listed = read_list(ledger, Path("/archive"), None)
    assert listed is not None
    write_summary(ledger, SETTINGS, listed.found)
    return time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(count: int, processes: int) -> None:
    """Do all of it in a folder that is removed, and print the table."""
    with TemporaryDirectory() as folder, get_context("spawn").Pool(processes, maxtasksperchild=1) as pool:
        out = Path(folder) / "out"
        found, started = sources(count), time.monotonic()
        ledger = batch_ledger(out)
        ledger.open(SETTINGS, remedy="", hints={})
        write_list(ledger, found, {one.key: one.place.replace("/", "_") for one in found.sources})
        listing, size = time.monotonic() - started, (ledger.state / "studies.jsonl").stat().st_size
        given = [(out, number, processes) for number in range(1, processes + 1)]
        first, second = (pool.starmap(work, given, chunksize=1) for _ in range(2))
        (tables, peak), page = pool.apply(merge, (out,)), out / "index.html"
        print(f"| {count:,} jobs, {processes} processes | |\n| --- | --- |")
        print(f"| the list of studies, 30 files each | {listing:.1f} s, {size / 1e6:,.0f} MB |")
        for words, parts in (("a job, begun and finished", first), ("a job that is done already", second)):
            busy, waited = (1000 * sum(one[at] for one in parts) / count for at in (0, 1))
            peak_mb = max(one[2] for one in parts)
            print(f"| {words} | {busy:.2f} ms of a core, {waited:.2f} ms in all; peak {peak_mb:,.0f} MB |")
        print(f"| the tables of all, by --merge | {tables:.0f} s, peak {peak:,.0f} MB |")
        sizes = ", ".join(f"{name} {(out / name).stat().st_size / 1e6:,.0f} MB" for name in ("summary.json", page.name))
        print(f"| their size | {sizes} |")


if __name__ == "__main__":
    main(*(int(one) for one in [*sys.argv[1:], "100000", "2"][:2]))
