"""Read image planes as classic and multi-frame CT describe them: all that orders, sorts and places slices.

Image plane: DICOM PS3.3 C.7.6.2; functional groups of multi-frame images: C.7.6.16.2.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pydicom import Dataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from bleedmap.arrays import DoubleArray
from bleedmap.errors import InputError
from bleedmap.io.dicom.files import DicomFile
from bleedmap.io.dicom.header import Reading, find_sop_class, first_item, items, read_numbers, text, texts

CLASSIC_CT = str(CTImageStorage)
MULTI_FRAME_CT = (str(EnhancedCTImageStorage), str(LegacyConvertedEnhancedCTImageStorage))
CT_IMAGES = (CLASSIC_CT, *MULTI_FRAME_CT)
MOST_SLICES = 2000
_NUMBERS = {  # keyword -> the functional group where a multi-frame image has it, and how many numbers it takes
    "ImagePositionPatient": ("PlanePositionSequence", 3),
    "ImageOrientationPatient": ("PlaneOrientationSequence", 6),
    "PixelSpacing": ("PixelMeasuresSequence", 2),
    "SliceThickness": ("PixelMeasuresSequence", 1),
    "RescaleSlope": ("PixelValueTransformationSequence", 1),
    "RescaleIntercept": ("PixelValueTransformationSequence", 1),
    "KVP": ("CTXRayDetailsSequence", 1),
    "ReconstructionDiameter": ("CTReconstructionSequence", 1),
    "GantryDetectorTilt": ("CTAcquisitionDetailsSequence", 1),
    "Rows": ("", 1),
    "Columns": ("", 1),
}
_MOMENTS = (
    "AcquisitionNumber", "TemporalPositionIdentifier", "AcquisitionTime", "AcquisitionDateTime", "TriggerTime",
    "SeriesTime", "ContentTime",
)  # fmt: skip
_ABOVE_ZERO = ("SliceThickness", "KVP")
UNSPECIFIED = "US"  # of Rescale Type, PS3.3 C.11.1.1.2: GDCM, and so ITK, writes it into every CT that states none
SCOUT = ("LOCALIZER", "SCOUT")  # of ImageType
_SPECIAL = (  # of ImageType: values that are no plain HU of the scan, or views that are no slices
    "MIP", "MINIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "VOLUME RENDERING", "VRT", "3D", "CSA 3D EDITOR",
    "SCREEN SAVE", "DOSE", "DOSE_INFO", "PERFUSION", "CBF", "CBV", "MTT", "TTP", "TMAX", "SUBTRACTION",
    "IODINE", "VNC", "EFF_ATOMIC_NUM", "ELECTRON_DENSITY", "MATERIAL_SPECIFIC", "MAT_SPECIFIC", "MAT_FRACTIONAL",
    "MAT_REMOVED", "MAT_MODIFIED", "MAT_VALUE_BASED",
    "MAXIMUM", "MINIMUM", "STD_DEVIATION", "RCBF", "RCBV",  # of multi-frame images, value 4: PS3.3 C.8.16.1.4
)  # fmt: skip
_PROJECTIONS = frozenset(("MIP", "MINIP", "VRT", "SSD"))  # in values of several words: Siemens writes 'CT_SOM5 MIP'


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

    def converted(self) -> tuple[Dataset, Dataset]:
        """Return what a legacy converted image took over into no group, as kernel and kV: PS3.3 A.70."""
        return (
            first_item(self.own, "UnassignedPerFrameConvertedAttributesSequence"),
            first_item(self.shared, "UnassignedSharedConvertedAttributesSequence"),
        )


@dataclass(frozen=True)
class Rescale:
    """HU = slope · stored value + intercept, where `unit` is HU, or left open. PS3.3 C.11.1."""

    slope: float
    intercept: float
    unit: str


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice as stored. Tuples are () where the file does not say.

    `rows`, `columns`: of the stored image; 0 where the file gives none.
    """

    file: DicomFile  # the instance that holds it
    frame: int | None  # its number from 1 in a multi-frame instance; None in a classic one
    readings: Mapping[str, Reading]  # its numbers by keyword, those of `_NUMBERS`, usable or not
    rows: int
    columns: int
    position_mm: tuple[float, ...]  # (0020,0032) centre of the first pixel, LPS
    orientation: tuple[float, ...]  # (0020,0037) six cosines: along a row, then down a column
    spacing_mm: tuple[float, ...]  # (0028,0030) between rows, between columns
    thickness_mm: float | None  # (0018,0050)
    kvp: float | None  # (0018,0060) in kV
    stated_tilt_deg: float | None  # (0018,1120), the gantry's tilt as the file states it
    image_type: tuple[str, ...]  # (0008,0008) or (0008,9007)
    kernel: str  # (0018,1210); '' where the file does not say
    moments: tuple[str, ...]  # acquisition number and times, whatever tells one pass over the head from another
    rescale: Rescale | None  # None where the file gives none

    @property
    def name(self) -> str:
        """File and frame, as error messages name it."""
        frame = f", frame {self.frame}" if self.frame is not None else ""
        return f"{self.file.place.name}{frame}"

    @property
    def special(self) -> tuple[str, ...]:
        """The values of the image type by which it is no plain slice in HU: a scout, a projection, a map."""
        return tuple(
            one
            for one in self.image_type
            if one in SCOUT or one in _SPECIAL or not _PROJECTIONS.isdisjoint(one.split())
        )

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


