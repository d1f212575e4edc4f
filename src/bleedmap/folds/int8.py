"""A network's int8 file, calibrated on slices of CT-ICH's patients that it was trained on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bleedmap.arrays import FloatArray
from bleedmap.datasets.ct_ich import CtIch, Patient
from bleedmap.errors import DataError, WeightsError
from bleedmap.folds.quantize import check_float, quantize_int8
from bleedmap.inference.weights import WeightsFile, locate
from bleedmap.preprocess import network_input, with_neighbours

PATIENT_SLICES = 4  # of each patient, spread over the head
LESION_SLICES = 2  # more of each bleeding patient, spread over its lesions


def make_int8(
    weights: WeightsFile, data: CtIch, path: Path, report: Callable[[int, int], None] = lambda done, of: None
) -> WeightsFile:
    """Write `weights` in int8 to `path`, with slices of all patients that they were trained on.

    Args:
        weights: a checked file with float weights, trained on CT-ICH.
        data: CT-ICH.
        path: the .onnx file; its SHA-256 is written beside.
        report: called with patients read and of how many.

    Raises:
        WeightsError: in int8 already, or a file that does not name its training patients.
        DataError: some of these are not in the data.
        MissingExtraError: the extra 'int8' is not installed.
    """
    check_float(weights)  # refuses before anything is read
    patients = trained_patients(weights, data)
    slices = calibration_slices(weights, data, patients, report)
    quantize_int8(weights, slices, path, {"data": data.release, "patients": [f"{one.number:03d}" for one in patients]})
    return locate(path)


def trained_patients(weights: WeightsFile, data: CtIch) -> tuple[Patient, ...]:
    """The patients whom the weights name as trained on: no others may choose anything about the network.

    Raises:
        WeightsError: they name none.
        DataError: some are not in the data.
    """
    named = weights.record.get("trained_patients")
    if not named:
        raise WeightsError(
            weights.path, found="does not say which patients it was trained on",
            needed="weights that name them: calibrating on others would spoil any measurement on these",
            remedy="export the network again with this version",
        )  # fmt: skip
    numbers = {int(one) for one in named}
    found = tuple(one for one in data.patients if one.number in numbers)
    if missing := sorted(numbers - {one.number for one in found}):
        raise DataError(
            data.root, found=f"without {len(missing)} of the patients that the weights were trained on "
            f"({', '.join(f'{one:03d}' for one in missing[:5])})",
            needed="the data set that they were trained on", remedy="check it with `bleedmap data verify`",
        )  # fmt: skip
    return found


def calibration_slices(
    weights: WeightsFile, data: CtIch, patients: Sequence[Patient],
    report: Callable[[int, int], None] = lambda done, of: None,
) -> FloatArray:  # fmt: skip
    """(n, channels, size, size), as the network gets them: some of each patient, lesions among them."""
    settings, taken = weights.preprocessing, []
    for done, patient in enumerate(patients, 1):
        hu = np.stack([data.read_hu(one) for one in patient.slices])
        inputs, _ = network_input(hu, settings)
        taken.append(with_neighbours(inputs, settings.neighbours)[_chosen(patient)])
        report(done, len(patients))
    slices: FloatArray = np.concatenate(taken)
    return slices


def _chosen(patient: Patient) -> list[int]:
    lesions = [index for index, one in enumerate(patient.slices) if one.has_lesion]
    return sorted({*_spread(range(len(patient.slices)), PATIENT_SLICES), *_spread(lesions, LESION_SLICES)})


def _spread(indices: Sequence[int], count: int) -> list[int]:
    """The middles of `count` equal parts."""
    if not indices:
        return []
    return [indices[int((part + 0.5) * len(indices) / count)] for part in range(count)]
