"""Read and write NIfTI in HU, in the index order (slice, row, column) with LPS mm."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import bleedmap.io.dicom  # noqa: F401 - first: pydicom, which nibabel loads, would load requests

# isort: split
import nibabel as nib
import numpy as np
from isal import igzip
from nibabel import orientations
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.spatialimages import HeaderDataError

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.errors import BleedmapError, InputError
from bleedmap.geometry import SliceGrid, swap_lps_ras
from bleedmap.io.dicom.files import is_dicom
from bleedmap.io.files import refuse_special, written_whole
from bleedmap.io.kinds import UNPACK_ERRORS, identify, open_packed
from bleedmap.volume import Mask, ProbabilityMap, Volume

SUFFIXES = (".nii", ".nii.gz")
logging.getLogger("nibabel.global").disabled = True  # it prints what it mends in a header, naming no file
_ROUNDED = -1e-3  # 1 - b² - c² - d² of a qform's quaternion that was rounded: half a turn, to the reference code too
_UNITS = {1: ("metres", 1000.0), 2: ("mm", 1.0), 3: ("micrometres", 0.001)}  # xyzt_units, lowest three bits
_TEMPLATE = 3  # from this sform code on the sform leads to an atlas (3 Talairach, 4 MNI, 5 another), not to the scanner
# How far two statements of one grid may differ: rounding stays a hundred times below.
SAME_SIZE = 0.01  # of a voxel's side
SAME_DEG, SAME_CORNER_MM = 1.0, 1.0
MOST_DEG = 35.0  # a tilted gantry's slices: up to 30°; a qform cannot hold the shear that an sform holds
_LAYERS_BEGIN = 352  # bytes: the header and, of its extensions, that there are none
VOXEL_MM, LONGEST_MM = (0.02, 50.0), 3000.0
_WRAPPED = 60_000  # stored in 16 bits without sign; no CT value, but -1000 HU that lost its sign
_OURS = orientations.axcodes2ornt(("S", "P", "L"))  # slices feet to head, rows front to back, columns right to left


@dataclass(frozen=True)
class _Words:
    """What errors say of a file that should hold something."""

    needed: str
    one: str  # how one volume is taken out of several
    again: str  # what else there is to do about a file that cannot be used


_OF_IMAGE = _Words(
    "one three-dimensional volume of HU", "extract a single volume: fslroi FILE head.nii.gz 0 1",
    "convert the study again from its DICOM files, to HU",
)  # fmt: skip
_OF_MASK = _Words(
    "a three-dimensional mask, one number a voxel",
    "unite the labels of its volumes in one, or take one of them: fslroi FILE mask.nii.gz 0 1",
    "export the mask again, as NIfTI with its image's affine",
)  # fmt: skip


class _Header(nib.Nifti1Header):  # type: ignore[misc]
    quaternion_threshold = _ROUNDED


class _Header2(nib.Nifti2Header):  # type: ignore[misc]
    quaternion_threshold = _ROUNDED


class _Image(nib.Nifti1Image):  # type: ignore[misc]
    header_class = _Header


class _Image2(nib.Nifti2Image):  # type: ignore[misc]
    header_class = _Header2


_HEADER_BYTES = {348: _Image, 540: _Image2}


@dataclass(frozen=True, eq=False)
class NiftiGrid:
    """The file's own grid, so that results return to it: axes, flips, units and both affines unchanged."""

    affine_ras: DoubleArray  # to RAS mm, whatever units the file has
    shape: tuple[int, int, int]  # of its three axes
    header: Any  # as nibabel read it
    notes: tuple[str, ...] = ()  # what reading had to decide, in sentences

    @property
    def states_orientation(self) -> bool:
        """Whether the file says where its axes point (NIfTI-1: sform or qform code above 0)."""
        return int(self.header["sform_code"]) > 0 or int(self.header["qform_code"]) > 0

    def inward(self, array: AnyArray) -> tuple[AnyArray, DoubleArray]:
        """Turn the file's array to (slice, row, column); return it and that grid's affine to LPS mm."""
        turn = orientations.ornt_transform(orientations.io_orientation(self.affine_ras), _OURS)
        affine = self.affine_ras @ orientations.inv_ornt_aff(turn, self.shape)
        return np.asarray(orientations.apply_orientation(array, turn)), swap_lps_ras(affine)

    def outward(self, array: AnyArray) -> AnyArray:
        """Turn (slice, row, column) back to the file's own axes."""
        back = orientations.ornt_transform(_OURS, orientations.io_orientation(self.affine_ras))
        return np.asarray(orientations.apply_orientation(array, back))


