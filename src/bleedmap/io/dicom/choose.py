"""Choose which of a study's series to read: the thick, axial, soft-kernel head CT without contrast.

Each of the others is listed with the reason against it.

What can never be read as slices of a head (another modality, a scout, a coronal reformat) is kept apart from what is
merely not wanted (a bone kernel, contrast). Of the latter the best is read where there is nothing better, and the
input checks judge it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bleedmap.errors import InputError
from bleedmap.geometry import AXIAL_WITHIN_DEG
from bleedmap.io.dicom.acquisition import (
    Energy,
    find_sharpest,
    is_bone_series,
    is_elsewhere,
    is_sharp_kernel,
    mentions_contrast,
    read_contrast,
    read_energy,
)
from bleedmap.io.dicom.files import CLOSED_FOLDER, DicomFile, DicomFound
from bleedmap.io.dicom.grid import SAME_PLACE_MM, check_plane, count_places, heights_mm
from bleedmap.io.dicom.header import find_sop_class, integer, text
from bleedmap.io.dicom.planes import CT_IMAGES, SCOUT, Plane, read_planes
from bleedmap.io.dicom.series import SeriesChoice
from bleedmap.io.dicom.stack import WHOLE_HEAD_MM, Stack, join_series, split_into_stacks

WANTED_MM = 5.0
_WANTED_KV, _WANTED_KEV = 120.0, 70.0  # the network's training data; the energy whose HU are nearest to theirs
_KEV = (60.0, 80.0)  # of monoenergetic images that are read, where there are no others
_HEAD_VIEW_MM = (150.0, 350.0)  # of a field of view in which a head is whole and fills it
# Of coronal and sagittal slices, which become the rows or columns of axial ones: fewer pixels are refused by the gate.
_LEAST_TURNED, _WIDEST_TURNED_MM = 64, 2.0
_LISTED = 20  # series that an error names
_FEW = 2  # images: fewer make no part of a head
_NEARLY_WHOLE = 0.9
_PARTS = ("InConcatenationTotalNumber", "InConcatenationNumber")
_KINDS = {
    "CR": "a radiograph", "DX": "a radiograph", "MR": "MR", "PT": "PET", "NM": "nuclear medicine", "US": "ultrasound",
    "SR": "a structured report", "SEG": "a segmentation", "RTSTRUCT": "a radiotherapy structure set",
    "RTDOSE": "a dose map", "RTPLAN": "a radiotherapy plan",
    "PR": "a presentation state", "KO": "a key object selection", "DOC": "a document",
    "OT": "a secondary capture", "SC": "a secondary capture", "REG": "a registration",
}  # fmt: skip


Broken = tuple[DicomFile, InputError]  # a file whose planes cannot be told, and why


@dataclass(frozen=True, eq=False)
class Candidate:
    """One stack of one series."""

    stack: Stack
    number: int | None
    description: str
    fault: str | None  # why it cannot be read; None where it can
    error: InputError | None  # the same for a stack of CT slices whose place or size cannot be used

    @cached_property
    def first(self) -> Plane:
        """The first plane, from which everything is taken that all its planes share."""
        return self.stack.planes[0]

    @cached_property
    def thickness_mm(self) -> float:
        """The nominal thickness, or else the distance between slices."""
        heights = np.unique(np.round(heights_mm(self.stack.planes), 1))
        return self.stack.thickness_mm or (float(np.median(np.diff(heights))) if len(heights) > 1 else 0.0)

    @cached_property
    def kernel(self) -> str:
        """What is wrong with the kernel, by its name, else by the series' description; '' where nothing is."""
        named = find_sharpest(self.stack.planes)
        sharp = is_sharp_kernel(named) or is_bone_series(self.description)
        return f"bone or lung kernel ({named or self.description})" if sharp else ""

    @cached_property
    def contrast(self) -> str:
        """The contrast agent that any of its slices names; '' for none or unknown."""
        return next(filter(None, map(read_contrast, self.stack.planes)), "")

    @cached_property
    def energy(self) -> Energy:
        """The X-ray energy that its images are of."""
        return read_energy(self.first)

    @cached_property
    def view_mm(self) -> tuple[float, float]:
        """The field of view: the shorter side, the longer one."""
        sides = np.multiply(self.first.spacing_mm or (0.0, 0.0), (self.first.rows, self.first.columns))
        return float(sides.min()), float(sides.max())

    @cached_property
    def may_be_enhanced(self) -> bool:
        """Whether the description has a word of contrast and nothing says in what sense."""
        return read_contrast(self.first) is None and mentions_contrast(self.description)

    @cached_property
    def files(self) -> tuple[DicomFile, ...]:
        """The files that hold its planes, each once."""
        return tuple({id(plane.file): plane.file for plane in self.stack.planes}.values())


