"""Blood drawn into heads that have none: the anatomy is a patient's, the bleed of any size, site and density.

After the synthetic tumours of Hu et al. (CVPR 2023, arXiv:2303.14869). Shapes follow where blood collects: lenses and
crescents along the inner table, clots in the brain, contusions near its surface, sediment in a ventricle, films in
sulci and cisterns. No oedema grows beyond a rim.

In a frame of known size volumes and HU follow what 1,872 lesions of BHSD and 80 of CT-ICH measure, more of the small
ones; without it lengths are mm by a guess. Decoys are bright and no blood: calcifications of falx, choroid plexus and
pineal gland, bone that a slice cuts along the inner table, and streaks.

Varied paintings also push tissue aside, mix fresh and old subdural blood, and open the skull; their decoys are bright
arteries and sinuses too.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from bleedmap.arrays import AnyArray, BoolArray, ByteArray, DoubleArray, FloatArray, Progress
from bleedmap.errors import SettingsError
from bleedmap.models.networks import LABELS
from bleedmap.training.samples import Samples, concatenate
from bleedmap.window import BONE, BRAIN

VIEW_MM, SLICE_MM = 216.0, 5.0  # side of the frame around a study's head, a guess; between slices
_GREY_PER_HU = 255 / BRAIN.width_hu
_LOWEST_HU = BRAIN.level_hu - BRAIN.width_hu / 2
_AIR, _BONE = 20, 235  # grey; fat and air below, bone and its blurred edge above
_LEAST_BRAIN_MM2 = 1500.0  # of a slice: below, base or vertex
_LEAST_RIM = 0.85  # of the brain's outline that must lie along bone, else the base is open
_LEAST_SLICES = 5
_LEAST_PIXELS = 15  # of blood, for a slice to bear a lesion; one with less loses it, but for a trace
_CONTEXT = 2  # slices kept on either side of the blood; the outermost serve as neighbours only
_TRIES = 4
_LEAST_VENTRICLE_MM3 = 3000.0  # cisterns are smaller pools
_RESIDUAL = 18  # grey: noise of the picture, not an edge
_KINDS = ("EDH", "IPH", "contusions", "SDH", "IVH", "SAH")
_CHANCES = (0.36, 0.18, 0.16, 0.14, 0.06, 0.10)
# In a frame of known size, by kind: median mL, standard deviation of its logarithm; mean HU and their deviation.
_MEASURED = {
    "EDH": (2.0, 1.6, 60, 9), "IPH": (1.0, 1.7, 53, 7), "contusions": (0.8, 1.5, 51, 7), "SDH": (1.5, 1.7, 53, 8),
    "IVH": (0.6, 1.4, 44, 6), "SAH": (0.4, 1.2, 48, 7),
}  # fmt: skip
_LEAST_ML, _HU = 0.03, (37.0, 82.0)
_CHRONIC, _CHRONIC_HU = 0.15, (16.0, 33.0)  # part of the subdural ones, darker than brain
# Of varied paintings: part of the subdural bleeds with fresh blood below old, of heads with an opened skull; least mL
# that push tissue aside, by what part of their half thickness, and over how many mm this fades.
_MIXED, _OPENED = 0.2, 0.12
_PUSHING_ML, _PUSHED, _FADING_MM = 3.0, (0.3, 0.9), 18.0
_GAP_REACH_MM = 30.0  # blood lies so near to a gap of the skull


@dataclass(frozen=True, eq=False)
class Head:
    """What blood is drawn into."""

    grey: FloatArray  # (slice, row, column) float32, 0 to 255 over the window
    inside: BoolArray  # the same shape: within the skull
    depth: FloatArray  # mm in the slice to the inner table; 0 outside
    smooth: FloatArray  # grey, smoothed among the pixels inside
    residual: FloatArray  # grey, what smoothing took away inside
    pixel_mm: float  # between pixels
    bones: ByteArray | None = None  # grey over what lies above the window; None where no network sees it
    gap: AnyArray | None = None  # (slice, row, column) of a gap of the skull, beside which blood lies


def head_of(slices: ByteArray, bones: ByteArray | None = None, view_mm: float = VIEW_MM) -> Head:
    """Find the inside of a skull; slices whose skull is open, as at the base, have none.

    Args:
        slices: (slice, row, column) uint8 of one study, in the frame of training samples.
        bones: the same of what lies above the window.
        view_mm: side of the frame.
    """
    pixel_mm = view_mm / slices.shape[1]
    grey = slices.astype(np.float32)
    inside = np.stack([find_inside_skull(one, pixel_mm) for one in slices])
    depth = np.stack([ndimage.distance_transform_edt(one) * pixel_mm for one in inside]).astype(np.float32)
    return Head(
        grey, inside, depth, _smoothed(np.minimum(grey, 200), inside, 1.2 / pixel_mm),
        np.clip(np.where(inside, grey - _smoothed(grey, inside, 0.75 / pixel_mm), 0), -_RESIDUAL, _RESIDUAL), pixel_mm,
        bones,
    )  # fmt: skip


def paint(
    random: np.random.Generator, head: Head, measured: bool = False, varied: bool = False
) -> tuple[ByteArray, FloatArray, str] | None:  # fmt: skip
    """Draw one bleed, or several contusions.

    Args:
        random: of everything.
        head: is not changed.
        measured: whether volume and HU are as lesions measure.
        varied: whether tissue is pushed aside, and subdural blood may be fresh below and old above.

    Returns:
        The slices; blood's share of each pixel, both (slice, row, column); and the type, one of `LABELS`. None where
        this head has no place for what was drawn.
    """
    kind = str(random.choice(_KINDS, p=_CHANCES))
    share = _SHAPES[kind](random, head, _draw_volume(random, kind) if measured else None)
    if share is None or not share.any():
        return None
    blur = random.uniform(0.3, 0.75) / head.pixel_mm
    reach = _around(share > 0, round(5 * blur), slices=2)  # no farther does blurring spread it
    share[reach] = ndimage.gaussian_filter(share[reach], (random.uniform(0, 0.45), blur, blur)) * head.inside[reach]
    if share.max() < 0.5:
        return None
    if measured:
        hu = _draw_hu(random, kind)
    else:
        hu = random.uniform(52, 75) if random.random() < 0.7 else random.uniform(43, 54)  # fresh; or faint
    box = _around(share > 0, 0)
    shape = share[box].shape
    uneven_hu = random.uniform(1, 5) * _noise(random, shape, 8.0, head) + random.uniform(0, 3) * _noise(
        random, shape, 3.0, head
    )
    if varied and kind == "SDH" and random.random() < _MIXED:
        uneven_hu += _settle(random, share[box], hu)
    blood = (hu + uneven_hu - _LOWEST_HU) * _GREY_PER_HU + head.residual[box] * random.uniform(0.6, 1.1)
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
    return max(_LEAST_ML, median * float(np.exp(spread * random.standard_normal())))


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
    centre = _place(random, head.inside & (head.depth < 2 * max(1, head.pixel_mm)))
    if centre is None:
        return head
    radius = random.uniform(12, 35)
    site = _site(head, centre, radius)
    bone = (head.grey[site.box] >= _BONE) & ~head.inside[site.box]
    gap = np.zeros(head.grey.shape, np.float32)
    gap[site.box] = bone & (np.sqrt(site.z**2 + site.y**2 + site.x**2) < radius)
    blur = 0.5 / head.pixel_mm
    gap = ndimage.gaussian_filter(gap, (0, blur, blur))
    soft = _grey(random.uniform(15, 45)) + _RESIDUAL / 2 * random.standard_normal(gap.shape, np.float32)
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
        share = _clot(random, head, None, (1, 4.5), (6, 90))
    elif kind == "artery":
        share = _clot(random, head, None, (1, 2.2), (15, 70))
    elif kind == "sinus":
        share = _along_the_table(random, head, _between(random, 10, 30), random.uniform(4, 8), 2, False, _back(head))
    else:
        radius = _between(random, 3, 18)
        share = _along_the_table(random, head, radius, random.uniform(0.8, 4), 2, False)
    if share is None or not share.any():
        return None
    blur = 0.5 / head.pixel_mm
    share = ndimage.gaussian_filter(share, (0, blur, blur)) * head.inside
    hu = random.uniform(52, 78) if kind in ("artery", "sinus") else _between(random, 95, 700)
    mixed = head.grey + share * ((hu - _LOWEST_HU) * _GREY_PER_HU - head.grey)
    bones = head.bones
    if bones is not None:
        above = share * (hu - BONE.lowest_hu) * (255 / BONE.width_hu)
        bones = np.asarray(np.clip(np.maximum(bones, np.rint(above)), 0, 255), np.uint8)
    return _in_head(mixed, head), bones, share


def _streak(random: np.random.Generator, head: Head) -> tuple[ByteArray, ByteArray | None, FloatArray] | None:
    """Brighter and darker bands side by side, through one slice or two."""
    centre = _place(random, head.inside)
    if centre is None:
        return None
    site, angle = _site(head, centre, 200.0), random.normal(0, 0.35)
    across = site.y * np.float32(np.cos(angle)) - site.x * np.float32(np.sin(angle))
    wave = np.cos(across / random.uniform(1.5, 4)) * np.exp(-((across / random.uniform(4, 12)) ** 2))
    wave = wave * (np.abs(site.z) < random.uniform(1, 8))
    mixed = head.grey.copy()
    mixed[site.box] += wave * np.float32(random.uniform(6, 22) * _GREY_PER_HU)
    share = np.zeros(head.grey.shape, np.float32)
    share[site.box] = np.abs(wave) * head.inside[site.box]
    return _in_head(mixed, head), head.bones, share


def load_paintings(
    patients: Samples, each: int, seed: int = 0, progress: Progress = lambda done, of: None, frame_mm: float = 0.0,
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
        head = head_of(patients.slices[of_study], bones, frame_mm or VIEW_MM)
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


def find_inside_skull(one: ByteArray, pixel_mm: float) -> BoolArray:
    """(row, column) bool: the largest tissue with bone on all four sides; nothing where the skull is open, as at the
    base."""
    nothing = np.zeros(one.shape, np.bool_)
    bone, around = one >= _BONE, np.ones(one.shape, np.bool_)
    for axis in (0, 1):
        before = np.maximum.accumulate(bone, axis)
        after = np.flip(np.maximum.accumulate(np.flip(bone, axis), axis), axis)
        around &= before & after
    tissue = around & ~bone & (one > _AIR)
    steps = max(1, round(2.25 / pixel_mm))
    labels, count = ndimage.label(ndimage.binary_opening(tissue, iterations=steps))
    if not count:
        return nothing
    largest = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    if np.count_nonzero(largest) * pixel_mm**2 < _LEAST_BRAIN_MM2:
        return nothing
    brain = ndimage.binary_dilation(largest, iterations=max(1, steps - 1)) & tissue
    rim = ndimage.binary_dilation(brain) & ~brain
    if ndimage.binary_dilation(bone, iterations=steps)[rim].mean() < _LEAST_RIM:
        return nothing
    return np.asarray(ndimage.binary_fill_holes(brain), np.bool_)


def _smoothed(grey: FloatArray, inside: BoolArray, sigma: float) -> FloatArray:
    """Mean of the pixels inside, weighted by a Gaussian of `sigma` pixels in the slice."""
    sigmas = (0, sigma, sigma)
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigmas)
    total = ndimage.gaussian_filter(np.where(inside, grey, np.float32(0)), sigmas)
    return np.asarray(total / np.maximum(weight, 1e-3), np.float32)


def _noise(random: np.random.Generator, shape: tuple[int, ...], grain_mm: float, head: Head) -> FloatArray:
    """Structures of about `grain_mm`; mean 0, standard deviation 1."""
    sigma = grain_mm / 2
    white = random.standard_normal(shape, np.float32)
    smooth = ndimage.gaussian_filter(white, (sigma / SLICE_MM, sigma / head.pixel_mm, sigma / head.pixel_mm))
    return np.asarray((smooth - smooth.mean()) / max(float(smooth.std()), 1e-6), np.float32)


def _around(found: BoolArray, reach: int, slices: int = 0) -> tuple[slice, ...]:
    """The box around what is found, `reach` pixels wider in the slice, and by some slices."""
    box = ndimage.find_objects(found.astype(np.uint8))[0]
    wider = (slices, reach, reach)
    return tuple(slice(max(0, one.start - by), one.stop + by) for one, by in zip(box, wider, strict=True))


def _darken_around(grey: FloatArray, share: FloatArray, drop_hu: float, head: Head) -> None:
    """Oedema, in place: darker around the blood, by `drop_hu` beside it."""
    box, sigma = _around(share > 0, round(12 / head.pixel_mm)), 3.5 / head.pixel_mm
    rim = ndimage.gaussian_filter(share[box], (0.3, sigma, sigma)) * (head.depth[box] > 1.5)
    grey[box] -= np.minimum(1.3 * rim, 1) * np.float32(drop_hu * _GREY_PER_HU)


def _place(random: np.random.Generator, possible: BoolArray) -> AnyArray | None:
    """One of the voxels; None where there is none."""
    found = np.flatnonzero(possible)
    return np.array(np.unravel_index(random.choice(found), possible.shape)) if len(found) else None


def _between(random: np.random.Generator, low: float, high: float) -> float:
    """Evenly over the logarithm: small ones are many."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


