"""Read DICOM headers and their values from bytes, any of which may be damaged.

pydicom raises nearly anything on damaged bytes, at parsing and again when a value is first looked at; both are caught
here and nowhere else. Its warnings and log lines quote values, which may be a patient's: `set_up_pydicom` turns
them off.
"""

import logging
import math
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

import pydicom
from pydicom import DataElement, Dataset, charset, config
from pydicom.datadict import dictionary_description, dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
)
from pydicom.valuerep import TEXT_VR_DELIMS, VR, PersonName

PREAMBLE = 132  # bytes up to the end of 'DICM': PS3.10 7.1
_PIXELS = 0x7FE00000  # group of the pixel data; an image's header ends here
_LOGGERS = [logging.getLogger(name) for name in ("pydicom", "pydicom.pixels.decoders.base", "pydicom.pixels.utils")]
_DICOM_MODULES = r"(pydicom|highdicom|bleedmap)(\.|$)"  # where warnings of values are raised
_LONGEST_FIRST = 1024  # bytes of a file's first value, where nothing else says that the file is DICOM
UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")  # by which results refer to an image
_UID = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))*", re.ASCII)  # PS3.5 9.1
_MOST_UID = 64  # characters

_LOST = "\N{REPLACEMENT CHARACTER}"
_WRITTEN = tuple(  # by people and their systems, in their letters
    Tag(tag_for_keyword(one) or 0)
    for one in (
        "PatientName", "PatientID", "AccessionNumber", "StudyID", "ReferringPhysicianName", "StudyDescription",
        "SeriesDescription", "ProtocolName", "IssuerOfPatientID", "DeidentificationMethod",
    )
)  # fmt: skip


# What no text holds (PS3.5 6.1.3); a 0 alone is an odd byte, several are those of tags and lengths.
_BINARY = re.compile(r"[\x01-\x08\x0e-\x1f]|\x00[^\x00]+\x00[^\x00]", re.DOTALL)

Key = str | tuple[int, int]  # an attribute by keyword or by tag


class DamagedError(Exception):
    """Bytes that are no usable DICOM; the text says why, in a clause without values of the file."""


def set_up_pydicom() -> None:
    """Let pydicom and highdicom take and write values as they are, without a warning or a log line, in this process.

    Nothing is switched back, so that threads and studies never meet each other's settings. Every reader and writer of
    DICOM calls it; after the first call it only looks whether all is as it was left.
    """
    modes = (config.settings.reading_validation_mode, config.settings.writing_validation_mode)
    first = warnings.filters[0] if warnings.filters else (None,) * 5
    if modes == (config.IGNORE, config.IGNORE) and getattr(first[3], "pattern", None) == _DICOM_MODULES:
        return
    config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.IGNORE
    for logger in _LOGGERS:
        logger.disabled = True
    warnings.filterwarnings("ignore", module=_DICOM_MODULES)
    # pydicom 3.0 leaves the escapes of GB 2312 to Python, which does not know them: they would stay in Chinese names.
    vars(charset)["handled_encodings"] = tuple(one for one in charset.handled_encodings if one != "iso_ir_58")


def has_preamble(start: bytes) -> bool:
    """Whether a file's first bytes say that it is DICOM."""
    return start[PREAMBLE - 4 : PREAMBLE] == b"DICM"


def looks_like_dicom(start: bytes) -> bool:
    """Whether a file's first 140 bytes may be DICOM: the mark, or the old kind that begins with its first element."""
    return has_preamble(start) or any(_begins_with_element(start, order) for order in "<>")


def _begins_with_element(start: bytes, order: str) -> bool:
    """Whether bytes begin with a known element of group 2 or 8, and with a representation or a sensible length."""
    if len(start) < 12:
        return False
    group, element, length = struct.unpack_from(f"{order}HHI", start)
    known = group in (0x0002, 0x0008) and (element == 0 or dictionary_has_tag(Tag(group, element)))
    return known and (start[4:6].decode("latin-1") in set(VR) or 0 < length <= _LONGEST_FIRST)


@dataclass(frozen=True, eq=False)
class Parsed:
    """A file's header as it was parsed."""

    header: Dataset  # the data set
    ended: bool  # whether it ended before the bytes did; if not, the bytes may be too few
    pixels_at: int | None  # the byte at which the pixel data begin; None where that is not known, as in deflated files
    checksum: int  # of the bytes before


