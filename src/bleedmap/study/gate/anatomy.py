"""What the voxels show of a head, measured on a coarse grid: the cavity that bone surrounds, the body's outline.

A cranial cavity is soft tissue that has bone on at least three of its four sides, so that a skull with a piece taken
out still counts, and whose rim lies along bone. Jaw, neck and chest have bone on three sides too, but not along
the rim; only a tongue behind a full row of teeth is taken for a cavity, of 75 cm² at the most.
"""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from scipy import ndimage

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray, FloatArray
from bleedmap.geometry import SliceGrid
from bleedmap.volume import Volume

# The values below are set on CT-ICH's 82 patients (`python tests/support/ct_ich_gate.py FOLDER`), a newborn among them.
BONE_HU = 150.0  # at 250 HU the newborn's skull is gone (cavity 0 of 19 slices); brain and fresh blood stay below 100
SOFT_HU = (-50.0, 150.0)  # brain, CSF and blood with their noise; fat, air and bone are out
BODY_HU = -300.0  # halfway from air to fat and beyond; a foam pillow stays below
PADDING_HU = -1100.0  # below air by more than noise: filled in, not measured
LEAST_RIM = 0.66  # of the rim along bone: brain mostly 0.7 to 1.0, jaw and neck 0.2 to 0.7, with all teeth 0.86
LEAST_CAVITY_CM2 = 10.0  # below: a spinal canal, a foramen, the very vertex
_COARSE_MM = 1.8  # between the pixels looked at
_COARSE_SLICE_MM = 2.5
_RIM_MM = 4.0  # how near bone the rim must lie: two coarse pixels
_BRIDGED_MM = 15.0  # the cavity may fail to be seen this far, where petrous bone and orbits break its rim
_IN_PLANE = np.zeros((3, 3, 3), np.bool_)
_IN_PLANE[1] = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
AIR_HU = -700.0  # below: air with its noise; lung lies above, and CT-ICH's bone window shows no less than -900
DENSE_BONE_HU = 300.0  # above: bone; no soft tissue or blood, and few calcifications of 5 mm slices
METAL_HU = 3000.0  # above any bone; 12-bit scanners store no more than 3071
_EVERY = 4  # slices are looked at on every fourth row and column
_CONSTANT_HU = 1.0
# A slice that was filled in from some line on: the head is wide there, not much wider 10 mm inwards, and wide in a
# neighbour 10 mm outwards. On CT-ICH none of 82 patients is called so.
_CUT_WIDTH_MM, _CUT_MM, _CUT_SHARE = 60.0, 10.0, 0.75
# A slice unlike its neighbours: they correlate with each other better than with it, though they lie twice as far apart.
# By how much more; on CT-ICH at most -0.009. Of slices replaced there by one 40 mm away or of another patient,
# nine in ten lie above, of those shifted by 24 mm 97 %, of mirrored ones 80 % (by hand).
_UNLIKE, _COMPARED_HU = 0.02, (-200.0, 300.0)
_STEP_SLICES, _STEP_VALUES = 20, 20  # about as many slices tell the step, and each by at least as many values


@dataclass(frozen=True, eq=False)
class Anatomy:
    """Measurements of a volume. Slices are indices from 0.

    `lowest_share`: what bone closes in all around on the first slice that is not blank, over the largest area: small at
    the foramen magnum and below.
    `highest_share`: the cavity's area on the last slice that is not blank, over the largest; 0 where it does not reach
    there.
    `outline_mm`: (length, width) of the largest body on any slice with cavity, or on any slice; 0 without one.
    """

    cavity: tuple[int, int] | None  # first and last slice of the cranial cavity; None where no slice shows one
    cavity_ml: float  # soft tissue in it
    largest_cm2: float  # its area on the slice where that is largest
    lowest_share: float
    highest_share: float
    brain_hu: float | None  # median in the cavity; None without one
    spread_hu: float | None  # 1.4826 times the median distance from it: grey, white and CSF apart, and the noise
    outline_mm: tuple[float, float]
    cut_mm: float  # how much of the body's edge lies at the border of the picture, on the slice with cavity where most
    cut_slices: int  # on how many of the slices looked at it does so
    middle_hu: float  # median of the volume's middle third along each axis, whatever it shows
    below_mm: float  # from the volume's first slice up to the cavity


