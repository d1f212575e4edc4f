"""The protocol's cross-validation of our own recipe: train each fold, choose on its validation side, predict its test
side once. Every step leaves a file and is not done again."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import Tensor

from bleedmap.archive.locks import locked
from bleedmap.archive.workers import try_cell
from bleedmap.arrays import FloatArray
from bleedmap.datasets.ct_ich import CtIch, Patient
from bleedmap.datasets.own_split import OwnSplit
from bleedmap.datasets.splits import Split
from bleedmap.errors import OutputError, SplitError
from bleedmap.evaluation.records import (
    Choices,
    OutOfFold,
    StudyRecord,
    Verdict,
    read_out_of_fold,
    record_study,
    write_prediction,
)
from bleedmap.folds.choices import (
    DICE_FOR_FEWER,
    OFFSET_VOXELS,
    PIXEL_THRESHOLDS,
    SMALLEST_ML,
    Chosen,
    choose,
    choose_for_all,
)
from bleedmap.folds.evidence import StudyPrediction, read_evidence, write_evidence
from bleedmap.folds.recipes import CrossValidation
from bleedmap.inference import certainty
from bleedmap.inference.backends import Segmented
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.outline import Outline, outline_prediction, segment_slices
from bleedmap.inference.weights import WeightsFile, locate
from bleedmap.models.checkpoint import Checkpoint, write_checkpoint
from bleedmap.models.export import export_onnx
from bleedmap.models.lite_unet import LiteUNet
from bleedmap.training.config import LiteConfig
from bleedmap.training.export import describe_lite
from bleedmap.training.loop import network_tensors
from bleedmap.training.run import Run, code_version
from bleedmap.training.steps import Work, load_recipe_network, report_steps, train_recipe
from bleedmap.training.studies import VOXEL_ML, CtIchStudies, Shown, Studies

SHIPPED = "ct-ich-lite"
ALL = "all"  # the cell that trains on all patients; the others are the folds' numbers


def train_pretrained(validation: CrossValidation) -> dict[str, Tensor]:
    """The weights that phantoms taught, trained where they are not there yet."""
    recipe = validation.pretraining
    with train_alone(validation.folder / "phantoms"):
        network = train_recipe(
            recipe, lambda: validation.source.pools(recipe, ()), validation.machine, validation.folder / "phantoms",
            None, report_steps(validation.report, "training phantoms", recipe.steps),
        )  # fmt: skip
    return dict(network.state_dict())


def train_alone(folder: Path) -> AbstractContextManager[bool]:
    """Wait until no other process trains in that folder; while inside, none does."""
    return locked(folder.parent / f".cells/locks/train-{folder.name}.lock", wait=True)


def train_network(validation: CrossValidation, name: str, patients: tuple[int, ...]) -> LiteUNet:
    """Train on some patients, after what comes before; `name` is the folder."""
    recipe, run = validation.recipe, Run(validation.folder / name)
    if run.network_file.is_file():
        return load_recipe_network(run.network_file, recipe)
    if validation.before is None:
        start = train_pretrained(validation)
    else:
        start = dict(train_network(validation.before, name, patients).state_dict())
    with train_alone(run.folder):
        return train_recipe(
            recipe, lambda: validation.source.pools(recipe, patients), validation.machine, run.folder, start,
            report_steps(validation.report, f"training {name}", recipe.steps),
        )  # fmt: skip


def run_cell(validation: CrossValidation, run: str, name: str) -> str:
    """Run a fold by its number, or `ALL`, in one process of several; see `try_cell`."""
    do = partial(run_all, validation) if name == ALL else partial(run_fold, validation, int(name))
    return try_cell(validation.folder, name, run, do)


def run_fold(validation: CrossValidation, number: int) -> OutOfFold:
    """Train a fold, choose, then predict its test side; from its files where they are there."""
    folder, stored = validation.fold(number), validation.fold(number) / "records.json"
    if stored.is_file():
        return read_out_of_fold(stored)
    sides = validation.folds.sides(number)
    network = train_network(validation, folder.name, sides["train"])
    weights_file, name = folder / "network.onnx", f"ct-ich-fold-{number}"
    predictor = _export(validation, name, network, sides["train"], None, weights_file)
    familiar = predictor.features(sides["train"], f"fold {number}: what is familiar")
    predictions = predictor.predict_all(sides["validation"], f"fold {number}: choosing")
    chosen = choose(
        predictions, familiar, validation.thresholds, validation.smallest_ml, validation.dice_for_fewer,
        validation.study_parts,
    )  # fmt: skip
    del predictions
    predictor = _export(validation, name, network, sides["train"], chosen, weights_file)
    patients = {one.number: one for one in validation.data.patients}
    studies = tuple(
        predictor.record(patients[one], number, folder / "said", validation.predictions)
        for one in predictor.count(sides["test"], f"fold {number}: testing")
    )
    choices = Choices(
        number, validation.recipe.steps, chosen.pixel_threshold, chosen.settings.slice_threshold,
        chosen.settings.study_threshold,
    )  # fmt: skip
    records = OutOfFold(
        validation.method, validation.folds.data_sha256, (choices,), studies, describe_records(validation)
    )
    records.write(stored)
    return records


def _export(
    validation: CrossValidation,
    name: str,
    network: LiteUNet,
    patients: tuple[int, ...],
    chosen: Chosen | None,
    path: Path,
) -> "Predictor":
    export_onnx(network, validation.recipe.size, network_record(validation, name, patients, chosen), path)
    return Predictor(validation.studies, path, validation.report)


def merge_folds(validation: CrossValidation) -> OutOfFold | None:
    """All folds' records as one file; None while a fold is missing."""
    found = [validation.fold(one.fold) / "records.json" for one in validation.folds.folds]
    if not all(path.is_file() for path in found):
        return None
    parts = [read_out_of_fold(path) for path in found]
    records = replace(
        parts[0],
        choices=tuple(choice for one in parts for choice in one.choices),
        studies=tuple(sorted((study for one in parts for study in one.studies), key=lambda study: study.patient)),
    )
    records.check_against(validation.folds)
    records.write(validation.record_file)
    return records


