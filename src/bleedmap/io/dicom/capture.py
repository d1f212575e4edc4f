"""Make pictures of slices into a secondary-capture series: PS3.3 A.8.1, single-frame RGB, which every viewer shows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.sc import SCImage
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from bleedmap.arrays import ByteArray, DoubleArray
from bleedmap.io.dicom.producer import CAPTURE_SERIES, NAME, RESEARCH, Producer
from bleedmap.io.dicom.series import DicomSeries, copy_patient_and_study, format_decimals, is_lossy, refer_to_slice

_SIDES = (("L", "R"), ("P", "A"), ("H", "F"))  # towards +, - of LPS: PS3.3 C.7.6.1.1.1


@dataclass(frozen=True, eq=False)
class Capture:
    """A picture of one slice in the standard view."""

    picture: ByteArray  # RGB (row, column, 3) uint8; no name, number or date of a patient is drawn in it
    slice_index: int  # the slice shown, from 0
    pixel_mm: tuple[float, float] | None = None  # (row, column) of the picture; None: the picture has no scale


def make_captures(series: DicomSeries, captures: Sequence[Capture], producer: Producer) -> list[SCImage]:
    """Make one instance a picture, numbered in this order; each refers to its slice.

    None has a place in the patient: that is no part of this IOD, and viewers would take colour pictures for a volume.

    Raises:
        InputError: the series' headers lack the UIDs that a reference needs.
    """
    whose, uid = copy_patient_and_study(series.headers[0]), producer.new_uid()
    return [_make_instance(series, whose, one, number, uid, producer) for number, one in enumerate(captures, 1)]


def _make_instance(
    series: DicomSeries, whose: Dataset, capture: Capture, number: int, series_uid: str, producer: Producer
) -> SCImage:
    grid = series.volume.grid
    result = SCImage(
        pixel_array=np.ascontiguousarray(capture.picture),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=(_name_side(grid.column_step_mm), _name_side(grid.row_step_mm)),
        study_instance_uid=whose.StudyInstanceUID,
        series_instance_uid=series_uid,
        series_number=CAPTURE_SERIES,
        series_description=f"{NAME}: pictures, {RESEARCH}",
        sop_instance_uid=producer.new_uid(),
        instance_number=number,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **producer.equipment(),
    )
    result.BodyPartExamined = "HEAD"
    result.update(whose)
    result.BurnedInAnnotation = "NO"  # (0028,0301) asks for words that identify the patient; ours do not
    result.DerivationDescription = "Brain window with a neural network's outline of hemorrhage"
    result.SourceImageSequence = [refer_to_slice(series, capture.slice_index)]
    if is_lossy(series):
        result.LossyImageCompression = "01"
    if capture.pixel_mm is not None:
        result.PixelSpacing = [*format_decimals(capture.pixel_mm)]
    producer.sign(result, whose)
    return result


def _name_side(step_mm: DoubleArray) -> str:
    """Return the letter of the patient's side that a step leads to."""
    axis = int(np.abs(step_mm).argmax())
    return _SIDES[axis][0 if step_mm[axis] > 0 else 1]
