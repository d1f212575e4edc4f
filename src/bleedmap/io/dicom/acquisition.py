"""Read how a CT was made, from classic or multi-frame headers and the words in them.

Scanners name kernels, and people name series, in words of their own; what these say about an image is read here.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pydicom import Dataset
from pydicom.valuerep import DA

from bleedmap.io.dicom.header import first_item, number, text, texts
from bleedmap.io.dicom.planes import FrameGroups, Plane

_STATED_KV = (60.0, 160.0)  # kV that words may name
_DAYS = {"Y": 365.25, "M": 30.4375, "W": 7.0, "D": 1.0}
# Siemens writes its kernels as a letter or two and a number that grows with sharpness: H31s, J40s, Hr68h, Br40d.
_SIEMENS = re.compile(r"^[A-Z][a-z]?(\d\d)[a-z]?$")
_SIEMENS_SHARP_FROM = 57
# Canon (Toshiba): FC30-39 ear and bone, FC49-59 lung and fine detail, FC80-89 bone; FC20-29 and FC60-69 are brain.
_CANON = re.compile(r"^FC(\d\d)")
_CANON_SHARP = frozenset((*range(30, 40), *range(49, 60), *range(80, 90)))
_PHILIPS_SHARP = frozenset(("D", "E", "F", "L", "YA", "YB", "YC", "YD", "YE"))
_SHARP_WORDS = re.compile(r"BONE|EDGE|DETAIL|LUNG|SHARP|CHST|ULTRA|^HRES|^EAR")  # GE's, and those of newer makers

# What follows is matched after `_fold`: capitals, no accents, single blanks. The languages are those of large hospital
# systems: English, German, French, Spanish, Portuguese, Italian, Dutch, the Scandinavian ones, Finnish, Polish, Czech,
# Romanian, Hungarian, Turkish, Indonesian, Vietnamese, Greek, Russian, Chinese, Japanese, Korean.
_BONE_SERIES = re.compile(
    r"(?<!REMOV)(?<!W/O )\b(BONES?|KNOCHEN\w*|KN|OSSEUX|OSSEUSE|OS|HUESO|OSEA|OSEO|OSSO|OSSEA|OSSEO|BOT|BOTTEN|BEN|BEIN"
    r"|KNOGLE|SKELETT|LUU|KOSTI|KOSC|KOSTNI|CSONT|KEMIK|TULANG|XUONG|LUNG|КОСТ\w*)\b(?! ?REMOV)|骨|뼈"
)
_FILLER = (
    r"(?:[ ./_-]*(?:IV|I\.V\.?|INTRAVENOUS|ANY|THE|PRODUIT|MEDIO|MEZZO|MEIO|ADMINISTRATION|OF|DE|DI|DU|D))*[ ./_-]*"
)
_MEDIUM = (
    r"(?:[CK]ONTRAS\w*|КОНТРАСТ\w*|ΣΚΙΑΓΡΑΦ\w*|VARJOAINE\w*|CAN QUANG|ENHANC\w*|INJ(?:ECTION)?|IV|I\.V\.?"
    r"|CON|KM|K|CE|CM|CT?E|MDC|MC|PDC|PC|C|DYE|BOLUS)(?![A-Z])"
)
_NEGATION = (
    r"(?:NON|NO|NOT|W/?O(?:UT)?|WITHOUT|OHNE|O\.|SANS|SENZA|SIN|S/|SEM|ZONDER|GEEN|UTAN|UTEN|UDEN|ILMAN|BEZ|BE|FARA|TANPA"
    r"|KHONG|ΧΩΡΙΣ|БЕЗ|PRE|VOR|AVANT|ANTES|PRIMA)"
)
_WITH = (
    r"(?:WITH|W/?|MIT|AVEC|CON|COM|C/|MET|MED|CU|Z|ZE|S|С|POST|NACH|APRES|TRAS|POS|DOPO|NA|EFTER|ETTER|PO|ПОСЛЕ|DENGAN|SAU"
    r"|ΜΕ)"
)
_AND = r"[ /]*(?:AND|UND|ET|Y|E|EN|OG|OCH|I|A|SI|DAN|VA|И|&|\+|/)[ /]*"
_NO_CONTRAST = re.compile(
    rf"(?<!\w){_NEGATION}{_FILLER}{_MEDIUM}"
    r"|\bNCCT\w*|\bNCHCT\b|\bNECT\b|\bNONCON\w*|\bNON-?ENHANC\w*|\bUNENHANC\w*|\bNON? ?[CK]ONTRAS\w*|\bPRECON\w*"
    r"|\bNATIV\w*|\bNATYW\w*|\bНАТИВ\w*|\bPLAIN\b|\bBLANCO\b|\bBASALE?\b|\bSIMPLE\b|\bC-(?!\w)|(?<!\w)-C\b|\bKM-(?!\w)|\bIV-(?!\w)"
    r"|\bS/C\b|\b[CK]ONTRAST(?:SIZ|ITA)\b|\bKONTRASZT NELKUL"
    r"|平[扫掃]|单纯|単純|非造影|非增[强強]|造影な[しく]|造影前|无造影|無造影|비조영|조영 ?전"
    r"|\bWITHOUT\b|\bW/?O(?:UT)?(?= ?$| ?[-,;/(])|\b(?:OHNE|SANS|SENZA|SEM|ZONDER|UTAN|UTEN|UDEN|BEZ|TANPA|БЕЗ)$"
)
_CONTRAST = re.compile(
    rf"\b{_WITH}{_FILLER}(?:[CK]ONTRAS\w*|КОНТРАСТ\w*|ΣΚΙΑΓΡΑΦ\w*|VARJOAINE\w*|CAN QUANG|INJ(?:ECTION)?|IV|KM|MDC"
    r"|PDC|PC|GAD\w*)(?![A-Z])"
    r"|\b(?:CTA|CTV|CTP|ANGIO\w*|CECT|(?<!EDGE[ -])ENHANCED(?! CONVERSION)|POSTCON\w*|PERFUSION\w*"
    r"|ARTERIAL|ARTERIELL\w*|VENOUS|VENOES\w*|GAD\w*|OMNI\w*|KONTRASTLI|KONTRASZTOS)\b|\bC\+|(?<!\w)\+C\b|\bKM\+|\bIV\+|造影|增[强強]|조영|АНГИО\w*"
)
_BOTH = re.compile(
    r"\bW/? ?(?:AND|&|/)? ?W/?O\b|\bW/?O ?(?:AND|&|/) ?W\b"
    rf"|\b{_NEGATION}{_AND}{_WITH}(?!\w)|\b{_WITH}{_AND}{_NEGATION}(?!\w)"
)
_ANY_CONTRAST = re.compile(r"\b(?:[CK]ONTRAS\w*|КОНТРАСТ\w*)")
_NO_AGENT = frozenset((
    "", "NONE", "NO", "NON", "N", "N/A", "NA", "NIL", "0", "-", "--", "WITHOUT", "W/O", "WO", "ORAL", "PO", "NOT GIVEN",
    "NOT ADMINISTERED", "NOT APPLICABLE", "FALSE", "OHNE", "KEIN", "KEINE", "KEINES", "NEIN", "SANS", "AUCUN", "SIN",
    "NINGUNO", "NINGUNA", "SEM", "NENHUM", "NAO", "SENZA", "NESSUNO", "ZONDER", "GEEN", "NEE", "INGEN", "INGET", "NEJ",
    "NEI", "BRAK", "NIE", "BEZ", "YOK", "TIDAK", "KHONG", "НЕТ", "БЕЗ", "なし", "无", "無", "없음",
))  # fmt: skip
_UNKNOWN_AGENT = frozenset(("?", "??", "UNKNOWN", "UNK", "UNSPECIFIED", "NOT SPECIFIED", "NOT STATED", "UNBEKANNT"))
# Dual energy, in the words of GE (GSI), Siemens (mixed images are named by their weight, 'F_0.5'), Philips, Canon.
_MAP = (
    (r"\bIOD(?:INE?|E|O|IO)?[ -]?(?:MAP|MAPPE|KARTE|\(|/|NO ?WATER|WATER|DENSITY|OVERLAY|CONC\w*|ONLY|IMAGES?|CALCIUM)"
     r"|\bMAPA DE [YI]ODO|\bCARTE (?:D.)?IODE|\bJOD ?(?:KARTE|MAP|BILD)|^IODINE\b(?! CONTRAST)|\bPBV\b|\bMD ?IODINE"
     r"|(?<!WITH )(?<!WITHOUT )(?<!NO )\bIODINE$", "iodine map"),
    (r"\bVNCA\b|VIRTUAL NON[- ]?CALCIUM|CALCIUM SUPPR\w*", "virtual non-calcium images"),
    (r"\bVNC\b|\bGSI\b.*\bVUE\b|\bVUE\b.*\bGSI\b|VIRTUAL (?:NON|UN)[- ]?(?:CON\w*|ENH\w*)|VIRTUELL NATIV",
     "virtual non-contrast images"),
    (r"\bZ ?-?EFF\w*|\bEFFECTIVE ?(?:Z|ATOMIC)|\bEFF ATOMIC", "map of atomic numbers"),
    (r"ELECTRON DENS|\bRHO\b", "map of electron density"),
    (r"\bWATER ?(?:\(|-? ?IOD|-? ?CALC|-? ?HAP)|\bHAP ?\(|\bMD ?(?:WATER|CALC\w*|HAP)|MATERIAL DENS|MAT SPECIFIC"
     r"|MATERIAL SPECIFIC|URIC ACID", "map of a material"),
)  # fmt: skip
_MONO = re.compile(r"\bMONO ?E?\b|\bMONOE?\d|\bMONO ?ENERG\w*|\bMONO ?\+|\bVMI\w*|\d ?\[?KEV\b")
_KEV = re.compile(r"(\d{2,3})(?:[.,]\d+)? ?\[?KEV\b|\bMONO ?E? ?\+? ?(\d{2,3})\b")
_MIXED = re.compile(
    r"\bMIX(?:ED)?\b|\b[FM] ?0[.,]\d|\bDE\b.*\bM\b|\bCONVENTIONAL\b|\bCOMPOSITE\b|\bBLEND\w*|\bWEIGHTED\b|\bAVG\b"
)
_KV = re.compile(r"\b(?:[AB]_?)?(?:SN)?(\d{2,3}) ?KVP?\b")
_HEAD = re.compile(r"HEAD|BRAIN|SKULL|CRANI|CRANE|CEREBR|NEURO|KOPF|SCH(Ä|AE|A)DEL|TESTA|CABEZA|TETE|TÊTE|STROKE|NCCT")
_ELSEWHERE = re.compile(
    r"NECK|SPINE|CHEST|THORAX|ABDOM|PELVIS|SINUS|\bPNS\b|FACIAL|FACE\b|ORBIT|TEMPORAL|PETROUS|HALS|\bHWS\b|\bLWS\b"
    r"|DENTAL|MANDIB|MAXILL|LARYN|CAROTID|\bKNEE|SHOULDER|\bHIP\b|ANKLE|WRIST"
)


@dataclass(frozen=True)
class Energy:
    """What X-ray energy images are of, as far as a dual-energy scan makes several of them.

    `kind`: 'tube' for those of one voltage; 'mixed' for those of both; 'monoenergetic', computed for one energy.
    `map`: what else was computed from the scan, whose values are no plain HU: 'iodine map'; '' for images in HU.
    """

    kind: Literal["tube", "mixed", "monoenergetic"]
    level: float | None  # kV of the tube, keV of monoenergetic images; None where nothing says
    map: str = ""

    @property
    def is_computed(self) -> bool:
        """Whether the images were computed from two energies for another one, or as a map."""
        return self.kind == "monoenergetic" or bool(self.map)

    @property
    def words(self) -> str:
        """'80 kV', 'mixed, 120 kV', 'monoenergetic, 70 keV', 'iodine map'."""
        unit = "keV" if self.kind == "monoenergetic" else "kV"
        level = f"{self.level:g} {unit}" if self.level is not None else "energy not stated"
        return self.map or (level if self.kind == "tube" else f"{self.kind}, {level}")


def read_energy(plane: Plane) -> Energy:
    """Read the energy of images from their description, image type and voltage."""
    header = plane.file.header
    described = _fold(text(header, "SeriesDescription") or text(header, "ProtocolName") or "")
    words = f"{described} {_fold(' '.join(plane.image_type[2:]))}".strip()
    computed = next((name for pattern, name in _MAP for one in (described, words) if re.search(pattern, one)), "")
    if _MONO.search(words) and not _MIXED.search(described):
        stated = number(header, "MonoenergeticEnergyEquivalent")
        found = _KEV.search(words)
        kev = float(found[1] or found[2]) if found else stated
        return Energy("monoenergetic", kev, computed)
    named = _KV.search(described)
    kv = float(named[1]) if named and _STATED_KV[0] <= float(named[1]) <= _STATED_KV[1] else plane.kvp
    tubes = len(texts(header, "KVP"))
    return Energy("mixed" if _MIXED.search(described) or tubes > 1 else "tube", kv, computed)


@dataclass(frozen=True)
class Acquisition:
    """How a CT was made, as far as the input checks need it; nothing in it identifies a patient.

    `contrast`: the agent that the files name ((0018,0010) or a code's meaning); '' where they say none was given.
    `gantry_tilt_deg`: as the files state it, (0018,1120); geometry is taken from positions, not from here.
    `unread`: what seems to belong to the series and was not read, in a clause; '' where all was; None where there is no
    series of files.
    """

    modality: str | None = None  # DICOM (0008,0060), 'CT'
    image_type: tuple[str, ...] = ()  # (0008,0008), for example ('ORIGINAL', 'PRIMARY', 'AXIAL')
    body_part: str | None = None  # (0018,0015), upper case
    description: str | None = None  # of series and study and the protocol's name, joined by ' / '
    contrast: str | None = None
    kvp: float | None = None  # peak voltage, (0018,0060)
    kernel: str | None = None  # (0018,1210), several joined by '\'
    age_years: float | None = None  # (0010,1010) in years
    thickness_mm: float | None = None  # nominal slice thickness, (0018,0050)
    gantry_tilt_deg: float | None = None
    scanner: str | None = None  # manufacturer and model
    unread: str | None = None


def read_acquisition(planes: Sequence[Plane]) -> Acquisition:
    """Read what the input checks need to know of a series; nothing in it identifies a patient.

    Contrast and a sharp kernel count where any slice states them, the rest as the first one states it.
    """
    plane = planes[0]
    header = plane.file.header
    described = (text(header, keyword) for keyword in ("StudyDescription", "SeriesDescription", "ProtocolName"))
    scanner = (text(header, keyword) for keyword in ("Manufacturer", "ManufacturerModelName"))
    part = text(header, "BodyPartExamined") or _read_region(plane)
    return Acquisition(
        modality=text(header, "Modality"),
        image_type=plane.image_type,
        body_part=part.upper() if part else None,
        description=" / ".join(dict.fromkeys(filter(None, described))) or None,
        contrast=next(filter(None, map(read_contrast, planes)), read_contrast(plane)),
        kvp=plane.kvp,
        kernel=find_sharpest(planes) or None,
        age_years=_read_age_years(header),
        thickness_mm=plane.thickness_mm,
        gantry_tilt_deg=plane.stated_tilt_deg,
        scanner=" ".join(filter(None, scanner)) or None,
    )


def find_sharpest(planes: Sequence[Plane]) -> str:
    """Find a kernel for bone or lung among those that slices state, else the first slice's; '' for none stated."""
    kernels = dict.fromkeys(plane.kernel for plane in planes)
    return next(filter(is_sharp_kernel, kernels), planes[0].kernel)


def read_contrast(plane: Plane) -> str | None:
    """Read the contrast agent; '' where none was given, None where the files do not say."""
    header = plane.file.header
    coded = first_item(header, "ContrastBolusAgentSequence")
    agent = text(header, "ContrastBolusAgent") or text(coded, "CodeMeaning")
    return find_contrast_agent(agent, text(header, "SeriesDescription") or "")


def _read_region(plane: Plane) -> str | None:
    """Read the region that the functional groups of a multi-frame image's first frame name."""
    if plane.frame is None:
        return None
    group = FrameGroups.of_all(plane.file.header)[0].first("FrameAnatomySequence")
    return text(first_item(group, "AnatomicRegionSequence"), "CodeMeaning")


def _read_age_years(header: Dataset) -> float | None:
    """Read the age from (0010,1010), such as '034Y' or '018M', else from the dates of birth and study."""
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
    return _BONE_SERIES.search(_fold(description)) is not None


@lru_cache(maxsize=256)  # it is asked for every slice
def find_contrast_agent(agent: str | None, description: str) -> str | None:
    """Find the contrast agent in the blood; '' where none was given, None where nothing says or the sense is unclear.

    Free text decides little: a word of contrast whose sense is not known ('HEAD CONTRAST') gives None, never an agent.

    Args:
        agent: (0018,0010), None where absent. Empty, it says nothing. An oral one does not reach the vessels.
        description: of the series.
    """
    if agent is not None and (stated := _fold(agent)) not in _NO_AGENT:
        if stated in _UNKNOWN_AGENT:
            return None
        return "" if _NO_CONTRAST.search(stated) else agent.strip()
    folded = _fold(description)
    without, word = _NO_CONTRAST.search(folded), _CONTRAST.search(_NO_CONTRAST.sub(" ", folded))
    if _BOTH.search(folded) or (without and word):
        return None  # 'W/WO CONTRAST', 'C+/C-': a study of both, and nothing says which this is
    if without:
        return ""
    if word:
        return f"'{word[0].strip()}' in the series description"
    return "" if agent and not mentions_contrast(description) else None


def mentions_contrast(description: str) -> bool:
    """Whether a description has a word of contrast, whatever its sense."""
    return _ANY_CONTRAST.search(_fold(description)) is not None


def _fold(words: str) -> str:
    """Words as the patterns above expect them: capitals without accents, with single blanks for underscores."""
    decomposed = unicodedata.normalize("NFKD", words.upper())
    bare = "".join(one for one in decomposed if not unicodedata.combining(one))
    return " ".join(unicodedata.normalize("NFC", bare).replace("_", " ").split())


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
