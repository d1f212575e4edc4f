"""What the same recipe scores on patients it has not seen, and how near a test slice is to what was trained on."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from bleedmap.arrays import DoubleArray
from bleedmap.metrics import overlap
from bleedmap.page.section import Picture, Section, Table
from bleedmap_thesis.analyses import gap_picture, gap_schedule, nearness
from bleedmap_thesis.analyses.paired_slices import (
    INTERVAL,
    KINDS,
    LESION_DICE,
    Estimate,
    Pair,
    Row,
    auc_with_draws,
    bootstrap,
    from_draws,
    gathered,
    in_words,
    labels,
    lesion_ids,
    mean,
    p_in_words,
    pairs,
    select,
    sign_flip_p,
    sizes,
    t_interval,
)
from bleedmap_thesis.fold_progress import folds_done, incomplete, noted, settled
from bleedmap_thesis.plan import Scale
from bleedmap_thesis.record import CellResult
from bleedmap_thesis.titles import at_scale, seeds_in_words, title

_CAUTION = (
    "The intervals are of patients: other patients, the same trained networks. What another training would change is "
    "seen only in repeated seeds. The networks of the five folds share most of their training slices, which a "
    "bootstrap over patients does not know."
)


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """The gap, in the folds and in the grid, over the schedule, and with the control for nearness."""
    begun, results = results, settled(results, scale)
    lesions = lesion_ids(results, scale)
    found = pairs(results, scale, lesions)
    if not found:
        return None
    main, note = found[0].lesions, f"{INTERVAL}. {at_scale(scale)}"
    whole, copied = main.done.whole, folds_done(results, scale, nearness.COPY)
    gaps, measures = _gaps(found, note), _measures(found[0], note)
    tables = [gaps, measures, _by_fold(results, scale, main.label, lesions), *_by_seed(main, scale)]
    words = [*_words(gaps.rows[0], scale), _floor(main), _other_measures(measures)] if whole else [_waits(main, scale)]
    pictures = [Picture(
        "gap", "Mean Dice of each bleeding patient, by slice and by patient, joined by a line",
        partial(gap_picture.draw, main, scale),
    )]  # fmt: skip
    if courses := [one for pair in found if (one := gap_schedule.schedule(results, scale, pair, lesions))]:
        tables.insert(1, gap_schedule.table(courses, scale))
        words += [gap_schedule.words(courses[0])] if courses[0].done.whole else []
        pictures.append(Picture(
            "gap-schedule", "Dice by slice and by patient, and the gap between them, at every kept epoch",
            partial(gap_schedule.draw, courses[0], scale),
        ))  # fmt: skip
    if near := nearness.nearness(results, scale, main, lesions):
        control = nearness.tables(near, main, scale)
        tables += control
        if whole and copied.whole:
            words[0] += " " + nearness.beside_copying(near, main, _shown(gaps.rows[0]))
            words += nearness.words(near, main, control[0])
        pictures.append(Picture(
            "gap-distance", "Dice of each lesion slice against its distance to the nearest training slice",
            partial(nearness.draw, near, main, scale),
        ))  # fmt: skip
    missing = incomplete(begun, scale, [*(pair.label for pair in found), *[nearness.COPY] * bool(copied.cells)])
    tables = [*noted(tables, missing), *_grid(results, scale, lesions, note)]
    data = {"slices": main.by_slice.ids.tolist(), "dice_by_slice": main.by_slice.dice.tolist(),
            "dice_by_patient": main.by_patient.dice.tolist(), "seeds": main.by_slice.seeds.tolist()}  # fmt: skip
    asked = "What does the same recipe score on patients it has not seen?"
    return Section("gap", asked, (*words, _CAUTION), tuple(tables), tuple(pictures), data)


def _waits(main: Pair, scale: Scale) -> str:
    """Instead of a verdict."""
    slices, patients = sizes(main.by_slice)
    return (
        f"{title(main.label)} at the {scale.name} scale: {main.done} of the folds of both kinds of split. Whether "
        f"there is a gap is not told before all are in; until then the tables hold the {slices} lesion slices of "
        f"{patients} patients that both kinds have tested, and may turn."
    )


def _gaps(found: Sequence[Pair], note: str) -> Table:
    again = " a seed" if any(len(np.unique(pair.by_slice.seeds)) > 1 for pair in found) else ""
    once = (
        f"Each balanced lesion slice is tested once{again} under each kind of split and paired with itself"
        if all(pair.done.whole for pair in found)
        else "Lesion slices that both kinds of split have tested so far, each paired with itself"
    )
    return Table(
        "gap", "The same recipe, by slice and by patient", f"{once}, "
        "training sides of the same size. Gap: by slice less by patient, mean over "
        "slices. Patient gap: of each patient's mean, all patients weighing the same. p: of the gap, sign flips of "
        f"whole patients. {LESION_DICE}. {note}",
        ("method", "seeds", "lesion slices", "bleeding patients", "Dice by slice", "Dice by patient", "gap", "gap low",
         "gap high", "p", "patient gap", "patient gap low", "patient gap high"),
        tuple(_gap_row(pair.lesions) for pair in found),
    )  # fmt: skip


def _gap_row(pair: Pair) -> Row:
    who = np.unique(pair.patients)
    each = np.array([pair.loss[pair.patients == one].mean() for one in who])
    return (
        title(pair.label), len(np.unique(pair.by_slice.seeds)), *sizes(pair.by_slice), float(pair.by_slice.dice.mean()),
        float(pair.by_patient.dice.mean()), *mean(pair.patients, pair.loss).cells,
        sign_flip_p(pair.patients, pair.loss),
        *mean(who, each).cells,
    )  # fmt: skip


def _measures(pair: Pair, note: str) -> Table:
    """Every measure of the main method, both kinds and their difference."""
    rows = [*_overlap_rows(pair), *_free_rows(pair), _auc_row(pair)]
    return Table(
        "gap-measures", f"{title(pair.label)}: all measures, by slice and by patient",
        "Pooled: all pixels of all slices, lesion-free ones too, thresholded at 0.5 (no slice scores alone, so an "
        "empty one adds only true negatives or "
        f"false positives); mean IoU is over lesion and background. ROC AUC: mean over the folds. {note}",
        ("measure", "slices", "patients", "by slice", "by slice low", "by slice high", "by patient",
         "by patient low", "by patient high", "difference", "difference low", "difference high"), tuple(rows),
        digits={"by slice": 4, "by patient": 4, "difference": 4},
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
        "gap-folds", f"{title(label)}: fold by fold",
        "The two sides of a row have the same number of training slices but "
        f"other test slices: only all folds together test the same ones. {LESION_DICE}. {at_scale(scale)}",
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
        "gap-seeds", f"{title(main.label)}: the gap, seed by seed",
        "A seed is another deal of the folds, other weights, "
        "another draw of lesion-free slices; the lesion slices are the same, so that the interval (Student's t over "
        f"{len(seeds)} seeds) is of training and splitting, not of patients. {LESION_DICE}. {at_scale(scale)}",
        ("seed", "gap", "gap low", "gap high"), tuple(rows),
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
            rows.append(
                (title(label), seed, " / ".join(n), *dice[0].cells, *dice[1].cells, dice[0].value - dice[1].value)
            )
    if not rows:
        return []
    return [Table(
        "gap-grid", "The thesis' own 80/10/10 split, after all epochs, by slice and by patient",
        f"Other test slices under each kind: not paired. {LESION_DICE}. {note}",
        ("method", "seed", "lesion slices, by slice / by patient", "Dice by slice", "Dice by slice low",
         "Dice by slice high", "Dice by patient", "Dice by patient low", "Dice by patient high", "difference"),
        tuple(rows),
    )]  # fmt: skip


def _shown(row: Row) -> bool:
    low, high = row[7], row[8]
    assert isinstance(low, float)
    assert isinstance(high, float)
    return not low <= 0 <= high


def _words(row: Row, scale: Scale) -> tuple[str, ...]:
    answer = "A difference is shown" if _shown(row) else "No difference is shown"
    return (
        f"{answer} in mean lesion-slice Dice after all epochs of the folds. {row[0]} at the {scale.name} scale scores "
        f"{row[4]:.3f} split by slice and {row[5]:.3f} split by patient; the gap is {in_words(row[6:9])}, sign-flip "
        f"{p_in_words(row[9])}, n = {row[2]} lesion slices of {row[3]} bleeding patients, "
        f"{seeds_in_words(int(str(row[1])))}, each slice paired with itself, an unmarked lesion scoring 0.",
    )


def _floor(main: Pair) -> str:
    """Slices that cannot show a gap."""
    missed = int(((main.by_slice.dice == 0) & (main.by_patient.dice == 0)).sum())
    return (
        f"In {missed} of {len(main.loss)} pairs of lesion slices the Dice is 0 under both kinds: a lesion that is "
        "missed either way has a gap of 0, so that networks that miss many show a smaller one."
    )


def _other_measures(measures: Table) -> str:
    """Which measures beside Dice differ between the kinds, and which do not: all of them, not the best."""
    apart: list[str] = []
    alike: list[str] = []
    for row in measures.rows:
        if row[0] != "lesion-slice Dice" and isinstance(row[10], float) and isinstance(row[11], float):
            (alike if row[10] <= 0 <= row[11] else apart).append(f"{row[0]} {in_words(row[9:12])}")
    return (
        f"Other measures, by slice less by patient, {len(apart) + len(alike)} of them and not corrected for that. "
        f"Interval leaves 0 out: {'; '.join(apart) or 'none'}. Interval holds 0: {'; '.join(alike) or 'none'}. Pooled "
        "measures weigh large lesions most, lesion-slice means weigh every slice the same."
    )
