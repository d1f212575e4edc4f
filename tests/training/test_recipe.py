"""Training by the recipe: samples, draws, changes, and a run that continues exactly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bleedmap.datasets.ct_ich import open_ct_ich  # noqa: E402
from bleedmap.errors import OutputError, SettingsError  # noqa: E402
from bleedmap.models.checkpoint import Checkpoint, read_checkpoint, write_checkpoint  # noqa: E402
from bleedmap.models.lite_unet import Answer, build_lite, load_encoder  # noqa: E402
from bleedmap.models.networks import LABELS, LiteUNetSettings  # noqa: E402
from bleedmap.preprocess import stack_channels  # noqa: E402
from bleedmap.training import steps as training_steps  # noqa: E402
from bleedmap.training.augment import apply_step, draw_step  # noqa: E402
from bleedmap.training.config import PRETRAINING, RECIPE, Recipe  # noqa: E402
from bleedmap.training.device import choose_machine  # noqa: E402
from bleedmap.training.losses import lite_losses  # noqa: E402
from bleedmap.training.run import Run  # noqa: E402
from bleedmap.training.samples import Pools, Samples, load_phantoms, load_studies  # noqa: E402
from bleedmap.training.steps import Steps, find_rate, load_recipe_network, train_recipe  # noqa: E402
from bleedmap.training.studies import CtIchStudies  # noqa: E402
from tiny_lite import make_samples  # noqa: E402

CPU = choose_machine("cpu", "fp32")
TINY = Recipe(size=64, steps=6, lesion=2, lesion_free=1, phantom=1, phantoms=2, learning_rate=3e-3)


@pytest.fixture(scope="module")
def pools() -> Pools:
    return Pools(make_samples(5, 0), make_samples(2, 1))


def test_neighbours_stay_within_their_study() -> None:
    samples = make_samples(3, 0)
    rows = samples.neighbours(np.array([0, 3, 4, 6]), 1)
    assert rows.tolist() == [[0, 0, 1], [2, 3, 3], [4, 4, 5], [5, 6, 7]]


def test_a_batch_holds_what_the_recipe_says(pools: Pools) -> None:
    recipe = replace(TINY, warp=0.0, intensity=0.0)
    for step in range(20):
        slices, cover, labels = apply_step(draw_step(recipe, pools, step), pools, recipe)
        assert slices.shape == (4, 3, 64, 64)
        assert cover.shape == (4, 1, 32, 32)
        assert labels.shape == (4, 6)
        assert slices.min() >= 0
        assert slices.max() <= 1
        assert labels[:2, 0].tolist() == [1, 1]
        assert labels[2, 0] == 0
        marked = cover.flatten(1).sum(1) > 0
        assert marked[:3].tolist() == [True, True, False]


def test_draws_are_pure(pools: Pools) -> None:
    first, second = (apply_step(draw_step(TINY, pools, 7), pools, TINY) for _ in range(2))
    other = apply_step(draw_step(TINY, pools, 8), pools, TINY)
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    assert not torch.equal(first[0], other[0])


def test_mask_and_slice_move_together() -> None:
    """A lesion that is the only bright thing: after warp and mirror the bright pixels are the covered ones."""
    samples = make_samples(4, 3)
    bright = replace(samples, slices=(samples.masks // 2 + 60).astype(np.uint8))
    pools, recipe = Pools(bright, None), replace(TINY, phantom=0, lesion=4, lesion_free=0, intensity=0.0, alone=1.0)
    for step in range(10):
        slices, cover, _ = apply_step(draw_step(recipe, pools, step), pools, recipe)
        middle = torch.nn.functional.avg_pool2d(slices[:, 1:2], 2)
        inside = middle > 0.22  # beyond the stored square is black
        torch.testing.assert_close(middle[inside], (60 / 255 + cover * 127 / 255)[inside], atol=0.02, rtol=0)


def test_alone_and_upside_down_rearrange_the_neighbours(pools: Pools) -> None:
    still = replace(TINY, warp=0.0, intensity=0.0)
    draw = draw_step(still, pools, 0)
    flags = np.ones(4, np.bool_)
    plain = apply_step(replace(draw, alone=~flags, upside_down=~flags), pools, still)[0]
    turned = apply_step(replace(draw, alone=~flags, upside_down=flags), pools, still)[0]
    alone = apply_step(replace(draw, alone=flags, upside_down=~flags), pools, still)[0]
    assert torch.equal(turned, plain.flip(1))
    assert torch.equal(alone, plain[:, 1:2].expand_as(plain))


def with_bone(samples: Samples) -> Samples:
    """The same, where bone is the slice, darker."""
    return replace(samples, bones=samples.slices // 3)


def test_bone_and_mirror_image_are_channels_as_at_prediction(pools: Pools) -> None:
    """Without any change a batch is what `stack_channels` makes of the same slices."""
    recipe = replace(
        TINY, warp=0.0, intensity=0.0, alone=0.0, neighbours=2, bone=True, mirrored=True, frame_mm=200.0, phantom=0
    )
    pools = Pools(with_bone(pools.patients), None)
    assert recipe.network().channels == recipe.preprocessing().channels == 7
    draw = draw_step(recipe, pools, 3)
    still = replace(draw, mirror=np.zeros(3, np.bool_), upside_down=np.zeros(3, np.bool_))
    slices, _, _ = apply_step(still, pools, recipe)
    patients = pools.patients
    for one, row in zip(slices, draw.patient_rows, strict=True):
        of_study = patients.study == patients.study[row]
        first = int(np.flatnonzero(of_study)[0])
        assert patients.bones is not None
        stored = stack_channels(
            patients.slices[of_study] / 255,
            patients.bones[of_study] / 255,
            recipe.preprocessing(),
            np.array([row - first]),
        )
        grid = torch.nn.functional.affine_grid(torch.eye(2, 3)[None], [1, 1, 64, 64], align_corners=False)
        expected = torch.nn.functional.grid_sample(torch.from_numpy(stored).float(), grid, align_corners=False)
        torch.testing.assert_close(one, expected[0], atol=1e-4, rtol=0)


def test_left_and_right_are_exchanged_in_all_channels(pools: Pools) -> None:
    recipe = replace(TINY, warp=0.0, intensity=0.0, bone=True, mirrored=True, phantom=0)
    pools = Pools(with_bone(pools.patients), None)
    draw, flags = draw_step(recipe, pools, 0), np.ones(3, np.bool_)
    plain, turned = (apply_step(replace(draw, mirror=one), pools, recipe)[0] for one in (~flags, flags))
    torch.testing.assert_close(turned, plain.flip(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(plain[:, 4], plain[:, 1].flip(2), atol=1e-5, rtol=0)


def test_some_samples_see_no_bone_and_the_rest_of_them_stays(pools: Pools) -> None:
    recipe = replace(TINY, bone=True, boneless=0.5)
    pools = Pools(with_bone(pools.patients), with_bone(pools.patients))
    lacking = []
    for step in range(10):
        draw = draw_step(recipe, pools, step)
        slices, cover, _ = apply_step(draw, pools, recipe)
        all_seen = apply_step(replace(draw, boneless=None), pools, recipe)
        assert draw.boneless is not None
        assert (slices[:, 3].flatten(1).amax(1) == 0).tolist() == draw.boneless.tolist()
        assert torch.equal(slices[:, :3], all_seen[0][:, :3])
        assert torch.equal(cover, all_seen[1])
        lacking += draw.boneless.tolist()
    assert 8 < sum(lacking) < 32


def test_what_is_no_slice_begins_with_weights_of_0() -> None:
    plain, more = (build_lite(LiteUNetSettings(channels=count), 0).eval() for count in (3, 5))
    load_encoder(plain)
    load_encoder(more, slices=3)
    more.load_state_dict({name: one for name, one in plain.state_dict().items() if name != "stem.weight"}, strict=False)
    slices = torch.rand(2, 5, 64, 64)
    torch.testing.assert_close(more(slices).logits, plain(slices[:, :3]).logits)


def test_small_lesions_count_as_much_as_large_ones_in_their_own_dice() -> None:
    """Of two lesions the small one is missed: the batch's Dice hardly sees it, its own does."""
    cover = torch.zeros(3, 1, 32, 32)
    cover[0, 0, 4:28, 4:28] = cover[1, 0, 3:5, 3:5] = 1
    labels = torch.zeros(3, 6)
    labels[:2, 0] = 1
    logits = 20 * cover - 10
    logits[1] = -10
    answer = Answer(logits, torch.zeros(3, 6), torch.zeros(3, 320))
    batch, half = (lite_losses(answer, cover, labels, replace(TINY, slice_dice=one))["dice"] for one in (0.0, 0.5))
    assert batch < 0.01
    assert half == pytest.approx(0.25 * 0.8, abs=0.01)  # (0 + 4/5) / 2: a pixel's worth of smoothing
    free = lite_losses(answer, torch.zeros_like(cover), torch.zeros(3, 6), replace(TINY, slice_dice=0.5))
    assert torch.isfinite(free["dice"])


