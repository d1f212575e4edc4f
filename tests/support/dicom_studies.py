"""Small CT studies on disk: a volume whose every voxel tells its place, written as DICOM and changed at will."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
from pydicom import Dataset
from pydicom.uid import generate_uid

from bleedmap.geometry import SliceGrid, axial_affine
from bleedmap.io.dicom.read import read_series, scan
from bleedmap.io.dicom.series import DicomSeries
from bleedmap.phantom.dicom import CtOptions, ct_instances
from bleedmap.volume import Volume

SHAPE = (12, 40, 48)
SPACING_MM = (5.0, 0.6, 0.5)


def even_grid(slices: int = SHAPE[0], spacing: tuple[float, float, float] = SPACING_MM) -> SliceGrid:
    """An axial grid."""
    return SliceGrid.from_affine(axial_affine(spacing, (slices, *SHAPE[1:])), slices)


def volume_on(grid: SliceGrid, shape: tuple[int, int] = SHAPE[1:], seed: int = 0) -> Volume:
    """Whole HU from -1000 to 2000, each voxel its own."""
    hu = np.random.default_rng(seed).integers(-1000, 2000, (len(grid), *shape))
    return Volume(hu.astype(np.float32), grid)


def series(volume: Volume | None = None, **options: object) -> list[Dataset]:
    """A CT series of `volume`, or of the even one."""
    return ct_instances(volume or volume_on(even_grid()), options=replace(CtOptions(), **options))


def write(folder: Path, instances: Iterable[Dataset]) -> Path:
    """Write instances under names that say nothing of their order."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in instances:
        one.save_as(folder / f"{generate_uid()}", enforce_file_format=True)
    return folder


def read(path: Path, **choice: object) -> DicomSeries:
    """The whole way from a path."""
    return read_series(scan(path), **choice)


def assert_same(found: DicomSeries, expected: Volume) -> None:
    """HU equal to the bit, every voxel within a micrometre of its place."""
    np.testing.assert_array_equal(found.volume.hu, expected.hu)
    corners = np.array([[0, 0, 0], [len(expected.grid) - 1, *(side - 1 for side in expected.hu.shape[1:])]])
    np.testing.assert_allclose(found.volume.grid.origins_mm, expected.grid.origins_mm, atol=1e-3)
    np.testing.assert_allclose(found.volume.grid.to_mm(corners), expected.grid.to_mm(corners), atol=1e-3)
    np.testing.assert_allclose(found.volume.grid.voxel_ml, expected.grid.voxel_ml, rtol=1e-4)


def write_scan(folder: Path, volume: Volume, when: tuple[str, str], patient: str) -> Path:
    """A study of that patient, scanned at that date and time."""
    instances = series(volume, seed=crc32(f"{folder} {when} {patient}".encode()))
    for one in instances:
        one.PatientID = patient
        one.StudyDate = one.AcquisitionDate = one.ContentDate = when[0]
        one.StudyTime = one.AcquisitionTime = one.ContentTime = when[1]
    return write(folder, instances)
