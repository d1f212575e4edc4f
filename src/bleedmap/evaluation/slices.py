"""A network measured on slices of CT-ICH: by the thesis' own measures under a stated convention, and by strict ones."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, FloatArray, Progress, ignore
from bleedmap.datasets.ct_ich import CtIch, Patient
from bleedmap.datasets.splits import Split, read_split
from bleedmap.errors import SettingsError, SplitError
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.outline import outline_prediction, segment_slices
from bleedmap.inference.weights import locate
from bleedmap.metrics import overlap
from bleedmap.metrics.bootstrap import patient_bootstrap
from bleedmap.metrics.overlap import Counts
from bleedmap.metrics.roc import PixelRoc, roc_auc
from bleedmap.models.networks import LiteUNetSettings
from bleedmap.preprocess import Preprocessing, network_input, resize_back, resize_into
from bleedmap.training.studies import CtIchStudies

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
    grid: Grid, threshold: float, progress: Progress = ignore,
) -> SliceResults:  # fmt: skip
    """Predict and count every slice of `ids`.

    Args:
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
    data: CtIch, ids: Sequence[str], outline: Outliner, *, threshold: float, progress: Progress = ignore
) -> SliceResults:
    """The same for a network that sees whole studies; their slices of `ids` are counted, on their own grid.

    Args:
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
    of_lesions = ("lesion_slice_", "patient_")  # beginnings of measures of patients with a lesion
    keys = [
        (group, name)
        for group in ("thesis_pooled", "thesis_per_slice", "strict", "detection")
        for name, value in whole[group].items()
        if isinstance(value, float)
        and name != "pixel_roc_auc"
        and whole["lesion_patients" if name.startswith(of_lesions) else "patients"] > 1  # one patient's draws are alike
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


@dataclass(frozen=True)
class Subject:
    """What is measured: a network, and what it was trained on."""

    name: str  # for the report
    predict: Predictor | None  # the network with its sigmoid; None where it sees whole studies
    settings: Preprocessing  # its preprocessing
    threshold: float  # a pixel is lesion from this probability on
    trained_patients: tuple[str, ...]  # patients that it was trained on
    chosen_on_patients: tuple[str, ...]  # the validation side, which chose the epoch or the thresholds
    split: Split | None  # the network's own split, if it is known
    ran_on: str  # library, device and number format
    outline: Outliner | None = None  # what outlines a patient's whole study, where the network sees that


def load_weights_subject(name: str | None) -> Subject:
    """Load installed weights or an .onnx file, to be measured in OpenVINO.

    Raises:
        WeightsError: weights that are missing or damaged.
    """
    weights = locate(name)
    backend = OpenVinoBackend(weights)

    def predict(slices: FloatArray) -> FloatArray:
        return backend.predict(slices[:, None]).probability

    def outline(data: CtIch, patient: Patient) -> FloatArray:
        shown = CtIchStudies(data).read(patient.number, weights.preprocessing)
        segmented = segment_slices(shown.hu, weights.preprocessing, backend, pixel_mm=shown.pixel_mm)
        return outline_prediction(segmented, weights.certainty, weights.threshold, shown.voxel_ml).probability

    own_split, whole = weights.path.with_suffix(".split.json"), isinstance(weights.network, LiteUNetSettings)
    return Subject(
        f"{weights.name}, SHA-256 {weights.sha256[:12]}…", None if whole else predict, weights.preprocessing,
        weights.threshold, tuple(weights.record.get("trained_patients", ())),
        tuple(weights.record.get("chosen_on_patients", ())), read_split(own_split) if own_split.is_file() else None,
        f"{backend.record.name}, {backend.record.device}, {backend.record.precision}", outline if whole else None,
    )  # fmt: skip


def measure_side(
    subject: Subject, dataset: CtIch, split: Split, side: str, *,
    slices: Literal["split", "all"], grid: Grid, progress: Progress = ignore,
) -> dict[str, Any]:  # fmt: skip
    """Measure a network on one side of a split: 'train', 'validation' or 'test'.

    `slices` are the side's own, or 'all' of its patients; `grid` is as in `measure`.

    Returns:
        The report, with the counts of every slice under 'per_slice'.

    Raises:
        SplitError: the split is of other data, or cannot give all slices of its patients.
        SettingsError: the network's grid, of a network that sees whole studies.
    """
    split.check_against(dataset)
    if slices == "all" and split.kind == "slice":
        raise SplitError(
            subject.name,
            found="a split by slice, whose patients stand on all sides",
            needed="a split by patient for --slices all",
            remedy="leave --slices all out, or train on a split by patient",
        )
    if subject.outline is not None and grid == "network":
        raise SettingsError(
            "--grid", found="network, for a network that sees whole studies", needed="the slices' own grid",
            remedy="leave --grid out",
        )  # fmt: skip
    ids = split.side(side)
    if slices == "all":
        patients = set(split.patients(side))
        ids = tuple(record.id for record in dataset.slices if record.id.split("/")[0] in patients)
    if subject.outline is not None:
        results = measure_studies(dataset, ids, subject.outline, threshold=subject.threshold, progress=progress)
    else:
        assert subject.predict is not None
        results = measure(
            dataset, ids, subject.predict, subject.settings, grid=grid, threshold=subject.threshold, progress=progress
        )
    measured = set(results.patients.tolist())
    return {
        "network": subject.name,
        "ran_on": subject.ran_on,
        "split": {"kind": split.kind, "seed": split.seed, "fold": split.fold, "side": side, "slices": slices},
        "grid": grid,
        "threshold": subject.threshold,
        "patients_also_trained_on": len(measured & set(subject.trained_patients)),
        "patients_that_chose_the_epoch": len(measured & set(subject.chosen_on_patients)),
        **score(results),
        "intervals": intervals(results),
        "per_slice": {
            "ids": list(results.ids),
            "highest_probability": results.highest.tolist(),
            **{name: column.tolist() for name, column in asdict(results.counts).items()},
        },
    }
