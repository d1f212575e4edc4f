"""Which way of scoring turns our own trained networks into pairs like those of the thesis' Table 1."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.metrics import overlap
from bleedmap.page.section import DOES_NOT_APPLY, Row, Section, tabulate
from bleedmap_thesis.analyses.conventions import COMPARISON_CONVENTION, ROUNDING, TABLE_1, compute_iou
from bleedmap_thesis.plan import UNET, Scale
from bleedmap_thesis.record import CellResult, Evaluation

BATCH = 32  # of the thesis' best cell
REACH = (0.65, 0.89)  # Table 1's lowest and highest Dice
_LEFT_OUT = (np.nan, np.nan)  # (Dice, IoU)
CONVENTION = (
    "Test sides of the grid by slice, at every kept epoch. Place: where a pair's IoU lies between the least that its "
    "Dice allows (0: all slices score alike) and the most (1: each slice scores 0 or 1); above 1 where the background "
    "lifts it. This compares the shape of the relation between Dice and IoU; it does not prove how the thesis scored, "
    f"for several conventions can reach the same place. Beside Table 1 this report sets: {COMPARISON_CONVENTION}."
)


@dataclass(frozen=True, eq=False)
class Masses:
    """What a score is made of: `columns` (4, n) has a column a slice.

    Its rows: pixels (or probability, summed) over the reference; the same over the slice; pixels of the reference;
    pixels of the slice.
    """

    columns: DoubleArray
    batch: int = BATCH  # slices that a batch pools

    def pool(self, size: int) -> "Masses":
        """Pool every `size` slices in a row, and the rest as the last."""
        starts = np.arange(0, self.columns.shape[1], max(1, size))
        return Masses(np.add.reduceat(self.columns, starts, axis=1), self.batch)

    def keep_lesions(self) -> "Masses":
        """Leave out slices without a lesion."""
        return Masses(self.columns[:, self.columns[2] > 0], self.batch)

    def score(
        self, group: "Callable[[Masses], Masses] | None" = None, empty: tuple[float, float] = _LEFT_OUT, *,
        background: bool = False,
    ) -> tuple[float, float]:  # fmt: skip
        """Average Dice and IoU over what `group` makes of the slices; NaN where nothing is scored.

        `empty` is the (Dice, IoU) of empty against empty, NaN to leave it out; `background` averages its IoU in.
        """
        hit, predicted, reference, pixels = (group(self) if group else self).columns
        both, union = predicted + reference, predicted + reference - hit
        with np.errstate(invalid="ignore"):
            dice = np.where(both > 0, 2 * hit / both, empty[0])
            iou = np.where(union > 0, hit / union, empty[1])
        if background:
            iou = (iou + (pixels - union) / (pixels - hit)) / 2
        there = ~np.isnan(dice)
        return (float(dice[there].mean()), float(iou[there].mean())) if there.any() else _LEFT_OUT


Score = Callable[[Masses], tuple[float, float]]


def _list_conventions() -> dict[str, tuple[bool, Score]]:
    """List name -> whether it takes probabilities, and how it scores. Soft predictions are never quite empty."""
    found: dict[str, tuple[bool, Score]] = {}
    groups: dict[str, Callable[[Masses], Masses]] = {
        "pooled": lambda of: of.pool(of.columns.shape[1]), "lesion slices": Masses.keep_lesions,
        "batches": lambda of: of.pool(of.batch),
    }  # fmt: skip
    empties = {"1": (1.0, 1.0), "0": (0.0, 0.0), "left out": _LEFT_OUT, "Dice 1 and IoU 0": (1.0, 0.0)}
    for background, end in ((False, "lesion"), (True, "mean")):
        score = partial(Masses.score, background=background)
        for soft, prefix in ((False, ""), (True, "soft, ")):
            for name, group in groups.items():
                found[f"{prefix}{name}, {end}"] = soft, partial(score, group=group)
        for name, empty in empties.items():
            found[f"all slices, empty {name}, {end}"] = False, partial(score, empty=empty)
        found[f"soft, all slices, {end}"] = True, partial(score, empty=(0.0, 0.0))
    return found


CONVENTIONS = _list_conventions()


def compute_masses(of: Evaluation, soft: bool, batch: int = BATCH) -> Masses | None:
    """Compute an evaluation's masses; None where it has no pixels, or no probabilities though `soft`."""
    counts = of.counts
    if counts is None or (soft and (of.soft_hit is None or of.soft_sum is None)):
        return None
    hit, predicted = (of.soft_hit, of.soft_sum) if soft else (counts.true_positive, counts.predicted)
    pixels = counts.reference + counts.false_positive + counts.true_negative
    return Masses(np.array([hit, predicted, counts.reference, pixels], np.float64), batch)