@dataclass(frozen=True, eq=False)
class Chosen:
    """The stack to read, every series found (the chosen one first), and what the choice had to decide.

    `unread`: what seems to belong to the chosen series and is not among its planes, in a clause; '' for nothing.
    """

    planes: tuple[Plane, ...]
    choice: tuple[SeriesChoice, ...]
    notes: tuple[str, ...]
    unread: str = ""
    thickness_mm: float | None = None  # of most of its slices, as stated


def choose_series(found: DicomFound, *, study: str | None, series: int | None) -> Chosen:
    """Choose a stack of slices.

    Args:
        study: Study Instance UID; None where there is but one with CT images.
        series: series number, in place of the choice.

    Raises:
        InputError: several studies and none named, no such study or series, or nothing that can be read.
    """
    uid = _choose_study(found, study)
    candidates, broken = _list_candidates(found, uid, series)
    asked = candidates if series is None else [one for one in candidates if one.number == series]
    if not asked:
        numbers = sorted({one.number for one in candidates if one.number is not None})
        raise InputError(
            found.path,
            f"holds no series {series}, but {', '.join(map(str, numbers))}",
            "the number of one of its series",
            "give another number with --series, or leave it out",
        )
    fit = [one for one in asked if one.fault is None]
    if not fit:
        errors = [one.error for one in asked if one.error is not None]
        if len(errors) == 1:
            raise errors[0]
        lines = Counter(f"\n  {_format_title(one)}: {one.fault}" for one in asked)
        listed = "".join(
            line + (f" ({count} times)" if count > 1 else "") for line, count in lines.most_common(_LISTED)
        )
        listed += f"\n  and {len(lines) - _LISTED} more" if len(lines) > _LISTED else ""
        raise InputError(
            found.path,
            f"holds no series that can be read:{listed}",
            "an axial CT series of the head",
            errors[0].remedy if errors else "send the original axial series of the head, then name its folder",
        )
    upright = [one for one in fit if not _find_turned(one.first)]
    tallest = max((one.stack.height_mm for one in upright if not _shows_other_part(one)), default=0.0)
    ranks = {id(one): _rank(one, tallest, candidates) for one in fit}
    fit.sort(key=lambda one: [rank for rank, _ in ranks[id(one)]])
    best = fit[0]
    alike = upright if best in upright else fit
    _refuse_turned_part(best, alike)
    if series is None:
        _refuse_other_kernel(best, alike)
    others = [one for one in candidates if one is not best]
    choice = [_make_choice(best, True, f"{'' if series is None else 'asked for: '}{_describe(best)}")]
    for one in others:
        worse = _say_what_is_worse(one, best, ranks) if one in fit else "another was asked for"
        choice.append(_make_choice(one, False, one.fault or worse))
    notes = (*_write_notes(best, others, found), *_describe_energies(best, others))
    unread = _find_unread(best, others, found, broken)
    if not unread and series is None:
        unread = _find_continuation(best, fit)
    return Chosen(best.stack.planes, tuple(choice), notes, unread, best.stack.thickness_mm)


