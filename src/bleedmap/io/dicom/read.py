"""Read a CT series from DICOM: `scan` finds what is there, `read_series` chooses a series and reads it in HU."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydicom import Dataset

from bleedmap.arrays import FloatArray, ignore
from bleedmap.errors import BleedmapError, DamagedFileError, InputError
from bleedmap.geometry import PlaneTurn
from bleedmap.io.dicom.acquisition import read_acquisition
from bleedmap.io.dicom.choose import choose_series
from bleedmap.io.dicom.decode import FrameDecoder
from bleedmap.io.dicom.files import DicomFile, DicomFound, Read, open_source, read_whole, scan
from bleedmap.io.dicom.grid import build_stored_grid, describe_geometry, order_planes
from bleedmap.io.dicom.header import settle, text, texts
from bleedmap.io.dicom.pixels import AIR_HU, HuPlane, convert_planes_to_hu
from bleedmap.io.dicom.planes import UNSPECIFIED, Plane, describe_readings
from bleedmap.io.dicom.series import DicomSeries, find_why_unreferable, was_compressed_with_loss
from bleedmap.volume import Volume

__all__ = ["DicomFound", "read_series", "scan"]

LEFT_OUT = "DICOM results (segmentation, report, pictures) are left out"  # begins the note that says why
_MOST_DAMAGED = 10  # slices that are left out; a decoder may take seconds over each
MOST_VOLUME_BYTES = 1_200_000_000  # in float32: 1,144 slices of 512 × 512


def read_series(
    found: DicomFound, *, study: str | None = None, series: int | None = None, advance: Callable[[int], None] = ignore
) -> DicomSeries:
    """Choose the series worth reading, and read it.

    Pixels compressed as JPEG, JPEG-LS or JPEG 2000 are decoded in a child process that ends with this call. A few
    slices whose pixels are damaged are left out, and told as not read.

    Args:
        study: Study Instance UID, where there are several with CT images.
        series: series number, in place of the one that would be chosen.
        advance: called with the number of slices read since the last call.

    Raises:
        InputError: nothing fits, or what was chosen cannot be read or placed exactly; with figures.
    """
    with open_source(found.path) as read, FrameDecoder() as decoder:
        chosen = choose_series(found, study=study, series=series)
        _check_patient(found, chosen.planes)
        places = order_planes(chosen.planes)
        _check_size(found, places)
        planes, doubled = _leave_out_doubles(places, read, decoder)
        grid = build_stored_grid(planes)
        turn = PlaneTurn.find(grid)
        hu, pixel_note, damaged = _read_hu(planes, turn, read, decoder, advance)
        unread = _describe_damaged(damaged)
        if damaged:
            kept = [index for index, plane in enumerate(planes) if plane not in damaged]
            planes, hu = tuple(planes[index] for index in kept), hu[kept]
            grid = build_stored_grid(planes)
        first = planes[0]
        notes = [
            *chosen.notes,
            *_describe_patients(found, planes),
            *doubled,
            *(f"{one}; the rest was read." for one in unread),
        ]
        notes += describe_geometry(grid, planes)
        notes += [
            *_describe_loss(planes),
            *describe_readings(planes),
            *_describe_rescales(planes),
            *_describe_units(planes),
        ]
        notes += pixel_note
        files = tuple(dict.fromkeys(plane.file for plane in planes))
        for file in files:
            settle(file.header)
        unreferable = find_why_unreferable([file.header for file in files])
        if unreferable:
            notes.append(
                f"{LEFT_OUT}, as they could not refer to the images: {unreferable}. "
                "The NIfTI files, tables and the report are whole."
            )
        try:
            volume = Volume(hu, turn.turn_grid(grid, first.rows, first.columns))
        except BleedmapError as error:
            raise InputError(found.path, found=error.found, needed=error.needed, remedy=error.remedy) from error
        return DicomSeries(
            volume=volume,
            turn=turn,
            headers=tuple(plane.file.header for plane in planes),
            frames=None if first.frame is None else tuple(plane.frame or 0 for plane in planes),
            acquisition=replace(
                read_acquisition(planes),
                unread="; ".join(filter(None, (chosen.unread, *unread))),
                thickness_mm=chosen.thickness_mm,
            ),
            notes=tuple(notes),
            choice=chosen.choice,
            unreferable=unreferable,
        )


def _describe_rescales(planes: Sequence[Plane]) -> list[str]:
    """Note slices of another rescale: scanners rescale a series alike, so these may be damaged and their HU wrong."""
    counts = Counter(plane.rescale for plane in planes)
    (usual, most), *others = counts.most_common()
    if usual is None:
        return []
    apart = [  # by more than the digits that they are written with
        one
        for one, _ in others
        if one is None or abs(one.slope - usual.slope) * 4096 + abs(one.intercept - usual.intercept) > 0.1
    ]
    if not apart:
        return []
    other = apart[0]
    was = "none" if other is None else f"slope {other.slope:g}, intercept {other.intercept:g}"
    return [
        f"The rescale to HU differs from slice to slice: slope {usual.slope:g}, intercept {usual.intercept:g} on "
        f"{most} of {len(planes)}, elsewhere {was}; each slice was rescaled by its own, look at them."
    ]


def _describe_loss(planes: Sequence[Plane]) -> list[str]:
    """Note slices whose pixels were compressed with loss, and by how much where the files say it."""
    lossy = [plane.file.header for plane in planes if was_compressed_with_loss(plane.file.header)]
    if not lossy:
        return []
    ratios = [
        float(one) for one in texts(lossy[0], "LossyImageCompressionRatio")[-1:] if one.replace(".", "").isdigit()
    ]
    return [
        f"{len(lossy)} of {len(planes)} slices were compressed with loss (Lossy Image Compression (0028,2110))"
        f"{''.join(f', to 1/{one:.0f}' for one in ratios)}: their HU are not quite those of the scan."
    ]


def _describe_units(planes: Sequence[Plane]) -> list[str]:
    """Note slices whose files leave open in what unit their values are."""
    unstated = sum(plane.rescale is not None and plane.rescale.unit == UNSPECIFIED for plane in planes)
    if not unstated:
        return []
    return [
        f"The unit of the values is left open in {unstated} of {len(planes)} slices (Rescale Type (0028,1054) "
        f"'{UNSPECIFIED}', as ITK writes it); they were taken for HU, which the input checks look at."
    ]


def _check_patient(found: DicomFound, planes: Sequence[Plane]) -> None:
    """Refuse to read images of two patients as one head, without naming them."""
    people = Counter(text(plane.file.header, "PatientID") for plane in planes)
    if len(people) > 1:
        without = people.pop(None, 0)
        several = f"{len(people)} patient ID{'s' if len(people) > 1 else ''}"
        raise InputError(
            found.path,
            found=f"the chosen series holds images of {several}{f' and {without} without one' if without else ''}",
            needed="one patient",
            remedy="export the study again, or put the patients' files into folders of their own",
        )


def _describe_patients(found: DicomFound, planes: Sequence[Plane]) -> list[str]:
    """Note other patient IDs in the study, other names and dates of birth in what was read, without telling them."""
    own = text(planes[0].file.header, "PatientID")
    others = {text(one.header, "PatientID") for one in found.files if one.study == planes[0].file.study} - {own, None}
    notes = []
    if others and own is not None:
        notes.append(
            f"The study holds images of {len(others) + 1} patient IDs. Those of one were read; make sure that they are "
            "of the patient you mean."
        )
    for what, read in (("names", _read_name), ("dates of birth", _read_birth)):
        if (count := len({read(plane.file.header) for plane in planes} - {""})) > 1:
            notes.append(
                f"The slices that were read state {count} patient {what} under one patient ID. Make sure that they are "
                "of one patient; results state what the first slice does."
            )
    return notes


def _read_name(header: Dataset) -> str:
    """Read the patient's name without what differs between two ways to write it: case, blanks, empty parts."""
    return "".join(one for one in (text(header, "PatientName") or "").casefold() if one.isalnum())


