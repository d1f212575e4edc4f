"""Compute the phantom's head as fields in mm (see `phantom.shapes`): skull, brain, ventricles, cisterns, face.

Measures are those of an adult head in normal anatomy atlases, rounded; they make a phantom, not a norm.
Origin: midline between the thalami. Shapes given at x > 0 are mirrored to both sides.
"""

from dataclasses import dataclass

import numpy as np

from bleedmap.arrays import DoubleArray, FloatArray
from bleedmap.phantom import shapes
from bleedmap.phantom.shapes import Coordinates, ellipsoid

Fields = dict[str, FloatArray]

# Lateral ventricle, right half of the picture: frontal horn, body, atrium, occipital horn; then the temporal horn.
_VENTRICLE_BODY = [
    ((12.0, -34.0, 3.0), 2.5), ((7.5, -20.0, 8.0), 4.2), ((8.5, 0.0, 17.0), 4.6), ((15.0, 20.0, 15.0), 5.2),
    ((24.0, 33.0, 5.0), 6.0), ((22.0, 55.0, 1.0), 2.2),
]  # fmt: skip
_TEMPORAL_HORN = [((24.0, 33.0, 5.0), 5.0), ((31.0, 18.0, -13.0), 2.6), ((30.0, -5.0, -24.0), 1.6)]


@dataclass(frozen=True)
class HeadShape:
    """What differs from head to head; every value is drawn once, before anything is computed."""

    angles_deg: tuple[float, float, float]  # rotation about (x, y, z): nod, tilt, turn
    scale: tuple[float, float, float]  # size along (x, y, z), 1 for the atlas
    shift_mm: tuple[float, float, float]  # the head's origin in the scan, (x, y, z)
    bone_mm: float  # thickness of the vault
    gap_mm: float  # CSF between skull and brain
    sulcus_mm: float  # half the width of an open sulcus
    ventricles: float  # size of the ventricles, 1 for the atlas
    fat_mm: float  # thickness of the scalp's fat
    calcified: bool  # whether pineal gland and choroid plexus hold lime

    @property
    def turn_and_scale(self) -> DoubleArray:
        """(3, 3) from atlas to scan, without the shift."""
        return np.asarray(shapes.rotation(self.angles_deg) @ np.diag(self.scale), np.float64)


def draw_head(generator: np.random.Generator) -> HeadShape:
    """Draw the head of an adult, young (tight sulci) to old (wide ones)."""
    age = generator.uniform(0, 1)

    def triple(spread: tuple[float, float, float], middle: tuple[float, float, float]) -> tuple[float, float, float]:
        x, y, z = (float(m + s * generator.uniform(-1, 1)) for m, s in zip(middle, spread, strict=True))
        return x, y, z

    return HeadShape(
        angles_deg=triple((6.0, 4.0, 8.0), (0.0, 0.0, 0.0)),
        scale=triple((0.05, 0.05, 0.04), (1.0, 1.0, 1.0)),
        shift_mm=triple((3.0, 4.0, 4.0), (0.0, 2.0, -17.0)),
        bone_mm=float(generator.uniform(4.5, 7.0)),
        gap_mm=float(0.8 + 2.0 * age + generator.uniform(0, 0.5)),
        sulcus_mm=float(0.35 + 0.75 * age),
        ventricles=float(0.75 + 0.65 * age + generator.uniform(-0.1, 0.15)),
        fat_mm=float(generator.uniform(1.5, 4.0)),
        calcified=bool(generator.random() < 0.6),
    )


def head_coordinates(head: HeadShape) -> Coordinates:
    """Turn scan coordinates into the head's own, in atlas mm; each (z, y, x)."""
    to_head = np.linalg.inv(head.turn_and_scale)
    x, y, z = (one - np.float32(shift) for one, shift in zip(shapes.lattice(), head.shift_mm, strict=True))
    return Coordinates(*(shapes.along(Coordinates(x, y, z), row) for row in to_head))


def scan_point(head: HeadShape, point: shapes.Point) -> shapes.Point:
    """Return where a point of the atlas lies in the scan, (x, y, z) in mm."""
    x, y, z = (float(one) for one in head.turn_and_scale @ np.asarray(point) + np.asarray(head.shift_mm))
    return x, y, z


def brain_coordinates(at: Coordinates, generator: np.random.Generator, push_mm: FloatArray | float) -> Coordinates:
    """Warp the head's coordinates a little for the brain and shift them sideways by `push_mm` (midline shift)."""
    x, y, z = (spread * shapes.smooth_noise(generator, 45.0) for spread in (1.2, 2.0, 2.0))
    return Coordinates(np.asarray(at.x + x - push_mm, np.float32), at.y + y, at.z + z)


