"""The thesis' claim 'empty masks for all lesion-free slices', counted."""

from collections.abc import Iterator, Sequence

import numpy as np

from bleedmap.arrays import AnyArray
from bleedmap.metrics.bootstrap import wilson_interval
from bleedmap.page.section import DOES_NOT_APPLY, Estimate, Row, Section, tabulate
from bleedmap_thesis.analyses import paired_slices as paired
from bleedmap_thesis.plan import KINDS, UNET, Part, Scale, name_method
from bleedmap_thesis.progress import add_note, describe_missing, drop_begun_seeds
from bleedmap_thesis.record import CellResult, Evaluation

_PARTS: tuple[Part, ...] = ("grid", "folds")
_TEST, _REST = "test side", "never drawn"
CLAIMED_EPOCHS = 1000  # the last that Table 1 prints
CONVENTION = (
    "A slice is marked if any pixel has probability ≥ 0.5 at the network's size. 'test side': of the balanced "
    "slices; 'never drawn': lesion-free slices of the by-patient test patients that stand on no side of the split, "
    f"whose neighbours a network split by slice may know. {paired.INTERVAL}; where none or all are marked, Wilson's, "
    f"as if slices were independent. The thesis says it of its Table 1, which ends at {CLAIMED_EPOCHS:,} epochs. A "
    "network that marks little leaves lesions unmarked too: see its Dice."
)


def _is_best(row: Row) -> bool:
    """Tell whether it is the thesis' best network: on the grid, by slice, test side."""
    ours = (paired.MAIN, f"{paired.MAIN}-alone-{CLAIMED_EPOCHS}")
    place = (row["part"], row["split"], row["slices from"])
    return row["network"] in map(name_method, ours) and place == ("grid", "by slice", _TEST)


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """Tabulate how many lesion-free slices have any marked pixel, the claimed cell first."""
    networks = [one for one in results if one.cell.method == UNET]
    missing = describe_missing(networks, scale, paired.list_labels(networks, scale, "folds"))
    networks = drop_begun_seeds(networks, scale)
    rows = [
        row
        for part in _PARTS for label in paired.list_labels(networks, scale, part) for kind in KINDS
        for row in _count_marked(paired.select(networks, scale, part, label, kind), scale)
    ]  # fmt: skip
    rows.sort(key=lambda row: not (_is_best(row) and row["epochs, thesis"] == CLAIMED_EPOCHS))
    if not rows:
        return None
    first = [row for row in rows if row["epochs, thesis"] == CLAIMED_EPOCHS or row["slices from"] == _REST] or rows
    rest = [row for row in rows if row not in first]
    best = [row for row in rows if _is_best(row)]
    title = "Lesion-free slices with any marked pixel"
    named = (
        ("lesion-free-claim", "The thesis' best network: lesion-free test slices with any marked pixel", best),
        ("lesion-free", title, first), ("lesion-free-epochs", f"{title}: the other epochs that were kept", rest),
    )  # fmt: skip
    note = "Slices that several seeds tested count once for each. Size: median of the marked slices' pixels."
    tables = [tabulate(key, name, note, own, {"median size, pixels": 0}) for key, name, own in named if own]
    asked = "Are the masks of all lesion-free slices empty, as the thesis says?"
    return Section("lesion-free", asked, (CONVENTION,), tuple(add_note(tables, missing)))


def _count_marked(cells: Sequence[CellResult], scale: Scale) -> Iterator[Row]:
    """Count one network on one kind of split: at every kept epoch, then on what was never drawn."""
    groups = {
        _TEST: [kept for one in cells for kept in one.evaluations],
        _REST: [one.rest for one in cells if one.rest],
    }
    for where, found in groups.items():
        for epoch in sorted({one.epoch for one in found}):
            pixels, patients = _gather_free([one for one in found if one.epoch == epoch])
            if len(pixels):
                cell, marked = cells[0].cell, pixels > 0
                yield {
                    "part": cell.part, "network": name_method(cell.label), "split": f"by {cell.kind}",
                    "slices from": where, "epochs, thesis": epoch * scale.epochs_over, "epochs, here": epoch,
                    "slices": len(pixels), "patients": len(np.unique(patients)), "marked": marked.sum(),
                    "share": estimate_share(patients, marked),
                    "median size, pixels": np.median(pixels[marked]) if marked.any() else DOES_NOT_APPLY,
                }  # fmt: skip


def _gather_free(found: Sequence[Evaluation]) -> tuple[AnyArray, AnyArray]:
    """Give the marked pixels and the patient of every lesion-free slice, (n,) each."""
    known = [(one, one.counts) for one in found if one.counts is not None]
    pixels = [counts.predicted[counts.reference == 0] for _, counts in known]
    patients = [one.patients[counts.reference == 0] for one, counts in known]
    return np.concatenate([np.zeros(0, np.int64), *pixels]), np.concatenate([np.zeros(0, np.str_), *patients])


def estimate_share(patients: AnyArray, marked: AnyArray) -> Estimate:
    """Estimate the share of slices over patients; by Wilson (1927) where a bootstrap could only repeat 0 or 1."""
    if marked.any() and not marked.all():
        return paired.estimate_mean(patients, marked.astype(np.float64))
    return Estimate(float(marked.mean()), *wilson_interval(int(marked.sum()), len(marked)))