def test_guides_are_asked_at_their_own_size_and_an_open_skull_teaches_nothing() -> None:
    cover, labels = torch.zeros(2, 2, 32, 32), torch.zeros(2, 6)
    cover[0, 0, 8:24, 8:24], cover[0, 1, 4:28, 4:28], labels[0, 0] = 1, 1, 1  # the second slice's skull is not found
    right, recipe = 20 * cover - 10, replace(TINY, deep=0.5, skull=0.2)

    def losses(*guides: torch.Tensor) -> dict[str, float]:
        answer = Answer(right[:, :1], torch.zeros(2, 6), torch.zeros(2, 320), guides)
        return {name: float(one) for name, one in lite_losses(answer, cover, labels, recipe).items()}

    eighth, fourth = right[:, :1, ::4, ::4], right[:, :1, ::2, ::2]
    good = losses(eighth, fourth, right[:, 1:])
    assert good["deep"] < 0.005
    assert good["skull"] < 1e-4
    for wrong in (losses(-eighth, fourth, right[:, 1:]), losses(eighth, -fourth, right[:, 1:])):
        assert wrong["deep"] > 1
        assert (wrong["dice"], wrong["skull"]) == (good["dice"], good["skull"])
    said = right[:, 1:].clone()
    said[1] = 10
    assert losses(eighth, fourth, said)["skull"] == good["skull"]
    assert losses(eighth, fourth, -right[:, 1:])["skull"] == pytest.approx(0.2 * 10 / 2, rel=0.01)


