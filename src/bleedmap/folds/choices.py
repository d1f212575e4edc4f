"""What a fold chooses on its validation patients: calibration, thresholds, gate, interval; and on its training
patients: what familiar images are. The rules are docs/protocol.md's; nothing here sees a test patient."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from sklearn.linear_model import LogisticRegression

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray, FloatArray
from bleedmap.folds.evidence import Evidence, StudyPrediction, extract_evidence
from bleedmap.inference import certainty
from bleedmap.inference.certainty import CertaintySettings, Familiar
from bleedmap.postprocess import without_small
from bleedmap.training.studies import VOXEL_ML

FIRST_THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7)  # of pixels; four of the first recipe's five folds chose the lowest
PIXEL_THRESHOLDS = (0.1, 0.2, *FIRST_THRESHOLDS)
SMALLEST_ML = (0.0, 0.05, 0.1, 0.2)  # of a marked region; 0.2 mL is a ball of 7 mm
DICE_FOR_SMALLEST = 0.005  # of the validation patients' mean, that leaving small regions out may cost
DICE_FOR_FEWER = 0.005  # likewise, that a threshold and gate with fewer false alarms may cost
GATES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
MARKED_ALLOWED = 0.04  # of bleed-free patients' slices; the target is 0.05
COVERAGE = 0.8  # of the volume interval
OFFSET_VOXELS = 100
DOUBT = (0.25, 0.75)  # a calibrated probability in here is wrong at least one time in four
FAMILIAR_AXES = 12
FAMILIAR_MARGIN = 1.1  # over the farthest validation patient
_NONE: AnyArray = np.empty(0)
_RIDGE = 1.0  # sklearn's C: weak for hundreds of slices, strong for a dozen patients


@dataclass(frozen=True)
class Chosen:
    """All that was chosen: `settings`, and the probability from which on a pixel is marked."""

    settings: CertaintySettings
    pixel_threshold: float


def choose(
    validation: Sequence[StudyPrediction], training_features: FloatArray,
    thresholds: Sequence[float] = PIXEL_THRESHOLDS, smallest_ml: Sequence[float] = (0.0,), dice_for_fewer: float = 0.0,
    study_parts: int = 1,
) -> Chosen:  # fmt: skip
    """Fit and choose on patients that the network has not been trained on.

    Args:
        training_features: (slices, features) of the patients that it has been trained on.
        thresholds: of pixels, to choose among.
        smallest_ml: of marked regions, to choose among.
        dice_for_fewer: volume Dice that a threshold and gate may lie below the best, if they mark fewer bleed-free
            slices.
        study_parts: of `bleedmap.inference.certainty.study_evidence`, that a study's probability rests on.
    """
    evidence = [extract_evidence(one) for one in validation]
    weights, study, types = _calibration(evidence, study_parts)
    odds = [one.slices @ np.array(weights[:-1]) + weights[-1] for one in evidence]
    slice_probability = [certainty.probability(one) for one in odds]
    lesion = np.concatenate([one.has_lesion for one in evidence])
    bleeds = np.array([one.has_lesion.any() for one in evidence])
    parts = _study_evidence(evidence, weights)[:, :study_parts]
    threshold, gate = _pixels_and_gate(validation, slice_probability, thresholds, dice_for_fewer)
    least_ml, volumes = _smallest(validation, slice_probability, threshold, gate, smallest_ml)
    settings = CertaintySettings(
        weights, study, types, gate, best_threshold(lesion, np.concatenate(slice_probability)),
        best_threshold(bleeds, certainty.probability(parts @ np.array(study[:-1]) + study[-1])),
        _spread(volumes), OFFSET_VOXELS * VOXEL_ML, COVERAGE, DOUBT,
        familiar_of(training_features, [_features(one) for one in validation]), least_ml,
    )  # fmt: skip
    return Chosen(settings, threshold)


def _calibration(
    evidence: Sequence[Evidence], study_parts: int
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, float]]:
    """Weights of slices, study and types, each fitted by logistic regression on what stands below it."""
    lesion = np.concatenate([one.has_lesion for one in evidence])
    weights = _logistic(np.concatenate([one.slices for one in evidence]), lesion)
    parts = _study_evidence(evidence, tuple(weights.tolist()))[:, :study_parts]
    study = _logistic(parts, np.array([one.has_lesion.any() for one in evidence]))
    return tuple(weights.tolist()), tuple(study.tolist()), _calibrate_types(evidence)


def _calibrate_types(evidence: Sequence[Evidence]) -> tuple[float, float]:
    """Weight and constant of a type's highest logit; the network's own probability where types are not known."""
    told = [(one.types.max(axis=0), one.has_type.any(axis=0)) for one in evidence if one.has_type is not None]
    logits, has = map(np.concatenate, zip(*told, strict=True)) if told else (_NONE, _NONE)
    if len(np.unique(has)) < 2:
        return 1.0, 0.0
    slope, constant = _logistic(logits[:, None], has).tolist()
    return slope, constant


def _study_evidence(evidence: Sequence[Evidence], weights: tuple[float, ...]) -> DoubleArray:
    """(studies, 3)."""
    odds = [one.slices @ np.array(weights[:-1]) + weights[-1] for one in evidence]
    return np.stack([certainty.study_evidence(one.slices, of) for one, of in zip(evidence, odds, strict=True)])


def _logistic(features: AnyArray, truth: BoolArray) -> DoubleArray:
    """Weights, then the constant."""
    fitted = LogisticRegression(C=_RIDGE, max_iter=1000).fit(features, truth)
    weights: DoubleArray = np.append(fitted.coef_[0], fitted.intercept_[0])
    return weights


def _features(one: StudyPrediction) -> FloatArray:
    assert one.segmented.features is not None
    return one.segmented.features


def best_threshold(truth: BoolArray, probability: DoubleArray) -> float:
    """The threshold with the highest sum of sensitivity and specificity (Youden), midway between two values."""
    values = np.unique(probability)
    between = (values[:-1] + values[1:]) / 2 if len(values) > 1 else values
    sums = [(probability[truth] >= at).mean() + (probability[~truth] < at).mean() for at in between]
    return float(between[int(np.argmax(sums))])


def _pixels_and_gate(
    validation: Sequence[StudyPrediction],
    slice_probability: Sequence[DoubleArray],
    thresholds: Sequence[float],
    less: float,
) -> tuple[float, float]:
    """Of the pairs that mark few enough bleed-free patients' slices, the one with the best mean volume Dice; or, of
    those at most `less` below it, the one that marks the fewest. Small regions, dropped later, count here."""
    counted = {at: [_slice_counts(one, at) for one in validation] for at in thresholds}
    scored = []
    for at, gate in product(thresholds, GATES):
        dices, free = [], []
        for (shared, marked, reference), presence in zip(counted[at], slice_probability, strict=True):
            open_ = presence >= gate
            if reference.any():
                dices.append(2 * shared[open_].sum() / (marked[open_].sum() + reference.sum()))
            else:
                free.append((marked > 0) & open_)
        scored.append((float(np.concatenate(free).mean()), float(np.mean(dices)), at, gate))
    allowed = [one for one in scored if one[0] <= MARKED_ALLOWED]
    if not allowed:
        return min(scored, key=lambda one: one[0])[2:]
    enough = max(dice for _, dice, _, _ in allowed) - less
    fewest = min(share for share, dice, _, _ in allowed if dice >= enough) if less else 1.0
    return max((one for one in allowed if one[1] >= enough and one[0] <= fewest), key=lambda one: one[1])[2:]


def _slice_counts(one: StudyPrediction, threshold: float) -> tuple[AnyArray, AnyArray, AnyArray]:
    """(slices,) pixels shared, marked, of the reference."""
    marked = one.segmented.probability >= threshold
    return (
        (marked & one.reference).sum(axis=(1, 2)), marked.sum(axis=(1, 2)), one.reference.sum(axis=(1, 2)),
    )  # fmt: skip


def _smallest(
    validation: Sequence[StudyPrediction], slice_probability: Sequence[DoubleArray], threshold: float, gate: float,
    smallest_ml: Sequence[float],
) -> tuple[float, list[tuple[int, int]]]:  # fmt: skip
    """The largest of `smallest_ml` that costs little Dice: small false alarms go, small bleeds with them. And the
    voxels (marked, of the reference) of each bleeding patient, with it."""
    dices: dict[float, list[float]] = {least: [] for least in smallest_ml}
    volumes: dict[float, list[tuple[int, int]]] = {least: [] for least in smallest_ml}
    for one, presence in zip(validation, slice_probability, strict=True):
        if one.reference.any():
            opened = np.where((presence >= gate)[:, None, None], one.segmented.probability, np.float32(0))
            for least in smallest_ml:
                marked = without_small(opened, threshold, one.voxel_ml, least) >= threshold
                volumes[least].append((int(marked.sum()), int(one.reference.sum())))
                dices[least].append(2 * (marked & one.reference).sum() / sum(volumes[least][-1]))
    means = {least: float(np.mean(values)) for least, values in dices.items()}
    chosen = max(least for least, mean in means.items() if mean >= max(means.values()) - DICE_FOR_SMALLEST)
    return chosen, volumes[chosen]


def _spread(volumes: Sequence[tuple[int, int]]) -> float:
    """Split conformal over bleeding patients, (marked, of the reference) in voxels: the log ratio of volumes that
    `COVERAGE` of them stay within."""
    return conformal([abs(np.log((truth + OFFSET_VOXELS) / (marked + OFFSET_VOXELS))) for marked, truth in volumes])


def conformal(scores: Sequence[float]) -> float:
    """The score that the next one stays within with probability `COVERAGE`, or the highest where there are too few."""
    ordered = np.sort(scores)
    return float(ordered[min(len(ordered), int(np.ceil(COVERAGE * (len(ordered) + 1)))) - 1])


def familiar_of(training: FloatArray, others: Sequence[FloatArray]) -> Familiar:
    """Principal axes of the training slices' features; the limit from patients that were not trained on."""
    centre = training.mean(axis=0, dtype=np.float64)
    _, spread, axes = np.linalg.svd(training - centre, full_matrices=False)
    scaled = axes[:FAMILIAR_AXES] / (spread[:FAMILIAR_AXES, None] / np.sqrt(len(training)))
    rounded = Familiar(_rounded(centre), tuple(_rounded(axis) for axis in scaled), 0.0)
    farthest = FAMILIAR_MARGIN * max((rounded.distance(one) for one in others), default=0.0)
    return Familiar(rounded.centre, rounded.axes, round(farthest, 4))


