"""Checks of what the voxels are and show: are these HU, is this a head, is all of it there."""

from collections.abc import Mapping

from bleedmap.study.gate.anatomy import AIR_HU, DENSE_BONE_HU, METAL_HU, Anatomy, Values
from bleedmap.study.gate.check import Check, Limits, Verdict, graver, judge
from bleedmap.study.words import spans

# 'Measured': on CT-ICH's 82 patients by `python tests/support/ct_ich_gate.py FOLDER`, with pixels taken as 0.39 mm.
LEAST_AIR = 0.01  # of the voxels; measured 46 to 69 %, and a circle in a square leaves 21 %
AIR_LEVEL_HU = Limits(-1100, -880)  # air is -1000 by definition; CT-ICH's pictures clip it at -900
BONE_SHARE = Limits(0.005, 0.25, refused_below=0.002, refused_above=0.4)  # measured 1.7 % (newborn) to 10 %
# Brain is 20 to 45 HU (Osborn's Brain, 2nd ed., 2017; rounded); measured 33 to 47, the newborn 24.
BRAIN_HU = Limits(20, 50, refused_below=5, refused_above=70)
BRAIN_LIMIT = (
    f"median {BRAIN_HU.lowest:g} to {BRAIN_HU.highest:g} HU, refused outside {BRAIN_HU.refused_below:g} to "
    f"{BRAIN_HU.refused_above:g} HU"
)
SPREAD_HU = Limits(0, 25)  # measured 6 to 12; blood stands out of brain by some 30 HU
# Pictures of CT-ICH, rounded to 8 HU, keep 0.85 to 0.98 of their outline (Dice); to 16 HU, as 8-bit JPEG, down to 0.48.
STEP_HU = 8.0
# Measured 920 to 2,380 mL (jaws with a full row of teeth count in), the newborn 278.
CAVITY_ML = Limits(150, 2800, refused_below=150, refused_above=3500)
# Measured 171 to 270, the newborn 148; jaws 43 to 71. Computed for 34 cm head circumference: 92 with the skull.
CAVITY_CM2 = Limits(100, 350, refused_below=75, refused_above=350)
OUTLINE_MM = Limits(0, 300, refused_above=300)  # measured up to 248, headrest and nose included; a chest is wider
LARGEST_BASE = 0.2  # of the largest area, closed in by bone on the first slice; measured up to 0.12
LARGEST_VERTEX = 0.3  # on the last slice; measured up to 0.26
MOST_BELOW_MM = 120.0  # from the skull's base to the shoulders; measured up to 80
CUT_MM = 30.0  # of the head's edge at the picture's border, where its brain is; a nose's tip is less
MOST_PADDING = 0.5  # outside the circle that a scanner reconstructs lie 21 %
_NOTHING_SHOWN = "nothing but air is shown"
MOST_COPIES = 0.25  # of the slices that show brain: of more, a stack was enlarged by copying
METAL_ML = 0.1  # a filling, a clip, a coil; a burr of noise is less


def voxel_checks(values: Values, anatomy: Anatomy, slices: int) -> tuple[Check, ...]:
    """Air, bone, brain density, noise, anatomy, coverage, blank slices, continuity, border, padding, metal."""
    return (
        _air(values), _bone(values), _brain_density(values, anatomy), _noise(values, anatomy), _anatomy(anatomy),
        _coverage(anatomy, slices), _blank_slices(values, anatomy), _continuity(values, anatomy), _border(anatomy),
        _padding(values), _metal(values),
    )  # fmt: skip


def _air(values: Values) -> Check:
    limit = f"{LEAST_AIR:.0%} of the voxels below {AIR_HU:g} HU, around -1000 HU"
    if _without_air(values) or values.air_hu is None:
        found = f"{values.air_share:.1%} below {AIR_HU:g} HU, lowest {values.lowest:,.0f} HU"
        if values.lowest >= AIR_HU:
            found = f"no voxel below {AIR_HU:g} HU, lowest {values.lowest:,.0f} HU"
        meaning = "not HU, or cut to a window, or without what surrounds the head: give the original values"
        return Check("air", "refusal", found, limit, meaning)
    meaning = "air is -1000 HU by definition: slope or intercept may be wrong"
    found = f"{values.air_share:.0%} of the voxels, median {values.air_hu:,.0f} HU"
    return judge("air", AIR_LEVEL_HU.verdict(values.air_hu), found, limit, meaning)


