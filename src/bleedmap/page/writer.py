"""Writes a report: an HTML page, tables as CSV. A page loads nothing from elsewhere, and runs only its own script."""

import base64
import csv
import hashlib
from collections.abc import Iterable, Sequence
from functools import cache
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.io.files import written_whole
from bleedmap.page.section import NOT_MEASURED, format_table, to_plain

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run these


@cache
def environment() -> Environment:
    """The templates of `page/templates`: text is escaped, and a name that is missing is an error.

    Every template knows `research_only`, `version`, `format_table` and `not_measured`.
    """
    made = Environment(
        loader=PackageLoader("bleedmap.page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    made.globals |= {
        "research_only": RESEARCH_ONLY, "version": __version__, "format_table": format_table,
        "not_measured": NOT_MEASURED,
    }  # fmt: skip
    made.filters["csp_hash"] = csp_hash
    return made


def csp_hash(script: str) -> str:
    """The source of a Content-Security-Policy that lets a page run this inline script and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def write_page(path: Path, template: str, **content: Any) -> None:
    """Render a template with `content` and write the page whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    page = environment().get_template(template).render(content)
    with written_whole(path) as part:
        part.write_text(page, encoding="utf-8")


def embed_png(path: Path) -> str:
    """A PNG file as a URI that an <img> holds."""
    return embed_picture("png", path.read_bytes())


def embed_jpeg(picture: Image.Image, quality: int) -> str:
    """A picture as JPEG, as a URI that an <img> holds; colour is kept whole, which thin lines need."""
    stream = BytesIO()
    picture.save(stream, format="JPEG", quality=quality, subsampling=0)
    return embed_picture("jpeg", stream.getvalue())


def embed_picture(kind: str, content: bytes) -> str:
    """A file's bytes, of the kind 'png' or 'jpeg', as a URI that an <img> holds."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Sequence[Any]], *, for_excel: bool = False) -> None:
    """Write rows under a line of column names; what is None or NaN is an empty field.

    Args:
        for_excel: where a letter is not ASCII, begin with a byte order mark: without it Excel takes another encoding.

    Raises:
        OutputError: the file cannot be written.
    """
    text = StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(columns)
    lines.writerows([spreadsheet_cell(value) for value in row] for row in rows)
    marked = for_excel and not text.getvalue().isascii()
    with written_whole(path) as part:
        part.write_text(text.getvalue(), "utf-8-sig" if marked else "utf-8", newline="")


def spreadsheet_cell(value: Any) -> Any:
    """A list as one text; what a spreadsheet would take for a formula gets a quote before it."""
    text = "; ".join(value) if isinstance(value, tuple | list) else to_plain(value)
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text
