"""A figure of one's own study: chosen slices plain and with what is marked, in any window, with a scale bar."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bleedmap.errors import SettingsError
from bleedmap.figures import style
from bleedmap.results.overlay import SCALE_START, blend
from bleedmap.results.pictures import choose_slices_to_show, head_box, patient_sides
from bleedmap.study.result import Result
from bleedmap.study.words import likelihood, marked, verdict
from bleedmap.window import Window

MOST = 12  # slices on a page
_COLUMNS, _GAP_MM, _WORDS_MM, _BAR_MM = 4, 2.0, 7.0, 50


def read_slices(text: str | None, result: Result) -> list[int]:
    """Read slice numbers and ranges, as '8,12-14', from 1; None: those of the overview, as many as fit.

    Returns:
        Indices from 0, in the order given.

    Raises:
        SettingsError: no number, a slice that the study does not have, or more than fit on a page.
    """
    count = len(result.findings.slices)
    if text is None:
        shown = choose_slices_to_show(result)
        return [shown[place] for place in np.linspace(0, len(shown) - 1, min(len(shown), _COLUMNS)).round().astype(int)]
    needed = f"at most {MOST} slices of 1 to {count}, as 8,12-14"
    chosen, remedy = list[int](), "see the numbers under the pictures of the report"
    for part in text.split(","):
        first, dash, last = (one.strip() for one in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise SettingsError("--slices", f"'{part}'", needed, remedy)
        chosen += range(int(first) - 1, int(last or first))
    if not chosen or min(chosen) < 0 or max(chosen) >= count or len(chosen) > MOST:
        raise SettingsError("--slices", f"'{text}'", needed, remedy)
    return chosen


def draw_study(result: Result, chosen: Sequence[int], window: Window) -> Figure:
    """Draw each slice plain above the same with the outline; four slices a row.

    Args:
        chosen: indices from 0, at most `MOST`.
    """
    columns = min(_COLUMNS, len(chosen))
    side_mm = min(60.0, (style.WIDTH_MM - (columns - 1) * _GAP_MM) / columns)
    rows = -(-len(chosen) // columns)
    block_mm = 2 * side_mm + _GAP_MM + _WORDS_MM + _GAP_MM
    box = head_box(result, chosen)
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(rows * block_mm, _caption(result, window))
        for place, index in enumerate(chosen):
            row, column = divmod(place, columns)
            _draw_pair(figure, result, index, window, box, column * (side_mm + _GAP_MM), row * block_mm, side_mm)
    return figure


def _draw_pair(
    figure: Figure, result: Result, index: int, window: Window, box: tuple[slice, slice], left_mm: float,
    top_mm: float, side_mm: float,
) -> None:  # fmt: skip
    unit, probability = window.to_unit(result.volume.hu[index][box]), result.probability.array[index][box]
    _, row_mm, column_mm = result.volume.grid.spacing_mm
    overlaid = blend(unit * 255, probability, result.threshold)
    for place, pixels in enumerate((unit, overlaid)):
        axes = style.picture(figure, left_mm, top_mm + place * (side_mm + _GAP_MM), side_mm, pixels)
        axes.set_aspect(row_mm / column_mm, adjustable="datalim")
        rows, columns = unit.shape
        for letter, x, how in zip(patient_sides(result.volume.grid), (0.03, 0.97), ("left", "right"), strict=True):
            axes.text(x, 0.5, letter, color="white", ha=how, va="center", transform=axes.transAxes)
        if place == 0:
            end = columns * 0.97
            axes.plot([end - _BAR_MM / column_mm, end], [rows * 0.97] * 2, color="white", lw=1.2)
    words = f"{index + 1}: {marked(result.findings, index)}; {likelihood(result.findings, result.certainty, index)}"
    for line, text in enumerate(style.wrapped(words, side_mm)[:2]):
        at_mm = top_mm + 2 * side_mm + _GAP_MM + 2.2 + line * style.CAPTION_LINE_MM
        style.write(figure, left_mm + 0.3, at_mm, text)


def _caption(result: Result, window: Window) -> str:
    said = verdict(result.findings, result.certainty)
    return (
        f"{result.name}: {said}. Slices are counted from the feet. Window: level {window.level_hu:g} HU, width "
        f"{window.width_hu:g} HU. Red line: probability {result.threshold:g}; colour: white at {SCALE_START:g}, redder "
        f"up to 1. White bar: {_BAR_MM / 10:g} cm. Weights {result.weights.name}. Research only, not a medical device."
    )
