"""False marks on lesion-free slices, counted."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis_tables import SMALL, column, table
from bleedmap_thesis.analyses import (
    lesion_free,
    paired_slices,
)


def test_share_of_marked_slices_and_wilsons_interval():
    patients = np.array([f"{index}" for index in range(20)])
    none = lesion_free.estimate_share(patients, np.zeros(20, np.bool_))
    z2 = stats.norm.ppf(0.975) ** 2
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, z2 / (20 + z2)))
    some = lesion_free.estimate_share(patients, np.arange(20) < 5)
    assert some.low < 0.25 < some.high


def test_false_marks_are_counted(results):
    section = lesion_free.section(results, SMALL)
    rows = {row[:4]: row for row in table(section, "lesion-free").rows}
    cells = paired_slices.select(results, SMALL, "folds", "model-2-b32", "patient")
    marks = np.concatenate([one.rest.counts.false_positive for one in cells])
    row = rows["folds", "Model 2, batch 32", "by patient", "never drawn"]
    assert (row[6], row[8]) == (len(marks), (marks > 0).sum())
    assert row[12] == pytest.approx(np.median(marks[marks > 0]))


def test_the_claim_of_empty_masks_is_measured_where_table_1_ends(results):
    one = next(one for one in results if one.cell.key == "small/grid/model-2-b32/slice-seed0")
    clean = [replace(kept, counts=replace(kept.counts, false_positive=np.where(kept.counts.reference > 0, 1, 0)))
             if kept.epoch == SMALL.epochs(1000) else kept for kept in one.evaluations]  # fmt: skip
    section = lesion_free.section([*results[7:], replace(one, evaluations=tuple(clean))], SMALL)
    first = table(section, "lesion-free").rows[0]
    assert first[:6] == ("grid", "Model 2, batch 32", "by slice", "test side", 1000, 20)
    assert first[8] == 0
    claim = table(section, "lesion-free-claim")
    assert claim.rows[0] == first
    assert column(claim, "epochs, thesis") == [1000, 200, 400, 600, 800, 1200, 1400]
    assert set(column(table(section, "lesion-free-epochs"), "epochs, thesis")) == {200, 400, 600, 800, 1200, 1400}
