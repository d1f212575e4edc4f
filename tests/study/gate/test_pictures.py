"""The checks of pictures: a phantom's slices pass; each thing that is no axial slice in the brain window is named."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bleedmap.arrays import ByteArray, FloatArray
from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.io import images
from bleedmap.phantom.head import PhantomSettings, make_phantom
from bleedmap.study.gate.check import Check
from bleedmap.study.gate.gate import ALL_CHECKS, CHECKS, find_refusal, read_accepted
from bleedmap.study.gate.picture_look import measure_picture
from bleedmap.study.gate.pictures import PICTURE_CHECKS, judge_pictures, list_doubts
from bleedmap.window import BRAIN, Window
from ct_ich_pictures import KINDS, read_slices

MIDDLE = range(10, 22)  # slices of the phantom that show brain


@cache
def head() -> FloatArray:
    return make_phantom(PhantomSettings(seed=3)).volume.hu


def show(hu: FloatArray, window: Window = BRAIN) -> ByteArray:
    return np.rint(window.to_unit(hu) * 255).astype(np.uint8)


def slices(window: Window = BRAIN) -> list[ByteArray]:
    return [show(head()[index], window) for index in MIDDLE]


def judge(*pictures: ByteArray, window: Window = BRAIN) -> dict[str, Check]:
    looks = [measure_picture(f"p{number}", np.ascontiguousarray(one), window) for number, one in enumerate(pictures)]
    return {one.name: one for one in judge_pictures(looks, window)}


def not_passed(*pictures: ByteArray, window: Window = BRAIN) -> dict[str, str]:
    checks = judge(*pictures, window=window)
    return {name: one.verdict for name, one in checks.items() if one.verdict in ("warning", "refusal")}


def test_a_phantoms_slices_pass_alone_and_together() -> None:
    for one in slices():
        assert not_passed(one) == {}
    checks = judge(*slices())
    assert tuple(checks) == PICTURE_CHECKS
    assert {one.verdict for one in checks.values()} == {"pass"}
    assert "12 of 12" in checks["anatomy"].found


def mosaic(columns: int, rows: int) -> ByteArray:
    tiles = iter(slices())
    return np.vstack([np.hstack([next(tiles)[::2, ::2] for _ in range(columns)]) for _ in range(rows)])


def lettered(grey: ByteArray) -> ByteArray:
    """Six lines of eight letters in a corner."""
    marked = grey.copy()
    for line in range(6):
        for letter in range(8):
            marked[10 + 14 * line : 19 + 14 * line, 10 + 10 * letter : 16 + 10 * letter] = 255
    return marked


def framed(grey: ByteArray, shade: int) -> ByteArray:
    return np.pad(grey, 30, constant_values=shade)


def disc() -> ByteArray:
    row, column = np.mgrid[:512, :512]
    return np.where(np.hypot(row - 256, column - 256) < 180, 110, 0).astype(np.uint8)


ODD: dict[str, tuple[Callable[[ByteArray], ByteArray], str, str]] = {
    "inverse": (lambda one: 255 - one, "grey scale", "refusal"),
    "inverse in a black frame": (lambda one: framed(255 - one, 0), "grey scale", "refusal"),
    "white page": (lambda one: framed(one, 255), "grey scale", "refusal"),
    "mask": (lambda one: np.where((one > 120) & (one < 250), 255, 0).astype(np.uint8), "grey scale", "refusal"),
    "grey page": (lambda one: framed(one, 128), "air", "refusal"),
    "cut out": (lambda one: one[180:330, 180:330], "air", "refusal"),
    "black": (np.zeros_like, "blank slices", "refusal"),
    "white": (lambda one: np.full_like(one, 255), "blank slices", "refusal"),
    "thumbnail": (lambda one: one[::9, ::9], "picture size", "refusal"),
    "small": (lambda one: one[::5, ::5], "picture size", "warning"),
    "wide": (lambda one: np.pad(one, ((0, 0), (0, 400))), "picture size", "warning"),
    "far away": (lambda one: np.pad(one[::4, ::4], 300), "field of view", "warning"),
    "letters": (lettered, "marks", "warning"),
    "cut off": (lambda one: one[:, 250:], "border", "warning"),
    "no head": (lambda one: disc(), "anatomy", "warning"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_slice_is_named(name: str) -> None:
    change, check, verdict = ODD[name]
    checks = judge(change(slices()[4]))
    assert checks[check].verdict == verdict
    assert checks[check].found
    assert checks[check].meaning


@pytest.mark.parametrize(
    "window", [Window(700, 3200), Window(500, 2000), Window(300, 1500), Window(-600, 1500), Window(1000, 4000)]
)
def test_a_wide_window_is_not_believed(window: Window) -> None:
    for one in slices(window)[::4]:
        assert not_passed(one)["window"] in (("refusal",) if window.width_hu > 1500 else ("refusal", "warning"))


@pytest.mark.parametrize("window", [Window(40, 80), Window(50, 130), Window(35, 100)])
def test_windows_near_the_brain_window_pass(window: Window) -> None:
    assert not_passed(*slices(window)) == {}


@pytest.mark.parametrize("window", [Window(75, 215), Window(40, 40), Window(50, 350), Window(40, 400)])
def test_other_windows_are_told(window: Window) -> None:
    assert not_passed(*slices(window)).keys() & {"window", "brain density"}
    stated = not_passed(*slices(window), window=window)
    assert "brain density" not in stated


def test_a_mosaic_is_refused_and_one_among_many_slices_is_told() -> None:
    for columns, rows in ((2, 1), (2, 2), (4, 3)):
        assert not_passed(mosaic(columns, rows))["single slice"] == "refusal"
    assert not_passed(*slices(), mosaic(2, 2))["single slice"] == "warning"


def test_two_slices_in_a_square_picture_are_told() -> None:
    pair = mosaic(2, 1)
    square = np.pad(pair, ((pair.shape[0] // 2,) * 2, (0, 0)))
    assert not_passed(square)["single slice"] == "warning"
    assert not_passed(*[square] * 12)["single slice"] == "warning"
    assert "single slice" not in not_passed(*slices(), square)  # the base of a head may look so


def test_turned_slices_are_told_by_all_of_them() -> None:
    for turn, words in ((np.rot90, "on its side"), (np.flipud, "upside down")):
        one = judge(*map(turn, slices()))["orientation"]
        assert one.verdict == "warning"
        assert words in one.found


def test_two_sizes_in_one_run_are_told() -> None:
    one, other = slices()[:2]
    checks = judge(one, other[:-8])
    assert checks["picture size"].verdict == "warning"
    assert "2 sizes: 1 of 512 × 512, 1 of 504 × 512" in checks["picture size"].found


def test_ten_slices_without_brain_are_refused_and_a_blank_one_among_them_is_told() -> None:
    assert not_passed(*[disc()] * 10)["anatomy"] == "refusal"
    assert not_passed(*slices(), np.zeros((512, 512), np.uint8)) == {"blank slices": "warning"}


def test_a_stated_window_must_show_blood_and_brain() -> None:
    for window in (Window(40, 30), Window(700, 3200)):
        assert not_passed(*slices(window), window=window)["window"] == "warning"


def test_refusals_name_pictures_and_are_overruled_by_name() -> None:
    good, bad = slices()[0], 255 - slices()[1]
    looks = [measure_picture(name, one, BRAIN) for name, one in (("a", good), ("b", bad))]
    checks = judge_pictures(looks, BRAIN)
    assert list_doubts(looks[0]) == ()
    assert list_doubts(looks[1]) == ("grey scale",)
    error = find_refusal("folder", checks, wanted="slices")
    assert error is not None
    assert "1 of 2 pictures: b: inverse" in error.found
    assert "--accept grey-scale" in error.remedy
    assert find_refusal("folder", checks, ["grey-scale"]) is None
    assert read_accepted(["single slice"]) == {"single slice"}
    assert set(ALL_CHECKS) == {*CHECKS, *PICTURE_CHECKS, "reference"}


def test_real_slices_pass_and_their_changed_copies_do_not(ct_ich_root: Path) -> None:
    """Of two patients; the figures on all are those of tests/support/ct_ich_pictures.py."""
    for patient in open_ct_ich(ct_ich_root).patients[3:30:20]:
        assert not_passed(*read_slices(ct_ich_root, patient, 2)) == {}
        for kind, check in (("bone window", "window"), ("inverse", "grey scale"), ("upside down", "orientation")):
            assert check in not_passed(*KINDS[kind](ct_ich_root, patient, 3))


def test_a_picture_is_measured_as_it_was_read(tmp_path: Path) -> None:
    images.write_png(tmp_path / "one.png", slices()[3])
    pixels, turned = images.read_picture(tmp_path / "one.png")
    assert measure_picture("p0", pixels, BRAIN, turned).shape == slices()[3].shape
