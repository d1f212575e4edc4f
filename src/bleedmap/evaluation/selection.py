"""Which slices the report shows, by the protocol's rules: a pure function of the records. Nobody picks."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

import numpy as np

from bleedmap.arrays import AnyArray
from bleedmap.evaluation.records import OutOfFold, StudyRecord
from bleedmap.metrics import overlap

SHOWN = 12  # misses, and as many false alarms
A_PATIENT = 2  # of these, at most
PERCENTILES = tuple(range(5, 100, 10))  # of the patients' `volume_dice`
CASE_SLICES = 4  # of a case, at most


@dataclass(frozen=True, eq=False)
class ChosenSlice:
    """A slice of a study, `index` from 0 in the study's order."""

    study: StudyRecord
    index: int

    @property
    def number(self) -> int:
        """As the data set counts it."""
        return self.study.numbers[self.index]


@dataclass(frozen=True, eq=False)
class Case:
    """A patient at a percentile of `volume_dice`, and the slices to show."""

    percentile: int
    dice: float
    slices: tuple[ChosenSlice, ...]


def misses(records: OutOfFold) -> tuple[ChosenSlice, ...]:
    """The lesion slices with the most unmarked lesion pixels, most first; a slice without any is no miss."""
    return _most((one, one.counts.false_negative * (one.counts.reference > 0)) for one in records.studies)


def false_alarms(records: OutOfFold) -> tuple[ChosenSlice, ...]:
    """The lesion-free slices with the most marked pixels, most first; a slice without any is no false alarm."""
    return _most((one, one.counts.false_positive * (one.counts.reference == 0)) for one in records.studies)


def cases(records: OutOfFold) -> tuple[Case, ...]:
    """The patients at `PERCENTILES` of the bleeding patients' `volume_dice`, lowest first, each once.

    A percentile is the nearest rank: a patient's own value, not one between two.
    """
    bleeding = [one for one in records.studies if one.counts.reference.any()]
    ranked = sorted((float(overlap.dice(one.counts.pooled(), empty=0)[0]), one.patient, one) for one in bleeding)
    at = {} if not ranked else {ceil(place / 100 * len(ranked)) - 1: place for place in reversed(PERCENTILES)}
    return tuple(Case(at[rank], ranked[rank][0], _through(ranked[rank][2])) for rank in sorted(at))


def _most(pixels: Iterable[tuple[StudyRecord, AnyArray]]) -> tuple[ChosenSlice, ...]:
    """By pixels, then patient, then slice."""
    ranked = sorted(
        (-int(count), one.patient, index, one)
        for one, counts in pixels
        for index, count in enumerate(counts.tolist())
        if count
    )
    chosen: list[ChosenSlice] = []
    taken = Counter[int]()
    for _, patient, index, one in ranked:
        if taken[patient] < A_PATIENT and len(chosen) < SHOWN:
            chosen.append(ChosenSlice(one, index))
            taken[patient] += 1
    return tuple(chosen)


def _through(study: StudyRecord) -> tuple[ChosenSlice, ...]:
    """Of each quarter of the lesion slices, in their order, the one with the most lesion pixels."""
    lesion = np.flatnonzero(study.counts.reference)
    quarters = np.array_split(lesion, min(CASE_SLICES, len(lesion)))
    return tuple(ChosenSlice(study, int(part[study.counts.reference[part].argmax()])) for part in quarters)
