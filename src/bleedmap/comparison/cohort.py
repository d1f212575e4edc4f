"""Compare many pairs of studies; each ends in a row, whatever happens, and the same command resumes.

OUT/NAME/                  what `save` writes of a pair
OUT/growth.csv, .json      a row for each pair
OUT/lesions.csv            a row for each lesion or group of all pairs
OUT/data-dictionary.csv    what the columns mean
OUT/index.html             the table to look at
OUT/.compare/              the ledger: each pair is a job of it
"""

import csv
import hashlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.archive.find import display_path, name_studies
from bleedmap.archive.ledger import Finished, Job, Ledger
from bleedmap.archive.run import put_in_place
from bleedmap.archive.summary import describe_error
from bleedmap.archive.workers import run_jobs
from bleedmap.arrays import ignore
from bleedmap.comparison.compare import Comparison, compare_examinations, examine_pair, split_accept
from bleedmap.comparison.growth import CRITERION, DERIVED_FOR, Expansion
from bleedmap.comparison.match import MEANINGS
from bleedmap.comparison.save import JSON, PAGE, save
from bleedmap.comparison.tables import COLUMNS, lesion_table, rounded
from bleedmap.comparison.words import signed_ml, signed_percent
from bleedmap.errors import InputError, OutputError, find_shortage, usable
from bleedmap.io.files import read_csv, refuse_content, try_to_write, write_json
from bleedmap.io.names import LONGEST_NAME, MOST_BYTES, stem
from bleedmap.page.writer import write_csv, write_page
from bleedmap.study.inputs import natural
from bleedmap.study.segment import Segmenter
from bleedmap.study.words import millilitres

