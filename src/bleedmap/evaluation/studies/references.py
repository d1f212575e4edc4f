"""A study and its reference mask on one grid, read the way `bleedmap segment` reads; what does not fit is refused."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydicom import Dataset
from scipy import ndimage

from bleedmap.arrays import BoolArray, FloatArray
from bleedmap.errors import InputError
from bleedmap.evaluation.records import Known
from bleedmap.evaluation.studies.find import Case
from bleedmap.evaluation.studies.labels import Labels
from bleedmap.geometry import SliceGrid
from bleedmap.io import images, nifti
from bleedmap.io.dicom.files import DicomFound, scan_files
from bleedmap.io.dicom.header import text
from bleedmap.io.dicom.seg_read import read_segmentation
from bleedmap.study.gate.gate import REFERENCE, read_accepted
from bleedmap.study.gate.picture_look import PictureLook, measure_picture
from bleedmap.study.inputs import note_turned
from bleedmap.study.read import Study, read_study
from bleedmap.volume import Volume
from bleedmap.window import Window, picture_to_hu

_NEAR = 0.25  # of a pixel: the mask's corners lie this near to the image's
_EDGE = 2  # pixels
_MOST = 0.5  # of a slice; the largest bleed of CT-ICH fills 4 %
_AIR_HU, _BONE_HU = -10, 150  # of CT-ICH's outlines at most 0.2 % of a patient's lie beyond the first
_LABELS = 64  # a mask has 1, 255, or a label a type; more values are no labels
_ROUNDED = 1e-4  # a label that was stored as float, or with a slope, may be this far from its whole number
_GREYS = 0.02  # of a picture's pixels may be neither black nor white: JPEG's rims of a lesion
_BLACK, _WHITE = 32, 223
_AREA = np.ones((5, 5), np.bool_)  # greys that fill so much are a label, not the rim of one


@dataclass(frozen=True, eq=False)
class Referenced:
    """A study with its reference, ready to measure."""

    hu: FloatArray  # (slice, row, column) float32
    mask: BoolArray  # the same shape, bool: the reference; of labels, all of a slice that bleeds
    study: Study | None  # what the input checks and the network take; None for pictures, which have no grid
    notes: tuple[str, ...] = ()  # what reading had to decide, in sentences
    known: Known = "outlines"  # what the reference is of: outlines, or labels of slices or of the study alone
    looks: tuple[PictureLook, ...] = ()  # of pictures, for their input checks
    others: frozenset[str] = frozenset()  # SOP Instance UIDs of labelled slices of series that are not measured

    @property
    def grid(self) -> SliceGrid | None:
        """Where the voxels lie; None for pictures."""
        return None if self.study is None else self.study.volume.grid


def read_case(case: Case, window: Window, accept: Iterable[str] = ()) -> Referenced:
    """Read a study of `find_cases` and its reference mask.

    Args:
        window: the one in which pictures were exported.
        accept: names of checks that are overruled; 'reference' is that of where the mask lies.

    Raises:
        InputError: either cannot be read, the mask is not on the image's grid, or the SEG objects fit no series,
            several, or not their slices.
    """
    if case.kind == "pictures":
        read = _read_pictures(case, window)
    else:
        read = _read_nifti(case) if case.kind == "NIfTI" else _read_dicom(case)
    if case.labels is None:
        refusal = _find_refusal(case, read)
        if refusal is None:
            return read
        if REFERENCE not in read_accepted(accept):
            raise refusal
        return replace(read, notes=(*read.notes, f"Accepted: {refusal.found}."))
    flags = _flag_slices(case, case.labels, read)
    mask = np.ascontiguousarray(np.broadcast_to(flags[:, None, None], read.hu.shape))
    alone = case.labels.slices is None and len(read.hu) > 1
    return replace(read, mask=mask, known="study" if alone else "slices")


def _find_refusal(case: Case, read: Referenced) -> InputError | None:
    """Find what speaks against a mask: one that marks most of a slice is one of something else, or black and white are
    exchanged; one that lies mostly in air or bone is another study's, or one of its axes is reversed.
    """
    shares = read.mask.mean(axis=(1, 2))
    row, mask_of = int(shares.argmax()), next((one for one in case.masks if one is not None), None)
    if shares[row] > _MOST:
        mask_of = case.masks[row] if case.kind == "pictures" else mask_of
        found = f"a mask that marks {shares[row]:.0%} of slice {row + 1}"
        needed = "hemorrhage marked, and 0 or black outside"
        remedy = "exchange black and white, or export the hemorrhage's labels alone"
    else:
        inside = read.hu[read.mask]
        share = float(((inside < _AIR_HU) | (inside > _BONE_HU)).mean()) if len(inside) else 0.0
        if share <= _MOST:
            return None
        found, needed = f"a mask that lies to {share:.0%} in air or bone", "the hemorrhage of this image"
        remedy = "check that the mask is this study's, and that no axis of it was reversed when it was exported"
    return InputError(
        mask_of or case.name, found=found, needed=needed,
        remedy=f"{remedy}; or, if it is right all the same, --accept {REFERENCE}",
    )  # fmt: skip


def _flag_slices(case: Case, labels: Labels, read: Referenced) -> BoolArray:
    """(slice,) which bleed; all, where only the study is known to.

    A slice's name is its number from 1 at the feet, or a DICOM slice's SOP Instance UID; a picture's is its file name
    or the number in it.

    Raises:
        InputError: a slice that the study does not have, or that is several.
    """
    count = len(read.hu)
    if labels.slices is None:
        return np.ones(count, np.bool_)
    numbers = [str(row + 1) for row in range(count)]
    if case.kind == "pictures":
        names = [{one.name, one.stem} for one in case.images]
        numbers = _number_pictures(case.images) or numbers
    elif read.study is not None and read.study.dicom is not None:
        names = [{_sop_uid(header)} for header in read.study.dicom.headers]
    else:
        names = [set[str]() for _ in range(count)]
    flags = np.zeros(count, np.bool_)
    for slice_name in sorted(labels.slices - read.others):
        rows = [row for row, one in enumerate(names) if slice_name in one]
        if not rows and slice_name.isdecimal():
            rows = [row for row, one in enumerate(numbers) if one == str(int(slice_name))]
        if len(rows) != 1:
            raise InputError(
                case.name, found=f"the table of labels names slice '{slice_name}', which is "
                f"{len(rows) if rows else 'none'} of its {count} slices",
                needed="a picture's name or its number, a slice's SOP Instance UID, or its number from 1 at the feet",
                remedy="correct the table of labels",
            )  # fmt: skip
        flags[rows[0]] = True
    return flags


def _number_pictures(paths: Sequence[Path]) -> list[str]:
    """The numbers at the ends of pictures' names, without leading zeros; none where they do not tell the slices."""
    ends = [re.search(r"\d+$", one.stem) for one in paths]
    numbers = [str(int(one[0])) for one in ends if one]
    return numbers if len(set(numbers)) == len(paths) else []


