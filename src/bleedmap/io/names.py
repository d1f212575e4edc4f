"""Names of result files that every disk takes, whatever their inputs are called.

Disks count a name's length differently: ext4 in bytes (255), NTFS in UTF-16 units (255), encrypted folders of some
servers in bytes (143). Windows refuses some characters, a dot or blank at the end, and the names of its devices.
"""

import hashlib
import re
import unicodedata
from collections.abc import Collection

MOST_CHARACTERS = 80
MOST_BYTES = 112  # of 143: a name's ending and that of an unfinished file come to it
LONGEST_NAME = "x" * MOST_BYTES + "_probseg.nii.gz"  # of a file of results
_PACKED = [f"{name}{packed}" for name in (".nii", ".dcm") for packed in (".gz", ".bz2", ".xz")]
_ENDINGS = (*_PACKED, ".nii", ".zip", ".dcm")
_OUTER = "._-+"  # at neither end: hidden files, flags, formulas of a spreadsheet, what Windows drops
_PORT_DIGITS = "0123456789¹²³"
_DEVICES = {
    "con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in _PORT_DIGITS)
}  # fmt: skip


def fit_name(text: str, otherwise: str = "study") -> str:
    """Spell a text in letters, digits and few signs, as long as every disk takes; shortened, with a hash of the whole.

    Args:
        text: a file's name or place; may hold anything that a file's name can, and bytes that are no characters.
        otherwise: the name where nothing is left of it.
    """
    kept = (one if _is_plain(one) else " " for one in unicodedata.normalize("NFC", text))
    name = re.sub(" +", "_", "".join(kept)).strip(_OUTER)
    if len(name) > MOST_CHARACTERS or len(name.encode()) > MOST_BYTES:
        end = f"-{short_hash(text)}"
        whole = name.encode()[: MOST_BYTES - len(end)].decode("utf-8", "ignore")  # a character that is cut is dropped
        name = whole[: MOST_CHARACTERS - len(end)] + end
    name = name or otherwise
    return f"_{name}" if name.split(".")[0].casefold() in _DEVICES else name


def number_name(name: str, taken: Collection[str]) -> str:
    """The name, or with a number behind it, so that no disk takes it for one of `taken`, all folded by `fold_name`."""
    numbered, number = name, 1
    while fold_name(numbered) in taken:
        number += 1
        numbered = f"{name}-{number}"
    return numbered


def compose(name: str) -> str:
    """A name with each accent and its letter as one character; disks of a Mac may keep the two apart."""
    return unicodedata.normalize("NFC", name)


def fold_name(name: str) -> str:
    """What two names share that are one on some disk: neither case nor the spelling of accents tells them apart."""
    return compose(name).casefold()


def stem(name: str) -> str:
    """Return a file's name without the ending that a study's file has."""
    ending = next((one for one in _ENDINGS if name.lower().endswith(one)), "")
    return name[: len(name) - len(ending)]


def short_hash(words: str) -> str:
    """Return twelve characters that tell `words` from others."""
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _is_plain(character: str) -> bool:
    """Whether it is a letter, digit, accent or vowel sign, or one of the few signs that no disk and no shell minds."""
    return character.isalnum() or character in "_.+-" or unicodedata.category(character).startswith("M")