def _choose_study(found: DicomFound, study: str | None) -> str:
    ct = dict.fromkeys(file.study for file in found.files if find_sop_class(file.header) in CT_IMAGES)
    if study is not None:
        if study not in found.studies:
            raise InputError(
                found.path,
                f"holds no study {study}",
                f"one of {', '.join(map(_print_uid, found.studies[:10]))}",
                "give one of these with --study",
            )
        return study
    if len(ct) > 1:
        listed = "".join(f"\n  {_print_uid(uid)}" for uid in list(ct)[:_LISTED])
        remedy = "name one with --study, or take them all with `bleedmap batch`"
        what = f"holds {len(ct)} studies with CT images:{listed}"
        if len(ct) == sum(file.study in ct for file in found.files) > _FEW:  # as some anonymisers leave them
            what = f"holds {len(ct)} CT images, each with a Study Instance UID (0020,000D) of its own:{listed}"
            remedy = "if they are one scan, export or anonymise it again with one UID for all; else " + remedy
        raise InputError(found.path, what, "one study", remedy)
    return next(iter(ct), found.studies[0])


def _print_uid(uid: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in uid[:80]) or "(files without a Study Instance UID)"


def _list_candidates(found: DicomFound, study: str, series: int | None) -> tuple[list[Candidate], list[Broken]]:
    """List a study's stacks; series that are one scan are joined, where one is asked for those of its number."""
    by_series: dict[str, list[Plane]] = {}
    broken: list[Broken] = []
    for file in found.files:
        if file.study == study:
            try:
                by_series.setdefault(file.series, []).extend(read_planes(file))
            except InputError as error:
                broken.append((file, error))
    stacks = [stack for planes in by_series.values() if planes for stack in split_into_stacks(planes)]
    if not stacks:
        raise broken[0][1]
    single = [_make_candidate(stack) for stack in stacks]
    may_join = [
        one for one in single
        if one.fault is None and not _shows_other_part(one) and series in (None, one.number)
    ]  # fmt: skip
    known = {one.stack: one for one in single}
    kept = [one for one in single if one not in may_join]
    joined = join_series([one.stack for one in may_join])
    candidates = [*kept, *(known.get(stack) or _make_candidate(stack) for stack in joined)]
    return sorted(candidates, key=lambda one: (one.number is None, one.number or 0, one.stack.part)), broken


def _make_candidate(stack: Stack) -> Candidate:
    header = stack.planes[0].file.header
    description = text(header, "SeriesDescription") or text(header, "ProtocolName") or ""
    fault, error = _find_other_kind(stack), None
    if fault is None:
        try:
            check_plane(stack.planes[0])
        except InputError as wrong:
            fault, error = wrong.found, wrong
    images = {(text(plane.file.header, "SOPInstanceUID"), plane.frame) for plane in stack.planes}
    if fault is None and len(images) > 1 and count_places(stack.planes) == 1:
        fault = f"{len(images)} images of one place, as of a bolus or a perfusion: no stack of slices"
    return Candidate(stack, integer(header, "SeriesNumber"), description[:100], fault, error)


def _find_other_kind(stack: Stack) -> str | None:
    """Find what a stack is, if it is no stack of axial CT slices."""
    plane = stack.planes[0]
    kind = find_sop_class(plane.file.header)
    if kind not in CT_IMAGES:
        modality = text(plane.file.header, "Modality") or "without modality"
        capture = kind.startswith("1.2.840.10008.5.1.4.1.1.7")  # secondary capture and its multi-frame kinds
        return "a secondary capture" if capture else f"{_KINDS.get(modality, modality)}, not a CT image"
    if any(one in SCOUT for one in plane.special):
        return f"a scout of {len(stack.planes)} image{'s' if len(stack.planes) > 1 else ''}"
    if plane.special:
        return f"derived images ({plane.special[0]}), not plain slices in HU"
    if computed := _find_computed(read_energy(plane)):
        return computed
    turned = _find_turned(plane)
    return turned if turned and not _is_thin(stack) else None


