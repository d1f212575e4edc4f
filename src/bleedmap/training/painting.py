"""Blood drawn into heads that have none: the anatomy is a patient's, the bleed of any size, site and density.

After the synthetic tumours of Hu et al. (CVPR 2023, arXiv:2303.14869); shapes are those of
`bleedmap.training.bleed_shapes`. No oedema grows beyond a rim.

In a frame of known size volumes and HU follow what 1,872 lesions of BHSD and 80 of CT-ICH measure, more of the small
ones; without it lengths are mm by a guess. Decoys are bright and no blood: calcifications of falx, choroid plexus and
pineal gland, bone that a slice cuts along the inner table, and streaks.

Varied paintings also push tissue aside, mix fresh and old subdural blood, and open the skull; their decoys are bright
arteries and sinuses too.
"""

from dataclasses import replace

import numpy as np
from scipy import ndimage

from bleedmap.arrays import AnyArray, ByteArray, FloatArray, Progress, ignore
from bleedmap.errors import SettingsError
from bleedmap.models.networks import LABELS
from bleedmap.training.bleed_shapes import (
    BONE_GREY,
    GREY_PER_HU,
    LEAST_ML,
    LOWEST_HU,
    RESIDUAL,
    SHAPES,
    SLICE_MM,
    VIEW_MM,
    Head,
    box_around,
    choose_place,
    draw_along_table,
    draw_between,
    draw_clot,
    draw_noise,
    find_back,
    find_head,
    find_site,
    to_grey,
)
from bleedmap.training.samples import Samples, concatenate
from bleedmap.window import BONE

_LEAST_SLICES = 5
_LEAST_PIXELS = 15  # of blood, for a slice to bear a lesion; one with less loses it, but for a trace
_CONTEXT = 2  # slices kept on either side of the blood; the outermost serve as neighbours only
_TRIES = 4
_KINDS = ("EDH", "IPH", "contusions", "SDH", "IVH", "SAH")
_CHANCES = (0.36, 0.18, 0.16, 0.14, 0.06, 0.10)
# In a frame of known size, by kind: median mL, standard deviation of its logarithm; mean HU and their deviation.
_MEASURED = {
    "EDH": (2.0, 1.6, 60, 9), "IPH": (1.0, 1.7, 53, 7), "contusions": (0.8, 1.5, 51, 7), "SDH": (1.5, 1.7, 53, 8),
    "IVH": (0.6, 1.4, 44, 6), "SAH": (0.4, 1.2, 48, 7),
}  # fmt: skip
_HU = 37.0, 82.0
_CHRONIC, _CHRONIC_HU = 0.15, (16.0, 33.0)  # part of the subdural ones, darker than brain
# Of varied paintings: part of the subdural bleeds with fresh blood below old, of heads with an opened skull; least mL
# that push tissue aside, by what part of their half thickness, and over how many mm this fades.
_MIXED, _OPENED = 0.2, 0.12
_PUSHING_ML, _PUSHED, _FADING_MM = 3.0, (0.3, 0.9), 18.0


