"""Every geometry of a head CT is handled exactly, or refused with figures; nothing is silently wrong."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest

from geometry_cases import FACTORS, REFUSED, allowed, cases, rows_of_pairs
from geometry_matrix import Row, run_all, table
from pairwise import all_pairs, pairs_in

CASES = [case for case in cases() if case.spacing not in ("0.5 mm", "1.25 mm")]  # thin slices take long: the script's


def _rows_of(part: int) -> list[Row]:
    middle = len(CASES) // 2
    return list(run_all(CASES[:middle] if part == 0 else CASES[middle:], pictures_every=6))


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The matrix, in two processes."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        return [row for part in pool.map(_rows_of, (0, 1)) for row in part]


def having(rows: list[Row], wanted: Callable[[Row], bool]) -> list[Row]:
    """Some of the rows that were handled; there must be some."""
    chosen = [row for row in rows if row.deviation is not None and wanted(row)]
    assert len(chosen) > 5
    return chosen


def test_the_pairs_are_all_there():
    made = rows_of_pairs()
    seen = [pair for row in made for pair in pairs_in(row, FACTORS)]
    assert set(seen) == all_pairs(FACTORS, allowed)
    assert rows_of_pairs() == made
    assert len(made) >= 60


def test_no_row_is_wrong(rows):
    assert len(rows) == len(CASES) >= 70
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


def test_peer_3_no_result_is_flipped(rows):
    for row in having(rows, lambda row: row.case.position != "HFS"):
        assert row.deviation.seg_mm < 0.01, row
        assert row.deviation.nifti_mm < 11, row


def test_peer_4_volumes_hold_in_every_spacing(rows):
    of_all = having(rows, lambda row: not row.deviation.limited)
    assert len({row.case.spacing for row in of_all}) >= 7
    assert max(abs(row.deviation.volume_share) for row in of_all) < 0.02
