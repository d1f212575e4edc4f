"""Patient by patient, and by size and type: where outlines succeed and what is found."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.figures import style

_HIGH_MM, _ABOVE_MM, _BELOW_MM, _KEY_MM = 58.0, 6.0, 11.0, 5.0
_MARKS = "osD^v"
_DOT: dict[str, Any] = {"markersize": 3.4, "clip_on": False}


@dataclass(frozen=True, eq=False)
class PatientDice:
    """One method: Dice of each bleeding patient's volume, and the lesion's voxels, both (n,) in one order."""

    name: str
    dice: DoubleArray
    voxels: AnyArray


@dataclass(frozen=True)
class Found:
    """A sensitivity: value and interval, None where it cannot be had, and how many cases it rests on."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    cases: int


def dice_by_patient(methods: Sequence[PatientDice], words: str) -> Figure:
    """Panel a: patients from lowest to highest Dice, ranked by the first method; panel b: Dice against voxels.

    Args:
        methods: all on the same patients in the same order.
        words: the caption.
    """
    order = methods[0].dice.argsort(kind="stable")
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _HIGH_MM + _BELOW_MM, words)
        ranked, sized = (_panel(figure, "ab"[place], place * 90.0, 13, 72) for place in range(2))
        for place, (method, colour) in enumerate(zip(methods, style.PALETTE, strict=False)):
            mark = _MARKS[place % len(_MARKS)]
            ranked.plot(range(1, len(order) + 1), method.dice[order], mark, color=colour, label=method.name, **_DOT)
            sized.plot(method.voxels, method.dice, mark, color=colour, **_DOT)
        ranked.set(xlabel="patients, lowest Dice first", ylabel="Dice of the volume", ylim=(0, 1))
        sized.set(xlabel="lesion voxels of the reference", ylabel="Dice of the volume", ylim=(0, 1), xscale="log")
        style.plain_logarithms(sized.xaxis)
        ranked.legend(frameon=False, fontsize=style.SMALL_PT, loc="upper left", borderaxespad=0.2)
    return figure


def sensitivity_panels(panels: Sequence[tuple[str, Sequence[tuple[str, Sequence[Found]]]]], words: str) -> Figure:
    """One panel a kind of case; a row a size or type, methods beneath each other within it.

    Args:
        panels: (title, methods as (name, rows)); at most three, every method with the same rows.
        words: the caption.
    """
    pitch_mm = style.WIDTH_MM / 3
    with mpl.rc_context(style.SETTINGS):
        several = len(panels[0][1]) > 1
        figure = style.page(_ABOVE_MM + _HIGH_MM + _BELOW_MM + _KEY_MM * several, words)
        for place, (title, methods) in enumerate(panels):
            axes = _panel(figure, "abc"[place], place * pitch_mm, 21, pitch_mm - 25)
            style.write(figure, 4 + place * pitch_mm, 2.6, title, weight="bold")
            for number, (name, rows) in enumerate(methods):
                shift = 0.5 * (number - (len(methods) - 1) / 2) / len(methods)
                _rows(axes, name, rows, shift, number)
            labels = [f"{one.label} ({one.cases})" for one in methods[0][1]]
            axes.set(xlim=(0, 1), ylim=(len(labels) - 0.5, -0.5), xlabel="sensitivity")
            axes.set_yticks(range(len(labels)), labels)
        if several:  # below the panels: within them is no room
            marks, names = figure.axes[0].get_legend_handles_labels()
            key = style.panel(figure, 0, _ABOVE_MM + _HIGH_MM + _BELOW_MM - 1, style.WIDTH_MM, _KEY_MM)
            key.axis("off")
            key.legend(marks, names, ncols=len(names), frameon=False, fontsize=style.SMALL_PT, loc="center left")
    return figure


def _rows(axes: Axes, name: str, rows: Sequence[Found], shift: float, number: int) -> None:
    colour = style.PALETTE[number % len(style.PALETTE)]
    for at, one in enumerate(rows):
        if one.low is not None and one.high is not None:
            axes.plot((one.low, one.high), (at + shift, at + shift), color=colour, linewidth=0.9, clip_on=False)
    known = [(one.value, at + shift) for at, one in enumerate(rows) if one.value is not None]
    values, places = [value for value, _ in known], [at for _, at in known]
    axes.plot(values, places, _MARKS[number % len(_MARKS)], color=colour, label=name, **_DOT)


def _panel(figure: Figure, letter: str, left_mm: float, labels_mm: float, wide_mm: float) -> Axes:
    """Axes beside `labels_mm` of room for their labels, under the panel's letter."""
    axes = style.panel(figure, left_mm + labels_mm, _ABOVE_MM, wide_mm, _HIGH_MM)
    axes.grid(color=style.RULE, linewidth=0.3)
    axes.set_axisbelow(True)
    style.write(figure, left_mm + 0.5, 2.6, letter, weight="bold", size=style.TEXT_PT + 1)
    return axes
