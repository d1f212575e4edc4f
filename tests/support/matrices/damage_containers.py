"""What holds a study, damaged or hostile, made from a seed: zips, NIfTI files, folders; and files of other kinds."""

import gzip
import os
import random
import socket
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MediaStorageDirectoryStorage, generate_uid

from bleedmap.phantom.dicom import scout
from damage_dicom import NAME, NUMBER, base_files, base_scan, bytes_of, hurt, with_secrets, write_base

# --- zips ---------------------------------------------------------------------------------------------------------


def _zipped(folder: Path, fill: Callable[[zipfile.ZipFile], None], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "study.zip"
    with zipfile.ZipFile(path, "w", method, allowZip64=True) as archive:
        fill(archive)
    return path


def _put_base(archive: zipfile.ZipFile, prefix: str = "study/") -> None:
    for number, content in enumerate(base_files()):
        archive.writestr(f"{prefix}I{number:03d}", content)


def zip_bomb(draw: random.Random, folder: Path) -> Path:
    kind = draw.choice(("zeros", "header", "nested", "many", "overlapping", "lying", "good in bad"))
    start = base_files()[0][: 600 + draw.randrange(600)]

    def fill(archive: zipfile.ZipFile) -> None:
        if kind in ("zeros", "good in bad"):
            _put_base(archive) if kind == "good in bad" else None
            with archive.open("study/zeros", "w", force_zip64=True) as stream:
                for _ in range(draw.choice((32, 300))):
                    stream.write(bytes(1 << 20))
        elif kind == "header":  # many members that begin as DICOM and go on as zeros
            for number in range(40):
                archive.writestr(f"I{number}", start + bytes(12 << 20))
        elif kind == "nested":
            inner = folder / "inner.zip"
            with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as inside:
                inside.writestr("zeros", bytes(200 << 20))
            archive.write(inner, "inner.zip")
            inner.unlink()
        elif kind == "many":
            for number in range(21_000):
                archive.writestr(f"{number}", b"")
        else:
            archive.writestr("study/I000", start + bytes(4 << 20))

    path = _zipped(folder, fill)
    if kind in ("overlapping", "lying"):
        path.write_bytes(_doctored(path.read_bytes(), kind))
    return path


def _doctored(data: bytes, kind: str) -> bytes:
    """The directory's entry twelve thousand times over (one content, many names), or with another size."""
    at = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = bytearray(data[at:end])
    if kind == "lying":
        struct.pack_into("<I", entry, 24, 1000)  # inflated size: far less than it is
        return data[:at] + bytes(entry) + data[end:]
    count = 12_000
    tail = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count, count, count * len(entry), at, 0)
    return data[:at] + bytes(entry) * count + tail


def zip_names(draw: random.Random, folder: Path) -> Path:
    kind = draw.choice(
        ("up", "absolute", "drive", "link", "duplicate", "encrypted", "control", "long", "bzip2", "lzma")
    )
    prefix = {"up": "../../../escaped/", "absolute": "/tmp/escaped-absolute/", "drive": "C:\\escaped\\"}.get(
        kind, "study/"
    )

    def fill(archive: zipfile.ZipFile) -> None:
        _put_base(archive, prefix)
        if kind == "link":
            link = zipfile.ZipInfo("study/link")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        if kind == "duplicate":
            _put_base(archive, prefix)
        if kind == "control":
            archive.writestr("\x1b[31m\n\x07Secretive^Person", base_files()[0][:900])
        if kind == "long":
            archive.writestr("a/" * 3000 + "x", base_files()[0])

    method = {"bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}.get(kind, zipfile.ZIP_DEFLATED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of duplicate names, which are meant
        path = _zipped(folder, fill, method)
    if kind == "encrypted":
        data = bytearray(path.read_bytes())
        for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            at = data.find(mark)
            while at >= 0:
                data[at + offset] |= 1
                at = data.find(mark, at + 4)
        path.write_bytes(data)
    return path


def zip_bytes(draw: random.Random, folder: Path) -> Path:
    path = _zipped(folder, _put_base, draw.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)))
    data = path.read_bytes()
    if draw.random() < 0.5:  # its directory alone
        at = data.index(b"PK\x01\x02")
        path.write_bytes(data[:at] + hurt(data[at:], draw, draw.choice(("flip", "cut", "insert"))))
    else:
        path.write_bytes(hurt(data, draw, draw.choice(("flip", "cut", "insert"))))
    return path


