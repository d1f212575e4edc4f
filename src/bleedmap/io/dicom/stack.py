"""Split the planes of a study into stacks, each one scan, and join series that are one scan.

Scouts, other sizes, angles and passes over the head are set apart first; what divides no scan by itself, such as
a frame of reference that is missing in some files, divides only where the places say so too.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
from pydicom.uid import UID

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.io.dicom.acquisition import is_sharp_kernel, read_contrast
from bleedmap.io.dicom.grid import (
    LARGEST_GAP_MM,
    PARALLEL_WITHIN_DEG,
    SAME_PLACE_MM,
    angle_deg,
    count_places,
    heights_mm,
)
from bleedmap.io.dicom.header import find_sop_class, text
from bleedmap.io.dicom.planes import Plane

_STACK = 4  # slices: fewer are no pass over the head
WHOLE_HEAD_MM = 100.0  # a stack of this height counts as complete, whatever else there is (a neck, a spine)
_WRITTEN_MM = 1e-5  # pixel spacings further apart are told
_OWN_VALUES = 0.8  # of the images: with more values than that an attribute belongs to the image, not to the scan
_MOST_GROUPS = 8  # tried for each part
_SHIFTED_MM = 1.0  # in plane from one part to the next
_STRICT_MM = 0.1  # of a place from where it would be on an even stack
_ONE_SCAN = timedelta(hours=1)
_One = TypeVar("_One")


@dataclass(frozen=True)
class _Attribute:
    """An attribute that may differ from slice to slice."""

    name: str  # as a reader is told, with its tag
    read: Callable[[Plane], str]  # its value as text; '' where it is missing
    shown: bool = True  # whether its values are told; UIDs are not


def _read_header(plane: Plane, keyword: str) -> str:
    return text(plane.file.header, keyword) or ""


_KIND = (  # what the slices of one stack always share, beside spacing and angle
    _Attribute("SOP Class UID (0008,0016)", lambda plane: UID(find_sop_class(plane.file.header)).name),
    _Attribute("Image Type (0008,0008)", lambda plane: ", ".join(plane.special)),
    _Attribute("Rows and Columns (0028,0010)", lambda plane: f"{plane.rows} × {plane.columns}"),
    _Attribute("Image Position, Orientation and Pixel Spacing", lambda plane: "given" if plane.has_place else ""),
)
_SPACING = _Attribute(
    "Pixel Spacing (0028,0030)", lambda plane: " × ".join(f"{one:.6g}" for one in plane.spacing_mm) + " mm"
)
_FRAME = _Attribute(
    "Frame of Reference UID (0020,0052)", lambda plane: _read_header(plane, "FrameOfReferenceUID"), False
)
_TYPES = tuple(
    _Attribute(f"Image Type (0008,0008) value {at + 1}", lambda plane, at=at: "".join(plane.image_type[at : at + 1]))  # type: ignore[misc]
    for at in (0, 2)
)
_INSTANCE = _Attribute(  # classic images have one each
    "SOP Instance UID (0008,0018) of multi-frame images",
    lambda plane: "" if plane.frame is None else _read_header(plane, "SOPInstanceUID"), False,
)  # fmt: skip
_SERIES = _Attribute("Series Instance UID (0020,000E)", lambda plane: plane.file.series, False)
_WEAK = (_FRAME, *_TYPES, _INSTANCE)  # what divides a series only where its places say so too
_KERNEL = _Attribute("kernel (0018,1210)", lambda plane: plane.kernel)
_SHARPNESS = _Attribute(
    "kernel (0018,1210)", lambda plane: {True: "sharp", False: "soft", None: ""}[is_sharp_kernel(plane.kernel)]
)
_CONTRAST = _Attribute("contrast agent (0018,0010)", lambda plane: read_contrast(plane) or "")
_KVP = _Attribute("KVP (0018,0060)", lambda plane: f"{plane.kvp or 0:g} kV")
_THICKNESS = _Attribute("Slice Thickness (0018,0050)", lambda plane: f"{plane.thickness_mm or 0:.2f} mm")
_NUMBER = _Attribute("Series Number (0020,0011)", lambda plane: _read_header(plane, "SeriesNumber"))
_DESCRIPTION = _Attribute("Series Description (0008,103E)", lambda plane: _read_header(plane, "SeriesDescription"))
_PATIENT = _Attribute("Patient ID (0010,0020)", lambda plane: _read_header(plane, "PatientID"), False)
_MADE = (  # what tells apart reconstructions at the same places under one series UID
    _KERNEL, _CONTRAST, _KVP,
    _Attribute("Image Type (0008,0008) from value 3", lambda plane: "\\".join(plane.image_type[2:])),
    _Attribute("Reconstruction Diameter (0018,1100)", lambda plane: " × ".join(
        f"{one:g}" for one in plane.readings["ReconstructionDiameter"].numbers
    )),
    _THICKNESS,
    _Attribute("Filter Type (0018,1160)", lambda plane: _read_header(plane, "FilterType")),
    _DESCRIPTION, _NUMBER,
)  # fmt: skip
_PASSES = tuple(  # what tells passes over the head apart
    _Attribute(name, lambda plane, at=at: "".join(plane.moments[at : at + 1]), shown=at < 2)  # type: ignore[misc]
    for at, name in enumerate((
        "Acquisition Number (0020,0012)", "Temporal Position (0020,0100)", "Acquisition Time (0008,0032)",
        "Acquisition DateTime (0008,002A)", "Trigger Time (0018,1060)", "Series Time (0008,0031)",
        "Content Time (0008,0033)",
    ))
)  # fmt: skip
_TOLD = (*_KIND, _SPACING, *_WEAK, _SERIES, *_MADE)


@dataclass(frozen=True, eq=False)
class Stack:
    """Planes that are slices of one scan: of one kind, size, angle and pass.

    `part`, `parts`: its number from 1 among those of its series.
    """

    planes: tuple[Plane, ...]  # in the order of the files
    part: int = 1
    parts: int = 1

    @property
    def series(self) -> frozenset[str]:
        """The Series Instance UIDs: one, but where series were joined."""
        return frozenset(plane.file.series for plane in self.planes)

    @cached_property
    def height_mm(self) -> float:
        """The height from the first slice to the last, and one slice more."""
        heights = np.unique(np.round(heights_mm(self.planes), 1))
        return float(np.ptp(heights) + (np.median(np.diff(heights)) if len(heights) > 1 else 0))

    @property
    def thickness_mm(self) -> float | None:
        """The nominal thickness of most slices; None where none states it."""
        stated = [one.thickness_mm for one in self.planes if one.thickness_mm is not None]
        return float(np.median(stated)) if stated else None

    @property
    def joined_over(self) -> str:
        """In what its planes differ though they were joined, with the values; '' for nothing."""
        ways = {plane.spacing_mm for plane in self.planes if plane.has_place}
        written = (_SPACING,) if len(ways) > 1 and np.ptp(list(ways), axis=0).max() > _WRITTEN_MM else ()
        return "; ".join(
            f"{one.name}: {_list_values(one, self.planes)}"
            for one in (*written, *_WEAK, _SERIES)
            if len({one.read(plane) for plane in self.planes}) > 1
        )

    def turned_against(self, other: "Stack") -> float | None:
        """Return the angle in degrees to another stack of the same kind; None for others, and parallel ones."""
        if not (self.planes[0].has_place and other.planes[0].has_place) or not _are_of_one_kind(self, other):
            return None
        angle = angle_deg(self.planes[0], other.planes[0])
        return angle if angle > PARALLEL_WITHIN_DEG else None

    def describe_difference(self, other: "Stack") -> str:
        """Say in what another stack differs from this one, and where that alone divides nothing, what does."""
        first, second = self.planes[0], other.planes[0]
        told = [clause for one in _TOLD if (clause := _compare(one, self.planes, other.planes))]
        if second.special or _find_kind(first) != _find_kind(second):
            return told[0]
        if first.has_place and (angle := angle_deg(first, second)) > PARALLEL_WITHIN_DEG:
            told.insert(0, f"another angle, turned by {angle:.1f}°")
        elif first.has_place and _have_same_pixels(first, second):
            told = [*told[:1], explain_misfit([self.planes, other.planes], loose=False) if told else ""]
        passes = (clause for one in _PASSES if (clause := _compare(one, self.planes, other.planes)))
        return ", ".join(filter(None, told[:2])) or ": ".join(("another pass over the head", *list(passes)[:1]))


def _list_values(attribute: _Attribute, planes: Sequence[Plane]) -> str:
    """List an attribute's values, each with the number of images: 'ORIGINAL in 14, DERIVED in 14'."""
    counts = Counter(attribute.read(plane) for plane in planes)
    missing = f", missing in {counts.pop('')}" if "" in counts else ""
    if attribute.shown:
        listed = ", ".join(f"{value} in {count}" for value, count in counts.most_common(4))
        return listed + (", …" if len(counts) > 4 else "") + missing
    return f"{len(counts)} value{'s' if len(counts) > 1 else ''} in {counts.total()} images{missing}"