def _rounded(values: AnyArray) -> tuple[float, ...]:
    return tuple(float(f"{one:.5g}") for one in values)


def choose_for_all(
    evidence: Sequence[Evidence], volumes: Sequence[tuple[int, int]], folds: Sequence[Chosen], features: FloatArray
) -> Chosen:
    """For a network trained on all patients: calibration on what the folds' networks said of their test patients,
    thresholds and limits as the folds' medians.

    Args:
        evidence: of every patient, out of fold.
        volumes: voxels marked and of the reference, of every bleeding patient, out of fold.
        features: (slices, features) of the network itself, on all patients.
    """
    settings = [one.settings for one in folds]
    weights, study, types = _calibration(evidence, len(settings[0].study_weights) - 1)
    centre_and_axes = familiar_of(features, [])
    familiar = replace(centre_and_axes, farthest=_median(one.familiar.farthest for one in settings if one.familiar))
    return Chosen(
        CertaintySettings(
            weights, study, types, _median(one.gate for one in settings),
            _median(one.slice_threshold for one in settings), _median(one.study_threshold for one in settings),
            _spread(volumes), OFFSET_VOXELS * VOXEL_ML, COVERAGE, DOUBT, familiar,
            _median(one.smallest_ml for one in settings),
        ),
        _median(one.pixel_threshold for one in folds),
    )  # fmt: skip


def _median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))
