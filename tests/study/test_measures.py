"""Clinical measures against bodies and heads whose measures are known, on stacks of every kind."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from bleedmap.arrays import BoolArray, DoubleArray, FloatArray
from bleedmap.geometry import AxialTurn, SliceGrid, axial_affine
from bleedmap.phantom import anatomy
from bleedmap.phantom.head import Bleed, Phantom, PhantomSettings, make_phantom
from bleedmap.phantom.scan import ScanGeometry, scan
from bleedmap.postprocess import Measures, label_lesions
from bleedmap.study.gate.anatomy import find_cavity
from bleedmap.study.measures import Midplane, find_midplane, measure_lesions
from bleedmap.volume import Mask, Volume

# Each holds a ball of 40 mm around its middle.
EVEN = ScanGeometry(slices=24, spacing_mm=2.5, shape=(80, 90), pixel_mm=(0.8, 0.7))
GRIDS = {
    "even": EVEN,
    "thick": replace(EVEN, slices=12, spacing_mm=5.0),
    "uneven": ScanGeometry(
        shape=(80, 90), pixel_mm=(0.8, 0.7), positions_mm=(*np.arange(-27, 0, 5.0), *np.arange(0, 28, 1.5))
    ),
    "slice missing": replace(EVEN, missing=(10,)),
    "tilted": replace(EVEN, tilt_deg=22.0),
    "oblique": replace(EVEN, turn_deg=(12.0, -9.0, 17.0)),
}


def places(grid: SliceGrid, shape: tuple[int, int]) -> DoubleArray:
    return grid.to_mm(np.stack(np.meshgrid(*map(np.arange, (len(grid), *shape)), indexing="ij"), axis=-1))


def body(geometry: ScanGeometry, inside: Callable[[DoubleArray], BoolArray]) -> Mask:
    """A body's mask: voxels whose centre is in it, by (slice, row, column, 3) LPS mm from the head's middle."""
    grid = geometry.grid()
    return Mask(inside(places(grid, geometry.shape)), grid)


def measure_all(mask: Mask, hu: FloatArray, *, sides_known: bool = True) -> tuple[Measures, ...]:
    return measure_lesions(mask, Volume(hu, mask.grid), sides_known=sides_known)


def measure(mask: Mask) -> Measures:
    (measures,) = measure_all(mask, np.zeros(mask.array.shape, np.float32))
    return measures


def ball(radius_mm: float) -> Callable[[DoubleArray], BoolArray]:
    return lambda at: np.linalg.norm(at, axis=-1) <= radius_mm


@pytest.mark.parametrize("kind", GRIDS)
def test_a_ball_measures_its_diameter_everywhere(kind: str) -> None:
    mask = body(GRIDS[kind], ball(18.0))
    measures, slice_mm = measure(mask), float(mask.grid.extents_mm.max())
    assert measures.longest_mm == pytest.approx(36, abs=1.6)
    assert measures.perpendicular_mm == pytest.approx(36, abs=1.6)
    assert measures.height_mm == pytest.approx(36, abs=slice_mm)
    assert (measures.side, measures.skull_mm) == (None, None)  # no head around it
    assert mask.volume_ml == pytest.approx(24.4, rel=0.08)
    # A ball's slices of less than a quarter of the largest reach from 0.866 r up, those that count half from 0.5 r.
    assert measures.abc2.c_mm == pytest.approx(18 * (2 * 0.5 + 0.866 - 0.5), abs=slice_mm)


def test_a_box_measures_its_diagonal_and_what_lies_across_it() -> None:
    mask = body(EVEN, lambda at: np.all(np.abs(at - 0.01) <= (15.0, 8.0, 10.0), axis=-1))
    measures = measure(mask)
    _, rows, columns = (found.max() - found.min() + 1 for found in np.nonzero(mask.array))
    width, depth = columns * 0.7, rows * 0.8
    assert measures.longest_mm == pytest.approx(np.hypot(width, depth), abs=1e-6)
    # At right angles to the diagonal the longest line ends on both long sides.
    assert measures.perpendicular_mm == pytest.approx(depth * np.hypot(width, depth) / width, rel=0.02)
    assert measures.height_mm == measures.abc2.c_mm == 20.0  # every slice is as large as the largest


def test_c_weighs_slices_as_kothari_did() -> None:
    mask = np.zeros((7, 60, 60), np.bool_)
    sides = ((9, 9), (10, 10), (17, 17), (18, 18), (20, 20), (15, 20), (5, 5))  # 20, 25, 72, 81, 100, 75, 6 %
    for index, (rows, columns) in enumerate(sides):
        mask[index, 20 : 20 + rows, 20 : 20 + columns] = True
    grid = SliceGrid(
        np.array([(0, 0, height) for height in (0.0, 4, 8, 12, 16, 24, 32)]), np.array([0, 1.0, 0]),
        np.array([1.0, 0, 0]), 4.0,
    )  # fmt: skip
    abc2 = measure(Mask(mask, grid)).abc2
    assert list(grid.extents_mm) == [4, 4, 4, 4, 6, 8, 8]
    assert abc2.c_mm == 4 / 2 + 4 / 2 + 4 + 6 + 8 / 2
    assert abc2.ml == pytest.approx(20 * 2**0.5 * abc2.b_mm * 18 / 2000)
    assert abc2.b_mm == pytest.approx(20 * 2**0.5, rel=0.02)


def test_abc2_is_of_the_largest_slice_and_diameters_are_of_the_longest() -> None:
    """A rod of 40 × 4 pixels under a square of 20 × 20, joined to it."""
    mask = np.zeros((2, 60, 60), np.bool_)
    mask[0, 10:50, 28:32] = mask[1, 20:40, 20:40] = True
    measures = measure(Mask(mask, SliceGrid.from_affine(axial_affine((5.0, 1.0, 1.0), mask.shape), 2)))
    assert measures.longest_mm == pytest.approx(np.hypot(40, 4))
    assert measures.perpendicular_mm < 5
    assert (measures.abc2.a_mm, measures.abc2.b_mm) == pytest.approx((20 * 2**0.5, 20 * 2**0.5), rel=0.02)
    assert measures.abc2.c_mm == 5 + 5 / 2  # the rod has 40 % of the square's area


def test_abc2_of_an_ellipsoid_in_thin_slices_is_what_the_rule_gives() -> None:
    """Half the product of all three diameters is 0.95 of an ellipsoid; of its height the weights leave 0.68 for C."""
    semi = np.array([16.0, 10.0, 12.0])
    mask = body(replace(EVEN, spacing_mm=1.0, slices=30), lambda at: np.linalg.norm(at / semi, axis=-1) <= 1)
    abc2 = measure(mask).abc2
    assert (abc2.a_mm, abc2.b_mm) == (pytest.approx(32, abs=1.2), pytest.approx(20, abs=1.2))
    assert abc2.c_mm == pytest.approx(24 * (0.5 + 0.866) / 2, abs=1)
    assert abc2.ml / mask.volume_ml == pytest.approx(3 / np.pi * (0.5 + 0.866) / 2, rel=0.12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.4, 1.5), st.floats(0.4, 1.5))
def test_the_line_across_is_the_longest_of_all(seed: int, row_mm: float, column_mm: float) -> None:
    rough = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((14, 15)), 1.2)
    plane = label_lesions((rough > np.quantile(rough, 0.6))[None]) == 1
    grid = SliceGrid.from_affine(axial_affine((5.0, row_mm, column_mm), plane.shape), 1)
    measures = measure(Mask(plane, grid))
    square = np.array([(0, 0), (0, 1), (1, 1), (1, 0), (0, 0)])
    outlines = (np.argwhere(plane[0])[:, None] - 0.5 + square) * (row_mm, column_mm)
    apart = outlines.reshape(-1, 1, 2) - outlines.reshape(-1, 2)
    lengths = np.linalg.norm(apart, axis=2)
    assert measures.longest_mm == pytest.approx(lengths.max())
    longest = apart[lengths > lengths.max() - 1e-9] / lengths.max()  # of equals any may have been taken
    tried = [longest_line_across(outlines, axis, min(row_mm, column_mm) / 16) for axis in longest]
    assert min(tried) - 0.7 * np.hypot(row_mm, column_mm) <= measures.perpendicular_mm <= max(tried) + 1e-9
    assert measures.perpendicular_mm <= measures.longest_mm + 1e-9


def longest_line_across(outlines: DoubleArray, axis: DoubleArray, step: float) -> float:
    """Where lines at right angles to an axis, a small step apart, cross the pixels' (pixel, 5, 2) outlines."""
    along, across = outlines @ axis, outlines @ (-axis[1], axis[0])
    lengths = []
    for line in np.arange(np.ceil(along.min() / step), along.max() / step) * step:
        before, after = along[:, :-1] - line, along[:, 1:] - line
        cut = (before * after <= 0) & (before != after)
        share = before[cut] / (before - after)[cut]
        crossed = across[:, :-1][cut] * (1 - share) + across[:, 1:][cut] * share
        lengths.append(np.ptp(crossed) if crossed.size else 0.0)
    return float(max(lengths))


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 1, 0)])  # coronal, sagittal
def test_coronal_and_sagittal_stacks_measure_on_axial_slices(axes: tuple[int, int, int]) -> None:
    grid = SliceGrid.from_affine(axial_affine((2.5, 0.8, 0.7), (24, 80, 90)), 24)
    at = places(grid, (80, 90))
    two = (np.linalg.norm((at - (6, 3, 2)) / (8, 14, 11), axis=-1) <= 1) | (
        np.linalg.norm(at - (-18, -9, 5), axis=-1) < 6
    )
    affine = grid.affine.copy()
    affine[:, :3] = grid.affine[:, list(axes)]
    affine[:3, 3] += 4 * affine[:3, 0]  # a slice is left out at the start, so that it is no mere turn
    other = two.transpose(axes)[4:]
    turned = SliceGrid.from_affine(affine, len(other))
    if axes == (1, 0, 2):
        assert AxialTurn.find(turned) is not None
    hu = np.zeros(two.shape, np.float32)
    expected = measure_all(Mask(two, grid), hu)
    found = measure_all(Mask(other, turned), hu.transpose(axes)[4:])
    assert len(found) == 2
    for one, same in zip(found, expected, strict=True):
        assert (one.longest_mm, one.perpendicular_mm) == pytest.approx((same.longest_mm, same.perpendicular_mm))
        assert (one.height_mm, one.abc2.ml) == pytest.approx((same.height_mm, same.abc2.ml))


