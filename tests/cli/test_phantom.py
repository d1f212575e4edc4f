"""`bleedmap phantom` and `bleedmap demo`, run in process."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from bleedmap import RESEARCH_ONLY
from bleedmap.cli.main import bleedmap, main
from bleedmap.io import nifti
from plain_install import without_training_packages

SMALL = ["--spacing", "5", "1.6", "1.6", "--shape", "28", "140", "140"]
FEW = ["--spacing", "5", "1.6", "1.6", "--shape", "2", "140", "140"]


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(bleedmap, [str(word) for word in words], catch_exceptions=False)


def test_writes_ct_and_truth(tmp_path):
    out, mask = tmp_path / "head.nii.gz", tmp_path / "truth.nii"
    result = run("phantom", "-o", out, "--mask", mask, "--bleed", "IPH:12", "--bleed", "sdh:20:right:60", *SMALL)
    assert result.exit_code == 0
    assert "Phantom, seed 0" in result.stdout
    volume, truth = nifti.read_volume(out)[0], nifti.read_mask(mask)
    assert volume.hu.shape == truth.array.shape == (28, 140, 140)
    assert volume.grid.spacing_mm == pytest.approx((5, 1.6, 1.6))
    assert truth.volume_ml == pytest.approx(32, rel=0.03)
    np.testing.assert_allclose(volume.grid.affine, truth.grid.affine)


def test_json_alone_on_standard_output(tmp_path):
    result = run(
        "phantom", "-o", tmp_path / "head.nii.gz", "--bleed", "SDH:20:right:60", "--seed", "4", "--json", *SMALL
    )
    record = json.loads(result.stdout)
    assert record["phantom"] is True
    assert record["seed"] == 4
    assert record["mask"] is None
    (bleed,) = record["bleeds"]
    assert (bleed["type"], bleed["side"], bleed["hu"], bleed["asked_ml"]) == ("SDH", "right", 60, 20)
    assert bleed["true_volume_ml"] == pytest.approx(20, rel=0.03)


def test_a_healthy_head_says_so(tmp_path):
    result = run("phantom", "-o", tmp_path / "head.nii.gz", *FEW)
    assert "without a bleed" in result.stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--bleed", "IPH"], "--bleed IPH"),
        (["--bleed", "IPH:much"], "IPH:much"),
        (["--bleed", "IPH:5:left:60:7"], "IPH:5:left:60:7"),
        (["--bleed", "ICH:5"], "EDH, SDH, SAH, IPH, IVH"),
        (["--shape", "28", "64", "64"], "field of view"),
        (["--mask", "head.nii.gz"], "two files"),
        (["--mask", "truth.mha"], ".nii.gz"),
    ],
)
def test_mistakes_are_explained_and_nothing_is_written(tmp_path, monkeypatch, capsys, words, named):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["phantom", "-o", "head.nii.gz", *words])
    assert ended.value.code == 2
    assert named in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_existing_files_are_kept_unless_told(tmp_path, capsys):
    out = tmp_path / "head.nii.gz"
    out.write_bytes(b"precious")
    with pytest.raises(SystemExit) as ended:
        main(["phantom", "-o", str(out), *FEW])
    assert ended.value.code == 2
    assert "--overwrite" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"
    assert run("phantom", "-o", out, "--overwrite", *FEW).exit_code == 0
    assert nifti.read_volume(out)[0].hu.shape == (2, 140, 140)


@pytest.fixture
def blood_band(tmp_path: Path) -> Path:
    """A stand-in for trained weights: calls 52 to 85 HU blood, pixel by pixel."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, kind, ["n", 1, 64, 64]) for name in ("slices", "probability")]
    steps, constants = [], []
    for name, scale, offset in (("low", 80.0, -80.0 * 0.6), ("high", -80.0, 80.0 * 0.875)):
        constants += [helper.make_tensor(f"{name}.{key}", kind, [], [value])
                      for key, value in (("scale", scale), ("offset", offset))]  # fmt: skip
        steps += [
            helper.make_node("Mul", ["slices", f"{name}.scale"], [f"{name}.scaled"]),
            helper.make_node("Add", [f"{name}.scaled", f"{name}.offset"], [f"{name}.logit"]),
            helper.make_node("Sigmoid", [f"{name}.logit"], [name]),
        ]
    steps.append(helper.make_node("Mul", ["low", "high"], ["probability"]))
    graph = helper.make_graph(steps, "band", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    record = {
        "name": "blood-band", "threshold": 0.5, "trained_on": "nothing", "network": {"filters": [4, 8]},
        "preprocessing": {"size": 64, "frame": "whole", "window": {"level_hu": 40, "width_hu": 120}},
    }  # fmt: skip
    helper.set_model_props(model, {"bleedmap": json.dumps(record)})
    path = tmp_path / "band.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.exhaustive
def test_demo_segments_a_phantom_and_compares_and_needs_no_training_package(tmp_path, blood_band):
    out = tmp_path / "demo"
    result = without_training_packages("demo", "-o", str(out), "--weights", str(blood_band))
    assert result.returncode == 0, result.stderr
    assert "A phantom, not a patient" in result.stdout
    assert RESEARCH_ONLY in result.stdout
    assert "phantom_overlay.png" in result.stdout
    assert {path.name for path in out.iterdir()} == {
        "phantom", "phantom_truth.nii.gz", "result", "demo.json", ".bleedmap.json",
    }  # fmt: skip
    assert len(list((out / "phantom").glob("*.dcm"))) == 29  # 28 slices and a scout
    written = {str(path.relative_to(out / "result")) for path in (out / "result").rglob("*")}
    assert {"report.html", "dicom/segmentation.dcm", "dicom/report.dcm", "phantom_dseg.nii.gz"} <= written
    record = json.loads((out / "demo.json").read_text())
    truth, mask = nifti.read_mask(out / "phantom_truth.nii.gz"), nifti.read_mask(out / "result/phantom_dseg.nii.gz")
    assert record["true_ml"] == pytest.approx(truth.volume_ml, abs=0.01)
    assert record["found_ml"] == pytest.approx(mask.volume_ml, abs=0.01)
    each = record["bleeds"]
    assert [one["true_volume_ml"] for one in each] == pytest.approx([20, 25], abs=0.5)
    assert sum(one["found_ml"] for one in each) + record["false_ml"] == pytest.approx(mask.volume_ml, abs=0.01)
    assert [line.split()[0] for line in result.stdout.splitlines() if "left" in line or "right" in line] == [
        "IPH",
        "EDH",
    ]
    overlap = 2 * (truth.array & mask.array).sum() / (truth.array.sum() + mask.array.sum())
    assert record["dice"] == pytest.approx(overlap, abs=1e-3)
    assert overlap > 0.2
    with Image.open(out / "result/phantom_overlay.png") as picture:
        assert min(picture.size) > 600


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_demo_keeps_a_folder_with_files(tmp_path, blood_band, more, capsys):
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/notes.txt").write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["demo", "-o", str(tmp_path / "demo"), "--weights", str(blood_band), *more])
    assert ended.value.code == 2
    assert "another folder" in capsys.readouterr().err
    assert (tmp_path / "demo/notes.txt").read_text() == "mine"
