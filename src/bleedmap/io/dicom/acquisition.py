"""How a CT was made, as far as its files say: classic or multi-frame headers, and the words in them.

Scanners name kernels, and people name series, in words of their own; what these say about an image is read here.
"""

import re
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.valuerep import DA

from bleedmap.io.dicom.header import first_item, items, number, text
from bleedmap.io.dicom.planes import Plane

_DAYS = {"Y": 365.25, "M": 30.4375, "W": 7.0, "D": 1.0}
# Siemens writes its kernels as a letter or two and a number that grows with sharpness: H31s, J40s, Hr68h, Br40d.
_SIEMENS = re.compile(r"^[A-Z][a-z]?(\d\d)[a-z]?$")
_SIEMENS_SHARP_FROM = 57
# Canon (Toshiba): FC30-39 ear and bone, FC49-59 lung and fine detail, FC80-89 bone; FC20-29 and FC60-69 are brain.
_CANON = re.compile(r"^FC(\d\d)")
_CANON_SHARP = frozenset((*range(30, 40), *range(49, 60), *range(80, 90)))
_PHILIPS_SHARP = frozenset(("D", "E", "F", "L", "YA", "YB", "YC", "YD", "YE"))
_SHARP_WORDS = re.compile(r"BONE|EDGE|DETAIL|LUNG|SHARP|CHST|ULTRA|^HRES|^EAR")  # GE's, and those of newer makers

_BONE_SERIES = re.compile(r"(?<!REMOV)(?<!W/O )\b(BONE|BONES|KNOCHEN|OSSEUX|HUESO|OSSO|LUNG)\b(?! ?REMOV)")
_NO_CONTRAST = re.compile(
    r"\b(NON|NO|W/?O|WITHOUT|OHNE|SANS|SENZA|SIN|PRE)[ _-]*(IV[ _-]*)?(CONTRAST\w*|CON|KM|CE|CM|IV)\b|\bNCCT\b|\bNECT\b"
    r"|\bUNENHANCED\b|\bNATIV\w*|\bPLAIN\b|\bC-(?!\w)"
    r"|\bWITHOUT\b(?! (?:AND|&) WITH)"
)
_CONTRAST = re.compile(
    r"\b(CONTRAST\w*|CTA|CTV|CTP|ANGIO\w*|CECT|ENHANCED|POSTCON\w*|PERFUSION|ARTERIAL|VENOUS|(?:NACH|MIT|POST) KM"
    r"|GAD\w*|OMNI\w*)\b|\bC\+|(?<!\w)\+C\b"
)
_BOTH = re.compile(r"\bW/? ?(?:AND|&|/)? ?W/?O\b|\bWITH(?:OUT)? (?:AND|&) WITH")
_NO_AGENT = frozenset(("", "NONE", "NO", "N/A", "NA", "NO CONTRAST", "NON CONTRAST", "WITHOUT", "0", "NIL", "-"))
_HEAD = re.compile(r"HEAD|BRAIN|SKULL|CRANI|CRANE|CEREBR|NEURO|KOPF|SCH(Ä|AE|A)DEL|TESTA|CABEZA|TETE|TÊTE|STROKE|NCCT")
_ELSEWHERE = re.compile(
    r"NECK|SPINE|CHEST|THORAX|ABDOM|PELVIS|SINUS|\bPNS\b|FACIAL|FACE\b|ORBIT|TEMPORAL|PETROUS|HALS|\bHWS\b|\bLWS\b"
    r"|DENTAL|MANDIB|MAXILL|LARYN|CAROTID|\bKNEE|SHOULDER|\bHIP\b|ANKLE|WRIST"
)


@dataclass(frozen=True)
class Acquisition:
    """What the input checks ask for. No name, date or number of a patient is in it.

    Attributes:
        modality: DICOM (0008,0060), 'CT'.
        image_type: (0008,0008), for example ('ORIGINAL', 'PRIMARY', 'AXIAL').
        body_part: (0018,0015), upper case.
        description: of series and study and the protocol's name, joined by ' / '.
        contrast: the agent that the files name ((0018,0010) or a code's meaning); '' where they say none was given.
        kvp: peak voltage, (0018,0060).
        kernel: (0018,1210), several joined by '\\'.
        age_years: (0010,1010) in years.
        thickness_mm: nominal slice thickness, (0018,0050).
        gantry_tilt_deg: as the files state it, (0018,1120); geometry is taken from positions, not from here.
        scanner: manufacturer and model.
    """

    modality: str | None = None
    image_type: tuple[str, ...] = ()
    body_part: str | None = None
    description: str | None = None
    contrast: str | None = None
    kvp: float | None = None
    kernel: str | None = None
    age_years: float | None = None
    thickness_mm: float | None = None
    gantry_tilt_deg: float | None = None
    scanner: str | None = None