def _compare(attribute: _Attribute, own: Sequence[Plane], others: Sequence[Plane]) -> str:
    """Say how an attribute of other planes differs from that of one's own; '' where they share a value."""
    mine, theirs = ({attribute.read(plane) for plane in planes} for planes in (own, others))
    if mine & theirs:
        return ""
    if not any(theirs):
        return f"no {attribute.name}"
    if not attribute.shown:
        return f"another {attribute.name}" if any(mine) else f"{attribute.name}, which the others lack"
    here, there = (" or ".join(sorted(filter(None, one))[:3]) for one in (mine, theirs))
    return f"{attribute.name} {there}" + (f", not {here}" if here else "")


def split_into_stacks(planes: Sequence[Plane]) -> list[Stack]:
    """Split the planes of one series into stacks, the largest first.

    Slices that differ in what divides no scan by itself (frame of reference, image type, one of several multi-frame
    instances) stay together where their places continue or interleave.
    """
    parts = [part for group in _group_planes(planes, _find_kind) for part in _group_alike(group)]
    parts = [one for part in parts for one in _split_by_pass(part)]
    parts = [one for part in parts for one in _divide(part)]
    parts = [one for part in parts for one in _split_by_pass(part)]
    parts.sort(key=lambda one: -len(one))
    return [Stack(tuple(part), number, len(parts)) for number, part in enumerate(parts, start=1)]


