"""External validation: the network on a folder of studies with a reference; each study is a job of a ledger.

OUT/.evaluate/             the ledger; several processes may share it, and each may be killed at any moment
OUT/.evaluate/done/        for each study its record, volumes and lesions, or why it was refused
"""

import time
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bleedmap import __version__
from bleedmap.archive.ledger import Job, Ledger
from bleedmap.archive.workers import run_jobs
from bleedmap.arrays import BoolArray, FloatArray, Progress, ignore
from bleedmap.datasets.ct_ich import SliceRecord
from bleedmap.errors import InputError
from bleedmap.evaluation.records import Choices, Known, StudyRecord, Verdict, record_study
from bleedmap.evaluation.studies.find import Case, Cases
from bleedmap.evaluation.studies.references import Referenced, read_case
from bleedmap.geometry import SliceGrid
from bleedmap.inference.certainty import Certainty
from bleedmap.inference.outline import outline_slices
from bleedmap.inference.weights import WeightsFile
from bleedmap.metrics.surface import SurfaceDistance, surface_distance
from bleedmap.postprocess import lesions
from bleedmap.study.gate.gate import find_refusal, read_accepted
from bleedmap.study.gate.pictures import WANTED, judge_pictures
from bleedmap.study.segment import Segmenter
from bleedmap.window import BRAIN, Window

Status = Literal["measured", "refused"]
STATE = ".evaluate"
FOLD = 1  # all studies are one fold: the network was trained elsewhere
_UPRIGHT_DEG = 1.0  # of shear: beyond, distances by spacing alone would be wrong
_DIGITS = 4  # of mL and mm
_APART, _ALIKE = 0.05, 0.5  # Dice: so little overlap, and so much once an axis is reversed
_WAYS = ("from feet to head", "from front to back", "from right to left")  # by axis
_NEARLY = 0.9  # of the best fit: a simpler way that fits so well is told in its place


@dataclass(frozen=True)
class ExternalOptions:
    """What a user chooses beside the network."""

    window: Window = BRAIN  # in which pictures were exported
    accept: tuple[str, ...] = ()  # names of input checks whose refusal is overruled
    no_mask: str = "unknown"  # what a slice or study without a mask file is


@dataclass(frozen=True)
class Size:
    """How much a study bleeds, where its pixels have a size.

    `surface`: distance of the two masks; None where either is empty, or the grid is uneven or sheared.
    """

    reference_ml: float  # by the reference
    marked_ml: float  # by the network
    lesions_ml: tuple[float, ...]  # of each of the reference's lesions, in the order of the record
    surface: SurfaceDistance | None


