"""The thesis' Table 1 beside ours: every cell under the convention of the comparison, and by stricter measures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.datasets.splits import Kind
from bleedmap.evaluation.slices import RESAMPLES, score
from bleedmap.figures import style
from bleedmap.metrics import overlap
from bleedmap.page.section import Picture, Section, Table, Value, name_interval
from bleedmap_thesis.analyses.conventions import COMPARISON_CONVENTION, TABLE_1, TableRow
from bleedmap_thesis.analyses.gap_figures import letter_panels
from bleedmap_thesis.analyses.lesion_free import estimate_share
from bleedmap_thesis.analyses.paired_slices import RESAMPLES as STRICT_RESAMPLES
from bleedmap_thesis.analyses.paired_slices import Tested, bootstrap_sums, draw_auc, estimate_from_draws
from bleedmap_thesis.analyses.trained_conventions import compute_masses, score_as_compared
from bleedmap_thesis.plan import THESIS_EPOCHS, THESIS_STEP, Scale
from bleedmap_thesis.record import CellResult, Evaluation
from bleedmap_thesis.tables import Estimate

BOOTSTRAP_SEED = 0
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
class Measured:
    """One measure of a cell: the mean over seeds, its 95 % interval, and the lowest and highest seed."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    lowest_seed: float | None = None
    highest_seed: float | None = None


@dataclass(frozen=True)
class MeasuredCell:
    """A cell of Table 1; `evaluations` has one a seed, and is empty with `scores` where none has been run."""

    model: int
    batch: int
    thesis_epochs: int
    kind: Kind
    evaluations: Sequence[Evaluation]
    scores: dict[str, Measured] = field(default_factory=dict)

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
            tables.append(_compare(cells, scale, resamples))
        if measured:
            tables.append(_compare_strictly(cells, scale))
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


def _compare(cells: Sequence[MeasuredCell], scale: Scale, resamples: int) -> Table:
    return _tabulate(
        cells, scale, COMPARED, ("slices",), "table-1", "Table 1 under the convention of the comparison",
        f"n: summed over seeds. Intervals: {resamples:,} resamples. What the thesis prints as mean IoU is held against "
        "IoU (lesion); the mean with the background is the formula that its text describes, by which an unmarked "
        "lesion scores near one half. Where it prints nothing the field is empty.",
    )  # fmt: skip


def _compare_strictly(cells: Sequence[MeasuredCell], scale: Scale) -> Table:
    return _tabulate(
        cells, scale, STRICT, ("lesion slices", "lesion patients", "lesion-free slices"),
        "table-1-strict", "The same cells, strictly",
        f"Intervals: {STRICT_RESAMPLES:,} resamples. Lesion-slice Dice: mean over lesion slices, 0 for a lesion that "
        "is not marked. Per-patient Dice: mean over the patients' means. Lesion-free slices lend no score; the share "
        "with any marked pixel stands beside. Slice AUC: by a slice's highest probability.",
    )  # fmt: skip


