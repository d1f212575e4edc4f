"""Runs `bleedmap` in this process."""

import pytest

from bleedmap.cli.main import main


def run(*arguments: object) -> int:
    """The exit code of `bleedmap ARGUMENTS`."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    code = left.value.code
    assert code is None or isinstance(code, int)
    return code or 0
