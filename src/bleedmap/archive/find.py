"""The studies in a folder: NIfTI files, zips and DICOM, by their content; and a name for each one's results."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bleedmap.arrays import ignore
from bleedmap.errors import InputError, spell
from bleedmap.io import images, nifti
from bleedmap.io.dicom.files import (
    LINK_TO_NOTHING,
    Place,
    explain_absence,
    is_link_to_nothing,
    open_source,
    scan,
    shape_name,
)
from bleedmap.io.dicom.header import DamagedError, dash_date, explain_uid, looks_like_dicom, parse, text
from bleedmap.io.files import walk
from bleedmap.io.kinds import identify
from bleedmap.io.names import fit_name, fold_name, short_hash, stem

_DERIVED = ("_dseg", "_probseg")  # BIDS names of masks and probability maps, ours among them
_OUR_RESULTS = (".bleedmap.json", "summary.json")  # together in each folder that `segment` wrote
_START_BYTES, _HEADER_BYTES = 140, 1 << 14  # to tell DICOM, and where its UIDs are in nearly every file
_FOREIGN = "neither DICOM, NIfTI nor a .zip"
_EXAMPLES = 5

Seen = Callable[[int], None]


@dataclass(frozen=True)
class Source:
    """One study's files. Of a remote study `path` and `files` are names there, until it is fetched.

    `uid`: Study Instance UID, '' where DICOM files name none; None for NIfTI, and where no header could be read.
    """

    path: Path  # the NIfTI file, the zip, the DICOM file, or the folder that holds all its DICOM files
    place: str  # `path` below the folder that was searched, as text that every file can hold
    uid: str | None
    files: tuple[str, ...]  # all of them, damaged DICOM files in the same folder among them
    digest: str  # of the files' names, sizes and times

    @property
    def key(self) -> str:
        """The same from run to run, another for each study of a folder."""
        return self.place if self.uid is None else f"{self.place}#{short_hash(self.uid)}"


@dataclass(frozen=True)
class Passed:
    """Files or folders that are no study, and why."""

    reason: str
    count: int
    examples: tuple[str, ...]


class Archive(Protocol):
    """A server or bucket that holds studies; it can be sent to another process, and holds no secret."""

    @property
    def url(self) -> str:
        """Its root, for records."""

    @property
    def search_key(self) -> str:
        """Another for each search of it."""

    def find(self, seen: Seen = ...) -> "Found":
        """Find its studies; `seen` is called with the number of things looked at so far."""

    def fetch(self, source: Source, folder: Path) -> Source:
        """Fetch all of a study's files into an empty folder, or raise; return them as they lie there."""

    def identify(self, source: Source) -> dict[str, str | None]:
        """Read what `read_identity` does."""


@dataclass(frozen=True)
class Found:
    """What a folder or archive holds: its studies, in the order of their places, and what is none."""

    folder: Path | Archive
    sources: tuple[Source, ...]
    passed: tuple[Passed, ...]

    @property
    def root(self) -> str:
        """The folder or the archive's root, as text."""
        return display_path(self.folder.resolve()) if isinstance(self.folder, Path) else self.folder.url


def find_studies(folder: Path, leave_out: Path, seen: Seen = ignore) -> Found:
    """Look through a folder and all below it. DICOM files belong together by their Study Instance UID.

    Args:
        leave_out: the place of the results, which may lie inside.
        seen: called with the number of files found so far.

    Raises:
        InputError: no such folder, or no study in it.
    """
    if not folder.is_dir():
        raise InputError(
            folder, found="is a file" if folder.exists() else "no such folder", needed="a folder of studies",
            remedy="`bleedmap segment` takes a single one" if folder.exists() else "check the path",
        )  # fmt: skip
    search = Search(folder)
    for count, path in enumerate(search.files(leave_out.resolve()), start=1):
        search.take(path)
        seen(count)
    found = Found(folder, tuple(sorted(search.sources(), key=lambda one: (one.place, one.key))), search.passed())
    if not found.sources:
        raise explain_empty(folder, found.passed)
    return found


def explain_empty(place: Path | str, passed: Iterable[Passed]) -> InputError:
    """Make the error of a place that holds no study."""
    held = "; ".join(f"{one.count:,} × {one.reason}" for one in passed)
    return InputError(
        place, found=f"holds no study ({held})" if held else "is empty",
        needed="NIfTI files, zips or folders of DICOM", remedy="give the folder above the studies",
    )  # fmt: skip


def plain_files(folder: Path, leave_out: Path) -> tuple[tuple[Path, ...], tuple[Passed, ...]]:
    """List every file in a folder and all below it, as `find_studies` goes through it, and what it does not enter."""
    search = Search(folder)
    return tuple(search.files(leave_out.resolve())), search.passed()


