"""The thesis' Table 1 beside ours: every cell under the convention of the comparison, and by stricter measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.datasets.splits import Kind
from bleedmap.evaluation.slices import RESAMPLES, score
from bleedmap.figures import style
from bleedmap.metrics.overlap import concatenate, dice, iou, mean_iou
from bleedmap.page.section import Estimate, Picture, Row, Section, Table, tabulate
from bleedmap_thesis.analyses.conventions import COMPARISON_CONVENTION, TABLE_1, TableRow
from bleedmap_thesis.analyses.lesion_free import estimate_share
from bleedmap_thesis.analyses.paired_slices import RESAMPLES as STRICT_RESAMPLES
from bleedmap_thesis.analyses.paired_slices import Tested, bootstrap_sums, draw_auc, estimate_from_draws
from bleedmap_thesis.analyses.trained_conventions import score_as_compared
from bleedmap_thesis.plan import THESIS_EPOCHS, THESIS_STEP, Scale
from bleedmap_thesis.record import CellResult, Evaluation

MODELS, BATCHES = (1, 2), (16, 32)
_WIDE_MM, _HIGH_MM, _LEFT_MM, _ABOVE_MM, _BELOW_MM = 74.0, 58.0, 12.0, 6.0, 11.0
_PITCH_MM = 90.0
_HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "markersize": 4.0, "linewidth": 0.8, "linestyle": (0, (3, 1.5))}
BY_PATIENT = ((1, 16), (2, 32))  # model, batch
CONVENTION = (
    "Balanced test slices of 80/10/10: by slice they are of patients that were trained on, by patient they are not. "
    f"Convention of the comparison: {COMPARISON_CONVENTION}. Means over seeds; 95 % intervals by a bootstrap over "
    "patients, too narrow where few patients bleed. The learning rate is constant, so that one run passes through "
    "every shorter one and is measured on the way; cells trained alone take that seed's place. A scale that is not the "
    "thesis' own neither confirms nor refutes its figures."
)


@dataclass(frozen=True)
class Measure:
    """A measure of Table 1's cells.

    `printed`: the figure of Table 1 that it is held against (field of `TableRow`, name of the column).
    """

    key: str  # its name among the scores
    name: str  # of its column
    factor: int = 1  # from a share to the column's unit
    digits: int = 3  # decimals in print
    printed: tuple[str, str] | None = None


COMPARED = (
    Measure("iou", "IoU (lesion)", printed=("mean_iou", "mean IoU")),
    Measure("mean_iou", "mean IoU (lesion and background)"),
    Measure("dice", "Dice", printed=("dice", "Dice")),
    Measure("accuracy", "accuracy %", 100, 2, ("accuracy", "accuracy %")),
)
STRICT = (
    Measure("lesion_slice_dice", "lesion-slice Dice"),
    Measure("patient_mean_dice", "per-patient Dice"),
    Measure("lesion_free_slices_marked", "lesion-free slices marked %", 100, 1),
    Measure("slice_roc_auc", "slice AUC"),
)


@dataclass(frozen=True)
class Measured(Estimate):
    """One measure of a cell: the mean over seeds, its 95 % interval, and the lowest and highest seed."""

    lowest_seed: float
    highest_seed: float


_UNKNOWN = Measured(*[np.nan] * 5)


@dataclass(frozen=True)
class MeasuredCell:
    """A cell of Table 1; `evaluations` has one a seed, and is empty with `scores` where none has been run."""

    model: int
    batch: int
    thesis_epochs: int
    kind: Kind
    evaluations: Sequence[Evaluation]
    scores: dict[str, Measured]

    @property
    def thesis(self) -> TableRow | None:
        """What Table 1 prints for it."""
        place = (self.model, self.batch, self.thesis_epochs)
        rows = [row for row in TABLE_1 if (row.model, row.batch, row.epochs) == place]
        return rows[0] if rows and self.kind == "slice" else None

    def count(self) -> dict[str, int]:
        """Count slices, summed over seeds, and patients with a lesion."""
        results = [one.results() for one in self.evaluations]
        return {
            "slices": sum(len(one.ids) for one in results),
            "lesion slices": sum(int(one.has_lesion.sum()) for one in results),
            "lesion patients": len({name for one in results for name in one.patients[one.has_lesion]}),
            "lesion-free slices": sum(int((~one.has_lesion).sum()) for one in results),
        }


def section(results: Sequence[CellResult], scale: Scale, *, resamples: int = RESAMPLES) -> Section:
    """Tabulate Table 1 at a scale; it stands with 'not measured' where the scale has no results."""
    grid = [one for one in results if one.cell.scale == scale.name and one.cell.part == "grid"]
    networks = [(model, batch) for model in MODELS for batch in BATCHES]
    by_slice = _measure_cells(grid, scale, "slice", networks, resamples)
    by_patient = _measure_cells(grid, scale, "patient", BY_PATIENT, resamples)
    tables = []
    for cells in (by_slice, by_patient):
        measured = any(cell.scores for cell in cells)
        if measured or cells is by_slice:
            tables.append(_tabulate(
                cells, scale, COMPARED, ("slices",), "table-1", "Table 1 under the convention of the comparison",
                f"n: summed over seeds. Intervals: {resamples:,} resamples. What the thesis prints as mean IoU is held "
                "against IoU (lesion); the mean with the background is the formula that its text describes, by which "
                "an unmarked lesion scores near one half. Where it prints nothing the field is empty.",
            ))  # fmt: skip
        if measured:
            tables.append(_tabulate(
                cells, scale, STRICT, ("lesion slices", "lesion patients", "lesion-free slices"), "table-1-strict",
                "The same cells, strictly",
                f"Intervals: {STRICT_RESAMPLES:,} resamples. Lesion-slice Dice: mean over lesion slices, 0 for a "
                "lesion that is not marked. Per-patient Dice: mean over the patients' means. Lesion-free slices lend "
                "no score; the share with any marked pixel stands beside. Slice AUC: by a slice's highest probability.",
            ))  # fmt: skip
    alt = "Dice over the epochs of Model 1 and 2, batch 16 and 32, the thesis' points beside ours"
    caption = f"Dice on the test slices, split by slice. {CONVENTION} {scale.describe()}"
    picture = Picture("table-1", alt, lambda: draw_dice(by_slice, caption))
    return Section("table-1", "Table 1: the thesis' figures beside ours", (CONVENTION,), tuple(tables), (picture,))


def _measure_cells(
    grid: Sequence[CellResult], scale: Scale, kind: Kind, networks: Sequence[tuple[int, int]], resamples: int
) -> list[MeasuredCell]:
    made = []
    for model, batch in networks:
        for epochs in range(THESIS_STEP, THESIS_EPOCHS + 1, THESIS_STEP):
            found = _find_evaluations(grid, scale, f"model-{model}-b{batch}", kind, epochs)
            made.append(MeasuredCell(model, batch, epochs, kind, found, measure(found, resamples) if found else {}))
    return made


def _find_evaluations(
    grid: Sequence[CellResult], scale: Scale, label: str, kind: Kind, thesis_epochs: int
) -> list[Evaluation]:
    """Find one a seed: of the run that ended there if the seed has one, else of a longer run that passed through."""
    epoch, found = scale.epochs(thesis_epochs), dict[int, Evaluation]()
    for name in (label, f"{label}-alone-{thesis_epochs}"):
        own = [one for one in grid if (one.cell.label, one.cell.kind) == (name, kind)]
        found |= {one.cell.seed: test for one in own for test in one.evaluations if test.epoch == epoch}
    return [found[seed] for seed in sorted(found)]


def _tabulate(
    cells: Sequence[MeasuredCell], scale: Scale, measures: Sequence[Measure], counted: Sequence[str], key: str,
    title: str, note: str,
) -> Table:  # fmt: skip
    """Make a row a cell: a measure has its interval, with several seeds the lowest and highest, and the thesis' own."""
    kind, several = cells[0].kind, any(len(cell.evaluations) > 1 for cell in cells)
    digits, rows = dict[str, int](), list[Row]()
    for cell in cells:
        row: dict[str, Any] = {
            "model": f"Model {cell.model}", "batch, thesis": cell.batch, "batch, here": cell.batch // scale.batch_over,
            "epochs, thesis": cell.thesis_epochs, "epochs, here": scale.epochs(cell.thesis_epochs),
        }  # fmt: skip
        for one in measures:
            if one.printed and kind == "slice":
                known, name = cell.thesis, f"{one.printed[1]}, thesis"
                row[name] = round(getattr(known, one.printed[0]) * one.factor, 2) if known else ""
                digits[name] = 2
            found = row[one.name] = cell.scores.get(one.key, _UNKNOWN)
            seeds = {f"{one.name} lowest seed": found.lowest_seed, f"{one.name} highest seed": found.highest_seed}
            row |= seeds if several else {}
            digits |= dict.fromkeys((one.name, *seeds), one.digits)
        counts = cell.count()
        rows.append(row | {f"n {name}": counts[name] for name in counted} | {"seeds": len(cell.evaluations)})
    return tabulate(key if kind == "slice" else f"{key}-by-patient", f"{title}, by {kind}", note, rows, digits)