def read_planes(file: DicomFile) -> tuple[Plane, ...]:
    """Read the planes of a CT image; a classic one has one.

    Raises:
        InputError: more frames than a head has slices, or than the file describes.
    """
    if find_sop_class(file.header) not in MULTI_FRAME_CT:
        return (_read_plane(file, None, lambda group: file.header, (file.header,)),)
    per_frame = FrameGroups.of_all(file.header)
    frames = read_numbers(file.header, "NumberOfFrames")
    if not frames.numbers:
        raise InputError(file.place.name, found=frames.found, needed="a number of frames", remedy=frames.remedy)
    count = frames.numbers[0]
    if count != len(per_frame) or not 1 <= count <= MOST_SLICES:
        raise InputError(
            file.place.name,
            found=f"a multi-frame image of {count:g} frames that describes {len(per_frame)}",
            needed=f"1 to {MOST_SLICES:,} frames, each described",
            remedy="send or copy the series again",
        )
    return tuple(
        _read_plane(file, frame, groups.first, (*groups.converted(), file.header))
        for frame, groups in enumerate(per_frame, start=1)
    )


def _read_plane(
    file: DicomFile, frame: int | None, group: Callable[[str], Dataset], others: Sequence[Dataset]
) -> Plane:
    readings = {
        keyword: _read_reading(group(place), others, keyword, count) for keyword, (place, count) in _NUMBERS.items()
    }
    numbers = {keyword: reading.numbers for keyword, reading in readings.items()}
    one = {keyword: found[0] if found else None for keyword, found in numbers.items()}
    frame_type = texts(group("CTImageFrameTypeSequence"), "FrameType") if frame is not None else ()
    reconstruction = group("CTReconstructionSequence")
    return Plane(
        file=file,
        frame=frame,
        readings=readings,
        rows=int(one["Rows"] or 0),
        columns=int(one["Columns"] or 0),
        position_mm=numbers["ImagePositionPatient"],
        orientation=numbers["ImageOrientationPatient"],
        spacing_mm=numbers["PixelSpacing"],
        thickness_mm=one["SliceThickness"],
        kvp=one["KVP"],
        stated_tilt_deg=one["GantryDetectorTilt"],
        image_type=tuple(value.upper() for value in frame_type or texts(file.header, "ImageType")),
        kernel=next(filter(None, (text(one, "ConvolutionKernel") for one in (reconstruction, *others))), ""),
        moments=_read_moments(file.header if frame is None else group("FrameContentSequence")),
        rescale=_read_rescale(group("PixelValueTransformationSequence"), readings),
    )


def _read_moments(header: Dataset) -> tuple[str, ...]:
    keywords = (
        _MOMENTS
        if "FrameAcquisitionNumber" not in header
        else ("FrameAcquisitionNumber", "TemporalPositionIndex", "FrameAcquisitionDateTime")
    )
    return tuple(text(header, keyword) or "" for keyword in keywords)


def _read_reading(group: Dataset, others: Sequence[Dataset], keyword: str, count: int) -> Reading:
    """Read numbers from a frame's group, else from the first of `others` that has them; lengths, kV above 0.

    A place belongs to the frame alone.
    """
    if keyword != "ImagePositionPatient" and keyword not in group:
        group = next((one for one in others if keyword in one), others[-1])
    found = read_numbers(group, keyword, count)
    if keyword in _ABOVE_ZERO and found.numbers and found.numbers[0] <= 0:
        return Reading(found.name, (), f"'{found.numbers[0]:g}' where a number above 0 is needed")
    return found


def _read_rescale(header: Dataset, readings: Mapping[str, Reading]) -> Rescale | None:
    slope, intercept = readings["RescaleSlope"].numbers, readings["RescaleIntercept"].numbers
    if not slope or not intercept:
        return None
    unit = (text(header, "RescaleType") or "HU").upper()
    return Rescale(slope[0], intercept[0], "HU" if unit.startswith("HOUNSFIELD") else unit)  # some write it out


def describe_readings(planes: Sequence[Plane]) -> list[str]:
    """Note numbers that were written with commas, and those that were left unused because of what stands there."""
    notes = []
    for keyword in _NUMBERS:
        readings = [plane.readings[keyword] for plane in planes]
        commas = [one for one in readings if one.with_commas]
        if commas:
            values = "\\".join(f"{one:g}" for one in commas[0].numbers)
            notes.append(
                f"{commas[0].name} has decimal commas in {len(commas)} of {len(planes)} slices, such as "
                f"'{commas[0].with_commas}', which was read as {values}."
            )
        unused = [one for one in readings if one.fault and one.is_stated]
        if unused:
            notes.append(f"{unused[0].name} was not used in {len(unused)} of {len(planes)} slices: {unused[0].fault}.")
    return notes