# In a head

HEAD = PhantomSettings(
    seed=108, spacing_mm=(5.0, 1.8, 1.8), shape=(30, 128, 128),
    bleeds=(Bleed("IPH", 12.0, "left"), Bleed("EDH", 15.0, "right")),
)  # fmt: skip
TRUE_SKULL_MM = 2.8  # of the IPH, by the head's own fields


@dataclass(frozen=True, eq=False)
class Head:
    """A head, its true bleeds, and how the patient was turned in the scanner."""

    hu: FloatArray
    mask: Mask
    turn: DoubleArray

    def off_middle(self, at: DoubleArray) -> DoubleArray:
        """How far places lie to the left of the drawn head's own middle."""
        head = anatomy.draw_head(np.random.default_rng([HEAD.seed, 0]))
        to_left = np.linalg.inv(head.turn_and_scale)[0]
        return np.asarray((at @ self.turn - np.array(head.shift_mm)) @ to_left / np.linalg.norm(to_left))


@cache
def phantom() -> Phantom:
    return make_phantom(HEAD)


PLACES = {  # of slices, counted in the phantom's own
    "even": np.arange(30.0), "thin": np.arange(0, 29.1, 0.25), "uneven": np.r_[0.0:14:1, 14:30:2],
    "turned": np.arange(30.0), "turned far": np.arange(30.0),
}  # fmt: skip
TURNS = {"turned": (6.0, 8.0, -20.0), "turned far": (0.0, 0.0, 28.0)}


