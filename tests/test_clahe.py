"""CLAHE: what it does to a slice, that it is an option of the preprocessing, and its figure."""

import builtins

import numpy as np
import pytest
from PIL import Image

from bleedmap.cli.main import main
from bleedmap.errors import MissingExtraError
from bleedmap.figures.clahe import contrast, tissues
from bleedmap.preprocess import Preprocessing, equalise, network_input

RAMP = np.tile(np.linspace(0.4, 0.6, 64, dtype=np.float32), (512, 8))  # (row, column)


def head() -> tuple[np.ndarray, np.ndarray]:
    """A slice of bone around brain with a lesion, noise in the brain, (128, 128), and the lesion's mask."""
    row, column = np.mgrid[:128, :128] - 64.0
    away = np.hypot(row, column)
    noise = np.random.default_rng(0).normal(0, 0.03, away.shape)
    unit = np.where(away < 50, 0.45 + noise, np.where(away < 58, 1.0, 0.0))
    lesion = np.hypot(row - 15, column) < 12
    unit[lesion] += 0.15
    return unit.clip(0, 1).astype(np.float32), lesion


def test_a_ramp_gains_contrast_and_keeps_shape_and_range():
    found = equalise(RAMP)
    assert found.shape == RAMP.shape
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1
    assert found.std() > 1.5 * RAMP.std()


def test_the_option_changes_the_network_input_and_is_off_by_default():
    hu = (head()[0] * 120 - 20)[None]
    plain, _ = network_input(hu, Preprocessing(size=64))
    with_clahe, _ = network_input(hu, Preprocessing(size=64, clahe=True))
    assert not Preprocessing().clahe
    assert with_clahe.shape == plain.shape
    assert np.abs(with_clahe - plain).max() > 0.05


def test_without_opencv_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def refuse(name, *arguments, **more):
        if name == "cv2":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match="cv2") as raised:
        equalise(RAMP)
    assert "bleedmap[reproduce]" in raised.value.remedy


def test_contrast_is_counted_right():
    unit = np.array([[0.2, 0.4, 0.4, 0.6, 1.0]], np.float32)
    lesion = np.array([[False, False, True, True, False]])
    where = tissues(unit, lesion)
    assert [mask.nonzero()[1].tolist() for mask in where] == [[2, 3], [0, 1], [4]]
    found = contrast(unit, where)
    assert found is not None
    assert (found.lesion, found.tissue, found.bone) == pytest.approx((0.5, 0.3, 1.0))
    # Lesion 0.4 and 0.6 against tissue 0.2 and 0.4: brighter in three pairs, equal in one.
    assert found.lesion_over_tissue == pytest.approx(3.5 / 4)
    assert found.bone_over_lesion == 1


def test_lesion_and_bone_come_nearer():
    unit, lesion = head()
    where = tissues(unit, lesion)
    before, after = contrast(unit, where), contrast(equalise(unit), where)
    assert before is not None
    assert after is not None
    assert after.bone - after.lesion < before.bone - before.lesion


def test_a_slice_without_lesion_has_no_contrast():
    unit, _ = head()
    assert contrast(unit, tissues(unit, np.zeros_like(unit, np.bool_))) is None


def test_the_figure_of_the_small_data_set(jpeg_release, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["figure", "clahe", "--data", str(jpeg_release), "-o", str(tmp_path / "clahe.png")])
    assert not ended.value.code
    with Image.open(tmp_path / "clahe.png") as picture:
        assert picture.width == pytest.approx(180 / 25.4 * 300, abs=1)
        assert np.asarray(picture.convert("L")).std() > 10
    assert "049/2" in capsys.readouterr().out
