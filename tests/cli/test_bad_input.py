"""Bad input, through the real command line: a clear message, exit code 2, nothing written."""

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bleedmap.cli.main import main
from bleedmap.errors import OutputError
from bleedmap.io import images
from bleedmap.io.files import folder_written_whole, output_error
from bleedmap.window import BRAIN
from tiny_network import ANY_PICTURE, head_hu, write_tiny_network


def grey() -> np.ndarray[Any, Any]:
    return np.rint(BRAIN.to_unit(head_hu()) * 255).astype(np.uint8)


def tree(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_size for path in folder.rglob("*")}


def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: object) -> str:
    """Run, and return the message; nothing may have appeared or changed anywhere under `tmp_path`."""
    before = tree(tmp_path)
    with pytest.raises(SystemExit) as left:
        main([str(one) for one in arguments])
    said = capsys.readouterr()
    assert left.value.code == 2
    assert said.out == ""
    assert "Traceback" not in said.err
    lines = said.err.splitlines()
    assert lines[0].startswith("error: ")
    assert any(line.startswith("  needed: ") for line in lines)
    assert any(line.startswith("  remedy: ") for line in lines)
    assert tree(tmp_path) == before
    return said.err


def segment_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, weights: str, *inputs: Path | str) -> str:
    out = tmp_path / "out"
    message = refused(capsys, tmp_path, "segment", *inputs, "-o", out, "--weights", weights)
    assert not out.exists()
    return message


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_jpeg(part: float, tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, 3):
        (tmp_path / "s").mkdir(exist_ok=True)
        Image.fromarray(grey()).save(tmp_path / f"s/{number}.jpg")
    last = tmp_path / "s/3.jpg"
    last.write_bytes(last.read_bytes()[: int(part * last.stat().st_size)])
    message = segment_refused(capsys, tmp_path, weights, tmp_path / "s")
    assert str(last) in message
    assert "cannot be read as a picture" in message


def test_an_empty_folder(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s").mkdir()
    assert "is empty" in segment_refused(capsys, tmp_path, weights, tmp_path / "s")


def test_a_folder_without_slices(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "s/brain").mkdir(parents=True)
    (tmp_path / "s/notes.txt").write_text("x", encoding="utf-8")
    message = segment_refused(capsys, tmp_path, weights, tmp_path / "s")
    assert "holds no DICOM file (1 of another kind)" in message
    assert "JPEG or PNG" in message


def test_no_such_input(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("absent.jpg", "absent.nii.gz", "absent"):
        assert "no such file" in segment_refused(capsys, tmp_path, weights, tmp_path / name)


def test_a_colour_photograph(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    row, column = np.mgrid[:90, :120]
    photograph = np.stack([row * 2, column * 2, 200 - row], axis=2).astype(np.uint8)
    Image.fromarray(photograph).save(tmp_path / "holiday.jpg")
    message = segment_refused(capsys, tmp_path, weights, tmp_path / "holiday.jpg")
    assert "holiday.jpg: a colour picture" in message


def test_nan_in_a_volume(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    hu = np.stack([head_hu(64, 64)] * 3, axis=2)
    hu[5, 6, 1] = np.nan
    nib.save(nib.Nifti1Image(hu, np.eye(4)), tmp_path / "head.nii.gz")
    message = segment_refused(capsys, tmp_path, weights, tmp_path / "head.nii.gz")
    assert "head.nii.gz: 1 of 12,288 voxels are not finite" in message


def test_corrupted_weights(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(weights)
    sha256 = write_tiny_network(path)
    path.with_name("tiny.onnx.sha256").write_text(f"{sha256}  tiny.onnx\n", encoding="utf-8")
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    images.write_png(tmp_path / "1.png", grey())
    message = segment_refused(capsys, tmp_path, weights, tmp_path / "1.png", *ANY_PICTURE)
    assert weights in message
    assert sha256 in message


def test_unreadable_inputs_are_reported_before_weights_are_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "1.jpg").write_bytes(b"no picture")
    assert "1.jpg" in segment_refused(capsys, tmp_path, tmp_path / "absent.onnx", tmp_path / "1.jpg")


_LIMITED = """
import resource, sys
from bleedmap.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # Python ignores SIGXFSZ: a longer write fails with EFBIG
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX file size limits")
def test_a_disk_that_fills_up_midway(tmp_path: Path, weights: str) -> None:
    for number in (1, 2):
        images.write_png(tmp_path / f"s/{number}.png", grey())
    before = tree(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, "segment", tmp_path / "s", "-o", tmp_path / "out", "--weights", weights,
         *ANY_PICTURE],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert tree(tmp_path) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux' /dev/full")
def test_no_space_left(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "first.txt").write_text("fits", encoding="utf-8")
        (folder / "full").symlink_to("/dev/full")
        (folder / "full").write_bytes(b"x")

    with (
        pytest.raises(OutputError, match="No space left on device") as caught,
        folder_written_whole(tmp_path / "out") as folder,
    ):
        fill(folder)
    assert "free some space" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("code", "remedy"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "not read-only")])
def test_each_disk_error_has_its_remedy(code: int, remedy: str) -> None:
    assert remedy in output_error(Path("x"), OSError(code, "why")).remedy


def test_the_output_is_a_file(tmp_path: Path, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    images.write_png(tmp_path / "1.png", grey())
    (tmp_path / "out").write_text("mine", encoding="utf-8")
    for flags in ((), ("--overwrite",)):
        refused(capsys, tmp_path, "segment", tmp_path / "1.png", "-o", tmp_path / "out", "--weights", weights, *flags)


def test_a_mask_of_another_size(jpeg_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = jpeg_release / "Patients_CT/049/brain/2_HGE_Seg.jpg"
    Image.fromarray(np.zeros((24, 30), np.uint8)).save(mask)
    message = refused(capsys, tmp_path, "data", "summary", "--data", jpeg_release)
    assert f"{mask}: a mask of 24×30 pixels" in message


def test_a_row_without_its_file(jpeg_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (jpeg_release / "Patients_CT/050/brain/2.jpg").unlink()
    message = refused(capsys, tmp_path, "data", "summary", "--data", jpeg_release)
    assert "2.jpg" in message