def join_series(stacks: Sequence[Stack]) -> list[Stack]:
    """Join stacks of several series that are one scan, and keep the rest as it is.

    Three kinds are known: one series under several UIDs (same number, description and make); a series for each image
    (same description and make); and blocks that lie one above the other, such as skull base and vertex with slices of
    two thicknesses (same frame of reference, sharpness and contrast; none of them is a whole head).

    Args:
        stacks: those that can be read as slices of a head.
    """
    make = (*_KIND, _PATIENT, _SHARPNESS, _CONTRAST)
    same = (*make, _KERNEL, _DESCRIPTION, _KVP, _THICKNESS)
    stacks = _join_alike(stacks, (*same, _NUMBER), lambda one: True)
    stacks = _join_alike(stacks, same, lambda one: len(one.planes) == 1)
    return _join_alike(
        stacks, (*make, _FRAME),
        lambda one: len(one.planes) > 2 and one.height_mm < WHOLE_HEAD_MM and _FRAME.read(one.planes[0]) != "",
        interleave=False,
    )  # fmt: skip


def _join_alike(
    stacks: Sequence[Stack], shared: Sequence[_Attribute], may: Callable[[Stack], bool], *, interleave: bool = True
) -> list[Stack]:
    """Join stacks that share attributes and fit together; the others stay, and what one series is divided into."""
    groups: dict[Hashable, list[Stack]] = {}
    for number, stack in enumerate(stacks):
        own: Hashable = tuple(one.read(stack.planes[0]) for one in shared)
        if not may(stack) or any(one.series & stack.series for one in groups.get(own, [])):
            own = number
        groups.setdefault(own, []).append(stack)
    found: list[Stack] = []
    for group in groups.values():
        if len(group) == 1:
            found += group
            continue
        by_first = {one.planes[0]: one for one in group}
        for firsts in _group_alike(list(by_first)):
            named = {_SERIES.read(first) for first in firsts} - {""}
            loose = len(named) < 2 or all(len(by_first[first].planes) == 1 for first in firsts)
            for parts in _join([by_first[first].planes for first in firsts], loose=loose, interleave=interleave):
                joined = tuple(plane for part in parts for plane in part)
                found.append(by_first[parts[0][0]] if len(parts) == 1 else Stack(joined))
    return found


