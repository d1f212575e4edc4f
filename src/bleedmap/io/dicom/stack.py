"""Split the planes of a study into stacks, and put each stack's slices in order and in their exact places.

Scouts, other sizes, angles and passes over the head are set apart first; what divides no scan by itself, such as
a frame of reference that is missing in some files, divides only where the places say so too. Order follows position
along the normal, never file names or instance numbers: DICOM PS3.3 C.7.6.2.1.1. Nothing is resampled: a gantry's tilt,
uneven or missing slices are kept in the grid. What no grid can say is refused.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import numpy as np
from pydicom.uid import UID

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.errors import InputError
from bleedmap.geometry import EVEN_WITHIN_MM, PlaneTurn, SliceGrid
from bleedmap.io.dicom.acquisition import is_sharp_kernel, read_contrast
from bleedmap.io.dicom.header import text
from bleedmap.io.dicom.planes import MOST_SLICES, Plane, sop_class

PARALLEL_WITHIN_DEG = 1.0
AXIAL_WITHIN_DEG = 45.0
SAME_PLACE_MM = 0.05  # slices nearer than this are one place; thin overlapping slices are 0.1 mm apart or more
LARGEST_GAP_MM = 30.0  # beyond it the slices beside a gap would stand for more than a head's structure
_OBLIQUE_FROM_DEG = 30.0
_COSINE_WITHIN = 1e-3  # of unit length and right angles; files round to 6 digits, some to 4
_SPACING_MM = (0.05, 5.0)
_SIDE_PIXELS = (32, 2048)
_LARGEST_SHEAR_DEG = 45.0
_TURNED_FROM_DEG = 0.1
_TILT_AGREES_DEG = 1.0
_STACK = 4  # slices: fewer are no pass over the head
WHOLE_HEAD_MM = 100.0  # a stack of this height counts as complete, whatever else there is (a neck, a spine)
_WRITTEN_MM = 1e-5  # pixel spacings further apart are told
_OWN_VALUES = 0.8  # of the images: with more values than that an attribute belongs to the image, not to the scan
_MOST_GROUPS = 8  # tried for each part
_SHIFTED_MM = 1.0  # in plane from one part to the next
_STRICT_MM = 0.1  # of a place from where it would be on an even stack
_ONE_SCAN = timedelta(hours=1)


@dataclass(frozen=True)
class _Attribute:
    """An attribute that may differ from slice to slice.

    Attributes:
        name: as a reader is told, with its tag.
        read: its value as text; '' where it is missing.
        shown: whether its values are told; UIDs are not.
    """

    name: str
    read: Callable[[Plane], str]
    shown: bool = True


def _read_instance(plane: Plane) -> str:
    """Read the SOP Instance UID of a multi-frame instance; '' for a classic one, which each slice has of its own."""
    return "" if plane.frame is None else text(plane.file.header, "SOPInstanceUID") or ""


def _read_header(plane: Plane, keyword: str) -> str:
    return text(plane.file.header, keyword) or ""


def _format(plane: Plane, keyword: str) -> str:
    return " × ".join(f"{one:g}" for one in plane.readings[keyword].numbers)


_KIND = (  # what the slices of one stack always share, beside spacing and angle
    _Attribute("SOP Class UID (0008,0016)", lambda plane: UID(sop_class(plane.file)).name),
    _Attribute("Image Type (0008,0008)", lambda plane: ", ".join(plane.special)),
    _Attribute("Rows and Columns (0028,0010)", lambda plane: f"{plane.rows} × {plane.columns}"),
    _Attribute("Image Position, Orientation and Pixel Spacing", lambda plane: "given" if plane.has_place else ""),
)
_SPACING = _Attribute(
    "Pixel Spacing (0028,0030)", lambda plane: " × ".join(f"{one:.6g}" for one in plane.spacing_mm) + " mm"
)
_FRAME = _Attribute(
    "Frame of Reference UID (0020,0052)", lambda plane: text(plane.file.header, "FrameOfReferenceUID") or "", False
)
_TYPES = tuple(
    _Attribute(f"Image Type (0008,0008) value {at + 1}", lambda plane, at=at: "".join(plane.image_type[at : at + 1]))  # type: ignore[misc]
    for at in (0, 2)
)
_INSTANCE = _Attribute("SOP Instance UID (0008,0018) of multi-frame images", _read_instance, False)
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
_DESCRIPTION = _Attribute(
    "Series Description (0008,103E)", lambda plane: text(plane.file.header, "SeriesDescription") or ""
)
_PATIENT = _Attribute("Patient ID (0010,0020)", lambda plane: _read_header(plane, "PatientID"), False)
_MADE = (  # what tells apart reconstructions at the same places under one series UID
    _KERNEL, _CONTRAST, _KVP,
    _Attribute("Image Type (0008,0008) from value 3", lambda plane: "\\".join(plane.image_type[2:])),
    _Attribute("Reconstruction Diameter (0018,1100)", lambda plane: _format(plane, "ReconstructionDiameter")),
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

    Attributes:
        planes: in the order of the files.
        part, parts: its number from 1 among those of its series.
    """

    planes: tuple[Plane, ...]
    part: int = 1
    parts: int = 1

    @property
    def series(self) -> frozenset[str]:
        """The Series Instance UIDs: one, but where series were joined."""
        return frozenset(plane.file.series for plane in self.planes)

    @property
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
    groups: list[Parts] = []
    for part in sorted(parts, key=lambda one: (-len(one), float(np.dot(one[0].position_mm, normal)))):
        fits = (
            group
            for group in groups[:_MOST_GROUPS]
            if not explain_misfit([*group, part], loose=loose, interleave=interleave)
        )
        group = next(fits, None)
        if group is None:
            groups.append([part])
        else:
            group.append(part)
    return groups


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
        parts: as `explain_misfit`.
        between: gaps in mm where one part ends and another begins.
        gaps: all of them.
        steps: for each part the distances of its own slices.
        loose: as `explain_misfit`.
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
    groups: list[list[Plane]] = []
    for plane in planes:
        near = (
            group
            for group in groups
            if _have_same_pixels(group[0], plane) and angle_deg(group[0], plane) <= PARALLEL_WITHIN_DEG
        )
        group = next(near, None)
        if group is None:
            groups.append([plane])
        else:
            group.append(plane)
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


