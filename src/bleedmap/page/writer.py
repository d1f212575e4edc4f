"""Writes a report: an HTML page that stands alone, tables as CSV. No page runs a script or loads anything."""

import base64
import csv
from collections.abc import Iterable, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from bleedmap import RESEARCH_ONLY, __version__
from bleedmap.io.files import written_whole
from bleedmap.page.table import NOT_MEASURED, format_table, to_plain

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
    return made


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
    return _data_uri("png", path.read_bytes())


def embed_jpeg(picture: Image.Image, quality: int) -> str:
    """A picture as JPEG, as a URI that an <img> holds; colour is kept whole, which thin lines need."""
    stream = BytesIO()
    picture.save(stream, format="JPEG", quality=quality, subsampling=0)
    return _data_uri("jpeg", stream.getvalue())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows under a line of column names; what is None or NaN is an empty field.

    Raises:
        OutputError: the file cannot be written.
    """
    with written_whole(path) as part, part.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream, lineterminator="\n")
        lines.writerow(columns)
        lines.writerows([spreadsheet_cell(value) for value in row] for row in rows)


def spreadsheet_cell(value: Any) -> Any:
    """A list as one text; what a spreadsheet would take for a formula gets a quote before it."""
    text = "; ".join(value) if isinstance(value, tuple) else to_plain(value)
    return f"'{text}" if isinstance(text, str) and text.startswith(_FORMULA) else text
