"""Which regions are too small to be marked: counted with what each slice stands for, down to the last voxel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, spatial

from bleedmap.postprocess import (
    clear_small,
    find_box,
    find_corners,
    label_in_box,
    label_lesions,
    lesions,
    to_mask,
    without_small,
)


def test_a_voxel_exactly_at_the_threshold_is_marked():
    assert to_mask(np.array([0.5, np.nextafter(np.float32(0.5), 0)], np.float32), 0.5).tolist() == [True, False]


@pytest.mark.parametrize(("voxels", "left"), [(7, 0), (8, 8), (9, 9)])
def test_a_region_of_exactly_the_smallest_volume_stays(voxels, left):
    pixels = np.zeros((1, 1, 12), np.float32)
    pixels[0, 0, :voxels] = 0.9
    clear_small(pixels, 0.5, 0.125, 1.0)  # eight voxels of 0.125 mL, which binary numbers hold exactly
    assert int((pixels > 0).sum()) == left


def test_each_slice_counts_with_its_own_volume_wherever_the_region_lies():
    """The same two voxels, low and high in a stack whose upper slices stand for four times as much."""
    pixels = np.zeros((10, 6, 6), np.float32)
    pixels[1:3, 1, 1] = pixels[7:9, 4, 4] = 0.9
    voxel_ml = np.where(np.arange(10) < 5, 0.25, 1.0)
    clear_small(pixels, 0.5, voxel_ml, 1.0)
    assert (pixels[1:3] == 0).all()
    assert (pixels[7:9, 4, 4] == np.float32(0.9)).all()


def test_a_region_high_in_the_stack_is_not_counted_as_if_it_lay_at_the_bottom():
    """All that is marked lies above slice 6: the box around it must not lose where it begins."""
    pixels = np.zeros((9, 6, 6), np.float32)
    pixels[7:9, 2, 2] = 0.9
    voxel_ml = np.where(np.arange(9) < 6, 9.0, 0.25)
    clear_small(pixels, 0.5, voxel_ml, 1.0)
    assert not pixels.any()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.25, 0.5, 1.0, 2.0]))
def test_it_agrees_with_counting_region_by_region(seed, smallest_ml):
    random = np.random.default_rng(seed)
    pixels = ((random.random((5, 7, 6)) < 0.2) * 0.9).astype(np.float32)
    voxel_ml = random.choice([0.125, 0.25, 0.5], 5)
    expected = pixels.copy()
    labels, count = ndimage.label(pixels >= 0.5, np.ones((3, 3, 3)))
    for number in range(1, count + 1):
        inside = labels == number
        if float((inside.sum(axis=(1, 2)) * voxel_ml).sum()) < smallest_ml:
            expected[inside] = 0
    clear_small(pixels, 0.5, voxel_ml, smallest_ml)
    assert (pixels == expected).all()


def two_lesions() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In 5 × 6 × 7 voxels: four on slices 1 and 2 that meet at a corner, and one; probabilities and HU of their own."""
    mask = np.zeros((5, 6, 7), bool)
    mask[3, 1, 5] = True
    mask[1, 2, 1:3] = mask[2, 3, 3:5] = True
    probability = np.where(mask, 0.5, 0.1).astype(np.float32)
    probability[1, 2, 1], probability[2, 3, 4], probability[3, 1, 5] = 1.0, 0.75, 0.625
    hu = np.where(mask, 60, -1000).astype(np.float32)
    hu[1, 2, 2], hu[3, 1, 5] = 80, 55
    return mask, probability, hu


def test_lesions_by_hand():
    mask, probability, hu = two_lesions()
    first, second = lesions(mask, probability, hu)
    assert (first.voxels, first.voxels_by_slice, first.first, first.last) == (4, (2, 2), (1, 2, 1), (2, 3, 4))
    assert first.centroid == (1.5, 2.5, 2.5)
    assert (first.highest_probability, first.mean_probability, first.mean_hu) == (1.0, 2.75 / 4, 65)
    assert (second.voxels, second.voxels_by_slice, second.first, second.last) == (1, (1,), (3, 1, 5), (3, 1, 5))
    assert (second.centroid, second.highest_probability, second.mean_hu) == ((3, 1, 5), 0.625, 55)
    assert {one.measures for one in (first, second)} == {None}
    assert [one.mean_hu for one in lesions(mask, probability)] == [None, None]
    assert lesions(mask & False, probability, hu) == []


def test_a_lesions_voxels_are_counted_on_each_of_its_slices():
    mask = np.zeros((3, 3, 3), bool)
    mask[0] = True
    mask[0, 1, 1] = False
    mask[1, 0, 0] = mask[2, 0, 0] = True
    (one,) = lesions(mask, mask.astype(np.float32))
    assert one.voxels_by_slice == (8, 1, 1)
    assert one.centroid == (0.3, 0.8, 0.8)


