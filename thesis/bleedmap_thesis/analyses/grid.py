"""Two claims of the thesis, measured: dropout generalises better; the batch does not matter. And its ANOVA."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

import numpy as np

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.page.section import DOES_NOT_APPLY, Row, Section, Table, Value, tabulate
from bleedmap_thesis.analyses import paired_slices as paired
from bleedmap_thesis.analyses.anova import Anova, split_plot
from bleedmap_thesis.plan import KINDS, THESIS_EPOCHS, THESIS_STEP, Scale, name_method
from bleedmap_thesis.progress import add_note, describe_missing, drop_begun_seeds
from bleedmap_thesis.record import CellResult

MODELS, BATCHES = ("model-1", "model-2"), (16, 32)
_WITHOUT, _WITH = "model-1-b32", "model-2-b32"
_LAST = 0.1  # of the epochs, over which the curves' ends are averaged
CONVENTION = (
    f"Dropout: on the folds; batch and analysis of variance: on the grid by slice. {paired.LESION_DICE}. "
    f"{paired.INTERVAL}. With one seed each recipe was trained once: an effect cannot be told from the difference "
    "between any two trainings; with several, the spread between trainings is not in the intervals. An interval that "
    "holds 0 shows no difference, and excludes none within it."
)


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """Tabulate dropout and batch, paired by test slice, and the analysis of variance of the grid."""
    begun, results = results, drop_begun_seeds(results, scale)
    lesions = paired.find_lesions(results, scale)
    if not lesions:
        return None
    missing = describe_missing(begun, scale, (_WITH, _WITHOUT))
    tables = [
        *add_note([*_compare_dropout(results, scale, lesions), *_compare_curves(results, scale)], missing),
        *_compare_batches(results, scale, lesions), *_analyse_variance(results, scale, lesions),
    ]  # fmt: skip
    if not tables:
        return None
    asked = "Does dropout generalise better, and does the batch not matter, as the thesis says?"
    return Section("batch-and-dropout", asked, (CONVENTION,), tuple(tables))


def _compare_dropout(results: Sequence[CellResult], scale: Scale, lesions: frozenset[str]) -> Iterator[Table]:
    """Compare Model 2 with Model 1 on the same test slices, each kind; and how far their gaps differ."""
    changes: list[dict[tuple[int, str], float]] = []
    rows: list[Row] = []
    for kind in KINDS:
        cells = [paired.select(results, scale, "folds", label, kind) for label in (_WITH, _WITHOUT)]
        if not all(cells):
            continue
        one, other = paired.pair_lesions(*(paired.gather(own, lesions) for own in cells))
        if not len(one.ids):
            continue
        change = one.dice - other.dice
        changes.append(dict(zip(zip(one.seeds.tolist(), one.ids.tolist(), strict=True), change.tolist(), strict=True)))
        dice = other.dice.mean(), one.dice.mean()
        rows.append(_make_dropout_row(f"by {kind}", paired.count_lesions(one), dice, one.patients, change))
    if len(changes) == len(KINDS) and (keys := [key for key in changes[0] if key in changes[1]]):
        change = np.array([changes[1][key] - changes[0][key] for key in keys])
        who = np.array([name.split("/")[0] for _, name in keys])
        n = len({name for _, name in keys}), len(np.unique(who))
        none = DOES_NOT_APPLY, DOES_NOT_APPLY
        rows.append(_make_dropout_row("by patient less by slice", n, none, who, change))
    if rows:
        yield tabulate(
            "dropout", "Model 2 (dropout 0.1) less Model 1 (none), batch 32, paired by test slice",
            "p: sign flips of whole patients. Last row: the difference by patient less that by slice: above 0, dropout "
            "helps more on patients not seen.",
            rows,
        )  # fmt: skip


def _make_dropout_row(
    split: str, n: tuple[int, int], dice: tuple[Value, Value], who: AnyArray, change: DoubleArray
) -> Row:
    return {
        "split": split, "lesion slices": n[0], "bleeding patients": n[1], "Dice without": dice[0],
        "Dice with": dice[1], "difference": paired.estimate_mean(who, change),
        "p": paired.compute_sign_flip_p(who, change),
    }  # fmt: skip


def _compare_curves(results: Sequence[CellResult], scale: Scale) -> Iterator[Table]:
    """Compare training less validation at the ends of the curves, run against run of the same fold."""
    rows = []
    for kind in KINDS:
        ends = [
            {
                (one.cell.seed, one.cell.fold): _average_curve_end(one)
                for one in paired.select(results, scale, "folds", label, kind) if one.curves
            }
            for label in (_WITHOUT, _WITH)
        ]  # fmt: skip
        keys = [key for key in ends[0] if key in ends[1]]
        if keys:
            one, other = (np.array([own[key] for key in keys]) for own in ends)
            rows.append({
                "split": f"by {kind}", "folds × seeds": len(keys), "without dropout": one.mean(),
                "with dropout": other.mean(), "difference": paired.estimate_by_t(other - one),
            })  # fmt: skip
    if rows:
        yield tabulate(
            "dropout-curves", "How much better training scores than validation, at the end of the curves",
            f"Soft Dice over the last {_LAST:.0%} of the epochs: training as trained (mirrored, with dropout, which "
            "lowers Model 2's) less the validation side's. Intervals: Student's t over folds, which share training "
            "slices, so they are somewhat narrow.",
            rows,
        )  # fmt: skip


def _average_curve_end(one: CellResult) -> float:
    last = one.curves[-max(1, round(_LAST * len(one.curves))) :]
    found = [-entry["loss"] - entry["validation_soft_dice"] for entry in last if "validation_soft_dice" in entry]
    return float(np.mean(found)) if found else float("nan")


def _select_runs(results: Sequence[CellResult], scale: Scale) -> dict[tuple[str, int, int], CellResult]:
    """(model, batch, seed) -> its run by slice."""
    return {
        (model, batch, one.cell.seed): one
        for model, batch in product(MODELS, BATCHES)
        for one in paired.select(results, scale, "grid", f"{model}-b{batch}", "slice")
    }


def _compare_batches(results: Sequence[CellResult], scale: Scale, lesions: frozenset[str]) -> Iterator[Table]:
    """Compare batch 32 with 16 on the same test slices."""
    runs, rows = _select_runs(results, scale), []
    for model in MODELS:
        seeds = sorted(seed for name, batch, seed in runs if (name, batch) == (model, 16) and (model, 32, seed) in runs)
        changes: list[tuple[str, DoubleArray]] = []
        n, who = (0, 0), np.array([])
        for epochs in range(THESIS_STEP, THESIS_EPOCHS + 1, THESIS_STEP) if seeds else ():
            one, other = paired.pair_lesions(*(
                paired.gather([runs[model, batch, seed] for seed in seeds], lesions, scale.epochs(epochs))
                for batch in (32, 16)
            ))  # fmt: skip
            n, who = paired.count_lesions(one), one.patients
            changes.append((f"{epochs:,}", one.dice - other.dice))
        if changes:
            changes.append(("all", np.mean([change for _, change in changes], axis=0)))
        for epochs_in_words, change in changes:
            found = paired.estimate_mean(who, change)
            rows.append({
                "model": name_method(f"{model}-b32").partition(",")[0], "epochs": epochs_in_words, "seeds": len(seeds),
                "lesion slices": n[0], "bleeding patients": n[1], "difference": found,
                "compatible": max(abs(found.low), abs(found.high)),
            })  # fmt: skip
    if rows:
        yield tabulate(
            "batch", "Batch 32 less batch 16, paired by test slice",
            "Compatible: the largest difference, either way, that the interval still holds; in Table 1 the batches "
            "differ by 0.01 at most.",
            rows,
        )  # fmt: skip


def _analyse_variance(results: Sequence[CellResult], scale: Scale, lesions: frozenset[str]) -> Iterator[Table]:
    """Analyse model × batch between runs, epochs within them, seeds as blocks; only seeds whose four runs are done."""
    runs = _select_runs(results, scale)
    seeds = [seed for seed in sorted({key[2] for key in runs})
             if all((*pair, seed) in runs for pair in product(MODELS, BATCHES))]  # fmt: skip
    if not seeds:
        return
    keys = [(model, batch, seed) for seed in seeds for model, batch in product(MODELS, BATCHES)]
    values = np.array([
        [float(np.nanmean(paired.gather([runs[key]], lesions, kept.epoch).dice)) for kept in runs[key].evaluations]
        for key in keys
    ])  # fmt: skip
    factors: dict[str, list[object]] = {"model": [key[0] for key in keys], "batch": [key[1] for key in keys]}
    terms = ["model", "batch"]
    if len(seeds) > 1:
        factors["seed"] = [key[2] for key in keys]
        terms = ["seed", "model", "batch", "model:batch"]
    found = split_plot(values, factors, terms, [term for term in terms if term != "seed"])
    yield tabulate(
        "anova-grid", "Analysis of variance of the grid: model, batch, epochs",
        "Response: a run's lesion-slice Dice at each kept epoch. Model and batch are tested against differences "
        "between runs, epochs against what is left within runs; several seeds are blocks, with one seed the "
        "interaction of model and batch has to serve as error. Corrected p: Greenhouse and Geisser's ε, or where no "
        "run is repeated the least degrees of freedom (1958). Partial η² is biased upward where the error has few "
        "degrees of freedom; partial ω² holds between runs alone.",
        [*_list_effects("between runs", found.between, {}),
         *_list_effects("within runs", found.within, found.corrected_p)],
        {"sum of squares": 5},
    )  # fmt: skip
    between, within, none = found.between.normality_p(), found.within.normality_p(), DOES_NOT_APPLY
    yield tabulate(
        "anova-assumptions", "How far the assumptions of the analysis of variance hold",
        "On residuals: normality (Shapiro–Wilk), equal spread of the runs (Levene), sphericity of the epochs (ε is 1 "
        "where it holds). Where p < 0.05 the F tests are rough; so few runs would miss all but gross departures.",
        [{"stratum": "between runs", "Shapiro–Wilk p": between, "Levene p": found.spread_p, "ε": none},
         {"stratum": "within runs", "Shapiro–Wilk p": within, "Levene p": none, "ε": found.epsilon}],
    )  # fmt: skip


def _list_effects(stratum: str, of: Anova, corrected: Mapping[str, float | None]) -> Iterator[Row]:
    for one in of.effects:
        term = " × ".join("epochs" if part == "time" else part for part in one.name.split(":"))
        omega2 = DOES_NOT_APPLY if one.f is not None and one.partial_omega2 is None else one.partial_omega2
        yield {
            "stratum": stratum, "term": term, "df": one.df, "sum of squares": one.sum_of_squares, "F": one.f,
            "p": one.p, "corrected p": corrected.get(one.name, one.p), "partial η²": one.partial_eta2,
            "partial ω²": omega2,
        }  # fmt: skip
    error = {"stratum": stratum, "term": "error", "df": of.error_df, "sum of squares": of.error_sum_of_squares}
    yield error | dict.fromkeys(("F", "p", "corrected p", "partial η²", "partial ω²"), DOES_NOT_APPLY)
