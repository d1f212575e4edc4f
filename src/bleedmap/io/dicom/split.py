"""One series' planes -> stacks that belong together: scouts, other sizes, angles and passes over the head apart."""

import itertools
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bleedmap.io.dicom.header import text
from bleedmap.io.dicom.planes import Plane, sop_class
from bleedmap.io.dicom.stack import PARALLEL_WITHIN_DEG, SAME_PLACE_MM, angle_deg, heights_mm

_STACK = 4  # slices: fewer are no pass over the head


@dataclass(frozen=True, eq=False)
class Stack:
    """Planes of one series that agree in kind, size, angle and pass.

    Attributes:
        planes: in the order of the files.
        part, parts: its number from 1 among those of its series.
        differs: in what the parts differ, in words; '' for an only part.
        kind: what all its planes share but their angle; stacks of equal kind differ by angle or pass.
    """

    planes: tuple[Plane, ...]
    part: int
    parts: int
    differs: str
    kind: Hashable

    def turned_against(self, other: "Stack") -> float | None:
        """Angle to another stack of the same series and kind in degrees; None for others, and for parallel ones."""
        if self.kind != other.kind or not (self.planes[0].has_place and other.planes[0].has_place):
            return None
        angle = angle_deg(self.planes[0], other.planes[0])
        return angle if angle > PARALLEL_WITHIN_DEG else None


def split(planes: Sequence[Plane]) -> list[Stack]:
    """Stacks of one series, the largest first."""
    reasons: list[str] = []
    parts = [(_kind(group[0]), group) for group in _grouped(planes, _kind, reasons, "kind or size")]
    parts = [(kind, part) for kind, group in parts for part in _by_angle(group, reasons)]
    parts = [(kind, part) for kind, group in parts for part in _by_pass(group, reasons)]
    parts.sort(key=lambda one: -len(one[1]))
    differs = ", ".join(dict.fromkeys(reasons))
    return [Stack(tuple(part), number, len(parts), differs, kind) for number, (kind, part) in enumerate(parts, start=1)]


def _grouped(
    planes: Iterable[Plane], key: Callable[[Plane], Hashable], reasons: list[str], reason: str
) -> list[list[Plane]]:
    groups: dict[Hashable, list[Plane]] = {}
    for plane in planes:
        groups.setdefault(key(plane), []).append(plane)
    if len(groups) > 1:
        reasons.append(reason)
    return list(groups.values())


def _kind(plane: Plane) -> Hashable:
    """Image type (ORIGINAL or DERIVED, and AXIAL, LOCALIZER …), size, pixel spacing, frame of reference, class."""
    spacing = tuple(round(one, 3) for one in plane.spacing_mm)
    frame = text(plane.file.header, "FrameOfReferenceUID")
    kind = (plane.image_type[:1], plane.image_type[2:3])
    one_file = plane.file if plane.frame is not None else None  # results refer to one multi-frame instance
    return sop_class(plane.file), one_file, kind, plane.rows, plane.columns, spacing, frame, plane.has_place


def _by_angle(planes: Sequence[Plane], reasons: list[str]) -> list[list[Plane]]:
    if not planes[0].has_place:
        return [list(planes)]
    groups: list[list[Plane]] = []
    for plane in planes:
        near = (group for group in groups if angle_deg(group[0], plane) <= PARALLEL_WITHIN_DEG)
        group = next(near, None)
        if group is None:
            groups.append([plane])
        else:
            group.append(plane)
    if len(groups) > 1:
        reasons.append("angle")
    return groups


def _by_pass(planes: Sequence[Plane], reasons: list[str]) -> list[list[Plane]]:
    """Where places are taken twice: apart by acquisition number or time, if that leaves whole stacks without doubles.

    A number or time for each slice, as in a sequential scan, sets none apart.
    """
    if not planes[0].has_place:
        return [list(planes)]
    places = _places(planes)
    if places == len(planes):
        apart = _grouped(planes, lambda plane: plane.moments[0], [], "")
        if not _interleaved(apart):
            return [list(planes)]
        reasons.append("pass over the head")
        return apart
    for column in range(len(planes[0].moments)):
        apart = _grouped(planes, lambda plane: plane.moments[column], [], "")  # noqa: B023 - called at once
        if (
            len(apart) > 1
            and all(_places(group) == len(group) for group in apart)
            and (max(map(len, apart)) > places / 2)
        ):
            reasons.append("pass over the head")
            return apart
    return [list(planes)]


def _interleaved(apart: Sequence[Sequence[Plane]]) -> bool:
    """Whether two acquisitions of several slices cover the same heights: two passes, a little apart.

    Skull base and vertex scanned one after the other do not, nor do slices with a number each.
    """
    if len(apart) < 2 or min(map(len, apart)) < _STACK:
        return False
    spans = sorted((float(np.min(heights)), float(np.max(heights))) for heights in map(heights_mm, apart))
    return any(
        min(high, next_high) - next_low > (next_high - next_low) / 2
        for (_, high), (next_low, next_high) in itertools.pairwise(spans)
    )


def _places(planes: Sequence[Plane]) -> int:
    heights = np.sort(heights_mm(planes))
    return 1 + int((np.diff(heights) > SAME_PLACE_MM).sum())
