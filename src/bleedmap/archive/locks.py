"""Locks that processes respect, on disks that have them, and on network shares that refuse them.

On a disk with locks, a process that is killed lets go of its own. Elsewhere a lock is a file that one process alone can
create. It says who holds it, and its holder writes it again every few seconds: a file that stays as it is for long, or
whose process has ended on this machine, is what a killed process left.
"""

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

from filelock import FileLock, Timeout

from bleedmap.io.files import REFUSALS, output_error

_NO_LOCKS = REFUSALS | {errno.ENOLCK}
_BEAT_S = 10.0  # between two signs of life
_DEAD_S = 90.0  # without one; shares tell others of a change only after a minute
_ASK_S = 0.25
_TAKEN_OVER_S = 0.5  # until others who found the same dead lock have seen who was first


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Yield whether a lock that all processes respect is ours, and hold it while inside; the file stays, empty.

    A process that is killed lets go of its locks: at once, or on a disk without locks after a minute and a half.

    Args:
        path: of the lock file; its folder is made.
        wait: until another process lets go of it, instead of yielding False at once.

    Raises:
        OutputError: the folder cannot be written.
    """
    lock: FileLock | _HeldFile | None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock_by_disk(path, wait) or _lock_by_file(path.with_suffix(".held"), wait)
    except Timeout:
        lock = None
    except OSError as error:
        raise output_error(path, error) from error
    if lock is None:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _lock_by_disk(path: Path, wait: bool) -> FileLock | None:
    """Take a lock of the disk; None where it has none.

    Raises:
        Timeout: another process holds it.
        OSError: the file cannot be written.
    """
    lock = FileLock(path, blocking=wait, fallback_to_soft=False)  # its soft lock gives no signs of life
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in _NO_LOCKS or not os.access(path, os.W_OK):
            raise
        return None
    return lock


@dataclass
class _HeldFile:
    """A lock that is a file, held by this process."""

    path: Path
    token: str
    _ended: threading.Event = field(default_factory=threading.Event)

    def content(self, beat: int) -> bytes:
        """What the file says: who holds it, and the number of its sign of life."""
        about = {"host": _HOST, "pid": os.getpid(), "token": self.token, "beat": f"{beat:09}"}
        return json.dumps(about).encode() + b"\n"

    def is_ours(self) -> bool:
        """Whether nobody took it over, as from a process that slept."""
        return _token(_read(self.path)) == self.token

    def beat(self) -> None:
        """Give signs of life until the lock is let go; opened anew each time, as shares pass on a file once closed."""
        count = 0
        while not self._ended.wait(_BEAT_S):
            count += 1
            with suppress(OSError):  # of a share that is away for a moment
                if not self.is_ours():
                    return
                with self.path.open("r+b") as stream:
                    stream.write(self.content(count))

    def release(self) -> None:
        """Let go."""
        self._ended.set()
        with suppress(OSError):
            if self.is_ours():
                self.path.unlink()


def _lock_by_file(path: Path, wait: bool) -> _HeldFile | None:
    """Take a lock by creating its file; None where another process holds it, and we are not to wait.

    Raises:
        OSError: the file cannot be written.
    """
    seen, since = b"", time.monotonic()
    took_over = False
    while True:
        mine = _create(path)
        if mine is not None:
            if took_over:
                time.sleep(_TAKEN_OVER_S)  # who found it dead at the same time may have removed ours
            if not took_over or mine.is_ours():
                threading.Thread(target=mine.beat, daemon=True).start()
                return mine
        content, took_over = _read(path), False
        if content != seen:
            seen, since = content, time.monotonic()
        if _has_ended(content) or time.monotonic() - since > _DEAD_S:
            if _read(path) == content:  # else somebody else has just taken it over
                path.unlink(missing_ok=True)
                took_over = True
        elif wait:
            time.sleep(_ASK_S)
        else:
            return None


def _create(path: Path) -> _HeldFile | None:
    """Create the file of a lock; None where it is there."""
    mine = _HeldFile(path, uuid4().hex)
    try:
        with path.open("xb") as stream:
            stream.write(mine.content(0))
    except FileExistsError:
        return None
    return mine


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _token(content: bytes) -> str | None:
    try:
        return str(json.loads(content)["token"])
    except (ValueError, KeyError, TypeError):
        return None


def _has_ended(content: bytes) -> bool:
    """Whether the process that a lock's file names was of this machine and is no more."""
    if os.name != "posix":  # elsewhere the signal below would end it
        return False
    try:
        holder = json.loads(content)
        if holder["host"] != _HOST:
            return False
        os.kill(int(holder["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, KeyError, TypeError, OverflowError):  # another user's; or half-written
        return False
    return False


def _name_host() -> str:
    """Name this machine since it started, and the container in it: a number of a process says nothing elsewhere."""
    boot, container = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        container = str(Path("/proc/self/ns/pid").readlink())
    return " ".join([socket.gethostname(), boot, container])


_HOST = _name_host()