@dataclass(frozen=True, eq=False)
class Coarse:
    """Every few slices, rows and columns of a volume."""

    hu: FloatArray
    numbers: AnyArray  # the volume's slice that each of ours is
    slice_ml_per_cm2: DoubleArray  # what each of ours stands for
    steps: tuple[int, int, int]
    pixel_mm: tuple[float, float]

    @property
    def pixel_cm2(self) -> float:
        return self.pixel_mm[0] * self.pixel_mm[1] / 100


@dataclass(frozen=True, eq=False)
class Cavity:
    """Soft tissue that bone surrounds, on a volume's coarse grid."""

    coarse: Coarse  # the grid
    inside: BoolArray  # (slice, row, column) bool, the largest such part of each slice, without holes of a pixel or two
    soft: BoolArray  # likewise, what in it is soft
    area_cm2: DoubleArray  # (slice,) its area; 0 where its rim is not bone
    shown: BoolArray  # (slice,) whether it is the cranial cavity; below lie jaw and neck


_FOUND: WeakKeyDictionary[Volume, Cavity] = WeakKeyDictionary()  # the gate looks first, the lesions' measures again


def find_cavity(volume: Volume) -> Cavity:
    """Find the cranial cavity of a volume in the standard view: slices feet to head."""
    if volume not in _FOUND:
        coarse = _coarse(volume.hu, volume.grid)
        inside, soft, area_cm2 = _cavities(coarse)
        _FOUND[volume] = Cavity(coarse, inside, soft, area_cm2, _cranial(coarse, area_cm2))
    return _FOUND[volume]


