"""Table 1 beside ours: the right cells, seeds and measures."""

from dataclasses import replace

import numpy as np
import pytest

from bleedmap.metrics import overlap
from bleedmap.metrics.overlap import Counts
from bleedmap_thesis.analyses import table1
from bleedmap_thesis.analyses.lesion_free import estimate_share
from bleedmap_thesis.analyses.table1 import measure
from bleedmap_thesis.analyses.trained_conventions import score_as_compared
from bleedmap_thesis.plan import SCALES
from bleedmap_thesis.record import Evaluation
from synthetic_cells import synthetic_cells

SMALL = SCALES["small"]


@pytest.fixture(scope="module")
def grid():
    return synthetic_cells(SMALL, parts=("grid",))


def test_table_1_takes_the_cell_and_epoch_that_it_names(grid):
    made = table1.section(grid, SMALL, resamples=20)
    result = next(one for one in grid if (one.cell.label, one.cell.kind) == ("model-1-b16", "slice"))
    expected = score_as_compared(next(one for one in result.evaluations if one.epoch == SMALL.epochs(600)))
    table = made.tables[0]
    row = next(row for row in table.rows if (row[0], row[1], row[3]) == ("Model 1", 16, 600))
    assert row[table.columns.index("Dice")] == pytest.approx(expected["dice"])
    assert row[table.columns.index("accuracy %")] == pytest.approx(100 * expected["accuracy"])
    assert row[table.columns.index("epochs, here")] == SMALL.epochs(600)


def test_a_cell_trained_alone_takes_the_place_of_one_passed_through(grid):
    result = next(one for one in grid if (one.cell.label, one.cell.kind) == ("model-2-b32", "slice"))
    own = replace(result.evaluations[0], epoch=SMALL.epochs(1000))
    alone = replace(result, cell=replace(result.cell, label="model-2-b32-alone-1000"), evaluations=(own,))
    table = table1.section([*grid, alone], SMALL, resamples=20).tables[0]
    row = next(row for row in table.rows if (row[0], row[1], row[3]) == ("Model 2", 32, 1000))
    assert row[table.columns.index("Dice")] == pytest.approx(score_as_compared(own)["dice"])


def test_several_seeds_give_mean_and_range(grid):
    evaluations = [one.last for one in grid if one.cell.kind == "slice"][:2]
    found = measure(evaluations, resamples=50)["dice"]
    single = [score_as_compared(one)["dice"] for one in evaluations]
    assert found.value == pytest.approx(np.mean(single))
    assert (found.lowest_seed, found.highest_seed) == pytest.approx((min(single), max(single)))
    assert found.low < found.value < found.high


def test_the_two_ious_have_two_names(grid):
    table = table1.section(grid, SMALL, resamples=20).tables[0]
    result = next(one for one in grid if (one.cell.label, one.cell.kind) == ("model-2-b32", "slice"))
    counts = next(one for one in result.evaluations if one.epoch == SMALL.epochs(1000)).counts
    lesion = counts.rows(counts.reference > 0)
    row = next(row for row in table.rows if (row[0], row[1], row[3]) == ("Model 2", 32, 1000))
    own, whole = overlap.iou(lesion, empty=0.0).mean(), overlap.mean_iou(lesion, empty=0.0).mean()
    assert row[table.columns.index("IoU (lesion)")] == pytest.approx(own)
    assert row[table.columns.index("mean IoU (lesion and background)")] == pytest.approx(whole)
    assert row[table.columns.index("mean IoU, thesis")] == 0.85
    assert "mean IoU" not in table.columns


def test_where_no_lesion_free_slice_is_marked_the_interval_is_not_a_point():
    zeros = np.zeros(40, np.int64)
    lesion = np.where(np.arange(40) < 8, 10, 0)
    counts = Counts(lesion // 2, zeros, lesion - lesion // 2, 100 - lesion)
    ids = tuple(f"{index:03d}/1" for index in range(40))
    one = Evaluation(1, ids, counts.predicted.astype(np.float32), counts)
    found = measure([one], resamples=20)["lesion_free_slices_marked"]
    expected = estimate_share(one.patients[8:], np.zeros(32, np.bool_))
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 100 * expected.high))
    assert 10 < found.high < 11  # Wilson's for 0 of 32


def test_a_seed_trained_alone_leaves_the_other_seeds_in_place():
    grid = synthetic_cells(SMALL, seeds=3, parts=("grid",))
    result = next(one for one in grid if (one.cell.label, one.cell.kind, one.cell.seed) == ("model-2-b32", "slice", 1))
    own = replace(result.evaluations[0], epoch=SMALL.epochs(1000))
    alone = replace(result, cell=replace(result.cell, label="model-2-b32-alone-1000"), evaluations=(own,))
    table = table1.section([*grid, alone], SMALL, resamples=20).tables[0]
    row = next(row for row in table.rows if (row[0], row[1], row[3]) == ("Model 2", 32, 1000))
    through = [
        score_as_compared(next(test for test in one.evaluations if test.epoch == SMALL.epochs(1000)))["dice"]
        for one in grid
        if (one.cell.label, one.cell.kind) == ("model-2-b32", "slice") and one.cell.seed != 1
    ]
    assert row[table.columns.index("seeds")] == 3
    assert row[table.columns.index("Dice")] == pytest.approx(np.mean([*through, score_as_compared(own)["dice"]]))
