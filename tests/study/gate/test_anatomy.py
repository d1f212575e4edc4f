"""The cavity, the outline and the values of made slices, in numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest

from bleedmap.arrays import FloatArray
from bleedmap.geometry import SliceGrid, axial_affine
from bleedmap.study.gate.anatomy import Anatomy, find_cavity, grow, largest_part, measure, measure_values
from bleedmap.volume import Volume

AIR, SOFT, BONE = -1000.0, 40.0, 700.0
SPACING_MM = (5.0, 2.0, 1.5)  # so coarse that every pixel is looked at; a pixel is 0.03 cm², a slice of 1 cm² 0.5 mL


def volume(*planes: FloatArray, spacing_mm: tuple[float, float, float] = SPACING_MM) -> Volume:
    hu = np.stack(planes).astype(np.float32)
    return Volume(hu, SliceGrid.from_affine(axial_affine(spacing_mm, hu.shape), len(hu)))


def air() -> FloatArray:
    return np.full((80, 90), AIR, np.float32)


def block(rows: int = 20, columns: int = 20, top: int = 10, left: int = 12) -> FloatArray:
    """Soft tissue without bone."""
    plane = air()
    plane[top : top + rows, left : left + columns] = SOFT
    return plane


def skull(rows: int = 54, columns: int = 44, top: int = 10, left: int = 12, wall: int = 3) -> FloatArray:
    """A box of bone whose inside begins at `top`, `left`."""
    plane = air()
    plane[top - wall : top + rows + wall, left - wall : left + columns + wall] = BONE
    plane[top : top + rows, left : left + columns] = SOFT
    return plane


INSIDE_CM2 = 54 * 44 * 0.03
SOFT_ONLY = block()


def test_a_head_above_a_neck_between_blank_slices() -> None:
    found = measure(volume(air(), air(), SOFT_ONLY, SOFT_ONLY, *[skull()] * 5, skull(rows=27), air(), air()))
    assert found.cavity == (4, 9)
    assert found.largest_cm2 == pytest.approx(INSIDE_CM2)
    assert found.cavity_ml == pytest.approx(5.5 * INSIDE_CM2 * 0.5)
    assert (found.lowest_share, found.highest_share) == pytest.approx((0, 0.5))
    assert (found.brain_hu, found.spread_hu) == (SOFT, 0)
    assert found.outline_mm == (60 * 2.0, 50 * 1.5)
    assert (found.cut_mm, found.cut_slices) == (0, 0)
    assert found.middle_hu == SOFT
    assert found.below_mm == 20


def test_the_spread_is_that_of_a_normal_distribution_with_these_quartiles() -> None:
    plane = skull(columns=45)
    plane[10:64, 12:27], plane[10:64, 42:57] = 34, 46  # a third each; the middle third stays 40
    found = measure(volume(*[plane] * 10))
    assert found.brain_hu == SOFT
    assert found.spread_hu == pytest.approx(1.4826 * 6)


def test_shares_at_the_ends_are_those_of_the_first_and_last_slice_that_show_something() -> None:
    """Closed in by bone all around, as the first slice must be, counts alone: an open box shows a cavity too."""
    opened = skull()
    opened[7:10] = AIR  # no bone in front
    found = measure(volume(opened, *[skull()] * 8, skull(rows=27)))
    assert found.cavity == (0, 9)
    assert (found.lowest_share, found.highest_share) == pytest.approx((0, 0.5))
    found = measure(volume(skull(rows=27), *[skull()] * 8, SOFT_ONLY))
    assert (found.cavity, found.lowest_share, found.highest_share) == ((0, 8), pytest.approx(0.5), 0)
    holed = skull(rows=27)
    holed[7:10, 30] = SOFT  # a suture, a pixel wide
    assert measure(volume(holed, *[skull()] * 9)).lowest_share == pytest.approx(0.5)
    holed[7:10, 29:33] = SOFT  # and four
    assert measure(volume(holed, *[skull()] * 9)).lowest_share == 0


@pytest.mark.parametrize(
    ("planes", "outline_mm", "middle_hu"),
    [([SOFT_ONLY] * 9, (40, 30), AIR), ([air()] * 9, (0, 0), AIR), ([np.full((80, 90), SOFT)] * 9, (160, 135), SOFT)],
)
def test_without_a_skull_there_is_no_cavity(planes, outline_mm, middle_hu) -> None:
    found = measure(volume(*planes))
    assert (found.cavity, found.cavity_ml, found.largest_cm2) == (None, 0, 0)
    assert (found.lowest_share, found.highest_share, found.below_mm) == (0, 0, 0)
    assert (found.brain_hu, found.spread_hu) == (None, None)
    assert (found.outline_mm, found.middle_hu) == (outline_mm, middle_hu)


def test_a_blank_volume_is_measured_too() -> None:
    assert measure(volume(*[np.zeros((40, 40))] * 3)).cavity is None


WALLS = {"f": np.s_[7:10, 9:59], "b": np.s_[54:57, 9:59], "l": np.s_[7:57, 9:12], "r": np.s_[7:57, 56:59]}


@pytest.mark.parametrize("without", ["", "f", "b", "l", "r", "fb", "lr", "fl", "br"])
def test_bone_lies_on_three_of_four_sides(without) -> None:
    plane = skull(rows=44, columns=44)
    for side in without:
        plane[WALLS[side]] = SOFT
    assert (measure(volume(*[plane] * 9)).cavity is not None) == (len(without) < 2)


def test_a_cavity_lies_along_bone() -> None:
    """Four posts with soft tissue between: bone on all sides, but hardly along the rim."""
    plane = block(rows=54, columns=44)
    for row, column in ((10, 33), (61, 33), (36, 12), (36, 53)):
        plane[row : row + 3, column : column + 3] = BONE
    assert measure(volume(*[plane] * 9)).cavity is None


@pytest.mark.parametrize(("rows", "cavity"), [(10, (0, 8)), (9, None)])
def test_a_cavity_has_ten_square_centimetres(rows, cavity) -> None:
    planes = [skull(rows=rows, columns=20)] * 9
    assert measure(volume(*planes, spacing_mm=(5.0, 2.0, 2.5))).cavity == cavity  # 20 pixels of 0.05 cm² are 1 cm²


@pytest.mark.parametrize(("between", "cavity"), [(0, (0, 8)), (3, (0, 11)), (4, (0, 5))])
def test_a_break_of_fifteen_millimetres_is_bridged(between, cavity) -> None:
    """Beyond, the run of more volume is taken: six slices below the break, three above it."""
    assert measure(volume(*[skull()] * 6, *[SOFT_ONLY] * between, *[skull()] * 3)).cavity == cavity


def test_the_larger_run_may_be_the_upper_and_have_fewer_slices() -> None:
    small = skull(rows=14, columns=24)  # 10.08 cm²
    assert measure(volume(*[small] * 6, *[SOFT_ONLY] * 4, *[skull()] * 3)).cavity == (10, 12)


def test_blank_slices_break_no_run() -> None:
    constant = np.full((80, 90), 5.0)
    for blank in (air(), constant):
        assert measure(volume(*[skull()] * 6, *[blank] * 9, *[skull()] * 3)).cavity == (0, 17)


def test_slices_count_with_what_they_stand_for() -> None:
    study = volume(*[skull()] * 10)
    heights = np.array([0, 5, 10, 15, 20, 30, 35, 40, 45, 50.0])  # extents 5, 5, 5, 5, 7.5, 7.5, 5, 5, 5, 5 mm
    origins = study.grid.origins_mm.copy()
    origins[:, 2] = heights
    found = measure(Volume(study.hu, replace(study.grid, origins_mm=origins)))
    assert found.cavity_ml == pytest.approx(INSIDE_CM2 * 5.5)


def test_fine_voxels_are_looked_at_coarsely() -> None:
    """Pixels a quarter as high and wide, and four slices for one: every fourth and every second are looked at."""
    planes = [np.repeat(np.repeat(one, 4, axis=0), 4, axis=1) for one in (SOFT_ONLY, *[skull()] * 8)]
    fine = volume(*np.repeat(planes, 4, axis=0), spacing_mm=(1.25, 0.5, 0.45))
    found = measure(fine)
    assert found.cavity == (4, 34)
    assert find_cavity(fine).coarse.steps == (2, 4, 4)
    assert find_cavity(fine).coarse.numbers.tolist() == list(range(0, 36, 2))
    assert find_cavity(fine).coarse.pixel_mm == (2.0, 1.8)
    assert find_cavity(fine).coarse.slice_ml_per_cm2 == pytest.approx([0.25] * 18)
    inside_cm2 = 54 * 44 * 0.036
    assert (found.largest_cm2, found.cavity_ml) == pytest.approx((inside_cm2, 8 * inside_cm2 * 0.5))
    assert found.below_mm == 5


@pytest.mark.parametrize(
    ("spacing_mm", "shape", "steps"),
    [
        ((5.0, 0.5, 0.25), (20, 512, 512), (1, 4, 7)), ((5.0, 0.5, 0.25), (20, 100, 130), (1, 3, 4)),
        ((0.5, 1.8, 1.8), (40, 64, 63), (5, 1, 1)), ((0.5, 0.5, 0.5), (15, 20, 20), (1, 1, 1)),
        ((0.5, 0.5, 0.5), (16, 64, 64), (2, 2, 2)), ((5.0, 9.0, 9.0), (20, 64, 64), (1, 1, 1)),
    ],
)  # fmt: skip
def test_steps_are_near_two_millimetres_and_leave_enough_to_look_at(spacing_mm, shape, steps) -> None:
    assert find_cavity(volume(*np.full(shape, AIR), spacing_mm=spacing_mm)).coarse.steps == steps


def test_a_cavity_is_found_once_a_volume() -> None:
    study = volume(*[skull()] * 9)
    first = find_cavity(study)
    assert find_cavity(study) is first
    inside = first.inside[4]
    assert inside.sum() == 54 * 44
    assert inside[10:64, 12:56].all()
    assert first.shown.tolist() == [True] * 9


def test_what_is_not_soft_in_a_cavity_is_in_it_and_does_not_count() -> None:
    plane = skull()
    plane[30:32, 30:32] = 400.0  # a calcification of two pixels
    plane[40, 40] = -50.0  # the limits themselves are not soft
    plane[41, 20] = 150.0
    found = find_cavity(volume(*[plane] * 9))
    assert found.inside[0].sum() == 54 * 44
    assert found.soft[0].sum() == 54 * 44 - 6
    assert found.area_cm2[0] == pytest.approx((54 * 44 - 6) * 0.03)


def at_border(hu: float, columns: int = 20) -> Anatomy:
    """A head whose right wall is followed by `columns` of the same value."""
    cut = skull(left=46)  # the wall ends at column 93, beyond the picture
    cut = np.where(np.arange(90) >= 90 - columns, hu, cut) if columns else cut
    return measure(volume(*[skull()] * 6, *[cut] * 3))


def test_what_is_cut_by_the_picture_or_by_padding() -> None:
    """Three walls of 60 rows and 43 columns: of the picture's last column 60 pixels are body, a pixel is 1.75 mm."""
    by_picture = at_border(0, columns=0)
    assert (by_picture.cut_mm, by_picture.cut_slices) == (60 * 1.75, 3)
    for hu, cut in ((-2000, 60 * 1.75), (-1101, 60 * 1.75), (-1100, 0), (AIR, 0)):
        by_padding = at_border(hu)
        assert (by_padding.cut_mm, by_padding.cut_slices) == (cut, 3 if cut else 0)


