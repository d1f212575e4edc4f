"""Made-up results of every cell of the thesis' experiment, for tests of what is computed and printed from them.

82 patients, 36 of whom bleed; 318 lesion slices and 318 without, as in CT-ICH. A lesion slice's Dice is a sum of known
effects (method, kind of split, epochs, patient, slice), so that an analysis can be held against the truth.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from zlib import crc32

import numpy as np

from bleedmap.datasets.splits import Kind
from bleedmap.metrics.overlap import Counts
from bleedmap_thesis.plan import FOLDS, PARTS, SCALES, UNET, Cell, Part, Scale, cells
from bleedmap_thesis.record import CellResult, Evaluation

GAP = 0.35  # of lesion-slice Dice, by slice less by patient, before it is cut off at 0 and 1
CLASSIFIERS = ("sift", "kaze", "cnn-13", "alexnet", "resnet-50")
METHOD = {"model-1": -0.03, "model-2": 0.0, "original": 0.01, "fuzzy-c-means": -0.45, "copy-nearest": -0.15}
SEPARATION = {"sift": 0.8, "kaze": 0.7, "cnn-13": 1.2, "alexnet": 1.0, "resnet-50": 1.4}
BLEEDING, PATIENTS, LESION_SLICES = 36, 82, 318


@dataclass(frozen=True)
class Slices:
    """The balanced slices; a row a slice, lesion slices first."""

    ids: tuple[str, ...]
    lesion_share: np.ndarray  # of the slice's pixels, 0 where lesion-free
    patient_effect: np.ndarray
    slice_effect: np.ndarray

    @property
    def patients(self) -> np.ndarray:
        return np.array([name.split("/")[0] for name in self.ids])


@cache
def balanced(seed: int) -> Slices:
    """Lesion slices are the same for every seed, lesion-free ones are drawn anew."""
    random = np.random.default_rng(7)
    names = np.array([f"{49 + index:03d}" for index in range(PATIENTS)])
    bleeding = random.permutation(names)[:BLEEDING]
    weights = random.gamma(1.5, size=BLEEDING)
    more = random.multinomial(LESION_SLICES - BLEEDING, weights / weights.sum())
    lesion = [f"{who}/{1 + index}" for who, count in zip(bleeding, more + 1, strict=True) for index in range(count)]
    effects = dict(zip(names, random.normal(0, 0.06, PATIENTS), strict=True))
    share = np.exp(random.normal(np.log(0.008), 0.8, LESION_SLICES)).clip(0.002, 0.06)
    own = random.normal(0, 0.05, LESION_SLICES)
    pool = [f"{who}/{100 + index}" for who in names for index in range(25)]
    free = np.random.default_rng([7, seed]).choice(pool, LESION_SLICES, replace=False)
    ids = (*lesion, *(str(name) for name in free))
    by_patient = np.array([effects[name.split("/")[0]] for name in ids])
    return Slices(ids, np.r_[share, np.zeros(LESION_SLICES)], by_patient, np.r_[own, np.zeros(LESION_SLICES)])


def sides(seed: int, kind: Kind, folds: int) -> np.ndarray:
    """(636,) the fold that tests each slice, from 1."""
    slices, random = balanced(seed), np.random.default_rng([seed, folds, kind == "patient"])
    units = slices.patients if kind == "patient" else np.array(slices.ids)
    bleeds = dict.fromkeys(units, False) | dict.fromkeys(units[slices.lesion_share > 0], True)
    fold_of = {}
    for group in (True, False):
        own = random.permutation(sorted(name for name, bleeding in bleeds.items() if bleeding == group))
        fold_of |= {name: 1 + index % folds for index, name in enumerate(own)}
    return np.array([fold_of[name] for name in units])


def synthetic_cells(
    scale: Scale = SCALES["small"], seeds: int = 1, *, parts: Sequence[Part] = PARTS, gap: float = GAP
) -> list[CellResult]:
    """A result for each of `plan.cells`; the same arguments give the same results."""
    return [synthetic_result(cell, gap) for cell in cells(scale, tuple(parts), seeds)]


def synthetic_result(cell: Cell, gap: float = GAP) -> CellResult:
    """One cell's result."""
    slices, folds = balanced(cell.seed), 10 if cell.fold is None else FOLDS
    chosen = np.flatnonzero(sides(cell.seed, cell.kind, folds) == (cell.fold or 1))
    random = np.random.default_rng([crc32(cell.key.encode()), cell.seed])
    config = cell.config
    epochs = [0] if config is None else list(range(config.keep_every, config.epochs + 1, config.keep_every))
    evaluations = tuple(_evaluation(cell, epoch, slices, chosen, random, gap) for epoch in epochs)
    rest = None if config is None else _rest(cell, epochs[-1], slices, chosen, random)
    test = _side(slices, chosen)
    split = {
        "kind": cell.kind, "seed": cell.seed, "fold": cell.fold, "folds": None if cell.fold is None else FOLDS,
        "train": {"slices": 445, "lesion_slices": 222, "patients": 59, "lesion_patients": 25},
        "validation": {"slices": 64, "lesion_slices": 32, "patients": 8, "lesion_patients": 4},
        "test": test, "test_patients_trained_on": 0 if cell.kind == "patient" else test["patients"],
        "data_sha256": "0" * 64, "release": "1.0.0",
    }  # fmt: skip
    made = {"code": "synthetic", "device": "cpu", "bf16": False, "threads": 2, "torch": "2.9", "training_s": 61.0,
            "seconds": 65.5}  # fmt: skip
    parameters = {"copy-nearest": None, "fuzzy-c-means": None, "sift": None, "kaze": None}.get(cell.method, 121_000)
    return CellResult(cell, split, parameters, _curves(cell, gap), evaluations, rest, made)


