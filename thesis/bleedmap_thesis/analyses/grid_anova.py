"""Analysis of variance of the grid: model and batch between runs, epochs within them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np
from scipy import stats

from bleedmap.page.section import Table
from bleedmap_thesis.analyses.anova import Anova, Effect, SplitPlot, split_plot
from bleedmap_thesis.analyses.paired_slices import LESION_DICE, NOT_APPLICABLE, Row, gathered, p_in_words, select
from bleedmap_thesis.plan import Scale
from bleedmap_thesis.record import CellResult
from bleedmap_thesis.titles import at_scale, seeds_in_words

MODELS, BATCHES = ("model-1", "model-2"), (16, 32)
_NAMES = {"time": "epochs"}
_ALPHA = 0.05


def runs_by_slice(results: Sequence[CellResult], scale: Scale) -> dict[tuple[str, int, int], CellResult]:
    """(model, batch, seed) -> its run by slice."""
    return {
        (model, batch, one.cell.seed): one
        for model, batch in product(MODELS, BATCHES)
        for one in select(results, scale, "grid", f"{model}-b{batch}", "slice")
    }


def variance(results: Sequence[CellResult], scale: Scale, lesions: frozenset[str]) -> tuple[list[Table], list[str]]:
    """Model × batch between runs, epochs within them, seeds as blocks; only seeds whose four runs are done."""
    runs = runs_by_slice(results, scale)
    seeds = [seed for seed in sorted({key[2] for key in runs})
             if all((*pair, seed) in runs for pair in product(MODELS, BATCHES))]  # fmt: skip
    if not seeds:
        return [], []
    keys = [(model, batch, seed) for seed in seeds for model, batch in product(MODELS, BATCHES)]
    values = np.array([
        [float(np.nanmean(gathered([runs[key]], lesions, kept.epoch).dice)) for kept in runs[key].evaluations]
        for key in keys
    ])  # fmt: skip
    factors: dict[str, list[object]] = {"model": [key[0] for key in keys], "batch": [key[1] for key in keys]}
    terms = ["model", "batch"]
    if len(seeds) > 1:
        factors["seed"] = [key[2] for key in keys]
        terms = ["seed", "model", "batch", "model:batch"]
    found = split_plot(values, factors, terms, [term for term in terms if term != "seed"])
    words = [_variance_words(found, len(seeds))]
    if len(seeds) == 1:
        words.append(_cannot_be_told(found))
    return [_table(found, values.shape, len(seeds), scale)], [*words, _assumptions(found)]


def _table(found: SplitPlot, shape: tuple[int, ...], seeds: int, scale: Scale) -> Table:
    rows = [*_lines("between runs", found.between, {}), *_lines("within runs", found.within, found.corrected_p)]
    error = (
        "With one seed no run repeats another: the interaction model × batch (1 degree of freedom) and its own with "
        "epochs have to serve as error, so that only very large effects could show"
        if seeds == 1 else f"Seeds ({seeds}) are blocks"
    )  # fmt: skip
    return Table(
        "anova-grid", "Analysis of variance of the grid: model, batch, epochs",
        f"Response: a run's lesion-slice Dice at each of {shape[1]} kept epochs, {shape[0]} runs by slice. A run is "
        "measured again and again, so model and batch are held against differences between runs, epochs against what "
        f"is left within runs. {error}. {_epsilon_text(found)} Partial η² is biased upward where the error has few "
        "degrees of freedom; partial ω² less so, but its formula is of independent observations, so that it stands "
        f"between runs alone. {LESION_DICE}. {at_scale(scale)}",
        ("stratum", "term", "df", "sum of squares", "F", "p", "corrected p", "partial η²", "partial ω²"), tuple(rows),
        digits={"sum of squares": 5},
    )  # fmt: skip


def _lines(stratum: str, of: Anova, corrected: Mapping[str, float | None]) -> Iterator[Row]:
    for one in of.effects:
        yield (stratum, _name(one.name), one.df, one.sum_of_squares, one.f, one.p,
               corrected.get(one.name, one.p), one.partial_eta2,
               NOT_APPLICABLE if one.f is not None and one.partial_omega2 is None else one.partial_omega2)  # fmt: skip
    yield stratum, "error", of.error_df, of.error_sum_of_squares, *(NOT_APPLICABLE,) * 5


def _epsilon_text(found: SplitPlot) -> str:
    if found.epsilon is None:
        least = "the epochs' degrees of freedom at their least (Geisser and Greenhouse 1958)"
        return f"Corrected p: {least}, for no run is repeated."
    return f"Corrected p: Greenhouse and Geisser's ε = {found.epsilon:.2f} for departures from sphericity."


def _variance_words(found: SplitPlot, seeds: int) -> str:
    strata = [(one, of.error_df) for of in (found.between, found.within) for one in of.effects if one.name != "seed"]
    told = [
        f"{_name(one.name)} F({one.df}, {error_df}) = {one.f:.2f}, "
        f"{p_in_words(found.corrected_p.get(one.name, one.p))}, {_size(one)}"
        for one, error_df in strata
        if one.f is not None
    ]
    tested = "; ".join(told) or "no error to test against"
    return (
        f"Analysis of variance over model, batch and epochs, {seeds_in_words(seeds)}, p of epochs corrected: {tested}."
    )


def _size(effect: Effect) -> str:
    if effect.partial_omega2 is not None:
        return f"partial ω² = {effect.partial_omega2:.2f}"
    return f"partial η² = {effect.partial_eta2:.2f}"


def _name(term: str) -> str:
    """'time:model' -> 'epochs × model'."""
    return " × ".join(_NAMES.get(part, part) for part in term.split(":"))


def _cannot_be_told(found: SplitPlot) -> str:
    """What one seed leaves open."""
    df = found.between.error_df
    needed = f"{stats.f.ppf(1 - _ALPHA, 1, df):.0f}" if df else "nothing that could be had"
    return (
        "With one seed each pair of model and batch was trained once. It cannot be told how much two trainings of the "
        "same recipe differ, so that an effect of model or batch cannot be told from chance, nor whether model and "
        f"batch act together: their interaction has to serve as error, with {df} degree of freedom, under which p < "
        f"{_ALPHA} needs an F above {needed}. A larger p is no evidence that they do not matter, and a smaller one "
        "holds only if they do not act together."
    )


def _assumptions(found: SplitPlot) -> str:
    checks = [
        f"{name}: Shapiro–Wilk {p_in_words(p)}" if (p := of.normality_p()) is not None else f"{name}: too few residuals"
        for name, of in (("between runs", found.between), ("within runs", found.within))
    ]
    spread = found.spread_p
    checks.append(
        "equal spread of the runs' residuals: "
        + (f"Levene {p_in_words(spread)}" if spread is not None else "cannot be tested")
    )
    told = "; ".join(checks)
    return (
        f"Assumptions, on residuals: {told}. Where p < {_ALPHA} the assumption does not hold and the F tests' p are "
        "rough; "
        "elsewhere so few runs would miss all but gross departures."
    )
