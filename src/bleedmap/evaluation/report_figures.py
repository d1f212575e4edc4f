"""The report's figures, from the tables and scores: reliability, ROC, Dice by patient, what is found."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from bleedmap.arrays import AnyArray, BoolArray
from bleedmap.datasets.folds import LOADS
from bleedmap.evaluation.protocol import LESION_VOXELS, SLICE_PIXELS, SLICE_SPECIFICITY, STUDY_SPECIFICITY
from bleedmap.evaluation.records import TYPE_NAMES
from bleedmap.evaluation.report_sections import Method
from bleedmap.evaluation.tables import Tables
from bleedmap.figures.detection import Reliability, RocCurve, reliability_diagram, roc
from bleedmap.figures.patients import Found, PatientDice, dice_by_patient, sensitivity_panels
from bleedmap.figures.style import PALETTE
from bleedmap.metrics.roc import at_specificity
from bleedmap.page.section import Picture

MOST = len(PALETTE)  # methods that colours tell apart


def pictures(methods: Sequence[Method]) -> tuple[Picture, ...]:
    """All figures, drawn when the report is written; of more than `MOST` methods the first."""
    shown = methods[:MOST]
    found = [
        Picture(
            "dice",
            "Dice of each bleeding patient's volume, ranked, and against the lesion's voxels.",
            lambda: _dice(shown),
        ),
        Picture("roc", "ROC curves of slices and of studies, with the fixed operating point.", lambda: _roc(shown)),
        Picture(
            "reliability",
            "Share of bleeding cases against the probability given, for slices and studies.",
            lambda: _reliability(shown),
        ),
        Picture(
            "sensitivity",
            "Sensitivity for lesions, slices and studies, by size and by type.",
            lambda: _sensitivity(shown),
        ),
    ]
    bleeds = any(one.counts.reference.any() for one in methods[0].records.studies)
    return tuple(found if bleeds else found[2:3])


def roc_curve(name: str, has_lesion: BoolArray, score: AnyArray, specificity: float) -> RocCurve:
    """Every threshold's point, from nothing called to everything called; ties are one step.

    Args:
        name: for the legend.
        has_lesion: (n,) bool.
        score: (n,), higher means more likely.
        specificity: of the point that is marked.
    """
    thresholds = np.concatenate([[np.inf], np.unique(score)[::-1]])
    bleeding, free = np.sort(score[has_lesion]), np.sort(score[~has_lesion])
    rates = [1 - np.searchsorted(own, thresholds, side="left") / max(1, len(own)) for own in (free, bleeding)]
    point = at_specificity(has_lesion, score, specificity)
    return RocCurve(name, rates[0], rates[1], None if point is None else (1 - point.specificity, point.sensitivity))


def _roc(methods: Sequence[Method]) -> Figure:
    slices, studies = [], []
    for method in methods:
        tables = Tables.of(method.records)
        area = [_rounded(method.scores.score(key).value) for key in ("slice_auc", "study_auc")]
        own = (tables.slices.has_lesion, tables.slices.presence, SLICE_SPECIFICITY)
        slices.append(roc_curve(f"{method.name}, area {area[0]}", *own))
        own = (tables.studies.bleeds, tables.studies.probability, STUDY_SPECIFICITY)
        studies.append(roc_curve(f"{method.name}, area {area[1]}", *own))
    words = (
        f"ROC curves out of fold, all folds' probabilities in one ranking. Circles: specificity {SLICE_SPECIFICITY} "
        f"for slices, {STUDY_SPECIFICITY} for studies, at the lowest threshold that reaches it, read off these same "
        "cases: points of the curve, not promises."
    )
    return roc((("Slices", slices), ("Studies", studies)), words)


def _reliability(methods: Sequence[Method]) -> Figure:
    slices = [Reliability(method.name, method.scores.slice_reliability) for method in methods]
    studies = [Reliability(method.name, method.scores.study_reliability) for method in methods]
    words = (
        "Of the cases given a probability, the share that bleeds; on the diagonal a probability keeps its word. Ten "
        "bins of equal width; beneath, the cases of each on a logarithmic scale. Bins of few cases scatter by chance."
    )
    return reliability_diagram((("Slices", slices), ("Studies", studies)), words)


def _dice(methods: Sequence[Method]) -> Figure:
    series = []
    for method in methods:
        studies = Tables.of(method.records).studies
        order = np.argsort(studies.patient, kind="stable")
        kept = order[studies.bleeds[order]]
        series.append(PatientDice(method.name, studies.dice[kept], studies.voxels[kept]))
    words = (
        "Dice of each bleeding patient's whole volume, false alarms on lesion-free slices counted. "
        f"a: ranked by {methods[0].name}. b: against the size of the lesions, on a logarithmic scale."
    )
    return dice_by_patient(series, words)


def _sensitivity(methods: Sequence[Method]) -> Figure:
    kinds = (
        ("Lesions touched", "lesion_sensitivity_touched", tuple(LESION_VOXELS)),
        (f"Slices, specificity {SLICE_SPECIFICITY}", "slice_sensitivity_fixed", tuple(SLICE_PIXELS)),
        (f"Studies, specificity {STUDY_SPECIFICITY}", "study_sensitivity_fixed", tuple(LOADS)),
    )
    panels = [
        (title, [(one.name, _found(one, key, (*sizes, *TYPE_NAMES))) for one in methods]) for title, key, sizes in kinds
    ]
    words = (
        "Sensitivity with 95 % intervals, in brackets the cases. Sizes in voxels of the lesion, pixels of the slice "
        "and voxels of the patient, as the tables say; types are labels of slices, and a case of several types counts "
        "under each."
    )
    return sensitivity_panels(panels, words)


def _found(method: Method, key: str, parts: Sequence[str]) -> list[Found]:
    scores = [method.scores.score(f"{key}_{part}") for part in parts]
    return [Found(part, one.value, one.low, one.high, one.cases) for part, one in zip(parts, scores, strict=True)]


def _rounded(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
