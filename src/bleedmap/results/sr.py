"""Make a DICOM structured report of measurements: Comprehensive 3D SR (PS3.3 A.35.13), TID 1500 (PS3.16).

The report is built by highdicom; what it says of certainty uses TID 1501 with TID 300 and 310."""

import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.seg import Segmentation
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementProperties,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    NumContentItem,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForSegmentation,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.inference.certainty import Certainty
from bleedmap.io.dicom import producer as words
from bleedmap.io.dicom.producer import NAME, REPORT_SERIES, RESEARCH, Producer
from bleedmap.io.dicom.seg import LesionMeasure

_PROBABILITY_IS = "Probabilities are the network's own per pixel; they are not a probability of disease."
_PROBABILITIES_ARE = (
    "Highest and mean probabilities are the network's own per pixel. Those of the study and of types were fitted on "
    "patients that the network had not seen; on other scanners and patients they may not hold."
)
_WHOLE_STUDY = "Whole study"
_ASCII = str.maketrans(
    {"–": "-", "—": "-", "×": "x", "·": "-", "…": "...", "’": "'", "°": " deg", "≥": ">=", "≤": "<="}
)


def make_measurement_report(
    segmentation: Segmentation,
    lesions: Sequence[LesionMeasure],
    producer: Producer,
    *,
    highest_probability: float,
    remarks: Sequence[str] = (),
    certainty: Certainty | None = None,
    predecessor: Dataset | None = None,
) -> Comprehensive3DSR:
    """Report what was found: hemorrhage detected or not, its volume, and a measurement group for each segment.

    It is complete, unverified and preliminary; it refers to the segments and, through them, to the source series.

    Args:
        segmentation: from `seg.make_mask_segmentation`, with the same lesions; patient and study are taken from it.
        lesions: none for a negative study.
        highest_probability: of any voxel of the study, 0 to 1.
        remarks: sentences for the reader: what input checks and reading had to say. Written in ASCII.
        certainty: how sure the program is; where it abstains, the report says neither 'detected' nor 'not detected'.
        predecessor: an earlier report of the same study, which this one names (PS3.3 C.17.2).
    """
    groups: list[MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations] = [
        _measure_study(lesions, highest_probability, producer, certainty),
        *(_measure_lesion(number, lesion, segmentation) for number, lesion in enumerate(lesions, 1)),
    ]
    report = MeasurementReport(
        observation_context=_describe_observer(producer),
        procedure_reported=words.HEAD_CT,
        imaging_measurements=groups,
        title=words.REPORT_TITLE,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(CodedConcept(*words.ENGLISH)),
    )
    for remark in (RESEARCH_ONLY, _PROBABILITY_IS if certainty is None else _PROBABILITIES_ARE, *remarks):
        report[0].ContentSequence.append(
            TextContentItem(words.COMMENT, _convert_to_ascii(remark), relationship_type=RelationshipTypeValues.CONTAINS)
        )
    _separate(report[0])
    result = Comprehensive3DSR(
        evidence=[segmentation, *_list_sources(segmentation)],
        content=report,
        series_instance_uid=producer.new_uid(),
        series_number=REPORT_SERIES,
        series_description=f"{NAME}: {_word_verdict(bool(lesions), certainty)}, {RESEARCH}",
        sop_instance_uid=producer.new_uid(),
        instance_number=1,
        is_complete=True,
        is_final=False,
        is_verified=False,
        previous_versions=None if predecessor is None else [predecessor],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set=None,
        coding_schemes=[CodingSchemeIdentificationItem(words.OWN_SCHEME, NAME, responsible_organization=NAME)],
        **producer.equipment(),
    )
    # highdicom takes the first evidence for the scanner's image; only its entry for itself is true.
    result.ContributingEquipmentSequence = result.ContributingEquipmentSequence[-1:]
    producer.sign(result, segmentation)
    return result


