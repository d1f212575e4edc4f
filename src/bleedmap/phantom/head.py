"""Make a synthetic head CT in HU with bleeds of known volume: for demonstrations, tests and pre-training.

A phantom, not a patient: its anatomy is a few dozen smooth shapes. Everything random is drawn first, from the
seed, in mm; the scan's grid only samples it, so that one seed is one head at every spacing.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, sparse

from bleedmap.arrays import AnyArray, ByteArray, FloatArray
from bleedmap.errors import SettingsError
from bleedmap.geometry import SliceGrid, axial_affine
from bleedmap.phantom import anatomy
from bleedmap.phantom import bleeds as phantom_bleeds
from bleedmap.phantom import physics as phantom_physics
from bleedmap.phantom import shapes as phantom_shapes
from bleedmap.phantom import tissue as phantom_tissue
from bleedmap.phantom.bleeds import TYPES, Bleed, BleedDraw, BleedType
from bleedmap.phantom.physics import ScanPhysics
from bleedmap.phantom.shapes import LATTICE_MM, Weights, cubic_weights, halve_step, inside, resample
from bleedmap.postprocess import label_lesions
from bleedmap.volume import Mask, Volume

__all__ = ["TYPES", "Bleed", "BleedType", "Phantom", "PhantomSettings", "TrueBleed", "make_phantom", "random_settings"]

_PLANE_MM = LATTICE_MM / 2  # tissues are mixed on this grid in the slice, then sampled at the scan's pixels
_Y_MM = np.arange(phantom_shapes.Y_MM[0], phantom_shapes.Y_MM[-1] + 0.5, _PLANE_MM)
_X_MM = np.arange(phantom_shapes.X_MM[0], phantom_shapes.X_MM[-1] + 0.5, _PLANE_MM)
_LAYER_MM = 1.7  # a slice is the mean of layers this far apart: partial volume
SCANNER_KERNEL_MM = 0.4  # half of the contrast at 4.0 line pairs a cm, as soft-tissue kernels have it; at 0.6: 2.8
_BLOOD_EDGE_MM = 1.6
_OEDEMA_MM, _OEDEMA_HU = 5.0, 21.0
_SMALLEST_VIEW_MM = (200.0, 170.0)  # rows, columns: the head must fit


@dataclass(frozen=True)
class PhantomSettings:
    """One phantom: the same settings give the same voxels."""

    seed: int = 0  # of the head, the bleeds' places and the noise
    spacing_mm: tuple[float, float, float] = (5.0, 0.45, 0.45)  # (slice, row, column)
    shape: tuple[int, int, int] = (28, 512, 512)  # (slices, rows, columns)
    bleeds: tuple[Bleed, ...] = ()  # what bleeds, how much, on which side
    noise_hu: float = 3.5  # standard deviation of the noise in the brain
    streaks: bool = True  # dark bands and streaks between the petrous bones
    beam_hardening: bool = True  # the bright rim under the skull
    headrest: bool = True  # the holder's arc behind the head
    kernel_mm: float = 0.6  # standard deviation of the kernel's blur; this one is the committed networks' training's

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise _refusal("seed", f"{self.seed}", "a whole number from 0", "--seed 1")
        if not all(0.2 <= one <= 10 for one in self.spacing_mm):
            raise _refusal("spacing", f"{self.spacing_mm} mm", "0.2 to 10 mm along each axis", "--spacing 5 0.45 0.45")
        if self.shape[0] < 1 or min(self.shape[1:]) < 32 or max(self.shape) > 1024:
            needed = "1 to 1024 slices, of 32 to 1024 rows and columns"
            raise _refusal("shape", f"{self.shape}", needed, "--shape 28 512 512")
        view = [count * step for count, step in zip(self.shape[1:], self.spacing_mm[1:], strict=True)]
        if view[0] < _SMALLEST_VIEW_MM[0] or view[1] < _SMALLEST_VIEW_MM[1]:
            raise _refusal(
                "field of view", f"{view[0]:.0f} × {view[1]:.0f} mm (rows × columns)",
                "at least 200 × 170 mm, so that the head fits", "more rows and columns, or a larger spacing",
            )  # fmt: skip
        if not 0 <= self.kernel_mm <= 3:
            raise _refusal("kernel", f"a blur of {self.kernel_mm} mm", "0 to 3 mm", "0.4")
        if not 0 <= self.noise_hu <= 50:
            raise _refusal("noise", f"{self.noise_hu} HU", "0 to 50 HU", "3.5")


def _refusal(subject: str, found: str, needed: str, example: str) -> SettingsError:
    return SettingsError(f"phantom {subject}", found=found, needed=needed, remedy=f"for example {example}")


@dataclass(frozen=True)
class TrueBleed:
    """A bleed as it lies in the phantom: what was asked for, and its mask's volume."""

    asked: Bleed
    hu: float
    true_volume_ml: float


