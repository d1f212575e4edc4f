"""The gap: what the same recipe scores on slices of patients it has seen, and of patients it has not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.figures import style
from bleedmap.metrics import overlap
from bleedmap.page.section import NOT_APPLICABLE, Estimate, Picture, Row, Section, Table, tabulate
from bleedmap_thesis.analyses import nearness
from bleedmap_thesis.analyses import paired_slices as paired
from bleedmap_thesis.plan import KINDS, Scale, name_method
from bleedmap_thesis.progress import add_note, count_folds, describe_missing, drop_begun_seeds
from bleedmap_thesis.record import CellResult

LATE = 600  # of the thesis' epochs: from here on its Table 1 changes least
CONVENTION = (
    "Five folds of both kinds with training sides of the same size; each lesion slice is paired with itself, and the "
    f"gap is its Dice by slice less its Dice by patient. {paired.LESION_DICE}. {paired.INTERVAL}. The five folds share "
    "most of their training slices, and another training would differ: the intervals hold neither."
)


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """Tabulate the gap in the folds and in the grid, over the schedule, and with the control for nearness."""
    begun, results = results, drop_begun_seeds(results, scale)
    lesions = paired.find_lesions(results, scale)
    found = paired.pair_kinds(results, scale, lesions)
    if not found:
        return None
    main = found[0].lesions
    tables, pictures = [_tabulate_gaps(found)], [Picture(
        "gap", "Mean Dice of each bleeding patient, by slice and by patient, joined by a line",
        partial(_draw_patients, main, scale),
    )]  # fmt: skip
    schedules = [one for pair in found if (one := follow_schedule(results, scale, pair, lesions))]
    if schedules:
        tables.append(_tabulate_schedules(schedules))
        pictures.append(Picture(
            "gap-schedule", "Dice by slice and by patient, and the gap between them, at every kept epoch",
            partial(_draw_schedule, schedules[0], scale),
        ))  # fmt: skip
    tables += [_tabulate_measures(found[0]), *_by_fold(results, scale, main.label, lesions), *_by_seed(main)]
    if near := nearness.find_nearest(results, scale, main, lesions):
        tables += nearness.tabulate_control(near, main)
        pictures.append(Picture(
            "gap-distance", "Dice of each lesion slice against its distance to the nearest training slice",
            partial(nearness.draw_distance, near, main, scale),
        ))  # fmt: skip
    copied = [nearness.COPY] * bool(count_folds(results, scale, nearness.COPY).cells)
    missing = describe_missing(begun, scale, [*(pair.label for pair in found), *copied])
    tables = [*add_note(tables, missing), *_by_grid(results, scale, lesions)]
    data = {
        "slices": main.by_slice.ids.tolist(), "dice_by_slice": main.by_slice.dice.tolist(),
        "dice_by_patient": main.by_patient.dice.tolist(), "seeds": main.by_slice.seeds.tolist(),
    }  # fmt: skip
    asked = "What does the same recipe score on patients it has not seen?"
    return Section("gap", asked, (CONVENTION,), tuple(tables), tuple(pictures), data)


def _begin_row(pair: paired.Pair) -> dict[str, Any]:
    slices, patients = paired.count_lesions(pair.by_slice)
    seeds = len(np.unique(pair.by_slice.seeds))
    return {
        "method": name_method(pair.label), "seeds": seeds, "lesion slices": slices, "bleeding patients": patients,
    }  # fmt: skip


def _tabulate_gaps(found: Sequence[paired.Pair]) -> Table:
    rows = []
    for pair in [one.lesions for one in found]:
        who, by_slice, by_patient = pair.patients, pair.by_slice.dice, pair.by_patient.dice
        each = np.array([pair.gap[who == one].mean() for one in np.unique(who)])
        rows.append(_begin_row(pair) | {
            "Dice by slice": by_slice.mean(), "Dice by patient": by_patient.mean(),
            "gap": paired.estimate_mean(who, pair.gap), "p": paired.compute_sign_flip_p(who, pair.gap),
            "patient gap": paired.estimate_mean(np.unique(who), each),
            "missed in both": ((by_slice == 0) & (by_patient == 0)).sum(),
        })  # fmt: skip
    return tabulate(
        "gap", "The same recipe, by slice and by patient",
        "Gap: mean over slices. p: sign flips of whole patients. Patient gap: mean over the patients' means. Missed in "
        "both: slices whose Dice is 0 either way, which can show no gap.",
        rows,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Schedule:
    """Dice of the paired lesion slices at every epoch that all folds kept; a column a slice of one seed."""

    pair: paired.Pair  # the method's slices after all epochs
    epochs: tuple[int, ...]  # the thesis' epochs that the kept ones stand for, rising
    by_slice: DoubleArray  # (epochs, n) Dice
    by_patient: DoubleArray  # (epochs, n) Dice
    patients: AnyArray  # (n,) of the slices

    def estimate(self, chosen: AnyArray | int) -> dict[str, Estimate]:
        """Estimate Dice by slice, by patient and gap at an epoch, or over the epochs chosen by bool (epochs,)."""
        which = np.atleast_1d(np.arange(len(self.epochs))[chosen])
        columns = {
            "Dice by slice": self.by_slice, "Dice by patient": self.by_patient, "gap": self.by_slice - self.by_patient,
        }  # fmt: skip
        return {name: paired.estimate_mean(self.patients, dice[which].mean(axis=0)) for name, dice in columns.items()}


def follow_schedule(
    results: Sequence[CellResult], scale: Scale, pair: paired.Pair, lesions: frozenset[str]
) -> Schedule | None:
    """Follow one method over its epochs; None where all folds kept fewer than two."""
    both = [paired.select(results, scale, "folds", pair.label, kind) for kind in KINDS]
    kept = sorted(set.intersection(*({one.epoch for one in cell.evaluations} for cells in both for cell in cells)))
    if len(kept) < 2:
        return None
    found = [paired.pair_lesions(*(paired.gather(cells, lesions, epoch) for cells in both)) for epoch in kept]
    by_slice, by_patient = (np.array([tested[side].dice for tested in found]) for side in (0, 1))
    epochs = tuple(epoch * scale.epochs_over for epoch in kept)
    return Schedule(pair.lesions, epochs, by_slice, by_patient, found[-1][0].patients)


def _tabulate_schedules(found: Sequence[Schedule]) -> Table:
    rows: list[Row] = []
    for one in found:
        begin, epochs, none = _begin_row(one.pair), one.epochs, NOT_APPLICABLE
        rows += [begin | {"epochs": f"{epoch:,}"} | one.estimate(index) for index, epoch in enumerate(epochs)]
        if (late := np.array(epochs) >= LATE).any():
            rows.append(begin | {"epochs": f"mean from {LATE} on"} | one.estimate(late))
        gaps = one.by_slice - one.by_patient
        growth = paired.estimate_mean(one.patients, gaps[-1] - gaps[0])
        rows.append(begin | {
            "epochs": f"{epochs[-1]:,} less {epochs[0]:,}", "Dice by slice": none, "Dice by patient": none,
            "gap": growth,
        })  # fmt: skip
    return tabulate(
        "gap-schedule", "The gap over the schedule",
        "Epochs are the thesis'; the lesion slices are the same at every epoch. The learning rate is constant, so that "
        "one epoch's network goes up and down by chance: the mean over epochs is steadier.",
        rows,
    )  # fmt: skip


def _tabulate_measures(pair: paired.Pair) -> Table:
    return tabulate(
        "gap-measures", f"{name_method(pair.label)}: all measures, by slice and by patient",
        "Pooled: all pixels of all slices, thresholded at 0.5. Mean IoU: over lesion and background. ROC AUC: mean "
        "over the folds. The differences are not corrected for their number.",
        [*_measure_overlap(pair), *_measure_false_marks(pair), _measure_auc(pair)],
        dict.fromkeys(("by slice", "by patient", "difference"), 4),
    )  # fmt: skip


def _compare(measure: str, n: tuple[int, int], found: Sequence[Estimate]) -> Row:
    by_slice, by_patient, difference = found
    return {
        "measure": measure, "slices": n[0], "patients": n[1], "by slice": by_slice, "by patient": by_patient,
        "difference": difference,
    }  # fmt: skip


def _compare_means(measure: str, n: tuple[int, int], who: AnyArray, one: DoubleArray, other: DoubleArray) -> Row:
    return _compare(measure, n, [paired.estimate_mean(who, values) for values in (one, other, one - other)])


def _measure_overlap(pair: paired.Pair) -> Iterator[Row]:
    few, both = pair.lesions, (pair.by_slice, pair.by_patient)
    n, who = paired.count_lesions(few.by_slice), np.unique(few.patients)
    for name, score in (("lesion-slice Dice", overlap.dice), ("lesion-slice IoU", overlap.iou)):
        one, other = (score(of.counts, empty=np.nan) for of in (few.by_slice, few.by_patient) if of.counts)
        yield _compare_means(name, n, few.patients, one, other)
    one, other = (
        np.array([of.dice[few.patients == name].mean() for name in who]) for of in (few.by_slice, few.by_patient)
    )
    yield _compare_means("mean of the patients' mean Dice", n, who, one, other)
    columns = np.concatenate([
        np.stack([c.true_positive, c.false_positive, c.false_negative, c.true_negative], axis=1)
        for c in (of.counts for of in both) if c is not None
    ], axis=1).astype(np.float64)  # fmt: skip
    n = len(np.unique(pair.by_slice.ids)), len(np.unique(pair.patients))
    found = paired.bootstrap_sums(pair.patients, columns, _score_pooled)
    for index, name in enumerate(("pooled Dice", "pooled mean IoU", "pooled accuracy")):
        yield _compare(name, n, found[index::3])


def _score_pooled(sums: DoubleArray) -> DoubleArray:
    """(draws, 8) sums of both kinds -> (draws, 9): Dice, mean IoU, accuracy by slice, by patient, and differences."""
    both = []
    for tp, fp, fn, tn in (sums[:, :4].T, sums[:, 4:].T):
        mean_iou = (tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2
        both.append(np.stack([2 * tp / (2 * tp + fp + fn), mean_iou, (tp + tn) / (tp + fp + fn + tn)], axis=1))
    return np.concatenate([*both, both[0] - both[1]], axis=1)


def _measure_false_marks(pair: paired.Pair) -> Iterator[Row]:
    free = ~pair.by_slice.lesion
    if free.any():
        one, other = (
            (of.counts.predicted[free] > 0).astype(float) for of in (pair.by_slice, pair.by_patient) if of.counts
        )
        who = pair.patients[free]
        n = len(np.unique(pair.by_slice.ids[free])), len(np.unique(who))
        yield _compare_means("lesion-free slices with any marked pixel", n, who, one, other)


def _measure_auc(pair: paired.Pair) -> Row:
    names = np.unique(pair.patients)
    one, other = (paired.draw_auc(of, names) for of in (pair.by_slice, pair.by_patient))
    found = [paired.estimate_from_draws(*auc) for auc in (one, other, (one[0] - other[0], one[1] - other[1]))]
    return _compare("slice ROC AUC", (len(np.unique(pair.by_slice.ids)), len(names)), found)


def _by_fold(results: Sequence[CellResult], scale: Scale, label: str, lesions: frozenset[str]) -> Iterator[Table]:
    cells = [paired.select(results, scale, "folds", label, kind) for kind in KINDS]
    both = [{(one.cell.seed, one.cell.fold): one for one in own} for own in cells]
    rows = []
    for seed, fold in sorted((key for key in both[0] if key in both[1]), key=str):
        one, other = (paired.gather([own[seed, fold]], lesions) for own in both)
        by_slice, by_patient = np.nanmean(one.dice), np.nanmean(other.dice)
        rows.append({
            "seed": seed, "fold": fold, "lesion slices by slice": paired.count_lesions(one)[0],
            "lesion slices by patient": paired.count_lesions(other)[0], "Dice by slice": by_slice,
            "Dice by patient": by_patient, "difference": by_slice - by_patient,
        })  # fmt: skip
    if rows:
        yield tabulate(
            "gap-folds", f"{name_method(label)}: fold by fold",
            "The two sides of a row test other slices: only all folds together test the same ones.", rows,
        )  # fmt: skip


def _by_seed(main: paired.Pair) -> Iterator[Table]:
    seeds = np.unique(main.by_slice.seeds)
    each = np.array([main.gap[main.by_slice.seeds == seed].mean() for seed in seeds])
    if len(seeds) > 1:
        rows = [
            {"seed": str(seed), "gap": Estimate(gap, np.nan, np.nan)} for seed, gap in zip(seeds, each, strict=True)
        ]
        yield tabulate(
            "gap-seeds", f"{name_method(main.label)}: the gap, seed by seed",
            "A seed is another deal of the folds, other weights, another draw of lesion-free slices; the lesion slices "
            "are the same. Interval: Student's t over seeds, of training and splitting, not of patients.",
            [*rows, {"seed": "mean", "gap": paired.estimate_by_t(each)}],
        )  # fmt: skip


def _by_grid(results: Sequence[CellResult], scale: Scale, lesions: frozenset[str]) -> Iterator[Table]:
    rows = []
    for label in paired.list_labels(results, scale, "grid"):
        both = [{one.cell.seed: one for one in paired.select(results, scale, "grid", label, kind)} for kind in KINDS]
        for seed in sorted(set(both[0]) & set(both[1])):
            of = [paired.gather([own[seed]], lesions) for own in both]
            one, other = (paired.estimate_mean(tested.patients, tested.dice) for tested in of)
            counts = " / ".join(str(paired.count_lesions(tested)[0]) for tested in of)
            rows.append({
                "method": name_method(label), "seed": seed, "lesion slices, by slice / by patient": counts,
                "Dice by slice": one, "Dice by patient": other, "difference": one.value - other.value,
            })  # fmt: skip
    if rows:
        yield tabulate(
            "gap-grid", "The thesis' own 80/10/10 split, after all epochs, by slice and by patient",
            "Other test slices under each kind: not paired.", rows,
        )  # fmt: skip


def _draw_patients(main: paired.Pair, scale: Scale) -> Figure:
    """Draw the gap patient by patient. a: a line a patient. b: the patients' gaps, in order."""
    who, index = np.unique(main.patients, return_inverse=True)
    n = np.bincount(index)
    ends = [np.bincount(index, of.dice) / n for of in (main.by_slice, main.by_patient)]
    caption = main.describe(
        scale,
        "a: each patient's mean; the thick line is the mean over slices. b: each patient's mean gap, by slice less by "
        "patient; a dot's area is the number of lesion slices; the line is the mean over slices.",
    )  # fmt: skip
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(70, caption)
        left, right = style.panel(figure, 14, 6, 62, 54), style.panel(figure, 98, 6, 80, 54)
        left.plot([0, 1], ends, "o-", color=style.RULE, linewidth=0.7, markersize=2.2, mfc=style.FAINT, mew=0)
        whole = [main.by_slice.dice.mean(), main.by_patient.dice.mean()]
        left.plot([0, 1], whole, color=style.PALETTE[1], linewidth=2.2, marker="o", markersize=5)
        for place, value, side in zip((-0.05, 1.05), whole, ("right", "left"), strict=True):
            left.text(place, value, f"{value:.2f}", ha=side, va="center", color=style.PALETTE[1], weight="bold")
        left.set(xlim=(-0.3, 1.3), ylim=(0, 1), xticks=[0, 1], xticklabels=["by slice", "by patient"])
        left.set_ylabel("Dice, lesion slices")
        gaps = ends[0] - ends[1]
        order = np.argsort(gaps)
        right.axhline(0, color=style.FAINT, linewidth=0.6)
        right.axhline(main.gap.mean(), color=style.PALETTE[1])
        areas = 4 + 3 * n[order] / len(np.unique(main.by_slice.seeds))
        right.scatter(np.arange(len(who)), gaps[order], s=areas, color=style.PALETTE[0], alpha=0.85, linewidths=0)
        right.set(xlabel="bleeding patient, in order of the gap", ylabel="gap of Dice")
        style.letters(figure, (0.5, 85))
    return figure


