"""What a made picture shows, in numbers worked out by hand."""

import numpy as np
import pytest
from scipy import ndimage

from bleedmap.arrays import ByteArray, FloatArray
from bleedmap.preprocess import TRAINING_VIEW_MM
from bleedmap.study.gate.picture_look import PictureLook, measure_picture
from bleedmap.window import BRAIN

BLACK, BRAIN_GREY, WHITE = 0, 128, 255


def look(grey: ByteArray, turned: str = "") -> PictureLook:
    return measure_picture("p1", np.ascontiguousarray(grey), BRAIN, turned)


def box(rows: int = 60, columns: int = 40, top: int = 40, left: int = 50, wall: int = 2) -> ByteArray:
    """A box of bone around brain, of 60 × 40 pixels in a picture of 160 × 140."""
    grey = np.zeros((160, 140), np.uint8)
    grey[top : top + rows, left : left + columns] = WHITE
    grey[top + wall : top + rows - wall, left + wall : left + columns - wall] = BRAIN_GREY
    return grey


PIXELS, BRAIN_PIXELS = 60 * 40, 56 * 36


def test_shares_of_a_box_by_hand() -> None:
    found = look(box(), turned="by a quarter")
    assert (found.name, found.shape, found.turned) == ("p1", (160, 140), "by a quarter")
    assert found.lit == pytest.approx(PIXELS / (160 * 140))
    assert found.highest == WHITE
    assert found.between == pytest.approx(BRAIN_PIXELS / PIXELS)
    assert found.bone == pytest.approx((PIXELS - BRAIN_PIXELS) / PIXELS)
    assert found.border == (1, 1)
    assert (found.parts, found.marks) == (1, 0)


@pytest.mark.parametrize(
    ("grey", "lit", "between", "bone"),
    [(5, 0, 0, 0), (6, 1, 0, 0), (32, 1, 0, 0), (33, 1, 1, 0), (222, 1, 1, 0), (223, 1, 0, 0), (249, 1, 0, 0),
     (250, 1, 0, 1)],
)  # fmt: skip
def test_a_grey_is_black_between_or_white(grey, lit, between, bone) -> None:
    found = look(np.full((40, 40), grey, np.uint8))
    assert (found.lit, found.between, found.bone, found.highest) == (lit, between, bone, grey)


def test_the_border_is_black_outside_and_white_inside_black_margins() -> None:
    """Of the outermost 2·160 + 2·140 pixels 30 are not black; within the margins 5 of 200 are not white."""
    grey = box()
    grey[0, 5:15], grey[-1, 5:15], grey[5:15, -1] = 33, 33, 33
    assert look(grey).border[0] == pytest.approx(1 - 30 / 600)
    grey[0, 5:15] = 32
    assert look(grey).border[0] == pytest.approx(1 - 20 / 600)
    grey = box()
    grey[40, 50:54] = 222
    assert look(grey).border[1] == pytest.approx(1 - 5 / 200)  # the corner counts on both of its sides
    assert look(np.zeros((40, 40), np.uint8)).border == (1, 0)
    assert look(np.full((40, 40), WHITE, np.uint8)).border == (0, 1)


def test_the_anatomy_is_that_of_one_slice_in_a_view_of_the_usual_size() -> None:
    found = look(box(wall=3)).anatomy
    pixel_mm = TRAINING_VIEW_MM / 160
    assert found.cavity == (0, 0)
    assert found.largest_cm2 == pytest.approx(54 * 34 * pixel_mm**2 / 100)
    assert found.outline_mm == pytest.approx((60 * pixel_mm, 40 * pixel_mm))
    assert found.cavity_ml == pytest.approx(found.largest_cm2 / 2)
    assert found.brain_hu == pytest.approx(-20 + 128 * 120 / 255, abs=1e-4)
    assert found.middle_hu == found.brain_hu
    assert look(box(top=0)).anatomy.cut_mm > 30


def test_a_box_is_alike_from_all_sides_and_straight() -> None:
    found = look(box()).head
    assert found is not None
    assert found.side == 60 / 160
    assert found.upright == pytest.approx(1 - 40 / 60, abs=1e-6)
    assert (found.centre, found.straight) == pytest.approx((0.5, 1))
    lying = look(box().T).head
    assert lying is not None
    assert (lying.side, lying.upright) == pytest.approx((60 / 160, 1 - 60 / 40), abs=1e-6)


def kite(widths: list[int]) -> ByteArray:
    """Rows of these half widths around a middle line, of one grey."""
    grey = np.zeros((160, 140), np.uint8)
    for row, width in enumerate(widths, 15):
        grey[row, 70 - width : 70 + width] = BRAIN_GREY
    return grey


def test_a_centre_of_area_by_hand() -> None:
    """Twenty rows of 10 above forty of 30, less one pixel at each of the six corners, which stand out."""
    found = look(kite([5] * 20 + [15] * 40)).head
    assert found is not None
    assert found.centre == pytest.approx((200 * 10 + 1200 * 40 - 2 * (0.5 + 20.5 + 59.5)) / 1394 / 60)
    assert found.straight == pytest.approx(1)  # the row above its last one is as wide as it is


