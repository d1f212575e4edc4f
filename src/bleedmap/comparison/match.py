"""Which lesions of two aligned studies are one: matched, grown together, fallen apart, new, gone, or not to be told."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray
from bleedmap.comparison.examination import Examination
from bleedmap.postprocess import label_lesions
from bleedmap.registration import Alignment, find_voxels, lies_inside
from bleedmap.volume import Volume

Kind = Literal["matched", "merged", "split", "regrouped", "new", "gone", "cut", "outside"]
MEANINGS: dict[Kind, str] = {
    "matched": "one lesion in both studies",
    "merged": "several lesions of the first study are one in the second",
    "split": "one lesion of the first study is several in the second",
    "regrouped": "several lesions of the first study are several others in the second, which share their places",
    "new": "only in the second study, where the first one shows the same place",
    "gone": "only in the first study, where the second one shows the same place",
    "cut": "in both studies, but one of them does not show all of it: no growth is stated",
    "outside": "in one study alone, and the other does not show all of its place: neither new nor gone",
}
NEAR_MM = 3.0  # lesions that come so near share a place: what alignment, thick slices and the outline leave open
LEAST_SHARED = 0.25  # of either lesion must lie on or near the other: a rim that only touches is no match
LEAST_SHOWN = 0.9  # of a lesion, by the other study, before it can be called new or gone, or has grown
_STEP_MM, _MOST_PLACES = 1.5, 8_000_000
_BLANK_HU = -300.0  # a slice without anything above shows no head
_PADDING_HU = -1100.0


@dataclass(frozen=True)
class Group:
    """Lesions of both studies that belong together.

    `first`, `second`: numbers of the lesions in their studies, from 1.
    `first_ml`, `second_ml`: their volumes, each on its own slices.
    """

    kind: Kind  # as `MEANINGS` says
    first: tuple[int, ...]
    second: tuple[int, ...]
    first_ml: float
    second_ml: float

    @property
    def compared(self) -> bool:
        """Whether both studies show the place, so that the growth can be stated."""
        return self.kind not in ("cut", "outside")

    @property
    def growth_ml(self) -> float | None:
        """Of the group; None where one study does not show all of it."""
        return self.second_ml - self.first_ml if self.compared else None

    @property
    def growth_percent(self) -> float | None:
        """The same in per cent of the first volume; None where there is none."""
        growth = self.growth_ml
        return None if growth is None or not self.first_ml else 100 * growth / self.first_ml


def match_lesions(first: Examination, second: Examination, alignment: Alignment) -> tuple[Group, ...]:
    """Group the lesions of both studies by their places in the head, the largest first."""
    labels = [label_lesions(one.mask.array) for one in (first, second)]
    counts = [len(one.findings.lesions) for one in (first, second)]
    shown = [
        _measure_shown(labels[0], first, second.volume, alignment.to_second),
        _measure_shown(labels[1], second, first.volume, alignment.to_first),
    ]
    groups = []
    for ones, others in _connect(_find_pairs(first, second, labels, alignment), *counts):
        whole = bool((shown[0][ones] >= LEAST_SHOWN).all() and (shown[1][others] >= LEAST_SHOWN).all())
        groups.append(
            Group(
                _name(len(ones), len(others), whole),
                tuple(one + 1 for one in ones),
                tuple(one + 1 for one in others),
                sum(first.findings.lesion_ml(first.findings.lesions[one]) or 0.0 for one in ones),
                sum(second.findings.lesion_ml(second.findings.lesions[one]) or 0.0 for one in others),
            )
        )
    return tuple(sorted(groups, key=lambda one: -max(one.first_ml, one.second_ml)))


def _name(ones: int, others: int, whole: bool) -> Kind:
    if not whole:
        return "cut" if ones and others else "outside"
    if not ones or not others:
        return "new" if others else "gone"
    if ones == others == 1:
        return "matched"
    return "merged" if others == 1 else "split" if ones == 1 else "regrouped"


def show(volume: Volume, places_mm: DoubleArray) -> BoolArray:
    """Whether a volume shows each of some places (…, 3): within its slices, neither padding nor a blank slice."""
    index, scanned = volume.grid.to_index(places_mm), volume.hu.max(axis=(1, 2)) > _BLANK_HU
    nearest = find_voxels(index, volume.hu.shape)
    return np.asarray(lies_inside(index, volume.hu.shape) & scanned[nearest[0]] & (volume.hu[nearest] > _PADDING_HU))


def _measure_shown(
    labels: AnyArray, own: Examination, other: Volume, move: Callable[[AnyArray], DoubleArray]
) -> DoubleArray:
    """(lesion,) share of each lesion's voxels whose place the other volume shows."""
    marked = np.argwhere(labels)
    numbers = labels[labels > 0] - 1
    count = len(own.findings.lesions)
    seen = show(other, move(own.volume.grid.to_mm(marked))) if len(marked) else np.zeros(0)
    held = np.bincount(numbers, seen, minlength=count)
    return np.asarray(held / np.maximum(np.bincount(numbers, minlength=count), 1), np.float64)


