"""Preprocessing and postprocessing: area means, frames, the way back, lesions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from bleedmap.arrays import FloatArray
from bleedmap.errors import SettingsError
from bleedmap.postprocess import label_lesions, lesions, to_mask
from bleedmap.preprocess import (
    HEAD_MM,
    Frame,
    Preprocessing,
    _area_bands,
    _linear_bands,
    bone_input,
    head_frame,
    network_input,
    resize_back,
    resize_into,
    stack_channels,
    study_frame,
    whole_frame,
)
from bleedmap.window import BRAIN, Window


def smooth(rows: int, columns: int, seed: int) -> FloatArray:
    """A picture without detail finer than some ten pixels, 0 to 1."""
    noise = np.random.default_rng(seed).random((rows, columns))
    blurred = ndimage.gaussian_filter(noise, 12, mode="nearest")
    return ((blurred - blurred.min()) / np.ptp(blurred)).astype(np.float32)


def area_mean(array: FloatArray, frame: Frame, size: int, row: int, column: int) -> float:
    """One cell of `resize_into`, by adding up each pixel's covered part."""
    cell = frame.height / size
    top, left = frame.row + row * cell, frame.column + column * cell
    total = 0.0
    for r in range(array.shape[0]):
        height = max(0.0, min(top + cell, r + 1) - max(top, r))
        for c in range(array.shape[1]):
            total += height * max(0.0, min(left + cell, c + 1) - max(left, c)) * float(array[r, c])
    return total / cell**2


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 20), st.integers(3, 20), st.floats(-5, 5), st.floats(-5, 5), st.floats(4, 30), st.integers(0, 99))
def test_resize_is_the_exact_area_mean(
    rows: int, columns: int, row: float, column: float, side: float, seed: int
) -> None:
    array = np.random.default_rng(seed).random((rows, columns), np.float32)
    frame = Frame(row, column, side, side)
    resized = resize_into(array, frame, 7)
    for cell in ((0, 0), (3, 5), (6, 6)):
        assert resized[cell] == pytest.approx(area_mean(array, frame, 7, *cell), abs=1e-5)


def test_resize_agrees_with_pillows_box_filter() -> None:
    array = smooth(650, 650, 1)
    pillow = np.asarray(Image.fromarray(array).resize((256, 256), Image.Resampling.BOX, reducing_gap=None))
    ours = resize_into(array, whole_frame(array.shape), 256)
    assert np.abs(ours - pillow).max() < 0.02  # Pillow's box takes whole pixels at its edges


def test_resize_by_a_whole_factor_is_a_block_mean() -> None:
    array = np.random.default_rng(0).random((512, 512), np.float32)
    blocks = array.reshape(256, 2, 256, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(resize_into(array, whole_frame(array.shape), 256), blocks, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 700), st.integers(2, 700), st.sampled_from([32, 64, 256]))
def test_weights_of_every_cell_add_up_to_one_inside(rows: int, columns: int, size: int) -> None:
    frame = whole_frame((rows, columns))
    resized = resize_into(np.ones((rows, columns), np.float32), frame, size)
    cell = frame.height / size
    edges = np.arange(size) * cell
    inside_rows = (edges + frame.row >= 0) & (edges + cell + frame.row <= rows)
    inside_columns = (edges + frame.column >= 0) & (edges + cell + frame.column <= columns)
    np.testing.assert_allclose(resized[np.ix_(inside_rows, inside_columns)], 1, atol=1e-4)
    assert resized.max() <= 1 + 1e-4


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 700), st.integers(2, 700), st.floats(-50, 200), st.floats(-50, 200), st.floats(20, 600))
def test_a_constant_comes_back_constant_inside_its_frame_and_zero_outside(
    rows: int, columns: int, row: float, column: float, side: float
) -> None:
    back = resize_back(np.full((64, 64), 0.7, np.float32), Frame(row, column, side, side), (rows, columns))
    r, c = np.arange(rows) + 0.5 - row, np.arange(columns) + 0.5 - column
    inside = np.ix_((r > 0) & (r < side), (c > 0) & (c < side))
    np.testing.assert_allclose(back[inside], 0.7, atol=1e-5)
    outside = np.ones_like(back, bool)
    outside[inside] = False
    edge = (np.abs(r) < 1e-6) | (np.abs(r - side) < 1e-6)
    outside[edge] = False
    outside[:, (np.abs(c) < 1e-6) | (np.abs(c - side) < 1e-6)] = False
    assert (back[outside] == 0).all()