@dataclass(frozen=True, eq=False)
class _Site:
    """A place and the box within reach of it: offsets in mm, broadcastable to the box."""

    box: tuple[slice, ...]
    z: FloatArray
    y: FloatArray
    x: FloatArray

    @property
    def shape(self) -> tuple[int, ...]:
        return np.broadcast_shapes(self.z.shape, self.y.shape, self.x.shape)


def _site(head: Head, centre: AnyArray, reach_mm: float) -> _Site:
    box, offsets = [], []
    for axis, (at, length) in enumerate(zip(centre, head.grey.shape, strict=True)):
        step = SLICE_MM if axis == 0 else head.pixel_mm
        reach = int(np.ceil(reach_mm / step))
        span = slice(max(0, int(at) - reach), min(length, int(at) + reach + 1))
        shape = [1, 1, 1]
        shape[axis] = -1
        box.append(span)
        offsets.append(((np.arange(span.start, span.stop) - at) * step).astype(np.float32).reshape(shape))
    return _Site(tuple(box), *offsets)


def _filled(head: Head, site: _Site, field: FloatArray, edge_mm: float = 1.2) -> FloatArray:
    """A field in mm, negative inside → blood's share of every voxel of the head."""
    share = np.zeros(head.grey.shape, np.float32)
    share[site.box] = np.clip(0.5 - field / edge_mm, 0, 1) * head.inside[site.box]
    return share


