"""Files and folders that are written whole or not at all: under a temporary name first, then renamed.

Network shares and mounts of object stores refuse calls that a disk of one's own answers: rename, fsync. There a file
is copied to its name instead, and the disk is trusted to keep what was written.
"""

import codecs
import csv
import errno
import io
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

from bleedmap.errors import InputError, OutputError
from bleedmap.io.names import LONGEST_NAME, short_hash

_NO_DISK = ("/proc/", "/sys/", "/dev/")  # of Linux: what lies there is no file of anybody's
_MEMORY = "/dev/shm/"  # but here
_PART = ".part-"  # begins the names of what is not finished
_SUFFIX = 12  # characters at a name's end that hold its suffix
_LIST = ".bleedmap.json"  # in each folder of results: its files
_NEW_FOLDER, _OTHER_FOLDER = "a new or empty folder for the results", "give another folder"
_NO_SPACE = "free some space on that disk, or write elsewhere"
_REMEDIES = {
    errno.ENOSPC: _NO_SPACE,
    errno.EDQUOT: f"{_NO_SPACE}: your quota there is used up",
    errno.EIO: "check that disk, or the connection to it, or write elsewhere",
    errno.EACCES: "write to a folder that you own",
    errno.EROFS: "write to a disk that is not read-only",
    errno.ENAMETOOLONG: "give a folder whose path is shorter",
    errno.ENOTDIR: "give a folder; a part of this path is a file",
}
# What a share answers that cannot do a call, in place of having failed at it.
REFUSALS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM, errno.EACCES})
_CANNOT_RENAME = REFUSALS | {errno.EXDEV, errno.EBUSY}


def output_error(path: Path, error: OSError) -> OutputError:
    """The error to show for a failed write to `path`."""
    return OutputError(
        path,
        found=f"cannot be written: {error.strerror or error}",
        needed="a folder that can be written, with space left",
        remedy=_REMEDIES.get(error.errno or 0, "write to another folder"),
    )


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Give what the disk refuses within as the error of a failed write to `path`."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


