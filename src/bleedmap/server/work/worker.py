"""What each kind of process does until it is told to stop: listen, segment, send, serve pages.

A process renews the lease of its job and says that it lives, from a thread of its own. Where the database is away, it
waits for it; nothing that was received is lost meanwhile.
"""

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, insert, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from bleedmap.arrays import ignore
from bleedmap.server.config import BEAT_S, LEASE_S, TICK_S, Settings, check_port, split_address
from bleedmap.server.log import describe_fault, logger
from bleedmap.server.place import Place, free_bytes
from bleedmap.server.store import queue
from bleedmap.server.store.engine import Database, explain_away, is_away, open_database, prepare
from bleedmap.server.store.queue import Job
from bleedmap.server.store.tables import Step
from bleedmap.server.store.tables import process as processes

_IDLE_S = 0.5  # between looks at an empty queue
_AWAY_S = 2.0  # between looks at a database that is away
_RETAIN_S = 60.0
_FORGET_S = 3600.0  # a row of a process that died


@dataclass
class Beat:
    """Says that a process lives, and renews the lease of its job, from a thread that ends with the process."""

    database: Database
    kind: str
    stop: threading.Event
    detail: dict[str, Any] = field(default_factory=dict)
    job: Job | None = None

    def __post_init__(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        host, pid, started = platform.node(), os.getpid(), time.time()
        number = f"{self.kind}:{host}:{pid}"
        while not self.stop.wait(0.0):
            with suppress(SQLAlchemyError), self.database.write() as connection:
                now, detail = self.database.now(connection), json.dumps(self.detail)
                done = connection.execute(
                    update(processes).where(processes.c.id == number).values(beat_at=now, detail=detail)
                )
                if not done.rowcount:
                    row = {"id": number, "kind": self.kind, "host": host, "pid": pid, "started_at": started}
                    connection.execute(insert(processes).values(**row, beat_at=now, detail=detail))
                    connection.execute(delete(processes).where(processes.c.beat_at < now - _FORGET_S))
            job = self.job
            if job is not None:
                with suppress(SQLAlchemyError):
                    queue.renew(self.database, job, LEASE_S)
            self.stop.wait(BEAT_S)
        with suppress(SQLAlchemyError), self.database.write() as connection:
            connection.execute(delete(processes).where(processes.c.id == number))


def open_when_there(settings: Settings, stop: threading.Event) -> Database | None:
    """Open the database and make its tables; wait for one that is away, until told to stop."""
    database, said = open_database(settings), False
    while not stop.is_set():
        try:
            prepare(database)
            return database
        except DBAPIError as error:
            if not is_away(error):
                raise
            if not said:
                logger.warning("%s", explain_away(error).found)
            said = True
            stop.wait(_AWAY_S)
    return None


def run_listener(settings: Settings, stop: threading.Event) -> None:
    """Receive instances, tell the database of them, and let studies that are whole be segmented."""
    from bleedmap.server.dicom.listener import Listener  # noqa: PLC0415 - each process loads what it needs
    from bleedmap.server.dicom.receive import Receiver  # noqa: PLC0415
    from bleedmap.server.work.deliver import record_report  # noqa: PLC0415
    from bleedmap.server.work.versions import complete_studies  # noqa: PLC0415

    check_port("dicom.listen", settings.dicom.listen)
    place = Place(settings.data)
    database = open_when_there(settings, stop)
    if database is None:
        return
    receiver = Receiver(settings, place)
    listener = Listener(settings, receiver, lambda report: record_report(database, report))
    threading.excepthook = listener.note_fault
    beat = Beat(database, "listener", stop)
    swept = False
    logger.info("listening at %s:%d", *listener.address)
    while not stop.is_set():
        stop.wait(TICK_S)
        listener.tidy()
        beat.detail = {"associations": listener.count_associations(), "refused": sum(listener.refused.values())}
        with _waiting_for_database(stop):
            if not swept:
                receiver.sweep(database)
                swept = True
            receiver.flush(database, listener.list_held())
            complete_studies(database, place, settings.dicom.quiet_s)
    listener.close()
    with suppress(SQLAlchemyError):
        receiver.flush(database)


def run_worker(settings: Settings, stop: threading.Event) -> None:
    """Segment studies, one after the other, with one loaded network."""
    from bleedmap.inference.backends import available_threads  # noqa: PLC0415
    from bleedmap.server.work.segment import do_segment  # noqa: PLC0415
    from bleedmap.study.segment import Segmenter  # noqa: PLC0415

    worker = settings.worker
    threads = max(1, available_threads() // worker.processes)
    segmenter = Segmenter.load(worker.weights or None, threshold=worker.threshold or None, threads=threads)
    place = Place(settings.data)
    _work(settings, stop, "worker", (Step.SEGMENT,), lambda database, job: do_segment(
        database, place, settings, segmenter, job
    ))  # fmt: skip


def run_sender(settings: Settings, stop: threading.Event) -> None:
    """Deliver results, fetch studies that were asked for, and delete by age."""
    from bleedmap.server.work.deliver import do_deliver  # noqa: PLC0415
    from bleedmap.server.work.fetch import ask_counts, do_fetch  # noqa: PLC0415
    from bleedmap.server.work.versions import delete_expired  # noqa: PLC0415

    place = Place(settings.data)
    last = -_RETAIN_S
    asked: dict[str, float] = {}

    def do(database: Database, job: Job) -> None:
        (do_fetch if job.step == Step.FETCH else do_deliver)(database, place, settings, job)

    def between(database: Database) -> None:
        nonlocal last
        ask_counts(database, settings, asked)
        if time.monotonic() - last >= _RETAIN_S:
            last = time.monotonic()
            delete_expired(database, place, settings)

    _work(settings, stop, "sender", (Step.DELIVER, Step.FETCH), do, between)


def run_web(settings: Settings, stop: threading.Event) -> None:
    """Serve the pages and DICOMweb."""
    import uvicorn  # noqa: PLC0415

    from bleedmap.server.web.app import make_app  # noqa: PLC0415

    web = settings.web
    for name, address in (("web.listen", web.listen), ("web.metrics", web.metrics)):
        if address:  # uvicorn would tell nobody, and end
            check_port(name, address)
    database = open_when_there(settings, stop)
    if database is None:
        return
    host, port = split_address(web.listen)
    server = uvicorn.Server(
        uvicorn.Config(
            make_app(settings), host=host, port=port, log_config=None, access_log=False, server_header=False,
            proxy_headers=bool(web.trusted_proxies), forwarded_allow_ips=list(web.trusted_proxies) or "",
            ssl_certfile=web.tls_certificate or None, ssl_keyfile=web.tls_key or None, timeout_graceful_shutdown=5,
        )
    )  # fmt: skip
    Beat(database, "web", stop)

    def end() -> None:
        stop.wait()
        server.should_exit = True

    threading.Thread(target=end, daemon=True).start()
    logger.info("pages at %s", settings.web.listen)
    server.run()
    stop.set()


def _work(
    settings: Settings, stop: threading.Event, kind: str, steps: tuple[Step, ...], do: Callable[[Database, Job], None],
    between: Callable[[Database], None] = ignore,
) -> None:  # fmt: skip
    database = open_when_there(settings, stop)
    if database is None:
        return
    beat = Beat(database, kind, stop)
    holder = f"{kind}:{platform.node()}:{os.getpid()}"
    with _waiting_for_database(stop):
        queue.release_dead(database, platform.node(), _is_alive)
    logger.info("ready")
    while not stop.is_set():
        with _waiting_for_database(stop):
            beat.detail = {"free_bytes": free_bytes(settings.data)}
            between(database)
            job = queue.claim(database, steps, holder)
            if job is None:
                stop.wait(_IDLE_S)
                continue
            beat.job = job
            try:
                do(database, job)
            finally:
                beat.job = None


@contextmanager
def _waiting_for_database(stop: threading.Event) -> Iterator[None]:
    """Go on after a database that was away, and after a job that became another process'."""
    try:
        yield
    except queue.LostLeaseError:
        logger.warning("a job was taken over by another process; its outcome is not recorded twice")
    except SQLAlchemyError as error:
        if not is_away(error):
            logger.error("database: %s", describe_fault(error))
        else:
            logger.warning("%s", explain_away(error).found)
        stop.wait(_AWAY_S)
    except OSError as error:
        logger.warning("disk: %s", error.strerror or type(error).__name__)
        stop.wait(_AWAY_S)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


KINDS: dict[str, Callable[[Settings, threading.Event], None]] = {
    "listener": run_listener, "web": run_web, "worker": run_worker, "sender": run_sender,
}  # fmt: skip
