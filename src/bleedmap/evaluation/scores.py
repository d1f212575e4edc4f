"""Scores of one method, and differences of two on the same patients: every measure with its interval and target."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from bleedmap.arrays import AnyArray
from bleedmap.errors import InputError
from bleedmap.evaluation.measure_table import HEADLINE, Measure, abstention_measures, answered_measures, measures
from bleedmap.evaluation.measures import Measured
from bleedmap.evaluation.protocol import PROTOCOL, SEED, TARGETS
from bleedmap.evaluation.records import OutOfFold
from bleedmap.evaluation.tables import Tables
from bleedmap.metrics.bootstrap import RESAMPLES, patient_bootstrap, wilson_interval
from bleedmap.metrics.calibration import Bin, reliability

Interval = Literal["bootstrap", "wilson"]
NO_DIFFERENCE = "none"


@dataclass(frozen=True)
class Score:
    """One row of the table; None where a number cannot be had.

    `interval`: how it was had: percentile bootstrap over patients; Wilson's over patients for a share of 0 or 1,
    which a bootstrap could only repeat. None where all cases are one patient's, whose draws are all alike.
    """

    key: str  # the measure's name for programs
    group: str  # heading
    title: str  # the measure's name for people
    value: float | None  # the measure
    low: float | None  # end of its 95 % interval
    high: float | None  # the other end
    interval: Interval | None
    cases: int  # how many it rests on
    patients: int  # whom these belong to
    over: str  # what the cases are
    convention: str  # how it counts
    target: str | None  # what the protocol promised to reach, in words
    met: bool | None  # whether the value did


@dataclass(frozen=True)
class CrossValidation:
    """One method's results."""

    method: str  # its name
    scores: tuple[Score, ...]  # the table, of all studies
    abstained: tuple[Score, ...]  # share without a verdict: of all studies, of bleeding, of bleed-free ones
    answered: tuple[Score, ...] | None  # HEADLINE without these; None: a verdict was given on each
    slice_reliability: tuple[Bin, ...]  # the slice probability against the share that bleeds, bin by bin
    study_reliability: tuple[Bin, ...]  # likewise of the study probability
    resamples: int  # of the bootstrap
    made: Mapping[str, Any]  # how the records came about

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
            "scores": [asdict(one) for one in self.scores],
            "abstained": [asdict(one) for one in self.abstained],
            "without_abstained": None if self.answered is None else [asdict(one) for one in self.answered],
            "slice_reliability": [asdict(one) for one in self.slice_reliability],
            "study_reliability": [asdict(one) for one in self.study_reliability], "made": dict(self.made),
        }  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """The difference of two methods in one measure; None where a number cannot be had."""

    key: str  # of the measure
    title: str  # of the measure
    over: str  # what its cases are
    first: float | None  # value of the first method
    second: float | None  # value of the second
    difference: float | None  # first - second
    low: float | None  # end of its 95 % interval, by percentile bootstrap over patients, both methods on the same draws
    high: float | None  # the other end
    better: str | None  # the better method's name; `NO_DIFFERENCE` where the interval holds 0


@dataclass(frozen=True)
class Comparison:
    """Two methods, by name, and their differences in the order of `HEADLINE`."""

    first: str
    second: str
    differences: tuple[Difference, ...]


