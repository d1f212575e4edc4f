"""Tables whose rows name their columns: an estimate takes three of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bleedmap.page.section import DOES_NOT_APPLY, Table, Value, name_interval, to_plain


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; NaN where it cannot be had."""

    value: float
    low: float
    high: float


NOT_APPLICABLE = Estimate(np.nan, np.nan, np.nan)  # where a measure has no meaning, unlike one that cannot be had
Row = Mapping[str, Any]  # name of the column -> text, number or Estimate


def tabulate(key: str, title: str, note: str, rows: Sequence[Row], digits: Mapping[str, int] | None = None) -> Table:
    """Make a table of one row or more, all with the same columns; an `Estimate` takes 'x', 'x low' and 'x high'."""
    columns: list[str] = []
    for name, value in rows[0].items():
        columns += name_interval(name) if isinstance(value, Estimate) else [name]
    cells = tuple(tuple(cell for value in row.values() for cell in _list_cells(value)) for row in rows)
    return Table(key, title, note, tuple(columns), cells, dict(digits or {}))


def _list_cells(value: Any) -> tuple[Value, ...]:
    """List a value's cells: numbers are Python's own, and None stands for NaN, which JSON does not have."""
    if value is NOT_APPLICABLE:
        return DOES_NOT_APPLY, None, None
    if isinstance(value, Estimate):
        return to_plain(float(value.value)), to_plain(float(value.low)), to_plain(float(value.high))
    return (to_plain(value.item() if isinstance(value, np.generic) else value),)
