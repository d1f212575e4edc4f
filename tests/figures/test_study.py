"""`bleedmap figure study`: a figure of one's own study, from the study or from the folder of its results."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bleedmap.errors import SettingsError
from bleedmap.figures.study import MOST, draw_study, read_slices
from bleedmap.io import nifti
from bleedmap.phantom.head import Bleed, PhantomSettings, make_phantom
from bleedmap.study.read import read_study
from bleedmap.study.result import Result
from bleedmap.study.segment import Segmenter
from bleedmap.window import Window
from command_line import run


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "head.nii.gz"
    spot = Bleed("IPH", 20.0, "left")
    settings = PhantomSettings(seed=3, spacing_mm=(5.0, 1.8, 1.8), shape=(28, 128, 128), bleeds=(spot,))
    nifti.write(path, make_phantom(settings).volume)
    return path


@pytest.fixture(scope="module")
def result(scan: Path) -> Result:
    return Segmenter.load().segment(read_study(scan))


def test_slices_are_read_as_numbers_and_ranges_from_1(result: Result) -> None:
    assert read_slices("8, 12-14,3", result) == [7, 11, 12, 13, 2]
    assert set(read_slices(None, result)) <= set(result.findings.slices_with_lesion)


@pytest.mark.parametrize("words", ["", "0", "29", "a", "5-", "14-12", f"1-{MOST + 1}", "3.5"])
def test_slices_that_are_not_there_are_refused(result: Result, words: str) -> None:
    with pytest.raises(SettingsError, match="of 1 to 28"):
        read_slices(words, result)


def test_a_panel_for_each_slice_plain_and_marked(result: Result) -> None:
    figure = draw_study(result, [7, 11, 12, 13, 14], Window(40, 80))
    assert len(figure.axes) == 10
    words = " ".join(one.get_text() for one in figure.texts)
    assert "8:" in words
    assert "15:" in words
    assert "not a medical device" in words


@pytest.mark.exhaustive
def test_the_folder_of_results_gives_the_studys_figure(scan: Path, tmp_path: Path) -> None:
    assert run("segment", scan, "-o", tmp_path / "result", "--threshold", 0.6) == 0
    drawn = tmp_path / "of-study.png", tmp_path / "of-results.png"
    slices = ("--slices", "10-13", "--window", 80, 200)
    assert run("figure", "study", scan, "--threshold", 0.6, *slices, "-o", drawn[0]) == 0
    assert run("figure", "study", tmp_path / "result", *slices, "-o", drawn[1]) == 0
    pixels = [np.asarray(Image.open(one).convert("RGB")) for one in drawn]
    assert np.array_equal(*pixels)
    reds = (pixels[0][..., 0].astype(int) > pixels[0][..., 1] + 60).sum()
    assert reds > 500


def test_results_without_their_study_are_refused_with_a_remedy(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = tmp_path / "moved.nii.gz"
    moved.write_bytes(scan.read_bytes())
    assert run("segment", moved, "-o", tmp_path / "result") == 0
    moved.unlink()
    assert run("figure", "study", tmp_path / "result", "-o", tmp_path / "x.png") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "give the study's place now; it is segmented again then" in said
    assert "start in the folder" not in said


def test_a_relative_place_is_said_to_count_from_where_the_study_was_segmented(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scan.parent)
    assert run("segment", scan.name, "-o", tmp_path / "result") == 0
    monkeypatch.chdir(tmp_path)
    assert run("figure", "study", "result", "-o", "x.png") == 2
    assert "start in the folder where the study was segmented, or" in " ".join(capsys.readouterr().err.split())
