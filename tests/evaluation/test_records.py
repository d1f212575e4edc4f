"""A patient's prediction survives the disk to the step of its probability; anything else is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bleedmap.errors import InputError, OutputError
from bleedmap.evaluation.records import read_prediction, write_prediction


@given(shape=st.tuples(*[st.integers(1, 6)] * 3), seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path: Path, shape: tuple[int, int, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    probability, mask = random.random(shape).astype(np.float32), random.random(shape) < 0.5
    assert write_prediction(tmp_path / "method", 7, probability, mask) == tmp_path / "method/007.npz"
    read, read_mask = read_prediction(tmp_path / "method", 7)
    assert (read.dtype, read_mask.dtype) == (np.float32, np.bool_)
    assert np.array_equal(np.rint(read * 255), np.rint(probability * np.float32(255)))
    assert np.abs(read - probability).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(read_mask, mask)
    assert [path.name for path in (tmp_path / "method").iterdir()] == ["007.npz"]


def test_the_same_prediction_is_the_same_file(tmp_path: Path) -> None:
    one, other = (write_prediction(tmp_path / name, 1, np.ones((1, 3, 4), np.float32), np.ones((1, 3, 4), bool))
                  for name in "ab")  # fmt: skip
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("value", [-0.1, 1.1, np.nan])
def test_no_probability_is_refused(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="probability"):
        write_prediction(tmp_path, 1, np.full((1, 2, 2), value, np.float32), np.zeros((1, 2, 2), bool))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 2)])
def test_shapes_that_differ_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not one"):
        write_prediction(tmp_path, 1, np.zeros(shape, np.float32), np.zeros((2, 2), bool))


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        write_prediction(tmp_path / "file", 1, np.zeros((1, 1, 1), np.float32), np.zeros((1, 1, 1), bool))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"012\.npz: no such file"):
        read_prediction(tmp_path, 12)


def damaged(path: Path, how: str) -> None:
    whole = path.read_bytes()
    arrays = dict(np.load(path))
    match how:
        case "cut short":
            path.write_bytes(whole[: len(whole) // 2])
        case "empty":
            path.write_bytes(b"")
        case "bytes flipped":
            path.write_bytes(whole[:60] + bytes(255 - one for one in whole[60:90]) + whole[90:])
        case "not an archive":
            np.save(path.with_suffix(".npy"), np.zeros(3))
            path.with_suffix(".npy").rename(path)
        case "no mask":
            np.savez(path, probability=arrays["probability"], shape=arrays["shape"])
        case "another shape":
            np.savez(path, **arrays | {"shape": np.array([3, 2, 2])})
        case "mask too short":
            np.savez(path, **arrays | {"mask": arrays["mask"][:1]})
        case "floats":
            np.savez(path, **arrays | {"probability": arrays["probability"] / 255})
        case "objects":
            np.savez(path, **arrays | {"mask": np.array([{}], object)})


@pytest.mark.parametrize(
    "how",
    ["cut short", "empty", "bytes flipped", "not an archive", "no mask", "another shape", "mask too short", "floats",
     "objects"],
)  # fmt: skip
def test_a_damaged_file_is_refused(tmp_path: Path, how: str) -> None:
    random = np.random.default_rng(0)
    path = write_prediction(tmp_path, 3, random.random((2, 5, 6)).astype(np.float32), random.random((2, 5, 6)) < 0.5)
    damaged(path, how)
    with pytest.raises(InputError, match="cannot be used"):
        read_prediction(tmp_path, 3)
