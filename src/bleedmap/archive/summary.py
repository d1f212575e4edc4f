"""The summary of a batch: a row for each study, from its result or its error, and the table of all rows.

OUT/summary.csv, .json     a row for each study that has had its turn
OUT/lesions.csv            a row for each lesion of all studies
OUT/data-dictionary.csv    what the columns mean
OUT/index.html             the table to look at, with thumbnails
OUT/.batch/done/KEY.json   the ledger's record of a study, which holds its row
"""

import re
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.archive.find import Found, read_identity
from bleedmap.archive.ledger import Finished, Ledger
from bleedmap.archive.remote.web import RemoteError
from bleedmap.errors import BleedmapError, CheckRefusalError, InputError, ResourceError, SettingsError
from bleedmap.io.files import explain_os_error, write_json
from bleedmap.page.writer import environment, write_csv, write_page
from bleedmap.results.tables import COLUMNS
from bleedmap.study.result import Result
from bleedmap.study.segment import find_doubtful
from bleedmap.study.words import Verdict, chance, millilitres, verdict

Status = Literal["found", "not found", "no verdict", "refused", "failed", "waiting"]
SUMMARY_JSON, SUMMARY_CSV, LESIONS_CSV, INDEX = "summary.json", "summary.csv", "lesions.csv", "index.html"
STATE = ".batch"  # the ledger's folder in a folder of results
DICTIONARY_CSV, THUMBNAILS = "data-dictionary.csv", "thumbnails"
IDENTITY = ("patient_id", "study_date", "accession_number")
TABLES = (SUMMARY_JSON, SUMMARY_CSV, LESIONS_CSV, DICTIONARY_CSV, INDEX)
MOST_SHOWN = 10_000  # rows on the page
_PROGRAM = Path(__file__).parents[1]  # the program's own files
_FIRST_SHOWN: tuple[Status, ...] = ("found", "no verdict", "failed", "waiting", "refused", "not found")
_STATUS: dict[Verdict, Status] = {"bleed marked": "found", "no bleed marked": "not found", "no verdict": "no verdict"}


def _told(meaning: str, unit: str = "", **default: Any) -> Any:
    """Make a field of a row with its unit and meaning."""
    return field(metadata={"told": (unit, meaning)}, **(default or {"default": None}))


@dataclass(frozen=True)
class Row:
    """One study in the summary. What is not known is None."""

    name: str = _told("name of the study's folder of results", default=MISSING)
    source: str = _told("the study's place below the folder that was searched", default=MISSING)
    study_uid: str | None = _told("Study Instance UID, for DICOM", default=MISSING)
    status: Status = _told(  # noqa: RUF009 - it makes a field
        "found, not found, no verdict (do not rely on what is outlined), refused (it cannot be read, or an input check "
        "refuses it), failed (a fault of the program) or waiting (its server did not give it; the same command tries "
        "again)", default=MISSING,
    )  # fmt: skip
    reason_code: str | None = _told(
        "why there is no verdict or no result: names of input checks, 'certainty' (the probability is near to even, "
        "disagrees with the outline, or the images are unlike the training data), 'unreadable', 'system', 'server' or "
        "'program'"
    )
    study_probability: float | None = _told("probability that the study bleeds, calibrated", "0 to 1")
    types: Mapping[str, float] = _told(
        "probability that the study holds a bleed of this type", "0 to 1", default_factory=dict
    )  # a column for each type in the table
    volume_ml: float | None = _told("volume of all lesions", "mL")
    volume_low_ml: float | None = _told("lower end of the volume's interval", "mL")
    volume_high_ml: float | None = _told("upper end of the volume's interval", "mL")
    interval_coverage: float | None = _told(
        "share of unseen bleeding patients whose volume such an interval held", "0 to 1"
    )
    lesions: int | None = _told("number of lesions")
    largest_lesion_ml: float | None = _told("volume of the largest lesion", "mL")
    slices: int | None = _told("number of slices, with and without lesions")
    slice_distance_mm: float | None = _told("median distance from slice to slice", "mm")
    slice_thickness_mm: float | None = _told("slice thickness as the DICOM files state it", "mm")
    highest_probability: float | None = _told("highest probability of a pixel anywhere in the study", "0 to 1")
    abstained: tuple[str, ...] = _told("why there is no verdict, in sentences", default=())
    warnings: tuple[str, ...] = _told("names of the input checks that did not pass", default=())
    seconds: float | None = _told("time from reading to writing", "s")
    error: str | None = _told("why there is no result")

    @property
    def has_results(self) -> bool:
        """Whether there is a folder of results."""
        return self.status in ("found", "not found", "no verdict")