def count_places(planes: Sequence[Plane]) -> int:
    """Return at how many places planes lie."""
    heights = np.sort(heights_mm(planes))
    return 1 + int((np.diff(heights) > SAME_PLACE_MM).sum())


def angle_deg(one: Plane, other: Plane) -> float:
    """Return the largest angle between the rows, or the columns, of two planes."""
    mine, theirs = np.reshape(one.orientation, (2, 3)), np.reshape(other.orientation, (2, 3))
    chords = np.linalg.norm(mine - theirs, axis=1)  # exact for small angles, where an arc cosine is not
    return float(np.degrees(2 * np.arcsin(np.clip(chords.max() / 2, 0, 1))))


def check_plane(plane: Plane) -> None:
    """Refuse a plane whose place or size is missing or cannot be.

    Raises:
        InputError: says what, with figures.
    """
    rows, down = np.reshape(plane.orientation or (np.nan,) * 6, (2, 3))
    lengths = np.array([np.linalg.norm(rows), np.linalg.norm(down)])
    low, high = _SPACING_MM
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns"):
        if not (reading := plane.readings[keyword]).numbers:
            raise InputError(
                plane.name, found=reading.found, needed="the place and size of every slice", remedy=reading.remedy
            )
    if np.abs(lengths - 1).max() > _COSINE_WITHIN or abs(rows @ down) > _COSINE_WITHIN:
        found = (
            f"direction cosines of length {lengths[0]:.4f} and {lengths[1]:.4f}, {rows @ down:+.4f} off right angles"
        )
        raise _refuse_value(plane, "ImageOrientationPatient", found, "unit vectors at right angles")
    if not all(low < one <= high for one in plane.spacing_mm):
        found = f"pixels of {plane.spacing_mm[0]:g} × {plane.spacing_mm[1]:g} mm"
        raise _refuse_value(plane, "PixelSpacing", found, f"more than {low:g} and at most {high:g} mm")
    if max(map(abs, plane.position_mm)) > 1e5:
        found = f"a position of {plane.position_mm} mm"
        raise _refuse_value(plane, "ImagePositionPatient", found, "a place within 100 m of the scanner")
    if not all(_SIDE_PIXELS[0] <= one <= _SIDE_PIXELS[1] for one in (plane.rows, plane.columns)):
        found = f"{plane.rows:,} rows of {plane.columns:,} pixels"
        raise _refusal(plane.name, found, f"{_SIDE_PIXELS[0]} to {_SIDE_PIXELS[1]:,} of either")


