"""Read a CT series from DICOM: `scan` finds what is there, `read_series` chooses a series and reads it in HU."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from bleedmap.arrays import FloatArray, ignore
from bleedmap.errors import BleedmapError, InputError
from bleedmap.geometry import PlaneTurn
from bleedmap.io.dicom.acquisition import read_acquisition
from bleedmap.io.dicom.choose import choose_series
from bleedmap.io.dicom.decode import FrameDecoder
from bleedmap.io.dicom.files import DicomFile, DicomFound, Read, open_source, read_whole, scan
from bleedmap.io.dicom.grid import build_stored_grid, describe_geometry, order_planes
from bleedmap.io.dicom.header import settle, text
from bleedmap.io.dicom.pixels import AIR_HU, HuPlane, convert_planes_to_hu
from bleedmap.io.dicom.planes import UNSPECIFIED, Plane, describe_readings
from bleedmap.io.dicom.series import DicomSeries, find_why_unreferable
from bleedmap.volume import Volume

__all__ = ["DicomFound", "read_series", "scan"]

MOST_VOLUME_BYTES = 1_200_000_000  # in float32: 1,144 slices of 512 × 512


def read_series(
    found: DicomFound, *, study: str | None = None, series: int | None = None, advance: Callable[[int], None] = ignore
) -> DicomSeries:
    """Choose the series worth reading, and read it.

    Pixels compressed as JPEG, JPEG-LS or JPEG 2000 are decoded in a child process that ends with this call.

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
        hu, pixel_note = _read_hu(planes, turn, read, decoder, advance)
        first = planes[0]
        notes = [*chosen.notes, *doubled, *describe_geometry(grid, planes)]
        notes += [*describe_readings(planes), *_describe_rescales(planes), *_describe_units(planes)]
        notes += pixel_note
        files = tuple(dict.fromkeys(plane.file for plane in planes))
        for file in files:
            settle(file.header)
        unreferable = find_why_unreferable([file.header for file in files])
        if unreferable:
            notes.append(
                f"DICOM results (segmentation, report, pictures) are left out, as they could not refer to the images: "
                f"{unreferable}. The NIfTI files, tables and the report are whole."
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
            acquisition=replace(read_acquisition(planes), unread=chosen.unread, thickness_mm=chosen.thickness_mm),
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


def _read_planes_in_hu(planes: Sequence[Plane], read: Read, decoder: FrameDecoder) -> Iterator[tuple[Plane, HuPlane]]:
    """Read each plane in HU; every file is read once."""
    by_file: dict[DicomFile, list[Plane]] = {}
    for plane in planes:
        by_file.setdefault(plane.file, []).append(plane)
    for file, wanted in by_file.items():
        yield from convert_planes_to_hu(read_whole(file.place, read, file.parsed), wanted, decoder)


def _leave_out_doubles(
    places: Sequence[Sequence[Plane]], read: Read, decoder: FrameDecoder
) -> tuple[tuple[Plane, ...], list[str]]:
    """Keep one plane for each place; return them and a note on those left out.

    Raises:
        InputError: planes at one place that differ in their pixels, or planes at two places with one UID.
    """
    left_out = 0
    for place in places:
        if len(place) > 1:
            (first, kept), *others = _read_planes_in_hu(place, read, decoder)
            for other, hu in others:
                if not np.array_equal(kept.hu, hu.hu):
                    raise _doubles_differ(first, other, np.abs(kept.hu - hu.hu))
            left_out += len(others)
    planes = tuple(place[0] for place in places)
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
    if not left_out:
        return planes, []
    plural = "slices were" if left_out > 1 else "slice was"
    return planes, [f"{left_out} doubled {plural} left out: same place, same pixels."]


def _doubles_differ(one: Plane, other: Plane, apart_hu: FloatArray) -> InputError:
    return InputError(
        other.name,
        found=f"a slice at the place of another ({one.file.place.path.name}, {one.position_mm[2]:.2f} mm): "
        f"{int((apart_hu > 0).sum()):,} of {apart_hu.size:,} pixels differ, by up to {apart_hu.max():,.0f} HU",
        needed="one slice at each place",
        remedy="export the passes over the head as series of their own",
    )


def _read_hu(
    planes: Sequence[Plane], turn: PlaneTurn, read: Read, decoder: FrameDecoder, advance: Callable[[int], None]
) -> tuple[FloatArray, list[str]]:
    """Read (slice, row, column) HU in the standard view, and a note on what was outside the field of view."""
    rows, columns = planes[0].rows, planes[0].columns
    hu = np.empty((len(planes), *((columns, rows) if turn.transpose else (rows, columns))), np.float32)
    at = {plane: index for index, plane in enumerate(planes)}
    outside, lowest_hu = 0, AIR_HU
    for plane, one in _read_planes_in_hu(planes, read, decoder):
        hu[at[plane]] = turn.apply(one.hu)
        outside, lowest_hu = outside + one.outside, min(lowest_hu, one.lowest_hu)
        advance(1)
    if not outside:
        return hu, []
    share = 100 * outside / hu.size
    was = f"padding, or as low as {lowest_hu:,.0f} HU" if lowest_hu < AIR_HU else "padding"
    return hu, [f"{outside:,} pixels ({share:.1f} %) outside the field of view ({was}) were set to {AIR_HU:,.0f} HU."]
