"""DICOMweb (PS3.18) as a client: search (QIDO-RS), retrieve (WADO-RS), store (STOW-RS); and a service as an archive.

What a server answers is not trusted: UIDs name files only where they are UIDs, and studies have a largest size.
"""

import hashlib
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pydicom import dcmread

from bleedmap.archive.find import Found, Passed, Source
from bleedmap.archive.remote.web import Answer, RemoteError, Service
from bleedmap.arrays import ignore
from bleedmap.errors import InputError, spell
from bleedmap.io.dicom.header import DamagedError, dash_date, explain_uid, parse, set_up_pydicom, text
from bleedmap.io.names import short_hash

MOST_STUDY_BYTES = 4 << 30
_MOST_PAGES = 100_000
_PIECE = 500  # studies or instances that are asked for at once
_ASKED_AT_ONCE = 4
_HEADER_BYTES = 1 << 16
_STUDY, _SERIES, _SOP, _MODALITY = "0020000D", "0020000E", "00080018", "00080060"
_SERIES_INSTANCES, _FAILED_SOP, _FAILED_UID, _REASON = "00201209", "00081198", "00081155", "00081197"
_IDENTITY = {"patient_id": "00100020", "study_date": "00080020", "accession_number": "00080050"}
_AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_PLAIN = 'multipart/related; type="application/dicom"'  # for services that do not know the star


@dataclass(frozen=True)
class Object:
    """A result to send: its file and its identifiers."""

    path: Path
    sop_class: str
    sop_uid: str
    study_uid: str
    series_uid: str
    transfer_syntax: str

    @classmethod
    def read(cls, path: Path) -> "Object":
        """From its file."""
        set_up_pydicom()
        header = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
        return cls(
            path, str(header.SOPClassUID), str(header.SOPInstanceUID), str(header.StudyInstanceUID),
            str(header.SeriesInstanceUID), str(header.file_meta.TransferSyntaxUID),
        )  # fmt: skip


def search(service: Service, path: str, query: Sequence[tuple[str, str]] = (), *, key: str) -> Iterator[dict[str, Any]]:
    """Search piece by piece, as far as the service gives more; each item once.

    Args:
        path: of what is searched for, as '/studies'.
        key: tag of the UID that tells items apart.

    Raises:
        RemoteError: as `Service.ask`; its answer is no list, or a part of a list whose rest it does not give.
    """
    seen: set[str] = set()
    for _ in range(_MOST_PAGES):
        asked = urlencode([*query, ("limit", str(_PIECE)), ("offset", str(len(seen)))], safe="*-,")
        try:
            answer, headers = service.ask(f"{path}?{asked}")
        except RemoteError as error:
            if error.status == 404:  # some services' word for: nothing found
                return
            raise
        items = [one for one in answer if isinstance(one, dict)] if isinstance(answer, list) else None
        if items is None:
            raise service.explain("its answer to a search is no list", "a DICOMweb service", "check the URL")
        new = {uid: one for one in items if (uid := str(read_value(one, key) or "")) and uid not in seen}
        if not new:
            if "299" in headers.get("Warning", ""):  # PS3.18 8.3.4.4: more results than it gives
                raise service.explain("gives only a part of its list", "a whole list", "narrow the search: --since")
            return
        yield from new.values()
        seen |= set(new)
        if len(items) < _PIECE and path != "/studies":  # of studies some services give fewer at once than asked for
            return
    raise service.explain("its list has no end", "a list that ends", "narrow the search: --since")


def list_instances(service: Service, study: str, series: str) -> set[str]:
    """Ask for the SOP Instance UIDs of a series.

    Raises:
        RemoteError: as `search`.
    """
    path = f"/studies/{study}/series/{series}/instances"
    return {str(read_value(one, _SOP)) for one in search(service, path, key=_SOP)}


def find_held(service: Service, objects: Sequence[Object]) -> set[str]:
    """Ask which of the objects a service holds; return their SOP Instance UIDs.

    Raises:
        RemoteError: as `search`.
    """
    series = sorted({(one.study_uid, one.series_uid) for one in objects})
    held = {uid for one in series for uid in list_instances(service, *one)}
    return held & {one.sop_uid for one in objects}


