"""Runs programs as on a share that refuses calls, by a small library that is compiled for it where there is gcc."""

import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("refusing_share.c")
EVERYTHING = "chmod=EPERM fsync=EINVAL rename=EPERM link=EPERM flock=ENOSYS utime=EPERM"


@cache
def _library() -> Path:
    compiler = shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a share that refuses calls is made with gcc, on Linux")
    made = Path(tempfile.mkdtemp()) / "refusing_share.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(_SOURCE), "-ldl"], check=True)
    return made


def on_a_share(refused: str, *command: object, timeout: float = 600) -> "subprocess.CompletedProcess[str]":
    """Run Python with these arguments where calls are refused, as `rename=EPERM flock=ENOSYS`; see `share`."""
    return subprocess.run(
        [sys.executable, *map(str, command)], env=share(refused), capture_output=True, text=True, timeout=timeout,
        check=False,
    )  # fmt: skip


def share(refused: str) -> dict[str, str]:
    """Return the environment of a program that runs there."""
    paths = os.pathsep.join([str(_SOURCE.parent), *sys.path])
    return {**os.environ, "LD_PRELOAD": str(_library()), "REFUSE": refused, "PYTHONPATH": paths}
