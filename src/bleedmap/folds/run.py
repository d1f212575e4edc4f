"""The protocol's cross-validation of our own recipe: train each fold, choose on its validation side, predict its test
side once. Every step leaves a file and is not done again."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bleedmap.arrays import FloatArray
from bleedmap.datasets.ct_ich import TYPES, CtIch, Patient
from bleedmap.datasets.folds import ProtocolFolds
from bleedmap.errors import OutputError
from bleedmap.evaluation.predictions import write_prediction
from bleedmap.evaluation.records import Choices, OutOfFold, StudyRecord, Verdict, read_out_of_fold, record_study
from bleedmap.folds.choices import (
    DICE_FOR_FEWER,
    FIRST_THRESHOLDS,
    OFFSET_VOXELS,
    PIXEL_THRESHOLDS,
    SMALLEST_ML,
    VOXEL_ML,
    Chosen,
    choose,
    choose_together,
)
from bleedmap.folds.evidence import Said, read_evidence, write_evidence
from bleedmap.inference import certainty
from bleedmap.inference.backends import Segmented
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.outline import outline_prediction, segment_slices
from bleedmap.inference.weights import WeightsFile, locate
from bleedmap.models.checkpoint import read_checkpoint
from bleedmap.models.export import export_onnx
from bleedmap.models.lite_unet import LiteUNet
from bleedmap.training.device import Machine
from bleedmap.training.fit import fit, load_fitted
from bleedmap.training.painting import load_paintings
from bleedmap.training.recipe import MIXED, PAINTED, PRETRAINING, RECIPE, Recipe
from bleedmap.training.run import code_version
from bleedmap.training.samples import Samples, load_patients, load_phantoms
from bleedmap.training.sampling import Pools
from bleedmap.training.ship import DATA

_PAINTED_LEVEL = (
    "Late: written when the first recipe's figures and pictures of test patients had been seen, fold 1's among them; "
    "its mixture was then chosen on fold 1's validation patients; and predicted once more, with a smallest bleed for "
    "each fold to choose, when many small false alarms had been seen. Weights, thresholds and calibration never met "
    "their test patients."
)
_MIXED_LEVEL = (
    "Late: written when the figures and pictures of test patients by both earlier recipes had been seen, fold 1's "
    "among them; that half of the earlier weights are kept was chosen on the validation patients of folds 1 and 2, all "
    "of whom another fold tests: no fold's test side is untouched by the recipe, and the rules for thresholds came "
    "after those figures too. Weights, thresholds and calibration never met their test patients."
)
FIRST_METHOD = "bleedmap, first recipe"
PAINTED_METHOD = "bleedmap, painted bleeds"
MIXED_METHOD = "bleedmap, painted bleeds and phantoms"
SHIPPED = "ct-ich-lite"
Report = Callable[[str, int, int, str], None]  # what is being done, done, of, last words


def _silent(what: str, done: int, of: int, words: str) -> None:
    pass


@dataclass(frozen=True)
class Experiment:
    """Where and on what everything runs.

    Attributes:
        data: CT-ICH.
        folds: the protocol's.
        folder: of all files.
        machine: device and precision of training; predictions run in OpenVINO, fp32.
        recipe: of the folds.
        pretraining: of the network that all of them begin with.
        report: called as work goes on.
        method: its name in tables.
        thresholds: of pixels, that a fold chooses among.
        smallest_ml: regions of less are not marked; a fold chooses among these.
        dice_for_fewer: validation Dice that a threshold and gate with fewer false alarms may cost.
        level: how the recipe was chosen, by docs/protocol.md.
        before: the experiment whose networks of the same patients these go on from; None: from the phantoms'.
    """

    data: CtIch
    folds: ProtocolFolds
    folder: Path
    machine: Machine
    recipe: Recipe = RECIPE
    pretraining: Recipe = PRETRAINING
    report: Report = _silent
    method: str = FIRST_METHOD
    thresholds: tuple[float, ...] = FIRST_THRESHOLDS
    smallest_ml: tuple[float, ...] = (0.0,)
    dice_for_fewer: float = 0.0
    level: str = "fixed beforehand: the recipe that the program had before any ablation was run"
    before: "Experiment | None" = None

    @cached_property
    def patients(self) -> Samples:
        """All patients' slices, as stored for training."""
        if self.before is not None and self.before.recipe.stored() == self.recipe.stored():
            return self.before.patients  # once in memory
        return load_patients(
            self.data, self.recipe.stored(), self.first.folder / "cache",
            lambda done, of: self.report("reading patients", done, of, ""),
        )  # fmt: skip

    @cached_property
    def phantoms(self) -> Samples:
        """The phantoms' slices."""
        return load_phantoms(
            self.recipe.phantoms, self.recipe.stored(), self.recipe.seed,
            lambda done, of: self.report("making phantoms", done, of, ""),
        )  # fmt: skip

    @property
    def first(self) -> "Experiment":
        """The one that none came before: its folder holds what all share."""
        return self if self.before is None else self.before.first

    def fold(self, number: int) -> Path:
        """The folder of a fold."""
        return self.folder / f"fold-{number}"

    @property
    def predictions(self) -> Path:
        """The folder of all patients' predictions out of fold."""
        return self.folder / "predictions"

    @property
    def record_file(self) -> Path:
        """All folds' records together."""
        return self.folder / "records.json"