def is_nifti(path: Path) -> bool:
    """Whether a path is to be read as NIfTI: by its content, and by its name where it is not there or tells nothing.

    A folder never is: some data sets have one named after each file in it, as `head.nii/head.nii`.
    """
    if os.path.isdir(path):  # noqa: PTH112 - of what may not be looked at it says no, too
        return False
    named = path.name.lower().endswith(SUFFIXES)
    kind = identify(path)
    if kind is None:
        return named and not is_dicom(path)
    return kind.nifti or (named and not kind.words.startswith("a zip") and not is_dicom(path))


def read_volume(path: Path) -> tuple[Volume, NiftiGrid]:
    """Read a CT volume in HU, and the grid to write results back to.

    Raises:
        InputError: unreadable, not three-dimensional, NaN or infinity, no usable affine, or statements of one grid
            that contradict each other.
    """
    return _to_volume(path, *_read(path))


def read_labels(path: Path) -> tuple[Volume, NiftiGrid]:
    """Read the numbers of a mask as it was drawn, 0 outside, and the file's own grid.

    Raises:
        InputError: as `read_volume`, in words for a mask.
    """
    array, affine, grid = _read(path, _OF_MASK)
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise InputError(
            path, found=f"{bad:,} of {array.size:,} voxels are not finite (NaN or infinity)",
            needed="a mask: 0 outside, whole numbers above 0 in lesions",
            remedy="write 0 where nothing is marked (NaN: numpy.nan_to_num), and a whole number where something is",
        )  # fmt: skip
    return Volume(np.ascontiguousarray(array, dtype=np.float32), SliceGrid.from_affine(affine, len(array))), grid


def read_image(image: Any, name: str | Path) -> tuple[Volume, NiftiGrid]:
    """Read a CT volume in HU from an image of nibabel's in memory, and the grid to give results back on.

    Args:
        image: a spatial image of any format of nibabel's.

    Raises:
        InputError: as `read_volume`.
    """
    try:
        if not isinstance(image, nib.Nifti1Pair):
            image = nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine)
        array = np.asanyarray(image.dataobj)
    except (ImageFileError, HeaderDataError, OSError, ValueError, TypeError) as error:
        raise InputError(
            name, found=f"cannot be taken as NIfTI ({_explain(error)})",
            needed="one volume of HU with an affine", remedy="give the array as float32, and its affine",
        ) from error  # fmt: skip
    return _to_volume(name, *_interpret(name, image.header, image.header, array))


def _explain(error: Exception) -> str:
    if "w2 should be positive" in str(error):
        return "its qform is no rotation: the quaternion is longer than 1"
    return str(error).splitlines()[0] if str(error) else "damaged"


def _to_volume(path: str | Path, array: AnyArray, affine: DoubleArray, grid: NiftiGrid) -> tuple[Volume, NiftiGrid]:
    _check_sign(path, array)
    try:
        return Volume(np.ascontiguousarray(array, dtype=np.float32), SliceGrid.from_affine(affine, len(array))), grid
    except BleedmapError as error:
        raise InputError(path, found=error.found, needed=error.needed, remedy=error.remedy) from None


def read_mask(path: Path) -> Mask:
    """Read a lesion mask; every voxel above 0 counts.

    Raises:
        InputError: unreadable or not three-dimensional.
    """
    array, affine, _ = _read(path)
    return Mask(np.ascontiguousarray(array > 0), SliceGrid.from_affine(affine, len(array)))


def _read(path: Path, words: _Words = _OF_IMAGE) -> tuple[AnyArray, DoubleArray, NiftiGrid]:
    refuse_special(path)
    kind = identify(path)
    if kind is not None and not kind.nifti:
        raise InputError(
            path, found=f"cannot be read as NIfTI: it is {kind.words}", needed="a .nii or .nii.gz file",
            remedy=kind.remedy,
        )  # fmt: skip
    try:
        packed = kind.packed if kind is not None else ""
        with path.open("rb") as plain, open_packed(plain, packed) if packed else nullcontext(plain) as stream:
            raw, header, image = _load(path, stream, packed=bool(packed))
            array = np.asanyarray(image.dataobj)
    except FileNotFoundError:
        raise InputError(path, found="no such file", needed="a NIfTI file", remedy="check the path") from None
    except (ImageFileError, HeaderDataError, *UNPACK_ERRORS, OverflowError) as error:
        raise InputError(
            path,
            found=f"cannot be read as NIfTI ({_explain(error)})",
            needed="a whole .nii or .nii.gz file",
            remedy="copy or convert the file again",
        ) from error
    turned, affine, grid = _interpret(path, raw, header, array, words)
    if packed != {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}.get(path.suffix.lower(), ""):
        found = f"packed by {packed}" if packed else "not packed"
        note = f"The file is {found}, unlike its name says; it was read as it is."
        grid = replace(grid, notes=(*grid.notes, note))
    return turned, affine, grid