@pytest.mark.parametrize("side", [np.s_[:, :], np.s_[::-1], np.s_[:, ::-1], np.s_[::-1, ::-1]])
def test_all_four_borders_cut(side) -> None:
    for plane, pixels in ((block(top=0), 20), (block(left=0), 20), (block(top=0, left=0), 39)):
        assert measure(volume(*[plane[side]] * 9)).cut_mm == pytest.approx(pixels * 1.75)


def test_outlines_are_of_the_largest_body_of_slices_with_a_cavity() -> None:
    """Shoulders below are wider; a headrest of two pixels is none."""
    shoulders = block(rows=50, columns=80, left=5)
    head = skull(rows=24, columns=34)
    head[70:72, 5:85] = SOFT
    head[60:66, 70:80] = SOFT  # a hand
    found = measure(volume(*[shoulders] * 3, *[head] * 6))
    assert found.outline_mm == (30 * 2.0, 40 * 1.5)


@pytest.mark.parametrize(("hu", "body"), [(-299, True), (-300, False)])
def test_a_body_is_denser_than_halfway_to_fat(hu, body) -> None:
    plane = air()
    plane[10:30, 12:32] = hu
    assert (measure(volume(*[plane] * 9)).outline_mm != (0, 0)) == body


def test_the_middle_third_is_taken_along_each_axis() -> None:
    hu = np.full((9, 12, 15), AIR)
    hu[3:6, 4:8, 5:10] = 7.0
    assert measure(volume(*hu)).middle_hu == 7
    hu[3:6, 4:8, 5:8] = 9.0
    assert measure(volume(*hu)).middle_hu == 9
    hu[2], hu[6], hu[:, 3], hu[:, 8], hu[:, :, 4], hu[:, :, 10] = 99, 99, 99, 99, 99, 99
    assert measure(volume(*hu)).middle_hu == 9


