"""Read a reference mask from a DICOM SEG object: its hemorrhage, on the slices of the series that it outlines.

Segmentation: PS3.3 C.8.20; a frame's segment, source and place: C.8.20.3.1, C.7.6.16.2.6, C.7.6.16.2.3. A frame goes to
the slice that it refers to by SOP instance, else to the slice at its place; a frame that fits neither is an error.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
    SegmentationStorage,
)

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray
from bleedmap.errors import InputError
from bleedmap.io.dicom.files import Place, open_source, read_whole
from bleedmap.io.dicom.header import first_item, integer, items, numbers, text
from bleedmap.io.dicom.planes import FrameGroups
from bleedmap.io.dicom.series import DicomSeries, find_frame_of_reference

SEGMENTATIONS = (str(SegmentationStorage), "1.2.840.10008.5.1.4.1.1.66.7")  # the second: label maps
MOST_BYTES = 1_200_000_000  # of all frames, a byte a pixel
WITHIN_MM = 0.1  # of a frame's first pixel from its slice's: positions are stored rounded
_COSINE = 1e-3  # largest difference of a direction cosine
_SPACING = 0.01  # and of a pixel spacing, relative
_HALF = 0.5  # of a FRACTIONAL segmentation's scale: marked from here on
_SYNTAXES = (
    ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, RLELossless,
)  # fmt: skip
_HEMORRHAGE = re.compile(
    r"ha?emorr?h|ha?ematom|bleed|blutung|(?<![a-z])(ich|edh|sdh|sah|iph|ivh)(?![a-z])", re.IGNORECASE
)
_BESIDE = re.compile(r"o?edema|peri-?ha?em", re.IGNORECASE)  # what surrounds a hematoma


@dataclass(frozen=True, eq=False)
class Segmented:
    """A SEG object that was read."""

    path: Path  # of its file
    header: Dataset  # all of it but the pixels' meaning
    frames: AnyArray  # (frame, row, column) as stored
    labels: dict[int, str]  # of all segments, by number
    hemorrhage: tuple[int, ...]  # numbers of the segments that mean hemorrhage

    @property
    def series(self) -> frozenset[str]:
        """Series Instance UIDs that it refers to; empty where it names none."""
        named = (text(one, "SeriesInstanceUID") for one in items(self.header, "ReferencedSeriesSequence"))
        return frozenset(one for one in named if one)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know of it, each a sentence."""
        notes = []
        others = [label for number, label in self.labels.items() if number not in self.hemorrhage]
        if others:
            notes.append(f"Segments that are no hemorrhage were left out: {', '.join(others[:8])}.")
        kinds = {text(one, "SegmentAlgorithmType") for one in items(self.header, "SegmentSequence")}
        if "AUTOMATIC" in kinds:
            notes.append("The SEG object says that a program outlined it: this compares two programs.")
        return tuple(notes)

    def on(self, series: DicomSeries) -> BoolArray:
        """Place its hemorrhage, all segments united, on a series: (slice, row, column) bool in its standard view.

        Raises:
            InputError: frames that are not on the series' slices, pixel for pixel.
        """
        slices = _Slices(series, self.path)
        frame_of_reference = text(self.header, "FrameOfReferenceUID")
        if not self.series and frame_of_reference != find_frame_of_reference(series):
            raise _misfit(self.path, "names no series, and another frame of reference", "the series that it outlines")
        stored = np.zeros((len(series.volume.grid), *slices.shape), np.bool_)
        astray = 0
        for groups, frame in zip(FrameGroups.of_all(self.header), self.frames, strict=True):
            marked = self._mark(groups, frame)
            if not marked.any():
                continue
            index = slices.find(groups, marked.shape)
            if index is None:
                astray += 1
            else:
                stored[index] |= marked
        if astray:
            raise _misfit(
                self.path,
                f"{astray} marked frame{'s lie' if astray > 1 else ' lies'} on no slice of the series",
                f"frames within {WITHIN_MM} mm of the series' {len(stored)} slices",
            )
        return np.ascontiguousarray(series.turn.apply(stored))

    def _mark(self, groups: FrameGroups, frame: AnyArray) -> BoolArray:
        kind = text(self.header, "SegmentationType")
        if kind == "LABELMAP":
            return np.isin(frame, self.hemorrhage)
        number = integer(groups.first("SegmentIdentificationSequence"), "ReferencedSegmentNumber")
        if number not in self.hemorrhage:
            return np.zeros(frame.shape, np.bool_)
        if kind == "FRACTIONAL":
            return np.asarray(frame >= _HALF * (integer(self.header, "MaximumFractionalValue") or 255), np.bool_)
        return np.asarray(frame > 0, np.bool_)