def _interpret(
    path: str | Path, raw: Any, header: Any, array: AnyArray, words: _Words = _OF_IMAGE
) -> tuple[AnyArray, DoubleArray, NiftiGrid]:
    """Check a file's array and header; return the array as (slice, row, column), its affine and the file's grid."""
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "buif":
        colour = "colour of several values a voxel" if array.dtype.fields else f"type {array.dtype}"
        several = array.ndim > 3 and 1 not in array.shape[:3] and array.dtype.kind in "buif"
        raise InputError(
            path,
            found=f"an array of shape {array.shape}, {colour}",
            needed=words.needed,
            remedy=words.one if several else words.again,
        )
    affine_ras, notes = _find_affine(path, raw, header, array.shape, words.again)
    slope, intercept = float(raw["scl_slope"]), float(raw["scl_inter"])
    if not (np.isfinite(slope) and slope) and np.isfinite(intercept) and intercept:
        notes.append(
            f"The NIfTI file states a slope of {slope:g} with an intercept of {intercept:g}: by the standard neither "
            "counts, and the stored values are taken for HU."
        )
    grid = NiftiGrid(affine_ras, array.shape, header, tuple(notes))
    turned, affine = grid.inward(array)
    return turned, affine, grid


def _load(path: Path, stream: BinaryIO, *, packed: bool) -> tuple[Any, Any, Any]:
    """Load the header as it is stored, as nibabel mends it, and the image, once the file proves to be whole.

    A gzipped file is decompressed to the end, where the checksum is; nibabel stops before it and would take damaged
    HU for true.
    """
    length = sum(map(len, iter(lambda: stream.read(1 << 20), b""))) if packed else path.stat().st_size
    stream.seek(0)
    start = stream.read(max(_HEADER_BYTES))
    sizes = [int.from_bytes(start[:4], order, signed=True) for order in ("little", "big")]
    kind: Any = next((_HEADER_BYTES[size] for size in sizes if size in _HEADER_BYTES and len(start) >= size), None)
    if kind is None:
        raise ImageFileError("no NIfTI header" if len(start) >= 348 else f"ends after {length:,} bytes, in its header")
    raw = kind.header_class(start[: kind.header_class.sizeof_hdr], check=False)
    stream.seek(0)
    image = kind.from_file_map({"image": FileHolder(fileobj=stream)}, mmap=not packed)
    needed = image.dataobj.offset + image.header.get_data_dtype().itemsize * int(np.prod(image.shape, dtype=object))
    if image.dataobj.offset < kind.header_class.sizeof_hdr:  # nibabel lets 0 pass, and takes the header for voxels
        raise ImageFileError(f"its voxels begin at byte {image.dataobj.offset} (vox_offset), within its header")
    if length < needed:
        raise ImageFileError(f"ends after {length:,} of {needed:,} bytes")
    return raw, image.header, image


def _check_sign(path: str | Path, array: AnyArray) -> None:
    """Refuse HU whose negative values were stored without their sign: -1000 becomes 64,536."""
    if array.dtype == np.uint16 and array.max() >= _WRAPPED and (array >= _WRAPPED).mean() > 0.01:
        raise InputError(
            path, found=f"values up to {array.max():,} in 16 bits without sign: negative HU that lost their sign",
            needed="HU, air near -1000", remedy="take the values modulo 65,536 as int16, or convert the study again",
        )  # fmt: skip


