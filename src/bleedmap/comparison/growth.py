"""How much a bleed has grown between two studies, with an interval, against the usual criterion of expansion."""

from dataclasses import dataclass
from math import exp, hypot, log
from typing import Literal

# Hematoma expansion: more than 6 mL, or more than 33 % of the first volume. Dowlatshahi et al., Neurology 2011;76:1238.
CRITERION_ML, CRITERION_PERCENT = 6.0, 33.0
CRITERION = "more than 6 mL or more than 33 % (Dowlatshahi et al., Neurology 2011;76:1238)"
DERIVED_FOR = "It was derived for intracerebral (parenchymal) hemorrhage, not for other types of bleeding."

Interval = tuple[float, float | None]  # None: no upper end
Expansion = Literal["met", "not met", "not known"]
Firmness = Literal["over the whole interval", "not over the whole interval", "not known"]


@dataclass(frozen=True)
class Growth:
    """From a first volume to a second one.

    `first_ml`, `second_ml`: each measured on its own slices.
    `first_interval_ml`, `second_interval_ml`: of each volume; None where it has none.
    """

    first_ml: float
    second_ml: float
    first_interval_ml: tuple[float, float] | None = None
    second_interval_ml: tuple[float, float] | None = None
    coverage: float | None = None  # share of unseen patients whose volume such an interval held; None without intervals
    left_out: bool = False  # whether lesions that one of the studies does not show are left out

    @property
    def ml(self) -> float:
        """The difference; below 0 where it has shrunk."""
        return self.second_ml - self.first_ml

    @property
    def percent(self) -> float | None:
        """The same in per cent of the first volume; None where that is 0."""
        return 100 * self.ml / self.first_ml if self.first_ml > 0 else None

    @property
    def interval_ml(self) -> tuple[float, float] | None:
        """Of the difference: distances to the ends of both intervals add as squares.

        The method of variance estimates recovery (Zou & Donner, Stat Med 2008;27:1693): where both volumes' errors are
        independent, it covers as they do. Those of one network on one patient tend to go the same way; then it is wide.
        """
        if self.first_interval_ml is None or self.second_interval_ml is None:
            return None
        (low_1, high_1), (low_2, high_2) = self.first_interval_ml, self.second_interval_ml
        below = hypot(self.second_ml - low_2, high_1 - self.first_ml)
        return self.ml - below, self.ml + hypot(high_2 - self.second_ml, self.first_ml - low_1)

    @property
    def interval_percent(self) -> Interval | None:
        """The same of the ratio, on the scale of logarithms; no upper end where the first volume may be 0."""
        if self.first_interval_ml is None or self.second_interval_ml is None or not self.first_ml or not self.second_ml:
            return None
        (low_1, high_1), (low_2, high_2) = self.first_interval_ml, self.second_interval_ml
        ratio = log(self.second_ml / self.first_ml)
        down = hypot(log(self.second_ml / low_2), log(high_1 / self.first_ml)) if low_2 > 0 else None
        up = hypot(log(high_2 / self.second_ml), log(self.first_ml / low_1)) if low_1 > 0 else None
        low = -100.0 if down is None else 100 * (exp(ratio - down) - 1)
        return low, None if up is None else 100 * (exp(ratio + up) - 1)

    @property
    def expansion(self) -> Expansion:
        """Whether the criterion is met by the volumes as measured; what is left out may have grown too."""
        if _meets(self.ml, self.percent):
            return "met"
        return "not known" if self.left_out else "not met"

    @property
    def firmness(self) -> Firmness:
        """Whether that holds wherever in the interval the growth lies."""
        ml, percent = self.interval_ml, self.interval_percent
        if ml is None or percent is None:
            return "not known"
        low = _meets(ml[0], percent[0])
        high = percent[1] is None or _meets(ml[1], percent[1])
        return "over the whole interval" if low == high else "not over the whole interval"


def _meets(ml: float, percent: float | None) -> bool:
    ml, percent = round(ml, 6), None if percent is None else round(percent, 6)  # 13.3 is 33 % above 10, and not more
    return ml > CRITERION_ML or (percent is not None and percent > CRITERION_PERCENT)
