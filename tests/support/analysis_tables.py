"""Results small enough to count by hand, and what an analysis' section says of them."""

import numpy as np

from bleedmap.metrics.overlap import Counts
from bleedmap_thesis.analyses import (
    paired_slices,
)
from bleedmap_thesis.plan import SCALES, Cell
from bleedmap_thesis.record import CellResult, Evaluation

SMALL = SCALES["small"]


def marked(ids: tuple[str, ...], hit, false, missed, epoch: int = 20) -> Evaluation:
    """Slices of 100 pixels with these counts."""
    columns = [np.array(column, np.int64) for column in (hit, false, missed)]
    counts = Counts(*columns, 100 - sum(columns))
    score = (counts.predicted / 100).astype(np.float32)
    return Evaluation(epoch, ids, score, counts, counts.true_positive * 1.0, counts.predicted * 1.0)


def result(kind, fold: int, evaluation: Evaluation, label: str = "model-2-b32", seed: int = 0) -> CellResult:
    cell = Cell("folds", "small", "u-net", label, kind, seed, fold, None)
    return CellResult(cell, {}, None, [], (evaluation,), None, {})


def table(section, key):
    return next(one for one in section.tables if one.key == key)


def column(of, name):
    return [row[of.columns.index(name)] for row in of.rows]


def of_main(made):
    return [one for one in made if one.cell.label == paired_slices.MAIN]


def of_folds(results, label, count=10):
    """The first `count` cells of a method's folds."""
    return [one for one in results if (one.cell.part, one.cell.label) == ("folds", label)][:count]
