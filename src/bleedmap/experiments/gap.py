"""What the same recipe scores on patients it has not seen, and how near a test slice is to what was trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.experiments.comparison import (
    INTERVAL,
    KINDS,
    LESION_DICE,
    MAIN,
    Estimate,
    Tested,
    auc_with_draws,
    bootstrap,
    from_draws,
    gathered,
    in_words,
    labels,
    lesion_ids,
    mean,
    p_in_words,
    paired,
    select,
    sign_flip_p,
    sizes,
    t_interval,
)  # fmt: skip
from bleedmap.experiments.plan import UNET, Scale
from bleedmap.experiments.record import CellResult
from bleedmap.experiments.section import Picture, Section, Table, Value
from bleedmap.figures import style
from bleedmap.metrics import overlap
from bleedmap.metrics.statistics import patient_bootstrap

TERCILES = 3
_RANK_RESAMPLES = 1000  # of rank correlations
_COLOURS = {"slice": style.PALETTE[0], "patient": style.PALETTE[1]}
_COPY = "copy-nearest"
Row = tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Pair:
    """One method by slice and by patient: the same slices, row by row."""

    label: str
    by_slice: Tested
    by_patient: Tested

    @property
    def lesions(self) -> "Pair":
        """Lesion slices only."""
        chosen = self.by_slice.lesion
        return Pair(self.label, self.by_slice.rows(chosen), self.by_patient.rows(chosen))

    @property
    def patients(self) -> AnyArray:
        """(n,) the patient of each row."""
        return self.by_slice.patients

    @property
    def loss(self) -> DoubleArray:
        """(n,) Dice by slice less Dice by patient; NaN on lesion-free slices."""
        return self.by_slice.dice - self.by_patient.dice


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """The gap, in the folds and in the grid, with the control for nearness."""
    lesions = lesion_ids(results, scale)
    pairs = _pairs(results, scale, lesions)
    if not pairs:
        return None
    main, note = pairs[0].lesions, f"{INTERVAL}. Scale: {scale.text}."
    gaps = Table(
        "gap", "The same recipe, by slice and by patient", f"Each balanced lesion slice is tested once under each kind "
        "of split and paired with itself, training sides of the same size. Gap: by slice less by patient. Patient "
        "gap: of each patient's mean, all patients weighing the same. p: sign flips of whole patients, the same for "
        f"every slice of a patient. {LESION_DICE}. {note}",
        ("method", "seeds", "lesion slices", "bleeding patients", "Dice by slice", "Dice by patient", "gap", "low",
         "high", "p", "patient gap", "patient low", "patient high"),
        tuple(_gap_row(pair.lesions) for pair in pairs),
    )  # fmt: skip
    tables = [gaps, _measures(pairs[0], note), _by_fold(results, scale, main.label, lesions)]
    tables += [*_by_seed(main, scale), *_grid(results, scale, lesions, note)]
    pictures = [Picture(
        "gap", "Mean Dice of each bleeding patient, by slice and by patient, joined by a line",
        partial(_draw_gap, main, scale),
    )]  # fmt: skip
    words = _words(gaps.rows[0], scale)
    if near := _nearness(results, scale, main, lesions):
        tables += _control_tables(near, main, note)
        words += _control_words(tables[-2])
        pictures.append(Picture(
            "gap-distance", "Dice of each lesion slice against its distance to the nearest training slice",
            partial(_draw_distance, near, main, scale),
        ))  # fmt: skip
    data = {"slices": main.by_slice.ids.tolist(), "dice_by_slice": main.by_slice.dice.tolist(),
            "dice_by_patient": main.by_patient.dice.tolist(), "seeds": main.by_slice.seeds.tolist()}  # fmt: skip
    title = "What does the same recipe score on patients it has not seen?"
    return Section("gap", title, words, tuple(tables), tuple(pictures), data)


def _pairs(results: Sequence[CellResult], scale: Scale, lesions: frozenset[str]) -> list[Pair]:
    """U-Nets whose folds overlap in lesion slices, the main one first."""
    networks = labels([one for one in results if one.cell.method == UNET], scale, "folds")
    found = []
    for label in sorted(networks, key=lambda name: name != MAIN):
        both = [select(results, scale, "folds", label, kind) for kind in KINDS]
        if all(both):
            pair = Pair(label, *paired(*(gathered(cells, lesions) for cells in both)))
            found += [pair] if pair.by_slice.lesion.any() else []
    return found


def _gap_row(pair: Pair) -> Row:
    who = np.unique(pair.patients)
    each = np.array([pair.loss[pair.patients == one].mean() for one in who])
    return (
        pair.label, len(np.unique(pair.by_slice.seeds)), *sizes(pair.by_slice), float(pair.by_slice.dice.mean()),
        float(pair.by_patient.dice.mean()), *mean(pair.patients, pair.loss).cells,
        sign_flip_p(pair.patients, pair.loss),
        *mean(who, each).cells,
    )  # fmt: skip


def _measures(pair: Pair, note: str) -> Table:
    """Every measure of the main method, both kinds and their difference."""
    rows = [*_overlap_rows(pair), *_free_rows(pair), _auc_row(pair)]
    return Table(
        "gap-measures", f"{pair.label}: all measures, by slice and by patient", "Pooled: all pixels of all slices, "
        "lesion-free ones too, thresholded at 0.5 (no slice scores alone, so an empty one adds only true negatives or "
        f"false positives); mean IoU is over lesion and background. ROC AUC: mean over the folds. {note}",
        ("measure", "slices", "patients", "by slice", "slice low", "slice high", "by patient",
         "patient low", "patient high", "difference", "difference low", "difference high"), tuple(rows),
        digits=dict.fromkeys(("by slice", "slice low", "slice high", "by patient", "patient low", "patient high"), 4),
    )  # fmt: skip


def _compared(name: str, n: tuple[int, int], found: Sequence[Estimate]) -> Row:
    return (name, *n, *(cell for one in found for cell in one.cells))


def _overlap_rows(pair: Pair) -> Iterator[Row]:
    few, both = pair.lesions, (pair.by_slice, pair.by_patient)
    for name, score in (("lesion-slice Dice", overlap.dice), ("lesion-slice IoU", overlap.iou)):
        values = [score(of.counts, empty=np.nan) for of in (few.by_slice, few.by_patient) if of.counts]
        values.append(values[0] - values[1])
        yield _compared(name, sizes(few.by_slice), [mean(few.patients, one) for one in values])
    who = np.unique(few.patients)
    each = [np.array([of.dice[few.patients == one].mean() for one in who]) for of in (few.by_slice, few.by_patient)]
    means = [mean(who, one) for one in (*each, each[0] - each[1])]
    yield _compared("mean of the patients' mean Dice", sizes(few.by_slice), means)
    columns = np.concatenate([
        np.stack([c.true_positive, c.false_positive, c.false_negative, c.true_negative], axis=1)
        for c in (of.counts for of in both) if c is not None
    ], axis=1).astype(np.float64)  # fmt: skip
    n = len(np.unique(pair.by_slice.ids)), len(np.unique(pair.patients))
    found = bootstrap(pair.patients, columns, _pooled)
    for index, name in enumerate(("pooled Dice", "pooled mean IoU", "pooled accuracy")):
        yield _compared(name, n, found[index::3])


def _pooled(sums: DoubleArray) -> DoubleArray:
    """(draws, 8) sums of both kinds -> (draws, 9): Dice, mean IoU, accuracy by slice, by patient, and differences."""
    both = []
    for tp, fp, fn, tn in (sums[:, :4].T, sums[:, 4:].T):
        mean_iou = (tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2
        both.append(np.stack([2 * tp / (2 * tp + fp + fn), mean_iou, (tp + tn) / (tp + fp + fn + tn)], axis=1))
    return np.concatenate([*both, both[0] - both[1]], axis=1)


def _free_rows(pair: Pair) -> Iterator[Row]:
    free = ~pair.by_slice.lesion
    marked = [(of.counts.predicted[free] > 0).astype(float) for of in (pair.by_slice, pair.by_patient) if of.counts]
    if free.any():
        who = pair.patients[free]
        n = len(np.unique(pair.by_slice.ids[free])), len(np.unique(who))
        found = [mean(who, one) for one in (*marked, marked[0] - marked[1])]
        yield _compared("lesion-free slices with any marked pixel", n, found)


def _auc_row(pair: Pair) -> Row:
    names = np.unique(pair.patients)
    (one, one_draws), (other, other_draws) = (auc_with_draws(of, names) for of in (pair.by_slice, pair.by_patient))
    change = from_draws(one - other, one_draws - other_draws)
    n = len(np.unique(pair.by_slice.ids)), len(names)
    return _compared("slice ROC AUC", n, [from_draws(one, one_draws), from_draws(other, other_draws), change])


def _by_fold(results: Sequence[CellResult], scale: Scale, label: str, lesions: frozenset[str]) -> Table:
    both = [
        {(one.cell.seed, one.cell.fold): one for one in select(results, scale, "folds", label, kind)} for kind in KINDS
    ]
    rows: list[Row] = []
    for seed, fold in sorted((key for key in both[0] if key in both[1]), key=str):
        pair = [gathered([cells[seed, fold]], lesions) for cells in both]
        dice = [float(np.nanmean(of.dice)) for of in pair]
        rows.append((seed, fold, *(sizes(of)[0] for of in pair), *dice, dice[0] - dice[1]))
    return Table(
        "gap-folds", f"{label}: fold by fold", "The two sides of a row have the same number of training slices but "
        f"other test slices: only all folds together test the same ones. {LESION_DICE}. Scale: {scale.text}.",
        ("seed", "fold", "lesion slices by slice", "lesion slices by patient", "Dice by slice", "Dice by patient",
         "difference"),
        tuple(rows),
    )  # fmt: skip


def _by_seed(main: Pair, scale: Scale) -> list[Table]:
    seeds = np.unique(main.by_slice.seeds)
    if len(seeds) < 2:
        return []
    each = np.array([main.loss[main.by_slice.seeds == seed].mean() for seed in seeds])
    rows: list[Row] = [(str(seed), float(gap), None, None) for seed, gap in zip(seeds, each, strict=True)]
    rows.append(("mean", *t_interval(each).cells))
    return [Table(
        "gap-seeds", f"{main.label}: the gap, seed by seed", "A seed is another deal of the folds, other weights, "
        "another draw of lesion-free slices; the lesion slices are the same, so that the interval (Student's t over "
        f"{len(seeds)} seeds) is of training and splitting, not of patients. {LESION_DICE}. Scale: {scale.text}.",
        ("seed", "gap", "low", "high"), tuple(rows),
    )]  # fmt: skip


def _grid(results: Sequence[CellResult], scale: Scale, lesions: frozenset[str], note: str) -> list[Table]:
    """The thesis' 80/10/10: other test slices under each kind, so unpaired."""
    rows: list[Row] = []
    for label in labels(results, scale, "grid"):
        both = [{one.cell.seed: one for one in select(results, scale, "grid", label, kind)} for kind in KINDS]
        for seed in sorted(set(both[0]) & set(both[1])):
            of = [gathered([cells[seed]], lesions) for cells in both]
            n = [str(sizes(one)[0]) for one in of]
            dice = [mean(one.patients, one.dice) for one in of]
            rows.append((label, seed, " / ".join(n), *dice[0].cells, *dice[1].cells, dice[0].value - dice[1].value))
    if not rows:
        return []
    return [Table(
        "gap-grid", "The thesis' own 80/10/10 split, after all epochs, by slice and by patient",
        f"Other test slices under each kind: not paired. {LESION_DICE}. {note}",
        ("method", "seed", "lesion slices", "Dice by slice", "slice low", "slice high", "Dice by patient",
         "patient low", "patient high", "difference"), tuple(rows),
    )]  # fmt: skip