class Search:
    """What was found so far, as paths and UIDs alone: no header is kept after its file was looked at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_uid: dict[tuple[str, str], list[str]] = defaultdict(list)  # without a UID: by their folder
        self._doubtful: dict[str, list[tuple[str, str]]] = defaultdict(list)  # folder -> UIDs that are none, and files
        self._damaged: dict[str, list[str]] = defaultdict(list)  # folder -> DICOM files there that cannot be read
        self._absent: dict[str, list[str]] = defaultdict(list)  # folder -> files of 0 bytes, pointers, links to nothing
        self._single: list[tuple[str, str | None]] = []  # NIfTI; zip and a study's UID in it
        self._passed: dict[str, list[str]] = defaultdict(list)

    def pass_by(self, path: Path, reason: str) -> None:
        self._passed[reason].append(str(path))

    def passed(self) -> tuple[Passed, ...]:
        return tuple(
            Passed(reason, len(paths), tuple(self._place(Path(one)) for one in paths[:_EXAMPLES]))
            for reason, paths in sorted(self._passed.items())
        )

    def _place(self, path: Path) -> str:
        return display_path(path.relative_to(self.folder))

    def files(self, leave_out: Path) -> Iterator[Path]:
        """Yield plain files, each once, in the order of their names."""
        seen: set[Path] = set()
        failed = lambda error: self.pass_by(Path(error.filename), "cannot be opened")  # noqa: E731
        for top, names in walk(self.folder, enters=lambda inside: self._enters(inside, leave_out), on_error=failed):
            for path in (top / name for name in names):
                reason = self._why_no_file(path, seen)
                if reason == LINK_TO_NOTHING:
                    self._absent[str(path.parent)].append(str(path))
                elif reason:
                    self.pass_by(path, reason)
                else:
                    seen.add(path.resolve())
                    yield path

    def _enters(self, folder: Path, leave_out: Path) -> bool:
        reason = None
        if folder.name.startswith("."):
            reason = "hidden"
        elif folder.resolve() == leave_out:
            return False
        elif all((folder / name).is_file() for name in _OUR_RESULTS):
            reason = "results of bleedmap"
        if reason:
            self.pass_by(folder, reason)
        return reason is None

    def _why_no_file(self, path: Path, seen: set[Path]) -> str | None:
        try:
            real = path.resolve(strict=True)
            plain = real.is_file()  # a pipe would wait for ever
        except (OSError, RuntimeError):
            return LINK_TO_NOTHING if is_link_to_nothing(path) else "cannot be opened"
        if path.name.startswith("."):
            return "hidden"
        if not plain:
            return "not a plain file"
        return "the same file as another" if real in seen else None

    def take(self, path: Path) -> None:
        """Sort one file in."""
        named = path.name.lower().endswith(nifti.SUFFIXES)
        if named and nifti.is_nifti(path):
            if stem(path.name).endswith(_DERIVED):
                self.pass_by(path, "a mask or probability map, by its name")
            else:
                self._single.append((str(path), None))
        elif path.suffix.lower() == ".zip":
            self._single += [(str(path), uid) for uid in _studies_in_zip(path)]
        elif path.suffix.lower() in images.SUFFIXES:
            kind = identify(path)
            words = kind.words if kind and kind.picture else "a picture"
            self.pass_by(path, f"{words}; `bleedmap segment` takes pictures")
        elif path.name.upper() == "DICOMDIR":
            self.pass_by(path, "a DICOMDIR")
        else:
            self._take_dicom(path)

    def _take_dicom(self, path: Path) -> None:
        try:
            uid = _study_uid(path)
        except DamagedError:
            self._damaged[str(path.parent)].append(str(path))
            return
        if uid is not None and not explain_uid(uid):
            self._by_uid[uid, ""].append(str(path))
        elif uid is not None:
            self._doubtful[str(path.parent)].append((uid, str(path)))
        elif _holds_nothing(path):
            self._absent[str(path.parent)].append(str(path))
        elif (kind := identify(path)) and kind.nifti and not stem(path.name).endswith(_DERIVED):
            self._single.append((str(path), None))
        else:
            self.pass_by(path, f"{kind.words}, not read" if kind else _FOREIGN)

    def sources(self) -> Iterator[Source]:
        for name, uid in self._single:
            yield self._source(Path(name), uid, [name])
        with_studies: set[str] = set()
        self._sort_doubtful()
        for (uid, _), names in self._by_uid.items():
            folders = {str(Path(name).parent) for name in names}
            with_studies |= folders
            damaged = [
                one for folder in folders for one in (*self._damaged.get(folder, ()), *self._absent_of(folder, names))
            ]
            path = Path(names[0] if len(names) == 1 else os.path.commonpath(folders))
            yield self._source(path, uid, names + damaged)
        for folder, names in self._damaged.items():
            if folder not in with_studies:
                yield self._source(Path(folder), None, names)
        for names in self._absent.values():
            for name in names:
                kind = identify(Path(name))
                nothing = LINK_TO_NOTHING if is_link_to_nothing(Path(name)) else _FOREIGN
                self.pass_by(Path(name), f"{kind.words}, not read" if kind else nothing)

    def _sort_doubtful(self) -> None:
        """Take files without a valid Study Instance UID for damaged where most of their folder have one."""
        good = Counter(str(Path(name).parent) for names in self._by_uid.values() for name in names)
        for folder, files in self._doubtful.items():
            for uid, name in files:
                if good[folder] > len(files):
                    self._damaged[folder].append(name)
                else:
                    self._by_uid[uid, "" if uid else folder].append(name)

    def _absent_of(self, folder: str, names: list[str]) -> list[str]:
        """Take the folder's files of 0 bytes, and pointers, that are named like these."""
        shapes = {shape_name(Place(Path(one))) for one in names}
        absent = self._absent.get(folder, [])
        taken = [one for one in absent if shape_name(Place(Path(one))) in shapes]
        self._absent[folder] = [one for one in absent if one not in taken]
        return taken

    def _source(self, path: Path, uid: str | None, names: list[str]) -> Source:
        return Source(path, self._place(path), uid, tuple(sorted(names)), self._digest(names))

    def _digest(self, names: Iterable[str]) -> str:
        """Digest names, sizes and times: a file that is written again has another time; contents need not be read."""
        digest = hashlib.sha256()
        for path in map(Path, sorted(names)):
            try:
                status = path.stat()
                state = f"{status.st_size} {status.st_mtime_ns}"
            except OSError:
                state = "gone"
            digest.update(os.fsencode(path.relative_to(self.folder)) + f"\0{state}\0".encode())
        return digest.hexdigest()


