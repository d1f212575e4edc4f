"""Where the process meets the system: standard streams, signals, and what the system may not give."""

import codecs
import io
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from mmap import mmap
from types import FrameType
from typing import Any, NoReturn

from bleedmap.errors import OutputError, find_shortage

_BROKEN_PIPE = 128 + 13  # exit code, as of a program that SIGPIPE ends
_STOPS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C; of schedulers, containers, terminals that are closed
_SPELLED = {"–": "-", "—": "-", "−": "-", "…": "...", "×": "x", "±": "+-", "°": " deg", "’": "'", "≥": ">=", "≤": "<="}
_SPELL = "bleedmap-spell"
# With less, native libraries crash or hang where they should complain: found by trying limits, on one core.
_LEAST_BYTES, _LEAST_BYTES_TORCH, _LEAST_THREADS = 640 << 20, 1 << 30, 8
_MOST_THREADS = 64
_STACK_BYTES = 256 << 10


class Stopped(KeyboardInterrupt):
    """A signal that asks the program to end, answered as Ctrl-C is."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(signal.Signals(number).name)


@contextmanager
def process_edge() -> Iterator[None]:
    """Inside, standard streams never give a traceback, and SIGTERM and SIGHUP end the program as Ctrl-C does.

    Characters that standard output cannot encode are spelled in others. Where it cannot be written, printing raises:
    SystemExit with 141 where its reader has gone, else OutputError. What cannot be written to standard error is lost.
    Streams that are closed lead nowhere.
    """
    with _stops_answered(), _streams_guarded():
        yield


def exit_code_of(stop: BaseException | None) -> int:
    """The exit code after Ctrl-C or another signal that stops the program."""
    return stop.exit_code if isinstance(stop, Stopped) else 128 + signal.SIGINT


def print_error(text: str) -> None:
    """Print lines on standard error, as they are."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _stops_answered() -> Iterator[None]:
    """Let signals that nobody else answers raise `Stopped`; one that is ignored, as under nohup, stays so."""

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)  # the first is enough: let it clear up
        raise Stopped(number)

    numbers = [getattr(signal, name) for name in _STOPS if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        numbers = []
    changed = [one for one in numbers if signal.getsignal(one) == signal.SIG_DFL]
    for number in changed:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else stop)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _streams_guarded() -> Iterator[None]:
    if (sys.stdout, sys.stderr) != (sys.__stdout__, sys.__stderr__):  # somebody else's: a test, a notebook
        yield
        return
    codecs.register_error(_SPELL, _spell)
    _open_closed_streams()
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = before[0] or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    sys.stdout = _guard(before[1], 1, "standard output")
    sys.stderr = _guard(before[2], 2, None)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdin, sys.stdout, sys.stderr = before


def _open_closed_streams() -> None:
    """Fill the places of closed streams: else the next file that is opened gets what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _guard(stream: Any, number: int, name: str | None) -> io.TextIOWrapper:
    binary = open(number, "wb", buffering=0, closefd=False) if stream is None else stream.buffer  # noqa: SIM115
    return io.TextIOWrapper(
        io.BufferedWriter(_Guarded(getattr(binary, "raw", binary), name)),
        encoding=getattr(stream, "encoding", "utf-8"), errors=_SPELL,
        line_buffering=getattr(stream, "line_buffering", False), write_through=getattr(stream, "write_through", False),
    )  # fmt: skip


class _Guarded(io.RawIOBase):
    """A stream that fails once at most: from then on what is written to it is lost.

    Args:
        name: for the error; None: no error is raised.
    """

    def __init__(self, raw: Any, name: str | None) -> None:
        self._raw, self._name, self._lost = raw, name, False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    def write(self, data: Any, /) -> int:
        if self._lost:
            return len(data)
        try:
            while (written := self._raw.write(data)) is None:  # another program made it not wait
                select.select([], [self._raw], [])
            return int(written)
        except OSError as error:
            self._lost = True
            if self._name is None:
                return len(data)
            if isinstance(error, BrokenPipeError):
                raise SystemExit(_BROKEN_PIPE) from error
            raise OutputError(
                self._name, found=f"cannot be written: {error.strerror or error}",
                needed="a file, pipe or terminal that takes what is printed",
                remedy="free some space there, or send it elsewhere; files of results were written as usual",
            ) from error  # fmt: skip


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """Spell what an encoding lacks: signs of print by plain ones, letters by their numbers."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    spelled = "".join(_SPELLED.get(one) or one.encode("ascii", "backslashreplace").decode("ascii") for one in found)
    return spelled, error.end


def check_resources(*, torch: bool) -> None:
    """Refuse to begin where the system gives too little memory, or too few threads, for anything to be computed.

    Args:
        torch: whether it is computed with torch, which takes more.

    Raises:
        ResourceError: so it is.
    """
    try:
        mmap(-1, _LEAST_BYTES_TORCH if torch else _LEAST_BYTES).close()
        if not _is_address_space_limited():  # where threads leave reserves behind
            _start_threads()
    except (OSError, RuntimeError, MemoryError, ValueError) as error:
        shortage = find_shortage(error)
        if shortage is not None:
            raise shortage from error


def _is_address_space_limited() -> bool:
    try:
        import resource
    except ImportError:  # Windows
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _start_threads() -> None:
    """Start as many threads at once as a small study takes, which do nothing."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    go, started = threading.Event(), list[threading.Thread]()
    before = threading.stack_size()
    with suppress(ValueError):
        threading.stack_size(_STACK_BYTES)
    try:
        for _ in range(min(_LEAST_THREADS + 2 * (cores - 1), _MOST_THREADS)):
            started.append(threading.Thread(target=go.wait))
            try:
                started[-1].start()
            except RuntimeError:
                started.pop()
                raise
    finally:
        threading.stack_size(before)
        go.set()
        for one in started:
            one.join()
