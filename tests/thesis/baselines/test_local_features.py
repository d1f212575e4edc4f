"""SIFT and KAZE tell bleeds from none."""

import numpy as np
import pytest
import torch

from baseline_heads import heads, run
from bleedmap.metrics.roc import roc_auc
from bleedmap.training.samples import Side
from bleedmap_thesis.baselines.local_features import kaze_features, nonlinear_scales, sift_features


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
