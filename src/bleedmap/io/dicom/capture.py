"""Make pictures of slices into a secondary-capture series: PS3.3 A.8.1, single-frame RGB, which every viewer shows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from highdicom.sc import SCImage
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from bleedmap.arrays import ByteArray, DoubleArray
from bleedmap.geometry import SliceGrid
from bleedmap.io.dicom.producer import CAPTURE_SERIES, NAME, RESEARCH, Producer
from bleedmap.io.dicom.series import (
    DicomSeries,
    copy_patient_and_study,
    find_frame_of_reference,
    format_decimals,
    is_lossy,
    refer_to_slice,
)

_SIDES = (("L", "R"), ("P", "A"), ("H", "F"))  # towards +, - of LPS: PS3.3 C.7.6.1.1.1


@dataclass(frozen=True, eq=False)
class Capture:
    """A picture of one slice in the standard view.

    Attributes:
        picture: RGB (row, column, 3) uint8; no name, number or date of a patient is drawn in it.
        slice_index: the slice shown, from 0.
        pixel_mm: (row, column) of the picture; None: the picture has no scale.
        corner: (row, column) of the picture at which the slice's first pixel begins; used with `pixel_mm`.
    """

    picture: ByteArray
    slice_index: int
    pixel_mm: tuple[float, float] | None = None
    corner: tuple[int, int] = (0, 0)

    def position_mm(self, grid: SliceGrid) -> DoubleArray:
        """Return (3,) LPS mm, the centre of the picture's first pixel."""
        steps = grid.row_step_mm, grid.column_step_mm
        place = grid.origins_mm[self.slice_index] - (steps[0] + steps[1]) / 2  # the slice's outer corner
        for step, pixel_mm, corner in zip(steps, self.pixel_mm or (0.0, 0.0), self.corner, strict=True):
            place = place + step / np.linalg.norm(step) * pixel_mm * (0.5 - corner)
        return np.asarray(place, np.float64)


def make_captures(series: DicomSeries, captures: Sequence[Capture], producer: Producer) -> list[SCImage]:
    """Make one instance a picture, numbered in this order; each refers to its slice, and has a place if it has a scale.

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
        _add_place(result, capture, series)
    producer.sign(result, whose)
    return result


def _add_place(result: Dataset, capture: Capture, series: DicomSeries) -> None:
    """Add image plane and frame of reference, as a standard extension: viewers then scroll it beside the CT."""
    grid = series.volume.grid
    _, row_mm, column_mm = grid.spacing_mm
    result.PixelSpacing = format_decimals(capture.pixel_mm or ())
    result.ImagePositionPatient = format_decimals(capture.position_mm(grid))
    result.ImageOrientationPatient = format_decimals(
        np.concatenate([grid.column_step_mm / column_mm, grid.row_step_mm / row_mm]), 9
    )
    result.FrameOfReferenceUID, result.PositionReferenceIndicator = find_frame_of_reference(series), ""


def _name_side(step_mm: DoubleArray) -> str:
    """Return the letter of the patient's side that a step leads to."""
    axis = int(np.abs(step_mm).argmax())
    return _SIDES[axis][0 if step_mm[axis] > 0 else 1]
