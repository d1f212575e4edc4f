"""The splits of the thesis' experiment: by slice and by patient in pairs, so that only the split differs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bleedmap.datasets.ct_ich import CtIch
from bleedmap.datasets.splits import Kind, Split, make_folds, make_split


@dataclass(frozen=True)
class SplitPair:
    """Two splits of the same balanced slices.

    Attributes:
        by_slice: neighbours of its test slices are on the training side.
        by_patient: no patient is on two sides.
        rest: lesion-free slices of the by-patient test patients that were not drawn: on no side of either.
    """

    by_slice: Split
    by_patient: Split
    rest: tuple[str, ...]

    def of(self, kind: Kind) -> Split:
        """The split of that kind."""
        return self.by_slice if kind == "slice" else self.by_patient


def split_pairs(data: CtIch, seed: int, folds: int) -> list[SplitPair]:
    """Cross-validation of both kinds, one pair a fold; the training sides of a pair are of the same size.

    From the larger training side lesion and lesion-free slices are left out at random until both sides have as many
    of each: neither the amount of training nor its balance differs within a pair.
    """
    pairs = zip(
        make_folds(data, "slice", seed, True, folds), make_folds(data, "patient", seed, True, folds), strict=True
    )
    lesions = {record.id for record in data.slices if record.has_lesion}
    made = []
    for fold, (by_slice, by_patient) in enumerate(pairs, start=1):
        counts = [_counts(split.train, lesions) for split in (by_slice, by_patient)]
        wanted = (min(one[0] for one in counts), min(one[1] for one in counts))
        equal = [_with_training(data, split, lesions, wanted, [seed, fold]) for split in (by_slice, by_patient)]
        made.append(_pair(data, equal[0], equal[1]))
    return made


def split_pair(data: CtIch, seed: int) -> SplitPair:
    """80/10/10 of both kinds, the thesis' own proportions; the training sides differ by a few slices."""
    return _pair(data, *(make_split(data, kind, seed, True) for kind in ("slice", "patient")))


def _pair(data: CtIch, by_slice: Split, by_patient: Split) -> SplitPair:
    drawn, tested = {*by_slice.ids, *by_patient.ids}, set(by_patient.patients("test"))
    rest = (one.id for one in data.slices if not one.has_lesion and one.id not in drawn)
    return SplitPair(by_slice, by_patient, tuple(name for name in rest if name.split("/")[0] in tested))


def _counts(ids: Sequence[str], lesions: set[str]) -> tuple[int, int]:
    """Lesion slices and others."""
    with_lesion = sum(name in lesions for name in ids)
    return with_lesion, len(ids) - with_lesion


def _with_training(data: CtIch, split: Split, lesions: set[str], wanted: tuple[int, int], seed: list[int]) -> Split:
    random = np.random.default_rng([*seed, split.kind == "patient"])
    kept: set[str] = set()
    for has_lesion, count in zip((True, False), wanted, strict=True):
        names = [name for name in split.train if (name in lesions) == has_lesion]
        kept |= {names[index] for index in random.choice(len(names), count, replace=False)}
    train = tuple(name for name in split.train if name in kept)
    content = data.content_sha256([*train, *split.validation, *split.test])
    return replace(split, train=train, data_sha256=content)
