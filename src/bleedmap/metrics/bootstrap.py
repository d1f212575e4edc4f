"""Intervals that respect patients: slices of one patient are not independent."""

from collections.abc import Callable, Sequence

import numpy as np

from bleedmap.arrays import AnyArray, DoubleArray

COVERAGE = 0.95


def patient_bootstrap(
    patients: AnyArray, statistic: Callable[[AnyArray, AnyArray], Sequence[float]], *, resamples: int, seed: int
) -> DoubleArray:
    """Percentile bootstrap over patients (Efron and Tibshirani 1993, chapter 13): whole patients are drawn.

    With few patients such an interval is too narrow: with seven, say, it covers less than it says.

    Args:
        patients: (slices,) the patient of each slice.
        statistic: (rows, patient of each row) -> k numbers, NaN where one cannot be had; a patient that was
            drawn twice comes with two names.
        resamples: how many draws.
        seed: of the draws.

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
