"""Slices in their exact places: tilt, gaps, doubles, every way of storing a plane, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import generate_uid

from bleedmap.errors import InputError
from bleedmap.geometry import PlaneTurn, SliceGrid
from bleedmap.phantom.dicom import CtOptions, ct_instances
from bleedmap.phantom.dicom_enhanced import enhanced_ct
from bleedmap.phantom.scan import ScanGeometry
from bleedmap.volume import Mask
from dicom_studies import SHAPE, SPACING_MM, assert_same, even_grid, read, series, volume_on, write

TURNS = [PlaneTurn(*(bool(number & bit) for bit in (1, 2, 4))) for number in range(8)]
SCAN = ScanGeometry(slices=SHAPE[0], spacing_mm=5.0, shape=SHAPE[1:], pixel_mm=SPACING_MM[1:])


def grid_with(**geometry: object) -> SliceGrid:
    return replace(SCAN, **geometry).grid()


def noted(found, words: str) -> str:
    matches = [note for note in found.notes if words in note]
    assert len(matches) == 1, found.notes
    return matches[0]


@pytest.mark.parametrize("tilt_deg", [-25.0, -8.0, 3.0, 12.5, 30.0])
def test_peer_1_gantry_tilted_head_ct(tmp_path, tilt_deg):
    expected = volume_on(grid_with(tilt_deg=tilt_deg))
    found = read(write(tmp_path, series(expected)))
    assert_same(found, expected)
    assert found.volume.grid.shear_deg == pytest.approx(abs(tilt_deg), abs=1e-3)
    assert f"{abs(tilt_deg):.1f}°" in noted(found, "gantry was tilted")
    assert found.volume.grid.spacing_mm[0] == pytest.approx(5 * np.cos(np.radians(tilt_deg)), abs=1e-4)


def test_peer_1_the_stated_tilt_never_moves_a_slice(tmp_path):
    expected = volume_on(even_grid())
    instances = series(expected)
    for one in instances:
        one.GantryDetectorTilt = "18"
    found = read(write(tmp_path, instances))
    assert_same(found, expected)
    assert "18.0°, the slices' positions one of 0.0°" in noted(found, "header states")


@pytest.mark.parametrize("spacing_mm", [0.5, 1.25, 2.4, 5.0, 10.0])
def test_peer_2_every_even_spacing_without_a_note(tmp_path, spacing_mm):
    expected = volume_on(grid_with(spacing_mm=spacing_mm))
    found = read(write(tmp_path, series(expected)))
    assert_same(found, expected)
    assert found.notes == ()


def test_peer_2_missing_slices(tmp_path):
    expected = volume_on(grid_with(missing=(3, 7, 8), slices=14))
    found = read(write(tmp_path, series(expected)))
    assert_same(found, expected)
    assert "3 slices seem to be missing, between slices 3 and 4, 6 and 7: gaps of up to 15.0 mm" in noted(
        found, "missing"
    )


def test_peer_2_uneven_slices(tmp_path):
    positions = (-30.0, -27.5, -25.0, -22.5, -20.0, -15.0, -10.0, -5.0, 0.0, 5.0, 10.0, 15.3)
    expected = volume_on(grid_with(positions_mm=positions, thickness_mm=5.0))
    found = read(write(tmp_path, series(expected)))
    assert_same(found, expected)
    assert "2.50 to 5.30 mm" in noted(found, "uneven")


def test_peer_2_a_gap_that_no_slice_can_stand_for(tmp_path):
    folder = write(tmp_path, series(volume_on(grid_with(missing=(4, 5, 6, 7, 8, 9), slices=18))))
    with pytest.raises(InputError, match=r"gap of 35\.0 mm between slices 4 and 5 \(median 5\.00 mm\)"):
        read(folder)


def test_overlapping_and_spaced_slices_are_told(tmp_path):
    overlapping = read(write(tmp_path / "a", series(volume_on(grid_with(spacing_mm=2.5, thickness_mm=5.0)))))
    assert "5 mm thick, 2.50 mm apart" in noted(overlapping, "overlap")
    spaced = read(write(tmp_path / "b", series(volume_on(grid_with(spacing_mm=7.0, thickness_mm=5.0)))))
    assert "5 mm thick, 7.00 mm apart" in noted(spaced, "gaps between all")


def test_doubled_slices_of_equal_pixels_are_left_out(tmp_path):
    expected = volume_on(even_grid())
    instances = series(expected)
    write(tmp_path, [*instances, instances[4]])  # the same file twice
    copy = series(expected)[7]
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    found = read(write(tmp_path, [copy]))
    assert_same(found, expected)
    assert "2 doubled slices were left out" in noted(found, "doubled")


def test_doubled_slices_of_other_pixels_are_refused(tmp_path):
    instances, others = series(), series(volume_on(even_grid(), seed=1))
    others[5].SOPInstanceUID = generate_uid()
    with pytest.raises(
        InputError, match=r"slice at the place of another .* of 1,920 pixels differ, by up to [\d,]+ HU"
    ):
        read(write(tmp_path, [*instances, others[5]]))


def test_different_slices_of_one_uid_are_refused(tmp_path):
    instances = series()
    instances[3].SOPInstanceUID = instances[4].SOPInstanceUID
    with pytest.raises(InputError, match="2 different slices with one SOP Instance UID"):
        read(write(tmp_path, instances))


@pytest.mark.parametrize("turn", TURNS, ids=str)
@pytest.mark.parametrize("tilt_deg", [0.0, 15.0])
def test_peer_3_output_is_never_flipped(tmp_path, turn, tilt_deg):
    """Prone, feet first, mirrored, transposed: the volume is the same, and the way back gives what was stored."""
    expected = volume_on(grid_with(tilt_deg=tilt_deg, missing=(4,)))
    instances = ct_instances(expected, turn=turn, options=CtOptions(reverse_numbers=True))
    found = read(write(tmp_path, instances))
    assert_same(found, expected)
    assert found.turn == turn
    stored = np.stack([one.pixel_array - 1024.0 for one in instances])
    np.testing.assert_array_equal(found.as_stored(found.volume.hu), stored)
    assert [one.SOPInstanceUID for one in found.headers] == [one.SOPInstanceUID for one in instances]


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_peer_3_multi_frame_output_is_never_flipped(tmp_path, turn):
    expected = volume_on(grid_with(tilt_deg=10.0, missing=(2,)))
    found = read(write(tmp_path, [enhanced_ct(expected, turn=turn, options=CtOptions(reverse_numbers=True))]))
    assert_same(found, expected)
    assert found.turn == turn
    assert found.frames == tuple(range(len(expected.hu), 0, -1))
    assert len(set(map(id, found.headers))) == 1


@pytest.mark.parametrize("turn_deg", [(20.0, 0.0, 0.0), (0.0, 25.0, 0.0), (0.0, 0.0, 40.0), (-15.0, 10.0, 5.0)])
def test_oblique_planes_keep_their_places(tmp_path, turn_deg):
    expected = volume_on(grid_with(turn_deg=turn_deg, tilt_deg=5.0))
    assert_same(read(write(tmp_path, series(expected))), expected)


def test_strongly_oblique_planes_are_told_and_coronal_ones_refused(tmp_path):
    oblique = read(write(tmp_path / "a", series(volume_on(grid_with(turn_deg=(35.0, 0.0, 0.0))))))
    assert "35° from axial" in noted(oblique, "oblique")
    with pytest.raises(InputError, match="coronal, 90° from axial"):
        read(write(tmp_path / "b", series(volume_on(grid_with(turn_deg=(90.0, 0.0, 0.0))))))
    with pytest.raises(InputError, match="sagittal, 60° from axial"):
        read(write(tmp_path / "c", series(volume_on(grid_with(turn_deg=(0.0, 60.0, 0.0))))))


def test_peer_4_volume_in_ml_is_that_of_the_body(tmp_path):
    """A slab across all slices: tilted, uneven, with gaps, to the border, its mL are those of the parallelepiped."""
    for number, geometry in enumerate(
        [
            {},
            {"tilt_deg": 20.0},
            {"missing": (5,)},
            {"turn_deg": (0.0, 20.0, 0.0)},
            {"tilt_deg": 15.0, "missing": (3, 8)},
        ]
    ):
        grid = grid_with(**geometry)
        found = read(write(tmp_path / str(number), series(volume_on(grid)))).volume
        height_mm = 5.0 * SHAPE[0] * np.cos(np.radians(geometry.get("tilt_deg", 0.0)))
        area_mm2 = SHAPE[1] * SPACING_MM[1] * SHAPE[2] * SPACING_MM[2]
        assert Mask(np.ones(found.hu.shape, bool), found.grid).volume_ml == pytest.approx(height_mm * area_mm2 / 1000)


def test_a_table_that_moved_sideways(tmp_path):
    grid = even_grid()
    drifting = replace(grid, origins_mm=grid.origins_mm + np.arange(12)[:, None] * [0.5, 0.0, 0.0])
    found = read(write(tmp_path / "a", series(volume_on(drifting))))
    assert_same(found, volume_on(drifting))
    assert "5.7°" in noted(found, "moved sideways")
    jumping = replace(
        grid, origins_mm=grid.origins_mm + np.where(np.arange(12) > 5, 3.0, 0.0)[:, None] * [1.0, 0.0, 0.0]
    )
    found = read(write(tmp_path / "b", series(volume_on(jumping))))
    assert_same(found, volume_on(jumping))
    assert "by up to" in noted(found, "shifted in plane")


def turn(one: Dataset, degrees: float) -> None:
    """Turn an image's rows and columns about the table."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    one.ImageOrientationPatient = [f"{cosine:.8f}" for cosine in (c, s, 0, -s, c, 0)]