MEANINGS = {one.name: one.metadata["told"] for one in fields(Row)} | {
    "patient_id": ("", "with --identify: Patient ID of the DICOM files"),
    "study_date": ("", "with --identify: Study Date, as YYYY-MM-DD"),
    "accession_number": ("", "with --identify: Accession Number"),
}


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
        "largest_lesion_ml": findings.lesion_ml(findings.lesions[0]) if findings.lesions else None,
        "slice_distance_mm": round(result.volume.grid.spacing_mm[0], 4) if len(result.volume.grid) > 1 else None,
        "slice_thickness_mm": result.acquisition.thickness_mm,
        "warnings": tuple(one.name for one in result.warnings),
    }
    if certainty is not None:
        known |= {"study_probability": round(certainty.study, 6), "abstained": certainty.abstained}
        known["types"] = {name: round(probability, 6) for name, probability in certainty.types}
        if certainty.abstained:
            doubtful = [one.name.replace(" ", "-") for one in find_doubtful(result.checks)]
            rest = ["certainty"] if len(certainty.abstained) > len(doubtful) else []
            known["reason_code"] = ", ".join([*doubtful, *rest])
        if certainty.volume_ml is not None:
            low_ml, high_ml = (round(end, 4) for end in certainty.volume_ml)
            known |= {"volume_low_ml": low_ml, "volume_high_ml": high_ml, "interval_coverage": certainty.coverage}
    return known


def name_reason(error: Exception) -> str:
    """Name, for a program, why there is no result."""
    if isinstance(error, CheckRefusalError):
        return ", ".join(one.replace(" ", "-") for one in error.checks)
    if isinstance(error, ResourceError | OSError):
        return "system"
    if isinstance(error, RemoteError | SettingsError):
        return "server"
    return "unreadable" if isinstance(error, InputError) else "program"


def describe_error(error: Exception) -> str:
    """Say in one line what was found, is needed and can be done, in text that every file can hold."""
    known = explain_os_error(error) if isinstance(error, OSError) and error.errno is not None else error
    if not isinstance(known, BleedmapError):
        return _describe_fault(error)
    subject = f"{known.subject}: " if isinstance(error, OSError | ResourceError) else ""
    again = "; then give --retry" if subject else ""
    said = f"{subject}{known.found} (needed: {known.needed}; remedy: {known.remedy}{again})"
    words = " ".join(re.sub(r"(?<![:\s])\s*\n", ". ", said).split())  # a reason a line
    return words.encode("utf-8", "backslashreplace").decode("utf-8")