def run_all(validation: CrossValidation) -> Path:
    """Train on all patients, with what the folds chose, and export: the network that ships.

    Raises:
        OutputError: a fold is not finished.
    """
    records = merge_folds(validation)
    if records is None:
        raise OutputError(
            validation.folder, found="folds without records",
            needed="all five folds finished: they choose its thresholds",
            remedy="run the command without --fold",
        )  # fmt: skip
    weights_file = validation.folder / "all" / f"{SHIPPED}.onnx"
    draft = validation.folder / "all" / "draft.onnx"  # without thresholds: never under the name that ships
    patients = validation.folds.patients
    network = train_network(validation, "all", patients)
    predictor = _export(validation, SHIPPED, network, patients, None, draft)
    chosen = choose_out_of_fold(validation, records, predictor.features(patients, "what is familiar"))
    _export(validation, SHIPPED, network, patients, chosen, weights_file)
    draft.unlink()
    return weights_file


def choose_out_of_fold(validation: CrossValidation, records: OutOfFold, features: FloatArray) -> Chosen:
    """Calibration and interval from all patients out of fold; thresholds and limits are the folds' medians."""
    evidence, folds = [], []
    for fold in validation.folds.folds:
        evidence += [read_evidence(validation.fold(fold.fold) / "said", patient) for patient in fold.test]
        weights = locate(validation.fold(fold.fold) / "network.onnx")
        folds.append(Chosen(require_certainty(weights), weights.threshold))
    volumes = [
        (int(one.counts.predicted.sum()), int(one.counts.reference.sum())) for one in records.studies
        if one.counts.reference.any()
    ]  # fmt: skip
    return choose_for_all(evidence, volumes, folds, features)


def describe_records(validation: CrossValidation) -> dict[str, Any]:
    """What a reader of the records should know."""
    return {
        **_training(validation),
        "trained_on": validation.machine.describe(), "predicted_on": "OpenVINO, fp32, from the exported fp16 weights",
        "recipe_level": validation.level,
        "retrained_with_validation": False, "seed": validation.recipe.seed, "code": code_version(),
    }  # fmt: skip


