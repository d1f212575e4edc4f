"""Laplacian pyramid, then fuzzy c-means: a bleed as the brightest cluster inside the skull. No training.

After Yahiaoui and Bessaid 2016, as the thesis cites it:
contrast enhanced with a Laplacian pyramid, pixels grouped by fuzzy c-means. Only that outline is theirs. Ours, for
lack of more: the search for the brain, the pyramid's gains, number and start of the clusters, the test that the
brightest cluster is blood, the cleaning up and the score. The constants stand below, from the HU of tissues and from
phantoms; no slice of the data set was looked at to choose them.
"""

import cv2
import numpy as np
import skfuzzy
from scipy import ndimage

from bleedmap.arrays import AnyArray, BoolArray, FloatArray, Progress
from bleedmap.training.device import Machine
from bleedmap.training.samples import Side
from bleedmap.window import BRAIN
from bleedmap_thesis.baselines.base import Prediction, grey

BONE_HU = 95.0  # above clotted blood (50 to 90); the window ends at 100
START_HU = (8.0, 28.0, 38.0, 65.0)  # where the clusters start: CSF, white and grey matter, blood
FUZZINESS = 2.0  # Bezdek's m, the usual value
SMALLEST_CONTRAST_HU = 12.0  # of blood over the brain's median: grey matter stays below
GAINS = (1.0, 1.5, 1.5)  # of the pyramid's detail, finest first; the finest is mostly noise
GAP = 1 / 64  # of the side: gaps of the skull closed; four times as wide where it still does not enclose
RIM = 1 / 128  # of the side: the skull's blurred inner edge, and half of the thinnest bleed kept
SMALLEST_BRAIN = 1 / 200  # of the slice
SMALLEST_PART = 1 / 400  # of the brain
QUANTILES = 512  # of the pixels' values, clustered in their place: the same histogram, faster
_TOLERANCE, _ITERATIONS = 1e-3, 100


def fuzzy_c_means(training: Side, test: Side, machine: Machine, seed: int, progress: Progress) -> Prediction:
    """Mark the brightest cluster inside the skull of each test slice.

    Uses neither the training side nor the seed: the clusters start at fixed places. A slice without a closed skull
    gets an empty mask. The score is the marked pixels' brightness over the brain's median, summed, over the brain.
    """
    slices = grey(test)
    masks = np.zeros(slices.shape, bool)
    score = np.zeros(len(slices), np.float32)
    for index, one in enumerate(slices):
        brain = intracranial(one)
        if brain.any():
            masks[index], score[index] = _mark(one, brain)
        progress(index + 1, len(slices))
    return Prediction(score, masks, {}, None)


def intracranial(unit: FloatArray) -> BoolArray:
    """The largest region that bone encloses in a slice, less the skull's blurred edge; empty without one."""
    side = len(unit)
    bone = unit >= BRAIN.to_unit(np.array([BONE_HU]))
    for gap in (GAP, 4 * GAP):
        radius = max(1, round(gap * side))
        closed = ndimage.binary_closing(np.pad(bone, radius), _disc(radius))[radius:-radius, radius:-radius]
        labels, count = ndimage.label(~closed)
        sizes = np.bincount(labels.ravel(), minlength=count + 1)
        edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        sizes[np.append(edge, 0)] = 0  # outside the head, and bone
        if sizes.max() >= SMALLEST_BRAIN * unit.size:
            return np.asarray(ndimage.binary_erosion(labels == sizes.argmax(), _disc(max(1, round(RIM * side)))))
    return np.zeros(unit.shape, bool)


def enhance(unit: FloatArray, brain: BoolArray) -> FloatArray:
    """Detail of a Laplacian pyramid, times GAINS; what lies outside the brain is first set to its median."""
    level = np.where(brain, unit, np.median(unit[brain])).astype(np.float32)
    details = []
    for _ in GAINS:
        smaller = cv2.pyrDown(level)
        details.append(level - cv2.pyrUp(smaller, dstsize=level.shape[::-1]))
        level = smaller
    for detail, gain in zip(details[::-1], GAINS[::-1], strict=True):
        level = cv2.pyrUp(level, dstsize=detail.shape[::-1]) + gain * detail
    return np.asarray(level)


def _mark(unit: FloatArray, brain: BoolArray) -> tuple[BoolArray, float]:
    """The bleed (row, column), and its score."""
    enhanced = enhance(unit, brain)
    values = enhanced[brain]
    over = enhanced - np.median(values)
    mask = np.zeros(unit.shape, bool)
    mask[brain] = _brightest(values) & (over[brain] >= SMALLEST_CONTRAST_HU / BRAIN.width_hu)
    mask = ndimage.binary_opening(mask, _disc(max(1, round(RIM * len(unit)))))
    labels, _ = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    mask = (sizes >= SMALLEST_PART * brain.sum())[labels]
    return mask, float(over[mask].sum() / brain.sum())


def _brightest(values: FloatArray) -> BoolArray:
    """(pixels,) whether a pixel belongs most to the brightest cluster; quantiles stand for the pixels in clustering."""
    known = np.quantile(values, (np.arange(QUANTILES) + 0.5) / QUANTILES)
    starts = BRAIN.to_unit(np.array(START_HU))
    membership = np.maximum(np.abs(known - starts[:, None]), 1e-6) ** (-2 / (FUZZINESS - 1))
    centres = skfuzzy.cmeans(
        known[None], len(starts), FUZZINESS, _TOLERANCE, _ITERATIONS, init=membership / membership.sum(axis=0)
    )[0]
    # A pixel belongs most to the cluster whose centre is nearest.
    return np.asarray(np.abs(values - centres).argmin(axis=0) == centres[:, 0].argmax())


def _disc(radius: int) -> AnyArray:
    rows, columns = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(rows**2 + columns**2 <= radius**2)
