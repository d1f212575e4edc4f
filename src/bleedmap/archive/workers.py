"""Executors of jobs: this process, one job after the other, and worker processes, whose deaths stop nothing."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from secrets import token_hex
from typing import Any

from bleedmap.archive.ledger import Job, Ledger
from bleedmap.errors import ResourceError, find_shortage
from bleedmap.inference.backends import available_threads

# numpy's matrix products here are small; threads of their own would take the cores from the other processes.
_ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_PROCESSES = 4  # by default: more are faster where there are cores, and memory, for them
_STUDIES_TO_START = 3  # are done while a process begins and loads its network
_MOST_ENDS = 10  # of processes at one cell on a cluster; a node that is taken away ends one too
OnMessage = Callable[[int, Any], None]  # a process' number, and what it sent
OnExit = Callable[[int, int], None]  # a process' number, and its exit code, or minus the signal that ended it
Work = Callable[[Callable[[Any], None]], None]  # what a process does, given how to send a message


@dataclass(frozen=True)
class Share:
    """What one actor takes of a node, and how many there are.

    `cpus`, `gpus`, `memory`: of each actor; memory in bytes.
    """

    cpus: int = 1
    gpus: int = 0
    memory: int = 600 << 20
    most: int | None = None  # not more actors than these; None: as many as the nodes have room for
    ahead: int = 2  # tasks that an actor has in flight, so that it need not wait for the next

    def describe(self) -> str:
        """Say what an actor takes."""
        gpus = f", {self.gpus} GPU" if self.gpus else ""
        return f"{self.cpus} CPU{gpus} and {self.memory / 1e9:.1f} GB of memory"

    def count(self, resources: dict[str, float]) -> int:
        """Count the actors that a node with these resources has room for."""
        room = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        return int(min(resources.get(name, 0) // one for name, one in room.items() if one))


def run_jobs(
    ledger: Ledger, jobs: Iterable[Job], do: Callable[[Job], None], is_done: Callable[[Job], bool], *, wait: bool
) -> list[Job]:
    """Do, one after the other, the jobs that no other process is at.

    Args:
        do: begins, does and finishes a job, which is claimed meanwhile.
        is_done: whether a claimed job needs no turn: another process may just have done it.
        wait: for jobs that other processes are at: one of them may be killed, and leave its job open.

    Returns:
        The jobs that other processes are at; none with `wait`.
    """
    elsewhere = []
    for job in jobs:
        with ledger.claim(job, wait=wait) as ours:
            if not ours:
                elsewhere.append(job)
            elif not is_done(job):
                do(job)
    return elsewhere


def guard_local_cluster(address: str) -> None:
    """Have a Ray cluster that is started here take work by a token alone: it listens on all addresses of the machine.

    To be called before Ray is imported, which reads this once.
    """
    if address == "local":
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token_hex(32)})


def try_cell(folder: Path, name: str, run: str, do: Callable[[], object]) -> str:
    """Do a cell of an experiment, of which several processes do others; return its name.

    Args:
        run: another for each command; see `Ledger.count_ends`.
        do: the cell; goes on from what an ended process left, and does nothing where all is done.

    Raises:
        ResourceError: processes of this run ended at this cell again and again.
    """
    ledger, job = Ledger(folder, ".cells"), Job(name, "", {})
    with ledger.claim(job, wait=True):
        ends = ledger.count_ends(job, run)
        if ends >= _MOST_ENDS:
            raise ResourceError(
                f"cell {name}", found=f"its process ended {ends} times, killed or by a crash",
                needed="a process that lives until the cell is done",
                remedy="look for too little memory; what was trained is kept: give the same command again",
            )  # fmt: skip
        ledger.begin(job, run)
        do()
        ledger.finish(job, {})
    return name


def count_processes(studies: int, most: int | None = None) -> int:
    """Count the processes, this one included, that are worth starting: each has work until the others are done.

    Args:
        most: not more than these; None: as many as the processor has threads, at most 4.
    """
    return min(most or min(available_threads(), _PROCESSES), 1 + max(0, studies - 1) // _STUDIES_TO_START)


@contextmanager
def run_in_parallel(count: int, work: Work, on_message: OnMessage, on_exit: OnExit) -> Iterator[None]:
    """Run `work` in `count` processes while inside; leaving waits for them, leaving by an error ends them.

    They end with this process, however it ends, and Ctrl-C is this process' alone to answer. Where the system gives no
    more processes, there are fewer.

    Args:
        count: of processes, 0 or more.
        work: a function of a module, or a partial of one, that can be sent to another process.
        on_message: called from a thread for each process. Its error ends the processes at their next message, and is
            raised on leaving.
        on_exit: called from the same thread; the exit code is 0 where it was this process that ended it.
    """
    started: list[tuple[SpawnProcess, threading.Thread]] = []
    errors: list[BaseException] = []  # of this process, for which the others end
    try:
        for number in range(count):
            try:
                started.append(_start(number, work, on_message, on_exit, errors))
            except (OSError, RuntimeError, MemoryError):  # of processes, threads, files or memory there are no more
                break
        yield
        for _, listening in started:
            listening.join()
    except BaseException as error:
        errors.append(error)
        for process, _ in started:
            process.terminate()
        for _, listening in started:
            listening.join()
        raise
    if errors:
        raise errors[0]


def _start(
    number: int, work: Work, on_message: OnMessage, on_exit: OnExit, errors: list[BaseException]
) -> tuple[SpawnProcess, threading.Thread]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(theirs,), daemon=True)
    with _without_interrupts(), _in_environment(dict.fromkeys(_ONE_THREAD, "1")):
        process.start()
    theirs.close()  # so that the other end's closing is seen
    arguments = (process, ours, work, partial(on_message, number), partial(on_exit, number), errors)
    listening = threading.Thread(target=_listen, args=arguments, daemon=True)
    try:
        listening.start()
    except RuntimeError:
        process.terminate()
        raise
    return process, listening


def _listen(
    process: SpawnProcess, connection: Connection, work: Work, on_message: Callable[[Any], None],
    on_exit: Callable[[int], None], errors: list[BaseException],
) -> None:  # fmt: skip
    """Send the work, and take messages until the process has closed its end, or this one has an error; then wait until
    it has ended."""
    try:
        with connection:
            with suppress(OSError):  # it has ended already
                connection.send(work)
            while not errors:
                try:
                    message = connection.recv()
                except (EOFError, OSError):  # it ended, or was ended in the middle of a message
                    break
                on_message(message)
    except Exception as error:
        errors.append(error)
    process.join()
    try:
        on_exit(0 if errors else process.exitcode or 0)
    except Exception as error:
        errors.append(error)


def _run(connection: Connection) -> None:
    """Run in the new process, once the work has come, with the modules that it needs.

    A fault ends it, and says so on standard error as any program's. What the system does not give ends it without a
    word: the others take its jobs, or meet the same.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        threading.Thread(target=_end_with_parent, daemon=True).start()
        with connection:
            work: Work = connection.recv()
            work(partial(_send, connection))
    except EOFError:  # the other end has gone
        os._exit(1)
    except Exception as error:
        shortage = find_shortage(error)
        if shortage is None:
            raise
        sys.exit(shortage.exit_code)


def _send(connection: Connection, message: Any) -> None:
    """Send a message; where nobody listens, end the process at once: an error here would pass for one of its job."""
    try:
        connection.send(message)
    except OSError:
        os._exit(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Let a process that is started meanwhile begin without Ctrl-C, before its first line could refuse it."""
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
