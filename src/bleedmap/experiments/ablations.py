"""What each part of the recipe is worth: trainings without it on fold 1's training side, judged on its validation side.

Shorter than the recipe's own training, so that all of them can be run; the whole recipe stands among them at the same
length. No test patient of fold 1 is seen.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from bleedmap.experiments.fold_evidence import Said
from bleedmap.experiments.folds import Experiment, Predictor, network_record, pretrained
from bleedmap.inference.certainty import slice_evidence
from bleedmap.io.files import write_json
from bleedmap.metrics.detection import roc_auc
from bleedmap.models.export import export_onnx
from bleedmap.training.fit import fit
from bleedmap.training.recipe import RECIPE, Recipe
from bleedmap.training.sampling import Pools

FOLD = 1
STEPS = 600
THRESHOLD = 0.5
_SHORT = replace(RECIPE, steps=STEPS)


@dataclass(frozen=True)
class Variant:
    """One training.

    Attributes:
        name: of its folder.
        words: what it leaves out.
        recipe: its settings.
        phantoms_first: whether it begins with the network that phantoms taught; else with ImageNet's encoder.
        mirrored: whether slice and mirror image are both asked, and their answers meaned.
    """

    name: str
    words: str
    recipe: Recipe = _SHORT
    phantoms_first: bool = True
    mirrored: bool = False


VARIANTS = (
    Variant("recipe", "the whole recipe"),
    Variant(
        "no-phantoms", "no phantoms, neither before nor among the patients",
        replace(_SHORT, phantom=0, lesion_free=_SHORT.lesion_free + _SHORT.phantom), phantoms_first=False,
    ),
    Variant("no-neighbours", "the slice alone, without its neighbours", replace(_SHORT, neighbours=0)),
    Variant("no-intensity", "no changes of intensity", replace(_SHORT, intensity=0.0)),
    Variant("mirrored", "the whole recipe, slice and mirror image asked together", mirrored=True),
)  # fmt: skip


def run_variant(experiment: Experiment, variant: Variant) -> dict[str, Any]:
    """Train and judge one; from its file where it is there.

    Args:
        experiment: data, folds, folder and machine; its own recipe is not used.
        variant: of `VARIANTS`.
    """
    folder = experiment.folder / "ablations" / variant.name
    stored = folder / "result.json"
    if stored.is_file():
        result: dict[str, Any] = json.loads(stored.read_text("utf-8"))
        return result
    trained = folder if not variant.mirrored else experiment.folder / "ablations" / "recipe"
    within = replace(experiment, recipe=variant.recipe)
    sides = experiment.folds.sides(FOLD)
    phantoms = within.phantoms if variant.recipe.phantom else None
    start = _start(pretrained(experiment), variant) if variant.phantoms_first else None
    pools = Pools(within.patients.of(sides["train"]), phantoms)
    steps = variant.recipe.steps
    network = fit(
        variant.recipe, pools, experiment.machine, trained, start,
        lambda step, losses: experiment.report(f"training {variant.name}", step, steps, f"dice {losses['dice']:.3f}"),
    )  # fmt: skip
    weights_file = trained / "network.onnx"
    export_onnx(network, variant.recipe.size, network_record(within, variant.name, sides["train"], None), weights_file)
    predictor = Predictor(within, weights_file, mirrored=variant.mirrored)
    said = [predictor.said(one) for one in predictor.told(sides["validation"], f"judging {variant.name}")]
    result = judged(said) | {"name": variant.name, "words": variant.words, "steps": steps}
    write_json(stored, result)
    return result


def _start(weights: Mapping[str, Tensor], variant: Variant) -> dict[str, Tensor]:
    """Three channels' weights for a network of one: their sum answers the same to a slice that is its own neighbour."""
    start = dict(weights)
    if variant.recipe.neighbours == 0:
        start["stem.weight"] = start["stem.weight"].sum(1, keepdim=True)
    return start


def judged(validation: list[Said]) -> dict[str, Any]:
    """The protocol's two measures of a recipe's part, without any calibration: Dice of volumes at `THRESHOLD`, mean
    over bleeding patients (nothing marked: 0), and slice ROC AUC by the expected share of the view."""
    dices = []
    for one in validation:
        if one.reference.any():
            marked = one.segmented.probability >= THRESHOLD
            dices.append(float(2 * (marked & one.reference).sum() / (marked.sum() + one.reference.sum())))
    lesion = np.concatenate([one.reference.any(axis=(1, 2)) for one in validation])
    evidence = np.concatenate([slice_evidence(one.segmented) for one in validation])
    by_extent, by_presence = (roc_auc(lesion, evidence[:, column]) for column in (2, 0))
    assert by_extent is not None  # the validation side holds both kinds
    dice = float(np.mean(dices))
    return {
        "volume_dice": dice, "slice_auc": by_extent, "slice_auc_presence": by_presence,
        "mean": (dice + by_extent) / 2, "patients": len(validation), "bleeding": len(dices), "slices": len(lesion),
    }  # fmt: skip
