"""Every geometry of a head CT is handled exactly, or refused with figures; nothing is silently wrong."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations

import pytest
from geometry_matrix import FACTORS, REFUSED, Row, allowed, cases, pairwise, run_all, table


def _rows_of(part: int) -> list[Row]:
    return list(run_all(cases()[part::2]))


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The whole matrix, in two processes."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [row for part in pool.map(_rows_of, (0, 1)) for row in part]


def having(rows: list[Row], wanted: Callable[[Row], bool]) -> list[Row]:
    """Some of the rows that were handled; there must be some."""
    chosen = [row for row in rows if row.deviation is not None and wanted(row)]
    assert len(chosen) > 5
    return chosen


def test_the_pairs_are_all_there():
    made = pairwise(FACTORS)
    seen = {pair for row in made for pair in combinations([(name, row[name]) for name in FACTORS], 2)}
    cells = [(name, value) for name, values in FACTORS.items() for value in values]
    assert {pair for pair in combinations(cells, 2) if pair[0][0] != pair[1][0] and allowed(dict(pair))} == seen
    assert pairwise(FACTORS) == made
    assert len(made) >= 60


def test_no_row_is_wrong(rows):
    assert len(rows) == len(cases())
    wrong = [row for row in rows if row.wrong]
    assert not wrong, table(wrong)
    assert sum(row.deviation is None for row in rows) == len(REFUSED)


def test_peer_1_gantry_tilt_keeps_the_volume_and_the_place(rows):
    for row in having(rows, lambda row: abs(row.case.tilt_deg) >= 15 and not row.deviation.limited):
        assert abs(row.deviation.volume_share) < 0.02, row
        assert row.deviation.seg_mm < 0.01, row


def test_peer_2_missing_and_uneven_slices_keep_the_volume_unless_the_gap_hides_it(rows):
    for row in having(rows, lambda row: "missing" in row.case.gaps or "uneven" in row.case.spacing):
        assert abs(row.deviation.volume_share) < (0.02 if not row.deviation.limited else 0.2), row
        assert row.deviation.limited or row.case.spacing != "2.5 mm"


def test_peer_3_no_result_is_flipped(rows):
    for row in having(rows, lambda row: row.case.position != "HFS"):
        assert row.deviation.seg_mm < 0.01, row
        assert row.deviation.nifti_mm < 11, row


def test_peer_4_volumes_hold_in_every_spacing(rows):
    of_all = having(rows, lambda row: not row.deviation.limited)
    assert len({row.case.spacing for row in of_all}) >= 7
    assert max(abs(row.deviation.volume_share) for row in of_all) < 0.02
