"""Two claims of the thesis, with figures: dropout generalises better; the batch does not matter. And its ANOVA."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.experiments.comparison import (
    INTERVAL,
    KINDS,
    LESION_DICE,
    Estimate,
    gathered,
    in_words,
    lesion_ids,
    mean,
    p_in_words,
    paired,
    select,
    sign_flip_p,
    sizes,
    t_interval,
)  # fmt: skip
from bleedmap.experiments.plan import THESIS_EPOCHS, THESIS_STEP, Scale
from bleedmap.experiments.record import CellResult
from bleedmap.experiments.section import Section, Table, Value
from bleedmap.metrics.anova import Anova, SplitPlot, split_plot

Row = tuple[Value, ...]
_MODELS, _BATCHES = ("model-1", "model-2"), (16, 32)
_WITHOUT, _WITH = "model-1-b32", "model-2-b32"
_LAST = 0.1  # of the epochs, over which the curves' ends are averaged
_LARGEST_IN_THESIS = 0.01  # difference of Dice between the batches anywhere in Table 1


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """Dropout and batch, paired by test slice; analysis of variance of the grid."""
    lesions, note = lesion_ids(results, scale), f"{INTERVAL}. Scale: {scale.text}."
    if not lesions:
        return None
    tables: list[Table] = []
    words: list[str] = []
    for made, said in (
        _dropout(results, scale, lesions, note), _curve_gaps(results, scale), _batch(results, scale, lesions, note),
        _variance(results, scale, lesions),
    ):  # fmt: skip
        tables += made
        words += said
    if not tables:
        return None
    title = "Does dropout generalise better, and does the batch not matter, as the thesis says?"
    return Section("batch-and-dropout", title, tuple(words), tuple(tables))


def _dropout(
    results: Sequence[CellResult], scale: Scale, lesions: frozenset[str], note: str
) -> tuple[list[Table], list[str]]:
    """Model 2 less Model 1 on the same test slices, each kind; and whether its gap between kinds is smaller."""
    changes: dict[str, tuple[dict[tuple[int, str], float], AnyArray]] = {}
    rows: list[Row] = []
    for kind in KINDS:
        cells = [select(results, scale, "folds", label, kind) for label in (_WITH, _WITHOUT)]
        if not all(cells):
            continue
        one, other = paired(*(gathered(own, lesions) for own in cells))
        one, other = one.rows(one.lesion), other.rows(other.lesion)
        if not len(one.ids):
            continue
        change = one.dice - other.dice
        keys = zip(one.seeds.tolist(), one.ids.tolist(), strict=True)
        changes[kind] = dict(zip(keys, change.tolist(), strict=True)), one.patients
        rows.append((f"by {kind}", *sizes(one), float(other.dice.mean()), float(one.dice.mean()),
                     *mean(one.patients, change).cells, sign_flip_p(one.patients, change)))  # fmt: skip
    if len(changes) == len(KINDS):
        rows += _smaller_gap(changes["slice"][0], changes["patient"][0])
    if not rows:
        return [], []
    table = Table(
        "dropout", "Model 2 (dropout 0.1) less Model 1 (none), batch 32, paired by test slice",
        "Last row: the difference by patient less that by slice: above 0, dropout helps more on patients not seen, "
        f"and the gap between the kinds is smaller with it. p: sign flips of whole patients. {LESION_DICE}. {note}",
        ("split", "lesion slices", "bleeding patients", "Dice without", "Dice with", "difference", "low", "high", "p"),
        tuple(rows),
    )  # fmt: skip
    said = [
        f"Dropout, {row[0]}: difference of Dice {in_words(row[5:8])}, {p_in_words(row[8])}, n = {row[1]} lesion "
        f"slices of {row[2]} patients. {_verdict(row[6], row[7])}"
        for row in rows
    ]
    return [table], said


def _verdict(low: Value, high: Value) -> str:
    if not isinstance(low, float) or not isinstance(high, float):
        return ""
    if low > 0 or high < 0:
        return "The interval leaves 0 out, for these trained networks; other seeds may differ."
    return "The interval holds 0: no difference is shown, and none is excluded within it."


def _smaller_gap(by_slice: dict[tuple[int, str], float], by_patient: dict[tuple[int, str], float]) -> Iterator[Row]:
    keys = [key for key in by_slice if key in by_patient]
    if keys:
        change = np.array([by_patient[key] - by_slice[key] for key in keys])
        who = np.array([name.split("/")[0] for _, name in keys])
        n = len({name for _, name in keys}), len(np.unique(who))
        yield "by patient less by slice", *n, None, None, *mean(who, change).cells, sign_flip_p(who, change)


def _curve_gaps(results: Sequence[CellResult], scale: Scale) -> tuple[list[Table], list[str]]:
    """Training less validation, from the ends of the curves, run against run of the same fold."""
    rows: list[Row] = []
    said: list[str] = []
    for kind in KINDS:
        ends = [
            {
                (one.cell.seed, one.cell.fold): _curve_end(one)
                for one in select(results, scale, "folds", label, kind)
                if one.curves
            }
            for label in (_WITHOUT, _WITH)
        ]  # fmt: skip
        keys = [key for key in ends[0] if key in ends[1]]
        if not keys:
            continue
        without, with_it = (np.array([own[key] for key in keys]) for own in ends)
        change = t_interval(with_it - without)
        rows.append((kind, len(keys), float(without.mean()), float(with_it.mean()), *change.cells))
        said.append(
            f"Training less validation soft Dice, by {kind}: {without.mean():.3f} without dropout, "
            f"{with_it.mean():.3f} with; difference {in_words(change.cells)}, n = {len(keys)} folds."
        )
    table = Table(
        "dropout-curves", "How much better training scores than validation, at the end of the curves",
        f"Soft Dice over the last {_LAST:.0%} of the epochs: training is -loss, the mean over batches as they were "
        "trained (mirrored, with dropout, which lowers Model 2's and so its difference), validation is the validation "
        "side's. Intervals: Student's t over folds, which share training slices, so they are somewhat narrow. Scale: "
        f"{scale.text}.",
        ("split by", "folds × seeds", "without dropout", "with dropout", "difference", "low", "high"), tuple(rows),
    )  # fmt: skip
    return ([table] if rows else []), said


def _curve_end(one: CellResult) -> float:
    last = one.curves[-max(1, round(_LAST * len(one.curves))) :]
    found = [-entry["loss"] - entry["validation_soft_dice"] for entry in last if "validation_soft_dice" in entry]
    return float(np.mean(found)) if found else float("nan")


def _grid_runs(results: Sequence[CellResult], scale: Scale) -> dict[tuple[str, int, int], CellResult]:
    """(model, batch, seed) -> its run by slice."""
    return {
        (model, batch, one.cell.seed): one
        for model, batch in product(_MODELS, _BATCHES)
        for one in select(results, scale, "grid", f"{model}-b{batch}", "slice")
    }


def _batch(
    results: Sequence[CellResult], scale: Scale, lesions: frozenset[str], note: str
) -> tuple[list[Table], list[str]]:
    """Batch 32 less 16 on the same test slices."""
    runs, rows = _grid_runs(results, scale), []
    kept = {scale.epochs(epochs): epochs for epochs in range(THESIS_STEP, THESIS_EPOCHS + 1, THESIS_STEP)}
    for model in _MODELS:
        seeds = sorted(seed for name, batch, seed in runs if (name, batch) == (model, 16) and (model, 32, seed) in runs)
        if not seeds:
            continue
        changes, who = [], np.array([])
        for epoch, epochs in kept.items():
            small, large = ([runs[model, batch, seed] for seed in seeds] for batch in _BATCHES)
            one, other = paired(gathered(large, lesions, epoch), gathered(small, lesions, epoch))
            one, other = one.rows(one.lesion), other.rows(other.lesion)
            who, n = one.patients, sizes(one)
            changes.append(one.dice - other.dice)
            rows.append(_batch_row(model, str(epochs), len(seeds), n, who, changes[-1]))
        rows.append(_batch_row(model, "all", len(seeds), n, who, np.mean(changes, axis=0)))
    if not rows:
        return [], []
    table = Table(
        "batch", "Batch 32 less batch 16, paired by test slice",
        "Grid by slice; batches and epochs are named as in the thesis, and stand for what the scale says. Compatible: "
        "the largest difference, either way, that the interval still holds. Intervals are of patients with the "
        f"networks fixed: what another seed would change is not in them. {LESION_DICE}. {note}",
        ("model", "epochs", "seeds", "lesion slices", "bleeding patients", "difference", "low", "high", "compatible"),
        tuple(rows),
    )  # fmt: skip
    said = [
        f"Batch 32 less 16, {row[0]}, mean over all kept epochs: difference of Dice {in_words(row[5:8])}, n = "
        f"{row[3]} lesion slices of {row[4]} patients, {row[2]} seed(s). Differences up to {row[8]:.3f} are "
        f"compatible with it; in Table 1 the batches differ by {_LARGEST_IN_THESIS} at most, so 'no matter' is "
        f"{_known_to_matter(row)}."
        for row in rows if row[1] == "all"
    ]  # fmt: skip
    return [table], said


def _batch_row(model: str, epochs: str, seeds: int, n: tuple[int, int], who: AnyArray, change: DoubleArray) -> Row:
    found: Estimate = mean(who, change)
    return model, epochs, seeds, *n, *found.cells, max(abs(found.low), abs(found.high))


def _known_to_matter(row: Row) -> str:
    low, high, most = (float(cell) for cell in row[6:9] if isinstance(cell, int | float))
    if most <= _LARGEST_IN_THESIS:
        return "borne out to that margin, for these networks"
    return "contradicted for these networks" if low > 0 or high < 0 else "neither shown nor excluded to that margin"


def _variance(results: Sequence[CellResult], scale: Scale, lesions: frozenset[str]) -> tuple[list[Table], list[str]]:
    """Model × batch between runs, epochs within them, seeds as blocks; only seeds whose four runs are done."""
    runs = _grid_runs(results, scale)
    seeds = [seed for seed in sorted({key[2] for key in runs})
             if all((*pair, seed) in runs for pair in product(_MODELS, _BATCHES))]  # fmt: skip
    if not seeds:
        return [], []
    keys = [(model, batch, seed) for seed in seeds for model, batch in product(_MODELS, _BATCHES)]
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
    rows = [*_lines("between runs", found.between, {}), *_lines("within runs", found.within, found.corrected_p)]
    error = (
        "With one seed no run repeats another: the interaction model × batch (1 degree of freedom) and its own with "
        "time have to serve as error, so that only very large effects could show"
        if len(seeds) == 1 else f"Seeds ({len(seeds)}) are blocks"
    )  # fmt: skip
    table = Table(
        "anova-grid", "Analysis of variance of the grid: model, batch, epochs",
        f"Response: a run's lesion-slice Dice at each of {values.shape[1]} kept epochs (time), {len(keys)} runs by "
        "slice. A run is measured again and again, so model and batch are held against differences between runs, time "
        f"against what is left within runs. {error}. {_epsilon_text(found)} Partial η² is biased upward where the "
        f"error has few degrees of freedom; partial ω² less so. {LESION_DICE}. Scale: {scale.text}.",
        ("stratum", "term", "df", "sum of squares", "F", "p", "corrected p", "partial η²", "partial ω²"), tuple(rows),
        digits={"sum of squares": 5},
    )  # fmt: skip
    return [table], [_variance_words(found, len(seeds)), _assumptions(found)]


def _lines(stratum: str, of: Anova, corrected: Mapping[str, float | None]) -> Iterator[Row]:
    for one in of.effects:
        yield (stratum, one.name.replace(":", " × "), one.df, one.sum_of_squares, one.f, one.p,
               corrected.get(one.name, one.p), one.partial_eta2, one.partial_omega2)  # fmt: skip
    yield stratum, "error", of.error_df, of.error_sum_of_squares, *(None,) * 5


def _epsilon_text(found: SplitPlot) -> str:
    if found.epsilon is None:
        return (
            "Corrected p: time's degrees of freedom at their least (Geisser and Greenhouse 1958): no run is repeated."
        )
    return f"Corrected p: Greenhouse and Geisser's ε = {found.epsilon:.2f} for departures from sphericity."


def _variance_words(found: SplitPlot, seeds: int) -> str:
    strata = [(one, of.error_df) for of in (found.between, found.within) for one in of.effects if one.name != "seed"]
    told = [
        f"{one.name.replace(':', ' × ')} F({one.df}, {error_df}) = {one.f:.2f}, "
        f"{p_in_words(found.corrected_p.get(one.name, one.p))}, partial ω² = {one.partial_omega2:.2f}"
        for one, error_df in strata
        if one.f is not None
    ]
    tested = "; ".join(told) or "no error to test against"
    return f"Analysis of variance over model, batch and epochs (time), {seeds} seed(s), p corrected: {tested}."


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
    return f"Assumptions, on residuals: {told}. With so few runs these tests would miss all but gross departures."
