"""Segment a version of a study through the one pipeline, and write its results once, whole, with fixed identifiers.

UIDs come from what was read and with what it was segmented: results that are made twice are the same objects, and a
PACS that holds one does not get another.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom.uid import generate_uid
from sqlalchemy import RowMapping

from bleedmap import __version__
from bleedmap.errors import InputError, OutputError, find_shortage
from bleedmap.io.dicom.read import LEFT_OUT
from bleedmap.results.save import SUMMARY, save
from bleedmap.server.config import COMPUTE_ERRORS, Settings, Target
from bleedmap.server.log import describe_fault, logger
from bleedmap.server.place import Place
from bleedmap.server.store import audit, queue, studies
from bleedmap.server.store.engine import Database
from bleedmap.server.store.queue import Job
from bleedmap.server.store.tables import Step, StudyState
from bleedmap.server.view import write_view
from bleedmap.server.work.versions import collect, count_slices, finish_study
from bleedmap.study.read import read_study
from bleedmap.study.segment import Segmenter
from bleedmap.study.words import counted, millilitres

_NAME = "study"  # begins the names of the result files
_REPORT = "results/dicom/report.dcm"


def do_segment(database: Database, place: Place, settings: Settings, segmenter: Segmenter, job: Job) -> None:
    """Do a job of segmenting: a result, a refusal with its reason, or another try later.

    Raises:
        LostLeaseError: the job belongs to another process by now.
        DBAPIError: the database is away; the job is done again when it is back.
    """
    with database.write() as connection:
        now = database.now(connection)
        row = studies.find(connection, job.study, job.version)
        assert row is not None
        if row["made_at"] is None:
            studies.change(connection, job.study, job.version, made_at=float(int(now)))
            row = studies.find(connection, job.study, job.version)
            assert row is not None
    ended = job.attempt - 1 - job.errors  # those that ended by an error, as on a full disk, ended no worker
    if ended >= settings.limits.attempts:
        _fail(database, job, f"its worker ended {ended} times")
        return
    try:
        summary = segment_version(place, row, segmenter, settings)
    except InputError as error:
        _refuse(database, place, settings, job, error)
    except Exception as error:
        shortage = find_shortage(error)
        if isinstance(error, OutputError | OSError) or shortage is not None:
            studies.put_off(database, job, _explain(shortage or error))
        elif job.errors + 1 >= COMPUTE_ERRORS:
            logger.error("study %s failed: %s", job.study, describe_fault(error))
            _fail(database, job, f"a fault of the program: {describe_fault(error)}")
        else:
            logger.error("study %s, try %d: %s", job.study, job.errors + 1, describe_fault(error))
            studies.put_off(database, job, "a fault of the program; tried again")
    else:
        _record(database, place, settings, job, summary)


def segment_version(place: Place, row: RowMapping, segmenter: Segmenter, settings: Settings) -> dict[str, Any]:
    """Segment a version and write its results, or find those that are there; return its summary.

    Raises:
        InputError: it cannot be read, or an input check refuses it.
        OutputError, OSError: the disk is full, or fails.
    """
    results = place.results(row["id"], row["version"])
    if not (results / SUMMARY).exists():
        dicom, view = collect(place, row), place.view(row["id"], row["version"])
        view.mkdir(mode=0o700, exist_ok=True)
        study = read_study(dicom, name=_NAME)
        try:
            result = segmenter.segment(study, accept=settings.worker.accept)
        except InputError:
            write_view(view, study)  # a person looks at what the program does not
            raise
        write_view(view, result)
        save(  # last: whoever finds a summary finds all
            result, results, fractional=any("probability" in one.send for one in settings.target),
            made_at=datetime.fromtimestamp(row["made_at"]), new_uid=make_uids(row, dicom, segmenter, settings),
            predecessor=place.find_earlier(row["id"], row["version"], _REPORT),
        )  # fmt: skip
    content: dict[str, Any] = json.loads((results / SUMMARY).read_text("utf-8"))
    return content


def make_uids(row: RowMapping, dicom: Path, segmenter: Segmenter, settings: Settings) -> Callable[[], str]:
    """A source of UIDs that gives the same ones, in order, for the same input, network and settings."""
    digest = hashlib.sha256()
    for path in sorted(dicom.iterdir()):
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    made_of = [
        row["uid"], str(row["version"]), digest.hexdigest(), segmenter.weights.sha256, f"{segmenter.threshold:g}",
        ",".join(settings.worker.accept), __version__,
    ]  # fmt: skip
    numbers = iter(range(1_000_000))
    return lambda: str(generate_uid(entropy_srcs=[*made_of, str(next(numbers))]))


def list_targets(settings: Settings, summary: dict[str, Any]) -> list[Target]:
    """The targets that get this result."""
    if "dicom_report" not in summary["files"]:
        return []
    return [one for one in settings.target if one.when == "always" or summary["verdict"] == "bleed marked"]


def _explain_unsent(settings: Settings, summary: dict[str, Any]) -> str:
    """Explain why no target gets anything of a result that has no DICOM; '' where targets get what they ask for."""
    if not settings.target or "dicom_report" in summary["files"]:
        return ""
    return next((one for one in summary["notes"] if one.startswith(LEFT_OUT)), "")


def _record(database: Database, place: Place, settings: Settings, job: Job, summary: dict[str, Any]) -> None:
    sure = summary["certainty"]
    weights = f"{summary['weights']['name']} {summary['weights']['sha256'][:16]}"
    values = {
        "verdict": summary["verdict"], "volume_ml": summary["volume_ml"], "lesions": len(summary["lesions"]),
        "score": summary["highest_probability"] if sure is None else sure["study_probability"],
        "headline": _headline(summary), "weights": weights, "error": _explain_unsent(settings, summary),
        **_count_held(place, job),
    }  # fmt: skip
    targets = list_targets(settings, summary)
    with database.write() as connection:
        now = database.now(connection)
        queue.finish(connection, job)
        studies.move(connection, now, job.study, job.version, StudyState.SEGMENTED, summary["verdict"], **values)
        for target in targets:
            queue.enqueue(connection, job.study, job.version, Step.DELIVER, target.name)
        if not targets:
            said = "no target gets it" if settings.target else "no target is set"
            finish_study(connection, now, settings, job, StudyState.DELIVERED, said)
        audit.record(connection, now, "server", "study segmented", study=job.study, version=job.version)
    logger.info("study %s v%d: %s", job.study, job.version, summary["verdict"])


def _count_held(place: Place, job: Job) -> dict[str, int]:
    """All slices of a version, those of the versions before among them: until now its row counts what came for it."""
    held = count_slices(place.dicom(job.study, job.version))
    return {"instances": held} if held else {}


def _headline(summary: dict[str, Any]) -> str:
    said, slices = summary["verdict"], counted(summary["slice_count"], "slice")
    if not summary["lesions"]:
        return f"{said}: nothing outlined in {slices}"
    marked = len(summary["slices_with_lesion"])
    size = f"{millilitres(summary['volume_ml'])} mL in {counted(len(summary['lesions']), 'lesion')}"
    return f"{said}: {size}, on {marked} of {slices}"


def _refuse(database: Database, place: Place, settings: Settings, job: Job, error: InputError) -> None:
    with database.write() as connection:
        now = database.now(connection)
        queue.finish(connection, job)
        said = {"error": error.found, "headline": "not segmented", **_count_held(place, job)}
        finish_study(connection, now, settings, job, StudyState.REFUSED, error.found, **said)
        audit.record(connection, now, "server", "study refused", study=job.study, version=job.version)
    logger.info("study %s v%d: refused by an input check", job.study, job.version)


def _fail(database: Database, job: Job, reason: str) -> None:
    with database.write() as connection:
        now = database.now(connection)
        queue.give_up(connection, job, reason)
        studies.move(connection, now, job.study, job.version, StudyState.FAILED, reason, error=reason)


def _explain(error: BaseException) -> str:
    found = getattr(error, "found", None) or getattr(error, "strerror", None) or type(error).__name__
    subject = "disk" if isinstance(error, OutputError | OSError) else getattr(error, "subject", "machine")
    return f"{subject}: {found}"