def _find_pairs(
    first: Examination, second: Examination, labels: Sequence[AnyArray], alignment: Alignment
) -> set[tuple[int, int]]:
    """Pairs (lesion of the first, of the second), from 0, that share a place."""
    if not all(one.any() for one in labels):
        return set()
    *sampled, step_mm = _sample_labels(first, second, labels, alignment)
    pairs: set[tuple[int, int]] = set()
    for turned in (False, True):
        mine, theirs = sampled[::-1] if turned else sampled
        distance, nearest = ndimage.distance_transform_edt(theirs == 0, sampling=step_mm, return_indices=True)
        here = (mine > 0) & (distance <= NEAR_MM)
        met = theirs[tuple(nearest[:, here])]
        sizes = np.bincount(mine.ravel())
        found, shared = np.unique(np.stack([mine[here], met], axis=1), axis=0, return_counts=True)
        for (one, other), count in zip(found.tolist(), shared.tolist(), strict=True):
            if count >= LEAST_SHARED * sizes[one]:
                pairs.add((other - 1, one - 1) if turned else (one - 1, other - 1))
    return pairs


def _sample_labels(
    first: Examination, second: Examination, labels: Sequence[AnyArray], alignment: Alignment
) -> tuple[AnyArray, AnyArray, float]:
    """Both studies' numbers of lesions on one even lattice in the first one's place, around all lesions; its step."""
    places = [
        first.volume.grid.to_mm(np.argwhere(labels[0])),
        alignment.to_first(second.volume.grid.to_mm(np.argwhere(labels[1]))),
    ]
    both = np.concatenate(places)
    edge_mm = max(one.volume.grid.extents_mm.max() for one in (first, second)) + NEAR_MM
    low, high = both.min(axis=0) - edge_mm, both.max(axis=0) + edge_mm
    step = max(_STEP_MM, float(np.prod(high - low) / _MOST_PLACES) ** (1 / 3))
    axes = [np.arange(start, stop + step, step) for start, stop in zip(low, high, strict=True)]
    sampled = []
    for one, array, move in ((first, labels[0], lambda at: at), (second, labels[1], alignment.to_second)):
        found = np.zeros([len(axis) for axis in axes], array.dtype)
        y, z = np.meshgrid(*axes[1:], indexing="ij")
        for at, x in enumerate(axes[0]):
            index = one.volume.grid.to_index(move(np.stack([np.full_like(y, x), y, z], axis=-1)))
            found[at] = np.where(lies_inside(index, array.shape), array[find_voxels(index, array.shape)], 0)
        sampled.append(found)
    return sampled[0], sampled[1], step


def _connect(pairs: set[tuple[int, int]], ones: int, others: int) -> list[tuple[list[int], list[int]]]:
    """Join what is linked by pairs: lists of lesions of the first and of the second study."""
    if not ones + others:
        return []
    rows, columns = [one for one, _ in pairs], [ones + other for _, other in pairs]
    links = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(ones + others,) * 2)
    count, group = connected_components(links, directed=False)
    found = (np.flatnonzero(group == number) for number in range(count))
    return [(one[one < ones].tolist(), (one[one >= ones] - ones).tolist()) for one in found]
