"""Start the processes of a server, start each again that ends, and end all when told to.

Children end with the supervisor, however it ends. A child that ends again and again is started later each time.
"""

import multiprocessing
import os
import signal
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

from bleedmap.errors import BleedmapError, find_shortage
from bleedmap.server.config import Settings
from bleedmap.server.log import describe_fault, logger, set_up_logging

_FIRST_S, _LONGEST_S = 0.5, 4.0  # before a child is started again
_STEADY_S = 10.0  # a child that lived so long begins anew with the shortest time
_END_S = 30.0  # for a child to end its job
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")  # the network has threads of its own


@dataclass
class _Child:
    kind: str
    process: SpawnProcess | None = None
    started: float = 0.0
    ended: int = 0
    due: float = field(default_factory=time.monotonic)


def supervise(settings: Settings, kinds: list[str], stop: threading.Event) -> None:
    """Keep processes running until told to stop.

    Args:
        kinds: one for each process: listener, web, worker, sender.
        stop: set from a signal handler or another thread.
    """
    for name in _ONE_THREAD:
        os.environ.setdefault(name, "1")
    children = [_Child(kind) for kind in kinds]
    while not stop.is_set():
        for one in children:
            if one.process is None and time.monotonic() >= one.due:
                _start(one, settings)
        alive = {child.process.sentinel: child for child in children if child.process is not None}
        for sentinel in wait(list(alive), 0.2) if alive else [stop.wait(0.2)]:
            child = alive.get(sentinel)  # type: ignore[arg-type]
            if child is not None:
                _note_end(child)
    _end(children)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM, SIGINT and SIGHUP set."""
    stop = threading.Event()
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda number, frame: stop.set())
    return stop


def _start(child: _Child, settings: Settings) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_run, args=(child.kind, settings), name=f"bleedmap-{child.kind}", daemon=False
    )
    process.start()
    child.process, child.started = process, time.monotonic()


def _note_end(child: _Child) -> None:
    assert child.process is not None
    child.process.join()
    code, lived = child.process.exitcode, time.monotonic() - child.started
    child.ended = 1 if lived > _STEADY_S else child.ended + 1
    wait_s = min(_FIRST_S * 2.0 ** (child.ended - 1), _LONGEST_S)
    child.process, child.due = None, time.monotonic() + wait_s
    said = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    logger.warning("%s ended after %.0f s (%s); started again in %.1f s", child.kind, lived, said, wait_s)


def _end(children: list[_Child]) -> None:
    running: list[Any] = [one.process for one in children if one.process is not None]
    for process in running:
        process.terminate()
    until = time.monotonic() + _END_S
    for process in running:
        process.join(max(0.0, until - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()


def _run(kind: str, settings: Settings) -> None:
    """Run in the new process."""
    from bleedmap.server.work.worker import KINDS  # noqa: PLC0415 - the supervisor itself stays small

    set_up_logging(kind)
    stop = stop_on_signals()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to answer
    threading.Thread(target=_end_with_parent, args=(stop,), daemon=True).start()
    try:
        KINDS[kind](settings, stop)
    except BleedmapError as error:
        logger.error("%s", error.explain())
        os._exit(error.exit_code)
    except Exception as error:
        shortage = find_shortage(error)
        logger.error("%s", shortage.explain() if shortage else _explain(error))
        os._exit(1)
    os._exit(0)


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror} ({describe_fault(error)})"  # as an address that is in use
    return describe_fault(error)


def _end_with_parent(stop: threading.Event) -> None:
    """End soon after the supervisor is gone; where the job takes longer, its lease runs out elsewhere."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        stop.set()
        time.sleep(2.0)
        os._exit(1)
