"""Every measure of the protocol with the words that tables print: the lines of the table in docs/protocol.md."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from bleedmap.arrays import BoolArray
from bleedmap.datasets.folds import LOADS
from bleedmap.evaluation import measures as compute
from bleedmap.evaluation.measures import Measured, Rule, Span
from bleedmap.evaluation.protocol import LESION_VOXELS, SLICE_PIXELS, SLICE_SPECIFICITY, STUDY_SPECIFICITY, TARGETS
from bleedmap.evaluation.records import TYPE_NAMES
from bleedmap.evaluation.tables import Tables
from bleedmap.metrics import calibration


@dataclass(frozen=True)
class Measure:
    """A line of the protocol's table.

    Attributes:
        key: its name for programs.
        group: the heading that it stands under.
        title: its name for people.
        over: what the cases are.
        convention: how it counts, empty masks included.
        compute: its value on the patients of some tables.
    """

    key: str
    group: str
    title: str
    over: str
    convention: str
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

    def of(chosen: Callable[[Tables], BoolArray]) -> Callable[[Tables], Measured]:
        return lambda tables: compute.share(tables.studies, tables.studies.abstained, chosen(tables))

    group, words = "abstained", "the program said that it gives no verdict, and why"
    return (
        Measure(group, group, "studies abstained on", "all patients", words, of(lambda one: one.studies.study >= 0)),
        Measure("abstained_bleeding", group, "of those that bleed", "patients with a lesion", words,
                of(lambda one: one.studies.bleeds)),
        Measure("abstained_bleed_free", group, "of those that do not", "bleed-free patients", words,
                of(lambda one: ~one.studies.bleeds)),
    )  # fmt: skip


def answered_measures() -> tuple[Measure, ...]:
    """The headline measures on the studies that were given a verdict; each draw of patients drops its own."""

    def answered(measure: Measure) -> Measure:
        over = f"{measure.over}, with a verdict"
        key = measure.key + ANSWERED
        return replace(measure, key=key, over=over, compute=lambda tables: measure.compute(tables.answered))

    every = {one.key: one for one in measures()}
    return tuple(answered(every[key]) for key in HEADLINE)


def _overlap() -> Iterator[Measure]:
    group, bleeding = "overlap", "patients with a lesion"
    yield Measure(
        "authors_dice", group, "Dice, the data set authors' measure", f"{bleeding} but patient 70",
        f"Dice of each lesion slice, mean over a patient's, mean over patients; {_MISSED}", compute.authors_dice,
    )  # fmt: skip
    yield Measure(
        "patient_mean_dice", group, "the same with patient 70", bleeding, f"as above; {_MISSED}",
        compute.patient_mean_dice,
    )  # fmt: skip
    yield Measure(
        "volume_dice", group, "Dice of the patient's volume", bleeding,
        f"all of a patient's slices stacked, false alarms on lesion-free slices counted; mean over patients; {_MISSED}",
        compute.volume_dice,
    )  # fmt: skip
    yield Measure("volume_dice_median", group, "the same, median", bleeding, "as above, median", compute.median_dice)
    yield Measure(
        "lesion_slice_dice", group, "Dice of a lesion slice", "lesion slices", f"mean over slices; {_MISSED}",
        lambda tables: compute.mean(tables.slices, tables.slices.dice, tables.slices.has_lesion),
    )  # fmt: skip


def _lesions() -> Iterator[Measure]:
    for rule, words in _FOUND.items():
        title, found = f"lesions found ({rule})", partial(compute.lesions_found, rule)
        yield from _by_size_and_type(
            Measure(f"lesion_sensitivity_{rule}", "lesions", title, "lesions", words, found),
            f"{{}} {title}", LESION_VOXELS,
            "lesions of {} voxels", "lesions on slices labelled {}, which may bear another type too",
        )  # fmt: skip
        for end, over in (("", "all patients"), ("_bleed_free", "bleed-free patients")):
            yield Measure(
                f"false_positives_per_study_{rule}{end}", "lesions", f"false alarms a study ({rule})", over,
                f"{_FALSE[rule]}, of any size", partial(compute.false_alarms, rule, bool(end)),
            )  # fmt: skip


def _marked() -> Iterator[Measure]:
    group = "marked without a lesion"
    yield Measure(
        "lesion_free_slices_marked", group, "lesion-free slices marked", "lesion-free slices", _MARKED,
        lambda tables: compute.share(tables.slices, tables.slices.marked, ~tables.slices.has_lesion),
    )  # fmt: skip
    yield Measure(
        "bleed_free_patients_slices_marked", group, "slices of bleed-free patients marked",
        "slices of bleed-free patients", _MARKED,
        lambda tables: compute.share(tables.slices, tables.slices.marked, ~tables.slices.study_bleeds),
    )  # fmt: skip
    yield Measure(
        "bleed_free_patients_marked", group, "bleed-free patients marked anywhere", "bleed-free patients", _MARKED,
        lambda tables: compute.share(tables.studies, tables.studies.marked, ~tables.studies.bleeds),
    )  # fmt: skip


def _slices() -> Iterator[Measure]:
    group, fixed = "slices", f"sensitivity at specificity {SLICE_SPECIFICITY}"
    yield Measure(
        "slice_auc", group, "ROC AUC", "all slices", _RANKED,
        lambda tables: compute.auc(tables.slices, tables.slices.has_lesion, tables.slices.presence),
    )  # fmt: skip
    yield Measure(
        "slice_auc_within_folds", group, "ROC AUC within folds", "all slices", _BY_FOLD,
        lambda tables: compute.auc_within_folds(tables.slices, tables.slices.has_lesion, tables.slices.presence),
    )  # fmt: skip
    yield from _by_size_and_type(
        Measure("slice_sensitivity_fixed", group, fixed, "lesion slices", _SAME_CASES, compute.slice_sensitivity),
        f"{fixed}, {{}}", SLICE_PIXELS,
        "lesion slices with {} lesion pixels", "slices labelled {}, which may bear another type too",
    )  # fmt: skip
    yield Measure(
        "slice_sensitivity", group, "sensitivity", "lesion slices", _CHOSEN,
        lambda tables: compute.share(tables.slices, tables.slices.called, tables.slices.has_lesion),
    )  # fmt: skip
    yield Measure(
        "slice_specificity", group, "specificity", "lesion-free slices", _CHOSEN,
        lambda tables: compute.share(tables.slices, ~tables.slices.called, ~tables.slices.has_lesion),
    )  # fmt: skip


def _studies() -> Iterator[Measure]:
    group, fixed = "studies", f"sensitivity at specificity {STUDY_SPECIFICITY}"
    yield Measure(
        "study_auc", group, "ROC AUC", "all patients", _RANKED,
        lambda tables: compute.auc(tables.studies, tables.studies.bleeds, tables.studies.probability),
    )  # fmt: skip
    yield Measure(
        "study_auc_within_folds", group, "ROC AUC within folds", "all patients", _BY_FOLD,
        lambda tables: compute.auc_within_folds(tables.studies, tables.studies.bleeds, tables.studies.probability),
    )  # fmt: skip
    yield from _by_size_and_type(
        Measure("study_sensitivity_fixed", group, fixed, "patients with a lesion", _SAME_CASES,
                compute.study_sensitivity),
        f"{fixed}, {{}}", LOADS,
        "patients with {} lesion voxels", "patients with {}, who may have another type too",
    )  # fmt: skip
    yield Measure(
        "study_sensitivity", group, "sensitivity", "patients with a lesion", _CHOSEN,
        lambda tables: compute.share(tables.studies, tables.studies.called, tables.studies.bleeds),
    )  # fmt: skip
    yield Measure(
        "study_specificity", group, "specificity", "bleed-free patients", _CHOSEN,
        lambda tables: compute.share(tables.studies, ~tables.studies.called, ~tables.studies.bleeds),
    )  # fmt: skip


def _calibration() -> Iterator[Measure]:
    group, ece = "calibration", "ECE of the slice probability"
    binnings: tuple[tuple[str, calibration.Binning, str], ...] = (
        ("slice_ece", "width", "10 bins of equal width"), ("slice_ece_equal_count", "count", "10 bins of equal counts")
    )  # fmt: skip
    for key, binning, words in binnings:
        yield Measure(key, group, ece, "all slices", words, partial(compute.slice_ece, binning))
    for whose, over, function in (
        ("slice", "all slices", compute.slice_brier), ("study", "all patients", compute.study_brier)
    ):  # fmt: skip
        yield Measure(f"{whose}_brier", group, f"Brier score of the {whose} probability", over, _BRIER, function)
    yield Measure(
        "volume_interval_coverage", group, "patients whose lesion voxels lie within the interval given",
        "patients with a lesion and an interval", "ends included; to be read beside the coverage that was promised",
        compute.interval_coverage,
    )  # fmt: skip


def _types() -> Iterator[Measure]:
    words = "slices labelled with the type against all others; '–' for a network that tells no types"
    for column, name in enumerate(TYPE_NAMES):
        yield Measure(
            f"slice_auc_{name}", "types", f"ROC AUC of {name}", "all slices", words, partial(compute.type_auc, column)
        )


def _by_size_and_type(
    whole: Measure, title: str, sizes: Mapping[str, Span], of_size: str, of_type: str
) -> Iterator[Measure]:
    """A measure of all cases, then of each size, then of each type; `{}` in the words stands for it."""
    yield whole
    for name, span in sizes.items():
        over, own = of_size.format(_span_in_words(span)), partial(whole.compute, span=span)
        yield replace(whole, key=f"{whole.key}_{name}", title=title.format(name), over=over, compute=own)
    for column, name in enumerate(TYPE_NAMES):
        over, own = of_type.format(name), partial(whole.compute, column=column)
        yield replace(whole, key=f"{whole.key}_{name}", title=title.format(name), over=over, compute=own)


def _span_in_words(span: Span) -> str:
    low, high = span
    if high is None:
        return f"{low:,} or more"
    return f"fewer than {high:,}" if low <= 1 else f"{low:,} to {high - 1:,}"
