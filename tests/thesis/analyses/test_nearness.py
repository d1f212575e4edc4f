"""The control of the gap: distance to the nearest training slice, and copying its mask."""

from dataclasses import replace

import numpy as np
import pytest

from analysis_tables import SMALL, column, marked, of_folds, result, table
from bleedmap.metrics.overlap import Counts
from bleedmap.page.section import DOES_NOT_APPLY
from bleedmap_thesis.analyses import (
    gap,
)


def test_distance_that_explains_dice_is_found():
    random = np.random.default_rng(0)
    made = []
    for kind, least in (("slice", 0.0), ("patient", 0.3)):
        ids = tuple(f"{patient}/{index}" for patient in range(12) for index in range(6))
        distance = least + 0.3 * random.random(len(ids))
        hit = np.round(40 * (1 - distance)).astype(int)
        made.append(result(kind, 1, marked(ids, hit, 40 - hit, 40 - hit)))
        extra = {"nearest": list(ids), "distance": distance.tolist(), "same_patient": [kind == "slice"] * len(ids)}
        copied = replace(marked(ids, hit // 2, 40 - hit // 2, 40 - hit // 2), extra=extra)
        made.append(result(kind, 1, copied, "copy-nearest"))
    section = gap.section(made, SMALL)
    control = table(section, "gap-control")
    assert column(control, "same patient") == [1.0, 0.0, DOES_NOT_APPLY]
    assert column(control, "Spearman")[0] < -0.95
    assert column(control, "Spearman")[2] > 0.9
    assert column(table(section, "gap-terciles"), "rows") == [24] * 6
    dice = column(table(section, "gap-terciles"), "Dice")
    assert dice[:3] == sorted(dice[:3], reverse=True)
    copied_dice = control.rows[0][control.columns.index("copied Dice")]
    assert copied_dice == pytest.approx(dice[0] / 3 / 2 + dice[1] / 3 / 2 + dice[2] / 3 / 2, abs=0.02)


@pytest.mark.parametrize("copy_dice", [1.0, 0.0])
def test_the_network_is_compared_with_copying(results, copy_dice):
    main = of_folds(results, "model-2-b32")
    copied = []
    for one in main:
        last, counts = one.last, one.last.counts
        hit = counts.reference if copy_dice else 0 * counts.reference
        other = Counts(hit, 0 * hit, counts.reference - hit, counts.true_negative + counts.false_positive)
        extra = {"distance": np.linspace(0, 1, len(last.ids)).tolist(), "same_patient": [True] * len(last.ids)}
        cell = replace(one.cell, label="copy-nearest", method="copy-nearest")
        copied.append(replace(one, cell=cell, evaluations=(replace(last, counts=other, extra=extra),)))
    section = gap.section([*main, *copied], SMALL)
    made = table(section, "gap-copied")
    network, gaps = column(made, "network Dice"), table(section, "gap")
    assert network == pytest.approx([column(gaps, "Dice by slice")[0], column(gaps, "Dice by patient")[0]])
    assert column(made, "copied Dice") == [copy_dice, copy_dice]
    assert column(made, "difference") == pytest.approx([dice - copy_dice for dice in network])
    assert all((high < 0) == (copy_dice == 1) for high in column(made, "difference high"))
