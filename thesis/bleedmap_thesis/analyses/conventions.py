"""What the thesis' Table 1 can mean: which ways of scoring can yield its pairs of Dice and IoU, and which cannot.

The thesis does not say whether images are pooled or averaged, what an empty reference scores, or in the end whether
the background's IoU is averaged in. Each convention below allows an interval of IoU for a given Dice (and accuracy);
a pair of Table 1 that lies outside, rounding granted, cannot have been scored that way.

For one mask IoU = f(Dice) with f(d) = d / (2 - d), soft or thresholded alike. f is convex with f(0) = 0 and
f(1) = 1, so for a mean over slices Jensen's inequality gives f(mean Dice) <= mean IoU <= mean Dice; likewise for a
mean, weighted or not, over batches whose pixels are pooled.

The thesis' text describes the mean of lesion and background IoU. Under no averaging does that give more than a few of
its own pairs (3 of 20, under one of six averagings), which is why the comparison uses the lesion's IoU alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bleedmap.page.section import Section, tabulate

ROUNDING = 0.005  # of Dice and IoU in Table 1, two decimals
ACCURACY_ROUNDING = 0.00005  # of accuracy, 99.91 %
LESION_FREE_SHARE = 0.5  # of the thesis' balanced slices
COMPARISON_CONVENTION = (
    "Dice and IoU: mean over lesion slices of the lesion's own, thresholded at 0.5, at the network's size, an "
    "unmarked lesion scoring 0, lesion-free slices left out, the background not averaged in, which unlike a mean over "
    "batches does not depend on how slices are batched; accuracy: all pixels of all slices"
)


@dataclass(frozen=True)
class TableRow:
    """One cell of Table 1: the scores are those of the test set, by slice."""

    model: int
    epochs: int
    batch: int
    mean_iou: float
    dice: float
    accuracy: float


# Erazo, USFQ, 2021, Table 1.
_PRINTED = {  # (model, batch) -> epochs -> mean IoU, Dice, accuracy
    (1, 16): {200: (0.56, 0.65, 0.9974), 400: (0.68, 0.78, 0.9977), 600: (0.72, 0.80, 0.9978),
              800: (0.76, 0.82, 0.9981), 1000: (0.79, 0.83, 0.9982)},
    (1, 32): {200: (0.57, 0.65, 0.9975), 400: (0.67, 0.77, 0.9977), 600: (0.73, 0.81, 0.9978),
              800: (0.77, 0.82, 0.9980), 1000: (0.78, 0.83, 0.9982)},
    (2, 16): {200: (0.60, 0.69, 0.9973), 400: (0.72, 0.81, 0.9982), 600: (0.80, 0.85, 0.9987),
              800: (0.84, 0.88, 0.9990), 1000: (0.84, 0.88, 0.9990)},
    (2, 32): {200: (0.61, 0.70, 0.9975), 400: (0.72, 0.81, 0.9982), 600: (0.79, 0.85, 0.9986),
              800: (0.84, 0.88, 0.9990), 1000: (0.85, 0.89, 0.9991)},
}  # fmt: skip
TABLE_1 = tuple(
    TableRow(model, epochs, batch, *scores)
    for (model, batch), column in _PRINTED.items()
    for epochs, scores in column.items()
)


def compute_iou(dice: float) -> float:
    """Compute the IoU of one mask, or of one pool of pixels, with that Dice."""
    return dice / (2 - dice)


@dataclass(frozen=True)
class Convention:
    """A way of scoring, and the IoU that it allows.

    `interval`: (Dice, accuracy) -> lowest and highest IoU; lowest above highest where that Dice cannot be.
    """

    key: str  # short name
    text: str  # in words
    interval: Callable[[float, float], tuple[float, float]]

    def allows(self, row: TableRow) -> bool:
        """Whether the row's IoU lies in the interval, for some values that round to the row's."""
        low, high = 2.0, -1.0
        for dice in (row.dice - ROUNDING, row.dice, row.dice + ROUNDING):
            for accuracy in (row.accuracy - ACCURACY_ROUNDING, row.accuracy + ACCURACY_ROUNDING):
                lowest, highest = self.interval(dice, accuracy)
                if lowest <= highest:
                    low, high = min(low, lowest), max(high, highest)
        return low - ROUNDING <= row.mean_iou <= high + ROUNDING


def _pooled_mean(dice: float, accuracy: float) -> tuple[float, float]:
    """Errors and hits follow from Dice and accuracy, per pixel: so does the background's IoU."""
    wrong = 1 - accuracy
    hit = dice * wrong / (2 * (1 - dice))
    background = (1 - hit - wrong) / (1 - hit)
    mean = (compute_iou(dice) + background) / 2
    return mean, mean


def _empty_scores_1(dice: float, accuracy: float) -> tuple[float, float]:
    """Half of the slices score 1 for both; the other half carries the rest."""
    lesion = (dice - LESION_FREE_SHARE) / (1 - LESION_FREE_SHARE)
    if not 0 <= lesion <= 1:
        return 1.0, 0.0
    return LESION_FREE_SHARE + (1 - LESION_FREE_SHARE) * compute_iou(lesion), dice


