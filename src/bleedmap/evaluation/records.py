"""Records of studies: counts of every slice and lesion, and what the network predicted of them.

A method's records are a small JSON, from which every table is made without pixels or networks.
"""

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
from scipy import ndimage

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray, FloatArray
from bleedmap.datasets.ct_ich import SHORT_NAMES, TYPES, SliceRecord
from bleedmap.datasets.folds import ProtocolFolds
from bleedmap.errors import InputError, SplitError, usable
from bleedmap.io.files import write_json, written_whole
from bleedmap.metrics import overlap
from bleedmap.metrics.lesions import Pieces, compare
from bleedmap.metrics.overlap import Counts
from bleedmap.postprocess import label_lesions

_FORMAT = "bleedmap out-of-fold 1"
Known = Literal["outlines", "slices", "study"]  # what a reference tells: where blood is, which slices bleed, or whether
COMMITTED = Path(__file__).with_name("out_of_fold")  # what the program's own networks predicted out of fold
_DIGITS = 6  # of probabilities and IoU, from the start: the file says what the tables were made from
TYPE_NAMES = tuple(SHORT_NAMES[name] for name in TYPES)  # the order of every column of types


@dataclass(frozen=True)
class Choices:
    """What was chosen on a fold's training and validation patients, before its test side was looked at."""

    fold: int  # from 1
    epochs: int  # after which the network was taken
    pixel_threshold: float  # a pixel is marked from this probability on
    slice_threshold: float  # a slice is called bleeding from this probability on
    study_threshold: float  # a study likewise


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a network predicts of a study beside its mask; slices in the order of the study.

    `presence`: (slices,) probability that the slice bleeds; the highest of its pixels for a network without more.
    `types`: (slices, 5) probability of each of `TYPE_NAMES`; None for a network without types.
    `voxels`: lowest and highest of the interval for the lesions' voxels; None without one.
    """

    presence: DoubleArray
    study: float  # probability that the study bleeds
    types: DoubleArray | None = None
    voxels: tuple[float, float] | None = None
    abstained: tuple[str, ...] = ()  # why the program would not give a verdict on the study; empty where it did


@dataclass(frozen=True, eq=False)
class StudyRecord:
    """One study: counts on the slices' own grid, and what the network predicted of it.

    `known`: what the reference tells. Of labels, the pixels of a slice that bleeds, all of them, stand for it; of a
    label of the study, those of all slices.
    """

    patient: int  # number of the patient
    fold: int  # in which it was tested
    numbers: tuple[int, ...]  # of the slices, (n)
    types: BoolArray  # (n, 5) bool, the radiologists' labels of each slice, in the order of `TYPE_NAMES`
    counts: Counts  # pixels of each slice, (n,)
    highest: DoubleArray  # (n,) highest probability of a pixel
    verdict: Verdict  # slices, study, types
    lesions: Pieces  # of the reference, 26-connected, all of them, specks too
    lesion_types: BoolArray  # (lesions, 5) bool: every type that a slice of the lesion is labelled with
    regions: Pieces  # marked, 26-connected
    known: Known = "outlines"

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: columns."""
        verdict = self.verdict
        abstained = {"abstained": list(verdict.abstained)} if verdict.abstained else {}
        known = {} if self.known == "outlines" else {"known": self.known}
        return {
            "patient": self.patient, "fold": self.fold, "slices": list(self.numbers),
            "types": _name_types(self.types),
            **self.counts.to_dict(),
            "highest": self.highest.tolist(), "presence": verdict.presence.tolist(), "study": verdict.study,
            "type_probability": None if verdict.types is None else verdict.types.tolist(),
            "voxels": None if verdict.voxels is None else list(verdict.voxels),
            "lesions": self.lesions.to_dict() | {"types": _name_types(self.lesion_types)},
            "regions": self.regions.to_dict(), **abstained, **known,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "StudyRecord":
        """From `to_dict`."""
        types, voxels = content["type_probability"], content["voxels"]
        return cls(
            content["patient"], content["fold"], tuple(content["slices"]), _flag_types(content["types"]),
            Counts.from_dict(content),
            np.array(content["highest"], np.float64),
            Verdict(
                np.array(content["presence"], np.float64), content["study"],
                None if types is None else np.array(types, np.float64).reshape(-1, len(TYPE_NAMES)),
                None if voxels is None else (voxels[0], voxels[1]),
                tuple(content.get("abstained", ())),
            ),
            Pieces.from_dict(content["lesions"]), _flag_types(content["lesions"]["types"]),
            Pieces.from_dict(content["regions"]), content.get("known", "outlines"),
        )  # fmt: skip


def record_study(
    slices: Sequence[SliceRecord], fold: int, reference: BoolArray, prediction: BoolArray, probability: FloatArray,
    verdict: Verdict,
) -> StudyRecord:  # fmt: skip
    """Count one patient's pixels, slices and lesions.

    Args:
        slices: all of the patient's, in order.
        fold: in which the patient was tested.
        reference: (slice, row, column) bool on the slices' own grid.
        prediction: the same shape, bool: the final mask, after all postprocessing.
        probability: the same shape, 0 to 1.
    """
    labels = label_lesions(reference)
    lesions, regions = (
        replace(one, best_iou=_round(one.best_iou)) for one in compare(labels, label_lesions(prediction))
    )
    types = np.array([[name in one.types for name in TYPES] for one in slices], np.bool_)
    spans = [box[0] for box in ndimage.find_objects(labels)]
    return StudyRecord(
        slices[0].patient, fold, tuple(one.number for one in slices), types,
        overlap.count(reference, prediction), _round(probability.max(axis=(1, 2))), _round_verdict(verdict),
        lesions, np.array([types[span].any(axis=0) for span in spans], np.bool_).reshape(-1, len(TYPES)), regions,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """All studies that one method predicted out of fold.

    `made`: recipe, code version, machine, seconds, seed: what a reader should know.
    """

    method: str  # its name, as tables print it
    data_sha256: str  # of the data, as in the folds
    choices: tuple[Choices, ...]  # one a fold
    studies: tuple[StudyRecord, ...]  # in CT-ICH one for each patient
    made: Mapping[str, Any] = field(default_factory=dict)

    def check_against(self, folds: ProtocolFolds) -> None:
        """Refuse anything but all patients of the protocol, each in the fold that tests it.

        Raises:
            SplitError: other data, a patient is missing, too many or in another fold, or a fold has no choices.
        """
        found, wanted = sorted((one.patient, one.fold) for one in self.studies), []
        for fold in folds.folds:
            wanted += [(patient, fold.fold) for patient in fold.test]
        differ = sorted({patient for patient, _ in set(found) ^ set(wanted)})
        if found == sorted(wanted) and self.data_sha256 == folds.data_sha256:
            without = {fold.fold for fold in folds.folds} - {one.fold for one in self.choices}
            if not without:
                return
            problem = f"no choices of fold {min(without)}"
        elif self.data_sha256 != folds.data_sha256:
            problem = f"made from other data (SHA-256 {self.data_sha256[:12]}…)"
        else:
            problem = f"patients missing, twice, or in another fold: {differ[:5] or 'twice'} ({len(differ)} in all)"
        raise SplitError(
            self.method,
            found=problem,
            needed=f"all {len(folds.patients)} patients, each predicted in the protocol's fold that tests it",
            remedy="finish the folds that are missing, on the folds that bleedmap holds",
        )

    def write(self, path: Path) -> None:
        """Write whole or not at all."""
        content = {"format": _FORMAT, "method": self.method, "data_sha256": self.data_sha256}
        choices, studies = [asdict(one) for one in self.choices], [one.to_dict() for one in self.studies]
        write_json(path, content | {"choices": choices, "made": dict(self.made), "studies": studies}, compact=True)


def read_out_of_fold(path: Path) -> OutOfFold:
    """Read the records of one method.

    Raises:
        InputError: not a file that `OutOfFold.write` wrote.
    """
    needed = "the records of a cross-validation, as bleedmap wrote them"
    with usable(path, InputError, needed, "delete the file and evaluate again"):
        content = json.loads(path.read_text("utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r}")
        return OutOfFold(
            content["method"], content["data_sha256"], tuple(Choices(**one) for one in content["choices"]),
            tuple(StudyRecord.from_dict(one) for one in content["studies"]), content["made"],
        )  # fmt: skip


def committed_records(folder: Path = COMMITTED) -> tuple[Path, ...]:
    """Files of records that come with the program, by name; the others are compared with the first.

    Raises:
        InputError: none come with this version.
    """
    found = tuple(sorted(folder.glob("*.json")))
    if not found:
        raise InputError(
            "records of the cross-validation",
            found="none come with this version of bleedmap",
            needed="one file of records or more, as a cross-validation writes them",
            remedy="give them: bleedmap evaluate --protocol cross-validation RECORDS.json -o report",
        )
    return found


def _name_types(flags: BoolArray) -> list[str]:
    """(n, 5) bool -> "EDH+IPH", empty without any."""
    return ["+".join(name for name, flag in zip(TYPE_NAMES, row, strict=True) if flag) for row in flags.tolist()]


def _flag_types(names: Sequence[str]) -> BoolArray:
    found = [one.split("+") if one else [] for one in names]
    if unknown := {name for one in found for name in one} - set(TYPE_NAMES):
        raise ValueError(f"types {unknown}")
    return np.array([[name in one for name in TYPE_NAMES] for one in found], np.bool_).reshape(-1, len(TYPE_NAMES))


def _round(values: AnyArray) -> DoubleArray:
    rounded: DoubleArray = np.asarray(values, np.float64).round(_DIGITS)
    return rounded


def _round_verdict(verdict: Verdict) -> Verdict:
    types = None if verdict.types is None else _round(verdict.types)
    study = round(float(verdict.study), _DIGITS)
    return replace(verdict, presence=_round(verdict.presence), study=study, types=types)


# Predictions out of fold, one file for each patient: what the report's pictures are drawn from.
_STEPS = 255  # a probability is kept in steps of 1/255


def write_prediction(folder: Path, patient: int, probability: FloatArray, mask: BoolArray) -> Path:
    """Write the prediction of patient 7, say, as `folder`/007.npz, whole or not at all.

    Args:
        folder: one for each method; it need not exist.
        probability: (slice, row, column) 0 to 1 on the slices' own grid; kept as uint8, in steps of 1/255.
        mask: the same shape, bool: the final mask, after all postprocessing; kept in bits.

    Raises:
        ValueError: the shapes differ or are not of three axes, or a probability is not in 0 to 1.
        OutputError: the disk is full, or the folder cannot be written.
    """
    if probability.ndim != 3 or probability.shape != mask.shape:
        raise ValueError(f"probability {probability.shape} and mask {mask.shape} are not one (slice, row, column)")
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("a probability below 0, above 1 or not a number")
    steps = np.rint(probability * np.float32(_STEPS)).astype(np.uint8)
    path = _path(folder, patient)
    with written_whole(path) as part:
        np.savez_compressed(part, probability=steps, mask=np.packbits(mask), shape=np.array(mask.shape))
    return path


def read_prediction(folder: Path, patient: int) -> tuple[FloatArray, BoolArray]:
    """Read what `write_prediction` wrote.

    Returns:
        (probability float32 in steps of 1/255, mask bool), both (slice, row, column).

    Raises:
        InputError: the file is missing or damaged, or not of this kind.
    """
    path = _path(folder, patient)
    needed = "this patient's prediction out of fold, as bleedmap wrote it"
    remedy = "give the folder with the predictions that these records were counted from"
    with usable(path, InputError, needed, remedy, EOFError, RuntimeError, BadZipFile, zlib.error):
        with np.load(path) as content:  # numpy's own default: arrays alone, no objects
            steps, packed, shape = content["probability"], content["mask"], tuple(content["shape"].tolist())
        bits = steps.dtype == packed.dtype == np.uint8 and packed.shape == (ceil(steps.size / 8),)
        if not bits or steps.shape != shape or len(shape) != 3:
            raise ValueError(f"probability {steps.dtype} {steps.shape}, mask {packed.dtype} {packed.shape} of {shape}")
        mask = np.unpackbits(packed, count=steps.size).astype(np.bool_).reshape(shape)
        return steps.astype(np.float32) / np.float32(_STEPS), mask


def _path(folder: Path, patient: int) -> Path:
    return folder / f"{patient:03d}.npz"