def store(service: Service, objects: Sequence[Object]) -> dict[str, str]:
    """Store objects; return for each SOP Instance UID '' where it was taken, else the service's reason.

    Raises:
        RemoteError: as `Service.ask`.
    """
    answers = {one.sop_uid: "" for one in objects}
    by_study: dict[str, list[Object]] = defaultdict(list)
    for one in objects:
        by_study[one.study_uid].append(one)
    for study_uid, own in by_study.items():
        mark = secrets.token_hex(16)
        parts = [
            f"--{mark}\r\nContent-Type: application/dicom\r\n\r\n".encode() + one.path.read_bytes() + b"\r\n"
            for one in own
        ]
        kind = f'multipart/related; type="application/dicom"; boundary={mark}'
        body = b"".join([*parts, f"--{mark}--\r\n".encode()])
        answer, _ = service.ask(f"/studies/{study_uid}", body, {"Content-Type": kind}, with_body=(409,))
        for failed in _items(answer, _FAILED_SOP):
            uid, reason = read_value(failed, _FAILED_UID), read_value(failed, _REASON)
            answers[str(uid)] = f"0x{int(reason):04X}" if reason is not None else "refused"
    return answers


def retrieve(service: Service, path: str, folder: Path, most: int) -> Iterator[Path]:
    """Retrieve instances as they are stored; yield each as a file in `folder`, which the next one replaces.

    Args:
        path: of the study, series or instance.
        most: bytes that may come.

    Raises:
        RemoteError: as `Service.open`; what comes is no multipart answer, or ends early.
        InputError: it is larger than `most`.
    """
    from python_multipart.multipart import parse_options_header  # noqa: PLC0415 - of an extra

    from bleedmap.archive.remote.parts import PartsError, split_parts  # noqa: PLC0415

    came = 0

    def read(count: int) -> bytes:
        nonlocal came
        data = answer.read(count)
        came += len(data)
        if came > most:
            raise InputError(
                service.url, found=f"sends more than {MOST_STUDY_BYTES >> 30} GiB for one study", needed="a head CT",
                remedy="leave the study out: --uids",
            )  # fmt: skip
        return data

    with _open_instances(service, path) as answer:
        kind, options = parse_options_header(answer.headers.get("Content-Type"))
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/related" or not 0 < len(boundary) <= 256:
            found = f"sends images as {answer.headers.get_content_type()}"
            raise service.explain(found, "multipart/related (WADO-RS)", "check the URL")
        try:
            yield from split_parts(read, boundary, folder / "part.tmp")
        except PartsError as error:
            raise service.explain(f"what it sends {error}", "a whole answer", away=True) from error


@contextmanager
def _open_instances(service: Service, path: str) -> Iterator[Answer]:
    with ExitStack() as stack:
        try:
            answer = stack.enter_context(service.open(path, headers={"Accept": _AS_STORED}))
        except RemoteError as error:
            if error.status not in (400, 406):
                raise
            answer = stack.enter_context(service.open(path, headers={"Accept": _PLAIN}))
        yield answer


