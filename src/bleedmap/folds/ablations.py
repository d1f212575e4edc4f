"""What each part of the recipe is worth: trainings without it on a fold's training side, judged on its validation side.

Most are shorter than the recipe's own training, so that all of them can be run; the whole recipe stands among them at
that length and at its own. No test patient of the fold is seen.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from bleedmap.archive.workers import try_cell
from bleedmap.datasets.ct_ich_tables import PIXELS, SLICE_MM
from bleedmap.errors import SettingsError
from bleedmap.evaluation.protocol import SMALLEST_LESION_VOXELS
from bleedmap.folds.evidence import StudyPrediction
from bleedmap.folds.painted_heads import judge_paintings
from bleedmap.folds.recipes import CrossValidation
from bleedmap.folds.run import Predictor, network_record, train_alone, train_pretrained
from bleedmap.inference.certainty import slice_evidence
from bleedmap.io.files import write_json
from bleedmap.metrics.bootstrap import patient_bootstrap
from bleedmap.metrics.lesions import compare
from bleedmap.metrics.roc import roc_auc
from bleedmap.models.export import export_onnx
from bleedmap.models.lite_unet import LiteUNet
from bleedmap.postprocess import label_lesions
from bleedmap.training.config import BALANCED, BONE, FINE, MIXED, PAINTED, RECIPE, Recipe
from bleedmap.training.steps import load_recipe_network, report_steps, train_recipe
from bleedmap.training.studies import VOXEL_ML

STEPS = 600
THRESHOLD = 0.5
_Trainings = Mapping[tuple[int, int], Mapping[str, Any]]  # (fold, seed) -> result
_SHORT = replace(RECIPE, steps=STEPS)
# Of the next recipe: smaller and without phantoms, so that some can be trained on a busy CPU.
_SMALL: dict[str, Any] = {
    "size": 160, "steps": STEPS, "lesion": 3, "lesion_free": 3, "phantom": 0, "painted": 2, "paintings": 12,
}  # fmt: skip
_SMALL_NOW, _SMALL_BONE = replace(RECIPE, **_SMALL), replace(BONE, **_SMALL)


_PARTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("no-bone", "without the bone channel", {"bone": False, "boneless": 0.0}),
    ("no-mm", "without true sizes, neither of the frame nor of painted bleeds", {"frame_mm": 0.0}),
    ("no-mirror", "without the mirror image", {"mirrored": False}),
    ("no-decoys", "without decoys", {"decoys": 0.0}),
    ("old-losses", "with the batch's Dice and even weights", {"slice_dice": 0.0, "free_weight": 1.0}),
    ("deep", "with the loss at a fourth and an eighth too", {"deep": 0.5}),
    ("skull", "told the inside of the skull as a region", {"skull": 0.2}),
    ("varied", "with more kinds of painted heads", {"varied": True}),
    ("all", "with the three parts above together", {"deep": 0.5, "skull": 0.2, "varied": True}),
    ("fine", "with an output at the input's own size", {"fine": 16}),
    ("longer", "for twice the steps", {"steps": 2 * STEPS}),
)


@dataclass(frozen=True)
class Variant:
    """One training.

    `start`: the training that it begins with: 'phantoms', 'imagenet' (the encoder alone) or another variant.
    `base`: the variant that it is compared with, of which it leaves out or changes one part; None: itself a base.
    """

    name: str  # of its folder
    words: str  # what it leaves out or adds
    recipe: Recipe = _SHORT  # its settings
    start: str = "phantoms"
    trained: str | None = None  # folder of its training below the cross-validation's, `{fold}` in it; None: its own
    mirrored: bool = False  # whether slice and mirror image are both asked, and their answers meaned
    base: str | None = "recipe"


VARIANTS = (
    Variant("recipe", "the whole recipe", base=None),
    Variant(
        "no-phantoms", "no phantoms, neither before nor among the patients",
        replace(_SHORT, phantom=0, lesion_free=_SHORT.lesion_free + _SHORT.phantom), start="imagenet",
    ),
    Variant("no-neighbours", "the slice alone, without its neighbours", replace(_SHORT, neighbours=0)),
    Variant("five-slices", "two neighbours on each side", replace(_SHORT, neighbours=2)),
    Variant("no-intensity", "no changes of intensity", replace(_SHORT, intensity=0.0)),
    Variant("no-labels", "no loss of presence and types", replace(_SHORT, labels_weight=0.0)),
    Variant("no-average", "the last weights, not their moving average", replace(_SHORT, average=0.0)),
    Variant("larger", "input of 288×288", replace(_SHORT, size=288)),
    Variant(
        "mirrored", "the whole recipe, slice and mirror image asked together", trained="ablations/fold-{fold}/recipe",
        mirrored=True,
    ),
    Variant("long", "the whole recipe, as long as the folds", RECIPE, trained="fold-{fold}", base=None),
    Variant(
        "long-larger", "after 'as long as the folds', further steps at 320×320",
        replace(RECIPE, size=320, steps=800, learning_rate=5e-4, warm_up=0.1), start="long",
        base="long",
    ),
    Variant(
        "long-288", "after 'as long as the folds', further steps at 288×288",
        replace(PAINTED, lesion=RECIPE.lesion, phantom=RECIPE.phantom, painted=0, paintings=0), start="long",
        base="long",
    ),
    Variant(
        "painted", "the same steps with bleeds painted into bleed-free patients", PAINTED, start="long",
        trained="painted/fold-{fold}", base="long-288",
    ),
    Variant(
        "mixed-alone", "after that, more paintings, and phantoms again", replace(MIXED, start_share=0.0),
        start="painted", base="painted",
    ),
    Variant(
        "mixed", "the mean of the last two networks' weights: what ships", MIXED, start="painted",
        trained="mixed/fold-{fold}", base="painted",
    ),
    Variant("balanced", "one run with each slice's own Dice", BALANCED, trained="balanced/fold-{fold}", base=None),
    Variant(
        "balanced-painted", "the same with four times the paintings, in half of each batch",
        replace(BALANCED, lesion=2, lesion_free=1, painted=4, paintings=96, steps=5000), base="balanced",
    ),
    Variant(
        "fine", "in fewer steps, pixels told at the input's own size", FINE, trained="fine/fold-{fold}",
        base="balanced",
    ),
    Variant("small-now", "160×160, no phantoms, painted bleeds as now", _SMALL_NOW, start="imagenet", base=None),
    Variant(
        "small-now-losses", "the same with each slice's Dice and lighter weight where none bleeds",
        replace(_SMALL_NOW, slice_dice=BONE.slice_dice, free_weight=BONE.free_weight), start="imagenet",
        base="small-now",
    ),
    Variant("small-bone", "the same by the next recipe", _SMALL_BONE, start="imagenet", base="small-now"),
    *(
        Variant(f"small-{name}", f"the next recipe {words}", replace(_SMALL_BONE, **change), "imagenet", None, False,
                "small-bone")
        for name, words, change in _PARTS
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """A training of a variant on a fold, with a seed in place of the recipe's."""

    variant: Variant
    fold: int = 1
    seed: int = 0

    @property
    def name(self) -> str:
        """Of its folder below the ablations'."""
        return f"fold-{self.fold}/{self.variant.name}{f'-seed-{self.seed}' if self.seed else ''}"

    @property
    def trained(self) -> str:
        """The folder of its training, below the cross-validation's."""
        other = self.variant.trained
        return f"ablations/{self.name}" if other is None else other.format(fold=self.fold)

    @property
    def recipe(self) -> Recipe:
        """The variant's settings, with the seed."""
        return replace(self.variant.recipe, seed=self.seed) if self.seed else self.variant.recipe


