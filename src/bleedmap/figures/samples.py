"""Slices over their reference masks: what the network is to learn (the thesis' Figure 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bleedmap.arrays import BoolArray, FloatArray
from bleedmap.datasets.ct_ich_tables import SHORT_NAMES, TYPES, SliceRecord
from bleedmap.figures import style

MOST = 18  # that a page holds
_ACROSS = 6
_GAP_MM = 1.2
_NAMES_MM = 9.5  # two lines of text below a pair


@dataclass(frozen=True, eq=False)
class Sample:
    """One slice: `unit` (row, column) 0 to 1 in the brain window, and its `reference` mask (row, column)."""

    record: SliceRecord
    unit: FloatArray
    reference: BoolArray


def draw_slices(records: Sequence[SliceRecord], count: int, seed: int) -> list[SliceRecord]:
    """Lesion slices at random, types in turn; a slice with one type and a patient not yet shown go first.

    Args:
        records: to choose from.
        count: how many; fewer where `records` has fewer lesion slices.
        seed: same seed, same slices.
    """
    lesion = [record for record in records if record.has_lesion]
    left = [lesion[index] for index in np.random.default_rng(seed).permutation(len(lesion))]
    chosen: list[SliceRecord] = []
    for turn in range(min(count, len(lesion))):
        wanted, shown = TYPES[turn % len(TYPES)], {record.patient for record in chosen}
        ranks = [(wanted not in record.types, len(record.types) > 1, record.patient in shown) for record in left]
        chosen.append(left.pop(ranks.index(min(ranks))))
    return chosen


def types_in_words(record: SliceRecord) -> str:
    """ "EDH, SAH"; what the labels and the mask say where no type was labelled."""
    named = [SHORT_NAMES[name] for name in TYPES if name in record.types]
    return ", ".join(named) or ("type not labelled" if record.has_lesion else "no hemorrhage")


def types_spelled_out(records: Sequence[SliceRecord]) -> str:
    """ "EDH epidural, SAH subarachnoid hemorrhage": the abbreviations that a figure uses."""
    used = [f"{SHORT_NAMES[name]} {name}" for name in TYPES if any(name in record.types for record in records)]
    return f"{', '.join(used)} hemorrhage" if used else ""


def samples(shown: Sequence[Sample], release: str) -> Figure:
    """Pairs of slice and mask, side by side, at most six across, of 1 to `MOST` slices."""
    blocks = ceil(len(shown) / _ACROSS)
    across = ceil(len(shown) / blocks)
    side_mm = min(42.0, (style.WIDTH_MM - (across - 1) * _GAP_MM) / across)
    margin_mm = (style.WIDTH_MM - across * side_mm - (across - 1) * _GAP_MM) / 2
    block_mm = 2 * side_mm + _GAP_MM + _NAMES_MM
    words = f"CT-ICH {release}: axial slices in the brain window (top) and the radiologists’ masks (below). "
    spelled = types_spelled_out([sample.record for sample in shown])
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(blocks * block_mm, words + (f"{spelled}." if spelled else ""))
        for index, sample in enumerate(shown):
            left_mm = margin_mm + index % across * (side_mm + _GAP_MM)
            _pair(figure, sample, index, left_mm, index // across * block_mm, side_mm)
    return figure


def _pair(figure: Figure, sample: Sample, place: int, left_mm: float, top_mm: float, side_mm: float) -> None:
    style.picture(figure, left_mm, top_mm, side_mm, sample.unit)
    style.picture(figure, left_mm, top_mm + side_mm + _GAP_MM, side_mm, sample.reference)
    style.letter(figure, place, left_mm + 1.2, top_mm + 2.4, color="white")
    below_mm = top_mm + 2 * side_mm + _GAP_MM
    middle_mm = left_mm + side_mm / 2
    style.write(figure, middle_mm, below_mm + 2.4, types_in_words(sample.record), ha="center", weight="bold")
    where = f"patient {sample.record.patient:03d}, slice {sample.record.number}"
    style.write(figure, middle_mm, below_mm + 5.6, where, ha="center", size=style.SMALL_PT, color=style.FAINT)
