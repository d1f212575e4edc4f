"""Thin slices become slabs and the slabs' outline goes back to them: places, shares, gaps, tilt."""

from dataclasses import replace

import numpy as np
import pytest

from bleedmap.arrays import AnyArray
from bleedmap.geometry import SliceGrid
from bleedmap.inference.backends import Segmented
from bleedmap.inference.certainty import CertaintySettings, volume_interval
from bleedmap.inference.outline import _outline
from bleedmap.inference.slabs import Slabs, make_slabs
from bleedmap.inference.weights import MeasuredOn
from bleedmap.volume import Volume

ROWS, COLUMNS, THRESHOLD = 12, 16, 0.2


def stack(heights_mm: AnyArray, tilt_deg: float = 0.0, wander_mm: float = 0.0) -> SliceGrid:
    """Slices at these heights along their normal, their rows moved backwards by a tilted gantry, or to and fro."""
    heights = np.asarray(heights_mm, np.float64)
    moved = np.tan(np.radians(tilt_deg)) * heights + wander_mm * (np.arange(len(heights)) % 2)
    origins = np.stack([np.zeros_like(heights), moved, heights], axis=1)
    return SliceGrid(origins, np.array([0.0, 0.8, 0.0]), np.array([0.6, 0.0, 0.0]), 1.0)


def slabs_of(grid: SliceGrid, hu: AnyArray | None = None) -> Slabs:
    made = make_slabs(
        Volume(np.zeros((len(grid), ROWS, COLUMNS), np.float32) if hu is None else hu, grid), MeasuredOn()
    )
    assert made is not None
    return made


@pytest.mark.parametrize("heights", [np.arange(30) * 5.0, np.arange(40) * 3.5, [0.0], np.r_[0:70:5, 71.1:140:7]])
def test_slices_that_are_thick_enough_are_shown_as_they_are(heights: AnyArray) -> None:
    grid = stack(heights)
    assert make_slabs(Volume(np.zeros((len(grid), 4, 4), np.float32), grid), MeasuredOn()) is None


@pytest.mark.parametrize("apart_mm", [0.4, 0.5, 0.625, 0.7, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.4])
def test_slabs_are_about_5_mm_apart_and_hold_each_slice_whole(apart_mm: float) -> None:
    grid = stack(np.arange(round(150 / apart_mm)) * apart_mm)
    made = slabs_of(grid)
    seen = made.volume.grid
    assert np.diff(seen.heights_mm) == pytest.approx(apart_mm * max(2, round(5 / apart_mm)), abs=1.01 * apart_mm)
    assert 3.5 <= seen.spacing_mm[0] <= 7.5
    assert float(seen.extents_mm.sum()) == pytest.approx(float(grid.extents_mm.sum()), abs=1.5)
    assert made.shares.sum(axis=1) == pytest.approx(1)
    assert ((made.shares > 0).sum(axis=0) == 1).all()
    assert set(made.home) == set(range(len(made.shares)))


def test_a_slab_is_the_mean_of_its_slices_and_lies_at_their_middle() -> None:
    grid = stack(np.arange(20) * 1.0)
    hu = np.arange(20, dtype=np.float32)[:, None, None] * np.ones((20, ROWS, COLUMNS), np.float32)
    made = slabs_of(grid, hu)
    assert made.volume.hu[:, 3, 3] == pytest.approx([2, 7, 12, 17])
    assert made.volume.grid.origins_mm[:, 2] == pytest.approx([2, 7, 12, 17])


@pytest.mark.parametrize("grid", [
    stack(np.arange(40) * 1.25, tilt_deg=25), stack(np.arange(50) * 1.0, wander_mm=2.0),
    stack(np.cumsum(np.random.default_rng(0).uniform(0.5, 2.0, 60)), tilt_deg=-20),
])  # fmt: skip
def test_shifted_slices_are_laid_onto_each_other(grid: SliceGrid) -> None:
    """HU that rise along the patient's axes do so in the slabs, at their own places."""

    def ramp(of: SliceGrid) -> AnyArray:
        index = np.stack(np.meshgrid(range(len(of)), range(ROWS), range(COLUMNS), indexing="ij"), axis=-1)
        return np.asarray(of.to_mm(index) @ [3.0, 5.0, 2.0], np.float32)

    made = slabs_of(grid, ramp(grid))
    inside = np.s_[:, 4:-4, 4:-4]  # at the border there is nothing to take from
    assert made.volume.hu[inside] == pytest.approx(ramp(made.volume.grid)[inside], abs=0.5)


def test_slabs_end_at_a_gap_and_thick_slices_stay_alone() -> None:
    thin, thick = np.arange(20) * 1.0, 24.0 + np.arange(12) * 5.0
    made = slabs_of(stack(np.r_[thin, thick]))
    assert [int((one > 0).sum()) for one in made.shares] == [5, 5, 5, 5] + [1] * 12
    gap = np.r_[0:12, 20:34] * 1.0
    made = slabs_of(stack(gap))
    parts = [np.flatnonzero(one) for one in made.shares]
    assert [(int(one[0]), int(one[-1])) for one in parts] == [(0, 5), (6, 11), (12, 16), (17, 20), (21, 25)]
    assert made.volume.grid.origins_mm[1:3, 2] == pytest.approx([8.5, 22.0], abs=0.1)