def _separate(item: Dataset) -> None:
    """Mark containers as lists of separate items: viewers leave the names out of continuous text (PS3.3 C.17.3.2)."""
    if "ContinuityOfContent" in item:
        item.ContinuityOfContent = "SEPARATE"
    for below in item.get("ContentSequence", []):
        _separate(below)


def _word_verdict(found: bool, certainty: Certainty | None) -> str:
    if certainty is None:
        return "hemorrhage detected" if found else "hemorrhage not detected"
    return "no verdict" if certainty.abstained else "bleed marked" if found else "no bleed marked"


def _measure_study(
    lesions: Sequence[LesionMeasure], highest_probability: float, producer: Producer, certainty: Certainty | None
) -> MeasurementsAndQualitativeEvaluations:
    """Measure the study, TID 1501, without naming a finding: whoever skips the evaluation must not take it for one."""
    volume_ml = sum(one.volume_ml for one in lesions)
    return MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(producer.new_uid(), _WHOLE_STUDY),
        algorithm_id=AlgorithmIdentification(NAME, __version__, parameters=producer.parameters),
        finding_sites=[FindingSite(words.BRAIN)],
        qualitative_evaluations=[_evaluate_presence(bool(lesions), certainty)],
        measurements=[
            _measure_study_volume(volume_ml, certainty),
            _measure_share(words.PROBABILITY, highest_probability, words.MAXIMUM),
            *_measure_certainty(volume_ml, certainty),
        ],
    )