@cache
def head_of(kind: str) -> Head:
    """The phantom's slices, some left out or repeated, of a patient who lies in the scanner in an own way."""
    turn = Rotation.from_euler("xyz", TURNS.get(kind, (0, 0, 0)), degrees=True).as_matrix()
    made, at = phantom(), PLACES[kind]
    grid, near = made.volume.grid, np.rint(at).astype(int)
    origins = grid.origins_mm[0] + at[:, None] * grid.slice_step_mm
    turned = SliceGrid(origins @ turn.T, turn @ grid.row_step_mm, turn @ grid.column_step_mm, 5.0)
    return Head(made.volume.hu[near], Mask(made.mask.array[near], turned), turn)


def middle_of(hu: FloatArray, grid: SliceGrid) -> Midplane | None:
    return find_midplane(find_cavity(Volume(hu, grid)), grid)


def check_head(head: Head, off_mm: float) -> None:
    largest, second = measure_all(head.mask, head.hu)[:2]
    assert (largest.side, second.side) == ("right", "left")
    assert largest.skull_mm == pytest.approx(0, abs=1.0)  # an epidural lies on the bone
    assert second.skull_mm == pytest.approx(TRUE_SKULL_MM, abs=2.0)
    plane, at = middle_of(head.hu, head.mask.grid), places(head.mask.grid, head.hu.shape[1:])
    assert plane is not None
    inside = (np.abs(at @ head.turn - (0, 2, -5)) < (60, 70, 45)).all(axis=-1)
    off = at[inside] @ plane.normal - plane.offset_mm - head.off_middle(at[inside])
    assert np.abs(off).max() < off_mm