def test_means_are_taken_in_double_precision():
    """16,777,217 is no number in single precision."""
    mask = np.ones((1, 1, 3), bool)
    hu = np.array([[[2.0**24, 1, 1]]], np.float32)
    (one,) = lesions(mask, mask.astype(np.float32), hu)
    assert one.mean_hu == pytest.approx((2**24 + 2) / 3, rel=1e-12)
    low = np.array([[[2.0**-24, 1, 2.0**-24]]], np.float32)
    assert lesions(mask, low)[0].mean_probability == (1 + 2.0**-23) / 3


def test_labels_are_numbered_by_size_and_the_first_of_equals_comes_first():
    mask, _, _ = two_lesions()
    mask[0, 0, 0] = mask[4, 5, 6] = True  # three of one voxel now
    labels = label_lesions(mask)
    assert (labels.shape, labels.dtype) == (mask.shape, np.int32)
    assert [labels[place] for place in ((1, 2, 1), (2, 3, 4), (0, 0, 0), (3, 1, 5), (4, 5, 6))] == [1, 1, 2, 3, 4]
    assert (labels > 0).tolist() == mask.tolist()
    many = np.zeros((1, 63, 42), bool)
    many[0, ::3, ::2] = True
    many[0, 1::3, ::6] = True  # every third is larger by one
    labels = label_lesions(many)[0, ::3, ::2]
    assert labels[:, ::3].ravel().tolist() == list(range(1, 148))
    assert np.delete(labels, np.s_[::3], axis=1).ravel().tolist() == list(range(148, 442))
    few = label_lesions(mask, 2)
    assert (few.dtype, few.max(), few[4, 5, 6], few[1, 2, 1]) == (np.uint8, 2, 2, 1)
    assert label_lesions(mask, 255).max() == 4
    with pytest.raises(AssertionError):
        label_lesions(mask, 256)
    assert label_lesions(mask & False).shape == mask.shape
    assert not label_lesions(mask & False).any()


def test_the_box_around_what_is_marked():
    mask, _, _ = two_lesions()
    assert find_box(mask) == (slice(1, 4), slice(1, 4), slice(1, 6))
    labels, box = label_in_box(mask)
    assert (labels.shape, box) == ((3, 3, 5), (slice(1, 4), slice(1, 4), slice(1, 6)))
    assert find_box(mask & False) == (slice(0, 0),) * 3
    labels, box = label_in_box(mask & False)
    assert (labels.shape, box) == ((0, 0, 0), (slice(0, 0),) * 3)


def test_regions_meet_at_corners_and_nothing_else_changes():
    pixels = np.full((3, 4, 4), 0.25, np.float32)
    pixels[0, 0, 0] = pixels[1, 1, 1] = 0.5
    pixels[2, 3, 3] = 0.75
    before = pixels.copy()
    clear_small(pixels, 0.5, 1.0, 0)
    assert (pixels == before).all()
    kept = without_small(pixels, 0.5, 1.0, 2.0)
    assert (pixels == before).all()
    before[2, 3, 3] = 0
    assert (kept == before).all()
    clear_small(pixels, 0.5, np.array([1.0, 2.0, 3.5]), 3.25)
    assert np.flatnonzero(pixels == 0).tolist() == [0, 21]
    nothing = np.zeros((2, 3, 3), np.float32)
    clear_small(nothing, 0.5, 1.0, 9.0)
    assert not nothing.any()


@pytest.mark.parametrize(
    ("rows", "corners"),
    [
        (["#.", "#."], {(-0.5, -0.5), (-0.5, 0.5), (1.5, -0.5), (1.5, 0.5)}),
        (["....", ".#..", "...."], {(0.5, 0.5), (0.5, 1.5), (1.5, 0.5), (1.5, 1.5)}),
        (["##..", "..##"], {(-0.5, -0.5), (-0.5, 1.5), (0.5, -0.5), (0.5, 3.5), (1.5, 1.5), (1.5, 3.5)}),
        (["..#", "...", "#.."], {(-0.5, 1.5), (-0.5, 2.5), (0.5, 2.5), (2.5, -0.5), (2.5, 0.5), (1.5, -0.5)}),
        # a plus: its inner corners bulge in and are no ends of a longest line
        ([".#.", "###", ".#."],
         {(-0.5, 0.5), (-0.5, 1.5), (0.5, -0.5), (0.5, 2.5), (1.5, -0.5), (1.5, 2.5), (2.5, 0.5), (2.5, 1.5)}),
    ],
)  # fmt: skip
def test_the_outer_corners_of_pixels(rows, corners):
    plane = np.array([[one == "#" for one in row] for row in rows])
    assert {(float(row), float(column)) for row, column in find_corners(plane)} == corners


@given(st.integers(0, 2**32 - 1))
def test_no_longest_distance_is_lost_and_few_corners_are_kept(seed):
    random = np.random.default_rng(seed)
    plane = random.random((7, 9)) < 0.3
    plane[3, 4] = True
    all_corners = np.concatenate(
        [np.argwhere(plane) + step for step in ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))]
    )
    hull = {tuple(all_corners[index]) for index in spatial.ConvexHull(all_corners).vertices}
    assert {tuple(one) for one in find_corners(plane).tolist()} == hull
