"""How a server is: try all that its settings name; and its processes, studies, jobs and disk in figures."""

from collections.abc import Callable, Iterator
from typing import Any

from pynetdicom.sop_class import Verification
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from bleedmap.archive.remote.tls import make_client_context, make_server_context
from bleedmap.errors import BleedmapError
from bleedmap.inference.weights import locate
from bleedmap.server.config import BEAT_OLD_S, GB, Settings, Target, check_port, refuse_open_doors
from bleedmap.server.dicom.send import AwayError, ask_service, associate
from bleedmap.server.place import Place, free_bytes
from bleedmap.server.store import queue, studies
from bleedmap.server.store.engine import explain_away, prepared_database
from bleedmap.server.store.tables import JobState, job, passed_over, process
from bleedmap.study.gate.gate import read_accepted


def check_settings(settings: Settings, *, insecure: bool = False) -> Iterator[tuple[str, str]]:
    """Yield what was tried, and what is wrong with it; '' where it works. Nothing is sent but questions."""
    dicom, web = settings.dicom, settings.web
    yield _try("folder " + str(settings.data), lambda: Place(settings.data))
    yield "free space", _check_space(settings)
    yield _try("database", lambda: _check_database(settings))
    yield _try("weights", lambda: locate(settings.worker.weights or None))
    yield _try("input checks that are overruled", lambda: read_accepted(settings.worker.accept))
    for name, address in (("dicom.listen", dicom.listen), ("web.listen", web.listen), ("web.metrics", web.metrics)):
        if address:
            yield _try(f"{name} {address}", lambda name=name, address=address: check_port(name, address))  # type: ignore[misc]
    yield _try("access from other machines", lambda: refuse_open_doors(settings, insecure))
    if dicom.tls_certificate:
        yield _try("DICOM certificate", lambda: make_server_context(
            dicom.tls_certificate, dicom.tls_key, dicom.tls_client_ca
        ))  # fmt: skip
    if web.tls_certificate:
        yield _try("web certificate", lambda: make_server_context(web.tls_certificate, web.tls_key, ""))
    if settings.oidc.issuer:
        yield _try(f"OpenID Connect {settings.oidc.issuer}", lambda: _check_provider(settings))
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
    with prepared_database(settings):
        pass


def _check_provider(settings: Settings) -> None:
    from bleedmap.server.web.oidc import try_provider  # noqa: PLC0415 - an extra of its own

    try_provider(settings.oidc)


def _check_target(settings: Settings, target: Target) -> None:
    if target.kind == "dicomweb":
        make_client_context(target.tls_ca)
        ask_service(target, "/studies?limit=1")
        return
    with associate(settings, target, [(Verification, None)]) as association:
        status = association.send_c_echo()
        if not status or status.Status != 0x0000:
            raise AwayError("no answer to C-ECHO")


def read_status(settings: Settings) -> dict[str, Any]:
    """Read the figures of a server, as JSON can hold them; none of them tells anything of a patient.

    Raises:
        ResourceError: the database cannot be reached.
        DataError: it was made by a newer version of the program.
    """
    with prepared_database(settings) as database, database.read() as connection:
        now = database.now(connection)
        living = select(process.c.kind, func.count()).where(process.c.beat_at > now - BEAT_OLD_S)
        waiting = select(job.c.error, func.count()).where(job.c.state == JobState.WAITING, job.c.error != "")
        oldest = queue.find_oldest_open(connection)
        total = func.sum(passed_over.c.count).label("count")
        passed = select(passed_over.c.sender_ae, passed_over.c.reason, total)
        return {
            "processes": {one.kind: one[1] for one in connection.execute(living.group_by(process.c.kind))},
            "studies": studies.count_states(connection),
            "jobs": [
                {"step": step, "state": state, "count": n}
                for (step, state), n in sorted(queue.count_jobs(connection).items())
            ],
            "waiting": [
                {"reason": reason, "count": n} for reason, n in connection.execute(waiting.group_by(job.c.error))
            ],
            "passed_over": [
                {"sender_ae": one.sender_ae, "reason": one.reason, "count": one.count}
                for one in connection.execute(passed.group_by(passed_over.c.sender_ae, passed_over.c.reason))
            ],
            "oldest_waiting_s": None if oldest is None else max(0.0, now - oldest),
            "free_gb": round(free_bytes(settings.data) / GB, 2),
        }  # fmt: skip
