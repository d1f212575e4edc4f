"""What the page shows: each pixel is a stored pixel, wherever the slices lie; a correction finds its way back."""

import gzip
from io import BytesIO
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from bleedmap.errors import InputError
from bleedmap.phantom.dicom import ct_instances
from bleedmap.server import view
from bleedmap.study.read import read_study
from bleedmap.volume import Volume
from bleedmap.window import Window
from dicom_result_studies import GRIDS, TURNS, grid_of
from dicom_studies import write
from server_studies import result_of, scanned

CASES = [(kind, TURNS[number]) for kind, number in zip((*GRIDS, "both", "oblique"), range(8), strict=True)]


def stored_hu(folder: Path) -> dict[str, np.ndarray]:
    """HU of each file as its pixels are stored, by SOP Instance UID."""
    files = (pydicom.dcmread(one) for one in folder.iterdir())
    return {one.SOPInstanceUID: one.pixel_array * one.RescaleSlope + one.RescaleIntercept for one in files}


@pytest.mark.parametrize(("kind", "turn"), CASES)
def test_each_shown_pixel_is_a_stored_pixel(kind: str, turn: object, tmp_path: Path) -> None:
    grid = grid_of(kind)
    rng = np.random.default_rng(1)
    volume = Volume(rng.integers(-1000, 2000, (len(grid), 34, 39)).astype(np.float32), grid)
    marked = rng.random(volume.hu.shape) > 0.98
    result = result_of(tmp_path, ct_instances(volume, turn=turn), marked)
    (tmp_path / "view").mkdir()
    view.write_view(tmp_path / "view", result)
    shown = view.read_view(tmp_path / "view" / view.STACK)
    held = stored_hu(tmp_path / "dicom")
    assert result.dicom is not None
    for plane, header in zip(result.dicom.as_stored(shown), result.dicom.headers, strict=True):
        np.testing.assert_array_equal(plane, held[header.SOPInstanceUID])
    body = (tmp_path / "view" / view.MASK).read_bytes()
    np.testing.assert_array_equal(view.read_correction(body, shown.shape), marked)
    words = view.describe(result)
    assert any("tilted" in one for one in words["geometry"]) == (kind in ("tilted", "both"))
    assert any("uneven" in one for one in words["geometry"]) == (kind in ("uneven", "both"))
    assert any("from axial" in one for one in words["geometry"]) == (kind == "oblique")


def test_a_picture_shows_its_slice_with_that_slices_outline(tmp_path: Path) -> None:
    grid = grid_of("upright")
    levels = np.arange(len(grid), dtype=np.float32)[:, None, None] * 10
    volume = Volume(np.broadcast_to(levels, (len(grid), 40, 40)).copy(), grid)
    marked = np.zeros(volume.hu.shape, np.bool_)
    marked[2, 10:20, 10:20] = marked[-1, 5:9, 25:30] = True
    result = result_of(tmp_path, ct_instances(volume), marked)
    view.write_view(tmp_path, result)
    window = Window(30, 100)
    for number in range(1, len(grid) + 1):
        shown, plain = (
            np.asarray(Image.open(BytesIO(view.draw_view(tmp_path, number, window, overlay=one)))).astype(int)
            for one in (True, False)
        )
        assert (plain == np.rint(window.to_unit(np.full(plain.shape, 10 * (number - 1), np.float32)) * 255)).all()
        coloured = np.abs(shown - plain).max(axis=2) > 20
        rows, columns = (len(plain) / 40, plain.shape[1] / 40)
        for row, column, index in ((15, 15, 2), (7, 27, len(grid) - 1)):
            assert coloured[int(row * rows), int(column * columns)] == (number == index + 1)
        assert coloured.any() == marked[number - 1].any()


def test_places_are_said_with_gaps(tmp_path: Path) -> None:
    grid = grid_of("uneven")
    read = read_study(Volume(np.zeros((len(grid), 32, 32), np.float32), grid))
    places = view.describe(read)["places"]
    assert "the lowest slice" in places[0]
    assert "10.0 mm above the slice below, usually 5.4" in places[3]


def test_the_series_that_is_shown_is_named_and_what_was_left_out(tmp_path: Path) -> None:
    soft, bone = scanned(), scanned()
    for one in bone:
        one.StudyInstanceUID, one.SeriesInstanceUID, one.SeriesNumber = soft[0].StudyInstanceUID, "2.25.77", 3
        one.SeriesDescription, one.ConvolutionKernel = "Bone", "H70h"
    said = view.describe(read_study(write(tmp_path, [*soft, *bone])))["series"]
    assert said[0].startswith("Shown: series 2 “Head 5.0 H31s”, axial, 14 images")
    assert said[1] == "Left out: series 3 “Bone”, bone or lung kernel (H70h)."
    grid = grid_of("uneven")
    assert view.describe(read_study(Volume(np.zeros((len(grid), 32, 32), np.float32), grid)))["series"] == []


def test_a_refused_study_is_shown_without_outline(tmp_path: Path) -> None:
    grid = grid_of("lone")
    view.write_view(tmp_path, read_study(Volume(np.full((1, 40, 40), 30.4, np.float32), grid)))
    assert (view.read_view(tmp_path / view.STACK) == 30).all()
    assert not view.read_view(tmp_path / view.MASK).any()
    assert view.draw_view(tmp_path, 1, Window(40, 80)).startswith(b"\x89PNG")
    with pytest.raises(InputError, match="no such slice"):
        view.draw_view(tmp_path, 2, Window(40, 80))


def pack(array: np.ndarray, affine: np.ndarray | None = None) -> bytes:
    image = nib.Nifti1Image(array.T, np.diag([-1.0, -1.0, 1.0, 1.0]) if affine is None else affine)
    return gzip.compress(image.to_bytes())


def test_wrong_corrections_are_refused() -> None:
    shape = (3, 4, 5)
    good = pack(np.ones(shape, np.uint8))
    assert view.read_correction(good, shape).all()
    bomb = gzip.compress(bytes(300_000_000), 1)
    assert len(bomb) < 2_000_000
    wrong = {
        "exactly": [bomb, good[:-9], good + good, b""],
        "not a gzipped NIfTI": [b"PK\3\4", gzip.compress(b"x" * 10)],
        "shape": [pack(np.ones((3, 5, 4), np.uint8)), pack(np.ones(shape, np.uint8), np.eye(4))],
        "0 and 1": [pack(np.full(shape, 2, np.uint8))],
    }
    for words, bodies in wrong.items():
        for body in bodies:
            with pytest.raises(InputError, match=words):
                view.read_correction(body, shape)
