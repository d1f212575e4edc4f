"""One check of a study before it is segmented: what was found, what is needed, a number's limits, and the verdict."""

from dataclasses import dataclass
from math import inf
from typing import Literal

Verdict = Literal["pass", "warning", "refusal", "not known"]


@dataclass(frozen=True)
class Check:
    """One line of the input gate.

    `verdict`: 'refusal' stops the study unless the user asks to go on; 'not known' where the input does not say.
    """

    name: str  # what was looked at, one or two words, unique: 'slice count'
    verdict: Verdict
    found: str  # the value, with its unit: '24 slices'
    limit: str  # what passes: '10 to 400 slices'
    meaning: str = ""  # why it matters or what to do, one sentence; '' for a pass


def judge(name: str, verdict: Verdict, found: str, limit: str, meaning: str) -> Check:
    """Make a check whose meaning counts only where it does not pass."""
    return Check(name, verdict, found, limit, "" if verdict == "pass" else meaning)


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
