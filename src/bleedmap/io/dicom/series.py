"""A CT series that was read, and what results copy from it.

Results repeat whose the series is, which study, and each slice's identity and place. Only what results need is copied,
and each value is checked: scanners write headers that no result may repeat.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset, config
from pydicom.charset import convert_encodings, decode_bytes, encode_string, python_encoding
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.uid import UID, CTImageStorage, generate_uid
from pydicom.valuerep import TEXT_VR_DELIMS, format_number_as_ds, validate_value

from bleedmap.arrays import AnyArray
from bleedmap.errors import InputError
from bleedmap.geometry import PlaneTurn
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.io.dicom.header import (
    UIDS,
    find_stated_class,
    find_uid_fault,
    name_attribute,
    set_up_pydicom,
    text,
    texts,
)
from bleedmap.volume import Volume

# By these a PACS finds the patient and the study: taken over as they are, even where the standard is broken.
_IDENTITY = ("PatientID", "PatientName", "AccessionNumber", "StudyID")  # type 2: empty where missing
_REQUIRED = ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName")  # type 2
_OPTIONAL = (
    "IssuerOfPatientID", "StudyDescription", "PatientAge", "PatientSize", "PatientWeight",
    "PatientIdentityRemoved", "DeidentificationMethod",
)  # fmt: skip
_ENUMERATED = {"PatientSex": ("M", "F", "O"), "PatientIdentityRemoved": ("YES", "NO")}
_UTF8, _LATIN1 = "ISO_IR 192", "ISO_IR 100"
_ASCII = ("", "ISO_IR 6", "ISO 2022 IR 6")  # its letters beyond are read as Latin-1, and so keep their bytes
_GRAIN_MM = 6  # decimals: a nanometre, below which a float's noise lies
_GRAIN_COSINE = 9  # decimals


@dataclass(frozen=True)
class SeriesChoice:
    """One series that was found, and what became of it."""

    number: int | None  # (0020,0011), None where the files give none
    description: str  # (0008,103E)
    instances: int  # how many files
    chosen: bool  # whether it is the one that was read
    reason: str  # why, in a clause: 'thickest axial soft-tissue series', 'bone kernel (H70h)', 'a scout of 1 image'


@dataclass(frozen=True, eq=False)
class DicomSeries:
    """One series, ready to segment and to refer to.

    `headers`: of the instance that holds each slice, without pixels, in the volume's order; slices of one multi-frame
    instance share theirs.
    `frames`: each slice's frame number from 1 in its multi-frame instance; None for single-frame instances.
    `notes`: what reading had to decide, each a sentence with its figures ('2 doubled slices left out …').
    """

    volume: Volume  # in HU, in the standard view: slices feet to head, rows front to back, columns right to left
    turn: PlaneTurn  # from the stored rows and columns to that view
    headers: tuple[Dataset, ...]
    frames: tuple[int, ...] | None
    acquisition: Acquisition  # how it was made
    notes: tuple[str, ...]
    choice: tuple[SeriesChoice, ...]  # every series found; the chosen one first
    unreferable: str = ""  # why no DICOM result can refer to its instances, in a clause; '' where they can

    def as_stored(self, planes: AnyArray) -> AnyArray:
        """Turn (slice, row, column) in the standard view back to rows and columns as stored."""
        return np.ascontiguousarray(self.turn.undo(planes))


def copy_patient_and_study(header: Dataset) -> Dataset:
    """Copy the patient and study modules for a result: identity as it is, the rest where valid, else empty or left out.

    Raises:
        InputError: the header names no study.
    """
    clean = Dataset()
    set_up_pydicom()
    clean.StudyInstanceUID = _read_uid(header, "StudyInstanceUID")
    for keyword in _IDENTITY:
        setattr(clean, keyword, _read_value(header, keyword))
    for keyword in _REQUIRED + _OPTIONAL:
        value = _read_value(header, keyword)
        value = value if _is_valid(keyword, value) else ""
        if value or keyword in _REQUIRED:
            setattr(clean, keyword, value)
    if clean.get("PatientIdentityRemoved") == "YES" and "DeidentificationMethod" not in clean:
        clean.DeidentificationMethod = "Not stated by the source"  # type 1C
    charset = _choose_charset(header, clean)
    if charset is not None:
        clean.SpecificCharacterSet = charset
    return clean


def make_source_planes(series: DicomSeries) -> tuple[Dataset, ...]:
    """Describe each slice as a single-frame CT image without pixels: patient, study, series, and its place as stored.

    Its SOP Instance UID is just its index, so that a frame of a multi-frame instance can appear so too; `refer` gives
    the reference that a result needs.

    Raises:
        InputError: a header without the UID of its study or series.
    """
    _, rows, columns = series.volume.hu.shape
    positions, orientation, spacing_mm = series.turn.locate_stored(series.volume.grid, (rows, columns))
    shared = copy_patient_and_study(series.headers[0])
    shared.SOPClassUID, shared.Modality = CTImageStorage, "CT"
    shared.SeriesInstanceUID = _read_uid(series.headers[0], "SeriesInstanceUID")
    shared.FrameOfReferenceUID = find_frame_of_reference(series)
    shared.PositionReferenceIndicator = ""
    turned = (columns, rows) if series.turn.transpose else (rows, columns)
    shared.Rows, shared.Columns = turned
    shared.ImageOrientationPatient = format_decimals(orientation, _GRAIN_COSINE)
    shared.PixelSpacing = format_decimals(spacing_mm, _GRAIN_MM)
    shared.SliceThickness = format_decimals([series.volume.grid.thickness_mm], _GRAIN_MM)[0]
    if is_lossy(series):
        shared.LossyImageCompression = "01"
    planes = []
    for index, position in enumerate(positions):
        plane = Dataset()
        plane.update(shared)  # the elements themselves are shared
        plane.SOPInstanceUID = str(index)
        plane.ImagePositionPatient = format_decimals(position, _GRAIN_MM)
        planes.append(plane)
    return tuple(planes)


def refer_to_slice(series: DicomSeries, index: int) -> Dataset:
    """Make a reference to slice `index` (from 0): SOP class, instance, and the frame of a multi-frame instance.

    Raises:
        InputError: its header lacks a UID.
    """
    header, reference = series.headers[index], Dataset()
    reference.ReferencedSOPClassUID = find_stated_class(header) or _read_uid(header, "SOPClassUID")
    reference.ReferencedSOPInstanceUID = _read_uid(header, "SOPInstanceUID")
    if series.frames is not None:
        reference.ReferencedFrameNumber = series.frames[index]
    return reference


def refer_to_instances(series: DicomSeries) -> dict[str, list[Dataset]]:
    """Make a reference to each whole instance that holds any of the slices, by their Series Instance UID.

    Raises:
        InputError: a header lacks a UID.
    """
    references: dict[str, dict[str, Dataset]] = {}
    for index, header in enumerate(series.headers):
        reference = refer_to_slice(series, index)
        reference.pop("ReferencedFrameNumber", None)
        own = references.setdefault(_read_uid(header, "SeriesInstanceUID"), {})
        own[reference.ReferencedSOPInstanceUID] = reference
    return {uid: list(own.values()) for uid, own in references.items()}


def find_frame_of_reference(series: DicomSeries) -> str:
    """Find the frame of reference of most slices; else make one from the series' UID, so that all results share it."""
    stated = (text(header, "FrameOfReferenceUID") for header in series.headers)
    counts = Counter(one for one in stated if one is not None and UID(one).is_valid)
    if counts:
        return counts.most_common(1)[0][0]
    return str(generate_uid(entropy_srcs=["frame of reference", _read_uid(series.headers[0], "SeriesInstanceUID")]))