@pytest.mark.parametrize("kind", PLACES)
def test_sides_and_distances_in_a_head(kind: str) -> None:
    check_head(head_of(kind), 2.0)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("geometry", "off_mm"),
    [
        (ScanGeometry(tilt_deg=18.0), 3.0), (ScanGeometry(tilt_deg=-25.0), 3.0),
        (ScanGeometry(turn_deg=(6.0, 8.0, -20.0)), 3.0), (ScanGeometry(turn_deg=(0.0, 0.0, 28.0)), 8.0),
        (ScanGeometry(positions_mm=(*np.arange(-70, 0, 5.0), *np.arange(0, 75, 7.0))), 3.0),
    ],
    ids=["tilted", "tilted back", "oblique", "turned far", "uneven"],
)  # fmt: skip
def test_sides_and_distances_in_a_head_scanned_otherwise(geometry: ScanGeometry, off_mm: float) -> None:
    made = scan(HEAD, geometry)
    check_head(Head(made.volume.hu, made.mask, np.eye(3)), off_mm)


def test_a_mirrored_head_has_mirrored_sides_and_one_without_sides_none() -> None:
    head = head_of("even")
    flipped = Mask(head.mask.array[..., ::-1], head.mask.grid)
    assert [one.side for one in measure_all(flipped, head.hu[..., ::-1])][:2] == ["left", "right"]
    nowhere = measure_all(head.mask, head.hu, sides_known=False)
    assert {one.side for one in nowhere} == {None}
    assert nowhere[0].skull_mm is not None


@pytest.mark.parametrize(
    ("low_mm", "high_mm", "side"),
    [
        (8, 30, "left"), (-30, -8, "right"), (-2, 25, "left"), (-9, 9, "midline"), (-2.5, 2.5, "midline"),
        (-30, 30, "both"), (-30, 12, "both"), (0.5, 4, "midline"),
    ],
)  # fmt: skip
def test_sides_by_how_far_a_lesion_reaches(low_mm: float, high_mm: float, side: str) -> None:
    head = head_of("turned far")
    at = places(head.mask.grid, head.hu.shape[1:])
    off, own = head.off_middle(at), at @ head.turn
    block = (off >= low_mm) & (off <= high_mm) & (np.abs(own[..., 1] - 5) < 12) & (np.abs(own[..., 2]) < 9)
    (measures,) = measure_all(Mask(block, head.mask.grid), head.hu)
    assert measures.side == side


def test_what_mirrors_onto_nothing_has_no_middle() -> None:
    head = head_of("even")
    grid, half = head.mask.grid, head.hu.copy()
    half[..., 75:] = -1000.0  # cut off
    assert middle_of(half, grid) is None
    assert middle_of(head.hu[12:14], replace(grid, origins_mm=grid.origins_mm[12:14])) is None  # few
    assert middle_of(np.zeros_like(half), grid) is None
    on_side = SliceGrid(grid.origins_mm, grid.column_step_mm, grid.row_step_mm, 5.0)  # the back is called the left
    assert middle_of(head.hu, on_side) is None


def test_calcified_glands_are_no_skull() -> None:
    head = head_of("even")
    hu, plain = head.hu.copy(), measure_all(head.mask, head.hu)
    slice_, row, column = (int(one.mean()) for one in np.nonzero(label_lesions(head.mask.array) == 2))
    hu[slice_, row - 1 : row + 1, column - 1 : column + 1] = 300.0
    assert [one.skull_mm for one in measure_all(head.mask, hu)] == [one.skull_mm for one in plain]


def test_many_and_tiny_lesions_and_none() -> None:
    head = head_of("even")
    empty = Mask(np.zeros_like(head.mask.array), head.mask.grid)
    assert measure_all(empty, head.hu) == ()
    dots = np.zeros_like(head.mask.array)
    dots[8:25:8, 30:110:20, 30:100:17] = True
    measured = measure_all(Mask(dots, head.mask.grid), head.hu)
    assert len(measured) == len(np.argwhere(dots))
    for one in measured[::7]:
        assert (one.longest_mm, one.perpendicular_mm) == pytest.approx((1.8 * 2**0.5, 1.8 * 2**0.5), rel=0.3)
        assert one.height_mm == one.abc2.c_mm == pytest.approx(5)
