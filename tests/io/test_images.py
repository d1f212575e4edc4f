"""Pictures are read upright, in 8-bit grey, or refused with what they are."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from bleedmap.arrays import ByteArray
from bleedmap.errors import InputError
from bleedmap.io import images

# EXIF 2.3, table 6: how the stored picture comes from the one that is to be seen.
STORED = {
    1: lambda seen: seen, 2: np.fliplr, 3: lambda seen: np.rot90(seen, 2), 4: np.flipud, 5: np.transpose,
    6: lambda seen: np.rot90(seen, 1), 7: lambda seen: np.rot90(seen, 2).T, 8: lambda seen: np.rot90(seen, -1),
}  # fmt: skip
FORMATS = {"JPEG": "jpg", "PNG": "png", "TIFF": "tif", "WEBP": "webp"}


def seen() -> ByteArray:
    """No two of its eight turns and mirrors are alike."""
    grey = np.zeros((48, 64), np.uint8)
    grey[4:40, 8:16], grey[4:12, 8:50], grey[30:38, 40:48] = 90, 160, 240
    return grey


def write(path: Path, pixels: ByteArray, kind: str, **options: object) -> Path:
    Image.fromarray(pixels).save(path, kind, **({"quality": 98} if kind == "JPEG" else {}), **options)
    return path


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("orientation", STORED)
def test_a_picture_is_read_as_it_is_to_be_seen(kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = np.ascontiguousarray(STORED[orientation](seen()))
    lossless = {"lossless": True} if kind == "WEBP" else {}
    path = write(tmp_path / f"one.{FORMATS[kind]}", stored, kind, exif=exif, **lossless)
    pixels, turned = images.read_picture(path)
    assert np.abs(pixels.astype(int) - seen()).max() <= (30 if kind == "JPEG" else 0)
    assert bool(turned) == (orientation != 1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_tag_of_another_type_is_no_reason_to_turn_nothing(kind: str, tmp_path: Path) -> None:
    """Pillow cannot write such EXIF anew, as some programs leave it: Bits per Sample as text."""
    entries = [(ExifTags.Base.BitsPerSample, 2, 2, b"8\0\0\0"), (ExifTags.Base.Orientation, 3, 1, b"\x03\0\0\0")]
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries))
    exif += b"".join(struct.pack("<HHI4s", *entry) for entry in entries) + bytes(4)
    stored = np.ascontiguousarray(np.rot90(seen(), 2))
    path = write(tmp_path / "one", stored, kind, exif=exif if kind != "JPEG" else b"Exif\0\0" + exif)
    pixels, turned = images.read_picture(path)
    assert np.abs(pixels.astype(int) - seen()).max() <= (0 if kind == "PNG" else 30)
    assert turned == "turned by 180°"


def test_nothing_is_printed_of_odd_headers(tmp_path: Path) -> None:
    """Libraries remark on what they mend in lines that name no file, between those of a batch."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x01\0\0\0"
    write(tmp_path / "one.jpg", seen(), "JPEG", exif=exif)
    volume = bytearray(nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.diag([3, 3, 3, 1])).to_bytes())
    volume[80:84] = struct.pack("<f", -3)  # a step of pixdim
    (tmp_path / "head.nii").write_bytes(volume)
    code = (
        "import sys, pathlib; from bleedmap.io import images, nifti; here = pathlib.Path(sys.argv[1]); "
        "images.read_grey(here / 'one.jpg'); nifti.read_volume(here / 'head.nii')"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_an_error_without_words_is_damage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError

    monkeypatch.setattr(Image, "open", fail)
    (tmp_path / "one.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(InputError, match="8 bytes; damaged"):
        images.read_grey(tmp_path / "one.png")


def test_a_tiff_that_was_cut_is_refused(tmp_path: Path) -> None:
    """Its directory may lie at the end, and Pillow raises another error for each thing that is not there."""
    stream = io.BytesIO()
    frames = [Image.fromarray(np.roll(seen(), shift, 1)) for shift in range(2)]
    frames[0].save(stream, "TIFF", save_all=True, append_images=frames[1:])
    whole = stream.getvalue()
    for length in range(100, len(whole), 7):
        (tmp_path / "cut.tif").write_bytes(whole[:length])
        with pytest.raises(InputError):
            images.read_grey(tmp_path / "cut.tif")


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_exif_does_not_know_turns_nothing(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    pixels, turned = images.read_picture(write(tmp_path / "one.png", seen(), "PNG", exif=exif))
    np.testing.assert_array_equal(pixels, seen())
    assert turned == ""


def test_an_orientation_in_xmp_counts_too(tmp_path: Path) -> None:
    xmp = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp)
    path = write(tmp_path / "one.png", np.ascontiguousarray(np.rot90(seen(), 2)), "PNG", pnginfo=text)
    np.testing.assert_array_equal(images.read_grey(path), seen())


@pytest.mark.parametrize("name", ["one.jpg", "one", "one.dat", "one.jfif", "ONE.PNG"])
def test_a_picture_is_known_by_its_content(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, seen(), "PNG")
    assert images.is_picture(path)
    np.testing.assert_array_equal(images.read_grey(path), seen())


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "RGBA", "1"])
def test_every_way_to_store_grey_gives_the_same_pixels(mode: str, tmp_path: Path) -> None:
    grey = seen() if mode != "1" else np.where(seen() > 100, 255, 0).astype(np.uint8)
    Image.fromarray(grey).convert(mode).save(tmp_path / "one.png")
    np.testing.assert_array_equal(images.read_grey(tmp_path / "one.png"), grey)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    picture = Image.fromarray(255 - seen(), "P")
    picture.putpalette([255 - level for level in range(256) for _ in range(3)])
    picture.save(tmp_path / "one.png")
    np.testing.assert_array_equal(images.read_grey(tmp_path / "one.png"), seen())


