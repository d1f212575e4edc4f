"""Make lesions into a DICOM Segmentation on the original slices: PS3.3 A.51 and C.8.20, by highdicom."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from bleedmap import __version__
from bleedmap.arrays import AnyArray
from bleedmap.io.dicom import producer as words
from bleedmap.io.dicom.producer import MASK_SERIES, NAME, PROBABILITY_SERIES, RESEARCH, Producer
from bleedmap.io.dicom.series import DicomSeries, make_source_planes, refer_to_instances, refer_to_slice
from bleedmap.volume import ProbabilityMap

_COLOURS = ((215, 25, 28), (253, 174, 97), (255, 255, 51), (166, 86, 40), (247, 129, 191), (152, 78, 163))  # RGB
_STEPS = 255  # of a stored probability: eight bits


@dataclass(frozen=True)
class LesionMeasure:
    """What DICOM results say about one lesion, or about several small ones that share a segment.

    What is not known is None; so is all from `longest_axial_mm` on for several lesions.
    """

    label: str  # 'Lesion 1', 'Lesions 21 to 34'; ASCII, at most 64 characters
    volume_ml: float  # each slice counts with what it stands for
    mean_hu: float | None  # over its voxels; None where not known
    mean_probability: float  # over its voxels, 0 to 1
    highest_probability: float  # 0 to 1
    longest_axial_mm: float | None = None  # largest distance of two corners of its pixels within one axial slice
    perpendicular_mm: float | None = None  # at right angles to it, on that slice
    height_mm: float | None = None  # from its lowest axial slice to its highest
    abc2_ml: float | None = None  # the bedside estimate of its volume
    skull_mm: float | None = None  # smallest distance to the inner table of the skull
    side: str | None = None  # of the head: left, right, both or midline


def make_mask_segmentation(
    series: DicomSeries, labels: AnyArray, lesions: Sequence[LesionMeasure], producer: Producer
) -> Segmentation:
    """Make a BINARY segmentation, one segment a lesion; where there is none, one empty segment on every slice.

    Args:
        series: the CT, whose slices are referred to.
        labels: (slice, row, column) uint8 or uint16 in the standard view: 0, or a lesion's number from 1.
        lesions: lesion 1, 2, …

    Raises:
        InputError: the series' headers lack the UIDs that a reference needs.
    """
    names = [one.label for one in lesions] or ["Intracranial hemorrhage: none outlined"]
    volume_ml = sum(one.volume_ml for one in lesions)
    found = f"hemorrhage {volume_ml:.3g} mL" if lesions else "no hemorrhage outlined"
    segments = [_make_segment(number, name, producer) for number, name in enumerate(names, 1)]
    return _make_segmentation(
        series, labels, SegmentationTypeValues.BINARY, segments, producer,
        series_number=MASK_SERIES, series_description=f"{NAME}: {found}, {RESEARCH}",
        content_label="HEMORRHAGE", content_description="Intracranial hemorrhage, outlined by a neural network",
        omit_empty_frames=bool(lesions),  # PS3.3 C.7.6.6: at least one frame; so nothing found is drawn on every slice
    )  # fmt: skip


def make_probability_segmentation(series: DicomSeries, probability: ProbabilityMap, producer: Producer) -> Segmentation:
    """Make a FRACTIONAL segmentation (PROBABILITY, 255 steps) of every slice.

    Raises:
        InputError: as `mask_segmentation`.
    """
    return _make_segmentation(
        series, np.clip(probability.array, 0, 1), SegmentationTypeValues.FRACTIONAL,
        [_make_segment(1, "Intracranial hemorrhage: probability", producer)], producer,
        series_number=PROBABILITY_SERIES, series_description=f"{NAME}: probability, {RESEARCH}",
        content_label="PROBABILITY", content_description="Probability of hemorrhage by a neural network",
        omit_empty_frames=False, max_fractional_value=_STEPS,
    )  # fmt: skip


def _make_segment(number: int, label: str, producer: Producer) -> SegmentDescription:
    """Make one segment (PS3.3 C.8.20.4); by its tracking UID the report's measurements refer to it."""
    algorithm = AlgorithmIdentificationSequence(
        name=NAME, family=words.AI, version=__version__, source=NAME,
        parameters=dict(one.split("=", 1) for one in producer.parameters),
    )  # fmt: skip
    return SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=words.ABNORMAL_STRUCTURE,
        segmented_property_type=words.HEMORRHAGE,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=producer.new_uid(),
        tracking_id=label,
        anatomic_regions=[words.BRAIN],
        display_color=CIELabColor.from_rgb(*_COLOURS[(number - 1) % len(_COLOURS)]),
    )


def _make_segmentation(
    series: DicomSeries,
    array: AnyArray,
    kind: SegmentationTypeValues,
    segments: Sequence[SegmentDescription],
    producer: Producer,
    **described: Any,
) -> Segmentation:
    """Make the instance, each frame with its slice's own place and a reference to it."""
    planes = make_source_planes(series)
    result = Segmentation(
        source_images=planes,
        pixel_array=series.as_stored(array),
        segmentation_type=kind,
        segment_descriptions=segments,
        series_instance_uid=producer.new_uid(),
        sop_instance_uid=producer.new_uid(),
        instance_number=1,
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=None,
        **producer.equipment(),
        **described,
    )
    _point_to_source(result, series)
    organisation = producer.new_uid()
    for item in (*result.DimensionOrganizationSequence, *result.DimensionIndexSequence):
        item.DimensionOrganizationUID = organisation
    producer.sign(result, planes[0])
    return Segmentation.from_dataset(result, copy=False)  # which reads the references anew


def _point_to_source(result: Dataset, series: DicomSeries) -> None:
    """Put true references in place of the planes' indices: C.7.6.16.2.6, and those of the whole instance."""
    for frame in result.PerFrameFunctionalGroupsSequence:
        (derivation,) = frame.DerivationImageSequence
        (plane,) = derivation.SourceImageSequence
        source = Dataset()  # a new one: two segments on a slice share the plane's
        source.update(plane)
        source.update(refer_to_slice(series, int(plane.ReferencedSOPInstanceUID)))
        derivation.SourceImageSequence = [source]
    instances = refer_to_instances(series)
    result.SourceImageSequence = [one for own in instances.values() for one in own]
    result.ReferencedSeriesSequence = []
    for uid, own in instances.items():
        referenced = Dataset()
        referenced.SeriesInstanceUID, referenced.ReferencedInstanceSequence = uid, own
        result.ReferencedSeriesSequence.append(referenced)
