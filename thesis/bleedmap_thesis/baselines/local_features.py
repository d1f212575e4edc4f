"""Bleed or not from local features and a classical classifier.

After Gao et al. 2017, who add SIFT and KAZE features to their networks. Ours: a bag of visual words of all features
of a slice, and a support vector machine. SIFT (Lowe 2004) is OpenCV's. KAZE (Alcantarilla, Bartoli and Davison,
ECCV 2012) left OpenCV's main package with version 5, so it is built here after the paper: non-linear diffusion by
additive operator splitting, maxima of the Hessian's determinant, M-SURF descriptors; upright, as heads are scanned.
"""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from scipy import ndimage
from scipy.linalg import solveh_banded
from sklearn.cluster import MiniBatchKMeans
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from bleedmap.arrays import AnyArray, DoubleArray, FloatArray, Progress
from bleedmap.training.device import Machine
from bleedmap.training.samples import Side
from bleedmap_thesis.baselines.base import Prediction, bleeds_to_learn, grey

WORDS = 200  # of the visual vocabulary
# KAZE: the paper's symbols, OpenCV's numbers; two octaves, for a descriptor of a third would reach beyond the head.
BASE_SCALE = 1.6  # σ₀, pixels
OCTAVES, SUBLEVELS = 2, 4
CONTRAST_PERCENTILE = 70  # of the gradient: k of the conductivity
DETECTION = 1e-3  # smallest scale-normalised determinant

Describe = Callable[[FloatArray], FloatArray]  # a slice (row, column) -> its features (features, length)


def bag_of_words(
    describe: Describe, training: Side, test: Side, machine: Machine, seed: int, progress: Progress
) -> Prediction:
    """Words from the training side's features, an RBF support vector machine on how often each occurs.

    The score is the distance from the machine's boundary. A slice without features has no words, and is scored as such.

    Returns:
        Scores; and for each slice `keypoints`, how many features it has.
    """
    bleeds = bleeds_to_learn(training)
    slices = np.concatenate([grey(training), grey(test)])
    features = []
    for done, one in enumerate(slices, start=1):
        features.append(describe(one))
        progress(done, len(slices))
    known, new = features[: len(bleeds)], features[len(bleeds) :]
    together = np.concatenate(known)
    words = MiniBatchKMeans(min(WORDS, len(together)), random_state=seed, n_init=1, batch_size=4096).fit(together)
    machine_of_vectors = make_pipeline(StandardScaler(), SVC(kernel="rbf", C=1.0, class_weight="balanced"))
    machine_of_vectors.fit(_frequencies(words, known), bleeds)
    score = machine_of_vectors.decision_function(_frequencies(words, new)).astype(np.float32)
    return Prediction(score, None, {"keypoints": [len(one) for one in new]}, None)


def _frequencies(words: MiniBatchKMeans, features: list[FloatArray]) -> FloatArray:
    """(slices, words): square root of each word's share of a slice's features (Hellinger); zeros for none."""
    shares = np.zeros((len(features), words.n_clusters), np.float32)
    for row, one in enumerate(features):
        if len(one):
            shares[row] = np.bincount(words.predict(one), minlength=words.n_clusters) / len(one)
    return np.asarray(np.sqrt(shares))


def sift_features(unit: FloatArray) -> FloatArray:
    """(features, 128), each of length 1, of a slice (row, column) in 0 to 1."""
    _, found = cv2.SIFT.create().detectAndCompute(np.rint(unit * 255).astype(np.uint8), None)
    if found is None:
        return np.zeros((0, 128), np.float32)
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6), np.float32)


def kaze_features(unit: FloatArray) -> FloatArray:
    """(features, 64), each of length 1, of a slice (row, column) in 0 to 1."""
    scales = BASE_SCALE * 2 ** (np.arange(OCTAVES * SUBLEVELS) / SUBLEVELS)
    levels = nonlinear_scales(unit, scales)
    slopes = [_derivatives(level, scale) for level, scale in zip(levels, scales, strict=True)]
    response = np.stack([_determinant(*slope, scale) for slope, scale in zip(slopes, scales, strict=True)])
    peaks = (response == ndimage.maximum_filter(response, 3)) & (response > DETECTION)
    peaks[[0, -1]] = False  # no scale beside them
    found = [
        _describe(*slopes[index], scales[index], np.argwhere(peaks[index]).astype(np.float32))
        for index in range(1, len(scales) - 1)
    ]
    return np.concatenate(found)


