"""The thesis' claim 'empty masks for all lesion-free slices', counted."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from bleedmap.arrays import AnyArray
from bleedmap.experiments.paired_slices import (
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
from bleedmap.experiments.plan import UNET, Part, Scale
from bleedmap.experiments.record import CellResult
from bleedmap.experiments.section import Section, Table
from bleedmap.experiments.titles import at_scale, title
from bleedmap.metrics.statistics import COVERAGE

_PARTS: tuple[Part, ...] = ("grid", "folds")
_TEST, _REST = "test side", "never drawn"


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """How many lesion-free slices have any marked pixel."""
    networks = [one for one in results if one.cell.method == UNET]
    rows: list[Row] = []
    for part in _PARTS:
        for label in labels(networks, scale, part):
            for kind in KINDS:
                cells = select(networks, scale, part, label, kind)
                for where in (_TEST, _REST):
                    rows += [(part, title(label), f"by {kind}", where, *row) for row in _counted(cells, where)]
    if not rows:
        return None
    table = Table(
        "lesion-free", "Lesion-free slices with any marked pixel",
        f"Marked: any pixel at probability ≥ 0.5, at the network's size ({scale.size}×{scale.size}), after all "
        "epochs. 'test side': of the balanced slices; a slice without a lesion pixel at that size counts as "
        "lesion-free. 'never drawn': lesion-free slices of the by-patient test patients that stand on no side of the "
        "split; a network split by slice may know their neighbours. Slices that several seeds tested count once for "
        "each. Size: median of the marked slices' pixels. 95 % intervals: percentile bootstrap over patients; where "
        f"none or all are marked, Wilson's, as if slices were independent. {at_scale(scale)}",
        ("part", "network", "split", "slices from", "slices", "patients", "marked", "share", "share low", "share high",
         "median size, pixels"),
        tuple(rows), digits={"median size, pixels": 0},
    )  # fmt: skip
    asked = "Are the masks of all lesion-free slices empty, as the thesis says?"
    return Section("lesion-free", asked, _words(rows), (table,))


def _counted(cells: Sequence[CellResult], where: str) -> list[Row]:
    found = [evaluation for one in cells if (evaluation := one.last if where == _TEST else one.rest)]
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
    ends = stats.binomtest(int(marked.sum()), len(marked)).proportion_ci(COVERAGE, method="wilson")
    return Estimate(float(marked.mean()), float(ends.low), float(ends.high))


def _words(rows: Sequence[Row]) -> tuple[str, ...]:
    none, n = sum(row[6] == 0 for row in rows), len(rows)
    told = f"{none} of {n}" if none else f"none of {n}"
    shown = [row for row in rows if (row[0], row[1]) == ("folds", title(MAIN))] or [
        row for row in rows if row[:2] == rows[0][:2]
    ]
    return (
        f"{'Yes' if none == n else 'No' if not none else 'Not in all'}: in {told} groups of slices (a network, a kind "
        "of split, test side or never drawn) are the masks of all lesion-free slices empty.",
        *(
            f"{row[1]}, {row[0]}, split {row[2]}, {row[3]}: {row[6]:,} of {row[4]:,} lesion-free slices of {row[5]} "
            f"patients have a marked pixel, share {in_words(row[7:10])}."
            for row in shown
        ),
    )