def _divide(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Divide planes by what divides no scan by itself, where their places say so too."""
    parts = _group_planes(planes, lambda plane: tuple(one.read(plane) for one in _WEAK))
    if len(parts) == 1 or not planes[0].has_place:
        return [list(planes)]
    at = {plane: number for number, plane in enumerate(planes)}
    joined = _join(parts, loose=all(_says_little(one, planes) for one in _WEAK))
    return [sorted((plane for part in group for plane in part), key=at.__getitem__) for group in joined]


def _says_little(attribute: _Attribute, planes: Sequence[Plane]) -> bool:
    """Whether it says nothing of several scans that an attribute differs.

    So it is with the image type; a value that is missing in some; one for each image; and parts of a concatenation.
    """
    counts = Counter(attribute.read(plane) for plane in planes)
    given = [value for value in counts if value]
    if len(counts) == 1 or attribute in _TYPES or len(given) <= 1 or len(given) > _OWN_VALUES * counts.total():
        return True
    whole = {text(plane.file.header, "ConcatenationUID") for plane in planes}
    return attribute is _INSTANCE and len(whole) == 1 and None not in whole


Parts = list[Sequence[Plane]]


def _join(parts: Sequence[Sequence[Plane]], *, loose: bool, interleave: bool = True) -> list[Parts]:
    """Join all parts where they fit together, else those that do, the largest first."""
    if not explain_misfit(parts, loose=loose, interleave=interleave):
        return [list(parts)]
    normal = parts[0][0].normal
    ordered = sorted(parts, key=lambda one: (-len(one), float(np.dot(one[0].position_mm, normal))))

    def fits(group: Parts, part: Sequence[Plane]) -> bool:
        return not explain_misfit([*group, part], loose=loose, interleave=interleave)

    return _gather(ordered, fits, _MOST_GROUPS)


def explain_misfit(parts: Sequence[Sequence[Plane]], *, loose: bool, interleave: bool = True) -> str:
    """Say why parts are not slices of one scan, in a clause; '' where they are.

    Their places must continue or interleave: none taken twice, on a line, at the spacing that the slices have. Blocks
    one above the other may have two spacings.

    Args:
        parts: parallel planes of one size that have places.
        loose: whether what divides them says little, so that positions may be a little off, and as uneven as they are
            within a part.
        interleave: whether slices of one part may lie between those of another.
    """
    places = _list_places(parts)
    own, positions, heights = places.part, places.positions_mm, places.heights_mm
    if len(np.unique(own)) < 2:  # the others are copies
        return ""
    gaps = np.diff(heights)
    taken = int((gaps <= SAME_PLACE_MM).sum())
    if taken:
        return f"{taken} place{'s are' if taken > 1 else ' is'} taken twice"
    crosses = own[1:] != own[:-1]
    blocks = int(crosses.sum()) == len(parts) - 1
    if not blocks and not interleave:
        return "their heights overlap"
    if clause := _compare_make([part[0] for part in parts], blocks=blocks, loose=loose):
        return clause
    sideways = np.diff(positions, axis=0) - np.outer(gaps, parts[0][0].normal)
    off_mm = np.linalg.norm(sideways - np.outer(gaps, np.median(sideways / gaps[:, None], axis=0)), axis=1)
    if off_mm[crosses].max() > _SHIFTED_MM:
        return f"shifted in plane by {off_mm[crosses].max():.1f} mm"
    steps = [np.diff(heights[own == number]) for number in range(len(parts))]
    return _explain_gaps(parts, gaps[crosses], gaps, steps, loose=loose, blocks=blocks)


class _Places(NamedTuple):
    part: AnyArray  # (place,) number of the part
    positions_mm: DoubleArray  # (place, 3)
    heights_mm: DoubleArray  # (place,) ascending


def _list_places(parts: Sequence[Sequence[Plane]]) -> _Places:
    """List the places of several parts feet to head, those that one part takes twice once, copies of an image too."""
    images = {(text(plane.file.header, "SOPInstanceUID"), plane.frame): number for number, part in reversed(
        list(enumerate(parts))) for plane in part}  # fmt: skip
    kept = [
        (number, plane)
        for number, part in enumerate(parts)
        for plane in part
        if images[(text(plane.file.header, "SOPInstanceUID"), plane.frame)] == number
    ]
    own = np.array([number for number, _ in kept])
    positions = np.array([plane.position_mm for _, plane in kept], np.float64)
    heights = positions @ parts[0][0].normal
    order = np.lexsort((heights, own))
    again = (np.diff(own[order], prepend=-1) == 0) & (np.diff(heights[order], prepend=-np.inf) <= SAME_PLACE_MM)
    order = order[~again]
    order = order[np.argsort(heights[order], kind="stable")]
    return _Places(own[order], positions[order], heights[order])


def _compare_make(firsts: Sequence[Plane], *, blocks: bool, loose: bool) -> str:
    """Say in what parts were made differently; blocks one above the other may have their own voltage and kernel."""
    for one in (_SHARPNESS, _CONTRAST) if blocks else (_KERNEL, _CONTRAST, _KVP):
        values = {one.read(plane) for plane in firsts}
        if len(values if one is _CONTRAST else values - {"", "0 kV"}) > 1:
            return f"{one.name} {' and '.join(sorted(value or 'none' for value in values)[:3])}"
    times = sorted(filter(None, map(_read_time, firsts)))
    longest = max((later - earlier for earlier, later in itertools.pairwise(times)), default=timedelta())
    if not loose and longest > _ONE_SCAN:
        return f"acquired {longest.total_seconds() / 3600:.1f} hours apart"
    return ""


def _read_time(plane: Plane) -> datetime | None:
    header = plane.file.header
    date, time = text(header, "AcquisitionDate"), text(header, "AcquisitionTime")
    stated = text(header, "AcquisitionDateTime") or (date + time if date and time else "")
    try:
        return datetime.strptime(stated[:14], "%Y%m%d%H%M%S")
    except ValueError:
        return None


def _explain_gaps(
    parts: Sequence[Sequence[Plane]],
    between: DoubleArray,
    gaps: DoubleArray,
    steps: Sequence[DoubleArray],
    *,
    loose: bool,
    blocks: bool,
) -> str:
    """Say why the heights of parts are not those of one scan; '' where they are.

    Args:
        between: gaps in mm where one part ends and another begins.
        gaps: all of them.
        steps: for each part the distances of its own slices.
        blocks: whether the parts lie one above the other.
    """
    usual = float(np.median(gaps[gaps < 1.5 * gaps.min()]))
    within_mm = max(_STRICT_MM, 0.1 * usual) if loose else _STRICT_MM
    own = [float(np.median(one)) for one in steps if len(one)]
    even = [len(one) > 1 and np.ptp(one) <= 0.1 * np.median(one) for one in steps]
    if gaps.max() > LARGEST_GAP_MM:
        return f"{gaps.max():.1f} mm lie between them"
    if blocks and own:
        low, high = min(own), max(own)
        two_spacings = high > 1.1 * low and between.max() <= 1.1 * high  # scanners let such blocks overlap
        fits = two_spacings or _lie_apart_by(between, low, within_mm)
    else:
        thick, gapped = parts[0][0].thickness_mm or 0.0, int((gaps > 1.5 * usual).sum()) > len(gaps) / 4
        each_whole = all(even) and (gapped or usual < 0.75 * thick <= min(own, default=0.0))
        fits = _lie_apart_by(gaps, usual, within_mm) and not each_whole
    uneven = not even[int(np.argmax([len(one) for one in steps]))]
    if fits or (loose and uneven and len(gaps) >= _STACK):
        return ""
    if blocks:
        return f"{between.max():.2f} mm lie between them, where {np.median(own or gaps):.2f} mm is usual"
    return f"they interleave unevenly, {gaps.min():.2f} to {gaps.max():.2f} mm apart"


def _lie_apart_by(gaps_mm: DoubleArray, step_mm: float, within_mm: float) -> bool:
    """Whether all gaps are a step, or several where slices are missing."""
    times = np.maximum(np.round(gaps_mm / step_mm), 1)
    return bool(np.abs(gaps_mm - times * step_mm).max() <= within_mm)


def _group_planes(planes: Iterable[Plane], key: Callable[[Plane], Hashable]) -> list[list[Plane]]:
    groups: dict[Hashable, list[Plane]] = {}
    for plane in planes:
        groups.setdefault(key(plane), []).append(plane)
    return list(groups.values())


def _find_kind(plane: Plane) -> Hashable:
    return tuple(one.read(plane) for one in _KIND)


def _are_of_one_kind(one: Stack, other: Stack) -> bool:
    """Whether two stacks differ by angle or pass alone."""
    types = [{tuple(attribute.read(plane) for attribute in _TYPES) for plane in stack.planes} for stack in (one, other)]
    first, second = one.planes[0], other.planes[0]
    return _find_kind(first) == _find_kind(second) and _have_same_pixels(first, second) and bool(types[0] & types[1])


def _group_alike(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Group planes of one kind by pixel spacing and angle."""
    if not planes[0].has_place:
        return [list(planes)]
    return _gather(
        planes,
        lambda near, one: _have_same_pixels(near[0], one) and angle_deg(near[0], one) <= PARALLEL_WITHIN_DEG,
    )


def _gather(
    ones: Iterable[_One], fits: Callable[[list[_One], _One], bool], most: int | None = None
) -> list[list[_One]]:
    """Put each into the first group that it fits, of the first `most`, else into a new one."""
    groups: list[list[_One]] = []
    for one in ones:
        group = next((group for group in groups[:most] if fits(group, one)), None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return groups


def _have_same_pixels(one: Plane, other: Plane) -> bool:
    """Whether pixel spacings are one with other digits: across the whole image they differ by under a pixel."""
    pairs = zip(one.spacing_mm, other.spacing_mm, (one.rows, one.columns), strict=True)
    return all(abs(mine - theirs) * side < min(mine, theirs) or mine == theirs for mine, theirs, side in pairs)


def _split_by_pass(planes: Sequence[Plane]) -> list[list[Plane]]:
    """Split planes that take places twice by what tells reconstructions and passes apart: kernel, voltage, times …

    A number or time for each slice, as in a sequential scan, sets none apart.
    """
    if not planes[0].has_place:
        return [list(planes)]
    places = count_places(planes)
    if places == 1:
        return [list(planes)]  # no pass covers more
    doubled = places < len(planes)
    for attribute in (*_MADE, *_PASSES) if doubled else (_KERNEL, _KVP, _PASSES[0]):
        apart = _group_planes(planes, attribute.read)
        if len(apart) == 1 or not (
            _leave_fewer_doubles(apart, planes, none=attribute in _PASSES)
            if doubled
            else _are_interleaved(apart)
            and (attribute in _PASSES or all(map(attribute.read, planes)))
            and explain_misfit(apart, loose=True)
        ):
            continue
        return [one for part in apart for one in _split_by_pass(part)]
    return [list(planes)]


def _leave_fewer_doubles(apart: Sequence[Sequence[Plane]], planes: Sequence[Plane], *, none: bool) -> bool:
    """Whether groups, of which one is most of a stack, take fewer places twice than all planes do; or `none`."""
    places, counts = count_places(planes), [count_places(group) for group in apart]
    doubles = sum(map(len, apart)) - sum(counts)
    return max(counts) > places / 2 and (doubles == 0 if none else doubles < len(planes) - places)


def _are_interleaved(apart: Sequence[Sequence[Plane]]) -> bool:
    """Whether two acquisitions of several slices cover the same heights, as two passes do.

    Skull base and vertex scanned one after the other do not, nor do slices with a number each.
    """
    if len(apart) < 2 or min(map(len, apart)) < _STACK:
        return False
    spans = sorted((float(np.min(heights)), float(np.max(heights))) for heights in map(heights_mm, apart))
    return any(
        min(high, next_high) - next_low > (next_high - next_low) / 2
        for (_, high), (next_low, next_high) in itertools.pairwise(spans)
    )
