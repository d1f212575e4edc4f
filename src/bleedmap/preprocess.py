"""HU slices -> network input, and probabilities back to the slices' own grid. The only copy of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from scipy import ndimage

from bleedmap.arrays import AnyArray, DoubleArray, FloatArray
from bleedmap.errors import MissingExtraError, SettingsError
from bleedmap.window import BONE, BRAIN, Window

HEAD_THRESHOLD = 0.1  # of the window: above CSF's noise, below brain; air and fat are black
HEAD_MARGIN = 1.06  # side of the square around the head, over the head's longer side
SMALLEST_FRAME = 0.5  # of the view: near the vertex the frame stops shrinking
STUDY_EDGES = (10, 90)  # percentiles of the slices' own edges: a slice with a hand or a holder does not decide
# CT-ICH's slices are 650 pixels a side, without spacing; their heads are 536 pixels long (median of 82 patients, the
# longest slice, nose included). At 206 mm for such a head the view is 250 mm, 0.385 mm a pixel.
TRAINING_VIEW_MM = 250.0
# The head's longer side over a study's slices: the median of CT-ICH's 36 patients whose pixel size is known (108 to
# 209 mm, children among them). By it a picture's scale is guessed; of those, to a fifth in nine of ten.
HEAD_MM = 186.0
_HEAD_STEP = 4  # pixels: the head is looked for on every fourth row and column
# Rows of a resizing matrix that are multiplied at a time: so few that BLAS starts no threads for them (up to
# 900 pixels a side). Where other processes held the cores, 30 slices took 4.5 s with threads, 0.02 s without.
_BAND_ROWS = 8
_STUDY_BANDS = 2  # kept: a study's slices share their frame, so that its rows and columns are computed once
# Of contrast-limited adaptive histogram equalisation (Zuiderveld 1994, Graphics Gems IV), by OpenCV.
CLIP_LIMIT = 2.0  # of a tile's histogram, over its mean
TILES = 8  # along each side of the slice: OpenCV's own defaults are 40 and 8; 2 is usual for images
_Box = tuple[float, float, float, float]  # first row, first column, end row, end column


@dataclass(frozen=True)
class Preprocessing:
    """How a slice becomes the network's input; carried by every checkpoint and exported model.

    `frame`: 'whole' takes the whole slice, as the thesis does; 'head' a square around the slice's head; 'study' one
    square around the head of all slices, so that neighbours lie on each other.
    `frame_mm`: side of the square around a study's head, so that the network sees true sizes (more for a larger head);
    0: the square fits the head.
    `bone`: whether the network sees the HU above the brain window of the slice that it outlines, too; for a picture,
    which has none, this channel is 0.
    """

    size: int = 256  # rows and columns of the input
    frame: Literal["whole", "head", "study"] = "whole"
    window: Window = BRAIN  # the HU window that spans 0 to 1
    clahe: bool = False  # whether the windowed slice's histogram is equalised (`equalise`)
    neighbours: int = 0  # slices on each side that the network sees beside the one that it outlines
    frame_mm: float = 0.0
    bone: bool = False
    mirrored: bool = False  # whether it sees that slice's mirror image, too: what differs from side to side stands out

    def __post_init__(self) -> None:
        fits = 32 <= self.size <= 1024 and self.frame in ("whole", "head", "study")
        of_studies = self.neighbours or self.frame_mm or self.bone or self.mirrored
        sized = self.frame_mm == 0 or 50 <= self.frame_mm <= 1000
        if not fits or not sized or not 0 <= self.neighbours <= 3 or (of_studies and self.frame != "study"):
            raise SettingsError(
                "preprocessing",
                found=f"size {self.size}, frame '{self.frame}', neighbours {self.neighbours}, frame_mm "
                f"{self.frame_mm:g}, bone {self.bone}, mirrored {self.mirrored}",
                needed="a size of 32 to 1024 pixels, frame 'whole', 'head' or 'study', and neighbours (0 to 3), a "
                "frame of 50 to 1000 mm, bone and mirror image in frame 'study' only",
                remedy="use --size 256 --frame whole for the thesis' own",
            )

    @property
    def channels(self) -> int:
        """Pictures that the network sees at a time: slices, then bone, then the mirror image."""
        return 2 * self.neighbours + 1 + self.bone + self.mirrored


@dataclass(frozen=True)
class Frame:
    """A square of the anatomy, in the slice's pixels: corner (row, column), height in rows and width in columns.

    The two differ where pixels are not square. It may reach beyond the slice.
    """

    row: float
    column: float
    height: float
    width: float


def network_input(
    hu: AnyArray, settings: Preprocessing, pixel_mm: tuple[float, float] | None = None
) -> tuple[FloatArray, list[Frame]]:
    """Window, frame and resize slices.

    Args:
        hu: (slice, row, column) in HU.
        pixel_mm: (row, column) spacing, so that anatomy gets the size that the network saw; None where it is not
            known: then the slice is taken for a view like that of the training pictures.

    Returns:
        Input (slice, size, size) float32 in 0 to 1, by exact area averaging; and each slice's frame. `stack_channels`
        makes the channels of it, and of `bone_input`.
    """
    inputs = np.empty((len(hu), settings.size, settings.size), np.float32)
    frames = []
    shared = None
    if settings.frame == "study" and len(hu):
        shared = study_frame(hu, settings.window, pixel_mm, settings.frame_mm)
    for index, one in enumerate(hu):
        unit = settings.window.to_unit(one)
        if shared is not None:
            frame = shared
        elif settings.frame == "head":
            frame = head_frame(unit, pixel_mm)
        elif pixel_mm is None:
            frame = whole_frame(unit.shape)
        else:
            frame = _training_view(_head_box(unit), unit.shape, pixel_mm)
        inputs[index] = resize_into(equalise(unit) if settings.clahe else unit, frame, settings.size)
        frames.append(frame)
    return inputs, frames


def equalise(unit: FloatArray) -> FloatArray:
    """Equalise the histogram of a windowed slice (row, column) in 0 to 1, in 256 grey levels; shape and range stay.

    The 2021 thesis tried it and rejected it by eye: lesions come to look like bone. Off everywhere by default, and so
    OpenCV, which few need, is loaded late.

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


