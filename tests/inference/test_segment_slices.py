"""Slices to probabilities, with a network small enough to know its answers."""

from pathlib import Path

import numpy as np
import pytest

from bleedmap.arrays import BoolArray, FloatArray
from bleedmap.inference.backends import Prediction, Segmented
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.outline import _share_air, segment_slices
from bleedmap.inference.weights import WeightsFile, locate
from bleedmap.preprocess import neighbour_rows
from tiny_network import RECORD, head_hu, write_tiny_network


@pytest.mark.parametrize("frame", ["whole", "head"])
@pytest.mark.parametrize("shape", [(128, 128), (200, 150), (90, 310)])
def test_a_bleed_is_marked_where_it_is(frame: str, shape: tuple[int, int], tmp_path: Path) -> None:
    write_tiny_network(tmp_path / "n.onnx", preprocessing={**RECORD["preprocessing"], "frame": frame})  # type: ignore[dict-item]
    weights = locate(tmp_path / "n.onnx")
    hu = np.stack([head_hu(*shape), head_hu(*shape, bleed=False)])
    probability = segment_slices(hu, weights.preprocessing, OpenVinoBackend(weights)).probability
    assert probability.shape == hu.shape
    assert probability.dtype == np.float32
    found, true = probability[0] >= 0.5, hu[0] == 70
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.8
    assert probability[1].max() < 0.5


def test_slices_of_air_are_asked_for_once_and_change_nothing(unet: WeightsFile) -> None:
    head, random = head_hu(40, 56), np.random.default_rng(0)
    hu = np.full((23, 40, 56), -1000, np.float32)
    for index in (4, 5, 6, 11, 12, 13, 14, 15, 16, 17, 18):
        hu[index] = head + random.normal(0, 8, head.shape)
    backend, asked, seen = OpenVinoBackend(unet), [], list[int]()

    class Counting:
        record = backend.record

        def predict(self, slices: FloatArray) -> Prediction:
            asked.append(len(slices))
            return backend.predict(slices)

    said = segment_slices(hu, unet.preprocessing, Counting(), seen.append)
    assert sum(asked) == 12
    assert sum(seen) == 23
    for index in range(23):
        alone = segment_slices(hu[index : index + 1], unet.preprocessing, backend)
        assert np.abs(said.probability[index] - alone.probability[0]).max() < 1e-6
        assert said.extent[index] == pytest.approx(alone.extent[0], abs=1e-6)


def test_slices_whose_pixels_are_not_wanted_stay_0_and_the_rest_is_the_same(unet: WeightsFile) -> None:
    hu = np.stack([head_hu(40, 56)] * 5) + np.arange(5, dtype=np.float32)[:, None, None]
    backend, wanted = OpenVinoBackend(unet), np.array([True, False, False, True, True])
    whole = segment_slices(hu, unet.preprocessing, backend)

    def opened(said: Segmented) -> BoolArray:
        assert (said.extent == whole.extent).all()
        assert not said.probability.any()
        return wanted

    some = segment_slices(hu, unet.preprocessing, backend, choose_slices=opened)
    assert whole.probability[~wanted].any()
    assert not some.probability[~wanted].any()
    assert (some.probability[wanted] == whole.probability[wanted]).all()
    assert (some.extent == whole.extent).all()


def test_air_beside_a_head_is_asked_for() -> None:
    """A slice is of air alone only if its neighbours are too: the network looks at them."""
    slices = np.zeros((12, 8, 8), np.float32)
    slices[[3, 4, 8]] = 0.5
    asked, answer = _share_air(slices, neighbour_rows(len(slices), 1))
    assert asked.tolist() == [0, 2, 3, 4, 5, 7, 8, 9]
    assert answer.tolist() == [0, 0, 1, 2, 3, 4, 0, 5, 6, 7, 0, 0]


def test_chunks_change_nothing_and_progress_adds_up(tiny: WeightsFile) -> None:
    hu = np.stack([head_hu(64, 64, bleed=index % 3 == 0) for index in range(19)])
    seen: list[int] = []
    backend = OpenVinoBackend(tiny)
    together = segment_slices(hu, tiny.preprocessing, backend, seen.append).probability
    apart = np.concatenate([segment_slices(one[None], tiny.preprocessing, backend).probability for one in hu])
    np.testing.assert_array_equal(together, apart)
    assert sum(seen) == 19
    assert len(seen) > 1