def area_matrix(length: int, start: float, side: float, size: int) -> FloatArray:
    """(size, length): the whole matrix of `resize_into` along one axis."""
    edges = start + np.arange(size + 1) * (side / size)
    pixel = np.arange(length)
    covered = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.asarray(np.clip(covered, 0, None) / (side / size), np.float32)


def linear_matrix(length: int, start: float, side: float, size: int) -> FloatArray:
    """(length, size): the whole matrix of `resize_back` along one axis."""
    position = (np.arange(length) + 0.5 - start) * (size / side)
    nearest = np.clip(position - 0.5, 0, size - 1)
    weights = np.clip(1 - np.abs(nearest[:, None] - np.arange(size)), 0, None)
    return np.asarray(weights * ((position >= 0) & (position <= size))[:, None], np.float32)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 300), st.integers(2, 300), st.floats(-400, 400), st.floats(-50, 200), st.floats(10, 500),
    st.floats(10, 500), st.integers(32, 100),
)  # fmt: skip
def test_both_ways_are_products_with_the_whole_matrices(
    rows: int, columns: int, row: float, column: float, height: float, width: float, size: int
) -> None:
    random, frame = np.random.default_rng(size), Frame(row, column, height, width)
    array, small = random.random((rows, columns), np.float32), random.random((size, size), np.float32)
    there = area_matrix(rows, row, height, size) @ array @ area_matrix(columns, column, width, size).T
    back = linear_matrix(rows, row, height, size) @ small @ linear_matrix(columns, column, width, size).T
    np.testing.assert_allclose(resize_into(array, frame, size), there, rtol=0, atol=1e-6)
    np.testing.assert_allclose(resize_back(small, frame, (rows, columns)), back, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(650, 650), (512, 400), (333, 501)])
def test_a_smooth_picture_survives_the_round_trip(shape: tuple[int, int]) -> None:
    array = smooth(*shape, seed=3)
    frame = whole_frame(shape)
    back = resize_back(resize_into(array, frame, 256), frame, shape)
    inner = np.s_[8:-8, 8:-8]
    assert np.abs(back - array)[inner].max() < 0.02


def test_the_way_there_and_back_shifts_nothing() -> None:
    """The centroid of a blob stays within a tenth of a pixel, off-centre, in a shape that is not square."""
    row, column = np.mgrid[:500, :650]
    blob = np.exp(-((row - 123.4) ** 2 + (column - 456.7) ** 2) / (2 * 20**2)).astype(np.float32)
    frame = whole_frame(blob.shape)
    back = resize_back(resize_into(blob, frame, 256), frame, (500, 650))
    assert ndimage.center_of_mass(back) == pytest.approx((123.4, 456.7), abs=0.1)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(150, 500), st.integers(150, 500), st.floats(0.3, 0.7), st.floats(0.3, 0.7), st.floats(0.1, 0.28),
    st.floats(0.1, 0.28),
)  # fmt: skip
def test_the_frame_holds_the_head(
    rows: int, columns: int, middle_row: float, middle_column: float, tall: float, wide: float
) -> None:
    row, column = np.mgrid[:rows, :columns]
    head = ((row / rows - middle_row) / tall) ** 2 + ((column / columns - middle_column) / wide) ** 2 < 1
    unit = head.astype(np.float32) * 0.5
    frame = head_frame(unit)
    where = np.argwhere(head)
    slack = 4  # the head is looked for on every fourth row and column
    assert frame.row <= where[:, 0].min() + slack
    assert frame.column <= where[:, 1].min() + slack
    assert frame.row + frame.height >= where[:, 0].max() - slack
    assert frame.column + frame.height >= where[:, 1].max() - slack


def test_a_table_beside_the_head_is_left_out() -> None:
    row, column = np.mgrid[:512, :512]
    unit = (np.hypot(row - 200, column - 200) < 120).astype(np.float32) * 0.5
    unit[480:486, :] = 1
    frame = head_frame(unit)
    assert frame.row + frame.height < 480


