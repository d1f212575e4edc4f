"""What a file is, whatever its name says: named in refusals, passed by with its reason, read where it can be."""

import bz2
import gzip
import io
import lzma
import shutil
import tarfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom.fileset import FileSet

from bleedmap.archive.find import find_studies
from bleedmap.errors import InputError
from bleedmap.io import nifti
from bleedmap.io.dicom.files import holds_dicom, scan
from bleedmap.io.kinds import identify
from bleedmap.phantom.dicom import ct_instances, write_series
from bleedmap.phantom.head import PhantomSettings, make_phantom
from bleedmap.study.inputs import gather
from bleedmap.study.read import read_study
from bleedmap.volume import Volume

SETTINGS = PhantomSettings(seed=3, spacing_mm=(5.0, 1.8, 1.8), shape=(28, 128, 128))


def tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.dcm"))
    return stream.getvalue()


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (64, 64), 90).save(stream, kind)
    return stream.getvalue()


def pair() -> bytes:
    image = nib.Nifti1Pair(np.zeros((4, 4, 4), np.int16), np.eye(4))
    return bytes(image.header.binaryblock)


KINDS = {
    "head.nrrd": (b"NRRD0005\ntype: short\n", "an NRRD volume"),
    "head.nhdr": (b"NRRD0004\ntype: short\ndata file: head.raw\n", "an NRRD volume"),
    "head.mha": (b"ObjectType = Image\nNDims = 3\nElementType = MET_SHORT\nElementDataFile = LOCAL\n", "a MetaImage"),
    "head.mhd": (b"NDims = 3\nElementType = MET_SHORT\nElementDataFile = head.raw\n", "a MetaImage"),
    "head.raw": (bytes(range(200)), "bare voxels without a header"),
    "head.hdr": (pair(), "a NIfTI header whose voxels are in another file"),
    "head.img": (bytes(2000), "whose header is apart"),
    "head.tif": (picture("TIFF"), "a TIFF picture"),
    "slice": (picture("PNG"), "a PNG picture"),
    "slice.ima": (picture("JPEG"), "a JPEG picture"),
    "study.rar": (b"Rar!\x1a\x07\x01\x00" + bytes(90), "a RAR archive"),
    "study.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(90), "a 7z archive"),
    "study.tar": (tar(), "a tar archive"),
    "study.tar.gz": (gzip.compress(tar()), "a tar archive, packed by gzip"),
    "study.bz2": (bz2.compress(b"a" * 99), "packed by bzip2"),
    "head.par": (b"# === DATA DESCRIPTION FILE ====\n", "a Philips PAR header"),
    "head.mnc.zst": (b"(\xb5/\xfd" + bytes(90), "packed by zstd"),
    "head.mgz": (gzip.compress(bytes(400)), "a FreeSurfer volume"),
    "pointer.dcm": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
    "page.dcm": (b"<!DOCTYPE html><html>" + bytes(300), "a web page"),
    "none.dcm": (b"", "an empty file"),
}  # fmt: skip


@pytest.fixture(scope="module")
def volume() -> Volume:
    return make_phantom(SETTINGS).volume


