"""Names for studies' folders of results, from their places."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

_ENDINGS = (".nii.gz", ".nii", ".zip", ".dcm")
_MOST_CHARACTERS, _MOST_BYTES = 80, 160  # a disk takes 255 bytes, and endings follow
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))}


def name_studies(places: Mapping[str, str], known: Mapping[str, str], taken: Iterable[str] = ()) -> dict[str, str]:
    """A name for each study's folder of results: from its place, unique on every disk, the same from run to run.

    Args:
        places: each study's key -> its place, in a fixed order; a name that would come twice ends with the key's hash.
        known: keys that have a name from an earlier run -> it.
        taken: names that no study may have.

    Returns:
        key -> name.
    """
    names = {key: known[key] for key in places if key in known}
    used = {name.casefold() for name in (*known.values(), *taken)}
    count = Counter(places.values())
    for key, place in places.items():
        if key not in names:
            name = _fit(place)
            if count[place] > 1 or name.casefold() in used:
                name = f"{name}-{short_hash(key)}"
            names[key] = name
            used.add(name.casefold())
    return names


def _fit(place: str) -> str:
    """In letters, digits and a few signs, of a length that every disk takes, and no device's name on Windows."""
    *above, last = Path(place).parts or ("",)
    name = unicodedata.normalize("NFC", "_".join([*above, stem(last)]))
    name = re.sub(r"[^\w.+-]+", "_", name).strip("._-+")
    if len(name) > _MOST_CHARACTERS or len(name.encode()) > _MOST_BYTES:
        end = f"-{short_hash(place)}"
        name = name.encode()[: _MOST_BYTES - len(end)].decode("utf-8", "ignore")[: _MOST_CHARACTERS - len(end)] + end
    name = name or "study"
    return f"_{name}" if name.split(".")[0].casefold() in _DEVICES else name


def stem(name: str) -> str:
    """A file's name without the ending of a study's."""
    ending = next((one for one in _ENDINGS if name.lower().endswith(one)), "")
    return name[: len(name) - len(ending)]


def shown(path: Path) -> str:
    """A path as text with '/' between its parts: bytes that are no characters are spelled out."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def short_hash(words: str) -> str:
    """Twelve characters that tell `words` from others."""
    return hashlib.sha256(words.encode()).hexdigest()[:12]
