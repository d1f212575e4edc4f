"""A method's scores as figures: ROC curves, reliability diagrams, Dice by patient, sensitivity by size and type."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.figures import style
from bleedmap.metrics.calibration import Bin

_ABOVE_MM, _BELOW_MM, _LABELS_MM, _PITCH_MM = 6.0, 11.0, 13.0, 90.0
_SIDE_MM, _HIGH_MM, _COUNTS_MM, _GAP_MM, _KEY_MM = 70.0, 58.0, 14.0, 3.0, 5.0
_MARKS = "osD^v"
_DOT: dict[str, Any] = {"markersize": 3.4, "clip_on": False}
_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": style.SMALL_PT, "borderaxespad": 0.2}
_DIAGONAL: dict[str, Any] = {"color": style.RULE, "linewidth": 0.6, "linestyle": (0, (3, 2))}


@dataclass(frozen=True, eq=False)
class RocCurve:
    """The ROC curve of one method."""

    name: str  # for the legend
    false_positive_rate: DoubleArray  # (n,) from 0 to 1
    sensitivity: DoubleArray  # (n,) at each
    point: tuple[float, float] | None  # (false-positive rate, sensitivity) at the fixed specificity, or None


@dataclass(frozen=True)
class Reliability:
    """The calibration bins of one method; `name` for the legend."""

    name: str
    bins: tuple[Bin, ...]


@dataclass(frozen=True, eq=False)
class PatientDice:
    """Dice of each bleeding patient's volume by one method, and the lesion's voxels, both (n,) in one order."""

    name: str
    dice: DoubleArray
    voxels: AnyArray


@dataclass(frozen=True)
class Sensitivity:
    """A sensitivity: value and interval, None where it cannot be had, and how many cases it rests on."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    cases: int


def roc(panels: Sequence[tuple[str, Sequence[RocCurve]]], words: str) -> Figure:
    """ROC curves, a panel for slices and one for studies, as (title, curves); `words` is the caption."""
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _SIDE_MM + _BELOW_MM, words)
        for place, (title, curves) in enumerate(panels):
            axes = _square(figure, place, title)
            for curve, colour in zip(curves, style.PALETTE, strict=False):
                axes.plot(curve.false_positive_rate, curve.sensitivity, color=colour, label=curve.name, clip_on=False)
                if curve.point is not None:
                    axes.plot(*curve.point, "o", color=colour, markersize=5, markerfacecolor="white", clip_on=False)
            axes.set(xlabel="1 − specificity", ylabel="sensitivity")
            axes.legend(loc="lower right", **_LEGEND)
    return figure


def reliability_diagram(panels: Sequence[tuple[str, Sequence[Reliability]]], words: str) -> Figure:
    """Reliability diagrams, a panel for slices and one for studies: (title, methods); beneath each the bins' cases."""
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _SIDE_MM + _GAP_MM + _COUNTS_MM + _BELOW_MM, words)
        for place, (title, methods) in enumerate(panels):
            axes = _square(figure, place, title)
            axes.set(ylabel="share that bleeds")
            axes.set_xticklabels([])
            beneath = style.panel(
                figure, _LABELS_MM + place * _PITCH_MM, _ABOVE_MM + _SIDE_MM + _GAP_MM, _SIDE_MM, _COUNTS_MM
            )
            for method, colour in zip(methods, style.PALETTE, strict=False):
                _bins(axes, beneath, method, colour)
            beneath.set(xlim=(0, 1), yscale="log", ylim=(0.7, None), xlabel="mean probability", ylabel="cases")
            style.plain_logarithms(beneath.yaxis)
            axes.legend(loc="upper left", **_LEGEND)
    return figure


