"""Processes beside this one that take their share of a batch; whatever becomes of them, the batch goes on."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

# numpy's matrix products here are small; threads of their own would take the cores from the other processes.
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
Heard = Callable[[int, Any], None]  # a process' number, and what it said; at last None
Work = Callable[[Callable[[Any], None]], None]  # what a process does, given how to say something


@contextmanager
def beside(count: int, work: Work, heard: Heard) -> Iterator[None]:
    """Run `work` in `count` processes while inside; leaving waits for them, leaving by an error ends them.

    They end with this process, however it ends, and Ctrl-C is this process' alone to answer.

    Args:
        count: of processes, 0 or more.
        work: a function of a module, or a partial of one, that can be sent to another process.
        heard: called from a thread of each process.
    """
    started: list[tuple[SpawnProcess, threading.Thread]] = []
    try:
        for number in range(count):
            started.append(_start(number, work, heard))
        yield
    except BaseException:
        for process, _ in started:
            process.terminate()
        raise
    finally:
        for process, listening in started:
            process.join()
            listening.join()


def _start(number: int, work: Work, heard: Heard) -> tuple[SpawnProcess, threading.Thread]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(work, theirs), daemon=True)
    with _without_interrupts(), _in_environment(dict.fromkeys(_ONE_THREAD, "1")):
        process.start()
    theirs.close()  # so that the other end's closing is seen
    listening = threading.Thread(target=_listen, args=(number, ours, heard), daemon=True)
    listening.start()
    return process, listening


def _listen(number: int, connection: Connection, heard: Heard) -> None:
    with connection, suppress(EOFError, OSError):  # it ended, or was ended in the middle of a word
        while True:
            heard(number, connection.recv())
    heard(number, None)


def _run(work: Work, connection: Connection) -> None:
    """In the new process. A fault ends it, and says so on standard error as any program's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with connection:
        work(connection.send)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """A process started meanwhile begins without Ctrl-C, before its first line could refuse it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # else started with the first process, when it would let Ctrl-C in again
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


@contextmanager
def _in_environment(values: dict[str, str]) -> Iterator[None]:
    earlier = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in earlier.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