@pytest.mark.parametrize("fine", [0, 4])
def test_guides_teach_and_are_not_kept(pools: Pools, tmp_path: Path, fine: int) -> None:
    recipe, machine = replace(TINY, deep=0.5, skull=0.2, steps=3, fine=fine), choose_machine("cpu", "fp32")
    plain = train_recipe(replace(recipe, deep=0.0, skull=0.0), lambda: pools, machine, tmp_path / "plain")
    guided = train_recipe(recipe, lambda: pools, machine, tmp_path / "guided")
    assert set(Run(tmp_path / "guided").metrics()[0]) >= {"dice", "pixels", "labels", "deep", "skull"}
    ours, theirs = (dict(one.state_dict()) for one in (guided, plain))
    assert ours.keys() == theirs.keys()
    assert not torch.equal(ours["merges.2.conv1.weight"], theirs["merges.2.conv1.weight"])
    again = train_recipe(replace(recipe, seed=1), lambda: pools, machine, tmp_path / "further", start=ours)
    assert again.state_dict().keys() == ours.keys()


def test_guides_of_a_fine_network_are_asked_at_the_same_size() -> None:
    cover, labels = torch.zeros(1, 2, 32, 32), torch.zeros(1, 6)
    cover[0, 0, 8:24, 8:24], cover[0, 1, 4:28, 4:28], labels[0, 0] = 1, 1, 1
    told = 20 * cover - 10
    guides = told[:, :1, ::8, ::8], told[:, :1, ::4, ::4], told[:, 1:, ::2, ::2]  # of the input's own size
    recipe = replace(TINY, deep=0.5, skull=0.2, fine=4)
    found = lite_losses(Answer(told[:, :1], labels, torch.zeros(1, 320), guides), cover, labels, recipe)
    assert found["dice"] + found["deep"] + found["skull"] < 0.01


