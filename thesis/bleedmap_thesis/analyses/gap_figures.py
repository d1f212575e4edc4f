"""Figures of the gap: patient by patient, over the schedule, and against the distance to the training slices."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.figures import style
from bleedmap_thesis.analyses.nearness import THIRDS, Near
from bleedmap_thesis.analyses.paired_slices import KINDS, LESION_DICE, Pair, count_lesions
from bleedmap_thesis.plan import Scale, name_method
from bleedmap_thesis.tables import Estimate

if TYPE_CHECKING:
    from bleedmap_thesis.analyses.gap import Schedule

COLOURS = {"slice": style.PALETTE[0], "patient": style.PALETTE[1]}


def letter_panels(figure: Figure, lefts_mm: Sequence[float]) -> None:
    """Write a, b, … above the panels that begin there."""
    for index, left_mm in enumerate(lefts_mm):
        style.write(figure, left_mm, 2.2, "abc"[index], weight="bold", size=style.TEXT_PT + 1)


def _write_caption(pair: Pair, scale: Scale, panels: str) -> str:
    slices, patients = count_lesions(pair.by_slice)
    seeds = len(np.unique(pair.by_slice.seeds))
    return (
        f"{name_method(pair.label)}, {slices} lesion slices of {patients} bleeding patients, seeds: {seeds}, folds: "
        f"{pair.done}. {panels} {LESION_DICE}. {scale.describe()}"
    )


def draw_patients(main: Pair, scale: Scale) -> Figure:
    """Draw the gap patient by patient. a: a line a patient. b: the patients' gaps, in order."""
    who, index = np.unique(main.patients, return_inverse=True)
    n = np.bincount(index)
    ends = [np.bincount(index, of.dice) / n for of in (main.by_slice, main.by_patient)]
    caption = _write_caption(
        main, scale,
        "a: each patient's mean; the thick line is the mean over slices. b: each patient's mean gap, by slice less by "
        "patient; a dot's area is the number of lesion slices; the line is the mean over slices.",
    )  # fmt: skip
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(70, caption)
        left, right = style.panel(figure, 14, 6, 62, 54), style.panel(figure, 98, 6, 80, 54)
        left.plot([0, 1], ends, "o-", color=style.RULE, linewidth=0.7, markersize=2.2, mfc=style.FAINT, mew=0)
        whole = [main.by_slice.dice.mean(), main.by_patient.dice.mean()]
        left.plot([0, 1], whole, color=style.PALETTE[1], linewidth=2.2, marker="o", markersize=5)
        for place, value, side in zip((-0.05, 1.05), whole, ("right", "left"), strict=True):
            left.text(place, value, f"{value:.2f}", ha=side, va="center", color=style.PALETTE[1], weight="bold")
        left.set(xlim=(-0.3, 1.3), ylim=(0, 1), xticks=[0, 1], xticklabels=["by slice", "by patient"])
        left.set_ylabel("Dice, lesion slices")
        gaps = ends[0] - ends[1]
        order = np.argsort(gaps)
        right.axhline(0, color=style.FAINT, linewidth=0.6)
        right.axhline(main.gap.mean(), color=style.PALETTE[1])
        areas = 4 + 3 * n[order] / len(np.unique(main.by_slice.seeds))
        right.scatter(np.arange(len(who)), gaps[order], s=areas, color=style.PALETTE[0], alpha=0.85, linewidths=0)
        right.set(xlabel="bleeding patient, in order of the gap", ylabel="gap of Dice")
        letter_panels(figure, (0.5, 85))
    return figure


def draw_schedule(main: "Schedule", scale: Scale) -> Figure:
    """Draw the gap over the epochs. a: Dice by slice and by patient. b: the gap."""
    caption = _write_caption(
        main.pair, scale,
        "At every kept epoch; a: mean Dice, b: the paired gap, by slice less by patient. Bars: 95 % intervals over "
        "patients, the trained networks fixed; those of a overlap because patients differ, which pairing takes out.",
    )  # fmt: skip
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(60, caption)
        left, right = style.panel(figure, 14, 6, 72, 42), style.panel(figure, 106, 6, 72, 42)
        found = [main.estimate(index) for index in range(len(main.epochs))]
        shift = 0.06 * (main.epochs[1] - main.epochs[0])  # so that the bars stand side by side
        for kind, by in zip(KINDS, (-1, 1), strict=True):
            at = np.array(main.epochs) + by * shift
            _draw_course(left, at, [one[f"Dice by {kind}"] for one in found], COLOURS[kind], f"by {kind}")
        _draw_course(right, np.array(main.epochs), [one["gap"] for one in found], style.INK, "gap")
        right.axhline(0, color=style.FAINT, linewidth=0.6)
        left.set(ylim=(0, None), ylabel="Dice, lesion slices")
        left.legend(frameon=False, fontsize=style.SMALL_PT, loc="lower right")
        right.set(ylabel="gap of Dice")
        for axes in (left, right):
            axes.set(xticks=main.epochs, xlabel="epochs, as the thesis counts them")
        letter_panels(figure, (0.5, 92))
    return figure


def _draw_course(axes: Axes, at: AnyArray, found: Sequence[Estimate], colour: str, name: str) -> None:
    axes.vlines(at, [one.low for one in found], [one.high for one in found], color=colour, linewidth=0.9)
    axes.plot(at, [one.value for one in found], "o-", color=colour, markersize=3, label=name)


def draw_distance(near: Near, main: Pair, scale: Scale) -> Figure:
    """Draw Dice against distance. a: both kinds, a dot a slice, thirds as bars. b: gap against increase."""
    caption = _write_caption(
        main, scale,
        "Distance of a test slice to the nearest training slice: root mean square difference of the inputs. a: a dot a "
        "slice; bars are the mean Dice in thirds of each kind's distances. b: what a slice loses from split by slice "
        "to split by patient, against its increase of distance.",
    )  # fmt: skip
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(70, caption)
        left, right = style.panel(figure, 14, 6, 76, 54), style.panel(figure, 108, 6, 70, 54)
        for kind in KINDS:
            distance, colour = near.distance[kind], COLOURS[kind]
            left.scatter(distance, near.dice[kind], s=5, color=colour, alpha=0.35, linewidths=0, label=f"by {kind}")
            _draw_thirds(left, distance, near.dice[kind], colour)
        left.set(xlabel="distance to the nearest training slice", ylabel="Dice", ylim=(0, 1.02))
        left.set_xlim(left=0)
        left.legend(frameon=False, fontsize=style.SMALL_PT, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.99),
                    markerscale=2)  # fmt: skip
        right.axhline(0, color=style.FAINT, linewidth=0.6)
        increase = near.distance["patient"] - near.distance["slice"]
        right.scatter(increase, near.dice["slice"] - near.dice["patient"], s=5, color=style.INK, alpha=0.4,
                      linewidths=0)  # fmt: skip
        right.set(xlabel="increase of distance, by patient less by slice", ylabel="loss of Dice")
        letter_panels(figure, (0.5, 95))
    return figure


def _draw_thirds(axes: Axes, distance: DoubleArray, dice: DoubleArray, colour: str) -> None:
    for low, high in pairwise(np.quantile(distance, np.linspace(0, 1, THIRDS + 1))):
        own = (distance >= low) & (distance <= high)
        for shade, width in (("white", 4.2), (colour, 2.6)):
            axes.plot([low, high], [dice[own].mean()] * 2, color=shade, linewidth=width, solid_capstyle="butt")
