"""The baselines find what they should on slices whose answer is known, and their networks are the papers' own."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.errors import SplitError
from bleedmap.metrics.overlap import count, dice
from bleedmap.metrics.roc import roc_auc
from bleedmap.preprocess import Preprocessing
from bleedmap.training.device import Machine
from bleedmap.training.samples import Side, load_side
from bleedmap_thesis.baselines import BASELINES, Prediction
from bleedmap_thesis.baselines.copy_nearest import copy_nearest
from bleedmap_thesis.baselines.fuzzy_c_means import intracranial
from bleedmap_thesis.baselines.local_features import kaze_features, nonlinear_scales, sift_features
from bleedmap_thesis.baselines.networks import CLASSIFIERS, SMALLEST_SIDE, build_classifier
from bleedmap_thesis.plan import BASELINES as PLANNED
from tiny_training import make_side

CPU = Machine(torch.device("cpu"), bf16=False)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def heads(patients: int, seed: int, size: int = 64, disc: float = 0.08) -> Side:
    """Two slices of each patient: a skull, brain with some texture, and in every second patient a bright disc."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    ids, inputs, masks = [], [], []
    for patient in range(patients):
        radius = np.hypot(rows / random.uniform(0.40, 0.44), columns / random.uniform(0.34, 0.38)) / size
        at = random.uniform(-0.15, 0.15, 2) * size
        lesion = np.hypot(rows - at[0], columns - at[1]) < random.uniform(0.9, 1.2) * disc * size
        for number in (1, 2):
            unit = np.where(radius < 0.88, 0.45 + 0.3 * lesion * (patient % 2), 1.0)
            unit = np.where(radius < 1, unit + (radius < 0.88) * random.normal(0, 0.02, unit.shape), 0)
            ids.append(f"{seed}{patient:03d}/{number}")
            inputs.append(unit.clip(0, 1))
            masks.append(lesion * (patient % 2))
    return Side(
        tuple(ids),
        torch.tensor(np.stack(inputs)[:, None], dtype=torch.float32),
        torch.tensor(np.stack(masks)[:, None], dtype=torch.uint8),
    )


def run(name: str, training: Side, test: Side, seed: int = 0) -> Prediction:
    told: list[tuple[int, int]] = []
    found = BASELINES[name](training, test, CPU, seed, lambda done, of: told.append((done, of)))
    assert told[-1][0] == told[-1][1]  # the bar ends full
    assert found.score.shape == (len(test.ids),)
    assert np.isfinite(found.score).all()
    assert all(len(column) == len(test.ids) for column in found.extra.values())
    assert found.mask is None or found.mask.shape == tuple(test.masks[:, 0].shape)
    return found


def test_there_is_one_for_every_planned_name():
    assert tuple(BASELINES) == PLANNED


# Copy of the nearest.


@pytest.mark.parametrize("axes", [(), (3,), (2,), (2, 3)])
def test_an_exact_copy_is_found_at_distance_0_mirrored_or_not(axes):
    training = make_side(18, 0)
    chosen = [4, 11, 7]
    ids = tuple(training.ids[row] if row != 7 else "002/1" for row in chosen)
    test = Side(ids, training.inputs[chosen].flip(axes), training.masks[chosen].flip(axes))
    found = copy_nearest(training, test, CPU, 0, lambda done, of: None)
    assert found.extra["nearest"] == ["001/5", "001/12", "001/8"]
    assert found.extra["distance"] == [0, 0, 0]
    assert found.extra["same_patient"] == [True, True, False]
    np.testing.assert_array_equal(found.mask, test.masks[:, 0].numpy() > 0)


def test_the_nearest_is_that_of_a_plain_loop():
    training, test = make_side(12, 1), make_side(7, 2)
    found = copy_nearest(training, test, CPU, 0, lambda done, of: None)
    for index, one in enumerate(test.inputs[:, 0]):
        distances = {
            name: min(float((one - known[0].flip(axes)).square().mean().sqrt()) for axes in ((), (0,), (1,), (0, 1)))
            for name, known in zip(training.ids, training.inputs, strict=True)
        }
        assert found.extra["distance"][index] == pytest.approx(min(distances.values()), abs=1e-6)
        assert distances[found.extra["nearest"][index]] == pytest.approx(min(distances.values()), abs=1e-6)
    share = found.mask.mean(axis=(1, 2))
    np.testing.assert_allclose(found.score, share, rtol=1e-6)


# Fuzzy c-means.


def test_fuzzy_c_means_outlines_the_bright_disc_inside_the_skull():
    side = heads(10, 3, size=128)
    found = run("fuzzy-c-means", side, side)
    counts = count(side.masks[:, 0].numpy() > 0, found.mask)
    assert (dice(counts, empty=1.0)[side.has_lesion] > 0.8).all()
    assert not found.mask[~side.has_lesion].any()
    assert roc_auc(side.has_lesion, found.score) == 1


def test_fuzzy_c_means_marks_nothing_without_a_closed_skull():
    side = make_side(6, 0)  # discs on grey, no bone
    found = run("fuzzy-c-means", side, side)
    assert not found.mask.any()
    assert not found.score.any()


def test_the_brain_is_inside_the_skull_even_where_the_skull_has_a_gap():
    unit = heads(1, 5, size=128).inputs[0, 0].numpy()
    whole = intracranial(unit)
    assert whole[64, 64]
    assert (unit[whole] < 0.7).all()
    unit[62:66, :64] = np.where(unit[62:66, :64] == 1, 0.45, unit[62:66, :64])  # a suture
    assert (intracranial(unit) ^ whole).mean() < 0.02


