"""The phantom: volumes that are true, places that are right, the same head at every spacing."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from bleedmap.errors import SettingsError
from bleedmap.phantom.bleeds import LARGEST_ML
from bleedmap.phantom.head import (
    SCANNER_KERNEL_MM,
    TYPES,
    Bleed,
    Phantom,
    PhantomSettings,
    make_phantom,
    random_settings,
)
from bleedmap.volume import Mask

COARSE = PhantomSettings(spacing_mm=(5.0, 1.6, 1.6), shape=(30, 140, 140), noise_hu=0, headrest=False)
ASKED_ML = {"EDH": 25.0, "SDH": 25.0, "SAH": 6.0, "IPH": 15.0, "IVH": 5.0}


@cache
def healthy() -> Phantom:
    return make_phantom(replace(COARSE, seed=3))


@cache
def bleeding(bleed_type: str) -> Phantom:
    return make_phantom(replace(COARSE, seed=3, bleeds=(Bleed(bleed_type, ASKED_ML[bleed_type], "left"),)))


@cache
def scanned() -> Phantom:
    """The middle eight slices of the healthy head, with noise and headrest."""
    return make_phantom(replace(COARSE, seed=3, shape=(8, 140, 140), noise_hu=4.0, headrest=True))


MIDDLE = slice(11, 19)  # of the healthy head's slices


def x_mm(phantom: Phantom) -> np.ndarray:
    """Towards the patient's left, of each column."""
    columns = np.arange(phantom.volume.hu.shape[2])
    return phantom.volume.grid.affine[0, 2] * columns + phantom.volume.grid.affine[0, 3]


def cavity(phantom: Phantom) -> np.ndarray:
    """What bone encloses in each slice, by its own pixels: (slice, row, column) bool."""
    bone = phantom.volume.hu > 200
    return np.stack([ndimage.binary_fill_holes(one) & ~one for one in bone])


def test_the_same_seed_gives_the_same_voxels():
    settings = replace(COARSE, shape=(3, 140, 140), seed=8, noise_hu=3.5, headrest=True, bleeds=(Bleed("IPH", 10.0),))
    one, other = make_phantom(settings), make_phantom(settings)
    np.testing.assert_array_equal(one.volume.hu, other.volume.hu)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert not np.array_equal(one.volume.hu, make_phantom(replace(settings, seed=9)).volume.hu)


@pytest.mark.parametrize("bleed_type", TYPES)
def test_the_mask_has_the_volume_asked_for(bleed_type):
    phantom = bleeding(bleed_type)
    assert phantom.bleeds[0].true_volume_ml == pytest.approx(ASKED_ML[bleed_type], rel=0.03)
    assert phantom.mask.volume_ml == pytest.approx(phantom.bleeds[0].true_volume_ml)
    np.testing.assert_array_equal(phantom.mask.array, phantom.labels == 1 + TYPES.index(bleed_type))


def test_the_same_head_at_another_spacing():
    settings = replace(COARSE, seed=3, bleeds=(Bleed("SDH", 30.0), Bleed("SAH", 6.0, "right"), Bleed("IPH", 15.0)))
    coarse, fine = (
        make_phantom(settings),
        make_phantom(replace(settings, spacing_mm=(2.0, 2.4, 2.4), shape=(75, 92, 92))),
    )
    for mine, other in zip(coarse.bleeds, fine.bleeds, strict=True):
        number = 1 + TYPES.index(mine.asked.type)
        assert other.true_volume_ml == pytest.approx(mine.true_volume_ml, rel=0.05)
        for one in (0, 1, 2):  # the centre of the bleed in mm: within a slice, within a pixel
            places = [
                (ndimage.center_of_mass(each.labels == number)[one] - (each.labels.shape[one] - 1) / 2)
                * each.volume.grid.spacing_mm[one]
                for each in (coarse, fine)
            ]
            assert places[0] == pytest.approx(places[1], abs=1.0)


@pytest.mark.parametrize("bleed_type", TYPES)
def test_blood_looks_like_blood_beside_the_same_healthy_head(bleed_type):
    phantom = bleeding(bleed_type)
    core = phantom.mask.array & (ndimage.uniform_filter(phantom.mask.array.astype(np.float32), (1, 3, 3)) > 0.99)
    blood = phantom.volume.hu[core if core.any() else phantom.mask.array]
    assert np.median(blood) == pytest.approx(phantom.bleeds[0].hu, abs=14)
    assert np.median(blood) > np.median(healthy().volume.hu[phantom.mask.array & cavity(healthy())]) + 10


