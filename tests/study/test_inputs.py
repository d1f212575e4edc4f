"""What is given on the command line, sorted into one study or pictures."""

from pathlib import Path

import numpy as np
import pytest

from bleedmap.errors import BleedmapError
from bleedmap.io import images
from bleedmap.study.inputs import gather, natural


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images.write_png(path, np.full((20, 20), 100, np.uint8))
    return path


def test_pictures_come_in_natural_order() -> None:
    names = ["10.jpg", "2.jpg", "a10b2.png", "a9b11.png", "1.jpg", "B1.png"]
    assert sorted(map(Path, names), key=natural) == list(
        map(Path, ["1.jpg", "2.jpg", "10.jpg", "a9b11.png", "a10b2.png", "B1.png"])
    )


def test_a_folder_is_sorted_and_strangers_are_named(tmp_path: Path) -> None:
    for name in ("10.png", "9.png", "9_HGE_Seg.png"):
        picture(tmp_path / "s" / name)
    (tmp_path / "s/notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "s/bone").mkdir()
    (tmp_path / "s/head.nii.gz").write_bytes(b"")
    found = gather([tmp_path / "s"])
    assert [one.path.name for one in found.pictures] == ["9.png", "10.png"]
    assert {one.path.name: one.reason for one in found.ignored} == {
        "9_HGE_Seg.png": "a reference mask of CT-ICH",
        "notes.txt": "no picture",
        "bone": "a folder",
        "head.nii.gz": "a NIfTI volume; name the file itself to segment it",
    }


def test_two_inputs_never_share_a_name(tmp_path: Path) -> None:
    given = [picture(tmp_path / name) for name in ("a/1.png", "b/1.png", "c/1-2.png", "d/1.png", "e/X.png", "f/x.png")]
    names = [one.name for one in gather(given).pictures]
    assert len({name.lower() for name in names}) == 6
    assert names[0] == "1"
    assert names[2] == "1-2"


def test_a_picture_named_twice_is_segmented_once(tmp_path: Path) -> None:
    one = picture(tmp_path / "1.png")
    assert len(gather([one, tmp_path, one]).pictures) == 1


def test_a_volume_comes_alone(tmp_path: Path) -> None:
    volume = tmp_path / "head.nii"
    assert gather([volume]).study == volume
    with pytest.raises(BleedmapError, match="together with 1 other"):
        gather([volume, picture(tmp_path / "1.png")])