STATUSES = ("expansion", "no expansion", "expansion not known", "no growth claimed", "refused", "failed")
_STATUS_OF: dict[Expansion, str] = {
    "met": "expansion", "not met": "no expansion", "not known": "expansion not known",
}  # fmt: skip
Row = dict[str, Any]  # of `ROW_MEANINGS`
GROWTH_CSV, GROWTH_JSON, LESIONS_CSV = "growth.csv", "growth.json", "lesions.csv"
DICTIONARY_CSV, INDEX = "data-dictionary.csv", "index.html"
_STATE = ".compare"
# Field of a pair's row -> unit and meaning. What is not known is None.
ROW_MEANINGS: dict[str, tuple[str, str]] = {
    "name": ("", "name of the pair's folder of results"),
    "first": ("", "the earlier study, as the table or the folder names it"),
    "second": ("", "the later study"),
    "status": ("", "expansion or no expansion (by the criterion), expansion not known (lesions are left out that one "
        "study does not show, and the others have not grown so much), no growth claimed (no verdict on a study, "
        "different weights, or no lesion that both studies show), refused (a study or the pair cannot be used) or "
        "failed (a fault of the program)"),
    "hours": ("h", "from the first scan to the second, where both tell the time"),
    "aligned": ("", "whether the heads could be laid upon each other"),
    "first_ml": ("mL", "volume of all lesions in the first study"),
    "second_ml": ("mL", "volume of all lesions in the second study"),
    "growth_ml": ("mL", "second minus first, of what both studies show"),
    "growth_low_ml": ("mL", "lower end of its interval"),
    "growth_high_ml": ("mL", "upper end of its interval"),
    "growth_percent": ("%", "growth in per cent of the first volume"),
    "growth_low_percent": ("%", "lower end of its interval"),
    "growth_high_percent": ("%", "upper end of its interval; empty where it has none"),
    "interval_coverage": ("0 to 1", "what each volume's interval was fitted for; that of growth was not measured"),
    "expansion": ("", f"met, not met or not known: {CRITERION}. {DERIVED_FOR}"),
    "firmness": ("", "whether that holds over the whole interval"),
    **{kind: ("", f"number of lesions or groups: {meaning}") for kind, meaning in MEANINGS.items()},
    "reasons": ("", "why no growth is claimed"),
    "notes": ("", "what else to mind"),
    "seconds": ("s", "time from reading to writing"),
    "error": ("", "why there is no result"),
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two studies to compare."""

    key: str  # the same from run to run
    place: str  # from which the name of its folder is made
    studies: tuple[Path, ...]  # both; another number where a folder does not hold two
    by_date: bool  # whether their dates say which is first; otherwise the order given does


def _make_row(**known: Any) -> Row:
    return dict.fromkeys(ROW_MEANINGS) | {"reasons": (), "notes": ()} | known


def find_pairs(place: Path) -> tuple[Pair, ...]:
    """Read a table of pairs, or look through a folder that holds a folder for each pair.

    Raises:
        InputError: neither, or no pair in it.
    """
    pairs = _in_folder(place) if place.is_dir() else _in_table(place)
    if not pairs:
        raise InputError(
            place, found="holds no pair", remedy="see `bleedmap compare --help`",
            needed="a table with the columns first and second, or a folder of folders with two studies each",
        )  # fmt: skip
    return pairs


def _in_folder(place: Path) -> tuple[Pair, ...]:
    return tuple(
        Pair(display_path(Path(one.name)), one.name, tuple(_list_visible(one)), True)
        for one in _list_visible(place)
        if one.is_dir()
    )


def _list_visible(folder: Path) -> list[Path]:
    return sorted((one for one in folder.iterdir() if not one.name.startswith(".")), key=natural)


def _in_table(path: Path) -> tuple[Pair, ...]:
    needed, remedy = "a table of pairs, CSV in UTF-8", "check the path, or save it as CSV UTF-8"
    with usable(path, InputError, needed, remedy, csv.Error, found="cannot be read as a table"):
        lines = read_csv(path)
    pairs = []
    for raw in lines:
        line = {column.lower(): value for column, value in raw.items()}
        first, second, name = (line.get(one, "") for one in ("first", "second", "name"))
        if not first or not second:
            raise InputError(
                path, found=f"line {raw.line} names no two studies", remedy="fill them in, or take the line out",
                needed="the columns first and second, filled in on each line",
            )  # fmt: skip
        places = path.parent / first, path.parent / second
        pairs.append(Pair(f"{first}|{second}", name or f"{stem(places[0].name)}-{stem(places[1].name)}", places, False))
    doubled = {one.key for one in pairs if sum(other.key == one.key for other in pairs) > 1}
    if doubled:
        raise InputError(
            path,
            found=f"the pair {min(doubled)} stands there twice",
            needed="each pair once",
            remedy="take one line out",
        )
    return tuple(pairs)


def run_cohort(
    pairs: tuple[Pair, ...], out: Path, load: Callable[[], Segmenter], settings: dict[str, Any], *,
    accept: Iterable[str] = (), retry: bool = False, overwrite: bool = False,
    report: Callable[[int, int, str, Row | None], None] = ignore,
) -> dict[str, Any]:  # fmt: skip
    """Compare all pairs, but for what an earlier run with the same settings has done; return what `growth.json` holds.

    Args:
        out: new, empty, or of an earlier run.
        load: gives the network, when it is needed.
        settings: what decides on all results beside the program's version, as JSON can hold it.
        accept: names of checks whose refusal is overruled, as `bleedmap.compare`.
        retry: pairs that were refused or failed have another turn.
        overwrite: take these settings although the folder has others.
        report: called at each pair's begin and end with pairs done, of how many, name, and the row at its end.

    Raises:
        OutputError: `out` is not for this, or cannot be written.
        SettingsError: `out` was made with other settings.
    """
    of_pair, of_inputs = split_accept(accept)
    settings = settings | {"version": __version__}
    ledger = Ledger(out, _STATE)
    ledger.open(
        settings, overwrite=overwrite, hints={},
        remedy="give another folder with -o, or --overwrite to make all results again",
    )  # fmt: skip
    try_to_write(out / LONGEST_NAME[:MOST_BYTES])
    before = {one.job.key: one for one in ledger.read_all()}
    known = {key: row["name"] for key, one in before.items() if (row := read_row(one)) is not None}
    files = (GROWTH_CSV, GROWTH_JSON, LESIONS_CSV, DICTIONARY_CSV, INDEX)
    names = name_studies({one.key: one.place for one in pairs}, known, files)
    by_key = {one.key: one for one in pairs}
    done: set[str] = set()

    def is_done(job: Job) -> bool:
        finished = ledger.read(job)
        row = read_row(finished)
        if row is None or finished is None or finished.job != job:
            return False
        if row["error"] is not None:
            ready = not (retry and finished == before.get(job.key))
        else:
            ready = (out / row["name"] / JSON).is_file()
        if ready:
            done.add(job.key)
        return ready

    def do(job: Job) -> None:
        pair, name, started = by_key[job.key], names[job.key], time.monotonic()
        report(len(done), len(pairs), name, None)
        work = ledger.begin(job)
        place, results = out / name, work / "results"
        shown = [display_path(one) for one in pair.studies[:2]] + ["", ""]
        lesions: list[list[Any]] = []
        try:
            refuse_content(place, overwrite=True)
            row, lesions = _compare(pair, name, results, load, of_pair, of_inputs)
        except Exception as error:
            cause = find_shortage(error) or error
            if cause is error and isinstance(error, OutputError) and isinstance(error.__cause__, OSError):
                raise  # the disk's: it would be every pair's
            status = "refused" if isinstance(cause, InputError) else "failed"
            row = _make_row(name=name, first=shown[0], second=shown[1], status=status, error=_describe(cause))
        row["seconds"] = round(time.monotonic() - started, 2)
        put_in_place(results, place, work / "earlier")
        ledger.finish(job, {"row": row, "lesions": lesions})
        done.add(job.key)
        report(len(done), len(pairs), name, row)

    jobs = [Job(one.key, _digest(one.studies), settings) for one in pairs]
    try:
        run_jobs(ledger, run_jobs(ledger, jobs, do, is_done, wait=False), do, is_done, wait=True)
    finally:
        content = _write_tables(ledger, settings, pairs)
    return content


def _compare(
    pair: Pair, name: str, results: Path, load: Callable[[], Segmenter], of_pair: tuple[str, ...],
    of_inputs: tuple[str, ...],
) -> tuple[Row, list[list[Any]]]:  # fmt: skip
    if len(pair.studies) != 2:
        raise InputError(
            pair.place, found=f"holds {len(pair.studies)} files or folders",
            needed="two studies, each a file or a folder", remedy="keep two in it, or write a table of pairs",
        )  # fmt: skip
    first, second = examine_pair(*pair.studies, load, of_pair, of_inputs, by_date=pair.by_date)
    comparison = compare_examinations(first, second, accept=of_pair)
    save(comparison, results)
    return describe_pair(comparison, name), lesion_table(comparison)


def describe_pair(comparison: Comparison, name: str) -> Row:
    """Give the row of a comparison."""
    growth, known = comparison.growth, dict[str, Any]()
    if comparison.groups is not None:
        kinds = [one.kind for one in comparison.groups]
        known |= {kind: kinds.count(kind) for kind in MEANINGS}
    status = "no growth claimed"
    if growth is not None:
        status = _STATUS_OF[growth.expansion]
        low_ml, high_ml = growth.interval_ml or (None, None)
        low, high = growth.interval_percent or (None, None)
        known |= {
            "growth_ml": rounded(growth.ml), "growth_low_ml": rounded(low_ml), "growth_high_ml": rounded(high_ml),
            "growth_percent": rounded(growth.percent), "growth_low_percent": rounded(low),
            "growth_high_percent": rounded(high), "interval_coverage": growth.coverage,
            "expansion": growth.expansion, "firmness": growth.firmness,
        }  # fmt: skip
    return _make_row(
        name=name, first=comparison.first.identity.source, second=comparison.second.identity.source, status=status,
        hours=rounded(comparison.hours), aligned=comparison.alignment.fits,
        first_ml=rounded(comparison.first.volume_ml), second_ml=rounded(comparison.second.volume_ml), **known,
        reasons=comparison.reasons, notes=comparison.notes,
    )  # fmt: skip


def _describe(error: Exception) -> str:
    """The error in one line; of an input it is told which of the two."""
    words = describe_error(error)
    return f"{error.subject}: {words}" if isinstance(error, InputError) else words


def _digest(studies: Iterable[Path]) -> str:
    """Digest names, sizes and times of all files of both studies."""
    digest = hashlib.sha256()
    for study in studies:
        for path in sorted(study.rglob("*")) if study.is_dir() else [study]:
            state = path.stat() if path.is_file() else None
            words = "" if state is None else f"{state.st_size} {state.st_mtime_ns}"
            digest.update(os.fsencode(path.name) + f"\0{words}\0".encode())
    return digest.hexdigest()


def read_row(finished: Finished | None) -> Row | None:
    """Read the row of a pair from its record; None where there is none, or where someone changed it."""
    row = None if finished is None else finished.content.get("row")
    return row if isinstance(row, dict) and row.keys() == ROW_MEANINGS.keys() else None


def _write_tables(ledger: Ledger, settings: dict[str, Any], pairs: tuple[Pair, ...]) -> dict[str, Any]:
    with ledger.lock("summary", wait=True):
        done = {
            one.job.key: (row, one.content.get("lesions", ()))
            for one in ledger.read_all()
            if one.job.settings == settings and (row := read_row(one))
        }
        ordered = sorted(done.values(), key=lambda one: one[0]["name"])
        rows = [row for row, _ in ordered]
        content = {
            "research_only": RESEARCH_ONLY,
            "program": {"name": "bleedmap", "version": __version__},
            "settings": settings,
            "criterion": {"words": CRITERION, "note": DERIVED_FOR},
            "counts": {status: sum(row["status"] == status for row in rows) for status in STATUSES},
            "open": sum(one.key not in done for one in pairs),
            "pairs": rows,
        }
        folder = ledger.folder
        write_json(folder / GROWTH_JSON, content)
        cells = [[row[one] for one in ROW_MEANINGS] for row in rows]
        write_csv(folder / GROWTH_CSV, ROW_MEANINGS, cells, for_excel=True)
        lesions = [[row["name"], *one] for row, given in ordered for one in given]
        write_csv(folder / LESIONS_CSV, ["name", *COLUMNS], lesions, for_excel=True)
        meanings = [(GROWTH_CSV, name, *told) for name, told in ROW_MEANINGS.items()]
        meanings += [(LESIONS_CSV, name, *told) for name, told in ({"name": ROW_MEANINGS["name"]} | COLUMNS).items()]
        write_csv(folder / DICTIONARY_CSV, ("file", "column", "unit", "meaning"), meanings)
        write_page(
            folder / INDEX, "pairs.html", content=content, criterion=CRITERION, derived_for=DERIVED_FOR,
            rows=[_shown(folder, row) for row in rows],
        )  # fmt: skip
    return content


def _shown(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    """A row with what the page shows besides."""
    forms = {
        "first_ml": millilitres, "second_ml": millilitres, "growth_ml": signed_ml, "growth_percent": signed_percent,
    }  # fmt: skip
    shown = {name: "–" if row[name] is None else form(row[name]) for name, form in forms.items()}
    return row | {"shown": shown, "page": row["error"] is None and (folder / row["name"] / PAGE).is_file()}
