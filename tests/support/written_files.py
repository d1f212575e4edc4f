"""Waits for what another process writes."""

import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any


def wait_for_changes(folder: Path, count: int, process: "subprocess.Popen[Any]") -> None:
    """Wait until files in a folder were written so many times, or the process has ended.

    So a process can be killed at a moment of its own work, however fast it runs.
    """
    before, changes = _written(folder), 0
    while changes < count and process.poll() is None:
        now = _written(folder)
        changes += len(now - before)
        before = now
        time.sleep(0.002)


def _written(folder: Path) -> set[tuple[Path, int]]:
    """The files in a folder and when each was last written; those that go in the meantime are left out."""
    found = set()
    for path in folder.rglob("*"):
        with suppress(OSError):
            found.add((path, path.stat().st_mtime_ns))
    return found
