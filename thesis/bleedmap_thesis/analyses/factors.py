"""The fractional factorial: dropout, filters, optimiser, kernel size, stride, kind of split, in sixteen runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from bleedmap.arrays import DoubleArray
from bleedmap.figures import style
from bleedmap.metrics.bootstrap import COVERAGE
from bleedmap.page.section import Picture, Section, Table, Value
from bleedmap_thesis.analyses.anova import anova, levene_p
from bleedmap_thesis.analyses.paired_slices import LESION_DICE, MAIN, gathered, in_words, lesion_ids, p_in_words
from bleedmap_thesis.plan import FACTORS, SGD_RATE, Scale
from bleedmap_thesis.record import CellResult
from bleedmap_thesis.titles import at_scale, letters, title

RUNS = 16
_LEAST_ERROR_DF = 2  # below it no interval is worth printing
_PSEUDO, _OUTLYING = 1.5, 2.5  # Lenth's (1989) constants
_TEXT = {
    "dropout": "none less 0.1", "filters": "half less all", "optimiser": f"SGD (rate ×{SGD_RATE}) less Adam",
    "kernel": "5×5 less 3×3", "stride": "stride 2 less pooling", "split": "by patient less by slice",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Contrast:
    """One of the fifteen: a factor or interactions that the design cannot tell apart, and their common effect.

    Attributes:
        words: factors of each alias, shortest first, such as (('dropout', 'optimiser'), ('filters', 'split')).
        effect: mean of the runs at its plus less mean of those at its minus.
    """

    words: tuple[tuple[str, ...], ...]
    effect: float

    @property
    def name(self) -> str:
        """Aliases of up to two factors; else the first."""
        short = [word for word in self.words if len(word) <= 2] or self.words[:1]
        return " = ".join("×".join(word) for word in short)


def signs(levels: Sequence[Mapping[str, str]]) -> dict[str, DoubleArray]:
    """Factor -> (runs,) -1 at its first level, the thesis', and 1 at the other."""
    return {
        name: np.array([2.0 * FACTORS[name].index(run[name]) - 1 for run in levels]) for name in FACTORS
    }  # fmt: skip


def aliases(design: Mapping[str, DoubleArray]) -> list[tuple[tuple[str, ...], ...]]:
    """Products of factors that are the same column up to sign, from the design itself; the constant's own left out."""
    found: dict[tuple[float, ...], list[tuple[str, ...]]] = {}
    for size in range(1, len(design) + 1):
        for word in combinations(design, size):
            column = np.prod([design[name] for name in word], axis=0)
            found.setdefault(tuple((column * column[0]).tolist()), []).append(word)
    constant = tuple(np.ones(len(next(iter(design.values())))).tolist())
    return [tuple(words) for column, words in found.items() if column != constant]


def contrasts(design: Mapping[str, DoubleArray], response: DoubleArray) -> list[Contrast]:
    """All effects that the runs can tell apart, largest first."""
    made = []
    for words in aliases(design):
        column = np.prod([design[name] for name in words[0]], axis=0)
        made.append(Contrast(words, float(response[column > 0].mean() - response[column < 0].mean())))
    return sorted(made, key=lambda one: -abs(one.effect))


def lenth_margin(effects: DoubleArray) -> float:
    """Margin of error of an effect when most effects are nil (Lenth 1989, Technometrics 31, 469): no error needed."""
    sizes = np.abs(effects)
    start = _PSEUDO * np.median(sizes)
    pseudo = _PSEUDO * np.median(sizes[sizes < _OUTLYING * start]) if start > 0 else 0.0
    return float(stats.t.ppf((1 + COVERAGE) / 2, len(sizes) / 3) * pseudo)


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """Main effects with intervals, what they are confounded with, and how far the assumptions hold."""
    cells = [one for one in results if (one.cell.scale, one.cell.part) == (scale.name, "factors")]
    if not cells:
        return None
    lesions = lesion_ids(results, scale)
    levels = [dict(one.cell.levels) for one in cells]
    response = np.array([float(np.nanmean(gathered([one], lesions).dice)) for one in cells])
    asked = "Which settings matter: dropout, filters, optimiser, kernel size, stride?"
    runs = _runs_table(cells, levels, response, scale)
    rank = np.linalg.matrix_rank(np.column_stack([np.ones(len(cells)), *signs(levels).values()]))
    if rank < len(FACTORS) + 1 or len(cells) - rank < _LEAST_ERROR_DF:
        few = f"{len(cells)} of {RUNS} runs are done: too few to tell the factors apart."
        return Section("factors", asked, (few,), (runs,))
    effects, words = _effects(levels, response, scale)
    tables, pictures = [effects, runs], []
    if len(cells) == RUNS:
        every = contrasts(signs(levels), response)
        tables.insert(1, _contrast_table(every, scale))
        pictures = [Picture("factors", "Effects of the six factors, and a half-normal plot of all fifteen contrasts",
                            partial(_draw, effects, every, scale))]  # fmt: skip
    return Section("factors", asked, words, tuple(tables), tuple(pictures))


