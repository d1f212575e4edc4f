"""The DICOM listener: C-ECHO, C-STORE, and the answers of storage commitment.

pynetdicom does the protocol. What it lacks is here: a TLS handshake outside the loop that accepts, with a time limit;
addresses that may connect, and how many of each at once; an end to PDUs and data sets without an end. Those were faults
found by trial: docs/decisions/0016-server.md.
"""

import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from socketserver import BaseServer
from typing import Any

from pydicom import Dataset
from pydicom.filewriter import write_file_meta_info
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from bleedmap.archive.remote.tls import make_server_context
from bleedmap.io.dicom.header import set_up_pydicom
from bleedmap.server.config import (
    ACSE_TIMEOUT_S,
    DIMSE_TIMEOUT_S,
    INFLIGHT_BYTES,
    INSTANCE_BYTES,
    NETWORK_TIMEOUT_S,
    PDU_BYTES,
    SILENT_S,
    TLS_HANDSHAKE_S,
    Settings,
    is_loopback,
    split_address,
)
from bleedmap.server.dicom.receive import Receiver, RefusedError
from bleedmap.server.log import logger

NOT_AUTHORISED = 0x0124
_STARTED_S = 2.0  # after this an association's reader has begun
OnReport = Callable[[Dataset], object]  # of the event information of storage commitment


@dataclass
class Session:
    """An association: of which study it sends now, when it last sent, and how much of one message has come."""

    address: str
    key: str = ""
    last: float = field(default_factory=time.monotonic)
    bytes: int = 0


