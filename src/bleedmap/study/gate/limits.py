"""A number's limits, and the verdict on it."""

from dataclasses import dataclass
from math import inf

from bleedmap.study.gate.check import Verdict


@dataclass(frozen=True)
class Limits:
    """From `lowest` to `highest` passes; below `refused_below` or above `refused_above` is refused; else a warning."""

    lowest: float
    highest: float
    refused_below: float = -inf
    refused_above: float = inf

    def verdict(self, value: float) -> Verdict:
        """The verdict on a value; the limits themselves pass."""
        if value < self.refused_below or value > self.refused_above:
            return "refusal"
        return "pass" if self.lowest <= value <= self.highest else "warning"


def graver(*verdicts: Verdict) -> Verdict:
    """The gravest of some verdicts."""
    order: tuple[Verdict, ...] = ("pass", "not known", "warning", "refusal")
    return max(verdicts, key=order.index)
