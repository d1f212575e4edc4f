"""Two volumes of one head are laid upon each other; two heads are told apart."""

from dataclasses import replace

import numpy as np
import pytest

from alignments import MOTIONS, measure, move, move_places, run_phantoms
from bleedmap.phantom.head import PhantomSettings, make_phantom
from bleedmap.registration import align, sample
from bleedmap.volume import Volume


@pytest.fixture(scope="module")
def head() -> Volume:
    return make_phantom(PhantomSettings(seed=1, spacing_mm=(5.0, 1.8, 1.8), shape=(28, 128, 128))).volume


def test_a_moved_head_is_found_on_other_slices_and_pixels(head: Volume) -> None:
    turn, shift = (-14.0, 9.0, 11.0), (20.0, -15.0, 16.0)
    grid = replace(head.grid, row_step_mm=head.grid.row_step_mm * 0.8, column_step_mm=head.grid.column_step_mm * 1.1)
    heights = np.arange(0.0, head.grid.heights_mm[-1], 6.5)[:, None] * np.array([0, 0.1, 1])  # thicker, and sheared
    grid = replace(grid, origins_mm=grid.origins_mm[0] + (12, 5, 1) + heights)
    index = np.stack(np.meshgrid(*map(np.arange, (len(grid), 128, 100)), indexing="ij"), axis=-1)
    hu, _ = sample(head, grid.to_mm(index))
    noisy = hu + np.random.default_rng(0).normal(0, 5, hu.shape)
    row = measure("", head, move(Volume(noisy.astype(np.float32), grid), turn, shift), turn, shift)
    assert row.found.fits
    assert row.skull_mm is not None
    assert row.skull_mm[1] < 1.0
    back = row.found.to_first(move_places(np.array([[10.0, 20.0, 30.0]]), turn, shift))
    np.testing.assert_allclose(back, [[10, 20, 30]], atol=1.0)


def test_half_a_head_is_found_and_its_share_told(head: Volume) -> None:
    turn, shift = (6.0, 6.0, 6.0), (10.0, 5.0, -15.0)
    upper = Volume(head.hu[12:], replace(head.grid, origins_mm=head.grid.origins_mm[12:]))
    row = measure("", head, move(upper, turn, shift), turn, shift)
    assert row.found.fits
    assert row.skull_mm is not None
    assert row.skull_mm[1] < 1.0
    assert row.found.common > 0.9  # of the smaller skull, all


def test_two_heads_do_not_fit(head: Volume) -> None:
    """The other skull is a fifth longer and lower, as between two people."""
    steps = head.grid.row_step_mm * 1.12, head.grid.column_step_mm * 0.9
    other = replace(head.grid, row_step_mm=steps[0], column_step_mm=steps[1])
    assert not align(head, Volume(head.hu, other)).fits


def test_what_shows_no_skull_fits_nothing(head: Volume) -> None:
    for hu in (np.full_like(head.hu, -1000), np.where(head.hu > 100, 40, head.hu)):
        found = align(head, Volume(hu.astype(np.float32), head.grid))
        assert not found.fits
        assert np.isfinite(found.matrix).all()


def test_a_few_slices_are_too_little_to_align(head: Volume) -> None:
    few = Volume(head.hu[12:16], replace(head.grid, origins_mm=head.grid.origins_mm[12:16]))
    found = align(head, few)
    assert 10 < found.depth_mm < 27
    assert not found.fits


@pytest.mark.exhaustive
def test_every_motion_of_the_table_ends_within_half_a_millimetre() -> None:
    for row in run_phantoms(tuple(MOTIONS)):
        assert row.found.fits, row.name
        assert row.skull_mm is not None
        assert row.skull_mm[1] < 0.5, row
