"""How sure the program is: calibrated probabilities of slices, study and types, an interval for the volume, abstention.

Everything is a pure function of what the network said (`Segmented`) and of the numbers that its file carries under
'certainty', which were fitted on patients that the network had not seen (docs/protocol.md).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray, FloatArray
from bleedmap.inference.backends import Segmented
from bleedmap.models.networks import LABELS

SMALLEST_EXTENT = 1e-5  # of the view; below, more or less is noise: 2.5 pixels of 500×500


@dataclass(frozen=True)
class Certainty:
    """What the program says of a study beside its outline.

    `types`: (name, probability that the study holds it) for EDH, IPH, SDH, IVH, SAH; learned from labels of whole
    slices, so they are of the study, not of a lesion.
    `volume_ml`: lowest and highest of the volume's interval; None where nothing is marked (a missed bleed has no
    bound), where pixels have no size, or where the user's threshold is not the one that it was fitted for.
    """

    slices: tuple[float, ...]  # calibrated probability that each slice bleeds, in the order of the volume
    study: float  # calibrated probability that the study bleeds
    types: tuple[tuple[str, float], ...]
    volume_ml: tuple[float, float] | None
    coverage: float  # share of bleeding patients, unseen in training, whose volume such an interval held
    abstained: tuple[str, ...] = ()  # why no verdict is given, in sentences for the reader; empty where one is


@dataclass(frozen=True)
class Familiar:
    """What the training data look like to the network: axes of its features, and how far is far."""

    centre: tuple[float, ...]  # (features,) their mean over the training slices
    axes: tuple[tuple[float, ...], ...]  # (k, features) each scaled so that the training slices vary by 1 along it
    farthest: float  # the largest distance of a study that is still called familiar

    def distance(self, features: FloatArray) -> float:
        """Median over the slices of the distance along the axes: (slices, features) -> 1 is as usual."""
        along = (features - np.array(self.centre)) @ np.array(self.axes).T  # (slices, k)
        return float(np.median(np.sqrt((along**2).mean(axis=1))))


@dataclass(frozen=True)
class CertaintySettings:
    """The fitted numbers; weights files carry them as JSON.

    `slice_threshold`, `study_threshold`: called bleeding from these probabilities on.
    """

    slice_weights: tuple[float, ...]  # of `slice_evidence`, then the constant: a slice's log odds
    study_weights: tuple[float, ...]  # of the first parts of `study_evidence`, then the constant: the study's log odds
    type_weights: tuple[float, float]  # of a type's highest logit over the slices, then the constant
    gate: float  # pixels are marked only in slices whose probability is at least this
    slice_threshold: float
    study_threshold: float
    spread: float  # the interval is the volume times and over exp(spread)
    offset_ml: float  # added to the volume before and taken off after, so that a small one has an interval too
    coverage: float  # that `spread` was fitted for
    doubt: tuple[float, float]  # lowest and highest study probability between which no verdict is given
    familiar: Familiar | None = None  # of the training data; None where it was not fitted
    smallest_ml: float = 0.0  # regions of less are not marked, where voxels have a size; 0: all are

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "CertaintySettings":
        """From `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: something is missing, unknown or of another kind.
        """
        values = dict(content)
        for name in ("slice_weights", "study_weights", "type_weights", "doubt"):
            values[name] = tuple(float(one) for one in values[name])
        if not 2 <= len(values["study_weights"]) <= 4:
            raise ValueError(f"{len(values['study_weights'])} weights of a study")
        if (far := values.get("familiar")) is not None:
            axes = tuple(tuple(float(one) for one in axis) for axis in far["axes"])
            values["familiar"] = Familiar(tuple(map(float, far["centre"])), axes, float(far["farthest"]))
        return cls(**values)


def slice_evidence(segmented: Segmented) -> DoubleArray:
    """(slices, 3): logit of presence, its mean over the neighbours, and the log of the expected share of the view.

    Raises:
        ValueError: the network tells no presence.
    """
    if segmented.labels is None:
        raise ValueError("a network that tells no presence")
    presence = segmented.labels[:, 0].astype(np.float64)
    padded = np.pad(presence, 1, mode="edge")
    around = (padded[:-2] + padded[2:]) / 2
    extent = np.log10(SMALLEST_EXTENT + segmented.extent.astype(np.float64))
    evidence: DoubleArray = np.stack([presence, around, extent], axis=1)
    return evidence


def slice_log_odds(segmented: Segmented, settings: CertaintySettings) -> DoubleArray:
    """(slices,) log odds that each slice bleeds."""
    weights = np.array(settings.slice_weights)
    odds: DoubleArray = slice_evidence(segmented) @ weights[:-1] + weights[-1]
    return odds


def probability(log_odds: AnyArray | float) -> DoubleArray:
    """Log odds -> probability."""
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -40, 40))), np.float64)


def study_evidence(evidence: DoubleArray, log_odds: DoubleArray) -> DoubleArray:
    """(3,): the highest slice's log odds, the highest mean of three slices side by side, and the log of the expected
    share of the view over all slices.

    Args:
        evidence: (slices, 3), `slice_evidence`.
        log_odds: (slices,) that each bleeds.
    """
    padded = np.pad(log_odds, 1, mode="edge")
    three = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    found: DoubleArray = np.array([log_odds.max(), three.max(), np.log10((10 ** evidence[:, 2]).mean())])
    return found


def study_probability(segmented: Segmented, settings: CertaintySettings) -> float:
    """Of a study, from its slices."""
    weights, odds = np.array(settings.study_weights), slice_log_odds(segmented, settings)
    parts = study_evidence(slice_evidence(segmented), odds)[: len(weights) - 1]
    return float(probability(parts @ weights[:-1] + weights[-1]))


def type_probabilities(segmented: Segmented, settings: CertaintySettings) -> DoubleArray:
    """(slices, 5) of each type, on the scale on which the highest slice speaks for the study."""
    assert segmented.labels is not None
    slope, constant = settings.type_weights
    return probability(slope * segmented.labels[:, 1:] + constant)


def volume_interval(volume: float, settings: CertaintySettings, offset: float) -> tuple[float, float]:
    """Lowest and highest of the interval around a volume, in the unit of `offset`."""
    factor, shifted = float(np.exp(settings.spread)), volume + offset
    return max(0.0, shifted / factor - offset), shifted * factor - offset


def abstentions(study: float, marked: bool, segmented: Segmented, settings: CertaintySettings) -> tuple[str, ...]:
    """Why no verdict can be given: sentences, none where one can."""
    reasons = []
    low, high = settings.doubt
    if low <= study < high:
        reasons.append(f"The probability of a bleed, {study:.2f}, is too near to even.")
    elif marked != (study >= settings.study_threshold):
        said = "marks a bleed" if marked else "marks none"
        reasons.append(f"The outline {said}, but the probability of a bleed is {study:.2f}: the two disagree.")
    if settings.familiar is not None and segmented.features is not None:
        distance = settings.familiar.distance(segmented.features)
        if distance > settings.familiar.farthest:
            reasons.append(
                f"The images are unlike those that the network was trained on (distance {distance:.2f}, "
                f"familiar up to {settings.familiar.farthest:.2f})."
            )
    return tuple(reasons)


def estimate_certainty(
    segmented: Segmented, volume_ml: float | None, marked: bool, settings: CertaintySettings,
    doubts: tuple[str, ...] = (),
) -> Certainty:  # fmt: skip
    """Say how sure the program is of a study and its outline.

    Args:
        volume_ml: of the mask; None where it can have no interval.
        doubts: further reasons to give no verdict, as those of the input gate.
    """
    odds = slice_log_odds(segmented, settings)
    study = study_probability(segmented, settings)
    types = type_probabilities(segmented, settings).max(axis=0)
    interval = volume_interval(volume_ml, settings, settings.offset_ml) if volume_ml else None
    return Certainty(
        tuple(float(one) for one in probability(odds)), study,
        tuple((name, float(one)) for name, one in zip(LABELS[1:], types, strict=True)),
        interval, settings.coverage, (*abstentions(study, marked, segmented, settings), *doubts),
    )  # fmt: skip


def gate_slices(segmented: Segmented, settings: CertaintySettings) -> BoolArray:
    """(slice,) which slices the gate opens: those whose probability is high enough. It looks at no pixel."""
    return np.asarray(probability(slice_log_odds(segmented, settings)) >= settings.gate)
