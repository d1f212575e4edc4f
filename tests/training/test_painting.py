"""Blood drawn into heads that have none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from bleedmap.arrays import ByteArray  # noqa: E402
from bleedmap.datasets.ct_ich import open_ct_ich  # noqa: E402
from bleedmap.errors import SettingsError  # noqa: E402
from bleedmap.folds.painted_heads import judge_paintings  # noqa: E402
from bleedmap.models.lite_unet import build_lite  # noqa: E402
from bleedmap.models.networks import LABELS  # noqa: E402
from bleedmap.preprocess import Preprocessing  # noqa: E402
from bleedmap.training import bleed_shapes, painting  # noqa: E402
from bleedmap.training.augment import apply_step, draw_plain, draw_step  # noqa: E402
from bleedmap.training.bleed_shapes import find_head  # noqa: E402
from bleedmap.training.config import PAINTED, Recipe  # noqa: E402
from bleedmap.training.painting import load_paintings, paint  # noqa: E402
from bleedmap.training.samples import Pools, Samples, load_studies  # noqa: E402
from bleedmap.training.steps import PoolSource  # noqa: E402
from bleedmap.training.studies import CtIchStudies  # noqa: E402

SIDE, SLICES = 144, 12
BRAIN, FLUID, SKULL = 110, 60, 255  # grey
RECIPE = Recipe(size=96, steps=1, lesion=1, lesion_free=1, phantom=0, painted=2, paintings=3, alone=0)


def head(open_base: bool = False) -> ByteArray:
    """A skull with brain, two ventricles and sulci; the lowest slices without half of the skull where asked for."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    radius = np.hypot(rows / 1.15, columns)
    grey = np.where(radius < 56, np.where(radius < 51, BRAIN, SKULL), 0)
    grey[(radius < 50) & (radius > 38) & (np.abs(np.sin(12 * np.arctan2(rows, columns))) < 0.12)] = FLUID
    grey[(np.abs(np.abs(columns) - 8) < 4) & (np.abs(rows) < 18)] = FLUID
    slices = np.repeat(grey[None], SLICES, axis=0)
    noise = np.random.default_rng(0).normal(0, 3, slices.shape)
    slices = np.where((slices > 0) & (slices < SKULL), slices + noise, slices)
    if open_base:
        slices[:4, SIDE // 2 :] = np.where(slices[:4, SIDE // 2 :] == SKULL, BRAIN, slices[:4, SIDE // 2 :])
    return slices.astype(np.uint8)


def studies(count: int, bleeding: int = 0) -> Samples:
    """Heads; the first `bleeding` of them with a lesion."""
    slices = np.concatenate([head()] * count)
    masks, labels = np.zeros_like(slices), np.zeros((len(slices), len(LABELS)), np.float32)
    for number in range(bleeding):
        row = number * SLICES + 5
        masks[row, 60:70, 60:70], slices[row, 60:70, 60:70], labels[row, :2] = 255, 170, 1
    return Samples(slices, masks, labels, np.repeat(np.arange(count) + 7, SLICES))


def test_the_inside_of_a_skull_is_found_and_an_open_base_is_left_out() -> None:
    whole, opened = find_head(head()), find_head(head(open_base=True))
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    brain = np.hypot(rows / 1.15, columns) < 51
    assert (whole.inside == brain).mean() > 0.995
    assert not whole.inside[:, ~brain].any()
    assert not opened.inside[:4].any()
    assert opened.inside[4:].any(axis=(1, 2)).all()
    assert whole.depth.max() == pytest.approx(51 * whole.pixel_mm, rel=0.05)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_blood_lies_within_the_skull_and_nothing_else_is_touched(seed: int) -> None:
    clean = head()
    within = find_head(clean)
    painted = paint(np.random.default_rng(seed), within)
    if painted is None:
        return
    slices, share, name = painted
    assert name in LABELS[1:]
    assert (share >= 0).all()
    assert share.max() <= 1 + 1e-6
    assert not share[~within.inside].any()
    assert (slices[~within.inside] == clean[~within.inside]).all()
    blood = (share > 0.9) & (within.depth > 2)
    if blood.any():
        hu = slices[blood].astype(float).mean() * 120 / 255 - 20
        assert 35 < hu < 80  # a thin film shares its voxels with CSF
    if name in ("EDH", "SDH", "IVH", "SAH"):  # no oedema
        assert (slices[share == 0] == clean[share == 0]).all()
    else:
        assert (slices[share == 0] <= clean[share == 0]).all()


def test_all_types_come_and_the_seed_decides() -> None:
    within, names = find_head(head()), set()
    for seed in range(60):
        one, same = (paint(np.random.default_rng(seed), within) for _ in range(2))
        assert (one is None) == (same is None)
        if one is not None and same is not None:
            assert (one[0] == same[0]).all()
            assert (one[1] == same[1]).all()
            assert one[2] == same[2]
            names.add(one[2])
    assert names == set(LABELS[1:])


def test_samples_are_of_bleed_free_studies_and_say_what_was_drawn() -> None:
    clean = studies(3, bleeding=1)
    drawn = load_paintings(clean, 4)
    assert np.unique(drawn.study).tolist() == list(range(8))
    assert ((drawn.masks > 127).any(axis=(1, 2)) == drawn.has_lesion).all()
    for study in range(8):
        rows = drawn.study == study
        types = drawn.labels[rows, 1:].any(axis=0)
        assert types.sum() == 1
        assert (drawn.labels[rows, 1:].any(axis=1) == drawn.has_lesion[rows]).all()
    with pytest.raises(SettingsError, match="no study without a lesion"):
        load_paintings(studies(2, bleeding=2), 4)


def test_what_lies_beside_the_blood_is_its_neighbour() -> None:
    patients = studies(4, bleeding=1)
    pools = Pools(patients, None, load_paintings(patients, 8))
    drawn, rows = pools.paintings, pools.painting_rows
    assert drawn is not None
    around = drawn.neighbours(rows, 1)
    assert (around == rows[:, None] + [-1, 0, 1]).all()
    assert (drawn.study[around] == drawn.study[rows, None]).all()
    assert drawn.has_lesion[rows].sum() > 0.7 * drawn.has_lesion.sum()  # without those at an end of the head
    draws = [draw_step(replace(RECIPE, painted=50), pools, step).painting_rows for step in range(20)]
    assert set(np.concatenate(draws)) <= set(rows)


def test_a_slice_with_too_little_blood_keeps_none() -> None:
    clean = studies(6)
    free = head().astype(int)
    drawn = load_paintings(clean, 8)
    unmarked = 0
    for row in np.flatnonzero(~drawn.has_lesion):
        least = min(int((np.abs(drawn.slices[row].astype(int) - one) > 20).sum()) for one in free)
        unmarked += least > 15
    assert unmarked == 0


def test_a_film_leaves_ventricles_alone() -> None:
    slices = head()
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    ventricle = (np.hypot(rows, columns) < 14)[None] & (np.arange(SLICES) > 2)[:, None, None]
    within = find_head(np.where(ventricle, FLUID - 20, slices).astype(np.uint8))
    drawn = 0
    for seed in range(25):
        share = bleed_shapes.draw_film(np.random.default_rng(seed), within)
        if share is not None and share.max() > 0.5:
            drawn += 1
            assert not share[ventricle].any()
    assert drawn > 10


def test_a_batch_has_paintings_after_patients() -> None:
    patients = studies(3, bleeding=1)
    pools = Pools(patients, None, load_paintings(patients, RECIPE.paintings))
    draw = draw_step(RECIPE, pools, 0)
    assert (len(draw.patient_rows), len(draw.phantom_rows), len(draw.painting_rows)) == (2, 0, 2)
    slices, masks, labels = apply_step(draw, pools, RECIPE)
    assert slices.shape == (4, 3, 96, 96)
    assert pools.paintings is not None
    assert (labels[2:].numpy() == pools.paintings.labels[draw.painting_rows]).all()
    assert ((masks[2:].amax(dim=(1, 2, 3)) > 0) <= (labels[2:, 0] > 0)).all()
    again = apply_step(draw_step(RECIPE, pools, 0), pools, RECIPE)
    assert torch.equal(slices, again[0])
    for wrong in ({"paintings": 0}, {"painted": 0}, {"painted": -1}):
        with pytest.raises(SettingsError, match="paintings"):
            replace(RECIPE, **wrong)


def test_only_training_patients_are_painted_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of three patients 7 bleeds, 8 is trained on, 9 is not."""
    monkeypatch.setattr(PoolSource, "read_patients", lambda self, recipe: studies(3, bleeding=1))
    source = PoolSource(None, tmp_path, lambda what, done, of, words: None)  # type: ignore[arg-type]
    pools = source.pools(RECIPE, (7, 8))
    assert pools.paintings is not None
    assert len(np.unique(pools.paintings.study)) == RECIPE.paintings
    assert np.unique(pools.patients.study).tolist() == [7, 8]
    both = source.pools(RECIPE, (7, 8, 9)).paintings
    assert both is not None
    assert len(np.unique(both.study)) == 2 * RECIPE.paintings
    with pytest.raises(SettingsError, match="no study without a lesion"):
        source.pools(RECIPE, (7,))


def test_most_real_heads_take_blood(ct_ich_root: Path) -> None:
    data = open_ct_ich(ct_ich_root)
    data.patients = free = tuple(one for one in data.patients if not one.has_lesion)[:3]
    patients = load_studies(CtIchStudies(data), Preprocessing(size=192, frame="study", neighbours=1))
    drawn = load_paintings(patients, PAINTED.paintings)
    bleeds = len(np.unique(drawn.study))
    assert bleeds >= 0.9 * PAINTED.paintings * len(free)
    marked = drawn.masks > 200
    assert 30 < np.median(drawn.slices[marked]) * 120 / 255 - 20 < 75  # HU


def test_measured_bleeds_are_small_more_often_and_of_their_volume() -> None:
    """In a frame of known size: the kinds whose shape is free have about the volume drawn."""
    known = find_head(head(), None, 200.0)
    voxel_ml = known.pixel_mm**2 * bleed_shapes.SLICE_MM / 1000
    for shape in (bleed_shapes.draw_lens, bleed_shapes.draw_clot):
        for ml in (0.5, 2.0, 6.0):
            shares = [shape(np.random.default_rng(seed), known, ml) for seed in range(8)]
            found = [float(one.sum()) * voxel_ml for one in shares if one is not None]
            assert 0.4 * ml < np.median(found) < 1.8 * ml, (shape.__name__, ml)
    volumes = [painting._draw_volume(np.random.default_rng(seed), "IPH") for seed in range(400)]
    assert np.mean(np.array(volumes) < 1) == pytest.approx(0.5, abs=0.08)
    assert min(volumes) >= bleed_shapes.LEAST_ML


def test_some_measured_subdural_bleeds_are_darker_than_brain() -> None:
    hu = np.array([painting._draw_hu(np.random.default_rng(seed), "SDH") for seed in range(400)])
    assert np.mean(hu < 35) == pytest.approx(painting._CHRONIC, abs=0.06)
    assert all(painting._draw_hu(np.random.default_rng(seed), "EDH") >= 37 for seed in range(100))


def test_decoys_bear_no_label_and_bone_is_drawn_in_its_own_channel() -> None:
    heads = replace(
        studies(2), bones=np.where(head() == SKULL, 120, 0).astype(np.uint8)[None].repeat(2, 0).reshape(-1, SIDE, SIDE)
    )
    drawn = load_paintings(heads, 12, frame_mm=200.0, decoys=0.5)
    assert drawn.bones is not None
    assert drawn.bones.shape == drawn.slices.shape == drawn.masks.shape
    for study in np.unique(drawn.study):
        rows = drawn.study == study
        assert drawn.masks[rows].any() == drawn.has_lesion[rows].any()
    decoys = [one for one in np.unique(drawn.study) if not drawn.has_lesion[drawn.study == one].any()]
    assert 4 < len(decoys) < 20
    brain = find_head(head()).inside[0]
    brighter = [drawn.slices[drawn.study == one][:, brain].max() > BRAIN + 25 for one in decoys]
    assert np.mean(brighter) > 0.6  # a streak may be faint
    bones = [drawn.bones[drawn.study == one][:, brain].max() > 0 for one in decoys]
    assert any(bones)
    for one in set(np.unique(drawn.study)) - set(decoys):
        assert not drawn.bones[drawn.study == one][:, brain].any()  # blood is no bone
    again = load_paintings(heads, 12, frame_mm=200.0, decoys=0.5)
    np.testing.assert_array_equal(drawn.slices, again.slices)


def varied_head() -> bleed_shapes.Head:
    bones = np.where(head() == SKULL, 120, 0).astype(np.uint8)
    return find_head(head(), bones, 200.0)


def test_a_large_bleed_pushes_tissue_away_and_a_small_one_does_not() -> None:
    """A bright line beside the blood moves off it; the skull and what is far away stay."""
    grey = head()
    grey[:, 30:114, 80:83] = 200  # a line to the right of the blood
    within = find_head(grey, None, 200.0)
    share = np.zeros(grey.shape, np.float32)
    share[4:8, 62:82, 56:76] = 1  # 20 by 20 pixels of 1.4 mm, 4 slices of 5 mm: 15 mL
    pushed = painting._push_aside(np.random.default_rng(0), within, share)
    beside, far = (np.flatnonzero(pushed[5, row, 76:96] > 150).mean() + 76 for row in (72, 32))
    assert 82 < beside < 90
    assert far == pytest.approx(81, abs=0.6)
    np.testing.assert_array_equal(pushed[:, ~within.inside[0]], within.grey[:, ~within.inside[0]])
    np.testing.assert_array_equal(pushed[10], within.grey[10])
    share[5:8] = 0
    share[4, :, 60:] = 0  # below the least
    np.testing.assert_array_equal(painting._push_aside(np.random.default_rng(0), within, share), within.grey)


def test_old_blood_lies_above_fresh_blood() -> None:
    share = np.ones((2, 40, 5), np.float32)
    added = painting._settle(np.random.default_rng(1), share, 60.0)
    hu = 60 + added[0, :, 0] if added.ndim == 3 else 60 + added[:, 0]
    assert 16 <= hu[0] <= 33
    assert hu[-1] == 60
    assert (np.diff(hu) >= 0).all()


def test_an_opened_skull_has_a_gap_in_both_windows_and_blood_beside_it() -> None:
    whole = varied_head()
    for seed in range(5):
        opened = painting._open_skull(np.random.default_rng(seed), whole)
        assert opened.gap is not None
        assert whole.bones is not None
        assert opened.bones is not None
        gone = (whole.bones > 100) & (opened.bones < 20)
        assert 20 < gone.sum() < 0.3 * (whole.bones > 100).sum()
        assert np.median(opened.grey[gone]) < 160
        np.testing.assert_array_equal(opened.inside, whole.inside)
        share = bleed_shapes.draw_lens(np.random.default_rng(seed), opened, 2.0)
        assert share is not None
        places = np.argwhere(share > 0.5)
        if len(places):
            apart = (places - opened.gap) * (bleed_shapes.SLICE_MM, opened.pixel_mm, opened.pixel_mm)
            assert np.hypot(*np.abs(apart).min(0)[1:]) < 2 * bleed_shapes._GAP_REACH_MM


def test_varied_paintings_are_drawn_again_alike_and_label_as_before() -> None:
    heads = replace(
        studies(3), bones=np.where(head() == SKULL, 120, 0).astype(np.uint8)[None].repeat(3, 0).reshape(-1, SIDE, SIDE)
    )
    drawn, again = (load_paintings(heads, 16, frame_mm=200.0, decoys=0.3, varied=True) for _ in range(2))
    plain = load_paintings(heads, 16, frame_mm=200.0, decoys=0.3)
    np.testing.assert_array_equal(drawn.slices, again.slices)
    assert drawn.slices.shape != plain.slices.shape or (drawn.slices != plain.slices).any()
    assert ((drawn.masks > 127).any(axis=(1, 2)) == drawn.has_lesion).all()
    assert drawn.bones is not None
    skull = heads.bones is not None and heads.bones[0] == 120
    assert any((one[skull] < 20).any() for one in drawn.bones)  # gaps


def test_bright_arteries_and_sinuses_are_no_bone() -> None:
    within, seen = varied_head(), 0
    for seed in range(80):
        plain, varied = (painting.paint_decoy(np.random.default_rng(seed), within, one) for one in (False, True))
        if varied is None or plain is None or (varied[0] == plain[0]).all():
            continue
        slices, bones, share = varied
        assert bones is not None
        assert within.bones is not None
        solid = (share > 0.9) & (within.depth > 2)
        if solid.any() and not (bones > within.bones).any() and share.max() <= 1 + 1e-6:
            hu = slices[solid].astype(float).mean() * 120 / 255 - 20
            seen += 50 < hu < 80
    assert seen >= 5


def bleed_free(slices: ByteArray) -> Samples:
    nothing = np.zeros((len(slices), len(LABELS)), np.float32)
    return Samples(slices, np.zeros_like(slices), nothing, np.zeros(len(slices), np.int64))


def test_a_plain_draw_changes_nothing_but_the_size() -> None:
    patients = bleed_free(head())
    pools = Pools(patients, None, load_paintings(patients, 4))
    rows = pools.painting_rows[:3]
    shown, cover, labels = apply_step(draw_plain(rows), pools, RECIPE)
    paintings = pools.paintings
    assert paintings is not None
    for channel, wanted in ((shown[:, 1], rows), (shown[:, 0], rows - 1)):
        grey = torch.from_numpy(paintings.slices[wanted])[:, None] / 255
        expected = torch.nn.functional.interpolate(grey, shown.shape[2:], mode="bilinear")
        torch.testing.assert_close(channel, expected[:, 0], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(labels.numpy(), paintings.labels[rows])
    assert cover.shape == (3, 1, RECIPE.size // 2, RECIPE.size // 2)
    assert cover.amax() > 0.5


def test_new_paintings_are_outlined_and_counted() -> None:
    """By an untrained network: at threshold 0 it marks everything, above 1 nothing."""
    network, patients = build_lite(RECIPE.network(), 0).eval(), bleed_free(head())
    everything, nothing = (judge_paintings(patients, RECIPE, network, at) for at in (0.0, 1.1))
    assert len(everything) == len(nothing) > 5
    assert {one["dice"] for one in nothing} == {0.0}
    assert {one["type"] for one in everything} <= set(LABELS[1:])
    side = RECIPE.size // 2
    for one in everything:
        pixels = round(one["ml"] / ((216 / side) ** 2 * 5 / 1000))
        slices = (2 * pixels / one["dice"] - pixels) / side**2  # all of them marked whole
        assert slices == pytest.approx(round(slices), abs=0.3)
        assert 1 <= round(slices) <= SLICES
    assert judge_paintings(bleed_free(head(open_base=True)[:4]), RECIPE, network, 0.5) == []
