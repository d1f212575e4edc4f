"""Where blood collects in a head, and what shapes it takes there: lenses and crescents along the inner table, clots in
the brain, contusions near its surface, sediment in a ventricle, films in sulci and cisterns.

Each shape is blood's share of every voxel, (slice, row, column), drawn at random, of `ml` millilitres or of any size;
None where the head has no place for it. Lengths are mm in a frame of known size, else by a guess.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bleedmap.arrays import AnyArray, BoolArray, ByteArray, DoubleArray, FloatArray
from bleedmap.window import BRAIN

VIEW_MM, SLICE_MM = 216.0, 5.0  # side of the frame around a study's head, a guess; between slices
GREY_PER_HU = 255 / BRAIN.width_hu
LOWEST_HU = BRAIN.level_hu - BRAIN.width_hu / 2
_AIR, BONE_GREY = 20, 235  # grey; fat and air below, bone and its blurred edge above
_LEAST_BRAIN_MM2 = 1500.0  # of a slice: below, base or vertex
_LEAST_RIM = 0.85  # of the brain's outline that must lie along bone, else the base is open
_LEAST_VENTRICLE_MM3 = 3000.0  # cisterns are smaller pools
RESIDUAL = 18  # grey: noise of the picture, not an edge
LEAST_ML = 0.03  # of a bleed
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


def find_head(slices: ByteArray, bones: ByteArray | None = None, view_mm: float = VIEW_MM) -> Head:
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
        grey, inside, depth, _smooth(np.minimum(grey, 200), inside, 1.2 / pixel_mm),
        np.clip(np.where(inside, grey - _smooth(grey, inside, 0.75 / pixel_mm), 0), -RESIDUAL, RESIDUAL), pixel_mm,
        bones,
    )  # fmt: skip


def find_inside_skull(one: ByteArray, pixel_mm: float) -> BoolArray:
    """(row, column) bool: the largest tissue with bone on all four sides; nothing where the skull is open, as at the
    base."""
    nothing = np.zeros(one.shape, np.bool_)
    bone, around = one >= BONE_GREY, np.ones(one.shape, np.bool_)
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


def _smooth(grey: FloatArray, inside: BoolArray, sigma: float) -> FloatArray:
    """Mean of the pixels inside, weighted by a Gaussian of `sigma` pixels in the slice."""
    sigmas = (0, sigma, sigma)
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigmas)
    total = ndimage.gaussian_filter(np.where(inside, grey, np.float32(0)), sigmas)
    return np.asarray(total / np.maximum(weight, 1e-3), np.float32)


def draw_noise(random: np.random.Generator, shape: tuple[int, ...], grain_mm: float, head: Head) -> FloatArray:
    """Structures of about `grain_mm`; mean 0, standard deviation 1."""
    sigma = grain_mm / 2
    white = random.standard_normal(shape, np.float32)
    smooth = ndimage.gaussian_filter(white, (sigma / SLICE_MM, sigma / head.pixel_mm, sigma / head.pixel_mm))
    return np.asarray((smooth - smooth.mean()) / max(float(smooth.std()), 1e-6), np.float32)


def box_around(found: BoolArray, reach: int, slices: int = 0) -> tuple[slice, ...]:
    """The box around what is found, `reach` pixels wider in the slice, and by some slices."""
    box = ndimage.find_objects(found.astype(np.uint8))[0]
    wider = (slices, reach, reach)
    return tuple(slice(max(0, one.start - by), one.stop + by) for one, by in zip(box, wider, strict=True))


def choose_place(random: np.random.Generator, possible: BoolArray) -> AnyArray | None:
    """One of the voxels; None where there is none."""
    found = np.flatnonzero(possible)
    return np.array(np.unravel_index(random.choice(found), possible.shape)) if len(found) else None


def draw_between(random: np.random.Generator, low: float, high: float) -> float:
    """Evenly over the logarithm: small ones are many."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


@dataclass(frozen=True, eq=False)
class Site:
    """A place and the box within reach of it: offsets in mm, broadcastable to the box."""

    box: tuple[slice, ...]
    z: FloatArray
    y: FloatArray
    x: FloatArray

    @property
    def shape(self) -> tuple[int, ...]:
        return np.broadcast_shapes(self.z.shape, self.y.shape, self.x.shape)


