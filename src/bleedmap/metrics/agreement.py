"""Agreement of two measures of a volume: bias and limits of agreement (Bland and Altman, Lancet 1986, 327, 307-310)."""

from dataclasses import dataclass

import numpy as np

from bleedmap.arrays import AnyArray
from bleedmap.metrics.bootstrap import patient_bootstrap

_WIDTH = 1.96  # standard deviations to either side: 95 % of normal differences


@dataclass(frozen=True)
class Agreement:
    """Differences `measured - reference`, in the unit of the input.

    `bias_interval`: its 95 % interval, percentile bootstrap over patients; None with one patient alone.
    `low`, `high`: limits of agreement, bias ± 1.96 standard deviations; None with fewer than two studies.
    """

    studies: int  # how many
    patients: int  # how many patients they are of
    bias: float  # mean difference
    bias_interval: tuple[float, float] | None
    low: float | None
    high: float | None
    mean_absolute: float  # mean of the differences' sizes
    median_absolute: float  # median of the differences' sizes


def bland_altman(
    reference: AnyArray, measured: AnyArray, patients: AnyArray, *, resamples: int, seed: int
) -> Agreement | None:
    """Compare two measures of the same studies; None without studies.

    Args:
        reference: (n,) by the reference.
        measured: (n,) by the method.
        patients: (n,) the patient of each study.
    """
    difference = np.asarray(measured, np.float64) - np.asarray(reference, np.float64)
    if not len(difference):
        return None
    of_patients, interval = len(np.unique(patients)), None
    if of_patients > 1:
        ((low, high),) = patient_bootstrap(
            patients, lambda rows, who: [float(difference[rows].mean())], resamples=resamples, seed=seed
        )
        interval = float(low), float(high)
    bias, sizes = float(difference.mean()), np.abs(difference)
    reach = _WIDTH * float(difference.std(ddof=1)) if len(difference) > 1 else None
    return Agreement(
        studies=len(difference),
        patients=of_patients,
        bias=bias,
        bias_interval=interval,
        low=None if reach is None else bias - reach,
        high=None if reach is None else bias + reach,
        mean_absolute=float(sizes.mean()),
        median_absolute=float(np.median(sizes)),
    )
