"""Multipart bodies (PS3.18 8.6.1.2): each part as a file, without holding the body."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser

_CHUNK = 1 << 20


class PartsError(Exception):
    """A body that is no multipart one, or is cut short; the text says which."""


def split_parts(read: Callable[[int], bytes], boundary: bytes, target: Path) -> Iterator[Path]:
    """Give each part of a multipart body as a file, which the next one replaces.

    Args:
        read: gives the body, piece by piece.
        target: begins the names of the files.

    Raises:
        PartsError: no multipart body, or its end is missing.
    """
    state: dict[str, Any] = {"file": None, "ended": False}
    done: list[Path] = []

    def begin() -> None:
        state["file"] = target.with_suffix(f".{secrets.token_hex(4)}").open("xb")

    def end_part() -> None:
        state["file"].close()
        done.append(Path(state["file"].name))

    def end() -> None:
        state["ended"] = True

    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": begin, "on_part_data": lambda data, first, last: state["file"].write(data[first:last]),
            "on_part_end": end_part, "on_end": end,
        },
    )  # fmt: skip
    try:
        while data := read(_CHUNK):
            parser.write(data)
            while done:
                path = done.pop(0)
                try:
                    yield path
                finally:
                    path.unlink(missing_ok=True)
        parser.finalize()
    except MultipartParseError as error:
        raise PartsError("is no multipart one") from error
    finally:
        if state["file"] is not None:
            state["file"].close()
        for path in target.parent.glob(f"{target.stem}.*"):
            path.unlink(missing_ok=True)
    if not state["ended"]:
        raise PartsError("is cut short")