def measure(evaluations: Sequence[Evaluation], resamples: int = RESAMPLES) -> dict[str, Measured]:
    """Compute every measure, averaged over seeds (one evaluation each), with an interval by bootstrap over patients.

    A patient that is drawn brings its test slices of every seed. `resamples` are of the compared measures; the strict
    ones have `paired_slices.RESAMPLES`.
    """
    single = np.array([_score(one) for one in evaluations])
    of, found = _gather_seeds(evaluations), dict[str, Measured]()
    ends = _estimate_compared(of, resamples) | _estimate_strict(of)
    for one, each in zip((*COMPARED, *STRICT), single.T, strict=True):
        known, end = each[~np.isnan(each)], ends[one.key]
        values = (known.mean(), end.low, end.high, known.min(), known.max()) if len(known) else [np.nan] * 5
        found[one.key] = Measured(*(float(value) * one.factor for value in values))
    return found


def _score(evaluation: Evaluation) -> list[float]:
    """Score one seed by every measure; NaN where there is none."""
    strict = score(evaluation.results())
    found: dict[str, float | None] = {**strict["strict"], **strict["detection"], **score_as_compared(evaluation)}
    return [np.nan if (value := found[one.key]) is None else value for one in (*COMPARED, *STRICT)]


def _gather_seeds(evaluations: Sequence[Evaluation]) -> Tested:
    """Concatenate all seeds' slices, one seed after another, as if of one fold."""
    counts = concatenate([one.counts for one in evaluations if one.counts is not None])
    seeds = np.repeat(np.arange(len(evaluations)), [len(one.ids) for one in evaluations])
    score, patients = (np.concatenate([getattr(one, name) for one in evaluations]) for name in ("score", "patients"))
    ids, folds = np.concatenate([one.ids for one in evaluations]), np.zeros(len(seeds), np.int64)
    return Tested(ids, patients, seeds, folds, score.astype(np.float64), counts.reference > 0, counts)


