"""Two claims of the thesis, with figures: dropout generalises better; the batch does not matter. And its ANOVA."""

from collections.abc import Iterator, Sequence

import numpy as np

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.page.section import Section, Table, Value
from bleedmap_thesis.analyses import grid_anova
from bleedmap_thesis.analyses.paired_slices import (
    INTERVAL,
    KINDS,
    LESION_DICE,
    NOT_APPLICABLE,
    Estimate,
    Row,
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
from bleedmap_thesis.fold_progress import folds_done, incomplete, noted, settled
from bleedmap_thesis.plan import THESIS_EPOCHS, THESIS_STEP, Scale
from bleedmap_thesis.record import CellResult
from bleedmap_thesis.titles import at_scale, seeds_in_words, title

_WITHOUT, _WITH = "model-1-b32", "model-2-b32"
_ALPHA = 0.05
_LAST = 0.1  # of the epochs, over which the curves' ends are averaged
_LARGEST_IN_THESIS = 0.01  # difference of Dice between the batches anywhere in Table 1


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """Dropout and batch, paired by test slice; analysis of variance of the grid."""
    begun, results = results, settled(results, scale)
    lesions, note = lesion_ids(results, scale), f"{INTERVAL}. {at_scale(scale)}"
    if not lesions:
        return None
    tables: list[Table] = []
    words: list[str] = []
    for made, said in (
        _whole(begun, scale, _dropout(results, scale, lesions, note), _curve_gaps(results, scale)),
        _batch(results, scale, lesions, note),
        grid_anova.variance(results, scale, lesions),
    ):  # fmt: skip
        tables += made
        words += said
    if not tables:
        return None
    asked = "Does dropout generalise better, and does the batch not matter, as the thesis says?"
    return Section("batch-and-dropout", asked, tuple(words), tuple(tables))


def _whole(
    results: Sequence[CellResult], scale: Scale, *made: tuple[list[Table], list[str]]
) -> tuple[list[Table], list[str]]:
    """Of the folds with and without dropout; where some are missing, that instead of differences and verdicts."""
    tables = [table for own, _ in made for table in own]
    if not tables:
        return [], []
    pair = (_WITH, _WITHOUT)
    missing = incomplete(results, scale, pair)
    if all(folds_done(results, scale, label).whole for label in pair):
        words = [said for _, own in made for said in own]
    else:
        words = [f"Dropout. {missing} What it changes is not told before all folds of both kinds are in."]
    return noted(tables, missing), words


def _dropout(
    results: Sequence[CellResult], scale: Scale, lesions: frozenset[str], note: str
) -> tuple[list[Table], list[str]]:
    """Model 2 less Model 1 on the same test slices, each kind; and whether its gap between kinds is smaller."""
    changes: dict[str, tuple[dict[tuple[int, str], float], AnyArray]] = {}
    rows: list[Row] = []
    seeds = 0
    for kind in KINDS:
        cells = [select(results, scale, "folds", label, kind) for label in (_WITH, _WITHOUT)]
        if not all(cells):
            continue
        one, other = paired(*(gathered(own, lesions) for own in cells))
        one, other = one.rows(one.lesion), other.rows(other.lesion)
        if not len(one.ids):
            continue
        change, seeds = one.dice - other.dice, max(seeds, len(np.unique(one.seeds)))
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
        ("split", "lesion slices", "bleeding patients", "Dice without", "Dice with", "difference",
         "difference low", "difference high", "p"),
        tuple(rows),
    )  # fmt: skip
    return [table], _dropout_words(rows, seeds)


def _dropout_words(rows: Sequence[Row], seeds: int) -> list[str]:
    said = [
        f"Dropout, {row[0]}: difference of Dice {in_words(row[5:8])}, {p_in_words(row[8])}, n = {row[1]} lesion "
        f"slices of {row[2]} patients. {_verdict(row[6], row[7], row[8])}"
        for row in rows
    ]
    one = "One seed: whether a difference is dropout's or that of any two trainings cannot be told."
    several = f"{seeds} seeds, all slices together: the spread between trainings is not in the intervals."
    return [*said, f"These intervals are of patients, the trained networks fixed. {one if seeds == 1 else several}"]


def _verdict(low: Value, high: Value, p: Value) -> str:
    if not isinstance(low, float) or not isinstance(high, float) or not isinstance(p, float):
        return ""
    if low <= 0 <= high:
        return "The interval holds 0: no difference is shown, and none is excluded within it."
    if p >= _ALPHA:
        return "The interval leaves 0 out, but the sign flips do not: too few patients to tell."
    return "The interval leaves 0 out, for these trained networks."


