"""Every measure of the protocol with the words that tables print: the lines of the table in docs/protocol.md."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from bleedmap.arrays import BoolArray
from bleedmap.datasets.folds import LOADS
from bleedmap.evaluation import measures as compute
from bleedmap.evaluation.measures import Measured, Rule, Span
from bleedmap.evaluation.protocol import (
    LESION_VOXELS,
    SIZES_ML,
    SLICE_PIXELS,
    SLICE_SPECIFICITY,
    STUDY_SPECIFICITY,
    TARGETS,
)
from bleedmap.evaluation.records import TYPE_NAMES
from bleedmap.evaluation.tables import StudyTable, Tables


@dataclass(frozen=True)
class Measure:
    """A line of the protocol's table.

    `compute`: its value on the patients of some tables.
    """

    key: str  # its name for programs
    group: str  # the heading that it stands under
    title: str  # its name for people
    over: str  # what the cases are
    convention: str  # how it counts, empty masks included
    compute: Callable[..., Measured]  # of tables


# What stands first, is compared between methods, and is printed once more without the studies abstained on.
HEADLINE = (*TARGETS, "slice_sensitivity", "slice_specificity", "study_sensitivity", "study_specificity")
ANSWERED = "_answered"  # ends the keys of measures without the studies abstained on: the targets are not theirs
_MISSED = "a lesion of which nothing is marked scores 0; lesion-free slices and patients are left out"
_FOUND: dict[Rule, str] = {
    "touched": "found: any voxel of it is marked; fewer than 10 voxels are no lesion",
    "overlapped": "found: a marked region has IoU ≥ 0.1 with it; fewer than 10 voxels are no lesion",
}
_FALSE: dict[Rule, str] = {
    "touched": "a marked 26-connected region that touches no reference voxel",
    "overlapped": "a marked 26-connected region that has IoU ≥ 0.1 with no lesion",
}
_MARKED = "marked: any pixel; no pixel is too few"
_SAME_CASES = "the threshold is read off these same cases: a point of the ROC curve, not a promise"
_BRIER = "squared distance of probability and truth; saying the share p for all scores p·(1 - p)"
_CHOSEN = "at the threshold that each fold chose on its validation patients"
_RANKED, _BY_FOLD = "all folds' probabilities in one ranking, ties half", "mean of the folds' own"


def measures() -> tuple[Measure, ...]:
    """All measures, in the order of the table."""
    return (*_overlap(), *_lesions(), *_marked(), *_slices(), *_studies(), *_calibration(), *_types())


def abstention_measures() -> tuple[Measure, ...]:
    """The share of studies without a verdict: of all studies, of those that bleed, of those that do not."""

    def of(chosen: Callable[[StudyTable], BoolArray]) -> Callable[[Tables], Measured]:
        return lambda tables: compute.share(tables.studies, tables.studies.abstained, chosen(tables.studies))

    words = "the program said that it gives no verdict, and why"
    return tuple(_rows(
        "abstained",
        ("abstained", "studies abstained on", "all patients", words, of(lambda studies: studies.study >= 0)),
        ("abstained_bleeding", "of those that bleed", "patients with a lesion", words,
         of(lambda studies: studies.bleeds)),
        ("abstained_bleed_free", "of those that do not", "bleed-free patients", words,
         of(lambda studies: ~studies.bleeds)),
    ))  # fmt: skip


def answered_measures() -> tuple[Measure, ...]:
    """The headline measures on the studies that were given a verdict; each draw of patients drops its own."""

    def answered(measure: Measure) -> Measure:
        over = f"{measure.over}, with a verdict"
        key = measure.key + ANSWERED
        return replace(measure, key=key, over=over, compute=lambda tables: measure.compute(tables.answered))

    every = {one.key: one for one in measures()}
    return tuple(answered(every[key]) for key in HEADLINE)


Row = tuple[str, str, str, str, Callable[..., Measured]]  # key, title, over, convention, compute


def _rows(group: str, *rows: Row) -> Iterator[Measure]:
    return (Measure(key, group, title, over, how, function) for key, title, over, how, function in rows)


def _overlap() -> Iterator[Measure]:
    bleeding = "patients with a lesion"
    return _rows(
        "overlap",
        ("authors_dice", "Dice, the data set authors' measure", f"{bleeding} but patient 70",
         f"Dice of each lesion slice, mean over a patient's, mean over patients; {_MISSED}", compute.authors_dice),
        ("patient_mean_dice", "the same with patient 70", bleeding, f"as above; {_MISSED}", compute.patient_mean_dice),
        ("volume_dice", "Dice of the patient's volume", bleeding,
         "all of a patient's slices stacked, false alarms on lesion-free slices counted; mean over patients; "
         + _MISSED, compute.volume_dice),
        ("volume_dice_median", "the same, median", bleeding, "as above, median", compute.median_dice),
        ("lesion_slice_dice", "Dice of a lesion slice", "lesion slices", f"mean over slices; {_MISSED}",
         lambda of: compute.mean(of.slices, of.slices.dice, of.slices.has_lesion)),
    )  # fmt: skip


def _lesions() -> Iterator[Measure]:
    for rule, words in _FOUND.items():
        title, found = f"lesions found ({rule})", partial(compute.lesions_found, rule)
        yield from _by_size_and_type(
            Measure(f"lesion_sensitivity_{rule}", "lesions", title, "lesions", words, found),
            f"{{}} {title}", LESION_VOXELS,
            "lesions of {} voxels", "lesions on slices labelled {}, which may bear another type too", "lesions",
        )  # fmt: skip
        for end, over in (("", "all patients"), ("_bleed_free", "bleed-free patients")):
            yield Measure(
                f"false_positives_per_study_{rule}{end}", "lesions", f"false alarms a study ({rule})", over,
                f"{_FALSE[rule]}, of any size", partial(compute.false_alarms, rule, bool(end)),
            )  # fmt: skip


def _marked() -> Iterator[Measure]:
    return _rows(
        "marked without a lesion",
        ("lesion_free_slices_marked", "lesion-free slices marked", "lesion-free slices", _MARKED,
         lambda of: compute.share(of.slices, of.slices.marked, ~of.slices.has_lesion)),
        ("bleed_free_patients_slices_marked", "slices of bleed-free patients marked", "slices of bleed-free patients",
         _MARKED, lambda of: compute.share(of.slices, of.slices.marked, ~of.slices.study_bleeds)),
        ("bleed_free_patients_marked", "bleed-free patients marked anywhere", "bleed-free patients", _MARKED,
         lambda of: compute.share(of.studies, of.studies.marked, ~of.studies.bleeds)),
    )  # fmt: skip


def _slices() -> Iterator[Measure]:
    group, fixed = "slices", f"sensitivity at specificity {SLICE_SPECIFICITY}"
    yield from _rows(
        group,
        ("slice_auc", "ROC AUC", "all slices", _RANKED,
         lambda of: compute.auc(of.slices, of.slices.has_lesion, of.slices.presence)),
        ("slice_auc_within_folds", "ROC AUC within folds", "all slices", _BY_FOLD,
         lambda of: compute.auc_within_folds(of.slices, of.slices.has_lesion, of.slices.presence)),
    )  # fmt: skip
    yield from _by_size_and_type(
        Measure("slice_sensitivity_fixed", group, fixed, "lesion slices", _SAME_CASES, compute.slice_sensitivity),
        f"{fixed}, {{}}", SLICE_PIXELS,
        "lesion slices with {} lesion pixels", "slices labelled {}, which may bear another type too",
    )  # fmt: skip
    yield from _rows(
        group,
        ("slice_sensitivity", "sensitivity", "lesion slices", _CHOSEN,
         lambda of: compute.share(of.slices, of.slices.called, of.slices.has_lesion)),
        ("slice_specificity", "specificity", "lesion-free slices", _CHOSEN,
         lambda of: compute.share(of.slices, ~of.slices.called, ~of.slices.has_lesion)),
    )  # fmt: skip


def _studies() -> Iterator[Measure]:
    group, fixed, bleeding = "studies", f"sensitivity at specificity {STUDY_SPECIFICITY}", "patients with a lesion"
    yield from _rows(
        group,
        ("study_auc", "ROC AUC", "all patients", _RANKED,
         lambda of: compute.auc(of.studies, of.studies.bleeds, of.studies.probability)),
        ("study_auc_within_folds", "ROC AUC within folds", "all patients", _BY_FOLD,
         lambda of: compute.auc_within_folds(of.studies, of.studies.bleeds, of.studies.probability)),
    )  # fmt: skip
    yield from _by_size_and_type(
        Measure("study_sensitivity_fixed", group, fixed, bleeding, _SAME_CASES, compute.study_sensitivity),
        f"{fixed}, {{}}", LOADS,
        "patients with {} lesion voxels", "patients with {}, alone or with another type",
        "patients by all their lesions",
    )  # fmt: skip
    yield from _rows(
        group,
        ("study_sensitivity", "sensitivity", bleeding, _CHOSEN,
         lambda of: compute.share(of.studies, of.studies.called, of.studies.bleeds)),
        ("study_specificity", "specificity", "bleed-free patients", _CHOSEN,
         lambda of: compute.share(of.studies, ~of.studies.called, ~of.studies.bleeds)),
    )  # fmt: skip


def _calibration() -> Iterator[Measure]:
    ece, brier = "ECE of the slice probability", "Brier score of the {} probability"
    return _rows(
        "calibration",
        ("slice_ece", ece, "all slices", "10 bins of equal width", partial(compute.slice_ece, "width")),
        ("slice_ece_equal_count", ece, "all slices", "10 bins of equal counts", partial(compute.slice_ece, "count")),
        ("slice_brier", brier.format("slice"), "all slices", _BRIER,
         lambda of: compute.brier(of.slices, of.slices.has_lesion, of.slices.presence)),
        ("study_brier", brier.format("study"), "all patients", _BRIER,
         lambda of: compute.brier(of.studies, of.studies.bleeds, of.studies.probability)),
        ("volume_interval_coverage", "patients whose lesion voxels lie within the interval given",
         "patients with a lesion and an interval", "ends included; to be read beside the coverage that was promised",
         compute.interval_coverage),
    )  # fmt: skip


def _types() -> Iterator[Measure]:
    words = "slices labelled with the type against all others; '–' for a network that tells no types"
    for column, name in enumerate(TYPE_NAMES):
        yield Measure(
            f"slice_auc_{name}", "types", f"ROC AUC of {name}", "all slices", words, partial(compute.type_auc, column)
        )


def _by_size_and_type(
    whole: Measure, title: str, sizes: Mapping[str, Span], of_size: str, of_type: str, of_ml: str | None = None
) -> Iterator[Measure]:
    """A measure of all cases, then of each size, in pixels and where it is asked for in mL, then of each type; `{}` in
    the words stands for it."""
    yield whole
    for name, span in sizes.items():
        over, own = of_size.format(_span_in_words(span)), partial(whole.compute, span=span)
        yield replace(whole, key=f"{whole.key}_{name}", title=title.format(name), over=over, compute=own)
    for size, span in SIZES_ML.items() if of_ml is not None else ():
        key, own = size.lower().replace(" ", "_"), partial(whole.compute, span=span, in_ml=True)
        over = f"{of_ml}, {size}"
        yield replace(whole, key=f"{whole.key}_{key}", title=f"{whole.title}, {size}", over=over, compute=own)
    for column, name in enumerate(TYPE_NAMES):
        over, own = of_type.format(name), partial(whole.compute, column=column)
        yield replace(whole, key=f"{whole.key}_{name}", title=title.format(name), over=over, compute=own)


def _span_in_words(span: Span) -> str:
    low, high = span
    if high is None:
        return f"{low:,} or more"
    return f"fewer than {high:,}" if low <= 1 else f"{low:,} to {high - 1:,}"
