"""Many studies, in one process or several; each ends in a row of the summary, whatever happens."""

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from bleedmap import __version__
from bleedmap.archive.find import Found, Source
from bleedmap.archive.ledger import Record, Records, Row
from bleedmap.archive.memory import collect_seldom
from bleedmap.archive.message import told_of_error, told_of_fault, told_of_result
from bleedmap.archive.names import shown
from bleedmap.archive.workers import beside, processes_for
from bleedmap.errors import BleedmapError, InputError, OutputError
from bleedmap.inference.backends import Precision
from bleedmap.io import nifti
from bleedmap.io.dicom.files import scan_files
from bleedmap.io.files import refuse_folder
from bleedmap.results.save import save
from bleedmap.study.gate.gate import accepted_names
from bleedmap.study.read import Study, read_study
from bleedmap.study.segment import Segmenter


@dataclass(frozen=True)
class BatchOptions:
    """What a batch does beside segmenting.

    Attributes:
        accept: names of input checks whose refusal is overruled.
        dicom: for studies that came as DICOM, write DICOM results too.
        fractional: and among them the probability as a FRACTIONAL segmentation.
        retry: studies that were refused or failed have another turn.
        overwrite: results of other settings are made anew.
    """

    accept: tuple[str, ...] = ()
    dicom: bool = True
    fractional: bool = False
    retry: bool = False
    overwrite: bool = False


PLAIN = BatchOptions()
_SAVING = 0.5  # of a study's time, measured with 30 slices of 512×512
# Writing the table takes as long as a third of a study where there are a thousand: after it was written it waits for 50
# times as long as that took, at most for a minute, and for the next study's end.
_TABLE_PAUSE, _TABLE_PAUSE_S = 50, 60.0


@dataclass(frozen=True)
class Step:
    """How far a batch is.

    Attributes:
        done: studies that have had their turn, in this run or an earlier one, and the shares of the current ones.
        of: all studies.
        name: of the one that this is about.
        row: of the one that has just ended, else None.
        process: which of the further processes is at it; None: this one.
        exit_code: of that process, if it has just ended early; the others take its studies.
    """

    done: float
    of: int
    name: str
    row: Row | None = None
    process: int | None = None
    exit_code: int = 0


@dataclass(frozen=True)
class Company:
    """Further processes for a batch, and how each loads the network that this one has: as `Segmenter.load`.

    Attributes:
        processes: how many more; 0: none.
        weights, threshold, precision, threads: of `Segmenter.load`.
    """

    processes: int = 0
    weights: str | None = None
    threshold: float | None = None
    precision: Precision = "auto"
    threads: int | None = None

    def load(self) -> Segmenter:
        """The network, in a process of its own."""
        return Segmenter.load(self.weights, threshold=self.threshold, precision=self.precision, threads=self.threads)


ALONE = Company()
Report = Callable[[Step], None]


def run_batch(
    found: Found,
    out: Path,
    segmenter: Segmenter,
    options: BatchOptions = PLAIN,
    report: Report = lambda step: None,
    company: Company = ALONE,
) -> dict[str, Any]:
    """Segment all studies of a folder; what an earlier run with the same settings has done is not done again.

    A study whose files changed since is done anew. Several processes may work at one folder of results: each study is
    claimed by one of them, and all end when the last study has.

    Args:
        found: as `find_studies` gives it.
        out: new, empty, or of an earlier batch of this folder.
        segmenter: the network and its threshold.
        options: the rest.
        report: called at each study's begin and end, and after each share of its slices; from one thread at a time.
        company: further processes that take their share, at most so many.

    Returns:
        What `summary.json` holds: 'studies' (a row each), 'counts' by status, 'passed_by'.

    Raises:
        OutputError: `out` is not for a batch, or its disk cannot be written.
        SettingsError: `out` was made with other settings; an unknown check in `accept`.
    """
    accepted_names(options.accept)
    records = Records.open(out, _settings(found, segmenter, options), overwrite=options.overwrite)
    known = _Known(records.names(found), {one.key: one for one in records.all()})
    batch = _Batch(found, records, segmenter, options, known, report)
    work = partial(_take_part, found, out, records.settings, options, known, company)
    try:
        with beside(batch.worth_of_company(company.processes), work, batch.heard, batch.ended):
            for wait in (False, True):  # at last, for those that other processes are at: who is killed leaves its study
                batch.turns(wait=wait)
    except BaseException:
        with suppress(Exception):  # the first error says it
            records.write_summary(found)
        raise
    return records.write_summary(found)


@dataclass(frozen=True)
class _Known:
    """What all processes of a batch go by, as it was at its begin: key -> name of its folder; key -> record."""

    names: dict[str, str]
    before: dict[str, Record]


@dataclass(frozen=True)
class _Said:
    """What one process tells of the study that it is at."""

    name: str
    share: float
    row: Row | None


def _take_part(
    found: Found, out: Path, settings: dict[str, Any], options: BatchOptions, known: _Known, company: Company,
    say: Callable[[_Said], None],
) -> None:  # fmt: skip
    """Another process' part. What stops it, as a full disk, mostly stops the first one too, which says why."""
    collect_seldom()
    try:
        batch = _Batch(found, Records(out, settings), company.load(), options, known, said=say)
        for wait in (False, True):
            batch.turns(wait=wait)
    except BleedmapError as error:
        sys.exit(error.exit_code)


