"""Try all that the settings name: folder, database, ports, certificates, weights, targets."""

import socket
from collections.abc import Callable, Iterator

from pynetdicom.sop_class import Verification
from sqlalchemy.exc import SQLAlchemyError

from bleedmap.archive.remote.tls import make_client_context, make_server_context
from bleedmap.errors import BleedmapError
from bleedmap.inference.weights import locate
from bleedmap.server.config import Settings, Target, split_address
from bleedmap.server.dicom.send import AwayError, ask_service, associate
from bleedmap.server.limits import GB, free_bytes
from bleedmap.server.place import Place
from bleedmap.server.store.engine import explain_away, open_database
from bleedmap.server.store.schema import prepare
from bleedmap.study.gate.gate import read_accepted


def check_settings(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield what was tried, and what is wrong with it; '' where it works. Nothing is sent but questions."""
    dicom, web = settings.dicom, settings.web
    yield _try("folder " + str(settings.data), lambda: Place(settings.data))
    yield "free space", _check_space(settings)
    yield _try("database", lambda: _check_database(settings))
    yield _try("weights", lambda: locate(settings.worker.weights or None))
    yield _try("input checks that are overruled", lambda: read_accepted(settings.worker.accept))
    for name, address in (("DICOM", dicom.listen), ("web", web.listen)):
        yield _try(f"{name} port {address}", lambda address=address: _check_port(address))  # type: ignore[misc]
    if dicom.tls_certificate:
        yield _try("DICOM certificate", lambda: make_server_context(
            dicom.tls_certificate, dicom.tls_key, dicom.tls_client_ca
        ))  # fmt: skip
    if web.tls_certificate:
        yield _try("web certificate", lambda: make_server_context(web.tls_certificate, web.tls_key, ""))
    for target in settings.target:
        yield _try(f"target {target.name}", lambda target=target: _check_target(settings, target))  # type: ignore[misc]


def _try(what: str, act: Callable[[], object]) -> tuple[str, str]:
    try:
        act()
    except BleedmapError as error:
        return what, f"{error.found}; {error.remedy}"
    except SQLAlchemyError as error:
        return what, explain_away(error).found
    except AwayError as error:
        return what, str(error)
    except OSError as error:
        return what, error.strerror or str(error)
    return what, ""


def _check_space(settings: Settings) -> str:
    try:
        free = free_bytes(settings.data) / GB
    except OSError as error:
        return error.strerror or "cannot be read"
    least = settings.limits.free_gb
    return f"{free:.1f} GB are free, {least:g} GB are kept free: nothing would be received" if free < least else ""


def _check_database(settings: Settings) -> None:
    database = open_database(settings)
    try:
        prepare(database)
    finally:
        database.close()


def _check_port(address: str) -> None:
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind((host, port))


def _check_target(settings: Settings, target: Target) -> None:
    if target.kind == "dicomweb":
        make_client_context(target.tls_ca)
        ask_service(target, "/studies?limit=1")
        return
    with associate(settings, target, [(Verification, None)]) as association:
        status = association.send_c_echo()
        if not status or status.Status != 0x0000:
            raise AwayError("no answer to C-ECHO")