def _words(row: Row, scale: Scale) -> tuple[str, ...]:
    return (
        f"{row[0]} at the {scale.name} scale: mean Dice over lesion slices {row[4]:.3f} by slice and {row[5]:.3f} by "
        f"patient; the gap is {in_words(row[6:9])}, sign-flip {p_in_words(row[9])}, n = {row[2]} lesion slices of "
        f"{row[3]} bleeding patients, {row[1]} seed(s), each slice paired with itself; only the split differs. An "
        "unmarked lesion scores 0.",
        "The interval is of patients: other patients, the same trained networks. How much another training would "
        "change is seen only in repeated seeds. The networks of the five folds share most of their training slices, "
        "which a bootstrap over patients does not know.",
    )  # fmt: skip


# The control: how near is each test slice to its nearest training slice?


@dataclass(frozen=True, eq=False)
class Near:
    """The nearest training slice of each row of a `Pair`; and the Dice of copying its mask.

    Attributes:
        distance: kind -> (n,) distance.
        same_patient: kind -> (n,) bool.
        copied: kind -> (n,) Dice of the copied mask.
        rows: (n,) rows of the pair.
    """

    distance: dict[str, DoubleArray]
    same_patient: dict[str, AnyArray]
    copied: dict[str, DoubleArray]
    rows: AnyArray