def measure(volume: Volume) -> Anatomy:
    """Measure a volume in the standard view: slices feet to head."""
    cavity = find_cavity(volume)
    coarse, area_cm2, shown = cavity.coarse, cavity.area_cm2, cavity.shown
    inside = coarse.hu[cavity.soft & shown[:, None, None]]
    median = float(np.median(inside)) if inside.size else None
    found = np.flatnonzero(shown)
    outline_mm, at_border_mm = _outline(coarse, found if found.size else np.arange(len(shown)))
    largest = float(area_cm2[shown].max()) if found.size else 0.0
    lit = np.flatnonzero(_lit(coarse.hu))
    ends = (int(lit[0]), int(lit[-1])) if lit.size else (0, -1)  # blank slices beyond hide no cut
    span = (int(coarse.numbers[found[0]]), int(coarse.numbers[found[-1]])) if found.size else None
    return Anatomy(
        cavity=span,
        cavity_ml=float((area_cm2 * shown) @ coarse.slice_ml_per_cm2),
        largest_cm2=largest,
        lowest_share=_closed_cm2(coarse, ends[0]) / largest if largest else 0.0,
        highest_share=float(area_cm2[ends[1]] / largest) if shown[ends[1]] else 0.0,
        brain_hu=median,
        spread_hu=None if median is None else float(1.4826 * np.median(np.abs(inside - median))),
        outline_mm=outline_mm,
        cut_mm=float(at_border_mm.max()),
        cut_slices=int((at_border_mm > 0).sum()),
        middle_hu=float(np.median(coarse.hu[tuple(slice(n // 3, n - n // 3) for n in coarse.hu.shape)])),
        below_mm=float(volume.grid.heights_mm[span[0]]) if span else 0.0,
    )


def _coarse(hu: FloatArray, grid: SliceGrid) -> Coarse:
    between_mm, *pixel_mm = grid.spacing_mm
    rows, columns = (
        int(np.clip(round(_COARSE_MM / mm), 1, max(1, count // 32)))
        for mm, count in zip(pixel_mm, hu.shape[1:], strict=True)
    )
    step = int(np.clip(round(_COARSE_SLICE_MM / between_mm), 1, max(1, len(hu) // 8)))
    numbers = np.arange(0, len(hu), step)
    extents_mm = np.add.reduceat(grid.extents_mm, numbers)
    return Coarse(
        np.ascontiguousarray(hu[::step, ::rows, ::columns]),
        numbers,
        np.asarray(extents_mm / 10, np.float64),
        (step, rows, columns),
        (pixel_mm[0] * rows, pixel_mm[1] * columns),
    )


def _cavities(coarse: Coarse) -> tuple[BoolArray, BoolArray, DoubleArray]:
    """On each slice the largest part that bone surrounds, what in it is soft, and its area in cm²; 0 where its rim is
    not bone."""
    bone = coarse.hu > BONE_HU
    soft = (coarse.hu > SOFT_HU[0]) & (coarse.hu < SOFT_HU[1])
    part = largest_part(_shrunk(grow(_grown_shrunk(soft & _surrounded(bone)), 2), 2))
    near = grow(bone, max(1, round(_RIM_MM / min(coarse.pixel_mm))))
    rim = part & ~_shrunk(part, 1)
    along_bone = (rim & near).sum(axis=(1, 2)) / np.maximum(rim.sum(axis=(1, 2)), 1)
    soft &= part
    area_cm2 = soft.sum(axis=(1, 2)) * coarse.pixel_cm2
    return part, soft, np.asarray(area_cm2 * (along_bone >= LEAST_RIM), np.float64)


def _surrounded(bone: BoolArray) -> BoolArray:
    """Whether bone lies on at least three of the four sides: front, back, right, left, in the slice."""
    sides = np.zeros(bone.shape, np.uint8)
    for axis in (1, 2):
        some, count = bone.any(axis=axis, keepdims=True), bone.shape[axis]
        place = np.arange(count, dtype=np.int16).reshape((-1, 1) if axis == 1 else (1, -1))
        first = np.where(some, bone.argmax(axis=axis, keepdims=True), count).astype(np.int16)
        last = np.where(some, count - 1 - np.flip(bone, axis).argmax(axis=axis, keepdims=True), -1).astype(np.int16)
        sides += place >= first
        sides += place <= last
    return np.asarray((sides >= 3) & ~bone)


def _cranial(coarse: Coarse, area_cm2: DoubleArray) -> BoolArray:
    """(slice,) which slices show the cranial cavity: the run of most volume, with short breaks."""
    order = np.cumsum(_lit(coarse.hu))  # blank slices break no run
    found = np.flatnonzero(area_cm2 >= LEAST_CAVITY_CM2)
    if not found.size:
        return np.zeros(len(area_cm2), np.bool_)
    bridged = max(1, round(_BRIDGED_MM / (10 * float(np.median(coarse.slice_ml_per_cm2)))))
    runs = np.split(found, np.flatnonzero(np.diff(order[found]) > bridged + 1) + 1)
    chosen = max(runs, key=lambda run: float(area_cm2[run] @ coarse.slice_ml_per_cm2[run]))
    shown = np.zeros(len(area_cm2), np.bool_)
    shown[chosen] = True
    return shown


def _lit(hu: FloatArray) -> BoolArray:
    """(slice,) whether slices show more than air, or one value that was filled in."""
    tops, bottoms = hu.max(axis=(1, 2)), hu.min(axis=(1, 2))
    return np.asarray((tops >= BODY_HU) & (tops - bottoms >= _CONSTANT_HU))


def _closed_cm2(coarse: Coarse, index: int) -> float:
    """Area of the largest part of one slice that bone closes in all around, but for holes of a pixel or two."""
    open_to_all = ~grow(coarse.hu[[index]] > BONE_HU, 1)
    outside = np.pad(open_to_all, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    labels, _ = ndimage.label(outside, _IN_PLANE)
    inside = largest_part((labels != labels[0, 0, 0]) & outside)
    return float(grow(inside, 1).sum() * coarse.pixel_cm2)


def _outline(coarse: Coarse, among: AnyArray) -> tuple[tuple[float, float], DoubleArray]:
    """(length, width) of the largest body on the slices `among`, and how many mm of it lie at each one's border."""
    hu = coarse.hu[among]
    body = largest_part(_grown_shrunk(hu > BODY_HU))
    length, width = (
        float(body.any(axis=axis).sum(axis=1).max() * mm) for axis, mm in zip((2, 1), coarse.pixel_mm, strict=True)
    )
    edge = grow(hu < PADDING_HU, 1)
    edge[:, [0, -1]] = edge[:, :, [0, -1]] = True
    return (length, width), (body & edge).sum(axis=(1, 2)) * float(np.mean(coarse.pixel_mm))


def largest_part(mask: BoolArray) -> BoolArray:
    """(slice, row, column): of each slice's connected parts the one of most pixels."""
    labels, count = ndimage.label(mask, _IN_PLANE)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    last = np.maximum.accumulate(labels.max(axis=(1, 2)))  # parts are numbered slice by slice
    first = np.append(0, last[:-1]) + 1
    best = [lo + int(sizes[lo : hi + 1].argmax()) if hi >= lo else -1 for lo, hi in zip(first, last, strict=True)]
    return np.asarray(labels == np.array(best)[:, None, None])


def grow(mask: BoolArray, pixels: int) -> BoolArray:
    """Grown in the slice by some pixels each way, squarely."""
    grown = mask.copy()
    for _ in range(pixels):
        wide = grown.copy()
        wide[:, 1:] |= grown[:, :-1]
        wide[:, :-1] |= grown[:, 1:]
        grown = wide.copy()
        grown[:, :, 1:] |= wide[:, :, :-1]
        grown[:, :, :-1] |= wide[:, :, 1:]
    return grown


def _shrunk(mask: BoolArray, pixels: int) -> BoolArray:
    """Shrunk in the slice by some pixels each way; beyond the border counts as inside."""
    return ~grow(~mask, pixels)


def _grown_shrunk(mask: BoolArray) -> BoolArray:
    """Without what is thinner than three pixels: skin folds, headrests, noise."""
    return grow(_shrunk(mask, 1), 1)


@dataclass(frozen=True)
class Values:
    """Measurements of a volume's HU."""

    lowest: float  # of all voxels
    highest: float  # of all voxels
    air_share: float  # of the voxels that are no padding, below -700 HU
    air_hu: float | None  # the air's median; None where there is none
    bone_share: float  # of the voxels that are no padding, above 300 HU
    padding_share: float  # of all voxels, below -1100 HU
    metal_ml: float  # above 3000 HU
    blank: tuple[int, ...]  # indices of slices of one value, or without anything denser than air
    cut: tuple[int, ...]  # indices of slices whose head ends at lines of one value, and goes on in a neighbour
    unlike: tuple[int, ...]  # indices of other slices that fit between none of their neighbours
    repeated: tuple[int, ...]  # indices of other slices whose voxels are all those of the slice below
    step_hu: float  # between one value and the next, on most slices; 0 where too few values tell


def measure_values(volume: Volume) -> Values:
    """Measure a volume; lowest, highest and metal on all voxels, the rest on every fourth row and column."""
    hu = np.ascontiguousarray(volume.hu[:, ::_EVERY, ::_EVERY])
    highest = float(volume.hu.max())
    real = hu[hu >= PADDING_HU]
    air = real[real < AIR_HU]
    blank, cut = tuple(int(index) for index in np.flatnonzero(~_lit(hu))), _find_cut(volume)
    dense = np.array([int((plane > METAL_HU).sum()) if highest > METAL_HU else 0 for plane in volume.hu])
    return Values(
        lowest=float(volume.hu.min()),
        highest=highest,
        air_share=air.size / max(1, real.size),
        air_hu=float(np.median(air)) if air.size else None,
        bone_share=int((real > DENSE_BONE_HU).sum()) / max(1, real.size),
        padding_share=1 - real.size / hu.size,
        metal_ml=float(dense @ volume.grid.voxel_ml),
        blank=blank,
        cut=cut,
        unlike=tuple(index for index in _find_unlike(hu) if index not in cut),
        repeated=tuple(index for index in _find_repeated(volume.hu, hu) if index not in blank),
        step_hu=_find_step_hu(hu[:: max(1, len(hu) // _STEP_SLICES)]),
    )


def _find_cut(volume: Volume) -> tuple[int, ...]:
    """Find slices of which a part was filled in: from an edge on, all lines are of one value, then comes a wide head.

    A round head begins narrow, and a flat headrest is flat in the neighbours too: these must show the head further on.
    """
    last = len(volume.hu) - 1
    return tuple(
        index
        for index, plane in enumerate(volume.hu)
        if any(
            _ends_in_filling(plane, volume.hu[[max(index - 1, 0), min(index + 1, last)]], volume.grid, axis, turn)
            for axis in (0, 1)
            for turn in (1, -1)
        )
    )


def _ends_in_filling(plane: FloatArray, beside: FloatArray, grid: SliceGrid, axis: int, turn: int) -> bool:
    """Whether the head ends where a slice's lines, from one edge on, are of one value. `axis`: 0 for rows."""
    line_mm, pixel_mm = grid.spacing_mm[1 + axis], grid.spacing_mm[2 - axis]
    lines = np.moveaxis(plane, axis, 0)[::turn, ::_EVERY]
    run, further = 0, max(1, round(_CUT_MM / line_mm))
    while run < len(lines) and np.ptp(lines[run]) < _CONSTANT_HU:
        run += 1
    if not further <= run < len(lines):
        return False
    others = np.moveaxis(beside, 1 + axis, 1)[:, ::turn, ::_EVERY][:, run - further]
    at_end, inside = (int((lines[one] > BODY_HU).sum()) for one in (run, min(run + further, len(lines) - 1)))
    wide = _CUT_WIDTH_MM / (pixel_mm * _EVERY)
    return bool(wide <= at_end >= _CUT_SHARE * inside and (others > BODY_HU).sum(axis=1).max() >= wide)


def _find_unlike(hu: FloatArray) -> tuple[int, ...]:
    """Find slices that are damaged, moved or of another place, one at a time; blank ones are passed over.

    Of several such slices side by side those that resemble each other are not found.
    """
    order = np.flatnonzero(_lit(hu))
    if len(order) < 3:
        return ()
    flat = np.clip(hu[order], *_COMPARED_HU).reshape(len(order), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    next_to, across = (np.einsum("ij,ij->i", flat[:-by], flat[by:]) for by in (1, 2))
    unlike = across - np.maximum(next_to[:-1], next_to[1:]) > _UNLIKE
    return tuple(int(index) for index in order[1:-1][unlike])


def _find_repeated(whole: FloatArray, coarse: FloatArray) -> tuple[int, ...]:
    """Find slices that repeat the one below; few need to be compared whole."""
    return tuple(
        index
        for index in range(1, len(whole))
        if all(np.array_equal(hu[index], hu[index - 1]) for hu in (coarse, whole))
    )


def _find_step_hu(hu: FloatArray) -> float:
    """Find how far apart neighbouring values are at the densest, but for a few that were clipped or filled in.

    Slices that were rescaled apart have values of their own.
    """
    values = (np.unique(plane) for plane in hu)
    steps = [float(np.quantile(np.diff(one), 0.1)) for one in values if len(one) >= _STEP_VALUES]
    return float(np.median(steps)) if steps else 0.0