def parse(data: bytes, *, pixels: bool, most: int) -> Parsed:
    """Parse a DICOM file's bytes.

    Args:
        data: the file, or where `pixels` is false its beginning.
        pixels: whether to go on into the pixel data.
        most: how many bytes a deflated file may inflate to.

    Raises:
        DamagedError: not DICOM, or cannot be parsed.
    """
    set_up_pydicom()
    try:
        stream, deflated = BytesIO(data), False
        meta = _read_meta(stream) if has_preamble(data) else Dataset()
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:  # PS3.5 A.5
            deflated, inflater = True, zlib.decompressobj(-zlib.MAX_WBITS)
            stream = BytesIO(inflater.decompress(data[stream.tell() :], most))
            if pixels and not inflater.eof:
                raise DamagedError(f"its deflated content exceeds {most >> 20:,} MiB, or is cut off")
            at_pixels = None if pixels else lambda tag, vr, length: int(tag) >= _PIXELS
            body = read_dataset(stream, False, True, stop_when=at_pixels)
            header = FileDataset(stream, body, file_meta=FileMetaDataset(meta), is_implicit_VR=False)
        else:
            stream.seek(0)
            header = pydicom.dcmread(stream, stop_before_pixels=not pixels, force=True)
        _read_misstated(header)
        header.buffer = None  # it would hold all the bytes for as long as the header lives
        if not is_directory(header) and not find_sop_class(header) and text(header, "Modality") is None:
            raise DamagedError("names neither SOP Class (0008,0016) nor Modality (0008,0060)")
        at, ended = stream.tell(), stream.tell() < len(stream.getbuffer())
        known = ended and not (pixels or deflated)
        return Parsed(header, ended, at if known else None, zlib.crc32(data[:at]) if known else 0)
    except (DamagedError, MemoryError):
        raise
    except Exception as error:
        raise DamagedError(f"damaged ({type(error).__name__} while parsing)") from error


def add_pixels(parsed: Parsed, data: bytes) -> Dataset:
    """Add the pixel data of a file to its header that was parsed before.

    Args:
        parsed: with `pixels_at`.
        data: the whole file.

    Raises:
        DamagedError: the file has changed since, or its pixel data cannot be parsed.
    """
    set_up_pydicom()
    if zlib.crc32(data[: parsed.pixels_at]) != parsed.checksum:
        raise DamagedError("changed since it was first read")
    try:
        stream = BytesIO(data)
        stream.seek(parsed.pixels_at or 0)
        implicit, little = map(bool, parsed.header.original_encoding)
        whole = Dataset()
        whole.update(parsed.header)
        whole.update(read_dataset(stream, implicit, little))
        whole.file_meta = parsed.header.file_meta
        whole.set_original_encoding(implicit, little)
        return whole
    except MemoryError:
        raise
    except Exception as error:
        raise DamagedError(f"damaged ({type(error).__name__} while parsing)") from error


def _read_meta(stream: BytesIO) -> Dataset:
    """Read the file meta information, always explicit little endian: PS3.10 7.1. The stream is left behind it."""
    stream.seek(PREAMBLE)
    return read_dataset(stream, False, True, stop_when=lambda tag, vr, length: tag.group != 2)


def _read_misstated(header: Dataset) -> None:
    """Read texts that are not in the character set that the file states as Latin-1, in which no byte is lost.

    Middleware often states UTF-8 and passes on the scanner's letters as they are, in one text or in all.
    """
    for tag in _WRITTEN:
        raw = header.get_item(tag) if tag in header else None
        data = raw.value if isinstance(raw, RawDataElement) else None
        if not isinstance(data, bytes) or data.isascii() or _LOST.encode() in data:
            continue
        encodings = header._character_set
        if _LOST in charset.decode_bytes(
            data, [encodings] if isinstance(encodings, str) else encodings, TEXT_VR_DELIMS
        ):
            header[tag] = DataElement(tag, dictionary_VR(tag), data.decode("latin-1").rstrip(" \0"))


