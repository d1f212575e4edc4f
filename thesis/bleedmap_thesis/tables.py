"""Tables whose rows are dataclasses: a field is a column, an estimate is three."""

from collections.abc import Sequence
from dataclasses import Field, dataclass, fields
from typing import Annotated, Any, get_args, get_origin

import numpy as np

from bleedmap.page.section import Table, Value
from bleedmap.page.table import DOES_NOT_APPLY, to_plain


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; NaN where it cannot be had."""

    value: float
    low: float
    high: float


def tabulate(key: str, title: str, note: str, rows: Sequence[Any]) -> Table:
    """Make a table of one row or more, all of one dataclass.

    A column is named as its field, blanks for underscores; `Annotated[float, "F"]` gives another name, and
    `Annotated[float, "F", 2]` the decimals in print too. An `Estimate` takes the columns 'x', 'x low' and 'x high';
    None in its place says that it does not apply.
    """
    names: list[str] = []
    digits: dict[str, int] = {}
    for one in fields(rows[0]):
        kind, name, *decimals = _read_annotation(one)
        names += name_interval(name) if _is_estimate(kind) else [name]
        digits |= {name: decimals[0]} if decimals else {}
    return Table(key, title, note, tuple(names), tuple(_list_cells(row) for row in rows), digits)


def _read_annotation(one: Field[Any]) -> tuple[Any, ...]:
    """Read a field's type, the name of its column, and its decimals where they are given."""
    name = one.name.replace("_", " ")
    return get_args(one.type) if get_origin(one.type) is Annotated else (one.type, name)


def name_interval(name: str) -> tuple[str, str, str]:
    """Name the columns of a measure and both ends of its interval, which the page prints as one."""
    return name, f"{name} low", f"{name} high"


def _is_estimate(kind: Any) -> bool:
    return kind in (Estimate, Estimate | None)


def _list_cells(row: Any) -> tuple[Value, ...]:
    cells: list[Value] = []
    for one in fields(row):
        value = getattr(row, one.name)
        if isinstance(value, Estimate):
            cells += [_to_value(value.value), _to_value(value.low), _to_value(value.high)]
        elif _is_estimate(_read_annotation(one)[0]):
            cells += [DOES_NOT_APPLY, None, None]
        else:
            cells.append(_to_value(value))
    return tuple(cells)


def _to_value(value: Any) -> Value:
    """Give a number of Python's own, or text; None for NaN, which JSON does not have."""
    plain: Value = to_plain(value.item() if isinstance(value, np.generic) else value)
    return plain