def _nearness(results: Sequence[CellResult], scale: Scale, main: Pair, lesions: frozenset[str]) -> Near | None:
    found = {}
    for kind in KINDS:
        cells = select(results, scale, "folds", _COPY, kind)
        places: dict[tuple[int, str], list[float]] = {}
        for one in cells:
            dice = gathered([one], lesions).dice.tolist()
            columns = zip(one.last.ids, one.last.extra["distance"], one.last.extra["same_patient"], dice, strict=True)
            places |= {(one.cell.seed, name): values for name, *values in columns}
        found[kind] = places
    keys = list(zip(main.by_slice.seeds.tolist(), main.by_slice.ids.tolist(), strict=True))
    rows = np.array([row for row, key in enumerate(keys) if all(key in found[kind] for kind in KINDS)], np.int64)
    if len(rows) < 2 * TERCILES:
        return None
    values = {kind: np.array([found[kind][keys[row]] for row in rows], np.float64).T for kind in KINDS}
    return Near({kind: one[0] for kind, one in values.items()}, {kind: one[1] > 0 for kind, one in values.items()},
                {kind: one[2] for kind, one in values.items()}, rows)  # fmt: skip


def _rank_correlation(patients: AnyArray, one: DoubleArray, other: DoubleArray) -> Estimate:
    """Spearman's, with its interval over patients."""

    def statistic(rows: AnyArray) -> float:
        if not np.ptp(one[rows]) or not np.ptp(other[rows]):
            return float("nan")
        return float(np.corrcoef(stats.rankdata(one[rows]), stats.rankdata(other[rows]))[0, 1])

    low, high = patient_bootstrap(patients, lambda rows, _: [statistic(rows)], resamples=_RANK_RESAMPLES, seed=0)[0]
    return Estimate(statistic(np.arange(len(one))), float(low), float(high))


