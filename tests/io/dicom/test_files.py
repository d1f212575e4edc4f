"""Folders, zips and files: DICOM is known by its content; what is hostile or no study is refused."""

import os
import struct
import subprocess
import sys
import time
import zipfile
from io import BytesIO
from itertools import product

import numpy as np
import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian

from bleedmap.archive.find import find_studies
from bleedmap.errors import InputError
from bleedmap.io.dicom.files import holds_dicom
from bleedmap.io.dicom.read import read_series, scan
from bleedmap.io.images import read_grey
from bleedmap.io.nifti import read_volume
from bleedmap.volume import Volume
from dicom_studies import assert_same, even_grid, read, series, volume_on, write

EXPECTED = volume_on(even_grid())


def zipped(path, files: dict, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def contents(folder) -> dict:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_zip_is_read_like_its_folder_and_nothing_is_written(tmp_path):
    files = contents(write(tmp_path / "study", series(EXPECTED)))
    inner = zipped(tmp_path / "inner.zip", {"a": b"b"}).read_bytes()
    names = {f"../../../{name}": content for name, content in files.items()}
    path = zipped(tmp_path / "study.bin", {**names, "/etc/readme": b"text", "DICOMDIR": b"x", "in.zip": inner})
    before = sorted(tmp_path.rglob("*"))
    found = scan(path)
    assert (len(found.files), found.foreign_files, found.zips, found.unreadable) == (12, 3, 1, ())
    series_read = read_series(found)
    assert_same(series_read, EXPECTED)
    assert "1 zip inside was not opened." in series_read.notes
    assert sorted(tmp_path.rglob("*")) == before


def test_files_are_known_by_content_in_folders_of_any_depth(tmp_path):
    instances = series(EXPECTED)
    for number, one in enumerate(instances):
        folder = tmp_path / f"a{number % 3}" / "b"
        folder.mkdir(parents=True, exist_ok=True)
        one.save_as(folder / f"{number}.jpg", enforce_file_format=True)
    (tmp_path / "notes.dcm").write_text("not an image")
    (tmp_path / "empty.dcm").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is not a DICOM file"):
        scan(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "a0/b/0.jpg")
    found = scan(tmp_path)
    assert (len(found.files), found.foreign_files) == (12, 2)
    assert_same(read_series(found), EXPECTED)


def test_pipes_are_never_waited_for(tmp_path):
    """A link to /dev/stdin has no path of its own; one that nothing is written to would keep a reader for ever."""
    study = write(tmp_path / "study", series(EXPECTED))
    (study / "inside").symlink_to("/dev/stdin")
    for name in ("head.nii.gz", "head.nii", "slice.png", "slice.tif"):
        os.mkfifo(tmp_path / name)
    code = "import sys; from bleedmap.io.dicom.files import scan, Path; print(len(scan(Path(sys.argv[1])).files))"
    nothing, kept_open = os.pipe()
    told = subprocess.run(
        [sys.executable, "-c", code, study], stdin=nothing, capture_output=True, text=True, timeout=60, check=False
    )
    os.close(kept_open)
    os.close(nothing)
    assert told.stdout == f"{len(EXPECTED.hu)}\n", told.stderr
    for name, read_file in product(("head.nii.gz", "head.nii", "slice.png", "slice.tif"), (read_volume, read_grey)):
        with pytest.raises(InputError, match="a pipe or a device"):
            read_file(tmp_path / name)


def test_links_to_files_are_followed(tmp_path):
    outside = write(tmp_path / "outside", series(EXPECTED))
    inside = write(tmp_path / "inside", series(EXPECTED)[:5])
    for path in outside.iterdir():
        (inside / f"link-{path.name}").symlink_to(path)
    assert len(scan(inside).files) == 5 + len(EXPECTED.hu)


def test_links_to_folders_are_followed_once_and_never_upwards(tmp_path):
    """As workflow managers and data managers lay studies: each folder, and each part of one, behind a link."""
    store = write(tmp_path / "store/abc", series(EXPECTED))
    study = tmp_path / "archive/study"
    study.mkdir(parents=True)
    (study / "ct").symlink_to(store)
    (study / "twice").symlink_to(store)
    (store / "circle").symlink_to(study)
    (study / "up").symlink_to(tmp_path)
    (study / "system").symlink_to("/proc/self")
    assert holds_dicom(study)
    assert_same(read_series(scan(study)), EXPECTED)
    assert len(scan(study).files) == len(EXPECTED.hu)
    batch = find_studies(tmp_path / "archive", tmp_path / "out")
    assert [len(one.files) for one in batch.sources] == [len(EXPECTED.hu)]


def test_the_old_kind_without_a_mark(tmp_path):
    """Implicit little endian from the first byte on, as before 1993."""
    for number, one in enumerate(series(EXPECTED)):
        bare = BytesIO()
        one.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        pydicom.dcmwrite(bare, one, enforce_file_format=False)
        data = bare.getvalue()
        (tmp_path / f"{number}.ima").write_bytes(data[data.index(b"\x08\x00\x05\x00") :])
    assert_same(read(tmp_path), EXPECTED)


def bomb(path):
    """64 MiB of zeros in 64 KiB."""
    return zipped(path, {"a": b"\0" * (64 << 20)}, compression=zipfile.ZIP_DEFLATED)


def lying(path):
    """A member that says 1,000 bytes and inflates to 64 MiB."""
    start = b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0"
    zipped(path, {"a": start + b"\0" * (64 << 20)}, compression=zipfile.ZIP_DEFLATED)
    data = path.read_bytes()
    size = struct.pack("<I", len(start) + (64 << 20))
    path.write_bytes(data.replace(size, struct.pack("<I", 1000)))
    return path


def cut(path):
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    return path


def many(path):
    return zipped(path, {f"{number}": b"" for number in range(20_001)})


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (bomb, "inflates to 64 MiB, by a factor of up to 1,0"),
        (lying, "damaged"),
        (cut, "is a damaged zip"),
        (many, "holds 20,001 files"),
        (lambda path: zipped(path, {}), "is empty"),
        (lambda path: zipped(path, {"a": b"text"}), "holds no DICOM file"),
        (lambda path: zipped(path, {"a": b"\0" * 9000}, compression=zipfile.ZIP_LZMA), "packed by a method"),
    ],
)
def test_zips_that_are_refused(tmp_path, make, found):
    path, began = make(tmp_path / "study.zip"), time.process_time()
    with pytest.raises(InputError, match=found):
        read(path)
    assert time.process_time() - began < 5


