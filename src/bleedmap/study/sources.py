"""What callers hold in memory, as nibabel's images: images of nibabel and SimpleITK, arrays with an affine."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydicom import Dataset

from bleedmap.errors import InputError
from bleedmap.geometry import swap_lps_ras
from bleedmap.io.dicom.files import DicomFound, is_zip, scan, scan_datasets, scan_files
from bleedmap.io.nifti import is_nifti
from bleedmap.volume import Volume

Source = str | os.PathLike[str] | Sequence[Any] | Volume | DicomFound | Any
KINDS = (
    "a path, a list of paths, one or a list of pydicom data sets, an image of nibabel or SimpleITK, an array of HU "
    "with its affine, or a bleedmap.Volume"
)


def find_image(source: Source, affine: object = None) -> Any:
    """Return nibabel's image of a volume in memory; None where `source` is not one.

    Args:
        source: an image of nibabel or SimpleITK, or an array.
        affine: for an array, 4×4 from its own index to RAS mm.

    Raises:
        InputError: an array without an affine, or an image of another dimension.
    """
    if isinstance(source, nib.spatialimages.SpatialImage):
        return source
    if "SimpleITK" in sys.modules and isinstance(source, sys.modules["SimpleITK"].Image):
        return _from_simpleitk(source)
    return _from_array(source, affine) if is_array(source) else None


def is_array(source: Source) -> bool:
    """Whether it is an array, or converts itself to one as a tensor does, and is no image with axes of its own."""
    return hasattr(source, "__array__") and not isinstance(source, nib.spatialimages.SpatialImage | Dataset)


def _from_array(array: Any, affine: Any) -> Any:
    if affine is None:
        raise InputError(
            "array", found="an array of HU without an affine: nothing says where its axes point and how long a step is",
            needed="affine: 4×4, from the array's index to RAS mm, as nibabel has it",
            remedy="bleedmap.segment(array, affine=affine)",
        )  # fmt: skip
    hu = np.asarray(array)
    try:
        matrix = np.asarray(affine, np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (4, 4) or hu.dtype.kind not in "buif":
        raise InputError(
            "array", found=f"an array of type {hu.dtype} with an affine of shape {matrix.shape}",
            needed="numbers of HU, and an affine of 4×4", remedy="bleedmap.segment(array, affine=affine)",
        )  # fmt: skip
    if not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) == 0:
        raise InputError(
            "array", found=f"an affine that maps it to no volume: {matrix.tolist()}",
            needed="a finite, invertible affine to mm", remedy="take the affine of the image that the array is of",
        )  # fmt: skip
    return nib.Nifti1Image(hu if hu.dtype.kind == "u" and hu.dtype.itemsize <= 4 else hu.astype(np.float32), matrix)


def _from_simpleitk(image: Any) -> Any:
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise InputError(
            "image", found=f"{image.GetDimension()} dimensions, {image.GetNumberOfComponentsPerPixel()} values a voxel",
            needed="one three-dimensional volume of HU", remedy="extract a single volume (SimpleITK.Extract)",
        )  # fmt: skip
    hu = sys.modules["SimpleITK"].GetArrayFromImage(image).transpose(2, 1, 0)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return _from_array(hu, swap_lps_ras(affine))


def to_simpleitk(image: Any) -> Any:
    """Make SimpleITK's image of one of nibabel's, in the same order of axes.

    Raises:
        InputError: a sheared grid, which SimpleITK cannot hold, or SimpleITK is not installed.
    """
    try:
        import SimpleITK  # noqa: PLC0415 - only for those who have it
    except ImportError:
        raise InputError(
            "mask_image('SimpleITK')", found="the package SimpleITK is not installed", needed="SimpleITK",
            remedy="pip install SimpleITK, or use mask_image(), of nibabel",
        ) from None  # fmt: skip
    affine = swap_lps_ras(image.affine)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    direction = affine[:3, :3] / spacing
    if not np.allclose(direction.T @ direction, np.eye(3), atol=1e-4):
        raise InputError(
            "mask_image('SimpleITK')", found="a grid whose slices are sheared, as a tilted gantry leaves them",
            needed="axes at right angles, which is all that SimpleITK holds", remedy="use mask_image(), of nibabel",
        )  # fmt: skip
    made: Any = SimpleITK.GetImageFromArray(np.asanyarray(image.dataobj).transpose(2, 1, 0))
    made.SetSpacing(spacing.tolist())
    made.SetOrigin(affine[:3, 3].tolist())
    made.SetDirection(direction.ravel().tolist())
    return made


def gather_dicom(sources: Sequence[object] | Dataset) -> DicomFound:
    """Take several paths, or one or several data sets of pydicom's, as one study.

    Raises:
        InputError: an empty or mixed list, a volume among the paths, or nothing in them that can be read.
    """
    sources = [sources] if isinstance(sources, Dataset) else sources
    if sources and all(isinstance(one, Dataset) for one in sources):
        return scan_datasets([one for one in sources if isinstance(one, Dataset)])
    paths = [Path(one) for one in sources if isinstance(one, str | os.PathLike)]
    if not paths or len(paths) < len(sources):
        kinds = ", ".join(sorted({type(one).__name__ for one in sources})) or "nothing"
        raise InputError(
            "list", found=f"a list of {kinds}", needed="paths alone, or pydicom data sets alone, of one study",
            remedy="for several studies call bleedmap.segment_many",
        )  # fmt: skip
    other = [one for one in paths if is_nifti(one) or (len(paths) > 1 and is_zip(one))]
    if other:
        raise InputError(
            other[0], found="a NIfTI volume or a zip in a list of paths", needed="DICOM files or folders of one study",
            remedy="give it alone; for several studies call bleedmap.segment_many",
        )  # fmt: skip
    if len(paths) == 1:
        return scan(paths[0])
    return scan_files(Path(os.path.commonpath([one.absolute().parent for one in paths])), dict.fromkeys(paths))
