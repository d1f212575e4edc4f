"""What a report is made of: sections of words, tables and pictures. Each analysis makes one; the report prints them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Value = str | int | float | None  # None prints as 'not measured'


@dataclass(frozen=True)
class Table:
    """A table of a report: rows under columns.

    Attributes:
        key: name of its CSV file.
        title: one line.
        note: what every number here shares: n, kind of split, convention, interval, scale.
        columns: one name each; units in the name.
        rows: a value a column. In CSV and JSON numbers stay numbers; in HTML they have the column's `digits`.
        digits: decimals of a column's floats in HTML, where not 3.
    """

    key: str
    title: str
    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    digits: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Picture:
    """A figure of a report, drawn when the report is written.

    Attributes:
        key: name of its file.
        alt: what it shows, for a reader who cannot see it.
        draw: draws it; its caption is part of it.
    """

    key: str
    alt: str
    draw: "Callable[[], Figure]"


@dataclass(frozen=True)
class Section:
    """One question and its answer.

    Attributes:
        key: short name, an anchor in the page.
        title: the question.
        words: paragraphs; the answer comes first.
        tables: its tables.
        pictures: its figures.
        data: everything else that report.json should hold.
    """

    key: str
    title: str
    words: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
