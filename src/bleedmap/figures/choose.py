"""Which slices of CT-ICH a figure shows, and what the network was trained on of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bleedmap.datasets.ct_ich import CtIch, SliceRecord
from bleedmap.datasets.splits import SIDES, Split, read_split
from bleedmap.errors import DataError, SettingsError
from bleedmap.figures.prediction import PredictedSlice
from bleedmap.figures.samples import Sample, draw_slices
from bleedmap.inference.openvino_backend import OpenVinoBackend
from bleedmap.inference.outline import outline_slices
from bleedmap.inference.weights import WeightsFile
from bleedmap.window import BRAIN


def choose_slices(
    dataset: CtIch, ids: str | None, most: int, count: int, seed: int, among: Sequence[SliceRecord] | None = None
) -> list[SliceRecord]:
    """The slices that `ids` names ("049/14,051/20"), at most `most`; or `count` lesion slices drawn at random.

    Raises:
        SettingsError: none or too many are named.
        DataError: no slice has a lesion, or a named one does not exist.
    """
    if ids is None:
        if drawn := draw_slices(dataset.slices if among is None else among, count, seed):
            return drawn
        raise DataError(
            dataset.root,
            found="no slice has a lesion's mask",
            needed="a lesion to draw",
            remedy="name the slices with --slices, or fetch the masks with `bleedmap data download`",
        )
    chosen = [dataset.slice(name.strip()) for name in ids.split(",") if name.strip()]
    if not 1 <= len(chosen) <= most:
        raise SettingsError(
            "--slices",
            found=f"{len(chosen)} slices",
            needed=f"1 to {most}, which one page holds",
            remedy="name fewer, such as 049/14,051/20" if chosen else "name some, such as 049/14,051/20",
        )
    return chosen


def read_samples(dataset: CtIch, chosen: Sequence[SliceRecord]) -> list[Sample]:
    """Read slices in the brain window with their reference masks."""
    return [Sample(one, BRAIN.to_unit(dataset.read_hu(one)), dataset.read_mask(one)) for one in chosen]


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