def _find_turned(plane: Plane) -> str:
    """Find how a plane is turned that is nearer to coronal or sagittal than to axial; '' for others."""
    if not plane.has_place or not plane.tilt_to_axial_deg > AXIAL_WITHIN_DEG:
        return ""
    side = "sagittal" if abs(plane.normal[0]) > abs(plane.normal[1]) else "coronal"
    return f"{side}, {plane.tilt_to_axial_deg:.0f}° from axial"


def _is_thin(stack: Stack) -> bool:
    """Whether coronal or sagittal slices are so many and so near that axial ones can be cut from them."""
    heights = np.unique(np.round(heights_mm(stack.planes), 2))
    return len(heights) >= _LEAST_TURNED and float(np.median(np.diff(heights))) <= _WIDEST_TURNED_MM


def _find_computed(energy: Energy) -> str | None:
    """Find what was computed from a dual-energy scan, if its values are not near those of a plain one."""
    if energy.map:
        return f"{energy.map}, computed from a dual-energy scan, not plain slices in HU"
    if energy.kind == "monoenergetic" and not (energy.level and _KEV[0] <= energy.level <= _KEV[1]):
        return f"{energy.words}: HU unlike those of 120 kV, which {_KEV[0]:g} to {_KEV[1]:g} keV are near"
    return None


def _shows_other_part(one: Candidate) -> bool:
    return is_elsewhere(one.description, text(one.first.file.header, "BodyPartExamined"))


def _share_heights(one: Candidate, other: Candidate) -> bool:
    """Whether two stacks lie at the same heights for more than half of the taller one."""
    if not (one.first.has_place and other.first.has_place):
        return False
    own, theirs = heights_mm(one.stack.planes), heights_mm(other.stack.planes)
    overlap = min(own.max(), theirs.max()) - max(own.min(), theirs.min())
    return bool(overlap > max(np.ptp(own), np.ptp(theirs)) / 2)


def _share_places(one: Candidate, other: Candidate) -> bool:
    """Whether slices of one stack lie at the places of more than half of the other's, the one of fewer slices."""
    few, many = sorted((heights_mm(one.stack.planes), heights_mm(other.stack.planes)), key=len)
    return bool((np.abs(few[:, None] - many).min(axis=1) <= SAME_PLACE_MM).mean() > 1 / 2)


def _find_other_energies(one: Candidate, others: Sequence[Candidate]) -> list[Candidate]:
    """Find the stacks of the same heights and contrast whose images are of another energy, maps too."""
    alike = [
        other for other in others
        if other is not one and (other.fault is None or other.energy.is_computed)
        and bool(other.contrast) == bool(one.contrast) and _share_heights(one, other)
    ]  # fmt: skip
    kinds = {(other.energy.level, other.energy.is_computed) for other in (one, *alike)}
    return [other for other in alike if other.energy != one.energy] if len(kinds) > 1 else []


def _rate_energy(one: Candidate, others: Sequence[Candidate]) -> tuple[float, str]:
    """Rate the energy of a stack's images, lower is better, with the clause that says what is wrong with it."""
    energy, level = one.energy, one.energy.level
    if energy.kind == "monoenergetic":
        return 2 + abs((level or 0) - _WANTED_KEV) / 100, f"{energy.words}, computed from a dual-energy scan"
    tubes = [other for other in _find_other_energies(one, others) if other.energy.kind != "monoenergetic"]
    tubes = [other for other in tubes if not other.energy.map]
    if energy.kind == "mixed" or not tubes or level is None:
        return 0, ""
    return 1 + abs(level - _WANTED_KV) / 1000, f"{energy.words}, one of several energies at the same places"


def _find_start(one: Candidate) -> tuple[float, tuple[str, ...]]:
    """Find what puts passes of one series in the order of time: acquisition number, then times."""
    number, *times = one.first.moments
    return float(number) if number.isdecimal() else 0.0, tuple(times)