def _draw_schedule(main: Schedule, scale: Scale) -> Figure:
    """Draw the gap over the epochs. a: Dice by slice and by patient. b: the gap."""
    caption = main.pair.describe(
        scale,
        "At every kept epoch; a: mean Dice, b: the paired gap, by slice less by patient. Bars: 95 % intervals over "
        "patients, the trained networks fixed; those of a overlap because patients differ, which pairing takes out.",
    )  # fmt: skip
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(60, caption)
        left, right = style.panel(figure, 14, 6, 72, 42), style.panel(figure, 106, 6, 72, 42)
        found = [main.estimate(index) for index in range(len(main.epochs))]
        shift = 0.06 * (main.epochs[1] - main.epochs[0])  # so that the bars stand side by side
        for kind, by in zip(KINDS, (-1, 1), strict=True):
            at = np.array(main.epochs) + by * shift
            _draw_course(left, at, [one[f"Dice by {kind}"] for one in found], paired.COLOURS[kind], f"by {kind}")
        _draw_course(right, np.array(main.epochs), [one["gap"] for one in found], style.INK, "gap")
        right.axhline(0, color=style.FAINT, linewidth=0.6)
        left.set(ylim=(0, None), ylabel="Dice, lesion slices")
        left.legend(frameon=False, fontsize=style.SMALL_PT, loc="lower right")
        right.set(ylabel="gap of Dice")
        for axes in (left, right):
            axes.set(xticks=main.epochs, xlabel="epochs, as the thesis counts them")
        style.letters(figure, (0.5, 92))
    return figure


def _draw_course(axes: Axes, at: AnyArray, found: Sequence[Estimate], colour: str, name: str) -> None:
    axes.vlines(at, [one.low for one in found], [one.high for one in found], color=colour, linewidth=0.9)
    axes.plot(at, [one.value for one in found], "o-", color=colour, markersize=3, label=name)
