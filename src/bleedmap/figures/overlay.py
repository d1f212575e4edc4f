"""Probability over the grey slice, on the thesis' scale: nothing below 0.5, white at 0.5, pure red at 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bleedmap.arrays import AnyArray, ByteArray, FloatArray

SCALE_START = 0.5  # of the thesis' colour scale; nothing is coloured below
_OPACITY = 0.62  # of the colour: tissue stays visible beneath
_CONTOUR_WIDTH = 1.6  # pixels of the finished picture
_CONTOUR = np.array([255, 38, 38], np.float32)
_PAPER, _INK, _FAINT = (14, 15, 18), (236, 237, 240), (150, 153, 160)


@dataclass(frozen=True, eq=False)
class SliceView:
    """One slice of a sheet.

    Attributes:
        grey: (row, column) uint8, as displayed.
        probability: (row, column) float32 in 0 to 1.
        caption: one line beneath.
        row_over_column: height of a pixel over its width.
        sides: letters at the left and right edge, for the patient's right and left; empty where unknown.
    """

    grey: ByteArray
    probability: FloatArray
    caption: str
    row_over_column: float = 1.0
    sides: tuple[str, str] = ("", "")


def colours(probability: AnyArray) -> FloatArray:
    """Probability of any shape -> RGB (…, 3) in 0 to 255: white up to 0.5, then redder, pure red at 1."""
    redness = np.clip((np.asarray(probability, np.float32) - SCALE_START) / (1 - SCALE_START), 0, 1)
    rest = 255 * (1 - redness)
    return np.stack([np.full_like(rest, 255), rest, rest], axis=-1)


def blend(grey: AnyArray, probability: FloatArray, threshold: float) -> ByteArray:
    """(row, column) grey 0 to 255 and probability -> RGB (row, column, 3) uint8, with the mask's thin contour."""
    base = np.repeat(np.asarray(grey, np.float32)[..., None], 3, axis=-1)
    opacity = np.where(probability >= SCALE_START, np.float32(_OPACITY), np.float32(0))[..., None]
    mixed = base + opacity * (colours(probability) - base)
    line = _contour(probability, threshold)[..., None]
    return np.asarray(np.rint(mixed + line * (_CONTOUR - mixed)), np.uint8)


def _contour(probability: FloatArray, threshold: float) -> FloatArray:
    """Opacity (row, column) of the line where probability crosses the threshold, antialiased.

    A pixel's distance to the line is its distance in probability over the gradient there.
    """
    if min(probability.shape) < 2:
        return np.zeros_like(probability)
    slope = np.hypot(*np.gradient(probability))
    distance = np.abs(probability - threshold) / np.maximum(slope, 1e-6)
    return np.clip(_CONTOUR_WIDTH / 2 + 0.5 - distance, 0, 1)


def draw_sheet(
    views: Sequence[SliceView], *, title: str, footer: str, threshold: float, longest_side: int = 0
) -> ByteArray:
    """One slice, or a contact sheet of many, with colour bar and captions.

    Args:
        views: one or more slices.
        title: first line, above.
        footer: last line, below.
        threshold: where the contour runs.
        longest_side: of one slice on the sheet, in pixels; 0 chooses 960 for one slice, 360 for many.

    Returns:
        RGB (row, column, 3) uint8.
    """
    side = longest_side or (960 if len(views) == 1 else 360)
    panels = [_panel(view, threshold, side) for view in views]
    cell_width = max(panel.width for panel in panels)
    cell_height = max(panel.height for panel in panels)
    gap, text = max(12, side // 40), max(15, side // 40)
    caption_height = 2 * text
    columns = min(len(views), ceil(sqrt(len(views) * 1.5)))
    rows = ceil(len(views) / columns)
    top, bar_width = 2 * gap + 2 * text, 6 * text
    width = 2 * gap + columns * (cell_width + gap) + bar_width
    height = top + rows * (cell_height + caption_height + gap) + 2 * text + gap
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    _line(pen, (2 * gap, gap + text), title, round(1.3 * text), _INK, width - 4 * gap)
    for index, (view, panel) in enumerate(zip(views, panels, strict=True)):
        left = 2 * gap + index % columns * (cell_width + gap)
        upper = top + index // columns * (cell_height + caption_height + gap)
        sheet.paste(panel, (left + (cell_width - panel.width) // 2, upper + (cell_height - panel.height) // 2))
        middle = upper + cell_height // 2
        for letter, x, anchor in ((view.sides[0], left + gap, "lm"), (view.sides[1], left + cell_width - gap, "rm")):
            pen.text((x, middle), letter, _FAINT, _font(text), anchor=anchor)
        _line(pen, (left, upper + cell_height + text), view.caption, text, _INK, cell_width)
    _colour_bar(sheet, (width - bar_width, top), min(cell_height, 480), text)
    _line(pen, (2 * gap, height - gap - text), footer, round(0.9 * text), _FAINT, width - 4 * gap)
    return np.asarray(sheet)


def _panel(view: SliceView, threshold: float, side: int) -> Image.Image:
    rows, columns = view.grey.shape
    height, width = rows * view.row_over_column, float(columns)
    zoom = side / max(height, width)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    grey = np.asarray(Image.fromarray(view.grey).resize(size, Image.Resampling.LANCZOS))
    probability = np.asarray(Image.fromarray(view.probability).resize(size, Image.Resampling.BILINEAR))
    return Image.fromarray(blend(grey, probability, threshold))


def _colour_bar(sheet: Image.Image, corner: tuple[int, int], height: int, text: int) -> None:
    """1 at the top to 0.5 at the bottom, in the very colours of the overlay on mid-grey tissue."""
    left, upper = corner
    scale = np.linspace(1, SCALE_START, height, dtype=np.float32)
    bar = np.repeat(np.asarray(np.rint(colours(scale)), np.uint8)[:, None], text, axis=1)
    sheet.paste(Image.fromarray(bar), (left, upper))
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((left - 1, upper - 1, left + text, upper + height), outline=_FAINT)
    for value in (1.0, 0.75, 0.5):
        y = upper + round((1 - value) / (1 - SCALE_START) * (height - 1))
        pen.line((left + text, y, left + text + text // 3, y), fill=_FAINT)
        pen.text((left + text + text // 2, y), f"{value:g}", _INK, _font(text), anchor="lm")
    pen.text((left, upper + height + round(1.2 * text)), "probability", _FAINT, _font(round(0.9 * text)), anchor="lm")


def _line(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], words: str, size: int, ink: tuple[int, int, int], width: int
) -> None:
    """One line of text, shortened with an ellipsis to `width` pixels; `place` is its left middle."""
    font, shown = _font(size), words
    while shown and pen.textlength(shown if shown == words else f"{shown}…", font) > width:
        shown = shown[:-1]
    pen.text(place, shown if shown == words else f"{shown}…", ink, font, anchor="lm")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
