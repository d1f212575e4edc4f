"""A study's pictures: an overview sheet, and single slices for the report and for a PACS.

All are drawn in the standard view, rows front to back and columns right to left, with the patient's sides on them.
"""

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from io import BytesIO
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.arrays import ByteArray, DoubleArray
from bleedmap.geometry import SliceGrid
from bleedmap.io.files import writing, written_whole
from bleedmap.preprocess import head_frame
from bleedmap.results.overlay import SliceView, draw_sheet, draw_slice, fitting_size, font
from bleedmap.study.result import Result
from bleedmap.study.words import headline, slice_line, verdict

SHEET_SLICES = 24  # at most, on an overview
NEGATIVE_SLICES = 8  # evenly spaced, where nothing was found
BURNED_IN = f"Research only, not a medical device · bleedmap {__version__}"
_THUMBNAIL_SIDE = 128  # pixels
_CAPTURE_SIDE = 512  # pixels: smaller slices are enlarged by a whole number, so that words on them can be read
_INK, _PAPER = (214, 216, 220), (0, 0, 0)
_SIDES = (("R", "L"), ("A", "P"), ("F", "H"))  # along x, y, z of LPS, as viewers letter them
_SOFT_HU, _EVERY = (5, 80), 4  # brain, blood and muscle; looked for on every fourth row and column
_WHOLE = (slice(None), slice(None))


def overview(result: Result) -> ByteArray:
    """The sheet to look at first: the slices with lesions, or a few evenly spaced ones where there are none.

    Returns:
        RGB (row, column, 3) uint8.
    """
    chosen = choose_slices_to_show(result)
    part = f" ({len(chosen)} shown)" if len(chosen) < len(result.findings.slices_with_lesion) else ""
    title = f"{result.name}: {headline(result.findings, result.certainty)}{part}"
    footer = f"{RESEARCH_ONLY}{_slabs_word(result, ' Thin slices: ', '.')}"
    return draw_sheet(slice_views(result, chosen), title=title, footer=footer, threshold=result.threshold)


def _slabs_word(result: Result, before: str, after: str = "") -> str:
    """What a picture of thin slices says of the slabs that the network was shown; '' for other slices."""
    return "" if result.slabs is None else f"{before}{result.slabs.words}{after}"


def show_in_notebook(result: Result) -> str:
    """HTML with the overview as a picture inside, no request to outside."""
    stream = BytesIO()
    Image.fromarray(overview(result)).save(stream, "JPEG", quality=85)
    picture = b64encode(stream.getvalue()).decode()
    words = escape(f"{result.name}: {headline(result.findings, result.certainty)}. {RESEARCH_ONLY}")
    return f'<p>{words}</p><img alt="{words}" style="max-width:100%" src="data:image/jpeg;base64,{picture}">'


