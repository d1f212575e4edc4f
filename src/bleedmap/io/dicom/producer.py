"""What makes our DICOM results, what each result says about it, and the codes that results use.

Equipment: PS3.3 C.7.5.1 and C.7.5.2. Codes are SNOMED CT, UCUM and DICOM ones, and our own where no standard one
exists (PS3.16); the decision on each is in docs/decisions/0008-dicom-results.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from bleedmap import __version__
from bleedmap.io.dicom.header import set_up_pydicom
from bleedmap.io.files import written_whole

NAME = "bleedmap"
RESEARCH = "research only"  # in every series description; a report says more
MASK_SERIES, PROBABILITY_SERIES, REPORT_SERIES, CAPTURE_SERIES = 9001, 9002, 9003, 9004  # above any scanner's
_MOMENTS = ("InstanceCreationDate", "ContentDate", "SeriesDate", "DateOfSecondaryCapture")
OWN_SCHEME = "99BLEEDMAP"  # PS3.16 section 8: a private scheme's designator begins with 99

# What a segment is: CID 7150, 7159, 7151.
ABNORMAL_STRUCTURE = Code("49755003", "SCT", "Morphologically Abnormal Structure")
HEMORRHAGE = Code("50960005", "SCT", "Hemorrhage")
BRAIN = Code("12738006", "SCT", "Brain")
LATERALITY = {  # CID 245
    "left": codes.SCT.Left, "right": codes.SCT.Right, "both": codes.SCT.Bilateral, "midline": codes.DCM.Median,
}  # fmt: skip

# What a report says: TID 1500, 1501, 1411.
INTRACRANIAL_HEMORRHAGE = Code("1386000", "SCT", "Intracranial hemorrhage")
DETECTED = Code("260373001", "SCT", "Detected")
NOT_DETECTED = Code("260415000", "SCT", "Not detected")
INDETERMINATE = Code("82334004", "SCT", "Indeterminate")
REPORT_TITLE = Code("report", OWN_SCHEME, "Hemorrhage measurements by a neural network, research only")
HEAD_CT = Code("303653007", "SCT", "Computed tomography of head")
ENGLISH = Code("en", "RFC5646", "English")
COMMENT = codes.DCM.Comment
AI = codes.DCM.ArtificialIntelligence  # CID 7162, the algorithm's family

# What is measured, CID 7469 and 7464, and in what.
VOLUME = Code("118565006", "SCT", "Volume")
LONG_AXIS = Code("103339001", "SCT", "Long Axis")
PERPENDICULAR_AXIS = Code("131189007", "SCT", "Perpendicular Axis")
HEIGHT = codes.DCM.Height
ELLIPSOID_VOLUME = codes.DCM.VolumeOfEllipsoid
ABC2 = Code("abc2", OWN_SCHEME, "ABC/2, Kothari 1996")
SKULL_DISTANCE = Code("skull-distance", OWN_SCHEME, "Smallest distance to the inner table of the skull")
ATTENUATION = codes.DCM.AttenuationCoefficient
PROBABILITY = Code("probability", OWN_SCHEME, "Network's probability of hemorrhage per pixel")
MEAN = Code("373098007", "SCT", "Mean")
MAXIMUM = Code("56851009", "SCT", "Maximum")
MILLILITRE = Code("mL", "UCUM", "milliliter")
MILLIMETRE = Code("mm", "UCUM", "millimeter")
HOUNSFIELD = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
PERCENT = Code("%", "UCUM", "percent")

# How sure the program is of a study: CID 225, and what no standard code says.
UPPER_UNCERTAINTY = Code("371886008", "SCT", "+, range of upper measurement uncertainty")
LOWER_UNCERTAINTY = Code("371885007", "SCT", "-, range of lower measurement uncertainty")
STUDY_PROBABILITY = Code("probability-any", OWN_SCHEME, "Calibrated probability of hemorrhage in the study")
INTERVAL_COVERAGE = Code("coverage", OWN_SCHEME, "Coverage of volume interval in unseen bleeding patients")
TYPE_PROBABILITY = {
    short: Code(f"probability-{short}", OWN_SCHEME, f"Probability of {name} hemorrhage in the study")
    for short, name in (
        ("EDH", "epidural"), ("IPH", "intraparenchymal"), ("SDH", "subdural"), ("IVH", "intraventricular"),
        ("SAH", "subarachnoid"),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Producer:
    """The program, its network and the moment of a result."""

    network: str  # the weights' name
    weights_sha256: str  # of their file; the program's version and this say what computed
    threshold: float  # lesion from this probability on
    made_at: datetime  # when; all results of a study carry the same moment
    new_uid: Callable[[], str] = generate_uid  # gives a new UID at each call
    shown: str = ""  # what the network was shown in place of the slices, in a clause; '' where it was shown the slices

    @property
    def serial(self) -> str:
        """What tells one network from another where DICOM asks for a serial number."""
        return self.weights_sha256[:16]

    @property
    def device_uid(self) -> str:
        """A UID that is the same for the same program and network."""
        return str(generate_uid(entropy_srcs=[NAME, __version__, self.weights_sha256]))

    @property
    def parameters(self) -> list[str]:
        """The algorithm's parameters, as texts."""
        told = [f"network={self.network}", f"sha256={self.weights_sha256}", f"threshold={self.threshold:g}"]
        return [*told, f"shown={self.shown}"] if self.shown else told

    def equipment(self) -> dict[str, Any]:
        """Return the arguments of every highdicom constructor: manufacturer, model, version, serial number."""
        return {
            "manufacturer": NAME,
            "manufacturer_model_name": NAME,
            "software_versions": __version__,
            "device_serial_number": self.serial,
        }

    def sign(self, result: Dataset, source: Dataset) -> None:
        """Put the moment into a finished result, and the character set of what it copied from `source`."""
        day, hour = self.made_at.strftime("%Y%m%d"), self.made_at.strftime("%H%M%S")
        for date in _MOMENTS:
            if date in result or date == "SeriesDate":
                setattr(result, date, day)
                setattr(result, date.replace("Date", "Time"), hour)
        for item in result.get("ContributingEquipmentSequence", []):
            item.ContributionDateTime = day + hour
        if "SpecificCharacterSet" in source:
            result.SpecificCharacterSet = source.SpecificCharacterSet


def write_dicom(path: Path, result: Dataset) -> None:
    """Write one result, whole or not at all.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    set_up_pydicom()  # a patient's identity is written as it is
    with written_whole(path) as temporary:
        result.save_as(temporary, enforce_file_format=True)
