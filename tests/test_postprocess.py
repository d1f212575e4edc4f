"""Which regions are too small to be marked: counted with what each slice stands for, down to the last voxel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from bleedmap.postprocess import clear_small, to_mask


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