def test_growing_is_square_and_in_the_slice() -> None:
    mask = np.zeros((3, 9, 9), bool)
    mask[1, 4, 5] = True
    grown = grow(mask, 2)
    assert np.argwhere(grown).min(axis=0).tolist() == [1, 2, 3]
    assert np.argwhere(grown).max(axis=0).tolist() == [1, 6, 7]
    assert grown.sum() == 25
    assert mask.sum() == 1
    mask[1] = False
    mask[1, 0, 8] = True
    assert np.argwhere(grow(mask, 1)).tolist() == [[1, 0, 7], [1, 0, 8], [1, 1, 7], [1, 1, 8]]
    assert grow(mask, 0).tolist() == mask.tolist()


def test_the_largest_part_of_each_slice() -> None:
    mask = np.zeros((4, 5, 7), bool)
    mask[0, 0, :3] = mask[0, 2, :4] = True
    mask[1, 1, 1] = True
    mask[3, 0, 0] = mask[3, 1, 1] = mask[3, 3, 2:4] = True  # corners do not join
    kept = largest_part(mask)
    assert np.argwhere(kept).tolist() == [
        [0, 2, 0], [0, 2, 1], [0, 2, 2], [0, 2, 3], [1, 1, 1], [3, 3, 2], [3, 3, 3],
    ]  # fmt: skip


