"""Analysis of variance against SciPy, a worked textbook table, and formulas written out."""

import warnings

import numpy as np
import pytest
from scipy import stats

from bleedmap_thesis.analyses.anova import anova, levene_p, split_plot


def test_one_factor_is_scipys_f_oneway():
    random = np.random.default_rng(0)
    groups = [random.normal(mean, 1, 7) for mean in (0, 0.5, 2)]
    table = anova(np.concatenate(groups), {"group": np.repeat(["a", "b", "c"], 7).tolist()}, ["group"])
    expected = stats.f_oneway(*groups)
    effect = table.effect("group")
    assert (effect.f, effect.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert (effect.df, table.error_df, table.n) == (2, 18, 21)
    between = sum(7 * (one.mean() - np.concatenate(groups).mean()) ** 2 for one in groups)
    within = sum(((one - one.mean()) ** 2).sum() for one in groups)
    assert effect.sum_of_squares == pytest.approx(between)
    assert effect.partial_eta2 == pytest.approx(between / (between + within))
    omega2 = (between - 2 * within / 18) / (between + within + within / 18)  # the one-way formula
    assert effect.partial_omega2 == pytest.approx(omega2)
    assert table.normality_p() == pytest.approx(stats.shapiro(table.residuals).pvalue)


def test_two_factors_by_hand():
    """A 2×2 with two of each: cell means 2, 4, 6, 12, each less and more 1."""
    cells = {("1", "1"): 2.0, ("1", "2"): 4.0, ("2", "1"): 6.0, ("2", "2"): 12.0}
    values, a, b = [], [], []
    for (first, second), mean in cells.items():
        values += [mean - 1, mean + 1]
        a += [first] * 2
        b += [second] * 2
    table = anova(np.array(values), {"a": a, "b": b}, ["a", "b", "a:b"])
    # Means of a 3 and 9, of b 4 and 8, grand 6: 8·3², 8·2², and the interaction ±1 in each of 8.
    assert [one.sum_of_squares for one in table.effects] == pytest.approx([72, 32, 8])
    assert (table.error_sum_of_squares, table.error_df) == (pytest.approx(8), 4)
    assert [one.f for one in table.effects] == pytest.approx([36, 16, 4])
    assert table.effect("a:b").p == pytest.approx(stats.f.sf(4, 1, 4))


def test_no_error_no_f():
    table = anova(np.array([1.0, 2.0, 4.0, 8.0]), {"a": list("1122"), "b": list("1212")}, ["a", "b", "a:b"])
    assert table.error_df == 0
    assert [one.f for one in table.effects] == [None] * 3
    assert sum(one.sum_of_squares for one in table.effects) == pytest.approx(
        np.sum((np.array([1, 2, 4, 8]) - 3.75) ** 2)
    )
    assert table.normality_p() is None


def test_runs_that_are_all_alike_have_no_f_and_warn_of_nothing():
    """A training that marks nothing scores 0 everywhere."""
    factors = {"model": list("11221122"), "seed": list("11112222")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = split_plot(np.zeros((8, 3)), factors, ["seed", "model"], ["model"])
    assert [one.f for table in (found.between, found.within) for one in table.effects] == [None] * 4
    assert (found.epsilon, found.spread_p, found.within.normality_p()) == (None, None, None)


def stroop() -> np.ndarray:
    """Four subjects under three conditions: a worked one-way repeated-measures table."""
    return np.array([[30.0, 28, 16], [14, 18, 10], [24, 20, 18], [38, 34, 20]])


def test_repeated_measures_without_groups_by_formula():
    """Subjects as runs, none crossed: the classical F with (k - 1)(n - 1) error degrees of freedom, and epsilon."""
    values = stroop()
    runs, times = values.shape
    found = split_plot(values, {"who": ["x", "x", "y", "y"]}, ["who"], [])
    grand, rows, columns = values.mean(), values.mean(axis=1), values.mean(axis=0)
    squares = runs * ((columns - grand) ** 2).sum()
    error = ((values - rows[:, None] - columns[None] + grand) ** 2).sum()
    effect = found.within.effect("time")
    f = (squares / 2) / (error / 6)
    assert (effect.f, found.within.error_df) == (pytest.approx(f), 6)
    covariance = np.cov(values.T)
    centred = covariance - covariance.mean(0) - covariance.mean(1)[:, None] + covariance.mean()
    epsilon = np.trace(centred) ** 2 / ((times - 1) * (centred**2).sum())
    assert found.epsilon == pytest.approx(epsilon)
    assert found.corrected_p["time"] == pytest.approx(stats.f.sf(f, 2 * epsilon, 6 * epsilon))


def test_all_sums_of_squares_add_up_and_between_is_on_means():
    random = np.random.default_rng(3)
    values = random.normal(size=(12, 5))
    factors = {"model": list("112211221122"), "batch": list("121212121212"), "seed": list("000011112222")}
    terms = ["seed", "model", "batch", "model:batch"]
    found = split_plot(values, factors, terms, terms[1:])
    parts = [one.sum_of_squares for table in (found.between, found.within) for one in table.effects]
    total = sum(parts) + found.between.error_sum_of_squares + found.within.error_sum_of_squares
    assert total == pytest.approx(((values - values.mean()) ** 2).sum())
    assert (found.between.error_df, found.within.error_df) == (6, 32)
    assert [one.partial_omega2 for one in found.within.effects] == [None] * 4  # its formula is of independent ones
    assert None not in [one.partial_omega2 for one in found.between.effects]
    assert [one.df for one in found.within.effects] == [4, 4, 4, 4]
    alone = anova(values.mean(axis=1), factors, terms)
    assert [one.f for one in found.between.effects] == pytest.approx([one.f for one in alone.effects])


def test_runs_not_measurements_are_the_units():
    """Runs that differ by chance, measured often: F of a factor between runs stays honest."""
    random, rejected = np.random.default_rng(1), 0
    for _ in range(60):
        values = random.normal(size=(8, 1)) + random.normal(0, 0.1, (8, 7))
        found = split_plot(values, {"model": list("11112222")}, ["model"], ["model"])
        rejected += (found.between.effect("model").p or 1.0) < 0.05
    assert rejected <= 9  # 3 expected; as independent measurements nearly all would be


def test_one_seed_has_only_interactions_as_error():
    values = np.random.default_rng(2).normal(size=(4, 7))
    found = split_plot(values, {"model": list("1122"), "batch": list("1212")}, ["model", "batch"], ["model", "batch"])
    assert (found.between.error_df, found.within.error_df, found.epsilon) == (1, 6, None)
    effect = found.within.effect("time")
    assert found.corrected_p["time"] == pytest.approx(stats.f.sf(effect.f, 1, 1))
    assert found.between.normality_p() is None
    assert found.spread_p is None


def test_levene_is_scipys_and_asks_for_three_in_a_group():
    values = np.random.default_rng(4).normal(size=9)
    expected = stats.levene(values[:5], values[5:]).pvalue
    assert levene_p(values, list("aaaaabbbb")) == pytest.approx(expected)
    assert levene_p(values, list("aaaaaaabb")) is None
    assert levene_p(values, ["a"] * 9) is None