def test_the_skull_is_turned_with_the_slice() -> None:
    rows, columns = np.mgrid[:82, :82] - 41
    radius = np.hypot(rows, columns - 8)  # left of nothing, so that a turn is seen
    grey = np.where(radius < 32, np.where(radius < 27, 110, 255), 0).astype(np.uint8)[None].repeat(4, 0)
    masks, labels = np.zeros_like(grey), np.zeros((4, len(LABELS)), np.float32)
    grey[1, 36:46, 44:54] = masks[1, 36:46, 44:54] = 255  # blood as bright as bone
    labels[1, :2] = 1
    heads = Pools(Samples(grey, masks, labels, np.zeros(4, int)), None)
    recipe = replace(TINY, phantom=0, lesion=1, skull=0.2, intensity=0.0)
    for step in range(8):
        slices, cover, _ = apply_step(draw_step(recipe, heads, step), heads, recipe)
        assert cover.shape == (2, 2, 32, 32)
        brain = torch.nn.functional.avg_pool2d(((slices[:, 1:2] > 0.3) & (slices[:, 1:2] < 0.6)).float(), 2)
        whole = (brain + cover[:, :1]) > 0.5
        inside = cover[:, 1:] > 0.5
        assert (whole & inside).sum() > 0.93 * inside.sum() > 300
        assert (cover[:, :1] * ~inside).sum() < 8  # blood lies inside


def test_slices_without_a_lesion_weigh_less_where_asked() -> None:
    answer = Answer(torch.zeros(2, 1, 8, 8), torch.zeros(2, 6), torch.zeros(2, 320))
    labels = torch.zeros(2, 6)
    labels[0, 0] = 1
    whole, half, none = (
        float(lite_losses(answer, torch.zeros(2, 1, 8, 8), labels, replace(TINY, free_weight=one))["pixels"])
        for one in (1.0, 0.5, 0.0)
    )
    assert whole == pytest.approx(np.log(2))
    assert half == pytest.approx(0.75 * whole)
    assert none == pytest.approx(0.5 * whole)


def test_clipped_pixels_stay_clipped(pools: Pools) -> None:
    extremes = make_samples(2, 5)
    extremes.slices[:, :41] = 0
    extremes.slices[:, 41:] = 255
    recipe = replace(TINY, warp=0.0, phantom=0)
    slices, _, _ = apply_step(draw_step(recipe, Pools(extremes, None), 0), Pools(extremes, None), recipe)
    assert set(np.unique(slices[..., 10:20, :])) == {0.0}
    assert set(np.unique(slices[..., 45:60, :])) == {1.0}


