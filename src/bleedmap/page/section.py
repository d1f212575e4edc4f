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

    `rows`: a value a column. In CSV and JSON numbers stay numbers; in HTML they have the column's `digits`.
    """

    key: str  # name of its CSV file
    title: str  # one line
    note: str  # what every number here shares: n, kind of split, convention, interval, scale
    columns: tuple[str, ...]  # one name each; units in the name
    rows: tuple[tuple[Value, ...], ...]
    digits: dict[str, int] = field(default_factory=dict)  # decimals of a column's floats in HTML, where not 3


@dataclass(frozen=True)
class Picture:
    """A figure of a report, drawn when the report is written."""

    key: str  # name of its file
    alt: str  # what it shows, for a reader who cannot see it
    draw: "Callable[[], Figure]"  # draws it; its caption is part of it


@dataclass(frozen=True)
class Section:
    """One question and its answer."""

    key: str  # short name, an anchor in the page
    title: str  # the question
    words: tuple[str, ...]  # paragraphs; the answer comes first
    tables: tuple[Table, ...] = ()  # its tables
    pictures: tuple[Picture, ...] = ()  # its figures
    data: dict[str, Any] = field(default_factory=dict)  # everything else that report.json should hold