def _refuse_value(plane: Plane, keyword: str, found: str, needed: str) -> InputError:
    reading = plane.readings[keyword]
    return InputError(plane.name, found=f"{found}, by {reading.name}", needed=needed, remedy=reading.remedy)


def heights_mm(planes: Sequence[Plane]) -> DoubleArray:
    """Return (plane,) places along the first plane's normal, towards the head."""
    return np.asarray(np.array([plane.position_mm for plane in planes]) @ planes[0].normal, np.float64)


def order_planes(planes: Sequence[Plane]) -> tuple[tuple[Plane, ...], ...]:
    """Check planes and order them feet to head, those at one place together.

    Raises:
        InputError: as `check_plane`; planes that are not parallel or of one size, or too many.
    """
    first = planes[0]
    for plane in planes:
        check_plane(plane)
        if (plane.rows, plane.columns) != (first.rows, first.columns):
            found = f"{plane.rows} × {plane.columns} pixels, where others have {first.rows} × {first.columns}"
            raise _refusal(plane.name, found, "images of one size")
        if angle_deg(first, plane) > PARALLEL_WITHIN_DEG:
            found = f"a plane turned {angle_deg(first, plane):.1f}° against the first"
            raise _refusal(plane.name, found, f"parallel planes, within {PARALLEL_WITHIN_DEG:g}°")
    heights = heights_mm(planes)
    order = np.argsort(heights, kind="stable")
    starts = np.flatnonzero(np.diff(heights[order]) > SAME_PLACE_MM) + 1
    places = tuple(tuple(planes[index] for index in part) for part in np.split(order, starts))
    if len(places) > MOST_SLICES:
        raise _refusal(first.file.place.path, f"{len(places):,} slices", f"at most {MOST_SLICES:,}")
    return places


def build_stored_grid(planes: Sequence[Plane]) -> SliceGrid:
    """Build the grid of slices in order, with rows and columns as stored.

    Raises:
        InputError: a gap that is too large, a shear beyond any gantry, or a lone slice without thickness.
    """
    first = planes[0]
    cosines = np.mean([plane.orientation for plane in planes], axis=0)
    row_mm, column_mm = np.mean([plane.spacing_mm for plane in planes], axis=0)
    if len(planes) == 1 and first.thickness_mm is None:
        found = f"a single slice without thickness; {first.readings['SliceThickness'].found}"
        raise _refusal(first.name, found, "a thickness, or several slices")
    grid = SliceGrid(
        origins_mm=np.array([plane.position_mm for plane in planes], np.float64),
        row_step_mm=np.asarray(cosines[3:] * row_mm, np.float64),
        column_step_mm=np.asarray(cosines[:3] * column_mm, np.float64),
        thickness_mm=first.thickness_mm or float(np.diff(heights_mm(planes)).min()),
    )
    gaps = np.diff(grid.heights_mm)
    if gaps.max(initial=0) > LARGEST_GAP_MM:
        at = int(gaps.argmax())
        found = f"a gap of {gaps[at]:.1f} mm between slices {at + 1} and {at + 2} (median {np.median(gaps):.2f} mm)"
        raise _refusal(first.file.place.path, found, f"slices no more than {LARGEST_GAP_MM:g} mm apart")
    if grid.shear_deg > _LARGEST_SHEAR_DEG:
        found = f"slices that follow one another at {grid.shear_deg:.0f}° to their normal"
        raise _refusal(first.file.place.path, found, f"a gantry tilt of at most {_LARGEST_SHEAR_DEG:.0f}°")
    return grid