def _training(validation: CrossValidation) -> dict[str, Any]:
    """All recipes, last first."""
    before, one = [], validation.before
    while one is not None:
        before.append(one.recipe.to_dict())
        one = one.before
    return {
        "recipe": validation.recipe.to_dict(), **({"before": before} if before else {}),
        "pretraining": validation.pretraining.to_dict(),
    }  # fmt: skip


def network_record(
    validation: CrossValidation, name: str, patients: tuple[int, ...], chosen: Chosen | None
) -> dict[str, Any]:
    """What the exported file says of itself."""
    record = describe_lite(
        validation.recipe, validation.first.recipe.phantoms, validation.studies, patients, _training(validation),
        validation.folds.data_sha256,
    )  # fmt: skip
    return {"name": name, **record, **_choice_record(chosen)}


def _choice_record(chosen: Chosen | None) -> dict[str, Any]:
    if chosen is None:
        return {"threshold": 0.5, "certainty": None}
    return {"threshold": chosen.pixel_threshold, "certainty": chosen.settings.to_dict()}


@dataclass(frozen=True, eq=False)
class Material:
    """What a run in stages is trained on.

    `train`, `validation`: numbers of the studies to train on, and to choose thresholds and calibration on.
    """

    studies: Studies  # all of them
    train: tuple[int, ...]
    validation: tuple[int, ...]
    split: Split | OwnSplit  # the run's
    start: Mapping[str, Any] | None = None  # record of the network that the first stage begins with; None: ImageNet's


def of_ct_ich(data: CtIch, split: Split) -> Material:
    """The patients of a split of CT-ICH."""
    train, validation = (tuple(int(one) for one in split.patients(side)) for side in ("train", "validation"))
    return Material(CtIchStudies(data), train, validation, split)


def choose_for_run(run: Run, config: LiteConfig, material: Material, network: LiteUNet, report: Work) -> None:
    """Choose thresholds and calibration of a run's last network on its validation side; write the network with them to
    `best.safetensors`."""
    training = {"stages": config.to_dict()["stages"]}
    phantoms = max(recipe.phantoms for _, recipe in config.stages)
    record = describe_lite(
        config.recipe, phantoms, material.studies, material.train, training, material.split.data_sha256, material.start
    )
    with TemporaryDirectory(prefix="bleedmap-train-") as folder:
        draft = Path(folder) / "network.onnx"
        export_onnx(network, config.recipe.size, {"name": "draft", **record, **_choice_record(None)}, draft)
        predictor = Predictor(material.studies, draft, report)
        familiar = predictor.features(material.train, "what is familiar")
        predictions = predictor.predict_all(material.validation, "choosing thresholds")
    chosen = choose(predictions, familiar, PIXEL_THRESHOLDS, SMALLEST_ML, DICE_FOR_FEWER)
    record |= _choice_record(chosen) | {"code": run.record()["code"]}
    content = {"config": config.to_dict(), "step": config.recipe.steps, "export": record}
    write_checkpoint(run.best_file, Checkpoint(network_tensors(network.state_dict()), content))


def check_choices(data: CtIch, split: Split) -> None:
    """Refuse a split whose validation side cannot choose thresholds: to be asked before long work begins.

    Raises:
        SplitError: a split by slice, or a validation side without bleeding or without bleed-free patients.
    """
    numbers = {int(one) for one in split.patients("validation")}
    bleeds = [one.has_lesion for one in data.patients if one.number in numbers]
    if split.kind != "patient":
        found, needed = "a split by slice", "a split by patient: this network sees whole studies"
    elif all(bleeds) or not any(bleeds):
        found = f"a validation side with {sum(bleeds)} bleeding of {len(bleeds)} patients"
        needed = "patients of both kinds, which choose thresholds and calibration"
    else:
        return
    raise SplitError("split", found=found, needed=needed, remedy="make another with `bleedmap split`")