def paint(
    random: np.random.Generator, head: Head, measured: bool = False, varied: bool = False
) -> tuple[ByteArray, FloatArray, str] | None:  # fmt: skip
    """Draw one bleed, or several contusions.

    Args:
        head: is not changed.
        measured: whether volume and HU are as lesions measure.
        varied: whether tissue is pushed aside, and subdural blood may be fresh below and old above.

    Returns:
        The slices; blood's share of each pixel, both (slice, row, column); and the type, one of `LABELS`. None where
        this head has no place for what was drawn.
    """
    kind = str(random.choice(_KINDS, p=_CHANCES))
    share = SHAPES[kind](random, head, _draw_volume(random, kind) if measured else None)
    if share is None or not share.any():
        return None
    blur = random.uniform(0.3, 0.75) / head.pixel_mm
    reach = box_around(share > 0, round(5 * blur), slices=2)  # no farther does blurring spread it
    share[reach] = ndimage.gaussian_filter(share[reach], (random.uniform(0, 0.45), blur, blur)) * head.inside[reach]
    if share.max() < 0.5:
        return None
    if measured:
        hu = _draw_hu(random, kind)
    else:
        hu = random.uniform(52, 75) if random.random() < 0.7 else random.uniform(43, 54)  # fresh; or faint
    box = box_around(share > 0, 0)
    shape = share[box].shape
    uneven_hu = random.uniform(1, 5) * draw_noise(random, shape, 8.0, head) + random.uniform(0, 3) * draw_noise(
        random, shape, 3.0, head
    )
    if varied and kind == "SDH" and random.random() < _MIXED:
        uneven_hu += _settle(random, share[box], hu)
    blood = (hu + uneven_hu - LOWEST_HU) * GREY_PER_HU + head.residual[box] * random.uniform(0.6, 1.1)
    mixed = _push_aside(random, head, share) if varied else head.grey.copy()
    if kind in ("IPH", "contusions"):
        _darken_around(mixed, share, random.uniform(0, 8), head)
    mixed[box] += share[box] * (blood - mixed[box])
    near_bone = head.depth[box] < 2  # bone's blurred edge stays brighter
    mixed[box] = np.where(near_bone, np.maximum(mixed[box], head.grey[box]), mixed[box])
    name = "IPH" if kind == "contusions" else kind
    return _in_head(mixed, head), share, name


def _draw_volume(random: np.random.Generator, kind: str) -> float:
    """Draw mL."""
    median, spread, _, _ = _MEASURED[kind]
    return max(LEAST_ML, median * float(np.exp(spread * random.standard_normal())))


def _draw_hu(random: np.random.Generator, kind: str) -> float:
    if kind == "SDH" and random.random() < _CHRONIC:
        return float(random.uniform(*_CHRONIC_HU))
    _, _, mean, spread = _MEASURED[kind]
    return float(np.clip(random.normal(mean, spread), *_HU))


def _settle(random: np.random.Generator, share: FloatArray, hu: float) -> FloatArray:
    """HU to add to subdural blood: old blood above a level, in a patient who lies on the back; fresh blood below."""
    rows = np.flatnonzero((share > 0.5).any(axis=(0, 2)))
    level = random.uniform(rows[0], rows[-1] + 1)
    above = np.clip(level - np.arange(share.shape[1], dtype=np.float32) + 0.5, 0, 1)
    return np.asarray(above[:, None] * np.float32(random.uniform(*_CHRONIC_HU) - hu), np.float32)


def _push_aside(random: np.random.Generator, head: Head, share: FloatArray) -> FloatArray:
    """The head's grey with the tissue around a large bleed moved away from it; less far off, and near the skull."""
    grey, blood = head.grey.copy(), share > 0.5
    if np.count_nonzero(blood) * head.pixel_mm**2 * SLICE_MM / 1000 < _PUSHING_ML:
        return grey
    part = random.uniform(*_PUSHED)
    for one in np.flatnonzero(blood.any(axis=(1, 2))):
        apart, nearest = ndimage.distance_transform_edt(~blood[one], return_indices=True)
        half_thick = float(ndimage.distance_transform_edt(blood[one]).max())
        fading = np.exp(-apart * head.pixel_mm / _FADING_MM) * np.minimum(1, head.depth[one] / 8)
        here = np.indices(apart.shape, np.float32)
        away = (here - nearest) / np.maximum(apart, 1)
        moved = ndimage.map_coordinates(head.grey[one], here - away * (part * half_thick * fading), order=1)
        grey[one] = np.where(head.inside[one], moved, head.grey[one])
    return grey