def _tabulate(
    cells: Sequence[MeasuredCell], scale: Scale, measures: Sequence[Measure], counted: Sequence[str], key: str,
    title: str, note: str,
) -> Table:  # fmt: skip
    """Make a row a cell: a measure has its interval, with several seeds the lowest and highest, and the thesis' own."""
    kind, several = cells[0].kind, any(len(cell.evaluations) > 1 for cell in cells)
    columns = ["model", "batch, thesis", "batch, here", "epochs, thesis", "epochs, here"]
    digits: dict[str, int] = {}
    for one in measures:
        own = [*name_interval(one.name), *([f"{one.name} lowest seed", f"{one.name} highest seed"] if several else [])]
        digits |= dict.fromkeys(own, one.digits)
        if one.printed and kind == "slice":
            own.insert(0, f"{one.printed[1]}, thesis")
            digits[own[0]] = 2
        columns += own
    rows = []
    for cell in cells:
        row: list[Value] = [
            f"Model {cell.model}", cell.batch, cell.batch // scale.batch_over, cell.thesis_epochs,
            scale.epochs(cell.thesis_epochs),
        ]  # fmt: skip
        for one in measures:
            if one.printed and kind == "slice":
                row.append(round(getattr(cell.thesis, one.printed[0]) * one.factor, 2) if cell.thesis else "")
            scored = cell.scores.get(one.key, Measured())
            row += [scored.value, scored.low, scored.high]
            row += [scored.lowest_seed, scored.highest_seed] if several else []
        counts = cell.count()
        rows.append((*row, *(counts[name] for name in counted), len(cell.evaluations)))
    return Table(
        key if kind == "slice" else f"{key}-by-patient", f"{title}, by {kind}", note,
        (*columns, *(f"n {name}" for name in counted), "seeds"), tuple(rows), digits,
    )  # fmt: skip


def measure(evaluations: Sequence[Evaluation], resamples: int = RESAMPLES) -> dict[str, Measured]:
    """Compute every measure, averaged over seeds (one evaluation each), with an interval by bootstrap over patients.

    A patient that is drawn brings its test slices of every seed. `resamples` are of the compared measures; the strict
    ones have `paired_slices.RESAMPLES`.
    """
    single = np.array([_score(one) for one in evaluations])
    ends = _estimate_compared(evaluations, resamples) | _estimate_strict(evaluations)
    found = {}
    for one, each in zip((*COMPARED, *STRICT), single.T, strict=True):
        known = each[~np.isnan(each)]
        values = (known.mean(), *ends[one.key], known.min(), known.max()) if len(known) else (np.nan,) * 5
        found[one.key] = Measured(*(None if np.isnan(value) else float(value) * one.factor for value in values))
    return found


def _score(evaluation: Evaluation) -> list[float]:
    """Score one seed by every measure; NaN where there is none."""
    strict = score(evaluation.results())
    found: dict[str, float | None] = {**strict["strict"], **strict["detection"], **score_as_compared(evaluation)}
    return [np.nan if (value := found[one.key]) is None else value for one in (*COMPARED, *STRICT)]


def _estimate_compared(evaluations: Sequence[Evaluation], resamples: int) -> dict[str, tuple[float, float]]:
    """Estimate what `score_as_compared` gives from sums over slices, each seed's in columns of its own."""
    columns = np.zeros((sum(len(one.ids) for one in evaluations), len(evaluations), 6))
    row = 0
    for index, one in enumerate(evaluations):
        own, of, counts = columns[row : (row := row + len(one.ids)), index], compute_masses(one, soft=False), one.counts
        assert of is not None
        assert counts is not None
        dice, iou, other = of.scores((np.nan, np.nan))
        lesion = of.reference > 0
        own[lesion, :4] = np.stack([iou, (iou + other) / 2, dice, lesion], axis=1)[lesion]  # in the order of COMPARED
        own[:, 4], own[:, 5] = counts.true_positive + counts.true_negative, of.pixels

    def statistic(sums: DoubleArray) -> DoubleArray:
        of_seed = sums.reshape(len(sums), len(evaluations), 6)
        return _average_seeds(of_seed[..., (0, 1, 2, 4)] / of_seed[..., (3, 3, 3, 5)], 1)

    patients, flat = np.concatenate([one.patients for one in evaluations]), columns.reshape(len(columns), -1)
    ends = bootstrap_sums(patients, flat, statistic, resamples, BOOTSTRAP_SEED)
    return {one.key: (found.low, found.high) for one, found in zip(COMPARED, ends, strict=True)}


