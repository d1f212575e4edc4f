"""Dice over trained epochs beside the 2021 thesis' Table 1."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bleedmap.figures import style
from bleedmap_thesis.analyses.gap_figures import letter_panels

if TYPE_CHECKING:
    from bleedmap_thesis.analyses.table1 import MeasuredCell

_WIDE_MM, _HIGH_MM, _LEFT_MM, _ABOVE_MM, _BELOW_MM = 74.0, 58.0, 12.0, 6.0, 11.0
_PITCH_MM = 90.0
_HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "markersize": 4.0, "linewidth": 0.8, "linestyle": (0, (3, 1.5))}


def draw_dice(cells: "Sequence[MeasuredCell]", caption: str) -> Figure:
    """Draw a panel for each model: the thesis' Dice and ours with its intervals, a colour for each batch.

    Args:
        cells: those by slice, of at most two models.
        caption: n, kind of split, convention, interval, scale.
    """
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _HIGH_MM + _BELOW_MM, caption)
        models = sorted({one.model for one in cells})
        for index, model in enumerate(models):
            axes = style.panel(figure, _LEFT_MM + index * _PITCH_MM, _ABOVE_MM, _WIDE_MM, _HIGH_MM)
            for colour, batch in enumerate(sorted({one.batch for one in cells})):
                own = [one for one in cells if (one.model, one.batch) == (model, batch)]
                _draw_lines(axes, own, batch, style.PALETTE[colour], 16 * colour - 8)
            axes.set(xlabel="epochs of the thesis' schedule", ylabel="Dice", xlim=(120, 1480), ylim=(0, 1))
            axes.set_xticks(range(200, 1401, 200))
            axes.grid(axis="y", color=style.RULE, linewidth=0.4)
            axes.set_axisbelow(True)
            axes.legend(frameon=False, fontsize=style.SMALL_PT, loc="lower right", borderaxespad=0.2)
            style.write(figure, index * _PITCH_MM + 4, 2.6, f"Model {model}", weight="bold")
        letter_panels(figure, [index * _PITCH_MM + 0.5 for index in range(len(models))])
    return figure


def _draw_lines(axes: Axes, own: "Sequence[MeasuredCell]", batch: int, colour: str, shift: int) -> None:
    """Draw one model and batch; `shift` sets lines apart by a few epochs, so that bars do not hide each other."""
    printed = [(one.thesis_epochs, one.thesis.dice) for one in own if one.thesis]
    axes.plot(*zip(*printed, strict=True), "s", color=colour, label=f"thesis, batch {batch}", **_HOLLOW)
    scored = [(one.thesis_epochs + shift, one.scores["dice"]) for one in own if one.scores]
    ours = [(at, dice.value, dice.low, dice.high) for at, dice in scored if dice.value is not None]
    if ours:
        axes.plot([one[0] for one in ours], [one[1] for one in ours], "o-", color=colour,
                  label=f"ours, batch {batch}", markersize=3.2)  # fmt: skip
    for at, _, low, high in ours:
        if low is not None and high is not None:
            axes.plot((at, at), (low, high), color=colour, linewidth=0.8, alpha=0.7)