def skull_fields(at: Coordinates, head: HeadShape, generator: np.random.Generator) -> Fields:
    """Compute signed distances of skull, scalp and face; `thickness` of the bone in mm; `fascia`, a texture."""
    grain = shapes.smooth_noise(generator, 25.0)
    cavity = _cavity(at) + 0.8 * shapes.smooth_noise(generator, 30.0)
    base = shapes.inside(at.z + 16, 12.0) * shapes.inside(np.abs(at.x) - 50, 12.0) * shapes.inside(at.y, 20.0)
    thickness = head.bone_mm * (1 + 0.12 * grain + 0.1 * np.clip(at.y / 80, -1, 1)) * (1 - 0.5 * base)
    skin = _skin(at, cavity - thickness, head)
    muscle = shapes.union(
        cavity - thickness - 2.0,
        ellipsoid(at.mirror(), (66.0, -12.0, -12.0), (11.0, 32.0, 42.0)),  # temporalis
        skin + 9.0 + 2.0 * grain,
    )
    return {
        "cavity": cavity, "thickness": thickness, "skin": skin,
        "fascia": shapes.smooth_noise(generator, 9.0), "muscle": muscle, **_face(at, generator),
    }  # fmt: skip


def _cavity(at: Coordinates) -> FloatArray:
    """Signed distance to the inner table: the vault above the floor of the three fossae."""
    height = np.where(at.z > 0, at.z / 71, at.z / 115)
    width = at.x / (66.5 * (1 + 0.09 * np.clip(at.y / 84, -1.3, 1.0)))
    radius = (np.abs(width) ** 2.3 + np.abs(at.y / 83) ** 2.3 + np.abs(height) ** 2.3) ** (1 / 2.3)
    vault = (radius - 1) * 68
    below_floor = _floor_mm(at.mirror()) - at.z
    height_mm = -shapes.smooth_union(-vault.astype(np.float32), -below_floor, 8.0)
    near_mm = shapes.true_distance(height_mm)  # too small high above the steep ridges
    above_base = height_mm + (near_mm - height_mm) * np.exp(-((near_mm / 8.0) ** 2))
    canal = shapes.capsule(at, (0.0, 32.0, -54.0), (0.0, 33.0, -130.0), (14.0, 11.0))
    return shapes.smooth_union(above_base, canal, 5.0)


def _floor_mm(at: Coordinates) -> FloatArray:
    """Height of the skull base under each point: the fossae, the sella, the petrous ridge."""

    def pit(x_mm: float, y_mm: float, across_mm: float, along_mm: float) -> FloatArray:
        radius = np.sqrt(((at.x - x_mm) / across_mm) ** 2 + ((at.y - y_mm) / along_mm) ** 2)
        share = np.clip((1.15 - radius) / 0.45, 0, 1)
        return np.asarray(share * share * (3 - 2 * share), np.float32)

    floor = -25 + 5 * pit(30, -58, 24, 30)
    floor = floor - 18 * pit(36, -9, 27, 29) - 34 * pit(0, 50, 62, 42) - 7 * pit(0, -9, 9, 7)
    share = np.clip(((at.x - 12) * 46 + (at.y - 9) * 17) / (46**2 + 17**2), 0, 1)
    from_ridge = np.hypot(at.x - 12 - share * 46, at.y - 9 - share * 17)
    ridge = -22 - 1.1 * np.maximum(from_ridge - 2, 0)
    return np.asarray(np.maximum(floor, ridge), np.float32)


def _skin(at: Coordinates, skull: FloatArray, head: HeadShape) -> FloatArray:
    """Signed distance to the skin: scalp over the skull, face, neck, nose and ears."""
    both = at.mirror()
    ear = ellipsoid(Coordinates(both.x - 0.35 * at.y, at.y, at.z), (75.0, 16.0, -34.0), (3.0, 12.0, 24.0))
    nose = shapes.capsule(at, (0.0, -92.0, -24.0), (0.0, -106.0, -58.0), (6.0, 12.0))
    face = ellipsoid(at, (0.0, -22.0, -62.0), (69.0, 78.0, 90.0))
    neck = shapes.capsule(at, (0.0, 18.0, -50.0), (0.0, 24.0, -150.0), (64.0, 58.0))
    covered = skull - (4.0 + head.fat_mm)
    lower = shapes.smooth_union(face, neck, 10.0)
    return shapes.union(shapes.smooth_union(covered, lower, 12.0), ear, nose)


