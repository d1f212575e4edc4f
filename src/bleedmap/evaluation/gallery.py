"""The slices that a report shows: misses, false alarms, cases by rank, chosen by the rules of the protocol alone."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image

from bleedmap.arrays import AnyArray, BoolArray, FloatArray, Progress, ignore
from bleedmap.datasets.ct_ich import CtIch
from bleedmap.datasets.ct_ich_tables import slice_id
from bleedmap.errors import InputError
from bleedmap.evaluation.records import TYPE_NAMES, OutOfFold, StudyRecord, read_prediction
from bleedmap.figures.prediction import outlined_pair
from bleedmap.metrics import overlap
from bleedmap.page.writer import embed_jpeg
from bleedmap.window import BRAIN

SHOWN = 12  # misses, and as many false alarms
A_PATIENT = 2  # of these, at most
PERCENTILES = tuple(range(5, 100, 10))  # of the patients' `volume_dice`
CASE_SLICES = 4  # of a case, at most
_SIDE = 420  # pixels of each half; the page shows a pair at about 500 across
_QUALITY = 82
_TYPES_UNKNOWN = "type not labelled"


@dataclass(frozen=True, eq=False)
class ChosenSlice:
    """A slice of a study, `index` from 0 in the study's order."""

    study: StudyRecord
    index: int

    @property
    def number(self) -> int:
        """As the data set counts it."""
        return self.study.numbers[self.index]


@dataclass(frozen=True, eq=False)
class Case:
    """A patient at a percentile of `volume_dice`, and the slices to show."""

    percentile: int
    dice: float
    slices: tuple[ChosenSlice, ...]


@dataclass(frozen=True)
class Pixels:
    """Where the pictures' pixels come from.

    `slice_of`: (study, index of the slice from 0) -> its HU, float32, and its reference, bool, both (row, column).
    """

    slice_of: Callable[[StudyRecord, int], tuple[FloatArray, BoolArray]]
    mask_of: Callable[[StudyRecord], BoolArray]  # study -> the final mask, bool (slice, row, column), on the same grid


@dataclass(frozen=True)
class SlicePicture:
    """One slice: `uri` holds the picture itself, None without pixels; `size` its pixels, (width, height)."""

    name: str
    words: str
    uri: str | None
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Row:
    """Pictures that belong together, under a title; no title for slices that stand alone."""

    title: str
    pictures: tuple[SlicePicture, ...]


@dataclass(frozen=True)
class Gallery:
    """Pictures chosen by one rule; `words` state the rule, then what the numbers say of the chosen slices."""

    key: str
    title: str
    words: tuple[str, ...]
    rows: tuple[Row, ...]


def ct_ich_pixels(data: CtIch, predictions: Path) -> Pixels:
    """Slices of CT-ICH, masks of a folder that `write_prediction` filled."""

    def slice_of(study: StudyRecord, index: int) -> tuple[FloatArray, BoolArray]:
        record = data.slice(slice_id(study.patient, study.numbers[index]))
        return data.read_hu(record), data.read_mask(record)

    @lru_cache(maxsize=1)  # slices of a patient often follow each other
    def mask_of(study: StudyRecord) -> BoolArray:
        return read_prediction(predictions, study.patient)[1]

    return Pixels(slice_of, mask_of)


def galleries(records: OutOfFold, pixels: Pixels | None, progress: Progress = ignore) -> tuple[Gallery, ...]:
    """Choose the slices by the protocol's rules and draw them: misses, false alarms, cases by rank.

    Without the `pixels` of these records the pictures are left out and their words kept.

    Raises:
        InputError: a slice or prediction cannot be read, or is not the one that was counted.
    """
    missed, alarms, ranked = misses(records), false_alarms(records), cases(records)
    done, every = count(1), len(missed) + len(alarms) + sum(len(one.slices) for one in ranked)

    def show(chosen: Sequence[ChosenSlice], title: str = "") -> Row:
        shown = []
        for one in chosen:
            name = f"patient {one.study.patient:03d}, slice {one.number}"
            uri, size = (None, (0, 0)) if pixels is None else _picture(one, pixels)
            shown.append(SlicePicture(name, _slice_in_words(one), uri, size))
            progress(next(done), every)
        return Row(title, tuple(shown))

    alone = [(show(chosen),) if chosen else () for chosen in (missed, alarms)]
    return (
        Gallery("misses", "Misses", _misses_in_words(records, missed), alone[0]),
        Gallery("false-alarms", "False alarms", _alarms_in_words(records, alarms), alone[1]),
        Gallery("cases", "Ten cases by rank", _cases_in_words(ranked),
                tuple(show(one.slices, _case_in_words(one)) for one in ranked)),
    )  # fmt: skip