def _open_skull(random: np.random.Generator, head: Head) -> Head:
    """A gap of the skull, as after surgery: soft tissue in place of a disc of bone."""
    centre = choose_place(random, head.inside & (head.depth < 2 * max(1, head.pixel_mm)))
    if centre is None:
        return head
    radius = random.uniform(12, 35)
    site = find_site(head, centre, radius)
    bone = (head.grey[site.box] >= BONE_GREY) & ~head.inside[site.box]
    gap = np.zeros(head.grey.shape, np.float32)
    gap[site.box] = bone & (np.sqrt(site.z**2 + site.y**2 + site.x**2) < radius)
    blur = 0.5 / head.pixel_mm
    gap = ndimage.gaussian_filter(gap, (0, blur, blur))
    soft = to_grey(random.uniform(15, 45)) + RESIDUAL / 2 * random.standard_normal(gap.shape, np.float32)
    grey = head.grey + gap * (soft - head.grey)
    bones = None if head.bones is None else np.asarray(np.rint(head.bones * (1 - gap)), np.uint8)
    return replace(head, grey=np.clip(grey, 0, 255).astype(np.float32), bones=bones, gap=centre)


def _in_head(grey: FloatArray, head: Head) -> ByteArray:
    return np.asarray(np.clip(np.rint(np.where(head.inside, grey, head.grey)), 0, 255), np.uint8)


def paint_decoy(
    random: np.random.Generator, head: Head, varied: bool = False
) -> tuple[ByteArray, ByteArray | None, FloatArray] | None:
    """Draw what is bright and no blood: a calcification, bone along the inner table, or a streak; varied, also a bright
    artery or sinus.

    Returns:
        The slices and what lies above their window; and the decoy's share of each pixel. None where this head has no
        place for it.
    """
    kind = random.choice(("calcification", "bone", "streak"), p=(0.5, 0.3, 0.2))
    if varied and random.random() < 0.3:
        kind = random.choice(("artery", "sinus"))
    if kind == "streak":
        return _streak(random, head)
    if kind == "calcification":
        share = draw_clot(random, head, None, (1, 4.5), (6, 90))
    elif kind == "artery":
        share = draw_clot(random, head, None, (1, 2.2), (15, 70))
    elif kind == "sinus":
        share = draw_along_table(
            random, head, draw_between(random, 10, 30), random.uniform(4, 8), 2, False, find_back(head)
        )
    else:
        radius = draw_between(random, 3, 18)
        share = draw_along_table(random, head, radius, random.uniform(0.8, 4), 2, False)
    if share is None or not share.any():
        return None
    blur = 0.5 / head.pixel_mm
    share = ndimage.gaussian_filter(share, (0, blur, blur)) * head.inside
    hu = random.uniform(52, 78) if kind in ("artery", "sinus") else draw_between(random, 95, 700)
    mixed = head.grey + share * ((hu - LOWEST_HU) * GREY_PER_HU - head.grey)
    bones = head.bones
    if bones is not None:
        above = share * (hu - BONE.lowest_hu) * (255 / BONE.width_hu)
        bones = np.asarray(np.clip(np.maximum(bones, np.rint(above)), 0, 255), np.uint8)
    return _in_head(mixed, head), bones, share


def _streak(random: np.random.Generator, head: Head) -> tuple[ByteArray, ByteArray | None, FloatArray] | None:
    """Brighter and darker bands side by side, through one slice or two."""
    centre = choose_place(random, head.inside)
    if centre is None:
        return None
    site, angle = find_site(head, centre, 200.0), random.normal(0, 0.35)
    across = site.y * np.float32(np.cos(angle)) - site.x * np.float32(np.sin(angle))
    wave = np.cos(across / random.uniform(1.5, 4)) * np.exp(-((across / random.uniform(4, 12)) ** 2))
    wave = wave * (np.abs(site.z) < random.uniform(1, 8))
    mixed = head.grey.copy()
    mixed[site.box] += wave * np.float32(random.uniform(6, 22) * GREY_PER_HU)
    share = np.zeros(head.grey.shape, np.float32)
    share[site.box] = np.abs(wave) * head.inside[site.box]
    return _in_head(mixed, head), head.bones, share


