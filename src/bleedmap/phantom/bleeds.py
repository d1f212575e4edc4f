"""Compute the phantom's bleeds: one signed field a bleed (blood where it is below 0), sized to a volume."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

from bleedmap.arrays import AnyArray, FloatArray
from bleedmap.errors import SettingsError
from bleedmap.phantom import shapes
from bleedmap.phantom.anatomy import Fields, lateral_ventricles
from bleedmap.phantom.shapes import LATTICE_MM, Coordinates, inside

BleedType = Literal["EDH", "SDH", "SAH", "IPH", "IVH"]
Side = Literal["left", "right"]
TYPES: tuple[BleedType, ...] = ("EDH", "SDH", "SAH", "IPH", "IVH")
LARGEST_ML: dict[BleedType, float] = {"EDH": 150.0, "SDH": 150.0, "SAH": 25.0, "IPH": 100.0, "IVH": 20.0}
SMALLEST_ML = 1.0
LOWEST_HU, HIGHEST_HU = 45.0, 100.0  # clotted blood; below, it looks like brain
_SHIFT_MM_PER_ML = 0.09  # midline shift; about 5 mm for 55 mL
_LARGEST_SHIFT_MM = 9.0
_OTHER_SIDE_MM = 45.0  # farther inward than any lens reaches: other walls of the skull
_DEEP_SITES = ((26.0, -8.0, 2.0), (12.0, 6.0, 4.0))  # lentiform nucleus, thalamus
_LOBAR_SITES = ((30.0, -42.0, 22.0), (36.0, 14.0, 34.0), (44.0, -2.0, -20.0), (30.0, 46.0, 16.0))
_POOL_SITES = ((42.0, -4.0, 0.0), (18.0, -12.0, -18.0), (46.0, -20.0, 34.0), (44.0, 28.0, 36.0))

Level = Callable[[float], FloatArray]  # size -> signed field (z, y, x); larger sizes hold more blood


@dataclass(frozen=True)
class Bleed:
    """A bleed to put into a phantom."""

    type: BleedType  # EDH, SDH, SAH, IPH or IVH
    volume_ml: float  # its volume, in mL
    side: Side = "left"  # the patient's side
    hu: float | None = None  # mean HU of the blood; None draws 55 to 72

    def __post_init__(self) -> None:
        if self.type not in TYPES or self.side not in ("left", "right"):
            needed = f"one of {', '.join(TYPES)}, on the side 'left' or 'right'"
            raise SettingsError("bleed", f"type '{self.type}', side '{self.side}'", needed, "for example IPH, left")
        if not SMALLEST_ML <= self.volume_ml <= LARGEST_ML[self.type]:
            needed = f"{SMALLEST_ML} to {LARGEST_ML[self.type]:g} mL for {self.type}"
            raise SettingsError("bleed", f"{self.type} of {self.volume_ml} mL", needed, "give another volume")
        if self.hu is not None and not LOWEST_HU <= self.hu <= HIGHEST_HU:
            needed = f"{LOWEST_HU:g} to {HIGHEST_HU:g} HU"
            raise SettingsError("bleed", f"blood of {self.hu} HU", needed, "leave it out to draw a usual one")


@dataclass(frozen=True)
class BleedDraw:
    """What was drawn for one bleed before anything is computed: site in atlas mm, HU, and a seed for its outline."""

    site: tuple[float, float, float]
    hu: float
    outline_seed: int


def draw_bleed(bleed: Bleed, generator: np.random.Generator) -> BleedDraw:
    """Draw a bleed's site, HU and outline."""
    jitter = generator.uniform(-1, 1, 3)
    spread = (3.0, 4.0, 3.0)
    if bleed.type == "EDH":
        site, spread = (60.0, 0.0, 18.0), (0.0, 32.0, 12.0)
    elif bleed.type == "SDH":
        site, spread = (60.0, 2.0, 22.0), (0.0, 18.0, 8.0)
    elif bleed.type == "SAH":
        site = _POOL_SITES[int(generator.integers(len(_POOL_SITES)))]
    elif bleed.type == "IPH":
        sites = _LOBAR_SITES + (_DEEP_SITES if bleed.volume_ml <= 45 else ())
        site = sites[int(generator.integers(len(sites)))]
    else:
        site = (24.0, 40.0, 4.0)
    sign = 1.0 if bleed.side == "left" else -1.0
    x, y, z = (float(one + by * step) for one, by, step in zip(site, spread, jitter, strict=True))
    drawn_hu = float(generator.uniform(55, 72))
    return BleedDraw((sign * x, y, z), bleed.hu or drawn_hu, int(generator.integers(2**32)))


