"""What a picture shows, measured for its checks: air, bone, a head, words. It carries neither HU nor places.

What the window cut off is taken for air where it is black and for bone where it is white.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bleedmap.arrays import BoolArray, ByteArray, FloatArray
from bleedmap.geometry import SliceGrid, axial_affine
from bleedmap.preprocess import HEAD_THRESHOLD, TRAINING_VIEW_MM
from bleedmap.study.gate.anatomy import BONE_HU, Anatomy, measure
from bleedmap.volume import Volume
from bleedmap.window import BLACK_GREY, BRAIN, WHITE_GREY, Window

NEAR_BLACK, _NEAR_WHITE = 32, 223
_AIR_HU, _WHITE_HU = -1000.0, 1000.0
_PART = 0.6  # of the largest part: as large is another head; three such are found on one slice, with both hands
_MARK = (0.006, 0.05)  # of the picture's side: a letter's height
_SLICES_LOOKED_AT = 20
_COARSE = 160  # pixels along the longer side, of what is measured on the head's outline


@dataclass(frozen=True)
class HeadLook:
    """The largest thing on a picture, taken for the head.

    `upright`: how much more alike its right and left are than its front and back, and how much longer it is than wide;
    below 0 where it lies on its side.
    """

    side: float  # its longer side over the picture's
    upright: float
    centre: float  # where its centre of area lies from its top, 0, to its bottom, 1: a head is wider at the back
    straight: float  # how wide its four ends are at most, over its width there


@dataclass(frozen=True)
class PictureLook:
    """What one picture shows; shares are of its pixels."""

    name: str  # of its results
    shape: tuple[int, int]  # (rows, columns)
    turned: str  # how it was turned to be upright; '' where it was not
    lit: float  # not black
    highest: int  # its brightest grey
    between: float  # neither black nor white nor nearly so, over what is not black
    bone: float  # white or above 150 HU, over what is not black
    border: tuple[float, float]  # black share of the outermost pixels; white share of those inside black margins
    parts: int  # things of about the size of the largest
    anatomy: Anatomy  # of the slice, in a view of the usual size
    head: HeadLook | None  # None where nothing is large enough
    marks: int  # small bright things outside the head


def measure_picture(name: str, grey: ByteArray, window: Window, turned: str = "") -> PictureLook:
    """Measure a picture (row, column) that was exported in this window."""
    rows, columns = grey.shape
    lit = grey > BLACK_GREY
    lit_count = max(1, int(lit.sum()))
    hu = np.where(lit, window.to_hu(grey), np.float32(_AIR_HU))
    hu[grey >= WHITE_GREY] = _WHITE_HU
    step = max(1, max(rows, columns) // _COARSE)
    small = grey[::step, ::step]
    parts, head = _find_head(small)
    return PictureLook(
        name=name,
        shape=(rows, columns),
        turned=turned,
        lit=float(lit.mean()),
        highest=int(grey.max()),
        between=int(((grey > NEAR_BLACK) & (grey < _NEAR_WHITE)).sum()) / lit_count,
        bone=int((hu > BONE_HU).sum()) / lit_count,
        border=(
            float((_edge(grey) <= NEAR_BLACK).mean()),
            float((_edge(_without_margins(grey)) >= _NEAR_WHITE).mean()),
        ),
        parts=parts,
        anatomy=_measure_anatomy(hu),
        head=None if head is None else _look_at_head(small, head),
        marks=0 if head is None else _count_marks(grey, head, step),
    )


def look_at_heads(volume: Volume, slices: tuple[int, int]) -> list[HeadLook]:
    """Look at the head on some slices of a volume, from the first to the last, as on pictures of it."""
    first, last = slices
    step = max(1, max(volume.hu.shape[1:]) // _COARSE)
    looks = []
    for plane in volume.hu[first : last + 1 : max(1, (last - first) // _SLICES_LOOKED_AT), ::step, ::step]:
        grey = np.asarray(np.rint(255 * BRAIN.to_unit(plane)), np.uint8)
        _, head = _find_head(grey)
        if head is not None:
            looks.append(_look_at_head(grey, head))
    return looks


def _edge(grey: ByteArray) -> ByteArray:
    return np.concatenate([grey[[0, -1]].ravel(), grey[:, [0, -1]].ravel()])


def _without_margins(grey: ByteArray) -> ByteArray:
    """The part that is not black, as a box."""
    rows, columns = (np.flatnonzero((grey > NEAR_BLACK).any(axis=axis)) for axis in (1, 0))
    return grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if rows.size else grey


def _measure_anatomy(hu: FloatArray) -> Anatomy:
    pixel_mm = TRAINING_VIEW_MM / max(hu.shape)
    return measure(Volume(hu[None], SliceGrid.from_affine(axial_affine((5.0, pixel_mm, pixel_mm), hu[None].shape), 1)))


def _find_head(grey: ByteArray) -> tuple[int, BoolArray | None]:
    """How many parts are about as large as the largest, and that one, (row, column), without its holes."""
    labels, count = ndimage.label(ndimage.binary_opening(grey > 255 * HEAD_THRESHOLD))
    if not count:
        return 0, None
    filled = [
        ndimage.binary_fill_holes(labels[box] == number) for number, box in enumerate(ndimage.find_objects(labels), 1)
    ]
    sizes = np.array([one.sum() for one in filled])
    head = np.zeros(grey.shape, np.bool_)
    largest = int(sizes.argmax())
    head[ndimage.find_objects(labels)[largest]] = filled[largest]
    return int((sizes >= _PART * sizes.max()).sum()), head


def _look_at_head(grey: ByteArray, head: BoolArray) -> HeadLook:
    (box,) = ndimage.find_objects(head.astype(np.uint8))
    inside = head[box]
    rows, columns = inside.shape
    around = max(2, round(0.06 * max(rows, columns)))
    shown = np.pad(np.where(inside, grey[box], 0).astype(np.float32), around)
    alike = [
        max(_correlation(shown, np.roll(np.flip(shown, axis), shift, axis)) for shift in range(-around, around + 1, 2))
        for axis in (1, 0)
    ]
    width, height = inside.sum(axis=1), inside.sum(axis=0)
    near_end = [max(1, round(0.012 * one)) for one in (rows, columns)]
    ends = [
        across[at] / across.max()
        for across, depth in ((width, near_end[0]), (height, near_end[1]))
        for at in (min(depth, len(across) - 1), max(-depth - 1, -len(across)))
    ]
    return HeadLook(
        side=max(rows, columns) / max(grey.shape),
        upright=alike[0] - alike[1] + 1 - columns / rows,
        centre=float(width @ (np.arange(rows) + 0.5)) / float(width.sum()) / rows,
        straight=float(max(ends)),
    )


def _correlation(one: FloatArray, other: FloatArray) -> float:
    first, second = one - one.mean(), other - other.mean()
    return float((first * second).sum() / max(float(np.sqrt((first**2).sum() * (second**2).sum())), 1e-9))


def _count_marks(grey: ByteArray, head: BoolArray, step: int) -> int:
    """Bright things outside the head that are as large as letters."""
    rows, columns = grey.shape
    near = ndimage.binary_dilation(head, iterations=3).repeat(step, axis=0).repeat(step, axis=1)[:rows, :columns]
    labels, _ = ndimage.label((grey >= 200) & ~near, np.ones((3, 3)))
    low, high = (share * max(rows, columns) for share in _MARK)
    sides = (max(box[0].stop - box[0].start, box[1].stop - box[1].start) for box in ndimage.find_objects(labels))
    return sum(low <= side <= high for side in sides)