def _estimate_strict(evaluations: Sequence[Evaluation]) -> dict[str, tuple[float, float]]:
    of = _gather_seeds(evaluations)
    assert of.counts is not None
    dice, lesion = of.dice, of.lesion
    keys = sorted(set(zip(of.patients[lesion], of.seeds[lesion], strict=True)))
    means = [dice[lesion & (of.patients == who) & (of.seeds == seed)].mean() for who, seed in keys]
    found = {
        "lesion_slice_dice": _estimate_over_seeds(of.patients, of.seeds, dice),
        "patient_mean_dice": _estimate_over_seeds(
            np.array([who for who, _ in keys]), np.array([seed for _, seed in keys]), np.array(means)
        ),
        "lesion_free_slices_marked": _estimate_marked(of, of.counts.predicted > 0),
        "slice_roc_auc": estimate_from_draws(*draw_auc(of, np.unique(of.patients))),
    }
    return {name: (one.low, one.high) for name, one in found.items()}


def _estimate_marked(of: Tested, marked: AnyArray) -> Estimate:
    """Estimate the share of lesion-free slices that are marked, as elsewhere in the report where it is 0 or 1."""
    free = ~of.lesion
    if 0 < marked[free].sum() < free.sum() or not free.any():
        return _estimate_over_seeds(of.patients, of.seeds, np.where(of.lesion, np.nan, marked))
    return estimate_share(of.patients[free], marked[free])


def _gather_seeds(evaluations: Sequence[Evaluation]) -> Tested:
    """Concatenate all seeds' slices, one seed after another, as if of one fold."""
    results = [one.results() for one in evaluations]
    seeds = np.repeat(np.arange(len(results)), [len(one.ids) for one in results])
    return Tested(
        np.concatenate([one.ids for one in results]), np.concatenate([one.patients for one in results]), seeds,
        np.zeros(len(seeds), np.int64), np.concatenate([one.highest for one in results]).astype(np.float64),
        np.concatenate([one.has_lesion for one in results]), overlap.concatenate([one.counts for one in results]),
    )  # fmt: skip


def _estimate_over_seeds(patients: AnyArray, seeds: AnyArray, values: DoubleArray) -> Estimate:
    """Estimate the mean over seeds of a mean over rows; rows of NaN are left out."""
    there = ~np.isnan(values)
    if not there.any():
        return Estimate(np.nan, np.nan, np.nan)
    own = (seeds[there, None] == np.unique(seeds)).astype(np.float64)
    columns, count = np.concatenate([own * values[there, None], own], axis=1), own.shape[1]
    return bootstrap_sums(
        patients[there], columns, lambda sums: _average_seeds(sums[:, :count] / sums[:, count:], 1)[:, None]
    )[0]


def _average_seeds(values: DoubleArray, axis: int = 0) -> DoubleArray:
    """Average, leaving out what a seed cannot score."""
    return np.asarray(np.ma.masked_invalid(values).mean(axis=axis).filled(np.nan), np.float64)


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
        letter_panels(figure, [index * _PITCH_MM + 0.5 for index in range(len(models))])
    return figure


def _draw_lines(axes: Axes, own: Sequence[MeasuredCell], batch: int, colour: str, shift: int) -> None:
    """Draw one model and batch; `shift` sets lines apart by a few epochs, so that bars do not hide each other."""
    printed = [(one.thesis_epochs, one.thesis.dice) for one in own if one.thesis]
    axes.plot(*zip(*printed, strict=True), "s", color=colour, label=f"thesis, batch {batch}", **_HOLLOW)
    scored = [(one.thesis_epochs + shift, one.scores["dice"]) for one in own if one.scores]
    ours = [(at, dice.value, dice.low, dice.high) for at, dice in scored if dice.value is not None]
    if ours:
        axes.plot([one[0] for one in ours], [one[1] for one in ours], "o-", color=colour,
                  label=f"ours, batch {batch}", markersize=3.2)  # fmt: skip
    for at, _, low, high in ours:
        if low is not None and high is not None:
            axes.plot((at, at), (low, high), color=colour, linewidth=0.8, alpha=0.7)