def nonlinear_scales(unit: FloatArray, scales: DoubleArray) -> FloatArray:
    """(scales, row, column): a slice blurred to each scale (σ in pixels), but little across its edges."""
    level: AnyArray = ndimage.gaussian_filter(unit, scales[0])
    gradient = _edge_strength(level)
    contrast = max(float(np.percentile(gradient[gradient > 0], CONTRAST_PERCENTILE)) if gradient.any() else 0.0, 1e-3)
    levels = [level]
    for step in np.diff(scales**2 / 2):  # diffusion time t = σ²/2
        conductivity = 1 / (1 + (_edge_strength(level) / contrast) ** 2)  # g₂ of the paper
        level = (_diffuse(level, conductivity, step) + _diffuse(level.T, conductivity.T, step).T) / 2
        levels.append(level)
    return np.stack(levels).astype(np.float32)


def _edge_strength(level: AnyArray) -> AnyArray:
    return np.asarray(ndimage.gaussian_gradient_magnitude(level, 1.0))


def _diffuse(level: AnyArray, conductivity: AnyArray, step: float) -> AnyArray:
    """One implicit step down the rows: (1 - 2·step·A)⁻¹ level, as one tridiagonal system of all columns."""
    between = step * (conductivity[1:] + conductivity[:-1])  # 2·step times the mean of two neighbours
    bands = np.zeros((2, *level.T.shape))  # above the diagonal, and the diagonal; a column after the other
    bands[0, :, 1:] = -between.T
    bands[1] = 1
    bands[1, :, 1:] += between.T
    bands[1, :, :-1] += between.T
    return np.asarray(solveh_banded(bands.reshape(2, -1), level.T.ravel()).reshape(level.T.shape).T)


def _derivatives(level: FloatArray, scale: float) -> tuple[FloatArray, FloatArray]:
    """Along rows and along columns, by Scharr's filter with a step of the scale; normalised by it."""
    step = round(scale)
    difference, smooth = np.zeros(2 * step + 1), np.zeros(2 * step + 1)
    difference[[0, -1]], smooth[[0, step, -1]] = (-0.5, 0.5), (3 / 16, 10 / 16, 3 / 16)
    return (
        ndimage.correlate1d(ndimage.correlate1d(level, difference, 0), smooth, 1),
        ndimage.correlate1d(ndimage.correlate1d(level, difference, 1), smooth, 0),
    )


def _determinant(down: FloatArray, along: FloatArray, scale: float) -> FloatArray:
    """The Hessian's determinant from first derivatives; each derivative is already times the step."""
    (down_down, down_along), (_, along_along) = _derivatives(down, scale), _derivatives(along, scale)
    return np.asarray(down_down * along_along - down_along**2)


# M-SURF: 24×24 samples a scale apart, in 4×4 overlapping squares of 9×9, weighed by Gaussians of 2.5 and 1.5.
_SAMPLES = np.arange(24) - 11.5
_CENTRES = np.array([-7.5, -2.5, 2.5, 7.5])
_NEAR = np.exp(-((_SAMPLES - _CENTRES[:, None]) ** 2) / (2 * 2.5**2)) * (np.abs(_SAMPLES - _CENTRES[:, None]) <= 4.5)
_MIDDLE = np.exp(-((np.arange(4) - 1.5) ** 2) / (2 * 1.5**2))
_SQUARES = _NEAR * _MIDDLE[:, None]  # (4, 24), for rows and for columns


def _describe(down: FloatArray, along: FloatArray, scale: float, places: FloatArray) -> FloatArray:
    """(places, 64) at places (row, column) of one scale: sums of both slopes and of their sizes in each square."""
    grid = np.stack(np.meshgrid(_SAMPLES, _SAMPLES, indexing="ij")) * scale  # (2, 24, 24)
    at = (places[:, :, None, None] + grid).transpose(1, 0, 2, 3)  # (2, places, 24, 24)
    sums = []
    for slope in (down, along):
        sampled = ndimage.map_coordinates(slope, at, order=1, mode="nearest")
        sums += [_SQUARES @ one @ _SQUARES.T for one in (sampled, np.abs(sampled))]  # (places, 4, 4)
    described = np.stack(sums, axis=-1).reshape(len(places), 64)
    return np.asarray(described / np.maximum(np.linalg.norm(described, axis=1, keepdims=True), 1e-6), np.float32)


sift = partial(bag_of_words, sift_features)
kaze = partial(bag_of_words, kaze_features)