def _control_tables(near: Near, main: Pair, note: str) -> list[Table]:
    rows: list[Row] = []
    thirds: list[Row] = []
    who = main.patients[near.rows]
    n = len(np.unique(main.by_slice.ids[near.rows])), len(np.unique(who))
    dice = {"slice": main.by_slice.dice[near.rows], "patient": main.by_patient.dice[near.rows]}
    for kind in KINDS:
        distance = near.distance[kind]
        quarters = (float(one) for one in np.percentile(distance, [50, 25, 75]))
        rows.append((kind, *n, float(near.same_patient[kind].mean()), *quarters, *mean(who, near.copied[kind]).cells,
                     *_rank_correlation(who, distance, dice[kind]).cells))  # fmt: skip
        ends = np.quantile(distance, np.arange(1, TERCILES) / TERCILES)
        which = np.searchsorted(ends, distance, side="left")
        for third in range(TERCILES):
            own = which == third
            if own.any():
                thirds.append((kind, third + 1, int(own.sum()), len(np.unique(who[own])), float(distance[own].min()),
                               float(distance[own].max()), *mean(who[own], dice[kind][own]).cells))  # fmt: skip
    change = _rank_correlation(who, near.distance["patient"] - near.distance["slice"], dice["slice"] - dice["patient"])
    rows.append(("gap against increase of distance", *n, *(None,) * 7, *change.cells))
    return [Table(
        "gap-control", "How near is each lesion slice to its nearest training slice?",
        "Distance: root mean square difference of the network's inputs, mirrors tried. Copied Dice: the nearest "
        f"training slice's mask taken as the answer, nothing learned. Spearman: of {main.label}'s Dice and distance; "
        f"the last row: of the paired gap and the increase of distance; intervals over patients, {_RANK_RESAMPLES:,} "
        f"resamples. An association: distance also grows with what makes a slice hard. {note}",
        ("split by", "lesion slices", "bleeding patients", "same patient", "median distance", "lower quartile",
         "upper quartile", "copied Dice", "copied low", "copied high", "Spearman", "Spearman low", "Spearman high"),
        tuple(rows),
        digits={"median distance": 4, "lower quartile": 4, "upper quartile": 4},
    ), Table(
        "gap-terciles", f"{main.label}: Dice in thirds of distance", "Thirds are of each kind's own distances; 1 is "
        f"nearest. {LESION_DICE}. {note}",
        ("split by", "third", "rows", "bleeding patients", "smallest distance", "largest distance", "Dice", "low",
         "high"),
        tuple(thirds),
        digits={"smallest distance": 4, "largest distance": 4},
    )]  # fmt: skip