@dataclass(frozen=True, eq=False)
class Phantom:
    """A phantom and its truth."""

    volume: Volume  # the CT, in HU
    mask: Mask  # every bleed's voxels
    labels: ByteArray  # (slice, row, column) uint8; 0, or 1 + the index of the bleed's type in TYPES
    bleeds: tuple[TrueBleed, ...]  # in the order asked for

    def share_out(self, found: Mask) -> dict[BleedType | None, float]:
        """Share a found mask out among the true bleeds: mL of each type, and with None what touches no blood.

        A marked region that touches blood, at a corner too, is found; each of its voxels goes to the nearest bleed.
        """
        regions = label_lesions(found.array)
        touched = np.unique(regions[ndimage.binary_dilation(self.mask.array, np.ones((3, 3, 3), np.bool_))])
        of_blood = np.isin(regions, touched[touched > 0])
        by_number = np.zeros(regions.shape, np.uint8)
        if of_blood.any():
            near = ndimage.distance_transform_edt(
                self.labels == 0, found.grid.spacing_mm, return_distances=False, return_indices=True
            )
            by_number[of_blood] = self.labels[tuple(near)][of_blood]
        ml = [float((by_number == number).sum(axis=(1, 2)) @ found.grid.voxel_ml) for number in range(len(TYPES) + 1)]
        told: dict[BleedType | None, float] = {
            one.asked.type: ml[1 + TYPES.index(one.asked.type)] for one in self.bleeds
        }
        return told | {None: max(0.0, found.volume_ml - sum(ml[1:]))}


@dataclass(frozen=True, eq=False)
class _Head:
    """All fields on the lattice, stacked (field, z, y, x); the bleeds' come last."""

    shape: anatomy.HeadShape
    names: tuple[str, ...]
    fields: FloatArray
    bleeds: tuple[Bleed, ...]
    draws: tuple[BleedDraw, ...]


def make_phantom(settings: PhantomSettings) -> Phantom:
    """Draw the head, its bleeds and the scan from the seed; then compute them on the settings' grid."""
    streams = [np.random.default_rng([settings.seed, number]) for number in range(5)]
    shape = anatomy.draw_head(streams[0])
    draws = tuple(phantom_bleeds.draw_bleed(one, streams[1]) for one in settings.bleeds)
    physics = phantom_physics.draw_physics(
        streams[2], shape, hardening=settings.beam_hardening, streaks=settings.streaks, headrest=settings.headrest
    )
    head = _build_head(shape, settings.bleeds, draws, streams[3])
    grid = SliceGrid.from_affine(axial_affine(settings.spacing_mm, settings.shape), settings.shape[0])
    hu, shares = _scan(head, physics, settings, streams[4])
    labels, bleeds = _find_truth(head, shares, float(grid.voxel_ml[0]))
    return Phantom(Volume(hu, grid), Mask(labels > 0, grid), labels, bleeds)


