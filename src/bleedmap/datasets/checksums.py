"""Check files against a list of SHA-256 sums, one a line with its path, as `sha256sum` and PhysioNet write it."""

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bleedmap.arrays import Progress, ignore
from bleedmap.errors import DataError, usable

SUMS = "SHA256SUMS.txt"
SUMS_NAMES = ("SHA256SUMS", SUMS)  # as publishers name the list

_NEEDED, _REMEDY = "lines of a SHA-256 sum and a path inside the folder", "fetch the list again from the publisher"
_LINE = re.compile(r"([0-9a-fA-F]{64})\s+\*?(.+?)\s*")
_HASH_THREADS = 4


@dataclass(frozen=True)
class Verification:
    """The listed files by their state, each by its name in the list."""

    intact: tuple[str, ...]
    missing: tuple[str, ...]
    changed: tuple[str, ...]


def verify(folder: Path, progress: Progress = ignore) -> Verification:
    """Check every file that a folder's list names against its sum.

    Raises:
        DataError: no list, or a damaged one.
    """
    path = find_sums(folder)
    with usable(path, DataError, _NEEDED, _REMEDY, found="cannot be read"):
        sums = parse_sums(path.read_text(encoding="utf-8"), path)
    found: dict[str, list[str]] = {}
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        states = pool.map(lambda item: _find_state(folder / item[0], item[1]), sums.items())
        for done, (name, state) in enumerate(zip(sums, states, strict=True), start=1):
            found.setdefault(state, []).append(name)
            progress(done, len(sums))
    return Verification(*(tuple(found.get(state, ())) for state in ("intact", "missing", "changed")))


def find_sums(folder: Path) -> Path:
    """Find the list of sums in a folder.

    Raises:
        DataError: there is none.
    """
    for name in SUMS_NAMES:
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        folder,
        found=f"no list of checksums ({' or '.join(SUMS_NAMES)})",
        needed="the publisher's list beside the tables",
        remedy="fetch it with the data: `bleedmap data download -o FOLDER`, or from the publisher's page",
    )


def parse_sums(text: str, subject: str | Path) -> dict[str, str]:
    """Parse lines "sum  path"; return path -> sum in lower case. Errors name `subject`.

    Raises:
        DataError: no list of sums, or a path that leads out of the folder.
    """
    sums = {}
    for number, line in enumerate(text.lstrip("\ufeff").splitlines(), start=1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise DataError(subject, f"line {number} is no SHA-256 sum and path: '{line[:60]}'", _NEEDED, _REMEDY)
        if not _stays_inside(match[2]):
            raise DataError(subject, f"line {number} leads out of the folder: '{match[2]}'", _NEEDED, _REMEDY)
        sums[match[2].removeprefix("./")] = match[1].lower()
    if not sums:
        raise DataError(subject, "an empty list", _NEEDED, _REMEDY)
    return sums


def _find_state(path: Path, wanted: str) -> str:
    if not path.is_file():
        return "missing"
    try:
        with path.open("rb") as stream:
            return "intact" if hashlib.file_digest(stream, "sha256").hexdigest() == wanted else "changed"
    except OSError:  # there, but it cannot be read: a broken disk, or no right to
        return "changed"


def _stays_inside(name: str) -> bool:
    path = PurePosixPath(name)
    unsafe = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in path.parts[0]
    return not unsafe and name.isprintable()
