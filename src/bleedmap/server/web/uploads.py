"""Studies by upload, one file or zip a request: streamed to the disk, then through the same step as C-STORE."""

import asyncio
import mmap
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from pydicom.uid import MediaStorageDirectoryStorage

from bleedmap.io.dicom.header import has_preamble
from bleedmap.io.kinds import identify
from bleedmap.server.config import GB, SLICES
from bleedmap.server.dicom.receive import NO_SPACE, Receiver, RefusedError
from bleedmap.server.place import is_full
from bleedmap.server.web.context import Actor, Asking, Parts, Refusal, Web, as_json

_CHUNK = 1 << 20
_ZIP_MARK = b"PK\x03\x04"  # a zip that was cut off has it too
_START = 1 << 10  # bytes of a file that tell what it is
_PIECE = 64 << 20  # mapped at once
_UNPACK_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)

router = APIRouter()


@router.post("/api/uploads", status_code=201)
async def upload(web: Parts, actor: Asking, request: Request) -> Response:
    """Take a DICOM file, or a zip of them; say how many slices were kept, and why others were not."""
    async with saved_body(web, request) as part:
        kept, passed = await asyncio.to_thread(_take, web, actor, part)
    return as_json({"kept": kept, "passed_over": dict(passed)}, 201)


@asynccontextmanager
async def saved_body(web: Web, request: Request) -> AsyncIterator[Path]:
    """Yield the request's body as a file of its own in `incoming/parts`, which is removed at the end.

    Raises:
        Refusal: too large, or the disk is full.
    """
    limits, part = web.settings.limits, web.place.new_part()
    if is_full(web.place.root, limits.free_gb):
        raise _no_space()
    try:
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                async for piece in take_body(request, int(limits.upload_gb * GB)):
                    await asyncio.to_thread(file.write, piece)
        except OSError as error:
            raise _no_space() from error
        yield part
    finally:
        part.unlink(missing_ok=True)


async def take_body(request: Request, most: int) -> AsyncIterator[bytes]:
    """The request's body, piece by piece.

    Raises:
        Refusal: 413, once it is longer than `most`.
    """
    length = request.headers.get("content-length", "")
    came = 0
    refusal = Refusal(413, "The upload is too large", f"at most {most:,} bytes")
    if length.isdigit() and int(length) > most:
        raise refusal
    async for part in request.stream():
        came += len(part)
        if came > most:
            raise refusal
        yield part


def _no_space() -> Refusal:
    return Refusal(507, "The disk is full", "more free space than is kept free", "try again when there is some")


def _take(web: Web, actor: Actor, part: Path) -> tuple[int, Counter[str]]:
    receiver, kept, passed = Receiver(web.settings, web.place), 0, Counter[str]()
    with part.open("rb") as body:
        is_zip = body.read(len(_ZIP_MARK)) == _ZIP_MARK or zipfile.is_zipfile(part)
    files = _open_zip(web, part) if is_zip else iter([part])
    try:
        for file in files:
            try:
                received = store_file(receiver, file, "upload")
            except RefusedError as error:
                if error.status == NO_SPACE:
                    raise Refusal(507, f"The upload is not taken: {error.reason}") from error
                if not is_zip:
                    kind = identify(file)
                    why = f"it is {kind.words}" if kind else error.reason
                    raise Refusal(422, f"Not a DICOM file that can be read: {why}", "a DICOM image") from error
                passed[_name_left_out(file)] += 1
            else:
                kept += not received.passed_over
                passed[received.passed_over] += bool(received.passed_over)
    except Refusal as refusal:
        if kept:
            refusal.title += f" (slices of it that were kept: {kept:,})"
        raise
    finally:  # what lies on the disk by now is told, though the rest be refused
        receiver.flush(web.database)
    web.note(actor, "uploaded", kept=kept)
    return kept, +passed


def _name_left_out(file: Path) -> str:
    """Name a file of a zip that cannot be read, as its sender counts what was left out."""
    with file.open("rb") as stream:
        start = stream.read(_START)
    if start.startswith(_ZIP_MARK):
        return "zip inside the zip, which is not opened"
    is_image = has_preamble(start) and MediaStorageDirectoryStorage.encode() not in start  # not the DICOMDIR of a CD
    return "damaged DICOM" if is_image else "not DICOM"


def store_file(receiver: Receiver, path: Path, sender_ae: str) -> Any:
    """Give a file to the receiver without loading it whole."""
    if not path.stat().st_size:
        raise RefusedError(0xC000, "empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        view = memoryview(mapped)
        pieces = [view[start : start + _PIECE] for start in range(0, len(view), _PIECE)]
        try:
            return receiver.store(pieces, sender_ae)
        finally:
            for one in (*pieces, view):
                one.release()


def _open_zip(web: Web, part: Path) -> Iterator[Path]:
    """Unpack a zip's files one by one into a file of our own; no name in it is ever used."""
    most = web.settings.limits.study_gb * GB
    unpacked = 0
    target = web.place.new_part()
    try:
        with zipfile.ZipFile(part) as packed:
            entries = [one for one in packed.infolist() if not one.is_dir()]
            if any(one.flag_bits & 1 for one in entries):
                raise Refusal(422, "The zip is encrypted", "a zip without a password", "unpack it, and send the files")
            if len(entries) > 2 * SLICES:
                raise Refusal(413, f"A zip of {len(entries):,} files", f"at most {2 * SLICES:,}")
            for entry in entries:
                with packed.open(entry) as source, target.open("wb") as file:
                    while data := source.read(_CHUNK):
                        unpacked += len(data)
                        if unpacked > most:
                            raise Refusal(413, "The zip holds too much", f"at most {most / GB:g} GB when unpacked")
                        file.write(data)
                yield target
    except _UNPACK_ERRORS as error:
        raise Refusal(422, "The zip is damaged", "a whole zip", "make it again, or send the files") from error
    finally:
        target.unlink(missing_ok=True)
