"""How sure the program is of a study, for its structured report: TID 1501 with TID 300 and 310 (PS3.16)."""

from collections.abc import Iterator
from typing import Protocol

from highdicom.sr import (
    CodedConcept,
    Measurement,
    MeasurementProperties,
    NumContentItem,
    QualitativeEvaluation,
    RelationshipTypeValues,
)
from pydicom.sr.coding import Code

from bleedmap.io.dicom import codes as words


class StudyCertainty(Protocol):
    """Of a whole study."""

    @property
    def study(self) -> float:
        """Calibrated probability that it bleeds, 0 to 1."""

    @property
    def types(self) -> tuple[tuple[str, float], ...]:
        """(EDH, IPH, SDH, IVH or SAH, probability that the study holds it)."""

    @property
    def volume_ml(self) -> tuple[float, float] | None:
        """Lowest and highest of the volume's interval."""

    @property
    def coverage(self) -> float:
        """Share of unseen bleeding patients whose volume such an interval held."""

    @property
    def abstained(self) -> tuple[str, ...]:
        """Why no verdict is given; empty where one is."""


def presence(found: bool, certainty: StudyCertainty | None) -> QualitativeEvaluation:
    """Detected, not detected, or neither where the program abstains."""
    if certainty is not None and certainty.abstained:
        return QualitativeEvaluation(words.INTRACRANIAL_HEMORRHAGE, words.INDETERMINATE)
    return QualitativeEvaluation(words.INTRACRANIAL_HEMORRHAGE, words.DETECTED if found else words.NOT_DETECTED)


def study_volume(volume_ml: float, certainty: StudyCertainty | None) -> Measurement:
    """The volume of all lesions; with an interval that holds it, how far that reaches to either side (CID 225)."""
    reach_ml, uncertainty = _reach_ml(volume_ml, certainty), None
    if reach_ml is not None:
        uncertainty = MeasurementProperties()
        uncertainty.append(_property(words.LOWER_UNCERTAINTY, reach_ml[0]))
        uncertainty.append(_property(words.UPPER_UNCERTAINTY, reach_ml[1]))
    return Measurement(words.VOLUME, round(volume_ml, 3), words.MILLILITRE, properties=uncertainty)


def certainty_measurements(volume_ml: float, certainty: StudyCertainty | None) -> Iterator[Measurement]:
    """Probability of the study and of each type, and the coverage of the interval that `study_volume` carries."""
    if certainty is None:
        return
    yield _share(words.STUDY_PROBABILITY, certainty.study)
    for name, probability in certainty.types:
        yield _share(words.TYPE_PROBABILITY[name], probability)
    if _reach_ml(volume_ml, certainty) is not None:
        yield _share(words.INTERVAL_COVERAGE, certainty.coverage)


def _reach_ml(volume_ml: float, certainty: StudyCertainty | None) -> tuple[float, float] | None:
    """How far the interval reaches below and above the volume; None where it does not hold it.

    An uncertainty has no sign: such an interval cannot be coded, and stands in the comments alone.
    """
    if certainty is None or certainty.volume_ml is None:
        return None
    low_ml, high_ml = certainty.volume_ml
    return (volume_ml - low_ml, high_ml - volume_ml) if low_ml <= volume_ml <= high_ml else None


def _share(name: Code, value: float) -> Measurement:
    return Measurement(name, round(100 * value, 2), words.PERCENT)


def _property(name: Code, value_ml: float) -> NumContentItem:
    """In mL as the volume itself; highdicom's own argument would write it without a unit."""
    return NumContentItem(
        CodedConcept(*name), round(value_ml, 3), CodedConcept(*words.MILLILITRE),
        relationship_type=RelationshipTypeValues.HAS_PROPERTIES,
    )  # fmt: skip