def test_a_tiff_whose_white_is_zero_is_read_as_it_is_to_be_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "one.tif", seen(), "TIFF", tiffinfo={262: 0})
    assert (255 - seen()).tobytes() in path.read_bytes()
    np.testing.assert_array_equal(images.read_grey(tmp_path / "one.tif"), seen())


def test_sixteen_bits_that_hold_eight_are_taken(tmp_path: Path) -> None:
    Image.fromarray(seen().astype(np.uint16) * 257).save(tmp_path / "one.png")
    np.testing.assert_array_equal(images.read_grey(tmp_path / "one.png"), seen())


def colour(strength: int, part: slice) -> Image.Image:
    pixels = np.repeat(seen()[..., None], 3, axis=2)
    pixels[part, :, 0] = np.minimum(255, pixels[part, :, 0].astype(int) + strength)
    return Image.fromarray(pixels)


def transparent() -> Image.Image:
    pixels = np.dstack([seen(), seen(), seen(), np.where(seen() > 200, 60, 255).astype(np.uint8)])
    return Image.fromarray(pixels)


def keyed() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(seen()).save(stream, "PNG", transparency=160)
    return stream.getvalue()


def animated(kind: str) -> bytes:
    stream = io.BytesIO()
    frames = [Image.fromarray(np.roll(seen(), shift, 1)) for shift in range(3)]
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    return stream.getvalue()


REFUSED = {
    "photo.png": (colour(90, slice(None)), "a colour picture"),
    "marked.png": (colour(90, slice(3, 6)), "a grey picture with something in colour on it"),
    "see-through.png": (transparent(), "transparent, with something under it"),
    "keyed.png": (keyed(), "transparent, with something under it"),
    "deep.png": (Image.fromarray(seen().astype(np.uint16) * 12), "values from 0 to 2,880"),
    "signed.tif": (Image.fromarray(seen().astype(np.int32) - 1024), "values from -1,024"),
    "float.tif": (Image.fromarray(seen().astype(np.float32)), "values from 0 to"),
    "stack.tif": (animated("TIFF"), "3 pictures in one file"),
    "moving.png": (animated("PNG"), "3 pictures in one file"),
    "moving.webp": (animated("WEBP"), "3 pictures in one file"),
    "sheet.png": (Image.new("L", (5000, 30)), "5000×30 pixels"),
    "empty.jpg": (b"", "an empty file (0 bytes)"),
    "page.png": (b"<html>login</html>", "a web page"),
    "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "._one.jpg": (bytes.fromhex("00051607000200004d6163204f532058") + bytes(90), "what a Mac keeps beside a file"),
    "cut.jpg": (b"\xff\xd8\xff\xe0 cut", "cannot be read as a picture"),
    "text.bmp": (b"a table", "cannot be read as a picture"),
    "moving.gif.png": (animated("GIF"), "a GIF picture"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_grey_slice_is_named_with_a_way_out(name: str, tmp_path: Path) -> None:
    content, words = REFUSED[name]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        content.save(tmp_path / name)
    with pytest.raises(InputError) as caught:
        images.read_grey(tmp_path / name)
    assert words in caught.value.found
    assert caught.value.remedy


def test_transparency_that_hides_nothing_is_taken_away(tmp_path: Path) -> None:
    pixels = np.dstack([seen(), seen(), seen(), np.where(seen() > 0, 255, 0).astype(np.uint8)])
    Image.fromarray(pixels).save(tmp_path / "one.png")
    np.testing.assert_array_equal(images.read_grey(tmp_path / "one.png"), seen())