def _picture(one: ChosenSlice, pixels: Pixels) -> tuple[str, tuple[int, int]]:
    (hu, reference), mask = pixels.slice_of(one.study, one.index), pixels.mask_of(one.study)
    counts, index = one.study.counts, one.index
    fits = mask.shape == (len(one.study.numbers), *reference.shape)
    if not fits or (mask[index].sum(), reference.sum()) != (counts.predicted[index], counts.reference[index]):
        raise InputError(
            f"patient {one.study.patient:03d}, slice {one.number}",
            found="the prediction or the reference is not the one that the records were counted from",
            needed="the data set and the predictions of the first file of records",
            remedy="give the folder of predictions that was written with these records, or leave --predictions out",
        )
    picture = Image.fromarray(outlined_pair(BRAIN.to_unit(hu), reference, mask[index], side=_SIDE))
    return embed_jpeg(picture, _QUALITY), picture.size


def _case_in_words(case: Case) -> str:
    study = case.slices[0].study
    whole = study.counts.pooled()
    return (
        f"{case.percentile}th percentile: patient {study.patient:03d}, Dice {case.dice:.2f}; "
        f"{_types(np.asarray(study.types.any(axis=0)))}; {int(whole.reference[0]):,} lesion voxels, "
        f"{int(whole.predicted[0]):,} marked, {int(whole.true_positive[0]):,} of them in the lesion; "
        f"study probability {study.verdict.study:.2f}"
    )


def _slice_in_words(one: ChosenSlice) -> str:
    counts, index = one.study.counts, one.index
    probabilities = (
        f"slice probability {one.study.verdict.presence[index]:.2f}, highest pixel {one.study.highest[index]:.2f}; "
        f"fold {one.study.fold}"
    )
    extra = int(counts.false_positive[index])
    if not counts.reference[index]:
        whose = "bleeds on other slices" if counts.reference.any() else "bleed-free patient"
        return f"no lesion here, {whose}; {extra:,} pixels marked; {probabilities}"
    missed, lesion = int(counts.false_negative[index]), int(counts.reference[index])
    found = f"{missed:,} of {lesion:,} lesion pixels missed, {extra:,} marked beside them"
    return f"{_types(one.study.types[index])}; {found}; {probabilities}"


def _types(flags: AnyArray) -> str:
    return ", ".join(name for name, flag in zip(TYPE_NAMES, flags.tolist(), strict=True) if flag) or _TYPES_UNKNOWN


def _misses_in_words(records: OutOfFold, chosen: Sequence[ChosenSlice]) -> tuple[str, ...]:
    rule = "The lesion slices with the most lesion pixels left unmarked, two a patient at most."
    if not chosen:
        return (rule, "No lesion pixel of any slice was left unmarked.")
    missed, lesion, marked = (
        [int(getattr(one.study.counts, name)[one.index]) for one in chosen]
        for name in ("false_negative", "reference", "predicted")
    )
    types = {name: sum(bool(one.study.types[one.index, k]) for one in chosen) for k, name in enumerate(TYPE_NAMES)}
    labels = ", ".join(f"{name} {times}" for name, times in types.items() if times) or _TYPES_UNKNOWN
    return (
        rule,
        f"{len(chosen)} slices of {_patients(chosen)} patients: {sum(missed):,} of {sum(lesion):,} lesion pixels are "
        f"missed. On {marked.count(0)} of the slices nothing at all is marked. Labels: {labels}. "
        f"{_called(records, chosen)}",
    )