def test_fuzzy_c_means_on_real_slices(ct_ich_root):
    data = open_ct_ich(ct_ich_root)
    names = [record.id for record in data.slices if record.patient == 88 and record.has_lesion]
    side = load_side(data, names, Preprocessing(size=128))
    counts = count(side.masks[:, 0].numpy() > 0, run("fuzzy-c-means", side, side).mask)
    assert dice(counts.pooled(), empty=1.0)[0] > 0.6  # a dense bleed inside the brain: the easy case


# Local features.


@pytest.mark.parametrize("name", ["sift", "kaze"])
def test_local_features_tell_bleeds_from_none(name):
    training, test = heads(32, 1), heads(12, 2)
    # A slice of one grey has no feature at all, and is scored all the same.
    test = Side((*test.ids, "empty/1"), *(torch.cat([part, part[:1] * 0]) for part in (test.inputs, test.masks)))
    found = run(name, training, test)
    assert roc_auc(test.has_lesion, found.score) > 0.8
    assert found.extra["keypoints"][-1] == 0
    np.testing.assert_array_equal(found.score, run(name, training, test).score)


@pytest.mark.parametrize(("features", "length"), [(sift_features, 128), (kaze_features, 64)])
def test_features_have_length_1_and_move_with_the_slice(features, length):
    unit = heads(2, 4, size=96).inputs[2, 0].numpy()
    found = features(unit)
    assert found.shape[0] > 0
    assert found.shape[1] == length
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)
    moved = features(np.roll(unit, (2, 2), (0, 1)))
    nearest = (found @ moved.T).max(axis=1)
    assert np.median(nearest) > 0.99


def test_kaze_finds_a_blob_where_it_is_and_keeps_its_edge():
    rows, columns = np.mgrid[:64, :64]
    unit = ((rows - 30) ** 2 + (columns - 36) ** 2 < 25).astype(np.float32)
    assert len(kaze_features(unit)) >= 1
    levels = nonlinear_scales(unit, np.array([1.6, 2.26, 3.2]))
    np.testing.assert_allclose(levels.mean(axis=(1, 2)), unit.mean(), rtol=1e-3)  # diffusion keeps the sum
    assert levels[-1][30, 36] > 0.8  # a Gaussian of 3.2 pixels would leave 0.71
    assert np.ptp(levels[-1]) <= np.ptp(levels[0]) + 1e-6


# Networks.


# Parameters of the published three-channel, 1000-class networks (AlexNet: 60.97 M with its two groups; ResNet-50:
# 25.56 M), less two input channels of the first layer, and a head of one class for one of a thousand.
PUBLISHED = {
    "alexnet": 60_965_224 - 2 * 96 * 11 * 11 - 999 * (4096 + 1),
    "resnet-50": 25_557_032 - 2 * 64 * 7 * 7 - 999 * (2048 + 1),
    "cnn-13": 25 * 16 + 16 + 9 * 16 * 32 + 32 + 9 * 32 * 64 + 64 + 2 * (16 + 32 + 64) + 64 * 16 + 1,
}


@pytest.mark.parametrize("name", CLASSIFIERS)
class TestClassifiers:
    def test_parameters_are_as_published(self, name):
        assert sum(one.numel() for one in build_classifier(name, 0).parameters()) == PUBLISHED[name]

    def test_any_size_gives_one_logit_a_slice(self, name):
        network = build_classifier(name, 0).eval()
        for shape in ((SMALLEST_SIDE, SMALLEST_SIDE), (97, 71)):
            assert network(torch.rand(2, 1, *shape)).shape == (2,)

    def test_every_parameter_learns(self, name):
        network = build_classifier(name, 0)
        step = torch.optim.SGD(network.parameters(), lr=1e-3)
        for _ in range(2):  # a residual block's last norm starts at 0: what is before it learns from the second step on
            step.zero_grad()
            torch.manual_seed(0)
            network(torch.rand(4, 1, 64, 64)).square().sum().backward()
            step.step()
        assert all(one.grad is not None and one.grad.any() for one in network.parameters())

    def test_the_seed_alone_decides_the_weights(self, name):
        state = torch.get_rng_state()
        first, again, other = (next(build_classifier(name, seed).parameters()) for seed in (3, 3, 4))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert torch.equal(state, torch.get_rng_state())


def test_the_13_layers_are_13():
    network = CLASSIFIERS["cnn-13"]()
    assert len(network.layers) + 1 == 13


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_learn(name):
    training, test = heads(24, 1, disc=0.18), heads(8, 2, disc=0.18)
    found = run(name, training, test, seed=1)
    assert roc_auc(test.has_lesion, found.score) > 0.8
    assert found.parameters == PUBLISHED[name]
    assert ((found.score >= 0) & (found.score <= 1)).all()


@pytest.mark.parametrize("name", ["sift", "cnn-13"])
def test_one_sided_training_is_refused(name):
    side = heads(4, 0)
    bleeding = side.select([one for one, bleeds in zip(side.ids, side.has_lesion, strict=True) if bleeds])
    with pytest.raises(SplitError, match="4 of 4"):
        run(name, bleeding, side)


def test_a_classifier_repeats_itself_and_follows_its_seed():
    training, test = heads(8, 1), heads(4, 2)
    first, again, other = (run("cnn-13", training, test, seed).score for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_bf16_scores_like_fp32():
    training, test = heads(24, 1, disc=0.18), heads(8, 2, disc=0.18)
    found = BASELINES["cnn-13"](training, test, replace(CPU, bf16=True), 0, lambda done, of: None)
    assert roc_auc(test.has_lesion, found.score) > 0.8
