"""The recipes of the protocol's cross-validation, each with its rules for thresholds and how it was chosen."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from bleedmap.arrays import ignore
from bleedmap.datasets.ct_ich import CtIch
from bleedmap.datasets.folds import ProtocolFolds
from bleedmap.folds.choices import DICE_FOR_FEWER, FIRST_THRESHOLDS, PIXEL_THRESHOLDS, SMALLEST_ML
from bleedmap.training.config import (
    BALANCED,
    BONE,
    BONE_PRETRAINING,
    FINE,
    FINE_PRETRAINING,
    MIXED,
    PAINTED,
    PRETRAINING,
    RECIPE,
    Recipe,
)
from bleedmap.training.device import Machine
from bleedmap.training.steps import PoolSource, Work
from bleedmap.training.studies import CtIchStudies

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
_BONE_LEVEL = (
    "Late, by protocol 3: written when all earlier recipes' figures and pictures of test patients had been seen; fixed "
    "beforehand, no part was chosen by an ablation; each test side was predicted once."
)
_BALANCED_LEVEL = (
    "Late, by protocol 3: written when all earlier recipes' figures and pictures of test patients had been seen; its "
    "losses were chosen by short trainings on validation patients, all of whom another fold tests; fixed "
    "before its first test side was predicted, each predicted once."
)
_FINE_LEVEL = (
    "Late, by protocol 3: written when all earlier recipes' figures and pictures of test patients had been seen; its "
    "losses and its output's size were chosen by short trainings on validation patients, all of whom another fold "
    "tests; fixed before its first test side was predicted, each predicted once."
)
MIXED_METHOD = "bleedmap, painted bleeds and phantoms"
BONE_METHOD = "bleedmap, bone and true sizes"
BALANCED_METHOD = "bleedmap, balanced"
FINE_METHOD = "bleedmap, fine"


@dataclass(frozen=True)
class CrossValidation:
    """A cross-validation by a recipe: where and on what it runs.

    `level`: how the recipe was chosen, by docs/protocol.md.
    `before`: the cross-validation whose networks of the same patients these go on from; None: from the phantoms'.
    """

    data: CtIch  # CT-ICH
    folds: ProtocolFolds  # the protocol's
    folder: Path  # of all files
    machine: Machine  # device and precision of training; predictions run in OpenVINO, fp32
    recipe: Recipe = RECIPE  # of the folds
    pretraining: Recipe = PRETRAINING  # of the network that all of them begin with
    report: Work = ignore  # called as work goes on
    method: str = FIRST_METHOD  # its name in tables
    thresholds: tuple[float, ...] = FIRST_THRESHOLDS  # of pixels, that a fold chooses among
    smallest_ml: tuple[float, ...] = (0.0,)  # regions of less are not marked; a fold chooses among these
    dice_for_fewer: float = 0.0  # validation Dice that a threshold and gate with fewer false alarms may cost
    level: str = "fixed beforehand: the recipe that the program had before any ablation was run"
    study_parts: int = 1  # of what a slice's neighbours and the volume tell, that a study's probability rests on
    before: "CrossValidation | None" = None

    @cached_property
    def studies(self) -> CtIchStudies:
        """The data set's patients, as networks are shown them."""
        return CtIchStudies(self.data)

    @cached_property
    def source(self) -> PoolSource:
        """What the recipes are trained on; one for this and all before, so that nothing is read twice."""
        if self.before is not None:
            return self.before.source
        return PoolSource(self.studies, self.folder / "cache", self.report)

    @property
    def first(self) -> "CrossValidation":
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


def painted(first: CrossValidation) -> CrossValidation:
    """The first recipe's networks, trained on with `PAINTED`; files below the first's folder."""
    return replace(
        first, folder=first.folder / "painted", recipe=PAINTED, method=PAINTED_METHOD, thresholds=PIXEL_THRESHOLDS,
        smallest_ml=SMALLEST_ML, level=_PAINTED_LEVEL, before=first,
    )  # fmt: skip


def mixed(first: CrossValidation) -> CrossValidation:
    """What ships: those networks, trained on with `MIXED`; files below the first's folder."""
    before = painted(first)
    return replace(
        before, folder=first.folder / "mixed", recipe=MIXED, method=MIXED_METHOD, dice_for_fewer=DICE_FOR_FEWER,
        level=_MIXED_LEVEL, before=before,
    )  # fmt: skip


def bone(first: CrossValidation) -> CrossValidation:
    """The next recipe, from phantoms of its own on; files below the first's folder."""
    return replace(
        first, folder=first.folder / "bone", recipe=BONE, pretraining=BONE_PRETRAINING, method=BONE_METHOD,
        thresholds=PIXEL_THRESHOLDS, smallest_ml=SMALLEST_ML, dice_for_fewer=DICE_FOR_FEWER, level=_BONE_LEVEL,
        study_parts=3,
    )  # fmt: skip


def balanced(first: CrossValidation) -> CrossValidation:
    """What ships' slices in one run, with other losses, from the first recipe's phantoms; files below its folder."""
    return replace(
        first, folder=first.folder / "balanced", recipe=BALANCED, method=BALANCED_METHOD, thresholds=PIXEL_THRESHOLDS,
        smallest_ml=SMALLEST_ML, dice_for_fewer=DICE_FOR_FEWER, level=_BALANCED_LEVEL,
    )  # fmt: skip


def fine(first: CrossValidation) -> CrossValidation:
    """The same with an output at the input's own size, from phantoms of its own on; files below the first's folder."""
    return replace(
        balanced(first), folder=first.folder / "fine", recipe=FINE, pretraining=FINE_PRETRAINING, method=FINE_METHOD,
        level=_FINE_LEVEL,
    )  # fmt: skip
