"""Out-of-fold records as columns, and the same for patients drawn anew: what every measure is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeVar

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray
from bleedmap.evaluation.protocol import SMALLEST_LESION_VOXELS
from bleedmap.evaluation.records import TYPE_NAMES, Choices, OutOfFold, StudyRecord
from bleedmap.metrics import overlap


@dataclass(frozen=True, eq=False)
class SliceTable:
    """A row a slice."""

    study: AnyArray  # row in the table of studies
    fold: AnyArray
    has_lesion: BoolArray
    study_bleeds: BoolArray
    pixels: AnyArray  # of the reference
    dice: DoubleArray  # NaN without a lesion: a lesion-free slice neither lends nor costs Dice
    marked: BoolArray  # any pixel
    presence: DoubleArray
    called: BoolArray  # at the threshold that its fold chose
    types: BoolArray  # (n, 5)
    type_probability: DoubleArray  # (n, 5), NaN where the network tells none


@dataclass(frozen=True, eq=False)
class LesionTable:
    """A row a lesion of the reference, specks left out."""

    study: AnyArray
    voxels: AnyArray
    touched: BoolArray
    overlapped: BoolArray
    types: BoolArray  # (n, 5)


@dataclass(frozen=True, eq=False)
class StudyTable:
    """A row a patient."""

    study: AnyArray  # 0, 1, …: a patient drawn twice is two
    patient: AnyArray
    fold: AnyArray
    bleeds: BoolArray
    voxels: AnyArray  # of the reference
    dice: DoubleArray  # of the whole volume; NaN without a lesion
    marked: BoolArray  # any voxel
    probability: DoubleArray
    called: BoolArray
    untouched_regions: AnyArray  # that touch no reference voxel
    unmatched_regions: AnyArray  # that overlap no lesion by the rule
    types: BoolArray  # (n, 5)
    interval_holds: DoubleArray  # 1 or 0; NaN without an interval
    abstained: BoolArray  # no verdict given


Table = TypeVar("Table", SliceTable, LesionTable, StudyTable)


@dataclass(frozen=True, eq=False)
class Tables:
    """Slices, lesions and patients; `of` builds them, `drawn` takes patients of them."""

    slices: SliceTable
    lesions: LesionTable
    studies: StudyTable

    @classmethod
    def of(cls, records: OutOfFold) -> "Tables":
        """Columns of all studies.

        Raises:
            KeyError: a study's fold has no choices.
        """
        choices = {one.fold: one for one in records.choices}
        studies = records.studies
        return cls(
            _stacked(SliceTable, [_slices(row, one, choices[one.fold]) for row, one in enumerate(studies)]),
            _stacked(LesionTable, [_lesions(row, one) for row, one in enumerate(studies)]),
            _stacked(StudyTable, [_study(row, one, choices[one.fold]) for row, one in enumerate(studies)]),
        )

    def drawn(self, rows: AnyArray) -> "Tables":
        """The patients of some rows, with all that is theirs; a row named twice becomes two patients."""
        return Tables(_taken(self.slices, rows), _taken(self.lesions, rows), _taken(self.studies, rows))

    @cached_property
    def answered(self) -> "Tables":
        """Without the patients on whom no verdict was given."""
        return self.drawn(self.studies.study[~self.studies.abstained])


def _slices(row: int, one: StudyRecord, choices: Choices) -> SliceTable:
    count = len(one.numbers)
    lesion = one.counts.reference > 0
    told = one.verdict.types
    return SliceTable(
        np.full(count, row), np.full(count, one.fold), lesion, np.full(count, lesion.any()), one.counts.reference,
        np.where(lesion, overlap.dice(one.counts, empty=np.nan), np.nan), one.counts.predicted > 0,
        one.verdict.presence, one.verdict.presence >= choices.slice_threshold, one.types,
        np.full((count, len(TYPE_NAMES)), np.nan) if told is None else told,
    )  # fmt: skip


def _lesions(row: int, one: StudyRecord) -> LesionTable:
    real = one.lesions.voxels >= SMALLEST_LESION_VOXELS
    return LesionTable(
        np.full(int(real.sum()), row), one.lesions.voxels[real], one.lesions.touched[real],
        one.lesions.overlapped[real], one.lesion_types[real],
    )  # fmt: skip


def _study(row: int, one: StudyRecord, choices: Choices) -> StudyTable:
    whole = one.counts.pooled()
    voxels, between = int(whole.reference[0]), one.verdict.voxels
    held = np.nan if between is None else float(between[0] <= voxels <= between[1])
    values = (
        row, one.patient, one.fold, voxels > 0, voxels,
        float(overlap.dice(whole, empty=np.nan)[0]) if voxels else np.nan, bool(whole.predicted[0] > 0),
        one.verdict.study, one.verdict.study >= choices.study_threshold,
        int((~one.regions.touched).sum()), int((~one.regions.overlapped).sum()), one.types.any(axis=0), held,
        bool(one.verdict.abstained),
    )  # fmt: skip
    return StudyTable(*(np.array([value]) for value in values))


def _stacked(kind: type[Table], parts: Sequence[Table]) -> Table:
    return kind(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(kind)))


def _taken(table: Table, rows: AnyArray) -> Table:
    """Rows of the chosen studies, in their order, under new study numbers. Rows of a study lie together."""
    begins = np.searchsorted(table.study, rows, side="left")
    sizes = np.searchsorted(table.study, rows, side="right") - begins
    study = np.repeat(np.arange(len(rows)), sizes)
    chosen = np.arange(len(study)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(begins, sizes)
    kind = type(table)
    columns = {column.name: getattr(table, column.name)[chosen] for column in fields(kind)}
    return kind(**(columns | {"study": study}))
