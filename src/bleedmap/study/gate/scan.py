"""Checks of how a scan was made and where its slices lie, from what the files say; pixels are not looked at."""

import numpy as np
from scipy import ndimage

from bleedmap.geometry import SliceGrid
from bleedmap.inference.slabs import Slabs
from bleedmap.io.dicom.acquisition import Acquisition, find_contrast_agent, is_sharp_kernel, names_head
from bleedmap.study.gate.check import Check, Limits, Verdict, graver, judge
from bleedmap.study.words import counted, spans

NOT_STATED = "not stated"

# DICOM PS3.3 C.8.2.1.1.1, value 3, and what makers put beside it.
SCOUTS = ("LOCALIZER", "SCOUT", "TOPOGRAM")
DERIVED = ("MIP", "MINIP", "MAXIP", "VRT", "SSD", "PERFUSION", "IODINE", "SCREEN SAVE", "SCREENSHOT")
# DICOM PS3.16 annex L: HEAD, BRAIN, SKULL, HEADNECK; the others are seen in the field.
# CT-ICH, which the installed weights learnt from: 23 of 82 patients are below 16 years, 4 below 2, the oldest is 72.
AGE_YEARS = Limits(16, 120)
KVP = Limits(70, 150)  # what diagnostic scanners offer; HU of blood and bone shift with it, brain's hardly
# A head takes 13 slices of 10 mm and 300 of 0.5 mm; below 5 nothing can be said of a whole head.
SLICES = Limits(10, 1000, refused_below=5)
SPACING_MM = Limits(0.5, 10, refused_above=20)  # the program is tested from 0.5 to 10 mm; training slices are 5 mm
LEAST_COVERED = 0.75  # of the way between slices that the stated thickness fills; less leaves tissue unseen
WIDEST_GAP_MM = 20.0  # a bleed of 4 mL is 20 mm across (a sphere) and may hide in such a gap whole
GAP_OVER_NEIGHBOURS = 1.5  # a missing slice doubles the distance; rounding and table sag stay far below
_NEIGHBOURS = 7  # distances whose median is 'the usual one here': a change of spacing half way is none
OFF_AXIAL_DEG = Limits(0, 30, refused_above=45)  # beyond 45° the plane is nearer to coronal or sagittal
GANTRY_TILT_DEG = Limits(0, 30)  # gantries tilt by up to 30°
VIEW_MM = Limits(150, 350)  # head scans take 200 to 300 mm; a newborn's less
MATRIX = Limits(128, 4096, refused_below=64)  # 64 pixels over a head are 3.5 mm each


def scan_checks(
    grid: SliceGrid, shape: tuple[int, ...], scan: Acquisition, slabs: Slabs | None = None
) -> tuple[Check, ...]:
    """Modality, image type, body part, age, contrast, kvp, kernel, completeness, slice count, slice spacing, gaps,
    orientation, field of view.

    Args:
        grid: in the standard view.
        shape: (slices, rows, columns).
        scan: how it was made, as far as known.
        slabs: what the network is shown of thin slices.
    """
    return (
        _modality(scan), _image_type(scan), _body_part(scan), _age(scan), _contrast(scan), _kvp(scan), _kernel(scan),
        _completeness(scan), _slice_count(grid, slabs), _slice_spacing(grid, scan, slabs), _gaps(grid),
        _orientation(grid), _view(grid, shape),
    )  # fmt: skip


def _modality(scan: Acquisition) -> Check:
    if scan.modality is None:
        meaning = "the input does not say that it is CT; its HU are checked below"
        return Check("modality", "not known", NOT_STATED, "CT", meaning)
    verdict: Verdict = "pass" if scan.modality == "CT" else "refusal"
    meaning = "the network knows CT alone; other pictures have no HU"
    return judge("modality", verdict, scan.modality or NOT_STATED, "CT", meaning)


def _image_type(scan: Acquisition) -> Check:
    limit = "no scout, projection or map"
    if not scan.image_type:
        return Check("image type", "not known", NOT_STATED, limit)
    words = {word.upper() for part in scan.image_type for word in (part, *part.replace(" ", "_").split("_"))}
    found = "\\".join(scan.image_type)
    if words & set(SCOUTS):
        return Check("image type", "refusal", found, limit, "a scout is no cross-section")
    if words & set(DERIVED):
        return Check("image type", "warning", found, limit, "computed from other images: its values may not be HU")
    return Check("image type", "pass", found, limit)


