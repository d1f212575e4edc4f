"""Write a volume as a DICOM CT series with a scout: a study to test reading with.

Modules of the CT Image IOD: DICOM PS3.3 A.3; pixels in any transfer syntax that a scanner or a PACS may send: PS3.5
section 10, annex A. Everything is made up; the same options give the same bytes. `phantom.dicom_enhanced` makes the
same one multi-frame instance.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import gdcm  # type: ignore[import-untyped]
import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from pydicom.valuerep import format_number_as_ds

from bleedmap.arrays import AnyArray, FloatArray
from bleedmap.errors import SettingsError
from bleedmap.geometry import PlaneTurn, StoredPlanes
from bleedmap.io.files import folder_written_whole
from bleedmap.volume import Volume

TRANSFER_SYNTAXES = MappingProxyType({
    "explicit": ExplicitVRLittleEndian,
    "implicit": ImplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg": JPEGLosslessSV1,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
})  # fmt: skip
_PLUGINS = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}
PATIENT_NAME = "Phantom^Synthetic"
_DATE, _TIME = "20240102", "030405"
_AIR_HU = -1000
_SQUARE_WITHIN = 1e-4  # cosine between rows and columns up to which DICOM's plane orientation describes them


@dataclass(frozen=True)
class CtOptions:
    """How a phantom's series is written; the same options and volume give the same instances.

    `slope`, `intercept`: HU = slope · stored value + intercept.
    `padding`: the stored value outside a circular field of view, as (0028,0120); None: no circle, no padding.
    `monochrome1`: mark the images as shown inverted. Stored values and HU stay: PS3.3 C.7.6.3.1.2 is about display.
    """

    seed: int = 0  # of every UID. Series of one seed are one study on one frame of reference.
    series_number: int = 2  # also sets the series apart; a study's series each need their own
    series_description: str = "Head 5.0 H31s"  # (0008,103E)
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")  # (0008,0008)
    transfer_syntax: str = "explicit"  # a name of `TRANSFER_SYNTAXES`
    signed: bool = False  # whether stored values may be negative (PixelRepresentation 1)
    bits_stored: int = 12  # 12 or 16; what does not fit saturates, as in a scanner
    slope: float = 1.0
    intercept: float = -1024.0
    padding: int | None = None
    monochrome1: bool = False
    kernel: str = "H31s"  # (0018,1210)
    contrast: str | None = None  # agent, (0018,0010); None: no contrast module
    kvp: float = 120.0  # (0018,0060)
    patient_id: str = "PHANTOM"  # (0010,0020)
    age: str = "060Y"  # (0010,1010), for example '060Y'
    body_part: str = "HEAD"  # (0018,0015)
    reverse_numbers: bool = False  # instance numbers run head to feet, against the order of the slices

    def __post_init__(self) -> None:
        if self.bits_stored not in (12, 16):
            raise _refusal("bits stored", f"{self.bits_stored}", "12 or 16")
        if not np.isfinite([self.slope, self.intercept]).all() or self.slope == 0:
            raise _refusal("rescale", f"slope {self.slope}, intercept {self.intercept}", "finite numbers, slope not 0")
        low, high = self.stored_range
        if self.padding is not None and not low <= self.padding <= high:
            raise _refusal("padding", f"{self.padding}", f"a value that can be stored, {low} to {high}")

    @property
    def stored_range(self) -> tuple[int, int]:
        """Smallest and largest stored value."""
        half = 1 << (self.bits_stored - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    def uid(self, *parts: object) -> UID:
        """Make a UID that depends on the seed and on what it is for."""
        return generate_uid(entropy_srcs=["bleedmap phantom", str(self.seed), *map(str, parts)])


PLAIN = CtOptions()
AS_VIEWED = PlaneTurn()


def _refusal(subject: str, found: str, needed: str) -> SettingsError:
    return SettingsError(f"phantom DICOM, {subject}", found=found, needed=needed, remedy="leave the option out")


def format_decimal(number: float) -> str:
    """Format a number as a DICOM decimal string, at most 16 characters."""
    return str(format_number_as_ds(float(number)))


def new_instance(options: CtOptions, sop_class: UID, instance: UID) -> Dataset:
    """Make all but the image: patient, study, series, frame of reference, equipment, SOP common."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = sop_class
    header.file_meta.MediaStorageSOPInstanceUID = instance
    header.SOPClassUID, header.SOPInstanceUID = sop_class, instance
    header.SpecificCharacterSet = "ISO_IR 192"
    header.PatientName, header.PatientID = PATIENT_NAME, options.patient_id
    header.PatientBirthDate, header.PatientSex, header.PatientAge = "", "O", options.age
    header.StudyInstanceUID, header.StudyID = options.uid("study"), "1"
    header.StudyDate, header.StudyTime = _DATE, _TIME
    header.StudyDescription = "Phantom head CT"
    header.ReferringPhysicianName, header.AccessionNumber = "", ""
    header.Modality, header.BodyPartExamined = "CT", options.body_part
    header.SeriesInstanceUID = options.uid("series", options.series_number)
    header.SeriesNumber, header.SeriesDescription = options.series_number, options.series_description
    header.SeriesDate, header.SeriesTime = _DATE, _TIME
    header.ContentDate, header.ContentTime = _DATE, _TIME
    header.PatientPosition = "HFS"
    header.FrameOfReferenceUID, header.PositionReferenceIndicator = options.uid("frame of reference"), ""
    header.Manufacturer, header.ManufacturerModelName = "bleedmap", "phantom"
    header.DeviceSerialNumber, header.SoftwareVersions = "0", "phantom"
    return header