def is_directory(header: Dataset) -> bool:
    """Whether a file is a DICOMDIR, by its meta information: it has no SOP class of its own. PS3.10 8.6."""
    return text(getattr(header, "file_meta", Dataset()), "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage


def find_sop_class(header: Dataset) -> str:
    """Find what an instance is: the SOP Class UID that it states; else CT, for an image of modality CT; else ''."""
    if stated := find_stated_class(header):
        return stated
    if text(header, "Modality") != "CT" or integer(header, "Rows") is None:
        return ""
    return str(EnhancedCTImageStorage if items(header, "PerFrameFunctionalGroupsSequence") else CTImageStorage)


def find_stated_class(header: Dataset) -> str:
    """Find the SOP Class UID of the data set, else of the meta information; '' where neither is valid."""
    meta = getattr(header, "file_meta", Dataset())
    stated = (text(header, "SOPClassUID") or "", text(meta, "MediaStorageSOPClassUID") or "")
    return next((one for one in stated if not explain_uid(one)), "")


def find_uid_fault(header: Dataset, keyword: str) -> str:
    """Find what is wrong with a UID, in a clause that does not repeat it; '' for nothing."""
    return explain_uid(text(header, keyword) or "")


def explain_uid(value: str) -> str:
    """Explain in a clause why a text is no UID, without repeating it; '' where it is one. PS3.5 9.1."""
    if not value:
        return "is missing"
    if len(value) > _MOST_UID:
        return f"has {len(value)} characters, more than {_MOST_UID}"
    if not set(value) <= set("0123456789."):
        return "has characters other than digits and points"
    return "" if _UID.fullmatch(value) else "has an empty part, or one that begins with 0"


def settle(header: Dataset) -> None:
    """Convert every value now, and take out those that cannot be: later users of the header meet no surprise."""
    for tag in list(header.keys()):
        try:
            element = header[tag]
            if element.VR == "SQ":
                for item in element.value:
                    settle(item)
        except Exception:
            del header[tag]


def value_of(header: Dataset, key: Key) -> Any:
    """Return a value as pydicom gives it, by keyword or tag; None where there is none or it cannot be read."""
    try:
        found = header.get(key)
        return found.value if isinstance(found, DataElement) else found
    except Exception:
        return None


def texts(header: Dataset, keyword: Key) -> tuple[str, ...]:
    """Return a value of one or several texts, stripped; () where there is none."""
    value = value_of(header, keyword)
    if value is None or isinstance(value, bytes | Dataset):
        return ()
    try:
        several = [value] if isinstance(value, str | PersonName) or not hasattr(value, "__iter__") else list(value)
        found = tuple(str(one).strip(" \0") for one in several)
    except Exception:
        return ()
    return found if any(found) else ()


def text(header: Dataset, keyword: str) -> str | None:
    """Return a text, several joined by '\\'; None where there is none, or bytes that are none.

    A value of a damaged length holds those behind it, which may be the patient's name.
    """
    found = "\\".join(texts(header, keyword)).replace("\x1b", "")  # of a character set that is not named
    return None if not found or _BINARY.search(found) else found


def dash_date(date: str | None) -> str | None:
    """Return a date as YYYY-MM-DD; what is not DICOM's YYYYMMDD stays as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if date and len(date) == 8 and date.isdigit() else date


@dataclass(frozen=True)
class Reading:
    """The numbers of one attribute, as a header states them.

    `fault`: why, in a clause that shows the value: "'-1024 HU' where a number is needed"; '' where they can be used.
    """

    name: str  # 'Rescale Intercept (0028,1052)'
    numbers: tuple[float, ...]  # () where there are none that can be used
    fault: str = ""
    with_commas: str = ""  # the value as it stands, where decimal commas were read as points; else ''

    @property
    def is_stated(self) -> bool:
        """Whether something stands there, usable or not."""
        return self.fault not in (_MISSING, _EMPTY)

    @property
    def found(self) -> str:
        """What is wrong, with the attribute's name, as an error states it."""
        return f"no usable {self.name}: {self.fault}"

    @property
    def remedy(self) -> str:
        """What helps: a value that stands there can be corrected, one that is missing cannot be guessed."""
        if not self.is_stated:
            return "export the original axial series again"
        tag = self.name[-len("(0000,0000)") :]
        return f'correct the value with a DICOM editor, such as dcmodify -i "{tag}=VALUE", or export the series again'


_MISSING, _EMPTY = "it is missing", "it is empty"
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_WITH_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
_LARGEST = {"RescaleIntercept": 1e5, "ImagePositionPatient": 1e4}  # of others no value reaches 1,000
_SHOWN = 48  # characters of a value in a message
_WHOSE = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "OtherPatientIDs")


