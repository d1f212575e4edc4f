"""A study and its reference mask on one grid, read the way `bleedmap segment` reads; what does not fit is refused."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bleedmap.arrays import BoolArray, FloatArray
from bleedmap.errors import InputError
from bleedmap.evaluation.reference_dicom import read_dicom_reference
from bleedmap.evaluation.reference_find import Case
from bleedmap.geometry import SliceGrid
from bleedmap.io import images, nifti
from bleedmap.study.read import Study, read_study
from bleedmap.volume import Volume
from bleedmap.window import Window

_NEAR = 0.25  # of a pixel: the mask's corners lie this near to the image's
_LABELS = 64  # a mask has 1, 255, or a label a type; more values are no labels
_GREYS = 0.02  # of a picture's pixels may be neither black nor white: JPEG's rims of a lesion
_BLACK, _WHITE = 32, 223


@dataclass(frozen=True, eq=False)
class Referenced:
    """A study with its reference, ready to measure.

    Attributes:
        hu: (slice, row, column) float32.
        mask: the same shape, bool: the reference.
        study: what the input checks and the network take; None for pictures, which have no grid.
        notes: what reading had to decide, in sentences.
    """

    hu: FloatArray
    mask: BoolArray
    study: Study | None
    notes: tuple[str, ...] = ()

    @property
    def grid(self) -> SliceGrid | None:
        """Where the voxels lie; None for pictures."""
        return None if self.study is None else self.study.volume.grid


def read_case(case: Case, window: Window) -> Referenced:
    """Read a study and its reference mask.

    Args:
        case: as `find_cases` gives it.
        window: in which pictures were exported.

    Raises:
        InputError: either cannot be read, or the mask is not on the image's grid.
    """
    if case.kind == "pictures":
        return _pictures(case, window)
    if case.kind == "NIfTI":
        return _nifti(case)
    objects = [one for one in case.masks if one is not None]
    read = read_dicom_reference(case.name, case.images, objects, case.uid)
    return Referenced(read.study.volume.hu, read.mask, read.study, read.notes)


def _pictures(case: Case, window: Window) -> Referenced:
    """All slices of a patient, one above the other in the order of their numbers."""
    slices: list[FloatArray] = []
    masks: list[BoolArray] = []
    for image, mask in zip(case.images, case.masks, strict=True):
        grey = images.read_grey(image)
        if slices and grey.shape != slices[0].shape:
            raise InputError(
                image, found=f"{grey.shape[0]} × {grey.shape[1]} pixels (rows × columns)",
                needed=f"{slices[0].shape[0]} × {slices[0].shape[1]}, as the first of the patient's slices has",
                remedy="give slices of one series, and each patient a folder",
            )  # fmt: skip
        slices.append(window.to_hu(grey))
        shape = (grey.shape[0], grey.shape[1])
        masks.append(np.zeros(shape, np.bool_) if mask is None else _picture_mask(mask, shape))
    return Referenced(np.stack(slices), np.stack(masks), None)


def _picture_mask(path: Path, shape: tuple[int, int]) -> BoolArray:
    """Black and white, as `images.read_mask` takes it; or small numbers, a label each."""
    grey = images.read_grey(path)
    highest = int(grey.max())
    between = float(((grey > _BLACK) & (grey < _WHITE)).mean())
    mask = images.read_mask(path, shape)
    if highest <= _BLACK:
        return np.asarray(
            (grey > 0) & (path.suffix.lower() == ".png"), np.bool_
        )  # a dark JPEG is noise on an empty mask
    if between > _GREYS or not mask.any():
        found = f"greys up to {highest}, {100 * between:.0f} % of the pixels neither black nor white"
        raise InputError(
            path, found=found, needed="a mask: 0 and 255, or in a PNG labels from 1",
            remedy="export the mask itself, not a picture with it drawn in",
        )  # fmt: skip
    return mask


def _nifti(case: Case) -> Referenced:
    study = read_study(case.images[0])
    mask = np.zeros(study.volume.hu.shape, np.bool_)
    notes = list(study.notes)
    for path in filter(None, case.masks):
        drawn, _ = nifti.read_volume(path)
        _check_labels(path, drawn)
        _check_grid(path, drawn, study.volume)
        mask = np.asarray(drawn.hu > 0, np.bool_)
        labels = [int(value) for value in np.unique(drawn.hu) if value]
        if len(labels) > 1:
            notes.append(f"Labels {', '.join(map(str, labels))} of the mask were united.")
    return Referenced(study.volume.hu, mask, study, tuple(notes))


def _check_labels(path: Path, drawn: Volume) -> None:
    values = np.unique(drawn.hu)
    whole = values == np.round(values)
    if whole.all() and values[0] >= 0 and len(values) <= _LABELS:
        return
    odd = values[~whole | (values < 0)]
    found = f"values such as {odd[len(odd) // 2]:g}" if len(odd) else f"{len(values)} different values"
    raise InputError(
        path, found=found, needed="a mask: 0 outside, whole numbers above 0 in lesions",
        remedy="threshold a probability map first; give the mask, not the image",
    )  # fmt: skip


def _check_grid(path: Path, drawn: Volume, image: Volume) -> None:
    """Both are in the standard view already: files may store their axes in different orders."""
    if drawn.hu.shape != image.hu.shape:
        raise InputError(
            path,
            found=f"a mask of {_by(drawn)} voxels (slices × rows × columns)",
            needed=f"{_by(image)}, as its image",
            remedy="resample the mask to the image's grid, labels by nearest neighbour",
        )
    last = np.array(image.hu.shape) - 1
    corners = np.array([[one, two, three] for one in (0, 1) for two in (0, 1) for three in (0, 1)]) * last
    apart_mm = float(np.linalg.norm(drawn.grid.to_mm(corners) - image.grid.to_mm(corners), axis=1).max())
    allowed_mm = _NEAR * min(image.grid.spacing_mm[1:])
    if apart_mm > allowed_mm:
        raise InputError(
            path, found=f"a mask whose corners lie up to {apart_mm:,.2f} mm from its image's, by their affines",
            needed=f"the image's own grid, within {allowed_mm:.2f} mm",
            remedy="copy the image's affine into the mask if their voxels do belong together",
        )  # fmt: skip


def _by(volume: Volume) -> str:
    return " × ".join(map(str, volume.hu.shape))
