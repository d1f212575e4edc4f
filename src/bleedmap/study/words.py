"""What a study's pictures and its report say in words. Slices and lesions count from 1."""

from collections.abc import Iterable

from bleedmap.inference.results import Findings

_LEAST_ML = 0.01


def verdict(findings: Findings) -> str:
    """What was found, as one clause."""
    slices = counted(len(findings.slices), "slice")
    if not findings.found:
        return f"no hemorrhage detected in {slices}"
    lesions = counted(len(findings.lesions), "lesion")
    marked = len(findings.slices_with_lesion)
    return f"hemorrhage detected, {millilitres(findings.volume_ml or 0.0)} mL in {lesions}, on {marked} of {slices}"


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


def highest(findings: Findings, index: int) -> str:
    """The highest probability on the slice with this index, in words."""
    return f"highest probability {findings.slices[index].highest_probability:.2f}"


def slice_line(findings: Findings, index: int) -> str:
    """'slice 12 of 30: 3.21 mL in lesion 1; highest probability 0.97'; `index` from 0."""
    return f"slice {index + 1} of {len(findings.slices)}: {marked(findings, index)}; {highest(findings, index)}"


def millilitres(volume_ml: float) -> str:
    """Two decimals; nothing above zero is called zero."""
    return f"<{_LEAST_ML}" if 0 < volume_ml < _LEAST_ML else f"{volume_ml:,.2f}"


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