def score_as_compared(evaluation: Evaluation) -> dict[str, float | None]:
    """Score Dice, IoU and accuracy under `COMPARISON_CONVENTION`, as they stand beside Table 1's.

    Returns:
        'dice', 'iou' (of the lesion), 'mean_iou' (with the background, mean over lesion slices: the formula that the
        thesis' text describes), 'accuracy' in 0 to 1; None where there is no lesion slice or nothing is
        marked by pixels.
    """
    of = compute_masses(evaluation, soft=False)
    if of is None:
        return dict.fromkeys(("dice", "iou", "mean_iou", "accuracy"))
    dice, iou = of.score(Masses.keep_lesions)
    mean_iou = of.score(Masses.keep_lesions, background=True)[1]
    scores = {"dice": dice, "iou": iou, "mean_iou": mean_iou, "accuracy": _score_accuracy(evaluation)}
    return {name: None if np.isnan(value) else value for name, value in scores.items()}


def place(dice: float, iou: float) -> float:
    """Place IoU between its least, f(Dice) (all slices alike), 0, and its most, Dice (each slice 0 or 1), 1."""
    least = compute_iou(dice)
    return (iou - least) / (dice - least) if 0 < dice < 1 else np.nan


def place_table_1() -> tuple[float, float]:
    """Find the lowest and highest place that Table 1's pairs can have, rounding granted."""
    ends = (-ROUNDING, ROUNDING)
    found = [place(row.dice + a, row.mean_iou + b) for row in TABLE_1 for a in ends for b in ends]
    return min(found), max(found)


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """Hold our grid's pairs under every convention against Table 1's curve IoU(Dice)."""
    wanted = (scale.name, "grid", UNET, "slice")
    cells = [one for one in results if (one.cell.scale, one.cell.part, one.cell.method, one.cell.kind) == wanted]
    batches = [BATCH if one.cell.config is None else one.cell.config.batch_size * scale.batch_over for one in cells]
    evaluations = [(kept, batch) for one, batch in zip(cells, batches, strict=True) for kept in one.evaluations]
    if not evaluations:
        return None
    low, high = place_table_1()
    table = tabulate(
        "trained-conventions", "Our own networks under every convention, beside the relation of Table 1",
        f"{len(cells)} runs, {len(evaluations)} kept epochs, test sides of "
        f"{' or '.join(map(str, sorted({len(one.last.ids) for one in cells})))} slices. Table 1's pairs have places of "
        f"{low:.2f} to {high:.2f}. In reach: epochs whose Dice lies within Table 1's, {REACH[0]} to {REACH[1]}; there "
        "the distance from the line through Table 1's pairs. Soft: sums of probability. Batches: pixels pooled over as "
        "many test slices, in order, as the cell's batch in the thesis; those without lesion or mark left out.",
        [_judge(name, soft, score, evaluations) for name, (soft, score) in CONVENTIONS.items()],
    )  # fmt: skip
    asked = "Which way of scoring gives pairs like the thesis', on networks that we trained?"
    return Section("trained-conventions", asked, (CONVENTION,), (table,), data={"table_1_place": [low, high]})


def _judge(name: str, soft: bool, score: Score, evaluations: Sequence[tuple[Evaluation, int]]) -> Row:
    scored = [(one, score(of)) for one, batch in evaluations if (of := compute_masses(one, soft, batch)) is not None]
    final = max(one.epoch for one, _ in evaluations)
    last = [pair for one, pair in scored if one.epoch == final]
    row: dict[str, Any] = {
        "convention": name, "Dice, last epochs": np.mean([dice for dice, _ in last]) if last else None,
        "IoU, last epochs": np.mean([iou for _, iou in last]) if last else None,
    } | dict.fromkeys((
        "median place", "lowest place", "highest place", "share of epochs whose place is Table 1's", "in reach",
        "mean IoU distance", "largest IoU distance", "accuracy distance, points",
    ), DOES_NOT_APPLY)  # fmt: skip
    pairs = np.array([(*pair, _score_accuracy(one)) for one, pair in scored if 0 < pair[0] < 1]).reshape(-1, 3)
    if not len(pairs):
        return row | {"in reach": 0}
    places = np.array([place(dice, iou) for dice, iou, _ in pairs])
    low, high = place_table_1()
    dice, iou, accuracy = pairs[(pairs[:, 0] >= REACH[0]) & (pairs[:, 0] <= REACH[1])].T
    row |= {
        "median place": np.median(places), "lowest place": places.min(), "highest place": places.max(),
        "share of epochs whose place is Table 1's": ((places >= low) & (places <= high)).mean(), "in reach": len(dice),
    }  # fmt: skip
    if len(dice):
        away, off = np.abs(iou - _interpolate(dice, "mean_iou")), 100 * (accuracy - _interpolate(dice, "accuracy"))
        row |= {
            "mean IoU distance": away.mean(), "largest IoU distance": away.max(),
            "accuracy distance, points": off.mean(),
        }  # fmt: skip
    return row


def _score_accuracy(one: Evaluation) -> float:
    assert one.counts is not None
    return float(overlap.accuracy(one.counts.pooled())[0])


def _interpolate(dice: AnyArray, name: str) -> DoubleArray:
    """Interpolate Table 1's IoU or accuracy at a Dice: straight lines between the means of pairs of equal Dice."""
    known = sorted({row.dice for row in TABLE_1})
    values = [np.mean([getattr(row, name) for row in TABLE_1 if row.dice == one]) for one in known]
    return np.asarray(np.interp(dice, known, values), np.float64)
