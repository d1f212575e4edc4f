"""How well bleeds are told apart, and whether a probability keeps its word: ROC curves and reliability diagrams."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bleedmap.arrays import DoubleArray
from bleedmap.figures import style
from bleedmap.metrics.calibration import Bin

_SIDE_MM, _LEFT_MM, _ABOVE_MM, _BELOW_MM, _PITCH_MM = 70.0, 13.0, 6.0, 11.0, 90.0
_COUNTS_MM, _GAP_MM = 14.0, 3.0


@dataclass(frozen=True, eq=False)
class RocCurve:
    """One method's curve.

    Attributes:
        name: for the legend.
        false_positive_rate: (n,) from 0 to 1.
        sensitivity: (n,) at each.
        point: (false-positive rate, sensitivity) at the fixed specificity; None where there is none.
    """

    name: str
    false_positive_rate: DoubleArray
    sensitivity: DoubleArray
    point: tuple[float, float] | None


@dataclass(frozen=True)
class Reliability:
    """One method's bins; `name` for the legend."""

    name: str
    bins: tuple[Bin, ...]


def roc(panels: Sequence[tuple[str, Sequence[RocCurve]]], words: str) -> Figure:
    """A panel for slices, one for studies.

    Args:
        panels: (title, curves); at most two.
        words: the caption.
    """
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _SIDE_MM + _BELOW_MM, words)
        for place, (title, curves) in enumerate(panels):
            axes = _panel(figure, place, title, _SIDE_MM)
            axes.plot((0, 1), (0, 1), color=style.RULE, linewidth=0.6, linestyle=(0, (3, 2)))
            for curve, colour in zip(curves, style.PALETTE, strict=False):
                axes.plot(curve.false_positive_rate, curve.sensitivity, color=colour, label=curve.name, clip_on=False)
                if curve.point is not None:
                    axes.plot(*curve.point, "o", color=colour, markersize=5, markerfacecolor="white", clip_on=False)
            axes.set(xlabel="1 − specificity", ylabel="sensitivity")
            axes.legend(frameon=False, fontsize=style.SMALL_PT, loc="lower right", borderaxespad=0.2)
    return figure


def reliability_diagram(panels: Sequence[tuple[str, Sequence[Reliability]]], words: str) -> Figure:
    """A panel for slices, one for studies; beneath each the cases of each bin.

    Args:
        panels: (title, methods); at most two.
        words: the caption.
    """
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _SIDE_MM + _GAP_MM + _COUNTS_MM + _BELOW_MM, words)
        for place, (title, methods) in enumerate(panels):
            axes = _panel(figure, place, title, _SIDE_MM)
            axes.plot((0, 1), (0, 1), color=style.RULE, linewidth=0.6, linestyle=(0, (3, 2)))
            axes.set(ylabel="share that bleeds")
            axes.set_xticklabels([])
            beneath = style.panel(
                figure, _LEFT_MM + place * _PITCH_MM, _ABOVE_MM + _SIDE_MM + _GAP_MM, _SIDE_MM, _COUNTS_MM
            )
            for method, colour in zip(methods, style.PALETTE, strict=False):
                _bins(axes, beneath, method, colour)
            beneath.set(xlim=(0, 1), yscale="log", ylim=(0.7, None), xlabel="mean probability", ylabel="cases")
            style.plain_logarithms(beneath.yaxis)
            axes.legend(frameon=False, fontsize=style.SMALL_PT, loc="upper left", borderaxespad=0.2)
    return figure


def _bins(axes: Axes, beneath: Axes, method: Reliability, colour: str) -> None:
    known = [(one.mean_probability, one.share) for one in method.bins if one.cases]
    mean, share = zip(*known, strict=True)
    axes.plot(mean, share, "o-", color=colour, label=method.name, markersize=3.2, clip_on=False)
    edges = [one.low for one in method.bins] + [method.bins[-1].high]
    beneath.stairs([one.cases for one in method.bins], edges, color=colour, linewidth=1.0)


def _panel(figure: Figure, place: int, title: str, high_mm: float) -> Axes:
    left_mm = _LEFT_MM + place * _PITCH_MM
    axes = style.panel(figure, left_mm, _ABOVE_MM, _SIDE_MM, high_mm)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.grid(color=style.RULE, linewidth=0.3)
    axes.set_axisbelow(True)
    style.write(figure, left_mm - _LEFT_MM + 0.5, 2.6, "ab"[place], weight="bold", size=style.TEXT_PT + 1)
    style.write(figure, left_mm, 2.6, title, weight="bold")
    return axes
