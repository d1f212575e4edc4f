"""Contrast-limited adaptive histogram equalisation (Zuiderveld 1994, Graphics Gems IV), by OpenCV.

The 2021 thesis tried it and rejected it by eye: lesions come to look like bone. Off everywhere by default, and so
OpenCV, which few need, is loaded late.
"""

import numpy as np

from bleedmap.arrays import FloatArray
from bleedmap.errors import MissingExtraError

CLIP_LIMIT = 2.0  # of a tile's histogram, over its mean
TILES = 8  # along each side of the slice: OpenCV's own defaults are 40 and 8; 2 is usual for images


def equalise(unit: FloatArray) -> FloatArray:
    """A windowed slice (row, column) in 0 to 1, equalised in 256 grey levels, of the same shape and range.

    Raises:
        MissingExtraError: OpenCV is not installed.
    """
    try:
        import cv2  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtraError("CLAHE", "reproduce", "cv2") from error
    grey = np.round(np.clip(unit, 0, 1) * 255).astype(np.uint8)
    equalised = cv2.createCLAHE(CLIP_LIMIT, (TILES, TILES)).apply(grey)
    return np.asarray(equalised / np.float32(255), np.float32)