class Predictor:
    """An exported network on studies with references, as `bleedmap segment --precision fp32` runs it."""

    def __init__(self, studies: Studies, weights_file: Path, report: Work, *, mirrored: bool = False) -> None:
        self._studies, self._report, self._mirrored = studies, report, mirrored
        self._weights: WeightsFile = locate(weights_file)
        self._backend = OpenVinoBackend(self._weights)

    def count(self, numbers: tuple[int, ...], what: str) -> Iterator[int]:
        """Those numbers, in the studies' order, with progress reported."""
        chosen = [one for one in self._studies.numbers if one in numbers]
        for done, number in enumerate(chosen):
            self._report(what, done, len(chosen), "")
            yield number
        self._report(what, len(chosen), len(chosen), "")

    def read(self, number: int) -> Shown:
        """A study as the network is to see it."""
        return self._studies.read(number, self._weights.preprocessing)

    def segment(self, hu: FloatArray, pixel_mm: tuple[float, float] | None = None) -> Segmented:
        """What the network says of (slice, row, column) in HU; mirrored: its mean with that of the mirror image."""
        settings = self._weights.preprocessing
        found = segment_slices(hu, settings, self._backend, pixel_mm=pixel_mm)
        if not self._mirrored:
            return found
        other = segment_slices(np.ascontiguousarray(hu[:, :, ::-1]), settings, self._backend, pixel_mm=pixel_mm)
        assert found.labels is not None
        assert other.labels is not None
        return Segmented(
            np.float32(0.5) * (found.probability + other.probability[:, :, ::-1]),
            np.float32(0.5) * (found.extent + other.extent),
            np.float32(0.5) * (found.labels + other.labels), found.features,
        )  # fmt: skip

    def features(self, numbers: tuple[int, ...], what: str) -> FloatArray:
        """(slices, features) of those studies."""
        found = [self._segment(self.read(one)).features for one in self.count(numbers, what)]
        return np.concatenate([one for one in found if one is not None])

    def _segment(self, shown: Shown) -> Segmented:
        return self.segment(shown.hu, shown.pixel_mm)

    def predict(self, number: int) -> StudyPrediction:
        """What the network says of a study, with the reference."""
        shown = self.read(number)
        return StudyPrediction(self._segment(shown), shown.reference, shown.types, shown.voxel_ml)

    def predict_all(self, numbers: tuple[int, ...], what: str) -> list[StudyPrediction]:
        """The same of all those studies."""
        return [self.predict(one) for one in self.count(numbers, what)]

    def record(self, patient: Patient, fold: int, evidence: Path, predictions: Path) -> StudyRecord:
        """Count a test patient of CT-ICH; keep the prediction for pictures, in `evidence` what calibration needs."""
        prediction = self.predict(patient.number)
        outline, verdict = outline_study(
            prediction.segmented, require_certainty(self._weights), self._weights.threshold, prediction.voxel_ml
        )
        write_prediction(predictions, patient.number, outline.probability, outline.mask)
        write_evidence(evidence, patient.number, prediction)
        return record_study(patient.slices, fold, prediction.reference, outline.mask, outline.probability, verdict)


def require_certainty(weights: WeightsFile) -> certainty.CertaintySettings:
    """What a finished fold chose.

    Raises:
        OutputError: it was stopped before.
    """
    if weights.certainty is None:
        raise OutputError(
            weights.path, found="a fold that was stopped before it had chosen", needed="a finished fold",
            remedy="run `bleedmap reproduce folds` for this fold again",
        )  # fmt: skip
    return weights.certainty


def outline_study(
    segmented: Segmented, settings: certainty.CertaintySettings, threshold: float, voxel_ml: float = VOXEL_ML
) -> tuple[Outline, Verdict]:
    """What is marked on a patient of CT-ICH, and the verdict for its record."""
    outline = outline_prediction(segmented, settings, threshold, voxel_ml)
    found = outline.certainty
    assert found is not None
    interval = certainty.volume_interval(int(outline.mask.sum()), settings, OFFSET_VOXELS)
    types = certainty.type_probabilities(segmented, settings)
    return outline, Verdict(np.array(found.slices), found.study, types, interval, found.abstained)
