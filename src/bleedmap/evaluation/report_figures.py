"""A report's figures: ROC curves, reliability diagrams, Dice by patient, sensitivity by size and type."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bleedmap.datasets.folds import LOADS
from bleedmap.evaluation import protocol
from bleedmap.evaluation.records import TYPE_NAMES
from bleedmap.evaluation.report_sections import Method
from bleedmap.figures import style
from bleedmap.metrics.calibration import Bin
from bleedmap.metrics.roc import at_specificity, roc_curve
from bleedmap.page.section import Picture

_ABOVE_MM, _BELOW_MM, _LABELS_MM, _PITCH_MM = 6.0, 11.0, 13.0, 90.0
_SIDE_MM, _HIGH_MM, _COUNTS_MM, _GAP_MM, _KEY_MM = 70.0, 58.0, 14.0, 3.0, 5.0
_MARKS = "osD^v"
_DOT: dict[str, Any] = {"markersize": 3.4, "clip_on": False}
_LEGEND: dict[str, Any] = {"frameon": False, "fontsize": style.SMALL_PT, "borderaxespad": 0.2}
_DIAGONAL: dict[str, Any] = {"color": style.RULE, "linewidth": 0.6, "linestyle": (0, (3, 2))}


def pictures(methods: Sequence[Method]) -> tuple[Picture, ...]:
    """All figures, drawn when the report is written; of more methods than there are colours, the first."""
    shown = methods[: len(style.PALETTE)]

    def make(key: str, alt: str, draw: Callable[[Sequence[Method]], Figure]) -> Picture:
        return Picture(key, alt, lambda: draw(shown))

    found = (
        make("dice", "Dice of each bleeding patient's volume, ranked, and against the lesion's voxels.", _draw_dice),
        make("roc", "ROC curves of slices and of studies, with the fixed operating point.", _draw_roc),
        make("reliability", "Share of bleeding cases against the probability given, for slices and studies.",
             _draw_reliability),
        make("sensitivity", "Sensitivity for lesions, slices and studies, by size and by type.", _draw_sensitivity),
    )  # fmt: skip
    bleeds = any(one.counts.reference.any() for one in methods[0].records.studies)
    return found if bleeds else found[2:3]


def _draw_roc(methods: Sequence[Method]) -> Figure:
    words = (
        "ROC curves out of fold, all folds' probabilities in one ranking. Circles: specificity "
        f"{protocol.SLICE_SPECIFICITY} for slices, {protocol.STUDY_SPECIFICITY} for studies, at the lowest threshold "
        "that reaches it, read off these same cases: points of the curve, not promises."
    )
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _SIDE_MM + _BELOW_MM, words)
        panels = _square(figure, 0, "Slices"), _square(figure, 1, "Studies")
        for method, colour in zip(methods, style.PALETTE, strict=False):
            slices, studies = method.tables.slices, method.tables.studies
            cases = (
                ("slice_auc", slices.has_lesion, slices.presence, protocol.SLICE_SPECIFICITY),
                ("study_auc", studies.bleeds, studies.probability, protocol.STUDY_SPECIFICITY),
            )
            for axes, (key, truth, score, specificity) in zip(panels, cases, strict=True):
                area, point = method.scores.score(key).value, at_specificity(truth, score, specificity)
                label = f"{method.name}, area {'–' if area is None else f'{area:.3f}'}"
                axes.plot(*roc_curve(truth, score), color=colour, label=label, clip_on=False)
                if point is not None:
                    axes.plot(1 - point.specificity, point.sensitivity, "o", color=colour, markersize=5,
                              markerfacecolor="white", clip_on=False)  # fmt: skip
        for axes in panels:
            axes.set(xlabel="1 − specificity", ylabel="sensitivity")
            axes.legend(loc="lower right", **_LEGEND)
    return figure


def _draw_reliability(methods: Sequence[Method]) -> Figure:
    words = (
        "Of the cases given a probability, the share that bleeds; a calibrated probability lies on the diagonal. Ten "
        "bins of equal width; beneath, the cases of each on a logarithmic scale. Bins of few cases scatter by chance."
    )
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _SIDE_MM + _GAP_MM + _COUNTS_MM + _BELOW_MM, words)
        for place, (title, name) in enumerate((("Slices", "slice_reliability"), ("Studies", "study_reliability"))):
            axes = _square(figure, place, title)
            axes.set(ylabel="share that bleeds")
            axes.set_xticklabels([])
            below_mm = _ABOVE_MM + _SIDE_MM + _GAP_MM
            beneath = style.panel(figure, _LABELS_MM + place * _PITCH_MM, below_mm, _SIDE_MM, _COUNTS_MM)
            for method, colour in zip(methods, style.PALETTE, strict=False):
                bins: Sequence[Bin] = getattr(method.scores, name)
                mean, share = zip(*[(one.mean_probability, one.share) for one in bins if one.cases], strict=True)
                axes.plot(mean, share, "o-", color=colour, label=method.name, markersize=3.2, clip_on=False)
                edges = [one.low for one in bins] + [bins[-1].high]
                beneath.stairs([one.cases for one in bins], edges, color=colour, linewidth=1.0)
            beneath.set(xlim=(0, 1), yscale="log", ylim=(0.7, None), xlabel="mean probability", ylabel="cases")
            style.plain_logarithms(beneath.yaxis)
            axes.legend(loc="upper left", **_LEGEND)
    return figure


def _draw_dice(methods: Sequence[Method]) -> Figure:
    """Draw a: patients from lowest to highest Dice, ranked by the first method; b: Dice against voxels."""
    words = (
        "Dice of each bleeding patient's whole volume, false alarms on lesion-free slices counted. "
        f"a: ranked by {methods[0].name}. b: against the size of the lesions, on a logarithmic scale."
    )
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _HIGH_MM + _BELOW_MM, words)
        ranked, sized = (_panel(figure, place, place * _PITCH_MM, _LABELS_MM, 72, _HIGH_MM) for place in range(2))
        rank = None
        for place, (method, colour) in enumerate(zip(methods, style.PALETTE, strict=False)):
            studies, mark = method.tables.studies, _MARKS[place % len(_MARKS)]
            order = np.argsort(studies.patient, kind="stable")
            order = order[studies.bleeds[order]]  # of the bleeding patients, the same for all methods
            rank = studies.dice[order].argsort(kind="stable") if rank is None else rank
            ranked.plot(
                range(1, len(rank) + 1), studies.dice[order][rank], mark, color=colour, label=method.name, **_DOT
            )
            sized.plot(studies.voxels[order], studies.dice[order], mark, color=colour, **_DOT)
        ranked.set(xlabel="patients, lowest Dice first", ylabel="Dice of the volume", ylim=(0, 1))
        sized.set(xlabel="lesion voxels of the reference", ylabel="Dice of the volume", ylim=(0, 1), xscale="log")
        style.plain_logarithms(sized.xaxis)
        ranked.legend(loc="upper left", **_LEGEND)
    return figure


def _draw_sensitivity(methods: Sequence[Method]) -> Figure:
    """Draw a panel for each kind of case; a row for each size or type, methods beneath each other within it."""
    kinds = (
        ("Lesions touched", "lesion_sensitivity_touched", protocol.LESION_VOXELS),
        (f"Slices, specificity {protocol.SLICE_SPECIFICITY}", "slice_sensitivity_fixed", protocol.SLICE_PIXELS),
        (f"Studies, specificity {protocol.STUDY_SPECIFICITY}", "study_sensitivity_fixed", LOADS),
    )
    words = (
        "Sensitivity with 95 % intervals, in brackets the cases. Sizes in voxels of the lesion, pixels of the slice "
        "and voxels of the patient, as the tables say; types are labels of slices, and a case of several types counts "
        "under each."
    )
    pitch_mm, several = style.WIDTH_MM / 3, len(methods) > 1
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_ABOVE_MM + _HIGH_MM + _BELOW_MM + _KEY_MM * several, words)
        for place, (title, key, sizes) in enumerate(kinds):
            axes = _panel(figure, place, place * pitch_mm, 21, pitch_mm - 25, _HIGH_MM)
            style.write(figure, 4 + place * pitch_mm, 2.6, title, weight="bold")
            names = (*sizes, *TYPE_NAMES)
            for number, method in enumerate(methods):
                shift = 0.5 * (number - (len(methods) - 1) / 2) / len(methods)
                _draw_rows(axes, method, [f"{key}_{name}" for name in names], shift, number)
            cases = [methods[0].scores.score(f"{key}_{name}").cases for name in names]
            labels = [f"{name} ({count})" for name, count in zip(names, cases, strict=True)]
            axes.set(xlim=(0, 1), ylim=(len(labels) - 0.5, -0.5), xlabel="sensitivity")
            axes.set_yticks(range(len(labels)), labels)
        if several:  # below the panels: within them is no room
            marks, found = figure.axes[0].get_legend_handles_labels()
            legend = style.panel(figure, 0, _ABOVE_MM + _HIGH_MM + _BELOW_MM - 1, style.WIDTH_MM, _KEY_MM)
            legend.axis("off")
            legend.legend(marks, found, ncols=len(found), frameon=False, fontsize=style.SMALL_PT, loc="center left")
    return figure


def _draw_rows(axes: Axes, method: Method, keys: Sequence[str], shift: float, number: int) -> None:
    colour, rows = style.PALETTE[number % len(style.PALETTE)], [method.scores.score(key) for key in keys]
    for at, one in enumerate(rows):
        if one.low is not None and one.high is not None:
            axes.plot((one.low, one.high), (at + shift, at + shift), color=colour, linewidth=0.9, clip_on=False)
    known = [(one.value, at + shift) for at, one in enumerate(rows) if one.value is not None]
    values, places = [value for value, _ in known], [at for _, at in known]
    axes.plot(values, places, _MARKS[number % len(_MARKS)], color=colour, label=method.name, **_DOT)


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