def _smaller_gap(by_slice: dict[tuple[int, str], float], by_patient: dict[tuple[int, str], float]) -> Iterator[Row]:
    keys = [key for key in by_slice if key in by_patient]
    if keys:
        change = np.array([by_patient[key] - by_slice[key] for key in keys])
        who = np.array([name.split("/")[0] for _, name in keys])
        n = len({name for _, name in keys}), len(np.unique(who))
        yield (
            "by patient less by slice",
            *n,
            NOT_APPLICABLE,
            NOT_APPLICABLE,
            *mean(who, change).cells,
            sign_flip_p(who, change),
        )


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
        rows.append((f"by {kind}", len(keys), float(without.mean()), float(with_it.mean()), *change.cells))
        said.append(
            f"Training less validation soft Dice, split by {kind}: {without.mean():.3f} without dropout, "
            f"{with_it.mean():.3f} with; difference {in_words(change.cells)}, n = {len(keys)} "
            f"fold{'' if len(keys) == 1 else 's'}."
        )
    table = Table(
        "dropout-curves", "How much better training scores than validation, at the end of the curves",
        f"Soft Dice over the last {_LAST:.0%} of the epochs: training is -loss, the mean over batches as they were "
        "trained (mirrored, with dropout, which lowers Model 2's and so its difference), validation is the validation "
        "side's. Intervals: Student's t over folds, which share training slices, so they are somewhat narrow. "
        f"{at_scale(scale)}",
        ("split", "folds × seeds", "without dropout", "with dropout", "difference", "difference low",
         "difference high"),
        tuple(rows),
    )  # fmt: skip
    return ([table] if rows else []), said


def _curve_end(one: CellResult) -> float:
    last = one.curves[-max(1, round(_LAST * len(one.curves))) :]
    found = [-entry["loss"] - entry["validation_soft_dice"] for entry in last if "validation_soft_dice" in entry]
    return float(np.mean(found)) if found else float("nan")


def _batch(
    results: Sequence[CellResult], scale: Scale, lesions: frozenset[str], note: str
) -> tuple[list[Table], list[str]]:
    """Batch 32 less 16 on the same test slices."""
    runs, rows = grid_anova.runs_by_slice(results, scale), []
    kept = {scale.epochs(epochs): epochs for epochs in range(THESIS_STEP, THESIS_EPOCHS + 1, THESIS_STEP)}
    for model in grid_anova.MODELS:
        seeds = sorted(seed for name, batch, seed in runs if (name, batch) == (model, 16) and (model, 32, seed) in runs)
        if not seeds:
            continue
        changes, who = [], np.array([])
        for epoch, epochs in kept.items():
            small, large = ([runs[model, batch, seed] for seed in seeds] for batch in grid_anova.BATCHES)
            one, other = paired(gathered(large, lesions, epoch), gathered(small, lesions, epoch))
            one, other = one.rows(one.lesion), other.rows(other.lesion)
            who, n = one.patients, sizes(one)
            changes.append(one.dice - other.dice)
            rows.append(_batch_row(model, f"{epochs:,}", len(seeds), n, who, changes[-1]))
        rows.append(_batch_row(model, "all", len(seeds), n, who, np.mean(changes, axis=0)))
    if not rows:
        return [], []
    table = Table(
        "batch", "Batch 32 less batch 16, paired by test slice",
        "Grid by slice; batches and epochs are named as in the thesis, and stand for what the scale says. Compatible: "
        "the largest difference, either way, that the interval still holds. Intervals are of patients with the "
        f"networks fixed: what another seed would change is not in them. {LESION_DICE}. {note}",
        ("model", "epochs", "seeds", "lesion slices", "bleeding patients", "difference",
         "difference low", "difference high", "compatible"),
        tuple(rows),
    )  # fmt: skip
    said = [
        f"Batch 32 less 16, {row[0]}, mean over all kept epochs: difference of Dice {in_words(row[5:8])}, n = "
        f"{row[3]} lesion slices of {row[4]} patients, {seeds_in_words(int(str(row[2])))}. Differences up to "
        f"{row[8]:.3f} "
        f"either way are compatible with it. In Table 1 the batches differ by {_LARGEST_IN_THESIS} at most: that the "
        f"batch does not matter is {_known_to_matter(row)}.{_one_seed(row[2])}"
        for row in rows if row[1] == "all"
    ]  # fmt: skip
    return [table], said


def _one_seed(seeds: Value) -> str:
    """What cannot be told without a second training."""
    if seeds != 1:
        return ""
    return (
        " Each batch was trained once: whether the difference is the batch's or that of any two trainings cannot be "
        "told."
    )


def _batch_row(model: str, epochs: str, seeds: int, n: tuple[int, int], who: AnyArray, change: DoubleArray) -> Row:
    found: Estimate = mean(who, change)
    return (
        title(f"{model}-b32").partition(",")[0],
        epochs,
        seeds,
        *n,
        *found.cells,
        max(abs(found.low), abs(found.high)),
    )


def _known_to_matter(row: Row) -> str:
    low, high, most = (float(cell) for cell in row[6:9] if isinstance(cell, int | float))
    if most <= _LARGEST_IN_THESIS:
        return "borne out to that margin, for these networks"
    return "not borne out by these networks" if low > 0 or high < 0 else "neither shown nor excluded to that margin"
