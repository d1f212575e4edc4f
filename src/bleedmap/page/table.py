"""How a report prints its tables: numbers rounded, a measure and the ends of its interval in one column."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

from bleedmap.page.section import Table, Value

NOT_MEASURED = "not measured"
DOES_NOT_APPLY = "–"
_DIGITS = 3


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
        text = [_text(value, digits) for value in values]
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


def _with_interval(text: str, low: Value, high: Value, digits: int) -> str:
    if low is None or high is None or text == NOT_MEASURED:
        return text
    return f"{text} ({_text(low, digits)} to {_text(high, digits)})"


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
