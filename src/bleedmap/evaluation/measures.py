"""What each measure of the protocol is, as a small function of the tables: a value and what it rests on."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray
from bleedmap.evaluation.protocol import AUTHORS_LEFT_OUT, SLICE_SPECIFICITY, STUDY_SPECIFICITY
from bleedmap.evaluation.tables import LesionTable, SliceTable, StudyTable, Tables
from bleedmap.metrics import calibration
from bleedmap.metrics.operating_point import at_specificity
from bleedmap.metrics.roc import roc_auc

Rule = Literal["touched", "overlapped"]
Span = tuple[int, int | None]  # from, up to but not including


@dataclass(frozen=True)
class Sample:
    """A measure on some patients.

    Attributes:
        value: NaN where it cannot be had.
        cases: how many it rests on (slices, lesions or patients).
        patients: whom these belong to.
        share: whether it is a share of the cases.
    """

    value: float
    cases: int
    patients: int
    share: bool = False


def authors_dice(tables: Tables) -> Sample:
    """Patients but `AUTHORS_LEFT_OUT`."""
    kept = tables.studies.study[tables.studies.patient != AUTHORS_LEFT_OUT]
    return _mean_of_means(tables.slices, np.isin(tables.slices.study, kept))


def patient_mean_dice(tables: Tables) -> Sample:
    """All patients with a lesion."""
    return _mean_of_means(tables.slices, np.ones(len(tables.slices.study), np.bool_))


def _mean_of_means(slices: SliceTable, kept: BoolArray) -> Sample:
    """Dice over a patient's lesion slices, then over patients."""
    chosen = kept & slices.has_lesion
    who = slices.study[chosen]
    lesions = np.bincount(who)
    means = np.bincount(who, weights=slices.dice[chosen])[lesions > 0] / lesions[lesions > 0]
    return Sample(float(means.mean()) if len(means) else np.nan, len(means), len(means))


def median_dice(tables: Tables) -> Sample:
    """Of the patients' volumes."""
    dice = tables.studies.dice[tables.studies.bleeds]
    return Sample(float(np.median(dice)) if len(dice) else np.nan, len(dice), len(dice))


def lesions_found(rule: Rule, tables: Tables, *, span: Span | None = None, column: int | None = None) -> Sample:
    """Share of the lesions of a size (`span` of voxels) or type (`column`) that a rule finds."""
    lesions = tables.lesions
    chosen = np.ones(len(lesions.study), np.bool_) if span is None else _within(lesions.voxels, span)
    if column is not None:
        chosen = chosen & lesions.types[:, column]
    return share(lesions, lesions.touched if rule == "touched" else lesions.overlapped, chosen)


def false_alarms(rule: Rule, free: bool, tables: Tables) -> Sample:
    """Mean number of false regions a study; `free`: of bleed-free patients alone."""
    studies = tables.studies
    regions = studies.untouched_regions if rule == "touched" else studies.unmatched_regions
    return mean(studies, regions, ~studies.bleeds if free else np.ones(len(studies.study), np.bool_))


def slices_at_fixed(tables: Tables, *, span: Span | None = None, column: int | None = None) -> Sample:
    """Sensitivity at the fixed specificity. Of lesion slices of a size (`span` of pixels) or type (`column`)."""
    slices = tables.slices
    chosen = slices.has_lesion if span is None else _within(slices.pixels, span) & slices.has_lesion
    chosen = chosen if column is None else chosen & slices.types[:, column]
    return _at_fixed(slices, slices.has_lesion, slices.presence, SLICE_SPECIFICITY, chosen)


def studies_at_fixed(tables: Tables, *, span: Span | None = None, column: int | None = None) -> Sample:
    """Sensitivity at the fixed specificity. Of patients of a load (`span` of voxels) or type (`column`)."""
    studies = tables.studies
    chosen = studies.bleeds if span is None else _within(studies.voxels, span) & studies.bleeds
    chosen = chosen if column is None else chosen & studies.types[:, column]
    return _at_fixed(studies, studies.bleeds, studies.probability, STUDY_SPECIFICITY, chosen)


def _at_fixed(
    table: SliceTable | StudyTable, truth: BoolArray, score: AnyArray, specificity: float, chosen: BoolArray
) -> Sample:
    """One threshold for all cases; sensitivity over the chosen."""
    point = at_specificity(truth, score, specificity)
    if point is None:
        return Sample(np.nan, int(chosen.sum()), len(np.unique(table.study[chosen])))
    return share(table, score >= point.threshold, chosen)


def slice_ece(binning: calibration.Binning, tables: Tables) -> Sample:
    """Of the slice probability."""
    slices = tables.slices
    error = calibration.expected_calibration_error(slices.has_lesion, slices.presence, binning=binning)
    return scored(slices, error)


def slice_brier(tables: Tables) -> Sample:
    """Of the slice probability."""
    return scored(tables.slices, calibration.brier(tables.slices.has_lesion, tables.slices.presence))


def study_brier(tables: Tables) -> Sample:
    """Of the study probability."""
    return scored(tables.studies, calibration.brier(tables.studies.bleeds, tables.studies.probability))


def coverage(tables: Tables) -> Sample:
    """Of the interval for the lesions' voxels."""
    studies = tables.studies
    return share(studies, studies.interval_holds > 0, studies.bleeds & ~np.isnan(studies.interval_holds))


def type_auc(column: int, tables: Tables) -> Sample:
    """One type against all other slices."""
    slices = tables.slices
    told = slices.type_probability[:, column]
    if np.isnan(told).any():
        return Sample(np.nan, 0, 0)
    return auc(slices, slices.types[:, column], told)


def auc(table: SliceTable | StudyTable, truth: BoolArray, score: AnyArray) -> Sample:
    """All rows in one ranking; NaN where one group is empty."""
    area = roc_auc(truth, score)
    return scored(table, np.nan if area is None else area)


def auc_within(table: SliceTable | StudyTable, truth: BoolArray, score: AnyArray) -> Sample:
    """Mean over the folds that have both groups."""
    areas = [roc_auc(truth[table.fold == fold], score[table.fold == fold]) for fold in np.unique(table.fold)]
    known = [area for area in areas if area is not None]
    return scored(table, float(np.mean(known)) if known else np.nan)


def scored(table: SliceTable | StudyTable, value: float) -> Sample:
    """A value that rests on all rows."""
    return Sample(value, len(table.study), len(np.unique(table.study)))


def share(table: SliceTable | LesionTable | StudyTable, flags: BoolArray, chosen: BoolArray) -> Sample:
    """Of the chosen rows, those with the flag."""
    sample = mean(table, flags, chosen)
    return Sample(sample.value, sample.cases, sample.patients, share=True)


def mean(table: SliceTable | LesionTable | StudyTable, values: AnyArray, chosen: BoolArray) -> Sample:
    """Over the chosen rows."""
    picked = values[chosen]
    value = float(picked.mean()) if len(picked) else np.nan
    return Sample(value, len(picked), len(np.unique(table.study[chosen])))


def _within(values: AnyArray, span: Span) -> BoolArray:
    low, high = span
    return np.asarray((values >= low) & (True if high is None else values < high), np.bool_)
