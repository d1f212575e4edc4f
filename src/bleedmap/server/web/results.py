"""What belongs to a version of a study: the shown stack, pictures, the report, DICOM; and what readers add to it."""

import asyncio
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, StringConstraints
from starlette.responses import FileResponse, StreamingResponse

from bleedmap.io.files import sync
from bleedmap.page.writer import csp_hash
from bleedmap.server import view
from bleedmap.server.place import new_id
from bleedmap.server.store import readings, studies
from bleedmap.server.store.queue import enqueue
from bleedmap.server.store.tables import Step, StudyState
from bleedmap.server.web.context import Actor, Asking, Given, Parts, Refusal, StudyId, Version, Web, as_json, find_for
from bleedmap.server.web.uploads import take_body
from bleedmap.window import Window

_MOST_CORRECTION = 64 * 1024 * 1024  # bytes as sent; unpacked it is the stack's size
_CHUNK = 1 << 20
_FILES = re.compile(rb'<section aria-labelledby="files">.*?</section>', re.DOTALL)  # in its box no link leads to them
_INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
_SHA256 = r"^[0-9a-f]{64}$"

router = APIRouter()


def _find_folder(web: Web, actor: Actor, number: str, version: int) -> Path:
    """The folder of a version that `actor` may see."""
    with web.database.read() as connection:
        find_for(connection, actor, number, version)
    return web.place.version(number, version)


def _find_file(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise Refusal(404, "There is no such file of this study", remedy="it is made when the study is segmented")
    return path


@router.get("/api/studies/{number}/v{version}/view")
def give_words(web: Parts, actor: Asking, number: StudyId, version: Version) -> Response:
    """The words around the slices; that the study was opened is recorded."""
    path = _find_file(_find_folder(web, actor, number, version) / "view", view.WORDS)
    web.note_opened(actor, number, version, anew=True)
    return Response(path.read_bytes(), media_type="application/json")


@router.get("/api/studies/{number}/v{version}/{name}.nii.gz")
def give_array(
    web: Parts, actor: Asking, number: StudyId, version: Version, name: Literal["stack", "probability", "mask"]
) -> Response:
    """An array of the stack, as gzipped NIfTI."""
    path = _find_file(_find_folder(web, actor, number, version) / "view", f"{name}.nii.gz")
    web.note_opened(actor, number, version)
    return FileResponse(path, media_type="application/gzip")


@router.get("/api/studies/{number}/v{version}/slices/{slice_number}.png")
def give_slice(
    web: Parts, actor: Asking, number: StudyId, version: Version, slice_number: int,
    level: Annotated[float, Query(ge=-2000, le=4000)] = 40, width: Annotated[float, Query(ge=1, le=8000)] = 80,
    overlay: bool = True,
) -> Response:  # fmt: skip
    """A slice as a picture, counted from 1."""
    folder = _find_folder(web, actor, number, version) / "view"
    _find_file(folder, view.WORDS)
    if not 1 <= slice_number <= view.read_words(folder)["shape"][0]:
        raise Refusal(404, "There is no such slice")
    web.note_opened(actor, number, version)
    picture = view.draw_view(folder, slice_number, Window(level, width), overlay=overlay)
    return Response(picture, media_type="image/png")


@router.get("/api/studies/{number}/v{version}/report.html")
def give_report(web: Parts, actor: Asking, number: StudyId, version: Version) -> Response:
    """The study's report, alone in a box of its own: only its own script and style may run there."""
    path = _find_file(_find_folder(web, actor, number, version) / "results", "report.html")
    web.note(actor, "report opened", number, version=version)
    content = _FILES.sub(b"", path.read_bytes())  # the study's page offers the files
    inline = _INLINE.findall(content.decode("utf-8"))
    scripts, styles = (
        " ".join(csp_hash(text) for kind, text in inline if kind == wanted) or "'none'"
        for wanted in ("script", "style")
    )
    policy = (
        f"sandbox allow-scripts; default-src 'none'; img-src data:; script-src {scripts}; style-src {styles}; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Response(content, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": policy})


