"""What a study's pictures and its report say in words. Slices and lesions count from 1."""

from collections.abc import Iterable
from typing import Literal

from bleedmap.inference.certainty import Certainty
from bleedmap.study.result import Findings

Verdict = Literal["bleed marked", "no bleed marked", "no verdict"]
DO_NOT_RELY = "The program gives no verdict. The outline and the figures are shown, but do not rely on them."
NO_SIDE = "No side is told: the head's middle was not found, or the file does not tell left from right."
TYPES_ARE = "Types are of the whole study: the program does not tell which lesion has which type."
_LEAST_ML, _LEAST_PROBABILITY = 0.01, 0.01


def verdict(findings: Findings, certainty: Certainty | None) -> Verdict:
    """What the program says of a study; where it abstains, 'no verdict', whatever the outline holds."""
    if certainty is not None and certainty.abstained:
        return "no verdict"
    return "bleed marked" if findings.found else "no bleed marked"


def headline(findings: Findings, certainty: Certainty | None) -> str:
    """What was found, as one clause; with weights that say how sure they are, the verdict."""
    detected = "hemorrhage detected" if certainty is None else "bleed marked"
    slices = counted(len(findings.slices), "slice")
    if findings.found:
        lesions, marked = counted(len(findings.lesions), "lesion"), len(findings.slices_with_lesion)
        said = f"{detected}, {millilitres(findings.volume_ml or 0.0)} mL in {lesions}, on {marked} of {slices}"
    else:
        said = f"no {detected} in {slices}"
    return f"no verdict, not to be relied on: {said}" if verdict(findings, certainty) == "no verdict" else said


def marked(findings: Findings, index: int) -> str:
    """What is marked on the slice with this index (from 0): '3.21 mL in lesions 1, 3 to 5'."""
    one = findings.slices[index]
    if not one.lesion_pixels or findings.grid is None:
        return "nothing marked"
    numbers = [
        number
        for number, lesion in enumerate(findings.lesions, 1)
        if lesion.first[0] <= index <= lesion.last[0] and lesion.voxels_by_slice[index - lesion.first[0]]
    ]
    volume_ml = one.lesion_pixels * float(findings.grid.voxel_ml[index])
    return f"{millilitres(volume_ml)} mL in {'lesion' if len(numbers) == 1 else 'lesions'} {spans(numbers)}"


def likelihood(findings: Findings, certainty: Certainty | None, index: int) -> str:
    """The slice's own probability; with weights that give none, the highest of its pixels. `index` from 0."""
    if certainty is None:
        return f"highest probability {findings.slices[index].highest_probability:.2f}"
    return f"slice probability {chance(certainty.slices[index])}"


def slice_line(findings: Findings, certainty: Certainty | None, index: int) -> str:
    """'slice 12 of 30: 3.21 mL in lesion 1; highest probability 0.97'; `index` from 0."""
    said = f"slice {index + 1} of {len(findings.slices)}: {marked(findings, index)}"
    return f"{said}; {likelihood(findings, certainty, index)}"


def interval(volume_ml: tuple[float, float], coverage: float) -> str:
    """'likely between 22 and 41 mL (80 % interval)'."""
    return f"likely between {span_ml(volume_ml, ' and ')} mL ({percent(coverage)} interval)"


def interval_is(coverage: float) -> str:
    """What an interval of the volume means, as a sentence."""
    return (
        f"In {percent(coverage)} of bleeding patients that the network had not seen, such an interval held the volume."
    )


def certainty_sentences(certainty: Certainty | None) -> list[str]:
    """What the figures alone do not say, for a report: abstention with its reasons, the interval, types."""
    if certainty is None:
        return []
    said = [DO_NOT_RELY, *certainty.abstained] if certainty.abstained else []
    if certainty.volume_ml is not None:
        said.append(
            f"The volume is {interval(certainty.volume_ml, certainty.coverage)}. {interval_is(certainty.coverage)}"
        )
    return [*said, TYPES_ARE] if certainty.types else said


def span_ml(volume_ml: tuple[float, float], between: str = " to ") -> str:
    """'22 to 41', '0.25 to 3.1': no finer than an interval is."""
    return between.join(
        millilitres(end) if 0 < end < 1 else f"{end:.1f}" if 1 <= end < 9.95 else f"{_three_digits(end):,.0f}"
        for end in volume_ml
    )


def chance(probability: float) -> str:
    """Two decimals; what is neither is called neither 0 nor 1."""
    if 0 < probability < _LEAST_PROBABILITY:
        return f"<{_LEAST_PROBABILITY}"
    return f">{1 - _LEAST_PROBABILITY}" if 1 - _LEAST_PROBABILITY < probability < 1 else f"{probability:.2f}"


def percent(share: float) -> str:
    """'80 %'."""
    return f"{100 * share:.0f} %"


def millilitres(volume_ml: float) -> str:
    """Three digits at most, and two decimals: '0.32', '4.06', '45.3', '1,230'; nothing above zero is called zero."""
    if 0 < volume_ml < _LEAST_ML:
        return f"<{_LEAST_ML}"
    rounded = _three_digits(volume_ml)
    return f"{rounded:,.{2 if rounded < 10 else 1 if rounded < 100 else 0}f}"


def _three_digits(number: float) -> float:
    return float(f"{number:.3g}")


def name_side(side: str | None) -> str:
    """'left', 'both sides', 'midline'; a dash where it is not known."""
    return {None: "–", "both": "both sides"}.get(side, str(side))


def counted(count: int, noun: str) -> str:
    """'1 lesion', '1,200 lesions'."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def spans(numbers: Iterable[int]) -> str:
    """Rising numbers, runs of three or more joined: '3, 5 to 8'. No dash: the pictures' font has none."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)
