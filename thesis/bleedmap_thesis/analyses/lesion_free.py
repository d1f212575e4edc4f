"""The thesis' claim 'empty masks for all lesion-free slices', counted."""

from collections.abc import Iterator, Sequence

import numpy as np

from bleedmap.arrays import AnyArray
from bleedmap.metrics.bootstrap import wilson_interval
from bleedmap.page.section import Section, Table
from bleedmap_thesis.analyses.paired_slices import (
    KINDS,
    MAIN,
    NOT_APPLICABLE,
    Estimate,
    Row,
    in_words,
    labels,
    mean,
    select,
)
from bleedmap_thesis.fold_progress import incomplete, noted, settled
from bleedmap_thesis.plan import UNET, Part, Scale
from bleedmap_thesis.record import CellResult, Evaluation
from bleedmap_thesis.titles import at_scale, title

_PARTS: tuple[Part, ...] = ("grid", "folds")
_TEST, _REST = "test side", "never drawn"
CLAIMED_EPOCHS = 1000  # the last that Table 1 prints


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """How many lesion-free slices have any marked pixel: the claimed cell first."""
    networks = [one for one in results if one.cell.method == UNET]
    missing = incomplete(networks, scale, labels(networks, scale, "folds"))
    networks = settled(networks, scale)
    rows: list[Row] = []
    for part in _PARTS:
        for label in labels(networks, scale, part):
            for kind in KINDS:
                rows += _rows(select(networks, scale, part, label, kind), scale)
    rows.sort(key=lambda row: not _claimed(row))
    if not rows:
        return None
    first = [row for row in rows if row[4] == CLAIMED_EPOCHS or row[3] == _REST]
    tables = [_table(rows, "lesion-free", "Lesion-free slices with any marked pixel", scale)]
    if first and len(first) < len(rows):
        rest = [row for row in rows if row not in first]
        tables = [
            _table(first, "lesion-free", "Lesion-free slices with any marked pixel", scale),
            _table(rest, "lesion-free-epochs", "The same at the other epochs that were kept", scale),
        ]
    asked = "Are the masks of all lesion-free slices empty, as the thesis says?"
    answer, *more = _words(rows, scale)
    words = (f"{answer} {missing}".strip(), *more)
    return Section("lesion-free", asked, words, tuple(noted(tables, missing)))


def _table(rows: Sequence[Row], key: str, name: str, scale: Scale) -> Table:
    return Table(
        key, name,
        f"Marked: any pixel at probability ≥ 0.5, at the network's size ({scale.size}×{scale.size}), after the epochs "
        f"that the row states. The thesis says it of its Table 1, which ends at {CLAIMED_EPOCHS:,}. 'test side': of "
        "the balanced slices; a slice without a lesion pixel at that size counts as "
        "lesion-free. 'never drawn': lesion-free slices of the by-patient test patients that stand on no side of the "
        "split, measured after all epochs alone; a network split by slice may know their neighbours. Slices that "
        "several seeds tested count once for "
        "each. Size: median of the marked slices' pixels. 95 % intervals: percentile bootstrap over patients; where "
        f"none or all are marked, Wilson's, as if slices were independent. {at_scale(scale)}",
        ("part", "network", "split", "slices from", "epochs, thesis", "epochs, here", "slices", "patients", "marked",
         "share", "share low", "share high", "median size, pixels"),
        tuple(rows), digits={"median size, pixels": 0},
    )  # fmt: skip


def _claimed(row: Row) -> bool:
    """Whether it is the thesis' best cell: on the grid, by slice, at the last epochs that Table 1 prints."""
    ours = (title(MAIN), title(f"{MAIN}-alone-{CLAIMED_EPOCHS}"))
    return row[1] in ours and (row[0], *row[2:5]) == ("grid", "by slice", _TEST, CLAIMED_EPOCHS)


def _rows(cells: Sequence[CellResult], scale: Scale) -> Iterator[Row]:
    """Of one network and kind of split: every kept epoch, then what was never drawn."""
    if not cells:
        return
    cell = cells[0].cell
    groups = {
        _TEST: [kept for one in cells for kept in one.evaluations],
        _REST: [one.rest for one in cells if one.rest],
    }
    for where, found in groups.items():
        for epoch in sorted({one.epoch for one in found}):
            here = (cell.part, title(cell.label), f"by {cell.kind}", where, epoch * scale.epochs_over, epoch)
            yield from ((*here, *row) for row in _counted([one for one in found if one.epoch == epoch]))


def _counted(found: Sequence[Evaluation]) -> list[Row]:
    free = [one.counts.rows(one.counts.reference == 0).predicted for one in found if one.counts is not None]
    who = [one.patients[one.counts.reference == 0] for one in found if one.counts is not None]
    if not sum(map(len, free)):
        return []
    pixels, patients = np.concatenate(free), np.concatenate(who)
    marked = pixels > 0
    size = float(np.median(pixels[marked])) if marked.any() else NOT_APPLICABLE
    return [(len(pixels), len(np.unique(patients)), int(marked.sum()), *share(patients, marked).cells, size)]


def share(patients: AnyArray, marked: AnyArray) -> Estimate:
    """Share of slices with its interval over patients; Wilson's (1927) where a bootstrap could only repeat 0 or 1."""
    if marked.any() and not marked.all():
        return mean(patients, marked.astype(np.float64))
    return Estimate(float(marked.mean()), *wilson_interval(int(marked.sum()), len(marked)))


def _words(rows: Sequence[Row], scale: Scale) -> tuple[str, ...]:
    """The cell that the claim is about, then all, then the same network's other groups."""
    here = f"{title(MAIN)}, {CLAIMED_EPOCHS:,} epochs"
    if scale.epochs_over > 1:
        here += f" (here {scale.epochs(CLAIMED_EPOCHS)})"
    claimed = [row for row in rows if _claimed(row)]
    said = f"{here}, grid, by slice, the best cell of the thesis: not measured at this scale."
    if claimed:
        row = claimed[0]
        answer = "all masks of lesion-free test slices are empty" if row[8] == 0 else "not all masks are empty"
        said = (
            f"{here}, grid, by slice, the best cell of the thesis: {answer}: {row[8]:,} of {row[6]:,} slices of "
            f"{row[7]} patients have a marked pixel, share {in_words(row[9:12])}."
        )
        beside = [one for one in rows if one[:4] == row[:4] and one[4] != CLAIMED_EPOCHS]
        told = ", ".join(f"{one[8]:,} of {one[6]:,} at {one[4]:,}" for one in beside)
        said += f" The same network at other epochs (the thesis' count): {told}." if told else ""
    shares = [row for row in rows if (row[4] == CLAIMED_EPOCHS or row[3] == _REST) and row not in claimed]
    none = sum(row[8] == 0 for row in shares)
    if shares:
        said += (
            f" Of the other {len(shares)} groups (a network, a kind of split, test side at {CLAIMED_EPOCHS:,} epochs "
            f"or slices never drawn), {none or 'none'} {'has' if none == 1 else 'have'} all masks empty."
        )
    more = [
        f"{row[1]}, {row[0]}, split {row[2]}, {row[3]}, {row[4]:,} epochs (here {row[5]:,}): {row[8]:,} of {row[6]:,} "
        f"lesion-free slices of {row[7]} patients have a marked pixel, share {in_words(row[9:12])}."
        for row in rows if (row[0], row[1], row[4]) == ("folds", title(MAIN), CLAIMED_EPOCHS)
    ]  # fmt: skip
    return (said, *more, "A network that marks little leaves lesions unmarked too: see its Dice in Table 1.")
