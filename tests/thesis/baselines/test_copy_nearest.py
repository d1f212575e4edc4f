"""The nearest training slice, mirrored or not, is found."""

import numpy as np
import pytest

from baseline_heads import CPU
from bleedmap.training.samples import Side
from bleedmap_thesis.baselines.copy_nearest import copy_nearest
from tiny_training import make_side


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