def _effects(levels: Sequence[Mapping[str, str]], response: DoubleArray, scale: Scale) -> tuple[Table, tuple[str, ...]]:
    """Main effects by least squares; what is left of the runs, mostly interactions of two, serves as error."""
    table = anova(response, {name: [run[name] for run in levels] for name in FACTORS}, list(FACTORS))
    design = np.column_stack([np.ones(len(response)), *signs(levels).values()])
    coefficients = np.linalg.lstsq(design, response, rcond=None)[0][1:]
    spread = np.sqrt(np.diag(np.linalg.inv(design.T @ design))[1:] * table.error_sum_of_squares / table.error_df)
    half = 2 * spread * stats.t.ppf((1 + COVERAGE) / 2, table.error_df)  # an effect is twice its coefficient
    adjusted = _holm([1.0 if one.p is None else one.p for one in table.effects])
    rows: list[tuple[Value, ...]] = []
    for one, twice, margin, holm in zip(table.effects, 2 * coefficients, half, adjusted, strict=True):
        ends = [float(end) for end in (twice, twice - margin, twice + margin)]
        rows.append((one.name, _TEXT[one.name], *ends, one.f, one.p, holm, one.partial_eta2, one.partial_omega2))
    made = Table(
        "factors", "Main effects on Dice",
        f"{len(response)} runs of 2^(6-2), one seed, {title(MAIN)}, fold 1. Effect: mean Dice at the second level "
        "less at the first (the thesis'). "
        f"Intervals: Student's t with {table.error_df} degrees of freedom, whose error is the spread that main effects "
        "leave: interactions and chance together. Holm: p corrected for six tests. Fold 1 by slice and by patient test "
        f"different slices, so the split's effect is also one of slices. {LESION_DICE}. {at_scale(scale)}",
        ("factor", "levels", "effect", "effect low", "effect high", "F", "p", "p (Holm)", "partial η²", "partial ω²"),
        tuple(rows),
    )  # fmt: skip
    shown = [
        row for row in sorted(rows, key=lambda row: float(row[7] or 0)) if isinstance(row[7], float) and row[7] < 0.05
    ]
    said = [f"{row[0]} ({row[1]}): {in_words(row[2:5])}, Holm {p_in_words(row[7])}" for row in shown]
    answer = (
        f"Of six factors in {len(response)} runs, effects on Dice stand out from the error: {'; '.join(said)}."
        if said else f"None of the six factors' effects on Dice stands out from the error in {len(response)} runs."
    )  # fmt: skip
    answer += (
        f" An effect that does not stand out is not shown to be nil: the intervals reach up to ±{max(half):.2f} Dice "
        "from "
        f"the effect, with {table.error_df} degrees of freedom for error."
    )
    if len(response) < RUNS:
        answer += f" {len(response)} of {RUNS} runs are done: the design is not balanced yet, and this will change."
    return made, (answer, _design_words(), _checks(table.residuals, table.normality_p(), levels))


def _holm(p: Sequence[float]) -> list[float]:
    order, highest, adjusted = np.argsort(p), 0.0, [0.0] * len(p)
    for rank, index in enumerate(order.tolist()):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        adjusted[index] = highest
    return adjusted


def _design_words() -> str:
    return (
        "The design is a quarter of all 64 combinations: stride follows filters·optimiser·kernel and split follows "
        "dropout·filters·optimiser. It has resolution IV: no factor is confounded with an interaction of two, but "
        "each with two or more of three or more factors, and interactions of two with each other. SGD comes with its "
        "own learning rate, so that 'optimiser' means both. One seed: no run is repeated, and how much chance there "
        "is between runs is not measured by itself."
    )


def _checks(residuals: DoubleArray, normality: float | None, levels: Sequence[Mapping[str, str]]) -> str:
    found = []
    for name in FACTORS:
        spread = levene_p(residuals, [run[name] for run in levels])
        found += [] if spread is None else [f"{name} {p_in_words(spread)}"]
    return (
        f"Assumptions, on residuals: Shapiro–Wilk {'not to be had' if normality is None else p_in_words(normality)}; "
        f"equal spread at a factor's two levels (Levene): {', '.join(found) or 'not to be had'}. Where p < "
        f"0.05 the assumption does not hold and intervals are rough; elsewhere {len(residuals)} runs would miss all "
        "but "
        "gross departures."
    )


