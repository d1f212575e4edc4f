"""Where voxels lie and what they stand for, in numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from bleedmap.arrays import AnyArray
from bleedmap.errors import InputError
from bleedmap.geometry import AxialTurn, PlaneTurn, SliceGrid, axial_affine, swap_lps_ras


def stack(*heights_mm: float, row_mm: float = 0.5, column_mm: float = 0.25, forward: float = 0.0) -> SliceGrid:
    """Axial slices at these heights; each millimetre up, they lie `forward` millimetres nearer to the face."""
    heights = np.array(heights_mm, np.float64)
    origins = np.stack([np.full(len(heights), 10.0), 20.0 - forward * heights, 30.0 + heights], axis=1)
    return SliceGrid(origins, np.array([0, row_mm, 0.0]), np.array([column_mm, 0, 0.0]), 3.0)


def test_an_affine_puts_the_grids_middle_at_the_origin():
    affine = axial_affine((5.0, 0.5, 0.25), (3, 5, 9))
    assert affine.tolist() == [[0, 0, 0.25, -1], [0, 0.5, 0, -1], [5, 0, 0, -5], [0, 0, 0, 1]]
    grid = SliceGrid.from_affine(affine, 3)
    assert grid.origins_mm.tolist() == [[-1, -1, -5], [-1, -1, 0], [-1, -1, 5]]
    assert grid.spacing_mm == (5, 0.5, 0.25)
    assert grid.thickness_mm == 5
    assert np.array_equal(grid.affine, affine)


def test_a_slice_stands_for_half_the_way_to_either_neighbour():
    grid = stack(0, 5, 10, 20, 25)
    assert grid.heights_mm.tolist() == [0, 5, 10, 20, 25]
    assert grid.extents_mm.tolist() == [5, 5, 7.5, 7.5, 5]
    assert grid.voxel_ml == pytest.approx(np.array([5, 5, 7.5, 7.5, 5]) * 0.125 / 1000)
    assert grid.spacing_mm == (5, 0.5, 0.25)


def test_a_lone_slice_stands_for_its_thickness():
    grid = stack(7)
    assert grid.extents_mm.tolist() == [3]
    assert grid.spacing_mm[0] == 3
    assert grid.slice_step_mm.tolist() == [0, 0, 3]
    assert grid.normal.tolist() == [0, 0, 1]


def test_a_tilted_gantry_is_a_shear_and_leaves_volumes_alone():
    upright, tilted = stack(0, 5, 10), stack(0, 5, 10, forward=np.tan(np.radians(20)))
    assert tilted.shear_deg == pytest.approx(20)
    assert upright.shear_deg == pytest.approx(0, abs=1e-6)
    assert np.allclose(tilted.voxel_ml, upright.voxel_ml)
    assert tilted.tilt_to_axial_deg == 0
    assert tilted.is_even


def test_planes_turned_about_the_left_right_axis_are_off_axial_by_that_angle():
    angle = np.radians(30)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    grid = stack(0, 5, 10)
    turned = SliceGrid(grid.origins_mm @ turn.T, turn @ grid.row_step_mm, turn @ grid.column_step_mm, 3.0)
    assert turned.tilt_to_axial_deg == pytest.approx(30)
    assert turned.shear_deg == pytest.approx(0, abs=1e-5)
    assert np.allclose(turned.heights_mm, grid.heights_mm)


def test_slices_given_head_to_feet_have_a_normal_to_the_feet():
    assert stack(10, 5, 0).normal.tolist() == [0, 0, -1]
    assert stack(10, 5, 0).heights_mm.tolist() == [0, 5, 10]


@pytest.mark.parametrize(("off_mm", "even"), [(0.0, True), (0.099, True), (0.101, False)])
def test_even_is_within_a_tenth_of_a_millimetre(off_mm, even):
    grid = stack(0, 5 + off_mm, 10)
    assert grid.is_even == even
    if not even:
        with pytest.raises(InputError, match=r"uneven slices, 4\.90 to 5\.10 mm apart"):
            _ = grid.affine


def test_an_even_stack_has_its_spacing_wherever_its_places_were_rounded_to():
    grid = stack(0, 5.09, 10, 14.94, 20)
    assert grid.extents_mm.tolist() == [5] * 5
    assert grid.evenly().grid is grid
    assert grid.evenly().slices.tolist() == [0, 1, 2, 3, 4]


def test_even_layers_give_each_slice_half_the_way_to_its_neighbours():
    grid = stack(0, 5, 10, 20, 25)  # a slice is missing
    even = grid.evenly()
    assert even.grid.spacing_mm[0] == pytest.approx(2.5)
    assert even.grid.heights_mm[-1] + 2.5 == pytest.approx(grid.extents_mm.sum())
    assert even.grid.origins_mm[0, 2] == pytest.approx(grid.origins_mm[0, 2] - 2.5 + 1.25)  # half a slice below
    assert np.bincount(even.slices).tolist() == [2, 2, 3, 3, 2]
    assert even.off == pytest.approx(0)
    assert even.margin == (0, 0)


def test_two_slices_that_nearly_meet_do_not_make_thousands_of_layers():
    even = stack(0, 5, 5.07, 10, 15, 20).evenly()
    assert len(even.slices) <= 512
    assert even.off < 0.02


def test_many_or_large_slices_have_fewer_layers():
    generator = np.random.default_rng(0)
    many = stack(*np.cumsum(generator.uniform(0.3, 1, 600))).evenly(512 * 512)
    assert 600 <= len(many.slices) <= 1200
    large = stack(*np.cumsum(generator.uniform(3, 7, 30))).evenly(1024 * 1024)
    assert len(large.slices) <= 128


@settings(deadline=None)
@given(st.lists(st.floats(0.6, 9), min_size=3, max_size=40), st.floats(-0.5, 0.5))
def test_layers_hold_what_slices_stand_for_within_one_layer(gaps, forward):
    grid = stack(0, *np.cumsum(gaps), forward=forward)
    even = grid.evenly()
    held_mm = np.bincount(even.slices, minlength=len(grid)) * even.grid.extents_mm[0]
    assert np.abs(held_mm - grid.extents_mm).max() <= even.grid.spacing_mm[0] + 1e-6
    assert np.abs(held_mm / grid.extents_mm - 1).max() == pytest.approx(even.off, abs=1e-6)
    assert held_mm.sum() == pytest.approx(grid.extents_mm.sum())
    off_mm = even.grid.origins_mm @ grid.normal - (grid.origins_mm @ grid.normal)[even.slices]
    reach_mm = grid.extents_mm[even.slices] + even.grid.spacing_mm[0]
    assert (np.abs(off_mm) <= reach_mm).all()


def test_slices_off_a_straight_line_lie_at_their_places_in_a_larger_frame():
    straight = stack(0, 5, 9, 16)
    moved = straight.origins_mm + np.outer([0, 0, 1, 1], [2.6, -1.2, 0])  # the table, between two slices
    grid = replace(straight, origins_mm=moved)
    even = grid.evenly()
    assert even.margin == (2, 10)
    assert even.grid.shear_deg == pytest.approx(0, abs=1e-6)
    for layer, (index, corner) in enumerate(zip(even.slices, even.corners, strict=True)):
        off_mm = even.grid.to_mm(np.array([layer, *corner])) - grid.origins_mm[index]
        assert abs(off_mm[0]) <= 0.125 + 1e-9
        assert abs(off_mm[1]) <= 0.25 + 1e-9


def test_an_index_between_slices_lies_between_them():
    grid = stack(0, 5, 15)
    assert grid.to_mm(np.array([1.5, 2, 4])).tolist() == [10 + 4 * 0.25, 20 + 2 * 0.5, 30 + 10]
    assert grid.to_mm(np.array([9, 0, 0])).tolist() == [10, 20, 45]  # beyond the end: the end's place


@pytest.mark.parametrize(
    "changes",
    [
        {"row_step_mm": np.zeros(3)}, {"row_step_mm": np.array([1.0, 0, 0])}, {"thickness_mm": np.nan},
        {"origins_mm": np.empty((0, 3))}, {"origins_mm": np.zeros((3, 3))},
        {"origins_mm": np.array([[0, 0, 0], [0, 0, 5], [0, 0, 4.0]])},
    ],
)  # fmt: skip
def test_what_is_no_stack_is_refused(changes):
    with pytest.raises(InputError):
        replace(stack(0, 5, 10), **changes)


@pytest.mark.parametrize("slices", [0, 1])
def test_an_affine_without_volume_is_refused(slices):
    with pytest.raises(InputError, match="maps the grid to no volume"):
        SliceGrid.from_affine(np.diag([1.0, 1, 0, 1]), slices)


@given(st.booleans(), st.booleans(), st.booleans())
def test_a_turn_is_undone(transpose, rows, columns):
    turn, planes = PlaneTurn(transpose, rows, columns), np.arange(24).reshape(2, 3, 4)
    assert np.array_equal(turn.undo(turn.apply(planes)), planes)


def test_a_turn_transposes_first():
    planes = np.array([[[1, 2, 3], [4, 5, 6]]])
    assert PlaneTurn(transpose=True).apply(planes)[0].tolist() == [[1, 4], [2, 5], [3, 6]]
    assert PlaneTurn(transpose=True, flip_rows=True).apply(planes)[0].tolist() == [[3, 6], [2, 5], [1, 4]]
    assert PlaneTurn(flip_columns=True).apply(planes)[0].tolist() == [[3, 2, 1], [6, 5, 4]]


@pytest.mark.parametrize("order", [(1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("reverse", [(a, b, c) for a in (False, True) for b in (False, True) for c in (False, True)])
def test_axial_slices_are_cut_from_coronal_and_sagittal_ones(order, reverse):
    """An axial volume, its axes put in another order: every voxel comes back to its own place, and the grid with it."""
    shape = (4, 5, 6)
    axial, numbers = SliceGrid.from_affine(axial_affine((2.0, 1.0, 1.5), shape), 4), np.arange(120).reshape(shape)
    away = AxialTurn(order, reverse)
    turned, grid = away.apply(numbers), away.turn_grid(axial, shape)
    assert np.array_equal(away.undo(turned), numbers)
    place = np.argwhere(turned == numbers[1, 2, 3])[0]
    assert grid.to_mm(place) == pytest.approx(axial.to_mm(np.array([1, 2, 3])))
    back = AxialTurn.find(grid)
    assert np.array_equal(back.apply(turned), numbers)
    assert back.turn_grid(grid, turned.shape).affine == pytest.approx(axial.affine)


def test_axial_uneven_and_lone_slices_are_not_cut():
    assert AxialTurn.find(stack(0, 1, 2, forward=0.5)) is None
    coronal = SliceGrid(np.array([[0, 0, 0], [0, 1, 0], [0, 5, 0.0]]), np.array([0, 0, -1.0]), np.array([1, 0, 0.0]), 1)
    assert AxialTurn.find(coronal) is None
    assert AxialTurn.find(replace(coronal, origins_mm=coronal.origins_mm[:1])) is None
    assert AxialTurn.find(replace(coronal, origins_mm=coronal.origins_mm[:2])) == AxialTurn(
        (1, 0, 2), (True, False, False)
    )


@pytest.mark.parametrize("kind", ["upright", "tilted", "uneven", "both", "oblique", "lone"])
def test_a_place_leads_back_to_its_index(kind: str) -> None:
    from dicom_result_studies import SHAPE, grid_of

    grid = grid_of(kind)
    index = np.random.default_rng(0).uniform(0, 1, (50, 3)) * (len(grid) - 1, *SHAPE[1:])
    np.testing.assert_allclose(grid.to_index(grid.to_mm(index)), index, atol=1e-6)
    beyond = grid.to_index(grid.origins_mm[-1] + grid.normal * 2.5 * grid.extents_mm[-1])
    assert beyond[0] == pytest.approx(len(grid) - 1 + 2.5)
    below = grid.to_index(grid.origins_mm[0] - grid.normal * 2.5 * grid.extents_mm[0])
    assert below[0] == pytest.approx(-2.5)


UP, BACK, LEFT = np.array([0.0, 0, 1]), np.array([0.0, 1, 0]), np.array([1.0, 0, 0])
VIEWS = {"axial": (UP, BACK, LEFT), "coronal": (BACK, -UP, LEFT), "sagittal": (LEFT, -UP, BACK)}


def planes(slices: AnyArray, down: AnyArray, along: AnyArray, angle_deg: float = 0.0) -> SliceGrid:
    """Three slices 4 mm apart; rows of 2 mm and columns of 3 mm run `down` and `along`, turned in the plane."""
    cos, sin = np.cos(np.radians(angle_deg)), np.sin(np.radians(angle_deg))
    down, along = cos * down + sin * along, cos * along - sin * down
    return SliceGrid(np.array([1.0, 2, 3]) + 4 * np.outer(np.arange(3), slices), 2 * down, 3 * along, 1.0)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("flip_rows", [False, True])
@pytest.mark.parametrize("flip_columns", [False, True])
@pytest.mark.parametrize("angle_deg", [-40, 0, 40])
def test_every_turn_of_a_view_is_found_and_leads_back(view, transpose, flip_rows, flip_columns, angle_deg):
    """Each stored pixel keeps its place, and the turned rows and columns run as the standard view's, as near as can."""
    slices, down, along = VIEWS[view]
    as_viewed = planes(slices, down, along, angle_deg)
    first, row, column = as_viewed.origins_mm, as_viewed.row_step_mm, as_viewed.column_step_mm
    if flip_columns:
        first, column = first + 4 * column, -column
    if flip_rows:
        first, row = first + 3 * row, -row
    stored_shape = (5, 4) if transpose else (4, 5)
    row, column = (column, row) if transpose else (row, column)
    stored = replace(as_viewed, origins_mm=first, row_step_mm=row, column_step_mm=column)
    turn = PlaneTurn.find(stored)
    assert turn == PlaneTurn(transpose, flip_rows, flip_columns)
    turned = turn.turn_grid(stored, *stored_shape)
    for name in ("origins_mm", "row_step_mm", "column_step_mm"):
        assert getattr(turned, name) == pytest.approx(getattr(as_viewed, name))
    found = turn.locate_stored(turned, (4, 5))
    assert found.positions_mm == pytest.approx(stored.origins_mm)
    assert found.pixel_mm == pytest.approx((3, 2) if transpose else (2, 3))
    assert found.orientation[:3] == pytest.approx(column / np.linalg.norm(column))
    assert found.orientation[3:] == pytest.approx(row / np.linalg.norm(row))
    numbers = np.arange(60).reshape(3, *stored_shape)
    index = (1, 2, 3)
    place = np.argwhere(turn.apply(numbers) == numbers[index])[0]
    assert turned.to_mm(place) == pytest.approx(stored.to_mm(np.array(index)))