def _bins(axes: Axes, beneath: Axes, method: Reliability, colour: str) -> None:
    known = [(one.mean_probability, one.share) for one in method.bins if one.cases]
    mean, share = zip(*known, strict=True)
    axes.plot(mean, share, "o-", color=colour, label=method.name, markersize=3.2, clip_on=False)
    edges = [one.low for one in method.bins] + [method.bins[-1].high]
    beneath.stairs([one.cases for one in method.bins], edges, color=colour, linewidth=1.0)


def dice_by_patient(methods: Sequence[PatientDice], words: str) -> Figure:
    """Panel a: patients from lowest to highest Dice, ranked by the first method; panel b: Dice against voxels.

    All methods are on the same patients in the same order.
    """
    order = methods[0].dice.argsort(kind="stable")
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _HIGH_MM + _BELOW_MM, words)
        ranked, sized = (_panel(figure, place, place * _PITCH_MM, _LABELS_MM, 72, _HIGH_MM) for place in range(2))
        for place, (method, colour) in enumerate(zip(methods, style.PALETTE, strict=False)):
            mark = _MARKS[place % len(_MARKS)]
            ranked.plot(range(1, len(order) + 1), method.dice[order], mark, color=colour, label=method.name, **_DOT)
            sized.plot(method.voxels, method.dice, mark, color=colour, **_DOT)
        ranked.set(xlabel="patients, lowest Dice first", ylabel="Dice of the volume", ylim=(0, 1))
        sized.set(xlabel="lesion voxels of the reference", ylabel="Dice of the volume", ylim=(0, 1), xscale="log")
        style.plain_logarithms(sized.xaxis)
        ranked.legend(loc="upper left", **_LEGEND)
    return figure


def sensitivity_panels(
    panels: Sequence[tuple[str, Sequence[tuple[str, Sequence[Sensitivity]]]]], words: str
) -> Figure:  # fmt: skip
    """A panel for each kind of case, at most three; a row for each size or type, methods beneath each other within it.

    The panels are (title, methods as (name, rows)), every method with the same rows.
    """
    pitch_mm = style.WIDTH_MM / 3
    with mpl.rc_context(style.SETTINGS):
        several = len(panels[0][1]) > 1
        figure = style.page(_ABOVE_MM + _HIGH_MM + _BELOW_MM + _KEY_MM * several, words)
        for place, (title, methods) in enumerate(panels):
            axes = _panel(figure, place, place * pitch_mm, 21, pitch_mm - 25, _HIGH_MM)
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


def _rows(axes: Axes, name: str, rows: Sequence[Sensitivity], shift: float, number: int) -> None:
    colour = style.PALETTE[number % len(style.PALETTE)]
    for at, one in enumerate(rows):
        if one.low is not None and one.high is not None:
            axes.plot((one.low, one.high), (at + shift, at + shift), color=colour, linewidth=0.9, clip_on=False)
    known = [(one.value, at + shift) for at, one in enumerate(rows) if one.value is not None]
    values, places = [value for value, _ in known], [at for _, at in known]
    axes.plot(values, places, _MARKS[number % len(_MARKS)], color=colour, label=name, **_DOT)


def _square(figure: Figure, place: int, title: str) -> Axes:
    """A panel from 0 to 1 both ways, with its diagonal."""
    axes = _panel(figure, place, place * _PITCH_MM, _LABELS_MM, _SIDE_MM, _SIDE_MM)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.plot((0, 1), (0, 1), **_DIAGONAL)
    style.write(figure, place * _PITCH_MM + _LABELS_MM, 2.6, title, weight="bold")
    return axes


def _panel(figure: Figure, place: int, left_mm: float, labels_mm: float, wide_mm: float, high_mm: float) -> Axes:
    """Axes beside `labels_mm` of room for their labels, under the panel's letter."""
    axes = style.panel(figure, left_mm + labels_mm, _ABOVE_MM, wide_mm, high_mm)
    axes.grid(color=style.RULE, linewidth=0.3)
    axes.set_axisbelow(True)
    style.letter(figure, place, left_mm + 0.5, 2.6)
    return axes