def _build_head(
    shape: anatomy.HeadShape, bleeds: tuple[Bleed, ...], draws: tuple[BleedDraw, ...], generator: np.random.Generator
) -> _Head:
    at = anatomy.head_coordinates(shape)
    found = anatomy.skull_fields(at, shape, generator)
    push_mm = phantom_bleeds.midline_push_mm(at, bleeds, found["cavity"])
    brain_at = anatomy.brain_coordinates(at, generator, push_mm)
    ventricles = phantom_bleeds.ventricle_size(bleeds, shape.ventricles)
    found |= anatomy.brain_fields(brain_at, found["cavity"], shape, ventricles, generator)
    names = tuple(found)
    stack = np.empty((len(names) + len(bleeds), *phantom_shapes.LATTICE_SHAPE), np.float32)
    for index, name in enumerate(names):
        stack[index] = found[name]
    for index, (bleed, draw) in enumerate(zip(bleeds, draws, strict=True), len(names)):
        stack[index] = phantom_bleeds.bleed_field(bleed, draw, at, brain_at, found, ventricles)
    return _Head(shape, names, stack, bleeds, draws)


def _scan(
    head: _Head, physics: ScanPhysics, settings: PhantomSettings, generator: np.random.Generator
) -> tuple[FloatArray, ByteArray]:
    """Scan HU (slice, row, column), and each bleed's share of each voxel (bleed, slice, row, column), 255 for all."""
    centres = [(np.arange(count) - (count - 1) / 2) * step
               for count, step in zip(settings.shape, settings.spacing_mm, strict=True)]  # fmt: skip
    rows, columns = (
        _weigh_pixels(centre, step, plane)
        for centre, step, plane in zip(centres[1:], settings.spacing_mm[1:], (_Y_MM, _X_MM), strict=True)
    )
    hu = np.empty(settings.shape, np.float32)
    shares = np.zeros((len(head.bleeds), *settings.shape), np.uint8)
    rest = phantom_physics.headrest_share(physics, centres[1], centres[2])
    for index, (plane, blood) in enumerate(_compute_planes(head, physics, centres[0], settings)):
        hu[index] = resample(plane, rows, columns)
        for bleed in np.flatnonzero(blood.any(axis=(1, 2))):
            shares[bleed, index] = np.clip(resample(blood[bleed], rows, columns) * 255 + 0.5, 0, 255)
        phantom_physics.add_headrest(hu[index], rest)
        if settings.noise_hu:
            hu[index] += phantom_physics.noise_hu(generator, centres[1], centres[2], settings.noise_hu)
    return np.maximum(hu, -1024, out=hu), shares


