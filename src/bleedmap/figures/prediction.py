"""A prediction beside its reference: the thesis' Figure 4, a slice with both outlines; whether it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from bleedmap.arrays import BoolArray, ByteArray, FloatArray
from bleedmap.datasets.ct_ich import CtIch, SliceRecord
from bleedmap.datasets.splits import SIDES, Split, read_split
from bleedmap.figures import style
from bleedmap.figures.samples import types_in_words, types_spelled_out
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.outline import outline_slices
from bleedmap.inference.weights import WeightsFile
from bleedmap.metrics import overlap
from bleedmap.postprocess import to_mask
from bleedmap.preprocess import head_frame
from bleedmap.results.overlay import SCALE_START, blend, colours
from bleedmap.window import BRAIN

MOST = 6  # rows of a page
_HEADS = ("slice", "reference", "prediction", "probability over slice")
_NAMES_MM, _SIDE_MM, _GAP_MM, _HEAD_MM, _BAR_MM = 27.0, 34.0, 1.2, 5.0, 2.6

# Sky blue and orange, the pair of the palette that no common colour blindness brings together, bright on a grey slice.
REFERENCE, PREDICTION = style.PALETTE[4], style.PALETTE[5]
_LINE = 3  # pixels of the finished picture
_BETWEEN = 6  # pixels between the two halves


@dataclass(frozen=True, eq=False)
class PredictedSlice:
    """One row of the figure, all arrays (row, column) on the slice's own grid."""

    record: SliceRecord  # which slice
    unit: FloatArray  # the slice, 0 to 1 in the brain window
    reference: BoolArray  # the radiologists' mask
    probability: FloatArray  # the network's, float32 in 0 to 1
    standing: str  # what the slice was to the network: "test side", "unseen patient"
    trained_on: bool  # whether the network learned from this patient


def find_split(dataset: CtIch, weights: WeightsFile, given: Path | None) -> Split | None:
    """Read the given split and check it against the data; else the weights' own, if the data are of its release.

    Raises:
        SplitError: the given split is of other data.
    """
    if given is not None:
        split = read_split(given)
        split.check_against(dataset)
        return split
    file = weights.path.with_suffix(".split.json")
    own = read_split(file) if file.is_file() else None
    return own if own is not None and own.release == dataset.release else None


def find_unseen(dataset: CtIch, weights: WeightsFile, split: Split | None) -> list[SliceRecord]:
    """Lesion slices of the test side; without a split, of patients not trained on; all slices if none is left."""
    trained = set(weights.record.get("trained_patients", ()))

    def is_unseen(record: SliceRecord) -> bool:
        return _side(record, split) == "test" if split is not None else _patient(record) not in trained

    return [one for one in dataset.slices if one.has_lesion and is_unseen(one)] or list(dataset.slices)


def predict_slices(
    dataset: CtIch, chosen: Sequence[SliceRecord], weights: WeightsFile, split: Split | None
) -> list[PredictedSlice]:
    """What the network says of slices; one that sees whole studies is given the patient's other slices too."""
    backend, shown = OpenVinoBackend(weights), []
    for record in chosen:
        studied = [record]
        if weights.preprocessing.frame == "study":
            studied = [one for one in dataset.slices if one.patient == record.patient]
        hu = np.stack([dataset.read_hu(one) for one in studied])
        at = studied.index(record)
        probability = outline_slices(hu, weights, backend).probability[at]
        standing, trained_on = _standing(record, weights, split)
        shown.append(
            PredictedSlice(record, BRAIN.to_unit(hu[at]), dataset.read_mask(record), probability, standing, trained_on)
        )
    return shown


def _standing(record: SliceRecord, weights: WeightsFile, split: Split | None) -> tuple[str, bool]:
    """What a slice was to the network, in words, and whether its patient was trained on."""
    trained = weights.record.get("trained_patients")
    side = _side(record, split) if split else None
    words = [f"{side} side" if side else "in no side"] if split else []
    if trained is None:
        return ", ".join([*words, "training patients unknown"]), False
    if _patient(record) in trained:
        return ", ".join([*words, "patient trained on"]), True
    return ", ".join(words or ["unseen patient"]), False


def _side(record: SliceRecord, split: Split) -> str | None:
    """The side that a slice stands on; in a split by patient, with all slices of its patient."""
    if split.kind == "patient":
        return next((side for side in SIDES if _patient(record) in split.patients(side)), None)
    return next((side for side in SIDES if record.id in split.side(side)), None)


def _patient(record: SliceRecord) -> str:
    return record.id.split("/")[0]


def score_in_words(reference: BoolArray, prediction: BoolArray) -> str:
    """ "Dice 0.83"; the pixels marked where the reference is empty, for Dice says nothing there."""
    if not reference.any():
        return f"{prediction.sum():,} pixels marked"
    return f"Dice {overlap.dice(overlap.count(reference[None], prediction[None]), empty=0)[0]:.2f}"


def prediction(shown: Sequence[PredictedSlice], network: str, threshold: float) -> Figure:
    """A row for each of 1 to `MOST` slices; the caption names the weights, `network`, and the threshold."""
    height_mm = _HEAD_MM + len(shown) * (_SIDE_MM + _GAP_MM)
    with mpl.rc_context(style.SETTINGS):
        figure = style.page(height_mm, _caption(shown, network, threshold))
        lefts_mm = [_NAMES_MM + column * (_SIDE_MM + _GAP_MM) for column in range(len(_HEADS))]
        style.headings(figure, lefts_mm, _HEAD_MM / 2, _HEADS)
        for index, one in enumerate(shown):
            _row(figure, one, _HEAD_MM + index * (_SIDE_MM + _GAP_MM), threshold)
        _colour_bar(figure)
    return figure


