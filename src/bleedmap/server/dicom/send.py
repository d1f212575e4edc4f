"""Send objects to a target and ask what it holds: DIMSE (C-STORE, C-FIND) and DICOMweb (STOW-RS, QIDO-RS)."""

import json
import secrets
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StudyRootQueryRetrieveInformationModelFind,
)

from bleedmap.io.dicom.header import set_up_pydicom
from bleedmap.server.config import Settings, Target, split_address
from bleedmap.server.dicom.tls import make_client_context
from bleedmap.server.limits import ACSE_TIMEOUT_S, CONNECT_TIMEOUT_S, DIMSE_TIMEOUT_S, NETWORK_TIMEOUT_S

NO_CONNECTION = "no connection"
_FAILED_SOP, _UID, _REASON = "00081198", "00081155", "00081197"
_QIDO_PIECE = 5000  # instances of a series; ours have at most a few hundred


class AwayError(Exception):
    """The target cannot be reached, or does not do what it is asked; the text says so without identifiers."""


class UnsupportedError(AwayError):
    """The target is there, and does not offer what it is asked for."""


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
        header = dcmread(path, specific_tags=["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
        return cls(
            path, str(header.SOPClassUID), str(header.SOPInstanceUID), str(header.StudyInstanceUID),
            str(header.SeriesInstanceUID), str(header.file_meta.TransferSyntaxUID),
        )  # fmt: skip


Answers = dict[str, str]  # SOP Instance UID -> '' where it was taken, else the target's status


def send_objects(settings: Settings, target: Target, objects: Sequence[Object]) -> Answers:
    """Send objects; return the target's answer for each that it answered.

    Raises:
        AwayError: it cannot be reached, or ends the association.
    """
    return _stow(target, objects) if target.kind == "dicomweb" else _c_store(settings, target, objects)


def find_held(settings: Settings, target: Target, objects: Sequence[Object]) -> set[str]:
    """Ask a target which of the objects it holds, by C-FIND or QIDO-RS.

    Raises:
        AwayError: it cannot be reached, or does not answer the query.
    """
    if target.kind == "dicomweb":
        return _qido(target, objects)
    held: set[str] = set()
    find = StudyRootQueryRetrieveInformationModelFind
    with associate(settings, target, [(find, None)]) as association:
        for study_uid, series_uid in sorted({(one.study_uid, one.series_uid) for one in objects}):
            query = Dataset()
            query.QueryRetrieveLevel, query.SOPInstanceUID = "IMAGE", ""
            query.StudyInstanceUID, query.SeriesInstanceUID = study_uid, series_uid
            for status, found in association.send_c_find(query, find):
                if not status:
                    raise AwayError("no answer to C-FIND")
                if status.Status not in (0x0000, 0xFF00, 0xFF01):
                    raise UnsupportedError(f"its answer to C-FIND: {_word(status)}")
                if found is not None:
                    held.add(str(found.get("SOPInstanceUID", "")))
    return held & {one.sop_uid for one in objects}


@contextmanager
def associate(
    settings: Settings, target: Target, contexts: Sequence[tuple[Any, str | None]], handlers: Sequence[Any] = ()
) -> Iterator[Any]:
    """Yield an association with a target, released at the end.

    Args:
        settings: of us.
        target: of kind dimse.
        contexts: (abstract syntax, transfer syntax); None: the usual ones.
        handlers: of pynetdicom, for what comes over the association.

    Raises:
        AwayError: no connection, no association, or none of the contexts.
    """
    set_up_pydicom()
    ae, (host, port) = AE(ae_title=settings.dicom.ae_title), split_address(target.address)
    ae.acse_timeout, ae.dimse_timeout, ae.network_timeout = 6 * ACSE_TIMEOUT_S, DIMSE_TIMEOUT_S, NETWORK_TIMEOUT_S
    ae.connection_timeout = CONNECT_TIMEOUT_S
    for abstract, transfer in dict.fromkeys(contexts):
        ae.add_requested_context(abstract, [transfer] if transfer else None)
    roles = [build_role(one, scu_role=True) for one, _ in contexts if one == StorageCommitmentPushModel]
    connected: list[Any] = []
    handlers = [*handlers, (evt.EVT_CONN_OPEN, connected.append)]
    named: dict[str, Any] = {"ae_title": target.ae_title, "ext_neg": roles, "evt_handlers": handlers}
    if target.tls:
        dicom = settings.dicom
        named["tls_args"] = (make_client_context(target.tls_ca, dicom.tls_certificate, dicom.tls_key), host)
    association = ae.associate(host, port, **named)
    if not association.is_established:
        raise AwayError(_explain(association) if connected else NO_CONNECTION)
    try:
        yield association
    except ValueError as error:  # of pynetdicom: the context was not accepted
        raise UnsupportedError("it does not offer this service") from error
    except RuntimeError as error:
        raise AwayError("it aborted the association") from error
    finally:
        if association.is_established:
            association.release()


def _explain(association: Any) -> str:
    if association.is_rejected:
        answer = association.acceptor.primitive
        return f"rejects the association: {answer.reason_str}" if answer else "rejects the association"
    return "aborts the association" if association.is_aborted else "does not answer"


def _c_store(settings: Settings, target: Target, objects: Sequence[Object]) -> Answers:
    answers: Answers = {}
    contexts = [(one.sop_class, one.transfer_syntax) for one in objects]
    with associate(settings, target, contexts) as association:
        for one in objects:
            if not association.is_established:
                raise AwayError("the association ended")
            try:
                status = association.send_c_store(one.path)
            except ValueError:
                answers[one.sop_uid] = "no context accepted"
                continue
            if not status:
                raise AwayError("no answer to C-STORE")
            taken = status.Status == 0x0000 or status.Status & 0xF000 == 0xB000  # warnings: stored, somehow coerced
            answers[one.sop_uid] = "" if taken else _word(status)
    return answers


def _word(status: Any) -> str:
    return f"0x{status.Status:04X}" if status and "Status" in status else "none"


def _stow(target: Target, objects: Sequence[Object]) -> Answers:
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
        answer = _ask(target, f"/studies/{study_uid}", body, {"Content-Type": kind}, allowed=(409,))
        for failed in _items(answer, _FAILED_SOP):
            uid, reason = _value(failed, _UID), _value(failed, _REASON)
            answers[str(uid)] = f"0x{int(reason):04X}" if reason is not None else "refused"
    return answers


def _qido(target: Target, objects: Sequence[Object]) -> set[str]:
    held: set[str] = set()
    for study_uid, series_uid in sorted({(one.study_uid, one.series_uid) for one in objects}):
        path = f"/studies/{study_uid}/series/{series_uid}/instances?limit={_QIDO_PIECE}"
        answer = _ask(target, path, None, {}, allowed=(404,))
        held |= {str(_value(one, "00080018")) for one in answer if isinstance(one, dict)}
    return held & {one.sop_uid for one in objects}


def ask_service(target: Target, path: str) -> Any:
    """Ask a DICOMweb service a question; JSON comes back.

    Raises:
        AwayError: it cannot be reached, or refuses.
    """
    return _ask(target, path, None, {}, allowed=())


def _ask(target: Target, path: str, body: bytes | None, headers: dict[str, str], allowed: tuple[int, ...]) -> Any:
    """Ask a DICOMweb service; JSON comes back, [] where there is none."""
    headers = {"Accept": "application/dicom+json", **headers}
    if target.token_file:
        headers["Authorization"] = f"Bearer {Path(target.token_file).read_text('utf-8').strip()}"
    handlers: list[Any] = [urllib.request.ProxyHandler({})]  # to the PACS, never through a proxy of the house
    if target.url.startswith("https:"):
        handlers.append(urllib.request.HTTPSHandler(context=make_client_context(target.tls_ca)))
    request = urllib.request.Request(target.url.rstrip("/") + path, data=body, headers=headers)
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=DIMSE_TIMEOUT_S) as answer:
            content = answer.read()
    except urllib.error.HTTPError as error:
        if error.code not in allowed:
            raise (UnsupportedError if error.code in (405, 501) else AwayError)(f"HTTP {error.code}") from error
        content = error.read() if error.code == 409 else b""
    except (urllib.error.URLError, OSError) as error:
        raise AwayError(NO_CONNECTION) from error
    try:
        return json.loads(content) if content.strip() else []
    except ValueError as error:
        raise AwayError("its answer is not JSON") from error


def _items(answer: Any, tag: str) -> list[Any]:
    inside = answer[0] if isinstance(answer, list) and answer else answer
    found = inside.get(tag, {}).get("Value", []) if isinstance(inside, dict) else []
    return found if isinstance(found, list) else []


def _value(item: Any, tag: str) -> Any:
    values = item.get(tag, {}).get("Value") or [None]
    return values[0]
