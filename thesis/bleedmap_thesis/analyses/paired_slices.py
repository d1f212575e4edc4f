"""What every comparison rests on: test slices paired by id, intervals over patients, and numbers in words."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray
from bleedmap.datasets.splits import Kind
from bleedmap.metrics import overlap
from bleedmap.metrics.bootstrap import COVERAGE
from bleedmap.metrics.overlap import Counts
from bleedmap.page.section import Value
from bleedmap_thesis.fold_progress import Done, folds_done
from bleedmap_thesis.plan import UNET, Part, Scale
from bleedmap_thesis.record import CellResult, Evaluation
from bleedmap_thesis.titles import place

KINDS: tuple[Kind, ...] = ("slice", "patient")
MAIN = "model-2-b32"
RESAMPLES = 4000
NOT_APPLICABLE = "–"  # where a measure has no meaning, unlike None: not measured
Row = tuple[Value, ...]
INTERVAL = (
    f"95 % intervals: percentile bootstrap over patients, {RESAMPLES:,} resamples; they cover somewhat less than they "
    "say, since 36 patients bleed and have 1 to 19 lesion slices each, and they hold the trained networks fixed"
)
LESION_DICE = (
    "Dice: mean over lesion slices, probability ≥ 0.5 (a baseline: its own mask), at the network's size; a lesion of "
    "which nothing is marked scores 0"
)
_SEED = 0  # of bootstraps and sign flips


@dataclass(frozen=True)
class Estimate:
    """A number and its 95 % interval; NaN where it cannot be had."""

    value: float
    low: float
    high: float

    @property
    def cells(self) -> tuple[float | None, float | None, float | None]:
        """For a table."""
        return known(self.value), known(self.low), known(self.high)

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, eq=False)
class Tested:
    """Test slices of several cells, one cell after another: a row a slice of one seed.

    Attributes:
        ids: (n,) slice ids.
        patients: (n,) of the slices.
        seeds: (n,) of the cells.
        folds: (n,) of the cells, 0 without folds.
        score: (n,) how likely a bleed is in the slice.
        lesion: (n,) bool, whether the reference marks any pixel at the network's size.
        counts: pixels, or None for a method that only classifies.
    """

    ids: AnyArray
    patients: AnyArray
    seeds: AnyArray
    folds: AnyArray
    score: DoubleArray
    lesion: BoolArray
    counts: Counts | None

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


def labels(results: Iterable[CellResult], scale: Scale, part: Part) -> list[str]:
    """Methods that have a finished cell, in the order of tables."""
    found = {one.cell.label for one in results if (one.cell.scale, one.cell.part) == (scale.name, part)}
    return sorted(found, key=lambda label: (place(label), label))


def lesion_ids(results: Iterable[CellResult], scale: Scale) -> frozenset[str]:
    """Slices whose reference marks a pixel, as any method that marks pixels was told."""
    evaluations = [one.last for one in results if one.cell.scale == scale.name and one.last.counts is not None]
    return frozenset(
        name for one in evaluations if one.counts is not None
        for name, lesion in zip(one.ids, one.counts.reference > 0, strict=True) if lesion
    )  # fmt: skip


def gathered(cells: Sequence[CellResult], lesions: frozenset[str], epoch: int | None = None) -> Tested:
    """Put the cells' test slices together, after all epochs or after `epoch`; at least one cell."""
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


def paired(first: Tested, second: Tested) -> tuple[Tested, Tested]:
    """Only the slices that both tested under the same seed, in the same order."""
    place = {key: row for row, key in enumerate(zip(second.seeds.tolist(), second.ids.tolist(), strict=True))}
    keys = zip(first.seeds.tolist(), first.ids.tolist(), strict=True)
    rows = np.array([(row, place[key]) for row, key in enumerate(keys) if key in place], np.int64).reshape(-1, 2)
    return first.rows(rows[:, 0]), second.rows(rows[:, 1])


@cache
def patient_weights(patients: int, resamples: int = RESAMPLES, seed: int = _SEED) -> DoubleArray:
    """(resamples, patients) how often each patient was drawn; the draws of `metrics.statistics.patient_bootstrap`."""
    drawn = np.random.default_rng(seed).integers(patients, size=(resamples, patients))
    place = drawn + patients * np.arange(resamples)[:, None]
    return np.bincount(place.ravel(), minlength=resamples * patients).reshape(resamples, patients).astype(np.float64)