@pytest.mark.parametrize(("first", "last", "straight"), [(6, 2, 24 / 74), (2, 6, 24 / 74), (2, 3, 18 / 74)])
def test_ends_are_looked_at_a_hundredth_of_the_way_in(first, last, straight) -> None:
    """Of 130 rows the third and the last but two, of 74 at the widest; a row is 6 wider than the one outside it."""
    down = [*range(first, first + 12, 3), *np.linspace(first + 10, 36, 59).astype(int)]
    up = [*range(last, last + 12, 3), *np.linspace(last + 10, 36, 60).astype(int)]
    grey = kite([*down, 37, 37, 37, *up[::-1]])
    for one in (grey, grey.T, grey[::-1], grey.T[:, ::-1]):
        found = look(one).head
        assert found is not None
        assert found.straight == pytest.approx(straight)
        assert found.side == 130 / 160


def correlate(shown: FloatArray, axis: int) -> float:
    """The highest correlation of a picture with its mirror image, moved by up to 3 pixels in steps of 2."""
    mirrored = [np.roll(np.flip(shown, axis), shift, axis) for shift in (-3, -1, 1, 3)]
    return max(float(np.corrcoef(shown.ravel(), one.ravel())[0, 1]) for one in mirrored)


def test_what_is_upright_has_right_and_left_alike() -> None:
    """A head that is narrow in front: left and right agree, front and back do not; turned, it lies on its side."""
    egg = kite([min(20, 4 + row // 2) for row in range(50)])
    opened = egg * ndimage.binary_opening(egg > 0)
    shown = np.pad(opened[15:65, 50:90], 3).astype(np.float32)
    found, lying = look(egg).head, look(np.rot90(egg)).head
    assert found is not None
    assert lying is not None
    assert found.upright == pytest.approx(correlate(shown, 1) - correlate(shown, 0) + 1 - 40 / 50, abs=1e-5)
    assert lying.upright == pytest.approx(correlate(shown, 0) - correlate(shown, 1) + 1 - 50 / 40, abs=1e-5)
    assert found.upright > 0.5
    assert lying.upright < -0.5


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [([], 0), ([40], 1), ([40, 40], 2), ([40, 32], 2), ([40, 31], 1), ([40, 40, 32, 31], 3), ([2], 0), ([3], 1)],
)
def test_parts_are_those_of_six_tenths_of_the_largest(sizes, parts) -> None:
    grey = np.zeros((100, 250), np.uint8)
    for number, size in enumerate(sizes):
        grey[20 : 20 + size, 10 + 50 * number : 10 + 50 * number + size] = BRAIN_GREY
    found = look(grey[:, :160] if len(sizes) < 3 else grey)
    assert found.parts == parts
    assert (found.head is None) == (parts == 0)


def test_a_part_counts_without_its_holes_and_the_largest_is_the_head() -> None:
    ring = box(rows=50, columns=50, top=20, left=10)
    ring[25:65, 15:55] = BLACK
    ring[100:140, 80:120] = BRAIN_GREY  # smaller than the filled ring, larger than the ring alone
    found = look(ring)
    assert found.parts == 2
    assert found.head is not None
    assert found.head.side == 50 / 160


def letters(*sizes: int, at: tuple[int, int] = (4, 4), step: int = 20) -> ByteArray:
    grey = box()
    for number, size in enumerate(sizes):
        row, column = at
        grey[row : row + size, column + step * number : column + step * number + size] = 200
    return grey


@pytest.mark.parametrize(
    ("grey", "marks"),
    [
        (letters(4, 5, 6), 3), (letters(1, 8, 9), 2), (letters(8), 1), (letters(9), 0),
        (letters(2, at=(70, 93)), 1), (letters(2, at=(70, 91)), 0), (letters(4, 4, at=(4, 4), step=5), 2),
        (np.minimum(letters(4, 4), 199), 0),
    ],
)  # fmt: skip
def test_marks_are_bright_things_of_a_letters_height_outside_the_head(grey, marks) -> None:
    """In 160 pixels from 0.96 to 8 pixels high or wide; within three pixels of the head they belong to it."""
    assert look(grey).marks == marks


def test_letters_that_touch_at_a_corner_are_one_mark() -> None:
    grey = letters(3)
    grey[7:10, 7:10] = 200
    assert look(grey).marks == 1
    grey[10:13, 10:13] = 200
    assert look(grey).marks == 0  # nine pixels by now


def test_a_large_picture_is_looked_at_in_steps() -> None:
    """Twice as large in each direction: the same head, on every second pixel; letters on all."""
    once, twice = look(letters(4, 5)), look(letters(4, 5).repeat(2, axis=0).repeat(2, axis=1))
    assert twice.head == once.head
    assert (twice.marks, twice.parts, twice.border[0]) == (2, 1, 1)
    assert twice.lit == pytest.approx(once.lit)
    assert twice.shape == (320, 280)