def _face(at: Coordinates, generator: np.random.Generator) -> Fields:
    """Sinuses, orbits and the bone around them; mastoid cells; the ear canal."""
    both = at.mirror()
    lumps = shapes.smooth_noise(generator, 8.0)
    maxillary = ellipsoid(both, (29.0, -62.0, -63.0), (14.0, 16.0, 18.0))
    nasal = ellipsoid(at, (0.0, -58.0, -50.0), (13.0, 34.0, 24.0))
    sphenoid = ellipsoid(at, (0.0, -18.0, -40.0), (12.0, 12.0, 8.0))
    frontal = ellipsoid(both, (11.0, -86.0, -14.0), (13.0, 6.0, 16.0))
    orbit = shapes.capsule(both, (33.0, -86.0, -36.0), (18.0, -42.0, -33.0), (19.0, 5.0))
    canal = shapes.capsule(both, (86.0, 14.0, -42.0), (52.0, 12.0, -42.0), (3.5, 2.5))
    cells = np.maximum(
        ellipsoid(both, (54.0, 24.0, -40.0), (13.0, 15.0, 17.0)), 3.0 * shapes.smooth_noise(generator, 5.0) + 1.5
    )
    air = shapes.union(maxillary, nasal, sphenoid + lumps, frontal + lumps, canal)
    walls = np.minimum(shapes.union(maxillary, nasal, sphenoid) - 2.5, np.minimum(orbit, frontal) - 3.0)
    petrous = shapes.capsule(both, (14.0, 9.0, -36.0), (60.0, 24.0, -40.0), (6.0, 14.0)) + 1.5 * lumps
    cheek = shapes.capsule(both, (48.0, -70.0, -54.0), (66.0, -20.0, -50.0), (7.0, 3.0))
    jaw = shapes.capsule(both, (50.0, -2.0, -48.0), (48.0, -14.0, -110.0), (6.0, 9.0))
    septa = np.abs(at.x - 7.0 * np.round(at.x / 7.0)) - 0.5  # thin walls between the ethmoid cells
    clivus = shapes.capsule(at, (0.0, -8.0, -40.0), (0.0, 16.0, -66.0), (9.0, 7.0))
    return {
        "air": np.maximum(air, -np.where(nasal < 0, septa, 9.0)).astype(np.float32), "cells": cells,
        "facebone": shapes.union(walls, petrous, cheek, jaw, clivus), "orbit": orbit,
        "eye": ellipsoid(both, (34.0, -82.0, -36.0), (12.0, 12.0, 12.0)),
        "nerve": shapes.union(
            shapes.capsule(both, (32.0, -71.0, -36.0), (18.0, -42.0, -33.0), (2.0, 1.8)),
            np.abs(orbit + 3.5) - 1.3,  # the straight muscles, just inside the orbit's wall
        ),
    }  # fmt: skip


def brain_fields(
    at: Coordinates, cavity: FloatArray, head: HeadShape, ventricles: float, generator: np.random.Generator
) -> Fields:
    """Compute what lies inside the skull, in the warped brain coordinates.

    Returns:
        Signed distances (mm), but for `sulcus`, `midline` and `tent`, which are signed offsets from a sheet, and
        `texture` (standard deviations).
    """
    both = at.mirror()
    depth_mm = -cavity
    folds = shapes.true_distance(shapes.smooth_noise(generator, 10.0))
    reach = 15.0 + 4.0 * shapes.smooth_noise(generator, 30.0)
    texture = shapes.smooth_noise(generator, 7.0)
    wiggle = 0.35 * np.clip(folds, -5, 5)
    sylvius = _sylvian(Coordinates(both.x + wiggle, at.y - wiggle, at.z))
    tent = at.z - (-5.0 - 0.36 * both.x - 0.08 * (at.y - 30.0))
    tent_front = 17.0 + 0.12 * both.x - at.y
    stem = _brainstem(at)
    ring_mm = 1.5 + 2.0 * shapes.inside(-26 - at.z, 8.0)
    cerebellum = np.maximum(np.maximum(tent + 1.0, tent_front), ring_mm - stem)
    callosum = ellipsoid(Coordinates(0 * at.x, at.y, at.z), (0.0, 2.0, 4.0), (9.0, 40.0, 23.0))
    return {
        "brain": cavity + head.gap_mm, "sulcus": folds, "shallow": depth_mm - reach,
        "midline": at.x, "callosum": callosum, "falx": cavity + 26.0 + 0.12 * at.y,
        "sylvius": sylvius, "cistern": _cisterns(at) + 1.2 * texture, "stem": stem,
        "tent": tent, "tent_front": tent_front,
        "cerebellum": cerebellum, "ventricle": _ventricles(at, ventricles),
        "nuclei": np.minimum(_nuclei(both), sylvius - 3.2),
        "sinus": _venous_sinuses(at, cavity, tent), "lime": _lime(at, head), "texture": texture,
    }  # fmt: skip


