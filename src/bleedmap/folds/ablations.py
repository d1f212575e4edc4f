"""What each part of the recipe is worth: trainings without it on fold 1's training side, judged on its validation side.

Most are shorter than the recipe's own training, so that all of them can be run; the whole recipe stands among them at
that length and at its own. No test patient of fold 1 is seen.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional

from bleedmap.archive.workers import try_cell
from bleedmap.folds.evidence import StudyPrediction
from bleedmap.folds.recipes import CrossValidation
from bleedmap.folds.run import Predictor, network_record, train_alone, train_pretrained
from bleedmap.inference.certainty import slice_evidence
from bleedmap.io.files import write_json
from bleedmap.metrics.roc import roc_auc
from bleedmap.models.export import export_onnx
from bleedmap.models.lite_unet import LiteUNet
from bleedmap.training.config import BONE, MIXED, PAINTED, RECIPE, Recipe
from bleedmap.training.steps import load_recipe_network, report_steps, train_recipe

FOLD = 1
STEPS = 600
THRESHOLD = 0.5
_SHORT = replace(RECIPE, steps=STEPS)
# Of the next recipe: smaller and without phantoms, so that some can be trained on a busy CPU.
_SMALL: dict[str, Any] = {
    "size": 160, "steps": STEPS, "lesion": 3, "lesion_free": 3, "phantom": 0, "painted": 2, "paintings": 12,
}  # fmt: skip
_SMALL_NOW, _SMALL_BONE = replace(RECIPE, **_SMALL), replace(BONE, **_SMALL)


@dataclass(frozen=True)
class Variant:
    """One training.

    `start`: the training that it begins with: 'phantoms', 'imagenet' (the encoder alone) or another variant.
    """

    name: str  # of its folder
    words: str  # what it leaves out or adds
    recipe: Recipe = _SHORT  # its settings
    start: str = "phantoms"
    trained: str | None = None  # the folder of its training below the cross-validation's; None: its own
    mirrored: bool = False  # whether slice and mirror image are both asked, and their answers meaned


VARIANTS = (
    Variant("recipe", "the whole recipe"),
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
        "mirrored", "the whole recipe, slice and mirror image asked together", trained="ablations/recipe", mirrored=True
    ),
    Variant("long", "the whole recipe, as long as the folds", RECIPE, trained=f"fold-{FOLD}"),
    Variant(
        "long-larger", "after 'as long as the folds', further steps at 320×320",
        replace(RECIPE, size=320, steps=800, learning_rate=5e-4, warm_up=0.1), start="long",
    ),
    Variant(
        "long-288", "after 'as long as the folds', further steps at 288×288",
        replace(PAINTED, lesion=RECIPE.lesion, phantom=RECIPE.phantom, painted=0, paintings=0), start="long",
    ),
    Variant(
        "painted", "the same steps with bleeds painted into bleed-free patients", PAINTED, start="long",
        trained=f"painted/fold-{FOLD}",
    ),
    Variant(
        "mixed-alone", "after that, more paintings, and phantoms again", replace(MIXED, start_share=0.0),
        start="painted",
    ),
    Variant(
        "mixed", "the mean of the last two networks' weights: what ships", MIXED, start="painted",
        trained=f"mixed/fold-{FOLD}",
    ),
    Variant("small-now", "160×160, no phantoms, painted bleeds as now", _SMALL_NOW, start="imagenet"),
    Variant("small-bone", "the same by the next recipe", _SMALL_BONE, start="imagenet"),
    Variant(
        "small-no-bone", "the next recipe without the bone channel",
        replace(_SMALL_BONE, bone=False, boneless=0.0), start="imagenet",
    ),
    Variant(
        "small-no-mm", "the next recipe without true sizes, neither of the frame nor of painted bleeds",
        replace(_SMALL_BONE, frame_mm=0.0), start="imagenet",
    ),
    Variant(
        "small-no-mirror", "the next recipe without the mirror image", replace(_SMALL_BONE, mirrored=False),
        start="imagenet",
    ),
    Variant("small-no-decoys", "the next recipe without decoys", replace(_SMALL_BONE, decoys=0.0), start="imagenet"),
    Variant(
        "small-old-losses", "the next recipe with the batch's Dice and even weights",
        replace(_SMALL_BONE, slice_dice=0.0, free_weight=1.0), start="imagenet",
    ),
)  # fmt: skip


def try_variant(validation: CrossValidation, run: str, variant: Variant) -> str:
    """Train and judge one in one process of several; see `try_cell`."""
    do = partial(run_variant, validation, variant)
    return try_cell(validation.folder / "ablations", variant.name, run, do)


def run_variant(validation: CrossValidation, variant: Variant) -> dict[str, Any]:
    """Train and judge one; from its file where it is there. The cross-validation's own recipe is not used."""
    folder = validation.folder / "ablations" / variant.name
    stored = folder / "result.json"
    if stored.is_file():
        result: dict[str, Any] = json.loads(stored.read_text("utf-8"))
        return result | {"words": variant.words}
    within, sides = replace(validation, recipe=variant.recipe), validation.folds.sides(FOLD)
    network, weights_file = _trained(validation, variant), folder / "network.onnx"
    export_onnx(network, variant.recipe.size, network_record(within, variant.name, sides["train"], None), weights_file)
    predictor = Predictor(validation.studies, weights_file, validation.report, mirrored=variant.mirrored)
    predictions = predictor.predict_all(sides["validation"], f"judging {variant.name}")
    result = judge(predictions) | {"name": variant.name, "words": variant.words, "steps": _steps(variant)}
    write_json(stored, result)
    return result


