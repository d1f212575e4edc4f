"""`bleedmap segment` and `bleedmap models`, run as a user runs them."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bleedmap import RESEARCH_ONLY
from bleedmap.io import images
from bleedmap.io.names import fit_name, fold_name
from bleedmap.window import BRAIN, Window
from command_line import run
from tiny_network import ANY_PICTURE, head_hu, write_tiny_network

AFFINE = np.array([[-3.9, 0, 0, 120], [0, 3.9, 0, -120], [0, 0, 5, 0], [0, 0, 0, 1.0]])

NO_SKULL = ("--accept", "bone", "--accept", "anatomy")  # what the test's heads lack


def picture(path: Path, hu: np.ndarray[Any, Any], window: Window = BRAIN) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write_png(path, np.rint(window.to_unit(hu) * 255).astype(np.uint8))
    return path


def volume(path: Path, bleeding: tuple[int, ...] = (5, 6, 7), count: int = 12, affine: Any = AFFINE) -> Path:
    """A volume whose file stores (column, row back to front, slice), with blood on some slices."""
    hu = np.stack([head_hu(64, 64, bleed=index in bleeding) for index in range(count)])
    nib.save(nib.Nifti1Image(hu.transpose(2, 1, 0)[:, ::-1], affine), path)
    return path


def test_a_folder_of_pictures(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, 10):
        picture(tmp_path / f"s/{number}.png", head_hu(150, 120, bleed=number != 2))
    picture(tmp_path / "s/1_HGE_Seg.png", head_hu(150, 120))
    (tmp_path / "s/notes.txt").write_text("x", encoding="utf-8")
    out = tmp_path / "deep/er/out"
    assert run("segment", tmp_path / "s", "-o", out, "--weights", weights, *ANY_PICTURE) == 0
    endings = ("mask", "overlay", "prob")
    expected = {f"{number}_{ending}.png" for number in (1, 2, 10) for ending in endings} | {
        "summary.json",
        ".bleedmap.json",
    }
    assert {one.name for one in out.iterdir()} == expected
    true = head_hu(150, 120) == 70
    found = images.read_mask(out / "10_mask.png", (150, 120))
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.8
    assert not images.read_mask(out / "2_mask.png", (150, 120)).any()
    probability = np.asarray(Image.open(out / "10_prob.png")).astype(float) / 65535
    np.testing.assert_array_equal(probability >= 0.5, found)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert [one["name"] for one in summary["slices"]] == ["1", "2", "10"]
    assert summary["slices_with_lesion"] == [1, 3]
    assert summary["slices"][2]["lesion_pixels"] == found.sum()
    assert summary["slices"][2]["highest_probability"] == pytest.approx(probability.max(), abs=1e-4)
    assert all((out / name).is_file() for one in summary["slices"] for name in one["files"].values())
    assert (summary["volume_ml"], summary["volume_note"]) == (None, "pictures carry no pixel spacing")
    assert {Path(one["file"]).name for one in summary["ignored"]} == {"1_HGE_Seg.png", "notes.txt"}
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("Hemorrhage found", "2 of 3 slices", "1_HGE_Seg.png", "notes.txt", RESEARCH_ONLY):
        assert words in shown


@pytest.mark.parametrize("name", ["head.nii", "head.nii.gz"])
def test_a_volume_returns_on_its_own_grid(
    name: str, tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = volume(tmp_path / name), tmp_path / "out"
    assert run("segment", path, "-o", out, "--weights", weights, "--json", *NO_SKULL) == 0
    assert {one.name for one in out.iterdir()} == {
        "head_dseg.nii.gz", "head_probseg.nii.gz", "head_overlay.png", "head_lesions.csv", "report.html",
        "summary.json", ".bleedmap.json",
    }  # fmt: skip
    given, mask = nib.load(path), nib.load(out / "head_dseg.nii.gz")
    np.testing.assert_allclose(mask.affine, given.affine)
    true, found = np.asanyarray(given.dataobj) == 70, np.asanyarray(mask.dataobj) > 0
    assert 2 * (true & found).sum() / (true.sum() + found.sum()) > 0.8
    probability = nib.load(out / "head_probseg.nii.gz").get_fdata()
    np.testing.assert_array_equal(probability >= 0.5, found)
    printed = json.loads(capsys.readouterr().out)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert printed == summary | {"out": str(out)}
    assert summary["volume_ml"] == pytest.approx(found.sum() * 3.9 * 3.9 * 5 / 1000, abs=1e-4)
    assert summary["slices_with_lesion"] == [6, 7, 8]
    assert [one["first_slice"] for one in summary["lesions"]] == [6]
    in_lps = [-1, -1, 1] * (given.affine @ [*np.argwhere(found).mean(axis=0), 1])[:3]
    assert summary["lesions"][0]["centroid_lps_mm"] == pytest.approx(in_lps, abs=0.06)
    assert summary["notes"] == []


def test_nothing_found_is_said_and_the_empty_mask_written(
    tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = volume(tmp_path / "calm.nii", bleeding=()), tmp_path / "out"
    assert run("segment", path, "-o", out, "--weights", weights, *NO_SKULL) == 0
    shown = capsys.readouterr().out
    assert "No hemorrhage found in 12 slices" in shown
    assert "refusal, overruled: bone" in shown
    assert not np.asanyarray(nib.load(out / "calm_dseg.nii.gz").dataobj).any()
    assert Image.open(out / "calm_overlay.png").width > 1000  # eight slices, not none
    assert json.loads((out / "summary.json").read_text(encoding="utf-8"))["volume_ml"] == 0


def test_same_stem_twice_keeps_both(tmp_path: Path, weights: str) -> None:
    one, two = picture(tmp_path / "a/1.png", head_hu()), picture(tmp_path / "b/1.png", head_hu(bleed=False))
    out = tmp_path / "out"
    assert run("segment", one, two, "-o", out, "--weights", weights, *ANY_PICTURE) == 0
    assert images.read_mask(out / "1_mask.png", (128, 128)).any()
    assert not images.read_mask(out / "1-2_mask.png", (128, 128)).any()


ODD_NAMES = (
    b"-rf", b"CON", b"a:b", b"line\nbreak", b"\xff\xfe", b"dot. ", b"x" * 251, "\u691c\u67fb".encode() * 41,
    "\u691c\u67fb".encode() * 41 + b"2", "\u00e9".encode(), "e\u0301".encode(), b"Head", b"HEAD",
)  # fmt: skip


def test_pictures_of_any_name_have_results_that_every_disk_takes(
    tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    one = picture(tmp_path / "1.png", head_hu())
    folder.mkdir()
    for name in ODD_NAMES:
        shutil.copy(os.fsencode(one), os.fsencode(folder) + b"/" + name + b".png")
    assert run("segment", folder, "-o", out, "--weights", weights, *ANY_PICTURE) == 0
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    names = [row["name"] for row in summary["slices"]]
    assert len({fold_name(name) for name in names}) == len(ODD_NAMES)
    for name in names:
        assert images.read_mask(out / f"{name}_mask.png", (128, 128)).any()
        assert name in (fit_name(name), f"{fit_name(name.rsplit('-', 1)[0])}-2")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", [b"x" * 248, "\u691c\u67fb".encode() * 41, b"\xff\xfe", b"line\nbreak", b"-rf"])
def test_a_volume_of_any_name_has_results_that_every_disk_takes(name: bytes, tmp_path: Path, weights: str) -> None:
    one, out = volume(tmp_path / "head.nii"), tmp_path / "out"
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/" + name + b".nii")
    one.rename(odd)
    assert run("segment", odd, "-o", out, "--weights", weights, *NO_SKULL) == 0
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert summary["name"] == fit_name(os.fsdecode(name))
    assert all((out / file).is_file() for file in summary["files"].values())


def test_a_path_that_is_too_long_is_refused_before_the_weights_are_looked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = picture(tmp_path / "1.png", head_hu())
    for out in (tmp_path / ("x" * 256), tmp_path / "/".join(["x" * 200] * 21)):
        assert run("segment", one, "-o", out, "--weights", "none") == 2
        assert "File name too long" in capsys.readouterr().err


def test_the_same_call_gives_the_same_bytes(tmp_path: Path, weights: str) -> None:
    one = picture(tmp_path / "1.png", head_hu())
    for out in ("x", "y"):
        assert run("segment", one, "-o", tmp_path / out, "--weights", weights, *ANY_PICTURE) == 0
    for path in (tmp_path / "x").iterdir():
        assert path.read_bytes() == (tmp_path / "y" / path.name).read_bytes()


def test_another_window_is_undone(tmp_path: Path, weights: str) -> None:
    wide = Window(50, 300)
    one, out = picture(tmp_path / "1.png", head_hu(), wide), tmp_path / "out"
    assert run("segment", one, "-o", out, "--weights", weights, "--window", 50, 300, *ANY_PICTURE) == 0
    true, found = head_hu() == 70, images.read_mask(out / "1_mask.png", (128, 128))
    assert 2 * (true & found).sum() / (true.sum() + found.sum()) > 0.8


def test_the_threshold_is_the_users(tmp_path: Path, weights: str) -> None:
    one = picture(tmp_path / "1.png", head_hu())
    counts = []
    for threshold in (0.01, 0.5, 1.0):
        out = tmp_path / f"out{threshold}"
        assert run("segment", one, "-o", out, "--weights", weights, "--threshold", threshold, *ANY_PICTURE) == 0
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        assert summary["threshold"] == threshold
        counts.append(summary["lesion_pixels"])
    assert counts[0] > counts[1] > counts[2] == 0


def test_full_precision_is_recorded(tmp_path: Path, weights: str) -> None:
    one, out = picture(tmp_path / "1.png", head_hu()), tmp_path / "out"
    assert run("segment", one, "-o", out, "--weights", weights, "--precision", "fp32", *ANY_PICTURE) == 0
    assert json.loads((out / "summary.json").read_text(encoding="utf-8"))["backend"]["precision"] == "fp32"


def test_overwrite_replaces_earlier_results_only(
    tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = picture(tmp_path / "a/1.png", head_hu()), picture(tmp_path / "a/2.png", head_hu())
    out = tmp_path / "out"
    assert run("segment", one, "-o", out, "--weights", weights, *ANY_PICTURE) == 0
    assert run("segment", two, "-o", out, "--weights", weights) == 2
    assert (out / "1_mask.png").exists()
    assert run("segment", two, "-o", out, "--weights", weights, "--overwrite", *ANY_PICTURE) == 0
    assert not (out / "1_mask.png").exists()
    precious = picture(tmp_path / "thesis/only_copy.png", head_hu())
    assert run("segment", two, "-o", precious.parent, "--weights", weights, "--overwrite") == 2
    assert run("segment", one.parent, "-o", one.parent, "--weights", weights, "--overwrite") == 2
    assert run("segment", one, "-o", tmp_path, "--weights", weights, "--overwrite") == 2
    assert precious.exists()
    assert one.exists()
    assert "holds the input" in capsys.readouterr().err


def test_a_volume_that_is_not_in_hu_is_refused(
    tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    nib.save(nib.Nifti1Image(np.full((64, 64, 12), 30, np.int16), AFFINE), tmp_path / "grey.nii")
    assert run("segment", tmp_path / "grey.nii", "-o", tmp_path / "out", "--weights", weights) == 2
    message = capsys.readouterr().err
    assert "refused by the input checks" in message
    assert "--accept air" in message
    assert not (tmp_path / "out").exists()


def test_a_check_that_does_not_exist_cannot_be_accepted(
    tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = volume(tmp_path / "head.nii")
    assert run("segment", path, "-o", tmp_path / "out", "--weights", weights, "--accept", "luck") == 2
    assert "luck" in capsys.readouterr().err


def test_flags_of_a_study_are_refused_for_pictures(
    tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = picture(tmp_path / "1.png", head_hu())
    for flag in (["--series", "2"], ["--fractional"]):
        assert run("segment", one, "-o", tmp_path / "out", "--weights", weights, *flag) == 2
        assert capsys.readouterr().err.startswith(f"error: {flag[0]}: given for pictures")


@pytest.mark.parametrize(
    ("flags", "subject"),
    [(("--device", "cuda"), "--device"), (("--window", "40", "120"), "--window")],
)
def test_flags_that_do_not_fit_are_refused(
    flags: tuple[str, ...], subject: str, tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = volume(tmp_path / "head.nii")
    assert run("segment", path, "-o", tmp_path / "out", "--weights", weights, *flags) == 2
    assert capsys.readouterr().err.startswith(f"error: {subject}:")
    assert not (tmp_path / "out").exists()


def test_a_real_slice(ct_ich_root: Path, tmp_path: Path, weights: str) -> None:
    one, out = next(ct_ich_root.glob("Patients_CT/*/brain/14.jpg")), tmp_path / "out"
    assert run("segment", one, "-o", out, "--weights", weights) == 0
    assert images.read_grey(out / "14_mask.png").shape == images.read_grey(one).shape


def test_models_lists_networks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "--json") == 0
    networks = {one["name"]: one for one in json.loads(capsys.readouterr().out)["networks"]}
    assert set(networks) == {"model-1", "model-2", "original"}
    assert networks["original"]["parameters"] == 31_030_593
    assert "dropout 0.1" in networks["model-2"]["layers"]


def test_models_shows_the_state_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bleedmap.inference import weights as module

    sha256 = write_tiny_network(tmp_path / "tiny.onnx")
    entry = {"file": "tiny.onnx", "sha256": sha256, "bytes": 900, "description": "for tests", "licence": "Apache-2.0"}
    content = {"default": "tiny", "weights": {"tiny": entry, "gone": entry | {"file": "gone.onnx"}}}
    (tmp_path / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr(module.installed, "__defaults__", (tmp_path,))
    assert run("models") == 0
    shown = capsys.readouterr().out
    assert "tiny, the default: ok" in shown
    assert "gone: missing" in shown
    assert "Apache-2.0" in shown
