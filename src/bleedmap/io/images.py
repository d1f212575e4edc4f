"""Read single slices as 8-bit grey JPEG or PNG, and write masks and pictures."""

from pathlib import Path

import numpy as np
from PIL import Image

from bleedmap.arrays import AnyArray, BoolArray, ByteArray
from bleedmap.errors import InputError
from bleedmap.io.files import written_whole

SUFFIXES = (".jpg", ".jpeg", ".png")
MASK_THRESHOLD = 127  # masks of CT-ICH are JPEG: grey rims are compression, not doubt
LARGEST_SIDE = 4096  # pixels; a CT slice is 256 to 1024
_GREY_TOLERANCE = 12  # between channels of a grey picture that was saved as a colour JPEG


def read_grey(path: Path) -> ByteArray:
    """Read a slice as (row, column) uint8.

    Raises:
        InputError: not a readable 8-bit grey JPEG or PNG.
    """
    picture = _open(path)
    if picture.mode == "L":
        return np.asarray(picture)
    if picture.mode in ("1", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr"):
        channels = np.asarray(picture.convert("RGB")).astype(np.int16)
        spread = int((channels.max(axis=2) - channels.min(axis=2)).max())
        if spread <= _GREY_TOLERANCE:
            return np.asarray(picture.convert("L"))
        found = f"a colour picture (channels differ by up to {spread} of 255)"
    else:
        found = f"a picture of mode '{picture.mode}', not 8-bit grey"
    raise InputError(
        path,
        found=found,
        needed="a CT slice as 8-bit grey JPEG or PNG, in the brain window",
        remedy="export the slice in grey; give 12- or 16-bit data as NIfTI in HU instead",
    )


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as picture:
            if max(picture.size) > LARGEST_SIDE:
                raise InputError(
                    path,
                    found=f"{picture.width}×{picture.height} pixels",
                    needed=f"a CT slice of at most {LARGEST_SIDE} pixels a side",
                    remedy="give single slices, not a sheet of them",
                )
            picture.load()
            return picture
    except FileNotFoundError:
        raise InputError(path, found="no such file", needed="a JPEG or PNG picture", remedy="check the path") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        size = path.stat().st_size if path.is_file() else 0
        raise InputError(
            path,
            found=f"cannot be read as JPEG or PNG ({size:,} bytes; {str(error).splitlines()[0] or 'damaged'})",
            needed="a whole JPEG or PNG picture",
            remedy="copy the file again from its source",
        ) from error


def read_mask(path: Path, shape: tuple[int, int]) -> BoolArray:
    """Read a mask as (row, column) bool: grey above 127.

    Args:
        path: the mask's JPEG or PNG.
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


def write_png(path: Path, pixels: AnyArray) -> None:
    """Write (row, column) grey or (row, column, 3) RGB uint8, or a bool mask as 0 and 255."""
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * 255
    with written_whole(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", compress_level=1)  # a quarter of the time, hardly larger