def lateral_ventricles(at: Coordinates, size: float) -> FloatArray:
    """Signed distance to both lateral ventricles; `size` widens them, and leaves the septum between."""
    flat = Coordinates(np.abs(at.x), at.y, at.z)
    body = shapes.rod_chain(flat, [(point, radius * size) for point, radius in _VENTRICLE_BODY], 3.0)
    horn = shapes.rod_chain(flat, [(point, radius * size) for point, radius in _TEMPORAL_HORN], 3.0)
    return np.asarray(np.maximum(shapes.smooth_union(body, horn, 3.0), 0.8 - flat.x), np.float32)


def _ventricles(at: Coordinates, size: float) -> FloatArray:
    third = ellipsoid(at, (0.0, -1.0, -4.0), (1.9 * size, 14.0, 10.0))
    fourth = ellipsoid(at, (0.0, 33.0, -38.0), (8.0 * size, 4.5 * size, 10.0))
    return shapes.union(lateral_ventricles(at, size), third, fourth)


def _brainstem(at: Coordinates) -> FloatArray:
    midbrain = ellipsoid(at, (0.0, 10.0, -17.0), (15.0, 11.5, 14.0))
    pons = ellipsoid(at, (0.0, 14.0, -36.0), (16.0, 12.0, 14.0))
    return shapes.smooth_union(
        shapes.smooth_union(midbrain, pons, 6.0),
        shapes.capsule(at, (0.0, 22.0, -46.0), (0.0, 33.0, -120.0), (8.0, 6.0)), 6.0,
    )  # fmt: skip


def _cisterns(at: Coordinates) -> FloatArray:
    """The subarachnoid pools around the brainstem; the stem itself is painted into them."""
    both = at.mirror()
    star = shapes.capsule(both, (0.0, -12.0, -23.0), (22.0, -17.0, -19.0), (8.0, 2.0))
    ambient = ellipsoid(at, (0.0, 13.0, -15.0), (16.5, 13.0, 10.0))
    roof = ellipsoid(at, (0.0, 26.0, -9.0), (10.0, 5.0, 6.0))
    front = ellipsoid(at, (0.0, 6.0, -38.0), (16.0, 9.0, 18.0))
    magna = ellipsoid(at, (0.0, 62.0, -54.0), (14.0, 9.0, 9.0))
    return shapes.union(shapes.smooth_union(star, ambient, 4.0), roof, front, magna)


def _sylvian(both: Coordinates) -> FloatArray:
    """Distance to the Sylvian fissure's sheet: over the insula, and out to the surface."""
    insula = np.maximum(np.abs(both.x - 40.0 - 0.004 * (both.y + 2) ** 2), np.maximum(
        np.abs(both.y + 4.0) - 20.0, np.abs(both.z - 2.0) - 13.0))  # fmt: skip
    tilted = (both.y + 14.0 - 0.9 * both.z) / 1.35
    outward = np.maximum(np.abs(tilted), np.maximum(39.0 - both.x, np.abs(both.z - 2.0) - 17.0))
    return np.asarray(np.minimum(insula, outward), np.float32)


def _nuclei(both: Coordinates) -> FloatArray:
    """Thalamus, lentiform nucleus, head of the caudate."""
    return shapes.union(
        ellipsoid(both, (11.5, 5.0, 2.0), (8.5, 15.0, 10.0)),
        ellipsoid(both, (25.0, -9.0, 0.0), (6.5, 16.0, 11.0)),
        ellipsoid(both, (14.0, -22.0, 7.0), (4.5, 9.0, 9.0)),
    )


def _venous_sinuses(at: Coordinates, cavity: FloatArray, tent: FloatArray) -> FloatArray:
    """The sagittal sinus (a wedge under the vault) and the transverse sinuses along the tent's rim."""
    sagittal = np.maximum((np.abs(at.x) - cavity - 5.5) / 1.4, -at.y - 0.8 * at.z)
    transverse = np.maximum(np.hypot(tent, cavity + 2.0) - 3.5, 25.0 - at.y)
    return np.asarray(np.minimum(sagittal, transverse), np.float32)


def _lime(at: Coordinates, head: HeadShape) -> FloatArray:
    if not head.calcified:
        return np.full(shapes.LATTICE_SHAPE, 50.0, np.float32)
    pineal = ellipsoid(at, (0.0, 25.0, 0.0), (2.0, 2.5, 2.5))
    return shapes.union(pineal, ellipsoid(at.mirror(), (24.0, 36.0, 6.0), (2.0, 3.5, 3.0)))
