"""Does the program notice images unlike those that it was trained on? Test patients of each fold, changed on purpose,
put to the fold's own network, whose limit was set on validation patients."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from bleedmap.arrays import FloatArray
from bleedmap.folds.recipes import CrossValidation
from bleedmap.folds.run import Predictor, require_certainty
from bleedmap.inference.weights import locate
from bleedmap.phantom.head import make_phantom, random_settings

PATIENTS = 4  # of each fold's test side: the first bleed-free ones
PHANTOM_SEED = 7_000_000  # beyond every seed that was trained on
NOISE_HU = 20.0
AIR_HU = -1000.0


@dataclass(frozen=True)
class Change:
    """What is done to a study: (slice, row, column) HU, and a generator for what is random of it."""

    name: str
    words: str
    apply: Callable[[FloatArray, np.random.Generator], FloatArray]


def _noisy(hu: FloatArray, random: np.random.Generator) -> FloatArray:
    noise = random.normal(0, NOISE_HU, hu.shape).astype(np.float32)
    return np.where(hu > -15, hu + noise, hu).astype(np.float32)


def _smaller(hu: FloatArray, random: np.random.Generator) -> FloatArray:
    small = ndimage.zoom(hu, (1, 0.5, 0.5), order=1)
    result = np.full(hu.shape, AIR_HU, np.float32)
    result[:, : small.shape[1], : small.shape[2]] = small
    return result


CHANGES = (
    Change("unchanged", "as it is", lambda hu, random: hu),
    Change("noise", f"noise of {NOISE_HU:g} HU (standard deviation) added", _noisy),
    Change("level", "30 HU added, as a wrong intercept would", lambda hu, random: hu + np.float32(30)),
    Change("gain", "HU halved, as a wrong slope would", lambda hu, random: hu * np.float32(0.5)),
    Change("blur", "blurred by 3 pixels", lambda hu, random: ndimage.gaussian_filter(hu, (0, 3, 3))),
    Change("upside-down", "face down", lambda hu, random: np.ascontiguousarray(hu[:, ::-1])),
    Change("coronal", "reformatted: slices as rows, stretched", lambda hu, random: _coronal(hu)),
    Change("half-size", "the head at half its size in a corner", _smaller),
    Change(
        "noise-alone",
        "no anatomy: noise around 40 HU",
        lambda hu, random: random.normal(40, 20, hu.shape).astype(np.float32),
    ),
)
PHANTOM = Change("phantom", "a phantom, none of those trained on", lambda hu, random: hu)


def _coronal(hu: FloatArray) -> FloatArray:
    turned = ndimage.zoom(
        hu.transpose(1, 0, 2)[:: max(1, hu.shape[1] // len(hu))], (1, hu.shape[1] / len(hu), 1), order=1
    )
    return np.ascontiguousarray(turned[:, ::-1])


def measure_out_of_distribution(validation: CrossValidation) -> list[dict[str, Any]]:
    """A row a change, phantoms last: studies, how many are called unlike the training data, and their median distance.

    Raises:
        WeightsError: a fold has no network.
        OutputError: a fold is not finished.
    """
    far: dict[str, list[tuple[float, bool]]] = {}
    for fold in validation.folds.folds:
        weights_file = validation.fold(fold.fold) / "network.onnx"
        predictor = Predictor(validation.studies, weights_file, validation.report)
        familiar = require_certainty(locate(weights_file)).familiar
        assert familiar is not None  # folds choose it with the rest
        chosen = [one for one in validation.data.patients if one.number in fold.test and not one.has_lesion][:PATIENTS]
        studies = [(change, predictor.read(one.number).hu, one.number) for one in chosen for change in CHANGES]
        phantom = make_phantom(random_settings(PHANTOM_SEED + fold.fold, bleeding_share=0.0))
        studies.append((PHANTOM, phantom.volume.hu, 0))
        for done, (change, hu, number) in enumerate(studies):
            validation.report(f"fold {fold.fold}: unlike images", done, len(studies), change.name)
            features = predictor.segment(change.apply(hu, np.random.default_rng(number))).features
            assert features is not None
            distance = familiar.distance(features)
            far.setdefault(change.words, []).append((distance, distance > familiar.farthest))
    return [
        {
            "change": words, "studies": len(found), "called_unlike": sum(flag for _, flag in found),
            "median_distance": float(np.median([distance for distance, _ in found])),
        }
        for words, found in far.items()
    ]  # fmt: skip
