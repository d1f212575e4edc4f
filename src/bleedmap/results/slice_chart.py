"""A bar for each slice, feet to head: where things stand in the report's drawing."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

WIDTH, HEIGHT = 940, 132  # of the whole drawing, in its own units
_LEFT, _RIGHT, _TOP, _FLOOR = 46, 932, 10, 106  # of the bars' field
_LABELS = 16  # slice numbers under the bars, at most


@dataclass(frozen=True)
class Bar:
    """One slice: its place in the drawing, and the words that a pointer shows."""

    x: float
    y: float
    width: float
    height: float
    words: str


@dataclass(frozen=True)
class Tick:
    """A label along an axis, and where."""

    at: float
    label: str


@dataclass(frozen=True)
class SliceChart:
    """A drawing of `WIDTH` × `HEIGHT`.

    Attributes:
        bars: one a slice, also where it is flat.
        values: labels up the left side, with a line across each.
        slices: slice numbers beneath.
        line: height of the dashed line across, None for none.
        curve: (x, y) of a second value on each slice; () for none.
    """

    bars: tuple[Bar, ...]
    values: tuple[Tick, ...]
    slices: tuple[Tick, ...]
    line: float | None
    curve: tuple[tuple[float, float], ...] = ()
    left: float = _LEFT
    right: float = _RIGHT
    floor: float = _FLOOR
    width: float = WIDTH
    height: float = HEIGHT

    @property
    def points(self) -> str:
        """The curve as SVG writes it."""
        return " ".join(f"{x},{y}" for x, y in self.curve)


def slice_chart(
    values: Sequence[float], words: Sequence[str], *, top: float, line: float | None = None,
    curve: Sequence[float] = (),
) -> SliceChart:  # fmt: skip
    """Lay out one bar a slice.

    Args:
        values: one a slice, from 0 to `top`.
        words: one a slice, for a pointer over its bar.
        top: the value at the field's upper edge, above 0.
        line: the value at which a dashed line runs across.
        curve: one a slice, or none, from 0 to `top`: a second value that a line joins.
    """
    step = (_RIGHT - _LEFT) / len(values)
    width = min(0.78 * step, 36.0)
    bars = tuple(
        Bar(_LEFT + (index + 0.5) * step - width / 2, _up(value, top), width, _FLOOR - _up(value, top), said)
        for index, (value, said) in enumerate(zip(values, words, strict=True))
    )
    every = next(one for one in (1, 5, 10, 20, 50, 100, 200) if len(values) <= _LABELS * one or one == 200)
    numbers = [number for number in range(1, len(values) + 1) if number == 1 or number % every == 0]
    return SliceChart(
        bars=bars,
        values=tuple(Tick(_up(part * top, top), f"{part * top:g}") for part in (0.0, 0.5, 1.0)),
        slices=tuple(Tick(_LEFT + (number - 0.5) * step, str(number)) for number in numbers),
        line=None if line is None else _up(line, top),
        curve=tuple((round(_LEFT + (index + 0.5) * step, 2), _up(value, top)) for index, value in enumerate(curve)),
    )


def round_top(highest: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10, … (any power of ten) that holds `highest`, which is above 0."""
    power = 10.0 ** floor(log10(highest))
    return next(factor * power for factor in (1, 2, 4, 6, 8, 10) if highest <= factor * power * (1 + 1e-9))


def _up(value: float, top: float) -> float:
    return round(_FLOOR - (_FLOOR - _TOP) * value / top, 2)
