"""What makes our DICOM results, and what each of them says about it: PS3.3 C.7.5.1 and C.7.5.2, equipment."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom.uid import generate_uid

from bleedmap import __version__
from bleedmap.io.dicom.source import as_it_is
from bleedmap.io.files import written_whole

NAME = "bleedmap"
RESEARCH = "research only"  # in every series description; a report says more
MASK_SERIES, PROBABILITY_SERIES, REPORT_SERIES, CAPTURE_SERIES = 9001, 9002, 9003, 9004  # above any scanner's
_MOMENTS = ("InstanceCreationDate", "ContentDate", "SeriesDate", "DateOfSecondaryCapture")


@dataclass(frozen=True)
class Producer:
    """Program, network and moment.

    Attributes:
        network: the weights' name.
        weights_sha256: of their file; the program's version and this say what computed.
        threshold: lesion from this probability on.
        made_at: when; all results of a study carry the same moment.
        new_uid: gives a new UID at each call.
    """

    network: str
    weights_sha256: str
    threshold: float
    made_at: datetime
    new_uid: Callable[[], str] = generate_uid

    @property
    def serial(self) -> str:
        """What tells one network from another where DICOM asks for a serial number."""
        return self.weights_sha256[:16]

    @property
    def device_uid(self) -> str:
        """The same for the same program and network."""
        return str(generate_uid(entropy_srcs=[NAME, __version__, self.weights_sha256]))

    @property
    def parameters(self) -> list[str]:
        """Of the algorithm, as texts."""
        return [f"network={self.network}", f"sha256={self.weights_sha256}", f"threshold={self.threshold:g}"]

    def equipment(self) -> dict[str, Any]:
        """Arguments of every highdicom constructor: manufacturer, model, version, serial number."""
        return {
            "manufacturer": NAME,
            "manufacturer_model_name": NAME,
            "software_versions": __version__,
            "device_serial_number": self.serial,
        }

    def sign(self, result: Dataset, source: Dataset) -> None:
        """The moment into a finished result, and the character set of what it copied from `source`."""
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
    with written_whole(path) as beside, as_it_is():  # a patient's identity is copied as it is
        result.save_as(beside, enforce_file_format=True)