def _body_part(scan: Acquisition) -> Check:
    limit = "head, brain or skull"
    if not scan.body_part:
        return Check("body part", "not known", NOT_STATED, limit, "the anatomy is measured below")
    meaning = "this entry is often wrong; what counts is the anatomy measured below"
    return judge("body part", "pass" if names_head(scan.body_part) else "warning", scan.body_part, limit, meaning)


def _age(scan: Acquisition) -> Check:
    limit = f"{AGE_YEARS.lowest:.0f} to {AGE_YEARS.highest:.0f} years"
    if scan.age_years is None:
        return Check("age", "not known", NOT_STATED, limit, "the network was not measured on children apart")
    verdict, years = AGE_YEARS.verdict(scan.age_years), scan.age_years
    found = f"{years:.0f} years" if years >= 2 else f"{12 * years:.0f} months"
    meaning = "no age of a person"
    if years < AGE_YEARS.lowest:
        meaning = "of CT-ICH's 82 patients, the training data, 23 are below 16 years and 4 below 2: not measured apart"
    return judge("age", verdict, found, limit, meaning)


def _contrast(scan: Acquisition) -> Check:
    limit = "no contrast agent"
    if scan.contrast is None:
        return Check("contrast", "not known", NOT_STATED, limit, "enhanced vessels look like blood to the network")
    if not scan.contrast:
        return Check("contrast", "pass", "none given", limit)
    if find_contrast_agent(None, scan.description or "") == "":
        meaning = "the description says that none was given; if one was, enhanced vessels look like blood"
        return Check("contrast", "warning", scan.contrast, limit, meaning)
    meaning = "enhanced vessels, dura and tumours have the HU of blood and would be outlined as such"
    return Check("contrast", "refusal", scan.contrast, limit, meaning)


def _kvp(scan: Acquisition) -> Check:
    limit = f"{KVP.lowest:.0f} to {KVP.highest:.0f} kV"
    if scan.kvp is None:
        return Check("kvp", "not known", NOT_STATED, limit)
    meaning = "HU depend on the voltage; none like this was trained on"
    return judge("kvp", KVP.verdict(scan.kvp), f"{scan.kvp:g} kV", limit, meaning)


def _kernel(scan: Acquisition) -> Check:
    limit = "a soft-tissue kernel"
    sharp = is_sharp_kernel(scan.kernel)
    if sharp is None:
        return Check("kernel", "not known", NOT_STATED, limit, "the noise is measured below")
    meaning = "a sharp kernel's noise hides blood and looks like it; take the soft-tissue series"
    return judge("kernel", "warning" if sharp else "pass", scan.kernel or "", limit, meaning)


def _completeness(scan: Acquisition) -> Check:
    limit = "every slice of the series"
    if scan.unread is None:
        return Check("completeness", "not known", NOT_STATED, limit)
    if not scan.unread:
        return Check("completeness", "pass", "all that belongs to the series was read", limit)
    return Check("completeness", "warning", scan.unread, limit, "a bleed on a slice that was not read is not found")


def _slice_count(grid: SliceGrid, slabs: Slabs | None) -> Check:
    """Thin slices are as many as their slabs, where they may be too few."""
    shown, found = len(grid), counted(len(grid), "slice")
    if slabs is not None:
        shown, found = len(slabs.volume.hu), f"{found}, {counted(len(slabs.volume.hu), 'slab')}"
    verdict = graver(SLICES.verdict(shown), SLICES.verdict(max(len(grid), SLICES.lowest)))
    meaning = "few for a head" if shown < SLICES.lowest else "more than a head takes"
    if verdict == "refusal":
        meaning = "too few to say anything of a head"
    limit = f"{SLICES.lowest:.0f} to {SLICES.highest:.0f} slices, refused below {SLICES.refused_below:.0f}"
    return judge("slice count", verdict, found, limit, meaning)


