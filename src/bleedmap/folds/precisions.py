"""What a number format costs out of fold: each fold's network on its own test patients, in each format."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bleedmap.arrays import BoolArray, FloatArray
from bleedmap.datasets.ct_ich import CtIch, Patient
from bleedmap.datasets.folds import ProtocolFolds
from bleedmap.errors import OutputError, SettingsError
from bleedmap.evaluation.records import Choices, StudyRecord, Verdict, record_study
from bleedmap.folds.choices import OFFSET_VOXELS, VOXEL_ML
from bleedmap.folds.precision_files import Answer, FoldAnswers, read_answers
from bleedmap.inference import certainty
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.outline import outline_prediction, segment_slices
from bleedmap.inference.weights import WeightsFile, locate
from bleedmap.metrics import overlap

Report = Callable[[int, int], None]  # done, of
RECORD_FILE = "precisions.json"


@dataclass(frozen=True, eq=False)
class _Format:
    """A fold's network, loaded in one number format."""

    name: str
    weights: WeightsFile
    backend: OpenVinoBackend


@dataclass(frozen=True, eq=False)
class _Said:
    """What a network in one format says of a study: (slice, row, column) and the record's parts."""

    probability: FloatArray
    mask: BoolArray
    verdict: Verdict
    told: Literal["positive", "negative", "abstained"]


def compare_fold(
    data: CtIch, folds: ProtocolFolds, folder: Path, number: int, report: Report, most: int | None = None
) -> FoldAnswers:
    """A fold's test patients in every format, from `folder`/fold-N/precisions.json where they are there.

    Args:
        data: CT-ICH.
        folds: the protocol's.
        folder: of `reproduce folds`.
        number: of the fold.
        report: called with test patients done and of how many.
        most: only the first patients, for a trial, which is not kept; None: all.

    Raises:
        WeightsError: the fold has no network.
        OutputError: the fold's network was stopped before its thresholds were chosen.
    """
    place = folder / f"fold-{number}"
    weights = locate(place / "network.onnx")
    patients = folds.sides(number)["test"]
    kept = read_answers(place / RECORD_FILE)
    if kept is not None and kept.weights_sha256 == weights.sha256:
        return kept if most is None else kept.of(patients[:most])
    formats, left_out = _formats(weights)
    wanted = [one for one in data.patients if one.number in patients[:most]]
    answers = []
    for done, patient in enumerate(wanted, 1):
        answers += _answers(data, patient, number, formats)
        report(done, len(wanted))
    found = FoldAnswers(_choices(weights, number), weights.sha256, left_out, tuple(answers))
    if most is None:
        found.write(place / RECORD_FILE)
    return found


def _choices(weights: WeightsFile, number: int) -> Choices:
    settings = _settings(weights)
    steps = int(weights.record["training"]["recipe"]["steps"])
    return Choices(number, steps, weights.threshold, settings.slice_threshold, settings.study_threshold)


def _settings(weights: WeightsFile) -> certainty.CertaintySettings:
    settings = weights.certainty
    if settings is None:
        raise OutputError(
            weights.path, found="a fold that was stopped before it had chosen", needed="a finished fold",
            remedy="run `bleedmap reproduce folds` for this fold again",
        )  # fmt: skip
    return settings


def _formats(weights: WeightsFile) -> tuple[list[_Format], dict[str, str]]:
    """fp32 first; and why others are not among them."""
    _settings(weights)
    whole = _Format("fp32", weights, OpenVinoBackend(weights, "fp32"))
    formats, left_out = [whole], {}
    try:
        for precision in ("auto", "bf16"):
            fast = OpenVinoBackend(weights, precision)
            if fast.record.precision != "fp32":
                formats.append(_Format(fast.record.precision, weights, fast))
    except SettingsError:
        left_out["bf16"] = "this processor does not compute bf16"
    return formats, left_out


def _answers(data: CtIch, patient: Patient, fold: int, formats: Iterable[_Format]) -> list[Answer]:
    """One study in each format: nothing but the first format's answer is kept beside the one at work."""
    hu = np.stack([data.read_hu(one) for one in patient.slices])
    reference = np.stack([data.read_mask(one) for one in patient.slices])
    first: _Said | None = None
    answers = []
    for one in formats:
        said = _said(hu, one)
        first = first or said
        study = record_study(patient.slices, fold, reference, said.mask, said.probability, said.verdict)
        answers.append(_held_against(first, said, one, study))
    return answers


def _said(hu: FloatArray, one: _Format) -> _Said:
    settings = _settings(one.weights)
    segmented = segment_slices(hu, one.weights.preprocessing, one.backend)
    outline = outline_prediction(segmented, settings, one.weights.threshold, VOXEL_ML)
    mask, told, voxels = outline.mask, outline.certainty, int(outline.mask.sum())
    assert told is not None
    verdict = Verdict(
        np.array(told.slices), told.study, certainty.type_probabilities(segmented, settings),
        certainty.volume_interval(voxels, settings, OFFSET_VOXELS), told.abstained,
    )  # fmt: skip
    word: Literal["positive", "negative", "abstained"] = "positive" if voxels else "negative"
    return _Said(segmented.probability, mask, verdict, "abstained" if told.abstained else word)


def _held_against(first: _Said, said: _Said, one: _Format, study: StudyRecord) -> Answer:
    pooled = overlap.count(first.mask, said.mask).pooled()
    dice = float(overlap.dice(pooled, empty=np.nan)[0])
    return Answer(
        one.name, asdict(one.backend.record), study, said.told,
        int((first.mask != said.mask).sum()), first.mask.size, None if np.isnan(dice) else dice,
        float(np.abs(first.probability - said.probability).max()),
    )  # fmt: skip