def _measure_lesion(
    number: int, lesion: LesionMeasure, segmentation: Segmentation
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Measure a lesion, TID 1411; the tracking identifier is the segment's, the parameters are the whole study's."""
    segment = segmentation.SegmentSequence[number - 1]
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(segment.TrackingUID, segment.TrackingID),
        referenced_segment=ReferencedSegment(
            segmentation.SOPClassUID,
            segmentation.SOPInstanceUID,
            segment_number=number,
            **_find_source(segmentation),
        ),
        finding_category=words.ABNORMAL_STRUCTURE,
        finding_type=words.HEMORRHAGE,
        finding_sites=[FindingSite(words.BRAIN, None if lesion.side is None else words.LATERALITY[lesion.side])],
        algorithm_id=AlgorithmIdentification(NAME, __version__),
        measurements=list(_list_measurements(lesion)),
    )


def _find_source(segmentation: Segmentation) -> dict[str, Any]:
    """Find what was segmented: the one series, or each image of several; TID 1411, rows 11 and 12."""
    first, *others = segmentation.ReferencedSeriesSequence
    if not others:
        return {"source_series": SourceSeriesForSegmentation(first.SeriesInstanceUID)}
    references = (one for own in (first, *others) for one in own.ReferencedInstanceSequence)
    images = [SourceImageForSegmentation(one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID) for one in references]
    return {"source_images": images}


def _list_measurements(lesion: LesionMeasure) -> Iterator[Measurement]:
    yield Measurement(words.VOLUME, round(lesion.volume_ml, 3), words.MILLILITRE)
    if lesion.mean_hu is not None:
        yield Measurement(words.ATTENUATION, round(lesion.mean_hu, 1), words.HOUNSFIELD, derivation=words.MEAN)
    lengths_mm = (
        (words.LONG_AXIS, lesion.longest_axial_mm), (words.PERPENDICULAR_AXIS, lesion.perpendicular_mm),
        (words.HEIGHT, lesion.height_mm), (words.SKULL_DISTANCE, lesion.skull_mm),
    )  # fmt: skip
    for name, length_mm in lengths_mm:
        if length_mm is not None:
            yield Measurement(name, round(length_mm, 1), words.MILLIMETRE)
    if lesion.abc2_ml is not None:
        yield Measurement(words.ELLIPSOID_VOLUME, round(lesion.abc2_ml, 3), words.MILLILITRE, method=words.ABC2)
    yield _measure_share(words.PROBABILITY, lesion.mean_probability, words.MEAN)
    yield _measure_share(words.PROBABILITY, lesion.highest_probability, words.MAXIMUM)


def _describe_observer(producer: Producer) -> ObservationContext:
    """Name the program with its network as observer, TID 1004: no person has looked."""
    device = DeviceObserverIdentifyingAttributes(
        producer.device_uid, name=f"{NAME} {__version__}", manufacturer_name=NAME, model_name=producer.network,
        serial_number=producer.serial,
    )  # fmt: skip
    return ObservationContext(ObserverContext(codes.DCM.Device, device))


def _list_sources(segmentation: Segmentation) -> Iterator[Dataset]:
    """List the source instances as evidence: PS3.3 C.17.2."""
    for series in segmentation.ReferencedSeriesSequence:
        for reference in series.ReferencedInstanceSequence:
            source, uid = Dataset(), reference.ReferencedSOPInstanceUID
            source.StudyInstanceUID, source.SeriesInstanceUID = segmentation.StudyInstanceUID, series.SeriesInstanceUID
            source.SOPClassUID, source.SOPInstanceUID = reference.ReferencedSOPClassUID, uid
            yield source


def _convert_to_ascii(text: str) -> str:
    """Convert to text that every character set holds."""
    plain = unicodedata.normalize("NFKD", text.translate(_ASCII))
    return "".join(letter for letter in plain if not unicodedata.combining(letter)).encode("ascii", "replace").decode()


def _evaluate_presence(found: bool, certainty: Certainty | None) -> QualitativeEvaluation:
    """Say detected, not detected, or neither where the program abstains."""
    if certainty is not None and certainty.abstained:
        return QualitativeEvaluation(words.INTRACRANIAL_HEMORRHAGE, words.INDETERMINATE)
    return QualitativeEvaluation(words.INTRACRANIAL_HEMORRHAGE, words.DETECTED if found else words.NOT_DETECTED)


def _measure_study_volume(volume_ml: float, certainty: Certainty | None) -> Measurement:
    """Measure the volume of all lesions and how far an interval that holds it reaches to either side (CID 225)."""
    reach_ml, uncertainty = _find_reach_ml(volume_ml, certainty), None
    if reach_ml is not None:
        uncertainty = MeasurementProperties()
        uncertainty.append(_make_property(words.LOWER_UNCERTAINTY, reach_ml[0]))
        uncertainty.append(_make_property(words.UPPER_UNCERTAINTY, reach_ml[1]))
    return Measurement(words.VOLUME, round(volume_ml, 3), words.MILLILITRE, properties=uncertainty)


def _measure_certainty(volume_ml: float, certainty: Certainty | None) -> Iterator[Measurement]:
    """Measure the probability of the study and of each type, and the coverage of the volume's interval."""
    if certainty is None:
        return
    yield _measure_share(words.STUDY_PROBABILITY, certainty.study)
    for name, probability in certainty.types:
        yield _measure_share(words.TYPE_PROBABILITY[name], probability)
    if _find_reach_ml(volume_ml, certainty) is not None:
        yield _measure_share(words.INTERVAL_COVERAGE, certainty.coverage)


def _find_reach_ml(volume_ml: float, certainty: Certainty | None) -> tuple[float, float] | None:
    """Find how far the interval reaches below and above the volume; None where it does not hold it.

    An uncertainty has no sign: such an interval cannot be coded, and stands in the comments alone.
    """
    if certainty is None or certainty.volume_ml is None:
        return None
    low_ml, high_ml = certainty.volume_ml
    return (volume_ml - low_ml, high_ml - volume_ml) if low_ml <= volume_ml <= high_ml else None


def _measure_share(name: Code, value: float, derivation: Code | None = None) -> Measurement:
    return Measurement(name, round(100 * value, 2), words.PERCENT, derivation=derivation)


def _make_property(name: Code, value_ml: float) -> NumContentItem:
    """Give a property in mL as the volume itself; highdicom's own argument would write it without a unit."""
    return NumContentItem(
        CodedConcept(*name), round(value_ml, 3), CodedConcept(*words.MILLILITRE),
        relationship_type=RelationshipTypeValues.HAS_PROPERTIES,
    )  # fmt: skip