@router.get("/api/studies/{number}/v{version}/{what}.zip")
def give_zip(
    web: Parts, actor: Asking, number: StudyId, version: Version, what: Literal["dicom", "images"]
) -> Response:
    """The DICOM results, or the images that they are of, as a zip."""
    folder = _find_folder(web, actor, number, version) / ("results/dicom" if what == "dicom" else "dicom")
    files = sorted(one for one in folder.rglob("*") if one.is_file()) if folder.is_dir() else []
    if not files:
        raise Refusal(404, "There are no such files of this study", remedy="images are deleted when they are old")
    web.note(actor, "exported", number, version=version, what=what)
    headers = {"Content-Disposition": f'attachment; filename="{number[:8]}-{what}.zip"'}
    return StreamingResponse(_stream_zip(folder, files), media_type="application/zip", headers=headers)


class _Pieces(io.RawIOBase):
    """Where a zip is written to, to be sent piece by piece."""

    def __init__(self) -> None:
        self.held: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.held.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data, self.held = b"".join(self.held), []
        return data


def _stream_zip(folder: Path, files: list[Path]) -> Iterator[bytes]:
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_STORED) as packed:
        for path in files:
            with path.open("rb") as source, packed.open(path.relative_to(folder).as_posix(), "w") as target:
                while data := source.read(_CHUNK):
                    target.write(data)
                    yield pieces.take()
    yield pieces.take()


class _Reading(Given):
    version: Annotated[int, Field(ge=1, le=1_000_000)]
    says: Literal["agree", "missed", "false alarm", "cannot say"]
    words: Annotated[str, StringConstraints(max_length=2000)] = ""
    seconds_open: Annotated[float, Field(ge=0, le=1e6)] | None = None
    slices_seen: Annotated[int, Field(ge=0, le=100_000)] | None = None


@router.post("/api/studies/{number}/readings", status_code=201)
def add_reading(web: Parts, actor: Asking, number: StudyId, given: _Reading) -> Response:
    """Add what a reader says; the result stays as it is."""
    with web.database.write() as connection:
        row = find_for(connection, actor, number, given.version)
        if row["verdict"] is None and row["state"] not in (StudyState.REFUSED, StudyState.FAILED):
            raise Refusal(409, "There is no result to read yet", remedy="wait until the study is segmented")
        if row["verdict"] is None and given.says in ("agree", "false alarm"):
            raise Refusal(409, "There is no outline of this study", remedy="choose 'bleed missed' or 'cannot say'")
        now = web.database.now(connection)
        readings.add_reading(
            connection, now, number, given.version, actor.id, given.says, given.words, given.seconds_open,
            given.slices_seen,
        )  # fmt: skip
        web.record(connection, actor, "reading", number, version=given.version, says=given.says)
    return as_json({"says": given.says}, 201)


@router.put("/api/studies/{number}/corrections", status_code=201)
async def add_correction(
    web: Parts, actor: Asking, request: Request, number: StudyId,
    version: Annotated[int, Query(ge=1, le=1_000_000)], base: Annotated[str, Query(pattern=_SHA256)],
) -> Response:  # fmt: skip
    """Keep an outline that a reader drew: a gzipped NIfTI of the stack's axes; `base` is what it changes."""
    body = b"".join([part async for part in take_body(request, _MOST_CORRECTION)])
    return await asyncio.to_thread(_keep_correction, web, actor, number, version, base, body)


