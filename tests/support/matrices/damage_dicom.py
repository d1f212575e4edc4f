"""Damaged DICOM files of one small study, made from a seed: bytes, elements, codings, pixels, compressed pictures."""

import random
import struct
from collections.abc import Callable
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.tag import Tag

from bleedmap.phantom.dicom import TRANSFER_SYNTAXES, CtOptions, ct_instances
from bleedmap.phantom.dicom_enhanced import enhanced_ct
from bleedmap.phantom.head import Bleed, PhantomSettings
from bleedmap.phantom.scan import PhantomScan, ScanGeometry, scan

NAME, NUMBER, BIRTH = "Secretive^Person", "ID-4711-X", "19510417"
SECRETS = ("Secretive", "4711-X", BIRTH)
COMPRESSED = ("rle", "jpeg", "jpeg-ls", "jpeg-2000")
HEAD = PhantomSettings(seed=4, bleeds=(Bleed("IPH", 30.0),))
GEOMETRY = ScanGeometry(slices=14, spacing_mm=10.0, shape=(96, 96), pixel_mm=(2.4, 2.4))

Make = Callable[[random.Random, Path], Path]


@lru_cache
def base_scan() -> PhantomScan:
    """A whole head in 14 slices."""
    return scan(HEAD, GEOMETRY)


@lru_cache(maxsize=16)
def base_files(syntax: str = "explicit", form: str = "classic") -> tuple[bytes, ...]:
    """The undamaged study's files, a patient's name, number and birth date in each."""
    options, volume = CtOptions(transfer_syntax=syntax), base_scan().volume
    made = [enhanced_ct(volume, options=options)] if form == "enhanced" else ct_instances(volume, options=options)
    return tuple(bytes_of(with_secrets(one)) for one in made)


def with_secrets(one: Dataset) -> Dataset:
    one.PatientName, one.PatientID, one.PatientBirthDate = NAME, NUMBER, BIRTH
    return one


def bytes_of(one: Dataset) -> bytes:
    stream = BytesIO()
    one.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def write_base(folder: Path, files: tuple[bytes, ...] | list[bytes]) -> Path:
    """The files of a study into `folder`/study."""
    study = folder / "study"
    study.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(files):
        (study / f"I{number:03d}").write_bytes(content)
    return study


# --- bytes --------------------------------------------------------------------------------------------------------


def hurt(data: bytes, draw: random.Random, kind: str) -> bytes:
    """Bytes flipped, cut off, or put in."""
    changed = bytearray(data)
    if kind == "flip":
        reach = draw.choice((len(changed), 2000))  # all of the file, or its header alone
        for _ in range(draw.choice((1, 4, 40, 400))):
            changed[draw.randrange(min(reach, len(changed)))] = draw.randrange(256)
    elif kind == "cut":
        del changed[draw.randrange(len(changed)) :]
    else:
        at = draw.randrange(min(draw.choice((len(changed), 2000)), len(changed)))
        changed[at:at] = draw.randbytes(draw.choice((1, 2, 7, 64, 5000)))
    return bytes(changed)


def changed_bytes(kind: str, everywhere: bool) -> Make:
    def make(draw: random.Random, folder: Path) -> Path:
        form = draw.choice(("classic", "classic", "enhanced"))
        files = list(base_files(draw.choice(tuple(TRANSFER_SYNTAXES)), form))
        chosen = range(len(files)) if everywhere else [draw.randrange(len(files))]
        for index in chosen:
            files[index] = hurt(files[index], draw, kind)
        return write_base(folder, files)

    return make


# --- elements -----------------------------------------------------------------------------------------------------

