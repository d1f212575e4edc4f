"""HU slices -> probability on the slices' own grid."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, FloatArray
from bleedmap.errors import SettingsError, WeightsError
from bleedmap.inference.backends import Backend
from bleedmap.inference.weights import WeightsFile
from bleedmap.preprocess import Preprocessing, neighbour_rows, network_input, resize_back
from bleedmap.window import Window

_CHUNK = 8  # slices at a time


@dataclass(frozen=True, eq=False)
class Segmented:
    """What the network says of a study.

    Attributes:
        probability: (slice, row, column) float32 in 0 to 1, on the study's grid; 0 in slices that were not wanted.
        extent: (slice,) mean probability over the network's view: the lesion's expected share of it.
        labels, features: of each slice, as `Prediction`; None from an older network.
    """

    probability: FloatArray
    extent: FloatArray
    labels: FloatArray | None
    features: FloatArray | None


def preprocessing_of(weights: WeightsFile) -> Preprocessing:
    """The preprocessing that the weights were trained with.

    Raises:
        WeightsError: the file's record of it cannot be used.
    """
    try:
        record = weights.record["preprocessing"]
        return Preprocessing(
            int(record["size"]),
            record["frame"],
            Window(**record["window"]),
            bool(record.get("clahe", False)),
            int(record.get("neighbours", 0)),
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
    opened: Callable[[Segmented], BoolArray] | None = None,
) -> Segmented:
    """Probability of hemorrhage in every pixel, and what the network says of each slice.

    Args:
        hu: (slice, row, column) in HU.
        settings: the weights' preprocessing.
        backend: the loaded network.
        advance: called with the number of slices that the network is done with since the last call.
        pixel_mm: (row, column) spacing, None where it is not known.
        opened: told all but pixels, whose probability is 0 as yet, says which slices' pixels are wanted, (slice,);
            the others stay 0, and cost nothing. None: all.
    """
    inputs, frames = network_input(hu, settings, pixel_mm)
    channels = neighbour_rows(len(inputs), settings.neighbours)
    asked, answer = _asked(inputs, channels)
    said = []
    for start in range(0, len(asked), _CHUNK):
        said.append(backend.predict(inputs[channels[asked[start : start + _CHUNK]]]))
        advance(int(np.count_nonzero((answer >= start) & (answer < start + _CHUNK))))
    small = [one for told in said for one in told.probability]
    labels = _together([one.labels for one in said], answer)
    features = _together([one.features for one in said], answer)
    extent = np.array([one.mean() for one in small], np.float32)[answer]
    segmented = Segmented(np.zeros(hu.shape, np.float32), extent, labels, features)
    for index in range(len(hu)) if opened is None else np.flatnonzero(opened(segmented)):
        enlarged = resize_back(small[answer[index]], frames[index], hu.shape[1:])
        np.clip(enlarged, 0, 1, out=segmented.probability[index])
    return segmented


def _asked(inputs: FloatArray, channels: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Which slices the network is asked for, and which of its answers is each slice's: all that show air alone,
    neighbours too, share the first one's."""
    shows: BoolArray = np.asarray(inputs.any(axis=(1, 2)))
    air = np.asarray(~shows[channels].any(axis=1))
    first, every = int(air.argmax()), np.arange(len(inputs))
    asked = np.flatnonzero(~air | (every == first))
    return asked, np.searchsorted(asked, np.where(air, first, every))


def _together(parts: list[FloatArray | None], answer: AnyArray) -> FloatArray | None:
    told = [one for one in parts if one is not None]
    return np.concatenate(told)[answer] if told else None
