"""Intervals over patients: slices and studies of one patient are not independent."""

from collections.abc import Callable, Sequence

import numpy as np

from bleedmap.arrays import AnyArray, DoubleArray

COVERAGE = 0.95
RESAMPLES = 2000  # draws of patients, unless a published table was made with another number


def patient_bootstrap(
    patients: AnyArray,
    statistic: Callable[[AnyArray, AnyArray], Sequence[float]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> DoubleArray:
    """Percentile bootstrap over patients (Efron and Tibshirani 1993, chapter 13): whole patients are drawn.

    With few patients such an interval is too narrow: with seven, say, it covers less than it says.

    Args:
        patients: (rows,) the patient of each row: of each slice, say.
        statistic: (rows, patient of each row) -> k numbers, NaN where one cannot be had; a patient that was
            drawn twice comes with two names.

    Returns:
        (k, 2) lowest and highest of the central 95 %; NaN where no draw gave a number.
    """
    names = np.unique(patients)
    own_rows = [np.flatnonzero(patients == name) for name in names]
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        chosen = random.integers(len(names), size=len(names))
        rows = np.concatenate([own_rows[index] for index in chosen])
        who = np.repeat(np.arange(len(chosen)), [len(own_rows[index]) for index in chosen])
        drawn.append(statistic(rows, who))
    values = np.asarray(drawn, dtype=np.float64)
    tails = [100 * (1 - COVERAGE) / 2, 100 * (1 + COVERAGE) / 2]
    ends = np.full((values.shape[1], 2), np.nan)
    for index, column in enumerate(values.T):
        known = column[~np.isnan(column)]
        if len(known):
            ends[index] = np.percentile(known, tails)
    return ends


def wilson_interval(reached: int, cases: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share (1927), for a share of 0 or 1, which a bootstrap could only repeat.

    Args:
        reached: cases with the property.
        cases: of how many, one at least; a patient's cases are alike, so that patients are the cases to count.
    """
    from scipy import stats  # noqa: PLC0415 - a second to load, and seldom needed

    ends = stats.binomtest(reached, cases).proportion_ci(COVERAGE, method="wilson")
    return float(ends.low), float(ends.high)
