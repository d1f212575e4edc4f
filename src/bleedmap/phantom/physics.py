"""Add to a phantom what the scanner adds: noise, streaks, beam hardening, the headrest."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bleedmap.arrays import AnyArray, FloatArray
from bleedmap.phantom.anatomy import HeadShape, scan_point
from bleedmap.phantom.shapes import inside

_CUPPING_MM = 4.5  # how far the bright rim under the skull reaches
_GRAIN_MM = 0.5  # standard deviation of the reconstruction kernel's blur of the noise
_PETROUS = (34.0, 16.0, -36.0)  # middle of a petrous bone, atlas mm; mirrored
_BAND_HU = -9.0  # the dark bar between the petrous bones
_HEADREST_MM = 2.0
_HEADREST_HU = 160.0


@dataclass(frozen=True)
class Streak:
    """One straight streak: through `point` (x, y, z in mm), at `angle` in the slice, over some slices."""

    point: tuple[float, float, float]
    angle: float
    width_mm: float
    height_mm: float
    hu: float


@dataclass(frozen=True)
class ScanPhysics:
    """What was drawn for the scan."""

    cupping_hu: float  # brightness of the rim under the skull, 0 for none
    streaks: tuple[Streak, ...]  # the dark bar and the fine streaks between the petrous bones
    headrest: tuple[float, float, float] | None  # centre (x, y) and radius of its arc in mm; None for none


def draw_physics(
    generator: np.random.Generator, head: HeadShape, *, hardening: bool, streaks: bool, headrest: bool
) -> ScanPhysics:
    """Draw all, then keep what was asked for, so that one switch does not change the others."""
    cupping_hu = float(generator.uniform(5, 12))
    lines = _draw_streaks(generator, head)
    radius = float(generator.uniform(115, 150))
    gap = float(generator.uniform(6, 16))
    x, y, _ = scan_point(head, (0.0, 96.0, 0.0))
    rest = (x + float(generator.uniform(-8, 8)), y + gap - radius, radius)
    return ScanPhysics(cupping_hu if hardening else 0.0, lines if streaks else (), rest if headrest else None)


def _draw_streaks(generator: np.random.Generator, head: HeadShape) -> tuple[Streak, ...]:
    left = scan_point(head, _PETROUS)
    right = scan_point(head, (-_PETROUS[0], *_PETROUS[1:]))
    level = float(np.arctan2(left[1] - right[1], left[0] - right[0]))
    middle = tuple((one + other) / 2 for one, other in zip(left, right, strict=True))
    lines = [Streak((middle[0], middle[1], middle[2]), level, 7.0, 9.0, _BAND_HU)]
    for _ in range(14):
        x, y, z = left if generator.random() < 0.5 else right
        spread = generator.normal(0, 1, 5)
        lines.append(Streak(
            (x, y + 6 * float(spread[0]), z + 6 * float(spread[1])), level + 0.3 * float(spread[2]),
            0.8 + 0.5 * abs(float(spread[3])), 5.0, 5.0 * float(spread[4]),
        ))  # fmt: skip
    return tuple(lines)


def cupping_hu(physics: ScanPhysics, cavity: FloatArray) -> FloatArray:
    """Compute HU that beam hardening adds under the inner table, which imitates a thin subdural; shaped as `cavity`."""
    return np.asarray(physics.cupping_hu * np.exp(np.minimum(cavity, 0) / _CUPPING_MM) * inside(cavity), np.float32)


def streaks_hu(physics: ScanPhysics, z_mm: float, y_mm: AnyArray, x_mm: AnyArray) -> FloatArray:
    """Compute HU (row, column) that the streaks add to a slice at height z."""
    total = np.zeros((len(y_mm), len(x_mm)), np.float32)
    for streak in physics.streaks:
        x, y, z = streak.point
        strength = streak.hu * np.exp(-0.5 * ((z_mm - z) / streak.height_mm) ** 2)
        if abs(strength) < 0.2:
            continue
        across = -np.sin(streak.angle) * (x_mm[None] - x) + np.cos(streak.angle) * (y_mm[:, None] - y)
        total += strength * np.exp(-0.5 * (across / streak.width_mm) ** 2)
    return total


def noise_hu(generator: np.random.Generator, y_mm: AnyArray, x_mm: AnyArray, deviation_hu: float) -> FloatArray:
    """Draw the noise of one slice (row, column): grainy as a soft kernel leaves it, stronger in the head's middle."""
    white = generator.standard_normal((len(y_mm), len(x_mm)), dtype=np.float32)
    blur = (_GRAIN_MM / abs(float(y_mm[1] - y_mm[0])), _GRAIN_MM / abs(float(x_mm[1] - x_mm[0])))
    grain = ndimage.gaussian_filter(white, blur, truncate=3.0)
    grain *= deviation_hu / float(grain.std())
    across = np.exp(-((x_mm / 75) ** 2))[None] * np.exp(-((y_mm / 90) ** 2))[:, None]
    return np.asarray(grain * (0.75 + 0.4 * across), np.float32)


def headrest_share(physics: ScanPhysics, y_mm: AnyArray, x_mm: AnyArray) -> FloatArray:
    """Compute how much of each pixel the headrest's arc fills, (row, column)."""
    if physics.headrest is None:
        return np.zeros((len(y_mm), len(x_mm)), np.float32)
    x, y, radius = physics.headrest
    pixel_mm = abs(float(y_mm[1] - y_mm[0]))
    away = np.abs(np.hypot(x_mm[None] - x, y_mm[:, None] - y) - radius) - _HEADREST_MM / 2
    behind = y_mm[:, None] - y - 0.45 * radius
    return np.asarray(inside(away, pixel_mm) * inside(-behind, 4.0), np.float32)


def add_headrest(hu: FloatArray, share: FloatArray) -> None:
    """Put the headrest into the air of a slice (row, column), in place."""
    in_air = hu < -500
    hu[in_air] += (share * (_HEADREST_HU - hu))[in_air]
