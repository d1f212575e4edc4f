"""Heads moved by known motions, aligned again: how far skull and brain end from their true places.

`python tests/support/matrices/alignments.py` prints the table of phantoms in Markdown; with `--ct-ich FOLDER` that of
real heads, each moved and scanned again, and of pairs of different patients, which must not pass for one.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from bleedmap.arrays import DoubleArray
from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.geometry import SliceGrid
from bleedmap.phantom.head import Bleed, PhantomSettings
from bleedmap.phantom.scan import ScanGeometry, scan
from bleedmap.registration import SAME_HEAD, Alignment, align, sample
from bleedmap.volume import Volume

PLAIN = ScanGeometry(slices=30, shape=(160, 160), pixel_mm=(1.5, 1.5))
LOW, HIGH = (tuple(float(one) for one in np.arange(start, start + 95, 5)) for start in (-72, -22))
# Name -> how the second scan lies, the head's turn about x, y and z in degrees, its shift in mm.
MOTIONS: dict[str, tuple[ScanGeometry, tuple[float, float, float], tuple[float, float, float]]] = {
    "none": (PLAIN, (0, 0, 0), (0, 0, 0)),
    "20° nod, 30 mm": (PLAIN, (20, 0, 0), (0, 0, 30)),
    "20° sideways, 30 mm": (PLAIN, (0, 20, 0), (30, 0, 0)),
    "20° turn, 30 mm": (PLAIN, (0, 0, -20), (0, -30, 0)),
    "20° about an oblique axis, 30 mm": (PLAIN, (-12, 11, 11), (17, -17, 17)),
    "10°, slices of 1 mm": (replace(PLAIN, slices=150, spacing_mm=1.0), (6, -6, 6), (10, 5, -15)),
    "10°, slices of 7 mm": (replace(PLAIN, slices=22, spacing_mm=7.0), (6, 6, -6), (10, 5, -15)),
    "10°, gantry tilted by 20°": (replace(PLAIN, tilt_deg=20), (-6, 6, 6), (10, 5, -15)),
    "10°, field of view of 180 mm": (replace(PLAIN, shape=(200, 200), pixel_mm=(0.9, 0.9)), (6, -6, -6), (5, 5, 5)),
    "10°, no vertex": (replace(PLAIN, positions_mm=LOW), (6, 6, 6), (10, 5, -15)),
    "10°, no base": (replace(PLAIN, positions_mm=HIGH), (6, 6, 6), (10, 5, -15)),
    "10°, sagittal slices of 2 mm": (
        replace(PLAIN, slices=90, spacing_mm=2.0, shape=(170, 220), pixel_mm=(1.0, 1.0), turn_deg=(0, 90, 0)),
        (6, 6, 6), (10, 5, -15),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One pair: what was done, how far places end from where they are (mean, largest; None for two heads)."""

    name: str
    skull_mm: tuple[float, float] | None
    brain_mm: tuple[float, float] | None
    found: Alignment
    seconds: float


def move(volume: Volume, turn_deg: tuple[float, float, float], shift_mm: tuple[float, float, float]) -> Volume:
    """The same slices of a head that lies elsewhere: each place p is now at `move_places(p)`."""
    grid = volume.grid
    origins = move_places(grid.origins_mm, turn_deg, shift_mm)
    turned = Rotation.from_euler("xyz", turn_deg, degrees=True)
    return Volume(
        volume.hu, replace(grid, origins_mm=origins, row_step_mm=turned.apply(grid.row_step_mm),
                           column_step_mm=turned.apply(grid.column_step_mm)),
    )  # fmt: skip


def move_places(
    places_mm: DoubleArray, turn_deg: tuple[float, float, float], shift_mm: tuple[float, float, float]
) -> DoubleArray:
    """Turn about the origin, then shift."""
    return Rotation.from_euler("xyz", turn_deg, degrees=True).apply(places_mm) + np.array(shift_mm)


def scan_moved(
    settings: PhantomSettings, geometry: ScanGeometry, turn_deg: tuple[float, float, float],
    shift_mm: tuple[float, float, float],
) -> Volume:  # fmt: skip
    """A phantom whose head has moved before the scan: slices lie level while the head is turned."""
    back = Rotation.from_euler("xyz", turn_deg, degrees=True).inv() * Rotation.from_euler(
        "xyz", geometry.turn_deg, degrees=True
    )
    level = replace(geometry, turn_deg=tuple(back.as_euler("xyz", degrees=True).tolist()))
    return move(scan(settings, level).volume, turn_deg, shift_mm)


def measure(name: str, first: Volume, second: Volume, turn: tuple[float, float, float] | None = None,
            shift: tuple[float, float, float] = (0, 0, 0)) -> Row:  # fmt: skip
    """Align; with a known motion, say how far the skull and the brain (60 mm around its middle) are off."""
    begun = time.process_time()
    found = align(first, second)
    seconds = time.process_time() - begun
    if turn is None:
        return Row(name, None, None, found, seconds)
    bone = first.grid.to_mm(np.argwhere(first.hu > 400)[::50])
    ball = np.random.default_rng(0).normal(size=(500, 3))
    brain = np.median(bone, axis=0) + 60 * ball / np.linalg.norm(ball, axis=1, keepdims=True)
    off = [
        np.linalg.norm(found.to_second(one) - move_places(one, turn, shift), axis=1) for one in (bone, brain)
    ]  # fmt: skip
    return Row(name, *((float(one.mean()), float(one.max())) for one in off), found, seconds)


