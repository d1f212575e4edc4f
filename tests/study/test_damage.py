"""Damaged input through the real command line: refused with words or read, never a crash, a hang or half a result."""

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage

from bleedmap.io.dicom.read import read_series, scan
from damage import MOST_BYTES, MOST_S, Outcome, outcomes, table
from damage_dicom import base_files, find_element, write_base
from damage_inputs import KINDS, make_input


@pytest.fixture(scope="module")
def found() -> list[Outcome]:
    """What became of three inputs of each kind; `python tests/support/matrices/damage.py --count 500` tries many."""
    return list(outcomes(range(3 * len(KINDS))))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("seed", [0, 2, 4, 5, 7, 8, 9, 13, 15])
def test_one_seed_is_one_input(tmp_path, seed):
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
        make_input(seed, folder)
    assert contents(folders[0]) == contents(folders[1]) != {}


def test_a_directory_beside_the_slices_is_no_damaged_file(tmp_path):
    directory = Dataset()
    directory.file_meta = FileMetaDataset()
    directory.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    directory.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    directory.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    directory.FileSetID, directory.DirectoryRecordSequence = "CD", []
    study = write_base(tmp_path, base_files())
    usual = read_series(scan(study)).notes
    directory.save_as(study / "DICOMDIR", enforce_file_format=True)
    assert scan(study).unreadable == ()
    assert read_series(scan(study)).notes == usual


def test_a_slice_of_another_rescale_is_noted(tmp_path):
    files = list(base_files())
    start, end = find_element(files[8], "RescaleIntercept", "DS")
    files[8] = files[8][: start + 8] + b"0".ljust(end - start - 8) + files[8][end:]
    (note,) = read_series(scan(write_base(tmp_path, files))).notes
    assert "intercept -1024 on 13 of 14, elsewhere slope 1, intercept 0;" in note


@pytest.mark.exhaustive
def test_no_input_breaks_a_rule(found):
    broken = [one for one in found if one.wrong]
    assert not broken, broken
    assert len({one.kind for one in found}) == len(KINDS)


@pytest.mark.exhaustive
def test_most_are_refused_and_the_harmless_are_read(found):
    assert sum(one.ended == "refused" for one in found) > len(found) / 2, table(found)
    assert sum(one.ended == "accepted" for one in found) >= 2, table(found)


@pytest.mark.exhaustive
def test_peer_11_time_and_memory_are_bounded(found):
    assert max(one.seconds for one in found) < MOST_S
    assert 50 << 20 < max(one.peak_bytes for one in found) < MOST_BYTES


@pytest.mark.exhaustive
def test_nothing_was_written_outside(found):
    assert not Path("/tmp/escaped-absolute").exists()  # where a zip's member wanted to go