@pytest.fixture(scope="module")
def study(volume: Volume, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cd") / "study"
    write_series(folder, ct_instances(volume))
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_named_with_a_way_out_wherever_it_is_given(name: str, tmp_path: Path) -> None:
    content, words = KINDS[name]
    path = tmp_path / name
    path.write_bytes(content)
    for given in (path, shutil.copy(path, tmp_path / "renamed.nii.gz")):
        if given.name == "renamed.nii.gz" and name.endswith((".raw", ".img", ".mgz")):
            continue  # known by their endings alone
        with pytest.raises(InputError) as caught:
            read_study(given)
        assert words in caught.value.found
        assert caught.value.remedy
    with pytest.raises(InputError, match=words):
        read_study(path.parent)  # a folder of it


@pytest.mark.parametrize("name", [one for one in KINDS if one != "none.dcm"])
def test_batch_passes_it_by_with_its_true_reason(name: str, study: Path, tmp_path: Path) -> None:
    shutil.copytree(study, tmp_path / "in" / "study")
    (tmp_path / "in" / name).write_bytes(KINDS[name][0])
    found = find_studies(tmp_path / "in", tmp_path / "out")
    assert len(found.sources) == 1
    assert any(KINDS[name][1] in one.reason and one.examples == (name,) for one in found.passed)


def test_a_named_dicomdir_reads_the_files_that_it_lists(study: Path, tmp_path: Path) -> None:
    files = FileSet()
    for path in sorted(study.rglob("*.dcm")):
        files.add(path)
    files.write(tmp_path / "cd")
    read = read_study(tmp_path / "cd" / "DICOMDIR")
    assert len(read.volume.hu) == 28
    assert any("DICOMDIR" in one and str(tmp_path / "cd") in one for one in read.notes)
    assert read.name == "cd"
    (tmp_path / "alone").mkdir()
    shutil.copy(tmp_path / "cd" / "DICOMDIR", tmp_path / "alone")
    with pytest.raises(InputError, match="is a DICOMDIR") as caught:
        read_study(tmp_path / "alone" / "DICOMDIR")
    assert str(tmp_path / "alone") in caught.value.remedy
    listed = [path for path in (tmp_path / "cd").rglob("*") if path.is_file() and path.name != "DICOMDIR"]
    listed[5].unlink()
    notes = " ".join(read_study(tmp_path / "cd" / "DICOMDIR").notes)
    assert "is listed, not there" in notes or "1 damaged" in notes or listed[5].name in notes


def test_dicom_is_read_by_its_content_under_any_name_and_gzipped(study: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    for number, path in enumerate(sorted(study.rglob("*.dcm"))):
        data = path.read_bytes()
        ending = (".dcm.gz", ".ima", "", ".dcm.bz2", ".xz")[number % 5]
        pack = {".dcm.gz": gzip.compress, ".dcm.bz2": bz2.compress, ".xz": lzma.compress}.get(ending, bytes)
        (packed / f"{number}{ending}").write_bytes(pack(data))
    assert holds_dicom(packed)
    assert gather([packed]).study == packed
    np.testing.assert_array_equal(read_study(packed).volume.hu, read_study(study).volume.hu)
    (packed / "0.dcm.gz").write_bytes((packed / "0.dcm.gz").read_bytes()[:3000])
    assert any("packed by gzip and damaged or cut" in one.reason for one in scan(packed).unreadable)


@pytest.mark.parametrize(
    ("ending", "content", "why"),
    [
        (".zst", b"(\xb5/\xfd" + bytes(900), "packed by zstd"), (".lz4", b'\x04"M\x18' + bytes(900), "packed by lz4"),
        (".gpg", bytes(range(1, 200)), "encrypted"), (".bz2", bz2.compress(bytes(900))[:30], "packed by bzip2"),
    ],
)  # fmt: skip
def test_a_slice_that_is_packed_so_that_it_cannot_be_opened_counts_as_missing(
    ending: str, content: bytes, why: str, study: Path, tmp_path: Path
) -> None:
    shutil.copytree(study, tmp_path / "in" / "study")
    last = max((tmp_path / "in").rglob("*.dcm"))
    last.with_name(last.name + ending).write_bytes(content)
    last.unlink()
    read = read_study(tmp_path / "in")
    assert len(read.volume.hu) == 27
    assert any(why in one for one in read.notes), read.notes
    (source,) = find_studies(tmp_path / "in", tmp_path / "out").sources
    assert len(source.files) == 28
    for path in (tmp_path / "in").rglob("*.dcm"):
        path.rename(path.with_name(path.name + ending))
        path.with_name(path.name + ending).write_bytes(content)
    with pytest.raises(InputError, match=why):
        read_study(tmp_path / "in")


@pytest.mark.parametrize("packer", [bz2, lzma, gzip])
def test_nifti_is_read_however_it_is_packed_and_the_name_may_differ(
    packer: Any, volume: Volume, tmp_path: Path
) -> None:
    nifti.write(tmp_path / "plain.nii", volume)
    content = packer.compress((tmp_path / "plain.nii").read_bytes())
    for name in ("head.nii", "head.nii.gz", "head.nii.bz2", "head.nii.xz"):
        (tmp_path / name).write_bytes(content)
        read = read_study(tmp_path / name)
        np.testing.assert_array_equal(read.volume.hu, volume.hu)
        assert read.name == "head"
    assert sum("unlike its name says" in one for one in read.notes) == (packer is not lzma)
    cut = tmp_path / "head.nii"
    cut.write_bytes(cut.read_bytes()[:-40])
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        read_study(cut)


def test_a_folder_of_another_kind_is_refused_with_what_to_do(study: Path, volume: Volume, tmp_path: Path) -> None:
    (tmp_path / "bids/sub-01/ct").mkdir(parents=True)
    nifti.write(tmp_path / "bids/sub-01/ct/sub-01_ct.nii.gz", volume)
    (tmp_path / "bids/dataset_description.json").write_text("{}", "utf-8")
    (tmp_path / "zipped").mkdir()
    shutil.make_archive(str(tmp_path / "zipped/study"), "zip", study)
    (tmp_path / "volumes").mkdir()
    (tmp_path / "volumes/head.nrrd").write_bytes(KINDS["head.nrrd"][0])
    ways_out = {"bids": "sub-01_ct.nii.gz", "zipped": "give that zip itself", "volumes": "SimpleITK"}
    for folder, way_out in ways_out.items():
        with pytest.raises(InputError, match="holds no DICOM file") as caught:
            read_study(tmp_path / folder)
        assert way_out in caught.value.remedy


@pytest.mark.parametrize("name", ["one.nii", "one.nii.gz", "one.png"])
def test_dicom_under_another_formats_name_is_dicom(name: str, study: Path, tmp_path: Path) -> None:
    shutil.copy(next(study.rglob("*.dcm")), tmp_path / name)
    assert not nifti.is_nifti(tmp_path / name)
    assert gather([tmp_path / name]).study == tmp_path / name


def test_nifti_without_its_ending_is_found_in_a_batch(volume: Volume, tmp_path: Path) -> None:
    nifti.write(tmp_path / "in" / "head.nii", volume)
    (tmp_path / "in" / "head.nii").rename(tmp_path / "in" / "head")
    assert [one.place for one in find_studies(tmp_path / "in", tmp_path / "out").sources] == ["head"]
    assert len(read_study(tmp_path / "in" / "head").volume.hu) == 28


def test_what_is_no_plain_file_is_not_opened(tmp_path: Path) -> None:
    assert identify(tmp_path) is None
    assert identify(tmp_path / "absent") is None