def _settings(found: Found, segmenter: Segmenter, options: BatchOptions) -> dict[str, Any]:
    """What decides on a study's results. Not `accept`: it is for refused studies alone, and each result says it."""
    return {
        "folder": shown(found.folder.resolve()),
        "weights": segmenter.weights.name,
        "weights_sha256": segmenter.weights.sha256,
        "threshold": segmenter.threshold,
        "precision": segmenter.backend.record.precision,
        "dicom": options.dicom,
        "fractional": options.fractional,
        "version": __version__,
    }


class _Batch:
    """One process' part in a batch."""

    def __init__(
        self, found: Found, records: Records, segmenter: Segmenter, options: BatchOptions, known: _Known,
        report: Report = lambda step: None, said: Callable[[_Said], None] = lambda one: None,
    ) -> None:  # fmt: skip
        self._found, self._records, self._segmenter = found, records, segmenter
        self._options, self._report, self._tell = options, report, said
        self._names, self._before = known.names, known.before
        self._open = [one for one in found.sources if self._is_open(one, self._before.get(one.key))]
        unsettled = {one.key for one in self._open}
        self._done = {self._names[one.key] for one in found.sources if one.key not in unsettled}
        self._at: dict[int | None, _Said] = {}  # the last that each process told
        self._lock = threading.Lock()
        self._table_due, self._table_is_behind = 0.0, False

    def _is_open(self, source: Source, record: Record | None) -> bool:
        """Whether a study needs a turn. What another process did since we began holds, retry or not."""
        retry = self._options.retry and record == self._before.get(source.key)
        return not self._records.is_done(record, source, retry=retry)

    def turns(self, *, wait: bool) -> None:
        """Give each open study its turn; without `wait`, those that other processes are at stay open."""
        for source in tuple(self._open):
            with self._records.claim(source.key, wait=wait) as ours:
                if not ours:
                    continue
                if self._is_open(source, self._records.read(source.key)):
                    self._turn(source)
                self._open.remove(source)
                self._done.add(self._names[source.key])
        if self._table_is_behind and self._open:  # it will wait for others; at the end all are in the table
            self._write_table()

    def worth_of_company(self, most: int) -> int:
        """How many more processes to begin, of so many."""
        return processes_for(len(self._open), most + 1) - 1

    def heard(self, process: int | None, said: _Said) -> None:
        """What a process tells; None: this one."""
        with self._lock:
            self._at[process] = said
            if said.row is not None:
                self._done.add(said.name)
            self._report(self._step(said.name, row=said.row, process=process))

    def ended(self, process: int, exit_code: int) -> None:
        """Another process has."""
        with self._lock:
            last = self._at.pop(process, None)
            if exit_code:
                self._report(self._step(last.name if last else "", process=process, exit_code=exit_code))

    def _turn(self, source: Source) -> None:
        name, begun = self._names[source.key], time.monotonic()
        self._say(name)
        work = self._records.begin(source.key)
        try:
            refuse_folder(self._records.out / name, overwrite=True)
            row = self._row(source, **self._segmented(source, name, work / "results"))
        except InputError as error:
            row = self._row(source, status="refused", error=told_of_error(error))
        except BleedmapError as error:
            if isinstance(error, OutputError) and isinstance(error.__cause__, OSError):
                raise  # the disk's: it would be every study's
            row = self._row(source, status="failed", error=told_of_error(error))
        except Exception as error:
            row = self._row(source, status="failed", error=told_of_fault(error))
        row = replace(row, seconds=round(time.monotonic() - begun, 2))
        self._records.finish(source, row, work)
        self._table_is_behind = True
        if time.monotonic() >= self._table_due:
            self._write_table()
        self._say(name, 0, row)

    def _write_table(self) -> None:
        begun = time.monotonic()
        self._records.write_summary(self._found)
        ended = time.monotonic()
        self._table_due = ended + min(_TABLE_PAUSE * (ended - begun), _TABLE_PAUSE_S)
        self._table_is_behind = False

    def _segmented(self, source: Source, name: str, folder: Path) -> dict[str, Any]:
        """Read, segment, write; what the row says of it. Nothing else of the study outlives this call."""
        study = replace(_read(source), name=name, source=shown(source.path))
        finished = 0

        def advance(slices: int) -> None:
            nonlocal finished
            finished += slices
            self._say(name, (1 - _SAVING) * finished / len(study.volume.hu))

        result = self._segmenter.segment(study, accept=self._options.accept, advance=advance)
        save(result, folder, dicom=self._options.dicom, fractional=self._options.fractional)
        return told_of_result(result)

    def _row(self, source: Source, **rest: Any) -> Row:
        return Row(self._names[source.key], source.place, source.uid, **rest)

    def _say(self, name: str, share: float = 0, row: Row | None = None) -> None:
        said = _Said(name, share, row)
        self._tell(said)
        self.heard(None, said)

    def _step(self, name: str, **rest: Any) -> Step:
        done = len(self._done) + sum(one.share for one in self._at.values())
        return Step(done, len(self._found.sources), name, **rest)


def _read(source: Source) -> Study:
    """Only the study's own files, wherever in the folder they lie and whatever lies beside them."""
    if len(source.files) == 1 and source.path == Path(source.files[0]):
        return read_study(source.path, study=None if nifti.is_nifti(source.path) else source.uid)
    return read_study(scan_files(source.path, map(Path, source.files)), study=source.uid)