def add_pixels(header: Dataset, stored: AnyArray, options: CtOptions) -> None:
    """Add the image pixel module and native little-endian pixels, (…, row, column) as from `stored_values`."""
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME1" if options.monochrome1 else "MONOCHROME2"
    header.Rows, header.Columns = stored.shape[-2:]
    header.BitsAllocated, header.BitsStored, header.HighBit = 16, options.bits_stored, options.bits_stored - 1
    header.PixelRepresentation = int(options.signed)
    if options.padding is not None:
        header.add_new("PixelPaddingValue", "SS" if options.signed else "US", options.padding)
    header.LossyImageCompression = "00"
    header.PixelData = stored.astype("<i2" if options.signed else "<u2").tobytes()
    header["PixelData"].VR = "OW"


def stored_values(hu: FloatArray, options: CtOptions) -> AnyArray:
    """Turn (…, row, column) HU into int16 or uint16 stored values; saturated, with padding if asked for."""
    low, high = options.stored_range
    values = np.clip(np.rint((hu - options.intercept) / options.slope), low, high)
    if options.padding is not None:
        rows, columns = (np.arange(count) - (count - 1) / 2 for count in hu.shape[-2:])
        outside = np.hypot(rows[:, None], columns) > min(hu.shape[-2:]) / 2
        values = np.where(outside, options.padding, values)
    return np.asarray(values, np.int16 if options.signed else np.uint16)


def locate_planes(volume: Volume, turn: PlaneTurn) -> StoredPlanes:
    """Locate the stored planes of a volume in the standard view, to which `turn` brings them.

    Raises:
        SettingsError: rows and columns are not at right angles, which DICOM cannot say.
    """
    planes = turn.locate_stored(volume.grid, volume.hu.shape[1:])
    skew = abs(float(planes.orientation[:3] @ planes.orientation[3:]))
    if skew > _SQUARE_WITHIN:
        raise _refusal("planes", f"rows and columns {np.degrees(np.arccos(skew)):.2f}° apart", "a right angle")
    return planes


def encode(instance: Dataset, name: str) -> None:
    """Bring an instance with native little-endian pixels to a transfer syntax without loss, in place.

    Raises:
        SettingsError: no such transfer syntax.
    """
    if name not in TRANSFER_SYNTAXES:
        raise SettingsError(
            f"transfer syntax {name}", found="not known", needed=f"one of {', '.join(TRANSFER_SYNTAXES)}",
            remedy="for example explicit",
        )  # fmt: skip
    syntax = TRANSFER_SYNTAXES[name]
    if syntax in _PLUGINS:
        instance.compress(syntax, encoding_plugin=_PLUGINS[syntax], generate_instance_uid=False)
    elif syntax == JPEGLosslessSV1:
        _encode_by_gdcm(instance, syntax)
    elif syntax == ExplicitVRBigEndian:
        instance.PixelData = np.frombuffer(instance.PixelData, "<u2").astype(">u2").tobytes()
    instance.file_meta.TransferSyntaxUID = syntax