def find_why_unreferable(headers: Sequence[Dataset]) -> str:
    """Find why no DICOM result can refer to instances, in a clause; '' where it can. PS3.5 9.1, PS3.3 C.12.1."""
    for keyword in UIDS:
        faults = [fault for header in headers if (fault := find_uid_fault(header, keyword))]
        if keyword == "SOPClassUID" and all(map(find_stated_class, headers)):
            continue
        if faults:
            return f"{name_attribute(keyword)} {faults[0]} in {len(faults)} of {len(headers)} files"
    return ""


def is_lossy(series: DicomSeries) -> bool:
    """Whether any slice says that its pixels were compressed with a loss: (0028,2110)."""
    return any(map(was_compressed_with_loss, series.headers))


def was_compressed_with_loss(header: Dataset) -> bool:
    """Whether an image says that its pixels were once compressed with loss."""
    return text(header, "LossyImageCompression") == "01"


def format_decimals(numbers: AnyArray | list[float] | tuple[float, ...], places: int = _GRAIN_MM) -> list[str]:
    """Format numbers as DICOM decimal strings, at most 16 characters each, rounded to so many decimals."""
    return [str(format_number_as_ds(round(float(one), places) + 0.0)) for one in numbers]  # + 0.0: no '-0.0'


def _read_value(header: Dataset, keyword: str) -> str | list[str]:
    """Read an attribute's text or texts; '' where it is missing or cannot be decoded."""
    found = texts(header, keyword)
    return list(found) if len(found) > 1 else "".join(found)


def _is_valid(keyword: str, value: str | list[str]) -> bool:
    if keyword in _ENUMERATED:
        return value in _ENUMERATED[keyword]
    if isinstance(value, list) and dictionary_VM(keyword) == "1":
        return False
    try:
        for one in value if isinstance(value, list) else [value]:
            validate_value(dictionary_VR(keyword), one, config.RAISE)
    except ValueError:
        return False
    return True


def _read_uid(header: Dataset, keyword: str) -> str:
    if not (fault := find_uid_fault(header, keyword)):
        return text(header, keyword) or ""
    raise InputError(
        keyword,
        found=f"{name_attribute(keyword)} {fault} in the series' files, so that no DICOM result can refer to them",
        needed="valid UIDs of study, series and instance",
        remedy="export the study again from its PACS, or ask for NIfTI results alone",
    )


def _choose_charset(header: Dataset, clean: Dataset) -> str | list[str] | None:
    """Choose the source's character set if it is known and holds all copied text, else UTF-8; none for ASCII."""
    pieces = [piece for element in clean for piece in re.split(r"[\\^=]", text(clean, element.keyword) or "")]
    if all(piece.isascii() for piece in pieces):
        return None
    given = _read_value(header, "SpecificCharacterSet")
    given = _LATIN1 if given in _ASCII else given
    names = given if isinstance(given, list) else [given]
    if any(name not in python_encoding for name in names):
        return _UTF8
    encodings = convert_encodings(names)
    back = [decode_bytes(encode_string(piece, encodings), encodings, TEXT_VR_DELIMS) for piece in pieces]
    return given if back == pieces else _UTF8