@pytest.mark.parametrize("shape", [(100, 120), (131, 90), (200, 300)])  # small ones are looked at on every pixel
@pytest.mark.parametrize("pixel_mm", [None, (0.9, 1.3)])
@pytest.mark.parametrize("head", [True, False])
def test_the_frame_of_a_lone_slice_is_that_of_its_study(
    shape: tuple[int, int], pixel_mm: tuple[float, float] | None, head: bool
) -> None:
    row, column = np.mgrid[: shape[0], : shape[1]]
    hu = np.where(head & (np.hypot(row - 50, 0.7 * column - 40) < 31), 35, -1000).astype(np.float32)
    assert study_frame(hu[None], BRAIN, pixel_mm) == head_frame(BRAIN.to_unit(hu), pixel_mm)


def test_an_empty_slice_has_the_whole_frame() -> None:
    assert head_frame(np.zeros((200, 300), np.float32)) == whole_frame((200, 300))


@pytest.mark.parametrize("frame", ["whole", "head"])
def test_network_input_is_zero_to_one(frame: str) -> None:
    hu = np.random.default_rng(0).uniform(-2000, 3000, (3, 120, 90))
    inputs, frames = network_input(hu, Preprocessing(64, frame))  # type: ignore[arg-type]
    assert inputs.shape == (3, 64, 64)
    assert inputs.dtype == np.float32
    assert inputs.min() >= 0
    assert inputs.max() <= 1 + 1e-5
    assert len(frames) == 3


@given(st.integers(0, 255))
def test_grey_to_hu_and_back(grey: int) -> None:
    unit = BRAIN.to_unit(BRAIN.to_hu(np.array([grey], np.uint8)))
    assert unit[0] * 255 == pytest.approx(grey, abs=1e-3)


@pytest.mark.parametrize("settings_", [(16, "whole"), (4096, "whole"), (256, "middle")])
def test_impossible_settings_are_refused(settings_: tuple[int, str]) -> None:
    with pytest.raises(SettingsError):
        Preprocessing(*settings_)  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [(40, 0), (40, -1), (float("nan"), 120), (40, float("inf"))])
def test_impossible_windows_are_refused(window: tuple[float, float]) -> None:
    with pytest.raises(SettingsError):
        Window(*window)


def test_the_threshold_itself_is_lesion() -> None:
    probability = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(0))], np.float32)
    assert to_mask(probability).tolist() == [True, False]


def test_lesions_that_touch_at_corners_across_slices_are_one() -> None:
    probability = np.zeros((3, 8, 8), np.float32)
    probability[0, 1:3, 1:3] = 0.9
    probability[1, 3, 3] = 0.7  # meets the first at a corner, one slice up
    probability[2, 6:8, 0:3] = 0.6
    mask = to_mask(probability)
    whole = lesions(mask, probability)
    assert [(one.voxels, one.first[0], one.last[0]) for one in whole] == [(6, 2, 2), (5, 0, 1)]
    assert whole[1].highest_probability == pytest.approx(0.9)
    assert whole[0].centroid == pytest.approx((2, 6.5, 1))