def _rank(one: Candidate, tallest_mm: float, others: Sequence[Candidate]) -> list[tuple[Any, str]]:
    """Rank a stack by these criteria in this order, lower is better, each with the clause that says what is wrong."""
    height_mm = one.stack.height_mm
    whole = height_mm >= min(WHOLE_HEAD_MM, _NEARLY_WHOLE * tallest_mm)
    off_mm = round(2 * abs(one.thickness_mm - WANTED_MM)) / 2  # to half a millimetre
    original = "ORIGINAL" in one.first.image_type
    images = len(one.stack.planes)
    turned = _find_turned(one.first)
    return [
        (bool(turned), turned),
        (_shows_other_part(one), "of another part of the body, by its description"),
        (bool(one.kernel), one.kernel),
        (bool(one.contrast), f"with contrast ({one.contrast})"),
        (one.may_be_enhanced, "with a word of contrast in its description, in what sense is not known"),
        (one.view_mm[0] < _HEAD_VIEW_MM[0], f"a field of view of {one.view_mm[0]:.0f} mm, less than a head takes"),
        (not whole, f"covers {height_mm:.0f} mm of {tallest_mm:.0f} mm"),
        _rate_energy(one, others),
        (off_mm, f"slices of {one.thickness_mm:g} mm, further from {WANTED_MM:g} mm"),
        (one.view_mm[1] > _HEAD_VIEW_MM[1], f"a field of view of {one.view_mm[1]:.0f} mm, more than a head takes"),
        (bool(_list_other_kernels(one, others)), "of a series that holds slices of another kernel too"),
        (not original, "derived rather than original"),
        (-images, f"fewer images ({images})"),
        (one.number if one.number is not None else 1e9, "equal to the one chosen, with a later number"),
        (_find_start(one), "a later pass over the head"),
        (0, "equal to the one chosen"),
    ]


def _say_what_is_worse(one: Candidate, best: Candidate, ranks: dict[int, list[tuple[Any, str]]]) -> str:
    pairs = zip(ranks[id(one)], ranks[id(best)], strict=True)
    return next((clause for (mine, clause), (theirs, _) in pairs if mine > theirs), "equal to the one chosen")


def _describe(one: Candidate) -> str:
    kernel = one.first.kernel
    sharpness = one.kernel or (f"soft kernel ({kernel})" if kernel else "kernel not stated")
    contrast = f"with contrast ({one.contrast})" if one.contrast else "no contrast named"
    count = len(one.stack.planes)
    counted = "1 image" if count == 1 else f"{count} images"
    return (
        f"{_find_turned(one.first) or 'axial'}, {counted} of {one.thickness_mm:g} mm "
        f"over {one.stack.height_mm:.0f} mm, {sharpness}, {contrast}"
    )


def _make_choice(one: Candidate, chosen: bool, reason: str) -> SeriesChoice:
    part = f" (part {one.stack.part} of {one.stack.parts})" if one.stack.parts > 1 else ""
    return SeriesChoice(one.number, one.description, len(one.files), chosen, reason + part)


def _format_title(one: Candidate) -> str:
    part = f", part {one.stack.part}" if one.stack.parts > 1 else ""
    return f"series {one.number} '{one.description}'{part}, {len(one.files)} file{'s' if len(one.files) > 1 else ''}"


def _refuse_turned_part(best: Candidate, fit: Sequence[Candidate]) -> None:
    """Refuse to read half a head, where the other half of the series is turned against it.

    Raises:
        InputError: another part of the chosen series differs by its angle alone, and is more than a stray image or two.
    """
    for one in _list_parts(best, fit):
        turned_deg = best.stack.turned_against(one.stack)
        if turned_deg is not None:
            raise InputError(
                str(best.first.file.place.path),
                found=f"series {best.number} holds {len(best.stack.planes)} slices and {len(one.stack.planes)} "
                f"that are turned by {turned_deg:.1f}° against them",
                needed="parallel slices, within 1°",
                remedy="export the two parts as two series",
            )