# --- NIfTI --------------------------------------------------------------------------------------------------------


@lru_cache
def base_nifti() -> bytes:
    """The head as an uncompressed NIfTI file."""
    grid = base_scan().volume.grid
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.affine[:, [2, 1, 0, 3]]
    image = nib.Nifti1Image(base_scan().volume.hu.transpose(2, 1, 0).astype(np.int16), affine)
    image.header["descrip"] = NAME.encode()
    return bytes(image.to_bytes())


# offset, type, values: PS of the NIfTI-1 header
_FIELDS = (
    (0, "<i", (0, 1543569408, 540, -1)), (40, "<h", (0, -1, 4, 7, 8, 32767)), (42, "<h", (0, -5, 32767)),
    (44, "<h", (32767, 0)), (46, "<h", (32767, 1)), (48, "<h", (32767, -1)),
    (70, "<h", (0, 1, 2, 128, 2304, 1792, 9999)),
    (72, "<h", (0, 7, 64)), (76, "<f", (np.nan, -1, 0, 5)), (80, "<f", (np.nan, np.inf, 0, -2, 1e30)),
    (84, "<f", (np.inf, 1e-30)), (88, "<f", (0, 1e30)), (108, "<f", (0, 1e9, np.nan, 349, -8)),
    (112, "<f", (np.nan, np.inf, 1e30, -1, 0)), (116, "<f", (np.nan, np.inf, -1e38)), (252, "<h", (0, -1, 99)),
    (254, "<h", (0, 99)), (280, "<f", (np.nan, 0, 1e30, np.inf)), (300, "<f", (np.nan,)), (320, "<f", (0, np.inf)),
    (344, "<I", (0, 0x0031696E)),
)  # fmt: skip


def nifti(draw: random.Random, folder: Path) -> Path:
    data = bytearray(base_nifti())
    kind = draw.choice(("field", "field", "fields", "bytes", "gz", "gz bytes", "not gz", "bomb", "NaN", "4D"))
    if kind in ("field", "fields", "gz bytes"):
        for _ in range(1 if kind == "field" else 4):
            offset, form, values = draw.choice(_FIELDS)
            struct.pack_into(form, data, offset, draw.choice(values))
    if kind == "bytes":
        data = bytearray(hurt(bytes(data), draw, draw.choice(("flip", "cut", "insert"))))
    if kind == "NaN":
        array = np.full((32, 32, 12), np.nan, np.float32)
        data = bytearray(nib.Nifti1Image(array, np.diag([3.0, 3, 5, 1])).to_bytes())
    if kind == "4D":
        data = bytearray(nib.Nifti1Image(np.zeros((8, 8, 8, 3), np.int16), np.eye(4)).to_bytes())
    if kind == "bomb":  # a header of 32,767³ voxels, or 600 MB of zeros behind a small one
        if draw.random() < 0.5:
            struct.pack_into("<3h", data, 42, 32767, 32767, 32767)
        else:
            data += bytes(600 << 20)
    suffix = ".nii.gz" if kind in ("gz", "gz bytes", "not gz", "bomb") else ".nii"
    content = gzip.compress(bytes(data), 1, mtime=0) if suffix == ".nii.gz" and kind != "not gz" else bytes(data)
    if kind.startswith("gz"):
        content = hurt(content, draw, draw.choice(("flip", "cut", "insert")))
    path = folder / f"study{suffix}"
    path.write_bytes(content)
    return path


