"""Readers' outlines as a data set: the images of each study, and the outline as a DICOM segmentation beside them.

Per study the newest correction counts; else the program's own outline where a reader agreed, and an empty one where a
reader called it a false alarm. `bleedmap evaluate --studies` and `bleedmap train` read the folder.
"""

import csv
import hashlib
import hmac
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid
from sqlalchemy import Connection, RowMapping

from bleedmap.arrays import BoolArray
from bleedmap.errors import BleedmapError, InputError
from bleedmap.inference.weights import WeightsFile, locate
from bleedmap.io.dicom.header import set_up_pydicom
from bleedmap.io.dicom.producer import NAME, Producer, write_dicom
from bleedmap.io.dicom.seg import LesionMeasure, make_mask_segmentation
from bleedmap.io.files import folder_written_whole
from bleedmap.server import view
from bleedmap.server.config import Settings
from bleedmap.server.place import Place
from bleedmap.server.store import audit, readings, studies
from bleedmap.server.store.engine import Database
from bleedmap.study.read import Study, read_study

SEGMENTATION, PATIENTS, STUDIES, READ_ME = "outline.dcm", "patients.csv", "studies.csv", "README.txt"
# What a pseudonymous copy keeps: what reading, segmenting and measuring need. All else is left out, in sequences too.
_KEPT = frozenset((
    "SOPClassUID", "Modality", "ImageType", "PatientSex", "PatientAge", "BodyPartExamined", "KVP",
    "ConvolutionKernel", "SliceThickness", "SpacingBetweenSlices", "GantryDetectorTilt", "ContrastBolusAgent",
    "Manufacturer", "ManufacturerModelName", "SeriesNumber", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "SliceLocation", "SamplesPerPixel", "PhotometricInterpretation",
    "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "RescaleIntercept", "RescaleSlope", "RescaleType", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod", "NumberOfFrames", "PixelData",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PlanePositionSequence",
    "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence",
    "CTImageFrameTypeSequence", "CTReconstructionSequence", "CTGeometrySequence", "CTXRayDetailsSequence",
    "FrameType", "FrameContentSequence", "StackID", "InStackPositionNumber", "DimensionIndexValues",
))  # fmt: skip
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_METHOD = "bleedmap: all attributes but those that reading and measuring need were left out"
_WORDS = """Outlines by readers, exported by bleedmap; research only.

Each folder holds the images of one study and outline.dcm, a DICOM segmentation. studies.csv says where each outline
comes from: a correction by brush, the program's own outline that a reader agreed with, or an empty one where a reader
called the program's a false alarm. patients.csv says whose each study is: keep the studies of a patient on one side of
a split, and freeze the test side before anything is learned.

Studies that readers opened and corrected are not a sample of all that came: what is measured on them holds for such
studies alone. Take the agreed ones together with the corrected ones.
"""


@dataclass(frozen=True)
class Outline:
    """What counts as the outline of one study."""

    row: RowMapping
    source: str
    reader: str
    at: float
    file: str


def export_corrections(
    database: Database, place: Place, settings: Settings, folder: Path, *, pseudonymous: bool = False
) -> tuple[Counter[str], Counter[str]]:
    """Write images and outlines of all studies that a reader judged into a new folder, whole or not at all.

    Args:
        folder: new or empty.
        pseudonymous: without names, numbers and dates, and with other UIDs, the same for the same study.

    Returns:
        Studies that were written, by the source of their outline; and those left out, by the reason.

    Raises:
        OutputError: the folder cannot be written.
        WeightsError: the installed weights are missing or damaged.
    """
    written, left = Counter[str](), Counter[str]()
    rows, people = [], []
    with database.read() as connection:
        outlines = list(_list_outlines(connection, left))
        who = {row["id"]: row["patient_id"] for row in studies.list_worklist(connection, order="arrival", limit=10**9)}
    weights = locate(settings.worker.weights or None)
    key = place.key_of("pseudonyms of exports").encode()
    readers: dict[str, str] = {}
    with folder_written_whole(folder) as inside:
        for number, one in enumerate(outlines, 1):
            name = f"study-{number:05d}"
            try:
                _export(place, one, inside / name, weights, key if pseudonymous else None)
            except BleedmapError as error:
                left[error.found] += 1
                continue
            patient = who.get(one.row["id"]) or one.row["id"]
            reader = readers.setdefault(one.reader, f"reader-{len(readers) + 1}") if pseudonymous else one.reader
            people.append([name, _hide(key, patient) if pseudonymous else patient])
            at = "" if pseudonymous else datetime.fromtimestamp(one.at).isoformat(timespec="seconds")
            rows.append([name, one.source, reader, at, one.row["verdict"] or ""])
            written[one.source] += 1
        _write_csv(inside / PATIENTS, ["study", "patient"], people)
        _write_csv(inside / STUDIES, ["study", "outline", "reader", "at", "verdict of the program"], rows)
        (inside / READ_ME).write_text(_WORDS, "utf-8")
        with database.write() as connection:  # first: no copy leaves the server without it
            now, count = database.now(connection), written.total()
            audit.record(connection, now, "server", "corrections exported", count=count, pseudonymous=pseudonymous)
    return written, left


