"""From the bytes of an instance to its file in `incoming`: the same for C-STORE, STOW and uploads.

Files are the truth of receiving. The database is told of them once a second, and of files that it does not know at the
start, so that a kill at any moment costs nothing that was answered with success.
"""

import filecmp
import os
import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import UID

from bleedmap.io.dicom.header import DamagedError, dash_date, parse, text
from bleedmap.io.dicom.planes import CLASSIC_CT, CT_IMAGES
from bleedmap.io.dicom.producer import NAME
from bleedmap.io.files import sync
from bleedmap.server.config import GB, HEADER_BYTES, HOLD_S, SLICES, Settings
from bleedmap.server.place import Place, is_full
from bleedmap.server.store import studies
from bleedmap.server.store.engine import Database
from bleedmap.server.store.studies import Arrival

NO_SPACE, CANNOT, NO_MATCH, NOT_SUPPORTED = 0xA700, 0xC000, 0xA900, 0x0122  # PS3.4 B.2.3, PS3.7 C
_PART_S = 3600.0
_HEADER_PIECES = (1 << 18, HEADER_BYTES)
_NOT_CT, _OWN, _HELD, _REPLACED = "not a CT", "own result", "already held", "replaced by a later one"
_WHO = {
    "name": "PatientName", "patient_id": "PatientID", "birth_date": "PatientBirthDate", "sex": "PatientSex",
    "accession": "AccessionNumber",
}  # fmt: skip

Content = Sequence[bytes | memoryview]  # a DICOM file (PS3.10), in pieces


class RefusedError(Exception):
    """An instance that is not taken.

    Attributes:
        status: the DICOM status of the answer.
        reason: why, in words without identifiers.
        sop_class, sop_uid: of the instance, where they could be read.
    """

    def __init__(self, status: int, reason: str, sop_class: str = "", sop_uid: str = "") -> None:
        self.status, self.reason, self.sop_class, self.sop_uid = status, reason, sop_class, sop_uid
        super().__init__(reason)


@dataclass(frozen=True)
class Received:
    """An instance that was answered with success: it lies on the disk, or was counted as passed over.

    `sop_class`, `sop_uid`: of the instance.
    """

    key: str  # of its study's folder in `incoming`
    sop_class: str
    sop_uid: str
    passed_over: str = ""  # why it is not processed; '' where it is


