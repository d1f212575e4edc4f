"""Measure a network on slices of CT-ICH: the thesis' measures under a stated convention, the strict ones beside."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, FloatArray
from bleedmap.datasets.ct_ich import CtIch
from bleedmap.metrics import overlap
from bleedmap.metrics.detection import PixelRoc, roc_auc
from bleedmap.metrics.overlap import Counts
from bleedmap.preprocess import Preprocessing, network_input, resize_back, resize_into

Grid = Literal["original", "network"]
Predictor = Callable[[FloatArray], FloatArray]  # (n, size, size) in 0 to 1 -> probability of that shape
_CHUNK = 16  # slices in memory at a time


@dataclass(frozen=True, eq=False)
class SliceResults:
    """What was counted, a row a slice.

    Attributes:
        ids: slice ids.
        has_lesion: (n,) bool, by the reference mask on the grid that was measured on.
        highest: (n,) the highest probability in the slice.
        counts: pixels at the threshold.
        pixel_auc: area under the ROC curve over all pixels, or None.
    """

    ids: tuple[str, ...]
    has_lesion: BoolArray
    highest: FloatArray
    counts: Counts
    pixel_auc: float | None

    @property
    def patients(self) -> AnyArray:
        """(n,) the patient of each slice, in three digits."""
        return np.array([name.split("/")[0] for name in self.ids])


def measure(
    data: CtIch, ids: Sequence[str], predict: Predictor, settings: Preprocessing, *,
    grid: Grid, threshold: float, progress: Callable[[int, int], None] = lambda done, of: None,
) -> SliceResults:  # fmt: skip
    """Predict and count every slice of `ids`.

    Args:
        data: the data set.
        ids: which slices.
        predict: the network with its sigmoid.
        settings: the preprocessing that it was trained with.
        grid: 'original' brings the probability back to the slice's own pixels; 'network' counts at the
            network's size, as the thesis does.
        threshold: lesion from this probability on.
        progress: called with (slices done, of).
    """
    highest, counts, roc = [], [], PixelRoc()
    for begin in range(0, len(ids), _CHUNK):
        records = [data.slice(name) for name in ids[begin : begin + _CHUNK]]
        read = [data.read_hu(record) for record in records]
        prepared = [network_input(hu[None], settings) for hu in read]
        probabilities = predict(np.concatenate([inputs for inputs, _ in prepared]))
        for record, hu, (_, frames), small in zip(records, read, prepared, probabilities, strict=True):
            mask, probability = data.read_mask(record), small
            if grid == "network":
                mask = resize_into(mask, frames[0], settings.size) >= 0.5
            else:
                probability = resize_back(small, frames[0], (hu.shape[0], hu.shape[1]))
            counts.append(overlap.count(mask[None], probability[None] >= threshold))
            highest.append(probability.max())
            roc.add(mask, probability)
        progress(min(begin + _CHUNK, len(ids)), len(ids))
    together = overlap.together(counts)
    return SliceResults(tuple(ids), together.reference > 0, np.array(highest, np.float32), together, roc.area())


def score(results: SliceResults) -> dict[str, Any]:
    """All measures of some slices, each group with its convention and n."""
    counts, lesion = results.counts, results.has_lesion
    return {
        "slices": len(results.ids),
        "lesion_slices": int(lesion.sum()),
        "patients": len(np.unique(results.patients)),
        "lesion_patients": len(np.unique(results.patients[lesion])),
        "thesis_pooled": {
            "convention": "all pixels of all slices pooled, thresholded",
            **_thesis(counts.pooled()),
        },
        "thesis_per_slice": {
            "convention": "each slice scored, then the mean; empty against empty scores 1; a false positive on "
            "an empty reference scores Dice 0 and, its background agreeing, mean IoU near 0.5",
            **_thesis(counts),
        },
        "strict": _strict(results),
        "detection": {
            "convention": "score of a slice: its highest probability; pixels: all pixels of all slices",
            "slice_roc_auc": roc_auc(lesion, results.highest),
            "pixel_roc_auc": results.pixel_auc,
        },
    }


def _thesis(counts: Counts) -> dict[str, float | None]:
    return {
        "dice": _mean(overlap.dice(counts, empty=1.0)),
        "mean_iou": _mean(overlap.mean_iou(counts, empty=1.0)),
        "accuracy": _mean(overlap.accuracy(counts)),
    }


def _strict(results: SliceResults) -> dict[str, Any]:
    """Lesion slices and patients only: an empty reference never lends a score; where nothing is marked, 0."""
    lesion = results.has_lesion
    counts, patients = results.counts.rows(lesion), results.patients[lesion]
    by_slice = overlap.dice(counts, empty=np.nan)
    patient_means = [by_slice[patients == patient].mean() for patient in np.unique(patients)]
    whole = results.counts.grouped(results.patients)
    stacks = overlap.dice(whole, empty=np.nan)[whole.reference > 0]
    free = results.counts.rows(~lesion)
    pooled = results.counts.pooled()
    return {
        "convention": "lesion slices only, mean over slices; patients: those with a lesion; a lesion that is not "
        "marked scores 0",
        "lesion_slice_dice": _mean(by_slice),
        "lesion_slice_iou": _mean(overlap.iou(counts, empty=np.nan)),
        "lesion_slice_precision": _mean(overlap.precision(counts, empty=0.0)),
        "lesion_slice_recall": _mean(overlap.recall(counts, empty=np.nan)),
        "patient_mean_dice": _mean(np.array(patient_means)),
        "patient_stack_dice": _mean(stacks),
        "pooled_precision": _mean(overlap.precision(pooled, empty=np.nan)),
        "pooled_recall": _mean(overlap.recall(pooled, empty=np.nan)),
        "lesion_free_slices": len(free),
        "lesion_free_slices_marked": _mean(free.predicted > 0),
    }


def _mean(values: AnyArray) -> float | None:
    """The mean, or None where nothing could be scored: JSON has no NaN."""
    mean = float(np.mean(values)) if len(values) else np.nan
    return None if np.isnan(mean) else mean
