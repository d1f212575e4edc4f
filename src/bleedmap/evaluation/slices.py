"""Measures of a network on slices of CT-ICH: the thesis' own under a stated convention, and the strict ones."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, FloatArray, Progress
from bleedmap.datasets.ct_ich import CtIch, Patient
from bleedmap.metrics import overlap
from bleedmap.metrics.bootstrap import patient_bootstrap
from bleedmap.metrics.overlap import Counts
from bleedmap.metrics.roc import PixelRoc, roc_auc
from bleedmap.preprocess import Preprocessing, network_input, resize_back, resize_into

Grid = Literal["original", "network"]
Predictor = Callable[[FloatArray], FloatArray]  # (n, size, size) in 0 to 1 -> probability of that shape
Outliner = Callable[[CtIch, Patient], FloatArray]  # -> probability (slice, row, column) on the slices' own grid
RESAMPLES = 1000  # as docs/thesis-results.md was made; elsewhere that of metrics/bootstrap.py
_CHUNK = 16  # slices in memory at a time


@dataclass(frozen=True, eq=False)
class SliceResults:
    """What was counted, a row for each slice."""

    ids: tuple[str, ...]  # slice ids
    patients: AnyArray  # (n,) the patient of each slice
    has_lesion: BoolArray  # (n,) bool, by the reference mask on the grid that was measured on
    highest: FloatArray  # (n,) the highest probability in the slice
    counts: Counts  # pixels at the threshold
    pixel_auc: float | None  # area under the ROC curve over all pixels, or None

    def resampled(self, rows: AnyArray, patients: AnyArray) -> "SliceResults":
        """Some rows, under other patients' names; the pixel AUC is not computed again."""
        ids = tuple(self.ids[row] for row in rows)
        return SliceResults(ids, patients, self.has_lesion[rows], self.highest[rows], self.counts.rows(rows), None)


def measure(
    data: CtIch, ids: Sequence[str], predict: Predictor, settings: Preprocessing, *,
    grid: Grid, threshold: float, progress: Progress = lambda done, of: None,
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
    """

    def predict_slices() -> Iterator[tuple[BoolArray, FloatArray]]:
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
                yield mask, probability
            progress(min(begin + _CHUNK, len(ids)), len(ids))

    return _count(ids, predict_slices(), threshold)


def measure_studies(
    data: CtIch, ids: Sequence[str], outline: Outliner, *, threshold: float,
    progress: Progress = lambda done, of: None,
) -> SliceResults:  # fmt: skip
    """The same for a network that sees whole studies; their slices of `ids` are counted, on their own grid.

    Args:
        data: the data set.
        ids: which slices.
        outline: of a patient's whole study.
        threshold: lesion from this probability on.
    """
    wanted = set(ids)
    studies = [one for one in data.patients if any(record.id in wanted for record in one.slices)]

    def predict_studies() -> Iterator[tuple[BoolArray, FloatArray]]:
        for done, study in enumerate(studies, start=1):
            probability = outline(data, study)
            for record, one in zip(study.slices, probability, strict=True):
                if record.id in wanted:
                    yield data.read_mask(record), one
            progress(done, len(studies))

    ordered = [record.id for study in studies for record in study.slices if record.id in wanted]
    return _count(ordered, predict_studies(), threshold)


def _count(ids: Sequence[str], pairs: Iterable[tuple[BoolArray, FloatArray]], threshold: float) -> SliceResults:
    """Counts of (reference, probability), both (row, column), slice by slice."""
    highest, counts, roc = [], [], PixelRoc()
    for mask, probability in pairs:
        counts.append(overlap.count(mask[None], probability[None] >= threshold))
        highest.append(probability.max())
        roc.add(mask, probability)
    pixels = overlap.concatenate(counts)
    patients = np.array([name.split("/")[0] for name in ids])
    return SliceResults(tuple(ids), patients, pixels.reference > 0, np.array(highest, np.float32), pixels, roc.area())


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


def intervals(results: SliceResults, *, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """95 % intervals of `score`'s measures by a bootstrap over patients, under the same keys as (low, high)."""
    whole = score(results)
    keys = [
        (group, name)
        for group in ("thesis_pooled", "thesis_per_slice", "strict", "detection")
        for name, value in whole[group].items()
        if isinstance(value, float) and name != "pixel_roc_auc"
    ]

    def statistic(rows: AnyArray, patients: AnyArray) -> list[float]:
        drawn = score(results.resampled(rows, patients))
        return [np.nan if drawn[group][name] is None else drawn[group][name] for group, name in keys]

    ends = patient_bootstrap(results.patients, statistic, resamples=resamples, seed=seed)
    found: dict[str, Any] = {
        "convention": f"95 %, percentile bootstrap over {whole['patients']} patients, {resamples:,} resamples, "
        f"seed {seed}; too narrow where few patients have a lesion"
    }
    for (group, name), (low, high) in zip(keys, ends.tolist(), strict=True):
        found.setdefault(group, {})[name] = [low, high]
    return found


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