class Receiver:
    """Takes instances, from several threads at once; `flush` tells the database."""

    def __init__(self, settings: Settings, place: Place) -> None:
        self.place, self._limits = place, settings.limits
        self._lock = threading.Lock()
        self._new: dict[str, Arrival] = {}
        self._came: dict[str, float] = {}  # key -> when its last slice came, by the monotonic clock
        self._held: set[str] = set()
        self._passed: Counter[tuple[str, str, str]] = Counter()
        self._sizes: dict[str, tuple[int, int]] = {}  # key -> bytes and files in incoming

    def store(self, content: Content, sender_ae: str) -> Received:
        """Keep an instance: when this returns, the disk has it.

        Args:
            content: a DICOM file in pieces, with preamble and file meta information.

        Raises:
            RefusedError: no space, or it cannot be understood.
        """
        size = sum(map(len, content))
        if is_full(self.place.root, self._limits.free_gb):
            raise RefusedError(NO_SPACE, "less space is free on the disk than is kept free")
        header = _read_header(content)
        kind, uid, study_uid = _read_uids(header)
        found = Received(self.place.key_of(study_uid), kind, uid)
        why = _find_why_passed(header, kind) or self._write(found, content, size)
        with self._lock:
            if why:
                self._passed[sender_ae, kind, why] += 1
            if why in ("", _REPLACED, _HELD):  # held: of a receiver, perhaps, that ended before the database was told
                self._note(found.key, header, sender_ae)
        return replace(found, passed_over=why)

    def refuse_other_class(self, sop_class: str) -> None:
        """Refuse classes that are no storage.

        Raises:
            RefusedError: so it is.
        """
        uid = UID(sop_class)
        if not uid.is_private and uid.name != uid and "Storage" not in uid.name:
            raise RefusedError(NOT_SUPPORTED, "not a storage SOP class", sop_class)

    def sweep(self, database: Database) -> int:
        """Tell the database of studies that wait in `incoming`, after a start; return their number."""
        for part in (self.place.root / "incoming/parts").iterdir():
            with suppress(OSError):
                if part.stat().st_mtime < time.time() - _PART_S:  # of a writer that died; others may be at theirs
                    part.unlink()
        for key in self.place.list_incoming():
            for path in self.place.incoming(key).iterdir():
                try:
                    with path.open("rb") as file:
                        header = _read_header([file.read(_HEADER_PIECES[0])])
                except (RefusedError, OSError):
                    continue
                with self._lock:
                    self._note(key, header, "")
                break
        count = len(self._new)
        self.flush(database)
        return count

    def flush(self, database: Database, held: Collection[str] = ()) -> None:
        """Tell the database what came since the last call; where it is away, the next call tells it.

        Args:
            held: keys of studies for which an association is alive.
        """
        with self._lock:
            new, passed, came = dict(self._new), Counter(self._passed), dict(self._came)
            released = self._held - set(held)
            self._new.clear()
            self._came.clear()
            self._passed.clear()
            for key in list(self._sizes):
                if key not in new and key not in held:
                    del self._sizes[key]
        if not new and not passed and not held and not released:
            return
        try:
            with database.write() as connection:
                now = database.now(connection)
                arrived = [
                    replace(one, instances=count, held=key in held, age_s=time.monotonic() - came[key])
                    for key, one in new.items() if (count := _count(self.place.incoming(key)))
                ]  # fmt: skip
                studies.note_arrivals(connection, now, arrived, HOLD_S)
                studies.hold(connection, [key for key in held if key not in new], now + HOLD_S)
                studies.hold(connection, [key for key in released if key not in new], 0.0)
                for (sender, kind, why), n in passed.items():
                    studies.count_passed_over(connection, now, sender, kind, why, n)
        except BaseException:
            with self._lock:
                self._new, self._came = new | self._new, came | self._came
                self._passed += passed
            raise
        self._held = set(held)

    def _note(self, key: str, header: Dataset, sender_ae: str) -> None:
        self._came[key] = time.monotonic()
        if key in self._new:
            self._new[key] = replace(self._new[key], sender_ae=sender_ae)
            return
        who = {name: _read_text(header, keyword) for name, keyword in _WHO.items()}
        about = {"description": _read_text(header, "StudyDescription"), "study_at": _read_moment(header)}
        self._new[key] = Arrival(key, _read_text(header, "StudyInstanceUID"), sender_ae, 0, False, 0.0, who, about)

    def _write(self, found: Received, content: Content, size: int) -> str:
        """Write the file; return why nothing new is there now, or ''."""
        folder = self.place.incoming(found.key)
        path, part = folder / f"{self.place.key_of(found.sop_uid)}.dcm", self.place.new_part()
        self._check_size(found.key, folder, size)
        try:
            self.place.write_whole(part, content)
            before = _compare(part, path)
            if before != _HELD:
                _rename(part, path)
                sync(folder)
        except OSError as error:
            raise RefusedError(NO_SPACE, f"cannot be written: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)
        return before

    def _check_size(self, key: str, folder: Path, size: int) -> None:
        with self._lock:
            if key not in self._sizes:
                sizes = [one.stat().st_size for one in folder.iterdir()] if folder.exists() else []
                self._sizes[key] = (sum(sizes), len(sizes))
            total, files = self._sizes[key]
            if total + size > self._limits.study_gb * GB or files >= SLICES:
                raise RefusedError(
                    NO_SPACE, f"a study of more than {self._limits.study_gb:g} GB or {SLICES:,} instances"
                )
            self._sizes[key] = (total + size, files + 1)


def _read_header(content: Content) -> Dataset:
    for most in _HEADER_PIECES:
        start = _join(content, most)
        try:
            parsed = parse(start, pixels=False, most=HEADER_BYTES)
        except DamagedError as error:
            raise RefusedError(CANNOT, str(error)) from error
        if parsed.ended or len(start) < most:
            return parsed.header
    raise RefusedError(CANNOT, "its header has no end")


def _join(content: Content, most: int) -> bytes:
    pieces, left = [], most
    for piece in content:
        pieces.append(bytes(piece[:left]))
        left -= len(pieces[-1])
    return b"".join(pieces)


def _read_text(header: Dataset, keyword: str) -> str:
    """A text as the database can hold it: PostgreSQL takes no NUL, and one such text would hold up all that came."""
    return (text(header, keyword) or "").replace("\0", "").strip()


def _read_uids(header: Dataset) -> tuple[str, str, str]:
    """SOP class, SOP instance and study."""
    kind, uid, study_uid = (
        _read_text(header, keyword) for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")
    )
    missing = [name for name, value in (("SOP Instance UID", uid), ("Study Instance UID", study_uid)) if not value]
    if missing:
        raise RefusedError(CANNOT, f"without {' and '.join(missing)}", kind, uid)
    return kind or CLASSIC_CT, uid, study_uid


def _find_why_passed(header: Dataset, kind: str) -> str:
    if text(header, "Manufacturer") == NAME and text(header, "ManufacturerModelName") == NAME:
        return _OWN
    return "" if kind in CT_IMAGES else _NOT_CT


def _read_moment(header: Dataset) -> str:
    """When the study was made, as ISO 8601; '' where that is not stated."""
    day = text(header, "StudyDate") or text(header, "ContentDate") or ""
    hour, said = (text(header, "StudyTime") or "").split(".")[0], dash_date(day)
    if said is None or said == day:
        return ""
    return f"{said}T{hour[:2]}:{hour[2:4]}:{hour[4:6]}" if len(hour) == 6 and hour.isdigit() else said


def _count(folder: Path) -> int:
    """Slices that wait in a folder; 0 where its version took it away meanwhile."""
    try:
        return sum(1 for one in os.scandir(folder) if one.name.endswith(".dcm"))
    except FileNotFoundError:
        return 0


def _compare(part: Path, path: Path) -> str:
    try:
        return _HELD if filecmp.cmp(part, path, shallow=False) else _REPLACED
    except FileNotFoundError:
        return ""


def _rename(part: Path, path: Path) -> None:
    """Give a file its name; the folder is taken away by a rename when the study is complete, and made anew."""
    for _ in range(10):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        try:
            part.rename(path)
            return
        except FileNotFoundError:
            continue
    part.rename(path)