def read_acquisition(plane: Plane) -> Acquisition:
    """The facts that the input checks ask for; none of them names a patient."""
    header = plane.file.header
    described = (text(header, keyword) for keyword in ("StudyDescription", "SeriesDescription", "ProtocolName"))
    scanner = (text(header, keyword) for keyword in ("Manufacturer", "ManufacturerModelName"))
    part = text(header, "BodyPartExamined") or _read_region(plane)
    return Acquisition(
        modality=text(header, "Modality"),
        image_type=plane.image_type,
        body_part=part.upper() if part else None,
        description=" / ".join(dict.fromkeys(filter(None, described))) or None,
        contrast=read_contrast(plane),
        kvp=number(header, "KVP") or number(_find_group(plane, "CTXRayDetailsSequence"), "KVP"),
        kernel=read_kernel(plane),
        age_years=_read_age_years(header),
        thickness_mm=plane.thickness_mm,
        gantry_tilt_deg=stated_tilt_deg(plane),
        scanner=" ".join(filter(None, scanner)) or None,
    )


def read_kernel(plane: Plane) -> str | None:
    """Convolution kernel, (0018,1210)."""
    own = text(plane.file.header, "ConvolutionKernel")
    return own or text(_find_group(plane, "CTReconstructionSequence"), "ConvolutionKernel")


def read_contrast(plane: Plane) -> str | None:
    """The agent; '' where none was given; None where the files do not say."""
    header = plane.file.header
    coded = first_item(header, "ContrastBolusAgentSequence")
    agent = text(header, "ContrastBolusAgent") or text(coded, "CodeMeaning")
    return find_contrast_agent(agent, text(header, "SeriesDescription") or "")


def stated_tilt_deg(plane: Plane) -> float | None:
    """Gantry tilt as the file states it, (0018,1120)."""
    own = number(plane.file.header, "GantryDetectorTilt")
    return own if own is not None else number(_find_group(plane, "CTAcquisitionDetailsSequence"), "GantryDetectorTilt")


def _read_region(plane: Plane) -> str | None:
    region = first_item(_find_group(plane, "FrameAnatomySequence"), "AnatomicRegionSequence")
    return text(region, "CodeMeaning")


def _find_group(plane: Plane, keyword: str) -> Dataset:
    """A functional group of the first frame, or of all frames."""
    if plane.frame is None:
        return Dataset()
    header = plane.file.header
    own = first_item(header, "PerFrameFunctionalGroupsSequence")
    return first_item(own if items(own, keyword) else first_item(header, "SharedFunctionalGroupsSequence"), keyword)


def _read_age_years(header: Dataset) -> float | None:
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


def is_sharp_kernel(kernel: str | None) -> bool | None:
    """Whether a convolution kernel (0018,1210) is for bone or lung rather than brain; None where nothing says."""
    first = (kernel or "").split("\\")[0].strip()
    if not first:
        return None
    if siemens := _SIEMENS.match(first):
        return int(siemens[1]) >= _SIEMENS_SHARP_FROM
    upper = first.upper()
    if canon := _CANON.match(upper):
        return int(canon[1]) in _CANON_SHARP
    return upper in _PHILIPS_SHARP or _SHARP_WORDS.search(upper) is not None


def is_bone_series(description: str) -> bool:
    """Whether a series' description says that it is for bone."""
    return _BONE_SERIES.search(description.upper()) is not None


def find_contrast_agent(agent: str | None, description: str) -> str | None:
    """The contrast agent; '' where none was given; None where nothing says.

    Args:
        agent: (0018,0010), None where absent. Empty, it says nothing.
        description: of the series.
    """
    if agent and agent.strip().upper() not in _NO_AGENT:
        return agent.strip()
    upper = description.upper().replace("_", " ")
    without, word = _NO_CONTRAST.search(upper), _CONTRAST.search(_NO_CONTRAST.sub(" ", upper))
    if _BOTH.search(upper) or (without and word):
        return None  # 'W/WO CONTRAST', 'C+/C-': a study of both, and nothing says which this is
    if without:
        return ""
    if word:
        return f"'{word[0]}' in the series description"
    return "" if agent else None


def names_head(words: str) -> bool:
    """Whether words, such as a body part's tag, name the head."""
    return _HEAD.search(words.upper()) is not None


def is_elsewhere(description: str, body_part: str | None) -> bool:
    """Whether the words name another part of the body and no head; the series' description goes first."""
    for words in (description.upper(), (body_part or "").upper()):
        if names_head(words):
            return False
        if _ELSEWHERE.search(words):
            return True
    return False