def _empty_or_not(dice: float, accuracy: float) -> tuple[float, float]:
    """A lesion-free slice scores 1 or, with any false positive, 0; the share q of them that score 1 is free."""
    lowest, half = 2.0, LESION_FREE_SHARE
    for step in range(1001):
        lesion = (dice - half * step / 1000) / (1 - half)
        if 0 <= lesion <= 1:
            lowest = min(lowest, half * step / 1000 + (1 - half) * compute_iou(lesion))
    return lowest, dice


def _empty_scores_0(dice: float, accuracy: float) -> tuple[float, float]:
    """Half of the slices score 0 for both: Dice cannot pass one half."""
    share = 1 - LESION_FREE_SHARE
    return (share * compute_iou(dice / share), dice) if dice <= share else (1.0, 0.0)


def _smooth_dice_only(dice: float, accuracy: float) -> tuple[float, float]:
    """Dice is smoothed, so that empty scores 1; IoU is not, so that empty scores 0."""
    low, high = _empty_scores_1(dice, accuracy)
    return low - LESION_FREE_SHARE, high - LESION_FREE_SHARE


def _with_background(lesion: Callable[[float, float], tuple[float, float]]) -> Callable[..., tuple[float, float]]:
    """Averaged with a background IoU of 0.95 to 1: a lesion is at most 4.2 % of a slice, and so is its miss."""

    def interval(dice: float, accuracy: float) -> tuple[float, float]:
        low, high = lesion(dice, accuracy)
        return ((low + 0.95) / 2, (high + 1) / 2) if low <= high else (low, high)

    return interval


def _by_slice(dice: float, accuracy: float) -> tuple[float, float]:
    return compute_iou(dice), dice


def _pair_conventions(key: str, text: str, lesion: Callable[[float, float], tuple[float, float]]) -> list[Convention]:
    """Make the convention for the lesion's IoU, and for its mean with the background's."""
    return [
        Convention(f"{key}, lesion", f"{text}; lesion IoU", lesion),
        Convention(f"{key}, mean", f"{text}; mean of lesion and background IoU", _with_background(lesion)),
    ]


_FREE = "mean over all slices, lesion-free ones"
CONVENTIONS = (
    Convention(
        "pooled, lesion", "all pixels pooled, soft or thresholded; lesion IoU",
        lambda dice, accuracy: (compute_iou(dice), compute_iou(dice)),
    ),
    Convention("pooled, mean", "all pixels pooled, thresholded; mean of lesion and background IoU", _pooled_mean),
    *_pair_conventions("lesion slices", "mean over lesion slices", _by_slice),
    *_pair_conventions(
        "batches",
        "pixels pooled within each batch of 16 or 32 slices, lesion-free ones too, then mean over batches", _by_slice,
    ),
    *_pair_conventions("empty 1", f"{_FREE} all empty and scoring 1", _empty_scores_1),
    *_pair_conventions(
        "empty 1 or 0", f"{_FREE} scoring 1 where empty, 0 with any false positive", _empty_or_not
    ),
    Convention("empty 0, lesion", f"{_FREE} scoring 0; lesion IoU", _empty_scores_0),
    *_pair_conventions("Dice 1, IoU 0", f"{_FREE}: Dice 1 (smoothed), IoU 0", _smooth_dice_only),
)  # fmt: skip


def judge_conventions() -> list[dict[str, Any]]:
    """Hold every convention against Table 1: how many cells it allows, and the pairs that it forbids."""
    found = []
    for one in CONVENTIONS:
        forbids = [{"dice": row.dice, "mean_iou": row.mean_iou} for row in TABLE_1 if not one.allows(row)]
        allows = len(TABLE_1) - len(forbids)
        found.append({"convention": one.text, "cells": len(TABLE_1), "allows": allows, "forbids": forbids})
    return found


def give_example(judged: dict[str, Any]) -> str:
    """Print a pair that a convention forbids; empty where it allows all."""
    return "{dice:.2f}, {mean_iou:.2f}".format(**judged["forbids"][-1]) if judged["forbids"] else ""


def section() -> Section:
    """Tabulate what the pairs that the thesis prints can mean, whatever is measured."""
    found = sorted(judge_conventions(), key=lambda one: -one["allows"])
    table = tabulate(
        "conventions", "Ways of scoring, and how many cells of Table 1 each allows",
        "From the thesis' printed figures alone, split by slice; rounding granted.",
        [
            {"scored by": one["convention"], "cells allowed": one["allows"], "cells": one["cells"],
             "a pair that it forbids (Dice, IoU)": give_example(one)}
            for one in found
        ],
    )  # fmt: skip
    words = (
        "A convention that forbids a pair of Dice and IoU is not how that pair was scored; one that allows all may be. "
        "The thesis' text describes the mean of lesion and background IoU, which allows at most a few of its own pairs "
        f"however it is averaged; for the comparison this report therefore uses: {COMPARISON_CONVENTION}."
    )
    return Section("conventions", "What the thesis' figures can mean", (words,), (table,))