def painted(first: Experiment) -> Experiment:
    """The first recipe's networks, trained on with `PAINTED`; files below the first's folder."""
    return replace(
        first, folder=first.folder / "painted", recipe=PAINTED, method=PAINTED_METHOD, thresholds=PIXEL_THRESHOLDS,
        smallest_ml=SMALLEST_ML, level=_PAINTED_LEVEL, before=first,
    )  # fmt: skip


def mixed(first: Experiment) -> Experiment:
    """What ships: those networks, trained on with `MIXED`; files below the first's folder."""
    before = painted(first)
    return replace(
        before, folder=first.folder / "mixed", recipe=MIXED, method=MIXED_METHOD, dice_for_fewer=DICE_FOR_FEWER,
        level=_MIXED_LEVEL, before=before,
    )  # fmt: skip


def pretrained(experiment: Experiment) -> dict[str, Tensor]:
    """The weights that phantoms taught, trained where they are not there yet."""
    folder = experiment.folder / "phantoms"
    if not (folder / "network.safetensors").is_file():
        pools = Pools(experiment.phantoms, experiment.phantoms)
        fit(experiment.pretraining, pools, experiment.machine, folder, None, _told(experiment, "phantoms", True))
    load_fitted(folder / "network.safetensors", experiment.pretraining)  # refuses another recipe's
    return read_checkpoint(folder / "network.safetensors").part("network")


def train(experiment: Experiment, name: str, patients: tuple[int, ...]) -> LiteUNet:
    """Train on some patients, after what comes before; `name` is the folder."""
    folder = experiment.folder / name
    if (folder / "network.safetensors").is_file():
        return load_fitted(folder / "network.safetensors", experiment.recipe)
    if experiment.before is None:
        start = pretrained(experiment)
    else:
        start = dict(train(experiment.before, name, patients).state_dict())
    pools = pools_of(experiment, patients)
    return fit(experiment.recipe, pools, experiment.machine, folder, start, _told(experiment, name, False))


def pools_of(experiment: Experiment, patients: tuple[int, ...]) -> Pools:
    """What a batch is drawn from: those patients and, where the recipe has them, phantoms and paintings."""
    recipe, samples = experiment.recipe, experiment.patients.of(patients)
    return Pools(
        samples,
        experiment.phantoms if recipe.phantom else None,
        load_paintings(
            samples, recipe.paintings, recipe.seed,
            lambda done, of: experiment.report("painting bleeds", done, of, ""),
        ) if recipe.painted else None,
    )  # fmt: skip


def _told(experiment: Experiment, name: str, before: bool) -> Callable[[int, dict[str, float]], None]:
    steps = (experiment.pretraining if before else experiment.recipe).steps

    def told(step: int, losses: dict[str, float]) -> None:
        words = "  ".join(f"{part} {value:.3f}" for part, value in losses.items())
        experiment.report(f"training {name}", step, steps, words)

    return told