def read_numbers(header: Dataset, keyword: Key, count: int = 1) -> Reading:
    """Read exactly `count` finite numbers; a comma is read as a decimal point where it can be nothing else."""
    name, found = name_attribute(keyword), texts(header, keyword)
    if not found:
        return Reading(name, (), _EMPTY if keyword in header else _MISSING)
    plain = found if all(map(_NUMBER.fullmatch, found)) else _replace_commas(found, keyword)
    values = tuple(map(float, plain))
    if len(values) == count and all(map(math.isfinite, values)):
        return Reading(name, values, with_commas="" if plain is found else "\\".join(found))
    needed = "a number is needed" if count == 1 else f"{count} numbers are needed"
    return Reading(name, (), f"{_show(header, found)} where {needed}{_explain_comma(found, keyword)}")


def _replace_commas(found: tuple[str, ...], keyword: Key) -> tuple[str, ...]:
    """Replace decimal commas by points; () where the value is no number, or '1,024' may be 1024 as well."""
    with_comma = [one for one in found if "," in one]
    written_so = all(_NUMBER.fullmatch(one) or _WITH_COMMA.fullmatch(one) for one in found)
    if not with_comma or not written_so or any("." in one for one in found) or _may_be_thousands(with_comma, keyword):
        return ()
    return tuple(one.replace(",", ".") for one in found)


def _may_be_thousands(with_comma: Sequence[str], keyword: Key) -> bool:
    """Whether every comma may part thousands: by its place, and by the size that this makes of the number."""
    largest = _LARGEST.get(str(keyword), 999.0)
    return all(_THOUSANDS.fullmatch(one) and abs(float(one.replace(",", ""))) <= largest for one in with_comma)


def _explain_comma(found: tuple[str, ...], keyword: Key) -> str:
    with_comma = [one for one in found if "," in one]
    if not with_comma or not all(map(_THOUSANDS.fullmatch, with_comma)) or not _may_be_thousands(with_comma, keyword):
        return ""
    one = with_comma[0]
    return f"; it may mean {one.replace(',', '.')} or {one.replace(',', '')}"


def _show(header: Dataset, found: tuple[str, ...]) -> str:
    """Quote a value, unless it is damaged bytes or repeats what names the patient."""
    value = "\\".join(found)
    whose = [part for keyword in _WHOSE for part in re.split(r"[\\^ ]", text(header, keyword) or "") if len(part) > 3]
    if not (value.isascii() and value.isprintable()) or "^" in value or any(one in value for one in whose):
        return f"{len(value)} characters of something else"
    return f"'{value[:_SHOWN]}{'…' if len(value) > _SHOWN else ''}'"


@lru_cache
def name_attribute(keyword: Key) -> str:
    """'Image Position (0020,0032)', as messages name an attribute."""
    tag = Tag(keyword)
    name = dictionary_description(tag).removesuffix(" (Patient)") if dictionary_has_tag(tag) else "attribute"
    return f"{name} ({tag.group:04X},{tag.element:04X})"


def numbers(header: Dataset, keyword: Key, count: int) -> tuple[float, ...]:
    """Return exactly `count` finite numbers, or ()."""
    return read_numbers(header, keyword, count).numbers


def number(header: Dataset, keyword: Key) -> float | None:
    """Return one finite number, or None."""
    return next(iter(numbers(header, keyword, 1)), None)


def integer(header: Dataset, keyword: Key) -> int | None:
    """Return one whole number, or None."""
    found = number(header, keyword)
    return int(found) if found is not None and found == int(found) else None


def items(header: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """Return the items of a sequence; () where there is none."""
    value = value_of(header, keyword)
    try:
        return tuple(value) if isinstance(value, pydicom.Sequence) else ()
    except Exception:
        return ()


def first_item(header: Dataset, keyword: str) -> Dataset:
    """Return the first item of a sequence; an empty one where there is none."""
    return next(iter(items(header, keyword)), Dataset())
