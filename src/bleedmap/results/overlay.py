"""Probability over the grey slice, on the thesis' scale: nothing below 0.5, white at 0.5, pure red at 1."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, sqrt

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bleedmap.arrays import AnyArray, ByteArray, FloatArray

SCALE_START = 0.5  # of the thesis' colour scale; nothing is coloured below
_OPACITY = 0.35  # of the colour: the density beneath must still be seen; the line says where
_CONTOUR_WIDTH = 1.6  # pixels of the finished picture
_FAINT_PART = 0.25  # of the threshold: a line needs more than that, in the pixel or beside it, to come as near
_MARGIN = 3  # pixels around what is drawn, for gradients as in the whole picture
_CONTOUR = np.array([255, 38, 38], np.float32)
_PAPER, _INK, _FAINT = (14, 15, 18), (236, 237, 240), (150, 153, 160)


@dataclass(frozen=True, eq=False)
class SliceView:
    """One slice of a sheet.

    `sides`: letters at the left and right edge, for the patient's right and left; empty where unknown.
    """

    grey: ByteArray  # (row, column) uint8, as displayed
    probability: FloatArray  # (row, column) float32 in 0 to 1
    caption: str  # one line beneath
    row_over_column: float = 1.0  # height of a pixel over its width
    sides: tuple[str, str] = ("", "")


def colours(probability: AnyArray) -> FloatArray:
    """Probability of any shape -> RGB (…, 3) in 0 to 255: white up to 0.5, then redder, pure red at 1."""
    redness = np.clip((np.asarray(probability, np.float32) - SCALE_START) / (1 - SCALE_START), 0, 1)
    rest = 255 * (1 - redness)
    return np.stack([np.full_like(rest, 255), rest, rest], axis=-1)


def blend(grey: AnyArray, probability: FloatArray, threshold: float) -> ByteArray:
    """(row, column) grey 0 to 255 and probability -> RGB (row, column, 3) uint8, with the mask's thin contour."""
    picture = np.repeat(np.rint(np.asarray(grey, np.float32)).astype(np.uint8)[..., None], 3, axis=-1)
    part = _drawn_part(probability, threshold)
    if part is not None:
        _draw(picture[part], grey[part], probability[part], threshold)
    return picture


def lowest_drawn(threshold: float) -> float:
    """The probability from which on a pixel may be part of the line, or beside it."""
    return _FAINT_PART * min(threshold, SCALE_START)