def test_level_and_gain_change_tissue_as_drawn(pools: Pools) -> None:
    still = replace(TINY, warp=0.0, intensity=0.0)
    draw = draw_step(still, pools, 0)
    plain = apply_step(draw, pools, still)[0]
    tissue = (plain > 0.1) & (plain < 0.8)
    level, gain = np.array([0.05, -0.04, 0.0, 0.02]), np.array([1.0, 1.0, 1.1, 0.9])
    changed = apply_step(replace(draw, level=level, gain=gain), pools, still)[0]
    of_each = [torch.from_numpy(one).float()[:, None, None, None] for one in (level, gain)]
    torch.testing.assert_close(changed[tissue], (plain * of_each[1] + of_each[0])[tissue], atol=1e-5, rtol=0)
    shaded = apply_step(replace(draw, shading=draw.shading + 0.03), pools, still)[0]
    torch.testing.assert_close(shaded[tissue], plain[tissue] + 0.03, atol=1e-5, rtol=0)


def test_the_processes_share_each_step_without_a_slice_in_common(pools: Pools) -> None:
    start = build_lite(TINY.network(), 0).state_dict()

    def see(rank: int, processes: int) -> set[bytes]:
        """The slices of the first step, as the network gets them."""
        task, seen = Steps(TINY, pools, replace(CPU, rank=rank, processes=processes), start), list[torch.Tensor]()
        task.network.register_forward_pre_hook(lambda _, given: seen.extend(given[0]))
        task._train_step(task.network)
        return {one.numpy().tobytes() for one in seen}

    whole, first, second = see(0, 1), see(0, 2), see(1, 2)
    assert len(whole) == 4
    assert len(first) == len(second) == 2
    assert first | second == whole


def test_patients_with_many_lesion_slices_do_not_drown_the_others() -> None:
    samples = make_samples(2, 0)
    kept = np.array([0, 1, 2, 3, 4, 5, 7])  # two lesion slices of one study, one of the other
    few = Samples(samples.slices[kept], samples.masks[kept], samples.labels[kept], samples.study[kept])
    weights = Pools(few, None).lesion_weights
    assert weights.sum() == pytest.approx(1)
    assert weights[few.study == 0].sum() == pytest.approx(np.sqrt(2) / (1 + np.sqrt(2)))


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [find_rate(RECIPE, step) for step in range(RECIPE.steps)]
    top = int(np.argmax(rates))
    assert max(rates) == 1
    assert top == pytest.approx(RECIPE.warm_up * RECIPE.steps, abs=1)
    assert np.diff(rates[:top]).min() > 0 > np.diff(rates[top + 1 :]).max()
    assert rates[-1] < 1e-5