@pytest.mark.parametrize(("degrees", "flipped"), [(44, False), (46, True)])
def test_slices_up_to_45_degrees_off_axial_are_viewed_as_axial_ones(degrees, flipped):
    """Rows run to the back and up: for an axial view as they should, for a coronal one the wrong way."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    grid = SliceGrid(np.outer(np.arange(3), [0, -sin, cos]), np.array([0, cos, sin]), LEFT, 1.0)
    assert PlaneTurn.find(grid) == PlaneTurn(flip_rows=flipped)


def test_ras_is_lps_with_two_axes_reversed():
    affine = np.arange(16, dtype=np.float32).reshape(4, 4)
    ras = swap_lps_ras(affine)
    assert ras.tolist() == [[0, -1, -2, -3], [-4, -5, -6, -7], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert ras.dtype == np.float64
    assert np.array_equal(swap_lps_ras(ras), affine)


def test_a_gantrys_tilt_has_the_sign_that_dicom_gives_it():
    """Each slice up lies farther to the front: the gantry's top leans towards the table's end, by 20 degrees."""
    for degrees in (20, 0, -20):
        assert stack(0, 5, 10, forward=np.tan(np.radians(degrees))).gantry_tilt_deg == pytest.approx(-degrees)


@pytest.mark.parametrize(
    ("changes", "found", "needed"),
    [
        ({"row_step_mm": np.zeros(3)},
         "slices that span no volume (steps [0.0, 0.0, 0.0], [0.25, 0.0, 0.0])", "finite"),
        ({"thickness_mm": np.nan}, "slices that span no volume (steps [0.0, 0.5, 0.0], [0.25, 0.0, 0.0])", "finite"),
        ({"thickness_mm": 0.0}, "slices at heights [0.0, 5.0, 10.0] mm, thickness 0.0 mm", "slices that follow"),
        ({"origins_mm": np.array([[0, 0, 0], [0, 0, 5.12345], [0, 0, 5.0]])},
         "slices at heights [0.0, 5.123, 5.0] mm, thickness 3.0 mm", "slices that follow"),
    ],
)  # fmt: skip
def test_a_refused_stack_is_named_with_its_numbers(changes, found, needed):
    with pytest.raises(InputError) as caught:
        replace(stack(0, 5, 10), **changes)
    assert (str(caught.value.subject), caught.value.found) == ("slice grid", found)
    assert caught.value.needed.startswith(needed)
    assert caught.value.remedy


@pytest.mark.parametrize("affine", [np.diag([1.0, 1, 0, 1]), np.eye(3), np.diag([np.inf, 1, 1, 1])])
def test_a_refused_affine_is_named_with_its_numbers(affine):
    with pytest.raises(InputError) as caught:
        SliceGrid.from_affine(affine, 2)
    assert str(caught.value.subject) == "affine"
    assert caught.value.found == f"an affine that maps the grid to no volume: {affine.tolist()}"
    assert (caught.value.needed, bool(caught.value.remedy)) == ("a finite, invertible 4×4 affine to mm", True)


def test_an_affines_thickness_is_the_distance_along_the_normal():
    sheared = np.array([[0, 0, 0.25, 1], [3, 0.5, 0, 2], [-4, 0, 0, 3], [0, 0, 0, 1.0]])
    grid = SliceGrid.from_affine(sheared.astype(np.float32), 2)
    assert grid.thickness_mm == 4
    assert grid.origins_mm.tolist() == [[1, 2, 3], [1, 5, -1]]
    assert grid.origins_mm.dtype == np.float64


def test_even_layers_of_a_sheared_stack_lean_with_it():
    grid = stack(0, 5, 10, 20, 25, forward=0.5)
    even = grid.evenly()
    assert even.margin == (0, 0)
    assert even.grid.thickness_mm == pytest.approx(2.5)
    assert even.grid.slice_step_mm == pytest.approx([0, -1.25, 2.5])
    assert even.grid.origins_mm[0] == pytest.approx(grid.origins_mm[0] + (0, 0.625, -1.25))


def test_the_frame_of_slices_that_move_holds_all_of_them():
    """A table that moves 1.2 mm to the front and 2.6 to the left: two rows up, ten columns on."""
    straight = stack(0, 5, 9, 16)
    grid = replace(straight, origins_mm=straight.origins_mm + np.outer([0, 0, 1, 1], [2.6, -1.2, 0]))
    even = grid.evenly()
    of_slice = {int(index): corner.tolist() for index, corner in zip(even.slices, even.corners, strict=True)}
    assert of_slice == {0: [2, 0], 1: [2, 0], 2: [0, 10], 3: [0, 10]}
    assert even.grid.origins_mm[0, :2] == pytest.approx([10, 20 - 2 * 0.5])
    assert even.slices.tolist() == sorted(even.slices.tolist())
    assert even.off < 0.02


def test_pixels_off_by_half_a_pixel_stay_in_a_straight_stack():
    straight = stack(0, 5, 9, 16)
    for off_mm, margin in ((0.24, (0, 0)), (0.4, (1, 0))):
        grid = replace(straight, origins_mm=straight.origins_mm + np.outer([0, 1, 0, 0], [0, off_mm, 0]))
        assert grid.evenly().margin == margin


def test_many_layers_are_tried_and_the_best_is_kept():
    """Extents that no few layers hold: of large slices the best of 2·n layers is taken, and what is off is told."""
    grid = stack(0, 1, 3.17, 4.71, 8)
    even = grid.evenly(1 << 27)  # no more layers than twice the slices
    held = np.bincount(even.slices, minlength=5)
    tried = {}
    edges = np.cumsum([0.0, *grid.extents_mm])
    for count in range(5, 11):
        layers = np.diff(np.rint(edges * (count / edges[-1])))
        tried[count] = np.abs(layers * edges[-1] / count / grid.extents_mm - 1).max()
    best = min(tried, key=tried.get)
    assert len(even.slices) == best
    assert held.sum() == best
    assert even.off == pytest.approx(tried[best])
    assert even.off > 0.02


def test_an_even_stacks_layers_are_its_slices():
    even = stack(0, 5, 10).evenly()
    assert (even.corners.tolist(), even.margin, even.off) == ([[0, 0]] * 3, (0, 0), 0)


def test_a_turn_to_axial_keeps_boxes_in_their_places():
    shape, box = (4, 5, 6), (slice(1, 3), slice(0, 2), slice(4, 6))
    numbers = np.arange(120).reshape(shape)
    for order in ((1, 0, 2), (2, 0, 1)):
        for reverse in ((False, False, False), (True, False, True), (False, True, False)):
            turn = AxialTurn(order, reverse)
            assert np.sort(turn.apply(numbers)[turn.turn_box(box, shape)], None).tolist() == (
                np.sort(numbers[box], None).tolist()
            )


def test_two_slices_more_than_45_degrees_off_are_cut_axially():
    for degrees, cut in ((44, False), (46, True)):
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        grid = SliceGrid(np.outer(np.arange(2), [0, sin, cos]), np.array([0, cos, -sin]), LEFT, 1.0)
        assert (AxialTurn.find(grid) is not None) == cut


def test_places_below_and_above_go_on_by_the_extents_of_the_ends():
    grid = stack(0, 4, 10)
    for height_mm, index in ((-4, -1), (-2, -0.5), (-10, -2.5), (0, 0), (7, 1.5), (10, 2), (13, 2.5), (16, 3), (22, 4)):
        found = grid.to_index(np.array([10 + 3 * 0.25, 20 + 2 * 0.5, 30.0 + height_mm]))
        assert found.tolist() == pytest.approx([index, 2, 3])
    both = grid.to_index(np.array([[[10, 20, 30], [10, 20, 34]]], np.float32))
    assert both.tolist() == [[[0, 0, 0], [1, 0, 0]]]
    assert both.dtype == np.float64


def turned_grid(
    angles_deg: tuple[float, float, float], spacing_mm: tuple[float, float, float], count: int
) -> SliceGrid:
    """Even slices turned about (x, y, z) from the standard axial view."""
    right, back, up = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix().T
    origins = np.arange(count)[:, None] * spacing_mm[0] * up
    return SliceGrid(origins, spacing_mm[1] * back, spacing_mm[2] * right, spacing_mm[0])


def places(grid: SliceGrid, rows: int, columns: int) -> np.ndarray:
    """(slice, row, column, 3) of every voxel's middle."""
    down, along = np.arange(rows)[:, None, None] * grid.row_step_mm, np.arange(columns)[:, None] * grid.column_step_mm
    return grid.origins_mm[:, None, None] + down + along