def midline_push_mm(at: Coordinates, bleeds: tuple[Bleed, ...], cavity: FloatArray) -> FloatArray | float:
    """Compute how far the brain gives way sideways, in mm along x: nothing at the skull, most in the middle."""
    force = sum(
        (-1 if bleed.side == "left" else 1) * _SHIFT_MM_PER_ML * bleed.volume_ml
        for bleed in bleeds if bleed.type in ("EDH", "SDH", "IPH")
    )  # fmt: skip
    peak_mm = float(np.clip(force, -_LARGEST_SHIFT_MM, _LARGEST_SHIFT_MM))
    if peak_mm == 0:
        return 0.0
    return np.asarray(peak_mm * np.clip(-cavity / 35.0, 0, 1) * np.exp(-((at.z - 8) ** 2) / 45.0**2), np.float32)


def ventricle_size(bleeds: tuple[Bleed, ...], drawn: float) -> float:
    """Make ventricles large enough for the blood asked for: a lateral ventricle of size 1 has some 9 mL."""
    asked = max((bleed.volume_ml for bleed in bleeds if bleed.type == "IVH"), default=0.0)
    return max(drawn, float(np.sqrt(asked / (0.6 * 9.0))))


def bleed_field(
    bleed: Bleed, draw: BleedDraw, head: Coordinates, brain: Coordinates, field: Fields, ventricles: float
) -> FloatArray:
    """Compute the signed field (z, y, x) of a bleed with the volume asked for, as near as the anatomy allows."""
    generator = np.random.default_rng(draw.outline_seed)
    sign = np.float32(1 if bleed.side == "left" else -1)
    if bleed.type == "EDH":
        level = _lens(head, draw, field["cavity"], generator)
    elif bleed.type == "SDH":
        level = _crescent(head, draw, field["cavity"], sign, generator)
    elif bleed.type == "IPH":
        level = _clot(brain, draw, field, generator)
    elif bleed.type == "IVH":
        level = _sediment(brain, sign, ventricles)
    else:
        level = _film(brain, draw, field, generator)
    return _fit_size(level, bleed.volume_ml)


def _lens(at: Coordinates, draw: BleedDraw, cavity: FloatArray, generator: np.random.Generator) -> Level:
    """EDH: biconvex, between the inner table and a paraboloid; stripped dura gives a short, thick lens."""
    centre, normal = _find_inner_table(at, draw.site, cavity)
    offset = [one - middle for one, middle in zip(at, centre, strict=True)]
    inward = sum(one * along for one, along in zip(offset, normal, strict=True))
    across_squared = sum(one**2 for one in offset) - inward**2 + 1e4 * (inward > _OTHER_SIDE_MM)
    uneven = 1 + 0.12 * shapes.smooth_noise(generator, 30.0)
    slimness = generator.uniform(0.34, 0.5)

    def level(size: float) -> FloatArray:
        radius = 40.0 * size
        thick = slimness * radius * (1 - across_squared / (radius**2) * uneven)
        return np.asarray(np.maximum(cavity, -cavity - np.maximum(thick, -20)), np.float32)

    return level


def _crescent(
    at: Coordinates, draw: BleedDraw, cavity: FloatArray, sign: np.float32, generator: np.random.Generator
) -> Level:
    """SDH: thin, along one convexity, ending at the midline."""
    _, y_mm, z_mm = draw.site
    uneven = 1 + 0.15 * shapes.smooth_noise(generator, 30.0)
    beyond_midline = 4.0 - sign * at.x

    def level(size: float) -> FloatArray:
        spread = float(np.clip(size, 0, 1.0)) ** 0.5
        reach = ((at.y - y_mm) / (82 * spread)) ** 2 + ((at.z - z_mm) / (58 * spread)) ** 2
        thick = 9.0 * max(size, 0.1) ** 0.5 * uneven * np.clip(1 - reach, -1, 1)
        return np.asarray(np.maximum(np.maximum(cavity, -cavity - thick), beyond_midline), np.float32)

    return level


def _clot(at: Coordinates, draw: BleedDraw, field: Fields, generator: np.random.Generator) -> Level:
    """IPH: an ellipsoid with an irregular outline, within the brain and outside the ventricles."""
    stretch = generator.uniform(0.8, 1.25, 3)
    stretch /= np.prod(stretch) ** (1 / 3)
    offset = [(one - middle) / by for one, middle, by in zip(at, draw.site, stretch, strict=True)]
    radius = np.sqrt(sum(one**2 for one in offset))
    bumps = 0.13 * shapes.smooth_noise(generator, 18.0) + 0.06 * shapes.smooth_noise(generator, 8.0)
    limits = np.maximum(np.maximum(field["cavity"] + 3.0, -field["ventricle"]), 1.5 - np.sign(draw.site[0]) * at.x)

    def level(size: float) -> FloatArray:
        radius_mm = 30.0 * size
        return np.asarray(np.maximum(radius - radius_mm * (1 + bumps), limits), np.float32)

    return level


