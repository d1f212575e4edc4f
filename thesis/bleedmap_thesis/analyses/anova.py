"""Analysis of variance with effect sizes: of independent runs, and of runs that are measured again and again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.anova import anova_lm

from bleedmap.arrays import DoubleArray

_ALIKE = 1e-9  # values that differ by less are the same: no F, no test


@dataclass(frozen=True)
class Effect:
    """One line of the table.

    `partial_omega2`: df·(F - 1) / (df·(F - 1) + n), less biased (Olejnik and Algina 2003); may be below 0. The
    formula is of independent observations: None for what is measured again within runs.
    """

    name: str  # of the factor, or 'a:b' of an interaction
    sum_of_squares: float  # of type II, which in a balanced design is the only one
    df: int  # degrees of freedom
    f: float | None = None  # F, or None where there is no error to hold it against; then so are the rest
    p: float | None = None  # of F with `df` and the table's error
    partial_eta2: float | None = None  # SS / (SS + SS of the error); biased upward where that has few degrees
    partial_omega2: float | None = None


@dataclass(frozen=True, eq=False)
class Anova:
    """A table of one stratum."""

    effects: tuple[Effect, ...]  # in the order of the terms
    error_sum_of_squares: float  # what the terms leave
    error_df: int  # its degrees of freedom
    n: int  # observations
    residuals: DoubleArray  # (n,)

    def effect(self, name: str) -> Effect:
        """By name."""
        return next(one for one in self.effects if one.name == name)

    def normality_p(self) -> float | None:
        """Shapiro–Wilk's p for the residuals; None with too little error (under 3 degrees of freedom) or none."""
        if self.error_df < 3 or np.ptp(self.residuals) < _ALIKE:
            return None
        return float(stats.shapiro(self.residuals).pvalue)


def anova(values: DoubleArray, factors: Mapping[str, Sequence[object]], terms: Sequence[str]) -> Anova:
    """Fixed effects by least squares.

    Args:
        values: (n,) the response.
        factors: name -> its level for each of the n; names are Python identifiers.
        terms: what the model holds: 'a', 'b', 'a:b', main effects first.

    Returns:
        The table; without F where the terms use up all degrees of freedom, or all values are alike.
    """
    frame = pd.DataFrame({name: [str(level) for level in levels] for name, levels in factors.items()})
    frame["response"] = values
    coded = {term: ":".join(f"C({name}, Sum)" for name in term.split(":")) for term in terms}
    fitted = smf.ols("response ~ " + " + ".join(coded.values()), frame).fit()
    residuals, error_df = np.asarray(fitted.resid, np.float64), round(float(fitted.df_resid))
    left = error_df and np.ptp(values) > _ALIKE
    error = float(residuals @ residuals) if left else 0.0
    with np.errstate(divide="ignore", invalid="ignore"):  # without an error: sums of squares term after term, no F
        table = anova_lm(fitted, typ=2 if left else 1)
    squares, df = table["sum_sq"], table["df"]
    effects = tuple(
        _effect(term, float(squares[code]), round(float(df[code])), error, error_df, len(values))
        for term, code in coded.items()
    )
    return Anova(effects, error, error_df, len(values), residuals)


def _effect(name: str, squares: float, df: int, error: float, error_df: int, n: int) -> Effect:
    if not error_df or error <= 0:
        return Effect(name, squares, df)
    f = (squares / df) / (error / error_df)
    omega2 = df * (f - 1) / (df * (f - 1) + n)
    return Effect(name, squares, df, f, float(stats.f.sf(f, df, error_df)), squares / (squares + error), omega2)


@dataclass(frozen=True, eq=False)
class SplitPlot:
    """Runs that differ in factors, each measured at the same times.

    Attributes:
        between: the runs' factors, on the runs' means; sums of squares are of all observations.
        within: time and its interactions, with the run taken out.
        epsilon: Greenhouse and Geisser's (1959), 1/(times - 1) where the times' errors all move together and 1 where
            they are spherical; None where no run is a repetition of another.
        spread_p: Levene's (by medians) for equal spread of the runs' means in the groups of crossed terms; None where a
            group has fewer than three runs.
        corrected_p: of each effect of `within`, degrees of freedom times epsilon (or its lowest value, where None).
    """

    between: Anova
    within: Anova
    epsilon: float | None
    corrected_p: Mapping[str, float | None]
    spread_p: float | None


def split_plot(
    values: DoubleArray, factors: Mapping[str, Sequence[object]], between: Sequence[str], crossed: Sequence[str]
) -> SplitPlot:
    """Analysis of variance for repeated measures: a run's measurements are not independent, so runs are the units.

    Args:
        values: (runs, times) the response.
        factors: name -> its level for each run; a block (a seed) is a factor like others.
        between: terms that differ between runs.
        crossed: those of `between` whose interaction with time is asked for. What is left is the error.
    """
    runs, times = values.shape
    upper = anova(values.mean(axis=1), factors, between)
    error = times * upper.error_sum_of_squares
    scaled = tuple(
        _effect(one.name, times * one.sum_of_squares, one.df, error, upper.error_df, runs) for one in upper.effects
    )
    long = {name: np.repeat([str(level) for level in levels], times).tolist() for name, levels in factors.items()}
    long["time"] = np.tile(np.arange(times), runs).tolist()
    centred = (values - values.mean(axis=1, keepdims=True)).ravel()  # takes the run out
    lower = anova(centred, long, [*between, "time", *(f"time:{term}" for term in crossed)])
    taken = sum(upper.effect(term).df for term in crossed)
    error_units = runs - 1 - taken  # runs that repeat others, once the crossed terms are known
    error_df = error_units * (times - 1)
    left = lower.error_sum_of_squares if error_df else 0.0
    effects = tuple(
        replace(_effect(one.name, one.sum_of_squares, one.df, left, error_df, runs * times), partial_omega2=None)
        for one in lower.effects
        if one.name.startswith("time")
    )
    within = Anova(effects, left, error_df, runs * times, lower.residuals)
    epsilon = _epsilon(lower.residuals.reshape(runs, times)) if error_units > 1 and left > 0 else None
    used = 1 / (times - 1) if epsilon is None else epsilon
    corrected = {
        one.name: None if one.f is None else float(stats.f.sf(one.f, one.df * used, error_df * used))
        for one in within.effects
    }
    groups = [tuple(str(factors[name][run]) for term in crossed for name in term.split(":")) for run in range(runs)]
    whole = replace(upper, effects=scaled, error_sum_of_squares=error)
    return SplitPlot(whole, within, epsilon, corrected, levene_p(upper.residuals, groups))


def _epsilon(residuals: DoubleArray) -> float:
    """Greenhouse and Geisser's, from (runs, times) residuals whose rows have mean 0: their covariance is centred."""
    covariance = residuals.T @ residuals
    return float(np.trace(covariance) ** 2 / ((len(covariance) - 1) * np.sum(covariance**2)))


def levene_p(residuals: DoubleArray, groups: Sequence[object]) -> float | None:
    """Brown and Forsythe's form of Levene's test; None with fewer than two groups, or than three in any."""
    own = [residuals[[one == group for one in groups]] for group in dict.fromkeys(groups)]
    if len(own) < 2 or min(map(len, own)) < 3 or np.ptp(residuals) < _ALIKE:
        return None
    return float(stats.levene(*own, center="median").pvalue)
