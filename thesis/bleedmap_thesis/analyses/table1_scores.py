"""A cell of Table 1 in numbers: every measure, over seeds, with an interval over patients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.evaluation.slices import RESAMPLES, score
from bleedmap.metrics import overlap
from bleedmap.metrics.bootstrap import patient_bootstrap
from bleedmap_thesis.analyses.lesion_free import share
from bleedmap_thesis.analyses.paired_slices import Estimate, Tested, auc_with_draws, bootstrap, from_draws
from bleedmap_thesis.analyses.trained_conventions import thesis_scores
from bleedmap_thesis.record import Evaluation

BOOTSTRAP_SEED = 0
THESIS = (
    ("iou", "IoU (lesion)"), ("mean_iou", "mean IoU (lesion and background)"), ("dice", "Dice"),
    ("accuracy", "accuracy %"),
)  # fmt: skip
# Our measure -> the figure of Table 1 that it is held against; its own name there.
PRINTED = {"iou": ("mean_iou", "mean IoU"), "dice": ("dice", "Dice"), "accuracy": ("accuracy", "accuracy %")}
STRICT = (
    ("lesion_slice_dice", "lesion-slice Dice"), ("patient_mean_dice", "per-patient Dice"),
    ("lesion_free_slices_marked", "lesion-free slices marked %"), ("slice_roc_auc", "slice AUC"),
)  # fmt: skip
_NAMES = dict((*THESIS, *STRICT))
PERCENT = ("accuracy", "lesion_free_slices_marked")


@dataclass(frozen=True)
class Measured:
    """One measure of a cell: the mean over seeds, its 95 % interval, and the lowest and highest seed."""

    value: float | None
    low: float | None
    high: float | None
    lowest_seed: float | None
    highest_seed: float | None


def measure(evaluations: Sequence[Evaluation], resamples: int = RESAMPLES) -> dict[str, Measured]:
    """Every measure, averaged over seeds, with an interval by bootstrap over patients.

    A patient that is drawn brings its test slices of every seed.

    Args:
        evaluations: one a seed, 1 or more.
        resamples: of the bootstrap of the thesis' measures; the strict ones have `paired_slices.RESAMPLES`.
    """
    single = np.array([_scores(one) for one in evaluations])
    ends = {**_thesis_intervals(evaluations, resamples), **_strict_intervals(evaluations)}
    found = {}
    for name, each in zip(_NAMES, single.T, strict=True):
        factor, known = 100 if name in PERCENT else 1, each[~np.isnan(each)]
        values = (known.mean(), *ends[name], known.min(), known.max()) if len(known) else (np.nan,) * 5
        found[name] = Measured(*(None if np.isnan(value) else float(value) * factor for value in values))
    return found


def _scores(evaluation: Evaluation) -> list[float]:
    """In the order of `_NAMES`; NaN where there is none."""
    strict = score(evaluation.results())
    found: dict[str, float | None] = {**strict["strict"], **strict["detection"], **thesis_scores(evaluation)}
    return [np.nan if (value := found[name]) is None else value for name in _NAMES]


def _thesis_intervals(evaluations: Sequence[Evaluation], resamples: int) -> dict[str, tuple[float, float]]:
    owner = np.repeat(np.arange(len(evaluations)), [len(one.ids) for one in evaluations])
    own_row = np.concatenate([np.arange(len(one.ids)) for one in evaluations])
    names = [name for name, _ in THESIS]

    def statistic(rows: AnyArray, who: AnyArray) -> list[float]:
        drawn = []
        for index, one in enumerate(evaluations):
            mine = own_row[rows[owner[rows] == index]]
            if len(mine):
                scores = thesis_scores(_rows(one, mine))
                drawn.append([np.nan if (value := scores[name]) is None else value for name in names])
        return list(_over_seeds(np.array(drawn)))

    patients = np.concatenate([one.patients for one in evaluations])
    ends = patient_bootstrap(patients, statistic, resamples=resamples, seed=BOOTSTRAP_SEED)
    return {name: (float(low), float(high)) for name, (low, high) in zip(names, ends, strict=True)}


def _rows(evaluation: Evaluation, rows: AnyArray) -> Evaluation:
    counts, hit, total = evaluation.counts, evaluation.soft_hit, evaluation.soft_sum
    return Evaluation(
        evaluation.epoch, tuple(evaluation.ids[row] for row in rows), evaluation.score[rows],
        None if counts is None else counts.rows(rows), None if hit is None else hit[rows],
        None if total is None else total[rows],
    )  # fmt: skip


def _strict_intervals(evaluations: Sequence[Evaluation]) -> dict[str, tuple[float, float]]:
    of = _tested(evaluations)
    assert of.counts is not None
    marked = np.where(of.lesion, np.nan, of.counts.predicted > 0)
    auc = from_draws(*auc_with_draws(of, np.unique(of.patients)))
    who, seeds, means = _patient_means(of)
    found = {
        "lesion_slice_dice": _interval(of.patients, of.seeds, of.dice),
        "patient_mean_dice": _interval(who, seeds, means),
        "lesion_free_slices_marked": _share(of, marked),
        "slice_roc_auc": auc,
    }
    return {name: (one.low, one.high) for name, one in found.items()}


def _share(of: Tested, marked: DoubleArray) -> Estimate:
    """As elsewhere in the report: where none or all are marked, a bootstrap could only repeat that."""
    there = ~np.isnan(marked)
    if not there.any() or 0 < marked[there].sum() < there.sum():
        return _interval(of.patients, of.seeds, marked)
    return share(of.patients[there], marked[there] > 0)


def _tested(evaluations: Sequence[Evaluation]) -> Tested:
    """All seeds' slices, one seed after another."""
    results = [one.results() for one in evaluations]
    seeds = np.repeat(np.arange(len(results)), [len(one.ids) for one in results])
    return Tested(
        np.concatenate([one.ids for one in results]), np.concatenate([one.patients for one in results]), seeds,
        np.zeros(len(seeds), np.int64), np.concatenate([one.highest for one in results]).astype(np.float64),
        np.concatenate([one.has_lesion for one in results]), overlap.concatenate([one.counts for one in results]),
    )  # fmt: skip


def _patient_means(of: Tested) -> tuple[AnyArray, AnyArray, DoubleArray]:
    """A row a seed and patient with a lesion: patient, seed, mean Dice of its lesion slices."""
    dice, keys = of.dice, sorted(set(zip(of.patients[of.lesion], of.seeds[of.lesion], strict=True)))
    means = [dice[of.lesion & (of.patients == who) & (of.seeds == seed)].mean() for who, seed in keys]
    return np.array([who for who, _ in keys]), np.array([seed for _, seed in keys]), np.array(means)


def _interval(patients: AnyArray, seeds: AnyArray, values: DoubleArray) -> Estimate:
    """Of the mean over seeds of a mean over rows; rows of NaN are left out."""
    there = ~np.isnan(values)
    if not there.any():
        return Estimate(np.nan, np.nan, np.nan)
    own = (seeds[there, None] == np.unique(seeds)).astype(np.float64)
    columns = np.concatenate([own * values[there, None], own], axis=1)
    count = own.shape[1]
    return bootstrap(patients[there], columns, lambda sums: _over_seeds(sums[:, :count] / sums[:, count:], 1)[:, None])[
        0
    ]


def _over_seeds(values: DoubleArray, axis: int = 0) -> DoubleArray:
    """The mean, leaving out what a seed cannot score."""
    return np.asarray(np.ma.masked_invalid(values).mean(axis=axis).filled(np.nan), np.float64)
