"""All methods on the same folds."""

from analysis_tables import SMALL, column, table
from bleedmap.page.section import DOES_NOT_APPLY
from bleedmap_thesis.analyses import (
    comparison,
)


def test_clahe_is_compared_first_and_classifiers_have_no_dice(results):
    section = comparison.section(results, SMALL)
    differences = table(section, "comparison-paired")
    assert differences.rows[0][0] == differences.rows[1][0] == "Model 2, batch 32, CLAHE"
    assert "SIFT + classifier" not in column(table(section, "comparison-dice"), "method")
    detection = {row[:2]: row for row in table(section, "comparison-detection").rows}
    assert detection["SIFT + classifier", "by patient"][8] == DOES_NOT_APPLY
    assert 0.5 < detection["SIFT + classifier", "by patient"][6] < detection["SIFT + classifier", "by patient"][7] < 1
