"""One head, any scan: the truth stays where it is and as large as it is."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from bleedmap.errors import SettingsError
from bleedmap.phantom.head import Bleed, PhantomSettings
from bleedmap.phantom.scan import PhantomScan, ScanGeometry, scan

BLEEDING = PhantomSettings(seed=1, bleeds=(Bleed("IPH", 20.0), Bleed("SDH", 30.0, "right")))
UNEVEN = tuple(float(one) for one in (*np.arange(-72.5, 0, 2.5), *np.arange(0, 80, 5)))
GEOMETRIES = {
    "plain": ScanGeometry(),
    "1 mm": ScanGeometry(slices=150, spacing_mm=1.0),
    "7.5 mm": ScanGeometry(slices=20, spacing_mm=7.5),
    "tilt 12": ScanGeometry(tilt_deg=12.0),
    "tilt -25": ScanGeometry(tilt_deg=-25.0),
    "oblique": ScanGeometry(turn_deg=(15.0, 10.0, 20.0)),
    "oblique and tilted": ScanGeometry(turn_deg=(0.0, 0.0, 30.0), tilt_deg=15.0),
    "uneven": ScanGeometry(positions_mm=UNEVEN),
    "overlapping": ScanGeometry(slices=60, spacing_mm=2.5, thickness_mm=5.0),
    "gapped": ScanGeometry(thickness_mm=2.0),
    "odd pixels": ScanGeometry(shape=(150, 110), pixel_mm=(1.5, 2.1)),
}


@cache
def scanned(name: str) -> PhantomScan:
    return scan(BLEEDING, GEOMETRIES[name])


def centroid_mm(one: PhantomScan) -> np.ndarray:
    """Of the mask, each voxel weighted by its volume."""
    index = np.argwhere(one.mask.array)
    return np.average(one.mask.grid.to_mm(index), axis=0, weights=one.mask.grid.voxel_ml[index[:, 0]])


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_volume_is_the_head_s(name):
    one = scanned(name)
    assert one.true_volume_ml == pytest.approx(50, rel=0.02)
    assert one.true_volume_ml == pytest.approx(sum(bleed.true_volume_ml for bleed in one.bleeds))
    assert one.mask.volume_ml == pytest.approx(one.true_volume_ml, rel=0.02)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_bleeds_are_where_they_are_in_the_head(name):
    one = scanned(name)
    grid, away_mm = one.mask.grid, centroid_mm(one) - one.true_centroid_mm
    between, height, width = grid.spacing_mm
    assert abs(away_mm @ grid.row_step_mm / height) < height / 2
    assert abs(away_mm @ grid.column_step_mm / width) < width / 2
    assert abs(away_mm @ grid.normal) < max(between, 1.0) / 2


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_picture_shows_blood_where_the_mask_is(name):
    one = scanned(name)
    inner = ndimage.binary_erosion(one.mask.array, np.ones((1, 5, 5), bool))
    assert inner.any()
    assert np.median(one.volume.hu[inner]) == pytest.approx(np.mean([bleed.hu for bleed in one.bleeds]), abs=10)
    beside = ndimage.binary_dilation(one.mask.array, np.ones((1, 11, 11), bool)) & ~ndimage.binary_dilation(
        one.mask.array, np.ones((1, 5, 5), bool)
    )
    assert np.median(one.volume.hu[beside]) < 45


@pytest.mark.parametrize(
    ("geometry", "within"),
    [
        (ScanGeometry(slices=15, spacing_mm=10.0), 0.02),
        (ScanGeometry(slices=15, spacing_mm=10.0, thickness_mm=5.0), 0.02),  # half of the head is not seen
        (ScanGeometry(missing=(14,)), 0.02),
        (ScanGeometry(missing=(16, 17)), 0.03),
    ],
)
def test_what_thick_and_missing_slices_cost_on_large_bleeds(geometry, within):
    one = scan(BLEEDING, geometry)
    assert one.mask.volume_ml == pytest.approx(one.true_volume_ml, rel=within)


def test_a_tilt_shears_the_stack_about_the_patient_s_x_axis():
    grid = ScanGeometry(tilt_deg=20.0).grid()
    assert grid.shear_deg == pytest.approx(20)
    assert grid.tilt_to_axial_deg == pytest.approx(20)
    np.testing.assert_allclose(np.diff(grid.origins_mm, axis=0), np.tile([0, 0, 5.0], (29, 1)), atol=1e-9)
    np.testing.assert_allclose(grid.column_step_mm, [1.8, 0, 0])
    assert grid.spacing_mm == pytest.approx((5 * np.cos(np.radians(20)), 1.8, 1.8))


def test_oblique_slices_step_along_their_normal():
    grid = ScanGeometry(turn_deg=(15.0, 10.0, 20.0)).grid()
    assert grid.shear_deg == pytest.approx(0, abs=1e-5)
    assert grid.tilt_to_axial_deg > 15
    np.testing.assert_allclose(grid.to_mm(np.array([14.5, 63.5, 63.5])), np.zeros(3), atol=1e-9)


def test_missing_slices_leave_the_others_as_they_are():
    quiet = replace(BLEEDING, noise_hu=0.0)
    whole, holed = scan(quiet, ScanGeometry(slices=6)), scan(quiet, ScanGeometry(slices=6, missing=(2, 4)))
    kept = np.delete(np.arange(6), (2, 4))
    np.testing.assert_array_equal(holed.volume.hu, whole.volume.hu[kept])
    np.testing.assert_allclose(holed.volume.grid.origins_mm, whole.volume.grid.origins_mm[kept])


def test_the_same_settings_give_the_same_scan_and_noise_only_adds():
    geometry = ScanGeometry(slices=5, tilt_deg=10.0)
    one, other = scan(BLEEDING, geometry), scan(BLEEDING, geometry)
    np.testing.assert_array_equal(one.volume.hu, other.volume.hu)
    np.testing.assert_array_equal(one.mask.array, other.mask.array)
    quiet = scan(replace(BLEEDING, noise_hu=0.0), geometry)
    np.testing.assert_array_equal(one.mask.array, quiet.mask.array)
    assert (one.volume.hu - quiet.volume.hu)[quiet.volume.hu > 0].std() == pytest.approx(3.5, abs=1)


def test_a_healthy_head_has_an_empty_mask():
    one = scan(PhantomSettings(seed=2), ScanGeometry(slices=2, spacing_mm=10.0))
    assert not one.mask.array.any()
    assert one.true_volume_ml == 0
    assert np.isnan(one.true_centroid_mm).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"tilt_deg": 60.0}, {"slices": 0}, {"spacing_mm": 0.0}, {"thickness_mm": 30.0}, {"pixel_mm": (0.0, 1.0)},
        {"positions_mm": (0.0, 5.0, 5.0)}, {"missing": (30,)}, {"slices": 2, "missing": (0, 1)},
    ],
)  # fmt: skip
def test_impossible_geometries_are_refused(wrong):
    with pytest.raises(SettingsError):
        ScanGeometry(**wrong)