def test_turns_go_by_directions_and_not_by_the_size_of_voxels():
    random = np.random.default_rng(0)
    for _ in range(300):
        angles, spacing = random.uniform(-180, 180, 3), random.uniform(0.3, 9, 3)
        grid, unit = (turned_grid(tuple(angles), tuple(one), 4) for one in (spacing, (1.0, 1.0, 1.0)))
        assert PlaneTurn.find(grid) == PlaneTurn.find(unit)
        assert AxialTurn.find(grid) == AxialTurn.find(unit)


def test_coronal_slices_that_look_aside_keep_their_columns():
    assert PlaneTurn.find(turned_grid((-90, 0, 17), (5.0, 0.5, 0.5), 4)) == PlaneTurn()
    assert PlaneTurn.find(turned_grid((-90, 0, -17), (5.0, 0.5, 0.5), 4)) == PlaneTurn()


@pytest.mark.parametrize("angles", [(90, 0, 0), (-90, 0, 12), (0, 90, 0), (90, 0, 90), (80, 10, -8), (90, 20, -90)])
def test_axial_slices_of_another_stack_lie_where_they_lay(angles):
    shape = (5, 7, 9)
    grid = turned_grid(angles, (4.0, 0.5, 2.0), shape[0])
    turn = AxialTurn.find(grid)
    assert turn is not None
    before = places(grid, *shape[1:])
    after = np.stack([turn.apply(before[..., axis]) for axis in range(3)], axis=-1)
    turned = turn.turn_grid(grid, shape)
    assert len(turned) == after.shape[0]
    np.testing.assert_allclose(places(turned, *after.shape[1:3]), after, atol=1e-9)
    assert np.abs(turned.normal[2]) > 0.5
    assert turned.slice_step_mm[2] > 0
    assert turned.row_step_mm[1] > 0
    assert turned.column_step_mm[0] > 0