def test_a_stopped_run_ends_as_an_undisturbed_one(
    pools: Pools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = choose_machine("cpu", "fp32")
    monkeypatch.setattr(training_steps, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(training_steps, "ROUND", 1)

    class StopError(Exception):
        pass

    def stop_at_4(step: float, entry: dict[str, Any]) -> None:
        if step == 4:
            raise StopError

    whole = train_recipe(TINY, lambda: pools, machine, tmp_path / "whole")
    with pytest.raises(StopError):
        train_recipe(TINY, lambda: pools, machine, tmp_path / "stopped", report=stop_at_4)
    assert read_checkpoint(tmp_path / "stopped/checkpoint.safetensors").record["step"] == 4
    resumed = train_recipe(TINY, lambda: pools, machine, tmp_path / "stopped")
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == [
        "curves",
        "metrics.jsonl",
        "network.safetensors",
    ]


@pytest.mark.exhaustive
def test_it_learns_the_discs(pools: Pools, tmp_path: Path) -> None:
    recipe = replace(TINY, steps=40, lesion=4, lesion_free=3, average=0.8)
    train_recipe(recipe, lambda: pools, choose_machine("cpu", "fp32"), tmp_path)
    metrics = Run(tmp_path).metrics()
    assert [one["step"] for one in metrics] == [20, 40]
    assert metrics[1]["dice"] < metrics[0]["dice"]
    assert metrics[1]["dice"] < 0.45


def test_another_recipe_is_refused(pools: Pools, tmp_path: Path) -> None:
    machine, short = choose_machine("cpu", "fp32"), replace(TINY, steps=1)
    train_recipe(short, lambda: pools, machine, tmp_path)
    with pytest.raises(OutputError, match="another recipe"):
        train_recipe(replace(short, seed=1), lambda: pools, machine, tmp_path)


def test_networks_trained_before_a_setting_came_or_went_still_load(tmp_path: Path) -> None:
    """The shipped networks' recipes name `pasted` (0: nothing was pasted), the first ones' lack what came later."""
    network = build_lite(RECIPE.network(), 0)
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    now = RECIPE.to_dict()
    later = (
        "painted", "paintings", "start_share", "frame_mm", "bone", "boneless", "mirrored", "decoys", "slice_dice",
        "free_weight", "varied", "deep", "skull",
    )  # fmt: skip
    first = {name: value for name, value in now.items() if name not in later}
    path = tmp_path / "network.safetensors"
    for record in (now, now | {"pasted": 0.0}, first):
        write_checkpoint(path, Checkpoint(tensors, {"recipe": record, "step": 1}))
        load_recipe_network(path, RECIPE)
    write_checkpoint(path, Checkpoint(tensors, {"recipe": now | {"pasted": 0.5}, "step": 1}))
    with pytest.raises(OutputError, match="another recipe"):
        load_recipe_network(path, RECIPE)


@pytest.mark.parametrize(
    "wrong",
    [{"size": 100}, {"steps": 0}, {"phantoms": 0}, {"lesion": -1}, {"boneless": 1.0}, {"decoys": -0.1},
     {"slice_dice": 1.5}, {"free_weight": -1.0}, {"deep": -0.1}, {"skull": -1.0}],
)  # fmt: skip
def test_impossible_recipes_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SettingsError):
        replace(RECIPE, **wrong)
    assert PRETRAINING.batch == RECIPE.batch == 8


def test_phantoms_bleed_as_they_say() -> None:
    samples = load_phantoms(2, replace(TINY, phantoms=2).stored(), seed=4)
    assert samples.slices.dtype == np.uint8
    assert samples.slices.shape[1:] == (82, 82)
    assert (samples.labels[:, 1:].max(axis=1) == samples.labels[:, 0]).all()
    assert samples.has_lesion.any()
    assert (samples.masks.max(axis=(1, 2)) > 0)[samples.has_lesion].mean() > 0.7
    assert len(np.unique(samples.study)) == 2


def test_patients_are_read_with_bone_and_kept(jpeg_release: Path, tmp_path: Path) -> None:
    data, recipe = open_ct_ich(jpeg_release), replace(TINY, bone=True, frame_mm=200.0)
    samples, again = (load_studies(CtIchStudies(data), recipe.stored(), tmp_path) for _ in range(2))
    assert samples.bones is not None
    assert again.bones is not None
    assert samples.bones.shape == samples.slices.shape
    np.testing.assert_array_equal(samples.bones, again.bones)
    some = samples.of([50])
    assert some.bones is not None
    assert len(some.bones) == len(some.slices) == 2
    phantoms = load_phantoms(1, recipe.stored())
    assert phantoms.bones is not None
    assert phantoms.bones.max() > 100  # the skull


def test_patients_are_read_whole_and_kept(jpeg_release: Path, tmp_path: Path) -> None:
    data = open_ct_ich(jpeg_release)
    samples = load_studies(CtIchStudies(data), TINY.stored(), tmp_path / "cache")
    assert samples.study.tolist() == [49, 49, 49, 50, 50, 51, 51, 51]
    assert samples.labels[:, 0].tolist() == [float(one.has_lesion) for one in data.slices]
    assert samples.labels[1, LABELS.index("EDH")] == 1 == samples.labels[6, LABELS.index("SDH")]
    again = load_studies(CtIchStudies(data), TINY.stored(), tmp_path / "cache")
    assert np.array_equal(again.slices, samples.slices)
    assert np.array_equal(again.masks, samples.masks)
    assert len(list((tmp_path / "cache").iterdir())) == 1
