"""What a number format costs out of fold: each fold's network on its own test patients, in each format."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bleedmap.arrays import Progress
from bleedmap.datasets.ct_ich import CtIch, Patient
from bleedmap.datasets.folds import ProtocolFolds
from bleedmap.errors import InputError, SettingsError, usable
from bleedmap.evaluation import measures
from bleedmap.evaluation.records import Choices, OutOfFold, StudyRecord, record_study
from bleedmap.evaluation.tables import Tables
from bleedmap.folds.run import outline_study, require_certainty
from bleedmap.inference.certainty import CertaintySettings
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.outline import segment_slices
from bleedmap.inference.weights import WeightsFile, locate
from bleedmap.io.files import write_json
from bleedmap.metrics import overlap

RECORD_FILE = "precisions.json"
LARGEST_FALL = 0.002  # of the mean Dice, from which on a format is no default
REFERENCE = "fp32"
_FORMAT = "bleedmap precisions 1"


@dataclass(frozen=True, eq=False)
class FormatResult:
    """A study in one number format, held against the same in fp32."""

    form: str  # the precision that the backend states: 'fp32', what '--precision auto' takes here, or 'bf16'
    backend: Mapping[str, str]  # what computed it
    study: StudyRecord  # counts and verdict, on the slices' own grid
    told: Literal["positive", "negative", "abstained"]  # the verdict: a bleed, none, or that none is given
    changed: int  # pixels whose mark differs from fp32's
    pixels: int  # of the study
    dice: float | None  # of its mask and fp32's; None where both mark nothing
    difference: float  # the largest of a pixel's probability from fp32's, before the slices' gate

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        kept = ("form", "told", "changed", "pixels", "dice", "difference")
        return {name: getattr(self, name) for name in kept} | {
            "backend": dict(self.backend), "study": self.study.to_dict(),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "FormatResult":
        """From `to_dict`."""
        return cls(**{**content, "study": StudyRecord.from_dict(content["study"])})


@dataclass(frozen=True, eq=False)
class FoldResults:
    """A fold's test patients in every format."""

    choices: Choices  # the fold's own, the same for all formats
    weights_sha256: str  # of the file that all formats come from
    left_out: Mapping[str, str]  # formats that this machine does not compute, with the reason
    answers: tuple[FormatResult, ...]  # patient by patient, fp32 first

    def of(self, patients: Sequence[int]) -> "FoldResults":
        """Only some patients."""
        return replace(self, answers=tuple(one for one in self.answers if one.study.patient in patients))

    def write(self, path: Path) -> None:
        """Write whole or not at all."""
        content = {
            "format": _FORMAT, "choices": asdict(self.choices), "weights_sha256": self.weights_sha256,
            "left_out": dict(self.left_out), "answers": [one.to_dict() for one in self.answers],
        }  # fmt: skip
        write_json(path, content, compact=True)


def read_results(path: Path) -> FoldResults | None:
    """A fold's results; None where there are none yet.

    Raises:
        InputError: not a file that `FoldResults.write` wrote.
    """
    if not path.is_file():
        return None
    needed = "a fold's results, as bleedmap wrote them"
    with usable(path, InputError, needed, "delete the file and give the command again"):
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}")
        return FoldResults(
            Choices(**content["choices"]), content["weights_sha256"], content["left_out"],
            tuple(FormatResult.from_dict(one) for one in content["answers"]),
        )  # fmt: skip


def summarise(folds: Sequence[FoldResults]) -> dict[str, Any]:
    """Folds, patients, what was left out, and a row a format, fp32 first.

    A format could be a default where the mean volume Dice falls by less than `LARGEST_FALL` and no study's verdict
    changes.
    """
    reference = _of(folds, REFERENCE)
    found = list(dict.fromkeys(answer.form for fold in folds for answer in fold.answers))
    forms = [form for form in found if len(_of(folds, form)) == len(reference)]
    scores = {form: _scores(folds, form) for form in forms}
    rows = []
    for form in forms:
        answers = _of(folds, form)
        changed = [one.study.patient for one, first in zip(answers, reference, strict=True) if one.told != first.told]
        whole, own = scores[REFERENCE]["volume_dice"], scores[form]["volume_dice"]
        fall = None if whole is None or own is None else whole - own
        rows.append(
            {"format": form, **scores[form], "dice_fall": fall, **_differences(answers), "verdicts_changed": changed}
            | {"passes": not changed and (fall is None or fall < LARGEST_FALL)}
        )
    return {
        "folds": [one.choices.fold for one in folds], "patients": len(reference),
        "bleeding": sum(bool(one.study.counts.reference.any()) for one in reference),
        "left_out": {name: why for fold in folds for name, why in fold.left_out.items()}
        | {form: "not measured in all of these folds" for form in found if form not in forms},
        "formats": rows,
    }  # fmt: skip


