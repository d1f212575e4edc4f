"""Segment many studies, in one process or several; each ends in a row of the summary, whatever happens.

OUT/NAME/                  a study's results
OUT/summary.csv, .json     the summary, up to date when the batch ends
OUT/.batch/                the ledger: each study is a job of it
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard
from uuid import uuid4

from bleedmap import __version__
from bleedmap.archive import summary
from bleedmap.archive.find import Found, Source
from bleedmap.archive.ledger import Finished, Job, Ledger
from bleedmap.archive.memory import collect_seldom
from bleedmap.archive.remote.places import fetched, name_source
from bleedmap.archive.remote.send import Sending
from bleedmap.archive.remote.web import RemoteError, persist
from bleedmap.archive.shards import batch_ledger, name_folders
from bleedmap.archive.workers import Share, count_processes, run_in_parallel, run_jobs
from bleedmap.arrays import ignore
from bleedmap.errors import BleedmapError, InputError, OutputError, ResourceError, SettingsError, find_shortage
from bleedmap.inference.backends import Precision
from bleedmap.io import nifti
from bleedmap.io.dicom.files import scan_files
from bleedmap.io.files import move, refuse_content, try_to_write, writing
from bleedmap.io.names import LONGEST_NAME, MOST_BYTES, short_hash
from bleedmap.results.pictures import write_thumbnail
from bleedmap.results.save import save
from bleedmap.results.tables import lesion_table
from bleedmap.study.gate.gate import read_accepted
from bleedmap.study.read import Study, read_study
from bleedmap.study.segment import Segmenter

if TYPE_CHECKING:
    from bleedmap.archive.cluster import Cluster


@dataclass(frozen=True)
class BatchOptions:
    """What a batch does besides segmenting.

    `scratch`: folder in which a remote study lies while it is segmented; None: in the folder of results.
    """

    accept: tuple[str, ...] = ()  # names of input checks whose refusal is overruled
    dicom: bool = True  # for studies that came as DICOM, write DICOM results too
    fractional: bool = False  # and among them the probability as a FRACTIONAL segmentation
    retry: bool = False  # studies that were refused or failed have another turn
    overwrite: bool = False  # results of other settings are made again
    identify: bool = False  # the summary tells patient, date and accession number of each DICOM study
    scratch: Path | None = None
    sending: Sending | None = None  # to whom results are sent; None: to nobody


PLAIN = BatchOptions()
_MOST_ENDS = 3  # of processes on a cluster at one study, which then has failed
_SAVING = 0.5  # of a study's time, measured with 30 slices of 512×512
# Writing the table takes as long as a third of a study where there are a thousand: after it was written it waits for 50
# times as long as that took, at most for a minute, and for the next study's end.
_TABLE_PAUSE, _TABLE_PAUSE_S = 50, 60.0


@dataclass(frozen=True)
class Step:
    """How far a batch is."""

    done: float  # studies that have had their turn, in this run or an earlier one, and the shares of the current ones
    of: int  # all studies
    name: str  # of the one that this is about
    row: summary.Row | None = None  # of the one that has just ended, else None
    process: int | None = None  # which of the further processes is at it; None: this one
    exit_code: int = 0  # of that process, if it has just ended early; the others take its studies


@dataclass(frozen=True)
class Workers:
    """Further processes for a batch, and how each loads the network that this one has: as `Segmenter.load`.

    `weights`, `threshold`, `precision`, `threads`: of `Segmenter.load`.
    """

    processes: int = 0  # how many more; 0: none
    weights: str | None = None
    threshold: float | None = None
    precision: Precision = "auto"
    threads: int | None = None

    def load(self) -> Segmenter:
        """Load the network, in a process of its own."""
        return Segmenter.load(self.weights, threshold=self.threshold, precision=self.precision, threads=self.threads)


NO_WORKERS = Workers()
Report = Callable[[Step], None]


def run_batch(
    found: Found,
    out: Path,
    segmenter: Segmenter,
    options: BatchOptions = PLAIN,
    report: Report = ignore,
    workers: Workers = NO_WORKERS,
    names: dict[str, str] | None = None,
    cluster: "Cluster | None" = None,
) -> dict[str, Any]:
    """Segment all studies of a folder; what an earlier run with the same settings has done is not done again.

    A study whose files changed since is done again. Several processes may work at one folder of results: each study is
    claimed by one of them, and all end when the last study has.

    Args:
        found: as `find_studies` gives it.
        out: new, empty, or of an earlier batch of this folder.
        segmenter: the network and its threshold.
        report: called at each study's begin and end, and after each share of its slices; from one thread at a time.
        workers: further processes that take their share, at most so many.
        cluster: has the studies segmented by its actors, `workers.processes` of them at most, and not by this process.
            The tables are written at the end alone.
        names: for a shard, whose studies alone are in `found`: the names of their folders of results. A shard writes no
            tables: `merge_batch` does, when all have ended.

    Returns:
        What `summary.json` holds: 'studies' (a row each), 'counts' by status, 'passed_by'.

    Raises:
        OutputError: `out` is not for a batch, or its disk cannot be written.
        SettingsError: `out` was made with other settings; an unknown check in `accept`.
    """
    read_accepted(options.accept)
    settings, ledger = _settings(found.root, segmenter, options), batch_ledger(out)
    ledger.open(
        settings, overwrite=options.overwrite,
        remedy="give another folder with -o, or --overwrite to make all results again",
        hints={"precision": "for several machines give --precision fp32 from the start: auto depends on the processor"},
    )  # fmt: skip
    try_to_write(out / LONGEST_NAME[:MOST_BYTES])
    is_shard, jobs = names is not None, _jobs(found, settings)
    if names is None:
        before = {one.job.key: one for one in ledger.read_all()}
        names = name_folders(found, before)
    else:
        before = {job.key: one for job in jobs if (one := ledger.read(job)) is not None}
    work = _Work(found, ledger, settings, options, names, before, writes_tables=not is_shard)
    batch = _Batch(work, segmenter, report)
    try:
        if cluster is not None:
            most = count_processes(len(batch.open), workers.processes or sys.maxsize)
            load = partial(_load_on_node, settings, workers, options)
            cluster.run(load, batch.tasks(), batch.on_message, Share(workers.threads or 1, most=most))
        else:
            count = count_processes(len(batch.open), workers.processes + 1) - 1
            with run_in_parallel(count, partial(_work_in_parallel, work, workers), batch.on_message, batch.on_exit):
                batch.run()
    except BaseException:
        with suppress(Exception):  # the first error says it
            work.write_tables()
        raise
    finished = [one for job in jobs if (one := ledger.read(job))]
    if is_shard:
        content = summary.summarise(settings, found, summary.rows_of(finished, settings))
    else:
        content = summary.merge_batch(ledger, found, options.identify)
    if (sending := options.sending) is not None:
        content["sending"] = sending.count(finished)
        if not is_shard and (why := sending.send_tables(summary.TABLES)):
            content["sending"]["waiting"]["the tables"] = why
    return content


def count_open(found: Found, out: Path, *, retry: bool, overwrite: bool) -> int:
    """Count the studies that need a turn, as is known before the network is loaded; with `overwrite` it may be all."""
    ledger = batch_ledger(out)
    settings = ledger.settings()  # others than these would be refused
    jobs = [] if overwrite or settings is None else _jobs(found, settings)
    return len(found.sources) - sum(_is_done(ledger, job, ledger.read(job), retry=retry) for job in jobs)


@dataclass(frozen=True)
class _Work:
    """What all processes of a batch share, as it was at its begin.

    `found`, `ledger`, `settings`, `options`: of the batch.
    """

    found: Found
    ledger: Ledger
    settings: dict[str, Any]
    options: BatchOptions
    names: dict[str, str]  # a study's key -> the name of its folder of results
    before: dict[str, Finished]  # a study's key -> its record, where it has one
    writes_tables: bool  # whether tables are written; a shard leaves them to `merge_batch`
    run: str = ""  # of a cluster, whose processes' ends at a study are counted

    def write_tables(self) -> None:
        """Write them as far as the studies are done."""
        if self.writes_tables:
            summary.write_summary(self.ledger, self.settings, self.found)


class _Message(NamedTuple):
    """What a process sends about the study that it is at: the share that is done, and the row at the end."""

    name: str
    share: float
    row: summary.Row | None


def _jobs(found: Found, settings: dict[str, Any]) -> list[Job]:
    return [Job(one.key, one.digest, settings) for one in found.sources]


def _is_done(ledger: Ledger, job: Job, finished: Finished | None, *, retry: bool) -> bool:
    """Whether a record holds for these files and settings; with its results in their place, or refused for good."""
    row = summary.read_row(finished)
    if row is None or finished is None or finished.job != job or row.status == "waiting":
        return False
    return (ledger.folder / row.name / summary.SUMMARY_JSON).is_file() if row.has_results else not retry


def _work_in_parallel(work: _Work, workers: Workers, send: Callable[[_Message], None]) -> None:
    """Entry point of a worker process. Fatal errors such as a full disk are reported by the main process, which meets
    them too."""
    collect_seldom()
    try:
        _Batch(work, workers.load(), send=send).run()
    except BleedmapError as error:
        sys.exit(error.exit_code)


def _load_on_node(settings: dict[str, Any], workers: Workers, options: BatchOptions) -> Callable[[_Work], _Message]:
    """Load the network in an actor of a cluster; return what segments a study there.

    Raises:
        SettingsError: what decides on the results is another than where the batch began.
    """
    collect_seldom()
    segmenter = workers.load()
    here = _settings("", segmenter, options)
    other = [name for name in settings if name != "folder" and settings[name] != here.get(name)]
    if other:
        raise SettingsError(
            "network", found="; ".join(f"{name} {here.get(name)!r}, not {settings[name]!r}" for name in other),
            needed="the same on all nodes as where the command was given",
            remedy="give --precision fp32: auto depends on the processor" if other == ["precision"] else
            "install the same bleedmap and weights there, or give --weights a file that all nodes share",
        )  # fmt: skip
    return partial(_do_on_node, segmenter)


def _do_on_node(segmenter: Segmenter, work: _Work) -> _Message:
    """Give the one study its turn; return its row, whoever made it."""
    _Batch(work, segmenter).run()
    row = summary.read_row(work.ledger.read(_jobs(work.found, work.settings)[0]))
    assert row is not None
    return _Message(row.name, 0, row)


def _settings(root: str, segmenter: Segmenter, options: BatchOptions) -> dict[str, Any]:
    """What decides on a study's results. Not `accept`: it is for refused studies alone, and each result says it."""
    return {
        "folder": root,
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
        self, work: _Work, segmenter: Segmenter, report: Report = ignore, send: Callable[[_Message], None] = ignore
    ) -> None:
        self._work, self._segmenter, self._report, self._send = work, segmenter, report, send
        self._ledger, self._sources = work.ledger, {one.key: one for one in work.found.sources}
        self._done: set[str] = set()  # names of studies
        self.open = [
            job for job in _jobs(work.found, work.settings) if not self._is_done(job, work.before.get(job.key))
        ]
        self._last: dict[int | None, _Message] = {}  # the last message of each process
        self._lock = threading.Lock()
        self._table_due, self._table_is_behind = 0.0, False
        self._waiting: list[Job] = []  # that had their turn while a server was away
        self._is_away = False  # whether one was, when last asked: the next study does not wait for it

    def run(self) -> None:
        """Give each open study its turn; at last wait for those that other processes are at: one may be killed.

        Studies that could not be fetched or sent have one more turn before.
        """
        elsewhere = run_jobs(self._ledger, self.open, self._do, self._is_done_now, wait=False)
        waiting, self._waiting, self._is_away = self._waiting, [], False
        elsewhere += run_jobs(self._ledger, waiting, self._do, self._is_done_now, wait=False)
        if elsewhere and self._table_is_behind:
            self._write_table()
        run_jobs(self._ledger, elsewhere, self._do, self._is_done_now, wait=True)

    def tasks(self) -> Iterator[_Work]:
        """Yield the open studies one by one, each as all that a node must know of it."""
        work, run = self._work, uuid4().hex
        self._report(self._step(""))
        for job in self.open:
            found = Found(work.found.folder, (self._sources[job.key],), ())
            names = {job.key: work.names[job.key]}
            before = {job.key: work.before[job.key]} if job.key in work.before else {}
            yield replace(work, found=found, names=names, before=before, writes_tables=False, run=run)

    def on_message(self, process: int | None, message: _Message) -> None:
        """Take what a process sends; None: this one."""
        with self._lock:
            self._last[process] = message
            if message.row is not None:
                self._done.add(message.name)
            self._report(self._step(message.name, row=message.row, process=process))

    def on_exit(self, process: int, exit_code: int) -> None:
        """Take the end of another process."""
        with self._lock:
            last = self._last.pop(process, None)
            if exit_code:
                self._report(self._step(last.name if last else "", process=process, exit_code=exit_code))

    def _is_done_now(self, job: Job) -> bool:
        return self._is_done(job, self._ledger.read(job))

    def _is_done(self, job: Job, finished: Finished | None) -> bool:
        """Whether a study needs no turn. What another process did since we began holds, retry or not."""
        retry = self._work.options.retry and finished == self._work.before.get(job.key)
        sending = self._work.options.sending
        if not _is_done(self._ledger, job, finished, retry=retry):
            return False
        if sending is not None and _is_result(finished) and not sending.is_sent(finished):
            return False
        self._done.add(self._work.names[job.key])
        return True

    def _do(self, job: Job) -> None:
        """Segment a study, unless that was done, and send its results."""
        if not _is_done(self._ledger, job, self._ledger.read(job), retry=self._work.options.retry):
            self._make(job)
        name, finished, sending = self._work.names[job.key], self._ledger.read(job), self._work.options.sending
        if (
            sending is not None and _is_result(finished)
            and not sending.send(finished, self._ledger.folder / name, self._persist)
        ):  # fmt: skip
            self._waiting.append(job)
        self._tell(name, 0, summary.read_row(finished))

    def _persist(self, do: Callable[[], Any]) -> Any:
        """Do what asks a server, again and again for a minute where it is away; once where it was just now."""
        try:
            done = do() if self._is_away else persist(do)
        except RemoteError as error:
            self._is_away = error.away
            raise
        self._is_away = False
        return done

    def _make(self, job: Job) -> None:
        source, name, started = self._sources[job.key], self._work.names[job.key], time.monotonic()
        self._tell(name)
        ends = self._ledger.count_ends(job, self._work.run)
        folder = self._ledger.begin(job, self._work.run)
        place, results = self._ledger.folder / name, folder / "results"
        lesions: list[list[Any]] = []
        try:
            refuse_content(place, overwrite=True)
            if ends >= _MOST_ENDS:
                raise ResourceError(
                    source.place, found=f"the process at this study ended {ends} times, killed or by a crash",
                    needed="a process that lives until the study is done",
                    remedy="see whether a node has too little memory for it",
                )  # fmt: skip
            with fetched(self._work.found.folder, source, self._copy(folder), self._persist) as local:
                known, lesions = self._segment(local, name_source(self._work.found.folder, source), name, results)
            row = self._row(source, **known)
        except Exception as error:
            cause = find_shortage(error) or error
            if cause is error and isinstance(error, OutputError) and isinstance(error.__cause__, OSError):
                raise  # the disk's: it would be every study's
            status: summary.Status = "refused" if isinstance(cause, InputError) else "failed"
            if isinstance(cause, RemoteError | SettingsError):
                status = "waiting"
                self._waiting.append(job)
            why = {"reason_code": summary.name_reason(cause), "error": summary.describe_error(cause)}
            row = self._row(source, status=status, **why)
        row = replace(row, seconds=round(time.monotonic() - started, 2))
        put_in_place(results, place, folder / "earlier")
        self._ledger.finish(job, {"row": asdict(row), "lesions": lesions})
        self._table_is_behind = True
        if time.monotonic() >= self._table_due:
            self._write_table()

    def _write_table(self) -> None:
        started = time.monotonic()
        self._work.write_tables()
        ended = time.monotonic()
        self._table_due = ended + min(_TABLE_PAUSE * (ended - started), _TABLE_PAUSE_S)
        self._table_is_behind = False

    def _segment(self, source: Source, shown: str, name: str, folder: Path) -> tuple[dict[str, Any], list[list[Any]]]:
        """Read, segment, write; return what the row says of it, and its lesions. Nothing else outlives this call."""
        study, options = replace(_read(source), name=name, source=shown), self._work.options
        finished = 0

        def advance(slices: int) -> None:
            nonlocal finished
            finished += slices
            self._tell(name, (1 - _SAVING) * finished / len(study.volume.hu))

        result = self._segmenter.segment(study, accept=options.accept, advance=advance)
        save(result, folder, dicom=options.dicom, fractional=options.fractional)
        write_thumbnail(self._ledger.folder / summary.THUMBNAILS / f"{name}.jpg", result)
        return summary.describe_result(result), lesion_table(result)

    def _copy(self, folder: Path) -> Path:
        """Where a remote study lies while it is segmented."""
        scratch = self._work.options.scratch
        return folder / "fetched" if scratch is None else scratch / f"bleedmap-{short_hash(f'{folder.resolve()}')}"

    def _row(self, source: Source, **rest: Any) -> summary.Row:
        return summary.Row(self._work.names[source.key], source.place, source.uid, **rest)

    def _tell(self, name: str, share: float = 0, row: summary.Row | None = None) -> None:
        message = _Message(name, share, row)
        self._send(message)
        self.on_message(None, message)

    def _step(self, name: str, **rest: Any) -> Step:
        done = len(self._done) + sum(one.share for one in self._last.values())
        return Step(done, len(self._sources), name, **rest)


def _is_result(finished: Finished | None) -> TypeGuard[Finished]:
    row = summary.read_row(finished)
    return row is not None and row.has_results


def put_in_place(results: Path, place: Path, earlier: Path) -> None:
    """Move earlier results of a job away, if they are ours, and the new ones in, if there are any."""
    with writing(place):
        if place.exists():
            with suppress(OutputError):
                refuse_content(place, overwrite=True)
                move(place, earlier)
        if results.exists():
            move(results, place)


def _read(source: Source) -> Study:
    """Read only the study's own files, wherever in the folder they lie and whatever else lies there."""
    if len(source.files) == 1 and source.path == Path(source.files[0]):
        return read_study(source.path, study=None if nifti.is_nifti(source.path) else source.uid)
    return read_study(scan_files(source.path, map(Path, source.files)), study=source.uid)
