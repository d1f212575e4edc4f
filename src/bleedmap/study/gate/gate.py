"""The input gate: is this a whole head on plain CT, in HU, such as the network knows?

Each check has its figure and its limit and goes into the report. A refusal stops the study unless the user accepts it
by name: it stands for input where a result would be meaningless or dangerous. The rest is a warning.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from bleedmap.errors import CheckRefusalError, SettingsError
from bleedmap.inference.slabs import Slabs
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.study.gate.anatomy import measure, measure_values
from bleedmap.study.gate.check import Check
from bleedmap.study.gate.picture_look import HeadLook, look_at_heads
from bleedmap.study.gate.pictures import PICTURE_CHECKS, judge_heads
from bleedmap.study.gate.scan import scan_checks
from bleedmap.study.gate.voxels import voxel_checks
from bleedmap.volume import Volume

CHECKS = (
    "modality", "image type", "body part", "age", "contrast", "kvp", "kernel", "completeness", "slice count",
    "slice spacing", "gaps", "orientation", "field of view", "air", "bone", "brain density", "noise", "anatomy",
    "coverage", "blank slices", "continuity", "border", "padding", "metal",
)  # fmt: skip


# The mean of the slices with brain. Measured on CT-ICH's 82 patients: from -0.15 and 0.492 on.
_LEAST_UPRIGHT, _LEAST_CENTRE = -0.16, 0.491
REFERENCE = "reference"  # of a study with its mask: does that lie in the head? `bleedmap.evaluation` makes this one
ALL_CHECKS = tuple(dict.fromkeys((*CHECKS, *PICTURE_CHECKS, REFERENCE)))  # studies and pictures share some names


def check_input(
    volume: Volume, acquisition: Acquisition | None = None, slabs: Slabs | None = None
) -> tuple[Check, ...]:
    """Make all checks of a study, in the order of `CHECKS`; it raises nothing.

    Args:
        volume: in HU, in the standard view: slices feet to head, rows front to back, columns right to left.
        acquisition: how the scan was made; None where nothing is known, as with NIfTI.
        slabs: what the network is shown of thin slices; the anatomy and its noise are measured there.
    """
    scan = acquisition or Acquisition()
    anatomy = measure(volume if slabs is None else slabs.volume)
    if slabs is not None and anatomy.cavity is not None:
        anatomy = replace(anatomy, cavity=slabs.span_slices(*anatomy.cavity))
    checks = (
        *scan_checks(volume.grid, volume.hu.shape, scan, slabs),
        *voxel_checks(measure_values(volume), anatomy, len(volume.hu)),
    )
    if scan.modality is not None or anatomy.cavity is None:
        return checks
    heads = look_at_heads(volume, anatomy.cavity)
    return tuple(_doubt_axes(one, heads) if one.name == "orientation" else one for one in checks)


def _doubt_axes(orientation: Check, heads: Sequence[HeadLook]) -> Check:
    """Warn of a head that does not lie as its axes say: others than scanners make them up, and a file cannot tell."""
    seen = judge_heads([replace(one, straight=0.0) for one in heads], _LEAST_UPRIGHT, _LEAST_CENTRE)
    if orientation.verdict != "pass" or seen.verdict != "warning":
        return orientation
    meaning = "the file's axes may be wrong, and right and left with them: convert the study again from DICOM"
    return replace(orientation, verdict="warning", found=f"{seen.found}; {orientation.found}", meaning=meaning)


def read_accepted(accept: Iterable[str]) -> frozenset[str]:
    """Read the checks that a user names, in any case, words joined by blanks, hyphens or underscores.

    Raises:
        SettingsError: a name that no check has.
    """
    accept = (accept,) if isinstance(accept, str) else accept
    names = {one: " ".join(one.lower().replace("-", " ").replace("_", " ").split()) for one in accept}
    unknown = [one for one, name in names.items() if name not in ALL_CHECKS]
    if unknown:
        raise SettingsError(
            "--accept",
            found=f"no check is named {', '.join(repr(one) for one in unknown)}",
            needed=f"one of {', '.join(name.replace(' ', '-') for name in ALL_CHECKS)}",
            remedy="take the name from the refusal's message",
        )
    return frozenset(names.values())


def find_refusal(
    subject: str, checks: tuple[Check, ...], accept: Iterable[str] = (), wanted: str = "a plain CT of a head, in HU"
) -> CheckRefusalError | None:
    """Find the error that stops a study; None where no check refuses it, or the user has accepted each that does.

    Args:
        subject: the study, as the user named it.
        checks: of `check_input`. An accepted refusal stays one, and reports show it as overruled.
        accept: names of checks.
        wanted: what to give in its place.

    Raises:
        SettingsError: a name that no check has.
    """
    accepted = read_accepted(accept)
    refusals = [one for one in checks if one.verdict == "refusal" and one.name not in accepted]
    if not refusals:
        return None
    unread = [one for one in checks if one.name == "completeness" and one.verdict == "warning"]  # may be the cause
    flags = " ".join(f"--accept {one.name.replace(' ', '-')}" for one in refusals)
    return CheckRefusalError(
        subject,
        tuple(one.name for one in refusals),
        found="refused by the input checks:"
        + "".join(f"\n    {one.name}: {one.found}; {one.meaning}" for one in [*refusals, *unread]),
        needed="".join(f"\n    {one.name}: {one.limit}" for one in refusals),
        remedy=f"give {wanted}; or go on all the same, on your own responsibility, with {flags}",
    )
