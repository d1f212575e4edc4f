"""What a batch keeps beside the results: a record of each study, locks, and the summary table made from the records.

OUT/NAME/                  a study's results
OUT/summary.csv, .json     a row for each study that has its turn behind it, once the batch ends
OUT/.batch/settings.json   what all results were made with
OUT/.batch/done/KEY.json   a study's row and its files' digest; KEY is a hash
OUT/.batch/locks/, work/   claims of processes, and results that are being written
"""

import json
import shutil
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args
from uuid import uuid4

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.archive.find import Found, Source
from bleedmap.archive.names import name_studies, short_hash
from bleedmap.errors import OutputError, SettingsError
from bleedmap.io.files import output_error, refuse_folder, write_json
from bleedmap.io.locks import locked
from bleedmap.page.writer import write_csv

Status = Literal["found", "not found", "no verdict", "refused", "failed"]
SUMMARY_JSON, SUMMARY_CSV = "summary.json", "summary.csv"
_STATE, _SETTINGS = ".batch", "settings.json"


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


@dataclass(frozen=True)
class Record:
    """A study that has had its turn; `turn` is another for each."""

    key: str
    digest: str
    settings: dict[str, Any]
    row: Row
    turn: str


class Records:
    """The folder of results of one batch; several processes may hold it."""

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.out, self.settings, self._state = out, settings, out / _STATE

    @classmethod
    def open(cls, out: Path, settings: dict[str, Any], *, overwrite: bool) -> "Records":
        """Begin a batch, or go on with one.

        Args:
            out: new, empty, or of an earlier batch.
            settings: what decides on the results, as JSON can hold it.
            overwrite: go on although the earlier settings were others; those results are made anew.

        Raises:
            OutputError: the folder holds something else, or cannot be written.
            SettingsError: other settings, without `overwrite`.
        """
        refuse_strangers(out)
        records = cls(out, settings)
        with records._locked("settings", wait=True):
            file = records._state / _SETTINGS
            earlier = _json(file)
            if earlier not in (None, settings) and not overwrite:
                raise _other_settings(out, earlier, settings)
            if earlier != settings:
                write_json(file, settings)
        return records

    def names(self, found: Found) -> dict[str, str]:
        """Each study's key -> the name of its folder; those of earlier runs stay."""
        known = {one.key: one.row.name for one in self.all()}
        places = {one.key: one.place if one.place != "." else found.folder.resolve().name for one in found.sources}
        return name_studies(places, known, (SUMMARY_JSON, SUMMARY_CSV))

    def all(self) -> list[Record]:
        """Every record that can be read."""
        found = (self._parsed(path) for path in sorted((self._state / "done").glob("*.json")))
        return [one for one in found if one is not None]

    def read(self, key: str) -> Record | None:
        """A study's record, where there is one."""
        return self._parsed(self._file(key))

    def is_done(self, record: Record | None, source: Source, *, retry: bool) -> bool:
        """Whether a record holds for these files and settings; with its results in their place, or refused for good."""
        if record is None or record.digest != source.digest or record.settings != self.settings:
            return False
        return (self.out / record.row.name / SUMMARY_JSON).is_file() if record.row.has_results else not retry

    def claim(self, key: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Yields whether no other process is at this study; while inside, none can be."""
        return self._locked(short_hash(key), wait=wait)

    def begin(self, key: str) -> Path:
        """An empty place to write a claimed study's results; its record, if any, is no longer true."""
        work = self._state / "work" / short_hash(key)
        try:
            shutil.rmtree(work, ignore_errors=True)  # what a killed run left
            self._file(key).unlink(missing_ok=True)
            work.mkdir(parents=True)
        except OSError as error:
            raise output_error(work, error) from error
        return work

    def finish(self, source: Source, row: Row, work: Path) -> None:
        """Put the results in `work`/results in their place, if there are any; then the record."""
        place, results = self.out / row.name, work / "results"
        try:
            if place.exists() and _is_ours(place):
                place.replace(work / "earlier")
            if results.exists():
                results.replace(place)
            shutil.rmtree(work)
        except OSError as error:
            raise output_error(place, error) from error
        record = Record(source.key, source.digest, self.settings, row, turn=uuid4().hex)
        write_json(self._file(source.key), asdict(record))

    def write_summary(self, found: Found) -> dict[str, Any]:
        """The table of all studies, as JSON and CSV, and what the JSON holds.

        Of studies that are no longer in the folder the rows stay. Under a lock: the last to write has seen all.
        """
        with self._locked("summary", wait=True):
            records = [one for one in self.all() if one.settings == self.settings]
            rows, done = sorted((one.row for one in records), key=lambda row: row.source), {one.key for one in records}
            content = {
                "research_only": RESEARCH_ONLY,
                "program": {"name": "bleedmap", "version": __version__},
                "settings": self.settings,
                "counts": {status: sum(row.status == status for row in rows) for status in get_args(Status)},
                "open": sum(one.key not in done for one in found.sources),
                "studies": [asdict(row) for row in rows],
                "passed_by": [asdict(one) for one in found.passed],
            }
            write_json(self.out / SUMMARY_JSON, content)
            _write_csv(self.out / SUMMARY_CSV, rows)
        return content

    def _locked(self, name: str, *, wait: bool) -> AbstractContextManager[bool]:
        return locked(self._state / "locks" / f"{name}.lock", wait=wait)

    def _file(self, key: str) -> Path:
        return self._state / "done" / f"{short_hash(key)}.json"

    def _parsed(self, path: Path) -> Record | None:
        try:
            content = _json(path)
            lists = {name: tuple(content["row"].get(name, ())) for name in ("abstained", "warnings")}
            row = Row(**content["row"] | lists)
            return Record(content["key"], content["digest"], content["settings"], row, content["turn"])
        except (KeyError, TypeError):
            return None  # changed by someone: the study has its turn again


def open_studies(found: Found, out: Path, *, retry: bool, overwrite: bool) -> int:
    """How many studies need a turn, as is known before the network is loaded; with `overwrite` it may be all."""
    if overwrite:
        return len(found.sources)
    records = Records(out, _json(out / _STATE / _SETTINGS))  # others than these would be refused
    known = {one.key: one for one in records.all()}
    return sum(not records.is_done(known.get(one.key), one, retry=retry) for one in found.sources)


def refuse_strangers(out: Path) -> None:
    """Refuse a folder of results that is not of a batch: to be asked before long work begins.

    Raises:
        OutputError: it is a file, or holds something else.
    """
    if not out.exists():
        return
    if not out.is_dir() or ({one.name for one in out.iterdir()} - {_STATE} and not (out / _STATE).is_dir()):
        raise OutputError(
            out, found="holds something that is not of a batch" if out.is_dir() else "is a file",
            needed="a new or empty folder, or one of an earlier `bleedmap batch`", remedy="give another folder with -o",
        )  # fmt: skip


def _is_ours(place: Path) -> bool:
    try:
        refuse_folder(place, overwrite=True)
    except OutputError:
        return False
    return True


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _other_settings(out: Path, earlier: Any, settings: dict[str, Any]) -> SettingsError:
    before = earlier if isinstance(earlier, dict) else {}
    other = [f"{name} {before.get(name)!r}, now {now!r}" for name, now in settings.items() if before.get(name) != now]
    remedy = "give another folder with -o, or --overwrite to make all results anew"
    if before.get("precision") != settings["precision"]:
        remedy += "; for several machines give --precision fp32 from the start: auto depends on the processor"
    return SettingsError(
        out, found=f"holds results made with other settings: {'; '.join(other)}",
        needed="the same settings for all studies of a summary", remedy=remedy,
    )  # fmt: skip


def _write_csv(path: Path, rows: list[Row]) -> None:
    write_csv(path, [field.name for field in fields(Row)], [list(asdict(row).values()) for row in rows])
