"""What every comparison rests on: test slices paired by id, and intervals over patients."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray
from bleedmap.datasets.splits import Kind
from bleedmap.figures import style
from bleedmap.metrics import overlap
from bleedmap.metrics.bootstrap import COVERAGE
from bleedmap.metrics.overlap import Counts
from bleedmap.page.section import Estimate
from bleedmap_thesis.plan import KINDS, UNET, Part, Scale, name_method, rank_method
from bleedmap_thesis.progress import FoldCount, count_folds
from bleedmap_thesis.record import CellResult, Evaluation

MAIN = "model-2-b32"
COLOURS = {"slice": style.PALETTE[0], "patient": style.PALETTE[1]}
RESAMPLES = 4000
LESION_DICE = (
    "Dice: mean over lesion slices, probability ≥ 0.5 (a baseline: its own mask), at the network's size; a lesion of "
    "which nothing is marked scores 0"
)
INTERVAL = (
    f"95 % intervals: percentile bootstrap over patients, {RESAMPLES:,} resamples, the trained networks held fixed; "
    "they are somewhat narrow, since 36 patients bleed, with 1 to 19 lesion slices each"
)
_SEED = 0  # of bootstraps and sign flips


@dataclass(frozen=True, eq=False)
class Tested:
    """Test slices of several cells, one cell after another: a row a slice of one seed."""

    ids: AnyArray  # (n,) slice ids
    patients: AnyArray  # (n,) of the slices
    seeds: AnyArray  # (n,) of the cells
    folds: AnyArray  # (n,) of the cells, 0 without folds
    score: DoubleArray  # (n,) how likely a bleed is in the slice
    lesion: BoolArray  # (n,) bool, whether the reference marks any pixel at the network's size
    counts: Counts | None  # pixels, or None for a method that only classifies

    @property
    def dice(self) -> DoubleArray:
        """(n,) lesion Dice; NaN on lesion-free slices."""
        assert self.counts is not None, "a classifier marks no pixels"
        return np.where(self.lesion, overlap.dice(self.counts, empty=np.nan), np.nan)

    def rows(self, chosen: AnyArray) -> "Tested":
        """Some rows, by index or bool."""
        counts = None if self.counts is None else self.counts.rows(chosen)
        return Tested(
            self.ids[chosen], self.patients[chosen], self.seeds[chosen], self.folds[chosen], self.score[chosen],
            self.lesion[chosen], counts,
        )  # fmt: skip


def select(results: Iterable[CellResult], scale: Scale, part: Part, label: str, kind: Kind) -> list[CellResult]:
    """The finished cells of one method on one kind of split."""
    wanted = (scale.name, part, label, kind)
    return [one for one in results if (one.cell.scale, one.cell.part, one.cell.label, one.cell.kind) == wanted]


def list_labels(results: Iterable[CellResult], scale: Scale, part: Part) -> list[str]:
    """List the methods that have a finished cell, in the order of tables."""
    found = {one.cell.label for one in results if (one.cell.scale, one.cell.part) == (scale.name, part)}
    return sorted(found, key=rank_method)


def find_lesions(results: Iterable[CellResult], scale: Scale) -> frozenset[str]:
    """Find the slices whose reference marks a pixel, from the counts of any method that marks pixels."""
    evaluations = [one.last for one in results if one.cell.scale == scale.name and one.last.counts is not None]
    return frozenset(
        name for one in evaluations if one.counts is not None
        for name, lesion in zip(one.ids, one.counts.reference > 0, strict=True) if lesion
    )  # fmt: skip


def gather(cells: Sequence[CellResult], lesions: frozenset[str], epoch: int | None = None) -> Tested:
    """Concatenate the test slices of one cell or more, after all epochs or after `epoch`."""
    found: list[tuple[CellResult, Evaluation]] = [
        (one, next(kept for kept in one.evaluations if epoch in (None, kept.epoch)) if epoch else one.last)
        for one in cells
    ]
    counts = [kept.counts for _, kept in found if kept.counts is not None]
    ids = np.concatenate([kept.ids for _, kept in found])
    return Tested(
        ids,
        np.concatenate([kept.patients for _, kept in found]),
        np.concatenate([np.full(len(kept.ids), one.cell.seed) for one, kept in found]),
        np.concatenate([np.full(len(kept.ids), one.cell.fold or 0) for one, kept in found]),
        np.concatenate([kept.score for _, kept in found]).astype(np.float64),
        np.array([name in lesions for name in ids.tolist()], np.bool_),
        overlap.concatenate(counts) if counts else None,
    )


def pair_slices(first: Tested, second: Tested) -> tuple[Tested, Tested]:
    """Keep only the slices that both tested under the same seed, in the same order."""
    place = {key: row for row, key in enumerate(zip(second.seeds.tolist(), second.ids.tolist(), strict=True))}
    keys = zip(first.seeds.tolist(), first.ids.tolist(), strict=True)
    rows = np.array([(row, place[key]) for row, key in enumerate(keys) if key in place], np.int64).reshape(-1, 2)
    return first.rows(rows[:, 0]), second.rows(rows[:, 1])


def pair_lesions(first: Tested, second: Tested) -> tuple[Tested, Tested]:
    """Keep only the lesion slices that both tested under the same seed, in the same order."""
    first, second = pair_slices(first, second)
    return first.rows(first.lesion), second.rows(second.lesion)


@cache
def draw_patients(patients: int, resamples: int = RESAMPLES, seed: int = _SEED) -> DoubleArray:
    """Count how often each draw takes each patient: (resamples, patients), the draws of `patient_bootstrap`."""
    drawn = np.random.default_rng(seed).integers(patients, size=(resamples, patients))
    place = drawn + patients * np.arange(resamples)[:, None]
    return np.bincount(place.ravel(), minlength=resamples * patients).reshape(resamples, patients).astype(np.float64)


def bootstrap_sums(
    patients: AnyArray,
    columns: AnyArray,
    statistic: Callable[[DoubleArray], DoubleArray],
    resamples: int = RESAMPLES,
    seed: int = _SEED,
) -> list[Estimate]:
    """Estimate a statistic of sums over slices, with its intervals over patients.

    Args:
        patients: (n,) the patient of each slice.
        columns: (n, k) what is summed over slices.
        statistic: (draws, k) sums -> (draws, m) numbers.
        resamples, seed: of the draws.

    Returns:
        m estimates.
    """
    names, index = np.unique(patients, return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, index, columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = statistic(sums.sum(axis=0, keepdims=True))[0]
        draws = statistic(draw_patients(len(names), resamples, seed) @ sums)
    return [estimate_from_draws(float(value), draw) for value, draw in zip(values, draws.T, strict=True)]


def estimate_from_draws(value: float, draws: DoubleArray) -> Estimate:
    """Take the central 95 % of the draws that gave a number as the interval."""
    drawn = draws[~np.isnan(draws)]
    tails = [100 * (1 - COVERAGE) / 2, 100 * (1 + COVERAGE) / 2]
    low, high = np.percentile(drawn, tails) if len(drawn) else (np.nan, np.nan)
    return Estimate(value, float(low), float(high))


def estimate_mean(patients: AnyArray, values: DoubleArray) -> Estimate:
    """Estimate the mean over slices; NaN values are left out."""
    there = ~np.isnan(values)
    if not there.any():
        return Estimate(np.nan, np.nan, np.nan)
    columns = np.stack([values[there], np.ones(there.sum())], axis=1)
    return bootstrap_sums(patients[there], columns, lambda sums: sums[:, :1] / sums[:, 1:])[0]


def compute_sign_flip_p(patients: AnyArray, differences: DoubleArray, flips: int = 20_000) -> float:
    """Compute the two-sided p that the mean difference is 0: whole patients swap sides at random (Monte Carlo)."""
    _, index = np.unique(patients, return_inverse=True)
    sums = np.bincount(index, differences)
    signs = np.random.default_rng(_SEED).choice((-1.0, 1.0), size=(flips, len(sums)))
    as_far = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9
    return float((1 + as_far.sum()) / (1 + flips))


def draw_auc(of: Tested, names: AnyArray) -> tuple[float, DoubleArray]:
    """Compute the slice ROC AUC's mean over folds and seeds, and its draws over the patients `names` (sorted).

    The AUC is a sum over pairs of a lesion slice and another: added up by patients once, weighted by each draw.
    """
    weights, values, draws = draw_patients(len(names)), [], []
    for seed, fold in sorted(set(zip(of.seeds.tolist(), of.folds.tolist(), strict=True))):
        one = of.rows((of.seeds == seed) & (of.folds == fold))
        who = np.searchsorted(names, one.patients)
        belongs = np.zeros((len(who), len(names)))
        belongs[np.arange(len(who)), who] = 1
        bleeding, free = belongs[one.lesion], belongs[~one.lesion]
        wins = (np.sign(one.score[one.lesion][:, None] - one.score[~one.lesion][None]) + 1) / 2
        pairs = bleeding.T @ wins @ free
        with np.errstate(invalid="ignore", divide="ignore"):
            values.append(pairs.sum() / np.float64(len(bleeding) * len(free)))
            below = (weights @ bleeding.sum(axis=0)) * (weights @ free.sum(axis=0))
            draws.append(((weights @ pairs) * weights).sum(axis=1) / below)
    means = np.ma.masked_invalid(np.array(draws)).mean(axis=0).filled(np.nan)
    return float(np.mean(values)), means


def estimate_by_t(values: DoubleArray) -> Estimate:
    """Estimate the mean of a few independent numbers with Student's interval; NaN ends if there is only one."""
    if len(values) < 2:
        return Estimate(float(values.mean()), np.nan, np.nan)
    half = stats.sem(values) * stats.t.ppf((1 + COVERAGE) / 2, len(values) - 1)
    return Estimate(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def count_lesions(of: Tested) -> tuple[int, int]:
    """Count lesion slices, and the patients to whom they belong."""
    return len(np.unique(of.ids[of.lesion])), len(np.unique(of.patients[of.lesion]))


@dataclass(frozen=True, eq=False)
class Pair:
    """One method by slice and by patient: the same slices, row by row."""

    label: str
    by_slice: Tested
    by_patient: Tested
    done: FoldCount

    @property
    def lesions(self) -> "Pair":
        """Lesion slices only."""
        chosen = self.by_slice.lesion
        return Pair(self.label, self.by_slice.rows(chosen), self.by_patient.rows(chosen), self.done)

    @property
    def patients(self) -> AnyArray:
        """(n,) the patient of each row."""
        return self.by_slice.patients

    @property
    def gap(self) -> DoubleArray:
        """(n,) Dice by slice less Dice by patient; NaN on lesion-free slices."""
        return self.by_slice.dice - self.by_patient.dice

    def describe(self, scale: Scale, panels: str) -> str:
        """Write the caption of a figure of these slices; `panels` says what is in it."""
        slices, patients = count_lesions(self.by_slice)
        seeds = len(np.unique(self.by_slice.seeds))
        return (
            f"{name_method(self.label)}, {slices} lesion slices of {patients} bleeding patients, seeds: {seeds}, "
            f"folds: {self.done}. {panels} {LESION_DICE}. {scale.describe()}"
        )


def pair_kinds(results: Sequence[CellResult], scale: Scale, lesions: frozenset[str]) -> list[Pair]:
    """Pair both kinds of split for each U-Net whose folds share lesion slices, the main one first."""
    found = []
    for label in list_labels([one for one in results if one.cell.method == UNET], scale, "folds"):
        both = [select(results, scale, "folds", label, kind) for kind in KINDS]
        if all(both):
            one, other = pair_slices(*(gather(own, lesions) for own in both))
            pair = Pair(label, one, other, count_folds(results, scale, label))
            found += [pair] if pair.by_slice.lesion.any() else []
    return found