def _estimate_compared(of: Tested, resamples: int) -> dict[str, Estimate]:
    """Estimate what `score_as_compared` gives; patients without a lesion are drawn too."""
    counts = of.counts
    assert counts is not None
    agreed = counts.true_positive + counts.true_negative
    sums = {one.__name__: (one(counts, empty=0) * of.lesion, of.lesion) for one in (iou, mean_iou, dice)}
    sums["accuracy"] = agreed, agreed + counts.false_positive + counts.false_negative
    return {
        name: _estimate_over_seeds(of.patients, of.seeds, values, weights, resamples)
        for name, (values, weights) in sums.items()
    }


def _estimate_strict(of: Tested) -> dict[str, Estimate]:
    assert of.counts is not None
    lesions, free, marked = of.rows(of.lesion), of.rows(~of.lesion), of.counts.predicted[~of.lesion] > 0
    keys = sorted(set(zip(lesions.patients, lesions.seeds, strict=True)))
    means = [lesions.dice[(lesions.patients == who) & (lesions.seeds == seed)].mean() for who, seed in keys]
    patients, seeds = (np.array([key[place] for key in keys]) for place in (0, 1))
    return {
        "lesion_slice_dice": _estimate_over_seeds(lesions.patients, lesions.seeds, lesions.dice),
        "patient_mean_dice": _estimate_over_seeds(patients, seeds, np.array(means)),
        "lesion_free_slices_marked":  # as elsewhere in the report where it is 0 or 1
            estimate_share(free.patients, marked) if len(marked) and marked.all() == marked.any()
            else _estimate_over_seeds(free.patients, free.seeds, marked),
        "slice_roc_auc": estimate_from_draws(*draw_auc(of, np.unique(of.patients))),
    }  # fmt: skip


