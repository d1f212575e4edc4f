"""All methods on the same folds, each against the main one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bleedmap.arrays import DoubleArray
from bleedmap.datasets.splits import Kind
from bleedmap.page.section import DOES_NOT_APPLY, NOT_APPLICABLE, Row, Section, Table, tabulate
from bleedmap_thesis.analyses import paired_slices as paired
from bleedmap_thesis.plan import KINDS, Scale, name_method
from bleedmap_thesis.progress import add_note, describe_missing, drop_begun_seeds
from bleedmap_thesis.record import CellResult

CLAHE = "model-2-b32-clahe"
CONVENTION = (
    f"Balanced test slices of five folds of both kinds of split. {paired.LESION_DICE}; methods that only classify "
    f"slices outline nothing. {paired.INTERVAL}. The highest of many is flattered by being chosen: whether one method "
    "differs from another is for the paired table."
)


@dataclass(frozen=True, eq=False)
class Method:
    """One method on one kind of split."""

    label: str
    kind: Kind
    cells: Sequence[CellResult]
    tested: paired.Tested

    @property
    def names(self) -> dict[str, Any]:
        """The method, and its split, as tables print them."""
        return {"method": name_method(self.label), "split": f"by {self.kind}"}


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """Tabulate every method on the five folds, by slice and by patient."""
    begun, results = results, drop_begun_seeds(results, scale)
    lesions, names = paired.find_lesions(results, scale), paired.list_labels(results, scale, "folds")
    if not lesions or not names:
        return None
    methods = [
        Method(label, kind, cells, paired.gather(cells, lesions))
        for label in names for kind in KINDS if (cells := paired.select(results, scale, "folds", label, kind))
    ]  # fmt: skip
    marking = [one for one in methods if one.tested.counts is not None]
    tables = [*_outlining(marking), _detection(methods), *_differences(marking)]
    asked = "How do the methods compare on the same folds?"
    noted = add_note(tables, describe_missing(begun, scale, names))
    return Section("comparison", asked, (CONVENTION,), tuple(noted))


def _outlining(marking: Sequence[Method]) -> Iterator[Table]:
    rows = []
    for one in marking:
        slices, patients = paired.count_lesions(one.tested)
        rows.append(one.names | {
            "folds × seeds": len(one.cells), "lesion slices": slices, "bleeding patients": patients,
            "Dice": paired.estimate_mean(one.tested.patients, one.tested.dice),
        })  # fmt: skip
    if rows:
        yield tabulate("comparison-dice", "Outlining: all methods that mark pixels", "Mean over lesion slices.", rows)


def _detection(methods: Sequence[Method]) -> Table:
    rows = []
    for one in methods:
        names, parameters = np.unique(one.tested.patients), one.cells[0].parameters
        rows.append({
            **one.names, "folds × seeds": len(one.cells), "slices": len(np.unique(one.tested.ids)),
            "patients": len(names), "ROC AUC": paired.estimate_from_draws(*paired.draw_auc(one.tested, names)),
            **_estimate_rates(one.tested), "parameters": DOES_NOT_APPLY if parameters is None else parameters,
        })  # fmt: skip
    return tabulate(
        "comparison-detection", "Bleed or not, slice by slice: all methods on the same folds",
        "ROC AUC: mean of the folds' AUCs. Sensitivity, specificity: a slice counts as bleeding if any pixel of it is "
        "marked; a method that only classifies has no threshold of its own here. Balanced accuracy: mean of the two.",
        rows,
    )  # fmt: skip


def _estimate_rates(of: paired.Tested) -> Row:
    """Estimate sensitivity, specificity and their mean."""
    if of.counts is None:
        return dict.fromkeys(("sensitivity", "specificity"), DOES_NOT_APPLY) | {"balanced accuracy": NOT_APPLICABLE}
    marked, lesion = of.counts.predicted > 0, of.lesion
    columns = np.stack([marked & lesion, lesion, ~marked & ~lesion, ~lesion], axis=1).astype(np.float64)

    def compute_rates(sums: DoubleArray) -> DoubleArray:
        rates = sums[:, ::2] / sums[:, 1::2]
        return np.column_stack([rates, rates.mean(axis=1)])

    sensitivity, specificity, balanced = paired.bootstrap_sums(of.patients, columns, compute_rates)
    return {"sensitivity": sensitivity.value, "specificity": specificity.value, "balanced accuracy": balanced}


def _differences(marking: Sequence[Method]) -> Iterator[Table]:
    main, rows = {one.kind: one.tested for one in marking if one.label == paired.MAIN}, []
    for method in sorted(marking, key=lambda one: one.label != CLAHE):
        if method.label == paired.MAIN or method.kind not in main:
            continue
        one, other = paired.pair_lesions(method.tested, main[method.kind])
        if len(one.ids):
            change = one.dice - other.dice
            slices, patients = paired.count_lesions(one)
            rows.append(method.names | {
                "lesion slices": slices, "bleeding patients": patients,
                "difference": paired.estimate_mean(one.patients, change),
                "p": paired.compute_sign_flip_p(one.patients, change),
            })  # fmt: skip
    if rows:
        yield tabulate(
            "comparison-paired", f"Each method against {name_method(paired.MAIN)}, paired by test slice",
            "Mean difference of Dice, the method less the one named. p: sign flips of whole patients, not corrected "
            "for the number of rows.",
            rows,
        )  # fmt: skip
