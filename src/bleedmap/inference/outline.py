"""HU slices -> what the program marks, and how sure it is: one outline step for studies, pictures and experiments."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray, FloatArray, ignore
from bleedmap.geometry import SliceGrid
from bleedmap.inference.backends import Backend, Segmented
from bleedmap.inference.certainty import Certainty, CertaintySettings, estimate_certainty, gate_slices
from bleedmap.inference.slabs import Slabs
from bleedmap.inference.weights import WeightsFile
from bleedmap.postprocess import clear_small, to_mask
from bleedmap.preprocess import (
    Preprocessing,
    bone_input,
    neighbour_rows,
    network_input,
    resize_back,
    stack_channels,
)

_CHUNK = 8  # slices at a time


@dataclass(frozen=True, eq=False)
class Outline:
    """What the program marks.

    `probability`: (slice, row, column) float32 in 0 to 1; 0 in slices that the gate closes and in regions that are
    smaller than the smallest bleed.
    `certainty`: how sure the program is; None for weights that do not say, which have no gate and no smallest bleed.
    """

    probability: FloatArray
    mask: BoolArray  # the same shape, bool: `probability` from the threshold on
    certainty: Certainty | None


def outline_slices(
    hu: AnyArray,
    weights: WeightsFile,
    backend: Backend,
    *,
    grid: SliceGrid | None = None,
    threshold: float | None = None,
    slabs: Slabs | None = None,
    doubts: tuple[str, ...] = (),
    advance: Callable[[int], None] = ignore,
) -> Outline:
    """Outline hemorrhage on slices; only those that the gate opens are enlarged to their own pixels.

    Args:
        hu: (slice, row, column) in HU.
        grid: where the voxels lie; None for pictures, whose pixels have no size: then no region is too small to be
            marked, and the volume has no interval.
        threshold: a pixel is lesion from this probability on; None: the weights' own.
        slabs: where `hu` and `grid` are those of slabs: the outline is given on the slices that they were averaged of.
        doubts: further reasons to give no verdict, as those of the input gate.
        advance: called with the number of slices that the network is done with since the last call.
    """
    settings = weights.certainty
    segmented = segment_slices(
        hu, weights.preprocessing, backend, advance, None if grid is None else grid.spacing_mm[1:],
        None if settings is None else partial(gate_slices, settings=settings),
    )  # fmt: skip
    at, voxel_ml = weights.threshold if threshold is None else threshold, None if grid is None else grid.voxel_ml
    return _outline(segmented.probability, segmented, settings, at, voxel_ml, at == weights.threshold, doubts, slabs)


def outline_prediction(
    segmented: Segmented, settings: CertaintySettings | None, threshold: float, voxel_ml: float | DoubleArray | None
) -> Outline:
    """The same of what a network has said of every slice, which stays as it is.

    Args:
        segmented: of `segment_slices`, all slices wanted.
        settings: the weights' numbers of certainty, fitted for `threshold`.
        threshold: a pixel is lesion from this probability on.
        voxel_ml: of a voxel, or (slice,) of each slice's; None where pixels have no size.
    """
    probability = segmented.probability
    if settings is not None:
        probability = np.where(gate_slices(segmented, settings)[:, None, None], probability, np.float32(0))
    return _outline(probability, segmented, settings, threshold, voxel_ml, True, ())


def _outline(
    gated: FloatArray, segmented: Segmented, settings: CertaintySettings | None, threshold: float,
    voxel_ml: float | DoubleArray | None, fitted: bool, doubts: tuple[str, ...], slabs: Slabs | None = None,
) -> Outline:  # fmt: skip
    """Clear what is too small, in place in `gated`, and say how sure the rest is; `fitted`: for this threshold."""
    smallest_ml = 0.0 if settings is None else settings.smallest_ml
    if voxel_ml is not None:
        clear_small(gated, threshold, voxel_ml, smallest_ml)
    if slabs is not None:
        gated, voxel_ml = slabs.give_back(gated, threshold), slabs.slices.voxel_ml
        clear_small(gated, threshold, voxel_ml, smallest_ml)  # an end of a lesion may lie apart from it now
    if settings is None:
        return Outline(gated, to_mask(gated, threshold), None)
    mask, volume_ml = to_mask(gated, threshold), None
    if voxel_ml is not None and fitted:
        volume_ml = float(mask.sum(axis=(1, 2)) @ np.broadcast_to(voxel_ml, len(mask)))
    certainty = estimate_certainty(segmented, volume_ml, bool(mask.any()), settings, doubts)
    if slabs is not None:
        certainty = replace(certainty, slices=tuple(certainty.slices[slab] for slab in slabs.home))
    return Outline(gated, mask, certainty)


def segment_slices(
    hu: AnyArray,
    settings: Preprocessing,
    backend: Backend,
    advance: Callable[[int], None] = ignore,
    pixel_mm: tuple[float, float] | None = None,
    choose_slices: Callable[[Segmented], BoolArray] | None = None,
) -> Segmented:
    """Probability of hemorrhage in every pixel, and what the network says of each slice.

    Args:
        hu: (slice, row, column) in HU.
        advance: called with the number of slices that the network is done with since the last call.
        pixel_mm: (row, column) spacing, None where it is not known.
        choose_slices: called with all that the network says but pixels, which are 0 as yet; returns which slices'
            pixels are wanted, (slice,) bool. The others stay 0 and cost nothing. None: all are wanted.
    """
    inputs, frames = network_input(hu, settings, pixel_mm)
    bones = bone_input(hu, frames, settings)
    asked, answer = _share_air(inputs, neighbour_rows(len(inputs), settings.neighbours))
    answers = []
    for start in range(0, len(asked), _CHUNK):
        answers.append(backend.predict(stack_channels(inputs, bones, settings, asked[start : start + _CHUNK])))
        advance(int(np.count_nonzero((answer >= start) & (answer < start + _CHUNK))))
    small = [one for part in answers for one in part.probability]
    labels = _concatenate([one.labels for one in answers], answer)
    features = _concatenate([one.features for one in answers], answer)
    extent = np.array([one.mean() for one in small], np.float32)[answer]
    segmented = Segmented(np.zeros(hu.shape, np.float32), extent, labels, features)
    for index in range(len(hu)) if choose_slices is None else np.flatnonzero(choose_slices(segmented)):
        enlarged = resize_back(small[answer[index]], frames[index], hu.shape[1:])
        np.clip(enlarged, 0, 1, out=segmented.probability[index])
    return segmented


def _share_air(inputs: FloatArray, channels: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Which slices the network is asked for, and which of its answers is each slice's.

    All slices that show air alone, on themselves and their neighbours, share the first one's answer.
    """
    shows: BoolArray = np.asarray(inputs.any(axis=(1, 2)))
    air = np.asarray(~shows[channels].any(axis=1))
    first, every = int(air.argmax()), np.arange(len(inputs))
    asked = np.flatnonzero(~air | (every == first))
    return asked, np.searchsorted(asked, np.where(air, first, every))


def _concatenate(parts: list[FloatArray | None], answer: AnyArray) -> FloatArray | None:
    given = [one for one in parts if one is not None]
    return np.concatenate(given)[answer] if given else None
