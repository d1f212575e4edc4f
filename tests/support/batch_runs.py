"""Begins a batch in a process of its own, and reads what it left in its folder."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

Rows = dict[str, dict[str, Any]]


def summary_of(out: Path) -> dict[str, Any]:
    content = json.loads((out / "summary.json").read_text("utf-8"))
    assert isinstance(content, dict)
    return content


def rows_of(out: Path) -> Rows:
    return {row["name"]: row for row in summary_of(out)["studies"]}


def lasting(rows: Rows) -> Rows:
    """What two runs have in common: all but the time."""
    return {name: {**row, "seconds": None} for name, row in rows.items()}


def files_of(out: Path) -> dict[str, str]:
    """Masks and probabilities of all studies, by their hashes."""
    return {str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest() for path in out.rglob("*.nii.gz")}


def begun(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bleedmap.cli.main", "batch", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def until(condition: Callable[[], object], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)