IMPORTANT = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "SamplesPerPixel", "PhotometricInterpretation", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "FrameOfReferenceUID", "InstanceNumber", "SeriesNumber", "PatientID",
    "PixelData", "ImageType", "SpecificCharacterSet", "PatientName", "StudyDate",
)  # fmt: skip
ABSURD: tuple[tuple[str, str, bytes], ...] = (
    ("Rows", "US", b"\xff\xff"), ("Columns", "US", b"\xff\xff"), ("Rows", "US", b"\0\0"), ("Rows", "UL", b"\xff" * 4),
    ("BitsAllocated", "US", b"\x40\0"), ("BitsStored", "US", b"\xff\xff"), ("HighBit", "US", b"\0\0"),
    ("PixelRepresentation", "US", b"\x07\0"), ("SamplesPerPixel", "US", b"\xff\xff"),
    ("PhotometricInterpretation", "CS", b"RGB "), ("PhotometricInterpretation", "CS", b"PALETTE COLOR "),
    ("ImagePositionPatient", "DS", b"nan\\nan\\nan "), ("ImagePositionPatient", "DS", b"inf\\0\\0 "),
    ("ImagePositionPatient", "DS", b"1e308\\-1e308\\1e308 "), ("ImagePositionPatient", "DS", b"1\\2 "),
    ("ImagePositionPatient", "FD", struct.pack("<3d", np.nan, np.inf, 1e300)), ("ImagePositionPatient", "DS", b""),
    ("ImageOrientationPatient", "DS", b"0\\0\\0\\0\\0\\0 "), ("ImageOrientationPatient", "DS", b"1\\0\\0\\1\\0\\0 "),
    ("ImageOrientationPatient", "DS", b"1e9\\0\\0\\0\\1\\0 "), ("ImageOrientationPatient", "DS", b"nan\\0\\0\\0\\1\\0"),
    ("PixelSpacing", "DS", b"-1\\-1 "), ("PixelSpacing", "DS", b"0\\0 "), ("PixelSpacing", "DS", b"1e-300\\1 "),
    ("PixelSpacing", "DS", b"inf\\inf "), ("PixelSpacing", "DS", b"0,9\\0,9 "), ("PixelSpacing", "DS", b"90\\90 "),
    ("SliceThickness", "DS", b"-5"), ("SliceThickness", "DS", b"1e99"), ("SliceThickness", "DS", b"nan "),
    ("RescaleSlope", "DS", b"0 "), ("RescaleSlope", "DS", b"nan "), ("RescaleSlope", "DS", b"-1"),
    ("RescaleSlope", "DS", b"1e30"), ("RescaleIntercept", "DS", b"inf "), ("RescaleIntercept", "DS", b"-1e38 "),
    ("RescaleIntercept", "DS", b"0 "), ("RescaleType", "LO", b"OD"), ("InstanceNumber", "IS", b"99999999999999999999"),
    ("InstanceNumber", "IS", b"one "), ("SeriesNumber", "IS", b"-2147483649 "), ("PatientAge", "AS", b"999Y"),
    ("PatientAge", "AS", b"young "), ("KVP", "DS", b"1e400 "), ("GantryDetectorTilt", "DS", b"-999999"),
    ("SeriesDescription", "LO", b"x" * 60_000), ("SeriesDescription", "LO", b"\x1b[31m\x07\0\xff\xfe"),
    ("StudyInstanceUID", "UI", b"../../../etc/passwd "), ("SeriesInstanceUID", "UI", b"1." * 40),
    ("SOPInstanceUID", "UI", b"not a uid "), ("SpecificCharacterSet", "CS", b"ISO_IR 9999 "),
    ("SpecificCharacterSet", "CS", b"\\\\ISO 2022 IR 87\\ISO_IR 999 "),
    ("PatientName", "PN", b"Secretive^" + b"\xff" * 400),
    ("NumberOfFrames", "IS", b"1000000000"), ("ImageType", "CS", b"DERIVED\\SECONDARY\\LOCALIZER "),
    ("StudyDate", "DA", b"99999999"), ("StudyTime", "TM", b"256199"), ("Modality", "CS", b"MR"),
    ("FrameOfReferenceUID", "UI", b""), ("SOPClassUID", "UI", b"1.2.840.10008.5.1.4.1.1.4\0"),
)  # fmt: skip
_LONG = ("OB", "OW", "SQ", "UN", "UC", "UT", "UR", "OF", "OD", "OL")


