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

_PART = ".part-"  # begins the names of what is not finished
_LIST = ".bleedmap.json"  # in each folder of results: its files
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
    beside = path.with_name(f"{_PART}{os.getpid()}.{path.name}")  # keeps the suffix, which tells writers the format
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
    """Yield a new folder to write into; on leaving without an error its files become those of `folder`.

    The files are listed in `folder`/.bleedmap.json, so that a later overwrite replaces just these. On an error
    nothing stays of them.

    Raises:
        OutputError: as `refuse_folder`; the disk is full, or the folder cannot be written.
    """
    refuse_folder(folder, overwrite=overwrite)
    beside = None
    try:
        # In a folder that exists we work inside it: it may be a mount, a link, or the working directory.
        place = folder if folder.is_dir() else folder.parent
        place.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=_PART, dir=place))
        beside.chmod(0o755)
        yield beside
        names = sorted(str(path.relative_to(beside)) for path in beside.rglob("*") if path.is_file())
        write_json(beside / _LIST, {"program": "bleedmap", "files": names})
        if folder.is_dir():
            _replace_results(folder, beside)
        else:
            beside.replace(folder)
    except BleedmapError:
        raise
    except OSError as error:
        raise output_error(folder, error) from error
    finally:
        if beside is not None:
            shutil.rmtree(beside, ignore_errors=True)


def refuse_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a place for results that holds anything else: to be asked before long work begins.

    Raises:
        OutputError: `folder` is a file, holds files of others, or earlier results without `overwrite`.
    """
    needed, remedy = "a new or empty folder for the results", "give another folder"
    if folder.exists() and not folder.is_dir():
        raise OutputError(folder, found="is a file", needed=needed, remedy=remedy)
    files = _files_of(folder) if folder.is_dir() else set()
    strangers = sorted(files - _listed(folder) - {_LIST})
    if strangers:
        more = f" and {len(strangers) - 3} more" if len(strangers) > 3 else ""
        found = f"holds files that are not earlier results of bleedmap: {', '.join(strangers[:3])}{more}"
        raise OutputError(folder, found=found, needed=needed, remedy=remedy)
    if files and not overwrite:
        remedy += ", or --overwrite to replace these results"
        raise OutputError(folder, found="already holds results", needed=needed, remedy=remedy)


def _files_of(folder: Path) -> set[str]:
    """Everything in `folder` but what a killed run may have left behind."""
    inside = (path for path in folder.iterdir() if not path.name.startswith(_PART))
    return {
        str(path.relative_to(folder))
        for top in inside
        for path in ([top] if top.is_symlink() or not top.is_dir() else [top, *top.rglob("*")])
        if path.is_symlink() or not path.is_dir()
    }


def _listed(folder: Path) -> set[str]:
    try:
        return set(json.loads((folder / _LIST).read_text("utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _replace_results(folder: Path, beside: Path) -> None:
    """Earlier results out, new ones in. The list names both meanwhile: after a kill none is taken for a stranger's."""
    earlier = _listed(folder)
    write_json(folder / _LIST, {"program": "bleedmap", "files": sorted(earlier | _listed(beside))})
    for name in earlier:
        (folder / name).unlink(missing_ok=True)
    emptied = {parent for name in earlier for parent in Path(name).parents if parent != Path()}
    for parent in sorted(emptied, key=lambda path: -len(path.parts)):
        with suppress(OSError):  # a stranger's file came into it meanwhile
            (folder / parent).rmdir()
    for path in sorted(beside.iterdir(), key=lambda path: path.name == _LIST):
        path.replace(folder / path.name)


def write_json(path: Path, content: Any, *, compact: bool = False) -> None:
    """Write `content` as indented JSON, or as one line, whole or not at all."""
    text = json.dumps(content, ensure_ascii=False, **({"separators": (",", ":")} if compact else {"indent": 2}))
    with written_whole(path) as beside:
        beside.write_text(text + "\n", encoding="utf-8")
