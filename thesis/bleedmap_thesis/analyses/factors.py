"""The fractional factorial: dropout, filters, optimiser, kernel size, stride and kind of split in sixteen runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats
from statsmodels.stats.multitest import multipletests

from bleedmap.arrays import DoubleArray
from bleedmap.figures import style
from bleedmap.metrics.bootstrap import COVERAGE
from bleedmap.page.section import Estimate, Picture, Section, Table, tabulate
from bleedmap_thesis.analyses import paired_slices as paired
from bleedmap_thesis.analyses.anova import Anova, anova, levene_p
from bleedmap_thesis.plan import FACTORS, SGD_RATE, Scale, name_method
from bleedmap_thesis.record import CellResult

RUNS = 16
_LEAST_ERROR_DF = 2  # below it no interval is worth printing
_PSEUDO, _OUTLYING = 1.5, 2.5  # Lenth's (1989) constants
_LEVELS = {
    "dropout": "none less 0.1", "filters": "half less all", "optimiser": f"SGD (rate ×{SGD_RATE}) less Adam",
    "kernel": "5×5 less 3×3", "stride": "stride 2 less pooling", "split": "by patient less by slice",
}  # fmt: skip
CONVENTION = (
    f"{RUNS} runs of a 2^(6-2) design of resolution IV, one seed, {name_method(paired.MAIN)}, fold 1. "
    f"{paired.LESION_DICE}. No factor is confounded with an interaction of two, but interactions of two are with each "
    "other; SGD comes with its own learning rate; by slice and by patient other slices are tested, so the split's "
    "effect is also one of slices. No run is repeated: chance between runs is not measured by itself, and an effect "
    "that does not stand out is not shown to be nil."
)


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


def code_levels(levels: Sequence[Mapping[str, str]]) -> dict[str, DoubleArray]:
    """Code each factor's levels as (runs,) -1 at its first level, the thesis', and 1 at the other."""
    return {name: np.array([2.0 * FACTORS[name].index(run[name]) - 1 for run in levels]) for name in FACTORS}


def find_aliases(design: Mapping[str, DoubleArray]) -> list[tuple[tuple[str, ...], ...]]:
    """Find the products of factors that are the same column up to sign; the constant's own are left out."""
    found: dict[tuple[float, ...], list[tuple[str, ...]]] = {}
    for size in range(1, len(design) + 1):
        for word in combinations(design, size):
            column = np.prod([design[name] for name in word], axis=0)
            found.setdefault(tuple((column * column[0]).tolist()), []).append(word)
    constant = tuple(np.ones(len(next(iter(design.values())))).tolist())
    return [tuple(words) for column, words in found.items() if column != constant]


def compute_contrasts(design: Mapping[str, DoubleArray], response: DoubleArray) -> list[Contrast]:
    """Compute all effects that the runs can tell apart, largest first."""
    made = []
    for words in find_aliases(design):
        column = np.prod([design[name] for name in words[0]], axis=0)
        made.append(Contrast(words, float(response[column > 0].mean() - response[column < 0].mean())))
    return sorted(made, key=lambda one: -abs(one.effect))


def compute_lenth_margin(effects: DoubleArray) -> float:
    """Compute the margin of error of an effect when most effects are nil (Lenth 1989, Technometrics 31, 469)."""
    sizes = np.abs(effects)
    start = _PSEUDO * np.median(sizes)
    pseudo = _PSEUDO * np.median(sizes[sizes < _OUTLYING * start]) if start > 0 else 0.0
    return float(stats.t.ppf((1 + COVERAGE) / 2, len(sizes) / 3) * pseudo)


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """Tabulate main effects with intervals, what they are confounded with, and how far the assumptions hold."""
    cells = [one for one in results if (one.cell.scale, one.cell.part) == (scale.name, "factors")]
    if not cells:
        return None
    lesions, levels = paired.find_lesions(results, scale), [dict(one.cell.levels) for one in cells]
    response = np.array([float(np.nanmean(paired.gather([one], lesions).dice)) for one in cells])
    runs = tabulate("factors-runs", "The runs", "Fold 1, seed 0, after all epochs.", [
        {"run": one.cell.label, **run, "parameters": one.parameters,
         "lesion slices": one.split["test"]["lesion_slices"], "Dice": dice}
        for one, run, dice in zip(cells, levels, response, strict=True)
    ])  # fmt: skip
    tables, pictures = [runs], []
    design = np.column_stack([np.ones(len(cells)), *code_levels(levels).values()])
    rank = np.linalg.matrix_rank(design)
    if rank > len(FACTORS) and len(cells) - rank >= _LEAST_ERROR_DF:  # enough runs to tell the factors apart
        table = anova(response, {name: [run[name] for run in levels] for name in FACTORS}, list(FACTORS))
        effects = _estimate_effects(table, design, response)
        tables = [_tabulate_effects(effects, table), _tabulate_assumptions(table, levels), runs]
        if len(cells) == RUNS:
            contrasts = compute_contrasts(code_levels(levels), response)
            tables.insert(1, _tabulate_contrasts(contrasts))
            pictures = [Picture(
                "factors", "Effects of the six factors, and a half-normal plot of all fifteen contrasts",
                partial(_draw, effects, contrasts, scale),
            )]  # fmt: skip
    asked = "Which settings matter: dropout, filters, optimiser, kernel size, stride?"
    return Section("factors", asked, (CONVENTION,), tuple(tables), tuple(pictures))


