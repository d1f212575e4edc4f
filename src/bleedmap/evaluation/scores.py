"""The protocol's table of results from out-of-fold records: every measure with its interval, target and convention."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from bleedmap.arrays import AnyArray
from bleedmap.evaluation.abstention import abstention_measures, answered_measures
from bleedmap.evaluation.measure_table import Measure, measures
from bleedmap.evaluation.measures import Sample
from bleedmap.evaluation.protocol import PROTOCOL, RESAMPLES, SEED, TARGETS
from bleedmap.evaluation.records import OutOfFold
from bleedmap.evaluation.tables import Tables
from bleedmap.metrics.bootstrap import COVERAGE, patient_bootstrap
from bleedmap.metrics.calibration import Bin, reliability

Interval = Literal["bootstrap", "wilson"]


@dataclass(frozen=True)
class Score:
    """One row of the table; None where a number cannot be had.

    Attributes:
        key: the measure's name for programs.
        group: heading.
        title: the measure's name for people.
        value: the measure.
        low: end of its 95 % interval.
        high: the other end.
        interval: how it was had: percentile bootstrap over patients; Wilson's over patients for a share of 0 or 1,
            which a bootstrap could only repeat.
        cases: how many it rests on.
        patients: whom these belong to.
        over: what the cases are.
        convention: how it counts.
        target: what the protocol promised to reach, in words.
        met: whether the value did.
    """

    key: str
    group: str
    title: str
    value: float | None
    low: float | None
    high: float | None
    interval: Interval | None
    cases: int
    patients: int
    over: str
    convention: str
    target: str | None
    met: bool | None

    def to_dict(self) -> dict[str, Any]:
        """As a JSON row."""
        return asdict(self)


@dataclass(frozen=True)
class CrossValidation:
    """One method's results.

    Attributes:
        method: its name.
        scores: the table, of all studies.
        abstained: share of the studies on which no verdict was given: of all, of those that bleed, of those that do
            not.
        answered: the headline measures without these studies; None where a verdict was given on each.
        slice_reliability: what the slice probability's words were worth, bin by bin.
        study_reliability: likewise of the study probability.
        resamples: of the bootstrap.
        made: what the records say of themselves.
    """

    method: str
    scores: tuple[Score, ...]
    abstained: tuple[Score, ...]
    answered: tuple[Score, ...] | None
    slice_reliability: tuple[Bin, ...]
    study_reliability: tuple[Bin, ...]
    resamples: int
    made: Mapping[str, Any]

    def score(self, key: str) -> Score:
        """The row of a measure.

        Raises:
            KeyError: no such measure.
        """
        return {one.key: one for one in (*self.scores, *self.abstained, *(self.answered or ()))}[key]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {
            "protocol": PROTOCOL, "method": self.method, "resamples": self.resamples, "seed": SEED,
            "scores": [one.to_dict() for one in self.scores],
            "abstained": [one.to_dict() for one in self.abstained],
            "without_abstained": None if self.answered is None else [one.to_dict() for one in self.answered],
            "slice_reliability": [asdict(one) for one in self.slice_reliability],
            "study_reliability": [asdict(one) for one in self.study_reliability], "made": dict(self.made),
        }  # fmt: skip


def cross_validation(records: OutOfFold, *, resamples: int = RESAMPLES, seed: int = SEED) -> CrossValidation:
    """Score out-of-fold records; some patients are enough, `OutOfFold.check_against` asks for all.

    Args:
        records: one method's.
        resamples: draws of patients; those that cannot give a measure are left out of its interval.
        seed: of the draws.
    """
    tables, every, shares = Tables.of(records), measures(), abstention_measures()
    without = answered_measures() if tables.studies.abstained.any() else ()
    wanted = (*every, *shares, *without)
    whole = [measure.of(tables) for measure in wanted]

    def statistic(rows: AnyArray, _: AnyArray) -> list[float]:
        drawn = tables.drawn(rows)
        return [measure.of(drawn).value for measure in wanted]

    ends = patient_bootstrap(np.arange(len(records.studies)), statistic, resamples=resamples, seed=seed)
    scores = tuple(_score(*one) for one in zip(wanted, whole, ends.tolist(), strict=True))
    told = len(every) + len(shares)
    return CrossValidation(
        records.method, scores[: len(every)], scores[len(every) : told], scores[told:] or None,
        tuple(reliability(tables.slices.has_lesion, tables.slices.presence)),
        tuple(reliability(tables.studies.bleeds, tables.studies.probability)), resamples, records.made,
    )  # fmt: skip


def _score(measure: Measure, sample: Sample, ends: Sequence[float]) -> Score:
    interval: Interval | None = "bootstrap"
    low, high = (None if np.isnan(end) else float(end) for end in ends)
    if np.isnan(sample.value):
        low = high = interval = None
    elif sample.share and sample.value in (0.0, 1.0):
        (low, high), interval = _wilson(sample), "wilson"
    target = TARGETS.get(measure.key)
    known = None if np.isnan(sample.value) else sample.value
    return Score(
        measure.key, measure.group, measure.title, known, low, high, interval, sample.cases, sample.patients,
        measure.over, measure.convention, None if target is None else str(target),
        None if target is None or known is None else target.met(known),
    )  # fmt: skip


def _wilson(sample: Sample) -> tuple[float, float]:
    """Wilson's interval (1927) as if each patient were one case: cases of a patient are alike."""
    reached = sample.patients if sample.value == 1 else 0
    ends = stats.binomtest(reached, sample.patients).proportion_ci(COVERAGE, method="wilson")
    return float(ends.low), float(ends.high)