@pytest.mark.parametrize("lean", [0.0, 3.0])
@pytest.mark.parametrize(
    "shifts", [[(0, 0), (-2, 1), (-1, 5), (-6, 3), (-4, -2)], [(0, 0), (0, 0), (0, 1), (0, 0), (0, 0)]]
)
def test_layers_of_a_crooked_stack_lie_where_their_slices_do(lean, shifts):
    """Slices shifted by whole pixels against each other, in a stack that leans or not; one by a single pixel."""
    heights = np.array([0.0, 5.0, 12.0, 17.0, 22.0])
    pixel = np.array(shifts) + lean * heights[:, None] / 5 * (1, 0)
    grid = SliceGrid(np.column_stack([0.5 * pixel[:, 1], 0.5 * pixel[:, 0], heights]), np.array([0, 0.5, 0]),
                     np.array([0.5, 0, 0]), 5.0)  # fmt: skip
    layers = grid.evenly()
    begins = layers.grid.origins_mm + layers.corners @ np.stack([grid.row_step_mm, grid.column_step_mm])
    off = (begins - grid.origins_mm[layers.slices])[:, :2]
    height = np.abs(layers.grid.origins_mm[:, 2] - heights[layers.slices])
    leaning = 0.1 * lean * height if layers.margin == (0, 0) else 0.0
    assert (np.abs(off).max(axis=1) <= 0.25 + leaning + 1e-9).all()
    assert (layers.corners >= 0).all()
    assert (layers.corners <= layers.margin).all()
