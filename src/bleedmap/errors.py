"""What a user can cause, each with its remedy. The command line prints these without a traceback, exit code 2."""

from pathlib import Path
from typing import Any


class BleedmapError(Exception):
    """An error that says where, what was found, what is needed, and what to do.

    Args:
        subject: the file, folder or flag concerned.
        found: what is wrong with it, as a clause ("the file ends after 10,240 bytes").
        needed: what would have been right.
        remedy: what the user can do now.
    """

    exit_code = 2

    def __init__(self, subject: str | Path, *, found: str, needed: str, remedy: str) -> None:
        self.subject, self.found, self.needed, self.remedy = str(subject), found, needed, remedy
        super().__init__(subject, found, needed, remedy)

    def __str__(self) -> str:
        return self.explain()

    def __reduce__(self) -> tuple[Any, ...]:
        """Make it again in another process, whatever its class takes."""
        return _make_again, (type(self), self.__dict__)

    def explain(self) -> str:
        """The whole message, three lines."""
        return f"{self.subject}: {self.found}\n  needed: {self.needed}\n  remedy: {self.remedy}"


def _make_again(kind: type[BleedmapError], content: dict[str, Any]) -> BleedmapError:
    error = kind.__new__(kind)
    error.__dict__.update(content)
    return error


class InputError(BleedmapError):
    """An input file or folder that cannot be used."""


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