def read_identity(source: Source) -> dict[str, str | None]:
    """Read patient_id, study_date (YYYY-MM-DD) and accession_number of a DICOM study; None for what is not there."""
    known: dict[str, str | None] = dict.fromkeys(("patient_id", "study_date", "accession_number"))
    if source.uid is None:
        return known
    for name in source.files:
        with suppress(InputError, StopIteration):
            file = next(one for one in scan(Path(name)).files if one.study == source.uid)
            return {
                "patient_id": text(file.header, "PatientID"),
                "study_date": dash_date(text(file.header, "StudyDate")),
                "accession_number": text(file.header, "AccessionNumber"),
            }
    return known


def _studies_in_zip(path: Path) -> tuple[str | None, ...]:
    try:
        return scan(path).studies
    except InputError:
        return (None,)  # a study that cannot be read: its row says so


def _holds_nothing(path: Path) -> bool:
    with open_source(path.parent) as read:
        return explain_absence(read(Place(path), _START_BYTES), path.name) is not None


def _study_uid(path: Path) -> str | None:
    """Read the Study Instance UID, '' where it has none; None where the file is no DICOM.

    Raises:
        DamagedError: it begins as DICOM, and cannot be read.
    """
    with open_source(path.parent) as read:
        start = read(Place(path), _START_BYTES)
        if not looks_like_dicom(start):
            return None
        try:
            parsed = parse(read(Place(path), _HEADER_BYTES), pixels=False, most=_HEADER_BYTES)
            return text(parsed.header, "StudyInstanceUID") or ""
        except DamagedError:
            pass
    try:
        return scan(path).files[0].study
    except InputError as error:
        raise DamagedError(error.found) from error


def name_studies(places: Mapping[str, str], known: Mapping[str, str], taken: Iterable[str] = ()) -> dict[str, str]:
    """Name each study's folder of results, key -> name: from its place, unique on every disk, the same from run to run.

    Args:
        places: each study's key -> its place, in a fixed order; a name that would come twice ends with the key's hash.
        known: keys that have a name from an earlier run -> it.
        taken: names that no study may have.
    """
    names = {key: known[key] for key in places if key in known}
    used = {fold_name(name) for name in (*known.values(), *taken)}
    count = Counter(places.values())
    for key, place in places.items():
        if key not in names:
            *above, last = Path(place).parts or ("",)
            name = fit_name("_".join([*above, stem(last)]))
            if count[place] > 1 or fold_name(name) in used:
                name = f"{name}-{short_hash(key)}"
            names[key] = name
            used.add(fold_name(name))
    return names


def display_path(path: Path) -> str:
    """Return a path as text with '/' between its parts."""
    return spell(path.as_posix())
