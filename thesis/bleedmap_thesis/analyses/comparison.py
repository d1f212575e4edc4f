"""All methods on the same folds, each against the main one."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bleedmap.arrays import DoubleArray
from bleedmap.datasets.splits import Kind
from bleedmap.page.section import Section, Table
from bleedmap_thesis.analyses.paired_slices import (
    INTERVAL,
    KINDS,
    LESION_DICE,
    MAIN,
    NOT_APPLICABLE,
    Row,
    Tested,
    auc_with_draws,
    bootstrap,
    from_draws,
    gathered,
    in_words,
    known,
    labels,
    lesion_ids,
    mean,
    p_in_words,
    paired,
    select,
    sign_flip_p,
    sizes,
)
from bleedmap_thesis.fold_progress import folds_done, incomplete, noted, settled
from bleedmap_thesis.plan import FOLDS, Scale
from bleedmap_thesis.record import CellResult
from bleedmap_thesis.titles import at_scale, title

CLAHE = "model-2-b32-clahe"


@dataclass(frozen=True, eq=False)
class Method:
    """One method on one kind of split."""

    label: str
    kind: Kind
    cells: Sequence[CellResult]
    tested: Tested

    @property
    def start(self) -> tuple[str, str]:
        """How its rows begin."""
        return title(self.label), f"by {self.kind}"


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """Every method on the five folds, by slice and by patient."""
    begun, results = results, settled(results, scale)
    lesions, names = lesion_ids(results, scale), labels(results, scale, "folds")
    if not lesions or not names:
        return None
    methods = [
        Method(label, kind, cells, gathered(cells, lesions))
        for label in names for kind in KINDS if (cells := select(results, scale, "folds", label, kind))
    ]  # fmt: skip
    marking = [one for one in methods if one.tested.counts is not None]
    note = f"Test slices of {FOLDS} folds, balanced. {INTERVAL}. {at_scale(scale)}"
    dice, detection, differences = _dice(marking, note), _detection(methods, note), _differences(marking, note)
    tables = noted([dice, detection, *[differences] * bool(differences.rows)], incomplete(begun, scale, names))
    whole = [title(label) for label in names if folds_done(results, scale, label).whole]
    words = [*_highest_words(dice, detection, whole), incomplete(begun, scale, names)]
    if {title(MAIN), title(CLAHE)} <= set(whole):
        words += _clahe_words(differences)
    asked = "How do the methods compare on the same folds?"
    return Section("comparison", asked, tuple(one for one in words if one), tuple(tables))


def _dice(marking: Sequence[Method], note: str) -> Table:
    return Table(
        "comparison-dice", "Outlining: all methods that mark pixels",
        f"{LESION_DICE}. Methods that only classify slices outline nothing and stand in the next table. {note}",
        ("method", "split", "folds × seeds", "lesion slices", "bleeding patients", "Dice", "Dice low", "Dice high"),
        tuple((*one.start, len(one.cells), *sizes(one.tested), *mean(one.tested.patients, one.tested.dice).cells)
              for one in marking),
    )  # fmt: skip


def _detection(methods: Sequence[Method], note: str) -> Table:
    return Table(
        "comparison-detection", "Bleed or not, slice by slice: all methods on the same folds",
        "ROC AUC: mean of the folds' AUCs (scores of different trainings are not pooled). Sensitivity, specificity: a "
        "slice counts as bleeding if the method marks any pixel of it; a method that only classifies has no such "
        f"threshold of its own here ({NOT_APPLICABLE}). Balanced accuracy: mean of the two. {note}",
        ("method", "split", "folds × seeds", "slices", "patients", "ROC AUC", "ROC AUC low", "ROC AUC high",
         "sensitivity", "specificity", "balanced accuracy", "balanced accuracy low", "balanced accuracy high",
         "parameters"),
        tuple((*one.start, len(one.cells), *_rates_of(one.tested),
               NOT_APPLICABLE if one.cells[0].parameters is None else one.cells[0].parameters) for one in methods),
    )  # fmt: skip


def _differences(marking: Sequence[Method], note: str) -> Table:
    return Table(
        "comparison-paired", f"Each method against {title(MAIN)}, paired by test slice",
        f"Mean difference of Dice, the method less {title(MAIN)}, over lesion slices that both tested. p: sign flips "
        f"of whole patients, not corrected for the number of rows. {LESION_DICE}. {note}",
        ("method", "split", "lesion slices", "bleeding patients", "difference", "difference low", "difference high",
         "p"),
        tuple(_against_main(marking)),
    )  # fmt: skip


def _rates_of(of: Tested) -> Row:
    names = np.unique(of.patients)
    auc = from_draws(*auc_with_draws(of, names))
    counted = (len(np.unique(of.ids)), len(names), *auc.cells)
    if of.counts is None:
        return (*counted, *(NOT_APPLICABLE,) * 3, None, None)
    marked, lesion = of.counts.predicted > 0, of.lesion
    columns = np.stack([marked & lesion, lesion, ~marked & ~lesion, ~lesion], axis=1).astype(np.float64)
    sensitivity, specificity, balanced = bootstrap(of.patients, columns, _rates)
    return (*counted, known(sensitivity.value), known(specificity.value), *balanced.cells)


def _rates(sums: DoubleArray) -> DoubleArray:
    rates = sums[:, ::2] / sums[:, 1::2]
    return np.column_stack([rates, rates.mean(axis=1)])


def _against_main(marking: Sequence[Method]) -> Iterable[Row]:
    main = {one.kind: one.tested for one in marking if one.label == MAIN}
    for method in sorted(marking, key=lambda one: one.label != CLAHE):
        if method.label == MAIN or method.kind not in main:
            continue
        one, other = paired(method.tested, main[method.kind])
        one, other = one.rows(one.lesion), other.rows(other.lesion)
        if len(one.ids):
            change = one.dice - other.dice
            yield (*method.start, *sizes(one), *mean(one.patients, change).cells, sign_flip_p(one.patients, change))


def _highest_words(dice: Table, detection: Table, whole: Sequence[str]) -> list[str]:
    """Which method is highest of those whose folds are all in, without saying that it is better."""
    methods = list(dict.fromkeys(str(row[0]) for row in detection.rows))
    if len(methods) == 1:
        return [f"Only {methods[0]} has been run on the folds: there is nothing to compare it with yet."]
    if len(whole) < 2:
        return [f"Of {len(methods)} methods begun, {len(whole)} have all folds in: which is highest is not told yet."]
    words = []
    for kind in KINDS:
        outlining, telling = _highest(dice, kind, "Dice", whole), _highest(detection, kind, "ROC AUC", whole)
        said = []
        if outlining:
            said.append(
                f"the highest lesion-slice Dice is that of {outlining[0]}: {in_words(outlining[5:8])}, n = "
                f"{outlining[3]} lesion slices of {outlining[4]} patients"
            )
        if telling:
            said.append(
                f"the highest ROC AUC for bleed or not is that of {telling[0]}: {in_words(telling[5:8])}, n = "
                f"{telling[3]} slices of {telling[4]} patients"
            )
        words.append(f"Split by {kind}, of the {len(whole)} methods whose folds are all in, {'; '.join(said)}.")
    words.append(
        "The highest of many is flattered by being chosen; whether one method differs from another is told by the "
        "paired table."
    )
    return words


def _clahe_words(differences: Table) -> list[str]:
    return [
        f"CLAHE less none, split {row[1]}: difference of Dice {in_words(row[4:7])}, {p_in_words(row[7])}, n = {row[2]} "
        f"lesion slices of {row[3]} patients, paired."
        for row in differences.rows if row[0] == title(CLAHE)
    ]  # fmt: skip


def _highest(table: Table, kind: Kind, column: str, whole: Sequence[str]) -> Row | None:
    """The row of that kind with the highest number in a column, among the methods `whole`."""
    at = table.columns.index(column)
    rows = [(value, row) for row in table.rows
            if row[1] == f"by {kind}" and row[0] in whole and isinstance(value := row[at], float)]  # fmt: skip
    return max(rows, key=lambda one: one[0])[1] if rows else None