def _encode_by_gdcm(instance: Dataset, syntax: UID) -> None:
    """Compress by gdcm, which works on files; only the pixels are taken back from it."""
    with tempfile.TemporaryDirectory() as folder:
        native, encoded = str(Path(folder, "native.dcm")), str(Path(folder, "encoded.dcm"))
        instance.save_as(native, enforce_file_format=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(native)
        reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        if not change.Change():
            raise RuntimeError(f"gdcm cannot encode {syntax.name}")
        writer = gdcm.ImageWriter()
        writer.SetFileName(encoded)
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.Write()
        instance.PixelData = pydicom.dcmread(encoded).PixelData
    instance["PixelData"].is_undefined_length = True


def ct_instances(volume: Volume, *, turn: PlaneTurn = AS_VIEWED, options: CtOptions = PLAIN) -> list[Dataset]:
    """Make CT Image Storage instances, one a slice, in the order of the slices (PS3.3 A.3).

    Args:
        volume: in the standard view, on any grid with rows at right angles to columns.
        turn: from the stored rows and columns to that view; here it is undone.

    Raises:
        SettingsError: rows and columns that are not at right angles, or an unknown transfer syntax.
    """
    planes = locate_planes(volume, turn)
    stored = turn.undo(stored_values(volume.hu, options))
    count = len(stored)
    instances = []
    for index, plane in enumerate(stored):
        one = new_instance(options, CTImageStorage, options.uid("instance", options.series_number, index))
        one.InstanceNumber = count - index if options.reverse_numbers else index + 1
        _add_ct_image(one, options)
        _add_place(one, planes, index, volume)
        add_pixels(one, np.ascontiguousarray(plane), options)
        encode(one, options.transfer_syntax)
        instances.append(one)
    return instances


def _add_ct_image(header: Dataset, options: CtOptions) -> None:
    """Add the CT image, VOI LUT and contrast modules: PS3.3 C.8.2.1, C.11.2, C.7.6.4."""
    header.ImageType = list(options.image_type)
    header.AcquisitionNumber, header.AcquisitionDate, header.AcquisitionTime = 1, header.StudyDate, header.StudyTime
    header.ScanOptions, header.KVP = "AXIAL MODE", format_decimal(options.kvp)
    header.ConvolutionKernel = options.kernel
    header.ExposureTime, header.XRayTubeCurrent, header.Exposure = 1000, 250, 250
    header.RescaleIntercept, header.RescaleSlope = format_decimal(options.intercept), format_decimal(options.slope)
    header.RescaleType = "HU"
    header.WindowCenter, header.WindowWidth = "40", "80"
    if options.contrast is not None:
        header.ContrastBolusAgent = options.contrast


def _add_place(header: Dataset, planes: StoredPlanes, index: int, volume: Volume) -> None:
    """Add the image plane module, and the tilt as a scanner states it: PS3.3 C.7.6.2."""
    header.ImagePositionPatient = [format_decimal(one) for one in planes.positions_mm[index]]
    header.ImageOrientationPatient = [format_decimal(one) for one in planes.orientation]
    header.PixelSpacing = [format_decimal(one) for one in planes.pixel_mm]
    header.SliceThickness = format_decimal(volume.grid.thickness_mm)
    header.SliceLocation = format_decimal(planes.positions_mm[index, 2])
    header.GantryDetectorTilt = format_decimal(round(volume.grid.gantry_tilt_deg, 3) + 0.0)


def scout(volume: Volume, *, options: CtOptions = PLAIN) -> Dataset:
    """Make a localizer from the front, one square image, head up: the mean along the rays through an axial volume.

    It is a series of its own, number 1 of the same study as `ct_instances` of the same options.

    Args:
        volume: in the standard view, axial or tilted by a few degrees.
        options: as for the series that it belongs to; number, description, image type and padding are the scout's.
    """
    settings = replace(
        options, series_number=1, series_description="Scout", image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"),
        padding=None,
    )  # fmt: skip
    grid, (_, rows, columns) = volume.grid, volume.hu.shape
    step_mm = grid.spacing_mm[2]
    from_middle_mm = (np.arange(columns) - (columns - 1) / 2) * step_mm
    heights_mm = grid.heights_mm - grid.heights_mm[-1] / 2
    rays = volume.hu.mean(axis=1)
    seen = [np.interp(-from_middle_mm, heights_mm, ray, left=_AIR_HU, right=_AIR_HU) for ray in rays.T]
    one = new_instance(settings, CTImageStorage, settings.uid("instance", settings.series_number, 0))
    one.InstanceNumber = 1
    _add_ct_image(one, settings)
    one.RescaleType = "US"  # unspecified: a localizer's values are no HU
    first = grid.to_mm(np.array([(len(grid) - 1) / 2, (rows - 1) / 2, 0.0]))
    first[2] -= from_middle_mm[0]
    one.ImagePositionPatient = [format_decimal(value) for value in first]
    one.ImageOrientationPatient = ["1", "0", "0", "0", "0", "-1"]
    one.PixelSpacing = [format_decimal(step_mm)] * 2
    one.SliceThickness = ""
    add_pixels(one, stored_values(np.stack(seen, axis=1), settings), settings)
    encode(one, settings.transfer_syntax)
    return one


def write_series(
    folder: Path, instances: Sequence[Dataset], *, names: Literal["number", "uid"] = "number", overwrite: bool = False
) -> list[Path]:
    """Write instances as DICOM files into a new folder, whole or not at all; return their paths.

    Args:
        folder: new or empty.
        names: 'number': 0001.dcm, in the order given; 'uid': the instance's UID, without a suffix, as a PACS does.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
    """
    with folder_written_whole(folder, overwrite=overwrite) as temporary:
        files = [
            f"{number:04d}.dcm" if names == "number" else str(one.SOPInstanceUID)
            for number, one in enumerate(instances, start=1)
        ]
        for name, one in zip(files, instances, strict=True):
            one.save_as(temporary / name, enforce_file_format=True)
    return [folder / name for name in files]