def _compute_planes(
    head: _Head, physics: ScanPhysics, heights_mm: AnyArray, settings: PhantomSettings
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Compute HU (y, x) and blood shares (bleed, y, x) of each slice on the 1 mm plane, averaged over its layers."""
    slice_mm = settings.spacing_mm[0]
    layers = max(1, round(slice_mm / _LAYER_MM))
    within_mm = ((np.arange(layers) + 0.5) / layers - 0.5) * slice_mm
    for height in heights_mm:
        sampled = _compute_layers(head.fields, height + within_mm)
        here = dict(zip(head.names, sampled, strict=False))
        hu = phantom_tissue.healthy_head(here, head.shape.sulcus_mm)
        blood = sampled[len(head.names) :]
        for bleed, draw, level in zip(head.bleeds, head.draws, blood, strict=True):
            _paint_blood(hu, bleed, draw, level, here)
        hu += phantom_physics.cupping_hu(physics, here["cavity"])
        streaks = phantom_physics.streaks_hu(physics, float(height), _Y_MM, _X_MM)
        seen = ndimage.gaussian_filter(hu.mean(axis=0), settings.kernel_mm / _PLANE_MM)
        yield seen + streaks * inside(here["skin"].mean(axis=0)), inside(blood).mean(axis=1)


def _compute_layers(fields: FloatArray, heights_mm: AnyArray) -> FloatArray:
    """Resample (field, z, y, x) on the lattice to (field, layer, y, x) at some heights, on the 1 mm plane."""
    weights = cubic_weights(heights_mm, phantom_shapes.Z_MM).toarray()
    layers = np.zeros((len(fields), len(weights), *fields.shape[2:]), np.float32)
    for layer, z in zip(*np.nonzero(weights), strict=True):
        layers[:, layer] += weights[layer, z] * fields[:, z]
    finer = np.empty((*layers.shape[:2], len(_Y_MM), len(_X_MM)), np.float32)
    for field, new in zip(layers, finer, strict=True):  # one by one: each fits the processor's cache
        new[:] = halve_step(halve_step(field, 1), 2)
    return finer


def _paint_blood(hu: FloatArray, bleed: Bleed, draw: BleedDraw, level: FloatArray, here: anatomy.Fields) -> None:
    if bleed.type == "IPH":
        brain = inside(here["cavity"] + 3.0) * inside(-here["ventricle"])
        phantom_tissue.paint(hu, 0.8 * inside(level - _OEDEMA_MM, 5.0) * brain, _OEDEMA_HU)
    phantom_tissue.paint(hu, inside(level, _BLOOD_EDGE_MM), draw.hu + 1.5 * here["texture"])


def _weigh_pixels(centres_mm: AnyArray, step_mm: float, plane_mm: AnyArray) -> Weights:
    """Compute (pixels, plane) weights: cubic, averaged over each pixel's width."""
    parts = max(1, round(step_mm / 0.6))
    within_mm = ((np.arange(parts) + 0.5) / parts - 0.5) * step_mm
    weights = cubic_weights((centres_mm[:, None] + within_mm).ravel(), plane_mm).toarray()
    return sparse.csr_array(weights.reshape(len(centres_mm), parts, -1).mean(axis=1))


def _find_truth(head: _Head, shares: ByteArray, voxel_ml: float) -> tuple[ByteArray, tuple[TrueBleed, ...]]:
    """Find the voxels richest in each bleed's blood, as many as it fills; a voxel belongs to one bleed only."""
    labels = np.zeros(shares.shape[1:], np.uint8)
    bleeds = []
    for bleed, draw, share in zip(head.bleeds, head.draws, shares, strict=True):
        mine = (share >= _find_threshold(share)) & (labels == 0)
        labels[mine] = 1 + TYPES.index(bleed.type)
        bleeds.append(TrueBleed(bleed, draw.hu, float(mine.sum()) * voxel_ml))
    return labels, tuple(bleeds)


def _find_threshold(share: ByteArray) -> int:
    """Find the share (of 255) from which on voxels are blood, so that their number equals the sum of all shares."""
    counts = np.bincount(share[share > 0], minlength=256)
    filled = float((counts * np.arange(256)).sum()) / 255
    above = np.cumsum(counts[::-1])[::-1]  # voxels with at least this share
    return int(1 + np.abs(above[1:] - filled).argmin())


def random_settings(
    seed: int,
    spacing_mm: tuple[float, float, float] = (5.0, 0.45, 0.45),
    shape: tuple[int, int, int] = (28, 512, 512),
    bleeding_share: float = 0.6,
) -> PhantomSettings:
    """Draw a plausible scan: with probability `bleeding_share` one to three bleeds, small ones most often."""
    generator = np.random.default_rng([seed, 99])
    count = int(generator.choice([1, 2, 3], p=[0.65, 0.25, 0.1])) if generator.random() < bleeding_share else 0
    kinds = generator.choice(len(TYPES), size=count, replace=False)
    bleeds = []
    for kind in kinds:
        largest = min(phantom_bleeds.LARGEST_ML[TYPES[kind]] * 0.8, 70.0)
        volume_ml = float(np.exp(generator.uniform(np.log(1.0), np.log(largest))))
        bleeds.append(Bleed(TYPES[kind], volume_ml, "left" if generator.random() < 0.5 else "right"))
    return PhantomSettings(
        seed=seed, spacing_mm=spacing_mm, shape=shape, bleeds=tuple(bleeds),
        noise_hu=float(generator.uniform(2.0, 5.0)), headrest=bool(generator.random() < 0.8),
    )  # fmt: skip
