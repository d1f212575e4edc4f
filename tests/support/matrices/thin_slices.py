"""Phantoms of every type in thin slices beside the same heads at 5 mm: verdict, marks, volume, overlap, time.

Run as a script it prints the table in Markdown: `python tests/support/matrices/thin_slices.py`; with `--ct-ich FOLDER`
that of real heads, whose 5 mm slices are interpolated to thin ones with noise of their own.

Noise grows as slices get thinner, as the scanner's does: so that slabs of 5 mm have that of slices of 5 mm.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from bleedmap.arrays import BoolArray
from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.phantom.head import Bleed, BleedType, PhantomSettings, make_phantom
from bleedmap.study.read import read_study
from bleedmap.study.result import Result
from bleedmap.study.segment import Segmenter
from bleedmap.study.words import verdict
from bleedmap.volume import Volume

THICK_MM, HEAD_MM = 5.0, 150.0
SPACINGS_MM = (0.5, 0.625, 1.0, 1.25, 2.0, 3.0)
NOISE_HU = 3.5  # at 5 mm
_FAR_PIXELS = 4  # a mark that comes no nearer to any blood is false
_LARGE: dict[BleedType, float] = {"EDH": 25.0, "SDH": 40.0, "SAH": 15.0, "IPH": 25.0, "IVH": 12.0}
_SMALL: dict[BleedType, float] = {"EDH": 8.0, "SDH": 12.0, "SAH": 6.0, "IPH": 6.0, "IVH": 5.0}
HEADS: dict[str, tuple[int, tuple[Bleed, ...]]] = {"none": (101, ()), "none, another head": (102, ())}
for _volumes, _seed in ((_LARGE, 301), (_SMALL, 501)):
    for _kind, _ml in _volumes.items():
        HEADS[f"{_kind} {_ml:g} mL"] = (_seed, (Bleed(_kind, _ml, "left" if _seed == 301 else "right"),))


@dataclass(frozen=True)
class Row:
    """One head at one spacing.

    Attributes:
        head, spacing_mm: which.
        verdict: what the program says.
        true_ml, found_ml: volumes.
        dice: with the truth on the same slices; None where neither marks anything.
        lesions: marked regions.
        false_ml: marked farther than a few pixels from any blood.
        abstained: why there is no verdict.
        seconds: of segmenting, reading and writing not counted.
    """

    head: str
    spacing_mm: float
    verdict: str
    true_ml: float
    found_ml: float
    dice: float | None
    lesions: int
    false_ml: float
    abstained: tuple[str, ...]
    seconds: float


def phantom_of(head: str, spacing_mm: float, side: int = 160) -> tuple[Volume, BoolArray]:
    """A head of `HEADS` and its true mask, at a spacing, in pictures of `side` pixels."""
    seed, bleeds = HEADS[head]
    pixel_mm = 230.0 / side
    made = make_phantom(
        PhantomSettings(
            seed=seed, spacing_mm=(spacing_mm, pixel_mm, pixel_mm), shape=(round(HEAD_MM / spacing_mm), side, side),
            bleeds=bleeds, noise_hu=NOISE_HU * (THICK_MM / spacing_mm) ** 0.5,
        )
    )  # fmt: skip
    return made.volume, made.mask.array


def measure(head: str, spacing_mm: float, segmenter: Segmenter) -> Row:
    """Segment a phantom and compare it with its truth."""
    volume, truth = phantom_of(head, spacing_mm)
    begun = time.perf_counter()
    result = segmenter.segment(read_study(volume))
    return row_of(head, spacing_mm, result, truth, time.perf_counter() - begun)


def row_of(head: str, spacing_mm: float, result: Result, truth: BoolArray, seconds: float) -> Row:
    """Compare a result with the truth on its slices."""
    marked, voxel_ml = result.mask.array, result.volume.grid.voxel_ml
    across = np.ones((1, 2 * _FAR_PIXELS + 1, 2 * _FAR_PIXELS + 1), np.bool_)
    far = marked & ~ndimage.binary_dilation(truth, across)
    either = int(marked.sum()) + int(truth.sum())
    certainty = result.certainty
    assert certainty is not None
    return Row(
        head, spacing_mm, verdict(result.findings, certainty),
        *(float(one.sum(axis=(1, 2)) @ voxel_ml) for one in (truth, marked)),
        2 * int((marked & truth).sum()) / either if either else None,
        len(result.findings.lesions), float(far.sum(axis=(1, 2)) @ voxel_ml), certainty.abstained, seconds,
    )  # fmt: skip


def run_phantoms(heads: Iterable[str], spacings_mm: Iterable[float]) -> Iterator[Row]:
    """Every head at 5 mm, then at each spacing."""
    segmenter = Segmenter.load(precision="fp32")
    for head in heads:
        for spacing_mm in (THICK_MM, *spacings_mm):
            yield measure(head, spacing_mm, segmenter)


def thin_out(volume: Volume, parts: int, noise_hu: float, seed: int) -> Volume:
    """Slices of a `parts`th of the distance, interpolated between the given ones, each with noise of its own."""
    hu, grid = volume.hu, volume.grid
    places = np.arange(0, len(hu) - 1 + 1e-9, 1 / parts)
    generator = np.random.default_rng(seed)
    thin = np.empty((len(places), *hu.shape[1:]), np.float32)
    for index, place in enumerate(places):
        below = min(int(place), len(hu) - 2)
        share = np.float32(place - below)
        grain = ndimage.gaussian_filter(generator.standard_normal(hu.shape[1:], np.float32), 1.0)
        thin[index] = (1 - share) * hu[below] + share * hu[below + 1] + grain * np.float32(noise_hu / grain.std())
    step = grid.slice_step_mm / parts
    origins = grid.origins_mm[0] + np.arange(len(places))[:, None] * step
    return Volume(thin, replace(grid, origins_mm=origins, thickness_mm=grid.thickness_mm / parts))


def run_real(root: Path, patients: Iterable[int], parts: int) -> Iterator[tuple[Row, Row]]:
    """Patients of CT-ICH at 5 mm and thinned out; the truth is the radiologists' mask, in the thin ones the nearest.

    The installed network knows every one of them, and between 5 mm slices nothing was measured: so it shows only
    whether thin slices change what the program says.
    """
    from ct_ich_gate import volume_of

    data, segmenter = open_ct_ich(root), Segmenter.load(precision="fp32")
    for patient in (one for one in data.patients if one.number in set(patients)):
        thick = volume_of(data, patient)
        kept = [one for one in patient.slices if one.has_bone]
        truth = np.stack([data.read_mask(one) for one in kept]) > 0
        thin = thin_out(thick, parts, NOISE_HU * parts**0.5, patient.number)
        near = np.rint(np.arange(len(thin.hu)) / parts).astype(int)
        rows = []
        for volume, mask in ((thick, truth), (thin, truth[near])):
            begun = time.perf_counter()
            study = replace(read_study(volume), acquisition=Acquisition(modality="CT", contrast=""))
            result = segmenter.segment(study, accept=("anatomy", "field of view"))
            rows.append(
                row_of(f"{patient.number:03d}", volume.grid.spacing_mm[0], result, mask, time.perf_counter() - begun)
            )
        yield rows[0], rows[1]


def table(rows: Iterable[Row]) -> str:
    """In Markdown, a line for each row."""
    lines = ["| head | mm | verdict | true mL | found mL | Dice | regions | false mL | s |", "|" + " --- |" * 9]
    for row in rows:
        overlap = "" if row.dice is None else f"{row.dice:.3f}"
        lines.append(
            f"| {row.head} | {row.spacing_mm:g} | {row.verdict} | {row.true_ml:.1f} | {row.found_ml:.1f} | {overlap} | "
            f"{row.lesions} | {row.false_ml:.2f} | {row.seconds:.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the table that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ct-ich", type=Path)
    parser.add_argument("--patients", type=int, nargs="*", default=[])
    parser.add_argument("--parts", type=int, default=5)
    parser.add_argument("--spacings", type=float, nargs="*", default=SPACINGS_MM)
    asked = parser.parse_args()
    if asked.ct_ich is None:
        rows = run_phantoms(HEADS, asked.spacings)
    else:
        rows = (row for pair in run_real(asked.ct_ich, asked.patients, asked.parts) for row in pair)
    print(table([]))
    for row in rows:
        print(table([row]).splitlines()[-1], *row.abstained, flush=True)


if __name__ == "__main__":
    main()