def _find_affine(
    path: str | Path, raw: Any, header: Any, shape: tuple[int, ...], again: str
) -> tuple[DoubleArray, list[str]]:
    """Find the affine to RAS mm, once all that the file states of its grid agrees; what was decided, in sentences.

    Args:
        raw: the header as it is stored.
        header: the same, mended by nibabel, whose sform and qform count.
        shape: of the three axes.
        again: the remedy where no affine of the file can be used.

    Raises:
        InputError: sform, qform, pixdim and units leave the size or the sides of the head in doubt.
    """
    by_sform, by_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    pixdim = np.abs(np.asarray(raw["pixdim"][1:4], np.float64))
    stated = bool((np.isfinite(pixdim) & (pixdim > 0)).all())
    notes: list[str] = []
    affine = np.asarray(header.get_sform() if by_sform else header.get_best_affine(), np.float64)
    if not _maps_to_a_volume(affine):
        raise InputError(
            path, "an affine that maps the grid to no volume", "a finite, invertible affine (sform or qform)",
            again,
        )  # fmt: skip
    if not by_sform and not stated:
        raise InputError(path, f"voxels of {_times(pixdim)} (pixdim)", "three sizes above 0", again)
    if not by_sform and by_qform and float(raw["pixdim"][0]) not in (-1.0, 0.0, 1.0):
        raise InputError(
            path, f"a qform with {float(raw['pixdim'][0]):g} in pixdim[0]: right and left are not told",
            "1 or -1 there", again,
        )  # fmt: skip
    scale, unit_note = _find_unit(raw)
    if by_sform:
        if by_qform:
            affine, told = _reconcile(path, header, affine, shape, scale)
            notes += told
        elif stated and not _same_sizes(affine, pixdim):
            raise InputError(
                path, f"voxels of {_times(_sizes(affine))} by the sform and {_times(pixdim)} by pixdim", "one size",
                f"{_keep('the sform is right', 'qform', 'sform')}; if pixdim is right, convert the DICOM files again",
            )  # fmt: skip
    affine = affine.copy()
    affine[:3] *= scale
    _check_size(path, affine, shape, unit_note)
    is_undefined = int(raw["xyzt_units"]) & 7 > max(_UNITS)  # 0 says that the unit is not known, and is common
    return affine, [*([unit_note] if scale != 1 or is_undefined else []), *notes]


def _find_unit(raw: Any) -> tuple[float, str]:
    """Find mm per unit of length, and a sentence on the unit."""
    code = int(raw["xyzt_units"]) & 7
    name, scale = _UNITS.get(code, ("", 1.0))
    if not name:
        return 1.0, f"The NIfTI file states no unit of length (xyzt_units {int(raw['xyzt_units'])}); mm were taken."
    return scale, f"The NIfTI file states its lengths in {name} (xyzt_units); they were converted to mm."


def _reconcile(
    path: str | Path, header: Any, sform: DoubleArray, shape: tuple[int, ...], scale: float
) -> tuple[DoubleArray, list[str]]:
    """Choose between sform and qform, both stated: the sform, but the qform where the sform leads to an atlas."""
    remedy = f"{_keep('the sform is right', 'qform', 'sform')}; {_keep('the qform is right', 'sform', 'qform')}"
    try:
        qform = np.asarray(header.get_qform(), np.float64)
    except (HeaderDataError, ValueError):
        qform = np.full((4, 4), np.nan)
    if not _maps_to_a_volume(qform):
        raise InputError(
            path, "a qform that maps the grid to no volume, beside an sform", "two that agree, or one of code 0",
            _keep("the sform is right", "qform", "sform"),
        )  # fmt: skip
    atlas = int(header["sform_code"]) >= _TEMPLATE
    chosen = "qform, for the sform leads to an atlas" if atlas else "sform"
    axes = ["".join(nib.aff2axcodes(one)) for one in (sform, qform)]
    mirrored = np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0
    turned = _angle(sform, qform)
    if mirrored or axes[0] != axes[1] or turned > MOST_DEG:
        how = (
            "mirror images of each other (right and left)"
            if mirrored
            else f"turned against each other by {turned:.0f}°"
        )
        raise InputError(
            path, f"sform and qform are {how}: the axes run {axes[0]} by the sform and {axes[1]} by the qform",
            "two that agree, or one of code 0", remedy,
        )  # fmt: skip
    if not atlas and not _same_sizes(sform, _sizes(qform)):
        raise InputError(
            path,
            f"voxels of {_times(_sizes(sform))} by the sform and {_times(_sizes(qform))} by qform and pixdim",
            "one size", remedy,
        )  # fmt: skip
    ends = np.array(np.meshgrid(*[(0, count - 1) for count in shape[:3]])).reshape(3, -1)
    apart_mm = scale * float(np.linalg.norm((sform - qform)[:3, :3] @ ends + (sform - qform)[:3, 3:], axis=0).max())
    if turned <= SAME_DEG and apart_mm <= SAME_CORNER_MM and _same_sizes(sform, _sizes(qform)):
        return sform, []
    said = (
        f"sform and qform of the NIfTI file differ by {turned:.1f}° and up to {apart_mm:.1f} mm: places in mm are by "
        f"the {chosen}. Sides agree"
    )
    return (qform if atlas else sform), [f"{said}{'.' if atlas else ', and sizes too.'}"]


