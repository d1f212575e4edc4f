"""Convert stored pixel values to HU: sign, unused bits, padding, rescale. DICOM PS3.3 C.7.6.3, C.7.5.1.1.2, C.11.1.

MONOCHROME1 changes nothing here: it says that a display shall show low values bright (C.7.6.3.1.2), and comes after the
Modality LUT. Rescaled values are HU under either photometric interpretation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from pydicom import Dataset
from scipy import ndimage

from bleedmap.arrays import AnyArray, BoolArray, FloatArray
from bleedmap.errors import InputError
from bleedmap.io.dicom.decode import FrameDecoder, FrameShape
from bleedmap.io.dicom.header import integer, items, read_numbers, text, value_of
from bleedmap.io.dicom.planes import UNSPECIFIED, Plane, Rescale

AIR_HU = -1024.0  # what lies outside the field of view becomes
_LARGEST_SLOPE, _LARGEST_INTERCEPT = 100.0, 1e5
_AIR_BELOW_HU = -900.0  # padding below it is air anyhow; above it, it may be confused with tissue
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)


@dataclass(frozen=True, eq=False)
class HuPlane:
    """One slice in HU."""

    hu: FloatArray  # (row, column) float32, as stored
    outside: int  # how many pixels were padding or below -1024 HU, and are -1024 HU now
    lowest_hu: float  # of these before


@dataclass(frozen=True)
class _Coding:
    """How a stored word holds its value."""

    shape: FrameShape
    bits_stored: int
    signed: bool
    holds_overlays: bool  # retired ones, in unused bits
    padding: tuple[int, int] | None  # from, to, in words read with the right sign


def convert_planes_to_hu(
    header: Dataset, planes: Sequence[Plane], decoder: FrameDecoder
) -> Iterator[tuple[Plane, HuPlane]]:
    """Convert slices of one file to HU, in the order of its frames.

    Args:
        header: of the file, with pixels.
        planes: those of its planes that are wanted.
        decoder: in its `with`.

    Raises:
        InputError: values that are no HU; DamagedFileError: pixels that cannot be decoded; with figures.
    """
    wanted, first = {plane.frame or 1: plane for plane in planes}, planes[0]
    name, read_before = first.file.place.name, first.file.header
    if (integer(header, "Rows"), integer(header, "Columns")) != (first.rows, first.columns):
        raise _refusal(name, "a size that changed since the file was first read", "a file that stays as it is")
    coding = _read_coding(read_before, first)
    for frame, words in enumerate(decoder.frames(header, coding.shape, name), start=1):
        if frame in wanted:
            plane = wanted[frame]
            yield plane, _convert_to_hu(words, coding, _read_rescale(read_before, plane), plane.name)


def _read_coding(header: Dataset, plane: Plane) -> _Coding:
    name = plane.file.place.name
    samples, kind = integer(header, "SamplesPerPixel") or 1, text(header, "PhotometricInterpretation")
    if samples != 1 or kind not in ("MONOCHROME1", "MONOCHROME2"):
        kind = kind or "no Photometric Interpretation (0028,0004)"
        raise _refusal(name, f"{samples} value(s) a pixel, {kind}", "grey pixels (MONOCHROME2)")
    for keyword in ("BitsAllocated", "BitsStored", "PixelRepresentation"):
        if not (reading := read_numbers(header, keyword)).numbers:
            raise InputError(name, found=reading.found, needed="how pixels are stored", remedy=reading.remedy)
    allocated, stored = integer(header, "BitsAllocated") or 0, integer(header, "BitsStored") or 0
    high, signed = integer(header, "HighBit"), integer(header, "PixelRepresentation")
    if allocated not in (8, 16) or not 1 <= stored <= allocated or high not in (None, stored - 1):
        found = f"pixels of {allocated} bits, {stored} stored, the highest {high}"
        raise _refusal(name, found, "8 or 16 bits, of which the lower ones hold the value")
    if signed not in (0, 1):
        raise _refusal(name, f"Pixel Representation (0028,0103) {signed}", "0 or 1")
    frames = integer(header, "NumberOfFrames") or 1
    if plane.frame is None and frames != 1:
        raise _refusal(name, f"{frames} frames in a classic CT image", "one frame a file")
    shape = FrameShape(plane.rows, plane.columns, allocated, frames)
    return _Coding(
        shape, stored, signed == 1, _holds_overlays(header, stored), _read_padding(header, allocated, signed == 1)
    )


def _holds_overlays(header: Dataset, stored: int) -> bool:
    """Whether unused bits hold an overlay, a custom retired since: PS3.5 8.1.2 of 2004."""
    groups = (group for group in _OVERLAY_GROUPS if (group, 0x3000) not in header)
    return any(stored <= (integer(header, (group, 0x0102)) or 0) < 16 for group in groups)


def _read_padding(header: Dataset, bits: int, signed: bool) -> tuple[int, int] | None:
    """Read padding value and limit, whatever sign the file gave them."""
    ends = [_read_word(header, keyword, bits, signed) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return None
    other = ends[0] if ends[1] is None else ends[1]
    return min(ends[0], other), max(ends[0], other)


def _read_word(header: Dataset, keyword: str, bits: int, signed: bool) -> int | None:
    """Read a value in the representation of the pixels ('US or SS'), though many files write the other."""
    value = value_of(header, keyword)
    number = int.from_bytes(value[:2], "little") if isinstance(value, bytes) and value else integer(header, keyword)
    if number is None:
        return None
    number %= 1 << bits
    return number - (1 << bits) if signed and number >> (bits - 1) else number


def _read_rescale(header: Dataset, plane: Plane) -> Rescale:
    needed = "Rescale Slope and Intercept to HU (0028,1053), (0028,1052)"
    if items(header, "ModalityLUTSequence"):
        raise _refusal(plane.name, "values through a Modality LUT (0028,3000)", needed)
    for keyword in ("RescaleIntercept", "RescaleSlope"):
        if not (reading := plane.readings[keyword]).numbers:
            found = f"stored values without a rescale; {reading.found}"
            raise InputError(plane.name, found=found, needed=needed, remedy=reading.remedy)
    assert plane.rescale is not None
    slope, intercept, unit = plane.rescale.slope, plane.rescale.intercept, plane.rescale.unit
    if unit not in ("HU", UNSPECIFIED):  # the input checks see whether these are HU
        raise _refusal(plane.name, f"values in '{unit}' (0028,1054)", "values in HU")
    if slope == 0 or abs(slope) > _LARGEST_SLOPE or abs(intercept) > _LARGEST_INTERCEPT:
        raise _refusal(plane.name, f"a rescale of slope {slope:g} and intercept {intercept:g}", needed)
    return plane.rescale


def _convert_to_hu(words: AnyArray, coding: _Coding, rescale: Rescale, name: str) -> HuPlane:
    wide = words.astype(np.uint16) if words.dtype.itemsize == 2 or coding.shape.bits_allocated == 16 else words
    if coding.signed:
        wide = wide.view(np.int16 if wide.dtype.itemsize == 2 else np.int8)
    padded = _mark_within(wide, coding.padding)
    values = _clear_unused_bits(wide, coding, padded, name)
    padded |= _mark_within(values, coding.padding)
    hu = values.astype(np.float32)
    hu *= np.float32(rescale.slope)
    hu += np.float32(rescale.intercept)
    if coding.padding is not None and padded.any():
        ends = [rescale.slope * one + rescale.intercept for one in coding.padding]
        if max(ends) > _AIR_BELOW_HU:
            padded = _keep_what_reaches_the_edge(padded)
    outside = padded | (hu < AIR_HU)
    count = int(outside.sum())
    lowest = float(hu[outside].min()) if count else AIR_HU
    hu[outside] = AIR_HU
    return HuPlane(hu, count, lowest)


def _mark_within(values: AnyArray, ends: tuple[int, int] | None) -> BoolArray:
    if ends is None:
        return np.zeros(values.shape, bool)
    return np.asarray((values >= ends[0]) & (values <= ends[1]))


def _clear_unused_bits(wide: AnyArray, coding: _Coding, padded: BoolArray, name: str) -> AnyArray:
    """Take the values from their stored bits alone.

    Raises:
        InputError: the bits above hold something that is neither the sign nor an overlay.
    """
    unused = 8 * wide.dtype.itemsize - coding.bits_stored
    if unused <= 0:
        return wide
    values = (wide << unused) >> unused  # the sign comes along in signed words
    if coding.holds_overlays or np.array_equal(values, wide):
        return values
    unsigned = wide.view(f"u{wide.dtype.itemsize}")
    wrong = (values != wide) & (unsigned >> coding.bits_stored != 0) & ~padded
    if wrong.any():
        found = f"{int(wrong.sum()):,} pixels with more than the {coding.bits_stored} bits that are stored"
        raise _refusal(name, found, "values within Bits Stored (0028,0101)")
    return values


def _keep_what_reaches_the_edge(padded: BoolArray) -> BoolArray:
    """Keep what is joined to the picture's edge, outside the field of view, of padding whose value could be tissue."""
    parts, _ = ndimage.label(padded)
    edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    return np.isin(parts, edge[edge > 0])


def _refusal(name: str, found: str, needed: str) -> InputError:
    return InputError(name, found=found, needed=needed, remedy="export the original axial series again")
