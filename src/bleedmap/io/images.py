"""Read single slices as 8-bit grey pictures, turned as they are to be seen, and write masks and pictures."""

import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

from bleedmap.arrays import AnyArray, BoolArray, ByteArray
from bleedmap.errors import InputError
from bleedmap.io.files import refuse_special, written_whole
from bleedmap.io.kinds import identify

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp")
_LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
MASK_THRESHOLD = 127  # masks of CT-ICH are JPEG: grey rims are compression, not doubt
LARGEST_SIDE = 4096  # pixels; a CT slice is 256 to 1024
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")
KINDS = "JPEG, PNG, TIFF, WebP or BMP"
_GREY_TOLERANCE = 12  # between channels of a grey picture that was saved as a colour JPEG
_MARKS = 0.2  # of the pixels in colour: above it is no grey picture with something drawn on it
_BYTES_ALIKE = 257  # a 16-bit grey that is an 8-bit grey: both its bytes are the same
warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd EXIF, line by line, naming no file
_Turn = Image.Transpose
# EXIF's orientations (tag 274) that are not upright, and what puts them so.
_TURNS = {
    2: ("mirrored left to right", _Turn.FLIP_LEFT_RIGHT), 3: ("turned by 180°", _Turn.ROTATE_180),
    4: ("mirrored top to bottom", _Turn.FLIP_TOP_BOTTOM), 5: ("mirrored along its diagonal", _Turn.TRANSPOSE),
    6: ("turned by 90° clockwise", _Turn.ROTATE_270), 7: ("mirrored along its other diagonal", _Turn.TRANSVERSE),
    8: ("turned by 90° counter-clockwise", _Turn.ROTATE_90),
}  # fmt: skip


def is_picture(path: Path) -> bool:
    """Whether a file is to be read as a picture, by its name or by its content."""
    if path.suffix.lower() in SUFFIXES:
        return True
    kind = identify(path)
    return kind is not None and kind.picture


def read_grey(path: Path) -> ByteArray:
    """Read a slice's (row, column) uint8, as `read_picture`."""
    return read_picture(path)[0]


def read_picture(path: Path) -> tuple[ByteArray, str]:
    """Read a slice, turned as its EXIF orientation says.

    Returns:
        (row, column) uint8, upright; and how it was turned to be so, '' where it was not.

    Raises:
        InputError: not a readable picture in 8-bit grey: colour, 16-bit values without a window, transparency, several
            pictures in one file.
    """
    picture, orientation = _open(path)
    return _take_grey(path, picture), _TURNS[orientation][0] if orientation in _TURNS else ""


def _take_grey(path: Path, picture: Image.Image) -> ByteArray:
    if picture.has_transparency_data:
        picture = _flatten(path, picture)
    if picture.mode == "L":
        return np.asarray(picture)
    if picture.mode in ("1", "P", "RGB", "CMYK", "YCbCr"):
        channels = np.asarray(picture.convert("RGB")).astype(np.int16)
        spread = channels.max(axis=2) - channels.min(axis=2)
        if spread.max() <= _GREY_TOLERANCE:
            return np.asarray(picture.convert("L"))
        raise _not_grey(path, spread)
    values = np.asarray(picture)
    if picture.mode.startswith("I") and values.min() >= 0:
        eight_bits, rest = np.divmod(values, _BYTES_ALIKE)
        if not rest.any():
            return np.asarray(eight_bits, np.uint8)
    raise InputError(
        path,
        found=f"values from {values.min():,.6g} to {values.max():,.6g}, and nothing that says in which window to see "
        "them",
        needed="a CT slice in 8-bit grey, in the brain window",
        remedy="export it in the brain window (level 40, width 120) as 8-bit grey, or give the HU as NIfTI",
    )


def _flatten(path: Path, picture: Image.Image) -> Image.Image:
    """Take transparency away that hides nothing: pixels that are wholly opaque, or black under whatever is not."""
    layers = np.asarray(picture.convert("RGBA"))
    seen_through = layers[..., 3] < 255
    if layers[seen_through][:, :3].max(initial=0) > _GREY_TOLERANCE:
        raise InputError(
            path, found=f"{seen_through.mean():.1%} of the pixels are transparent, with something under it",
            needed="a CT slice in grey without an alpha channel, whose every pixel is shown",
            remedy="export the slice alone, without marks, cut-outs or transparency",
        )  # fmt: skip
    return Image.fromarray(np.ascontiguousarray(layers[..., :3]))


def _not_grey(path: Path, spread: AnyArray) -> InputError:
    share = float((spread > _GREY_TOLERANCE).mean())
    what = "a colour picture" if share > _MARKS else "a grey picture with something in colour on it"
    return InputError(
        path, found=f"{what} ({share:.1%} of the pixels; channels differ by up to {int(spread.max())} of 255)",
        needed="a CT slice in grey, in the brain window",
        remedy="export the slice itself, without colours, outlines or marks; or leave this picture out",
    )  # fmt: skip