def _control_words(control: Table) -> tuple[str, ...]:
    by_slice, by_patient, change = control.rows
    same = [f"{100 * row[3]:.0f} %" for row in (by_slice, by_patient) if isinstance(row[3], float)]
    return (
        f"Of {by_slice[1]} lesion slices, {same[0]} have a slice of the same patient as their nearest training slice "
        f"when split by slice, {same[1]} by patient; the median distance is {by_slice[4]:.4f} and "
        f"{by_patient[4]:.4f}. Copying that slice's mask, with nothing learned, scores Dice "
        f"{in_words(by_slice[7:10])} by slice and {in_words(by_patient[7:10])} by patient.",
        f"Rank correlation of Dice and distance: {in_words(by_slice[10:])} by slice, {in_words(by_patient[10:])} by "
        f"patient; of a slice's gap and its increase of distance: {in_words(change[10:])}. Below 0 in the first two, "
        "slices farther from training score lower; above 0 in the last, slices that moved farther lose more. These are "
        "associations.",
    )


def _draw_gap(main: Pair, scale: Scale) -> Figure:
    """a: a line a patient. b: the patients' gaps, in order."""
    who, index = np.unique(main.patients, return_inverse=True)
    n = np.bincount(index)
    ends = [np.bincount(index, of.dice) / n for of in (main.by_slice, main.by_patient)]
    slices = len(np.unique(main.by_slice.ids))
    words = (
        f"{main.label}, {len(who)} bleeding patients, {slices} lesion slices, folds tested once under each kind of "
        f"split. {LESION_DICE}. a: each patient's mean; the thick line is the mean over slices. b: each patient's "
        "mean gap, by slice less by patient; a dot's area is the number of lesion slices; the line is the mean over "
        f"slices. Scale: {scale.text}."
    )
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(70, words)
        left, right = style.panel(figure, 14, 6, 62, 54), style.panel(figure, 98, 6, 80, 54)
        left.plot([0, 1], ends, "o-", color=style.RULE, linewidth=0.7, markersize=2.2, mfc=style.FAINT, mew=0)
        whole = [main.by_slice.dice.mean(), main.by_patient.dice.mean()]
        left.plot([0, 1], whole, color=style.PALETTE[1], linewidth=2.2, marker="o", markersize=5)
        for place, value, side in zip((-0.05, 1.05), whole, ("right", "left"), strict=True):
            left.text(place, value, f"{value:.2f}", ha=side, va="center", color=style.PALETTE[1], weight="bold")
        left.set(
            xlim=(-0.3, 1.3),
            ylim=(0, 1),
            xticks=[0, 1],
            xticklabels=["by slice", "by patient"],
            ylabel="Dice, lesion slices",
        )
        gaps = ends[0] - ends[1]
        order = np.argsort(gaps)
        right.axhline(0, color=style.FAINT, linewidth=0.6)
        right.axhline(main.loss.mean(), color=style.PALETTE[1])
        areas = 4 + 3 * n[order] / len(np.unique(main.by_slice.seeds))
        right.scatter(np.arange(len(who)), gaps[order], s=areas, color=style.PALETTE[0], alpha=0.85, linewidths=0)
        right.set(xlabel="bleeding patient, in order of the gap", ylabel="gap of Dice")
        _letters(figure, (0.5, 85))
    return figure


