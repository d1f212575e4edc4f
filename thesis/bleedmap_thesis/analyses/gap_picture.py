"""The gap, patient by patient, as a figure."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bleedmap.figures import style
from bleedmap_thesis.analyses.paired_slices import LESION_DICE, Pair
from bleedmap_thesis.plan import Scale
from bleedmap_thesis.titles import at_scale, letters, title


def draw(main: Pair, scale: Scale) -> Figure:
    """Each patient. a: a line a patient. b: the patients' gaps, in order."""
    who, index = np.unique(main.patients, return_inverse=True)
    n = np.bincount(index)
    ends = [np.bincount(index, of.dice) / n for of in (main.by_slice, main.by_patient)]
    slices = len(np.unique(main.by_slice.ids))
    tested = "each tested once under each kind of split" if main.done.whole else f"incomplete: {main.done}"
    if main.done.whole and len(np.unique(main.by_slice.seeds)) > 1:
        tested += " and seed"
    words = (
        f"{title(main.label)}, {len(who)} bleeding patients, {slices} lesion slices, {tested}. "
        f"{LESION_DICE}. a: each patient's mean; the thick line is the mean over slices. "
        "b: each patient's "
        "mean gap, by slice less by patient; a dot's area is the number of lesion slices; the line is the mean over "
        f"slices. {at_scale(scale)}"
    )
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(70, words)
        left, right = style.panel(figure, 14, 6, 62, 54), style.panel(figure, 98, 6, 80, 54)
        left.plot([0, 1], ends, "o-", color=style.RULE, linewidth=0.7, markersize=2.2, mfc=style.FAINT, mew=0)
        whole = [main.by_slice.dice.mean(), main.by_patient.dice.mean()]
        left.plot([0, 1], whole, color=style.PALETTE[1], linewidth=2.2, marker="o", markersize=5)
        for place, value, side in zip((-0.05, 1.05), whole, ("right", "left"), strict=True):
            left.text(place, value, f"{value:.2f}", ha=side, va="center", color=style.PALETTE[1], weight="bold")
        left.set(
            xlim=(-0.3, 1.3),
            ylim=(0, 1),
            xticks=[0, 1],
            xticklabels=["by slice", "by patient"],
            ylabel="Dice, lesion slices",
        )
        gaps = ends[0] - ends[1]
        order = np.argsort(gaps)
        right.axhline(0, color=style.FAINT, linewidth=0.6)
        right.axhline(main.loss.mean(), color=style.PALETTE[1])
        areas = 4 + 3 * n[order] / len(np.unique(main.by_slice.seeds))
        right.scatter(np.arange(len(who)), gaps[order], s=areas, color=style.PALETTE[0], alpha=0.85, linewidths=0)
        right.set(xlabel="bleeding patient, in order of the gap", ylabel="gap of Dice")
        letters(figure, (0.5, 85))
    return figure