def test_values_by_hand() -> None:
    """Of 8 × 12 pixels 2 × 3 are looked at: rows 0 and 4, columns 0, 4 and 8."""
    hu = np.full((4, 8, 12), SOFT)
    hu[0, 0, 0], hu[0, 4, 4], hu[0, 4, 8] = -1000, -900, -701  # air
    hu[1, 0, 0], hu[1, 0, 4], hu[1, 0, 8] = -1101, -1100, 301  # padding, air, bone
    hu[2, 0, 0], hu[2, 0, 4], hu[2, 1, 1] = -700, 300, 3001  # neither, neither, metal that is not looked at
    hu[2, 4, 4], hu[2, 4, 8] = 3000, 3500
    hu[3, 7, 11] = -1200
    found = measure_values(volume(*hu))
    assert (found.lowest, found.highest) == (-1200, 3500)
    assert (found.padding_share, found.air_share, found.bone_share) == pytest.approx((1 / 24, 4 / 23, 3 / 23))
    assert found.air_hu == -950
    assert found.metal_ml == pytest.approx(2 * 5 * 2 * 1.5 / 1000)
    assert found.blank == (3,)


@pytest.mark.parametrize(
    ("low", "high", "blank"), [(-301, -300, False), (-302, -300.5, True), (0, 1, False), (0, 0.5, True)]
)
def test_a_blank_slice_has_one_value_or_shows_nothing_denser_than_air(low, high, blank) -> None:
    hu = np.full((3, 8, 8), float(low))
    hu[:, 4, 4] = high
    hu[1, 4, 4], hu[1, 0, 0] = 900, 0
    assert measure_values(volume(*hu)).blank == ((0, 2) if blank else ())


def test_without_air_or_without_voxels_that_are_no_padding() -> None:
    found = measure_values(volume(*np.full((2, 4, 4), -2000.0)))
    assert (found.air_share, found.bone_share, found.padding_share, found.air_hu) == (0, 0, 1, None)
    found = measure_values(volume(*np.full((2, 4, 4), 20.0)))
    assert (found.air_share, found.air_hu, found.metal_ml) == (0, None, 0)
