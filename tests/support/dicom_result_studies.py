"""Small CT series with known lesions, and their DICOM results."""

import itertools
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
from pydicom import Dataset

from bleedmap.arrays import AnyArray, FloatArray
from bleedmap.geometry import PlaneTurn, SliceGrid, axial_affine
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.io.dicom.capture import Capture, make_captures
from bleedmap.io.dicom.producer import Producer
from bleedmap.io.dicom.seg import LesionMeasure, make_mask_segmentation, make_probability_segmentation
from bleedmap.io.dicom.series import DicomSeries
from bleedmap.phantom.dicom import CtOptions, ct_instances
from bleedmap.phantom.dicom_enhanced import enhanced_ct
from bleedmap.results.sr import make_measurement_report
from bleedmap.volume import ProbabilityMap, Volume

SHAPE = (6, 25, 31)  # 775 pixels a slice: no multiple of eight, so that bits of two slices share a byte
SPACING_MM = (5.0, 0.5, 0.625)
LESIONS = (
    LesionMeasure("Lesion 1", 12.3456, 61.26, 0.8125, 0.9912, 41.27, 20.52, 35.0, 14.7721, 3.25, "left"),
    LesionMeasure("Lesion 2", 0.5, None, 0.6, 0.7),
)


def grid_of(kind: str) -> SliceGrid:
    """'upright', 'tilted' by 20°, 'uneven' with a slice missing, 'both', 'oblique' about two axes, or 'lone'."""
    grid = SliceGrid.from_affine(axial_affine(SPACING_MM, SHAPE), SHAPE[0])
    origins = grid.origins_mm + np.array([3.25, -7.5, 11.125])
    if kind in ("tilted", "both"):
        origins = origins + np.outer(np.arange(SHAPE[0]) * SPACING_MM[0], (0, np.tan(np.radians(20)), 0))
    if kind in ("uneven", "both"):
        origins = origins + np.outer([0, 0, 0.7, 5.7, 5.7, 6.1], (0, 0, 1))
    grid = replace(grid, origins_mm=origins)
    if kind == "oblique":
        (s, c), (t, d) = (np.sin(0.3), np.cos(0.3)), (np.sin(0.2), np.cos(0.2))
        turned = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[d, 0, t], [0, 1, 0], [-t, 0, d]])
        grid = SliceGrid(origins @ turned.T, turned @ grid.row_step_mm, turned @ grid.column_step_mm, SPACING_MM[0])
    return replace(grid, origins_mm=grid.origins_mm[:1]) if kind == "lone" else grid


GRIDS = ("upright", "tilted", "uneven", "both", "oblique", "lone")
TURNS = tuple(PlaneTurn(*flags) for flags in itertools.product((False, True), repeat=3))


def series_of(
    grid: SliceGrid, turn: PlaneTurn = TURNS[0], *, multi_frame: bool = False, seed: int = 0
) -> tuple[DicomSeries, list[Dataset]]:
    """A CT series on `grid` as reading gives it, and each slice's instance; multi-frame ones run head to feet."""
    shape = (len(grid), *SHAPE[1:])
    volume = Volume(np.random.default_rng(seed).normal(40, 15, shape).astype(np.float32), grid)
    options = CtOptions(seed=seed, reverse_numbers=True)
    if multi_frame:
        instances = [enhanced_ct(volume, turn=turn, options=options)] * len(grid)
        frames = tuple(range(len(grid), 0, -1))
    else:
        instances, frames = ct_instances(volume, turn=turn, options=options), None
    return DicomSeries(volume, turn, tuple(instances), frames, Acquisition(), (), ()), instances


def labels_of(slices: int) -> AnyArray:
    """(slice, row, column) uint8: two lesions without any symmetry, one of them at the border, some slices empty."""
    labels = np.zeros((slices, *SHAPE[1:]), np.uint8)
    labels[0, 3:9, 5:7] = 1
    labels[min(1, slices - 1), 4:12, 5:20] = 1
    labels[min(1, slices - 1), 20:22, 3] = 2  # both lesions on one slice
    labels[-1, 20:25, 29:31] = 2
    labels[-1, 24, 12:31] = 2
    return labels


def producer(seed: int = 0) -> Producer:
    """The same UIDs and moment at each call."""
    numbers = itertools.count(1)
    root, moment = f"1.2.826.0.1.3680043.8.498.{seed + 1}", datetime(2025, 1, 2, 3, 4, 5)
    return Producer("test-network", "ab" * 32, 0.5, moment, lambda: f"{root}.{next(numbers)}")


@dataclass(frozen=True)
class Results:
    """The DICOM results of one series."""

    mask: Dataset
    probability: Dataset
    report: Dataset
    captures: list[Dataset]

    def all(self) -> list[Dataset]:
        return [self.mask, self.probability, self.report, *self.captures]


def results_of(series: DicomSeries, labels: AnyArray, made_by: Producer | None = None) -> Results:
    """All kinds of results; lesions as far as `labels` has them."""
    made_by = made_by or producer()
    lesions = LESIONS[: int(labels.max())]
    mask = make_mask_segmentation(series, labels, lesions, made_by)
    probability: FloatArray = np.where(labels > 0, np.float32(0.8), np.float32(0.123))
    fractional = make_probability_segmentation(series, ProbabilityMap(probability, series.volume.grid), made_by)
    remarks = ("Slice 3 is 5.7 mm × 0.5 mm – missing…",)
    report = make_measurement_report(mask, lesions, made_by, highest_probability=0.9912, remarks=remarks)
    pictures = np.random.default_rng(1).integers(0, 256, (2, *SHAPE[1:], 3), np.uint8)
    captures = [Capture(pictures[0], 0, SPACING_MM[1:]), Capture(pictures[1], len(labels) - 1)]
    return Results(mask, fractional, report, list(make_captures(series, captures, made_by)))
