"""The classifiers are the papers' own, and learn."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from baseline_heads import CPU, heads, run
from bleedmap.metrics.roc import roc_auc
from bleedmap_thesis.baselines import BASELINES
from bleedmap_thesis.baselines.networks import CLASSIFIERS, SMALLEST_SIDE, build_classifier

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
    assert sum(not isinstance(layer, torch.nn.Flatten) for layer in network) == 13


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.exhaustive if name != "cnn-13" else ()) for name in CLASSIFIERS]
)
def test_classifiers_learn(name):
    training, test = heads(16, 1, disc=0.18), heads(8, 2, disc=0.18)
    found = run(name, training, test, seed=1)
    assert roc_auc(test.has_lesion, found.score) > 0.8
    assert found.parameters == PUBLISHED[name]
    assert ((found.score >= 0) & (found.score <= 1)).all()


def test_a_classifier_repeats_itself_and_follows_its_seed():
    training, test = heads(8, 1), heads(4, 2)
    first, again, other = (run("cnn-13", training, test, seed).score for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.exhaustive
def test_bf16_scores_like_fp32():
    training, test = heads(24, 1, disc=0.18), heads(8, 2, disc=0.18)
    found = BASELINES["cnn-13"](training, test, replace(CPU, bf16=True), 0, lambda done, of: None)
    assert roc_auc(test.has_lesion, found.score) > 0.8