def test_an_empty_mask_has_no_lesions() -> None:
    empty = np.zeros((2, 4, 4), np.float32)
    assert lesions(to_mask(empty), empty) == []


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 0.3))
def test_lesions_are_numbered_as_in_the_whole_array(seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((5, 12, 11)) < share
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    order = np.argsort(-np.bincount(labels.ravel(), minlength=count + 1)[1:], kind="stable")
    numbers = np.zeros(count + 1, int)
    numbers[1 + order] = np.arange(1, count + 1)
    assert (label_lesions(mask) == numbers[labels]).all()
    few = label_lesions(mask, 3)
    assert few.dtype == np.uint8
    assert (few == np.minimum(numbers, 3)[labels]).all()
    found = lesions(mask, mask.astype(np.float32))
    assert [one.voxels for one in found] == np.bincount(numbers[labels].ravel())[1:].tolist()
    for number, one in enumerate(found, 1):
        places = np.argwhere(numbers[labels] == number)
        assert (one.first, one.last) == (tuple(places.min(axis=0)), tuple(places.max(axis=0)))
        assert one.centroid == pytest.approx(places.mean(axis=0))


def ellipse(pixel_mm: tuple[float, float], shape: tuple[int, int], at_mm: tuple[float, float]) -> FloatArray:
    """A head of 190 × 150 mm in brain tissue's grey and a bright square, in HU; its centre `at_mm` from the corner."""
    row, column = np.mgrid[: shape[0], : shape[1]]
    y, x = (row + 0.5) * pixel_mm[0] - at_mm[0], (column + 0.5) * pixel_mm[1] - at_mm[1]
    hu = np.where((y / 95) ** 2 + (x / 75) ** 2 < 1, 30.0, -1000.0)
    hu[(np.abs(y - 30) < 20) & (np.abs(x + 20) < 15)] = 80
    return hu.astype(np.float32)[None]


@pytest.mark.parametrize("frame", ["whole", "head"])
@pytest.mark.parametrize(
    ("pixel_mm", "shape", "at_mm"),
    [((0.5, 0.5), (1000, 1000), (290, 200)), ((0.9, 0.6), (300, 400), (130, 110)), ((0.4, 0.7), (512, 300), (100, 90))],
)
def test_anatomy_reaches_the_network_in_one_size_whatever_the_pixels(
    frame: str, pixel_mm: tuple[float, float], shape: tuple[int, int], at_mm: tuple[float, float]
) -> None:
    settings = Preprocessing(128, frame)  # type: ignore[arg-type]
    usual, _ = network_input(ellipse((0.385, 0.385), (650, 650), (125, 125)), settings, (0.385, 0.385))
    input_, frames = network_input(ellipse(pixel_mm, shape, at_mm), settings, pixel_mm)
    side_mm = frames[0].height * pixel_mm[0]
    assert side_mm == pytest.approx(frames[0].width * pixel_mm[1])
    if frame == "whole":
        assert side_mm == pytest.approx(250)
    assert np.abs(input_ - usual).mean() < 0.03  # edges move by up to the four pixels that the head is looked for in


def test_a_picture_without_spacing_is_taken_for_the_training_view() -> None:
    hu = ellipse((0.385, 0.385), (650, 650), (125, 125))
    apart, _ = network_input(hu, Preprocessing(128))
    known, _ = network_input(hu, Preprocessing(128), (250 / 650, 250 / 650))
    assert np.abs(apart - known).mean() < 0.02


# A study's own frame and neighbours


def study(boxes: list[tuple[int, int, int, int]]) -> FloatArray:
    """Slices of 256×256 air with a head of 40 HU in each box (first row, first column, end row, end column)."""
    hu = np.full((len(boxes), 256, 256), -1000, np.float32)
    for one, (top, left, bottom, right) in zip(hu, boxes, strict=True):
        one[top:bottom, left:right] = 40
    return hu


def test_a_study_has_one_frame_that_no_single_slice_decides() -> None:
    head = (60, 80, 220, 200)
    usual = study([head] * 20)
    odd = study([head] * 19 + [(0, 0, 256, 256)])  # a hand beside the head
    frame = study_frame(usual, BRAIN)
    assert study_frame(odd, BRAIN) == frame
    assert frame.height == frame.width == pytest.approx(160 * 1.06)
    assert (frame.row + frame.height / 2, frame.column + frame.width / 2) == (140, 140)
    inputs, frames = network_input(usual, Preprocessing(size=64, frame="study"))
    assert frames == [frame] * 20
    assert inputs.shape == (20, 64, 64)


def test_a_study_without_a_head_is_framed_whole() -> None:
    assert study_frame(study([(0, 0, 0, 0)] * 3), BRAIN) == whole_frame((256, 256))


def test_a_studys_frame_follows_the_pixel_size() -> None:
    """The same head on pixels of half the height: twice the rows in the frame."""
    hu = study([(60, 80, 220, 200)] * 3)
    frame = study_frame(hu, BRAIN, (0.5, 1.0))
    assert frame.width == pytest.approx(max(120 * 1.06, 125))  # 120 mm wide, or half the training view
    assert frame.height == 2 * frame.width


def test_neighbours_lie_feet_first_and_ends_repeat() -> None:
    inputs = np.arange(4.0)[:, None, None] * np.ones((4, 2, 2))
    with_one, alone = (Preprocessing(frame="study", neighbours=count) for count in (1, 0))
    rows = np.arange(4)
    stacked = stack_channels(inputs, None, with_one, rows)
    assert stacked[:, :, 0, 0].tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]
    assert stack_channels(inputs, None, with_one, np.array([3, 0]))[:, :, 0, 0].tolist() == [[2, 3, 3], [0, 0, 1]]
    assert stack_channels(inputs, None, alone, rows).shape == (4, 1, 2, 2)
    assert stack_channels(inputs[:1], None, with_one, rows[:1])[:, :, 0, 0].tolist() == [[0, 0, 0]]


