"""Tables whose rows name their columns."""

import numpy as np

from bleedmap.page.section import NOT_APPLICABLE, Estimate, format_table, tabulate


def test_an_estimate_takes_three_columns():
    rows = [{"patients": np.int64(3), "F": np.nan, "gap": Estimate(1.0, 0.5, np.nan)},
            {"patients": 4, "F": 0.25, "gap": NOT_APPLICABLE}]  # fmt: skip
    made = tabulate("k", "t", "n", rows, {"F": 2})
    assert made.columns == ("patients", "F", "gap", "gap low", "gap high")
    assert made.rows == ((3, None, 1.0, 0.5, None), (4, 0.25, "–", None, None))
    assert made.digits == {"F": 2}
    assert type(made.rows[0][0]) is int


def test_no_p_is_printed_as_0():
    rows = [{"gap": 0.0, "p": 0.00005, "corrected p": 0.0004}, {"gap": 0.00005, "p": 0.0005, "corrected p": None}]
    assert format_table(tabulate("key", "Title", "", rows)).rows == (
        ("0.000", "< 0.001", "< 0.001"), ("0.000", "0.001", "not measured")
    )  # fmt: skip
