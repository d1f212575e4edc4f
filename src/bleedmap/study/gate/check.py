"""One check of a study before it is segmented: what was found, what is needed, and the verdict."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["pass", "warning", "refusal", "not known"]


@dataclass(frozen=True)
class Check:
    """One line of the input gate.

    Attributes:
        name: what was looked at, one or two words, unique: 'slice count'.
        verdict: 'refusal' stops the study unless the user asks to go on; 'not known' where the input does not say.
        found: the value, with its unit: '24 slices'.
        limit: what passes: '10 to 400 slices'.
        meaning: why it matters or what to do, one sentence; '' for a pass.
    """

    name: str
    verdict: Verdict
    found: str
    limit: str
    meaning: str = ""
