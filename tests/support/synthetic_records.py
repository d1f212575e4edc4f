"""Out-of-fold records without a network: patients from masks drawn by hand or at random."""

import numpy as np

from bleedmap.datasets.ct_ich import SliceRecord
from bleedmap.datasets.folds import protocol_folds
from bleedmap.evaluation.records import Choices, OutOfFold, StudyRecord, Verdict, record_study

SIDE = 10
TYPE_OF = {0: frozenset({"epidural"}), 1: frozenset({"epidural", "subdural"})}


def study(
    patient: int, reference: np.ndarray, marked: np.ndarray, presence: list[float], whole: float, fold: int = 1
) -> StudyRecord:  # fmt: skip
    """A patient from masks; a lesion slice's type is by its place, the probability 0.9 where marked, else 0.1."""
    records = [
        SliceRecord(
            patient, k + 1, TYPE_OF.get(k, frozenset({"subdural"})) if lesion else frozenset(), False, lesion, True
        )
        for k, lesion in enumerate(reference.any(axis=(1, 2)).tolist())
    ]
    probability = np.where(marked, 0.9, 0.1).astype(np.float32)
    return record_study(records, fold, reference, marked, probability, Verdict(np.array(presence), whole))


def blank() -> np.ndarray:
    return np.zeros((2, SIDE, SIDE), bool)


def three_patients() -> OutOfFold:
    """1: 20 pixels on slice 1, of which 10 and 10 beside are marked; 20 on slice 2, missed; 2 bleed-free, marked
    by one pixel; 70: 40 pixels found whole."""
    reference, marked = blank(), blank()
    reference[0, 0:2] = reference[1, 6:8] = True
    marked[0, 1:3] = True
    first = study(1, reference, marked, [0.8, 0.3], 0.9)
    speck = blank()
    speck[1, 9, 9] = True
    second = study(2, blank(), speck, [0.1, 0.6], 0.4, fold=2)
    whole = blank()
    whole[0, 0:4] = True
    chronic = study(70, whole, whole, [0.9, 0.2], 0.3, fold=2)
    choices = tuple(Choices(fold, 10, 0.5, 0.5, 0.35) for fold in (1, 2))
    return OutOfFold("hand", "ab" * 32, choices, (first, second, chronic), {"seed": 0})


def random_records(random: np.random.Generator, patients: int) -> OutOfFold:
    """Patients of three slices with lesions and regions at random; every second is bleed-free."""
    studies = []
    for patient in range(69, 69 + patients):
        reference = np.zeros((3, SIDE, SIDE), bool)
        if patient % 2 == 0:
            reference[:, 2:6, 2:6] = random.random((3, 1, 1)) < 0.7
            reference[1, 2:6, 2:6] = True
        marked = random.random(reference.shape) < np.where(reference, 0.6, 0.02)
        said = random.random(3)
        studies.append(study(patient, reference, marked, said.tolist(), float(said.max()), 1 + patient % 2))
    return OutOfFold("random", "", tuple(Choices(k, 1, 0.5, 0.5, 0.5) for k in (1, 2)), tuple(studies))


def all_patients(method: str, skill: float, seed: int = 0) -> OutOfFold:
    """The protocol's patients in their folds, three slices each, every second bleeding.

    Args:
        method: its name.
        skill: 0 to 1: share of lesion pixels found, and how far probabilities lie apart.
        seed: of the draws.
    """
    random, folds = np.random.default_rng(seed), protocol_folds()
    fold_of = {patient: fold.fold for fold in folds.folds for patient in fold.test}
    studies = []
    for place, patient in enumerate(folds.patients):
        reference = np.zeros((3, SIDE, SIDE), bool)
        reference[1:, 2:7, 2:7] = place % 2 == 0
        marked = random.random(reference.shape) < np.where(reference, skill, 0.004)
        lesion = reference.any(axis=(1, 2))
        said = np.clip(0.5 + skill * np.where(lesion, 0.3, -0.3) + random.normal(0, 0.2, 3), 0, 1)
        studies.append(study(patient, reference, marked, said.tolist(), float(said.max()), fold_of[patient]))
    choices = tuple(Choices(fold.fold, 10, 0.5, 0.5, 0.5) for fold in folds.folds)
    made = {"recipe_level": "B", "recipe": {"epochs": 10, "mirrored": True}, "seed": seed}
    return OutOfFold(method, folds.data_sha256, choices, tuple(studies), made)