def _sop_uid(header: Dataset) -> str:
    return text(header, "SOPInstanceUID") or ""


def _read_pictures(case: Case, window: Window) -> Referenced:
    """Read all slices of a patient, one above the other in the order of their numbers."""
    slices: list[FloatArray] = []
    looks: list[PictureLook] = []
    masks: list[BoolArray] = []
    for image, mask in zip(case.images, case.masks or [None] * len(case.images), strict=True):
        grey, turned = images.read_picture(image)
        if slices and grey.shape != slices[0].shape:
            raise InputError(
                image, found=f"{grey.shape[0]} × {grey.shape[1]} pixels (rows × columns)",
                needed=f"{slices[0].shape[0]} × {slices[0].shape[1]}, as the first of the patient's slices has",
                remedy="give slices of one series, and each patient a folder",
            )  # fmt: skip
        slices.append(picture_to_hu(grey, window))
        looks.append(measure_picture(image.name, grey, window, turned))
        shape = (grey.shape[0], grey.shape[1])
        masks.append(np.zeros(shape, np.bool_) if mask is None else _read_picture_mask(mask, shape, case.mask_labels))
    return Referenced(np.stack(slices), np.stack(masks), None, note_turned(looks), looks=tuple(looks))


def _read_picture_mask(path: Path, shape: tuple[int, int], wanted: frozenset[int]) -> BoolArray:
    """Read a mask in black and white, or with a grey, a colour or a number for each label; black is outside.

    Of `wanted` labels, if any, those numbers or greys alone are taken.
    """
    drawn, colours = images.read_drawing(path)
    if drawn.shape != shape:
        raise InputError(
            path, found=f"a mask of {drawn.shape[0]}×{drawn.shape[1]} pixels (rows × columns)",
            needed=f"{shape[0]}×{shape[1]}, the size of its slice",
            remedy="export the mask again on the slice's own grid",
        )  # fmt: skip
    if wanted and colours:
        return np.isin(drawn, list(wanted))
    bright = drawn > images.MASK_THRESHOLD
    if 0 < colours <= _LABELS:
        # What lies within a soft edge's width of what is bright is such an edge; all else is a label of its own.
        rim = ndimage.binary_dilation(bright, iterations=_EDGE)
        return np.asarray(drawn > 0 if ((drawn > 0) & ~rim).any() else bright, np.bool_)
    highest = int(drawn.max())
    if highest <= _BLACK:  # a dark JPEG is noise on an empty mask
        return np.zeros(shape, np.bool_)
    grey_pixels = (drawn > _BLACK) & (drawn < _WHITE)
    between = float(grey_pixels.mean())
    areas = bool(ndimage.binary_erosion(grey_pixels, _AREA).any())
    if areas or between > _GREYS or not bright.any():
        found = f"greys up to {highest}, {100 * between:.1f} % of the pixels neither black nor white"
        found += ", areas of grey among them" if areas else ""
        raise InputError(
            path, found=found, needed="a mask: black outside; white, or in a PNG a grey or colour for each label",
            remedy="export the mask itself, not a picture with it drawn in; labels as PNG, not as JPEG",
        )  # fmt: skip
    return bright