def list_trials(variants: Sequence[Variant], folds: Sequence[int], seeds: Sequence[int]) -> list[Trial]:
    """Every variant on every fold, with every seed; a training that others go on from, or share, has one seed.

    Raises:
        SettingsError: further seeds for such a variant.
    """
    tied = [one.name for one in variants if one.trained is not None or one.start not in ("phantoms", "imagenet")]
    if tied and any(seeds):
        raise SettingsError(
            "--seed", found=f"a seed for {', '.join(tied)}", needed="seed 0: they rest on other trainings",
            remedy="name the variants with --only",
        )  # fmt: skip
    return [Trial(variant, fold, seed) for fold in folds for seed in seeds for variant in variants]


def try_trial(validation: CrossValidation, run: str, trial: Trial) -> str:
    """Train and judge one in one process of several; see `try_cell`."""
    return try_cell(validation.folder / "ablations", trial.name, run, partial(run_trial, validation, trial))


def run_trial(validation: CrossValidation, trial: Trial) -> dict[str, Any]:
    """Train and judge one; from its file where it is there. The cross-validation's own recipe is not used."""
    folder = validation.folder / "ablations" / trial.name
    stored = folder / "result.json"
    if stored.is_file():
        result: dict[str, Any] = json.loads(stored.read_text("utf-8"))
        return result | {"words": trial.variant.words, "base": trial.variant.base}
    within, sides = replace(validation, recipe=trial.recipe), validation.folds.sides(trial.fold)
    network, weights_file = _trained(validation, trial), folder / "network.onnx"
    record = network_record(within, trial.variant.name, sides["train"], None)
    export_onnx(network, trial.recipe.size, record, weights_file)
    predictor = Predictor(validation.studies, weights_file, validation.report, mirrored=trial.variant.mirrored)
    judged = [
        (number, judge_patient(predictor.predict(number), _true_voxel_ml(validation, number)))
        for number in predictor.count(sides["validation"], f"judging {trial.name}")
    ]
    result = {
        "name": trial.variant.name, "words": trial.variant.words, "base": trial.variant.base, "fold": trial.fold,
        "seed": trial.seed, "steps": _steps(trial.variant),
        "patients": [{"patient": number} | one for number, one in judged],
        "paintings": judge_paintings(
            validation.source.read_patients(trial.recipe).of(sides["validation"]), trial.recipe, network, THRESHOLD
        ),
    }  # fmt: skip
    write_json(stored, result)
    return result