def _read_birth(header: Dataset) -> str:
    return text(header, "PatientBirthDate") or ""


def _check_size(found: DicomFound, places: Sequence[Sequence[Plane]]) -> None:
    first = places[0][0]
    size = 4 * len(places) * first.rows * first.columns
    if size > MOST_VOLUME_BYTES:
        raise InputError(
            found.path,
            found=f"{len(places):,} slices of {first.rows} × {first.columns} pixels, {size / 1e9:.2f} GB in memory",
            needed=f"at most {MOST_VOLUME_BYTES / 1e9:.1f} GB",
            remedy="give a series of thicker slices",
        )


def _read_planes_in_hu(
    planes: Sequence[Plane], read: Read, decoder: FrameDecoder
) -> Iterator[tuple[Plane, HuPlane | DamagedFileError]]:
    """Read each plane in HU, or say why its file is damaged; every file is read once."""
    by_file: dict[DicomFile, list[Plane]] = {}
    for plane in planes:
        by_file.setdefault(plane.file, []).append(plane)
    for file, wanted in by_file.items():
        left = dict.fromkeys(wanted)
        try:
            for plane, hu in convert_planes_to_hu(read_whole(file.place, read, file.parsed), wanted, decoder):
                del left[plane]
                yield plane, hu
        except DamagedFileError as error:
            yield from ((plane, error) for plane in left)