def _list_parts(best: Candidate, others: Sequence[Candidate]) -> list[Candidate]:
    """List the other parts of the same series that can be read and are more than a stray image or two."""
    stray = max(2, len(best.stack.planes) // 5)
    of_series = [
        one for one in others if one is not best and one.fault is None and one.stack.series & best.stack.series
    ]
    return [one for one in of_series if len(one.stack.planes) > stray]


def _list_other_kernels(best: Candidate, others: Sequence[Candidate]) -> list[Candidate]:
    """List the parts of the same series, at the same places, of another kernel."""
    parts = (one for one in _list_parts(best, others) if one.first.kernel != best.first.kernel)
    return [one for one in parts if _share_places(one, best)]


def _refuse_other_kernel(best: Candidate, fit: Sequence[Candidate]) -> None:
    """Refuse to take one of two reconstructions under one UID unasked: which one a reader means is not sure.

    Raises:
        InputError: a series that holds slices of two kernels at the same places.
    """
    others = _list_other_kernels(best, fit)
    if others:
        kernels = [(len(one.stack.planes), one.first.kernel or "not stated") for one in (best, *others)]
        of = ", ".join(f"{count} of kernel {kernel}" for count, kernel in kernels)
        raise InputError(
            str(best.first.file.place.path),
            found=f"series {best.number} holds slices of several kernels (0018,1210) at the same places: {of}",
            needed="one reconstruction in a series",
            remedy=f"give --series {best.number} to read the {kernels[0][0]} of kernel {kernels[0][1]}, or export each "
            "kernel as a series of its own",
        )


def _describe_energies(best: Candidate, others: Sequence[Candidate]) -> list[str]:
    """Say which energy was read, where there are several or it is a computed one."""
    found = _find_other_energies(best, others)
    if not found and not best.energy.is_computed:
        return []
    listed = "; ".join(f"series {one.number} '{one.description}' ({one.energy.words})" for one in found)
    also = f" At the same places lie also: {listed}." if found else ""
    return [
        f"Of several X-ray energies, series {best.number} '{best.description}' ({best.energy.words}) was read.{also}"
    ]


def _write_notes(best: Candidate, others: Sequence[Candidate], found: DicomFound) -> list[str]:
    notes = []
    if best.stack.joined_over:
        notes.append(
            f"{len(best.stack.planes)} images were read as one scan, as their places continue each other, though they "
            f"differ in {best.stack.joined_over}."
        )
    parts = [one for one in others if one.stack.series & best.stack.series]
    if parts:
        left = sum(len(one.stack.planes) for one in parts)
        notes.append(
            f"Series {best.number} holds {left + len(best.stack.planes)} images of {len(parts) + 1} kinds "
            f"({_list_differences(best, parts)}); the {len(best.stack.planes)} that belong together were read."
        )
    if best.kernel:
        notes.append(f"No better series was found than one with a {best.kernel}.")
    if best.contrast:
        notes.append(f"No better series was found than one with contrast ({best.contrast}).")
    if found.unreadable:
        count, reason = len(found.unreadable), found.unreadable[0].reason
        notes.append(f"{count} file{'s' if count > 1 else ''} could not be read ({reason}); slices may be missing.")
    if found.zips:
        notes.append(f"{found.zips} {'zips inside were' if found.zips > 1 else 'zip inside was'} not opened.")
    return notes


def _list_differences(best: Candidate, parts: Sequence[Candidate]) -> str:
    counts = Counter[str]()
    for one in parts:
        counts[best.stack.describe_difference(one.stack)] += len(one.stack.planes)
    listed = "; ".join(f"{count} with {difference}" for difference, count in counts.most_common(3))
    return listed + ("; …" if len(counts) > 3 else "")


def _find_unread(best: Candidate, others: Sequence[Candidate], found: DicomFound, broken: Sequence[Broken]) -> str:
    """What seems to belong to the chosen series and is not read: files beside it, slices without or at other places."""
    planes, series, clauses = best.stack.planes, best.stack.series, []
    folders = {Path(file.place.name).parent for file in best.files}
    beside = [
        (one.name, one.reason)
        for one in found.unreadable
        if Path(one.name).parent in folders or one.reason.startswith(CLOSED_FOLDER)  # it may hold the rest
    ]
    beside += [(file.place.name, error.found) for file, error in broken if file.series in series]
    if beside:
        names = ", ".join(f"{Path(name).name}: {reason}" for name, reason in beside[:3])
        more = f", and {len(beside) - 3} more" if len(beside) > 3 else ""
        clauses.append(f"{_count(len(beside), 'file')} beside the series could not be read ({names}{more})")
    at = np.array([plane.position_mm @ planes[0].normal for plane in planes]) if planes[0].has_place else None
    for one in others:
        if not one.stack.series & series or _find_other_kind(one.stack):
            continue
        if one.error is not None:
            clauses.append(f"{_count(len(one.stack.planes), 'slice')} of the series cannot be placed ({one.fault})")
        elif at is not None:
            own = np.array([plane.position_mm @ planes[0].normal for plane in one.stack.planes])
            apart_mm = np.abs(own[:, None] - at).min(axis=1)
            if added := int((apart_mm > max(1.0, best.thickness_mm / 2)).sum()):
                difference = best.stack.describe_difference(one.stack)
                clauses.append(f"{_count(added, 'slice')} of the series at other places differ ({difference})")
    if clause := _find_missing_parts(best):
        clauses.append(clause)
    of_series = sum(len(one.stack.planes) for one in (best, *others) if one.stack.series & series)
    for keyword, tag in (("ImagesInAcquisition", "0020,1002"), ("NumberOfSeriesRelatedInstances", "0020,1209")):
        stated = {integer(file.header, keyword) for file in best.files}
        expected = next(iter(stated)) if len(stated) == 1 else None
        if expected is not None and best.first.frame is None and expected > of_series and not clauses:
            clauses.append(f"the files state {_count(expected, 'image')} ({tag}), {of_series} are here")
    return "; ".join(clauses)


def _find_missing_parts(one: Candidate) -> str:
    """Find how many parts of a concatenation of multi-frame images are not there: PS3.3 C.7.6.16.2.2.4."""
    headers = [file.header for file in one.files]
    parts = {integer(header, "InConcatenationNumber") for header in headers} - {None}
    total = max(integer(header, keyword) or 0 for header in headers for keyword in _PARTS)
    found = f"the files state {total} parts of a concatenation (0020,9163), {len(parts)} are read"
    return found if len(parts) < total else ""


def _find_continuation(best: Candidate, fit: Sequence[Candidate]) -> str:
    """Find a series that goes on where the chosen one, which is no whole head, ends, and could not be joined to it."""
    if best.stack.height_mm >= WHOLE_HEAD_MM or not best.first.has_place:
        return ""
    normal = best.first.normal
    at = np.array([plane.position_mm for plane in best.stack.planes]) @ normal
    for one in fit:
        own = np.array([plane.position_mm for plane in one.stack.planes]) @ normal
        gap_mm = max(own.min() - at.max(), at.min() - own.max())  # below 0: they overlap
        beyond_mm = max(own.max() - at.max(), at.min() - own.min())
        goes_on = beyond_mm > best.thickness_mm and gap_mm <= max(2 * best.thickness_mm, 10.0)
        alike = bool(one.kernel) == bool(best.kernel) and one.contrast == best.contrast
        if goes_on and alike and not _shows_other_part(one) and len(own) > _FEW:
            difference = best.stack.describe_difference(one.stack)
            return f"{_count(len(own), 'slice')} of series {one.number} go on where it ends, and differ ({difference})"
    return ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