def _caption(shown: Sequence[PredictedSlice], network: str, threshold: float) -> str:
    trained = sorted({one.record.patient for one in shown if one.trained_on})
    words = [
        f"Weights: {network}. c: probability ≥ {threshold:g}. d: nothing below {SCALE_START:g}, white at "
        f"{SCALE_START:g}, redder up to 1; the line is {threshold:g}. Cropped to the head and all marks. "
        "Dice of the slice, on its own grid.",
        types_spelled_out([one.record for one in shown]),
    ]
    if trained:
        listed = ", ".join(f"{patient:03d}" for patient in trained)
        words.append(f"The network was trained on {listed}: what it does there says little about new patients.")
    return " ".join(filter(None, words))


def _row(figure: Figure, one: PredictedSlice, top_mm: float, threshold: float) -> None:
    mask = to_mask(one.probability, threshold)
    overlaid = blend(one.unit * 255, one.probability, threshold)
    part = shown_part(one.unit, one.reference | mask | (one.probability >= SCALE_START))
    for column, pixels in enumerate((one.unit, one.reference, mask, overlaid)):
        style.picture(figure, _NAMES_MM + column * (_SIDE_MM + _GAP_MM), top_mm, _SIDE_MM, pixels[part])
    lines = [
        (f"patient {one.record.patient:03d}", {"weight": "bold"}),
        (f"slice {one.record.number}", {}),
        (types_in_words(one.record), {}),
        (score_in_words(one.reference, mask), {"weight": "bold"}),
        (one.standing, {"color": style.PALETTE[1] if one.trained_on else style.FAINT}),
    ]
    line_mm = top_mm + 2.0
    for words, how in lines:
        for line in style.wrapped(words, _NAMES_MM - 2):
            style.write(figure, 0.5, line_mm, line, **how)
            line_mm += style.CAPTION_LINE_MM


def shown_part(unit: FloatArray, marked: BoolArray) -> tuple[slice, slice]:
    """Rows and columns of the head, and of all that is marked, wherever it lies; both arrays (row, column)."""
    frame = head_frame(unit)
    spans = []
    for axis, (start, extent) in enumerate(((frame.row, frame.height), (frame.column, frame.width))):
        lines = np.flatnonzero(marked.any(axis=1 - axis))
        first, last = (lines[0], lines[-1] + 1) if len(lines) else (unit.shape[axis], 0)
        spans.append(slice(max(0, min(int(start), first)), min(unit.shape[axis], max(int(start + extent), last))))
    return spans[0], spans[1]


def _colour_bar(figure: Figure) -> None:
    """1 at the top to 0.5 at the bottom, in the overlay's own colours."""
    left_mm = _NAMES_MM + 4 * (_SIDE_MM + _GAP_MM) + 1
    axes = style.panel(figure, left_mm, _HEAD_MM, _BAR_MM, _SIDE_MM)
    scale = colours(np.linspace(SCALE_START, 1, 256)[:, None]) / 255
    axes.imshow(scale, origin="lower", aspect="auto", extent=(0, 1, SCALE_START, 1))
    axes.spines[:].set_visible(True)
    axes.set(xticks=[], yticks=[SCALE_START, 0.6, 0.7, 0.8, 0.9, 1])
    axes.yaxis.tick_right()
    axes.set_title("p", size=style.TEXT_PT, style="italic", pad=3)


def outlined_pair(unit: FloatArray, reference: BoolArray, prediction: BoolArray, *, side: int) -> ByteArray:
    """The slice plain, and the same with outlines: the reference's just outside it, the prediction's just inside.

    So lines of masks that agree lie side by side. Cropped to the head and all marks.

    Args:
        unit: (row, column) float32, 0 to 1 in the brain window.
        reference: (row, column) bool.
        prediction: (row, column) bool.
        side: pixels along the longer side of each half.

    Returns:
        RGB (row, column, 3) uint8.
    """
    part = shown_part(unit, reference | prediction)
    rows, columns = unit[part].shape
    zoom = side / max(rows, columns)
    size = max(1, round(columns * zoom)), max(1, round(rows * zoom))
    grey = Image.fromarray(np.rint(unit[part] * 255).astype(np.uint8)).resize(size, Image.Resampling.LANCZOS)
    plain = np.repeat(np.asarray(grey)[..., None], 3, axis=-1)
    drawn = plain.copy()
    mask = _resized(reference[part], size)
    drawn[ndimage.binary_dilation(mask, iterations=_LINE) & ~mask] = _rgb(REFERENCE)
    mask = _resized(prediction[part], size)
    drawn[mask & ~ndimage.binary_erosion(mask, iterations=_LINE, border_value=1)] = _rgb(PREDICTION)
    gap = np.full((plain.shape[0], _BETWEEN, 3), 255, np.uint8)
    return np.concatenate([plain, gap, drawn], axis=1)


def _resized(mask: BoolArray, size: tuple[int, int]) -> BoolArray:
    """Any pixel that a mark covers stays marked: a speck is not lost where the picture is smaller than the slice."""
    wide = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    return np.asarray(wide) > 0


def _rgb(colour: str) -> ByteArray:
    return np.asarray(np.rint(np.array(to_rgb(colour)) * 255), np.uint8)
