"""DICOM studies with the SEG objects that belong to them, found by their UIDs; and one read with its reference mask."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bleedmap.archive.find import Source, display_path, find_studies
from bleedmap.arrays import BoolArray
from bleedmap.errors import InputError
from bleedmap.evaluation.pairs import LeftOut
from bleedmap.io import nifti
from bleedmap.io.dicom.files import DicomFound, holds_dicom, scan, scan_files
from bleedmap.io.dicom.planes import sop_class
from bleedmap.io.dicom.seg_read import SEGMENTATIONS, read_segmentation
from bleedmap.study.read import Study, read_study


@dataclass(frozen=True)
class DicomCase:
    """The files of one study.

    Attributes:
        name: the place below the folder that was searched.
        uid: Study Instance UID.
        images: all its DICOM files but SEG objects, damaged ones too.
        segmentations: its SEG objects.
    """

    name: str
    uid: str
    images: tuple[Path, ...]
    segmentations: tuple[Path, ...]


def dicom_cases(
    folder: Path, masks: Path | None, leave_out: Path, seen: Callable[[int], None]
) -> tuple[list[DicomCase], list[LeftOut]]:
    """The DICOM studies of a folder.

    Args:
        folder: of the images, which may hold the SEG objects too.
        masks: of the SEG objects, where they lie elsewhere.
        leave_out: the place of the results.
        seen: called with the number of files looked at so far.

    Returns:
        The studies, with and without a SEG object; and SEG objects and files that belong to none.
    """
    images: dict[str, tuple[str, list[Path]]] = {}
    objects: dict[str, list[Path]] = defaultdict(list)
    left: list[LeftOut] = []
    for place in [folder] if masks is None or not holds_dicom(masks) else [folder, masks]:
        for source in find_studies(place, leave_out, seen).sources:
            if nifti.is_nifti(source.path):
                continue
            if source.uid is None or source.path.suffix.lower() == ".zip":
                left.append(_unread(source))
                continue
            of_images, of_masks = _sorted(source)
            if of_images:
                name = source.place if source.place != "." else place.resolve().name
                images.setdefault(source.uid, (name, []))[1].extend(of_images)
            objects[source.uid] += [one for one in of_masks if one not in objects[source.uid]]
    counted = [place for place, _ in images.values()]
    cases = [
        DicomCase(
            place if counted.count(place) == 1 else f"{place}#{uid}", uid, tuple(dict.fromkeys(files)),
            tuple(objects.get(uid, ())),
        )
        for uid, (place, files) in images.items()
    ]  # fmt: skip
    lost = [path for uid, paths in objects.items() if uid not in images for path in paths]
    left += [LeftOut(display_path(path), "a SEG object of a study that is not in the folder") for path in lost]
    return cases, left


def _unread(source: Source) -> LeftOut:
    zipped = source.path.suffix.lower() == ".zip"
    return LeftOut(source.place, "a zip: unpack it" if zipped else "DICOM that cannot be read")


def _sorted(source: Source) -> tuple[list[Path], list[Path]]:
    """Files of images, unreadable ones among them, and SEG objects."""
    images: list[Path] = []
    objects: list[Path] = []
    for path in map(Path, source.files):
        try:
            kinds = {sop_class(file) for file in scan(path).files}
        except InputError:
            kinds = set()
        (objects if kinds & set(SEGMENTATIONS) else images).append(path)
    return images, objects


@dataclass(frozen=True, eq=False)
class DicomReference:
    """A study and its reference.

    Attributes:
        study: as `read_study` gives it, under its name in the folder that was searched.
        mask: (slice, row, column) bool on the study's grid.
        notes: what was decided, in sentences.
    """

    study: Study
    mask: BoolArray
    notes: tuple[str, ...]


def read_dicom_reference(name: str, images: Sequence[Path], objects: Sequence[Path], uid: str | None) -> DicomReference:
    """Read the series that the SEG objects refer to, and their hemorrhage on its slices.

    Args:
        name: of the study, for messages.
        images: its DICOM files.
        objects: its SEG objects; none for a study that is known to be free of lesions.
        uid: Study Instance UID.

    Raises:
        InputError: nothing that can be read, or SEG objects that fit no series, several, or not their slices.
    """
    segmented = [read_segmentation(path) for path in objects]
    about = [one for one in segmented if one.hemorrhage]
    if objects and not about:
        labels = sorted({label for one in segmented for label in one.labels.values()})
        raise InputError(
            objects[0], found=f"no segment of hemorrhage (segments: {', '.join(labels[:8]) or 'none'})",
            needed="a segment whose label or coded type names a hemorrhage or hematoma",
            remedy="name the segments in the program that drew them, and export again",
        )  # fmt: skip
    found = scan_files(images[0].parent, images)
    wanted = {series_uid for one in about for series_uid in one.series}
    if wanted:
        found = _of_series(found, wanted, objects[0])
    study = replace(read_study(found, study=uid), name=name, source=name)
    assert study.dicom is not None
    mask = np.zeros(study.volume.hu.shape, np.bool_)
    notes = list(study.notes)
    for one in about:
        mask |= one.on(study.dicom)
        notes += one.notes
    if len(about) > 1:
        notes.append(f"The hemorrhage of {len(about)} SEG objects was united.")
    return DicomReference(study, mask, tuple(notes))


def _of_series(found: DicomFound, wanted: set[str], subject: Path) -> DicomFound:
    if len(wanted) > 1:
        raise InputError(
            subject, found=f"the study's SEG objects refer to {len(wanted)} series", needed="one series with its mask",
            remedy="keep the SEG objects of one series",
        )  # fmt: skip
    files = tuple(file for file in found.files if file.series in wanted)
    if not files:
        others = len({file.series for file in found.files})
        raise InputError(
            subject, found=f"refers to series {next(iter(wanted))}, none of the {others} that the study's files hold",
            needed="the series that was outlined", remedy="add that series' files to the folder",
        )  # fmt: skip
    return DicomFound(found.path, files, found.unreadable, 0, 0)
