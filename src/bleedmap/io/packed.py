"""Files that were packed one by one, by gzip, bzip2 or xz; other packers are known by name alone."""

import bz2
import lzma
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from isal import igzip, igzip_lib

_MARKS = {"gzip": b"\x1f\x8b", "bzip2": b"BZh", "xz": b"\xfd7zXZ\0"}
_OPEN: dict[str, Callable[[Any], Any]] = {
    "gzip": lambda stream: igzip.IGzipFile(fileobj=stream, mode="rb"), "bzip2": bz2.BZ2File, "xz": lzma.LZMAFile,
}  # fmt: skip
_ISAL_ERROR: Any = igzip_lib.IsalError  # an exception's class, which isal's stubs take for an instance
UNPACK_ERRORS = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, _ISAL_ERROR)
# Of what is packed or encrypted and cannot be opened here too: the name below tells what it was.
ENDINGS = (
    ".gz", ".bz2", ".xz", ".zst", ".zstd", ".lz4", ".lzma", ".lz", ".lzo", ".z", ".br", ".sz", ".7z", ".rar", ".gpg",
    ".age", ".enc",
)  # fmt: skip


def find_packing(start: bytes) -> str | None:
    """Say by which packer a file was packed that begins so, if it can be opened."""
    return next((name for name, mark in _MARKS.items() if start.startswith(mark)), None)


def open_packed(stream: BinaryIO, packing: str) -> BinaryIO:
    """Open what a stream holds, packed by a packer that `find_packing` named; it raises one of `UNPACK_ERRORS`."""
    opened: BinaryIO = _OPEN[packing](stream)
    return opened


def unpack_start(stream: BinaryIO, packing: str, most: int) -> bytes:
    """Unpack the first `most` bytes of a stream, as far as it goes."""
    unpacked = b""
    with suppress(*UNPACK_ERRORS):
        opened: Any = open_packed(stream, packing)
        while len(unpacked) < most and (data := opened.read1(most - len(unpacked))):
            unpacked += data
    return unpacked


def drop_packing(name: PurePosixPath) -> PurePosixPath:
    """Return a name without the ending that a packer added."""
    return name.with_suffix("") if name.suffix.lower() in ENDINGS and name.stem.strip(".") else name