@dataclass(frozen=True, eq=False)
class ExternalStudy:
    """One study that has had its turn."""

    name: str  # of the study
    status: Status  # 'refused' by reading, by the grids, or by an input check
    error: str | None  # why it was refused, else None
    notes: tuple[str, ...]  # what reading had to decide, in sentences
    record: StudyRecord | None  # counts; its patient and types are filled in when all studies are there
    size: Size | None  # None for pictures
    seconds: float  # from reading to counting

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        record = None if self.record is None else self.record.to_dict()
        return vars(self) | {"record": record, "size": None if self.size is None else asdict(self.size)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "ExternalStudy":
        """From `to_dict`."""
        record, size = content["record"], content["size"]
        if size is not None:
            surface = None if size["surface"] is None else SurfaceDistance(**size["surface"])
            size = Size(**size | {"lesions_ml": tuple(size["lesions_ml"]), "surface": surface})
        record = None if record is None else StudyRecord.from_dict(record)
        return cls(**content | {"notes": tuple(content["notes"]), "record": record, "size": size})


def run_external(
    found: Cases, out: Path, segmenter: Segmenter, options: ExternalOptions, progress: Progress = ignore
) -> list[ExternalStudy]:
    """Measure every study; those that were measured with the same settings, and not changed since, are not done again.

    Several processes may work at one folder of results (new, empty, or of an earlier run): each study is measured by
    one of them.

    Returns:
        One for each case, in their order.

    Raises:
        OutputError: `out` holds something else, or cannot be written.
        SettingsError: `out` was made with other settings; an unknown check in `accept`.
    """
    read_accepted(options.accept)
    ledger, settings = external_ledger(out), _settings(found, segmenter, options)
    ledger.open(settings, remedy="give another folder with -o", hints={})
    cases = {one.name: one for one in found.cases}
    done: dict[str, ExternalStudy] = {}

    def is_done(job: Job) -> bool:
        """Not where there is no record that holds, or where someone changed it."""
        finished = ledger.read(job)
        if finished is None or finished.job != job:
            return False
        try:
            done[job.key] = ExternalStudy.from_dict(finished.content["study"])
        except (KeyError, TypeError, ValueError):
            return False
        progress(len(done), len(cases))
        return True

    def do(job: Job) -> None:
        ledger.begin(job)
        study = _measure_or_refuse(cases[job.key], segmenter, options)
        ledger.finish(job, {"study": study.to_dict()})
        done[job.key] = study
        progress(len(done), len(cases))

    progress(0, len(cases))
    jobs = [Job(one.name, one.digest, settings) for one in found.cases]
    run_jobs(ledger, run_jobs(ledger, jobs, do, is_done, wait=False), do, is_done, wait=True)
    return [done[one.name] for one in found.cases]


def note_trained(found: Cases, weights: WeightsFile) -> Cases:
    """Add a note where a network was trained, or its thresholds chosen, on some of the studies: by their images."""
    sides = {"trained_studies": "trained on", "chosen_on_studies": "used to choose the network's thresholds"}
    known = {words: set(weights.record.get(key, ())) for key, words in sides.items()}
    if not any(known.values()):
        return found
    hashes = {one.images_sha256 for one in found.cases}
    notes = [
        f"{len(hashes & of):,} of the studies were {words}: the figures flatter." for words, of in known.items()
        if hashes & of
    ]  # fmt: skip
    return replace(found, notes=(*found.notes, *notes))


def external_ledger(out: Path) -> Ledger:
    """Return the ledger of an external validation's folder of results."""
    return Ledger(out, STATE)


def read_choices(segmenter: Segmenter) -> Choices:
    """Read the network's own thresholds, of pixels, slices and studies: nothing is chosen on the user's folder."""
    pixel, settings = segmenter.threshold, segmenter.weights.certainty
    if settings is None:
        return Choices(FOLD, 0, pixel, pixel, pixel)
    return Choices(FOLD, 0, pixel, settings.slice_threshold, settings.study_threshold)


def _settings(found: Cases, segmenter: Segmenter, options: ExternalOptions) -> dict[str, Any]:
    """What decides on a study's measures, as JSON can hold it."""
    return {
        "folder": str(found.folder.resolve()), "weights_sha256": segmenter.weights.sha256,
        "threshold": segmenter.threshold, "precision": segmenter.backend.record.precision,
        "window": list(asdict(options.window).values()), "accept": sorted(options.accept),
        "no_mask_means": options.no_mask, "version": __version__,
    }  # fmt: skip


def _measure_or_refuse(case: Case, segmenter: Segmenter, options: ExternalOptions) -> ExternalStudy:
    started = time.monotonic()
    try:
        return _measure(case, read_case(case, options.window, options.accept), segmenter, options, started)
    except InputError as error:
        why = f"{error.subject}: {error.found} (needed: {error.needed}; remedy: {error.remedy})"
        return ExternalStudy(case.name, "refused", why, (), None, None, _seconds_since(started))


def _measure(
    case: Case, read: Referenced, segmenter: Segmenter, options: ExternalOptions, started: float
) -> ExternalStudy:
    """Segment as `bleedmap segment` does, and count."""
    notes = read.notes
    if read.study is None:
        refusal = find_refusal(case.name, judge_pictures(read.looks, options.window), options.accept, WANTED)
        if refusal is not None:
            raise refusal
        outline = outline_slices(read.hu, segmenter.weights, segmenter.backend, threshold=segmenter.threshold)
        probability, marked, certainty = outline.probability, outline.mask, outline.certainty
    else:
        result = segmenter.segment(read.study, accept=options.accept)
        probability, marked, certainty = result.probability.array, result.mask.array, result.certainty
        notes = (*result.notes, *(one for one in notes if one not in result.notes))
    verdict = _read_verdict(probability, certainty, read.grid, read.mask)
    outlined_on = read.grid if read.known == "outlines" else None
    notes = (*notes, *_note_mirrored(read.mask, marked))
    return ExternalStudy(
        case.name, "measured", None, notes, _count_record(read.mask, marked, probability, verdict, read.known),
        None if outlined_on is None else _measure_size(read.mask, marked, outlined_on), _seconds_since(started),
    )  # fmt: skip


def _note_mirrored(reference: BoolArray, marked: BoolArray) -> list[str]:
    """Note how the reference's axes must be reversed or exchanged so that it fits what the program marks."""
    both = int(reference.sum()) + int(marked.sum())
    if 2 * int((marked & reference).sum()) >= _APART * both:
        return []
    turned = {False: reference}
    if reference.shape[1] == reference.shape[2]:
        turned[True] = reference.transpose(0, 2, 1)
    _, *ways = sorted(product(turned, *[(False, True)] * 3), key=sum)  # the first changes nothing; then simple ones
    axes = {way: tuple(axis for axis in range(3) if way[1 + axis]) for way in ways}
    fit = {way: 2 * int((marked & np.flip(turned[way[0]], axes[way])).sum()) / both for way in ways}
    way = next(one for one in ways if fit[one] >= _NEARLY * max(fit.values()))
    if fit[way] < _ALIKE:
        return []
    how = ["with rows and columns exchanged"] if way[0] else []
    how += ["reversed " + " and ".join(_WAYS[axis] for axis in axes[way])] if axes[way] else []
    was = "were axes exchanged on export" if way[0] else "was an axis reversed on export"
    return [f"{' and '.join(how).capitalize()}, the reference would fit what the program marks: {was}?"]


def _read_verdict(
    probability: FloatArray, certainty: Certainty | None, grid: SliceGrid | None, reference: BoolArray
) -> Verdict:
    """Read the program's verdict; for a network that gives none, the highest pixel stands for slice and study.

    The interval in mL is told in voxels of the reference's mean size, so that on uneven slices too it holds the
    reference's voxels exactly where it holds its mL.
    """
    if certainty is None:
        presence = probability.max(axis=(1, 2)).astype(np.float64)
        return Verdict(presence, float(presence.max()))
    between = None
    if certainty.volume_ml is not None and grid is not None:
        voxels = reference.sum(axis=(1, 2))
        voxel_ml = voxels @ grid.voxel_ml / voxels.sum() if voxels.any() else grid.voxel_ml.mean()
        low, high = (one / float(voxel_ml) for one in certainty.volume_ml)
        between = (low, high)
    return Verdict(np.array(certainty.slices), certainty.study, None, between, certainty.abstained)


def _count_record(
    reference: BoolArray, marked: BoolArray, probability: FloatArray, verdict: Verdict, known: Known = "outlines"
) -> StudyRecord:
    """Count a study as the protocol counts every patient."""
    slices = [
        SliceRecord(0, number, frozenset(), fracture=False, has_lesion=bool(one.any()), has_bone=False)
        for number, one in enumerate(reference, start=1)
    ]
    return replace(record_study(slices, FOLD, reference, marked, probability, verdict), known=known)


def _measure_size(reference: BoolArray, marked: BoolArray, grid: SliceGrid) -> Size:
    flat = np.zeros(reference.shape, np.float32)
    each = [
        float(np.array(one.voxels_by_slice) @ grid.voxel_ml[one.first[0] : one.last[0] + 1])
        for one in lesions(reference, flat)
    ]
    known = grid.is_even and grid.shear_deg <= _UPRIGHT_DEG
    distance = surface_distance(reference, marked, grid.spacing_mm) if known else None
    if distance is not None:
        distance = SurfaceDistance(round(distance.hd95_mm, _DIGITS), round(distance.mean_mm, _DIGITS))
    total, found = (float(one.sum(axis=(1, 2)) @ grid.voxel_ml) for one in (reference, marked))
    return Size(round(total, _DIGITS), round(found, _DIGITS), tuple(round(one, _DIGITS) for one in each), distance)


def _seconds_since(started: float) -> float:
    return round(time.monotonic() - started, 2)
