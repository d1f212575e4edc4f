"""Which way of scoring turns our own trained networks into pairs like those of the thesis' Table 1."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bleedmap.arrays import DoubleArray
from bleedmap.metrics import overlap
from bleedmap.page.section import Section, Table, Value
from bleedmap_thesis.analyses.conventions import CONVENTIONS as POSSIBLE
from bleedmap_thesis.analyses.conventions import ROUNDING, TABLE_1, iou_of
from bleedmap_thesis.analyses.paired_slices import NOT_APPLICABLE
from bleedmap_thesis.plan import UNET, Scale
from bleedmap_thesis.record import CellResult, Evaluation
from bleedmap_thesis.titles import at_scale

BATCH = 32  # of the thesis' best cell
COMPARISON_CONVENTION = (
    "Dice and IoU: mean over lesion slices of the lesion's own, thresholded at 0.5, at the network's size, an "
    "unmarked lesion scoring 0, lesion-free slices left out, the background not averaged in, which unlike a mean over "
    "batches does not hang on how slices are batched; accuracy: all pixels of all slices"
)
_CAUTION = (
    "This compares the shape of the relation between Dice and IoU; it does not prove how the thesis scored. The place "
    "alone does not single out a convention: several can reach it at some Dice, and any mean, over slices or over "
    "batches, of each one's own pair keeps within the bounds, so that leaving out only slices that are empty in both "
    "would be possible too. What each convention can give at all, for each pair of Table 1, is worked out from the "
    "pairs themselves; this table adds where trained networks lie."
)


@dataclass(frozen=True, eq=False)
class Masses:
    """What a score is made of, a row a slice: pixels, or sums of probability.

    Attributes:
        hit: (n,) over the reference.
        predicted: (n,) over the slice.
        reference: (n,) pixels of the reference.
        pixels: (n,) of the slice.
        batch: slices that a batch pools.
    """

    hit: DoubleArray
    predicted: DoubleArray
    reference: DoubleArray
    pixels: DoubleArray
    batch: int = BATCH

    def pooled(self) -> "Masses":
        """All slices as one."""
        return self.batched(len(self.hit))

    def batched(self, size: int) -> "Masses":
        """Every `size` slices in a row as one, the rest as the last."""
        starts = np.arange(0, len(self.hit), max(1, size))
        columns = (self.hit, self.predicted, self.reference, self.pixels)
        hit, predicted, reference, pixels = (np.add.reduceat(column, starts) for column in columns)
        return Masses(hit, predicted, reference, pixels, self.batch)

    def scores(self, empty: tuple[float, float]) -> tuple[DoubleArray, DoubleArray, DoubleArray]:
        """(n,) Dice, IoU and background IoU; `empty` is the (Dice, IoU) of empty against empty."""
        both, union = self.predicted + self.reference, self.predicted + self.reference - self.hit
        with np.errstate(invalid="ignore"):
            dice = np.where(both > 0, 2 * self.hit / both, empty[0])
            iou = np.where(union > 0, self.hit / union, empty[1])
        return dice, iou, (self.pixels - union) / (self.pixels - self.hit)


Score = Callable[[Masses], tuple[float, float]]


def _pooled(masses: Masses, *, background: bool) -> tuple[float, float]:
    return _means(masses.pooled().scores((np.nan, np.nan)), background)


def _lesion_slices(masses: Masses, *, background: bool) -> tuple[float, float]:
    lesion = masses.reference > 0
    return _means(tuple(score[lesion] for score in masses.scores((np.nan, np.nan))), background)


def _batches(masses: Masses, *, background: bool) -> tuple[float, float]:
    """Batches with nothing to mark and nothing marked are left out."""
    return _means(masses.batched(masses.batch).scores((np.nan, np.nan)), background)


def _all_slices(masses: Masses, *, background: bool, empty: tuple[float, float]) -> tuple[float, float]:
    return _means(masses.scores(empty), background)


def _means(scores: Sequence[DoubleArray], background: bool) -> tuple[float, float]:
    """Means of Dice and IoU; slices without a score (NaN) left out."""
    dice, iou, other = scores
    there = ~np.isnan(dice)
    if not there.any():
        return np.nan, np.nan
    return float(dice[there].mean()), float(((iou + other) / 2 if background else iou)[there].mean())


def _trained() -> dict[str, tuple[bool, Score]]:
    """Name -> whether it takes probabilities, and how it scores. Soft predictions are never quite empty."""
    found: dict[str, tuple[bool, Score]] = {}
    empties = {"1": (1.0, 1.0), "0": (0.0, 0.0), "left out": (np.nan, np.nan), "Dice 1 and IoU 0": (1.0, 0.0)}
    for background, end in ((False, "lesion"), (True, "mean")):
        for soft, prefix in ((False, ""), (True, "soft, ")):
            found[f"{prefix}pooled, {end}"] = soft, partial(_pooled, background=background)
            found[f"{prefix}lesion slices, {end}"] = soft, partial(_lesion_slices, background=background)
            found[f"{prefix}batches, {end}"] = soft, partial(_batches, background=background)
        for name, empty in empties.items():
            found[f"all slices, empty {name}, {end}"] = False, partial(_all_slices, background=background, empty=empty)
        found[f"soft, all slices, {end}"] = True, partial(_all_slices, background=background, empty=(0.0, 0.0))
    return found


CONVENTIONS = _trained()


def masses(of: Evaluation, soft: bool, batch: int = BATCH) -> Masses | None:
    """Of an evaluation, `batch` slices a batch; None where it has no pixels, or no probabilities though `soft`."""
    counts = of.counts
    if counts is None or (soft and (of.soft_hit is None or of.soft_sum is None)):
        return None
    pixels = counts.reference + counts.false_positive + counts.true_negative
    hit, predicted = (of.soft_hit, of.soft_sum) if soft else (counts.true_positive, counts.predicted)
    columns = (hit, predicted, counts.reference, pixels)
    found = [np.asarray(column, np.float64) for column in columns]
    return Masses(found[0], found[1], found[2], found[3], batch)


def thesis_scores(evaluation: Evaluation) -> dict[str, float | None]:
    """Dice, mean IoU and accuracy under `COMPARISON_CONVENTION`, as they stand beside Table 1's.

    Returns:
        'dice', 'iou' (of the lesion), 'mean_iou' (with the background, mean over lesion slices: the formula that the
        thesis' text describes), 'accuracy' in 0 to 1; None where there is no lesion slice or nothing is
        marked by pixels.
    """
    of = masses(evaluation, soft=False)
    if of is None or evaluation.counts is None:
        return dict.fromkeys(("dice", "iou", "mean_iou", "accuracy"))
    dice, iou = _lesion_slices(of, background=False)
    scores = {"dice": dice, "iou": iou, "mean_iou": _lesion_slices(of, background=True)[1]}
    accuracy = float(overlap.accuracy(evaluation.counts.pooled())[0])
    return {name: None if np.isnan(value) else value for name, value in scores.items()} | {"accuracy": accuracy}


def place(dice: float, iou: float) -> float:
    """Where IoU lies between its least, f(Dice) (all slices alike), 0, and its most, Dice (each slice 0 or 1), 1."""
    least = iou_of(dice)
    return (iou - least) / (dice - least) if 0 < dice < 1 else np.nan


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """Our grid's pairs under every convention, against Table 1's curve IoU(Dice)."""
    wanted = (scale.name, "grid", UNET, "slice")
    cells = [one for one in results if (one.cell.scale, one.cell.part, one.cell.method, one.cell.kind) == wanted]
    evaluations = [(kept, _batch(one, scale)) for one in cells for kept in one.evaluations]
    if not evaluations:
        return None
    rows = tuple(_row(name, soft, score, evaluations) for name, (soft, score) in CONVENTIONS.items())
    low, high = thesis_places()
    table = Table(
        "trained-conventions", "Our own networks under every convention, beside the relation of Table 1",
        f"Grid by slice, {len(cells)} runs, {len(evaluations)} kept epochs, test sides of {_range(cells)} slices. "
        "Place: where the pair's IoU lies between the least that its Dice allows (0: all slices score alike) and the "
        "most (1: each slice scores 0 or 1); above 1 where the background lifts it. In reach: epochs whose Dice lies "
        "within Table 1's, 0.65 to 0.89; there the distance of IoU from the line through Table 1's pairs (mean and "
        f"largest), and of accuracy. Soft: sums of probability. Batches: pixels pooled over 16 or 32 "
        "test slices in order, as many as the cell's batch in the thesis; batches without lesion or mark left out. "
        f"{at_scale(scale)}",
        ("convention", "Dice, last epochs", "IoU, last epochs", "median place", "lowest place", "highest place",
         "share of epochs whose place is Table 1's", "in reach", "mean IoU distance", "largest IoU distance",
         "accuracy distance, points"), rows,
    )  # fmt: skip
    return Section(
        "trained-conventions", "Which way of scoring gives pairs like the thesis', on networks that we trained?",
        (_answer(rows, low, high), _CAUTION, f"Beside Table 1 this report sets: {COMPARISON_CONVENTION}."), (table,),
        data={"table_1_place": [low, high]},
    )  # fmt: skip


def _batch(one: CellResult, scale: Scale) -> int:
    """The thesis' batch that the cell stands for."""
    return BATCH if one.cell.config is None else one.cell.config.batch_size * scale.batch_over


def thesis_places() -> tuple[float, float]:
    """Lowest and highest place that Table 1's pairs can have, rounding granted."""
    found = [
        place(row.dice + a, row.mean_iou + b)
        for row in TABLE_1
        for a in (-ROUNDING, ROUNDING)
        for b in (-ROUNDING, ROUNDING)
    ]
    return min(found), max(found)


def _row(name: str, soft: bool, score: Score, evaluations: Sequence[tuple[Evaluation, int]]) -> tuple[Value, ...]:
    scored = [(one, score(of)) for one, batch in evaluations if (of := masses(one, soft, batch)) is not None]
    found = [(*pair, _accuracy(one)) for one, pair in scored]
    pairs = np.array([one for one in found if 0 < one[0] < 1], np.float64).reshape(-1, 3)
    final = max((one.epoch for one, _ in evaluations), default=0)
    last = [pair for one, pair in scored if one.epoch == final]
    ends = [float(np.mean([one[index] for one in last])) if last else None for index in (0, 1)]
    if not len(pairs):
        return (name, *ends, *(NOT_APPLICABLE,) * 4, 0, *(NOT_APPLICABLE,) * 3)
    places = np.array([place(dice, iou) for dice, iou, _ in pairs])
    low, high = thesis_places()
    inside = float(((places >= low) & (places <= high)).mean())
    dice, iou, accuracy = pairs[(pairs[:, 0] >= 0.65) & (pairs[:, 0] <= 0.89)].T
    away, off = np.abs(iou - _line(dice, "mean_iou")), 100 * (accuracy - _line(dice, "accuracy"))
    distances: tuple[Value, ...] = (NOT_APPLICABLE,) * 3
    if len(dice):
        distances = (float(away.mean()), float(away.max()), float(off.mean()))
    return (
        name,
        *ends,
        float(np.median(places)),
        float(places.min()),
        float(places.max()),
        inside,
        len(dice),
        *distances,
    )


def _accuracy(one: Evaluation) -> float:
    assert one.counts is not None
    return float(overlap.accuracy(one.counts.pooled())[0])


def _line(dice: DoubleArray, name: str) -> DoubleArray:
    """Table 1's IoU or accuracy at a Dice: between the means of the pairs of equal Dice, straight lines."""
    known = sorted({row.dice for row in TABLE_1})
    values = [np.mean([getattr(row, name) for row in TABLE_1 if row.dice == one]) for one in known]
    return np.asarray(np.interp(dice, known, values), np.float64)


def _range(cells: Sequence[CellResult]) -> str:
    sizes = {len(one.last.ids) for one in cells}
    return f"{min(sizes)}" if len(sizes) == 1 else f"{min(sizes)} to {max(sizes)}"


def _answer(rows: Sequence[tuple[Value, ...]], low: float, high: float) -> str:
    fits = [row for row in rows if isinstance(row[6], float) and row[6] > 0.5]
    names = "; ".join(f"{row[0]} ({100 * row[6]:.0f} %)" for row in fits) or "none"  # type: ignore[operator]
    return (
        f"{possible()} {' '.join(_where(row) for row in rows if row[0] in _whole())} Place means where IoU lies "
        "between the least (0) and the most (1) that its Dice allows; Table 1's pairs have places of "
        f"{low:.2f} to {high:.2f}. Conventions under which most of our kept epochs have such a place: {names}."
    )


def _whole() -> list[str]:
    """Conventions that can give every pair of Table 1."""
    return [one.key for one in POSSIBLE if all(one.allows(row) for row in TABLE_1)]


def possible() -> str:
    """Which of the conventions worked out from Table 1 alone can give all of its pairs, in words."""
    whole = _whole()
    named = ", ".join(f"'{key}'" for key in whole)
    said = {0: "none can", 1: f"only {named} can"}.get(len(whole), f"{len(whole)} can ({named}): they")
    return f"Of {len(POSSIBLE)} conventions worked out from Table 1, {said} give all {len(TABLE_1)} of its pairs."


def _where(row: tuple[Value, ...]) -> str:
    """Where our own networks lie under a convention that Table 1 allows."""
    if not isinstance(row[3], float):
        return f"Under '{row[0]}' our networks have no place."
    said = (
        f"Under '{row[0]}' our networks' kept epochs have a median place of {row[3]:.2f} ({row[4]:.2f} to {row[5]:.2f})"
    )
    return f"{said}, but none reaches Table 1's Dice." if row[7] == 0 else f"{said}; {row[7]} reach Table 1's Dice."