def test_the_bleed_is_on_its_side():
    right = make_phantom(replace(COARSE, seed=4, bleeds=tuple(Bleed(one, 5.0, "right") for one in TYPES)))
    for number, bleed_type in enumerate(TYPES, 1):
        left = bleeding(bleed_type)
        assert x_mm(right)[np.nonzero(right.labels == number)[2]].mean() < -8
        assert x_mm(left)[np.nonzero(left.mask.array)[2]].mean() > 8


@pytest.mark.parametrize("bleed_type", ["EDH", "SDH"])
def test_extra_axial_blood_lies_on_the_skull(bleed_type):
    phantom = bleeding(bleed_type)
    pixels_to_bone = np.stack([ndimage.distance_transform_edt(one) for one in phantom.volume.hu < 150])
    mm = 1.6 * pixels_to_bone[phantom.mask.array]
    assert np.percentile(mm, 10) < 4
    slices = phantom.mask.array.any(axis=(1, 2))
    touching = ((pixels_to_bone < 3) & phantom.mask.array).any(axis=(1, 2))
    assert touching[slices].mean() > 0.9


@pytest.mark.parametrize("seed", [10, 16])
def test_an_epidural_is_one_lesion(seed):
    phantom = make_phantom(replace(COARSE, seed=seed, bleeds=(Bleed("EDH", 25.0, "right"),)))
    labels, _ = ndimage.label(phantom.mask.array, np.ones((3, 3, 3)))
    assert np.bincount(labels.ravel())[1:].max() > 0.99 * phantom.mask.array.sum()


def test_an_epidural_is_thicker_than_a_subdural_of_its_volume():
    thickness = {}
    for bleed_type in ("EDH", "SDH"):
        phantom = bleeding(bleed_type)
        thickness[bleed_type] = max(1.6 * ndimage.distance_transform_edt(one).max() for one in phantom.mask.array)
    assert thickness["EDH"] > 1.4 * thickness["SDH"]


def test_intraventricular_blood_replaces_csf_and_lies_at_the_back():
    phantom = bleeding("IVH")
    before = make_phantom(replace(COARSE, seed=3, bleeds=(replace(phantom.bleeds[0].asked, volume_ml=1.0),)))
    csf = before.volume.hu < 22  # the same ventricles, nearly empty of blood
    blood = phantom.mask.array & ~before.mask.array
    assert csf[blood].mean() > 0.6
    rows = np.nonzero(phantom.mask.array)[1]
    assert rows.mean() > phantom.mask.array.shape[1] / 2


def test_parenchymal_blood_has_a_dark_rim():
    phantom = bleeding("IPH")
    area = phantom.mask.array.sum(axis=(1, 2))
    middle = area > 0.6 * area.max()  # above and below, the rim is partly blood
    rim = ndimage.binary_dilation(phantom.mask.array, np.ones((1, 3, 3)), 3)
    rim &= ~ndimage.binary_dilation(phantom.mask.array, np.ones((1, 3, 3)), 1)
    rim &= middle[:, None, None] & (healthy().volume.hu > 25)  # brain before, not CSF
    assert np.median(phantom.volume.hu[rim]) < np.median(healthy().volume.hu[rim]) - 3


