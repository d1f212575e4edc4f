"""Read and write NIfTI in HU, in the index order (slice, row, column) with LPS mm."""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bleedmap.io.dicom  # noqa: F401 - first: pydicom, which nibabel loads, would load requests

# isort: split
import nibabel as nib
import numpy as np
from isal import igzip, igzip_lib
from nibabel import orientations
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.errors import BleedmapError, InputError
from bleedmap.geometry import SliceGrid, swap_lps_ras
from bleedmap.io.files import written_whole
from bleedmap.volume import Mask, ProbabilityMap, Volume

SUFFIXES = (".nii", ".nii.gz")
_ISAL_ERROR: Any = igzip_lib.IsalError  # an exception's class, which isal's stubs take for an instance
_OURS = orientations.axcodes2ornt(("S", "P", "L"))  # slices feet to head, rows front to back, columns right to left


@dataclass(frozen=True, eq=False)
class NiftiGrid:
    """The file's own grid, so that results return to it: axes, flips and affine unchanged."""

    affine_ras: DoubleArray
    shape: tuple[int, int, int]
    header: Any

    @property
    def states_orientation(self) -> bool:
        """Whether the file says where its axes point (NIfTI-1: sform or qform code above 0)."""
        return int(self.header["sform_code"]) > 0 or int(self.header["qform_code"]) > 0

    @property
    def _to_ours(self) -> AnyArray:
        return np.asarray(orientations.ornt_transform(orientations.io_orientation(self.affine_ras), _OURS))

    def inward(self, array: AnyArray) -> tuple[AnyArray, DoubleArray]:
        """Turn the file's array to (slice, row, column); return it and that grid's affine to LPS mm."""
        turn = self._to_ours
        affine = self.affine_ras @ orientations.inv_ornt_aff(turn, self.shape)
        return np.asarray(orientations.apply_orientation(array, turn)), swap_lps_ras(affine)

    def outward(self, array: AnyArray) -> AnyArray:
        """Turn (slice, row, column) back to the file's own axes."""
        back = orientations.ornt_transform(_OURS, orientations.io_orientation(self.affine_ras))
        return np.asarray(orientations.apply_orientation(array, back))


def is_nifti(path: Path) -> bool:
    """Whether the name ends as a NIfTI file's does."""
    return path.name.lower().endswith(SUFFIXES)


def read_volume(path: Path) -> tuple[Volume, NiftiGrid]:
    """Read a CT volume in HU, and the grid to write results back to.

    Raises:
        InputError: unreadable, not three-dimensional, NaN or infinity, no usable affine.
    """
    array, affine, grid = _read(path)
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


def _read(path: Path) -> tuple[AnyArray, DoubleArray, NiftiGrid]:
    try:
        if path.name.lower().endswith(".gz"):
            _check_gzip(path)
        image = nib.load(path)
        array = np.asanyarray(image.dataobj)
    except FileNotFoundError:
        raise InputError(path, found="no such file", needed="a NIfTI file", remedy="check the path") from None
    except (
        ImageFileError, HeaderDataError,
        OSError, EOFError, ValueError, zlib.error, _ISAL_ERROR, MemoryError, OverflowError,
    ) as error:  # fmt: skip
        raise InputError(
            path,
            found=f"cannot be read as NIfTI ({str(error).splitlines()[0] if str(error) else 'damaged'})",
            needed="a whole .nii or .nii.gz file",
            remedy="copy or convert the file again",
        ) from error
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3 or 0 in array.shape or array.dtype.fields is not None or image.affine is None:
        raise InputError(
            path,
            found=f"an array of shape {array.shape}, type {array.dtype}",
            needed="one three-dimensional volume of HU",
            remedy="extract a single volume (no time series, no colour)",
        )
    affine_ras = np.asarray(image.affine, dtype=np.float64)
    if not _maps_to_a_volume(affine_ras):
        raise InputError(
            path,
            found="an affine that maps the grid to no volume",
            needed="a finite, invertible affine (sform or qform)",
            remedy="convert the study again from its DICOM files",
        )
    grid = NiftiGrid(affine_ras, array.shape, image.header)
    turned, affine = grid.inward(array)
    return turned, affine, grid


def _maps_to_a_volume(affine: DoubleArray) -> bool:
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        return False
    return not np.isnan(orientations.io_orientation(affine)).any()  # NaN where two axes run nearly the same way


def _check_gzip(path: Path) -> None:
    """Decompress to the end, where the checksum is; nibabel stops before it and would take damaged HU for true."""
    with igzip.open(path) as stream:
        while stream.read(1 << 20):
            pass


def write(path: Path, result: Volume | Mask | ProbabilityMap, grid: NiftiGrid | None = None) -> None:
    """Write a volume (float32 HU), mask (uint8) or probability map (float32), on the file grid that it came from.

    Without `grid` the axes are written as (column, row, slice); uneven slices go to an even grid,
    each place of it taking the nearest slice.
    """
    if isinstance(result, Volume):
        array: AnyArray = result.hu.astype(np.float32, copy=False)
    else:
        array = result.array.astype(np.uint8 if isinstance(result, Mask) else np.float32, copy=False)
    if grid is None:
        even, nearest = result.grid.evenly()
        array = array if even is result.grid else array[nearest]
        affine_ras = swap_lps_ras(even.affine)[:, [2, 1, 0, 3]]
        image = nib.Nifti1Image(array.transpose(2, 1, 0), affine_ras)
        image.header.set_xyzt_units("mm")
    else:
        image = nib.Nifti1Image(grid.outward(array), grid.affine_ras, grid.header)
        image.header.set_data_dtype(array.dtype)
        image.header.set_slope_inter(1, 0)
        image.header["cal_min"], image.header["cal_max"] = 0, 0
    with written_whole(path) as temporary, temporary.open("wb") as file:
        if path.name.lower().endswith(".gz"):
            # Slice by slice and by ISA-L: a quarter of zlib's time, no copy of the whole, and the file is no larger.
            with igzip.IGzipFile("", "wb", compresslevel=1, fileobj=file, mtime=0) as stream:
                image.to_stream(stream)
        else:
            image.to_stream(file)