def _alarms_in_words(records: OutOfFold, chosen: Sequence[ChosenSlice]) -> tuple[str, ...]:
    rule = "The lesion-free slices with the most marked pixels, two a patient at most."
    if not chosen:
        return (rule, "No lesion-free slice is marked anywhere.")
    elsewhere = [one for one in chosen if one.study.counts.reference.any()]
    beside = sum(bool(one.study.counts.reference[max(0, one.index - 1) : one.index + 2].any()) for one in elsewhere)
    return (
        rule,
        f"{len(chosen)} slices of {_patients(chosen)} patients: {len(chosen) - len(elsewhere)} are of bleed-free "
        f"patients, {len(elsewhere)} of patients who bleed on other slices; {beside} of these lie next to a lesion "
        f"slice. {_called(records, chosen)}",
    )


def _cases_in_words(ranked: Sequence[Case]) -> tuple[str, ...]:
    rule = (
        "The patients at the 5th, 15th, … 95th percentile of the Dice of the patient's volume, lowest first. Of each, "
        "up to four slices: from each quarter of the lesion slices the one with the most lesion pixels."
    )
    if not ranked:
        return (rule, "No patient has a lesion.")
    half = len(ranked) // 2
    return (rule, f"Dice {ranked[0].dice:.2f} at the lowest, {ranked[half].dice:.2f} in the middle, "
            f"{ranked[-1].dice:.2f} at the highest.")  # fmt: skip


def _patients(chosen: Sequence[ChosenSlice]) -> int:
    return len({one.study.patient for one in chosen})


def _called(records: OutOfFold, chosen: Sequence[ChosenSlice]) -> str:
    thresholds = {one.fold: one.slice_threshold for one in records.choices}
    called = sum(bool(one.study.verdict.presence[one.index] >= thresholds[one.study.fold]) for one in chosen)
    return f"The slice probability reaches the fold's threshold on {called} of {len(chosen)}."


def misses(records: OutOfFold) -> tuple[ChosenSlice, ...]:
    """The lesion slices with the most unmarked lesion pixels, most first; a slice without any is no miss."""
    return _most((one, one.counts.false_negative * (one.counts.reference > 0)) for one in records.studies)


def false_alarms(records: OutOfFold) -> tuple[ChosenSlice, ...]:
    """The lesion-free slices with the most marked pixels, most first; a slice without any is no false alarm."""
    return _most((one, one.counts.false_positive * (one.counts.reference == 0)) for one in records.studies)


def cases(records: OutOfFold) -> tuple[Case, ...]:
    """The patients at `PERCENTILES` of the bleeding patients' `volume_dice`, lowest first, each once.

    A percentile is the nearest rank: a patient's own value, not one between two.
    """
    bleeding = [one for one in records.studies if one.counts.reference.any()]
    ranked = sorted((float(overlap.dice(one.counts.pooled(), empty=0)[0]), one.patient, one) for one in bleeding)
    at = {} if not ranked else {ceil(place / 100 * len(ranked)) - 1: place for place in reversed(PERCENTILES)}
    return tuple(Case(at[rank], ranked[rank][0], _quarter_slices(ranked[rank][2])) for rank in sorted(at))


def _most(pixels: Iterable[tuple[StudyRecord, AnyArray]]) -> tuple[ChosenSlice, ...]:
    """The slices with the most pixels, then by patient and slice; `A_PATIENT` of a patient at most."""
    ranked = sorted(
        (-int(most), one.patient, index, one)
        for one, counts in pixels for index, most in enumerate(counts.tolist()) if most
    )  # fmt: skip
    chosen: list[ChosenSlice] = []
    taken = Counter[int]()
    for _, patient, index, one in ranked:
        if taken[patient] < A_PATIENT and len(chosen) < SHOWN:
            chosen.append(ChosenSlice(one, index))
            taken[patient] += 1
    return tuple(chosen)


def _quarter_slices(study: StudyRecord) -> tuple[ChosenSlice, ...]:
    """The slice with the most lesion pixels of each quarter of the lesion slices, in their order."""
    lesion = np.flatnonzero(study.counts.reference)
    quarters = np.array_split(lesion, min(CASE_SLICES, len(lesion)))
    return tuple(ChosenSlice(study, int(part[study.counts.reference[part].argmax()])) for part in quarters)