def find_standard_turn(grid: SliceGrid) -> PlaneTurn:
    """Find the turn that brings stored rows and columns front to back and right to left, as near as they can.

    Those of coronal slices run head to feet and right to left, of sagittal ones head to feet and front to back.
    """
    rows, columns = (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)
    if grid.tilt_to_axial_deg > AXIAL_WITHIN_DEG:
        rows = (0.0, 0.0, -1.0)
        columns = (0.0, 1.0, 0.0) if abs(grid.normal[0]) > abs(grid.normal[1]) else columns
    down, along = grid.row_step_mm / np.linalg.norm(grid.row_step_mm), grid.column_step_mm
    along = along / np.linalg.norm(along)
    transpose = bool(abs(along @ rows) + abs(down @ columns) > abs(along @ columns) + abs(down @ rows))
    down, along = (along, down) if transpose else (down, along)
    return PlaneTurn(transpose, flip_rows=bool(down @ rows < 0), flip_columns=bool(along @ columns < 0))


def turn_grid(grid: SliceGrid, turn: PlaneTurn, rows: int, columns: int) -> SliceGrid:
    """Return the grid of the same slices after `turn.apply`.

    Args:
        grid: as stored.
        turn: to the standard view.
        rows, columns: of the stored images.
    """
    down, along, height, width = grid.row_step_mm, grid.column_step_mm, rows, columns
    if turn.transpose:
        down, along, height, width = along, down, width, height
    origins = grid.origins_mm
    if turn.flip_rows:
        origins, down = origins + (height - 1) * down, -down
    if turn.flip_columns:
        origins, along = origins + (width - 1) * along, -along
    return replace(grid, origins_mm=origins, row_step_mm=down, column_step_mm=along)


class StoredPlanes(NamedTuple):
    """Where slices lie with their rows and columns as stored: PS3.3 C.7.6.2.1.1.

    Attributes:
        positions_mm: (slice, 3) centre of each slice's first stored pixel, LPS.
        orientation: (6,) cosines, along a row, then down a column.
        pixel_mm: from row to row, from column to column.
    """

    positions_mm: DoubleArray
    orientation: DoubleArray
    pixel_mm: tuple[float, float]


def locate_stored_planes(grid: SliceGrid, shape: tuple[int, int], turn: PlaneTurn) -> StoredPlanes:
    """Locate a grid's slices with their rows and columns as stored.

    Args:
        grid: in the standard view.
        shape: (rows, columns) in the standard view.
        turn: from the stored rows and columns to that view.
    """
    down, across, first = grid.row_step_mm, grid.column_step_mm, np.zeros(3)
    if turn.flip_rows:
        first, down = first + (shape[0] - 1) * down, -down
    if turn.flip_columns:
        first, across = first + (shape[1] - 1) * across, -across
    if turn.transpose:
        down, across = across, down
    down_mm, across_mm = float(np.linalg.norm(down)), float(np.linalg.norm(across))
    orientation = np.concatenate([across / across_mm, down / down_mm])
    return StoredPlanes(grid.origins_mm + first, orientation, (down_mm, across_mm))


def describe_geometry(grid: SliceGrid, planes: Sequence[Plane], stated_tilt_deg: float | None) -> tuple[str, ...]:
    """Describe what a reader should know of the slices' geometry, each in a sentence with its figures."""
    found = [*_describe_angles(grid, planes, stated_tilt_deg), *_describe_gaps(grid, planes)]
    return tuple(found)