def _along_the_table(
    random: np.random.Generator, head: Head, radius: float, thick: float, power: int, one_side: bool,
    within: BoolArray | None = None,
) -> FloatArray | None:  # fmt: skip
    """Between the inner table and a surface `thick` mm below it, thinner away from the middle, which lies `within`, and
    beside a gap of the skull where there is one."""
    possible = head.inside & (head.depth < 1.5 * max(1, head.pixel_mm))
    if within is not None:
        possible &= within
    if head.gap is not None:
        near = np.zeros_like(possible)
        near[_site(head, head.gap, _GAP_REACH_MM).box] = True
        possible &= near
    centre = _place(random, possible)
    if centre is None:
        return None
    site = _site(head, centre, 1.5 * radius)
    apart = np.sqrt((site.z + np.float32(random.uniform(-2, 2))) ** 2 + site.y**2 + site.x**2)
    uneven = 1 + 0.2 * _noise(random, site.shape, 18.0, head)
    field = head.depth[site.box] - thick * (1 - (apart / radius) ** power * uneven)
    if one_side:  # the falx holds it
        middle = head.grey.shape[2] / 2
        side = 1 if centre[2] > middle else -1
        beyond = np.float32(2 - side * (centre[2] - middle) * head.pixel_mm) - side * site.x
        field = np.maximum(field, beyond)
    return _filled(head, site, field)


