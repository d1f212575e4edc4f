"""The loop: learns, and resumes as the very same run."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bleedmap.errors import OutputError, SettingsError, WeightsError
from bleedmap.models.unet import build
from bleedmap.training.augment import apply_epoch, draw_epoch
from bleedmap.training.config import PRESETS, TrainConfig, read_config
from bleedmap.training.device import choose_machine
from bleedmap.training.loop import resume
from bleedmap.training.losses import batch_loss, soft_dice
from bleedmap.training.passes import (
    Passes,
    learning_rate,
    make_optimiser,
    steps_per_epoch,
    train_epoch,
    train_passes,
    validate,
)
from bleedmap.training.run import Run
from bleedmap.training.samples import load_phantom_side
from tiny_training import CONFIG, SPLIT, make_side

FP32 = choose_machine("cpu", "fp32")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Run:
    """A run that nobody stops; tests/cli/test_train.py kills some, and trains in several processes."""
    run = Run(tmp_path_factory.mktemp("runs") / "undisturbed")
    config = TrainConfig(**CONFIG)
    run.begin(config, SPLIT, FP32)
    train_passes(run, config, make_side(18, 0), make_side(6, 1), FP32)
    return run


def test_a_resumed_run_knows_its_best_and_has_the_memory_layout_of_a_fresh_one(undisturbed):
    """The fused Adam of CUDA wants moments laid out as their parameters are."""
    task = Passes(undisturbed, undisturbed.config(), make_side(18, 0), make_side(6, 1), FP32)
    resume(task, undisturbed)
    state = task.state
    assert state.done == CONFIG["epochs"]
    assert state.best_dice == max(entry["validation_dice"] for entry in undisturbed.metrics())
    for parameter, moments in state.optimiser.state.items():
        assert moments["exp_avg"].stride() == moments["exp_avg_sq"].stride() == parameter.stride()
    assert any(not parameter.is_contiguous() for parameter in state.optimiser.state)


def test_it_learns(tmp_path):
    run, config = Run(tmp_path / "run"), TrainConfig(**(CONFIG | {"epochs": 40, "warp": 0, "learning_rate": 1e-2}))
    run.begin(config, SPLIT, FP32)
    train_passes(run, config, make_side(18, 0), make_side(6, 1), choose_machine("cpu", "fp32"))
    metrics = run.metrics()
    assert [entry["epoch"] for entry in metrics] == list(range(1, 41))
    assert metrics[-1]["loss"] < metrics[0]["loss"] - 0.5
    assert max(entry["validation_dice"] for entry in metrics) > 0.8


def test_a_run_folder_holds_what_the_run_was(undisturbed):
    record = json.loads(undisturbed.record_file.read_text())
    assert undisturbed.config() == TrainConfig(**CONFIG)
    assert undisturbed.split() == SPLIT
    assert record["torch"] == str(torch.__version__)
    assert record["code"].startswith("0.")
    curves = EventAccumulator(str(undisturbed.folder / "curves")).Reload()
    assert [event.step for event in curves.Scalars("validation_dice")] == [1, 2, 3, 4, 5, 6]
    network, checkpoint = undisturbed.best()
    dices = [entry["validation_dice"] for entry in undisturbed.metrics()]
    assert dices[checkpoint.record["epoch"] - 1] == max(dices)
    assert not network.training


def test_a_folder_with_another_run_is_refused(undisturbed):
    before = undisturbed.config_file.read_bytes()
    with pytest.raises(OutputError, match="already holds files"):
        undisturbed.begin(TrainConfig(), SPLIT, FP32)
    assert undisturbed.config_file.read_bytes() == before


def test_a_damaged_checkpoint_is_named(undisturbed, tmp_path):
    run = Run(tmp_path / "run")
    run.begin(TrainConfig(**CONFIG), SPLIT, FP32)
    run.checkpoint_file.write_bytes(undisturbed.checkpoint_file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match=r"checkpoint\.safetensors"):
        train_passes(run, run.config(), make_side(6, 0), make_side(6, 1), choose_machine("cpu", "fp32"))


def test_bf16_autocast_trains(tmp_path):
    run, config = Run(tmp_path / "run"), TrainConfig(**(CONFIG | {"epochs": 4}))
    run.begin(config, SPLIT, FP32)
    train_passes(run, config, make_side(9, 0), make_side(6, 1), choose_machine("cpu", "bf16"))
    assert run.metrics()[-1]["loss"] < run.metrics()[0]["loss"]


def test_draws_depend_on_seed_and_epoch_only():
    config, lesion = TrainConfig(warp=1, intensity=1), np.arange(20) % 3 > 0
    one, again, later = draw_epoch(config, lesion, 2), draw_epoch(config, lesion, 2), draw_epoch(config, lesion, 3)
    for name in ("order", "mirror_columns", "mirror_rows", "affine", "intensity"):
        assert np.array_equal(getattr(one, name), getattr(again, name))
        assert not np.array_equal(getattr(one, name), getattr(later, name))
    assert sorted(one.order) == list(range(20))


def test_the_offline_variant_shows_the_original_and_both_mirrors():
    side = make_side(5, 0)
    draw = draw_epoch(TrainConfig(mirrors="offline"), side.has_lesion, 1)
    slices, reference = apply_epoch(draw.to(side.inputs.device), slice(None), side.inputs, side.masks)
    assert len(draw) == 15
    for index in range(5):
        shown = {tuple(one.flatten().tolist()) for one in slices[draw.order == index]}
        original = side.inputs[index]
        assert shown == {tuple(one.flatten().tolist()) for one in (original, original.flip(2), original.flip(1))}
    assert reference.sum() == 3 * side.masks.sum()


def test_left_and_right_are_mirrored_where_columns_are_drawn_and_top_and_bottom_where_rows_are():
    side = make_side(40, 0)
    draw = draw_epoch(TrainConfig(mirrors="fresh"), side.has_lesion, 1)
    slices, reference = apply_epoch(draw.to(side.inputs.device), slice(None), side.inputs, side.masks)
    for given, held in ((slices, side.inputs), (reference, side.masks.float())):
        for shown, index, columns, rows in zip(given, draw.order, draw.mirror_columns, draw.mirror_rows, strict=True):
            expected = held[index].flip(2) if columns else held[index]
            assert torch.equal(shown, expected.flip(1) if rows else expected)
    assert {(bool(one), bool(other)) for one, other in zip(draw.mirror_columns, draw.mirror_rows, strict=True)} == {
        (one, other) for one in (False, True) for other in (False, True)
    }  # fmt: skip


def test_level_and_gain_change_tissue_as_drawn_and_nothing_that_is_clipped():
    inputs = torch.linspace(0.2, 0.6, 64).reshape(1, 1, 8, 8).repeat(3, 1, 1, 1)
    inputs[:, :, 0], inputs[:, :, 7] = 0, 1
    unmirrored = torch.zeros(3, dtype=torch.bool)
    draw = replace(
        draw_epoch(TrainConfig(), np.ones(3, bool), 1),
        mirror_columns=unmirrored,
        mirror_rows=unmirrored,
        intensity=np.array([(0.05, 1, 0, 1), (-0.1, 1, 0, 2), (0.02, 1.2, 0, 3)]),
    )
    changed, _ = apply_epoch(draw, slice(None), inputs, torch.zeros(3, 1, 8, 8, dtype=torch.uint8))
    for one, before, (level, gain, *_) in zip(changed, inputs[draw.order], draw.intensity, strict=True):
        torch.testing.assert_close(one[:, 1:7], before[:, 1:7] * gain + level)
        assert torch.equal(one[:, [0, 7]], before[:, [0, 7]])


def test_matched_draws_as_many_lesion_free_slices():
    lesion = np.arange(30) < 7
    order = draw_epoch(TrainConfig(lesion_free="matched"), lesion, 1).order
    assert lesion[order].sum() == 7
    assert (~lesion[order]).sum() == 7


def test_a_warp_moves_slice_and_mask_together():
    side = make_side(12, 0)
    config = replace(TrainConfig(**CONFIG), warp=1.0, intensity=0.0)
    slices, reference = apply_epoch(
        draw_epoch(config, side.has_lesion, 1).to(side.inputs.device), slice(12), side.inputs, side.masks
    )
    marked = reference > 0
    assert slices[marked].mean() > 0.5  # bright discs: 0.6
    assert slices[~marked].mean() < 0.35


def test_dice_loss_charges_a_false_positive_on_an_empty_mask():
    empty = torch.zeros(1, 1, 8, 8)
    nothing, something = torch.full((2, 1, 1, 8, 8), -20.0)
    something[..., :2] = 20
    assert soft_dice(nothing, empty) == pytest.approx(1.0, abs=1e-4)
    assert soft_dice(something, empty) < 0.1
    assert batch_loss("dice", something, empty) > batch_loss("dice", nothing, empty)


def test_dice_and_cross_entropy_are_added():
    logits, reference = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)), torch.zeros(2, 1, 8, 8)
    reference[0, 0, 2:5, 2:6] = 1
    probability = torch.sigmoid(logits)
    entropy = -(reference * probability.log() + (1 - reference) * (1 - probability).log()).mean()
    torch.testing.assert_close(batch_loss("dice", logits, reference), -soft_dice(logits, reference))
    torch.testing.assert_close(batch_loss("dice+bce", logits, reference), entropy - soft_dice(logits, reference))


@pytest.mark.parametrize(("logit", "marked"), [(0.0, True), (0.3, True), (-0.01, False)])
def test_validation_marks_from_a_probability_of_one_half_on(logit: float, marked: bool):
    network = torch.nn.Conv2d(1, 1, 1)
    torch.nn.init.zeros_(network.weight)
    torch.nn.init.constant_(network.bias, logit)
    side = make_side(6, 1)
    found, lesion = validate(network, side, TrainConfig(**CONFIG), FP32), side.masks.sum()
    assert found["validation_dice"] == pytest.approx(float(2 * lesion / (lesion + side.masks.numel())) * marked)
    assert found["validation_accuracy"] == pytest.approx(abs(float(lesion / side.masks.numel()) - (not marked)))


def test_learning_rate_is_a_pure_function():
    cosine = TrainConfig(schedule="cosine", learning_rate=1.0)
    rates = [learning_rate(cosine, step, 1000) for step in range(1000)]
    assert np.argmax(rates) in (29, 30)
    assert rates[-1] < 1e-4
    assert all(a > b for a, b in pairwise(rates[31:]))
    assert {learning_rate(TrainConfig(), step, 1000) for step in range(1000)} == {1e-4}


def test_every_process_gets_a_slice_at_every_step():
    config = TrainConfig(batch_size=4)
    assert steps_per_epoch(18, config) == 5
    assert steps_per_epoch(17, config, processes=2) == 4
    assert steps_per_epoch(18, config, processes=2) == 5


def test_the_processes_share_each_batch_without_a_slice_in_common():
    config, side = TrainConfig(**(CONFIG | {"intensity": 0})), make_side(18, 0)  # noise is drawn share by share
    drawn = draw_epoch(config, side.has_lesion, 1)

    def see(rank: int, processes: int) -> list[set[bytes]]:
        """The slices of each step, as the network gets them."""
        network, seen = build(config.network_settings(), 0), list[set[bytes]]()
        network.register_forward_pre_hook(lambda _, given: seen.append({one.numpy().tobytes() for one in given[0]}))
        machine = replace(FP32, rank=rank, processes=processes)
        train_epoch(network, make_optimiser(network, config), config, drawn, side, machine, 1)
        return seen

    whole, first, second = see(0, 1), see(0, 2), see(1, 2)
    assert len(first) == len(second) == len(whole)
    for all_of_it, one, other in zip(whole, first, second, strict=True):
        assert one
        assert other
        assert not one & other
        assert one | other == all_of_it


def test_settings_are_checked_and_come_back_from_json():
    for _, config in PRESETS.values():
        assert read_config(json.loads(json.dumps(config.to_dict()))) == config
    for wrong in ({"epochs": 0}, {"loss": "hinge"}, {"network": "model-3"}, {"size": 8}, {"learning_rate": -1.0}):
        with pytest.raises(SettingsError):
            TrainConfig(**wrong)
    with pytest.raises(SettingsError, match="depth"):
        TrainConfig.from_dict({"depth": 3})


def test_phantoms_are_training_slices_too():
    side = load_phantom_side(1, TrainConfig(size=64, frame="head").preprocessing(), seed=0)
    assert side.inputs.shape == side.masks.shape == (len(side.ids), 1, 64, 64)
    assert 0.1 < side.inputs.mean() < 0.6


def test_a_device_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("this machine has an NVIDIA GPU")
    with pytest.raises(SettingsError, match="cuda"):
        choose_machine("cuda")