def run_phantoms(names: tuple[str, ...] = tuple(MOTIONS)) -> Iterator[Row]:
    """A head with a bleed of 20 mL, and the same with 45 mL after each motion, with noise of its own."""
    settings = PhantomSettings(seed=13, bleeds=(Bleed("IPH", 20.0),))
    first = scan(settings, PLAIN).volume
    grown = replace(settings, bleeds=(Bleed("IPH", 45.0),))
    for name in names:
        geometry, turn, shift = MOTIONS[name]
        yield measure(name, first, scan_moved(grown, geometry, turn, shift), turn, shift)


def scan_again(volume: Volume, seed: int) -> tuple[Volume, tuple[float, float, float], tuple[float, float, float]]:
    """A real head after a random motion (to 20°, 30 mm) in new slices, with noise and a painted bleed of 30 mL."""
    generator = np.random.default_rng(seed)
    axis = generator.normal(size=3)
    turned = Rotation.from_rotvec(generator.uniform(0, 20) * axis / np.linalg.norm(axis), degrees=True)
    way = generator.normal(size=3)
    shift = generator.uniform(0, 30) * way / np.linalg.norm(way)
    between_mm = float(generator.choice([3.0, 5.0, 6.0]))
    hu = volume.hu.copy()
    middle = np.array(hu.shape) / 2 + generator.uniform(-0.06, 0.06, 3) * hu.shape
    rows = [
        (np.arange(count) - at) * step for count, at, step in zip(hu.shape, middle, volume.grid.spacing_mm, strict=True)
    ]
    z, y, x = np.meshgrid(*rows, indexing="ij", sparse=True)
    blood = (z**2 + y**2 + x**2 < 19.3**2) & (hu > 0) & (hu < 80)
    hu[blood] = 65
    count = int(volume.grid.heights_mm[-1] / between_mm) + 1
    side, pixel_mm = 256, 0.9
    centre = turned.apply(volume.grid.to_mm((np.array(hu.shape) - 1) / 2)) + shift + generator.uniform(-5, 5, 3)
    corner = centre - np.array([(side - 1) / 2 * pixel_mm, (side - 1) / 2 * pixel_mm, (count - 1) / 2 * between_mm])
    heights = np.arange(count)[:, None] * np.array([0, 0, between_mm])
    grid = SliceGrid(corner + heights, np.array([0, pixel_mm, 0]), np.array([pixel_mm, 0, 0]), between_mm)
    index = np.stack(np.meshgrid(*map(np.arange, (count, side, side)), indexing="ij"), axis=-1)
    seen, _ = sample(Volume(hu, volume.grid), turned.inv().apply((grid.to_mm(index) - shift).reshape(-1, 3)))
    noisy = seen.reshape(count, side, side) + generator.normal(0, 5, (count, side, side))
    angles = turned.as_euler("xyz", degrees=True)
    return Volume(np.float32(noisy), grid), tuple(angles.tolist()), tuple(shift.tolist())


def run_real(root: Path, every: int) -> Iterator[tuple[Row, Row]]:
    """Every so many patients of CT-ICH: moved and scanned again; and beside the next patient."""
    from ct_ich_gate import volume_of

    data = open_ct_ich(root)
    chosen = data.patients[::every]
    before = volume_of(data, chosen[-1])
    for patient in chosen:
        volume = volume_of(data, patient)
        again, turn, shift = scan_again(volume, patient.number)
        yield (
            measure(f"{patient.number:03d}", volume, again, turn, shift),
            measure(f"{patient.number:03d} and another", volume, before),
        )
        before = volume


def line_of(row: Row) -> str:
    """A row of the table."""
    places = ["–" if one is None else f"{one[0]:.2f}, {one[1]:.2f}" for one in (row.skull_mm, row.brain_mm)]
    found = row.found
    values = *places, f"{found.skull_overlap:.3f}", f"{found.correlation:.3f}", f"{found.common:.2f}"
    return f"| {' | '.join([row.name, *values, f'{row.seconds:.1f}'])} |"


def main() -> None:
    """Print the table, and for real heads the limits of what one head and two give."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ct-ich", type=Path, metavar="FOLDER")
    parser.add_argument("--every", type=int, default=2, metavar="N", help="every so many patients")
    asked = parser.parse_args()
    print("| motion | skull, mm: mean, largest | brain, mm: mean, largest | overlap | correlation | common | s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    if asked.ct_ich is None:
        for row in run_phantoms():
            print(line_of(row), flush=True)
        return
    pairs = []
    for pair in run_real(asked.ct_ich, asked.every):
        pairs.append(pair)
        print("\n".join(map(line_of, pair)), flush=True)
    same, other = ([one[side] for one in pairs] for side in (0, 1))
    fit = [f"{sum(one.found.fits for one in rows)} of {len(rows)}" for rows in (same, other)]
    print(f"\nCorrelation from {SAME_HEAD:g}: {fit[0]} pairs of one head fit, {fit[1]} pairs of two.")
    for name, rows in (("one head", same), ("two heads", other)):
        for what in ("skull_overlap", "correlation"):
            print(
                name,
                what,
                np.round(np.quantile([getattr(one.found, what) for one in rows], [0, 0.05, 0.5, 0.95, 1]), 3),
            )
    for where in ("skull_mm", "brain_mm"):
        print(where, np.round(np.quantile([getattr(one, where)[0] for one in same], [0.5, 0.9, 1]), 2))


if __name__ == "__main__":
    main()
