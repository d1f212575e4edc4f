"""Many studies, one after another, with one loaded network; each ends in a row of the summary, whatever happens."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bleedmap import __version__
from bleedmap.errors import BleedmapError, InputError, OutputError
from bleedmap.io import dicom, nifti
from bleedmap.io.dicom_files import DicomFile, DicomFound, Unreadable, scan
from bleedmap.io.files import refuse_folder
from bleedmap.study.batch_find import Found, Source
from bleedmap.study.batch_names import shown
from bleedmap.study.batch_record import Record, Records, Row, Status
from bleedmap.study.gate import accepted_names
from bleedmap.study.result import Result
from bleedmap.study.save import save
from bleedmap.study.segment import Segmenter, Study, read_study
from bleedmap.study.words import Verdict, verdict


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
_STATUS: dict[Verdict, Status] = {"bleed marked": "found", "no bleed marked": "not found", "no verdict": "no verdict"}


@dataclass(frozen=True)
class Step:
    """How far a batch is.

    Attributes:
        done: studies that have had their turn, in this run or an earlier one, and the share of the current one.
        of: all studies.
        name: of the current one.
        row: of the one that has just ended, else None.
    """

    done: float
    of: int
    name: str
    row: Row | None = None


Report = Callable[[Step], None]


def run_batch(
    found: Found,
    out: Path,
    segmenter: Segmenter,
    options: BatchOptions = PLAIN,
    report: Report = lambda step: None,
) -> dict[str, Any]:
    """Segment all studies of a folder; what an earlier run with the same settings has done is not done again.

    A study whose files changed since is done anew. Several processes may work at one folder of results: each study is
    claimed by one of them, and all end when the last study has.

    Args:
        found: as `find_studies` gives it.
        out: new, empty, or of an earlier batch of this folder.
        segmenter: the network and its threshold.
        options: the rest.
        report: called at each study's begin and end, and after each share of its slices.

    Returns:
        What `summary.json` holds: 'studies' (a row each), 'counts' by status, 'passed_by'.

    Raises:
        OutputError: `out` is not for a batch, or its disk cannot be written.
        SettingsError: `out` was made with other settings; an unknown check in `accept`.
    """
    accepted_names(options.accept)
    records = Records.open(out, _settings(found, segmenter, options), overwrite=options.overwrite)
    batch = _Batch(found, records, segmenter, options, report)
    for wait in (False, True):  # at last, for those that other processes are at: who is killed leaves its study to us
        batch.turns(wait=wait)
    return records.write_summary(found)


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
        self, found: Found, records: Records, segmenter: Segmenter, options: BatchOptions, report: Report
    ) -> None:
        self._found, self._records, self._segmenter = found, records, segmenter
        self._options, self._report = options, report
        self._names = records.names(found)
        self._before = {one.key: one for one in records.all()}
        self._open = [one for one in found.sources if not self._is_settled(one, self._before.get(one.key))]

    def _is_settled(self, source: Source, record: Record | None) -> bool:
        """Whether a study needs no turn. What another process did since we began holds, retry or not."""
        if record is None or not self._records.is_done(record, source):
            return False
        return record.row.has_results or not self._options.retry or record != self._before.get(source.key)

    def turns(self, *, wait: bool) -> None:
        """Give each open study its turn; without `wait`, those that other processes are at stay open."""
        for source in tuple(self._open):
            with self._records.claim(source.key, wait=wait) as ours:
                if not ours:
                    continue
                if not self._is_settled(source, self._records.read(source.key)):
                    self._turn(source)
                self._open.remove(source)

    def _turn(self, source: Source) -> None:
        name, begun = self._names[source.key], time.monotonic()
        self._say(name)
        work = self._records.begin(source.key)
        try:
            refuse_folder(self._records.out / name, overwrite=True)
            row = self._row(source, **self._segmented(source, name, work / "results"))
        except InputError as error:
            row = self._row(source, status="refused", error=_told(error))
        except BleedmapError as error:
            if isinstance(error, OutputError) and isinstance(error.__cause__, OSError):
                raise  # the disk's: it would be every study's
            row = self._row(source, status="failed", error=_told(error))
        except Exception as error:
            row = self._row(source, status="failed", error=_fault(error))
        row = replace(row, seconds=round(time.monotonic() - begun, 2))
        self._records.finish(source, row, work)
        self._records.write_summary(self._found)
        self._say(name, 1, row)

    def _segmented(self, source: Source, name: str, folder: Path) -> dict[str, Any]:
        """Read, segment, write; what the row says of it. Nothing else of the study outlives this call."""
        study = replace(_read(source), name=name, source=shown(source.path))
        finished = 0

        def advance(slices: int) -> None:
            nonlocal finished
            finished += slices
            self._say(name, finished / len(study.volume.hu))

        result = self._segmenter.segment(study, accept=self._options.accept, advance=advance)
        save(result, folder, dicom=self._options.dicom, fractional=self._options.fractional)
        return _told_of(result)

    def _row(self, source: Source, **rest: Any) -> Row:
        return Row(self._names[source.key], source.place, source.uid, **rest)

    def _say(self, name: str, share: float = 0, row: Row | None = None) -> None:
        of = len(self._found.sources)
        self._report(Step(of - len(self._open) + share, of, name, row))


def _read(source: Source) -> Study:
    """Only the study's own files, wherever in the folder they lie and whatever lies beside them."""
    if len(source.files) == 1 and source.path == Path(source.files[0]):
        return read_study(source.path, study=None if nifti.is_nifti(source.path) else source.uid)
    files: list[DicomFile] = []
    damaged: list[Unreadable] = []
    for path in map(Path, source.files):
        try:
            files += scan(path).files
        except InputError as error:
            damaged.append(Unreadable(str(path), error.found))
    if not files:
        raise InputError(
            source.path, found=f"none of its {len(damaged):,} DICOM files can be read ({damaged[0].reason})",
            needed="DICOM files of a head CT", remedy="send or copy the study again",
        )  # fmt: skip
    read = dicom.read_series(DicomFound(source.path, tuple(files), tuple(damaged), 0, 0), study=source.uid)
    return Study(source.path.name, str(source.path), read.volume, read.acquisition, dicom=read, notes=read.notes)


def _told_of(result: Result) -> dict[str, Any]:
    findings, certainty = result.findings, result.certainty
    told: dict[str, Any] = {
        "status": _STATUS[verdict(findings, certainty)],
        "volume_ml": findings.volume_ml,
        "lesions": len(findings.lesions),
        "slices": len(findings.slices),
        "highest_probability": findings.highest_probability,
        "warnings": tuple(one.name for one in result.warnings),
    }
    if certainty is not None:
        told |= {"study_probability": round(certainty.study, 6), "abstained": certainty.abstained}
        if certainty.volume_ml is not None:
            low_ml, high_ml = (round(end, 4) for end in certainty.volume_ml)
            told |= {"volume_low_ml": low_ml, "volume_high_ml": high_ml, "interval_coverage": certainty.coverage}
    return told


def _told(error: BleedmapError) -> str:
    words = f"{error.found} (needed: {error.needed}; remedy: {error.remedy})"
    return words.encode("utf-8", "backslashreplace").decode("utf-8")


def _fault(error: Exception) -> str:
    """Kind and place alone: the message may quote what the file says of a patient."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if "bleedmap" in Path(one.filename).parts]
    place = f" in {Path(frames[-1].filename).stem}.{frames[-1].name}, line {frames[-1].lineno}" if frames else ""
    return f"unexpected {type(error).__name__}{place}: a fault of the program, please report it"