def _true_voxel_ml(validation: CrossValidation, number: int) -> float:
    """Of a patient's voxel; by the guess where the size is not known."""
    pixel_mm = validation.data.pixel_mm(number, PIXELS)
    return VOXEL_ML if pixel_mm is None else pixel_mm[0] * pixel_mm[1] * SLICE_MM / 1000


def _trained(validation: CrossValidation, trial: Trial) -> LiteUNet:
    """The network after its last step; from its file where it is there."""
    folder, recipe = validation.folder / trial.trained, trial.recipe
    if (folder / "network.safetensors").is_file():
        return load_recipe_network(folder / "network.safetensors", recipe)
    train, start = validation.folds.sides(trial.fold)["train"], _start(validation, trial)
    with train_alone(folder):
        return train_recipe(
            recipe, lambda: validation.source.pools(recipe, train), validation.machine, folder, start,
            report_steps(validation.report, f"training {trial.name}", recipe.steps),
        )  # fmt: skip


def _steps(variant: Variant) -> int:
    """All on patients, those of the training that it begins with among them."""
    before = [one for one in VARIANTS if one.name == variant.start]
    return variant.recipe.steps + sum(map(_steps, before))


def _start(validation: CrossValidation, trial: Trial) -> dict[str, Tensor] | None:
    """The weights to begin with; None: ImageNet's encoder."""
    variant = trial.variant
    if variant.start == "imagenet":
        return None
    if variant.start == "phantoms":
        return _for_neighbours(train_pretrained(validation), variant.recipe.neighbours)
    before = next(one for one in VARIANTS if one.name == variant.start)
    return dict(_trained(validation, replace(trial, variant=before)).state_dict())


def _for_neighbours(weights: Mapping[str, Tensor], neighbours: int) -> dict[str, Tensor]:
    """Three channels' weights for a network of fewer or more: the answer is the same where a slice is its own
    neighbour, or the further ones are not looked at."""
    start, stem = dict(weights), weights["stem.weight"]
    if neighbours == 0:
        start["stem.weight"] = stem.sum(1, keepdim=True)
    else:
        start["stem.weight"] = functional.pad(stem, (0, 0, 0, 0, neighbours - 1, neighbours - 1))
    return start


