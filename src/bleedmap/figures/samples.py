"""Slices over their reference masks: what the network is to learn (the thesis' Figure 1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from bleedmap.arrays import BoolArray, FloatArray
from bleedmap.datasets.ct_ich import SHORT_NAMES, TYPES, CtIch, SliceRecord
from bleedmap.errors import DataError, SettingsError
from bleedmap.figures import style
from bleedmap.window import BRAIN

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


def choose_slices(
    dataset: CtIch, ids: str | None, most: int, count: int, seed: int, among: Sequence[SliceRecord] | None = None
) -> list[SliceRecord]:
    """The slices that `ids` names ("049/14,051/20"), at most `most`; or `count` lesion slices drawn at random.

    Raises:
        SettingsError: none or too many are named.
        DataError: no slice has a lesion, or a named one does not exist.
    """
    if ids is None:
        if drawn := draw_slices(dataset.slices if among is None else among, count, seed):
            return drawn
        raise DataError(
            dataset.root,
            found="no slice has a lesion's mask",
            needed="a lesion to draw",
            remedy="name the slices with --slices, or fetch the masks with `bleedmap data download`",
        )
    chosen = [dataset.slice(name.strip()) for name in ids.split(",") if name.strip()]
    if not 1 <= len(chosen) <= most:
        raise SettingsError(
            "--slices",
            found=f"{len(chosen)} slices",
            needed=f"1 to {most}, which one page holds",
            remedy="name fewer, such as 049/14,051/20" if chosen else "name some, such as 049/14,051/20",
        )
    return chosen


def read_samples(dataset: CtIch, chosen: Sequence[SliceRecord]) -> list[Sample]:
    """Read slices in the brain window with their reference masks."""
    return [Sample(one, BRAIN.to_unit(dataset.read_hu(one)), dataset.read_mask(one)) for one in chosen]


def types_in_words(record: SliceRecord) -> str:
    """ "EDH, SAH"; what the labels and the mask say where no type was labelled."""
    named = [SHORT_NAMES[name] for name in TYPES if name in record.types]
    return ", ".join(named) or ("type not labelled" if record.has_lesion else "no hemorrhage")


def types_spelled_out(records: Sequence[SliceRecord]) -> str:
    """ "EDH epidural, SAH subarachnoid hemorrhage.": the abbreviations that a figure uses."""
    used = [f"{SHORT_NAMES[name]} {name}" for name in TYPES if any(name in record.types for record in records)]
    return f"{', '.join(used)} hemorrhage." if used else ""


def samples(shown: Sequence[Sample], release: str) -> Figure:
    """Pairs of slice and mask, side by side, at most six across, of 1 to `MOST` slices."""
    blocks = ceil(len(shown) / _ACROSS)
    across = ceil(len(shown) / blocks)
    side_mm = min(42.0, (style.WIDTH_MM - (across - 1) * _GAP_MM) / across)
    margin_mm = (style.WIDTH_MM - across * side_mm - (across - 1) * _GAP_MM) / 2
    block_mm = 2 * side_mm + _GAP_MM + _NAMES_MM
    words = f"CT-ICH {release}: axial slices in the brain window (top) and the radiologists’ masks (below). "
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(blocks * block_mm, words + types_spelled_out([sample.record for sample in shown]))
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