def explain_os_error(error: OSError) -> OutputError:
    """The error to show where the system refused a call that nobody expected it to refuse."""
    return OutputError(
        os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "the system",
        found=error.strerror or str(error), needed="files and folders that can be read and written, with space left",
        remedy=_REMEDIES.get(error.errno or 0, "check that path, and the rights to it"),
    )  # fmt: skip


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on leaving without an error its file takes the place of `path`, else it is removed.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    # No longer than a short name, and with the suffix, which tells writers the format.
    temporary = path.with_name(f"{_PART}{os.getpid()}.{short_hash(path.name)}{path.name[-_SUFFIX:]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        move(temporary, path)
        if not any(part.startswith(_PART) for part in path.parts):  # a folder's are written down with the folder
            sync(path.parent)
    except OSError as error:
        raise output_error(path, error) from error
    finally:
        with suppress(OSError):  # missing_ok does not cover a parent that is a file
            temporary.unlink(missing_ok=True)


@contextmanager
def folder_written_whole(folder: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a new folder to write into; on leaving without an error its files become those of `folder`.

    The files are listed in `folder`/.bleedmap.json, so that a later overwrite replaces just these. On an error
    nothing stays of them.

    Raises:
        OutputError: as `refuse_content`; the disk is full, or the folder cannot be written.
    """
    refuse_content(folder, overwrite=overwrite)
    temporary = None
    try:
        # In a folder that exists we work inside it: it may be a mount, a link, or the working directory.
        place = folder if folder.is_dir() else folder.parent
        place.mkdir(parents=True, exist_ok=True)
        temporary = place / f"{_PART}{secrets.token_hex(6)}"
        temporary.mkdir()  # with the rights that the user gives to new folders, and the place to what lies in it
        yield temporary
        names = sorted(str(path.relative_to(temporary)) for path in temporary.rglob("*") if path.is_file())
        write_json(temporary / _LIST, {"program": "bleedmap", "files": names})
        if folder.is_dir():
            _replace_results(folder, temporary)
        else:
            move(temporary, folder)
        sync(place)
    except OSError as error:
        raise output_error(folder, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def walk(
    folder: Path, *, enters: Callable[[Path], bool] = lambda inside: True,
    on_error: Callable[[OSError], None] | None = None,
) -> Iterator[tuple[Path, list[str]]]:  # fmt: skip
    """Go through a folder and all below it, in the order of names; links to folders are followed.

    A folder is entered once, by whatever names it has, so that links in a circle end. A link to a folder above this one
    is not followed: it leads to everything else.

    Args:
        enters: asked for each folder below; those for which it is False are left out with all that they hold.
        on_error: told of folders that cannot be opened; None: they are left out.

    Yields:
        Each folder, as it was reached, with the names of its files.
    """
    root = folder.resolve()
    entered = {root}

    def is_new(inside: Path) -> bool:
        try:
            real = inside.resolve()
        except (OSError, RuntimeError):  # a link to itself
            return False
        kernels = str(real).startswith(_NO_DISK) and not str(real).startswith(_MEMORY)
        if real in entered or root.is_relative_to(real) or kernels or not enters(inside):
            return False
        entered.add(real)
        return True

    for top, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        folders[:] = [name for name in sorted(folders) if is_new(Path(top, name))]
        yield Path(top), sorted(names)


def is_plain_file(path: Path) -> bool:
    """Whether a path leads to a plain file: a pipe or a device might give nothing for ever.

    Raises:
        OSError: it is not there, or cannot be followed.
    """
    return stat.S_ISREG(path.stat().st_mode)  # asked of the link itself: where /dev/stdin leads has no path


def refuse_special(path: Path) -> None:
    """Refuse a pipe or a device. A path that is not there passes.

    Raises:
        InputError: it is one, or a link to one.
    """
    try:
        special = not is_plain_file(path) and not path.is_dir()
    except OSError:  # opening it will say why
        return
    if special:
        remedy = "write what comes from it to a file, and give that"
        raise InputError(path, found="a pipe or a device", needed="a file", remedy=remedy)


def refuse_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a place where results cannot be written: to be asked before long work begins.

    Raises:
        OutputError: as `refuse_content` and `try_to_write`.
    """
    with writing(folder):
        refuse_content(folder, overwrite=overwrite)
    try_to_write(folder)


def try_to_write(folder: Path) -> None:
    """Write an empty file of the longest name that results have into `folder`, and remove it.

    Where the folder is not there yet, this is done in the one above, and the length of its path is counted: another
    process may be about to make it.

    Raises:
        OutputError: the disk takes no files there, or none of such a name or path.
    """
    name = f"{_PART}{os.getpid()}.{LONGEST_NAME}"
    with writing(folder):
        missing = [one for one in (folder, *folder.parents) if not one.exists()]
        place = missing[-1].parent if missing else folder
        trial = place / f"{_PART}{secrets.token_hex(6)}"
        try:
            trial.mkdir()
            (trial / name).touch()
        finally:
            shutil.rmtree(trial, ignore_errors=True)
        if hasattr(os, "pathconf"):
            longest = max(len(os.fsencode(one.name)) for one in (*missing, trial))
            whole = len(os.fsencode((folder / trial.name / name).absolute()))
            if longest > os.pathconf(place, "PC_NAME_MAX") or whole >= os.pathconf(place, "PC_PATH_MAX"):
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))


def refuse_content(folder: Path, *, overwrite: bool) -> None:
    """Refuse a place for results that holds anything else.

    Raises:
        OutputError: `folder` is a file, holds files of others, or earlier results without `overwrite`.
    """
    files = _files_of(folder) if folder.is_dir() else set()
    refuse_foreign_files(folder, files - _listed(folder) - {_LIST})
    if files and not overwrite:
        raise OutputError(
            folder, found="already holds results", needed=_NEW_FOLDER,
            remedy=f"{_OTHER_FOLDER}, or --overwrite to replace these results",
        )  # fmt: skip


