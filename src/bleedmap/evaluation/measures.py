"""How each measure of the protocol is computed from the tables, and how many cases and patients it rests on."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray
from bleedmap.evaluation.protocol import AUTHORS_LEFT_OUT
from bleedmap.evaluation.tables import LesionTable, SliceTable, StudyTable, Tables
from bleedmap.metrics import calibration
from bleedmap.metrics.roc import roc_auc

Rule = Literal["touched", "overlapped"]
Span = tuple[int, int | None]  # from, up to but not including


@dataclass(frozen=True, eq=False)
class Measured:
    """The value of a measure on some patients."""

    value: float  # NaN where it cannot be had
    cases: int  # how many it rests on (slices, lesions or studies)
    owners: AnyArray  # the patients that these belong to; one may stand there several times
    is_share: bool = False  # whether it is a share of the cases

    @property
    def patients(self) -> int:
        """How many patients there are: counted when asked, for a bootstrap asks for the value alone."""
        return len(np.unique(self.owners))


def mean(table: SliceTable | LesionTable | StudyTable, values: AnyArray, chosen: BoolArray) -> Measured:
    """Mean of a column over the chosen rows of a table."""
    picked = values[chosen]
    value = float(picked.mean()) if len(picked) else np.nan
    return Measured(value, len(picked), table.patient[chosen])


def share(table: SliceTable | LesionTable | StudyTable, flags: BoolArray, chosen: BoolArray) -> Measured:
    """Share of the chosen rows that have a flag."""
    return replace(mean(table, flags, chosen), is_share=True)


def over_all(table: SliceTable | StudyTable, value: float | None) -> Measured:
    """A value that rests on all rows of a table; None is one that cannot be had."""
    return Measured(np.nan if value is None else value, len(table.study), table.patient)


def authors_dice(tables: Tables) -> Measured:
    """The data set authors' Dice: without patient `AUTHORS_LEFT_OUT`."""
    return _mean_of_means(tables, tables.slices.patient != AUTHORS_LEFT_OUT)


def patient_mean_dice(tables: Tables) -> Measured:
    """The data set authors' Dice, of all patients with a lesion."""
    return _mean_of_means(tables, tables.slices.patient >= 0)


def _mean_of_means(tables: Tables, kept: BoolArray) -> Measured:
    """Mean Dice of each study's lesion slices, then the mean over studies."""
    slices = tables.slices
    chosen = kept & slices.has_lesion
    of_study = slices.study[chosen]
    count = np.bincount(of_study)
    means = np.bincount(of_study, weights=slices.dice[chosen])[count > 0] / count[count > 0]
    value = float(means.mean()) if len(means) else np.nan
    return Measured(value, len(means), slices.patient[chosen])


def volume_dice(tables: Tables) -> Measured:
    """Mean Dice of the studies' volumes, of those with a lesion."""
    return mean(tables.studies, tables.studies.dice, tables.studies.bleeds)


def median_dice(tables: Tables) -> Measured:
    """Median Dice of the studies' volumes, of those with a lesion."""
    dice = tables.studies.dice[tables.studies.bleeds]
    return replace(volume_dice(tables), value=float(np.median(dice)) if len(dice) else np.nan)


def lesions_found(
    rule: Rule, tables: Tables, *, span: Span | None = None, column: int | None = None, in_ml: bool = False
) -> Measured:
    """Share of the lesions of a size (`span` of voxels or mL) or type (`column`) that a rule finds."""
    lesions = tables.lesions
    found = lesions.touched if rule == "touched" else lesions.overlapped
    return share(lesions, found, _chosen(lesions.ml if in_ml else lesions.voxels, lesions.types, span, column))


def false_alarms(rule: Rule, bleed_free: bool, tables: Tables) -> Measured:
    """Mean number of false regions a study, of all studies or of the bleed-free ones alone."""
    studies = tables.studies
    regions = studies.untouched_regions if rule == "touched" else studies.unmatched_regions
    return mean(studies, regions, ~studies.bleeds if bleed_free else np.ones(len(studies.study), np.bool_))


def slice_sensitivity(tables: Tables, *, span: Span | None = None, column: int | None = None) -> Measured:
    """Sensitivity at the fixed specificity, of lesion slices of a size (`span` of pixels) or type (`column`)."""
    slices = tables.slices
    chosen = slices.has_lesion & _chosen(slices.pixels, slices.types, span, column)
    return _sensitivity(slices, slices.presence, tables.slice_threshold, chosen)


def study_sensitivity(
    tables: Tables, *, span: Span | None = None, column: int | None = None, in_ml: bool = False
) -> Measured:
    """Sensitivity at the fixed specificity, of bleeding studies of a load (`span` of voxels or mL) or type
    (`column`)."""
    studies = tables.studies
    chosen = studies.bleeds & _chosen(studies.ml if in_ml else studies.voxels, studies.types, span, column)
    return _sensitivity(studies, studies.probability, tables.study_threshold, chosen)


def _sensitivity(
    table: SliceTable | StudyTable, score: AnyArray, threshold: float | None, chosen: BoolArray
) -> Measured:
    """Sensitivity over the chosen rows, at the one threshold that reaches the specificity on all rows."""
    if threshold is None:
        return replace(mean(table, score, chosen), value=np.nan)
    return share(table, score >= threshold, chosen)


def _chosen(sizes: AnyArray, types: BoolArray, span: Span | None, column: int | None) -> BoolArray:
    """Rows of a size, or of a type, where one is asked for."""
    chosen = np.ones(len(sizes), np.bool_) if column is None else types[:, column]
    if span is not None:
        low, high = span
        chosen = chosen & (sizes >= low) & (True if high is None else sizes < high)
    return np.asarray(chosen, np.bool_)


def auc(table: SliceTable | StudyTable, truth: BoolArray, score: AnyArray) -> Measured:
    """Area under the ROC curve of all rows in one ranking; NaN where one group is empty."""
    return over_all(table, roc_auc(truth, score))


def auc_within_folds(table: SliceTable | StudyTable, truth: BoolArray, score: AnyArray) -> Measured:
    """Mean of the folds' own areas under the ROC curve, of those folds that have both groups."""
    areas = [roc_auc(truth[table.fold == fold], score[table.fold == fold]) for fold in np.unique(table.fold)]
    known = [area for area in areas if area is not None]
    return over_all(table, float(np.mean(known)) if known else None)


def type_auc(column: int, tables: Tables) -> Measured:
    """Area under the ROC curve of the slices of one type against all others."""
    slices = tables.slices
    probability = slices.type_probability[:, column]
    if np.isnan(probability).any():
        return Measured(np.nan, 0, slices.patient[:0])
    return auc(slices, slices.types[:, column], probability)


def slice_ece(binning: calibration.Binning, tables: Tables) -> Measured:
    """Expected calibration error of the slice probability."""
    slices = tables.slices
    error = calibration.expected_calibration_error(slices.has_lesion, slices.presence, binning=binning)
    return over_all(slices, error)


def brier(table: SliceTable | StudyTable, truth: BoolArray, probability: AnyArray) -> Measured:
    """Brier score of a probability."""
    return over_all(table, calibration.brier(truth, probability))


def interval_coverage(tables: Tables) -> Measured:
    """Share of the bleeding studies whose lesion voxels lie within the interval given."""
    studies = tables.studies
    return share(studies, studies.interval_holds > 0, studies.bleeds & ~np.isnan(studies.interval_holds))