class Listener:
    """A running listener.

    Raises:
        SettingsError: a certificate that cannot be used.
        OSError: the address is taken, or is not one of this machine.
    """

    def __init__(self, settings: Settings, receiver: Receiver, on_report: OnReport) -> None:
        set_up_pydicom()
        _quieten()
        self.settings, self.receiver, self._on_report = settings, receiver, on_report
        self.refused: Counter[str] = Counter()
        self._sessions: dict[Any, Session] = {}
        self._lock = threading.Lock()
        dicom = settings.dicom
        handlers = [
            (evt.EVT_C_ECHO, lambda event: 0x0000), (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_EVENT_REPORT, self._take_report), (evt.EVT_CONN_OPEN, self._open),
            (evt.EVT_CONN_CLOSE, self._close), (evt.EVT_PDU_RECV, self._count_bytes),
        ]  # fmt: skip
        context = make_server_context(dicom.tls_certificate, dicom.tls_key, dicom.tls_client_ca)
        self.server: Any = _make_ae(settings, self).make_server(
            split_address(dicom.listen), evt_handlers=handlers, server_class=_Server, ssl_context=context,
            request_handler=_Handler,
        )  # fmt: skip
        self.server.listener = self
        self.address: tuple[str, int] = self.server.server_address[:2]
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Accept no more, and end the associations that are open."""
        for one in self.server.active_associations:
            one.abort() if one.is_established else one.kill()
        BaseServer.shutdown(self.server)  # pynetdicom's own takes it off a list that it is not on
        self.server.server_close()

    def list_held(self) -> set[str]:
        """Keys of the studies that open associations send now; one that is silent for long holds none."""
        since = time.monotonic() - SILENT_S
        with self._lock:
            return {one.key for one in self._sessions.values() if one.key and one.last > since}

    def count_associations(self) -> int:
        """How many are open."""
        return len(self._sessions)

    def tidy(self) -> int:
        """End associations whose reader died of what it read, which pynetdicom leaves open; return their number."""
        before = time.monotonic() - _STARTED_S
        dead = [
            one for one, session in list(self._sessions.items()) if session.last < before and not one.dul.is_alive()
        ]
        for one in dead:
            with suppress(Exception):
                one.dul.socket.close()
            one.kill()
            with self._lock:
                self._sessions.pop(one, None)
        return len(dead)

    def note_fault(self, fault: threading.ExceptHookArgs) -> None:
        """Count a thread that ended by an error, in place of printing its text: what no DICOM is ends so."""
        self._refuse("not understood")

    def list_open(self) -> list[Any]:
        """The associations whose connection is open."""
        with self._lock:
            return list(self._sessions)

    def may_connect(self, address: str) -> bool:
        """Whether another connection of an address is taken."""
        dicom = self.settings.dicom
        known = {one.address for one in dicom.peer}
        if known and "" not in known and address not in known and not self._is_target(address):
            return self._refuse("address")
        if not known and not dicom.any_peer and not is_loopback(f"{address}:0"):
            return self._refuse("address")
        with self._lock:
            open_now = Counter(one.address for one in self._sessions.values())
        if open_now[address] + self.server.handshaking[address] >= dicom.max_associations_per_address:
            return self._refuse("too many of one address")
        if sum(open_now.values()) + sum(self.server.handshaking.values()) >= 2 * dicom.max_associations:
            return self._refuse("too many")
        return True

    def _is_target(self, address: str) -> bool:
        """Whether a target lives at an address: it connects to answer about storage commitment."""
        for one in self.settings.target:
            if one.kind == "dimse":
                with suppress(OSError):
                    if address == socket.gethostbyname(split_address(one.address)[0]):
                        return True
        return False

    def _refuse(self, why: str) -> bool:
        self.refused[why] += 1
        if self.refused[why] in (1, 10, 100) or self.refused[why] % 1000 == 0:
            logger.warning("connections refused (%s): %d", why, self.refused[why])
        return False

    def _open(self, event: Any) -> None:
        with self._lock:
            self._sessions[event.assoc] = Session(event.address[0])

    def _close(self, event: Any) -> None:
        with self._lock:
            self._sessions.pop(event.assoc, None)

    def _count_bytes(self, event: Any) -> None:
        """End an association whose message grows without end: what it has sent lies in memory."""
        session = self._sessions.get(event.assoc)
        if session is not None and type(event.pdu).__name__ == "P_DATA_TF":
            session.bytes += event.pdu.pdu_length
            most = max((one.bytes for one in list(self._sessions.values())), default=0)
            total = sum(one.bytes for one in list(self._sessions.values()))
            if session.bytes > INSTANCE_BYTES or (total > INFLIGHT_BYTES and session.bytes == most):
                self._refuse("instance too large")
                session.bytes = -(1 << 60)  # what is still on its way counts no more
                event.assoc.abort()

    def _may(self, event: Any, what: str) -> bool:
        peers = self.settings.dicom.peer
        title, address = event.assoc.requestor.ae_title.strip(), event.assoc.requestor.address
        return not peers or any(
            one.ae_title == title and one.address in ("", address) and what in one.may for one in peers
        )

    def _store(self, event: Any) -> int:
        session = self._sessions.get(event.assoc) or Session("")
        sender, request = event.assoc.requestor.ae_title.strip(), event.request
        session.bytes, session.last = 0, time.monotonic()
        try:
            if not self._may(event, "store"):
                raise RefusedError(NOT_AUTHORISED, "this peer may not store")
            self.receiver.refuse_other_class(str(request.AffectedSOPClassUID))
            meta: Any = BytesIO()
            meta.write(b"\0" * 128 + b"DICM")
            write_file_meta_info(meta, event.file_meta)
            got = self.receiver.store([meta.getvalue(), request.DataSet.getbuffer()], sender)
            if got.sop_uid != str(request.AffectedSOPInstanceUID).strip("\0 "):
                logger.warning("an instance's own UID is not that of its C-STORE request; sender %s", sender)
            if not got.passed_over:
                session.key = got.key
            return 0x0000
        except RefusedError as error:
            logger.warning("instance refused, 0x%04X: %s; sender %s", error.status, error.reason, sender)
            return error.status

    def _take_report(self, event: Any) -> tuple[int, None]:
        try:
            self._on_report(event.event_information)
        except Exception as error:  # of the database: the target reports again, or is asked again
            logger.warning("a storage commitment report could not be recorded: %s", type(error).__name__)
            return 0x0110, None
        return 0x0000, None


class _Server(ThreadedAssociationServer):  # type: ignore[misc]
    """pynetdicom's server, whose handshakes are made in the connection's own thread and end after a time."""

    listener: Listener
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.handshaking: Counter[str] = Counter()
        self._count = threading.Lock()
        super().__init__(*arguments, **named)

    def get_request(self) -> tuple[Any, Any]:
        client, address = self.socket.accept()
        if self.ssl_context:
            client = self.ssl_context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        host, *rest = address
        return client, (host.removeprefix("::ffff:"), *rest)  # IPv4 over a socket of IPv6, as peers are listed

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return self.listener.may_connect(client_address[0])

    def process_request(self, request: Any, client_address: Any) -> None:
        self._add(client_address[0], 1)
        try:
            super().process_request(request, client_address)
        except BaseException:  # the system gives no more threads
            self._add(client_address[0], -1)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._add(client_address[0], -1)

    def finish_request(self, request: Any, client_address: Any) -> None:
        if isinstance(request, ssl.SSLSocket):
            request.settimeout(TLS_HANDSHAKE_S)
            request.do_handshake()
            request.settimeout(None)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        self.listener._refuse("handshake")

    def _add(self, address: str, number: int) -> None:
        with self._count:
            self.handshaking[address] += number


class _Handler(RequestHandler):  # type: ignore[misc]
    """pynetdicom's handler, whose socket reads no PDU longer than any that we agreed on."""

    def _create_association(self) -> Any:
        association = super()._create_association()
        connection: Any = association.dul.socket
        receive = connection.recv
        connection.recv = lambda count: receive(count) if count <= PDU_BYTES else b""  # as if the peer had gone
        return association


class _Ae(AE):  # type: ignore[misc]
    """pynetdicom's application, which counts associations that are open, not threads that have yet to end."""

    listener: Listener

    @property
    def active_associations(self) -> list[Any]:
        return self.listener.list_open()


def _make_ae(settings: Settings, listener: Listener) -> AE:
    dicom = settings.dicom
    ae = _Ae(ae_title=dicom.ae_title)
    ae.listener = listener
    ae.acse_timeout, ae.dimse_timeout, ae.network_timeout = ACSE_TIMEOUT_S, DIMSE_TIMEOUT_S, NETWORK_TIMEOUT_S
    ae.maximum_associations, ae.maximum_pdu_size = dicom.max_associations, dicom.max_pdu
    if dicom.peer:
        targets = [one.ae_title for one in settings.target if one.kind == "dimse"]
        ae.require_calling_aet = sorted({one.ae_title for one in dicom.peer} | set(targets))
    ae.add_supported_context(Verification)  # storage classes are taken without a list: `_quieten`
    ae.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    return ae


def _quieten() -> None:
    """No values of data sets in any log; storage classes are all taken, private and newer ones too, in any syntax."""
    _config.UNRESTRICTED_STORAGE_SERVICE = True
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_RESPONSE_IDENTIFIERS = _config.LOG_REQUEST_IDENTIFIERS = False