def _element(keyword: str, vr: str, value: bytes) -> bytes:
    tag = Tag(keyword)
    value += b" " * (len(value) % 2)
    if vr in _LONG:
        return struct.pack("<HH2sHI", tag.group, tag.element, vr.encode(), 0, len(value)) + value
    return struct.pack("<HH2sH", tag.group, tag.element, vr.encode(), len(value)) + value


def find_element(data: bytes, keyword: str, vr: str) -> tuple[int, int]:
    """Where an element of short form begins and ends in an explicit little-endian file; if none, where one fits."""
    tag = Tag(keyword)
    mark = struct.pack("<HH", tag.group, tag.element)
    for other in {vr, "DS", "US", "UI", "CS", "IS", "LO", "PN", "FD", "UL"}:
        at = data.find(mark + other.encode(), 132)
        if at >= 0:
            return at, at + 8 + struct.unpack_from("<H", data, at + 6)[0]
    at = data.find(struct.pack("<HH", 0x0028, 0x0002), 132)
    return at, at


def absurd_tag(draw: random.Random, folder: Path) -> Path:
    form = draw.choice(("classic", "classic", "classic", "enhanced"))
    files = list(base_files("explicit", form))
    keyword, vr, value = draw.choice(ABSURD)
    everywhere = draw.random() < 0.5
    for index in range(len(files)) if everywhere else [draw.randrange(len(files))]:
        start, end = find_element(files[index], keyword, vr)
        files[index] = files[index][:start] + _element(keyword, vr, value) + files[index][end:]
    return write_base(folder, files)


def missing_tag(draw: random.Random, folder: Path) -> Path:
    files = list(base_files("explicit", "classic"))
    keyword = draw.choice(IMPORTANT)
    everywhere = draw.random() < 0.6
    for index in range(len(files)) if everywhere else [draw.randrange(len(files))]:
        one = pydicom.dcmread(BytesIO(files[index]))
        if keyword in one:
            del one[keyword]
        stream = BytesIO()
        one.save_as(stream, enforce_file_format=keyword not in ("SOPClassUID", "SOPInstanceUID"))
        files[index] = stream.getvalue()
    return write_base(folder, files)


def other_syntax(draw: random.Random, folder: Path) -> Path:
    """What the meta information says of the coding is not true."""
    known = [str(one) for one in TRANSFER_SYNTAXES.values()]
    told = draw.choice([*known, "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.100", "1.2.3", "", "\xff" * 8])
    files = list(base_files(draw.choice(tuple(TRANSFER_SYNTAXES))))
    for index, content in enumerate(files):
        start, end = find_element(content[:600], "TransferSyntaxUID", "UI")
        value = told.encode("latin-1") + b"\0" * (len(told) % 2)
        files[index] = content[:start] + _element("TransferSyntaxUID", "UI", value) + content[end:]
    return write_base(folder, files)


def pixel_length(draw: random.Random, folder: Path) -> Path:
    files = list(base_files("explicit"))
    index = draw.randrange(len(files))
    at = files[index].rindex(b"\xe0\x7f\x10\x00OW")
    pixels = files[index][at + 12 :]
    new = draw.choice((pixels[:-2], pixels[: len(pixels) // 2], b"", pixels + b"\0\0", pixels * 3, pixels[:1]))
    told = draw.choice((len(new), len(pixels), 0xFFFFFFFF, 0xFFFFFFFE, 0))
    files[index] = files[index][: at + 8] + struct.pack("<I", told) + new
    return write_base(folder, files)


def stream(draw: random.Random, folder: Path) -> Path:
    """A compressed picture is damaged, in a header that is whole."""
    form = draw.choice(("classic", "enhanced"))
    files = list(base_files(draw.choice(COMPRESSED), form))
    index = draw.randrange(len(files))
    one = pydicom.dcmread(BytesIO(files[index]))
    frames = list(generate_frames(one.PixelData, number_of_frames=int(one.get("NumberOfFrames", 1))))
    which = draw.randrange(len(frames))
    frames[which] = hurt(frames[which], draw, draw.choice(("flip", "cut", "insert"))) or b"\0\0"
    one.PixelData = encapsulate(frames)
    files[index] = bytes_of(one)
    return write_base(folder, files)
