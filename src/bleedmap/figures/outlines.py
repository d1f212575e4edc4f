"""A slice beside itself with two outlines: the reference's and the prediction's."""

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image
from scipy import ndimage

from bleedmap.arrays import BoolArray, ByteArray, FloatArray
from bleedmap.figures import style
from bleedmap.figures.prediction import shown_part

# Sky blue and orange, the pair of the palette that no common colour blindness brings together, bright on a grey slice.
REFERENCE, PREDICTION = style.PALETTE[4], style.PALETTE[5]
_LINE = 3  # pixels of the finished picture
_GAP = 6


def outlined_pair(unit: FloatArray, reference: BoolArray, prediction: BoolArray, *, side: int) -> ByteArray:
    """The slice plain, and the same with outlines: the reference's just outside it, the prediction's just inside.

    So lines of masks that agree lie side by side. Cropped to the head and all marks.

    Args:
        unit: (row, column) float32, 0 to 1 in the brain window.
        reference: (row, column) bool.
        prediction: (row, column) bool.
        side: pixels along the longer side of each half.

    Returns:
        RGB (row, column, 3) uint8.
    """
    part = shown_part(unit, reference | prediction)
    rows, columns = unit[part].shape
    zoom = side / max(rows, columns)
    size = max(1, round(columns * zoom)), max(1, round(rows * zoom))
    grey = Image.fromarray(np.rint(unit[part] * 255).astype(np.uint8)).resize(size, Image.Resampling.LANCZOS)
    plain = np.repeat(np.asarray(grey)[..., None], 3, axis=-1)
    drawn = plain.copy()
    mask = _resized(reference[part], size)
    drawn[ndimage.binary_dilation(mask, iterations=_LINE) & ~mask] = _rgb(REFERENCE)
    mask = _resized(prediction[part], size)
    drawn[mask & ~ndimage.binary_erosion(mask, iterations=_LINE, border_value=1)] = _rgb(PREDICTION)
    gap = np.full((plain.shape[0], _GAP, 3), 255, np.uint8)
    return np.concatenate([plain, gap, drawn], axis=1)


def _resized(mask: BoolArray, size: tuple[int, int]) -> BoolArray:
    """Any pixel that a mark covers stays marked: a speck is not lost where the picture is smaller than the slice."""
    wide = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    return np.asarray(wide) > 0


def _rgb(colour: str) -> ByteArray:
    return np.asarray(np.rint(np.array(to_rgb(colour)) * 255), np.uint8)
