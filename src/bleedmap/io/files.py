"""Files written whole or not at all: beside first, then renamed."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bleedmap.errors import BleedmapError, OutputError

_REMEDIES = {
    errno.ENOSPC: "free some space on that disk, or write elsewhere",
    errno.EACCES: "write to a folder that you own",
    errno.EROFS: "write to a disk that is not read-only",
}


def output_error(path: Path, error: OSError) -> OutputError:
    """The error to show for a failed write to `path`."""
    return OutputError(
        path,
        found=f"cannot be written: {error.strerror or error}",
        needed="a folder that can be written, with space left",
        remedy=_REMEDIES.get(error.errno or 0, "write to another folder"),
    )


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path`; on leaving without an error it takes the place of `path`, else it is removed.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    beside = path.with_name(f".part-{os.getpid()}.{path.name}")  # keeps the suffix, which tells writers the format
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with beside.open("rb") as stream:
            os.fsync(stream.fileno())
        beside.replace(path)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with suppress(OSError):  # missing_ok does not cover a parent that is a file
            beside.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(folder: Path, *, marker: str, overwrite: bool = False) -> Iterator[Path]:
    """Yield a new folder beside `folder`; on leaving without an error it becomes `folder`, else it is removed.

    Args:
        folder: where the results go.
        marker: a file that every such folder of results holds; a folder without it is never replaced.
        overwrite: replace earlier results.

    Raises:
        OutputError: `folder` holds files that may not be replaced, the disk is full, or it cannot be written.
    """
    refuse_folder(folder, marker=marker, overwrite=overwrite)
    beside = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        beside.chmod(0o755)
        yield beside
        _swap(beside, folder)
    except BleedmapError:
        raise
    except OSError as error:
        raise output_error(folder, error) from error
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)


def refuse_folder(folder: Path, *, marker: str, overwrite: bool) -> None:
    """Refuse a folder of results that would take something else with it: to be asked before long work begins.

    Raises:
        OutputError: `folder` is a file, or holds files and may not be replaced.
    """
    needed, remedy = "a new or empty folder for the results", "give another folder"
    if folder.exists() and not folder.is_dir():
        raise OutputError(folder, found="is a file", needed=needed, remedy=remedy)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not (folder / marker).is_file():
        raise OutputError(
            folder, found=f"is not empty, and holds no {marker} of earlier results", needed=needed, remedy=remedy
        )
    if not overwrite:
        remedy += ", or --overwrite to replace these results"
        raise OutputError(folder, found="already exists and is not empty", needed=needed, remedy=remedy)


def _swap(beside: Path, folder: Path) -> None:
    """Put `beside` in the place of `folder`; what was there is gone only once that is done."""
    old = beside.with_suffix(".old")
    if folder.exists():
        folder.replace(old)
    try:
        beside.replace(folder)
    except OSError:
        if old.exists():
            old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with written_whole(path) as beside:
        beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