def test_a_span_of_slabs_is_made_of_all_their_slices() -> None:
    made = slabs_of(stack(np.r_[np.arange(20) * 1.0, 24.0 + np.arange(3) * 5.0]))
    spans = [made.span_slices(first, last) for first, last in ((0, 0), (1, 2), (3, 4), (0, 6))]
    assert spans == [(0, 4), (5, 14), (15, 20), (0, 22)]


def test_a_lone_slice_missing_ends_no_slab() -> None:
    made = slabs_of(stack(np.delete(np.arange(30) * 1.0, 12)))
    assert len(made.shares) == 6
    assert np.diff(made.volume.grid.heights_mm) == pytest.approx(5, abs=0.6)


@pytest.mark.parametrize("apart_mm", [0.5, 1.0, 1.25, 2.5])
def test_a_mark_in_one_slab_ends_half_way_to_the_next(apart_mm: float) -> None:
    grid = stack(np.arange(round(50 / apart_mm)) * apart_mm)
    made = slabs_of(grid)
    for level in (THRESHOLD, 0.6, 1.0):
        probability = np.zeros(made.volume.hu.shape, np.float32)
        probability[4, 5, 6] = level
        marked = made.give_back(probability, THRESHOLD)[:, 5, 6] >= THRESHOLD
        if level == 1:
            assert float(marked @ grid.extents_mm) == pytest.approx(5, abs=2 * apart_mm)
        assert set(made.home[marked]) <= {4} or level == 1
    assert not np.delete(made.give_back(probability, THRESHOLD), 6, axis=2).any()


def test_slabs_that_are_marked_alike_leave_no_slice_between_unmarked() -> None:
    grid = stack(np.arange(60) * 0.7)
    made = slabs_of(grid)
    given = made.give_back(np.full(made.volume.hu.shape, 0.3, np.float32), THRESHOLD)
    assert given == pytest.approx(0.3)


def test_an_outline_goes_back_to_its_place_in_a_tilted_stack() -> None:
    """A rod along the patient's axis: in each slice it lies on other rows, and so it must come back."""
    grid = stack(np.arange(48) * 1.0, tilt_deg=5)
    made = slabs_of(grid)
    probability = np.zeros(made.volume.hu.shape, np.float32)
    for slab, origin in enumerate(made.volume.grid.origins_mm):
        row = (6.4 - origin[1]) / 0.8  # at 6.4 mm behind the first pixel of the first slice
        probability[slab, :, 8] = np.clip(1.5 - np.abs(np.arange(ROWS) - row), 0, 1)
    given = made.give_back(probability, 0.5)[:, :, 8]
    rows = (given * np.arange(ROWS)).sum(axis=1) / given.sum(axis=1)
    places = grid.to_mm(np.stack([np.arange(48), rows, np.full(48, 8)], axis=1))[:, 1]
    assert places == pytest.approx(6.4, abs=0.1)


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.5, 0.8, 1.0])
def test_the_middle_slice_of_a_slab_has_the_slabs_own_probability(threshold: float) -> None:
    grid = stack(np.arange(45) * 1.0)
    made = slabs_of(grid)
    probability = np.random.default_rng(1).random(made.volume.hu.shape, np.float32)
    probability[3] = threshold
    given = made.give_back(probability, threshold)[2::5]
    assert given == pytest.approx(probability, abs=1e-6)
    assert np.array_equal(given[3] >= threshold, probability[3] >= threshold)


def test_the_slabs_follow_what_the_network_was_measured_on() -> None:
    volume = Volume(np.zeros((90, 4, 4), np.float32), stack(np.arange(90) * 1.0))
    made = make_slabs(volume, MeasuredOn(3.0, (2.0, 4.0)))
    assert made is not None
    assert len(made.shares) == 30
    assert make_slabs(volume, replace(MeasuredOn(), spacing_mm=(0.9, 7.0))) is None


def test_what_the_outline_says_of_slabs_it_says_of_their_slices() -> None:
    """A mark, joined to a bleed in its slab and alone in its slice, is too small to stay; the rest counts slice by
    slice, and each slice has its own slab's probability."""
    grid = stack(np.arange(45) * 1.0)
    made = slabs_of(grid)
    gated = np.zeros(made.volume.hu.shape, np.float32)
    gated[3, 4:8, 4:8], gated[4, 8, 8] = 1, THRESHOLD
    assert (made.give_back(gated, THRESHOLD)[:, 8, 8] >= THRESHOLD).sum() == 1
    labels = np.zeros((len(gated), 6), np.float32)
    labels[:, 0] = np.arange(len(gated))
    settings = CertaintySettings(
        slice_weights=(1.0, 0.0, 0.0, 0.0), study_weights=(1.0, 0.0), type_weights=(1.0, 0.0), gate=0.0,
        slice_threshold=0.5, study_threshold=0.5, spread=0.3, offset_ml=0.0, coverage=0.8, doubt=(0.0, 0.0),
        smallest_ml=3 * float(grid.voxel_ml[0]),
    )  # fmt: skip
    segmented = Segmented(gated.copy(), np.zeros(len(gated), np.float32), labels, None)
    found = _outline(gated, segmented, settings, THRESHOLD, made.volume.grid.voxel_ml, True, (), made)
    assert np.flatnonzero(found.mask.any(axis=(1, 2))).tolist() == [15, 16, 17, 18, 19]
    assert found.mask.sum() == 5 * 16
    assert found.certainty is not None
    assert found.certainty.volume_ml == pytest.approx(volume_interval(5 * 16 * grid.voxel_ml[0], settings, 0.0))
    assert found.certainty.slices == pytest.approx(1 / (1 + np.exp(-(np.arange(45) // 5))))