def run_fold(experiment: Experiment, number: int) -> OutOfFold:
    """Train a fold, choose, then predict its test side; from its files where they are there."""
    folder, stored = experiment.fold(number), experiment.fold(number) / "records.json"
    if stored.is_file():
        return read_out_of_fold(stored)
    sides = experiment.folds.sides(number)
    network = train(experiment, folder.name, sides["train"])
    weights_file, name = folder / "network.onnx", f"ct-ich-fold-{number}"
    predictor = _exported(experiment, name, network, sides["train"], None, weights_file)
    familiar = predictor.features(sides["train"], f"fold {number}: what is familiar")
    validation = [predictor.said(one) for one in predictor.told(sides["validation"], f"fold {number}: choosing")]
    chosen = choose(
        validation, familiar, experiment.thresholds, experiment.smallest_ml, experiment.dice_for_fewer
    )  # fmt: skip
    del validation
    predictor = _exported(experiment, name, network, sides["train"], chosen, weights_file)
    studies = tuple(
        predictor.record(one, number, folder / "said")
        for one in predictor.told(sides["test"], f"fold {number}: testing")
    )
    choices = Choices(
        number, experiment.recipe.steps, chosen.pixel_threshold, chosen.settings.slice_threshold,
        chosen.settings.study_threshold,
    )  # fmt: skip
    records = OutOfFold(experiment.method, experiment.folds.data_sha256, (choices,), studies, made_of(experiment))
    records.write(stored)
    return records


def _exported(
    experiment: Experiment, name: str, network: LiteUNet, patients: tuple[int, ...], chosen: Chosen | None, path: Path
) -> "Predictor":
    export_onnx(network, experiment.recipe.size, network_record(experiment, name, patients, chosen), path)
    return Predictor(experiment, path)


def together(experiment: Experiment) -> OutOfFold | None:
    """All folds' records as one file; None while a fold is missing."""
    found = [experiment.fold(one.fold) / "records.json" for one in experiment.folds.folds]
    if not all(path.is_file() for path in found):
        return None
    parts = [read_out_of_fold(path) for path in found]
    records = replace(
        parts[0],
        choices=tuple(choice for one in parts for choice in one.choices),
        studies=tuple(sorted((study for one in parts for study in one.studies), key=lambda study: study.patient)),
    )
    records.check_against(experiment.folds)
    records.write(experiment.record_file)
    return records


def run_all(experiment: Experiment) -> Path:
    """Train on all patients, with what the folds chose, and export: the network that ships.

    Raises:
        OutputError: a fold is not finished.
    """
    records = together(experiment)
    if records is None:
        raise OutputError(
            experiment.folder, found="folds without records",
            needed="all five folds finished: they choose its thresholds",
            remedy="run the command without --fold",
        )  # fmt: skip
    weights_file = experiment.folder / "all" / f"{SHIPPED}.onnx"
    draft = experiment.folder / "all" / "draft.onnx"  # without thresholds: never under the name that ships
    patients = experiment.folds.patients
    network = train(experiment, "all", patients)
    predictor = _exported(experiment, SHIPPED, network, patients, None, draft)
    chosen = chosen_out_of_fold(experiment, records, predictor.features(patients, "what is familiar"))
    _exported(experiment, SHIPPED, network, patients, chosen, weights_file)
    draft.unlink()
    return weights_file


def chosen_out_of_fold(experiment: Experiment, records: OutOfFold, features: FloatArray) -> Chosen:
    """Calibration and interval from all patients out of fold; thresholds and limits are the folds' medians."""
    evidence, folds = [], []
    for fold in experiment.folds.folds:
        evidence += [read_evidence(experiment.fold(fold.fold) / "said", patient) for patient in fold.test]
        weights = locate(experiment.fold(fold.fold) / "network.onnx")
        settings = weights.certainty
        assert settings is not None
        folds.append(Chosen(settings, weights.threshold))
    volumes = [
        (int(one.counts.predicted.sum()), int(one.counts.reference.sum())) for one in records.studies
        if one.counts.reference.any()
    ]  # fmt: skip
    return choose_together(evidence, volumes, folds, features)


def made_of(experiment: Experiment) -> dict[str, Any]:
    """What a reader of the records should know."""
    return {
        **_training(experiment),
        "trained_on": experiment.machine.describe(), "predicted_on": "OpenVINO, fp32, from the exported fp16 weights",
        "recipe_level": experiment.level,
        "retrained_with_validation": False, "seed": experiment.recipe.seed, "code": code_version(),
    }  # fmt: skip


def _training(experiment: Experiment) -> dict[str, Any]:
    """All recipes, last first."""
    before, one = [], experiment.before
    while one is not None:
        before.append(one.recipe.to_dict())
        one = one.before
    return {
        "recipe": experiment.recipe.to_dict(), **({"before": before} if before else {}),
        "pretraining": experiment.pretraining.to_dict(),
    }  # fmt: skip