def _angle(one: DoubleArray, other: DoubleArray) -> float:
    """The widest angle in degrees between the same axis of two grids."""
    first, second = one[:3, :3] / _sizes(one), other[:3, :3] / _sizes(other)
    return float(np.degrees(np.arccos(np.clip((first * second).sum(axis=0), -1, 1))).max())


def _sizes(affine: DoubleArray) -> DoubleArray:
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def _same_sizes(affine: DoubleArray, sizes: DoubleArray) -> bool:
    """Whether a grid's steps have these lengths; for slices of a tilted gantry some programs state their distance."""
    steps = _sizes(affine)
    distances = 1 / np.linalg.norm(np.linalg.inv(affine[:3, :3]), axis=1)
    near = [np.abs(one - sizes) <= SAME_SIZE * np.maximum(one, sizes) for one in (steps, distances)]
    return bool((near[0] | near[1]).all())


def _check_size(path: str | Path, affine: DoubleArray, shape: tuple[int, ...], unit_note: str) -> None:
    sizes = _sizes(affine)
    lengths = sizes * shape[:3]
    if sizes.min() >= VOXEL_MM[0] and sizes.max() <= VOXEL_MM[1] and lengths.max() <= LONGEST_MM:
        return
    raise InputError(
        path, f"voxels of {_times(sizes)} mm, {_times(lengths)} mm in all. {unit_note}",
        f"voxels of {VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm, at most {LONGEST_MM:,.0f} mm in all",
        "state the true unit (in nibabel image.header.set_xyzt_units: 'mm', 'meter', 'micron'), or convert it again",
    )  # fmt: skip


def _times(sizes: DoubleArray) -> str:
    return " × ".join(f"{one:.4g}" for one in sizes)


def _keep(when: str, changed: str, kept: str) -> str:
    """Say how one of the two affines is brought in line with the other."""
    return f"if {when}, make the {changed} like it (in nibabel: image.set_{changed}(image.get_{kept}(), 1))"


def _maps_to_a_volume(affine: DoubleArray) -> bool:
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-15 * max(1.0, np.abs(affine).max()):
        return False
    return not np.isnan(orientations.io_orientation(affine)).any()  # NaN where two axes run nearly the same way


def to_image(result: Volume | Mask | ProbabilityMap, grid: NiftiGrid | None = None, description: str = "") -> Any:
    """Make nibabel's image of a volume (float32 HU), mask (uint8) or probability map (float32), on the file's own grid.

    Without `grid` the axes are (column, row, slice); uneven slices go to the layers of `evenly`, and voxels times their
    volume give the volume of the result: the third pixdim is the distance between layers, tilted or not. The header has
    up to 79 characters of a `description`, behind what layers hold.
    """
    array = _as_stored(result)
    if grid is None:
        image, layers = _lay_out(array, result.grid, description)
        return nib.Nifti1Image(np.stack(list(layers)).transpose(2, 1, 0), image.affine, image.header)
    # The header's own affine, in its own units: both forms stay as the file has them.
    image = _Image(grid.outward(array), grid.header.get_best_affine(), grid.header)
    image.header.set_data_dtype(array.dtype)
    image.header.set_slope_inter(1, 0)
    image.header["cal_min"], image.header["cal_max"] = 0, 0
    if description:
        image.header["descrip"] = description.encode("ascii", "replace")[:79]
    return image


def write(
    path: Path, result: Volume | Mask | ProbabilityMap, grid: NiftiGrid | None = None, description: str = ""
) -> None:
    """Write `to_image` to a file; layers go there one by one, for those of an uneven stack are many.

    Raises:
        OutputError: the file cannot be written.
    """
    with written_whole(path) as temporary, temporary.open("wb") as file, _compress(path, file) as stream:
        if grid is not None:
            to_image(result, grid, description).to_stream(stream)
            return
        image, layers = _lay_out(_as_stored(result), result.grid, description)
        image.header.set_data_offset(_LAYERS_BEGIN)
        image.header.write_to(stream)
        for layer in layers:
            stream.write(layer.tobytes())


