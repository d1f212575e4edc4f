"""A lock file that several processes respect; a killed process lets go of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from bleedmap.io.files import output_error


@contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Yield whether the lock is ours, and hold it while inside; the file stays, empty.

    Args:
        path: of the lock file; its folder is made.
        wait: until another process lets go of it, instead of yielding False at once.

    Raises:
        OutputError: the folder cannot be written, or its disk has no locks.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, blocking=wait)
        lock.acquire()
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError) as error:
        raise output_error(path, error if isinstance(error, OSError) else OSError("no locks on this disk")) from error
    try:
        yield True
    finally:
        lock.release()