def _read_nifti(case: Case) -> Referenced:
    study = read_study(case.images[0])
    mask, notes = _read_volume_masks([one for one in case.masks if one is not None], study, case.mask_labels)
    return Referenced(study.volume.hu, mask, study, (*study.notes, *notes))


def _read_volume_masks(paths: Sequence[Path], study: Study, wanted: frozenset[int]) -> tuple[BoolArray, list[str]]:
    """Read NIfTI masks on a study's grid, (slice, row, column) bool, and what reading had to decide."""
    mask = np.zeros(study.volume.hu.shape, np.bool_)
    notes: list[str] = []
    for path in paths:
        read, grid = nifti.read_labels(path)
        notes += [f"Mask: {one}" for one in grid.notes]
        drawn = _to_labels(path, read)
        _check_grid(path, drawn, study.volume)
        mask |= np.asarray(np.isin(drawn.hu, list(wanted)) if wanted else drawn.hu > 0, np.bool_)
        labels = [int(value) for value in np.unique(drawn.hu) if value]
        if wanted and labels and wanted.isdisjoint(labels):
            held = ", ".join(map(str, labels))
            notes.append(f"The mask has label {held}, and none that --mask-label names: it counts as free of lesions.")
        if len(labels) > 1 and not wanted:
            notes.append(
                f"Labels {', '.join(map(str, labels))} of the mask were united; if some are no hemorrhage, say which "
                "are by --mask-label."
            )
    return mask, notes