def _keep_correction(web: Web, actor: Actor, number: str, version: int, base: str, body: bytes) -> Response:
    folder = _find_folder(web, actor, number, version) / "view"
    _find_file(folder, view.WORDS)
    words = view.read_words(folder)
    mask = view.read_correction(body, tuple(words["shape"]))
    with web.database.read() as connection:
        drawn = readings.list_corrections(connection, number)
    if base not in {words["mask_sha256"], *(one["sha256"] for one in drawn if one["version"] == version)}:
        raise Refusal(
            409, "The outline that this correction began from is not of this version", "that of the program, or a "
            "correction of the same version", "load the page again, and correct the outline that it shows",
        )  # fmt: skip
    file = f"{new_id()}.nii.gz"
    home = web.place.corrections(number)
    home.mkdir(mode=0o700, exist_ok=True)
    web.place.write_whole(home / file, [view.pack_mask(mask, words)])
    sync(home)
    sha256, voxels = view.hash_mask(mask), int(mask.sum())
    with web.database.write() as connection:
        now = web.database.now(connection)
        made = readings.add_correction(
            connection, now, number, version, actor.id, file=file, sha256=sha256, base_sha256=base, voxels=voxels
        )
        web.record(connection, actor, "correction", number, version=version, number=made, sha256=sha256)
    return as_json({"number": made, "voxels": voxels, "sha256": sha256}, 201)


@router.get("/api/studies/{number}/corrections/{made}.nii.gz")
def give_correction(web: Parts, actor: Asking, number: StudyId, made: int) -> Response:
    """An outline that a reader drew."""
    with web.database.read() as connection:
        find_for(connection, actor, number)
        drawn = [one for one in readings.list_corrections(connection, number) if one["number"] == made]
    if not drawn:
        raise Refusal(404, "There is no such correction")
    return FileResponse(_find_file(web.place.corrections(number), drawn[0]["file"]), media_type="application/gzip")


def _require_admin(actor: Actor) -> None:
    if actor.role != "admin":
        raise Refusal(403, "This is for administrators", remedy="ask one of them")


@router.post("/api/studies/{number}/again", status_code=202)
def segment_again(web: Parts, actor: Asking, number: StudyId) -> Response:
    """Segment a study once more: as a next version with the same slices, or from where it failed."""
    _require_admin(actor)
    with web.database.write() as connection:
        now = web.database.now(connection)
        row = find_for(connection, actor, number)
        newest = studies.find(connection, number)
        if newest is None or newest["state"] in (StudyState.RECEIVING, StudyState.COMPLETE):
            raise Refusal(409, "The study is being worked at already", remedy="wait for its result")
        if row["state"] == StudyState.GONE or not web.place.dicom(number, row["version"]).is_dir():
            raise Refusal(409, "The study's images are deleted", remedy="send them once more")
        version = row["version"]
        if row["state"] == StudyState.FAILED and row["verdict"] is None:
            studies.move(
                connection, now, number, version, StudyState.COMPLETE, "an administrator asked for it", error=""
            )
        else:
            version = studies.make_again(connection, now, number, "an administrator asked for it")
        enqueue(connection, number, version, Step.SEGMENT)
        web.record(connection, actor, "segment again", number, version=version)
    return as_json({"version": version}, 202)


@router.post("/api/studies/{number}/deliver", status_code=202)
def deliver_again(web: Parts, actor: Asking, number: StudyId) -> Response:
    """Send a study's results to all targets once more; what they hold already is not sent."""
    _require_admin(actor)
    targets = [one.name for one in web.settings.target]
    with web.database.write() as connection:
        now = web.database.now(connection)
        row = find_for(connection, actor, number)
        if not targets:
            remedy = "set one, and start the server again"
            raise Refusal(409, "There is no target", "a [[target]] in the settings", remedy)
        if row["state"] not in (StudyState.SEGMENTED, StudyState.DELIVERED):
            raise Refusal(409, f"A study that is {row['state']} has nothing to send")
        if row["state"] == StudyState.DELIVERED:
            reason = "an administrator asked to send it once more"
            studies.move(connection, now, number, row["version"], StudyState.SEGMENTED, reason)
        for target in targets:
            enqueue(connection, number, row["version"], Step.DELIVER, target)
        web.record(connection, actor, "deliver again", number, version=row["version"])
    return as_json({"targets": targets}, 202)
