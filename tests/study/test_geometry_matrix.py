"""Every geometry of a head CT is handled exactly, or refused with figures; nothing is silently wrong."""

from collections.abc import Callable

import pytest

from geometry_cases import FACTORS, REFUSED, THIN, allowed, cases, rows_of_pairs
from geometry_matrix import Row, run_all, table
from geometry_results import SAME_PLACE_MM
from pairwise import all_pairs, pairs_in

ALL = [case for case in cases() if case.spacing not in THIN]  # thin slices take long: the script has them


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    """The whole matrix but the thin slices."""
    return list(run_all(ALL, pictures_every=20))


def having(rows: list[Row], wanted: Callable[[Row], bool]) -> list[Row]:
    """Some of the rows that were handled; there must be some."""
    chosen = [row for row in rows if row.deviation is not None and wanted(row)]
    assert len(chosen) >= 3
    return chosen


def test_the_pairs_are_all_there():
    made = rows_of_pairs()
    seen = [pair for row in made for pair in pairs_in(row, FACTORS)]
    assert set(seen) == all_pairs(FACTORS, allowed)
    assert rows_of_pairs() == made
    assert len(made) >= 60
    assert len(ALL) >= 70


@pytest.mark.exhaustive
def test_no_row_is_wrong(rows):
    wrong = [row for row in rows if row.wrong]
    assert not wrong, table(wrong)
    assert {row.case for row in rows if row.deviation is None} == {row.case for row in rows} & set(REFUSED)


@pytest.mark.exhaustive
def test_peer_1_gantry_tilt_keeps_the_volume_and_the_place(rows):
    for row in having(rows, lambda row: abs(row.case.tilt_deg) >= 15 and not row.deviation.limited):
        assert abs(row.deviation.volume_share) < 0.02, row
        assert row.deviation.seg_mm < SAME_PLACE_MM, row


@pytest.mark.exhaustive
def test_peer_2_missing_and_uneven_slices_keep_the_volume_unless_the_gap_hides_it(rows):
    for row in having(rows, lambda row: "missing" in row.case.gaps or "uneven" in row.case.spacing):
        assert abs(row.deviation.volume_share) < (0.02 if not row.deviation.limited else 0.2), row


@pytest.mark.exhaustive
def test_peer_3_no_result_is_flipped(rows):
    for row in having(rows, lambda row: row.case.position != "HFS"):
        assert row.deviation.seg_mm < SAME_PLACE_MM, row
        if row.case.is_even:  # an uneven stack is written on even slices: `deviation_of` holds it to the widest gap
            assert row.deviation.nifti_voxel_mm < SAME_PLACE_MM, row


@pytest.mark.exhaustive
def test_peer_4_volumes_hold_in_every_spacing(rows):
    of_all = having(rows, lambda row: not row.deviation.limited)
    assert len({row.case.spacing for row in of_all}) >= 7
    assert max(abs(row.deviation.volume_share) for row in of_all) < 0.02