def _read_dicom(case: Case) -> Referenced:
    """Read the series that the SEG objects refer to, and their hemorrhage on its slices; without any, an empty mask.

    A NIfTI mask is one of the series that the program chooses; on another's grid it is refused.
    """
    volumes = [one for one in case.masks if one is not None and nifti.is_nifti(one)]
    objects = [one for one in case.masks if one is not None and one not in volumes]
    segmented = [read_segmentation(path) for path in objects]
    about = [one for one in segmented if one.hemorrhage]
    if objects and not about:
        labels = sorted({label for one in segmented for label in one.labels.values()})
        raise InputError(
            objects[0], found=f"no segment of hemorrhage (segments: {', '.join(labels[:8]) or 'none'})",
            needed="a segment whose label or coded type names a hemorrhage or hematoma",
            remedy="name the segments in the program that drew them, and export again",
        )  # fmt: skip
    found = scan_files(case.images[0].parent, case.images)
    wanted = {series_uid for one in about for series_uid in one.series}
    labelled: dict[str, str] = {}  # slice -> its series
    if case.labels is not None and case.labels.slices:
        uids = {_sop_uid(one.header): one.series for one in found.files}
        labelled = {name: uids[name] for name in case.labels.slices if name in uids}
        wanted = set(labelled.values())
    subject = f"{objects[0]}" if objects else case.name
    if wanted:
        found = _keep_series(found, wanted, subject)
    study = replace(read_study(found, study=case.uid), name=case.name, source=case.name)
    assert study.dicom is not None
    unread = wanted - {text(header, "SeriesInstanceUID") or "" for header in study.dicom.headers}
    if len(wanted) > 1 and unread and not labelled:
        raise InputError(
            subject, found=f"the study's SEG objects refer to {len(wanted)} series that are not one scan",
            needed="one series with its reference", remedy="keep the SEG objects of one series",
        )  # fmt: skip
    others = frozenset(name for name, series_uid in labelled.items() if series_uid in unread)
    mask, of_volumes = _read_volume_masks(volumes, study, case.mask_labels)
    notes = [*study.notes, *of_volumes]
    for one in about:
        mask |= one.on(study.dicom)
        notes += one.notes
    if others:
        notes.append("The table labels slices of several series; the one that the program chooses is measured.")
    if len(about) > 1:
        notes.append(f"The hemorrhage of {len(about)} SEG objects was united.")
    return Referenced(study.volume.hu, mask, study, tuple(notes), others=others)


def _keep_series(found: DicomFound, wanted: set[str], subject: str) -> DicomFound:
    files = tuple(file for file in found.files if file.series in wanted)
    if not files:
        others = len({file.series for file in found.files})
        raise InputError(
            subject, found=f"refers to series {next(iter(wanted))}, none of the {others} that the study's files hold",
            needed="the series that was outlined", remedy="add that series' files to the folder",
        )  # fmt: skip
    return DicomFound(found.path, files, found.unreadable, 0, 0)


def _to_labels(path: Path, read: Volume) -> Volume:
    """Give a mask's labels as whole numbers, and refuse what is no mask."""
    values = np.unique(read.hu)
    whole = np.abs(values - np.round(values)) <= _ROUNDED
    if whole.all() and values[0] > -0.5 and len(values) <= _LABELS:
        return replace(read, hu=np.round(read.hu))
    found = f"{len(values)} different values"
    remedy = "threshold a probability map first; give the mask, not the image"
    if len(values) <= _LABELS and whole.all():
        found = f"values such as {values[0]:g}"
        remedy = "write 0 where nothing is marked, and a number above 0 where something is"
    elif (odd := values[~whole | (values < 0)]).size:
        found = f"values such as {odd[len(odd) // 2]:g}"
    raise InputError(path, found=found, needed="a mask: 0 outside, whole numbers above 0 in lesions", remedy=remedy)


def _check_grid(path: Path, drawn: Volume, image: Volume) -> None:
    """Refuse a mask on another grid. Both are in the standard view: files may store their axes in different orders."""
    if drawn.hu.shape != image.hu.shape:
        raise InputError(
            path,
            found=f"a mask of {_format_shape(drawn)} voxels (slices × rows × columns)",
            needed=f"{_format_shape(image)}, as its image",
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


def _format_shape(volume: Volume) -> str:
    return " × ".join(map(str, volume.hu.shape))