def _describe_angles(grid: SliceGrid, planes: Sequence[Plane], stated_deg: float | None) -> list[str]:
    notes = []
    shear = grid.shear_deg if len(grid) > 1 else 0.0
    shift = grid.slice_step_mm - (grid.slice_step_mm @ grid.normal) * grid.normal  # within the planes
    if shear > 0.5:
        sideways = abs(shift[0]) > np.linalg.norm(shift[1:])
        kind = "The table moved sideways: slices are shifted by" if sideways else "The gantry was tilted by"
        notes.append(f"{kind} {shear:.1f}°; each slice is kept in its own place, nothing is resampled.")
    # Sizes are compared, signs are not: the CT Image IOD defines none, and makers differ (a GE HiSpeed states +18.5°
    # where `gantry_tilt_deg` is -18.5°).
    if stated_deg is not None and len(grid) > 1 and abs(abs(stated_deg) - shear) > _TILT_AGREES_DEG:
        notes.append(
            f"The header states a gantry tilt of {stated_deg:.1f}°, the slices' positions one of {shear:.1f}°; "
            "the positions were used."
        )
    if grid.tilt_to_axial_deg >= _OBLIQUE_FROM_DEG:
        notes.append(f"The slices are oblique: {grid.tilt_to_axial_deg:.0f}° from axial.")
    turned_deg = max(angle_deg(planes[0], plane) for plane in planes)
    if turned_deg > _TURNED_FROM_DEG:
        notes.append(f"The slices are turned against each other by up to {turned_deg:.2f}°; the mean was used.")
    return notes


def _describe_gaps(grid: SliceGrid, planes: Sequence[Plane]) -> list[str]:
    if len(grid) < 3:
        return []
    notes = []
    gaps = np.diff(grid.heights_mm)
    usual = float(np.median(gaps))
    missing = [(at, round(gap / usual) - 1) for at, gap in enumerate(gaps) if _is_multiple(gap, usual)]
    if len(missing) > max(1, len(gaps) / 4):
        missing = []  # rather a second, wider spacing
    if missing:
        places = ", ".join(f"{at + 1} and {at + 2}" for at, _ in missing[:5]) + (", …" if len(missing) > 5 else "")
        count = sum(one for _, one in missing)
        notes.append(
            f"{count} slice{'s seem' if count > 1 else ' seems'} to be missing, between slices {places}: gaps of up to "
            f"{gaps.max():.1f} mm where {usual:.2f} mm is usual. The slices beside a gap stand for half of it each."
        )
    others = np.delete(gaps, [at for at, _ in missing])
    if others.max() - others.min() > EVEN_WITHIN_MM and not grid.is_even:
        notes.append(
            f"The slices are uneven, {others.min():.2f} to {others.max():.2f} mm apart; each counts with its own."
        )
    thickness = planes[0].thickness_mm or 0.0
    if thickness > 0 and usual < 0.95 * thickness:
        notes.append(f"The slices overlap: {thickness:g} mm thick, {usual:.2f} mm apart.")
    elif thickness > 0 and usual > 1.1 * thickness:
        notes.append(f"There are gaps between all slices: {thickness:g} mm thick, {usual:.2f} mm apart.")
    sideways = grid.origins_mm - np.outer(grid.heights_mm, grid.normal)
    line = np.polynomial.polynomial.polyfit(grid.heights_mm, sideways, 1)
    off = np.linalg.norm(sideways - line[0] - np.outer(grid.heights_mm, line[1]), axis=1).max()
    if off > 0.5:
        notes.append(f"The slices are shifted in plane against each other by up to {off:.1f} mm; each keeps its place.")
    return notes


def _is_multiple(gap: float, usual: float) -> bool:
    """Whether whole slices are missing: twice the usual distance or more, within a tenth of one."""
    times = round(gap / usual)
    return times >= 2 and abs(gap - times * usual) <= 0.1 * usual


def _refusal(subject: object, found: str, needed: str) -> InputError:
    return InputError(str(subject), found=found, needed=needed, remedy="export the original axial series again")