# --- folders ------------------------------------------------------------------------------------------------------


def _loop(study: Path) -> None:
    (study / "inside").symlink_to(study)
    (study / "self").symlink_to(study / "self")


def _socket(study: Path) -> None:
    here = Path.cwd()
    os.chdir(study)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("inside")
    os.chdir(here)


def _unreadable(study: Path) -> None:
    (study / "closed").write_bytes(base_files()[0])
    (study / "closed").chmod(0)


def _empty_files(study: Path) -> None:
    for number in range(20):
        (study / f"empty{number}.dcm").touch()


def _names(study: Path) -> None:
    for name in (b"\xff\xfe.dcm", b"a\nb.dcm", b"\x1b[31m.dcm", b"-o"):
        Path(os.fsdecode(os.fsencode(study) + b"/" + name)).write_bytes(base_files()[0][:700])


_FOLDERS: dict[str, Callable[[Path], None]] = {
    "loop": _loop,
    "fifo": lambda study: os.mkfifo(study / "inside"),
    "socket": _socket,
    "endless": lambda study: (study / "inside").symlink_to("/dev/zero"),
    "terminal": lambda study: (study / "inside").symlink_to("/dev/stdin"),
    "memory": lambda study: (study / "inside").symlink_to("/proc/self/mem"),
    "unreadable": _unreadable,
    "empty files": _empty_files,
    "deep": lambda study: study.joinpath(*["d" * 20] * 60).mkdir(parents=True),
    "names": _names,
    "dangling": lambda study: (study / "inside").symlink_to(study / "nowhere"),
    "out": lambda study: (study / "inside").symlink_to("/etc"),
}


def special_folder(draw: random.Random, folder: Path) -> Path:
    """Links, pipes, devices and odd names, with or without the study beside them."""
    study = write_base(folder, base_files() if draw.random() < 0.5 else ())
    _FOLDERS[draw.choice(tuple(_FOLDERS))](study)
    return study


def other_kind(draw: random.Random, folder: Path) -> Path:
    """Files that are whole, and not a CT series."""
    kind = draw.choice(
        ("DICOMDIR", "MR", "scout", "empty file", "no path", "text", "half", "fifo", "jpeg", "two people", "pdf in zip")
    )
    study = folder / "study"
    if kind == "DICOMDIR":
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
        one.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["directory"])
        one.FileSetID, one.DirectoryRecordSequence = "SET", []
        study.mkdir()
        one = with_secrets(one)
        one.save_as(study / "DICOMDIR", implicit_vr=False, little_endian=True, enforce_file_format=True)
    elif kind == "MR":
        files = [one.replace(b"CS\x02\x00CT", b"CS\x02\x00MR") for one in base_files()]
        write_base(
            folder, [one.replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.1.4.1.1.4\0") for one in files]
        )
    elif kind == "scout":
        write_base(folder, [bytes_of(with_secrets(scout(base_scan().volume)))])
    elif kind == "empty file":
        study.touch()
    elif kind == "text":
        study.write_text("Secretive^Person 19510417\n" * draw.randrange(1, 2000), "utf-8")
    elif kind == "half":
        write_base(folder, base_files()[: draw.randrange(1, 10)])
    elif kind == "fifo":
        os.mkfifo(study)
    elif kind == "jpeg":
        study = folder / "study.jpg"
        study.write_bytes(b"\xff\xd8\xff\xe0" + draw.randbytes(500))
    elif kind == "two people":
        files = list(base_files())
        files[3] = files[3].replace(NUMBER.encode(), b"ID-4711-Y")
        write_base(folder, files)
    elif kind == "pdf in zip":
        return _zipped(folder, lambda archive: archive.writestr("a.pdf", b"%PDF-1.4 " + zlib.compress(bytes(9000))))
    return study