def _estimate_effects(table: Anova, design: DoubleArray, response: DoubleArray) -> list[Estimate]:
    """Estimate main effects by least squares; what they leave of the runs serves as error."""
    coefficients = np.linalg.lstsq(design, response, rcond=None)[0][1:]
    spread = np.sqrt(np.diag(np.linalg.inv(design.T @ design))[1:] * table.error_sum_of_squares / table.error_df)
    half = 2 * spread * stats.t.ppf((1 + COVERAGE) / 2, table.error_df)  # an effect is twice its coefficient
    return [Estimate(one, one - margin, one + margin) for one, margin in zip(2 * coefficients, half, strict=True)]


def _tabulate_effects(effects: Sequence[Estimate], table: Anova) -> Table:
    adjusted = multipletests([1.0 if one.p is None else one.p for one in table.effects], method="holm")[1]
    return tabulate(
        "factors", "Main effects on Dice",
        f"{table.n} of {RUNS} runs. Effect: mean Dice at the second level less at the first (the thesis'). Intervals: "
        f"Student's t with {table.error_df} degrees of freedom, whose error is the spread that main effects leave: "
        "interactions and chance together. Holm: p corrected for six tests.",
        [
            {"factor": one.name, "levels": _LEVELS[one.name], "effect": effect, "F": one.f, "p": one.p,
             "p (Holm)": holm, "partial η²": one.partial_eta2, "partial ω²": one.partial_omega2}
            for one, effect, holm in zip(table.effects, effects, adjusted, strict=True)
        ],
    )  # fmt: skip


def _tabulate_assumptions(table: Anova, levels: Sequence[Mapping[str, str]]) -> Table:
    found = {"normality (Shapiro–Wilk)": table.normality_p()} | {
        f"equal spread at both levels of {name} (Levene)": levene_p(table.residuals, [run[name] for run in levels])
        for name in FACTORS
    }
    return tabulate(
        "factors-assumptions",
        "How far the assumptions hold",
        "On residuals. Where p < 0.05 the assumption does not hold and intervals are rough; elsewhere so few runs "
        "would miss all but gross departures.",
        [{"assumption": name, "p": p} for name, p in found.items()],
    )


def _tabulate_contrasts(contrasts: Sequence[Contrast]) -> Table:
    margin = compute_lenth_margin(np.array([one.effect for one in contrasts]))
    return tabulate(
        "factors-contrasts", "All fifteen contrasts and what each is confounded with",
        f"Aliases that the runs cannot tell apart share a line. Margin: an effect beyond ±{margin:.3f} stands out if "
        "most are nil (Lenth 1989, 95 %, each by itself). Signs of interactions are those of the first alias.",
        [
            {"contrast": one.name, "all aliases": " = ".join(map("×".join, one.words)), "effect": one.effect,
             "beyond the margin": "yes" if abs(one.effect) > margin else "no"}
            for one in contrasts
        ],
    )  # fmt: skip


def _draw(effects: Sequence[Estimate], every: Sequence[Contrast], scale: Scale) -> Figure:
    """Draw a: main effects with intervals; b: a half-normal plot."""
    words = (
        f"Fractional factorial, {RUNS} runs, one seed, fold 1. a: effect of each factor on Dice, second level less "
        "first, with 95 % intervals. b: sizes of all fifteen contrasts against what chance alone would order along a "
        f"straight line; the dashed line is Lenth's margin. {paired.LESION_DICE}. {scale.describe()}"
    )
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(68, words)
        left, right = style.panel(figure, 42, 6, 50, 50), style.panel(figure, 110, 6, 68, 50)
        _draw_effects(left, effects)
        _draw_half_normal(right, every)
        style.letters(figure, (0.5, 98))
    return figure


def _draw_effects(axes: Axes, effects: Sequence[Estimate]) -> None:
    ends = np.array([(one.value, one.low, one.high) for one in effects])
    axes.axvline(0, color=style.FAINT, linewidth=0.6)
    axes.hlines(range(len(ends)), ends[:, 1], ends[:, 2], color=style.PALETTE[0])
    axes.plot(ends[:, 0], range(len(ends)), "o", color=style.PALETTE[0], markersize=3.5)
    names = [f"{name}:\n{_LEVELS[name]}" for name in FACTORS]
    axes.set(yticks=range(len(ends)), yticklabels=names, xlabel="effect on Dice", ylim=(len(ends) - 0.5, -0.5))


def _draw_half_normal(axes: Axes, every: Sequence[Contrast]) -> None:
    sizes = np.array([abs(one.effect) for one in every])[::-1]
    expected = stats.halfnorm.ppf((np.arange(len(sizes)) + 0.5) / len(sizes))
    margin = compute_lenth_margin(sizes)
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
