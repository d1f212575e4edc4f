"""DICOMweb (PS3.18): search (QIDO-RS), retrieve (WADO-RS) and store (STOW-RS) what the server holds.

A study is its images and our results of the version that the worklist shows. Instances are sent as they are stored;
no pixel is decoded. Machines ask with the token of keys/dicomweb-token, browsers with their session.
"""

import asyncio
import json
import secrets
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Path as InPath
from pydicom import Dataset, dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.encaps import get_frame
from pydicom.uid import UID
from python_multipart.multipart import parse_options_header
from sqlalchemy import RowMapping
from starlette.responses import StreamingResponse

from bleedmap.archive.remote.parts import PartsError, split_parts
from bleedmap.io.dicom.header import set_up_pydicom
from bleedmap.server.dicom.receive import NO_MATCH, NO_SPACE, Receiver, RefusedError
from bleedmap.server.place import Place
from bleedmap.server.store import studies
from bleedmap.server.web.context import Actor, Asking, Parts, Refusal, Web
from bleedmap.server.web.uploads import saved_body, store_file

_CHUNK = 1 << 20
_MOST_RESULTS = 1000
_JSON = "application/dicom+json"
_SENDER = "STOW"
_FRAME_TYPES = {  # by the transfer syntax's way to compress: PS3.18 table 8.7.3-5
    "1.2.840.10008.1.2.4.50": "image/jpeg", "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg", "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls", "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2", "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}  # fmt: skip
_SERIES_TAGS = (
    "Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber", "StudyInstanceUID", "SeriesDate",
    "SeriesTime",
)  # fmt: skip
_INSTANCE_TAGS = (
    "SOPClassUID", "SOPInstanceUID", "InstanceNumber", "Rows", "Columns", "BitsAllocated", "NumberOfFrames",
)  # fmt: skip
_WITHOUT = ("limit", "offset", "includefield", "fuzzymatching")
_one_at_a_time = threading.Lock()  # pydicom keeps global settings

router = APIRouter(prefix="/dicomweb")
Uid = Annotated[str, InPath(pattern=r"^[0-9.]{1,64}$")]


@dataclass(frozen=True)
class Instance:
    """One held instance: its study's identifier here, its file, and its header as DICOM JSON."""

    study: str
    path: Path
    header: dict[str, Any]

    def get(self, keyword: str) -> str:
        """An attribute's first value as text; '' where it has none."""
        value = self.header.get(_tag(keyword), {}).get("Value") or [""]
        return str(value[0])


@lru_cache(maxsize=512)
def _tag(keyword: str) -> str:
    tag = tag_for_keyword(keyword)
    return f"{tag:08X}" if tag is not None else keyword.upper()


@lru_cache(maxsize=64)
def _read_index(study: str, folders: tuple[Path, ...], stamp: tuple[int, ...]) -> tuple[Instance, ...]:
    """Read the headers of all instances; `stamp` changes when files do."""
    found = []
    with _one_at_a_time:
        set_up_pydicom()
        for folder in folders:
            for path in sorted(folder.rglob("*.dcm")):
                header = dcmread(path, stop_before_pixels=True, force=True)
                found.append(Instance(study, path, header.to_json_dict(suppress_invalid_tags=True)))
    return tuple(found)


def _find(web: Web, actor: Actor, uid: str, **wanted: str) -> list[Instance]:
    """The instances of a study that `actor` may see, of a series or with a UID; that it was opened is recorded.

    Raises:
        Refusal: 404, nothing of it is held.
    """
    with web.database.read() as connection:
        listed = studies.list_worklist(connection, order="arrival", uid=uid)
    if not listed or not actor.may_see(listed[0]):
        raise Refusal(404, "No such study")
    number, version = listed[0]["id"], listed[0]["version"]
    folders = (web.place.dicom(number, version), web.place.results(number, version) / "dicom")
    there = tuple(one for one in folders if one.is_dir())
    index = _read_index(number, there, tuple(one.stat().st_mtime_ns for one in there))
    found = [one for one in index if all(one.get(name) == value for name, value in wanted.items())]
    if not found:
        raise Refusal(404, "No such instances", remedy="images are deleted when they are old")
    web.note_opened(actor, number, version)
    return found


# Search.


@router.get("/studies")
def search_studies(web: Parts, actor: Asking, request: Request) -> Response:
    """Search for studies, the newest first."""
    with web.database.read() as connection:
        rows = studies.list_worklist(connection, order="arrival", senders=actor.senders, limit=10**9)
    found = (_describe_study(row) for row in rows if row["state"] != "gone")
    return _answer(_select(request, found))


def _describe_study(row: RowMapping) -> dict[str, Any]:
    day, _, hour = row["study_at"].partition("T")
    modalities = ["CT", "SEG", "SR", "OT"] if row["verdict"] is not None else ["CT"]
    name = [{"Alphabetic": row["name"]}] if row["name"] else []
    values: list[tuple[str, str, list[Any]]] = [
        ("StudyDate", "DA", [day.replace("-", "")] if day else []),
        ("StudyTime", "TM", [hour.replace(":", "")] if hour else []),
        ("AccessionNumber", "SH", [row["accession"]]), ("InstanceAvailability", "CS", ["ONLINE"]),
        ("ModalitiesInStudy", "CS", modalities), ("StudyDescription", "LO", [row["description"]]),
        ("PatientName", "PN", name), ("PatientID", "LO", [row["patient_id"]]),
        ("PatientBirthDate", "DA", [row["birth_date"]]), ("PatientSex", "CS", [row["sex"]]),
        ("StudyInstanceUID", "UI", [row["uid"]]), ("NumberOfStudyRelatedInstances", "IS", [row["instances"]]),
    ]  # fmt: skip
    return {_tag(key): {"vr": vr, **({"Value": held} if held and held[0] else {})} for key, vr, held in values}


@router.get("/studies/{study}/series")
def search_series(web: Parts, actor: Asking, request: Request, study: Uid) -> Response:
    """Search the series of a study."""
    instances = _find(web, actor, study)
    counts = Counter(one.get("SeriesInstanceUID") for one in instances)
    first: dict[str, Instance] = {}
    for one in instances:
        first.setdefault(one.get("SeriesInstanceUID"), one)
    number = _tag("NumberOfSeriesRelatedInstances")
    found = (_pick(one, _SERIES_TAGS) | {number: {"vr": "IS", "Value": [counts[uid]]}} for uid, one in first.items())
    return _answer(_select(request, found))


@router.get("/studies/{study}/instances")
def search_study_instances(web: Parts, actor: Asking, request: Request, study: Uid) -> Response:
    """Search all instances of a study."""
    found = (_pick(one, (*_SERIES_TAGS, *_INSTANCE_TAGS)) for one in _find(web, actor, study))
    return _answer(_select(request, found))


@router.get("/studies/{study}/series/{series}/instances")
def search_instances(web: Parts, actor: Asking, request: Request, study: Uid, series: Uid) -> Response:
    """Search the instances of a series."""
    found = _find(web, actor, study, SeriesInstanceUID=series)
    return _answer(_select(request, (_pick(one, (*_SERIES_TAGS, *_INSTANCE_TAGS)) for one in found)))


def _pick(instance: Instance, keywords: tuple[str, ...]) -> dict[str, Any]:
    return {_tag(one): instance.header[_tag(one)] for one in keywords if _tag(one) in instance.header}


def _select(request: Request, found: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that match the query's keys (PS3.18 8.3.4), from `offset` on, at most `limit`."""
    given = request.query_params
    try:
        limit, offset = int(given.get("limit", _MOST_RESULTS)), int(given.get("offset", 0))
    except ValueError as error:
        raise Refusal(400, "limit and offset are numbers") from error
    wanted = ((name, value) for name, value in given.multi_items() if name not in _WITHOUT and value)
    keys = [(name.upper() if name[:1].isdigit() else _tag(name), value) for name, value in wanted]
    fitting = (one for one in found if all(_matches(one.get(tag, {}), value) for tag, value in keys))
    return list(islice(fitting, max(0, offset), max(0, offset) + max(0, limit)))


def _matches(element: dict[str, Any], wanted: str) -> bool:
    """A value, a list of UIDs, a range of dates or times, or a pattern with * and ?."""
    values = [str(one["Alphabetic"] if isinstance(one, dict) else one) for one in element.get("Value", [])]
    if element.get("vr") in ("DA", "TM") and "-" in wanted:
        low, _, high = wanted.partition("-")
        return any((not low or one >= low) and (not high or one <= high) for one in values)
    choices = wanted.replace("\\", ",").split(",") if element.get("vr") in ("UI", "CS") else [wanted]
    return any(fnmatchcase(one.upper(), choice.upper()) for one in values for choice in choices)


def _answer(content: Any, status: int = 200) -> Response:
    return Response(json.dumps(content, separators=(",", ":")), status_code=status, media_type=_JSON)


# Retrieve.


@router.get("/studies/{study}/metadata")
def study_metadata(web: Parts, actor: Asking, study: Uid) -> Response:
    """The headers of a study's instances."""
    return _answer([one.header for one in _find(web, actor, study)])


@router.get("/studies/{study}/series/{series}/metadata")
def series_metadata(web: Parts, actor: Asking, study: Uid, series: Uid) -> Response:
    """The headers of a series' instances."""
    return _answer([one.header for one in _find(web, actor, study, SeriesInstanceUID=series)])


@router.get("/studies/{study}/series/{series}/instances/{instance}/metadata")
def instance_metadata(web: Parts, actor: Asking, study: Uid, series: Uid, instance: Uid) -> Response:
    """The header of an instance."""
    found = _find(web, actor, study, SeriesInstanceUID=series, SOPInstanceUID=instance)
    return _answer([one.header for one in found])


@router.get("/studies/{study}")
def retrieve_study(web: Parts, actor: Asking, study: Uid) -> Response:
    """All instances of a study."""
    return _send(web, actor, _find(web, actor, study))


@router.get("/studies/{study}/series/{series}")
def retrieve_series(web: Parts, actor: Asking, study: Uid, series: Uid) -> Response:
    """All instances of a series."""
    return _send(web, actor, _find(web, actor, study, SeriesInstanceUID=series))


@router.get("/studies/{study}/series/{series}/instances/{instance}")
def retrieve_instance(web: Parts, actor: Asking, study: Uid, series: Uid, instance: Uid) -> Response:
    """An instance."""
    return _send(web, actor, _find(web, actor, study, SeriesInstanceUID=series, SOPInstanceUID=instance))


def _send(web: Web, actor: Actor, instances: list[Instance]) -> Response:
    web.note(actor, "instances retrieved", instances[0].study, count=len(instances))
    return _multipart("application/dicom", [("application/dicom", _read_pieces(one.path)) for one in instances])


def _read_pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            yield data


def _multipart(kind: str, parts: list[tuple[str, Iterable[bytes]]]) -> Response:
    """A multipart/related response; each part is its type and its pieces, which are read when their turn comes."""
    boundary = secrets.token_hex(16)

    def stream() -> Iterator[bytes]:
        for content_type, pieces in parts:
            yield f"--{boundary}\r\nContent-Type: {content_type}\r\n\r\n".encode()
            yield from pieces
            yield b"\r\n"
        yield f"--{boundary}--\r\n".encode()

    return StreamingResponse(stream(), media_type=f'multipart/related; type="{kind}"; boundary={boundary}')


@router.get("/studies/{study}/series/{series}/instances/{instance}/frames/{frames}")
def retrieve_frames(
    web: Parts, actor: Asking, study: Uid, series: Uid, instance: Uid,
    frames: Annotated[str, InPath(pattern=r"^[0-9]{1,6}(,[0-9]{1,6}){0,999}$")],
) -> Response:  # fmt: skip
    """Frames of an instance, counted from 1, as they are stored."""
    (found, *_) = _find(web, actor, study, SeriesInstanceUID=series, SOPInstanceUID=instance)
    with _one_at_a_time:
        held = dcmread(found.path, force=True)
    if "PixelData" not in held:
        raise Refusal(404, "The instance has no frames")
    count = int(held.get("NumberOfFrames") or 1)
    numbers = [int(one) for one in frames.split(",")]
    if not all(1 <= one <= count for one in numbers):
        raise Refusal(404, "There is no such frame", f"1 to {count}")
    syntax = UID(held.file_meta.get("TransferSyntaxUID", "1.2.840.10008.1.2.1"))
    packed = syntax.is_encapsulated
    kind = _FRAME_TYPES.get(syntax, "application/octet-stream") if packed else "application/octet-stream"
    parts: list[tuple[str, Iterable[bytes]]] = []
    for number in numbers:
        data = get_frame(held.PixelData, number - 1, number_of_frames=count) if packed else _cut(held, number - 1)
        parts.append((f"{kind}; transfer-syntax={syntax}", [data]))
    return _multipart(kind, parts)


def _cut(held: Dataset, index: int) -> bytes:
    """One uncompressed frame; of one bit a pixel, from the bits that it shares bytes with (PS3.5 8.1.1)."""
    bits = held.Rows * held.Columns * int(held.get("SamplesPerPixel", 1)) * held.BitsAllocated
    if bits % 8 == 0:
        return bytes(held.PixelData[index * bits // 8 : (index + 1) * bits // 8])
    first, last = index * bits, (index + 1) * bits
    whole = int.from_bytes(held.PixelData[first // 8 : (last + 7) // 8], "little") >> first % 8
    return bytes((whole & ((1 << bits) - 1)).to_bytes((bits + 7) // 8, "little"))


# Store.


@router.post("/studies")
async def store(web: Parts, actor: Asking, request: Request) -> Response:
    """Store instances of any study."""
    return await _store(web, actor, request, None)


@router.post("/studies/{study}")
async def store_study(web: Parts, actor: Asking, request: Request, study: Uid) -> Response:
    """Store instances of one study."""
    return await _store(web, actor, request, study)


async def _store(web: Web, actor: Actor, request: Request, study: str | None) -> Response:
    kind, options = parse_options_header(request.headers.get("content-type"))
    inner = options.get(b"type", b"application/dicom").decode("latin-1").strip('"').lower()
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/related" or inner != "application/dicom" or not boundary:
        raise Refusal(415, "The content is of another type", 'multipart/related; type="application/dicom"; boundary=…')
    async with saved_body(web, request) as part:
        return await asyncio.to_thread(_take, web, actor, part, boundary, study)


def _take(web: Web, actor: Actor, body: Path, boundary: bytes, study: str | None) -> Response:
    receiver = Receiver(web.settings, web.place)
    kept: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    try:
        for file in _split(web.place, body, boundary):
            try:
                if study is not None:
                    _check_study(file, study)
                held = store_file(receiver, file, _SENDER)
                kept.append(_refer(held.sop_class, held.sop_uid))
            except RefusedError as error:
                reason = {"00081197": {"vr": "US", "Value": [error.status]}}
                failed.append(_refer(error.sop_class, error.sop_uid) | reason)
    finally:  # as of an upload
        receiver.flush(web.database)
    web.note(actor, "stored", kept=len(kept), failed=len(failed))
    if not kept and not failed:
        raise Refusal(400, "The body holds no part", "a DICOM file in each part")
    content = {"00081199": {"vr": "SQ", "Value": kept}} if kept else {}
    content |= {"00081198": {"vr": "SQ", "Value": failed}} if failed else {}
    full = any(one["00081197"]["Value"] == [NO_SPACE] for one in failed)
    status = 200 if not failed else 202 if kept else 503 if full else 409
    return _answer(content, status)


def _check_study(file: Path, study: str) -> None:
    """Refuse an instance of another study; one that cannot be read is refused by the next step."""
    try:
        with _one_at_a_time:
            header = dcmread(file, stop_before_pixels=True)
    except Exception:  # whatever pydicom makes of bytes that are no DICOM
        return
    if header.get("StudyInstanceUID") != study:
        named = (str(header.get(one, "")) for one in ("SOPClassUID", "SOPInstanceUID"))
        raise RefusedError(NO_MATCH, "of another study", *named)


def _refer(sop_class: str, sop_uid: str) -> dict[str, Any]:
    values = (("00081150", sop_class), ("00081155", sop_uid))
    return {tag: {"vr": "UI", **({"Value": [value]} if value else {})} for tag, value in values}


def _split(place: Place, body: Path, boundary: bytes) -> Iterator[Path]:
    """Give each part of a multipart body as a file, which the next one replaces.

    Raises:
        Refusal: 400, the body is no multipart one, or is cut short.
    """
    with body.open("rb") as source:
        try:
            yield from split_parts(source.read, boundary, place.new_part())
        except PartsError as error:
            needed = "parts between boundaries, and the last boundary"
            raise Refusal(400, f"The body {error}", needed, "send it again") from error