def judge_patient(prediction: StudyPrediction, voxel_ml: float) -> dict[str, Any]:
    """What is counted of one validation patient, without any calibration, at `THRESHOLD`.

    Returns:
        `dice`: of the volume, nothing marked 0; None where nothing bleeds. `lesion` and `extent`: of each slice,
        whether it bleeds, and the expected share of the view. `below_1_ml` and `1_ml_or_more`: lesions of ten voxels or
        more that are touched, of how many. `marked`: slices with any marked pixel, of how many; None where the patient
        bleeds.
    """
    segmented, reference = prediction.segmented, prediction.reference
    marked, bleeds = np.asarray(segmented.probability >= THRESHOLD), bool(reference.any())
    lesions, _ = compare(label_lesions(reference), label_lesions(marked))
    counted, small = lesions.voxels >= SMALLEST_LESION_VOXELS, lesions.voxels * voxel_ml < 1
    touched = {
        name: [int((lesions.touched & chosen).sum()), int(chosen.sum())]
        for name, chosen in (("below_1_ml", counted & small), ("1_ml_or_more", counted & ~small))
    }
    dice = 2 * (marked & reference).sum() / (marked.sum() + reference.sum()) if bleeds else None
    return {
        "dice": None if dice is None else float(dice),
        "lesion": reference.any(axis=(1, 2)).tolist(), "extent": slice_evidence(segmented)[:, 2].tolist(),
        **touched, "marked": None if bleeds else [int(marked.any(axis=(1, 2)).sum()), len(marked)],
    }  # fmt: skip


def summarise(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each variant: its trainings on all folds and with all seeds together.

    A patient of several trainings counts once, by the mean. `painted_dice`: mean over new paintings in validation
    patients' heads, None without any. `difference`: of Dice to the base, over the trainings (fold and seed) that both
    have, with the bootstrap interval over bleeding patients; None where the base was not trained.
    """
    by_name: dict[str, dict[tuple[int, int], Mapping[str, Any]]] = {}
    for one in results:
        by_name.setdefault(one["name"], {})[one["fold"], one["seed"]] = one
    return [_summarise(trainings, by_name) for trainings in by_name.values()]


def _summarise(trainings: _Trainings, by_name: Mapping[str, _Trainings]) -> dict[str, Any]:
    first = next(iter(trainings.values()))
    patients = [one for training in trainings.values() for one in training["patients"]]
    dices = _mean_by_patient(patients)
    aucs = [_slice_auc(one["patients"]) for one in trainings.values()]
    row: dict[str, Any] = {
        "name": first["name"], "words": first["words"], "steps": first["steps"], "trainings": len(trainings),
        "bleeding": len(dices), "volume_dice": float(np.mean(list(dices.values()))),
        "slice_auc": float(np.mean(aucs)),
        # by which docs/protocol.md keeps a part
        "mean": float(np.mean([np.mean(list(dices.values())), np.mean(aucs)])),
        "below_1_ml": _share(one["below_1_ml"] for one in patients),
        "1_ml_or_more": _share(one["1_ml_or_more"] for one in patients),
        "marked": _share(one["marked"] for one in patients if one["marked"] is not None),
        "painted_dice": _mean(one["dice"] for training in trainings.values() for one in training.get("paintings", ())),
        "difference": None,
    }  # fmt: skip
    base = by_name.get(first["base"], {})
    if both := sorted(trainings.keys() & base.keys()):
        ours, theirs = (
            _mean_by_patient([one for key in both for one in of[key]["patients"]]) for of in (trainings, base)
        )
        differences = np.array([ours[number] - theirs[number] for number in ours])
        (ends,) = patient_bootstrap(np.arange(len(differences)), lambda rows, _: [float(differences[rows].mean())])
        row["difference"] = [float(differences.mean()), *map(float, ends)]
    return row


def _mean_by_patient(patients: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Dice of bleeding patients by number, the mean over trainings."""
    found: dict[int, list[float]] = {}
    for one in patients:
        if one["dice"] is not None:
            found.setdefault(one["patient"], []).append(one["dice"])
    return {number: float(np.mean(values)) for number, values in found.items()}


def _slice_auc(patients: Sequence[Mapping[str, Any]]) -> float:
    """Of one training's validation slices, by the expected share of the view."""
    lesion, extent = (np.concatenate([one[name] for one in patients]) for name in ("lesion", "extent"))
    auc = roc_auc(np.asarray(lesion, np.bool_), extent)
    assert auc is not None  # the validation side holds both kinds
    return auc


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None


def _share(counts: Iterable[Sequence[int]]) -> float | None:
    """Of `[reached, of]`, all together; None of none."""
    reached, of = np.sum(list(counts), axis=0)
    return float(reached / of) if of else None