def _open(path: Path) -> tuple[Image.Image, int]:
    """Decode a picture; return it upright, with the orientation (1 to 8) that its file states."""
    refuse_special(path)
    try:
        # By a stream: Pillow maps a TIFF that it opens by its path before it is turned, and scrambles it.
        with path.open("rb") as stream, Image.open(stream, formats=_FORMATS) as picture:
            if max(picture.size) > LARGEST_SIDE:
                raise InputError(
                    path,
                    found=f"{picture.width}×{picture.height} pixels",
                    needed=f"a CT slice of at most {LARGEST_SIDE} pixels a side",
                    remedy="give single slices, not a sheet of them",
                )
            if (count := getattr(picture, "n_frames", 1)) > 1 and picture.format != "MPO":
                raise InputError(
                    path, found=f"{count} pictures in one file", needed="one slice in each file",
                    remedy="export each slice to a file of its own, or the whole study as DICOM or as NIfTI in HU",
                )  # fmt: skip
            orientation = _orientation(picture)
            picture.load()
            if picture.format == "TIFF":  # Pillow has turned it already
                return picture, orientation
            orientation = _orientation(picture)  # a PNG may state it behind the pixels
            # Not by Pillow's exif_transpose: it writes all of EXIF anew, and fails where a tag is of another type.
            return picture.transpose(_TURNS[orientation][1]) if orientation in _TURNS else picture, orientation
    except FileNotFoundError:
        raise InputError(path, found="no such file", needed=f"a {KINDS} picture", remedy="check the path") from None
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow raises nearly anything on damaged bytes
        kind = identify(path)
        if kind is not None and not kind.picture:
            found, remedy = f"{kind.words}, no {KINDS} picture", kind.remedy or "give a picture"
        else:
            size = path.stat().st_size if path.is_file() else 0
            found = f"cannot be read as a picture ({size:,} bytes; {(str(error).splitlines() or ['damaged'])[0]})"
            remedy = "copy the file again from its source, or leave it out if it is no slice"
        raise InputError(path, found=found, needed=f"a whole {KINDS} picture", remedy=remedy) from error


def _orientation(picture: Image.Image) -> int:
    stated = picture.getexif().get(ExifTags.Base.Orientation, 1)
    return stated if stated in _TURNS else 1


def read_mask(path: Path, shape: tuple[int, int]) -> BoolArray:
    """Read a mask as (row, column) bool: grey above 127.

    Args:
        shape: (rows, columns) of the slice that it belongs to.

    Raises:
        InputError: unreadable, or of another size than its slice.
    """
    grey = read_grey(path)
    if grey.shape != shape:
        raise InputError(
            path,
            found=f"a mask of {grey.shape[0]}×{grey.shape[1]} pixels (rows × columns)",
            needed=f"{shape[0]}×{shape[1]}, the size of its slice",
            remedy="export the mask again on the slice's own grid",
        )
    return grey > MASK_THRESHOLD


def read_drawing(path: Path) -> tuple[AnyArray, int]:
    """Read what is drawn in a picture, in whatever colours: labels, or black and white.

    Returns:
        (row, column) unsigned: 0 where it is black or transparent, else the brightest channel, or the number of a label
        in 16 bits or in a palette; and how many colours there are, 0 where the format is lossy, so that they are not
        those that were drawn.

    Raises:
        InputError: not a readable picture, or its pixels are no whole numbers.
    """
    picture, _ = _open(path)
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() >= 0:
            return values.astype(np.uint32), len(np.unique(values))
    if picture.mode.startswith(("I", "F")):
        raise InputError(
            path, found=f"pixels of mode {picture.mode}, which are not whole numbers from 0 on",
            needed="a mask: 0 outside, one grey, colour or number for each label", remedy="export it as 8-bit PNG",
        )  # fmt: skip
    if picture.mode == "P" and not picture.has_transparency_data and (picture.getpalette() or [1])[:3] == [0, 0, 0]:
        numbers = np.asarray(picture)
        return numbers, len(np.unique(numbers))
    layers = np.asarray(picture.convert("RGBA"))
    seen = layers[..., 3]
    drawn = seen if seen.min() == 0 else layers[..., :3].max(axis=2)  # a drawing on a transparent ground, or on black
    lossless = path.suffix.lower() in _LOSSLESS and picture.info.get("compression") not in ("jpeg", "webp")
    return drawn, len(np.unique(np.ascontiguousarray(layers).view(np.uint32))) if lossless else 0


def write_png(path: Path, pixels: AnyArray) -> None:
    """Write (row, column) grey or (row, column, 3) RGB uint8, or a bool mask as 0 and 255."""
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    with written_whole(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)  # a quarter of the time, hardly larger