def test_bone_and_the_mirror_image_follow_the_slices() -> None:
    settings = Preprocessing(size=64, frame="study", neighbours=1, bone=True, mirrored=True)
    hu = study([(60, 80, 220, 200)] * 3)
    hu[:, 60:64, 80:200] = 700  # a skull in front,
    hu[1, 100:140, 90:120] = 75  # and blood on the left
    inputs, frames = network_input(hu, settings)
    bones = bone_input(hu, frames, settings)
    assert bones is not None
    stacked = stack_channels(inputs, bones, settings, np.array([1]))
    assert stacked.shape == (1, settings.channels, 64, 64) == (1, 5, 64, 64)
    np.testing.assert_array_equal(stacked[0, :3], inputs)
    np.testing.assert_array_equal(stacked[0, 3], bones[1])
    np.testing.assert_array_equal(stacked[0, 4], inputs[1][:, ::-1])
    assert 0.4 < bones[1].max() <= 0.5  # 700 HU lie half-way between 100 and 1300
    assert bones[1][20:40].max() == 0  # brain and blood have none


def test_a_picture_in_the_brain_window_has_no_bone() -> None:
    settings = Preprocessing(size=64, frame="study", bone=True)
    hu = np.clip(study([(60, 80, 220, 200)] * 2), BRAIN.lowest_hu, BRAIN.lowest_hu + BRAIN.width_hu)
    hu[:, 60:64, 80:200] = BRAIN.lowest_hu + BRAIN.width_hu
    _, frames = network_input(hu, settings)
    bones = bone_input(hu, frames, settings)
    assert bones is not None
    assert not bones.any()
    assert bone_input(hu, frames, Preprocessing(size=64, frame="study")) is None
    assert bone_input(hu[:0], [], settings).shape == (0, 64, 64)  # type: ignore[union-attr]


def test_a_frame_in_mm_shows_true_sizes() -> None:
    """Heads of 160 and 80 mm have the same frame; one of 240 mm does not fit, and has a larger one."""
    for pixel, side in ((1.0, 208.0), (0.5, 208.0), (1.5, 240 * 1.06)):
        frame = study_frame(study([(60, 80, 220, 200)] * 3), BRAIN, (pixel, pixel), 208.0)
        assert frame.height * pixel == pytest.approx(side)
        assert (frame.row + frame.height / 2, frame.column + frame.width / 2) == (140, 140)
    squashed = study_frame(study([(60, 80, 220, 200)] * 3), BRAIN, (0.5, 1.0), 208.0)
    assert (squashed.height, squashed.width) == pytest.approx((416, 208))


def test_without_a_pixel_size_the_head_is_taken_to_be_as_long_as_most() -> None:
    hu = study([(60, 80, 220, 200)] * 3)
    guessed = study_frame(hu, BRAIN, None, 208.0)
    assert guessed == study_frame(hu, BRAIN, (HEAD_MM / 160, HEAD_MM / 160), 208.0)
    assert study_frame(study([(0, 0, 0, 0)] * 3), BRAIN, None, 208.0) == whole_frame((256, 256))


@pytest.mark.parametrize(
    "wrong",
    [
        {"neighbours": 1},
        {"neighbours": 9, "frame": "study"},
        {"frame": "nose"},
        {"bone": True},
        {"mirrored": True},
        {"frame_mm": 208.0},
        {"frame_mm": 5.0, "frame": "study"},
    ],
)
def test_impossible_preprocessing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError):
        Preprocessing(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("pixels", [256, 512, 650])
def test_no_product_is_large_enough_for_threads_of_blas(pixels: int) -> None:
    """OpenBLAS computes a product with one thread below 4 · 65,536 multiplications (interface/gemm.c); with more it
    waits for cores that others hold."""
    for bands in (_area_bands(pixels, -3.5, 1.05 * pixels, 224), _linear_bands(pixels, 9, 0.9 * pixels, 224)):
        assert sum(band.rows.stop - band.rows.start for band in bands) > 200
        assert max(band.weights.size for band in bands) * pixels <= 4 * 65536
