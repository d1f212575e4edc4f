"""What scanners' names for kernels, and people's names for series, say about an image."""

import re

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


def contrast_named(agent: str | None, description: str) -> str | None:
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