@dataclass(frozen=True)
class DicomwebArchive:
    """The head CTs of a DICOMweb service."""

    service: Service  # the service
    query: tuple[tuple[str, str], ...] = ()  # keys and values that studies must match
    uids: tuple[str, ...] = ()  # of studies, to take these alone; empty: all that match

    @property
    def url(self) -> str:
        """The service's root."""
        return self.service.url

    @property
    def search_key(self) -> str:
        """Another for each search of the service; it does not show what was searched for."""
        return f"{self.url}#{short_hash(repr((self.query, self.uids)))}"

    def find(self, seen: Callable[[int], None] = ignore) -> Found:
        """Find the studies with CT series.

        Raises:
            RemoteError: the service cannot be asked.
            InputError: it holds no such study.
        """
        keys = [("ModalitiesInStudy", "CT"), *self.query]
        found = self.uids or [
            str(read_value(one, _STUDY)) for one in search(self.service, "/studies", keys, key=_STUDY)
        ]
        sources, passed, count = [], defaultdict[str, list[str]](list), 0
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as asking:
            for uid, (series, count_of) in zip(found, asking.map(self._describe, found), strict=True):
                if series:
                    digest = hashlib.sha256("\n".join(sorted(count_of)).encode()).hexdigest()
                    sources.append(Source(Path(uid), uid, uid, tuple(sorted(series)), digest))
                else:
                    passed["no Study Instance UID" if explain_uid(uid) else "the server lists no CT of it"].append(uid)
                seen(count := count + 1)
        if not sources:
            raise InputError(
                self.url, found=f"holds no study that fits ({len(found):,} found, none with CT)", needed="head CTs",
                remedy="widen the search: --since, --until, --uids, what follows '?' in the URL",
            )  # fmt: skip
        sources.sort(key=lambda one: one.place)
        others = tuple(Passed(why, len(uids), tuple(map(spell, uids[:5]))) for why, uids in sorted(passed.items()))
        return Found(self, tuple(sources), others)

    def _describe(self, uid: str) -> tuple[list[str], list[str]]:
        """The study's CT series, and what tells them from other ones: each with the number of its instances."""
        if explain_uid(uid):
            return [], []
        series, told = [], []
        for one in search(self.service, f"/studies/{uid}/series", [("Modality", "CT")], key=_SERIES):
            own = str(read_value(one, _SERIES))
            if read_value(one, _MODALITY) == "CT" and not explain_uid(own):
                count = read_value(one, _SERIES_INSTANCES)
                series.append(own)
                told.append(f"{own} {count if count is not None else len(list_instances(self.service, uid, own))}")
        return series, told

    def fetch(self, source: Source, folder: Path) -> Source:
        """Fetch a study's CT series into an empty folder; all instances that the service lists, or an error.

        Raises:
            RemoteError: the service cannot be asked, or did not send all.
            InputError: it no longer holds the study.
        """
        assert source.uid is not None
        files: dict[str, Path] = {}
        left = MOST_STUDY_BYTES
        for series in source.files:
            listed = list_instances(self.service, source.uid, series)
            path = f"/studies/{source.uid}/series/{series}"
            for part in retrieve(self.service, path, folder, left) if listed else ():
                study, uid = _read_uids(part)
                if study == source.uid and uid not in files and not explain_uid(uid):
                    left -= part.stat().st_size
                    files[uid] = part.rename(folder / f"{uid}.dcm")
            if lacking := len(listed - files.keys()):
                found = f"lists {len(listed):,} instances of a series and sent all but {lacking:,}"
                raise self.service.explain(found, "all of them", away=True)
        if not files:
            raise InputError(
                self.url, found="no longer holds the study", needed="the study", remedy="look again: --search, or "
                "give the command without --shard",
            )  # fmt: skip
        return replace(source, path=folder, files=tuple(sorted(map(str, files.values()))))

    def identify(self, source: Source) -> dict[str, str | None]:
        """Ask for patient_id, study_date (YYYY-MM-DD) and accession_number of a study."""
        found = next(search(self.service, "/studies", [("StudyInstanceUID", str(source.uid))], key=_STUDY), {})
        known = {name: str(value) if (value := read_value(found, tag)) else None for name, tag in _IDENTITY.items()}
        return known | {"study_date": dash_date(known["study_date"])}


def _read_uids(path: Path) -> tuple[str, str]:
    """The Study and the SOP Instance UID of a file; '' where it has none."""
    with path.open("rb") as stream:
        start = stream.read(_HEADER_BYTES)
    try:
        header = parse(start, pixels=False, most=_HEADER_BYTES).header
    except DamagedError:
        return "", ""
    return text(header, "StudyInstanceUID") or "", text(header, "SOPInstanceUID") or ""


def read_value(item: Any, tag: str) -> Any:
    """Return an attribute's first value in DICOM JSON (PS3.18 F.2); None where it has none."""
    element = item.get(tag) if isinstance(item, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None


def _items(answer: Any, tag: str) -> list[Any]:
    inside = answer[0] if isinstance(answer, list) and answer else answer
    found = inside.get(tag, {}).get("Value", []) if isinstance(inside, dict) else []
    return found if isinstance(found, list) else []
