"""What the reading page shows of a study: one voxel a stored pixel, never resampled; places in mm stand beside it.

The arrays are in the standard view (rows front to back, columns right to left, slices feet to head), to which stored
rows and columns are turned by whole flips, so that each shown pixel is one stored pixel. Uneven, tilted and oblique
slices are shown as they were scanned; the affine of the files holds the pixels' size and the slice's number alone.
"""

import gzip
import hashlib
import json
import zlib
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip

from bleedmap.arrays import AnyArray, BoolArray, ByteArray
from bleedmap.errors import InputError
from bleedmap.geometry import SliceGrid
from bleedmap.io.files import write_json, written_whole
from bleedmap.results.overlay import SliceView, draw_slice
from bleedmap.results.pictures import edge_letters
from bleedmap.results.tables import lesion_rows
from bleedmap.results.viewer import WINDOWS
from bleedmap.study.read import Study
from bleedmap.study.result import Result
from bleedmap.study.words import DO_NOT_RELY, headline, interval, interval_is, slice_line, verdict
from bleedmap.window import Window

STACK, PROBABILITY, MASK, WORDS = "stack.nii.gz", "probability.nii.gz", "mask.nii.gz", "view.json"
_STEPS = 255  # of a shown probability
_UNEVEN_MM = 0.1  # gaps that differ by less are one distance, rounded
_TILTED_DEG = 0.5
_HEADER_BYTES = 352
_PICTURE_SIDE = 768  # pixels


def write_view(folder: Path, read: Result | Study) -> None:
    """Write what the page shows: three arrays, then their words, with which they are whole.

    Args:
        folder: of this version of the study; made where it is not there.
        read: the result; or the study alone, where an input check refused it.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    hu, grid = read.volume.hu, read.volume.grid
    if isinstance(read, Result):
        shown, mask = np.rint(read.probability.array * _STEPS).astype(np.uint8), read.mask.array
    else:
        shown, mask = np.zeros(hu.shape, np.uint8), np.zeros(hu.shape, np.bool_)
    stack = np.rint(hu).clip(-32768, 32767).astype(np.int16)
    for name, array in ((STACK, stack), (PROBABILITY, shown), (MASK, mask.astype(np.uint8))):
        with written_whole(folder / name) as part:
            part.write_bytes(_pack(array, *grid.spacing_mm[1:]))
    write_json(folder / WORDS, describe(read) | {"mask_sha256": hash_mask(mask)}, compact=True)


def hash_mask(mask: BoolArray) -> str:
    """SHA-256 of a mask's voxels as bytes 0 and 1, slice by slice: which outline a correction began from."""
    return hashlib.sha256(np.ascontiguousarray(mask, np.uint8).tobytes()).hexdigest()


def pack_mask(mask: BoolArray, words: dict[str, Any]) -> bytes:
    """A corrected outline as a file of the same kind; `words` is what `view.json` holds."""
    return _pack(mask.astype(np.uint8), *words["pixel_mm"])


def _pack(array: AnyArray, row_mm: float, column_mm: float) -> bytes:
    """(slice, row, column) as gzipped NIfTI whose RAS affine holds pixel sizes and the slice's number alone."""
    image = nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([-column_mm, -row_mm, 1.0, 1.0]))
    image.header.set_xyzt_units("mm")
    return igzip.compress(image.to_bytes(), 1)


def read_view(path: Path) -> AnyArray:
    """Read an array that `write_view` wrote: (slice, row, column)."""
    image = nib.Nifti1Image.from_bytes(gzip.decompress(path.read_bytes()))
    return np.asarray(image.dataobj).transpose(2, 1, 0)


def read_correction(body: bytes, shape: tuple[int, ...]) -> BoolArray:
    """Read a corrected outline as the page sends it: a gzipped NIfTI of 0 and 1, of the shown stack's axes.

    Args:
        shape: (slice, row, column) of the stack.

    Returns:
        The mask, (slice, row, column).

    Raises:
        InputError: damaged, larger than the stack when unpacked, of another shape, or with other values.
    """
    most = _HEADER_BYTES + int(np.prod(shape))
    opened = zlib.decompressobj(wbits=31)
    try:
        content = opened.decompress(body, most)
        # A byte more than a mask of this shape takes: larger, or not at its end.
        if opened.decompress(opened.unconsumed_tail, 1) or not opened.eof or opened.unused_data:
            raise _wrong(f"not a gzipped file of exactly {most:,} bytes when unpacked")
        image = nib.Nifti1Image.from_bytes(content)
        array = np.asarray(image.dataobj)
    except InputError:
        raise
    except Exception as error:  # whatever nibabel makes of bytes that are no NIfTI
        raise _wrong("not a gzipped NIfTI file") from error
    if array.ndim != 3 or array.shape[::-1] != tuple(shape) or image.affine[0, 0] > 0 or image.affine[1, 1] > 0:
        raise _wrong(f"an array of shape {array.shape[::-1]} (slice, row, column)", shape)
    if not np.isin(array, (0, 1)).all():
        raise _wrong("values other than 0 and 1")
    return np.ascontiguousarray(array.transpose(2, 1, 0) > 0)


def _wrong(found: str, shape: tuple[int, ...] | None = None) -> InputError:
    size = "the study's shape" if shape is None else f"shape {tuple(shape)}"
    return InputError(
        "correction", found=found, needed=f"a gzipped NIfTI of 0 and 1, in {size}",
        remedy="load the reading page again, and save the correction from there",
    )  # fmt: skip


def read_words(folder: Path) -> dict[str, Any]:
    """Read the words that `write_view` wrote into a folder."""
    words: dict[str, Any] = json.loads((folder / WORDS).read_text("utf-8"))
    return words