def _slice_spacing(grid: SliceGrid, scan: Acquisition, slabs: Slabs | None) -> Check:
    between_mm = grid.spacing_mm[0]
    shown_mm = between_mm if slabs is None else slabs.volume.grid.spacing_mm[0]
    limit = f"{SPACING_MM.lowest:g} to {SPACING_MM.highest:g} mm, refused above {SPACING_MM.refused_above:g} mm"
    found, verdict = f"{between_mm:.2f} mm", SPACING_MM.verdict(shown_mm)
    if slabs is not None:
        found += f", averaged to slabs of {slabs.apart_mm:.1f} mm"
    meaning = "the network was trained on slices of 5 mm"
    if scan.thickness_mm is not None:
        found += f", slices {scan.thickness_mm:g} mm thick"
        if len(grid) > 1 and scan.thickness_mm < LEAST_COVERED * between_mm:
            verdict = graver(verdict, "warning")
            meaning = f"{1 - scan.thickness_mm / between_mm:.0%} of the head lies between the slices, unseen"
        elif len(grid) > 1 and scan.thickness_mm > between_mm / LEAST_COVERED:
            found += ", overlapping"
    return judge("slice spacing", verdict, found, limit, meaning)


def _gaps(grid: SliceGrid) -> Check:
    limit = f"no gap above {GAP_OVER_NEIGHBOURS:g} times its neighbours, refused above {WIDEST_GAP_MM:g} mm"
    distances = np.diff(grid.heights_mm)
    if not distances.size:
        return Check("gaps", "pass", "a lone slice", limit)
    found = f"{distances.min():.2f} to {distances.max():.2f} mm apart"
    usual = ndimage.median_filter(distances, _NEIGHBOURS, mode="reflect")
    wide = np.flatnonzero(distances > GAP_OVER_NEIGHBOURS * usual)
    too_wide = np.flatnonzero(distances > WIDEST_GAP_MM)
    if not (wide.size or too_wide.size):
        return Check("gaps", "pass", f"even, {found}" if grid.is_even else f"uneven, {found}", limit)
    after = spans(int(index) + 1 for index in np.union1d(wide, too_wide)[:20])
    found = f"{found}; wide after slice {after}"
    meaning = "slices are missing there: a bleed between them is not seen, and volumes count the neighbours' instead"
    return Check("gaps", "refusal" if too_wide.size else "warning", found, limit, meaning)


def _orientation(grid: SliceGrid) -> Check:
    row, column = (step / np.linalg.norm(step) for step in (grid.row_step_mm, grid.column_step_mm))
    cosines = (grid.normal[2], row[1], column[0])  # to the head, to the back, to the patient's left
    off, rows, columns = (float(np.degrees(np.arccos(np.clip(one, -1, 1)))) for one in cosines)
    worst, shear = max(off, rows, columns), grid.shear_deg
    found = f"{off:.0f}° off axial, pictures turned by up to {max(rows, columns):.0f}°, gantry tilt {shear:.0f}°"
    limit = f"{OFF_AXIAL_DEG.highest:g}°, refused above {OFF_AXIAL_DEG.refused_above:g}°"
    verdict = graver(OFF_AXIAL_DEG.verdict(worst), GANTRY_TILT_DEG.verdict(shear))
    meaning = "the network was trained on planes near axial"
    if verdict == "refusal":
        meaning = "not axial slices from feet to head with the face up; the network knows no other"
    return judge("orientation", verdict, found, limit, meaning)


def _view(grid: SliceGrid, shape: tuple[int, ...]) -> Check:
    _, row_mm, column_mm = grid.spacing_mm
    _, rows, columns = shape
    sides_mm = (rows * row_mm, columns * column_mm)
    verdict = graver(*map(VIEW_MM.verdict, sides_mm), MATRIX.verdict(min(rows, columns)))
    found = f"{sides_mm[0]:.0f} × {sides_mm[1]:.0f} mm, {rows} × {columns} pixels of {row_mm:.2f} × {column_mm:.2f} mm"
    limit = f"{VIEW_MM.lowest:g} to {VIEW_MM.highest:g} mm, {MATRIX.lowest:g} pixels, refused below 64"
    meaning = "heads are scanned at 200 to 300 mm, 512 pixels: the spacing may be wrong"
    return judge("field of view", verdict, found, limit, meaning)