def _back(head: Head) -> BoolArray:
    """Where sinuses lie: along the back of the skull, near the middle. Rows run from front to back."""
    rows, columns = (np.flatnonzero(head.inside.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    low = np.arange(head.grey.shape[1])[:, None] > rows[0] + 0.75 * (rows[-1] - rows[0])
    middle = (columns[0] + columns[-1]) / 2
    return np.asarray(low & (np.abs(np.arange(head.grey.shape[2]) - middle) * head.pixel_mm < 45))


def _lens(random: np.random.Generator, head: Head, ml: float | None = None) -> FloatArray | None:
    radius, flat = _between(random, 6, 38), random.uniform(0.2, 0.75)
    if ml is not None:
        radius = float(np.cbrt(2000 * ml / (np.pi * flat)))  # half of the cylinder
    return _along_the_table(random, head, radius, float(np.clip(radius * flat, 2, 28)), 2, False)


def _crescent(random: np.random.Generator, head: Head, ml: float | None = None) -> FloatArray | None:
    radius, thick = _between(random, 25, 80), _between(random, 2.5, 11)
    if ml is not None:  # two thirds of the cylinder; a small one is thin
        thick = float(min(thick, max(2.0, 2 * np.cbrt(1000 * ml) / 3)))
        radius = float(min(80.0, np.sqrt(1500 * ml / (np.pi * thick))))
    return _along_the_table(random, head, radius, thick, 4, True)


def _clot(
    random: np.random.Generator,
    head: Head,
    ml: float | None = None,
    radii: tuple[float, float] = (4, 24),
    depths: tuple[float, float] = (10, 60),
) -> FloatArray | None:
    """An ellipsoid with an irregular outline."""
    centre = _place(random, (head.depth > depths[0]) & (head.depth < depths[1]))
    if centre is None:
        return None
    radius = _between(random, *radii) if ml is None else float(np.cbrt(750 * ml / np.pi))
    site = _site(head, centre, 2 * radius + 2)
    stretch, angle = np.exp(random.uniform(-0.35, 0.35, 3)), random.uniform(0, np.pi)
    along = site.x * np.float32(np.cos(angle)) + site.y * np.float32(np.sin(angle))
    across = site.y * np.float32(np.cos(angle)) - site.x * np.float32(np.sin(angle))
    apart = np.sqrt((site.z / stretch[0]) ** 2 + (along / stretch[1]) ** 2 + (across / stretch[2]) ** 2)
    bumps = 0.18 * _noise(random, site.shape, max(6, radius), head) + 0.08 * _noise(
        random, site.shape, max(3, radius / 3), head
    )
    return _filled(head, site, np.maximum(apart - radius * (1 + bumps), 0.8 - head.depth[site.box]))


def _contusions(random: np.random.Generator, head: Head, ml: float | None = None) -> FloatArray | None:
    """One to five small clots near the brain's surface."""
    count = int(random.integers(1, 6))
    each = None if ml is None else max(_LEAST_ML, ml / count)
    found = [_clot(random, head, each, (2.5, 8), (2, 14)) for _ in range(count)]
    shares = [one for one in found if one is not None]
    return np.maximum.reduce(shares) if shares else None


def _pools(head: Head, least_mm3: float) -> tuple[AnyArray, DoubleArray]:
    """Spaces of fluid in the depth, numbered from 1, and the volume of each in mm³ by number; 0 if smaller."""
    dark = (head.smooth < _grey(17)) & (head.depth > 18)
    labels, _ = ndimage.label(np.stack([ndimage.binary_opening(one) for one in dark]))
    volumes = np.bincount(labels.ravel()).astype(np.float64) * (head.pixel_mm**2 * SLICE_MM)
    volumes[0] = 0
    volumes[volumes < least_mm3] = 0
    return labels, volumes


def _sediment(random: np.random.Generator, head: Head, ml: float | None = None) -> FloatArray | None:
    """In the lower part of a space of fluid, of a patient who lies on his back."""
    labels, volumes = _pools(head, 400)
    if not volumes.any():
        return None
    one = labels == random.choice(len(volumes), p=volumes / volumes.sum())
    rows = np.flatnonzero(one.any(axis=(0, 2)))
    level = random.uniform(rows[0] - 5, rows[-1])
    if ml is not None:
        below = np.cumsum(one.sum(axis=(0, 2))[::-1])[::-1] * (head.pixel_mm**2 * SLICE_MM)  # of each row, in mm³
        level = np.count_nonzero(below > 1000 * ml)
    below = one & (np.arange(one.shape[1])[:, None] >= level)
    sigma = 0.6 / head.pixel_mm
    return np.asarray(ndimage.gaussian_filter(below.astype(np.float32), (0.3, sigma, sigma)), np.float32)


def _film(random: np.random.Generator, head: Head, ml: float | None = None) -> FloatArray | None:
    """In what is darker than its surroundings, sulci and cisterns, around a place; not in large pools in the depth,
    which are ventricles, mostly.
    """
    centre = _place(random, (head.depth > 1) & (head.depth < 60))
    if centre is None:
        return None
    # A film fills about a tenth of the ball that it lies in.
    radius = _between(random, 10, 45) if ml is None else float(min(45.0, np.cbrt(7500 * ml / np.pi)))
    site = _site(head, centre, 1.6 * radius + 6)
    apart = np.sqrt(site.z**2 + site.y**2 + site.x**2)
    near = _filled(head, site, apart - radius * (1 + 0.2 * _noise(random, site.shape, 15.0, head)), 6.0)
    smooth, inside = head.smooth[site.box], head.inside[site.box]
    darker_hu = (_smoothed(smooth, inside, 4.5 / head.pixel_mm) - smooth) / _GREY_PER_HU
    fluid = (_grey(24) - smooth) / (6 * _GREY_PER_HU)
    labels, volumes = _pools(head, _LEAST_VENTRICLE_MM3)
    ventricle = (volumes > 0)[labels[site.box]]
    edge = ndimage.generate_binary_structure(3, 1)
    edge[[0, 2]] = False  # within the slice
    if ventricle.any():
        ventricle = ndimage.binary_dilation(ventricle, edge, iterations=max(1, round(3 / head.pixel_mm)))
    share = np.zeros(head.grey.shape, np.float32)
    share[site.box] = np.clip(np.maximum((darker_hu - 1.5) / 4, fluid), 0, 1) * (head.depth[site.box] > 1)
    share[site.box] *= ~ventricle
    return share * near


def _grey(hu: float) -> float:
    return (hu - _LOWEST_HU) * _GREY_PER_HU


_SHAPES: dict[str, Callable[[np.random.Generator, Head, float | None], FloatArray | None]] = {
    "EDH": _lens, "IPH": _clot, "contusions": _contusions, "SDH": _crescent, "IVH": _sediment, "SAH": _film,
}  # fmt: skip
