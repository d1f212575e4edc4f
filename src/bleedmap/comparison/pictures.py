"""A comparison's pictures: pairs of planes side by side on one sheet, and the viewer's data."""

import json
from typing import Any

import numpy as np
from PIL import Image

from bleedmap import RESEARCH_ONLY
from bleedmap.arrays import ByteArray
from bleedmap.comparison.compare import Comparison
from bleedmap.comparison.planes import Half, Plane, Planes, describe_half
from bleedmap.comparison.words import expansion_words, headline, interval_words
from bleedmap.page.writer import embed_jpeg
from bleedmap.results.overlay import SliceView, draw_sheet, draw_slice, lowest_drawn
from bleedmap.results.pictures import letter_sides
from bleedmap.results.viewer import CODE, QUALITY, WINDOWS, code_hu, embed_probability
from bleedmap.window import BRAIN

MOST_PAIRS = 9  # on the sheet, and among the page's still pictures
_GAP, _SIDE = 8, 640  # columns between the two; pixels of a still pair's longer side


def choose_planes(planes: Planes) -> list[Plane]:
    """The planes on which something is marked, evenly spaced; where nothing is, a few that both studies show."""
    marked = [one for one in planes.planes if one.marked]
    both = [one for one in planes.planes if one.first.slice is not None and one.second.slice is not None]
    chosen = marked or both[len(both) // 5 : -(len(both) // 5) or None] or list(planes.planes)
    places = np.linspace(0, len(chosen) - 1, min(len(chosen), MOST_PAIRS)).round().astype(int)
    return [chosen[place] for place in places]


def draw_overview(comparison: Comparison, planes: Planes) -> ByteArray:
    """The sheet to look at first, RGB (row, column, 3) uint8: the first study left, the second right."""
    growth = comparison.growth
    said = [headline(comparison)]
    if growth is not None:
        said += [one for one in (interval_words(growth), f"expansion criterion {expansion_words(growth)}") if one]
    footer = (
        f"Left: first study, {comparison.first.name}. Right: second study, {comparison.second.name}, on the first "
        f"one's planes. {RESEARCH_ONLY}"
    )
    if not comparison.alignment.fits:
        footer = f"Not aligned: the two do not show the same places. {footer}"
    views = [_pair_view(one, planes) for one in choose_planes(planes)]
    return draw_sheet(views, title="; ".join(said), footer=footer, threshold=comparison.first.threshold)


def still_pairs(comparison: Comparison, planes: Planes) -> list[dict[str, Any]]:
    """Pairs for a page without a script: `uri`, `width`, `height` and `words` of each."""
    pairs = []
    for plane in choose_planes(planes):
        view = _pair_view(plane, planes)
        picture = letter_sides(draw_slice(view, side=_SIDE, threshold=comparison.first.threshold), view.sides)
        pairs.append(
            {"uri": embed_jpeg(picture, 85), "width": picture.width, "height": picture.height, "words": view.caption}
        )
    return pairs


def _pair_view(plane: Plane, planes: Planes) -> SliceView:
    gap = ((0, 0), (0, _GAP))
    grey = np.concatenate([np.pad(_grey(plane.first), gap), _grey(plane.second)], axis=1)
    probability = np.concatenate([np.pad(plane.first.probability, gap), plane.second.probability], axis=1)
    sides = planes.letters["left"], planes.letters["right"]
    return SliceView(grey, probability, describe_plane(plane), sides=sides)


def _grey(half: Half) -> ByteArray:
    return np.asarray(np.rint(BRAIN.to_unit(half.hu) * 255), np.uint8)


def describe_plane(plane: Plane) -> str:
    """'first: slice 12, lesion 1; second: slice 14, lesions 1, 2'."""
    return f"first: {describe_half(plane.first)}; second: {describe_half(plane.second)}"


def describe_viewer(comparison: Comparison, planes: Planes) -> str:
    """The viewer's data as JSON that a <script> holds: planes feet to head, both studies on each."""
    rows, columns = planes.planes[0].first.hu.shape
    content: dict[str, Any] = {
        "width": columns, "height": rows, "pixel_mm": planes.pixel_mm, "letters": planes.letters,
        **CODE, "threshold": comparison.first.threshold,
        "windows": [(f"{name} {level}/{width}", level, width) for name, level, width in WINDOWS],
        "planes": [
            {
                "words": describe_plane(plane), "marked": plane.marked,
                "halves": [_describe_half(one, comparison.first.threshold) for one in (plane.first, plane.second)],
            }
            for plane in planes.planes
        ],
    }  # fmt: skip
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _describe_half(half: Half, threshold: float) -> dict[str, Any] | None:
    if half.slice is None:
        return None
    size = half.hu.shape[1], half.hu.shape[0]
    return {
        "grey": embed_jpeg(Image.fromarray(code_hu(half.hu)), QUALITY),
        "probability": embed_probability(half.probability, size, lowest_drawn(threshold)),
        "lesions": [[number, *place] for number, place in half.lesions.items()],
    }