def _estimate_over_seeds(
    patients: AnyArray, seeds: AnyArray, values: AnyArray, weights: AnyArray | None = None,
    resamples: int = STRICT_RESAMPLES,
) -> Estimate:  # fmt: skip
    """Estimate the mean over seeds of the sum of values over that of weights, which without any are 1."""
    if not len(values):
        return Estimate(np.nan, np.nan, np.nan)
    own = (seeds[:, None] == np.unique(seeds)).astype(np.float64)
    shares = own * values[:, None], own * (1 if weights is None else weights[:, None])

    def average_seeds(sums: DoubleArray) -> DoubleArray:
        """Leaves out what a seed cannot score."""
        above, below = np.split(sums, 2, axis=1)
        return np.asarray(np.ma.masked_invalid(above / below).mean(axis=1).filled(np.nan), np.float64)[:, None]

    return bootstrap_sums(patients, np.concatenate(shares, axis=1), average_seeds, resamples)[0]


def draw_dice(cells: Sequence[MeasuredCell], caption: str) -> Figure:
    """Draw a panel for each model, two at most: the thesis' Dice and ours with intervals, a colour for each batch."""
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _HIGH_MM + _BELOW_MM, caption)
        models = sorted({one.model for one in cells})
        for index, model in enumerate(models):
            axes = style.panel(figure, _LEFT_MM + index * _PITCH_MM, _ABOVE_MM, _WIDE_MM, _HIGH_MM)
            for colour, batch in enumerate(sorted({one.batch for one in cells})):
                own = [one for one in cells if (one.model, one.batch) == (model, batch)]
                _draw_lines(axes, own, batch, style.PALETTE[colour], 16 * colour - 8)
            axes.set(xlabel="epochs of the thesis' schedule", ylabel="Dice", xlim=(120, 1480), ylim=(0, 1))
            axes.set_xticks(range(200, 1401, 200))
            axes.grid(axis="y", color=style.RULE, linewidth=0.4)
            axes.set_axisbelow(True)
            axes.legend(frameon=False, fontsize=style.SMALL_PT, loc="lower right", borderaxespad=0.2)
            style.write(figure, index * _PITCH_MM + 4, 2.6, f"Model {model}", weight="bold")
        style.letters(figure, [index * _PITCH_MM + 0.5 for index in range(len(models))])
    return figure


def _draw_lines(axes: Axes, own: Sequence[MeasuredCell], batch: int, colour: str, shift: int) -> None:
    """Draw one model and batch; `shift` sets lines apart by a few epochs, so that bars do not hide each other."""
    printed = [(one.thesis_epochs, one.thesis.dice) for one in own if one.thesis]
    axes.plot(*zip(*printed, strict=True), "s", color=colour, label=f"thesis, batch {batch}", **_HOLLOW)
    scored = [(one.thesis_epochs + shift, one.scores["dice"]) for one in own if one.scores]
    if ours := [(at, one.value, one.low, one.high) for at, one in scored if not np.isnan(one.value)]:
        at, value, low, high = np.array(ours).T
        axes.plot(at, value, "o-", color=colour, label=f"ours, batch {batch}", markersize=3.2)
        axes.plot([at, at], [low, high], color=colour, linewidth=0.8, alpha=0.7)
