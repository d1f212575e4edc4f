"""All methods on the same folds, each against the main one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from bleedmap.arrays import DoubleArray
from bleedmap.datasets.splits import Kind
from bleedmap.page.section import Section, Table
from bleedmap.page.table import DOES_NOT_APPLY
from bleedmap_thesis.analyses.paired_slices import (
    INTERVAL,
    KINDS,
    LESION_DICE,
    MAIN,
    Tested,
    bootstrap_sums,
    compute_sign_flip_p,
    count_lesions,
    draw_auc,
    estimate_from_draws,
    estimate_mean,
    find_lesions,
    gather,
    list_labels,
    pair_lesions,
    select,
)
from bleedmap_thesis.plan import Scale, name_method
from bleedmap_thesis.progress import add_note, describe_missing, drop_begun_seeds
from bleedmap_thesis.record import CellResult
from bleedmap_thesis.tables import Estimate, tabulate

CLAHE = "model-2-b32-clahe"
CONVENTION = (
    f"Balanced test slices of five folds of both kinds of split. {LESION_DICE}; methods that only classify slices "
    f"outline nothing. {INTERVAL}. The highest of many is flattered by being chosen: whether one method differs from "
    "another is for the paired table."
)


@dataclass(frozen=True, eq=False)
class Method:
    """One method on one kind of split."""

    label: str
    kind: Kind
    cells: Sequence[CellResult]
    tested: Tested

    @property
    def names(self) -> tuple[str, str]:
        """The method, and its split, as tables print them."""
        return name_method(self.label), f"by {self.kind}"


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """Tabulate every method on the five folds, by slice and by patient."""
    begun, results = results, drop_begun_seeds(results, scale)
    lesions, names = find_lesions(results, scale), list_labels(results, scale, "folds")
    if not lesions or not names:
        return None
    methods = [
        Method(label, kind, cells, gather(cells, lesions))
        for label in names for kind in KINDS if (cells := select(results, scale, "folds", label, kind))
    ]  # fmt: skip
    marking = [one for one in methods if one.tested.counts is not None]
    tables = [*_outlining(marking), _detection(methods), *_differences(marking)]
    asked = "How do the methods compare on the same folds?"
    noted = add_note(tables, describe_missing(begun, scale, names))
    return Section("comparison", asked, (CONVENTION,), tuple(noted))


@dataclass(frozen=True)
class _DiceRow:
    method: str
    split: str
    cells: Annotated[int, "folds × seeds"]
    lesion_slices: int
    bleeding_patients: int
    dice: Annotated[Estimate, "Dice"]


def _outlining(marking: Sequence[Method]) -> Iterator[Table]:
    rows = [
        _DiceRow(*one.names, len(one.cells), *count_lesions(one.tested),
                 estimate_mean(one.tested.patients, one.tested.dice))
        for one in marking
    ]  # fmt: skip
    if rows:
        yield tabulate("comparison-dice", "Outlining: all methods that mark pixels", "Mean over lesion slices.", rows)


@dataclass(frozen=True)
class _DetectionRow:
    method: str
    split: str
    cells: Annotated[int, "folds × seeds"]
    slices: int
    patients: int
    auc: Annotated[Estimate, "ROC AUC"]
    sensitivity: float | str
    specificity: float | str
    balanced_accuracy: Estimate | None
    parameters: int | str


def _detection(methods: Sequence[Method]) -> Table:
    rows = []
    for one in methods:
        names, parameters = np.unique(one.tested.patients), one.cells[0].parameters
        sensitivity, specificity, balanced = _estimate_rates(one.tested)
        rows.append(_DetectionRow(
            *one.names, len(one.cells), len(np.unique(one.tested.ids)), len(names),
            estimate_from_draws(*draw_auc(one.tested, names)), sensitivity, specificity, balanced,
            DOES_NOT_APPLY if parameters is None else parameters,
        ))  # fmt: skip
    return tabulate(
        "comparison-detection", "Bleed or not, slice by slice: all methods on the same folds",
        "ROC AUC: mean of the folds' AUCs. Sensitivity, specificity: a slice counts as bleeding if any pixel of it is "
        "marked; a method that only classifies has no threshold of its own here. Balanced accuracy: mean of the two.",
        rows,
    )  # fmt: skip


def _estimate_rates(of: Tested) -> tuple[float | str, float | str, Estimate | None]:
    """Estimate sensitivity, specificity and their mean."""
    if of.counts is None:
        return DOES_NOT_APPLY, DOES_NOT_APPLY, None
    marked, lesion = of.counts.predicted > 0, of.lesion
    columns = np.stack([marked & lesion, lesion, ~marked & ~lesion, ~lesion], axis=1).astype(np.float64)
    sensitivity, specificity, balanced = bootstrap_sums(of.patients, columns, _compute_rates)
    return sensitivity.value, specificity.value, balanced


def _compute_rates(sums: DoubleArray) -> DoubleArray:
    rates = sums[:, ::2] / sums[:, 1::2]
    return np.column_stack([rates, rates.mean(axis=1)])


@dataclass(frozen=True)
class _DifferenceRow:
    method: str
    split: str
    lesion_slices: int
    bleeding_patients: int
    difference: Estimate
    p: float


def _differences(marking: Sequence[Method]) -> Iterator[Table]:
    main, rows = {one.kind: one.tested for one in marking if one.label == MAIN}, []
    for method in sorted(marking, key=lambda one: one.label != CLAHE):
        if method.label == MAIN or method.kind not in main:
            continue
        one, other = pair_lesions(method.tested, main[method.kind])
        if len(one.ids):
            change = one.dice - other.dice
            difference, p = estimate_mean(one.patients, change), compute_sign_flip_p(one.patients, change)
            rows.append(_DifferenceRow(*method.names, *count_lesions(one), difference, p))
    if rows:
        yield tabulate(
            "comparison-paired", f"Each method against {name_method(MAIN)}, paired by test slice",
            f"Mean difference of Dice, the method less {name_method(MAIN)}. p: sign flips of whole patients, not "
            "corrected for the number of rows.",
            rows,
        )  # fmt: skip
