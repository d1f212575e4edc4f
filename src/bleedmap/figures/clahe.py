"""What CLAHE does to a slice, and why the 2021 thesis left it out: the greys of lesion and bone come nearer."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import ndimage

from bleedmap.arrays import BoolArray, DoubleArray, FloatArray
from bleedmap.figures import style
from bleedmap.figures.samples import Sample, types_in_words, types_spelled_out
from bleedmap.preprocess import CLIP_LIMIT, TILES, equalise

MOST = 5  # rows of a page
BONE = 0.99  # of the brain window: 99 HU and more, where it clips
_AIR_AND_FAT = 0.17  # of the brain window: below 0 HU
_NEARBY = 20  # pixels: how far from a lesion its surroundings reach
_GREYS = 256
_TISSUES = ("lesion", "tissue around it", "bone")
_HEADS = ("slice", "after CLAHE", "greys of the slice", "greys after CLAHE")
_COLOURS = (style.PALETTE[1], style.PALETTE[0], style.INK)
_NAMES_MM, _SIDE_MM, _GAP_MM, _HEAD_MM = 23.0, 34.0, 1.2, 5.0
_PLOT_MM, _BELOW_MM = 38.0, 5.5


@dataclass(frozen=True)
class Contrast:
    """Grey of lesion, tissue around it and bone in one slice.

    `lesion_over_tissue`: share of pairs of a lesion and a tissue pixel in which the lesion's is brighter, ties
    half: 1 tells them apart by grey alone, 0.5 not at all.
    """

    lesion: float  # median grey, 0 to 1
    tissue: float  # likewise, of what is neither lesion, bone, air nor fat within `_NEARBY` pixels of a lesion
    bone: float  # likewise
    lesion_over_tissue: float
    bone_over_lesion: float  # `lesion_over_tissue`, of a bone and a lesion pixel


def tissues(unit: FloatArray, reference: BoolArray) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Where lesion, tissue around it and bone are, by the slice before CLAHE, 0 to 1; (row, column) each."""
    bone = (unit >= BONE) & ~reference
    near = ndimage.maximum_filter(reference.astype(np.uint8), size=2 * _NEARBY + 1) > 0
    return reference, near & ~reference & ~bone & (unit > _AIR_AND_FAT), bone


def contrast(shown: FloatArray, where: tuple[BoolArray, BoolArray, BoolArray]) -> Contrast | None:
    """Measure one slice (row, column), with or without CLAHE; None where it lacks one of the three `tissues`."""
    histograms = [_histogram(shown, mask) for mask in where]
    if not all(counts.sum() for counts in histograms):
        return None
    lesion, tissue, bone = histograms
    grey = (float(np.median(shown[mask])) for mask in where)
    return Contrast(next(grey), next(grey), next(grey), _brighter(lesion, tissue), _brighter(bone, lesion))


def _histogram(shown: FloatArray, mask: BoolArray) -> DoubleArray:
    """(256,) pixels of each grey."""
    grey = np.round(shown[mask] * (_GREYS - 1)).astype(np.int64)
    return np.bincount(grey, minlength=_GREYS).astype(np.float64)


def _brighter(first: DoubleArray, second: DoubleArray) -> float:
    below = np.cumsum(second) - second
    return float((first * (below + second / 2)).sum() / (first.sum() * second.sum()))


def clahe(shown: Sequence[Sample], release: str) -> Figure:
    """A row a slice, 1 to `MOST` of them: as the network sees it, the same after CLAHE, and both histograms by tissue.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    row_mm = _SIDE_MM + _BELOW_MM
    words = (
        f"CT-ICH {release}: the brain window (a), the same after CLAHE (b; clip limit {CLIP_LIMIT:g}, {TILES} × "
        f"{TILES} tiles), with the radiologists’ contour, and how the greys of lesion, tissue around it and bone are "
        "spread before (c) and after (d): each area is 1. Numbers: lesion | tissue, how often a lesion pixel is "
        "brighter than one of the tissue around it; bone − lesion, the step between their median greys, of 255. "
    )
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(_HEAD_MM + len(shown) * row_mm, words + types_spelled_out([one.record for one in shown]))
        for index, sample in enumerate(shown):
            _row(figure, sample, _HEAD_MM + index * row_mm)
        style.headings(figure, [_left_mm(column) for column in range(len(_HEADS))], _HEAD_MM / 2, _HEADS)
    return figure


def _left_mm(column: int) -> float:
    """Of pictures 0 and 1, and plots 2 and 3."""
    if column < 2:
        return _NAMES_MM + column * (_SIDE_MM + _GAP_MM)
    return _NAMES_MM + 2 * (_SIDE_MM + _GAP_MM) + 3 + (column - 2) * (_PLOT_MM + 4)


def _row(figure: Figure, sample: Sample, top_mm: float) -> None:
    where = tissues(sample.unit, sample.reference)
    for column, grey in enumerate((sample.unit, equalise(sample.unit))):
        axes = style.picture(figure, _left_mm(column), top_mm, _SIDE_MM, grey)
        if sample.reference.any():
            axes.contour(sample.reference, levels=[0.5], colors=[style.PALETTE[1]], linewidths=0.6)
        plot = style.panel(figure, _left_mm(column + 2), top_mm + 1, _PLOT_MM, _SIDE_MM - 5)
        _spread(plot, grey, where, legend=top_mm <= _HEAD_MM and column == 0)
        if found := contrast(grey, where):
            step = (found.bone - found.lesion) * (_GREYS - 1)
            words = f"lesion | tissue {found.lesion_over_tissue:.2f}\nbone − lesion {step:.0f}"
            plot.text(0.02, 1, words, size=style.SMALL_PT, va="top", transform=plot.transAxes)
    lines = (f"patient {sample.record.patient:03d}", f"slice {sample.record.number}", types_in_words(sample.record))
    for number, words in enumerate(lines):
        style.write(
            figure, 0.5, top_mm + 2 + number * style.CAPTION_LINE_MM, words, weight="normal" if number else "bold"
        )


def _spread(axes: Axes, grey: FloatArray, where: tuple[BoolArray, BoolArray, BoolArray], *, legend: bool) -> None:
    """Smoothed over five greys; the height of bone's single clipped grey is cut off."""
    for mask, name, colour in zip(where, _TISSUES, _COLOURS, strict=True):
        if mask.any():
            density = ndimage.uniform_filter1d(_histogram(grey, mask) / mask.sum(), 5, mode="constant")
            axes.plot(np.arange(_GREYS), density, color=colour, label=name, linewidth=0.9)
    axes.set(xlim=(0, _GREYS - 1), ylim=(0, 0.06), yticks=[], xticks=[0, 64, 128, 192, 255])
    axes.spines["left"].set_visible(False)
    if legend:
        at = (0.02, 0.8)  # below the two numbers
        spaced = {"borderaxespad": 0, "borderpad": 0, "handlelength": 1.2}
        axes.legend(frameon=False, fontsize=style.SMALL_PT, loc="upper left", bbox_to_anchor=at, **spaced)
