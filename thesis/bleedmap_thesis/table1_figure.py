"""Dice over trained epochs beside the 2021 thesis' Table 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bleedmap.figures import style

_WIDE_MM, _HIGH_MM, _LEFT_MM, _ABOVE_MM, _BELOW_MM = 74.0, 58.0, 12.0, 6.0, 11.0
_PITCH_MM = 90.0
_HOLLOW: dict[str, Any] = {"markerfacecolor": "white", "markersize": 4.0, "linewidth": 0.8, "linestyle": (0, (3, 1.5))}


@dataclass(frozen=True)
class Series:
    """One line of a panel.

    Attributes:
        panel: which panel, in words: "Model 1".
        name: for the legend.
        points: (thesis' epochs, Dice, low, high); low and high None without an interval.
        thesis: whether these are the thesis' own figures.
        colour: index of the palette.
    """

    panel: str
    name: str
    points: tuple[tuple[int, float, float | None, float | None], ...]
    thesis: bool
    colour: int


def dice_over_epochs(series: Sequence[Series], words: str) -> Figure:
    """A panel for each `panel`, in the order of first appearance.

    Args:
        series: lines; at most two panels.
        words: the caption: n, kind of split, convention, interval, scale.
    """
    panels = list(dict.fromkeys(one.panel for one in series))
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _HIGH_MM + _BELOW_MM, words)
        for index, name in enumerate(panels):
            axes = style.panel(figure, _LEFT_MM + index * _PITCH_MM, _ABOVE_MM, _WIDE_MM, _HIGH_MM)
            for order, one in enumerate([one for one in series if one.panel == name]):
                _line(axes, one, order)
            _finish(axes)
            style.write(figure, index * _PITCH_MM + 0.5, 2.6, "ab"[index], weight="bold", size=style.TEXT_PT + 1)
            style.write(figure, index * _PITCH_MM + 4, 2.6, name, weight="bold")
    return figure


def _line(axes: Axes, one: Series, order: int) -> None:
    """Lines are set apart by a few epochs, so that bars do not hide each other."""
    if not one.points:
        return
    epochs, dice, low, high = zip(*one.points, strict=True)
    at = [epoch + (0 if one.thesis else 8 * (order - 2)) for epoch in epochs]
    colour = style.PALETTE[one.colour]
    if one.thesis:
        axes.plot(at, dice, "s", color=colour, label=one.name, **_HOLLOW)
        return
    axes.plot(at, dice, "o-", color=colour, label=one.name, markersize=3.2)
    for x, bottom, top in zip(at, low, high, strict=True):
        if bottom is not None and top is not None:
            axes.plot((x, x), (bottom, top), color=colour, linewidth=0.8, alpha=0.7)


def _finish(axes: Axes) -> None:
    axes.set(xlabel="epochs of the thesis' schedule", ylabel="Dice", xlim=(120, 1480), ylim=(0, 1))
    axes.set_xticks(range(200, 1401, 200))
    axes.grid(axis="y", color=style.RULE, linewidth=0.4)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, fontsize=style.SMALL_PT, loc="lower right", borderaxespad=0.2)
