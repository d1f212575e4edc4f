"""What a user can cause, each with its remedy. The command line prints these without a traceback, exit code 2."""

import errno
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_CONTROLS = ("Cc", "Cs", "Zl", "Zp")  # Unicode's categories: control characters, halves of characters, line ends


def spell(path: str | Path) -> str:
    """Return a path as text of one line that can be printed and stored.

    Bytes that are no characters, line breaks and other control characters are spelled out: '\\xff', '\\n'.
    """
    return "".join(_spell_control(one) if unicodedata.category(one) in _CONTROLS else one for one in str(path))


def _spell_control(character: str) -> str:
    number = ord(character)
    is_byte = 0xDC80 <= number <= 0xDCFF  # as Python holds a byte of a name that is no character
    return f"\\x{number - 0xDC00:02x}" if is_byte else character.encode("unicode_escape").decode()


class BleedmapError(Exception):
    """An error that says where, what was found, what is needed, and what to do.

    Args:
        subject: the file, folder or flag concerned.
        found: what is wrong with it, as a clause ("the file ends after 10,240 bytes").
        needed: what would have been right.
        remedy: what the user can do now.
    """

    exit_code = 2

    def __init__(self, subject: str | Path, found: str, needed: str, remedy: str) -> None:
        self.subject, self.found, self.needed, self.remedy = spell(subject), found, needed, remedy
        super().__init__(self.subject, found, needed, remedy)

    def __str__(self) -> str:
        return self.explain()

    def __reduce__(self) -> tuple[Any, ...]:
        """Make it again in another process, whatever its class takes."""
        return type(self).__new__, (type(self),), self.__dict__

    def explain(self) -> str:
        """The whole message, three lines."""
        return f"{self.subject}: {self.found}\n  needed: {self.needed}\n  remedy: {self.remedy}"


class InputError(BleedmapError):
    """An input file or folder that cannot be used."""


class DamagedFileError(InputError):
    """An input file that is damaged, cut or gone, beside others that may be whole."""


class CheckRefusalError(InputError):
    """An input that the checks refuse; `checks` names those that do."""

    def __init__(self, subject: str | Path, checks: tuple[str, ...], *, found: str, needed: str, remedy: str) -> None:
        super().__init__(subject, found=found, needed=needed, remedy=remedy)
        self.checks = checks


class DataError(BleedmapError):
    """A data set whose files or tables do not fit together."""


class SplitError(BleedmapError):
    """A split that leaks, or that does not fit the data."""


class WeightsError(BleedmapError):
    """Weights that are missing, damaged or of another network."""


class OutputError(BleedmapError):
    """A result that cannot be written."""


class SettingsError(BleedmapError):
    """A flag or setting with a value that cannot work."""


class DownloadError(BleedmapError):
    """A download that failed, was refused, or does not match its checksum."""


class MissingExtraError(BleedmapError):
    """A verb that needs an extra which is not installed."""

    def __init__(self, subject: str, extra: str, package: str) -> None:
        super().__init__(
            subject,
            found=f"the package '{package}' is not installed",
            needed=f"bleedmap's extra '{extra}'",
            remedy=f"pip install 'bleedmap[{extra}]'",
        )


class ResourceError(BleedmapError):
    """Memory, threads, processes, open files or programs that the system does not give."""


@contextmanager
def usable(
    path: Path, kind: type[BleedmapError], needed: str, remedy: str, *also: type[Exception],
    found: str = "cannot be used",
) -> Iterator[None]:  # fmt: skip
    """Say of a file that cannot be read, or holds something else, what is needed.

    `also`: further errors that say so.
    """
    damaged: tuple[type[Exception], ...] = (
        OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, *also,
    )  # fmt: skip
    try:
        yield
    except FileNotFoundError as error:
        raise kind(path, "no such file", needed, remedy) from error
    except damaged as error:
        raise kind(path, f"{found} ({error})", needed, remedy) from error


_FEWER = "work at fewer studies at a time (batch: --processes 1), or on another machine"
# Each: subject, found, needed, remedy. Native libraries tell them by words alone.
_MEMORY = (
    "memory", "the system does not give as much as is needed", "about 1 GB for each process, more for large studies",
    f"close other programs, raise the limit where there is one (ulimit -v, a job's memory), {_FEWER}",
)  # fmt: skip
_THREADS = (
    "threads and processes", "the system gives no more of them", "about a dozen, and two for each core",
    f"end other programs, raise the limit where there is one (ulimit -u, a container's pids), {_FEWER}",
)  # fmt: skip
_FILES = (
    "open files", "the system opens no more of them", "about a hundred for each process",
    f"raise the limit (ulimit -n), {_FEWER}",
)  # fmt: skip
_GPU = (
    "memory of the GPU", "it has not as much as is needed", "a GPU with more free memory",
    "end other programs on it, take smaller batches, or give --device cpu",
)  # fmt: skip
_BY_NUMBER = {errno.ENOMEM: _MEMORY, errno.EAGAIN: _THREADS, errno.EMFILE: _FILES, errno.ENFILE: _FILES}
_BY_WORDS = {
    "cuda out of memory": _GPU, "mps backend out of memory": _GPU, "bad_alloc": _MEMORY, "bad allocation": _MEMORY,
    "allocate memory": _MEMORY, "can't alloc": _MEMORY, "cannot alloc": _MEMORY,
    "allocation failed": _MEMORY, "not enough memory": _MEMORY, "out of memory": _MEMORY,
    "failed to map segment": _MEMORY, "failed to allocate": _MEMORY, "start new thread": _THREADS,
    "resource temporarily unavailable": _THREADS, "too many open files": _FILES,
}  # fmt: skip


def find_shortage(error: BaseException | None) -> ResourceError | None:
    """Say what the system did not give, where an error or one that caused it means that; None for all others."""
    while error is not None:
        known = _MEMORY if isinstance(error, MemoryError) else None
        if isinstance(error, OSError):
            known = _BY_NUMBER.get(error.errno or 0)
        if known is None and isinstance(error, RuntimeError | ImportError | OSError):
            words = str(error).lower()
            known = next((one for said, one in _BY_WORDS.items() if said in words), None)
        if known is not None:
            return ResourceError(*known)
        error = error.__cause__
    return None
