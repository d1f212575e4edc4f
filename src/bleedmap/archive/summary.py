"""The summary of a batch: a row for each study, from its result or its error, and the table of all rows.

OUT/summary.csv, .json     a row for each study that has had its turn
OUT/.batch/done/KEY.json   the ledger's record of a study, which holds its row
"""

import traceback
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.archive.find import Found
from bleedmap.archive.ledger import Finished, Ledger
from bleedmap.errors import BleedmapError
from bleedmap.io.files import write_json
from bleedmap.page.writer import write_csv
from bleedmap.study.result import Result
from bleedmap.study.words import Verdict, verdict

Status = Literal["found", "not found", "no verdict", "refused", "failed"]
SUMMARY_JSON, SUMMARY_CSV = "summary.json", "summary.csv"
_STATUS: dict[Verdict, Status] = {"bleed marked": "found", "no bleed marked": "not found", "no verdict": "no verdict"}


@dataclass(frozen=True)
class Row:
    """One study in the summary; what is not known is None.

    Attributes:
        name: of its folder of results.
        source: its place below the folder that was searched.
        study_uid: Study Instance UID, for DICOM.
        status: 'no verdict' where the program abstains, whatever it outlined; 'refused' by reading or an input check,
            'failed' by a fault of the program.
        study_probability: that the study bleeds, calibrated.
        volume_ml: of all lesions.
        volume_low_ml, volume_high_ml: the volume's interval.
        interval_coverage: share of unseen bleeding patients whose volume such an interval held.
        lesions: how many.
        slices: how many, with and without lesions.
        highest_probability: anywhere in the study.
        abstained: why there is no verdict.
        warnings: names of the input checks that did not pass.
        seconds: from reading to writing.
        error: why there is no result.
    """

    name: str
    source: str
    study_uid: str | None
    status: Status
    study_probability: float | None = None
    volume_ml: float | None = None
    volume_low_ml: float | None = None
    volume_high_ml: float | None = None
    interval_coverage: float | None = None
    lesions: int | None = None
    slices: int | None = None
    highest_probability: float | None = None
    abstained: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float | None = None
    error: str | None = None

    @property
    def has_results(self) -> bool:
        """Whether there is a folder of results."""
        return self.status in ("found", "not found", "no verdict")


def read_row(finished: Finished | None) -> Row | None:
    """Read the row of a study from its record; None where there is none, or where someone changed it."""
    try:
        row = {} if finished is None else finished.content["row"]
        return Row(**row | {name: tuple(row.get(name, ())) for name in ("abstained", "warnings")})
    except (KeyError, TypeError):
        return None


def describe_result(result: Result) -> dict[str, Any]:
    """Give the fields of `Row` that a result fills, by name."""
    findings, certainty = result.findings, result.certainty
    known: dict[str, Any] = {
        "status": _STATUS[verdict(findings, certainty)],
        "volume_ml": findings.volume_ml,
        "lesions": len(findings.lesions),
        "slices": len(findings.slices),
        "highest_probability": findings.highest_probability,
        "warnings": tuple(one.name for one in result.warnings),
    }
    if certainty is not None:
        known |= {"study_probability": round(certainty.study, 6), "abstained": certainty.abstained}
        if certainty.volume_ml is not None:
            low_ml, high_ml = (round(end, 4) for end in certainty.volume_ml)
            known |= {"volume_low_ml": low_ml, "volume_high_ml": high_ml, "interval_coverage": certainty.coverage}
    return known


def describe_error(error: BleedmapError) -> str:
    """Say what was found, is needed and can be done, in text that every file can hold."""
    words = f"{error.found} (needed: {error.needed}; remedy: {error.remedy})"
    return words.encode("utf-8", "backslashreplace").decode("utf-8")


def describe_fault(error: Exception) -> str:
    """Give kind and place of a fault alone: the error's message may quote what the file says of a patient."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if "bleedmap" in Path(one.filename).parts]
    place = f" in {Path(frames[-1].filename).stem}.{frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return f"unexpected {type(error).__name__}{place}: a fault of the program, please report it"


def write_summary(ledger: Ledger, settings: dict[str, Any], found: Found) -> dict[str, Any]:
    """Write the table of all studies that were done with these settings, as JSON and CSV; return what the JSON holds.

    Rows of studies that are no longer in the folder stay. Under a lock: the last process to write has seen all.
    """
    with ledger.lock("summary", wait=True):
        done = {
            one.job.key: row for one in ledger.read_all() if one.job.settings == settings and (row := read_row(one))
        }
        rows = sorted(done.values(), key=lambda row: row.source)
        content = {
            "research_only": RESEARCH_ONLY,
            "program": {"name": "bleedmap", "version": __version__},
            "settings": settings,
            "counts": {status: sum(row.status == status for row in rows) for status in get_args(Status)},
            "open": sum(one.key not in done for one in found.sources),
            "studies": [asdict(row) for row in rows],
            "passed_by": [asdict(one) for one in found.passed],
        }
        write_json(ledger.folder / SUMMARY_JSON, content)
        columns = [one.name for one in fields(Row)]
        write_csv(ledger.folder / SUMMARY_CSV, columns, [list(asdict(row).values()) for row in rows])
    return content
