"""Read image planes as classic and multi-frame CT describe them: all that orders, sorts and places slices.

Image plane: DICOM PS3.3 C.7.6.2; functional groups of multi-frame images: C.7.6.16.2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from bleedmap.arrays import DoubleArray
from bleedmap.errors import InputError
from bleedmap.io.dicom.files import DicomFile
from bleedmap.io.dicom.header import first_item, integer, items, number, numbers, text, texts

CLASSIC_CT = str(CTImageStorage)
MULTI_FRAME_CT = (str(EnhancedCTImageStorage), str(LegacyConvertedEnhancedCTImageStorage))
MOST_SLICES = 2000


@dataclass(frozen=True, eq=False)
class FrameGroups:
    """The functional groups of one frame: its own, else those that all frames share. PS3.3 C.7.6.16.2."""

    own: Dataset
    shared: Dataset

    @classmethod
    def of_all(cls, header: Dataset) -> "tuple[FrameGroups, ...]":
        """Read the groups of every frame of a multi-frame instance, in order."""
        shared = first_item(header, "SharedFunctionalGroupsSequence")
        return tuple(cls(own, shared) for own in items(header, "PerFrameFunctionalGroupsSequence"))

    def all(self, keyword: str) -> tuple[Dataset, ...]:
        """Return all items of a group."""
        return items(self.own, keyword) or items(self.shared, keyword)

    def first(self, keyword: str) -> Dataset:
        """Return the first item of a group; an empty one where there is none."""
        return next(iter(self.all(keyword)), Dataset())


@dataclass(frozen=True)
class Rescale:
    """HU = slope · stored value + intercept, where `unit` is HU. PS3.3 C.11.1."""

    slope: float
    intercept: float
    unit: str


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice as stored. Tuples are () where the file does not say.

    Attributes:
        file: the instance that holds it.
        frame: its number from 1 in a multi-frame instance; None in a classic one.
        rows, columns: of the stored image.
        position_mm: (0020,0032) centre of the first pixel, LPS.
        orientation: (0020,0037) six cosines: along a row, then down a column.
        spacing_mm: (0028,0030) between rows, between columns.
        thickness_mm: (0018,0050).
        image_type: (0008,0008) or (0008,9007).
        moments: acquisition number and times, whatever tells one pass over the head from another.
        rescale: None where the file gives none.
    """

    file: DicomFile
    frame: int | None
    rows: int
    columns: int
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    thickness_mm: float | None
    image_type: tuple[str, ...]
    moments: tuple[str, ...]
    rescale: Rescale | None

    @property
    def name(self) -> str:
        """File and frame, as error messages name it."""
        frame = f", frame {self.frame}" if self.frame is not None else ""
        return f"{self.file.place.name}{frame}"

    @property
    def has_place(self) -> bool:
        """Whether position, orientation and pixel spacing are all there."""
        return bool(self.position_mm and self.orientation and self.spacing_mm)

    @cached_property
    def normal(self) -> DoubleArray:
        """Unit vector (3,) at right angles to the plane, towards the head."""
        normal = np.cross(self.orientation[:3], self.orientation[3:])
        length = float(np.linalg.norm(normal))
        unit = normal / length if length > 0 else np.full(3, np.nan)
        return np.asarray(-unit if unit[2] < 0 else unit, np.float64)

    @property
    def tilt_to_axial_deg(self) -> float:
        """Angle between the plane's normal and the head-foot axis; NaN for cosines that span no plane."""
        return float(np.degrees(np.arccos(np.clip(self.normal[2], -1, 1))))


def sop_class(file: DicomFile) -> str:
    """Return the SOP Class UID of a file."""
    return text(file.header, "SOPClassUID") or ""


def read_planes(file: DicomFile) -> tuple[Plane, ...]:
    """Read the planes of a CT image; a classic one has one.

    Raises:
        InputError: more frames than a head has slices, or than the file describes.
    """
    if sop_class(file) not in MULTI_FRAME_CT:
        return (_read_plane(file, None, lambda group: file.header),)
    per_frame = FrameGroups.of_all(file.header)
    count = integer(file.header, "NumberOfFrames")
    if count is None or count != len(per_frame) or not 1 <= count <= MOST_SLICES:
        raise InputError(
            file.place.name,
            found=f"a multi-frame image of {count} frames that describes {len(per_frame)}",
            needed=f"1 to {MOST_SLICES:,} frames, each described",
            remedy="send or copy the series again",
        )
    return tuple(_read_plane(file, frame, groups.first) for frame, groups in enumerate(per_frame, start=1))


def _read_plane(file: DicomFile, frame: int | None, group: Callable[[str], Dataset]) -> Plane:
    measures = group("PixelMeasuresSequence")
    frame_type = texts(group("CTImageFrameTypeSequence"), "FrameType") if frame is not None else ()
    return Plane(
        file=file,
        frame=frame,
        rows=integer(file.header, "Rows") or 0,
        columns=integer(file.header, "Columns") or 0,
        position_mm=numbers(group("PlanePositionSequence"), "ImagePositionPatient", 3),
        orientation=numbers(group("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        spacing_mm=numbers(measures, "PixelSpacing", 2),
        thickness_mm=number(measures, "SliceThickness"),
        image_type=tuple(one.upper() for one in frame_type or texts(file.header, "ImageType")),
        moments=_read_moments(file.header if frame is None else group("FrameContentSequence")),
        rescale=_read_rescale(group("PixelValueTransformationSequence")),
    )


def _read_moments(header: Dataset) -> tuple[str, ...]:
    keywords = (
        ("AcquisitionNumber", "TemporalPositionIdentifier", "AcquisitionTime", "AcquisitionDateTime", "ContentTime")
        if "FrameAcquisitionNumber" not in header
        else ("FrameAcquisitionNumber", "TemporalPositionIndex", "FrameAcquisitionDateTime")
    )
    return tuple(text(header, keyword) or "" for keyword in keywords)


def _read_rescale(header: Dataset) -> Rescale | None:
    slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
    if slope is None or intercept is None:
        return None
    return Rescale(slope, intercept, (text(header, "RescaleType") or "HU").upper())