def cross_validation(records: OutOfFold, *, resamples: int = RESAMPLES, seed: int = SEED) -> CrossValidation:
    """Score records of studies; some patients are enough, `OutOfFold.check_against` asks for all.

    Args:
        records: one method's; a patient may have several studies.
        resamples: draws of patients; those that cannot give a measure are left out of its interval.
    """
    tables, every, shares = Tables.of(records), measures(), abstention_measures()
    without = answered_measures() if tables.studies.abstained.any() else ()
    wanted = (*every, *shares, *without)

    def statistic(rows: AnyArray, _: AnyArray) -> list[float]:
        drawn = tables.drawn(rows)
        return [measure.compute(drawn).value for measure in wanted]

    ends = patient_bootstrap(tables.studies.patient, statistic, resamples=resamples, seed=seed)
    scores = tuple(
        _score(measure, measure.compute(tables), own) for measure, own in zip(wanted, ends.tolist(), strict=True)
    )
    last = len(every) + len(shares)
    return CrossValidation(
        records.method, scores[: len(every)], scores[len(every) : last], scores[last:] or None,
        tuple(reliability(tables.slices.has_lesion, tables.slices.presence)),
        tuple(reliability(tables.studies.bleeds, tables.studies.probability)), resamples, records.made,
    )  # fmt: skip


def _score(measure: Measure, measured: Measured, ends: Sequence[float]) -> Score:
    value, low, high = map(_known, (measured.value, *ends))
    interval: Interval | None = "bootstrap"
    if value is None:
        low = high = interval = None
    elif measured.is_share and value in (0.0, 1.0):
        (low, high), interval = wilson_interval(int(value) * measured.patients, measured.patients), "wilson"
    elif measured.patients < 2:
        low = high = interval = None
    target = TARGETS.get(measure.key)
    return Score(
        measure.key, measure.group, measure.title, value, low, high, interval, measured.cases, measured.patients,
        measure.over, measure.convention, None if target is None else str(target),
        None if target is None or value is None else target.met(value),
    )  # fmt: skip


def compare_methods(first: OutOfFold, second: OutOfFold, *, resamples: int = RESAMPLES, seed: int = SEED) -> Comparison:
    """Compare the headline measures of two methods, on the same draws of patients, each in the same fold.

    Raises:
        InputError: the records are not of the same patients, folds and references.
    """
    one, other = _by_patient(first), _by_patient(second)
    _refuse_others(first, second, one, other)
    every = {measure.key: measure for measure in measures()}
    wanted = [every[key] for key in HEADLINE]

    def statistic(rows: AnyArray, _: AnyArray) -> list[float]:
        drawn, against = one.drawn(rows), other.drawn(rows)
        return [measure.compute(drawn).value - measure.compute(against).value for measure in wanted]

    ends = patient_bootstrap(one.studies.patient, statistic, resamples=resamples, seed=seed)
    differences = []
    for measure, (low, high) in zip(wanted, ends.tolist(), strict=True):
        value, against = measure.compute(one).value, measure.compute(other).value
        better = _better(measure.key, low, high, (first.method, second.method))
        differences.append(
            Difference(
                measure.key, measure.title, measure.over, _known(value), _known(against), _known(value - against),
                _known(low), _known(high), better,
            )
        )  # fmt: skip
    return Comparison(first.method, second.method, tuple(differences))


def _known(number: float) -> float | None:
    return None if np.isnan(number) else float(number)


def _by_patient(records: OutOfFold) -> Tables:
    """Studies in the order of their patients' numbers: the same draw takes the same patients of both methods."""
    return Tables.of(records).drawn(np.argsort([one.patient for one in records.studies], kind="stable"))


def _better(key: str, low: float, high: float, names: tuple[str, str]) -> str | None:
    if np.isnan(low):
        return None
    if low <= 0 <= high:
        return NO_DIFFERENCE
    target = TARGETS.get(key)
    less_is_better = target is not None and target.at_most is not None
    return names[int((high < 0) != less_is_better)]


def _refuse_others(first: OutOfFold, second: OutOfFold, one: Tables, other: Tables) -> None:
    same = first.data_sha256 == second.data_sha256 and all(
        np.array_equal(getattr(one.studies, name), getattr(other.studies, name))
        for name in ("patient", "fold", "voxels")
    )
    if not same:
        raise InputError(
            f"{first.method} and {second.method}",
            found="records of different patients, folds or references",
            needed="two methods on the same data, each patient in the same fold",
            remedy="compare methods that were run on the same folds, or give one file of records",
        )
