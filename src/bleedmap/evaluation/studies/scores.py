"""Scores of an external validation: the protocol's measures where they apply, with intervals over patients.

Volumes, lesions and surfaces are in mL and mm, where the pixels have a size.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from bleedmap.evaluation.measure_table import ANSWERED
from bleedmap.evaluation.protocol import SEED, SMALLEST_LESION_VOXELS
from bleedmap.evaluation.records import TYPE_NAMES, Choices, Known, OutOfFold, StudyRecord
from bleedmap.evaluation.scores import CrossValidation, Score, cross_validation
from bleedmap.evaluation.studies.patients import Patients
from bleedmap.evaluation.studies.run import ExternalStudy
from bleedmap.metrics.agreement import Agreement, bland_altman
from bleedmap.metrics.bootstrap import RESAMPLES

LESION_ML = {"below 1 mL": (0.0, 1.0), "1 to 10 mL": (1.0, 10.0), "10 mL or more": (10.0, np.inf)}
_OWN_DICE = "Dice of each lesion slice, mean over a study's, mean over studies; nothing marked scores 0"
_AT_OWN = "called from the network's own threshold on, of its probability, or of its highest pixel if it has none"
_RANKED = "by the network's probability, or its highest pixel if it has none; ties count half"
# The protocol's words are for five folds and patient 70; here there is one network, and nobody is left out.
_WORDS = {
    "patient_mean_dice": ("Dice, mean of a study's lesion slices", "studies with a lesion", _OWN_DICE),
    "slice_auc": ("ROC AUC", "all slices", _RANKED),
    "study_auc": ("ROC AUC", "all studies", _RANKED),
    "slice_sensitivity": ("sensitivity", "lesion slices", _AT_OWN),
    "slice_specificity": ("specificity", "lesion-free slices", _AT_OWN),
    "study_sensitivity": ("sensitivity", "studies with a lesion", _AT_OWN),
    "study_specificity": ("specificity", "bleed-free studies", _AT_OWN),
}
_PATIENT = re.compile(r"\bpatients?\b")
_FOR_FOLDS = ("authors_dice", "slice_auc_within_folds", "study_auc_within_folds")
# What labels alone can tell, by the beginnings of keys: how slices and studies are ranked and called, and false marks.
_OF_FREE_SLICES = ("slice_specificity", "lesion_free_slices_", "bleed_free_patients_slices_")
_OF_STUDIES = ("study_", "bleed_free_patients_marked", "abstained")
# Of CT-ICH's own pixels, which say nothing on another grid; mL are counted by `LesionsBySize`.
_SIZES = ("_small", "_medium", "_large", "_ml", "_ml_or_more")


@dataclass(frozen=True)
class LesionsBySize:
    """The reference's lesions of one size: how many, and how many by each rule were found."""

    size: str
    lesions: int
    touched: int
    overlapped: int


@dataclass(frozen=True)
class Surfaces:
    """Surface distances over the studies where both masks mark something on an even, upright grid."""

    studies: int
    hd95_median_mm: float
    hd95_quartiles_mm: tuple[float, float]
    mean_median_mm: float


@dataclass(frozen=True, eq=False)
class ExternalScores:
    """What an external validation found.

    `volumes`: agreement in mL by group of studies ('all', 'bleeding', 'bleed-free'); empty without known pixel
    sizes.
    """

    table: CrossValidation  # all measures of the protocol, in its own words
    measures: tuple[Score, ...]  # those that apply, in words for one network on a folder of studies
    volumes: Mapping[str, Agreement]
    lesions: tuple[LesionsBySize, ...]  # by size in mL; empty likewise
    surfaces: Surfaces | None  # None where no study has them

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "measures": [asdict(one) for one in self.measures],
            "slice_reliability": [asdict(one) for one in self.table.slice_reliability],
            "volumes_ml": {group: asdict(one) for group, one in self.volumes.items()},
            "lesions_by_size": [asdict(one) for one in self.lesions],
            "surfaces": None if self.surfaces is None else asdict(self.surfaces),
            "resamples": self.table.resamples,
            "seed": SEED,
        }


def to_records(
    studies: Sequence[ExternalStudy], patients: Patients, method: str, choices: Choices, made: Mapping[str, Any]
) -> OutOfFold:
    """Make one fold's records of the measured studies, with their patients' numbers and the types that a table has.

    A table has types of a study, not of its slices: each of its lesion slices and lesions counts under all of them.
    """
    numbers = patients.numbers()
    records = []
    for one in studies:
        if one.record is not None:
            types = patients.types[one.name] if patients.types is not None else frozenset()
            records.append(_complete(one.record, numbers[one.name], types))
    return OutOfFold(method, "", (choices,), tuple(records), made)