def _list_outlines(connection: Connection, left: Counter[str]) -> Iterator[Outline]:
    """The outline that counts of each judged study: of its newest version that was judged."""
    drawn = readings.list_corrections(connection)
    said = readings.list_readings(connection)
    judged = {(one["study"], one["version"]) for one in (*drawn, *said)}
    for number in sorted({study for study, _ in judged}):
        version = max(version for study, version in judged if study == number)
        row = studies.find(connection, number, version)
        assert row is not None
        mine = [one for one in drawn if (one["study"], one["version"]) == (number, version)]
        words = [one for one in said if (one["study"], one["version"]) == (number, version)]
        if mine:
            last = mine[-1]
            yield Outline(row, "correction", last["user_name"], last["at"], last["file"])
        elif words[-1]["says"] in ("agree", "false alarm") and row["verdict"] is not None:  # else there was no outline
            source = "agreed" if words[-1]["says"] == "agree" else "false alarm"
            yield Outline(row, source, words[-1]["user_name"], words[-1]["at"], "")
        else:
            left[f"a reader said '{words[-1]['says']}' and drew nothing"] += 1


def _export(place: Place, one: Outline, folder: Path, weights: WeightsFile, key: bytes | None) -> None:
    """Write one study: the images of the series that was read, and the outline on them."""
    number, version = one.row["id"], one.row["version"]
    images = place.dicom(number, version)
    if not images.is_dir():
        raise InputError("images", found="its images were deleted by age", needed="images", remedy="export earlier")
    read = read_study(images, name="study")
    mask = _read_mask(place, one, read.volume.hu.shape)
    if read.dicom is None:
        raise InputError("images", found="no DICOM series", needed="DICOM", remedy="send the study again")
    folder.mkdir()
    used = {str(header.SOPInstanceUID) for header in read.dicom.headers}
    set_up_pydicom()
    for count, path in enumerate(sorted(images.iterdir()), 1):
        instance = dcmread(path)
        if str(instance.get("SOPInstanceUID")) in used:
            made = instance if key is None else _copy_pseudonymous(instance, key)
            write_dicom(folder / f"{count:05d}.dcm", made)
    again = read_study(folder, name="study") if key is not None else read
    if again.volume.hu.shape != mask.shape or not np.array_equal(again.volume.hu, read.volume.hu):
        raise InputError("copy", found="its copy does not read as the same slices", needed="", remedy="")
    _write_outline(folder / SEGMENTATION, again, mask, weights, one, "" if key is not None else one.reader)


def _read_mask(place: Place, one: Outline, shape: tuple[int, ...]) -> BoolArray:
    if one.source == "false alarm":
        return np.zeros(shape, np.bool_)
    number, version = one.row["id"], one.row["version"]
    path = place.corrections(number) / one.file if one.file else place.view(number, version) / view.MASK
    if not path.is_file():
        raise InputError("outline", found="its outline was deleted by age", needed="outline", remedy="export earlier")
    return np.asarray(view.read_view(path) > 0)


def _write_outline(path: Path, read: Study, mask: BoolArray, weights: WeightsFile, one: Outline, reader: str) -> None:
    """Write an outline as a segmentation of one segment, by a person with the program's help (C.8.20.2)."""
    assert read.dicom is not None
    volume_ml = float(mask.sum(axis=(1, 2)) @ read.volume.grid.voxel_ml)
    lesions = [LesionMeasure("Hemorrhage", volume_ml, None, 0.0, 0.0, None)] if mask.any() else []
    producer = Producer(weights.name, weights.sha256, weights.threshold, datetime.fromtimestamp(one.at))
    made = make_mask_segmentation(read.dicom, mask.astype(np.uint8), lesions, producer)
    for segment in made.SegmentSequence:
        segment.SegmentAlgorithmType = "SEMIAUTOMATIC"
    made.SeriesDescription = f"{NAME}: outline by a reader ({one.source}), research only"
    made.ContentDescription = "Intracranial hemorrhage, outlined by a reader"
    made.ContentCreatorName = reader or None
    write_dicom(path, made)


def _copy_pseudonymous(source: Dataset, key: bytes) -> Dataset:
    """Copy what `_KEPT` names, with other UIDs and a pseudonym for the patient."""
    made = _filter(source)
    for keyword in _UIDS:
        if value := source.get(keyword):
            setattr(made, keyword, generate_uid(entropy_srcs=[key.hex(), str(value)]))
    made.PatientID = _hide(key, str(source.get("PatientID") or source.StudyInstanceUID))
    made.PatientName = made.PatientID
    made.PatientBirthDate = made.StudyDate = made.StudyTime = made.AccessionNumber = made.StudyID = ""
    made.ReferringPhysicianName = ""
    made.PatientIdentityRemoved, made.DeidentificationMethod = "YES", _METHOD[:64]
    made.file_meta = type(source.file_meta)()
    made.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    made.file_meta.MediaStorageSOPClassUID = source.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def _filter(source: Dataset) -> Dataset:
    made = Dataset()
    for element in source:
        if element.keyword not in _KEPT:
            continue
        if element.VR == "SQ":
            setattr(made, element.keyword, [_filter(item) for item in element.value])
        else:
            made.add(element)
    return made


def _hide(key: bytes, text: str) -> str:
    """A pseudonym: the same for the same text on this server, and nothing elsewhere."""
    return "P" + hmac.new(key, text.encode(), hashlib.sha256).hexdigest()[:15].upper()


def _write_csv(path: Path, head: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