def test_a_deflated_file_may_not_inflate_without_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("bleedmap.io.dicom.files.MOST_FILE_BYTES", 4000)
    flat = Volume(np.zeros_like(EXPECTED.hu), EXPECTED.grid)
    with pytest.raises(InputError, match="deflated content exceeds"):
        read(write(tmp_path, series(flat, transfer_syntax="deflated")))


@pytest.mark.parametrize("content", [None, b"", b"text", b"\0" * 128 + b"DICM", b"\0" * 128 + b"DICM" + b"\xff" * 500])
def test_paths_without_a_study(tmp_path, content):
    path = tmp_path / "file.dcm"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        scan(path)
    assert refused.value.subject.startswith(str(tmp_path))
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="is empty"):
        scan(tmp_path / "folder")


def test_damaged_files_beside_a_study_are_told(tmp_path):
    folder = write(tmp_path, series(EXPECTED))
    (folder / "half").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\4\0\xff")
    found = read(folder)
    assert_same(found, EXPECTED)
    assert found.notes[0].startswith("1 file could not be read (")


def test_a_study_of_thousands_of_strangers_is_scanned_fast(tmp_path):
    folder = write(tmp_path, series(EXPECTED))
    for number in range(2000):
        (folder / f"{number}.txt").write_bytes(b"x" * 1000)
    began = time.process_time()
    assert scan(folder).foreign_files == 2000
    assert time.process_time() - began < 3
