"""Send objects to a target and ask what it holds: DIMSE (C-STORE, C-FIND) and DICOMweb (STOW-RS, QIDO-RS).

By storage commitment (PS3.4 annex J) a PACS is asked, with N-ACTION, whether it holds objects and keeps them. It
answers by N-EVENT-REPORT, at once over the same association or later over one of its own, to our listener.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from pydicom import Dataset
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
)

from bleedmap.archive.remote import dicomweb
from bleedmap.archive.remote.dicomweb import Object
from bleedmap.archive.remote.tls import make_client_context
from bleedmap.archive.remote.web import RemoteError, Service
from bleedmap.io.dicom.header import set_up_pydicom
from bleedmap.server.config import (
    ACSE_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    DIMSE_TIMEOUT_S,
    NETWORK_TIMEOUT_S,
    Settings,
    Target,
    split_address,
)

NO_CONNECTION = "no connection"
Outcome = TypeVar("Outcome")


class AwayError(Exception):
    """The target cannot be reached, or does not do what it is asked; the text says so without identifiers."""


class UnsupportedError(AwayError):
    """The target is there, and does not offer what it is asked for."""


Answers = dict[str, str]  # SOP Instance UID -> '' where it was taken, else the target's status


def send_objects(settings: Settings, target: Target, objects: Sequence[Object]) -> Answers:
    """Send objects; return the target's answer for each that it answered.

    Raises:
        AwayError: it cannot be reached, or ends the association.
    """
    if target.kind == "dicomweb":
        return _ask(target, lambda service: dicomweb.store(service, objects))
    return _c_store(settings, target, objects)


def find_held(settings: Settings, target: Target, objects: Sequence[Object]) -> set[str]:
    """Ask a target which of the objects it holds, by C-FIND or QIDO-RS.

    Raises:
        AwayError: it cannot be reached, or does not answer the query.
    """
    if target.kind == "dicomweb":
        return _ask(target, lambda service: dicomweb.find_held(service, objects))
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
                    raise UnsupportedError(f"its answer to C-FIND: {describe_status(status)}")
                if found is not None:
                    held.add(str(found.get("SOPInstanceUID", "")))
    return held & {one.sop_uid for one in objects}


def ask_commitment(
    settings: Settings, target: Target, objects: Sequence[Object], transaction_uid: str,
    on_report: Callable[[Dataset], object], is_answered: Callable[[], bool], wait_s: float,
) -> bool:  # fmt: skip
    """Ask a target to commit, and wait for its report; return whether it came.

    Args:
        target: of kind dimse.
        transaction_uid: new for each asking.
        on_report: called with the event information where it comes over the same association, from another thread.
        is_answered: whether a report was recorded, by whichever way it came.
        wait_s: how long to wait for it, with the association open.

    Raises:
        AwayError: it cannot be reached, or refuses.
        UnsupportedError: it does not do storage commitment.
    """
    action = Dataset()
    action.TransactionUID = transaction_uid
    action.ReferencedSOPSequence = []
    for one in objects:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = one.sop_class, one.sop_uid
        action.ReferencedSOPSequence.append(item)

    def take(event: Any) -> tuple[int, None]:
        on_report(event.event_information)
        return 0x0000, None

    model = StorageCommitmentPushModel
    with associate(settings, target, [(model, None)], [(evt.EVT_N_EVENT_REPORT, take)]) as association:
        status, _ = association.send_n_action(action, 1, model, StorageCommitmentPushModelInstance)
        if not status or status.get("Status") != 0x0000:
            raise AwayError(f"its answer to storage commitment: {describe_status(status)}")
        until = time.monotonic() + wait_s
        while not is_answered():
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
    return True


@contextmanager
def associate(
    settings: Settings, target: Target, contexts: Sequence[tuple[Any, str | None]], handlers: Sequence[Any] = ()
) -> Iterator[Any]:
    """Yield an association with a target, released at the end.

    Args:
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
            answers[one.sop_uid] = "" if taken else describe_status(status)
    return answers


def describe_status(status: Any) -> str:
    """The status of an answer, as 0xA700; 'none' where there was no answer."""
    return f"0x{status.Status:04X}" if status and "Status" in status else "none"


def ask_service(target: Target, path: str) -> Any:
    """Ask a DICOMweb service a question; JSON comes back.

    Raises:
        AwayError: it cannot be reached, or refuses.
    """
    return _ask(target, lambda service: service.ask(path)[0])


def _ask(target: Target, question: Callable[[Service], Outcome]) -> Outcome:
    try:  # never through a proxy of the house
        return question(Service(target.url.rstrip("/"), target.token_file, target.tls_ca, proxies=False))
    except RemoteError as error:
        if error.status is not None:
            raise (UnsupportedError if error.status in (405, 501) else AwayError)(f"HTTP {error.status}") from error
        raise AwayError(NO_CONNECTION if error.away else error.found) from error
