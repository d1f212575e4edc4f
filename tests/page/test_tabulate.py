"""Tables whose rows name their columns."""

import numpy as np

from bleedmap.page.section import NOT_APPLICABLE, Estimate, tabulate


def test_an_estimate_takes_three_columns():
    rows = [{"patients": np.int64(3), "F": np.nan, "gap": Estimate(1.0, 0.5, np.nan)},
            {"patients": 4, "F": 0.25, "gap": NOT_APPLICABLE}]  # fmt: skip
    made = tabulate("k", "t", "n", rows, {"F": 2})
    assert made.columns == ("patients", "F", "gap", "gap low", "gap high")
    assert made.rows == ((3, None, 1.0, 0.5, None), (4, 0.25, "–", None, None))
    assert made.digits == {"F": 2}
    assert type(made.rows[0][0]) is int