def write_thumbnail(path: Path, result: Result) -> None:
    """Write a small JPEG of the slice with the most marked pixels, or of one through the middle of the brain.

    Raises:
        OutputError: the file cannot be written.
    """
    findings, chosen = result.findings, choose_slices_to_show(result)
    index = (
        max(chosen, key=lambda one: findings.slices[one].lesion_pixels) if findings.found else chosen[len(chosen) // 2]
    )
    (view,) = slice_views(result, [index])
    stream = BytesIO()
    draw_slice(view, side=_THUMBNAIL_SIDE, threshold=result.threshold).save(stream, "JPEG", quality=80)
    with writing(path):
        path.parent.mkdir(exist_ok=True)
    with written_whole(path) as part:
        part.write_bytes(stream.getvalue())


def capture_pictures(result: Result) -> list[tuple[int, ByteArray]]:
    """Pictures for a secondary-capture series: every slice with lesions, or a few evenly spaced where there are none.

    Of thin slices, the middle one of those with lesions in each slab's height: the others would show the same again.

    Each slice is whole, on its own pixels (slices under 512 pixels enlarged by a whole number, oblong pixels made
    square), between two lines of words: which slice and what is marked, 'no verdict' where there is none, and that this
    is research.

    Returns:
        (slice index from 0, RGB (row, column, 3) uint8), feet to head, all of one size.
    """
    findings = result.findings
    chosen = _marked_to_show(result) or choose_slices_to_show(result)
    said = verdict(findings, result.certainty)
    before = f"{said}; " if said == "no verdict" else ""  # a picture may be looked at alone
    pictures = []
    for index in chosen:
        (view,) = slice_views(result, [index], _WHOLE)
        rows, columns = view.grey.shape
        native = round(max(rows * view.row_over_column, columns))
        picture = draw_slice(view, side=native * ceil(_CAPTURE_SIDE / native), threshold=result.threshold)
        below = f"{BURNED_IN}{_slabs_word(result, ' · ')}"
        pictures.append((index, _between_words(letter_sides(picture, view.sides), before + view.caption, below)))
    return pictures


def _marked_to_show(result: Result) -> Sequence[int]:
    marked = result.findings.slices_with_lesion
    if result.slabs is None:
        return marked
    slabs = (result.volume.grid.heights_mm // result.slabs.apart_mm)[list(marked)]
    of_slab = (np.array(marked)[slabs == slab] for slab in np.unique(slabs))
    return [int(one[len(one) // 2]) for one in of_slab]


def choose_slices_to_show(result: Result) -> list[int]:
    """The indices on the overview, evenly spaced: slices with lesions, or a few through the brain if none has."""
    marked = result.findings.slices_with_lesion
    if marked:
        count = min(len(marked), SHEET_SLICES)
        return [marked[place] for place in np.linspace(0, len(marked) - 1, count).round().astype(int)]
    brain = _brain_slices(result)
    count = min(len(brain), NEGATIVE_SLICES)
    return [brain[int((part + 0.5) * len(brain) / count)] for part in range(count)]


def _brain_slices(result: Result) -> list[int]:
    """The slices with at least half as much soft tissue as the fullest one: neither neck nor vertex nor air."""
    hu = result.volume.hu[:, ::_EVERY, ::_EVERY]
    tissue = ((hu > _SOFT_HU[0]) & (hu < _SOFT_HU[1])).sum(axis=(1, 2))
    return [int(index) for index in np.flatnonzero(2 * tissue >= tissue.max())]


def letter_sides(picture: Image.Image, sides: tuple[str, str]) -> Image.Image:
    """The same picture, with the patient's sides written at its left and right edge."""
    pen, size = ImageDraw.Draw(picture), max(15, picture.width // 24)
    margin, middle = picture.width // 40, picture.height // 2
    for letter, x, anchor in zip(sides, (margin, picture.width - margin), ("lm", "rm"), strict=True):
        pen.text((x, middle), letter, _INK, font(size), anchor=anchor, stroke_width=2, stroke_fill=_PAPER)
    return picture


def patient_sides(grid: SliceGrid) -> tuple[str, str]:
    """Letters for a slice's left and right edge: ('R', 'L') in the standard view."""
    return _letters(grid.column_step_mm)


def edge_letters(grid: SliceGrid) -> dict[str, str]:
    """Letters for the edges of a slice (left, right, front, back) and of the stack (top, bottom)."""
    left, right = patient_sides(grid)
    (front, back), (bottom, top) = (_letters(one) for one in (grid.row_step_mm, grid.normal))
    return {"left": left, "right": right, "front": front, "back": back, "top": top, "bottom": bottom}


def _letters(step: DoubleArray) -> tuple[str, str]:
    axis = int(np.abs(step).argmax())
    first, last = _SIDES[axis]
    return (first, last) if step[axis] > 0 else (last, first)


def slice_views(result: Result, chosen: Sequence[int], box: tuple[slice, slice] | None = None) -> list[SliceView]:
    """The chosen slices (indices from 0) in the network's own window.

    Args:
        box: rows and columns to show; None: one box around head and lesions.
    """
    box = head_box(result, chosen) if box is None else box
    window, grid = result.weights.preprocessing.window, result.volume.grid
    _, row_mm, column_mm = grid.spacing_mm
    return [
        SliceView(
            grey=np.rint(window.to_unit(result.volume.hu[index][box]) * 255).astype(np.uint8),
            probability=result.probability.array[index][box],
            caption=slice_line(result.findings, result.certainty, index),
            row_over_column=row_mm / column_mm,
            sides=patient_sides(grid),
        )
        for index in chosen
    ]


def head_box(result: Result, chosen: Sequence[int]) -> tuple[slice, slice]:
    """(rows, columns) that hold the head and every lesion on all of these slices: one box, so that sizes compare."""
    window = result.weights.preprocessing.window
    _, row_mm, column_mm = result.volume.grid.spacing_mm
    frames = [head_frame(window.to_unit(result.volume.hu[index]), (row_mm, column_mm)) for index in chosen]
    starts = [(frame.row, frame.column) for frame in frames] + [one.first[1:] for one in result.findings.lesions]
    stops = [(frame.row + frame.height, frame.column + frame.width) for frame in frames]
    stops += [(one.last[1] + 1, one.last[2] + 1) for one in result.findings.lesions]
    low = np.floor(np.min(np.array(starts), axis=0)).clip(0).astype(int)
    high = np.ceil(np.max(np.array(stops), axis=0)).clip(max=result.volume.hu.shape[1:]).astype(int)
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def words_height(width: int) -> int:
    """How many rows the words above a picture of `width` pixels take, and those below."""
    return 2 * max(14, width // 40)


def _between_words(picture: Image.Image, above: str, below: str) -> ByteArray:
    """The picture with a line of words above and below it; RGB uint8."""
    strip = words_height(picture.width)
    size, widest = strip // 2, picture.width - strip
    sheet = Image.new("RGB", (picture.width, picture.height + 2 * strip), _PAPER)
    sheet.paste(picture, (0, strip))
    pen = ImageDraw.Draw(sheet)
    for words, middle in ((above, strip // 2), (below, sheet.height - strip // 2)):
        pen.text((size, middle), words, _INK, font(fitting_size(pen, words, size, widest)), anchor="lm")
    return np.asarray(sheet)