def test_a_head_in_two_parts_turned_by_four_degrees_is_refused(tmp_path):
    instances = series()
    for one in instances[7:]:
        turn(one, 4.0)
    with pytest.raises(InputError, match=r"holds 7 slices and 5 that are turned by 4\.0° against them"):
        read(write(tmp_path, instances))


def test_one_image_turned_by_four_degrees_is_left_out(tmp_path):
    instances = series()
    turn(instances[5], 4.0)
    found = read(write(tmp_path, instances))
    assert len(found.volume.hu) == 11
    assert "12 images of 2 kinds (1 with another angle, turned by 4.0°)" in noted(found, "kinds")


@pytest.mark.parametrize("sideways", [False, True], ids=["tilt", "table"])
def test_a_shear_beyond_any_gantry_is_refused(tmp_path, sideways):
    instances = series()
    for number, one in enumerate(instances):
        x, y, z = (float(value) for value in one.ImagePositionPatient)
        shift = number * 5.0 * np.tan(np.radians(50))
        one.ImagePositionPatient = [x + shift * sideways, y + shift * (not sideways), z]
    with pytest.raises(InputError, match="slices that follow one another at 50° to their normal"):
        read(write(tmp_path, instances))


def test_planes_that_are_nearly_parallel_are_told(tmp_path):
    instances = series()
    turn(instances[5], 0.5)
    assert "0.50°" in noted(read(write(tmp_path, instances)), "turned against each other")


