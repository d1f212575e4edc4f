"""Find DICOM files in a folder or zip by their content; a zip's members are read in memory, never written out."""

import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from bleedmap.errors import DamagedFileError, InputError, spell
from bleedmap.io.dicom.header import (
    DamagedError,
    Parsed,
    add_pixels,
    find_sop_class,
    find_uid_fault,
    is_directory,
    looks_like_dicom,
    parse,
    set_up_pydicom,
    text,
)
from bleedmap.io.files import is_plain_file, walk
from bleedmap.io.kinds import (
    UNPACK_ERRORS,
    Kind,
    drop_packing,
    find_packing,
    identify,
    identify_bytes,
    open_packed,
    unpack_start,
)

MOST_FILES = 20_000
MOST_FILE_BYTES = 700 << 20  # a multi-frame scan of 1,300 slices of 512 × 512
MOST_ZIP_BYTES = 8 << 30  # all members together, inflated
MOST_RATIO = 250  # inflated to packed; scans reach 10, a flat picture 1,000, but none of the sizes below
_LARGE_MEMBER, _LARGE_ZIP = 16 << 20, 256 << 20
_HEADER_BYTES = (1 << 18, 1 << 26)  # read at first, and where the header is longer
_START_BYTES = 140
_KIND_BYTES = 1 << 12
_MARK_BYTES = 8
_ZIP_MARKS = (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may ask for gigabytes of dictionary


@dataclass(frozen=True)
class Place:
    """Where a file's bytes are: a path, or a member of the zip at that path, or in memory (`data`)."""

    path: Path
    member: zipfile.ZipInfo | None = None
    data: bytes | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The name for messages and results, spelled out; unprintable letters of a member's name are replaced."""
        if self.member is None:
            return spell(self.path)
        inside = "".join(one if one.isprintable() else "?" for one in self.member.filename[:200])
        return f"{spell(self.path)}: {inside}"


@dataclass(frozen=True, eq=False)
class DicomFile:
    """One DICOM instance: its place, and its header without pixels, as it was parsed."""

    place: Place
    parsed: Parsed

    @property
    def header(self) -> Dataset:
        """The header without pixels."""
        return self.parsed.header

    @property
    def study(self) -> str:
        """The Study Instance UID."""
        return text(self.header, "StudyInstanceUID") or ""

    @property
    def series(self) -> str:
        """The Series Instance UID; where there is none, what else tells series apart: number, description, folder."""
        others = ("SeriesNumber", "SeriesDescription")
        folder = str(Path(self.place.name).parent)
        return text(self.header, "SeriesInstanceUID") or "/".join(
            [*(text(self.header, one) or "" for one in others), folder]
        )


@dataclass(frozen=True)
class Unreadable:
    """A DICOM file that could not be read, and why, in a clause."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class DicomFound:
    """What a folder, zip or file holds."""

    path: Path  # as given
    files: tuple[DicomFile, ...]  # every DICOM instance, in the order of the names
    unreadable: tuple[Unreadable, ...]  # files that begin as DICOM but are damaged
    foreign_files: int  # how many files are something else, DICOMDIR among them
    zips: int  # how many zips lay inside; they are not opened

    @property
    def studies(self) -> tuple[str, ...]:
        """The Study Instance UIDs, each once."""
        return tuple(dict.fromkeys(file.study for file in self.files))


Read = Callable[[Place, int], bytes]
_UNFINISHED = (".part", ".crdownload", ".partial", ".filepart", ".download", ".tmp")  # of browsers and copies
_GROUPED_BY = ("StudyInstanceUID", "SeriesInstanceUID")
_HOLD_NOTHING = ("pointer", "packed by", "encrypted")  # words for what may be a slice that cannot be opened
_DICOM_ENDINGS = ("", ".dcm", ".dicom", ".ima")
LINK_TO_NOTHING = "a link to nothing"
CLOSED_FOLDER = "a folder that cannot be opened"


_ADVICE = {  # what a folder without DICOM holds -> what to do
    "a NIfTI volume": "give the NIfTI file itself, as {name}; `bleedmap batch` takes a folder of them",
    "a zip archive": "give that zip itself: {name}",
}


@contextmanager
def open_source(path: Path) -> Iterator[Read]:
    """Yield read(place, most): the first `most` bytes of a file or member below `path`, fewer where it ends before.

    It raises DamagedError where they cannot be read.
    """
    if is_zip(path):
        with _open_zip(path) as archive:
            yield lambda place, most: _read_member(archive, place, most)
    else:
        yield _read_file


def _read_file(place: Place, most: int) -> bytes:
    if place.data is not None:
        return place.data[:most]
    try:
        with place.path.open("rb") as stream:
            return _unpack(stream, min(most, os.fstat(stream.fileno()).st_size), most)
    except OSError as error:
        raise DamagedError(f"cannot be read: {error.strerror or error}") from error


def _unpack(stream: BinaryIO, plain: int, most: int) -> bytes:
    """Read the first bytes of a stream, or of what it holds where it is packed, as some archives keep single files.

    Args:
        stream: at its begin.
        plain: bytes to read where it is not packed.
        most: bytes to unpack.
    """
    packing = find_packing(stream.read(_MARK_BYTES))
    stream.seek(0)
    if packing is None:
        return stream.read(plain)
    try:
        if most <= _KIND_BYTES:  # enough to tell DICOM, of a file that is cut too
            start = unpack_start(stream, packing, most)
            if not start:
                stream.seek(0)
            return start or stream.read(most)
        return bytes(open_packed(stream, packing).read(most))
    except (*UNPACK_ERRORS, MemoryError) as error:  # xz may ask for gigabytes
        raise DamagedError(f"is packed by {packing} and damaged or cut") from error


def _read_member(archive: zipfile.ZipFile, place: Place, most: int) -> bytes:
    try:
        if place.member is None or place.member.compress_type not in _ZIP_METHODS:
            raise DamagedError("packed by a method other than 'deflate'")
        with archive.open(place.member) as stream:
            return _unpack(stream, min(most, place.member.file_size + 1), most)  # type: ignore[arg-type]
    except RuntimeError as error:  # zipfile's way to ask for a password
        raise DamagedError("encrypted in the zip") from error
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError) as error:
        raise DamagedError(f"damaged in the zip ({type(error).__name__})") from error


def is_zip(path: Path) -> bool:
    """Whether a path is a zip file, by its content."""
    if not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(4) in _ZIP_MARKS
    except OSError:
        return False


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, MemoryError) as error:
        raise InputError(path, f"is a damaged zip ({type(error).__name__})", "a whole zip", "copy it again") from error
    try:
        _check_sizes(path, archive.infolist())
    except InputError:
        archive.close()
        raise
    return archive


def _check_sizes(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Refuse what inflates beyond measure by its directory; a member larger than stated there is cut when read."""
    total = sum(one.file_size for one in members)
    packed = min(sum(one.compress_size for one in members), path.stat().st_size)  # members may overlap
    factors = [one.file_size / max(one.compress_size, 1) for one in members if one.file_size > _LARGE_MEMBER]
    factors += [total / max(packed, 1)] if total > _LARGE_ZIP else []
    worst = max(factors, default=0.0)
    if total > MOST_ZIP_BYTES or worst > MOST_RATIO:
        found = f"a zip that inflates to {total / 2**20:,.0f} MiB, by a factor of up to {worst:,.0f}"
        needed = f"at most {MOST_ZIP_BYTES >> 20:,} MiB and a factor of {MOST_RATIO}"
        raise InputError(path, found, needed, "unpack it yourself if you trust it, and give the folder")
    if len(members) > MOST_FILES:
        raise _too_many(path, f"{len(members):,}")


def scan(path: Path) -> DicomFound:
    """Read the headers of a folder (with those below it), a zip, or one file.

    Raises:
        InputError: no such path, no DICOM in it, too many files, a zip that inflates beyond measure, or a DICOMDIR
            whose files are not in its folder. Of a DICOMDIR the files that it lists are read.
    """
    if not path.exists():
        found = LINK_TO_NOTHING if is_link_to_nothing(path) else "no such file or folder"
        raise InputError(path, found, "a folder, zip or file of DICOM", "check the path")
    files: list[DicomFile] = []
    unreadable: list[Unreadable] = []
    absent: list[tuple[Place, str]] = []
    foreign_files = zips = 0
    kinds: list[tuple[Place, Kind]] = []

    def fail(error: OSError) -> None:
        unreadable.append(Unreadable(spell(error.filename), f"{CLOSED_FOLDER}: {error.strerror}"))

    with open_source(path) as read:
        for place in _list_places(path, fail):
            if place.member is None and is_link_to_nothing(place.path):
                absent.append((place, LINK_TO_NOTHING))
                continue
            try:
                start = read(place, _START_BYTES)
                if looks_like_dicom(start):
                    file = DicomFile(place, _read_header(place, read))
                    if is_directory(file.header):
                        if place.path == path and place.member is None:
                            return _scan_directory(path)
                        foreign_files += 1
                    else:
                        files.append(file)
                elif why := explain_absence(start, place.name):
                    absent.append((place, why))
                else:
                    foreign_files += 1
                    zips += start[:4] in _ZIP_MARKS
                    kind = identify(place.path) if place.member is None else (
                        identify_bytes(read(place, _KIND_BYTES), place.name)
                    )  # fmt: skip
                    if kind:
                        kinds.append((place, kind))
            except DamagedError as error:
                unreadable.append(Unreadable(place.name, str(error)))
    missing = _keep_named_alike(absent, files)
    files, strays = _set_strays_apart(files)
    unreadable += missing + strays
    foreign_files += len(absent) - len(missing)
    kept = {one.name for one in missing}
    kinds += [(place, Kind(why)) for place, why in absent if place.name not in kept]
    if not files:
        raise _no_dicom(path, unreadable, foreign_files, zips, kinds)
    return DicomFound(path, tuple(files), tuple(unreadable), foreign_files, zips)


def explain_absence(start: bytes, name: str) -> str | None:
    """Why a file that begins so holds nothing of what its name promises; None where it is a file of another kind."""
    kind = identify_bytes(start, name)
    empty = kind is not None and (not start or any(one in kind.words for one in _HOLD_NOTHING))
    return kind.words if kind is not None and empty else None


def shape_name(place: Place) -> tuple[str, str, bool]:
    """What slices of one series share: their folder, the names' ending, and whether digits number them."""
    name = PurePosixPath(place.member.filename) if place.member else PurePosixPath(place.path.as_posix())
    if name.suffix == ".icloud":  # a Mac hides the name of what it keeps elsewhere
        name = name.with_name(name.stem.removeprefix("."))
    if name.suffix.lower() in _UNFINISHED:
        name = name.with_suffix("")
    name = drop_packing(name)
    ending = name.suffix.lower()
    if name.name.startswith("."):  # hidden: of a system, not of a series
        ending = "hidden"
    return str(name.parent), "" if ending[1:].isdigit() else ending, any(one.isdigit() for one in name.name)


def _keep_named_alike(absent: list[tuple[Place, str]], files: list[DicomFile]) -> list[Unreadable]:
    """Of what holds nothing keep what is named like the files; where there are none, what is named as DICOM is."""
    shapes = {shape_name(one.place) for one in files}
    return [
        Unreadable(place.name, why)
        for place, why in absent
        if (shape_name(place) in shapes if files else shape_name(place)[1] in _DICOM_ENDINGS)
    ]


def _set_strays_apart(files: list[DicomFile]) -> tuple[list[DicomFile], list[Unreadable]]:
    """Set apart files of a damaged study or series UID, where more files like them have good ones.

    Alike are those of one SOP class and the same study or series; of a file that was cut before them, the same folder.
    Where most have none, or none that is valid, they were written so, and are read.
    """
    faults = {id(file): next((one for one in _GROUPED_BY if find_uid_fault(file.header, one)), None) for file in files}
    if not any(faults.values()):
        return files, []
    groups = {id(file): _group(file, faults[id(file)] is not None) for file in files}
    good = Counter(group for file in files if not faults[id(file)] for group in groups[id(file)])
    bad = Counter(group for file in files if faults[id(file)] for group in groups[id(file)])
    kept: list[DicomFile] = []
    strays: list[Unreadable] = []
    for file in files:
        if faults[id(file)] and any(good[one] > bad[one] for one in groups[id(file)]):
            strays.append(Unreadable(file.place.name, f"no usable {faults[id(file)]}"))
        else:
            kept.append(file)
    return kept, strays


def _group(file: DicomFile, faulty: bool) -> set[tuple[str, str]]:
    kind, missing = find_sop_class(file.header), not all(text(file.header, one) for one in _GROUPED_BY)
    by = [file.study, file.series, *([str(Path(file.place.name).parent)] if missing or not faulty else [])]
    return {(kind, one) for one in by}


def _scan_directory(path: Path) -> DicomFound:
    """Read the headers of the studies that a DICOMDIR lists, from its folder; files that it lists must be there."""
    folder = path.parent
    try:
        with path.open("rb") as stream:
            directory = parse(stream.read(_HEADER_BYTES[-1]), pixels=False, most=_HEADER_BYTES[-1]).header
        records = directory.get("DirectoryRecordSequence") or ()
        studies = {text(one, "StudyInstanceUID") for one in records} - {None}
        listed = {text(one, "ReferencedSOPInstanceUIDInFile"): one.get("ReferencedFileID") for one in records}
        listed.pop(None, None)
        found = scan(folder)
    except (DamagedError, InputError) as error:
        why = str(error) if isinstance(error, DamagedError) else f"its folder {error.found}"
        raise _no_directory(path, why) from error
    files = tuple(one for one in found.files if one.study in studies)
    if not files:
        raise _no_directory(path, f"none of the {len(listed):,} files that it lists lies in its folder")
    there = {text(one.header, "SOPInstanceUID") for one in found.files}
    missing = tuple(
        Unreadable(
            spell(folder.joinpath(*([name] if isinstance(name, str) else name or ["?"]))), "is listed, not there"
        )
        for uid, name in listed.items()
        if uid not in there
    )
    named = {one.name for one in found.unreadable}
    unreadable = (*found.unreadable, *(one for one in missing if one.name not in named))
    return DicomFound(folder, files, unreadable, found.foreign_files, found.zips)


def _no_directory(path: Path, why: str) -> InputError:
    return InputError(
        path, f"is a DICOMDIR, a table of contents without images; {why}", "the folder with the files that it lists",
        f"copy the whole CD, and give its folder ({path.parent}) in place of the DICOMDIR",
    )  # fmt: skip


def scan_files(path: Path, files: Iterable[Path]) -> DicomFound:
    """Read the headers of chosen files, wherever they lie; damaged ones are counted as in `scan`.

    Args:
        path: what the files belong to, for messages and names.
        files: DICOM files, or folders of them.

    Raises:
        InputError: none of them can be read.
    """
    found: list[DicomFile] = []
    unreadable: list[Unreadable] = []
    for file in files:
        try:
            scanned = scan(file)
            found += scanned.files
            unreadable += scanned.unreadable
        except InputError as error:
            unreadable.append(Unreadable(spell(file), error.found))
    if not found:
        why = f"none of its {len(unreadable):,} DICOM files can be read ({unreadable[0].reason})" if unreadable else (
            "no DICOM files"
        )  # fmt: skip
        raise InputError(path, why, "DICOM files of a head CT", "send or copy the study again")
    found, strays = _set_strays_apart(found)
    return DicomFound(path, tuple(found), (*unreadable, *strays), 0, 0)


def scan_datasets(datasets: Sequence[Dataset]) -> DicomFound:
    """Take data sets of pydicom's as the files of a study; they stay as they are.

    Args:
        datasets: each an instance with its pixels.

    Raises:
        InputError: none of them can be read.
    """
    set_up_pydicom()
    found: list[DicomFile] = []
    unreadable: list[Unreadable] = []
    for number, dataset in enumerate(datasets, 1):
        place = Place(Path(f"data set {number} of {len(datasets)}"))
        try:
            place = replace(place, data=_write(dataset))
            found.append(DicomFile(place, _read_header(place, _read_file)))
        except DamagedError as error:
            unreadable.append(Unreadable(place.name, str(error)))
    source = Path("data sets")
    if not found:
        raise _no_dicom(source, unreadable, 0, 0, [])
    return DicomFound(source, tuple(found), tuple(unreadable), 0, 0)


def _write(dataset: Dataset) -> bytes:
    """Write a data set as a file's bytes; where it does not name its transfer syntax, as it was read, or little."""
    whole, meta = Dataset(), FileMetaDataset()
    whole.update(dataset)
    meta.update(getattr(dataset, "file_meta", None) or {})
    if "TransferSyntaxUID" not in meta:
        implicit, little = dataset.original_encoding
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else (
            ExplicitVRBigEndian if little is False else ExplicitVRLittleEndian
        )  # fmt: skip
    stream = BytesIO()
    try:
        whole.set_original_encoding(*dataset.original_encoding)
        whole.file_meta, whole.preamble = meta, b"\0" * 128
        dcmwrite(stream, whole, enforce_file_format=False)
    except Exception as error:  # pydicom raises nearly anything for a value that its type does not hold
        raise DamagedError(f"cannot be written ({type(error).__name__})") from error
    return stream.getvalue()


def _read_header(place: Place, read: Read) -> Parsed:
    """Read the header, from as few bytes as it takes."""
    error: DamagedError | None = None
    for most in _HEADER_BYTES:
        data = read(place, most)
        try:
            parsed = parse(data, pixels=False, most=most)
            if parsed.ended or len(data) < most:
                return parsed
        except DamagedError as why:
            error = why
            if len(data) < most:
                break
    raise error or DamagedError(f"a header of more than {_HEADER_BYTES[-1] >> 20} MiB")


def read_whole(place: Place, read: Read, parsed: Parsed | None = None) -> Dataset:
    """Read a file with its pixels.

    Args:
        parsed: its header, where that is read already; it is parsed again only where the file is deflated.

    Raises:
        DamagedFileError: too large, damaged, or changed since.
    """
    try:
        data = read(place, MOST_FILE_BYTES + 1)
        if len(data) > MOST_FILE_BYTES:
            raise DamagedError(f"holds more than {MOST_FILE_BYTES >> 20} MiB")
        if parsed is not None and parsed.pixels_at is not None:
            return add_pixels(parsed, data)
        return parse(data, pixels=True, most=MOST_FILE_BYTES).header
    except DamagedError as error:
        raise DamagedFileError(
            place.name, found=str(error), needed="a whole DICOM file", remedy="send or copy the series again"
        ) from error


def holds_dicom(folder: Path) -> bool:
    """Whether a folder has a DICOM file anywhere, by its content; it stops at the first."""
    return any(is_dicom(inside / name) for inside, names in walk(folder) for name in names)


def is_dicom(path: Path) -> bool:
    """Whether a plain file is DICOM by its content, packed or not."""
    try:
        return is_plain_file(path) and looks_like_dicom(_read_file(Place(path), _START_BYTES))
    except (DamagedError, OSError):
        return False


def _list_places(path: Path, on_error: Callable[[OSError], None]) -> Iterator[Place]:
    """List every file once, in the order of the names; links are followed, special files left out.

    Args:
        path: a folder, zip or file.
        on_error: told of folders that cannot be opened.
    """
    if not path.is_dir():
        if is_zip(path):
            with zipfile.ZipFile(path) as archive:
                yield from (Place(path, one) for one in archive.infolist() if not one.is_dir())
        elif path.is_file():
            yield Place(path)
        return
    seen = set()
    for folder, names in walk(path, on_error=on_error):
        for name in names:
            file = folder / name
            real = file
            with suppress(OSError):  # reading it will say why
                if not is_link_to_nothing(file):
                    if not is_plain_file(file):
                        continue
                    real = Path(os.path.realpath(file))
            if real in seen:
                continue
            seen.add(real)
            if len(seen) > MOST_FILES:
                raise _too_many(path, f"more than {MOST_FILES:,}")
            yield Place(file)


def is_link_to_nothing(path: Path) -> bool:
    """Whether a path is a link to a file that is not there, as data managers leave it, or to itself."""
    try:
        return path.is_symlink() and not path.exists()
    except OSError:  # it may be there
        return False


def _no_dicom(
    path: Path, unreadable: list[Unreadable], foreign_files: int, zips: int, kinds: list[tuple[Place, Kind]]
) -> InputError:
    needed = "DICOM files of a head CT"
    if unreadable:
        others = f", as are {len(unreadable) - 1} others" if len(unreadable) > 1 else ""
        where, why = unreadable[0].name, unreadable[0].reason
        packed = why.startswith("a file packed by")
        remedy = "unpack the files, and give their folder" if packed else "send or copy the study again"
        remedy = (
            "copy or fetch what the links lead to (git annex get, datalad get)" if why == LINK_TO_NOTHING else remedy
        )
        return InputError(where, f"{why}{others}", needed, remedy)
    if path.is_dir() or is_zip(path):
        inside = f"; {zips} zip inside is not opened" if zips else ""
        counted = Counter(kind.words for _, kind in kinds).most_common(4)
        named = "; ".join(f"{count:,} × {words}" for words, count in counted)
        found = f"holds no DICOM file ({foreign_files:,} of another kind{f': {named}' if named else ''}){inside}"
        return InputError(path, found if foreign_files else "is empty", needed, _advise(kinds))
    kind = identify(path)
    if kind is not None:
        return InputError(path, f"is {kind.words}, not a DICOM file", "a DICOM study, or NIfTI in HU", kind.remedy)
    return InputError(path, "is not a DICOM file", needed, "give a DICOM file, a folder or zip of them, or NIfTI")


def _advise(kinds: list[tuple[Place, Kind]]) -> str:
    """Say what to do with a folder without DICOM, by what it holds instead."""
    packed = kinds[0][0].path.name if kinds and kinds[0][0].member else ""
    unpack = f"unpack {packed}, then " if packed else ""
    for words, advice in _ADVICE.items():
        first = next((place for place, kind in kinds if words in kind.words), None)
        if first is not None:
            return unpack + advice.format(name=first.name.removeprefix(f"{spell(first.path)}: "))
    remedy = next((kind.remedy for _, kind in kinds if kind.remedy), "")
    otherwise = f"{unpack}give the folder that holds the study, or JPEG or PNG slices"
    return f"{otherwise}; or {remedy}" if remedy else otherwise


def _too_many(path: Path, count: str) -> InputError:
    return InputError(path, f"holds {count} files", f"at most {MOST_FILES:,}", "give the folder of one study")
