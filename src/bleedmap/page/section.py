"""What a report is made of: sections of words, tables and pictures; and how its tables are printed.

Numbers are rounded, a measure and the ends of its interval stand in one column.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOT_MEASURED = "not measured"
DOES_NOT_APPLY = "–"
_DIGITS = 3

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
class Estimate:
    """A number and its 95 % interval; NaN where it cannot be had."""

    value: float
    low: float
    high: float


NOT_APPLICABLE = Estimate(nan, nan, nan)  # a dash: where a measure has no meaning, unlike one that cannot be had
Row = Mapping[str, Any]  # name of the column -> text, number or Estimate


def tabulate(
    key: str, title: str, note: str, rows: Sequence[Row | Sequence[tuple[str, Any]]],
    digits: Mapping[str, int] | None = None,
) -> Table:  # fmt: skip
    """Make a table of one row or more, all with the same columns; an `Estimate` takes 'x', 'x low' and 'x high'.

    Columns that bear a name of somebody's choice, which may be that of another column, are given as (name, value)
    pairs. Numbers of arrays become Python's own, and NaN becomes None: JSON has neither.
    """
    pairs = [list(row.items()) if isinstance(row, Mapping) else row for row in rows]
    columns: list[str] = []
    for name, value in pairs[0]:
        columns += name_interval(name) if isinstance(value, Estimate) else [name]
    cells = tuple(tuple(cell for _, value in row for cell in _list_cells(value)) for row in pairs)
    return Table(key, title, note, tuple(columns), cells, dict(digits or {}))


def estimate_or_dash(value: float | None, low: float | None, high: float | None) -> Estimate:
    """An estimate from numbers that are None where they cannot be had; without a value, a dash."""
    if value is None:
        return NOT_APPLICABLE
    return Estimate(value, nan if low is None else low, nan if high is None else high)


def _list_cells(value: Any) -> list[Value]:
    if value is NOT_APPLICABLE:
        return [DOES_NOT_APPLY, None, None]
    parts = [value.value, value.low, value.high] if isinstance(value, Estimate) else [value]
    return [to_plain(one.item() if hasattr(one, "item") else one) for one in parts]


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


@dataclass(frozen=True, eq=False)
class PrintedTable:
    """A table as the page prints it: `heads`, whether each column is `numeric`, and `rows` of text."""

    heads: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


def format_table(table: Table) -> PrintedTable:
    """Round the numbers of a table; a column `X` that `X low` and `X high` follow becomes one, `X (low to high)`."""
    heads, numeric, columns = [], [], []
    names, index = table.columns, 0
    while index < len(names):
        name, digits = names[index], table.digits.get(names[index], _DIGITS)
        values = [to_plain(row[index]) for row in table.rows]
        text = [_p_value(value) if name.rpartition(" ")[2] == "p" else _text(value, digits) for value in values]
        numeric.append(all(value in (None, "", DOES_NOT_APPLY) or isinstance(value, int | float) for value in values))
        if [other.split()[-1] for other in names[index + 1 : index + 3]] == ["low", "high"]:
            ends = [(to_plain(row[index + 1]), to_plain(row[index + 2])) for row in table.rows]
            text = [_with_interval(one, low, high, digits) for one, (low, high) in zip(text, ends, strict=True)]
            index += 2
        heads.append(name)
        columns.append(text)
        index += 1
    return PrintedTable(tuple(heads), tuple(numeric), tuple(zip(*columns, strict=True)))


def _text(value: Value, digits: int) -> str:
    if value is None:
        return NOT_MEASURED
    if isinstance(value, float):
        return f"{value:z,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else value


def _p_value(value: Value) -> str:
    """A p to three decimals; one that rounds to 0 is below 0.001, for none is 0."""
    return "< 0.001" if isinstance(value, float) and 0 <= value < 0.0005 else _text(value, _DIGITS)


def _with_interval(text: str, low: Value, high: Value, digits: int) -> str:
    if low is None or high is None or text == NOT_MEASURED:
        return text
    return f"{text} ({_text(low, digits)} to {_text(high, digits)})"


def name_interval(name: str) -> tuple[str, str, str]:
    """Name the columns of a measure and both ends of its interval, which the page prints as one."""
    return name, f"{name} low", f"{name} high"


def or_dash(value: Value) -> Value:
    """The value, or a dash where it cannot be had (None or NaN)."""
    return DOES_NOT_APPLY if to_plain(value) is None else value


def to_plain(value: Any) -> Any:
    """The value itself, or None for NaN and infinity, which JSON does not have."""
    return None if isinstance(value, float) and not isfinite(value) else value


def to_json(content: Any) -> Any:
    """Nested content as JSON can hold it: names are text, NaN and infinity are None."""
    if isinstance(content, dict):
        return {str(name): to_json(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [to_json(value) for value in content]
    return to_plain(content)