def _sediment(at: Coordinates, sign: np.float32, ventricles: float) -> Level:
    """IVH: settles at the back of one lateral ventricle of a patient who lies on his back, with a level."""
    within = np.maximum(lateral_ventricles(at, ventricles), 0.8 - sign * at.x)
    height = -shapes.lattice().y

    def level(size: float) -> FloatArray:
        return np.asarray(np.maximum(within, height + 75.0 - 110.0 * size), np.float32)

    return level


def _film(at: Coordinates, draw: BleedDraw, field: Fields, generator: np.random.Generator) -> Level:
    """SAH: fills sulci, the Sylvian fissure and the cisterns around its site, a film 2 to 4 mm thick."""
    radius = np.sqrt(sum((one - middle) ** 2 for one, middle in zip(at, draw.site, strict=True)))
    folds = np.maximum(np.abs(field["sulcus"]), field["shallow"] - 1.5)
    sheets = np.minimum(folds, field["sylvius"]) - 1.3
    pools = np.maximum(field["cistern"], 0.7 - field["stem"])
    outside = np.maximum(-field["cerebellum"], -field["ventricle"])
    within = np.maximum(np.maximum(np.minimum(sheets, pools), field["cavity"] + 0.5), outside)
    uneven = 1 + 0.15 * shapes.smooth_noise(generator, 15.0)

    def level(size: float) -> FloatArray:
        return np.asarray(np.maximum(within, (radius * uneven - 70.0 * size) * 0.5), np.float32)

    return level


def _find_inner_table(
    at: Coordinates, towards: tuple[float, float, float], cavity: FloatArray
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Find where the ray from the origin towards a site meets the inner table, and the unit normal into the brain."""
    direction = np.asarray(towards) / np.linalg.norm(towards)
    ahead = shapes.along(at, direction)
    miss = np.sqrt(np.maximum(sum(one**2 for one in at) - ahead**2, 0))
    near = np.abs(cavity) + 0.7 * miss + 1000.0 * (ahead < 0)
    index = np.unravel_index(int(near.argmin()), near.shape)
    around = tuple(slice(int(one) - 2, int(one) + 3) for one in index)
    slope = _measure_slope(cavity[around])
    rising = np.array([slope @ _measure_slope(one[around]) for one in at])
    normal = -rising / np.linalg.norm(rising)
    x, y, z = (float(one[index]) for one in at)
    return (x, y, z), (float(normal[0]), float(normal[1]), float(normal[2]))


def _measure_slope(block: FloatArray) -> AnyArray:
    """Measure the gradient in the middle of a 5×5×5 block, per voxel along (z, y, x)."""
    return np.array(np.gradient(block))[:, 2, 2, 2]


def _fit_size(level: Level, volume_ml: float) -> FloatArray:
    """Bisect the size; the lattice's volume is checked at half its step and corrected, for thin shapes."""
    asked = volume_ml
    result = level(1.0)
    for _ in range(3):
        result = level(_bisect(level, asked))
        finer = _measure_volume_ml(_double_around(result), LATTICE_MM / 2)
        if finer == 0 or abs(finer / volume_ml - 1) < 0.005:
            break
        asked *= float(np.clip(volume_ml / finer, 0.5, 2))
    return result


def _bisect(level: Level, volume_ml: float) -> float:
    low, high = 0.01, 3.0
    for _ in range(14):
        middle = (low * high) ** 0.5
        if _measure_volume_ml(level(middle), LATTICE_MM) < volume_ml:
            low = middle
        else:
            high = middle
    return float((low * high) ** 0.5)


def _measure_volume_ml(field: FloatArray, step_mm: float) -> float:
    return float(inside(field, step_mm).sum(dtype=np.float64)) * step_mm**3 / 1000


def _double_around(field: FloatArray) -> FloatArray:
    """Resample the box around the blood on half the step."""
    spans = ndimage.find_objects((field < LATTICE_MM).astype(np.uint8))[0]
    box = field[tuple(slice(max(span.start - 2, 0), span.stop + 2) for span in spans)]
    for axis in range(3):
        box = shapes.halve_step(box, axis)
    return box
