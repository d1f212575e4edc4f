"""When a study is whole, how its slices become those of a version, and how a version is deleted by age.

A version takes its slices by one rename of the folder in `incoming`: each slice belongs to this version or to the next.
By age first its images are deleted, later its results. The row, its history and its readings stay.
"""

import filecmp
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping

from bleedmap.io.files import sync
from bleedmap.server.config import Settings
from bleedmap.server.log import logger
from bleedmap.server.place import Place
from bleedmap.server.store import audit, queue, studies
from bleedmap.server.store.engine import Database
from bleedmap.server.store.queue import Job
from bleedmap.server.store.tables import MOVES, Step, StudyState

DAY_S = 86400.0


def complete_studies(database: Database, place: Place, quiet_s: float) -> int:
    """Let the studies that are whole be segmented; return their number.

    A next version in which every slice is already held, byte for byte, is taken back.
    """
    with database.read() as connection:
        rows = studies.find_quiet(connection, database.now(connection), quiet_s)
    done = 0
    for row in rows:
        held = _drop_held(place, row) if row["version"] > 1 else 0
        is_empty = row["version"] > 1 and not _list_slices(place.incoming(row["key"]))
        with database.write() as connection:
            now, newest = database.now(connection), studies.find(connection, row["id"], row["version"])
            if held:
                studies.count_passed_over(connection, now, row["sender_ae"], "", "already held", held)
            if newest is None or (newest["state"], newest["last_seen"]) != (row["state"], row["last_seen"]):
                continue  # more came meanwhile, or another process was faster
            if is_empty:
                studies.forget(connection, row["id"], row["version"])
                continue
            has_all = row["expected"] is not None and row["instances"] >= row["expected"]
            why = "all that its sender stated" if has_all else f"quiet for {quiet_s:g} s"
            studies.move(connection, now, row["id"], row["version"], StudyState.COMPLETE, why)
            queue.enqueue(connection, row["id"], row["version"], Step.SEGMENT)
            done += 1
    return done


def collect(place: Place, row: RowMapping) -> Path:
    """Take the slices of a version from `incoming`, with those of the version before; return their folder.

    It may be called again after a kill at any moment.

    Raises:
        FileNotFoundError: there are none.
        OSError: the disk is full, or fails.
    """
    dicom = place.dicom(row["id"], row["version"])
    if dicom.is_dir():
        return dicom
    home, incoming = dicom.parent, place.incoming(row["key"])
    arrived, before = home / "arrived", place.find_earlier(row["id"], row["version"], "dicom")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not arrived.exists() and row["cause"] != "asked again":
        with suppress(FileNotFoundError):
            incoming.rename(arrived)
            sync(incoming.parent)
            sync(home)
    if before is None:
        arrived.rename(dicom)
    else:
        part = home / ".part-dicom"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        for source in (before, arrived):
            for path in _list_slices(source):
                (part / path.name).unlink(missing_ok=True)
                _link(path, part / path.name)
        part.rename(dicom)
        shutil.rmtree(arrived, ignore_errors=True)
    sync(home)
    return dicom


def finish_study(
    connection: Connection, now: float, settings: Settings, job: Job, state: StudyState, reason: str, **values: Any
) -> None:
    """Say that a version has reached its last state; from now its age counts, and that of those it superseded."""
    days = settings.limits.keep_days
    after = now + days * DAY_S if days else None
    studies.move(connection, now, job.study, job.version, state, reason, **values, delete_after=after)
    studies.let_superseded_age(connection, job.study, after)


def delete_expired(database: Database, place: Place, settings: Settings) -> int:
    """Delete what is old enough; return how many versions were touched. After a kill it is done again."""
    limits = settings.limits
    with database.read() as connection:
        rows = studies.list_expired(connection, database.now(connection))
    touched = 0
    for row in rows:
        number, version = row["id"], row["version"]
        has_images = place.dicom(number, version).is_dir()
        later_s = (limits.keep_results_days - limits.keep_days) * DAY_S if limits.keep_results_days else None
        goes_now = later_s is not None and (not has_images or later_s <= 0)
        if goes_now and StudyState.GONE not in MOVES[StudyState(row["state"])]:
            continue
        for folder in (place.dicom(number, version), place.view(number, version)):
            shutil.rmtree(folder, ignore_errors=True)
        if goes_now:
            shutil.rmtree(place.version(number, version), ignore_errors=True)
        with database.write() as connection:
            now = database.now(connection)
            if goes_now:
                studies.move(connection, now, number, version, StudyState.GONE, "by age", delete_after=None)
            else:
                after = None if later_s is None else now + later_s
                studies.change(connection, number, version, delete_after=after)
                if has_images:
                    studies.add_event(connection, now, number, version, row["state"], "its images were deleted by age")
            what = "everything" if goes_now else "images"
            audit.record(connection, now, "server", "deleted by age", study=number, version=version, what=what)
        touched += 1
    if touched:
        logger.info("deleted by age: %d", touched)
    return touched


def _drop_held(place: Place, row: RowMapping) -> int:
    """Remove slices that came again and that the version before holds as they are; return their number."""
    before, count = place.find_earlier(row["id"], row["version"], "dicom"), 0
    for path in _list_slices(place.incoming(row["key"])) if before else []:
        with suppress(FileNotFoundError):
            if filecmp.cmp(path, before / path.name, shallow=False):  # type: ignore[operator]
                path.unlink()
                count += 1
    return count


def count_slices(folder: Path) -> int:
    """How many slices lie in a folder; 0 where it is not there."""
    return len(_list_slices(folder))


def _list_slices(folder: Path) -> list[Path]:
    try:
        return sorted(one for one in folder.iterdir() if one.suffix == ".dcm")
    except FileNotFoundError:
        return []


def _link(path: Path, new: Path) -> None:
    try:
        os.link(path, new)
    except OSError:  # a share without links
        shutil.copyfile(path, new)