def test_subarachnoid_blood_is_thin():
    phantom = bleeding("SAH")
    thickest_mm = max(2 * 1.6 * ndimage.distance_transform_edt(one).max() for one in phantom.mask.array)
    compact_mm = 2 * (phantom.mask.volume_ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    assert thickest_mm < 0.75 * compact_mm


def test_tissues_have_their_hounsfield_units():
    hu = healthy().volume.hu
    assert hu.min() == pytest.approx(-1000, abs=30)
    assert 800 < np.percentile(hu[hu > 300], 95) < 1500
    inside = ndimage.binary_erosion(cavity(healthy()), np.ones((1, 3, 3)), 6)
    brain = hu[12:24][inside[12:24]]
    assert 28 < np.median(brain) < 38
    assert (brain < 15).mean() > 0.01  # CSF
    assert (brain > 50).mean() < 0.01  # nothing that could be taken for blood but dura, sinuses and lime
    fat = (hu > -110) & (hu < -60)
    assert fat.mean() > 0.002


def test_a_healthy_head_has_an_empty_mask():
    assert not healthy().mask.array.any()
    assert healthy().bleeds == ()
    assert healthy().mask.volume_ml == 0


def test_noise_has_the_deviation_asked_for():
    noise = scanned().volume.hu - healthy().volume.hu[MIDDLE]
    assert noise[:, 50:90, 50:90].std() == pytest.approx(4.3, abs=0.6)


def test_beam_hardening_brightens_the_rim_and_streaks_darken_the_base():
    plain = make_phantom(replace(COARSE, seed=3, beam_hardening=False, streaks=False))
    added = make_phantom(replace(COARSE, seed=3, beam_hardening=True, streaks=False)).volume.hu - plain.volume.hu
    within = cavity(plain)
    deep = ndimage.binary_erosion(within, np.ones((1, 3, 3)), 10)
    assert added[within & ~deep].mean() > 1 > added[deep].mean() + 0.5
    banded = healthy().volume.hu - plain.volume.hu - added
    assert banded.min() < -4
    assert np.abs(banded[20:]).max() < 1


def test_a_sharper_kernel_leaves_the_same_blood_and_steeper_edges():
    settings = replace(COARSE, spacing_mm=(5.0, 0.6, 0.6), shape=(5, 360, 320), seed=3, bleeds=(Bleed("SDH", 30.0),))
    soft, sharp = (make_phantom(replace(settings, kernel_mm=kernel)) for kernel in (0.6, SCANNER_KERNEL_MM))
    np.testing.assert_array_equal(soft.mask.array, sharp.mask.array)
    steepness = [np.abs(np.diff(one.volume.hu, axis=2)).max(axis=2).mean() for one in (soft, sharp)]
    assert steepness[1] > 1.1 * steepness[0]


def test_the_headrest_is_bone_bright_air_behind_the_head():
    arc = np.abs(scanned().volume.hu - healthy().volume.hu[MIDDLE]) > 300
    assert arc.any()
    assert np.nonzero(arc)[1].mean() > arc.shape[1] * 0.7


def test_bleeds_that_meet_share_no_voxel():
    both = (Bleed("EDH", 40.0, "left"), Bleed("SDH", 60.0, "left"))
    phantom = make_phantom(replace(COARSE, seed=1, bleeds=both))
    assert sum(one.true_volume_ml for one in phantom.bleeds) == pytest.approx(phantom.mask.volume_ml)
    assert phantom.bleeds[0].true_volume_ml == pytest.approx(40, rel=0.03)


def test_what_is_found_is_shared_out_among_the_bleeds():
    phantom = make_phantom(replace(COARSE, seed=5, bleeds=(Bleed("IPH", 20.0, "left"), Bleed("EDH", 25.0, "right"))))
    true_ml = {one.asked.type: one.true_volume_ml for one in phantom.bleeds}
    assert phantom.share_out(phantom.mask) == pytest.approx({**true_ml, None: 0.0}, abs=1e-6)
    voxel_ml = float(phantom.mask.grid.voxel_ml[0])
    both = ndimage.binary_dilation(phantom.mask.array, np.ones((1, 3, 3)))
    both[15, 70, :] = True  # a bridge from one bleed to the other: each voxel goes to the nearer
    both[2, 2:5, 2:5] = True
    shared = phantom.share_out(Mask(both, phantom.mask.grid))
    assert sum(shared.values()) == pytest.approx(both.sum() * voxel_ml)
    assert shared[None] == pytest.approx(9 * voxel_ml)
    assert all(1 < shared[kind] / true_ml[kind] < 1.6 for kind in true_ml)
    nothing = phantom.share_out(Mask(np.zeros_like(both), phantom.mask.grid))
    assert set(nothing.values()) == {0.0}


def test_random_settings_are_drawn_from_the_seed():
    drawn = [random_settings(seed) for seed in range(200)]
    assert drawn[7] == random_settings(7)
    counts = [len(one.bleeds) for one in drawn]
    assert 0.45 < np.mean([count > 0 for count in counts]) < 0.75
    assert max(counts) > 1
    assert {bleed.type for one in drawn for bleed in one.bleeds} == set(TYPES)
    assert not any(random_settings(seed, bleeding_share=0).bleeds for seed in range(20))


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1}, {"spacing_mm": (0.0, 1, 1)}, {"spacing_mm": (5, float("nan"), 1)}, {"shape": (28, 16, 16)},
        {"shape": (0, 512, 512)}, {"shape": (28, 128, 512)}, {"noise_hu": -1}, {"noise_hu": float("nan")},
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(SettingsError) as refused:
        PhantomSettings(**wrong)
    assert "phantom" in str(refused.value)
    assert refused.value.remedy


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "XYZ", "volume_ml": 10}, {"type": "IPH", "volume_ml": 0}, {"type": "IPH", "volume_ml": float("nan")},
        {"type": "IVH", "volume_ml": 2 * LARGEST_ML["IVH"]}, {"type": "IPH", "volume_ml": 5, "side": "middle"},
        {"type": "IPH", "volume_ml": 5, "hu": 10},
    ],
)  # fmt: skip
def test_bleeds_that_cannot_be_are_refused(wrong):
    with pytest.raises(SettingsError):
        Bleed(**wrong)
