"""The thesis' claim 'empty masks for all lesion-free slices', counted."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from bleedmap.arrays import AnyArray
from bleedmap.experiments.comparison import KINDS, Estimate, in_words, labels, mean, select
from bleedmap.experiments.plan import UNET, Part, Scale
from bleedmap.experiments.record import CellResult
from bleedmap.experiments.section import Section, Table, Value
from bleedmap.metrics.statistics import COVERAGE

_PARTS: tuple[Part, ...] = ("grid", "folds")
_TEST, _REST = "test side", "never drawn"


def section(results: Sequence[CellResult], scale: Scale) -> Section | None:
    """How many lesion-free slices have any marked pixel."""
    networks = [one for one in results if one.cell.method == UNET]
    rows: list[tuple[Value, ...]] = []
    for part in _PARTS:
        for label in labels(networks, scale, part):
            for kind in KINDS:
                cells = select(networks, scale, part, label, kind)
                for where in (_TEST, _REST):
                    rows += [(part, label, kind, where, *row) for row in _row(cells, where)]
    if not rows:
        return None
    table = Table(
        "lesion-free", "Lesion-free slices with any marked pixel",
        f"Marked: any pixel at probability ≥ 0.5, at the network's size ({scale.size}×{scale.size}), after all "
        "epochs. 'test side': of the balanced slices; a slice without a lesion pixel at that size counts as "
        "lesion-free. 'never drawn': lesion-free slices of the by-patient test patients that stand on no side of the "
        "split; a network split by slice may know their neighbours. Slices that several seeds tested count once for "
        "each. Size: median of the marked slices' pixels. 95 % intervals: percentile bootstrap over patients; where "
        f"none or all are marked, Wilson's, as if slices were independent. Scale: {scale.text}.",
        ("part", "network", "split by", "slices from", "slices", "patients", "marked", "share", "low", "high",
         "median size, pixels"),
        tuple(rows), digits={"median size, pixels": 0},
    )  # fmt: skip
    title = "Are the masks of all lesion-free slices empty, as the thesis says?"
    return Section("lesion-free", title, _words(rows), (table,))


def _row(cells: Sequence[CellResult], where: str) -> list[tuple[Value, ...]]:
    found = [evaluation for one in cells if (evaluation := one.last if where == _TEST else one.rest)]
    free = [one.counts.rows(one.counts.reference == 0).predicted for one in found if one.counts is not None]
    who = [one.patients[one.counts.reference == 0] for one in found if one.counts is not None]
    if not sum(map(len, free)):
        return []
    pixels, patients = np.concatenate(free), np.concatenate(who)
    marked = pixels > 0
    size = float(np.median(pixels[marked])) if marked.any() else None
    return [(len(pixels), len(np.unique(patients)), int(marked.sum()), *share(patients, marked).cells, size)]


def share(patients: AnyArray, marked: AnyArray) -> Estimate:
    """Share of slices with its interval over patients; Wilson's (1927) where a bootstrap could only repeat 0 or 1."""
    if marked.any() and not marked.all():
        return mean(patients, marked.astype(np.float64))
    ends = stats.binomtest(int(marked.sum()), len(marked)).proportion_ci(COVERAGE, method="wilson")
    return Estimate(float(marked.mean()), float(ends.low), float(ends.high))


def _words(rows: Sequence[tuple[Value, ...]]) -> tuple[str, ...]:
    none = sum(row[6] == 0 for row in rows)
    words = [
        f"{none or 'None'} of {len(rows)} rows (a network, a kind of split, a group of slices) "
        f"{'has' if none <= 1 else 'have'} an empty mask for every lesion-free slice."
    ]
    words += [
        f"{row[1]} by {row[2]}, {row[0]}, {row[3]}: {row[6]} of {row[4]} lesion-free slices of {row[5]} patients are "
        f"marked, share {in_words(row[7:10])}."
        for row in rows if row[1] == rows[0][1]
    ]  # fmt: skip
    return tuple(words)