def load_paintings(
    patients: Samples, each: int, seed: int = 0, progress: Progress = ignore, frame_mm: float = 0.0,
    decoys: float = 0.0, varied: bool = False,
) -> Samples:  # fmt: skip
    """Draw `each` bleeds into each study without one; of each, the slices with blood and two on either side, of which
    the outer ones serve as neighbours (`Pools.painting_rows`).

    Args:
        patients: whole studies; those with a lesion lend nothing.
        each: bleeds of a study.
        seed: of everything random, with the study's number.
        frame_mm: side of the samples' frame, in which volumes and HU are as lesions measure; 0: not known.
        decoys: part of the drawings that are no bleed.
        varied: whether tissue is pushed aside, skulls are opened, and so on.

    Returns:
        Samples whose studies are numbered from 0, one a bleed.

    Raises:
        SettingsError: no study is fit for it.
    """
    free = np.setdiff1d(patients.study, patients.study[patients.has_lesion])
    drawn: list[Samples] = []
    for done, study in enumerate(free, start=1):
        of_study = patients.study == study
        bones = None if patients.bones is None else patients.bones[of_study]
        head = find_head(patients.slices[of_study], bones, frame_mm or VIEW_MM)
        if np.count_nonzero(head.inside.any(axis=(1, 2))) >= _LEAST_SLICES:
            for number in range(each):
                random = np.random.default_rng([seed, int(study), number])
                draw = _decoy_sample if decoys and random.random() < decoys else _sample
                own = _open_skull(random, head) if varied and random.random() < _OPENED else head
                tries = (draw(random, own, len(drawn), frame_mm > 0, varied) for _ in range(_TRIES))
                sample = next((one for one in tries if one is not None), None)
                drawn += [] if sample is None else [sample]
        progress(done, len(free))
    if not drawn:
        raise SettingsError(
            "paintings", found="no study without a lesion in whose skull blood can be drawn",
            needed="one bleed-free study at least, of the whole head", remedy="train without paintings",
        )  # fmt: skip
    return concatenate(drawn)


def _sample(random: np.random.Generator, head: Head, number: int, measured: bool, varied: bool) -> Samples | None:
    """One bleed."""
    painted = paint(random, head, measured, varied)
    if painted is None:
        return None
    slices, share, name = painted
    pixels = np.count_nonzero(share > 0.5, axis=(1, 2))
    bleeds = pixels >= _LEAST_PIXELS
    if not bleeds.any():
        return None
    few = (pixels > 0) & ~bleeds
    slices[few] = head.grey[few]
    labels = np.zeros((len(slices), len(LABELS)), np.float32)
    labels[bleeds, 0] = labels[bleeds, LABELS.index(name)] = 1
    return _cut(slices, head.bones, share * bleeds[:, None, None], labels, np.flatnonzero(bleeds), number)


def _decoy_sample(random: np.random.Generator, head: Head, number: int, measured: bool, varied: bool) -> Samples | None:
    """One drawing that is no bleed."""
    painted = paint_decoy(random, head, varied)
    if painted is None:
        return None
    slices, bones, share = painted
    rows = np.flatnonzero(np.count_nonzero(share > 0.5, axis=(1, 2)))
    labels = np.zeros((len(slices), len(LABELS)), np.float32)
    return _cut(slices, bones, np.zeros_like(share), labels, rows, number) if len(rows) else None


def _cut(
    slices: ByteArray, bones: ByteArray | None, share: FloatArray, labels: FloatArray, rows: AnyArray, number: int
) -> Samples:
    """The slices at `rows` and some beside, copied: a view would keep the whole study in memory."""
    kept = slice(max(0, rows[0] - _CONTEXT), rows[-1] + _CONTEXT + 1)
    masks = np.asarray(np.rint(share[kept] * 255), np.uint8)
    study = np.full(len(masks), number)
    return Samples(slices[kept].copy(), masks, labels[kept], study, None if bones is None else bones[kept].copy())


def _darken_around(grey: FloatArray, share: FloatArray, drop_hu: float, head: Head) -> None:
    """Oedema, in place: darker around the blood, by `drop_hu` beside it."""
    box, sigma = box_around(share > 0, round(12 / head.pixel_mm)), 3.5 / head.pixel_mm
    rim = ndimage.gaussian_filter(share[box], (0.3, sigma, sigma)) * (head.depth[box] > 1.5)
    grey[box] -= np.minimum(1.3 * rim, 1) * np.float32(drop_hu * GREY_PER_HU)
