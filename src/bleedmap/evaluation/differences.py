"""Two methods on the same patients: differences of the headline measures, with the same draws of patients."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bleedmap.arrays import AnyArray
from bleedmap.errors import InputError
from bleedmap.evaluation.measure_table import HEADLINE, measures
from bleedmap.evaluation.protocol import RESAMPLES, SEED, TARGETS
from bleedmap.evaluation.records import OutOfFold
from bleedmap.evaluation.tables import Tables
from bleedmap.metrics.bootstrap import patient_bootstrap

NO_DIFFERENCE = "none"


@dataclass(frozen=True)
class Difference:
    """One measure of two methods; None where a number cannot be had.

    Attributes:
        key: of the measure.
        title: of the measure.
        over: what its cases are.
        first: value of the first method.
        second: value of the second.
        difference: first - second.
        low: end of its 95 % interval, by percentile bootstrap over patients, both methods on the same draws.
        high: the other end.
        better: the better method's name; `NO_DIFFERENCE` where the interval holds 0.
    """

    key: str
    title: str
    over: str
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    better: str | None


@dataclass(frozen=True)
class Comparison:
    """Two methods, by name, and their differences in the order of `HEADLINE`."""

    first: str
    second: str
    differences: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def compare_methods(first: OutOfFold, second: OutOfFold, *, resamples: int = RESAMPLES, seed: int = SEED) -> Comparison:
    """Compare two methods patient by patient.

    Args:
        first: records of one method.
        second: of another, on the same patients, each in the same fold.
        resamples: draws of patients.
        seed: of the draws.

    Raises:
        InputError: the records are not of the same patients, folds and references.
    """
    tables = tuple(Tables.of(one).drawn(_by_patient(one)) for one in (first, second))
    _refuse_others(first, second, tables)
    wanted = [one for one in measures() if one.key in HEADLINE]
    wanted.sort(key=lambda one: HEADLINE.index(one.key))

    def statistic(rows: AnyArray, _: AnyArray) -> list[float]:
        drawn, other = (one.drawn(rows) for one in tables)
        return [measure.of(drawn).value - measure.of(other).value for measure in wanted]

    ends = patient_bootstrap(np.arange(len(first.studies)), statistic, resamples=resamples, seed=seed)
    differences = []
    for measure, (low, high) in zip(wanted, ends.tolist(), strict=True):
        one, other = (measure.of(table).value for table in tables)
        better = _better(measure.key, low, high, (first.method, second.method))
        differences.append(
            Difference(
                measure.key, measure.title, measure.over, _known(one), _known(other), _known(one - other), _known(low),
                _known(high), better,
            )
        )  # fmt: skip
    return Comparison(first.method, second.method, tuple(differences))


def _known(number: float) -> float | None:
    return None if np.isnan(number) else float(number)


def _better(key: str, low: float, high: float, names: tuple[str, str]) -> str | None:
    if np.isnan(low):
        return None
    if low <= 0 <= high:
        return NO_DIFFERENCE
    target = TARGETS.get(key)
    less_is_better = target is not None and target.at_most is not None
    return names[int((high < 0) != less_is_better)]


def _by_patient(records: OutOfFold) -> AnyArray:
    """Rows in the order of the patients' numbers: the same draw takes the same patients of both."""
    return np.argsort([one.patient for one in records.studies], kind="stable")


def _refuse_others(first: OutOfFold, second: OutOfFold, tables: tuple[Tables, ...]) -> None:
    one, other = (table.studies for table in tables)
    same = first.data_sha256 == second.data_sha256 and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in ("patient", "fold", "voxels")
    )
    if not same:
        raise InputError(
            f"{first.method} and {second.method}",
            found="records of different patients, folds or references",
            needed="two methods on the same data, each patient in the same fold",
            remedy="compare methods that were run on the same folds, or give one file of records",
        )