def read_result(path: Path, grid: SliceGrid, shape: tuple[int, int, int], own: NiftiGrid | None = None) -> AnyArray:
    """Read what `write` wrote of a study: (slice, row, column) on the study's own slices, layers given back.

    A program that edited it may have put its axes into another order, with an affine that says so.

    Args:
        path: a mask or a probability map.
        grid, shape: of the study.
        own: the study's NIfTI grid; None where it came as something else.

    Raises:
        InputError: unreadable, or of another study.
    """
    turned, _, found = _read(path)
    stored, affine = found.outward(turned), found.affine_ras
    if own is not None:
        if own.states_orientation and found.states_orientation:
            stored, _ = _turn_like(stored, affine, own.affine_ras)
        array = own.inward(stored)[0] if stored.shape == own.shape else stored
    else:
        even = grid.evenly(shape[1] * shape[2])
        frame = (shape[2] + even.margin[1], shape[1] + even.margin[0], len(even.slices))
        stored, affine = _turn_like(stored, affine, _layer_affine(even.grid))
        if stored.shape == frame and np.allclose(affine, _layer_affine(even.grid), atol=0.01):
            layers, array = stored.transpose(2, 1, 0), np.empty(shape, stored.dtype)
            firsts = np.searchsorted(even.slices, np.arange(shape[0]))
            for index, (layer, (row, column)) in enumerate(zip(layers[firsts], even.corners[firsts], strict=True)):
                array[index] = layer[row : row + shape[1], column : column + shape[2]]
        else:
            array = stored
    if array.shape != shape:
        raise InputError(
            path, found=f"{' × '.join(map(str, stored.shape))} voxels",
            needed=f"the grid of its study, {shape[0]} slices of {shape[1]} × {shape[2]}",
            remedy="segment the study again; an edited mask must keep the grid of the file that bleedmap wrote",
        )  # fmt: skip
    return array


def _turn_like(array: AnyArray, affine: DoubleArray, wanted: DoubleArray) -> tuple[AnyArray, DoubleArray]:
    """Put the axes of a file's array into the order and the directions of another affine; the array and its affine."""
    turn = orientations.ornt_transform(orientations.io_orientation(affine), orientations.io_orientation(wanted))
    turned = affine @ orientations.inv_ornt_aff(turn, array.shape)
    return np.asarray(orientations.apply_orientation(array, turn)), turned


def _layer_affine(grid: SliceGrid) -> DoubleArray:
    """The affine to RAS mm of layers that are stored as (column, row, layer)."""
    return swap_lps_ras(grid.affine)[:, [2, 1, 0, 3]]


def _compress(path: Path, file: BinaryIO) -> AbstractContextManager[Any]:
    if not path.name.lower().endswith(".gz"):
        return nullcontext(file)
    # Slice by slice and by ISA-L: a quarter of zlib's time, no copy of the whole, and the file is no larger.
    return igzip.IGzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0)


def _as_stored(result: Volume | Mask | ProbabilityMap) -> AnyArray:
    if isinstance(result, Volume):
        return result.hu.astype(np.float32, copy=False)
    return result.array.astype(np.uint8 if isinstance(result, Mask) else np.float32, copy=False)


def _lay_out(array: AnyArray, grid: SliceGrid, description: str) -> tuple[Any, Iterator[AnyArray]]:
    """Make an empty image of the file's size and header, and give its layers (row, column) in order."""
    _, rows, columns = array.shape
    even = grid.evenly(rows * columns)
    empty = np.full((rows + even.margin[0], columns + even.margin[1]), min(0, array.min(initial=0)), array.dtype)
    everywhere = np.broadcast_to(empty.T[..., None], (*empty.T.shape, len(even.slices)))
    image = nib.Nifti1Image(everywhere, _layer_affine(even.grid))
    image.header.set_xyzt_units("mm")
    image.header["pixdim"][3] = even.grid.spacing_mm[0]
    if even.off:
        description = f"uneven slices in layers: mL within {100 * even.off:.1f} %; {description}".rstrip("; ")
    if description:
        image.header["descrip"] = description.encode("ascii", "replace")[:79]

    def layers() -> Iterator[AnyArray]:
        for index, (row, column) in zip(even.slices, even.corners, strict=True):
            layer = empty.copy()
            layer[row : row + rows, column : column + columns] = array[index]
            yield layer

    return image, layers()