def bootstrap(patients: AnyArray, columns: AnyArray, statistic: Callable[[DoubleArray], DoubleArray]) -> list[Estimate]:
    """A statistic of sums over slices, with its intervals over patients.

    Args:
        patients: (n,) the patient of each slice.
        columns: (n, k) what is summed over slices.
        statistic: (draws, k) sums -> (draws, m) numbers.

    Returns:
        m estimates.
    """
    names, index = np.unique(patients, return_inverse=True)
    sums = np.zeros((len(names), columns.shape[1]))
    np.add.at(sums, index, columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        values = statistic(sums.sum(axis=0, keepdims=True))[0]
        draws = statistic(patient_weights(len(names)) @ sums)
    return [from_draws(float(value), draw) for value, draw in zip(values, draws.T, strict=True)]


def from_draws(value: float, draws: DoubleArray) -> Estimate:
    """The central 95 % of the draws that gave a number."""
    drawn = draws[~np.isnan(draws)]
    tails = [100 * (1 - COVERAGE) / 2, 100 * (1 + COVERAGE) / 2]
    low, high = np.percentile(drawn, tails) if len(drawn) else (np.nan, np.nan)
    return Estimate(value, float(low), float(high))


def mean(patients: AnyArray, values: DoubleArray) -> Estimate:
    """Mean over slices; NaN values are left out."""
    there = ~np.isnan(values)
    if not there.any():
        return Estimate(np.nan, np.nan, np.nan)
    columns = np.stack([values[there], np.ones(there.sum())], axis=1)
    return bootstrap(patients[there], columns, lambda sums: sums[:, :1] / sums[:, 1:])[0]


def sign_flip_p(patients: AnyArray, differences: DoubleArray, flips: int = 20_000) -> float:
    """Two-sided p that the mean difference over slices is 0: whole patients swap sides at random (Monte Carlo)."""
    _, index = np.unique(patients, return_inverse=True)
    sums = np.bincount(index, differences)
    signs = np.random.default_rng(_SEED).choice((-1.0, 1.0), size=(flips, len(sums)))
    as_far = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9
    return float((1 + as_far.sum()) / (1 + flips))


def auc_with_draws(of: Tested, names: AnyArray) -> tuple[float, DoubleArray]:
    """Mean over folds (and seeds) of the slice ROC AUC, and its draws over the patients `names` (sorted).

    AUC is a sum over pairs of a lesion slice and another: added up by patients once, weighted by each draw.
    """
    weights, values, draws = patient_weights(len(names)), [], []
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
    together = np.ma.masked_invalid(np.array(draws)).mean(axis=0).filled(np.nan)
    return float(np.mean(values)), together


def t_interval(values: DoubleArray) -> Estimate:
    """Mean and Student's 95 % interval of a few independent numbers; without an interval if there is one."""
    if len(values) < 2:
        return Estimate(float(values.mean()), np.nan, np.nan)
    half = stats.sem(values) * stats.t.ppf((1 + COVERAGE) / 2, len(values) - 1)
    return Estimate(float(values.mean()), float(values.mean() - half), float(values.mean() + half))


def known(value: float) -> float | None:
    """None for NaN: JSON and tables have none."""
    return None if np.isnan(value) else float(value)


def sizes(of: Tested) -> tuple[int, int]:
    """Lesion slices, and the patients whom they belong to."""
    return len(np.unique(of.ids[of.lesion])), len(np.unique(of.patients[of.lesion]))


def in_words(cells: Sequence[Value]) -> str:
    """A value and the ends of its interval, or that it has none."""
    if None in cells[1:]:
        return f"{cells[0]:.3f} (no interval)" if isinstance(cells[0], float) else NOT_APPLICABLE
    value, low, high = ("–" if cell is None else f"{cell:.3f}" for cell in cells)
    return f"{value} (95 % interval {low} to {high})"


def p_in_words(p: Value) -> str:
    """To three decimals."""
    assert isinstance(p, float)
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


@dataclass(frozen=True, eq=False)
class Pair:
    """One method by slice and by patient: the same slices, row by row."""

    label: str
    by_slice: Tested
    by_patient: Tested
    done: Done

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
    def loss(self) -> DoubleArray:
        """(n,) Dice by slice less Dice by patient; NaN on lesion-free slices."""
        return self.by_slice.dice - self.by_patient.dice


def pairs(results: Sequence[CellResult], scale: Scale, lesions: frozenset[str]) -> list[Pair]:
    """U-Nets whose folds overlap in lesion slices, the main one first."""
    networks = labels([one for one in results if one.cell.method == UNET], scale, "folds")
    found = []
    for label in networks:
        both = [select(results, scale, "folds", label, kind) for kind in KINDS]
        if all(both):
            done = folds_done(results, scale, label)
            pair = Pair(label, *paired(*(gathered(cells, lesions) for cells in both)), done)
            found += [pair] if pair.by_slice.lesion.any() else []
    return found