def bone_input(hu: AnyArray, frames: Sequence[Frame], settings: Preprocessing) -> FloatArray | None:
    """What lies above the brain window: (slice, size, size) float32 in 0 to 1; None where the network sees none.

    Args:
        hu: (slice, row, column) in HU.
        frames: of `network_input`.
    """
    if not settings.bone:
        return None
    units = (BONE.to_unit(one) for one in hu)
    found = [resize_into(one, frame, settings.size) for one, frame in zip(units, frames, strict=True)]
    return np.stack(found) if found else np.empty((0, settings.size, settings.size), np.float32)


def stack_channels(inputs: AnyArray, bones: AnyArray | None, settings: Preprocessing, rows: AnyArray) -> AnyArray:
    """What the network gets for some slices of a study.

    Args:
        inputs: (slice, side, side) of the whole study, feet first.
        bones: the same shape, `bone_input`.
        rows: (n,) the slices asked for.

    Returns:
        (n, channels, side, side): neighbours (ends repeat themselves), then bone, then the mirror image.
    """
    parts = [inputs[neighbour_rows(len(inputs), settings.neighbours)[rows]]]
    if settings.bone:
        assert bones is not None
        parts.append(bones[rows][:, None])
    if settings.mirrored:
        parts.append(inputs[rows][:, None, :, ::-1])
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def neighbour_rows(slices: int, neighbours: int) -> AnyArray:
    """(slice, channels): which slices the channels of each are."""
    rows = np.arange(slices)[:, None] + np.arange(-neighbours, neighbours + 1)
    return np.asarray(np.clip(rows, 0, slices - 1))


