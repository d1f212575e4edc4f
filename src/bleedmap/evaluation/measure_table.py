"""Every measure of the protocol with its convention: the lines of its table (docs/protocol.md)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from bleedmap.datasets.folds import LOADS
from bleedmap.evaluation import measures as samples
from bleedmap.evaluation.measures import Rule, Sample
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
        of: computes it.
    """

    key: str
    group: str
    title: str
    over: str
    convention: str
    of: Callable[[Tables], Sample]


# What stands first, is compared between methods, and is printed once more without the studies abstained on.
HEADLINE = (*TARGETS, "slice_sensitivity", "slice_specificity", "study_sensitivity", "study_specificity")
_MISSED = "a lesion of which nothing is marked scores 0; lesion-free slices and patients are left out"
_RULES: dict[Rule, str] = {
    "touched": "found: any voxel of it is marked; fewer than 10 voxels are no lesion",
    "overlapped": "found: a marked region has IoU ≥ 0.1 with it; fewer than 10 voxels are no lesion",
}
_FALSE: dict[Rule, str] = {
    "touched": "a marked 26-connected region that touches no reference voxel",
    "overlapped": "a marked 26-connected region that has IoU ≥ 0.1 with no lesion",
}
_SAME_CASES = "the threshold is read off these same cases: a point of the ROC curve, not a promise"
_BRIER = "squared distance of probability and truth; saying the share p for all scores p·(1 - p)"
_CHOSEN = "at the threshold that each fold chose on its validation patients"


def measures() -> tuple[Measure, ...]:
    """All of them, in the order of the table."""
    return (*_overlap(), *_lesions(), *_marked(), *_slices(), *_studies(), *_calibration(), *_types())


def _overlap() -> Iterator[Measure]:
    yield Measure(
        "authors_dice", "overlap", "Dice, the data set authors' measure", "patients with a lesion but patient 70",
        f"Dice of each lesion slice, mean over a patient's, mean over patients; {_MISSED}", samples.authors_dice,
    )  # fmt: skip
    yield Measure(
        "patient_mean_dice", "overlap", "the same with patient 70", "patients with a lesion",
        f"as above; {_MISSED}", samples.patient_mean_dice,
    )  # fmt: skip
    yield Measure(
        "volume_dice", "overlap", "Dice of the patient's volume", "patients with a lesion",
        f"all of a patient's slices stacked, false alarms on lesion-free slices counted; mean over patients; {_MISSED}",
        lambda tables: samples.mean(tables.studies, tables.studies.dice, tables.studies.bleeds),
    )  # fmt: skip
    yield Measure(
        "volume_dice_median",
        "overlap",
        "the same, median",
        "patients with a lesion",
        "as above, median",
        samples.median_dice,
    )
    yield Measure(
        "lesion_slice_dice", "overlap", "Dice of a lesion slice", "lesion slices", f"mean over slices; {_MISSED}",
        lambda tables: samples.mean(tables.slices, tables.slices.dice, tables.slices.has_lesion),
    )  # fmt: skip


def _lesions() -> Iterator[Measure]:
    for rule, words in _RULES.items():
        yield Measure(
            f"lesion_sensitivity_{rule}",
            "lesions",
            f"lesions found ({rule})",
            "lesions",
            words,
            partial(samples.lesions_found, rule),
        )
        for name, span in LESION_VOXELS.items():
            yield Measure(
                f"lesion_sensitivity_{rule}_{name}", "lesions", f"{name} lesions found ({rule})",
                f"lesions of {_words(span)} voxels", words, partial(samples.lesions_found, rule, span=span),
            )  # fmt: skip
        for column, name in enumerate(TYPE_NAMES):
            yield Measure(
                f"lesion_sensitivity_{rule}_{name}", "lesions", f"{name} lesions found ({rule})",
                f"lesions on slices labelled {name}, which may bear another type too", words,
                partial(samples.lesions_found, rule, column=column),
            )  # fmt: skip
        for free in (False, True):
            yield Measure(
                f"false_positives_per_study_{rule}" + ("_bleed_free" if free else ""), "lesions",
                f"false alarms a study ({rule})", "bleed-free patients" if free else "all patients",
                f"{_FALSE[rule]}, of any size", partial(samples.false_alarms, rule, free),
            )  # fmt: skip


def _marked() -> Iterator[Measure]:
    words = "marked: any pixel; no pixel is too few"
    yield Measure(
        "lesion_free_slices_marked", "marked without a lesion", "lesion-free slices marked", "lesion-free slices",
        words,
        lambda tables: samples.share(tables.slices, tables.slices.marked, ~tables.slices.has_lesion),
    )  # fmt: skip
    yield Measure(
        "bleed_free_patients_slices_marked", "marked without a lesion", "slices of bleed-free patients marked",
        "slices of bleed-free patients", words,
        lambda tables: samples.share(tables.slices, tables.slices.marked, ~tables.slices.study_bleeds),
    )  # fmt: skip
    yield Measure(
        "bleed_free_patients_marked", "marked without a lesion", "bleed-free patients marked anywhere",
        "bleed-free patients", words,
        lambda tables: samples.share(tables.studies, tables.studies.marked, ~tables.studies.bleeds),
    )  # fmt: skip