def network_record(
    experiment: Experiment, name: str, patients: tuple[int, ...], chosen: Chosen | None
) -> dict[str, Any]:
    """What the exported file says of itself."""
    settings = experiment.recipe.preprocessing()
    slices = sum(len(one.slices) for one in experiment.data.patients if one.number in patients)
    each = experiment.recipe.paintings
    painted_words = f", {each} synthetic bleeds painted into each patient without one" if each else ""
    return {
        "name": name,
        "network": experiment.recipe.network().to_dict(),
        "preprocessing": asdict(settings),
        "threshold": 0.5 if chosen is None else chosen.pixel_threshold,
        "certainty": None if chosen is None else chosen.settings.to_dict(),
        "trained_on": f"{DATA[experiment.data.release]}: {slices:,} slices of {len(patients)} patients"
        f"{painted_words}"
        f"; before and among them {experiment.first.recipe.phantoms} phantoms (synthetic heads); first of all ImageNet",
        "trained_patients": [f"{one:03d}" for one in patients],
        "code": code_version(),
        "training": _training(experiment),
        "data_sha256": experiment.folds.data_sha256,
        "purpose": "research software, not a medical device",
    }


class Predictor:
    """An exported network on patients of CT-ICH, as `bleedmap segment --precision fp32` runs it."""

    def __init__(self, experiment: Experiment, weights_file: Path, *, mirrored: bool = False) -> None:
        self._experiment, self._mirrored = experiment, mirrored
        self._weights: WeightsFile = locate(weights_file)
        self._backend = OpenVinoBackend(self._weights)
        self._settings = self._weights.certainty

    def told(self, patients: tuple[int, ...], what: str) -> "list[Patient]":
        """Patients of those numbers; the report is told of each as it is asked for."""
        chosen = [one for one in self._experiment.data.patients if one.number in patients]
        self._experiment.report(what, 0, len(chosen), "")
        return chosen

    def hu(self, patient: Patient) -> FloatArray:
        """(slice, row, column)."""
        return np.stack([self._experiment.data.read_hu(one) for one in patient.slices])

    def of(self, hu: FloatArray) -> Segmented:
        """What the network says of (slice, row, column) in HU."""
        return segment_slices(hu, self._weights.preprocessing, self._backend)

    def segmented(self, patient: Patient) -> Segmented:
        """What the network says; mirrored: the mean of that and of what it says of the mirror image."""
        hu = self.hu(patient)
        said = self.of(hu)
        if not self._mirrored:
            return said
        other = self.of(np.ascontiguousarray(hu[:, :, ::-1]))
        assert said.labels is not None
        assert other.labels is not None
        return Segmented(
            np.float32(0.5) * (said.probability + other.probability[:, :, ::-1]),
            np.float32(0.5) * (said.extent + other.extent),
            np.float32(0.5) * (said.labels + other.labels), said.features,
        )  # fmt: skip

    def features(self, patients: tuple[int, ...], what: str) -> FloatArray:
        """(slices, features) of those patients."""
        found = [self.segmented(one).features for one in self.told(patients, what)]
        return np.concatenate([one for one in found if one is not None])

    def said(self, patient: Patient) -> Said:
        """The same beside the reference."""
        reference = np.stack([self._experiment.data.read_mask(one) for one in patient.slices])
        types = np.array([[name in one.types for name in TYPES] for one in patient.slices], np.bool_)
        return Said(self.segmented(patient), reference, types)

    def record(self, patient: Patient, fold: int, evidence: Path) -> StudyRecord:
        """Counts of a test patient; its prediction is kept for pictures, what calibration needs in `evidence`."""
        assert self._settings is not None
        said = self.said(patient)
        outline = outline_prediction(said.segmented, self._settings, self._weights.threshold, VOXEL_ML)
        mask, told, voxels = outline.mask, outline.certainty, int(outline.mask.sum())
        assert told is not None
        low, high = certainty.volume_interval(voxels, self._settings, OFFSET_VOXELS)
        verdict = Verdict(
            np.array(told.slices), told.study, certainty.type_probabilities(said.segmented, self._settings),
            (low, high), told.abstained,
        )  # fmt: skip
        write_prediction(self._experiment.predictions, patient.number, outline.probability, mask)
        write_evidence(evidence, patient.number, said)
        return record_study(patient.slices, fold, said.reference, mask, outline.probability, verdict)