def study_frame(
    hu: AnyArray, window: Window, pixel_mm: tuple[float, float] | None = None, frame_mm: float = 0.0
) -> Frame:
    """One square around the head of a whole study.

    Args:
        hu: (slice, row, column) in HU.
        window: what shows the head.
        pixel_mm: as `head_frame`.
        frame_mm: the least side of the square, in mm, in place of one that fits the head; 0: it fits. Where `pixel_mm`
            is not known, the head is taken to be `HEAD_MM` long.
    """
    box = _study_box(hu, window)
    if box is None:
        return _frame_of(None, hu.shape[1:], pixel_mm)
    if not frame_mm:
        return _square(box, hu.shape[1:], pixel_mm)
    row_mm, column_mm = pixel_mm or _guess_of(box)
    side = max(frame_mm, HEAD_MARGIN * max((box[2] - box[0]) * row_mm, (box[3] - box[1]) * column_mm))
    return _around(box, (side / row_mm, side / column_mm))


def guess_pixel_mm(hu: AnyArray, window: Window) -> tuple[float, float] | None:
    """(row, column) spacing of a study's square pixels, if its head is as long as most; None without a head."""
    box = _study_box(hu, window)
    return None if box is None else _guess_of(box)


def _guess_of(box: _Box) -> tuple[float, float]:
    guess = HEAD_MM / max(box[2] - box[0], box[3] - box[1])
    return guess, guess


def _study_box(hu: AnyArray, window: Window) -> _Box | None:
    """Around the head of a whole study, but for the slices at either end of the sizes."""
    step = _head_step(hu.shape[1:])
    boxes = [box for one in hu if (box := _largest_part(window.to_unit(one[::step, ::step]), step)) is not None]
    if not boxes:
        return None
    low, high = np.percentile(np.array(boxes), STUDY_EDGES, axis=0)
    return float(low[0]), float(low[1]), float(high[2]), float(high[3])


def whole_frame(shape: tuple[int, ...]) -> Frame:
    """The smallest square that holds a slice of `shape` (rows, columns), centred on it."""
    rows, columns = shape
    side = max(rows, columns)
    return Frame((rows - side) / 2, (columns - side) / 2, side, side)


def _training_view(box: _Box | None, shape: tuple[int, ...], pixel_mm: tuple[float, float]) -> Frame:
    """A square of the training pictures' view, 250 mm a side, centred on the head; on the slice where there is none."""
    centred_on = box or (0, 0, shape[0], shape[1])
    return _around(centred_on, (TRAINING_VIEW_MM / pixel_mm[0], TRAINING_VIEW_MM / pixel_mm[1]))


def head_frame(unit: FloatArray, pixel_mm: tuple[float, float] | None = None) -> Frame:
    """A square around the head; the whole view where there is none.

    Args:
        unit: (row, column), 0 to 1 in the brain window. Table, hands and holders are smaller than the head.
        pixel_mm: (row, column) spacing; None where it is not known, then pixels are square and the slice is the view.
    """
    return _frame_of(_head_box(unit), unit.shape, pixel_mm)


def _frame_of(box: _Box | None, shape: tuple[int, ...], pixel_mm: tuple[float, float] | None) -> Frame:
    if box is not None:
        return _square(box, shape, pixel_mm)
    return whole_frame(shape) if pixel_mm is None else _training_view(None, shape, pixel_mm)


def _square(box: _Box, shape: tuple[int, ...], pixel_mm: tuple[float, float] | None) -> Frame:
    """The head's margin around a box; never smaller than a part of the view."""
    row_mm, column_mm = pixel_mm or (1.0, 1.0)
    view = max(shape) if pixel_mm is None else TRAINING_VIEW_MM
    longer = max((box[2] - box[0]) * row_mm, (box[3] - box[1]) * column_mm)
    side = max(HEAD_MARGIN * longer, SMALLEST_FRAME * view)
    return _around(box, (side / row_mm, side / column_mm))


def _around(box: _Box, size: tuple[float, float]) -> Frame:
    """The frame of (height, width) whose centre is that of a box (first row, first column, end row, end column)."""
    (height, width), centre = size, ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    return Frame(centre[0] - height / 2, centre[1] - width / 2, height, width)


def _head_box(unit: FloatArray) -> _Box | None:
    """First row, first column, end row and end column of the largest connected part of a windowed slice."""
    step = _head_step(unit.shape)
    return _largest_part(unit[::step, ::step], step)