def _of(folds: Sequence[FoldResults], form: str) -> list[FormatResult]:
    return [one for fold in folds for one in fold.answers if one.form == form]


def _scores(folds: Sequence[FoldResults], form: str) -> dict[str, float | None]:
    """Both Dice of the protocol's tables; a bleeding patient on whom nothing is marked counts 0."""
    studies = tuple(one.study for one in _of(folds, form))
    tables = Tables.of(OutOfFold(form, "", tuple(one.choices for one in folds), studies))
    volume = measures.volume_dice(tables).value
    values = {"volume_dice": volume, "authors_dice": measures.authors_dice(tables).value}
    return {name: None if np.isnan(value) else value for name, value in values.items()}


def _differences(answers: Sequence[FormatResult]) -> dict[str, Any]:
    dice = [one.dice for one in answers if one.dice is not None]
    marked = sum(int((one.study.counts.predicted > 0).sum()) for one in answers)
    return {
        "changed_share": sum(one.changed for one in answers) / sum(one.pixels for one in answers),
        "mask_dice_mean": float(np.mean(dice)) if dice else None, "mask_dice_min": min(dice, default=None),
        "largest_difference": max(one.difference for one in answers), "slices_marked": marked,
    }  # fmt: skip


def compare_fold(
    data: CtIch, folds: ProtocolFolds, folder: Path, number: int, report: Progress, most: int | None = None
) -> FoldResults:
    """A fold's test patients in every format, from `folder`/fold-N/precisions.json where they are there.

    Args:
        folder: of `reproduce folds`.
        most: only the first patients, for a trial, which is not kept; None: all.

    Raises:
        WeightsError: the fold has no network.
        OutputError: the fold's network was stopped before its thresholds were chosen.
    """
    place = folder / f"fold-{number}"
    weights = locate(place / "network.onnx")
    patients = folds.sides(number)["test"]
    kept = read_results(place / RECORD_FILE)
    if kept is not None and kept.weights_sha256 == weights.sha256:
        return kept if most is None else kept.of(patients[:most])
    settings = require_certainty(weights)
    backends, left_out = _load_formats(weights)
    wanted = [one for one in data.patients if one.number in patients[:most]]
    answers = []
    for done, patient in enumerate(wanted, 1):
        answers += _compare(data, patient, number, weights, settings, backends)
        report(done, len(wanted))
    found = FoldResults(_read_choices(weights, number), weights.sha256, left_out, tuple(answers))
    if most is None:
        found.write(place / RECORD_FILE)
    return found


def _read_choices(weights: WeightsFile, number: int) -> Choices:
    settings = require_certainty(weights)
    steps = int(weights.record["training"]["recipe"]["steps"])
    return Choices(number, steps, weights.threshold, settings.slice_threshold, settings.study_threshold)


def _load_formats(weights: WeightsFile) -> tuple[list[OpenVinoBackend], dict[str, str]]:
    """fp32 first; and why others are not among them."""
    backends, left_out = [OpenVinoBackend(weights, "fp32")], {}
    try:
        for precision in ("auto", "bf16"):
            fast = OpenVinoBackend(weights, precision)
            if fast.record.precision != "fp32":
                backends.append(fast)
    except SettingsError:
        left_out["bf16"] = "this processor does not compute bf16"
    return backends, left_out


def _compare(
    data: CtIch, patient: Patient, fold: int, weights: WeightsFile, settings: CertaintySettings,
    backends: Sequence[OpenVinoBackend],
) -> list[FormatResult]:  # fmt: skip
    """One study in each format; of the probabilities only the first format's are kept while the others compute."""
    hu = np.stack([data.read_hu(one) for one in patient.slices])
    reference = np.stack([data.read_mask(one) for one in patient.slices])
    first, results = None, []
    for backend in backends:
        segmented = segment_slices(hu, weights.preprocessing, backend)
        outline, verdict = outline_study(segmented, settings, weights.threshold)
        first = first or (segmented.probability, outline.mask)
        pooled = overlap.count(first[1], outline.mask).pooled()
        dice = float(overlap.dice(pooled, empty=np.nan)[0])
        told: Literal["positive", "negative"] = "positive" if outline.mask.any() else "negative"
        results.append(
            FormatResult(
                backend.record.precision, asdict(backend.record),
                record_study(patient.slices, fold, reference, outline.mask, outline.probability, verdict),
                "abstained" if verdict.abstained else told, int((first[1] != outline.mask).sum()), outline.mask.size,
                None if np.isnan(dice) else dice, float(np.abs(first[0] - segmented.probability).max()),
            )
        )  # fmt: skip
    return results
