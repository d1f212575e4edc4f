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
def folder_written_whole(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a new folder beside `folder`; on leaving without an error it becomes `folder`, else it is removed.

    Raises:
        OutputError: `folder` holds files and `overwrite` is off, the disk is full, or it cannot be written.
    """
    is_file = folder.exists() and not folder.is_dir()
    if is_file or (folder.is_dir() and any(folder.iterdir()) and not overwrite):
        raise OutputError(
            folder,
            found="is a file" if is_file else "already exists and is not empty",
            needed="a new or empty folder for the results",
            remedy="give another folder" if is_file else "give another folder, or --overwrite to replace this one",
        )
    beside = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        beside.chmod(0o755)
        yield beside
        old = beside.with_suffix(".old")
        if folder.exists():
            folder.replace(old)
        beside.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    except BleedmapError:
        raise
    except OSError as error:
        raise output_error(folder, error) from error
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    with written_whole(path) as beside:
        beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