def _without_air(values: Values) -> bool:
    return values.air_share < LEAST_AIR


def _bone(values: Values) -> Check:
    limit = f"{BONE_SHARE.lowest:.1%} to {BONE_SHARE.highest:.0%} of the voxels above {DENSE_BONE_HU:g} HU"
    found = f"{values.bone_share:.1%} above {DENSE_BONE_HU:g} HU, highest {values.highest:,.0f} HU"
    few = values.bone_share < BONE_SHARE.lowest
    meaning = "too little for a skull: cut to a window, or no head" if few else "too much for a head: these are no HU"
    meaning = _NOTHING_SHOWN if values.highest < AIR_HU else meaning
    return judge("bone", BONE_SHARE.verdict(values.bone_share), found, limit, meaning)


def _brain_density(values: Values, anatomy: Anatomy) -> Check:
    middle = f"the volume's middle has a median of {anatomy.middle_hu:,.0f} HU"
    of_middle: Verdict = "refusal" if BRAIN_HU.verdict(anatomy.middle_hu) == "refusal" else "not known"
    if anatomy.brain_hu is None:
        meaning = "no tissue of a head is like that: slope or intercept may be wrong" if of_middle == "refusal" else ""
        meaning = _NOTHING_SHOWN if values.highest < AIR_HU else meaning
        return Check("brain density", of_middle, f"no brain found; {middle}", BRAIN_LIMIT, meaning)
    found, verdict = f"median {anatomy.brain_hu:.0f} HU", BRAIN_HU.verdict(anatomy.brain_hu)
    if _without_air(values):  # what looks like brain may be air, shifted
        found, verdict = f"{found}; {middle}", graver(verdict, of_middle)
    meaning = "" if verdict in ("pass", "not known") else "slope or intercept may be wrong, or this is no brain"
    return Check("brain density", verdict, found, BRAIN_LIMIT, meaning)


def _noise(values: Values, anatomy: Anatomy) -> Check:
    limit = f"a spread of up to {SPREAD_HU.highest:g} HU in the brain, in steps of up to {STEP_HU:g} HU"
    if values.step_hu > STEP_HU:
        meaning = (
            "too coarse to tell blood from brain: stored in 8 bits, or compressed with loss; give the original series"
        )
        return Check("noise", "warning", f"values in steps of {values.step_hu:.3g} HU", limit, meaning)
    if anatomy.spread_hu is None:
        return Check("noise", "not known", "no brain found", limit)
    meaning = "blood stands out of brain by some 30 HU and drowns in such noise"
    return judge("noise", SPREAD_HU.verdict(anatomy.spread_hu), f"{anatomy.spread_hu:.0f} HU", limit, meaning)


def _anatomy(anatomy: Anatomy) -> Check:
    limit = (
        f"{CAVITY_ML.lowest:,.0f} to {CAVITY_ML.highest:,.0f} mL of soft tissue in a skull, {CAVITY_CM2.lowest:g} to "
        f"{CAVITY_CM2.highest:g} cm² on its largest slice, outline up to {OUTLINE_MM.highest:g} mm"
    )
    length, width = anatomy.outline_mm
    outline = f"outline {length:.0f} × {width:.0f} mm" if length else "no body"
    meaning = "this is no head, or its scale is wrong: findings would mean nothing"
    if anatomy.cavity is None:
        meaning = meaning if length else f"{_NOTHING_SHOWN}: the pixels were blanked, or slope and intercept are wrong"
        return Check("anatomy", "refusal", f"no slice with soft tissue inside a skull; {outline}", limit, meaning)
    found = f"{anatomy.cavity_ml:,.0f} mL in a skull, {anatomy.largest_cm2:.0f} cm² on its largest slice, {outline}"
    verdict = graver(
        CAVITY_ML.verdict(anatomy.cavity_ml), CAVITY_CM2.verdict(anatomy.largest_cm2),
        OUTLINE_MM.verdict(max(anatomy.outline_mm)),
    )  # fmt: skip
    if anatomy.cavity_ml < CAVITY_ML.lowest and CAVITY_CM2.verdict(anatomy.largest_cm2) == "pass":
        meaning = "so little of a head is shown that findings would mean nothing"
    return judge("anatomy", verdict, found, limit, meaning)


