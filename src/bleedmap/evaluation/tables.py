"""Records of studies as columns, and the same for patients drawn anew: what every measure is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeVar

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray
from bleedmap.datasets.ct_ich_tables import find_voxel_ml
from bleedmap.datasets.folds import protocol_folds
from bleedmap.evaluation.protocol import SLICE_SPECIFICITY, SMALLEST_LESION_VOXELS, STUDY_SPECIFICITY
from bleedmap.evaluation.records import TYPE_NAMES, Choices, OutOfFold, StudyRecord
from bleedmap.metrics import overlap
from bleedmap.metrics.roc import at_specificity


@dataclass(frozen=True, eq=False)
class SliceTable:
    """The columns of all slices, one row each."""

    study: AnyArray  # row in the table of studies
    patient: AnyArray
    fold: AnyArray
    has_lesion: BoolArray
    study_bleeds: BoolArray
    pixels: AnyArray  # of the reference
    dice: DoubleArray  # NaN without a lesion: a lesion-free slice neither lends nor costs Dice
    marked: BoolArray  # any pixel
    presence: DoubleArray
    called: BoolArray  # at the threshold that its fold chose
    types: BoolArray  # (n, 5)
    type_probability: DoubleArray  # (n, 5), NaN where the network gives none


@dataclass(frozen=True, eq=False)
class LesionTable:
    """The columns of all lesions of the reference, one row each; specks are left out."""

    study: AnyArray  # row in the table of studies
    patient: AnyArray
    voxels: AnyArray
    ml: DoubleArray  # NaN where the patient's pixel size is not known
    touched: BoolArray
    overlapped: BoolArray
    types: BoolArray  # (n, 5)


@dataclass(frozen=True, eq=False)
class StudyTable:
    """The columns of all studies, one row each."""

    study: AnyArray  # 0, 1, …: a study drawn twice is two
    patient: AnyArray
    fold: AnyArray
    bleeds: BoolArray
    voxels: AnyArray  # of the reference
    ml: DoubleArray  # of the reference; NaN where the patient's pixel size is not known
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
    """Slices, lesions and studies; `of` builds them, `drawn` takes studies of them."""

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
        studies, known = records.studies, records.data_sha256 == protocol_folds().data_sha256
        ml = [find_voxel_ml(one.patient) if known else np.nan for one in studies]
        return cls(
            _stack(SliceTable, [_slices(row, one, choices[one.fold]) for row, one in enumerate(studies)]),
            _stack(LesionTable, [_lesions(row, one, ml[row]) for row, one in enumerate(studies)]),
            _stack(StudyTable, [_study(row, one, choices[one.fold], ml[row]) for row, one in enumerate(studies)]),
        )

    def drawn(self, rows: AnyArray) -> "Tables":
        """The studies of some rows, with all that is theirs; a row named twice becomes two studies."""
        return Tables(_take(self.slices, rows), _take(self.lesions, rows), _take(self.studies, rows))

    @cached_property
    def slice_threshold(self) -> float | None:
        """The threshold that reaches the protocol's specificity on all slices; None where there is none."""
        point = at_specificity(self.slices.has_lesion, self.slices.presence, SLICE_SPECIFICITY)
        return None if point is None else point.threshold

    @cached_property
    def study_threshold(self) -> float | None:
        """The same on all studies."""
        point = at_specificity(self.studies.bleeds, self.studies.probability, STUDY_SPECIFICITY)
        return None if point is None else point.threshold

    @cached_property
    def answered(self) -> "Tables":
        """Without the studies on which no verdict was given."""
        return self.drawn(self.studies.study[~self.studies.abstained])


def _slices(row: int, one: StudyRecord, choices: Choices) -> SliceTable:
    """The rows of a study; none where only the study is labelled."""
    table = _all_slices(row, one, choices)
    return table if one.known != "study" else SliceTable(**{name: column[:0] for name, column in vars(table).items()})


def _all_slices(row: int, one: StudyRecord, choices: Choices) -> SliceTable:
    count, verdict = len(one.numbers), one.verdict
    lesion = one.counts.reference > 0
    return SliceTable(
        study=np.full(count, row),
        patient=np.full(count, one.patient),
        fold=np.full(count, one.fold),
        has_lesion=lesion,
        study_bleeds=np.full(count, lesion.any()),
        pixels=one.counts.reference,
        dice=np.where(lesion & (one.known == "outlines"), overlap.dice(one.counts, empty=np.nan), np.nan),
        marked=one.counts.predicted > 0,
        presence=verdict.presence,
        called=verdict.presence >= choices.slice_threshold,
        types=one.types,
        type_probability=np.full((count, len(TYPE_NAMES)), np.nan) if verdict.types is None else verdict.types,
    )


def _lesions(row: int, one: StudyRecord, voxel_ml: float) -> LesionTable:
    real = (one.lesions.voxels >= SMALLEST_LESION_VOXELS) & (one.known == "outlines")
    count = int(real.sum())
    return LesionTable(
        study=np.full(count, row),
        patient=np.full(count, one.patient),
        voxels=one.lesions.voxels[real],
        ml=one.lesions.voxels[real] * voxel_ml,
        touched=one.lesions.touched[real],
        overlapped=one.lesions.overlapped[real],
        types=one.lesion_types[real],
    )


def _study(row: int, one: StudyRecord, choices: Choices, voxel_ml: float) -> StudyTable:
    whole, verdict = one.counts.pooled(), one.verdict
    voxels = int(whole.reference[0])
    outlined, holds = one.known == "outlines", np.nan
    if verdict.voxels is not None and outlined:
        holds = float(verdict.voxels[0] <= voxels <= verdict.voxels[1])
    return StudyTable(
        study=np.array([row]),
        patient=np.array([one.patient]),
        fold=np.array([one.fold]),
        bleeds=np.array([voxels > 0]),
        voxels=np.array([voxels]),
        ml=np.array([voxels * voxel_ml]),
        dice=overlap.dice(whole, empty=np.nan) if voxels and outlined else np.array([np.nan]),
        marked=whole.predicted > 0,
        probability=np.array([verdict.study]),
        called=np.array([verdict.study >= choices.study_threshold]),
        untouched_regions=np.array([(~one.regions.touched).sum()]),
        unmatched_regions=np.array([(~one.regions.overlapped).sum()]),
        types=np.array([one.types.any(axis=0)]),
        interval_holds=np.array([holds]),
        abstained=np.array([bool(verdict.abstained)]),
    )


def _stack(kind: type[Table], parts: Sequence[Table]) -> Table:
    return kind(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(kind)))


def _take(table: Table, rows: AnyArray) -> Table:
    """Rows of the chosen studies, in their order, under new study numbers. Rows of a study lie together."""
    begins = np.searchsorted(table.study, rows, side="left")
    sizes = np.searchsorted(table.study, rows, side="right") - begins
    study = np.repeat(np.arange(len(rows)), sizes)
    chosen = np.arange(len(study)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + np.repeat(begins, sizes)
    return type(table)(**({name: column[chosen] for name, column in vars(table).items()} | {"study": study}))