class _Slices:
    """A series' slices as stored, which can be found by reference or place."""

    def __init__(self, series: DicomSeries, path: Path) -> None:
        _, rows, columns = series.volume.hu.shape
        self._path = path
        self.shape = (columns, rows) if series.turn.transpose else (rows, columns)
        self._positions, self._cosines, self._spacing = series.turn.locate_stored(series.volume.grid, (rows, columns))
        frames = series.frames or [None] * len(series.volume.grid)
        uids = [text(header, "SOPInstanceUID") for header in series.headers]
        self._named = {key: index for index, key in enumerate(zip(uids, frames, strict=True))}

    def find(self, groups: FrameGroups, shape: tuple[int, ...]) -> int | None:
        """Find the slice that a frame is on; None where there is none at its place."""
        if shape != self.shape:
            raise _misfit(self._path, f"frames of {shape[0]} × {shape[1]} pixels", f"{self.shape[0]} × {self.shape[1]}")
        self._check_directions(groups)
        position = numbers(groups.first("PlanePositionSequence"), "ImagePositionPatient", 3)
        named = self._by_reference(groups)
        if not position:
            return named
        apart_mm = np.linalg.norm(self._positions - np.array(position), axis=1)
        nearest = int(apart_mm.argmin())
        if named is not None and apart_mm[named] > WITHIN_MM:
            raise _misfit(
                self._path,
                f"a frame that refers to slice {named + 1} lies {apart_mm[named]:.2f} mm from it",
                f"frames within {WITHIN_MM} mm of their slices, pixel for pixel",
            )
        return nearest if apart_mm[nearest] <= WITHIN_MM else None

    def _by_reference(self, groups: FrameGroups) -> int | None:
        sources = [
            source
            for derivation in groups.all("DerivationImageSequence")
            for source in items(derivation, "SourceImageSequence")
        ]
        if len(sources) != 1:
            return None
        uid, frame = text(sources[0], "ReferencedSOPInstanceUID"), integer(sources[0], "ReferencedFrameNumber")
        return self._named.get((uid, frame), self._named.get((uid, None)))

    def _check_directions(self, groups: FrameGroups) -> None:
        cosines = numbers(groups.first("PlaneOrientationSequence"), "ImageOrientationPatient", 6)
        spacing = numbers(groups.first("PixelMeasuresSequence"), "PixelSpacing", 2)
        if cosines and _measure_difference(cosines, self._cosines) > _COSINE:
            raise _misfit(self._path, "frames whose rows or columns run another way", "the series' own orientation")
        if spacing and _measure_difference(np.divide(spacing, self._spacing), np.ones(2)) > _SPACING:
            found = f"pixels of {spacing[0]:g} × {spacing[1]:g} mm"
            raise _misfit(self._path, found, f"{self._spacing[0]:g} × {self._spacing[1]:g} mm, the series' own")


def _measure_difference(one: AnyArray | tuple[float, ...], other: DoubleArray) -> float:
    return float(np.abs(np.asarray(one) - other).max())


def _misfit(path: Path, found: str, needed: str) -> InputError:
    return InputError(path, found=found, needed=needed, remedy="export the SEG object on the original series' own grid")


def read_segmentation(path: Path) -> Segmented:
    """Read a SEG object with its pixels.

    Raises:
        InputError: damaged, too large, or in an encoding that segmentations do not have.
    """
    with open_source(path) as read:
        header = read_whole(Place(path), read)
        count, per_frame = integer(header, "NumberOfFrames"), items(header, "PerFrameFunctionalGroupsSequence")
        size = (count or 0) * (integer(header, "Rows") or 0) * (integer(header, "Columns") or 0)
        syntax = getattr(getattr(header, "file_meta", None), "TransferSyntaxUID", None)
        if count is None or count != len(per_frame) or not 0 < size <= MOST_BYTES or syntax not in _SYNTAXES:
            raise _unreadable(path, f"{count} frames, {len(per_frame)} of them described, {size:,} pixels")
        try:
            frames = np.asarray(header.pixel_array).reshape(count, int(header.Rows), int(header.Columns))
        except MemoryError:
            raise
        except Exception as error:  # pydicom raises nearly anything on damaged pixels
            raise _unreadable(path, f"pixels that cannot be read ({type(error).__name__})") from error
        segments = {integer(one, "SegmentNumber") or 0: one for one in items(header, "SegmentSequence")}
        labels = {number: text(one, "SegmentLabel") or "unnamed" for number, one in segments.items()}
        meant = tuple(number for number, one in segments.items() if number and _is_hemorrhage(one))
        return Segmented(path, header, frames, labels, meant)


def _is_hemorrhage(segment: Dataset) -> bool:
    label = text(segment, "SegmentLabel") or ""
    words = [label, text(first_item(segment, "SegmentedPropertyTypeCodeSequence"), "CodeMeaning") or ""]
    return not _BESIDE.search(label) and any(_HEMORRHAGE.search(one) for one in words)


def _unreadable(path: Path, found: str) -> InputError:
    return InputError(
        path, found=found, needed="a whole DICOM segmentation: uncompressed, deflated or RLE, at most 1.2 GB of pixels",
        remedy="export the SEG object again",
    )  # fmt: skip
