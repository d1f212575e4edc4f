"""The design, its effects and its margin."""

import numpy as np
import pytest
from scipy import stats

from analysis_tables import SMALL, column, table
from bleedmap_thesis.analyses import (
    factors,
)
from bleedmap_thesis.plan import FACTORS


def test_design_is_balanced_and_of_resolution_four(results):
    runs = [one for one in results if one.cell.part == "factors"]
    design = factors.code_levels([dict(one.cell.levels) for one in runs])
    columns = np.column_stack(list(design.values()))
    assert columns.T @ columns == pytest.approx(16 * np.eye(6))  # balanced and uncorrelated
    groups = factors.find_aliases(design)
    assert len(groups) == 15
    assert sorted(len(word) for group in groups for word in group if len(word) == 1) == [1] * 6
    for group in groups:
        sizes = [len(word) for word in group]
        assert not (1 in sizes and 2 in sizes), group  # no factor with an interaction of two
        assert sizes.count(1) <= 1
    pairs = {frozenset(word for word in group if len(word) == 2) for group in groups}
    assert frozenset({("dropout", "split"), ("filters", "optimiser"), ("kernel", "stride")}) in pairs


def test_factors_effects_are_differences_of_means(results):
    section = factors.section(results, SMALL)
    effects, runs = table(section, "factors"), table(section, "factors-runs")
    dice = np.array(column(runs, "Dice"))
    for row in effects.rows:
        second = np.array([level == FACTORS[row[0]][1] for level in column(runs, row[0])])
        assert row[2] == pytest.approx(dice[second].mean() - dice[~second].mean())
        assert row[3] < row[2] < row[4]
        t = row[2] / ((row[4] - row[2]) / stats.t.ppf(0.975, 9))
        assert t**2 == pytest.approx(row[5])
    known = {row[0]: row for row in effects.rows}
    assert known["optimiser"][2] == pytest.approx(-0.08, abs=0.02)
    assert known["stride"][3] <= 0 <= known["stride"][4]
    assert table(section, "factors-contrasts").rows[0][0] == "split"


def test_lenths_margin_by_hand():
    effects = np.array([0.1, -0.2, 0.3, -0.4, 10.0])
    # 1.5·median 0.3 = 0.45; below 2.5·0.45: 0.1 to 0.4, whose median is 0.25; PSE 0.375; t with 5/3 degrees.
    assert factors.compute_lenth_margin(effects) == pytest.approx(0.375 * stats.t.ppf(0.975, 5 / 3))
