"""Surface distance, worked by hand and against plain loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bleedmap.metrics.surface import surface_distance

SPACING_MM = (5.0, 0.5, 0.25)


def test_two_voxels_are_apart_by_their_spacing():
    one, other = np.zeros((3, 4, 5), bool), np.zeros((3, 4, 5), bool)
    one[0, 1, 1] = other[1, 3, 4] = True
    found = surface_distance(one, other, SPACING_MM)
    apart_mm = np.sqrt(5.0**2 + (2 * 0.5) ** 2 + (3 * 0.25) ** 2)
    assert found is not None
    assert (found.hd95_mm, found.mean_mm) == pytest.approx((apart_mm, apart_mm))


def test_a_square_moved_by_two_rows():
    one, other = np.zeros((1, 12, 12), bool), np.zeros((1, 12, 12), bool)
    one[0, 2:7, 3:8] = True
    other[0, 4:9, 3:8] = True
    found = surface_distance(one, other, (5.0, 1.0, 1.0))
    # A single slice is all surface: rows 2 and 3 are 2 and 1 mm from the other, rows 7 and 8 likewise, the rest meet.
    assert found is not None
    assert found.hd95_mm == pytest.approx(2.0)
    assert found.mean_mm == pytest.approx((10 + 5 + 0) * 2 / 50)


def test_nothing_marked_has_no_distance():
    full, empty = np.ones((2, 3, 3), bool), np.zeros((2, 3, 3), bool)
    assert surface_distance(full, empty, SPACING_MM) is None
    assert surface_distance(empty, full, SPACING_MM) is None
    same = surface_distance(full, full, SPACING_MM)
    assert same is not None
    assert (same.hd95_mm, same.mean_mm) == (0, 0)
    with pytest.raises(ValueError, match="differ in shape"):
        surface_distance(full, empty[:1], SPACING_MM)


def surface_mm(mask: np.ndarray) -> np.ndarray:
    """Voxels with a neighbour by a face outside, by a plain loop; in mm."""
    padded, found = np.pad(mask, 1), []
    for index in np.argwhere(padded):
        around = [padded[tuple(index + step)] for axis in np.eye(3, dtype=int) for step in (axis, -axis)]
        if not all(around):
            found.append((index - 1) * SPACING_MM)
    return np.array(found)


@given(st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_surfaces_against_loops(seed: int):
    random = np.random.default_rng(seed)
    one, other = (ndimage.binary_dilation(random.random((4, 7, 8)) < 0.03) for _ in range(2))
    found = surface_distance(one, other, SPACING_MM)
    if not one.any() or not other.any():
        assert found is None
        return
    apart = np.linalg.norm(surface_mm(one)[:, None] - surface_mm(other)[None], axis=2)
    there, back = apart.min(axis=1), apart.min(axis=0)
    assert found is not None
    assert found.hd95_mm == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert found.mean_mm == pytest.approx(np.concatenate([there, back]).mean())
    turned = surface_distance(other, one, SPACING_MM)
    assert turned is not None
    assert turned.hd95_mm == pytest.approx(found.hd95_mm)