@pytest.mark.parametrize(
    ("keyword", "value", "found"),
    [
        ("ImagePositionPatient", None, r"no usable Image Position \(0020,0032\)"),
        ("ImagePositionPatient", ["1", "2"], r"no usable Image Position \(0020,0032\)"),
        ("ImagePositionPatient", ["0", "0", "1e9"], r"a position of"),
        ("ImageOrientationPatient", None, r"no usable Image Orientation \(0020,0037\)"),
        ("ImageOrientationPatient", ["1", "0", "0", "0.1", "0.9950", "0"], r"\+0\.1000 off right angles"),
        ("ImageOrientationPatient", ["1.1", "0", "0", "0", "1", "0"], r"cosines of length 1\.1000 and 1\.0000"),
        ("ImageOrientationPatient", ["0", "0", "0", "0", "0", "0"], r"cosines of length 0\.0000 and 0\.0000"),
        ("PixelSpacing", None, r"no usable Pixel Spacing \(0028,0030\)"),
        ("PixelSpacing", ["0.01", "0.01"], r"pixels of 0\.01 × 0\.01 mm"),
        ("PixelSpacing", ["0.5", "50"], r"pixels of 0\.5 × 50 mm"),
        ("PixelSpacing", ["0.5", "-0.5"], r"pixels of 0\.5 × -0\.5 mm"),
    ],
)  # fmt: skip
def test_a_place_that_is_missing_or_cannot_be_is_refused(tmp_path, keyword, value, found):
    instances = series()
    for one in instances:
        if value is None:
            delattr(one, keyword)
            one.ImagerPixelSpacing = ["0.5", "0.5"]  # at the detector, not in the patient: never taken instead
        else:
            setattr(one, keyword, value)
    with pytest.raises(InputError, match=found):
        read(write(tmp_path, instances))


def test_a_place_missing_in_a_few_slices_is_refused_or_told(tmp_path):
    instances = series()
    del instances[3].ImagePositionPatient
    found = read(write(tmp_path, instances))
    assert "12 images of 2 kinds" in noted(found, "kinds")
    noted(found, "1 slice seems to be missing, between slices 3 and 4")


def test_one_slice_alone_needs_its_thickness(tmp_path):
    grid = SliceGrid(even_grid().origins_mm[:1], even_grid().row_step_mm, even_grid().column_step_mm, 4.0)
    (one,) = series(volume_on(grid))
    found = read(write(tmp_path / "a", [one]))
    assert found.volume.grid.voxel_ml == pytest.approx(4.0 * 0.6 * 0.5 / 1000)
    one.SliceThickness = ""
    with pytest.raises(InputError, match="single slice without thickness"):
        read(write(tmp_path / "b", [one]))