def _head_step(shape: tuple[int, ...]) -> int:
    return _HEAD_STEP if min(shape) > 32 * _HEAD_STEP else 1


def _largest_part(unit: FloatArray, step: int) -> _Box | None:
    """`_head_box` of a slice of which every `step`th row and column is given."""
    labels, count = ndimage.label(ndimage.binary_opening(unit > HEAD_THRESHOLD))
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    rows, columns = ndimage.find_objects(labels)[sizes.argmax() - 1]
    return rows.start * step, columns.start * step, rows.stop * step, columns.stop * step


def resize_into(array: AnyArray, frame: Frame, size: int) -> FloatArray:
    """The frame's part of (row, column), area-averaged to (size, size); beyond the slice is 0."""
    rows = _area_bands(array.shape[0], frame.row, frame.height, size)
    columns = _area_bands(array.shape[1], frame.column, frame.width, size)
    return _resized(np.asarray(array, np.float32), rows, columns, (size, size))


def resize_back(probability: FloatArray, frame: Frame, shape: tuple[int, int]) -> FloatArray:
    """The network's (size, size) -> the slice's own (rows, columns), linear; 0 outside the frame."""
    size = len(probability)
    rows = _linear_bands(shape[0], frame.row, frame.height, size)
    columns = _linear_bands(shape[1], frame.column, frame.width, size)
    return _resized(probability, rows, columns, shape)


class _Band(NamedTuple):
    """Some rows of a matrix, without the columns at which all of them are 0."""

    rows: slice  # where it lies in the matrix
    columns: slice
    weights: FloatArray  # (rows, columns)


def _bands(matrix: FloatArray) -> tuple[_Band, ...]:
    """A matrix in bands: each row of ours has a few weights side by side, so that the bands are small."""
    bands = []
    for start in range(0, len(matrix), _BAND_ROWS):
        rows = slice(start, min(start + _BAND_ROWS, len(matrix)))
        used = np.flatnonzero(matrix[rows].any(axis=0))
        if used.size:
            columns = slice(int(used[0]), int(used[-1]) + 1)
            bands.append(_Band(rows, columns, np.ascontiguousarray(matrix[rows, columns])))
    return tuple(bands)


def _resized(
    array: FloatArray, rows: tuple[_Band, ...], columns: tuple[_Band, ...], shape: tuple[int, int]
) -> FloatArray:
    """`rows` @ array @ `columns`.T, float32 of `shape`."""
    between, resized = np.zeros((shape[0], array.shape[1]), np.float32), np.zeros(shape, np.float32)
    for band in rows:
        np.matmul(band.weights, array[band.columns], out=between[band.rows])
    for band in columns:
        np.matmul(between[:, band.columns], band.weights.T, out=resized[:, band.rows])
    return resized


@lru_cache(maxsize=_STUDY_BANDS)
def _area_bands(length: int, start: float, side: float, size: int) -> tuple[_Band, ...]:
    """(size, length): row i averages the pixels that cell i of the frame covers, by covered length."""
    edges = start + np.arange(size + 1) * (side / size)
    low, high = edges[:-1, None], edges[1:, None]
    pixel = np.arange(length)
    covered = np.minimum(high, pixel + 1) - np.maximum(low, pixel)
    return _bands(np.asarray(np.clip(covered, 0, None) / (side / size), dtype=np.float32))


@lru_cache(maxsize=_STUDY_BANDS)
def _linear_bands(length: int, start: float, side: float, size: int) -> tuple[_Band, ...]:
    """(length, size): pixel centres between cell centres, linear; rows outside the frame are 0."""
    position = (np.arange(length) + 0.5 - start) * (size / side)  # in cells, 0 to size inside the frame
    inside = (position >= 0) & (position <= size)
    nearest: DoubleArray = np.clip(position - 0.5, 0, size - 1)
    weights = np.clip(1 - np.abs(nearest[:, None] - np.arange(size)), 0, None)
    return _bands(np.asarray(weights * inside[:, None], dtype=np.float32))
