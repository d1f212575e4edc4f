"""Say what a file is by its first bytes, whatever its name says, so that a refusal can name it and its way out.

Files that gzip, bzip2 or xz packed are looked into.
"""

import bz2
import io
import lzma
import struct
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from isal import igzip, igzip_lib

from bleedmap.io.files import is_plain_file

# Of files that were packed one by one; other packers are known by name alone.
_PACKERS = {"gzip": b"\x1f\x8b", "bzip2": b"BZh", "xz": b"\xfd7zXZ\0"}
_OPEN: dict[str, Callable[[Any], Any]] = {
    "gzip": lambda stream: igzip.IGzipFile(fileobj=stream, mode="rb"), "bzip2": bz2.BZ2File, "xz": lzma.LZMAFile,
}  # fmt: skip
_ISAL_ERROR: Any = igzip_lib.IsalError  # an exception's class, which isal's stubs take for an instance
UNPACK_ERRORS = (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, _ISAL_ERROR)
# Of what is packed or encrypted and cannot be opened here too: the name below tells what it was.
_PACKED_ENDINGS = (
    ".gz", ".bz2", ".xz", ".zst", ".zstd", ".lz4", ".lzma", ".lz", ".lzo", ".z", ".br", ".sz", ".7z", ".rar", ".gpg",
    ".age", ".enc",
)  # fmt: skip
_START_BYTES = 4096
_BY_SIMPLE_ITK = (
    "convert it: pip install SimpleITK; "
    "python -c \"import SimpleITK as s; s.WriteImage(s.ReadImage('{name}'), 'head.nii.gz')\""
)
_PAIR = (
    "join the two files into one: fslchfiletype NIFTI_GZ {name}, or "
    "python -c \"import nibabel as n; n.save(n.Nifti1Image.from_image(n.load('{name}')), 'head.nii.gz')\""
)
_BY_FREESURFER = "convert it: mri_convert {name} head.nii.gz"
_BY_DCM2NIIX = (
    "export the original DICOM series; or convert it: dcm2niix -f head {stem}.PAR (check that the result is in HU)"
)
_UNPACKERS = {"gzip": "gunzip", "bzip2": "bunzip2", "xz": "unxz"}
_UNPACK = "unpack it, and give the folder (a .zip is read as it is)"
_GIVE = "give it to `bleedmap segment` as a picture, if it is a slice"
_EXPORT = "export the original DICOM series, or NIfTI in HU; a picture of one slice as 8-bit grey PNG"
_BESIDE = "give the file of the same name without ._; delete this one"
_AGAIN = "fetch the file itself: git lfs pull, or datalad get / git annex get"
_MARKS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"NRRD0", "an NRRD volume", _BY_SIMPLE_ITK),
    (0, b"II*\0", "a TIFF picture", _GIVE),
    (0, b"MM\0*", "a TIFF picture", _GIVE),
    (0, b"II+\0", "a BigTIFF picture", _EXPORT),
    (0, b"MM\0+", "a BigTIFF picture", _EXPORT),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture", _GIVE),
    (0, b"\xff\xd8\xff", "a JPEG picture", _GIVE),
    (8, b"WEBPVP8", "a WebP picture", _GIVE),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", _EXPORT),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture", _EXPORT),
    (0, b"GIF8", "a GIF picture", _EXPORT),
    (4, b"ftypavif", "an AVIF picture", _EXPORT),
    (4, b"ftyphei", "a HEIF picture", _EXPORT),
    (0, b"\0\x05\x16\x07", "what a Mac keeps beside a file (AppleDouble), not the file itself", _BESIDE),
    (0, b"%PDF", "a PDF document", _EXPORT),
    (0, b"Rar!\x1a\x07", "a RAR archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"PK\x03\x04", "a zip archive", "name it .zip, or give it to `bleedmap segment` alone"),
    (0, b"(\xb5/\xfd", "a file packed by zstd", "unpack it: unzstd {name}"),
    (0, b"\x04\"M\x18", "a file packed by lz4", "unpack it: unlz4 {name}"),
    (0, b"LZIP", "a file packed by lzip", "unpack it: lzip -d {name}"),
    (0, b"\x1f\x9d", "a file packed by compress", "unpack it: uncompress {name}"),
    (0, b"]\0\0", "a file packed by lzma", "unpack it: unlzma {name}"),
    (257, b"ustar", "a tar archive", _UNPACK),
    (0, b"\x93NUMPY", "a NumPy array", "wrap it in Python: bleedmap.Volume(hu, grid)"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (MINC 2, MATLAB 7.3 or another)", "convert it to NIfTI (mnc2nii for MINC)"),
    (0, b"# === DATA DESCRIPTION FILE", "a Philips PAR header", _BY_DCM2NIIX),
    (0, b"CDF\x01", "a netCDF file (MINC 1)", "convert it to NIfTI: mnc2nii {name} head.nii"),
    (0, b"MATLAB 5.0", "a MATLAB file", "export the volume as NIfTI in HU: niftiwrite"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself", _AGAIN),
    (0, b"/annex/objects/", "a git-annex pointer, not the file itself", _AGAIN),
    (0, b"<!DOCTYPE", "a web page", "download the file itself; its server may have asked for a login"),
    (0, b"<!doctype", "a web page", "download the file itself; its server may have asked for a login"),
    (0, b"<html", "a web page", "download the file itself; its server may have asked for a login"),
)  # fmt: skip
_ENDINGS = {
    ".nhdr": ("an NRRD header", _BY_SIMPLE_ITK), ".mgz": ("a FreeSurfer volume", _BY_FREESURFER),
    ".mgh": ("a FreeSurfer volume", _BY_FREESURFER), ".iso": ("an image of a CD", _UNPACK),
    ".par": ("a Philips PAR header", _BY_DCM2NIIX), ".rec": ("voxels of Philips PAR/REC", _BY_DCM2NIIX),
    ".mnc": ("a MINC volume", "convert it to NIfTI: mnc2nii {name} head.nii"),
    ".gipl": ("a GIPL volume", _BY_SIMPLE_ITK), ".vtk": ("a VTK volume", _BY_SIMPLE_ITK),
    ".gpg": ("an encrypted file", "decrypt it"), ".age": ("an encrypted file", "decrypt it"),
    ".raw": ("bare voxels without a header", "give the header's file (.mhd, .nhdr) to a converter"),
    ".icloud": ("an iCloud pointer, not the file itself", "download the folder to this computer first (in the Finder)"),
    ".img": ("a file of voxels whose header is apart (.hdr)", _PAIR.replace("{name}", "{stem}.hdr")),
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What a file is."""

    words: str  # with an article, for messages: 'an NRRD volume'
    remedy: str = ""  # how to come from it to something that is read; '' where it is read
    nifti: bool = False  # whether it is NIfTI in one file
    packed: str = ""  # by which packer; '' by none
    picture: bool = False  # whether it is a picture of a kind that is read


def identify(path: Path) -> Kind | None:
    """Say what a plain file is, by its content, else by its ending; None where neither tells, or it is no plain file.

    DICOM is not known here: `bleedmap.io.dicom.header.looks_like_dicom` knows it.
    """
    try:
        if not is_plain_file(path):
            return None
        with path.open("rb") as stream:
            start = stream.read(_START_BYTES)
            packing = find_packing(start)
            stream.seek(0)
            inside = unpack_start(stream, packing, _START_BYTES) if packing else b""
    except (OSError, ValueError):
        return None
    return _identify(start, packing, inside, path.name)


def identify_bytes(start: bytes, name: str) -> Kind | None:
    """Say what a file of this name is that begins with these bytes; fewer than 352 tell less."""
    packing = find_packing(start)
    return _identify(start, packing, unpack_start(io.BytesIO(start), packing, _START_BYTES) if packing else b"", name)


def _identify(start: bytes, packing: str | None, inside: bytes, name: str) -> Kind | None:
    if not start:
        return Kind("an empty file (0 bytes)", "copy or fetch it again")
    names = (name.lower(), str(drop_packing(PurePosixPath(name.lower()))))
    known = _by_content(inside if packing else start, name) or next(
        (
            Kind(words, _fill(remedy, name))
            for end, (words, remedy) in _ENDINGS.items()
            if any(one.endswith(end) for one in names)
        ),
        None,
    )
    if packing is None:
        return known
    if known is None:
        return Kind(f"a file packed by {packing}", f"unpack it: {_UNPACKERS[packing]} {name}", packed=packing)
    words = known.words if known.nifti or "FreeSurfer" in known.words else f"{known.words}, packed by {packing}"
    return Kind(words, known.remedy, known.nifti, packing)


def _by_content(start: bytes, name: str) -> Kind | None:
    size = {struct.unpack(order + "i", start[:4])[0]: order for order in "<>"} if len(start) >= 4 else {}
    if (348 in size and start[344:348] == b"n+1\0") or (540 in size and start[4:7] == b"n+2"):
        return Kind("a NIfTI volume", nifti=True)
    if (348 in size and len(start) >= 348) or (540 in size and start[4:7] == b"ni2"):
        words = "a NIfTI header whose voxels are in another file" if start[344:347] == b"ni1" or 540 in size else (
            "an Analyze 7.5 header, which does not tell right from left"
        )  # fmt: skip
        return Kind(words, _fill(_PAIR, name))
    for offset, mark, words, remedy in _MARKS:
        if start[offset : offset + len(mark)] == mark:
            return Kind(words, _fill(remedy, name), picture=remedy is _GIVE)
    if b"NDims" in start[:1024] and b"ElementType" in start:
        return Kind("a MetaImage volume", _fill(_BY_SIMPLE_ITK, name))
    return None


def _fill(remedy: str, name: str) -> str:
    return remedy.replace("{name}", name).replace("{stem}", name.rsplit(".", 1)[0])


def find_packing(start: bytes) -> str | None:
    """Say by which packer a file was packed that begins so, if it can be opened."""
    return next((name for name, mark in _PACKERS.items() if start.startswith(mark)), None)


def open_packed(stream: BinaryIO, packing: str) -> BinaryIO:
    """Open what a stream holds, packed by a packer that `find_packing` named; it raises one of `UNPACK_ERRORS`."""
    opened: BinaryIO = _OPEN[packing](stream)
    return opened


def unpack_start(stream: BinaryIO, packing: str, most: int) -> bytes:
    """Unpack the first `most` bytes of a stream, as far as it goes."""
    unpacked = b""
    with suppress(*UNPACK_ERRORS):
        opened: Any = open_packed(stream, packing)
        while len(unpacked) < most and (data := opened.read1(most - len(unpacked))):
            unpacked += data
    return unpacked


def drop_packing(name: PurePosixPath) -> PurePosixPath:
    """Return a name without the ending that a packer added."""
    return name.with_suffix("") if name.suffix.lower() in _PACKED_ENDINGS and name.stem.strip(".") else name
