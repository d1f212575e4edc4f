"""The overlay's colour scale, contour and sheets."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from bleedmap.results.overlay import SliceView, blend, colours, draw_sheet, draw_slice


@pytest.mark.parametrize(
    ("probability", "colour"),
    [(0.0, (255, 255, 255)), (0.5, (255, 255, 255)), (0.75, (255, 127.5, 127.5)), (1.0, (255, 0, 0))],
)
def test_scale_is_the_thesis_own(probability: float, colour: tuple[float, ...]) -> None:
    assert colours(np.float32(probability)) == pytest.approx(colour)


@given(st.floats(0.5, 1), st.floats(0.5, 1))
def test_redder_means_more_probable(low: float, high: float) -> None:
    low, high = sorted((low, high))
    less, more = colours(np.array([low, high]))
    assert more[1] <= less[1]
    assert more[0] == less[0] == 255


def test_below_one_half_nothing_is_coloured() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    probability = np.full((8, 8), 0.49, np.float32)
    assert (blend(grey, probability, 0.9) == grey[..., None]).all()


def test_tissue_shows_through_the_colour() -> None:
    probability = np.ones((8, 8), np.float32)
    dark, bright = (blend(np.full((8, 8), grey, np.uint8), probability, 0.5)[4, 4] for grey in (60, 200))
    assert (dark.astype(int)[1:] < bright.astype(int)[1:]).all()
    assert dark[0] > dark[1]


def test_contour_runs_where_the_mask_ends() -> None:
    column = np.arange(100, dtype=np.float32)
    probability = np.tile(np.clip((70 - column) / 100 + 0.2, 0, 1), (20, 1)).astype(np.float32)  # 0.4 at column 50
    drawn = blend(np.full((20, 100), 90, np.uint8), probability, 0.4)
    coloured = np.flatnonzero((drawn[10] != 90).any(axis=1) & (probability[10] < 0.5))
    assert set(coloured) <= {49, 50, 51}
    assert 50 in coloured


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1), st.sampled_from([1, 3, 9]))
def test_a_lesion_is_drawn_alike_whatever_lies_elsewhere(seed: int, threshold: float, smooth: int) -> None:
    """Only what is near a lesion is looked at: marks in two corners make that the whole picture."""
    generator = np.random.default_rng(seed)
    alone = np.zeros((40, 50), np.float32)
    height, width = generator.integers(1, 14, 2)
    alone[12 : 12 + height, 12 : 12 + width] = generator.random((height, width)) ** generator.uniform(0.2, 6)
    alone = ndimage.uniform_filter(alone, smooth)
    grey, cornered = generator.integers(0, 256, alone.shape, np.uint8), alone.copy()
    cornered[0, 0] = cornered[-1, -1] = 1
    assert (blend(grey, alone, threshold)[4:-4, 4:-4] == blend(grey, cornered, threshold)[4:-4, 4:-4]).all()


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1), st.sampled_from([50, 300, 401]), st.sampled_from([0.5, 1, 1.7]))
def test_enlarging_only_what_is_marked_draws_the_same(seed: int, threshold: float, side: int, tall: float) -> None:
    generator = np.random.default_rng(seed)
    rows, columns = (int(one) for one in generator.integers(1, 120, 2))
    marks = np.zeros((rows, columns), np.float32)
    marks[generator.integers(0, rows, 3), generator.integers(0, columns, 3)] = 20 * generator.random(3)
    probability = np.clip(ndimage.gaussian_filter(marks, generator.uniform(0, 4)), 0, 1)
    view = SliceView(generator.integers(0, 256, (rows, columns), np.uint8), probability, "", tall)
    drawn = draw_slice(view, side=side, threshold=threshold)
    grey = np.asarray(Image.fromarray(view.grey).resize(drawn.size, Image.Resampling.BICUBIC))
    whole = np.asarray(Image.fromarray(probability).resize(drawn.size, Image.Resampling.BILINEAR))
    off = np.abs(np.asarray(drawn, np.int16) - blend(grey, whole, threshold)).max(axis=2)
    assert off[np.abs(whole - 0.5) > 1e-4].max(initial=0) <= 1  # rounding; at 0.5 colour begins at once


def test_a_slice_of_one_row_is_drawn() -> None:
    probability = np.ones((1, 40), np.float32)
    assert blend(np.zeros((1, 40), np.uint8), probability, 0.5).shape == (1, 40, 3)


@pytest.mark.parametrize("count", [1, 2, 5, 24])
def test_sheet_shows_every_lesion(count: int) -> None:
    grey = np.full((40, 30), 100, np.uint8)
    probability = np.zeros((40, 30), np.float32)
    empty = [SliceView(grey, probability, "")] * count
    marked = probability.copy()
    marked[15:25, 10:20] = 1
    full = [SliceView(grey, marked, "")] * count
    without, with_lesions = (
        draw_sheet(views, title="t", footer="f", threshold=0.5).astype(int) for views in (empty, full)
    )
    from scipy import ndimage

    assert without.shape == with_lesions.shape
    _, drawn = ndimage.label((without != with_lesions).any(axis=2))
    assert drawn == count


def test_pixels_that_are_not_square_keep_their_proportion() -> None:
    grey = np.full((50, 100), 200, np.uint8)
    view = SliceView(grey, np.zeros((50, 100), np.float32), "", row_over_column=2.0)
    sheet = draw_sheet([view], title="", footer="", threshold=0.5)
    rows, columns = np.nonzero((sheet == 200).all(axis=2))
    assert np.ptp(rows) == np.ptp(columns) == 959


def test_a_long_name_stays_on_the_sheet() -> None:
    view = SliceView(np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.float32), "c" * 500)
    sheet = draw_sheet([view], title="t" * 500, footer="ñ–é" * 200, threshold=0.5)
    assert (sheet[:, -8:] == sheet[0, 0]).all()