def _draw_distance(near: Near, main: Pair, scale: Scale) -> Figure:
    """a: both kinds, a dot a slice, thirds as bars. b: gap against increase."""
    rows = near.rows
    dice = {"slice": main.by_slice.dice[rows], "patient": main.by_patient.dice[rows]}
    words = (
        f"{main.label}, {len(np.unique(main.by_slice.ids[rows]))} lesion slices. Distance of a test slice to the "
        "nearest training slice: root mean square difference of the inputs. a: a dot a slice; bars are the mean Dice "
        "in thirds of each kind's distances. b: what a slice loses from split by slice to split by patient, against "
        f"its increase of distance. {LESION_DICE}. Scale: {scale.text}."
    )
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(70, words)
        left, right = style.panel(figure, 14, 6, 76, 54), style.panel(figure, 108, 6, 70, 54)
        for kind in KINDS:
            distance, colour = near.distance[kind], _COLOURS[kind]
            left.scatter(distance, dice[kind], s=5, color=colour, alpha=0.35, linewidths=0, label=f"by {kind}")
            _bars(left, distance, dice[kind], colour)
        left.set(xlabel="distance to the nearest training slice", ylabel="Dice", ylim=(0, 1.02))
        left.set_xlim(left=0)
        left.legend(frameon=False, fontsize=style.SMALL_PT, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.99),
                    markerscale=2)  # fmt: skip
        right.axhline(0, color=style.FAINT, linewidth=0.6)
        increase = near.distance["patient"] - near.distance["slice"]
        right.scatter(increase, dice["slice"] - dice["patient"], s=5, color=style.INK, alpha=0.4, linewidths=0)
        right.set(xlabel="increase of distance, by patient less by slice", ylabel="loss of Dice")
        _letters(figure, (0.5, 95))
    return figure


def _bars(axes: Axes, distance: DoubleArray, dice: DoubleArray, colour: str) -> None:
    ends = np.quantile(distance, np.linspace(0, 1, TERCILES + 1))
    for low, high in pairwise(ends):
        own = (distance >= low) & (distance <= high)
        axes.plot([low, high], [dice[own].mean()] * 2, color="white", linewidth=4.2, solid_capstyle="butt")
        axes.plot([low, high], [dice[own].mean()] * 2, color=colour, linewidth=2.6, solid_capstyle="butt")


def _letters(figure: Figure, lefts_mm: Sequence[float]) -> None:
    for index, left_mm in enumerate(lefts_mm):
        style.write(figure, left_mm, 2.2, chr(ord("a") + index), weight="bold", size=style.TEXT_PT + 1)
