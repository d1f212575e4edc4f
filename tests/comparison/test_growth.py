"""Growth, its interval and the criterion, as numbers."""

import numpy as np
import pytest

from bleedmap.comparison.growth import Growth


def test_growth_in_ml_and_per_cent() -> None:
    growth = Growth(20.0, 25.0)
    assert (growth.ml, growth.percent, growth.interval_ml, growth.firmness) == (5.0, 25.0, None, "not known")
    assert Growth(0.0, 5.0).percent is None
    assert Growth(8.0, 2.0).ml == -6.0


@pytest.mark.parametrize(
    ("first", "second", "met"),
    [
        (20, 26, False), (20, 26.1, True), (10, 13.3, False), (10, 13.4, True), (0, 6, False), (0, 6.1, True),
        (50, 20, False),
    ],
)  # fmt: skip
def test_the_criterion_is_more_than_6_ml_or_more_than_33_percent(first: float, second: float, met: bool) -> None:
    assert Growth(first, second).expansion == ("met" if met else "not met")


def test_firmness_asks_both_ends_of_the_interval() -> None:
    assert Growth(20, 60, (18, 22), (55, 66), 0.8).firmness == "over the whole interval"
    assert Growth(20, 20.5, (19.5, 20.5), (20, 21), 0.8).firmness == "over the whole interval"
    assert Growth(20, 28, (12, 33), (17, 46), 0.8).firmness == "not over the whole interval"


def test_an_interval_is_the_volume_s_own_where_the_other_is_certain() -> None:
    growth = Growth(20.0, 30.0, (20.0, 20.0), (24.0, 39.0), 0.8)
    assert growth.interval_ml == pytest.approx((4.0, 19.0))
    assert growth.interval_percent == pytest.approx((20.0, 95.0))


def test_a_first_volume_that_may_be_0_leaves_no_upper_end() -> None:
    growth = Growth(1.0, 3.0, (0.0, 4.0), (1.0, 8.0), 0.8)
    assert growth.interval_percent is not None
    assert growth.interval_percent[1] is None
    assert Growth(3.0, 1.0, (1.0, 8.0), (0.0, 4.0), 0.8).interval_percent[0] == -100


def test_independent_errors_are_covered_as_those_of_the_volumes() -> None:
    """Volumes off by a factor that 80 % of intervals hold, both ways: so must the interval of growth."""
    generator, spread = np.random.default_rng(0), np.log(1.4)
    held_ml, held_percent = [], []
    for first, second in generator.uniform(5, 80, (4000, 2)):
        factors = np.exp(generator.normal(0, spread / 1.2816, 2))
        found = np.array([first, second]) * factors
        spans = [(one / np.exp(spread), one * np.exp(spread)) for one in found]
        growth = Growth(*found, *spans, 0.8)
        low, high = growth.interval_ml
        held_ml.append(low <= second - first <= high)
        low, high = growth.interval_percent
        held_percent.append(low <= 100 * (second / first - 1) <= high)
    assert np.mean(held_ml) == pytest.approx(0.8, abs=0.03)
    assert np.mean(held_percent) == pytest.approx(0.8, abs=0.02)
