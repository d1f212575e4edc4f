"""The gap on made-up results whose answer is known, and counted by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis_tables import SMALL, column, marked, of_main, result, table
from bleedmap_thesis.analyses import (
    gap,
)
from synthetic_cells import GAP, synthetic_cells


def test_gap_counted_by_hand():
    """Patient a: Dice 1 and 0.5 by slice, 0.5 and 0 by patient. Patient b: 0.8, then nothing marked."""
    ids = ("a/1", "a/2", "b/1", "b/2")
    by_slice = marked(ids, [10, 5, 8, 0], [0, 5, 2, 0], [0, 5, 2, 0])
    by_patient = marked(ids[::-1], [0, 0, 0, 5], [3, 0, 10, 5], [0, 10, 10, 5])
    section = gap.section([result("slice", 1, by_slice), result("patient", 1, by_patient)], SMALL)
    row = dict(zip(table(section, "gap").columns, table(section, "gap").rows[0], strict=True))
    assert (row["lesion slices"], row["bleeding patients"], row["seeds"]) == (3, 2, 1)
    assert row["Dice by slice"] == pytest.approx((1 + 0.5 + 0.8) / 3)
    assert row["Dice by patient"] == pytest.approx(0.5 / 3)
    assert row["gap"] == pytest.approx((0.5 + 0.5 + 0.8) / 3)
    assert row["patient gap"] == pytest.approx((0.5 + 0.8) / 2)
    assert (row["gap low"], row["gap high"]) == pytest.approx((0.5, 0.8))  # one patient drawn twice
    measures = {one[0]: one for one in table(section, "gap-measures").rows}
    assert measures["lesion-free slices with any marked pixel"][3] == 0
    assert measures["lesion-free slices with any marked pixel"][6] == 1
    assert measures["pooled Dice"][3] == pytest.approx(46 / (46 + 7 + 7))
    assert measures["pooled accuracy"][3] == pytest.approx(1 - 14 / 400)


@pytest.mark.parametrize("truth", [GAP, 0.0])
def test_the_known_gap_lies_in_the_interval(truth):
    section = gap.section(of_main(synthetic_cells(parts=("folds",), gap=truth)), SMALL)
    row = dict(zip(table(section, "gap").columns, table(section, "gap").rows[0], strict=True))
    # Dice is cut off at 0.99 and made of whole pixels: that moves the truth by a few thousandths.
    assert row["gap low"] - 0.005 <= truth <= row["gap high"] + 0.005
    assert (row["p"] < 0.001) == (truth > 0)
    assert row["lesion slices"] == 318


def test_gap_over_the_schedule_by_hand():
    """Two patients, two epochs: the gap goes from 0 and 0.2 to 0.4 and 0.2."""
    ids = ("a/1", "b/1")
    made = []
    for kind, hits in (("slice", ([2, 4], [8, 6])), ("patient", ([2, 2], [4, 4]))):
        kept = [marked(ids, hit, 10 - np.array(hit), 10 - np.array(hit), epoch)
                for epoch, hit in zip((4, 20), hits, strict=True)]  # fmt: skip
        made.append(replace(result(kind, 1, kept[0]), evaluations=tuple(kept)))
    section = gap.section(made, SMALL)
    schedule = table(section, "gap-schedule")
    assert column(schedule, "epochs") == ["200", "1,000", "mean from 600 on", "1,000 less 200"]
    assert column(schedule, "Dice by slice")[:2] == pytest.approx([0.3, 0.7])
    assert column(schedule, "gap") == pytest.approx([0.1, 0.3, 0.3, 0.2])
    assert (schedule.rows[-1][-2], schedule.rows[-1][-1]) == pytest.approx((0.0, 0.4))


def test_whether_a_gap_grows_with_training_stands_in_the_last_row(results):
    made = [one for one in of_main(results) if one.cell.part == "folds"]
    growth = table(gap.section(made, SMALL), "gap-schedule").rows[-1]
    assert growth[-2] <= 0 <= growth[-1]
    without = {one.cell.key: one for one in synthetic_cells(parts=("folds",), gap=0.0)}
    grown = [replace(one, evaluations=(without[one.cell.key].evaluations[0], one.last)) for one in made]
    growth = table(gap.section(grown, SMALL), "gap-schedule").rows[-1]
    assert growth[-3] == pytest.approx(GAP, abs=0.05)
    assert growth[-2] > 0


def test_several_seeds_give_an_interval_of_seeds():
    section = gap.section(of_main(synthetic_cells(seeds=3, parts=("folds",))), SMALL)
    seeds = table(section, "gap-seeds")
    each = column(seeds, "gap")[:3]
    ends = stats.t.interval(0.95, 2, np.mean(each), stats.sem(each))
    assert seeds.rows[-1][1:] == pytest.approx((np.mean(each), *ends))
    assert column(table(section, "gap"), "lesion slices") == [318]


def test_a_seed_only_begun_does_not_move_the_tables():
    two = synthetic_cells(seeds=2, parts=("folds",))
    one = [result for result in of_main(two) if result.cell.seed == 0]
    begun = [result for result in of_main(two) if result.cell.seed == 1][:3]
    alone, more = gap.section(one, SMALL), gap.section([*one, *begun], SMALL)
    assert [made.rows for made in alone.tables] == [made.rows for made in more.tables]
    assert "seed 1, 3 of 10 cells done and left out" in table(more, "gap").note
