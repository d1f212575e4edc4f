"""Predictions for patients that a network has not seen, and the part of them that calibration needs, on disk."""

from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from bleedmap.arrays import BoolArray, DoubleArray, FloatArray
from bleedmap.errors import InputError, usable
from bleedmap.inference.backends import Segmented
from bleedmap.inference.certainty import slice_evidence
from bleedmap.io.files import written_whole
from bleedmap.training.studies import VOXEL_ML


@dataclass(frozen=True, eq=False)
class StudyPrediction:
    """A patient with a reference, and what a network that has not seen it says."""

    segmented: Segmented  # on the slices' own grid
    reference: BoolArray  # (slice, row, column) bool
    types: BoolArray | None  # (slice, 5) bool, the labels; None where not known
    voxel_ml: float = VOXEL_ML  # true for a network that sees true sizes, else by the guess


@dataclass(frozen=True, eq=False)
class Evidence:
    """What calibration needs of a patient."""

    slices: DoubleArray  # (slice, 3), `bleedmap.inference.certainty.slice_evidence`
    types: FloatArray  # (slice, 5) logits
    has_lesion: BoolArray  # (slice,) bool, of the reference
    has_type: BoolArray | None  # (slice, 5) bool, the labels; None where not known


def extract_evidence(prediction: StudyPrediction) -> Evidence:
    """The part of it that calibration needs."""
    assert prediction.segmented.labels is not None
    return Evidence(
        slice_evidence(prediction.segmented),
        prediction.segmented.labels[:, 1:],
        np.asarray(prediction.reference.any(axis=(1, 2))),
        prediction.types,
    )


def write_evidence(folder: Path, patient: int, prediction: StudyPrediction) -> None:
    """Write `folder`/007.npz whole or not at all."""
    one = extract_evidence(prediction)
    assert one.has_type is not None  # of CT-ICH
    with written_whole(_path(folder, patient)) as temporary, temporary.open("wb") as file:
        np.savez(file, slices=one.slices, types=one.types, has_lesion=one.has_lesion, has_type=one.has_type)


def read_evidence(folder: Path, patient: int) -> Evidence:
    """What `write_evidence` wrote.

    Raises:
        InputError: missing or damaged.
    """
    path, remedy = _path(folder, patient), "remove the fold's records.json and run the fold again"
    with usable(path, InputError, "what a finished fold wrote", remedy, BadZipFile), np.load(path) as arrays:
        return Evidence(arrays["slices"], arrays["types"], arrays["has_lesion"], arrays["has_type"])


def _path(folder: Path, patient: int) -> Path:
    return folder / f"{patient:03d}.npz"