def _slices() -> Iterator[Measure]:
    group, fixed = "slices", f"sensitivity at specificity {SLICE_SPECIFICITY}"
    yield Measure(
        "slice_auc", group, "ROC AUC", "all slices", "all folds' probabilities in one ranking, ties half",
        lambda tables: samples.auc(tables.slices, tables.slices.has_lesion, tables.slices.presence),
    )  # fmt: skip
    yield Measure(
        "slice_auc_within_folds", group, "ROC AUC within folds", "all slices", "mean of the folds' own",
        lambda tables: samples.auc_within(tables.slices, tables.slices.has_lesion, tables.slices.presence),
    )  # fmt: skip
    yield Measure("slice_sensitivity_fixed", group, fixed, "lesion slices", _SAME_CASES, samples.slices_at_fixed)
    for name, span in SLICE_PIXELS.items():
        over = f"lesion slices with {_words(span)} lesion pixels"
        yield Measure(
            f"slice_sensitivity_fixed_{name}", group, f"{fixed}, {name}", over, _SAME_CASES,
            partial(samples.slices_at_fixed, span=span),
        )  # fmt: skip
    for column, name in enumerate(TYPE_NAMES):
        over = f"slices labelled {name}, which may bear another type too"
        yield Measure(
            f"slice_sensitivity_fixed_{name}", group, f"{fixed}, {name}", over, _SAME_CASES,
            partial(samples.slices_at_fixed, column=column),
        )  # fmt: skip
    yield Measure(
        "slice_sensitivity", group, "sensitivity", "lesion slices", _CHOSEN,
        lambda tables: samples.share(tables.slices, tables.slices.called, tables.slices.has_lesion),
    )  # fmt: skip
    yield Measure(
        "slice_specificity", group, "specificity", "lesion-free slices", _CHOSEN,
        lambda tables: samples.share(tables.slices, ~tables.slices.called, ~tables.slices.has_lesion),
    )  # fmt: skip


def _studies() -> Iterator[Measure]:
    group, fixed = "studies", f"sensitivity at specificity {STUDY_SPECIFICITY}"
    yield Measure(
        "study_auc", group, "ROC AUC", "all patients", "all folds' probabilities in one ranking, ties half",
        lambda tables: samples.auc(tables.studies, tables.studies.bleeds, tables.studies.probability),
    )  # fmt: skip
    yield Measure(
        "study_auc_within_folds", group, "ROC AUC within folds", "all patients", "mean of the folds' own",
        lambda tables: samples.auc_within(tables.studies, tables.studies.bleeds, tables.studies.probability),
    )  # fmt: skip
    yield Measure(
        "study_sensitivity_fixed", group, fixed, "patients with a lesion", _SAME_CASES, samples.studies_at_fixed
    )
    for name, span in LOADS.items():
        over = f"patients with {_words(span)} lesion voxels"
        yield Measure(
            f"study_sensitivity_fixed_{name}", group, f"{fixed}, {name}", over, _SAME_CASES,
            partial(samples.studies_at_fixed, span=span),
        )  # fmt: skip
    for column, name in enumerate(TYPE_NAMES):
        over = f"patients with {name}, who may have another type too"
        yield Measure(
            f"study_sensitivity_fixed_{name}", group, f"{fixed}, {name}", over, _SAME_CASES,
            partial(samples.studies_at_fixed, column=column),
        )  # fmt: skip
    yield Measure(
        "study_sensitivity", group, "sensitivity", "patients with a lesion", _CHOSEN,
        lambda tables: samples.share(tables.studies, tables.studies.called, tables.studies.bleeds),
    )  # fmt: skip
    yield Measure(
        "study_specificity", group, "specificity", "bleed-free patients", _CHOSEN,
        lambda tables: samples.share(tables.studies, ~tables.studies.called, ~tables.studies.bleeds),
    )  # fmt: skip


def _calibration() -> Iterator[Measure]:
    group = "calibration"
    words: dict[calibration.Binning, str] = {"width": "10 bins of equal width", "count": "10 bins of equal counts"}
    for binning, bins in words.items():
        yield Measure(
            "slice_ece" if binning == "width" else "slice_ece_equal_count", group, "ECE of the slice probability",
            "all slices", bins, partial(samples.slice_ece, binning),
        )  # fmt: skip
    yield Measure(
        "slice_brier", group, "Brier score of the slice probability", "all slices", _BRIER,
        samples.slice_brier,
    )  # fmt: skip
    yield Measure(
        "study_brier", group, "Brier score of the study probability", "all patients", _BRIER,
        samples.study_brier,
    )  # fmt: skip
    yield Measure(
        "volume_interval_coverage", group, "patients whose lesion voxels lie within the interval given",
        "patients with a lesion and an interval", "ends included; to be read beside the coverage that was promised",
        samples.coverage,
    )  # fmt: skip


def _types() -> Iterator[Measure]:
    for column, name in enumerate(TYPE_NAMES):
        yield Measure(
            f"slice_auc_{name}", "types", f"ROC AUC of {name}", "all slices",
            "slices labelled with the type against all others; '–' for a network that tells no types",
            partial(samples.type_auc, column),
        )  # fmt: skip


def _words(span: tuple[int, int | None]) -> str:
    low, high = span
    if high is None:
        return f"{low:,} or more"
    return f"fewer than {high:,}" if low <= 1 else f"{low:,} to {high - 1:,}"