def _complete(record: StudyRecord, number: int, of_study: frozenset[str]) -> StudyRecord:
    flags = np.array([name in of_study for name in TYPE_NAMES], np.bool_)
    lesion = record.counts.reference > 0
    types, of_lesions = lesion[:, None] & flags, np.tile(flags, (len(record.lesions), 1))
    return replace(record, patient=number, types=types, lesion_types=of_lesions)


def external_scores(
    records: OutOfFold, studies: Sequence[ExternalStudy], patients: Patients, *, resamples: int = RESAMPLES,
    seed: int = SEED,
) -> ExternalScores:  # fmt: skip
    """Score the measured studies, whose records are of `to_records`; patients are drawn for the intervals."""
    table = cross_validation(records, resamples=resamples, seed=seed)
    scores = (*table.scores, *table.abstained, *table.answered) if table.answered else table.scores
    measured = [one for one in studies if one.record is not None]
    known = {one.known for one in records.studies}
    kept = [_reword(one) for one in scores if _applies(one, patients) and _is_known(one, known)]
    return ExternalScores(
        table, tuple(kept), _compare_volumes(measured, patients, resamples, seed), _count_lesions(measured),
        _summarise_surfaces(measured),
    )  # fmt: skip


def _applies(score: Score, patients: Patients) -> bool:
    if score.key.removesuffix(ANSWERED) in _FOR_FOLDS or score.key.endswith(_SIZES):
        return False
    if score.key == "volume_interval_coverage" or score.key.startswith("slice_auc_"):
        return score.value is not None  # of networks that say so
    return patients.types is not None or not score.key.endswith(TYPE_NAMES)


def _is_known(score: Score, known: set[Known]) -> bool:
    """Whether the references tell what a measure needs: all outlines do; of a study's label alone, no slice of it that
    bleeds is known, so that the others would be judged by themselves.
    """
    if known <= {"outlines"}:
        return True
    of_slices = _OF_FREE_SLICES if "study" in known else ("slice_", *_OF_FREE_SLICES)
    return score.key.startswith((*_OF_STUDIES, *of_slices))


def _reword(score: Score) -> Score:
    key = score.key.removesuffix(ANSWERED)
    title, over, convention = _WORDS.get(key, (score.title, score.over, score.convention))
    over += ", with a verdict" if key != score.key and key in _WORDS else ""
    title, over, convention = (_PATIENT.sub(_say_study, one) for one in (title, over, convention))
    return replace(score, title=title, over=over, convention=convention, target=None, met=None)


def _say_study(patient: re.Match[str]) -> str:
    """Call a study so: the protocol's patients have one each."""
    return "studies" if patient[0] == "patients" else "study"


def _compare_volumes(
    studies: Sequence[ExternalStudy], patients: Patients, resamples: int, seed: int
) -> dict[str, Agreement]:
    sized = [one for one in studies if one.size is not None]
    reference = np.array([one.size.reference_ml for one in sized if one.size is not None])
    marked = np.array([one.size.marked_ml for one in sized if one.size is not None])
    who = np.array([patients.of[one.name] for one in sized])
    groups = {"all": reference >= 0, "bleeding": reference > 0, "bleed-free": reference == 0}
    found = {}
    for name, chosen in groups.items():
        agreed = bland_altman(reference[chosen], marked[chosen], who[chosen], resamples=resamples, seed=seed)
        if agreed is not None:
            found[name] = agreed
    return found


def _count_lesions(studies: Sequence[ExternalStudy]) -> tuple[LesionsBySize, ...]:
    """Count the reference's lesions by size; pieces of a few voxels are no lesions, as in the protocol."""
    rows = [
        (ml, touched, overlapped)
        for one in studies if one.record is not None and one.size is not None
        for ml, voxels, touched, overlapped in zip(
            one.size.lesions_ml, one.record.lesions.voxels, one.record.lesions.touched, one.record.lesions.overlapped,
            strict=True,
        ) if voxels >= SMALLEST_LESION_VOXELS
    ]  # fmt: skip
    if not rows:
        return ()
    table = np.array(rows, np.float64)
    found = []
    for size, (low, high) in LESION_ML.items():
        inside = table[(table[:, 0] >= low) & (table[:, 0] < high)]
        found.append(LesionsBySize(size, len(inside), int(inside[:, 1].sum()), int(inside[:, 2].sum())))
    return tuple(found)


def _summarise_surfaces(studies: Sequence[ExternalStudy]) -> Surfaces | None:
    known = [one.size.surface for one in studies if one.size is not None and one.size.surface is not None]
    if not known:
        return None
    hd95 = np.array([one.hd95_mm for one in known])
    low, middle, high = np.percentile(hd95, [25, 50, 75]).tolist()
    return Surfaces(len(known), middle, (low, high), float(np.median([one.mean_mm for one in known])))