def _read_whole_planes(planes: Sequence[Plane], read: Read, decoder: FrameDecoder) -> list[tuple[Plane, FloatArray]]:
    return [(plane, one.hu) for plane, one in _read_planes_in_hu(planes, read, decoder) if isinstance(one, HuPlane)]


def _leave_out_doubles(
    places: Sequence[Sequence[Plane]], read: Read, decoder: FrameDecoder
) -> tuple[tuple[Plane, ...], list[str]]:
    """Keep one plane for each place, a whole one where there is one; return them and notes on those left out.

    Raises:
        InputError: planes at one place that differ in their pixels, or planes at two places with one UID.
    """
    left_out, damaged, chosen = 0, 0, []
    for place in places:
        if len(place) == 1 or not (whole := _read_whole_planes(place, read, decoder)):
            chosen.append(place[0])
            continue
        (first, kept), *others = whole
        for other, hu in others:
            if not np.array_equal(kept, hu):
                raise _doubles_differ(first, other, np.abs(kept - hu))
        left_out += len(others)
        damaged += len(place) - len(whole)
        chosen.append(first)
    planes = tuple(chosen)
    if planes[0].frame is None:
        uids = [text(plane.file.header, "SOPInstanceUID") for plane in planes]
        uids = [one for one in uids if one is not None]
        if len(set(uids)) < len(uids):
            raise InputError(
                planes[0].file.place.path,
                found=f"{len(uids) - len(set(uids)) + 1} different slices with one SOP Instance UID",
                needed="a UID for each, which results refer to",
                remedy="export or anonymise the study again",
            )
    notes = []
    for count, kind, why in (
        (left_out, "doubled", "same place, same pixels"), (damaged, "damaged", "a whole one lies at the same place"),
    ):  # fmt: skip
        if count:
            notes.append(f"{count} {kind} {'slices were' if count > 1 else 'slice was'} left out: {why}.")
    return planes, notes


def _doubles_differ(one: Plane, other: Plane, apart_hu: FloatArray) -> InputError:
    return InputError(
        other.name,
        found=f"a slice at the place of another ({one.file.place.path.name}, {one.position_mm[2]:.2f} mm): "
        f"{int((apart_hu > 0).sum()):,} of {apart_hu.size:,} pixels differ, by up to {apart_hu.max():,.0f} HU",
        needed="one slice at each place",
        remedy="export the passes over the head as series of their own",
    )


def _describe_damaged(damaged: dict[Plane, DamagedFileError]) -> list[str]:
    """Say in a clause which slices could not be read; nothing for none."""
    if not damaged:
        return []
    names = ", ".join(f"{Path(plane.name).name}: {error.found}" for plane, error in list(damaged.items())[:3])
    more = f", and {len(damaged) - 3} more" if len(damaged) > 3 else ""
    slices = f"{len(damaged)} slice{'s' if len(damaged) > 1 else ''}"
    return [f"{slices} of the series could not be read ({names}{more})"]


def _read_hu(
    planes: Sequence[Plane], turn: PlaneTurn, read: Read, decoder: FrameDecoder, advance: Callable[[int], None]
) -> tuple[FloatArray, list[str], dict[Plane, DamagedFileError]]:
    """Read (slice, row, column) HU in the standard view.

    Returns:
        the HU, those of damaged slices not set; a note on what was outside the field of view; damaged slices, and why.

    Raises:
        DamagedFileError: no slice is whole, or too many are damaged.
    """
    rows, columns = planes[0].rows, planes[0].columns
    hu = np.empty((len(planes), *((columns, rows) if turn.transpose else (rows, columns))), np.float32)
    at = {plane: index for index, plane in enumerate(planes)}
    outside, lowest_hu = 0, AIR_HU
    damaged: dict[Plane, DamagedFileError] = {}
    for plane, one in _read_planes_in_hu(planes, read, decoder):
        if isinstance(one, DamagedFileError):
            damaged[plane] = one
            if len(damaged) > min(_MOST_DAMAGED, len(planes) - 1):
                raise next(iter(damaged.values()))
            continue
        hu[at[plane]] = turn.apply(one.hu)
        outside, lowest_hu = outside + one.outside, min(lowest_hu, one.lowest_hu)
        advance(1)
    if not outside:
        return hu, [], damaged
    share = 100 * outside / hu.size
    was = f"padding, or as low as {lowest_hu:,.0f} HU" if lowest_hu < AIR_HU else "padding"
    note = f"{outside:,} pixels ({share:.1f} %) outside the field of view ({was}) were set to {AIR_HU:,.0f} HU."
    return hu, [note], damaged
