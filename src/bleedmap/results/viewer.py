"""What the report's viewer shows: every slice as a small picture that takes any window, the probability over it."""

import json
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from bleedmap.arrays import AnyArray, ByteArray
from bleedmap.page.writer import embed_jpeg, embed_picture
from bleedmap.results.overlay import lowest_drawn
from bleedmap.results.pictures import edge_letters
from bleedmap.study.result import Result
from bleedmap.study.words import slice_line

# HU -> 8 bits: one step a HU where the windows of brain and blood lie, few beyond.
_HU, _GREY = (-1000, -20, 180, 3000), (0, 16, 216, 255)
_TABLE = np.rint(np.interp(np.arange(_HU[0], _HU[-1] + 1), _HU, _GREY)).astype(np.uint8)
_MOST_PIXELS = 30 * 512 * 512  # of all slices together, so that the page stays below 5 MB
_LEAST_SIDE = 128
QUALITY = 80  # of the JPEGs
CODE = {"hu": _HU, "grey": _GREY}
WINDOWS = (("Brain", 40, 80), ("Wide", 40, 120), ("Subdural", 80, 200), ("Bone", 600, 2800))  # name, level, width in HU


def describe_slices(result: Result) -> str:
    """The viewer's data as JSON that a <script> holds: slices feet to head, places in pixels of the pictures."""
    grid, findings = result.volume.grid, result.findings
    count, rows, columns = result.volume.hu.shape
    shrink = min(1.0, max(_LEAST_SIDE / max(rows, columns), (_MOST_PIXELS / (count * rows * columns)) ** 0.5))
    size = max(1, round(columns * shrink)), max(1, round(rows * shrink))  # width, height, as Pillow has it
    _, row_mm, column_mm = grid.spacing_mm
    scale = np.array([size[1] / rows, size[0] / columns])
    lowest = lowest_drawn(result.threshold)
    content: dict[str, Any] = {
        "width": size[0], "height": size[1], "pixel_mm": [row_mm / scale[0], column_mm / scale[1]],
        "heights_mm": [round(float(one), 3) for one in grid.heights_mm],
        "extents_mm": [round(float(one), 3) for one in grid.extents_mm],
        "letters": edge_letters(grid), **CODE, "threshold": result.threshold,
        "windows": [(f"{name} {level}/{width}", level, width) for name, level, width in WINDOWS],
        "lesions": [
            {"first": _scaled(one.first, scale, 0), "last": _scaled(one.last, scale, 1)} for one in findings.lesions
        ],
        "slices": [
            {
                "grey": embed_jpeg(_shrink(code_hu(hu), size), QUALITY),
                "probability": embed_probability(probability, size, lowest),
                "words": slice_line(findings, result.certainty, index),
            }
            for index, (hu, probability) in enumerate(zip(result.volume.hu, result.probability.array, strict=True))
        ],
    }  # fmt: skip
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def code_hu(hu: AnyArray) -> ByteArray:
    """HU of any shape -> the viewer's 8 bits, of which `CODE` tells the meaning."""
    place = np.clip(hu, _HU[0], _HU[-1]).astype(np.int16) - np.int16(_HU[0])
    return np.asarray(_TABLE[place], np.uint8)


def _shrink(grey: ByteArray, size: tuple[int, int]) -> Image.Image:
    picture = Image.fromarray(grey)
    return picture if picture.size == size else picture.resize(size, Image.Resampling.BOX)


def embed_probability(probability: AnyArray, size: tuple[int, int], lowest: float) -> str | None:
    """The probability in 255ths as PNG; None where nothing would be drawn."""
    drawn = probability >= lowest
    if not drawn.any():
        return None
    stored = np.where(drawn, np.rint(probability * 255), 0).astype(np.uint8)
    stream = BytesIO()
    _shrink(stored, size).save(stream, "PNG")
    return embed_picture("png", stream.getvalue())


def _scaled(place: tuple[int, int, int], scale: AnyArray, end: int) -> list[float]:
    """(slice, row, column) -> slice, and the pixel's near (`end` 0) or far edge in the picture."""
    return [place[0], *(round(float((one + end) * factor), 1) for one, factor in zip(place[1:], scale, strict=True))]
