"""How a CT series was made, from its header: classic or multi-frame."""

from pydicom import Dataset
from pydicom.valuerep import DA

from bleedmap.io.acquisition import Acquisition
from bleedmap.io.dicom.header import first_item, items, number, text
from bleedmap.io.dicom.planes import Plane
from bleedmap.io.dicom.words import contrast_named

_DAYS = {"Y": 365.25, "M": 30.4375, "W": 7.0, "D": 1.0}


def acquisition_of(plane: Plane) -> Acquisition:
    """The facts that the input checks ask for; none of them names a patient."""
    header = plane.file.header
    described = (text(header, keyword) for keyword in ("StudyDescription", "SeriesDescription", "ProtocolName"))
    scanner = (text(header, keyword) for keyword in ("Manufacturer", "ManufacturerModelName"))
    part = text(header, "BodyPartExamined") or _region(plane)
    return Acquisition(
        modality=text(header, "Modality"),
        image_type=plane.image_type,
        body_part=part.upper() if part else None,
        description=" / ".join(dict.fromkeys(filter(None, described))) or None,
        contrast=contrast_of(plane),
        kvp=number(header, "KVP") or number(_group(plane, "CTXRayDetailsSequence"), "KVP"),
        kernel=kernel_of(plane),
        age_years=_age_years(header),
        thickness_mm=plane.thickness_mm,
        gantry_tilt_deg=stated_tilt_deg(plane),
        scanner=" ".join(filter(None, scanner)) or None,
    )


def kernel_of(plane: Plane) -> str | None:
    """Convolution kernel, (0018,1210)."""
    own = text(plane.file.header, "ConvolutionKernel")
    return own or text(_group(plane, "CTReconstructionSequence"), "ConvolutionKernel")


def contrast_of(plane: Plane) -> str | None:
    """The agent; '' where none was given; None where the files do not say."""
    header = plane.file.header
    coded = first_item(header, "ContrastBolusAgentSequence")
    agent = text(header, "ContrastBolusAgent") or text(coded, "CodeMeaning")
    return contrast_named(agent, text(header, "SeriesDescription") or "")


def stated_tilt_deg(plane: Plane) -> float | None:
    """Gantry tilt as the file states it, (0018,1120)."""
    own = number(plane.file.header, "GantryDetectorTilt")
    return own if own is not None else number(_group(plane, "CTAcquisitionDetailsSequence"), "GantryDetectorTilt")


def _region(plane: Plane) -> str | None:
    region = first_item(_group(plane, "FrameAnatomySequence"), "AnatomicRegionSequence")
    return text(region, "CodeMeaning")


def _group(plane: Plane, keyword: str) -> Dataset:
    """A functional group of the first frame, or of all frames."""
    if plane.frame is None:
        return Dataset()
    header = plane.file.header
    own = first_item(header, "PerFrameFunctionalGroupsSequence")
    return first_item(own if items(own, keyword) else first_item(header, "SharedFunctionalGroupsSequence"), keyword)


def _age_years(header: Dataset) -> float | None:
    """From (0010,1010), '034Y' or '018M'; else from the dates of birth and study."""
    age = text(header, "PatientAge") or ""
    if age[:-1].isdigit() and age[-1:].upper() in _DAYS:
        return round(int(age[:-1]) * _DAYS[age[-1].upper()] / _DAYS["Y"], 2)
    try:
        birth, study = DA(text(header, "PatientBirthDate") or ""), DA(text(header, "StudyDate") or "")
        days = (study - birth).days if birth and study else -1
    except (ValueError, TypeError, OverflowError):
        return None
    return round(days / _DAYS["Y"], 2) if 0 <= days < 130 * _DAYS["Y"] else None
