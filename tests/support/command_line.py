"""Runs `bleedmap` in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bleedmap.cli.main import main


def run(*arguments: object) -> int:
    """The exit code of `bleedmap ARGUMENTS`."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    code = left.value.code
    assert code is None or isinstance(code, int)
    return code or 0


@contextmanager
def limit_files(most: int) -> Iterator[None]:
    """The system lets no file grow past so many bytes, as on a full disk; Python ignores the signal."""
    import resource  # Windows has none

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
