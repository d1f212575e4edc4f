"""A trained network, measured on one side of a split of CT-ICH."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from bleedmap.arrays import FloatArray, Progress
from bleedmap.datasets.ct_ich import CtIch
from bleedmap.datasets.splits import Split, read_split
from bleedmap.errors import SettingsError, SplitError
from bleedmap.evaluation.slices import Grid, Outliner, Predictor, intervals, measure, measure_studies, score
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.weights import locate
from bleedmap.models.networks import LiteUNetSettings
from bleedmap.preprocess import Preprocessing


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
        SettingsError: a network that sees whole studies.
        WeightsError: weights that are missing or damaged.
    """
    weights = locate(name)
    if isinstance(weights.network, LiteUNetSettings):
        raise SettingsError(
            weights.name,
            found="a network that sees whole studies, not the slices of a split",
            needed="--protocol cross-validation (its expected performance) or --studies FOLDER (studies of your own)",
            remedy="choose one of these, or evaluate older weights: `bleedmap models` lists them",
        )
    backend = OpenVinoBackend(weights)

    def predict(slices: FloatArray) -> FloatArray:
        return backend.predict(slices[:, None]).probability

    own_split = weights.path.with_suffix(".split.json")
    return Subject(
        f"{weights.name}, SHA-256 {weights.sha256[:12]}…", predict, weights.preprocessing, weights.threshold,
        tuple(weights.record.get("trained_patients", ())), tuple(weights.record.get("chosen_on_patients", ())),
        read_split(own_split) if own_split.is_file() else None,
        f"{backend.record.name}, {backend.record.device}, {backend.record.precision}",
    )  # fmt: skip


def measure_side(
    subject: Subject, dataset: CtIch, split: Split, side: str, *,
    slices: Literal["split", "all"], grid: Grid, progress: Progress = lambda done, of: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure a network on one side of a split: 'train', 'validation' or 'test'.

    `slices` are the side's own, or 'all' of its patients; `grid` is as in `bleedmap.evaluation.slices.measure`.

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
