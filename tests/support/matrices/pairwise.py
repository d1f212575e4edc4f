"""Rows that cover all pairs of values: most faults need two values to meet, few need three."""

import random
from collections.abc import Callable, Sequence
from itertools import combinations

Row = dict[str, object]
Factors = dict[str, tuple[object, ...]]
Pair = tuple[tuple[str, object], tuple[str, object]]


def all_pairs(factors: Factors, allowed: Callable[[Row], bool]) -> set[Pair]:
    """Every two factors' values that may meet, as (name, value), in the order of the factors."""
    cells = [(name, value) for name, values in factors.items() for value in values]
    return {(one, other) for one, other in combinations(cells, 2) if one[0] != other[0] and allowed(dict([one, other]))}


def pairwise(
    factors: Factors, allowed: Callable[[Row], bool], starts: Sequence[Row] = ({},), seed: int = 0
) -> list[Row]:  # fmt: skip
    """Rows in which every allowed pair occurs: greedy, the same for one seed.

    Each row begins as one of `starts`, which give values to some factors and together hold all pairs of these.
    """
    draw = random.Random(seed)
    pairs = all_pairs(factors, allowed)
    rows: list[Row] = []

    def news(row: Row) -> int:
        return len(pairs & pairs_in(row, factors))

    while pairs:
        options = []
        for pair in draw.choices(sorted(pairs, key=repr), k=20):
            fitting = [start for start in starts if all(start.get(name, value) == value for name, value in pair)]
            row = max((start | dict(pair) for start in draw.sample(fitting, len(fitting))), key=news)
            missing = [name for name in factors if name not in row]
            for name in draw.sample(missing, len(missing)):
                values = draw.sample(factors[name], len(factors[name]))
                row = max(filter(allowed, (row | {name: value} for value in values)), key=news)
            options.append(row)
        rows.append(max(options, key=news))
        pairs -= pairs_in(rows[-1], factors)
    return rows


def pairs_in(row: Row, factors: Factors) -> set[Pair]:
    """The pairs of a row, which may lack factors."""
    return set(combinations([(name, row[name]) for name in factors if name in row], 2))
