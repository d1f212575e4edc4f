"""A study's DICOM results: segmentation, report and pictures of a DICOM series, as files for a PACS."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.uid import generate_uid

from bleedmap.arrays import ByteArray
from bleedmap.io.dicom.capture import Capture, make_captures
from bleedmap.io.dicom.producer import Producer, write_dicom
from bleedmap.io.dicom.seg import LesionMeasure, make_mask_segmentation, make_probability_segmentation
from bleedmap.io.dicom.series import DicomSeries
from bleedmap.postprocess import label_lesions
from bleedmap.results.pictures import capture_pictures, words_height
from bleedmap.results.sr import make_measurement_report
from bleedmap.results.standard import parse_on_demand
from bleedmap.results.tables import lesion_rows
from bleedmap.study.result import Result
from bleedmap.study.words import certainty_sentences
from bleedmap.volume import Volume

OWN_SEGMENTS = 20  # the largest lesions have a segment each; smaller ones share the last, so that viewers list few


def write_dicom_results(
    folder: Path, result: Result, series: DicomSeries, *, pictures: bool = True, fractional: bool = False,
    made_at: datetime | None = None, new_uid: Callable[[], str] | None = None, predecessor: Path | None = None,
) -> dict[str, str]:  # fmt: skip
    """Make and write what a PACS takes of a study that was read from DICOM; a negative one has the same.

    It is all of the source's study: a BINARY segmentation, with one empty segment where there is no lesion; a report,
    TID 1500; and secondary captures, one a picture.

    Args:
        series: its `dicom`.
        pictures: whether to make secondary captures.
        fractional: whether to add the probability as a FRACTIONAL segmentation, a byte a pixel.
        made_at: the moment that all of them carry; None: now.
        new_uid: gives each of their UIDs at a call, always in the same order; None: random ones.
        predecessor: file of an earlier report of the study, which the new one names.

    Returns:
        What each is -> its name in `folder`, the pictures as their folder.

    Raises:
        InputError: the series' headers lack the UIDs that a reference needs.
        OutputError: they cannot be written.
    """
    captures = [_scale(result.volume, *one) for one in capture_pictures(result)] if pictures else []
    parse_on_demand()
    shown = "" if result.slabs is None else result.slabs.words
    producer = Producer(
        result.weights.name, result.weights.sha256, result.threshold, made_at or datetime.now(),
        new_uid or generate_uid, shown,
    )  # fmt: skip
    measures = lesion_measures(lesion_rows(result))
    labels = label_lesions(result.mask.array, max(len(measures), 1))
    mask = make_mask_segmentation(series, labels, measures, producer)
    report = make_measurement_report(
        mask, measures, producer, highest_probability=result.findings.highest_probability,
        remarks=[
            *certainty_sentences(result.certainty),
            *(f"Input check '{one.name}': {one.found}. {one.meaning}" for one in result.warnings), *result.notes,
        ],
        certainty=result.certainty, predecessor=None if predecessor is None else dcmread(predecessor),
    )  # fmt: skip
    made = {"dicom_segmentation": ("segmentation.dcm", mask), "dicom_report": ("report.dcm", report)}
    for number, picture in enumerate(make_captures(series, captures, producer), 1):
        write_dicom(folder / "pictures" / f"{number:04d}.dcm", picture)
    if fractional:
        probability = make_probability_segmentation(series, result.probability, producer)
        made["dicom_probability"] = ("probability.dcm", probability)
    for name, content in made.values():
        write_dicom(folder / name, content)
    return {what: name for what, (name, _) in made.items()} | {"dicom_pictures": "pictures"}


def _scale(volume: Volume, index: int, picture: ByteArray) -> Capture:
    """Give a picture its scale: the slice fills it between the words above and below."""
    (_, rows, columns), (_, row_mm, column_mm) = volume.hu.shape, volume.grid.spacing_mm
    height, width, _ = picture.shape
    shown = height - 2 * words_height(width)
    return Capture(picture, index, (rows * row_mm / shown, columns * column_mm / width))


def lesion_measures(rows: Sequence[dict[str, Any]]) -> tuple[LesionMeasure, ...]:
    """Rows of the lesion table -> a measure for each segment: past `OWN_SEGMENTS` lesions the rest are one."""
    own, rest = rows[:OWN_SEGMENTS], rows[OWN_SEGMENTS:]
    measures = [
        LesionMeasure(
            f"Lesion {row['lesion']}", row["volume_ml"], row["mean_hu"], row["mean_probability"],
            row["highest_probability"], row["longest_axial_diameter_mm"], row["perpendicular_diameter_mm"],
            row["height_mm"], row["abc2_ml"], row["skull_distance_mm"], row["side"],
        )
        for row in own
    ]  # fmt: skip
    if rest:
        pixels = np.array([row["pixels"] for row in rest], float)
        measures.append(
            LesionMeasure(
                f"Lesions {rest[0]['lesion']} to {rest[-1]['lesion']}",
                float(sum(row["volume_ml"] for row in rest)),
                float(np.average([row["mean_hu"] for row in rest], weights=pixels)),
                float(np.average([row["mean_probability"] for row in rest], weights=pixels)),
                max(row["highest_probability"] for row in rest),
            )
        )
    return tuple(measures)