def find_site(head: Head, centre: AnyArray, reach_mm: float) -> Site:
    """The box within `reach_mm` of a voxel."""
    box, offsets = [], []
    for axis, (at, length) in enumerate(zip(centre, head.grey.shape, strict=True)):
        step = SLICE_MM if axis == 0 else head.pixel_mm
        reach = int(np.ceil(reach_mm / step))
        span = slice(max(0, int(at) - reach), min(length, int(at) + reach + 1))
        shape = [1, 1, 1]
        shape[axis] = -1
        box.append(span)
        offsets.append(((np.arange(span.start, span.stop) - at) * step).astype(np.float32).reshape(shape))
    return Site(tuple(box), *offsets)


def _fill(head: Head, site: Site, field: FloatArray, edge_mm: float = 1.2) -> FloatArray:
    """A field in mm, negative inside → blood's share of every voxel of the head."""
    share = np.zeros(head.grey.shape, np.float32)
    share[site.box] = np.clip(0.5 - field / edge_mm, 0, 1) * head.inside[site.box]
    return share


def draw_along_table(
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
        near[find_site(head, head.gap, _GAP_REACH_MM).box] = True
        possible &= near
    centre = choose_place(random, possible)
    if centre is None:
        return None
    site = find_site(head, centre, 1.5 * radius)
    apart = np.sqrt((site.z + np.float32(random.uniform(-2, 2))) ** 2 + site.y**2 + site.x**2)
    uneven = 1 + 0.2 * draw_noise(random, site.shape, 18.0, head)
    field = head.depth[site.box] - thick * (1 - (apart / radius) ** power * uneven)
    if one_side:  # the falx holds it
        middle = head.grey.shape[2] / 2
        side = 1 if centre[2] > middle else -1
        beyond = np.float32(2 - side * (centre[2] - middle) * head.pixel_mm) - side * site.x
        field = np.maximum(field, beyond)
    return _fill(head, site, field)


def find_back(head: Head) -> BoolArray:
    """Where sinuses lie: along the back of the skull, near the middle. Rows run from front to back."""
    rows, columns = (np.flatnonzero(head.inside.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    low = np.arange(head.grey.shape[1])[:, None] > rows[0] + 0.75 * (rows[-1] - rows[0])
    middle = (columns[0] + columns[-1]) / 2
    return np.asarray(low & (np.abs(np.arange(head.grey.shape[2]) - middle) * head.pixel_mm < 45))


def draw_lens(random: np.random.Generator, head: Head, ml: float | None = None) -> FloatArray | None:
    """An epidural bleed: a lens on the inner table."""
    radius, flat = draw_between(random, 6, 38), random.uniform(0.2, 0.75)
    if ml is not None:
        radius = float(np.cbrt(2000 * ml / (np.pi * flat)))  # half of the cylinder
    return draw_along_table(random, head, radius, float(np.clip(radius * flat, 2, 28)), 2, False)


def draw_crescent(random: np.random.Generator, head: Head, ml: float | None = None) -> FloatArray | None:
    """A subdural bleed: a crescent along the inner table, on one side of the falx."""
    radius, thick = draw_between(random, 25, 80), draw_between(random, 2.5, 11)
    if ml is not None:  # two thirds of the cylinder; a small one is thin
        thick = float(min(thick, max(2.0, 2 * np.cbrt(1000 * ml) / 3)))
        radius = float(min(80.0, np.sqrt(1500 * ml / (np.pi * thick))))
    return draw_along_table(random, head, radius, thick, 4, True)


def draw_clot(
    random: np.random.Generator,
    head: Head,
    ml: float | None = None,
    radii: tuple[float, float] = (4, 24),
    depths: tuple[float, float] = (10, 60),
) -> FloatArray | None:
    """An ellipsoid with an irregular outline."""
    centre = choose_place(random, (head.depth > depths[0]) & (head.depth < depths[1]))
    if centre is None:
        return None
    radius = draw_between(random, *radii) if ml is None else float(np.cbrt(750 * ml / np.pi))
    site = find_site(head, centre, 2 * radius + 2)
    stretch, angle = np.exp(random.uniform(-0.35, 0.35, 3)), random.uniform(0, np.pi)
    along = site.x * np.float32(np.cos(angle)) + site.y * np.float32(np.sin(angle))
    across = site.y * np.float32(np.cos(angle)) - site.x * np.float32(np.sin(angle))
    apart = np.sqrt((site.z / stretch[0]) ** 2 + (along / stretch[1]) ** 2 + (across / stretch[2]) ** 2)
    bumps = 0.18 * draw_noise(random, site.shape, max(6, radius), head) + 0.08 * draw_noise(
        random, site.shape, max(3, radius / 3), head
    )
    return _fill(head, site, np.maximum(apart - radius * (1 + bumps), 0.8 - head.depth[site.box]))


def draw_contusions(random: np.random.Generator, head: Head, ml: float | None = None) -> FloatArray | None:
    """One to five small clots near the brain's surface."""
    count = int(random.integers(1, 6))
    each = None if ml is None else max(LEAST_ML, ml / count)
    found = [draw_clot(random, head, each, (2.5, 8), (2, 14)) for _ in range(count)]
    shares = [one for one in found if one is not None]
    return np.maximum.reduce(shares) if shares else None


def _find_pools(head: Head, least_mm3: float) -> tuple[AnyArray, DoubleArray]:
    """Spaces of fluid in the depth, numbered from 1, and the volume of each in mm³ by number; 0 if smaller."""
    dark = (head.smooth < to_grey(17)) & (head.depth > 18)
    labels, _ = ndimage.label(np.stack([ndimage.binary_opening(one) for one in dark]))
    volumes = np.bincount(labels.ravel()).astype(np.float64) * (head.pixel_mm**2 * SLICE_MM)
    volumes[0] = 0
    volumes[volumes < least_mm3] = 0
    return labels, volumes


def draw_sediment(random: np.random.Generator, head: Head, ml: float | None = None) -> FloatArray | None:
    """In the lower part of a space of fluid, of a patient who lies on his back."""
    labels, volumes = _find_pools(head, 400)
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


def draw_film(random: np.random.Generator, head: Head, ml: float | None = None) -> FloatArray | None:
    """In what is darker than its surroundings, sulci and cisterns, around a place; not in large pools in the depth,
    which are ventricles, mostly.
    """
    centre = choose_place(random, (head.depth > 1) & (head.depth < 60))
    if centre is None:
        return None
    # A film fills about a tenth of the ball that it lies in.
    radius = draw_between(random, 10, 45) if ml is None else float(min(45.0, np.cbrt(7500 * ml / np.pi)))
    site = find_site(head, centre, 1.6 * radius + 6)
    apart = np.sqrt(site.z**2 + site.y**2 + site.x**2)
    near = _fill(head, site, apart - radius * (1 + 0.2 * draw_noise(random, site.shape, 15.0, head)), 6.0)
    smooth, inside = head.smooth[site.box], head.inside[site.box]
    darker_hu = (_smooth(smooth, inside, 4.5 / head.pixel_mm) - smooth) / GREY_PER_HU
    fluid = (to_grey(24) - smooth) / (6 * GREY_PER_HU)
    labels, volumes = _find_pools(head, _LEAST_VENTRICLE_MM3)
    ventricle = (volumes > 0)[labels[site.box]]
    edge = ndimage.generate_binary_structure(3, 1)
    edge[[0, 2]] = False  # within the slice
    if ventricle.any():
        ventricle = ndimage.binary_dilation(ventricle, edge, iterations=max(1, round(3 / head.pixel_mm)))
    share = np.zeros(head.grey.shape, np.float32)
    share[site.box] = np.clip(np.maximum((darker_hu - 1.5) / 4, fluid), 0, 1) * (head.depth[site.box] > 1)
    share[site.box] *= ~ventricle
    return share * near


def to_grey(hu: float) -> float:
    """0 to 255 over the brain window, not clipped."""
    return (hu - LOWEST_HU) * GREY_PER_HU


SHAPES: dict[str, Callable[[np.random.Generator, Head, float | None], FloatArray | None]] = {
    "EDH": draw_lens, "IPH": draw_clot, "contusions": draw_contusions, "SDH": draw_crescent, "IVH": draw_sediment,
    "SAH": draw_film,
}  # fmt: skip
