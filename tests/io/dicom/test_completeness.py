"""What belongs to a series and was not read is told; nothing foreign is taken for it."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from bleedmap.archive.find import find_studies
from bleedmap.errors import InputError
from bleedmap.study.gate.gate import check_input
from dicom_studies import read, series

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 524288\n"


def write_numbered(folder: Path, instances: list[Dataset], ending: str = ".dcm") -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"IM{number:04d}{ending}" for number in range(1, len(instances) + 1)]
    for path, one in zip(paths, instances, strict=True):
        one.save_as(path, enforce_file_format=True)
    return paths


def refuse_folder(monkeypatch: pytest.MonkeyPatch, refused: Path) -> None:
    """Refuse to list a folder as the system does for lack of rights, which a superuser never lacks."""
    listed = os.scandir

    def scandir(path: str) -> Any:
        if Path(path) == refused:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)


def verdict(folder: Path) -> tuple[str, str]:
    found = read(folder)
    check = next(one for one in check_input(found.volume, found.acquisition) if one.name == "completeness")
    return check.verdict, check.found


def test_a_whole_series_passes(tmp_path):
    write_numbered(tmp_path, series())
    assert verdict(tmp_path)[0] == "pass"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "0 bytes"), (POINTER, "Git LFS"), (b"/annex/objects/SHA256E-s524288--4d7a.dcm", "git-annex"),
        (None, "cut"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".dcm", "", ".IMA"])
def test_files_that_hold_nothing_of_their_slice(tmp_path, content, words, ending):
    paths = write_numbered(tmp_path, series(), ending)
    for path in paths[-3:]:
        path.write_bytes(path.read_bytes()[:400] if content is None else content)
    told, found = verdict(tmp_path)
    assert told == "warning"
    assert "3 files beside the series could not be read" in found
    assert content is None or words in found
    assert len(read(tmp_path).volume.hu) == 9


def test_names_that_no_file_can_hold_are_spelled_out(tmp_path):
    """They stand in the report: one byte that is no character ended a run after all its work."""
    paths = write_numbered(tmp_path, series())
    for number, path in enumerate(paths[-2:]):
        path.unlink()
        path.with_name(("IM\n0011.dcm", os.fsdecode(b"IM001\xff2.dcm"))[number]).write_bytes(b"")
    told, found = verdict(tmp_path)
    assert told == "warning"
    assert "IM\\n0011.dcm" in found
    assert "IM001\\xff2.dcm" in found.encode().decode()


@pytest.mark.parametrize("ending", [".dcm", ""])
def test_links_to_nothing_are_slices_that_are_not_there(tmp_path, ending):
    """As git-annex leaves files that were not fetched, and a copy of links without what they lead to."""
    paths = write_numbered(tmp_path / "archive/one", series(), ending)
    for path in paths[-3:]:
        path.unlink()
        path.symlink_to(tmp_path / ".git/annex/objects" / path.name)
    (tmp_path / "archive/one/circle.txt").symlink_to("circle.txt")
    told, found = verdict(tmp_path / "archive/one")
    assert (told, "a link to nothing" in found) == ("warning", True)
    assert "3 files beside the series could not be read" in found
    batch = find_studies(tmp_path / "archive", tmp_path / "out")
    assert [len(one.files) for one in batch.sources] == [12]
    assert [(one.reason, one.count) for one in batch.passed] == [("a link to nothing", 1)]
    for path in paths[:-3]:
        path.unlink()
    with pytest.raises(InputError, match="a link to nothing"):
        read(tmp_path / "archive/one")


def test_folders_that_cannot_be_opened_are_told(tmp_path, monkeypatch):
    write_numbered(tmp_path / "a", series()[:9])
    write_numbered(tmp_path / "b", series()[9:])
    refuse_folder(monkeypatch, tmp_path / "b")
    assert any("a folder that cannot be opened: Permission denied" in one for one in read(tmp_path).notes)
    told, found = verdict(tmp_path)
    assert (told, "b: a folder that cannot be opened" in found) == ("warning", True)
    with pytest.raises(InputError, match="a folder that cannot be opened"):
        read(tmp_path / "b")


@pytest.mark.parametrize("name", [".DS_Store", "readme.txt", "Thumbs.db", "NOTES", "._IM0001.dcm", "viewer.exe"])
def test_an_empty_foreign_file_is_no_slice(tmp_path, name):
    write_numbered(tmp_path, series())
    (tmp_path / name).write_bytes(b"")
    assert verdict(tmp_path)[0] == "pass"


def test_an_empty_file_in_another_folder_is_none_of_this_series(tmp_path):
    write_numbered(tmp_path / "head", series())
    (tmp_path / "other").mkdir()
    (tmp_path / "other/IM0001.dcm").write_bytes(b"")
    assert verdict(tmp_path)[0] == "pass"


def test_slices_of_the_series_that_differ_lie_at_other_places(tmp_path):
    instances = series()
    for one in instances[8:]:
        one.Rows, one.Columns = one.Columns, one.Rows
    write_numbered(tmp_path, instances)
    told, found = verdict(tmp_path)
    assert told == "warning"
    assert "4 slices of the series at other places differ" in found


@pytest.mark.parametrize("keyword", ["ImagesInAcquisition", "NumberOfSeriesRelatedInstances"])
def test_fewer_images_than_the_files_state(tmp_path, keyword):
    instances = series()
    for one in instances:
        setattr(one, keyword, 12)
    write_numbered(tmp_path / "whole", instances)
    write_numbered(tmp_path / "part", instances[:9])
    assert verdict(tmp_path / "whole")[0] == "pass"
    told, found = verdict(tmp_path / "part")
    assert told == "warning"
    assert "the files state 12 images (0020,1" in found
    assert "9 are here" in found


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"])
def test_slices_without_a_place(tmp_path, keyword):
    instances = series()
    for one in instances[9:]:
        delattr(one, keyword)
    write_numbered(tmp_path, instances)
    told, found = verdict(tmp_path)
    assert told == "warning"
    assert "3 slices of the series cannot be placed" in found


def test_a_scout_and_a_capture_under_the_series_uid_are_no_slices_of_it(tmp_path):
    instances = series()
    other = series()[0]
    other.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    other.SeriesInstanceUID, other.StudyInstanceUID = instances[0].SeriesInstanceUID, instances[0].StudyInstanceUID
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    other.ImagePositionPatient = [0, 0, 500]
    write_numbered(tmp_path, [*instances, other])
    assert verdict(tmp_path)[0] == "pass"


@pytest.mark.parametrize("ending", [".part", ".crdownload", ".filepart"])
def test_an_unfinished_download_is_a_slice_that_is_not_there(tmp_path, ending):
    paths = write_numbered(tmp_path, series())
    paths[-1].rename(paths[-1].with_name(paths[-1].name + ending)).write_bytes(b"")
    assert verdict(tmp_path)[0] == "warning"


@pytest.mark.parametrize("ending", [".dcm", ""])
def test_what_a_mac_keeps_elsewhere_is_a_slice_that_is_not_there(tmp_path, ending):
    for path in write_numbered(tmp_path, series(), ending)[-2:]:
        path.rename(path.with_name(f".{path.name}.icloud")).write_bytes(b"bplist00" + bytes(150))
    told, found = verdict(tmp_path)
    assert told == "warning"
    assert "2 files beside the series could not be read" in found
    assert "iCloud" in found


def test_nothing_but_empty_files_is_refused_by_that_reason(tmp_path):
    for path in write_numbered(tmp_path, series()):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="0 bytes"):
        read(tmp_path)


def test_a_batch_counts_them_to_their_study_and_passes_foreign_ones_by(tmp_path):
    paths = write_numbered(tmp_path / "archive/one", series())
    paths[-1].write_bytes(b"")
    (tmp_path / "archive/one/readme.txt").write_bytes(b"")
    (tmp_path / "archive/lone.dcm").write_bytes(b"")
    found = find_studies(tmp_path / "archive", tmp_path / "out")
    assert [len(one.files) for one in found.sources] == [12]
    assert [(one.reason, one.count) for one in found.passed] == [("an empty file (0 bytes), not read", 2)]