def true_dice(cell: Cell, epoch: int, slices: Slices, gap: float) -> np.ndarray:
    """(636,) expected Dice of each slice, were it a lesion slice of the test side."""
    config = cell.config
    name = cell.method if config is None else config.network
    progress = 0.0 if config is None else 0.35 * (np.exp(-3.0) - np.exp(-3.0 * epoch / config.epochs))
    dice = 0.85 + METHOD.get(name, 0.0) - gap * (cell.kind == "patient") + progress
    levels = dict(cell.levels)
    dice -= 0.08 * (levels.get("optimiser") == "sgd") + 0.03 * (levels.get("filters") == "half")
    return (dice + slices.patient_effect + slices.slice_effect).clip(0, 0.99)


def _evaluation(
    cell: Cell, epoch: int, slices: Slices, chosen: np.ndarray, random: np.random.Generator, gap: float
) -> Evaluation:
    ids = tuple(slices.ids[index] for index in chosen)
    lesion = slices.lesion_share[chosen] > 0
    if cell.method in CLASSIFIERS:
        separation = SEPARATION[cell.method] * (1.0 if cell.kind == "patient" else 1.6)
        score = 1 / (1 + np.exp(-random.normal(np.where(lesion, separation, -separation) / 2, 1.0)))
        return Evaluation(epoch, ids, score.astype(np.float32), None)
    dice = (true_dice(cell, epoch, slices, gap)[chosen] + random.normal(0, 0.02, len(chosen))).clip(0, 1)
    pixels = SCALES[cell.scale].size ** 2
    reference = np.round(slices.lesion_share[chosen] * pixels).astype(np.int64)
    hit = np.round(reference * dice).astype(
        np.int64
    )  # as many pixels wrongly marked as missed: Dice is hit / reference
    often = 0.1 if cell.kind == "slice" else 0.3
    false = np.where(lesion, reference - hit, (random.random(len(ids)) < often) * random.integers(3, 90, len(ids)))
    counts = Counts(hit, false, reference - hit, pixels - reference - false)
    score = np.where(hit + false > 0, random.uniform(0.5, 1, len(ids)), random.uniform(0, 0.5, len(ids)))
    if cell.method != UNET:
        extra = _nearest(cell, ids, slices, random) if cell.method == "copy-nearest" else {}
        return Evaluation(epoch, ids, score.astype(np.float32), counts, extra=extra)
    return Evaluation(epoch, ids, score.astype(np.float32), counts, 0.96 * hit, 0.96 * (hit + false) + 1.5)


def _nearest(cell: Cell, ids: tuple[str, ...], slices: Slices, random: np.random.Generator) -> dict[str, list[Any]]:
    """What the baseline that copies the nearest training slice's mask says beside its counts."""
    by_slice = cell.kind == "slice"
    same = random.random(len(ids)) < (0.9 if by_slice else 0.0)
    distance = np.where(same, random.gamma(6, 0.004, len(ids)), random.gamma(20, 0.004, len(ids)))
    own = {who: [name for name in slices.ids if name.startswith(who)] for who in {name.split("/")[0] for name in ids}}
    nearest = [
        str(random.choice(own[name.split("/")[0]])) if alike else str(random.choice(slices.ids))
        for name, alike in zip(ids, same, strict=True)
    ]
    return {"nearest": nearest, "distance": [round(float(one), 6) for one in distance],
            "same_patient": [bool(one) for one in same]}  # fmt: skip


def _rest(cell: Cell, epoch: int, slices: Slices, chosen: np.ndarray, random: np.random.Generator) -> Evaluation:
    patients = sorted({slices.ids[index].split("/")[0] for index in chosen})[:16]
    ids = tuple(f"{who}/{200 + index}" for who in patients for index in range(12))
    often, zeros = 0.08 if cell.kind == "slice" else 0.22, np.zeros(len(ids), np.int64)
    background = SCALES[cell.scale].size ** 2
    false = (random.random(len(ids)) < often) * random.integers(3, 60, len(ids))
    score = np.where(false > 0, random.uniform(0.5, 1, len(ids)), random.uniform(0, 0.5, len(ids)))
    counts = Counts(zeros, false, zeros, background - false)
    return Evaluation(epoch, ids, score.astype(np.float32), counts, zeros * 1.0, false * 0.9)


def _side(slices: Slices, chosen: np.ndarray) -> dict[str, int]:
    lesion = slices.lesion_share[chosen] > 0
    patients = slices.patients[chosen]
    return {"slices": len(chosen), "lesion_slices": int(lesion.sum()), "patients": len(set(patients)),
            "lesion_patients": len(set(patients[lesion]))}  # fmt: skip


def _curves(cell: Cell, gap: float) -> list[dict[str, Any]]:
    if cell.config is None:
        return []
    network, epochs, made = cell.config.network, cell.config.epochs, []
    for epoch in range(1, epochs + 1):
        rise = 0.35 * np.exp(-3.0 * epoch / epochs)
        train = 0.9 - rise + (0.02 if network == "model-1" else 0.0)
        dice = max(0.0, 0.83 + METHOD[network] - rise - gap * (cell.kind == "patient"))
        made.append(
            {
                "epoch": epoch, "samples": 445, "loss": -train, "validation_loss": -dice + 0.02,
                "validation_soft_dice": dice - 0.02, "validation_dice": dice,
                "validation_mean_iou": (dice / (2 - dice) + 0.99) / 2, "validation_accuracy": 0.995,
            }
        )  # fmt: skip
    return made