def _trained(validation: CrossValidation, variant: Variant) -> LiteUNet:
    """The network after its last step; from its file where it is there."""
    folder = validation.folder / (variant.trained or f"ablations/{variant.name}")
    if (folder / "network.safetensors").is_file():
        return load_recipe_network(folder / "network.safetensors", variant.recipe)
    train, start = validation.folds.sides(FOLD)["train"], _start(validation, variant)
    with train_alone(folder):
        return train_recipe(
            variant.recipe, lambda: validation.source.pools(variant.recipe, train), validation.machine, folder, start,
            report_steps(validation.report, f"training {variant.name}", variant.recipe.steps),
        )  # fmt: skip


def _steps(variant: Variant) -> int:
    """All on patients, those of the training that it begins with among them."""
    before = [one for one in VARIANTS if one.name == variant.start]
    return variant.recipe.steps + sum(map(_steps, before))


def _start(validation: CrossValidation, variant: Variant) -> dict[str, Tensor] | None:
    """The weights to begin with; None: ImageNet's encoder."""
    if variant.start == "imagenet":
        return None
    if variant.start == "phantoms":
        return _for_neighbours(train_pretrained(validation), variant.recipe.neighbours)
    before = next(one for one in VARIANTS if one.name == variant.start)
    return dict(_trained(validation, before).state_dict())


def _for_neighbours(weights: Mapping[str, Tensor], neighbours: int) -> dict[str, Tensor]:
    """Three channels' weights for a network of fewer or more: the answer is the same where a slice is its own
    neighbour, or the further ones are not looked at."""
    start, stem = dict(weights), weights["stem.weight"]
    if neighbours == 0:
        start["stem.weight"] = stem.sum(1, keepdim=True)
    else:
        start["stem.weight"] = functional.pad(stem, (0, 0, 0, 0, neighbours - 1, neighbours - 1))
    return start


def judge(predictions: list[StudyPrediction]) -> dict[str, Any]:
    """The protocol's two measures of a recipe's part, without any calibration: Dice of volumes at `THRESHOLD`, mean
    over bleeding patients (nothing marked: 0), and slice ROC AUC by the expected share of the view."""
    dices = []
    for one in predictions:
        if one.reference.any():
            marked = one.segmented.probability >= THRESHOLD
            dices.append(float(2 * (marked & one.reference).sum() / (marked.sum() + one.reference.sum())))
    lesion = np.concatenate([one.reference.any(axis=(1, 2)) for one in predictions])
    evidence = np.concatenate([slice_evidence(one.segmented) for one in predictions])
    by_extent, by_presence = (roc_auc(lesion, evidence[:, column]) for column in (2, 0))
    assert by_extent is not None  # the validation side holds both kinds
    dice = float(np.mean(dices))
    return {
        "volume_dice": dice, "slice_auc": by_extent, "slice_auc_presence": by_presence,
        "mean": (dice + by_extent) / 2, "patients": len(predictions), "bleeding": len(dices), "slices": len(lesion),
    }  # fmt: skip
