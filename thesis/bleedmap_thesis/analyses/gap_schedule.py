"""The gap over the schedule: the same folds measured at every kept epoch."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.figures import style
from bleedmap.page.section import Table
from bleedmap_thesis.analyses.nearness import COLOURS
from bleedmap_thesis.analyses.paired_slices import (
    INTERVAL,
    KINDS,
    LESION_DICE,
    NOT_APPLICABLE,
    Estimate,
    Pair,
    Row,
    gathered,
    in_words,
    mean,
    paired,
    select,
)
from bleedmap_thesis.fold_progress import Done
from bleedmap_thesis.plan import Scale
from bleedmap_thesis.record import CellResult
from bleedmap_thesis.titles import at_scale, letters, seeds_in_words, title

LATE = 600  # of the thesis' epochs: from here on its Table 1 changes least
_MEASURES = ("Dice by slice", "Dice by patient", "gap")


@dataclass(frozen=True, eq=False)
class Schedule:
    """Dice of the paired lesion slices at every epoch that all folds kept; a column a slice of one seed.

    Attributes:
        label: of the method.
        epochs: the thesis' epochs that the kept ones stand for, rising.
        by_slice: (epochs, n) Dice.
        by_patient: (epochs, n) Dice.
        patients: (n,) of the slices.
        slices: how many different slices.
        seeds: how many seeds.
        done: how much of its folds is in.
    """

    label: str
    epochs: tuple[int, ...]
    by_slice: DoubleArray
    by_patient: DoubleArray
    patients: AnyArray
    slices: int
    seeds: int
    done: Done

    @property
    def gaps(self) -> DoubleArray:
        """(epochs, n) Dice by slice less by patient."""
        return self.by_slice - self.by_patient

    @property
    def growth(self) -> Estimate:
        """The gap at the last kept epoch less at the first."""
        return mean(self.patients, self.gaps[-1] - self.gaps[0])

    @property
    def late(self) -> AnyArray:
        """(epochs,) whether from `LATE` on."""
        return np.array(self.epochs) >= LATE

    def at(self, chosen: AnyArray | int) -> tuple[Estimate, ...]:
        """Dice by slice, by patient and gap at an epoch, or averaged over epochs chosen by bool (epochs,)."""
        which = np.atleast_1d(np.arange(len(self.epochs))[chosen])
        values = (self.by_slice, self.by_patient, self.gaps)
        return tuple(mean(self.patients, one[which].mean(axis=0)) for one in values)


def schedule(results: Sequence[CellResult], scale: Scale, pair: Pair, lesions: frozenset[str]) -> Schedule | None:
    """Of one method; None where fewer than two epochs were kept by all folds."""
    both = [select(results, scale, "folds", pair.label, kind) for kind in KINDS]
    kept = sorted(set.intersection(*({one.epoch for one in cell.evaluations} for cells in both for cell in cells)))
    if len(kept) < 2:
        return None
    dice: list[tuple[DoubleArray, DoubleArray]] = []
    for epoch in kept:
        one, other = paired(*(gathered(cells, lesions, epoch) for cells in both))
        one, other = one.rows(one.lesion), other.rows(other.lesion)
        dice.append((one.dice, other.dice))
    by_slice, by_patient = (np.array([values[side] for values in dice]) for side in (0, 1))
    epochs = tuple(epoch * scale.epochs_over for epoch in kept)
    sizes = len(np.unique(one.ids)), len(np.unique(one.seeds))
    return Schedule(pair.label, epochs, by_slice, by_patient, one.patients, *sizes, pair.done)


def table(found: Sequence[Schedule], scale: Scale) -> Table:
    """A row an epoch; then the late epochs' average, and the change from first to last."""
    rows: list[Row] = []
    for one in found:
        start = (title(one.label), one.seeds, one.slices, len(np.unique(one.patients)))
        rows += [
            (*start, f"{epoch:,}", *_cells(one.at(index))) for index, epoch in enumerate(one.epochs)
        ]  # fmt: skip
        if one.late.any():
            rows.append((*start, f"mean from {LATE} on", *_cells(one.at(one.late))))
        change = f"{one.epochs[-1]:,} less {one.epochs[0]:,}"
        rows.append((*start, change, *(NOT_APPLICABLE, None, None) * 2, *one.growth.cells))
    return Table(
        "gap-schedule", "The gap over the schedule",
        "Epochs are the thesis'. The same lesion slices at every epoch, each paired with itself. The learning rate is "
        "constant, so that one epoch's network goes up and down by chance: the mean over epochs is steadier. "
        f"{LESION_DICE}. {INTERVAL}. {at_scale(scale)}",
        ("method", "seeds", "lesion slices", "bleeding patients", "epochs",
         *(f"{name}{end}" for name in _MEASURES for end in ("", " low", " high"))),
        tuple(rows),
    )  # fmt: skip