def _contrast_table(every: Sequence[Contrast], scale: Scale) -> Table:
    margin = lenth_margin(np.array([one.effect for one in every]))
    return Table(
        "factors-contrasts", "All fifteen contrasts and what each is confounded with",
        f"Aliases that the sixteen runs cannot tell apart share a line. Margin: an effect beyond ±{margin:.3f} stands "
        "out if most are nil (Lenth 1989, 95 %, each by itself). Signs of interactions are those of the first alias. "
        f"{LESION_DICE}. {at_scale(scale)}",
        ("contrast", "all aliases", "effect", "beyond the margin"),
        tuple(
            (one.name, " = ".join(map("×".join, one.words)), one.effect, "yes" if abs(one.effect) > margin else "no")
            for one in every
        ),
    )  # fmt: skip


def _runs_table(
    cells: Sequence[CellResult], levels: Sequence[Mapping[str, str]], response: DoubleArray, scale: Scale
) -> Table:
    return Table(
        "factors-runs", "The runs", f"Fold 1, seed 0, after all epochs. {LESION_DICE}. {at_scale(scale)}",
        ("run", *levels[0], "parameters", "lesion slices", "Dice"),
        tuple(
            (one.cell.label, *run.values(), one.parameters, one.split["test"]["lesion_slices"], float(dice))
            for one, run, dice in zip(cells, levels, response, strict=True)
        ),
    )  # fmt: skip


def _draw(effects: Table, every: Sequence[Contrast], scale: Scale) -> Figure:
    """a: main effects with intervals. b: half-normal plot."""
    words = (
        f"Fractional factorial, {RUNS} runs, one seed, fold 1. a: effect of each factor on Dice, second level less "
        "first, with 95 % intervals. b: sizes of all fifteen contrasts against what chance alone would order along a "
        f"straight line; the dashed line is Lenth's margin. {LESION_DICE}. {at_scale(scale)}"
    )
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(68, words)
        left, right = style.panel(figure, 42, 6, 50, 50), style.panel(figure, 110, 6, 68, 50)
        _draw_effects(left, effects)
        _draw_half_normal(right, every)
        letters(figure, (0.5, 98))
    return figure


def _draw_effects(axes: Axes, effects: Table) -> None:
    ends = np.array([row[2:5] for row in effects.rows], np.float64)
    axes.axvline(0, color=style.FAINT, linewidth=0.6)
    axes.hlines(range(len(ends)), ends[:, 1], ends[:, 2], color=style.PALETTE[0])
    axes.plot(ends[:, 0], range(len(ends)), "o", color=style.PALETTE[0], markersize=3.5)
    names = [f"{row[0]}:\n{row[1]}" for row in effects.rows]
    axes.set(yticks=range(len(ends)), yticklabels=names, xlabel="effect on Dice", ylim=(len(ends) - 0.5, -0.5))


def _draw_half_normal(axes: Axes, every: Sequence[Contrast]) -> None:
    sizes = np.array([abs(one.effect) for one in every])[::-1]
    expected = stats.halfnorm.ppf((np.arange(len(sizes)) + 0.5) / len(sizes))
    margin = lenth_margin(sizes)
    main = np.array([len(one.words[0]) == 1 for one in every])[::-1]
    for chosen, colour, name in ((main, style.PALETTE[0], "factor"), (~main, style.PALETTE[1], "interactions")):
        axes.plot(sizes[chosen], expected[chosen], "o", color=colour, markersize=3.5, label=name)
    axes.axvline(margin, color=style.FAINT, linestyle=(0, (3, 1.5)), linewidth=0.8)
    for one, size, place in zip(every[::-1], sizes, expected, strict=True):
        if size > margin:
            side = (-4, "right") if size > sizes[-1] / 2 else (4, "left")
            axes.annotate(one.name, (size, place), xytext=(side[0], 0), textcoords="offset points", ha=side[1],
                          va="center", fontsize=style.SMALL_PT)  # fmt: skip
    axes.set(xlabel="size of the effect on Dice", ylabel="half-normal quantile", ylim=(0, None))
    axes.set_xlim(left=0)
    axes.legend(frameon=False, fontsize=style.SMALL_PT, loc="lower right")
