"""Checks of pictures, which carry neither HU nor places: is this a single axial slice of a head, in the brain window?

The limits were set on CT-ICH's 2,501 pictures in the brain window, beside its bone window, its masks, and the same
pictures in inverse grey, turned, and as mosaics (`python tests/support/ct_ich_pictures.py FOLDER`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bleedmap.study.gate.check import Check, Limits, Verdict, graver, judge
from bleedmap.study.gate.picture_look import NEAR_BLACK, HeadLook, PictureLook
from bleedmap.study.gate.scan import MATRIX, SLICES
from bleedmap.study.gate.voxels import BRAIN_HU, BRAIN_LIMIT, CAVITY_CM2, CUT_MM
from bleedmap.study.words import counted
from bleedmap.window import Window

PICTURE_CHECKS = (
    "picture size", "blank slices", "grey scale", "single slice", "air", "window", "brain density", "orientation",
    "anatomy", "field of view", "border", "marks",
)  # fmt: skip
WANTED = "axial slices of a head CT, in the brain window (level 40, width 120)"
_LONGEST_SIDE = 1.5  # times the shorter one
_LEAST_LIT = 0.005  # of the pixels; measured 8 % and more
_LEAST_BETWEEN = 0.05  # of what is not black, neither black nor white; slices 13 % and more, masks up to 4 %
BORDER_BLACK = Limits(0.9, 1, refused_below=0.5)  # measured 1 in all
# White over what is not black. Measured: brain window 7 to 88 %, bone window up to 1.0 %.
BONE_SHARE = Limits(0.04, 0.95, refused_below=0.02)
WIDEST_HU = 400.0  # of a window: beyond, a grey level is 1.6 HU and blood stands out of brain by fewer than 20
_BLOOD_HU = (20.0, 80.0)  # what a window must show
_SPREAD_HU = Limits(3.5, 25)  # in the brain; measured 5 to 17
# Of one picture, and the mean of a patient's. Measured: -0.35 to 0.93, and -0.04 to 0.51.
_UPRIGHT, _ALL_UPRIGHT = -0.35, -0.05
# Of one picture, and the mean of a patient's. Measured: 0.46 to 0.64, and 0.495 to 0.542.
_CENTRE, _ALL_CENTRE = 0.455, 0.494
_STRAIGHT = 0.6  # of the head's width, at one of its ends; measured up to 0.48 in 999 of 1,000
_LEAST_HEAD = 0.25  # of the picture's side; measured 0.29 and more
_MOST_MARKS = 25  # small bright things outside the head; measured up to 22, pieces of headrests
_NAMED = 3  # pictures that a check names


def judge_picture(look: PictureLook) -> tuple[Check, ...]:
    """Make the checks of one picture; fewer than `PICTURE_CHECKS` where it shows too little for the others."""
    size = _picture_size(look)
    blank = _blank(look)
    if blank.verdict != "pass":
        return size, blank
    grey_scale, single = _grey_scale(look), _single_slice(look)
    first = (size, blank, grey_scale, single)
    if "refusal" in (grey_scale.verdict, single.verdict):
        return first
    return (
        *first, _air(look), _window(look), _judge_densities([look]), _judge_turn(look.head, _UPRIGHT, _CENTRE),
        _anatomy(look), _view(look), _border(look), _marks(look),
    )  # fmt: skip


def list_doubts(look: PictureLook) -> tuple[str, ...]:
    """List the names of the checks that one picture does not pass."""
    return tuple(one.name for one in judge_picture(look) if one.verdict in ("warning", "refusal"))


def judge_pictures(looks: Sequence[PictureLook], window: Window) -> tuple[Check, ...]:
    """Make the checks of all pictures of a run, in the order of `PICTURE_CHECKS`, each naming those that fail.

    Args:
        looks: one or more. From ten on they are taken for a head's slices, and what single slices leave open is
            judged by all.
        window: in which they were exported, as the user says.
    """
    of_name: dict[str, list[tuple[PictureLook, Check]]] = {name: [] for name in PICTURE_CHECKS}
    for look in looks:
        for one in judge_picture(look):
            of_name[one.name].append((look, one))
    checks = {name: _merge(of_one, len(looks)) for name, of_one in of_name.items() if of_one}
    checks["picture size"] = _same_size(checks["picture size"], looks)
    if all(one.verdict != "pass" for _, one in of_name["blank slices"]):
        checks["blank slices"] = replace(checks["blank slices"], verdict="refusal")
    mosaics = sum(one.verdict == "refusal" for _, one in of_name["single slice"])
    if 0 < 2 * mosaics < len(looks):  # a head between two hands is no mosaic
        checks["single slice"] = replace(checks["single slice"], verdict="warning")
    doubles = sum(one.verdict == "warning" for _, one in of_name["single slice"])
    if not mosaics and len(looks) >= SLICES.lowest and 2 * doubles < len(looks):  # the base of one head
        checks["single slice"] = replace(
            checks["single slice"], verdict="pass", found=f"{len(looks) - doubles} of {counted(len(looks), 'picture')}"
        )
    if "window" in checks:
        seen = [look for look, _ in of_name["window"]]
        checks["window"] = _stated_window(checks["window"], window)
        checks["anatomy"] = _all_anatomy(checks["anatomy"], seen)
        if len(seen) >= SLICES.lowest:
            checks["brain density"], checks["orientation"] = _judge_densities(seen), _all_orientation(seen)
    return tuple(checks.values())


def _merge(of_one: Sequence[tuple[PictureLook, Check]], count: int) -> Check:
    """One check of all pictures; the gravest verdict counts, and the pictures that have it are named."""
    worst = graver(*(one.verdict for _, one in of_one))
    bad = [(look, one) for look, one in of_one if one.verdict == worst]
    first = bad[0][1]
    if count == 1:
        return first
    if worst in ("pass", "not known"):
        passed = [one for _, one in of_one if one.verdict == "pass"]
        return replace(passed[0], found=f"{len(passed)} of {counted(count, 'picture')}") if passed else first
    named = "; ".join(f"{look.name}: {one.found}" for look, one in bad[:_NAMED])
    more = f"; and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
    return Check(
        first.name, worst, f"{len(bad)} of {counted(count, 'picture')}: {named}{more}", first.limit, first.meaning
    )


def _picture_size(look: PictureLook) -> Check:
    short, long = sorted(look.shape)
    limit = f"{MATRIX.lowest:g} to {MATRIX.highest:g} pixels a side, refused below {MATRIX.refused_below:g}; all alike"
    verdict = graver(MATRIX.verdict(short), "warning" if long > _LONGEST_SIDE * short else "pass")
    meaning = "a slice is 256 to 1024 pixels a side and nearly square: export the slice alone, in its full size"
    if verdict == "refusal":
        meaning = "too small to show a bleed: export the slice in its full size, not as a thumbnail"
    return judge("picture size", verdict, f"{look.shape[0]} × {look.shape[1]} pixels", limit, meaning)


def _same_size(check: Check, looks: Sequence[PictureLook]) -> Check:
    sizes = Counter(one.shape for one in looks)
    if len(sizes) == 1 or check.verdict == "refusal":
        return check
    found = ", ".join(f"{count} of {rows} × {columns}" for (rows, columns), count in sizes.most_common(_NAMED))
    meaning = "pictures of one series have one size: other things may be among them; give one series at a time"
    return replace(check, verdict="warning", found=f"{len(sizes)} sizes: {found} pixels", meaning=meaning)


def _blank(look: PictureLook) -> Check:
    limit = f"something on {_LEAST_LIT:.1%} of the picture"
    whole = "black" if look.highest <= NEAR_BLACK else "white" if look.border[1] == 1 and not look.between else ""
    if look.lit >= _LEAST_LIT and look.highest > NEAR_BLACK and not (whole == "white" and look.bone > 1 - _LEAST_LIT):
        return Check("blank slices", "pass", "none", limit)
    found = f"all {whole}" if whole else f"something on {look.lit:.2%}"
    return Check(
        "blank slices", "warning", found, limit, "nothing can be found on it: export it again, or leave it out"
    )


def _grey_scale(look: PictureLook) -> Check:
    limit = "air black, bone white, greys between"
    black, white = look.border
    if white >= 0.5:
        found = f"inverse (a negative, as MONOCHROME1): {white:.0%} of the border is white"
        meaning = (
            "air would be taken for bone: turn the viewer's inversion off, and export the slice without a white page"
        )
        return Check("grey scale", "refusal", found, limit, meaning)
    if look.between < _LEAST_BETWEEN:
        found = f"black and white, {look.between:.1%} of what is not black are greys between"
        return Check("grey scale", "refusal", found, limit, "a mask or a drawing, no slice: leave it out")
    return Check("grey scale", "pass", f"{black:.0%} of the border is black", limit)


def _single_slice(look: PictureLook) -> Check:
    limit = "one slice in a picture"
    short, long = sorted(look.shape)
    several = look.parts >= 3 or (look.parts == 2 and long > _LONGEST_SIDE * short)
    if look.parts == 2 and not several:  # measured on 3 of 2,501 slices, near the base
        meaning = "perhaps two slices in one picture: export each slice as a picture of its own"
        return Check("single slice", "warning", "2 things of one size", limit, meaning)
    if not several:
        return Check("single slice", "pass", "one", limit)
    meaning = "a mosaic or sheet: export each slice as a picture of its own, or give the study as DICOM"
    return Check("single slice", "refusal", f"{look.parts} things of one size", limit, meaning)


def _air(look: PictureLook) -> Check:
    limit = f"{BORDER_BLACK.lowest:.0%} of the border black, refused below {BORDER_BLACK.refused_below:.0%}"
    verdict = BORDER_BLACK.verdict(look.border[0])
    meaning = "the head is cut off, or a frame or words are around it: export the whole slice, nothing else"
    if verdict == "refusal":
        meaning = "no air around a head: no CT slice, or one that was cut out; export the whole slice"
    return judge("air", verdict, f"{look.border[0]:.0%}", limit, meaning)


def _window(look: PictureLook) -> Check:
    limit = f"{BONE_SHARE.lowest:.0%} to {BONE_SHARE.highest:.0%} of what is not black is white, refused below "
    limit += (
        f"{BONE_SHARE.refused_below:.0%}; a spread of {_SPREAD_HU.lowest:g} to {_SPREAD_HU.highest:g} HU in the brain"
    )
    found, verdict = f"{look.bone:.1%} white", BONE_SHARE.verdict(look.bone)
    spread = look.anatomy.spread_hu
    if verdict == "pass" and spread is not None and look.anatomy.largest_cm2 >= CAVITY_CM2.refused_below:
        found, verdict = f"{found}, a spread of {spread:.1f} HU", _SPREAD_HU.verdict(spread)
    meaning = "perhaps another window: export in the brain window (level 40, width 120), or say which by --window"
    if verdict == "refusal":
        meaning = "a bone window or another wide one, in which blood cannot be told from brain: export in the brain "
        meaning += "window (level 40, width 120)"
    return judge("window", verdict, found, limit, meaning)


def _stated_window(check: Check, window: Window) -> Check:
    top = window.lowest_hu + window.width_hu
    shows_blood = window.lowest_hu <= _BLOOD_HU[0] and top >= _BLOOD_HU[1]
    if check.verdict != "pass" or (window.width_hu <= WIDEST_HU and shows_blood):
        return check
    found = f"{window.lowest_hu:g} to {top:g} HU by --window"
    meaning = "too wide, or not over blood and brain: their greys cannot be told apart; export in the brain window"
    return replace(check, verdict="warning", found=found, meaning=meaning)


def _judge_densities(looks: Sequence[PictureLook]) -> Check:
    """Judge the median of all slices with enough brain: one near the base holds partial volumes of bone."""
    enough = [one.anatomy for one in looks if one.anatomy.largest_cm2 >= CAVITY_CM2.refused_below]
    medians = [one.brain_hu for one in enough if one.brain_hu is not None]
    if not medians:
        return Check("brain density", "not known", "too little brain", BRAIN_LIMIT)
    brain_hu = float(np.median(medians))
    meaning = "another window than stated, or no brain: say the window by --window"
    return judge("brain density", BRAIN_HU.verdict(brain_hu), f"median {brain_hu:.0f} HU", BRAIN_LIMIT, meaning)


def _all_orientation(looks: Sequence[PictureLook]) -> Check:
    """Judge the mean of all slices of a head, which tells more than one."""
    return judge_heads([one.head for one in looks if one.head is not None])


def judge_heads(
    heads: Sequence[HeadLook], least_upright: float = _ALL_UPRIGHT, least_centre: float = _ALL_CENTRE
) -> Check:
    """Judge whether a head lies face up, by the mean of its slices."""
    if not heads:
        return _judge_turn(None, least_upright, least_centre)
    straight = float(np.median([one.straight for one in heads]))
    upright, centre = (float(np.mean([getattr(one, name) for one in heads])) for name in ("upright", "centre"))
    return _judge_turn(HeadLook(1, upright, centre, straight), least_upright, least_centre)


def _judge_turn(head: HeadLook | None, least_upright: float, least_centre: float) -> Check:
    limit = "axial slices, face up"
    if head is None:
        return Check("orientation", "not known", "no head found", limit)
    if head.straight > _STRAIGHT:
        found = f"an end of the head is a straight line over {head.straight:.0%} of its width"
        meaning = "cut off, or a coronal or sagittal picture; the network knows axial slices alone"
        return Check("orientation", "warning", found, limit, meaning)
    if head.upright >= least_upright and head.centre >= least_centre:
        return Check("orientation", "pass", "upright", limit)
    found = f"the head seems to {'lie on its side' if head.upright < least_upright else 'be upside down'}"
    return Check(
        "orientation", "warning", found, limit, "turn it so that the face looks up: the network knows no other"
    )


def _anatomy(look: PictureLook) -> Check:
    limit = f"soft tissue inside a skull, up to {CAVITY_CM2.highest:g} cm²"
    found = f"{look.anatomy.largest_cm2:.0f} cm² of soft tissue inside a skull"
    if look.anatomy.cavity is None:
        return Check("anatomy", "not known", "no soft tissue inside a skull", limit)
    return Check("anatomy", "pass", found, limit)


def _all_anatomy(check: Check, looks: Sequence[PictureLook]) -> Check:
    shown = sum(one.anatomy.cavity is not None for one in looks)
    if shown:
        found = check.found if len(looks) == 1 else f"on {shown} of {counted(len(looks), 'picture')}"
        return replace(check, verdict="pass", found=found)
    meaning = "no brain is shown: a slice below or above it, or no head; what is marked may be no hemorrhage"
    found = "no soft tissue inside a skull" + f" on any of {len(looks)} pictures" * (len(looks) > 1)
    verdict: Verdict = "refusal" if len(looks) >= SLICES.lowest else "warning"
    return replace(check, verdict=verdict, found=found, meaning=meaning)


def _view(look: PictureLook) -> Check:
    limit = f"a head over {_LEAST_HEAD:.0%} of the picture's side"
    side = 0.0 if look.head is None else look.head.side
    meaning = "too small, or no head: export the slice alone, without margins"
    return judge("field of view", "pass" if side >= _LEAST_HEAD else "warning", f"{side:.0%}", limit, meaning)


def _border(look: PictureLook) -> Check:
    limit = f"less than {CUT_MM:g} mm of the head's edge at the picture's border"
    cut, meaning = look.anatomy.cut_mm, "the head is cut off: what lies beyond is not seen; export the whole slice"
    found = f"{cut:.0f} mm, in a view of the usual size"
    return judge("border", "pass" if cut < CUT_MM else "warning", found, limit, meaning)


def _marks(look: PictureLook) -> Check:
    limit = f"up to {_MOST_MARKS} small bright things outside the head"
    meaning = "words or marks are burned in: export the slice without them"
    return judge("marks", "pass" if look.marks <= _MOST_MARKS else "warning", f"{look.marks}", limit, meaning)