def _cells(found: Sequence[Estimate]) -> Row:
    return tuple(cell for one in found for cell in one.cells)


def words(main: Schedule) -> str:
    """Whether the gap grows with training, no stronger than the interval is."""
    first, last, change = main.at(0)[2], main.at(-1)[2], main.growth
    said = (
        f"Over the schedule the gap goes from {first.value:.3f} at {main.epochs[0]:,} to {last.value:.3f} at "
        f"{main.epochs[-1]:,} of the thesis' epochs, a change of {in_words(change.cells)}: "
        f"{_verdict(change)}."
    )
    if main.late.any():
        said += (
            f" Averaged over the {main.late.sum()} kept epochs from {LATE} on, which is steadier than one epoch, it is "
            f"{in_words(main.at(main.late)[2].cells)}."
        )
    n = f"n = {main.slices} lesion slices of {len(np.unique(main.patients))} patients, {seeds_in_words(main.seeds)}"
    return f"{said} {n}; what other trainings would do is not in these intervals."


def _verdict(change: Estimate) -> str:
    if change.low > 0:
        return "it is larger at the end than at the start, for these networks and two epochs"
    if change.high < 0:
        return "it is smaller at the end than at the start, for these networks and two epochs; no growth is shown"
    return "whether it grows with training cannot be told, for the interval holds 0"


def draw(main: Schedule, scale: Scale) -> Figure:
    """a: Dice by slice and by patient. b: the gap."""
    caption = (
        f"{title(main.label)}, {main.slices} lesion slices of {len(np.unique(main.patients))} bleeding patients, "
        f"{seeds_in_words(main.seeds)}, at every kept epoch of the folds, {main.done}. a: mean Dice. b: the "
        "paired gap, by slice less by patient. Bars: 95 % intervals over patients, the trained networks fixed; those "
        f"of a overlap because patients differ, which pairing takes out of b. {LESION_DICE}. {at_scale(scale)}"
    )
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(60, caption)
        left, right = style.panel(figure, 14, 6, 72, 42), style.panel(figure, 106, 6, 72, 42)
        found = [main.at(index) for index in range(len(main.epochs))]
        shift = 0.06 * (main.epochs[1] - main.epochs[0])  # so that the bars stand side by side
        for place, (kind, by) in enumerate(zip(KINDS, (-1, 1), strict=True)):
            at = np.array(main.epochs) + by * shift
            _with_bars(left, at, [one[place] for one in found], COLOURS[kind], f"by {kind}")
        _with_bars(right, np.array(main.epochs), [one[2] for one in found], style.INK, "gap")
        right.axhline(0, color=style.FAINT, linewidth=0.6)
        left.set(ylim=(0, None), ylabel="Dice, lesion slices")
        left.legend(frameon=False, fontsize=style.SMALL_PT, loc="lower right")
        right.set(ylabel="gap of Dice")
        for axes in (left, right):
            axes.set(xticks=main.epochs, xlabel="epochs, as the thesis counts them")
        letters(figure, (0.5, 92))
    return figure


def _with_bars(axes: Axes, at: AnyArray, found: Sequence[Estimate], colour: str, name: str) -> None:
    axes.vlines(at, [one.low for one in found], [one.high for one in found], color=colour, linewidth=0.9)
    axes.plot(at, [one.value for one in found], "o-", color=colour, markersize=3, label=name)