def _coverage(anatomy: Anatomy, slices: int) -> Check:
    limit = f"base and vertex shown, at most {MOST_BELOW_MM:g} mm below the skull"
    if anatomy.cavity is None:
        return Check("coverage", "not known", "no brain found", limit)
    first, last = anatomy.cavity
    found = f"brain on slices {first + 1} to {last + 1} of {slices}"
    missing = [
        f"{end} is cut off, where the brain still has {share:.0%} of its largest area"
        for end, share, most in (
            ("the base", anatomy.lowest_share, LARGEST_BASE),
            ("the vertex", anatomy.highest_share, LARGEST_VERTEX),
        )
        if share > most
    ]
    meaning = "a bleed in the part that is not shown is not found" if missing else ""
    if anatomy.below_mm > MOST_BELOW_MM:
        missing.append(f"{anatomy.below_mm:.0f} mm of neck or body below the brain")
        meaning = meaning or "what is marked there is no intracranial hemorrhage"
    return Check("coverage", "warning" if missing else "pass", "; ".join([found, *missing]), limit, meaning)


def _blank_slices(values: Values, anatomy: Anatomy) -> Check:
    limit = "none inside the head"
    if anatomy.cavity is None:
        return Check("blank slices", "not known", f"{len(values.blank)}, no brain found", limit)
    found = _list_inside(anatomy.cavity, {"": values.blank, " in part": values.cut})
    meaning = "damaged or missing slices: a bleed on them is not found"
    return judge("blank slices", "warning" if found else "pass", found or "none", limit, meaning)


def _continuity(values: Values, anatomy: Anatomy) -> Check:
    """Whether each slice follows on the one below."""
    limit = "every slice like those beside it"
    if anatomy.cavity is None:
        return Check("continuity", "not known", "no brain found", limit)
    first, last = anatomy.cavity
    copies = sum(first <= index <= last for index in values.repeated)
    enlarged = copies > MOST_COPIES * (last - first + 1)  # to more slices than were made
    found = _list_inside(
        anatomy.cavity,
        {" unlike both neighbours": values.unlike, " copied from the one below": () if enlarged else values.repeated},
    )
    meaning = "damaged, moved in the scan, of another place or in a wrong order: a bleed there may not be found"
    return judge("continuity", "warning" if found else "pass", found or "all follow on each other", limit, meaning)


def _list_inside(cavity: tuple[int, int], kinds: Mapping[str, tuple[int, ...]]) -> str:
    """'2 of 22 in part: slice 10, 11', for each kind of slice that is there; '' for none."""
    first, last = cavity
    inside = {words: [index + 1 for index in among if first <= index <= last] for words, among in kinds.items()}
    return "; ".join(
        f"{len(numbers)} of {last - first + 1}{words}: slice {spans(numbers)}"
        for words, numbers in inside.items()
        if numbers
    )


def _border(anatomy: Anatomy) -> Check:
    limit = f"less than {CUT_MM:g} mm of the head's edge at the picture's border"
    if anatomy.cavity is None:
        return Check("border", "not known", "no brain found", limit)
    if anatomy.cut_mm < CUT_MM:
        return Check("border", "pass", f"{anatomy.cut_mm:.0f} mm", limit)
    found = f"up to {anatomy.cut_mm:.0f} mm, on {anatomy.cut_slices} of the slices looked at"
    meaning = "the head is cut off at the side: what lies beyond is not seen, and the frame around it may be off"
    return Check("border", "warning", found, limit, meaning)


def _padding(values: Values) -> Check:
    over, found = values.padding_share > MOST_PADDING, f"{values.padding_share:.0%} of the voxels"
    meaning = "more than half of the picture is filled in, not measured"
    return judge("padding", "warning" if over else "pass", found, f"up to {MOST_PADDING:.0%}", meaning)


def _metal(values: Values) -> Check:
    over = values.metal_ml > METAL_ML
    found, meaning = f"{values.metal_ml:.2f} mL above {METAL_HU:g} HU", "metal throws streaks that look like blood"
    return judge("metal", "warning" if over else "pass", found, f"up to {METAL_ML:g} mL", meaning)