def refuse_foreign_files(folder: Path, foreign_files: Collection[str]) -> None:
    """Refuse a folder of results that is a file, or that holds `foreign_files`, which bleedmap did not write.

    Raises:
        OutputError: so it is.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(folder, found="is a file", needed=_NEW_FOLDER, remedy=_OTHER_FOLDER)
    if foreign_files:
        more = f" and {len(foreign_files) - 3:,} more" if len(foreign_files) > 3 else ""
        found = (
            f"holds files that are not earlier results of this command: {', '.join(sorted(foreign_files)[:3])}{more}"
        )
        raise OutputError(folder, found=found, needed=_NEW_FOLDER, remedy=_OTHER_FOLDER)


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


def _replace_results(folder: Path, temporary: Path) -> None:
    """Replace earlier results by new ones; meanwhile the list names both, so that a kill leaves no foreign file."""
    earlier = _listed(folder)
    write_json(folder / _LIST, {"program": "bleedmap", "files": sorted(earlier | _listed(temporary))})
    for name in earlier:
        (folder / name).unlink(missing_ok=True)
    emptied = {parent for name in earlier for parent in Path(name).parents if parent != Path()}
    for parent in sorted(emptied, key=lambda path: -len(path.parts)):
        with suppress(OSError):  # a foreign file came into it meanwhile
            (folder / parent).rmdir()
    for path in sorted(temporary.iterdir(), key=lambda path: path.name == _LIST):
        move(path, folder / path.name)


def move(source: Path, target: Path) -> None:
    """Rename a file, or a folder to a name that is free; where renaming is refused, copy it and remove the source.

    A copy takes longer than a renaming, and may be cut short by a kill: then a file is incomplete under its name, and
    a folder of results has its list already, so that a later run can replace it. After an error, the target is as it
    was before.

    Raises:
        OSError: neither can be done.
    """
    try:
        source.replace(target)
    except OSError as error:
        if error.errno not in _CANNOT_RENAME:
            raise
        (_copy_folder if source.is_dir() else _copy_file)(source, target)


def _copy_file(source: Path, target: Path) -> None:
    """Copy to a name that may be taken, whose file is kept beside it until the copy is whole; remove the source."""
    earlier = None
    if target.exists():
        earlier = target.with_name(f"{_PART}{os.getpid()}.earlier")
        _write_copy(target, earlier)
    try:
        _write_copy(source, target)
    except BaseException:
        if earlier is None:
            target.unlink(missing_ok=True)
        else:
            _write_copy(earlier, target)
            earlier.unlink()
        raise
    if earlier is not None:
        earlier.unlink()
    source.unlink()


def _write_copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    with suppress(OSError):  # the file of a cache is its owner's alone
        shutil.copymode(source, target)
    sync(target)


def _copy_folder(source: Path, target: Path) -> None:
    """Copy to a name that is free, the list of files both first, so that a kill leaves no foreign file, and last."""
    if target.is_dir() and not any(target.iterdir()):  # as renaming allows
        target.rmdir()
    target.mkdir()
    try:
        if (source / _LIST).is_file():
            _write_copy(source / _LIST, target / _LIST)
        for path in sorted(source.rglob("*"), key=lambda path: (path == source / _LIST, path)):
            place = target / path.relative_to(source)
            if path.is_dir():
                place.mkdir()
            else:
                _write_copy(path, place)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    shutil.rmtree(source, ignore_errors=True)  # what stays of it has a name that is passed over


def sync(path: Path) -> None:
    """Have a file, or the names in a folder, written down by the disk, if the disk takes the order."""
    is_folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    except OSError:
        if is_folder:  # Windows and some shares open none
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
    finally:
        os.close(descriptor)


class Row(dict[str, str]):
    """A row of a table: its cells by column, and the number of its line in the file."""

    line: int

    def __init__(self, cells: Mapping[str, str], line: int) -> None:
        super().__init__(cells)
        self.line = line


def read_csv(path: Path) -> list[Row]:
    """Read a table with a line of column names, a line a row, without the spaces around its cells.

    Columns are separated by commas, tabs or, as spreadsheets write them in many countries, by semicolons. The text is
    UTF-8, UTF-16 with its mark, or else Windows-1252. Empty lines are left out.

    Raises:
        OSError, UnicodeError, csv.Error: it cannot be read, or two columns have one name.
    """
    content = path.read_bytes()  # all at once: a pipe cannot be read again
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        raise csv.Error("a spreadsheet of Excel or the like, or another archive, not its text")
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            if b"\0" in content:
                raise
            text = content.decode("cp1252")
    first, _, rest = text.partition("\n")
    before = 0
    if first.casefold().startswith("sep="):  # Excel's own line
        text, first, before = rest, rest.partition("\n")[0], 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    lines = (line for line in reader if any(map(str.strip, line)))
    names = [name.strip() for name in next(lines, ())]
    if twice := next((name for row, name in enumerate(names) if name and name in names[:row]), None):
        raise csv.Error(f"two columns are called '{twice}'")
    return [
        Row(dict(zip_longest(names, map(str.strip, line[: len(names)]), fillvalue="")), before + reader.line_num)
        for line in lines
    ]


def write_json(path: Path, content: Any, *, compact: bool = False) -> None:
    """Write `content` as indented JSON, or as one line, whole or not at all."""
    text = json.dumps(content, ensure_ascii=False, **({"separators": (",", ":")} if compact else {"indent": 2}))
    with written_whole(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
