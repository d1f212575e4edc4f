"""A known effect of dropout is found, and none of the batch."""

import pytest

from analysis_tables import SMALL, table
from bleedmap_thesis.analyses import (
    grid,
)
from synthetic_cells import synthetic_cells


def test_known_effect_of_dropout_and_none_of_batch():
    section = grid.section(synthetic_cells(seeds=2, parts=("grid", "folds")), SMALL)
    dropout = table(section, "dropout")
    for row in dropout.rows[:2]:
        assert row[6] - 0.002 <= 0.03 <= row[7] + 0.002  # METHOD["model-1"] is -0.03
    assert dropout.rows[2][6] - 0.002 <= 0 <= dropout.rows[2][7] + 0.002
    for row in table(section, "batch").rows:
        assert row[6] - 0.01 <= 0 <= row[7] + 0.01
        assert row[8] == pytest.approx(max(abs(row[6]), abs(row[7])))
    variance = {row[1]: row for row in table(section, "anova-grid").rows}
    assert variance["model"][5] < 0.01
    assert variance["batch"][5] > 0.01
    assert variance["epochs"][6] < 0.001