def _drawn_part(probability: AnyArray, threshold: float) -> tuple[slice, slice] | None:
    """The box around what is drawn, two pixels wider: gradients and linear enlarging within are those of the whole."""
    marked = probability >= lowest_drawn(threshold)
    rows, columns = (np.flatnonzero(marked.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return None
    return slice(max(0, rows[0] - 2), rows[-1] + 3), slice(max(0, columns[0] - 2), columns[-1] + 3)


def _draw(picture: ByteArray, grey: AnyArray, probability: FloatArray, threshold: float) -> None:
    """Colour and contour onto the grey `picture`."""
    line = _contour(probability, threshold)
    drawn = (probability >= SCALE_START) | (line > 0)  # a small part: the rest stays grey
    base, chosen = np.asarray(grey, np.float32)[drawn, None], probability[drawn]
    opacity = np.where(chosen >= SCALE_START, np.float32(_OPACITY), np.float32(0))[:, None]
    mixed = base + opacity * (colours(chosen) - base)
    picture[drawn] = np.rint(mixed + line[drawn, None] * (_CONTOUR - mixed))


def _contour(probability: FloatArray, threshold: float) -> FloatArray:
    """Opacity (row, column) of the line where probability crosses the threshold, antialiased.

    A pixel's distance to the line is its distance in probability over the gradient there.
    """
    if min(probability.shape) < 2:
        return np.zeros_like(probability)
    slope = np.hypot(*np.gradient(probability))
    distance = np.abs(probability - threshold) / np.maximum(slope, 1e-6)
    return np.asarray(np.clip(_CONTOUR_WIDTH / 2 + 0.5 - distance, 0, 1), np.float32)


def draw_sheet(views: Sequence[SliceView], *, title: str, footer: str, threshold: float) -> ByteArray:
    """One slice, or a contact sheet of many, with colour bar and captions: RGB (row, column, 3) uint8.

    Args:
        views: one or more slices; one alone is drawn large.
        threshold: where the contour runs.
    """
    side = 960 if len(views) == 1 else 360
    panels = [draw_slice(view, side=side, threshold=threshold) for view in views]
    cell_width = max(side // 2, *(panel.width for panel in panels))
    cell_height = max(side // 2, *(panel.height for panel in panels))
    gap, text = max(12, side // 40), max(15, side // 40)
    rows = ceil(len(views) / ceil(sqrt(len(views) * 1.5)))
    columns = ceil(len(views) / rows)  # the rows evenly filled
    across, down, top = cell_width + gap, cell_height + 2 * text + gap, 2 * gap + 2 * text
    width, height = 2 * gap + columns * across + 6 * text, top + rows * down + 2 * text + gap
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    _line(pen, (2 * gap, gap + text), title, round(1.3 * text), _INK, width - 4 * gap)
    for index, (view, panel) in enumerate(zip(views, panels, strict=True)):
        left, upper = 2 * gap + index % columns * across, top + index // columns * down
        sheet.paste(panel, (left + (cell_width - panel.width) // 2, upper + (cell_height - panel.height) // 2))
        ends = (left + gap, "lm"), (left + cell_width - gap, "rm")
        for letter, (x, anchor) in zip(view.sides, ends, strict=True):
            pen.text((x, upper + cell_height // 2), letter, _FAINT, font(text), anchor=anchor)
        _line(pen, (left, upper + cell_height + text), view.caption, text, _INK, cell_width)
    _colour_bar(sheet, (2 * gap + columns * across, top), min(cell_height, 480), text)
    _line(pen, (2 * gap, height - gap - text), footer, round(0.9 * text), _FAINT, width - 4 * gap)
    return np.asarray(sheet)


def draw_slice(view: SliceView, *, side: int, threshold: float) -> Image.Image:
    """One slice with its overlay, in its true proportion, `side` pixels along its longer side; without any words."""
    rows, columns = view.grey.shape
    height, width = rows * view.row_over_column, float(columns)
    zoom = side / max(height, width)
    size = max(1, round(width * zoom)), max(1, round(height * zoom))
    grey = Image.fromarray(view.grey).resize(size, Image.Resampling.BICUBIC)
    picture = grey.convert("RGB")
    box = _coloured_box(view.probability, size, threshold)
    if box is not None:
        drawn = blend(np.asarray(grey.crop(box)), _enlarged(view.probability, size, box), threshold)
        picture.paste(Image.fromarray(drawn), box)
    return picture


def _coloured_box(probability: FloatArray, size: tuple[int, int], threshold: float) -> tuple[int, int, int, int] | None:
    """(left, upper, right, lower) in a picture of `size` (width, height) that holds all that `blend` would colour."""
    part = _drawn_part(probability, threshold)
    if part is None:
        return None
    spans = []
    for one, count, length in zip(part, probability.shape, size[::-1], strict=True):
        first, last = (end * length / count for end in (one.start, min(one.stop, count)))
        spans.append((max(0, int(first) - _MARGIN), min(length, ceil(last) + _MARGIN)))
    (upper, lower), (left, right) = spans
    return left, upper, right, lower


def _enlarged(probability: FloatArray, size: tuple[int, int], box: tuple[int, int, int, int]) -> FloatArray:
    """What `box` holds of the probability that is enlarged to `size`."""
    rows, columns = probability.shape
    across, down = columns / size[0], rows / size[1]
    left, upper, right, lower = box
    source = (left * across, upper * down, right * across, lower * down)
    whole = Image.fromarray(probability)
    return np.asarray(whole.resize((right - left, lower - upper), Image.Resampling.BILINEAR, box=source))


def _colour_bar(sheet: Image.Image, corner: tuple[int, int], height: int, text: int) -> None:
    """The scale, 1 at the top to 0.5 at the bottom, as `colours` gives it."""
    left, upper = corner
    scale = np.linspace(1, SCALE_START, height, dtype=np.float32)
    bar = np.repeat(np.asarray(np.rint(colours(scale)), np.uint8)[:, None], text, axis=1)
    sheet.paste(Image.fromarray(bar), (left, upper))
    pen = ImageDraw.Draw(sheet)
    pen.rectangle((left - 1, upper - 1, left + text, upper + height), outline=_FAINT)
    for value in (1.0, 0.75, 0.5):
        y = upper + round((1 - value) / (1 - SCALE_START) * (height - 1))
        pen.line((left + text, y, left + text + text // 3, y), fill=_FAINT)
        pen.text((left + text + text // 2, y), f"{value:g}", _INK, font(text), anchor="lm")
    pen.text((left, upper + height + round(1.2 * text)), "probability", _FAINT, font(round(0.9 * text)), anchor="lm")


def _line(
    pen: ImageDraw.ImageDraw, place: tuple[int, int], words: str, size: int, ink: tuple[int, int, int], width: int
) -> None:
    """One line of text, made smaller, then shortened, to fit `width` pixels; `place` is its left middle."""
    size = fitting_size(pen, words, size, width)
    shown, kept = words, len(words)
    while kept and pen.textlength(shown, font(size)) > width:
        kept -= 1
        shown = f"{words[:kept]}…"
    pen.text(place, shown, ink, font(size), anchor="lm")


def fitting_size(pen: ImageDraw.ImageDraw, words: str, size: int, width: int) -> int:
    """The largest font up to `size` pixels in which the words fit into `width`; at least half of it."""
    return next((one for one in range(size, size // 2, -1) if pen.textlength(words, font(one)) <= width), size // 2)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, of `size` pixels; unpacked once for each size."""
    return ImageFont.load_default(size)