@lru_cache(maxsize=2)
def _load(folder: Path) -> tuple[AnyArray, AnyArray, dict[str, Any]]:
    return read_view(folder / STACK), read_view(folder / PROBABILITY), read_words(folder)


def draw_view(folder: Path, number: int, window: Window, *, overlay: bool = True) -> bytes:
    """Draw slice `number` (from 1) as PNG, for browsers without WebGL2.

    Raises:
        InputError: no such slice.
    """
    stack, shown, words = _load(folder)
    if not 1 <= number <= len(stack):
        raise InputError(
            f"slice {number}", found="no such slice", needed=f"1 to {len(stack)}", remedy="ask for one of these"
        )
    grey: ByteArray = np.rint(window.to_unit(stack[number - 1]) * 255).astype(np.uint8)
    probability = shown[number - 1].astype(np.float32) / _STEPS * overlay
    row_mm, column_mm = words["pixel_mm"]
    view = SliceView(grey, probability, "", row_mm / column_mm)
    stream = BytesIO()
    draw_slice(view, side=_PICTURE_SIDE, threshold=words["threshold"]).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def describe(read: Result | Study) -> dict[str, Any]:
    """The words around the slices, as JSON: slices feet to head, lesions with the box that holds them."""
    grid = read.volume.grid
    _, row_mm, column_mm = grid.spacing_mm
    words: dict[str, Any] = {
        "shape": list(read.volume.hu.shape), "pixel_mm": [row_mm, column_mm], "letters": edge_letters(grid),
        "series": _describe_series(read), "geometry": _describe_geometry(grid), "windows": WINDOWS,
        "notes": list(read.notes),
        "places": [_describe_place(grid, index, read.volume.hu.shape) for index in range(len(grid))],
    }  # fmt: skip
    if isinstance(read, Study):
        lines = [f"slice {index + 1} of {len(grid)}" for index in range(len(grid))]
        return words | {"verdict": None, "threshold": 0.5, "lines": lines, "lesions": [], "warnings": []}
    certainty = read.certainty
    span_ml = None if certainty is None else certainty.volume_ml
    return words | {
        "verdict": verdict(read.findings, certainty), "headline": headline(read.findings, certainty),
        "threshold": read.threshold, "weights": read.weights.name,
        "lines": [slice_line(read.findings, certainty, index) for index in range(len(grid))],
        "slice_probability": None if certainty is None else [round(one, 4) for one in certainty.slices],
        "probability": None if certainty is None else round(certainty.study, 4),
        "reasons": [] if certainty is None or not certainty.abstained else [DO_NOT_RELY, *certainty.abstained],
        "types": [] if certainty is None else [[name, round(one, 4)] for name, one in certainty.types],
        "volume_ml": read.findings.volume_ml,
        "interval": "" if certainty is None or span_ml is None else interval(span_ml, certainty.coverage),
        "interval_is": "" if certainty is None or span_ml is None else interval_is(certainty.coverage),
        "lesions": [
            row | {"first": list(one.first), "last": list(one.last)}
            for row, one in zip(lesion_rows(read), read.findings.lesions, strict=True)
        ],
        "warnings": [f"{one.name}: {one.found}. {one.meaning}" for one in read.warnings],
    }  # fmt: skip


def _describe_series(read: Result | Study) -> list[str]:
    """Which series is shown and which are not, and why, in sentences."""
    if read.dicom is None:
        return []
    said: dict[bool, list[str]] = {True: [], False: []}
    for one in read.dicom.choice:
        named = [str(one.number)] * (one.number is not None) + [f"“{one.description}”"] * bool(one.description)
        said[one.chosen].append(f"{' '.join(['series', *named])}, {one.reason}")
    return [
        f"{words}: {'; '.join(said[chosen])}."
        for words, chosen in (("Shown", True), ("Left out", False))
        if said[chosen]
    ]


def _describe_geometry(grid: SliceGrid) -> list[str]:
    """How the slices lie, where that is not even and upright, in sentences."""
    said = []
    gaps = np.diff(grid.heights_mm)
    if len(gaps) and np.ptp(gaps) > _UNEVEN_MM:
        said.append(f"The slices are uneven: {gaps.min():.1f} to {gaps.max():.1f} mm apart.")
    if grid.shear_deg > _TILTED_DEG:
        said.append(f"The gantry was tilted by {grid.shear_deg:.1f}°; the slices are shown as they were scanned.")
    if grid.tilt_to_axial_deg > _TILTED_DEG:
        said.append(f"The slices are turned by {grid.tilt_to_axial_deg:.1f}° from axial.")
    return said


def _describe_place(grid: SliceGrid, index: int, shape: tuple[int, ...]) -> str:
    """'centre L 1.2, P 20.4, S 55.0 mm; 5.0 mm above the slice below'."""
    centre = grid.to_mm(np.array([index, (shape[1] - 1) / 2, (shape[2] - 1) / 2]))
    letters = (("R", "L"), ("A", "P"), ("I", "S"))
    spelled = ", ".join(f"{pair[int(one >= 0)]} {abs(one):.1f}" for pair, one in zip(letters, centre, strict=True))
    if index == 0:
        return f"centre {spelled} mm; the lowest slice"
    gaps = np.diff(grid.heights_mm)
    wide = f", usually {np.median(gaps):.1f}" if abs(gaps[index - 1] - np.median(gaps)) > _UNEVEN_MM else ""
    return f"centre {spelled} mm; {gaps[index - 1]:.1f} mm above the slice below{wide}"