def _describe_fault(error: Exception) -> str:
    """Give kind and place of a fault alone: the error's message may quote what the file says of a patient."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if _PROGRAM in Path(one.filename).parents]
    place = f" in {Path(frames[-1].filename).stem}.{frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return f"unexpected {type(error).__name__}{place}: a fault of the program, please report it"


def merge_batch(ledger: Ledger, found: Found, identify: bool) -> dict[str, Any]:
    """Write the tables of all studies that were done, by one process or in shards; return what `summary.json` holds.

    Args:
        identify: tell patient, date and accession number of each DICOM study.
    """
    read = read_identity if isinstance(found.folder, Path) else found.folder.identify
    return write_summary(ledger, ledger.settings(), found, {one.key: read(one) for one in found.sources if identify})


def write_summary(
    ledger: Ledger, settings: dict[str, Any], found: Found, identities: Mapping[str, Mapping[str, str | None]] = {}
) -> dict[str, Any]:
    """Write the tables of all studies that were done with these settings, and the page; return what the JSON holds.

    Rows of studies that are no longer in the folder stay. Under a lock: the last process to write has seen all.

    Args:
        identities: a study's key -> patient_id, study_date and accession_number, to be told in the tables.
    """
    with ledger.lock("summary", wait=True):
        made = rows_of(ledger.read_all(), settings)
        content = summarise(settings, found, made, identities)
        rows, folder = content["studies"], ledger.folder
        write_json(folder / SUMMARY_JSON, content)
        columns = _write_table(folder / SUMMARY_CSV, rows)
        lesions = [[row.name, *lesion] for _, row, given in made for lesion in given]
        write_csv(folder / LESIONS_CSV, ["name", *COLUMNS], lesions, for_excel=True)
        _write_dictionary(folder / DICTIONARY_CSV, columns)
        environment().filters["ml"] = millilitres
        write_page(folder / INDEX, "batch.html", content=content, thumbnails=THUMBNAILS, rows=_shown(folder, rows))
    return content


Made = list[tuple[str, Row, list[list[Any]]]]  # key, row and lesions of a study


def rows_of(finished: Iterable[Finished], settings: Mapping[str, Any]) -> Made:
    """What was made with these settings, by the studies' places."""
    made = [
        (one.job.key, row, one.content.get("lesions", []))
        for one in finished if one.job.settings == settings and (row := read_row(one))
    ]  # fmt: skip
    return sorted(made, key=lambda one: one[1].source)


def summarise(
    settings: Mapping[str, Any], found: Found, made: Made, identities: Mapping[str, Mapping[str, str | None]] = {}
) -> dict[str, Any]:
    """Give what `summary.json` holds, of these rows alone, and write nothing: see `write_summary`."""
    nobody, done = dict.fromkeys(IDENTITY) if identities else {}, {key for key, _, _ in made}
    rows = [asdict(row) | nobody | dict(identities.get(key, {})) for key, row, _ in made]
    return {
        "research_only": RESEARCH_ONLY,
        "program": {"name": "bleedmap", "version": __version__},
        "settings": settings,
        "counts": {status: sum(row["status"] == status for row in rows) for status in get_args(Status)},
        "open": sum(one.key not in done for one in found.sources),
        "studies": rows,
        "passed_by": [asdict(one) for one in found.passed],
    }


def _write_table(path: Path, rows: list[dict[str, Any]]) -> list[str]:
    """Write a line a study, a column for each type; return the columns."""
    names = list(dict.fromkeys(name for row in rows for name in row["types"]))
    keys = list(rows[0]) if rows else [one.name for one in fields(Row)]
    at = keys.index("types")
    columns = [*keys[:at], *(f"type_{name}" for name in names), *keys[at + 1 :]]
    values = [
        [*cells[:at], *(row["types"].get(name) for name in names), *cells[at + 1 :]]
        for row in rows for cells in [list(row.values())]
    ]  # fmt: skip
    write_csv(path, columns, values, for_excel=True)
    return columns


def _shown(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with what the page shows besides: the probability in words, and whether there is a picture.

    Of more than a browser can hold, those that a reader looks for first.
    """
    if len(rows) > MOST_SHOWN:
        order = {status: place for place, status in enumerate(_FIRST_SHOWN)}
        rows = sorted(rows, key=lambda row: order[row["status"]])[:MOST_SHOWN]
    pictured = {path.stem for path in (folder / THUMBNAILS).glob("*.jpg")}
    return [
        row
        | {
            "probability": "–" if row["study_probability"] is None else chance(row["study_probability"]),
            "picture": row["name"] in pictured and row["status"] in _STATUS.values(),
        }
        for row in rows
    ]


def _write_dictionary(path: Path, columns: list[str]) -> None:
    """Write what each column of the two tables means."""
    rows = [(SUMMARY_CSV, one, *MEANINGS["types" if one.startswith("type_") else one]) for one in columns] + [
        (LESIONS_CSV, name, unit, meaning) for name, (unit, meaning) in ({"name": MEANINGS["name"]} | COLUMNS).items()
    ]
    write_csv(path, ("file", "column", "unit", "meaning"), rows)
