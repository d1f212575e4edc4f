"""HU slices -> probability on the slices' own grid."""

from collections.abc import Callable

import numpy as np

from bleedmap.arrays import AnyArray, FloatArray
from bleedmap.errors import SettingsError, WeightsError
from bleedmap.inference.backends import Backend
from bleedmap.models.weights import WeightsFile
from bleedmap.preprocess import Preprocessing, network_input, resize_back
from bleedmap.window import Window

_CHUNK = 8  # slices in memory at the network's size


def preprocessing_of(weights: WeightsFile) -> Preprocessing:
    """The preprocessing that the weights were trained with.

    Raises:
        WeightsError: the file's record of it cannot be used.
    """
    try:
        record = weights.record["preprocessing"]
        return Preprocessing(
            int(record["size"]), record["frame"], Window(**record["window"]), bool(record.get("clahe", False))
        )
    except (KeyError, TypeError, ValueError, SettingsError) as error:
        raise WeightsError(
            weights.path,
            found=f"its preprocessing cannot be used ({error})",
            needed="size, frame and window, as `bleedmap export` writes them",
            remedy="export the run again with this version",
        ) from error


def segment_slices(
    hu: AnyArray,
    settings: Preprocessing,
    backend: Backend,
    advance: Callable[[int], None] = lambda slices: None,
    pixel_mm: tuple[float, float] | None = None,
) -> FloatArray:
    """Probability of hemorrhage in every pixel.

    Args:
        hu: (slice, row, column) in HU.
        settings: the weights' preprocessing.
        backend: the loaded network.
        advance: called with the number of slices finished since the last call.
        pixel_mm: (row, column) spacing, None where it is not known.

    Returns:
        (slice, row, column) float32 in 0 to 1, on the grid of `hu`.
    """
    rows, columns = hu.shape[1:]
    probability = np.empty(hu.shape, np.float32)
    for start in range(0, len(hu), _CHUNK):
        inputs, frames = network_input(hu[start : start + _CHUNK], settings, pixel_mm)
        for offset, (one, frame) in enumerate(zip(backend.predict(inputs), frames, strict=True)):
            probability[start + offset] = resize_back(one, frame, (rows, columns))
        advance(len(frames))
    return np.clip(probability, 0, 1, out=probability)
