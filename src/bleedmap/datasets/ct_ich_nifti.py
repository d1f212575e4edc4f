"""CT-ICH's NIfTI release 1.3.1 (restricted licence): `ct_scans/049.nii` in HU, `masks/049.nii`.

Slice k of the table is index k-1 of the file's own third axis, whichever way that axis runs: the authors'
code takes it so. `io.nifti` turns volumes feet to head, so slices are put back in the file's order; rows
and columns stay turned (front to back, right to left). A mask belongs to its volume voxel by voxel,
whatever its own header says, so it is turned by the volume's affine.
"""

import functools
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, ByteArray, FloatArray
from bleedmap.datasets.ct_ich_tables import SliceLabels, SliceRecord, read_labels
from bleedmap.errors import DataError
from bleedmap.io import nifti
from bleedmap.io.nifti import NiftiGrid

LABELS = "hemorrhage_diagnosis_raw_ct.csv"
DEMOGRAPHICS = "Patient_demographics.csv"
IMAGES = "ct_scans"
MASKS = "masks"

_OPEN_THREADS = 4


class NiftiRelease:
    """Files of release 1.3.1 below `root`; opening reads every mask, to know which slices it marks.

    Raises:
        DataError: a table, volume or mask is missing, or rows and slices do not fit together.
    """

    name = "1.3.1 NIfTI"
    demographics = DEMOGRAPHICS

    def __init__(self, root: Path) -> None:
        self.root = root
        by_patient = read_labels(root / LABELS)
        self._pair = functools.lru_cache(maxsize=1)(self._read_pair)  # slices are read patient by patient
        self._patient_sha256 = functools.lru_cache(maxsize=None)(self._hash_files)
        self._refuse_unlabelled_patients(set(by_patient))
        with ThreadPoolExecutor(_OPEN_THREADS) as pool:
            found = pool.map(self._list_records, by_patient, by_patient.values())
            self.records = dict(zip(by_patient, found, strict=True))

    def read_hu(self, record: SliceRecord) -> FloatArray:
        """Read (row, column) float32 HU."""
        return np.array(self._pair(record.patient)[0][record.number - 1], dtype=np.float32)

    def read_mask(self, record: SliceRecord) -> BoolArray:
        """Read (row, column) bool."""
        return np.array(self._pair(record.patient)[1][record.number - 1], dtype=np.bool_)

    def read_mask_grey(self, record: SliceRecord) -> ByteArray | None:
        """Return None: these masks are no pictures."""
        return None

    def file_sha256(self, record: SliceRecord) -> str:
        """Hash the patient's volume and mask files."""
        return self._patient_sha256(record.patient)

    def _path(self, folder: str, patient: int) -> Path:
        plain = self.root / folder / f"{patient:03d}.nii"
        packed = plain.with_suffix(".nii.gz")
        return packed if packed.is_file() and not plain.is_file() else plain

    def _refuse_unlabelled_patients(self, labelled: set[int]) -> None:
        for folder in (IMAGES, MASKS):
            for path in sorted((self.root / folder).glob("*.nii*")):
                number = path.name.split(".")[0]
                if number.isdigit() and int(number) not in labelled:
                    raise _misfit(path, f"has no row in {LABELS}")

    def _list_records(self, patient: int, rows: dict[int, SliceLabels]) -> tuple[SliceRecord, ...]:
        for folder in (IMAGES, MASKS):
            path = self._path(folder, patient)
            if not path.is_file():
                line = min(row.line for row in rows.values())
                raise _misfit(self.root / LABELS, f"line {line} (patient {patient}) needs {path}, which is missing")
        mask, _ = _read_in_file_axes(self._path(MASKS, patient))
        marked: BoolArray = np.any(mask > 0, axis=(0, 1))
        for number, row in sorted(rows.items()):
            if number > marked.size:
                where = f"line {row.line} (patient {patient}, slice {number})"
                raise _misfit(self.root / LABELS, f"{where} is past the {marked.size} slices of the mask")
        for number in sorted(set((np.flatnonzero(marked) + 1).tolist()) - set(rows)):
            raise _misfit(self._path(MASKS, patient), f"marks slice {number}, which has no row in {LABELS}")
        return tuple(
            SliceRecord(patient, number, row.types, row.fracture, bool(marked[number - 1]), has_bone=True)
            for number, row in sorted(rows.items())
        )

    def _read_pair(self, patient: int) -> tuple[FloatArray, BoolArray]:
        """Read HU and mask, both (slice in the file's order, row, column)."""
        (hu, grid), mask_path = _read_in_file_axes(self._path(IMAGES, patient)), self._path(MASKS, patient)
        mask, _ = _read_in_file_axes(mask_path)
        if mask.shape != hu.shape:
            raise _misfit(mask_path, f"a mask of {mask.shape} voxels for a volume of {hu.shape}")
        order = _find_file_order(grid, mask_path)
        return grid.inward(hu)[0][order], grid.inward(mask > 0)[0][order]

    def _hash_files(self, patient: int) -> str:
        paths = (self._path(IMAGES, patient), self._path(MASKS, patient))
        return " ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)


def _read_in_file_axes(path: Path) -> tuple[FloatArray, NiftiGrid]:
    """Read the file's array on its own three axes, and its grid."""
    volume, grid = nifti.read_volume(path)
    return grid.outward(volume.hu), grid


def _find_file_order(grid: NiftiGrid, path: Path) -> AnyArray:
    """Find the indices that bring slices from feet-to-head back into the order of the file's third axis."""
    third = np.broadcast_to(np.arange(grid.shape[2]), grid.shape)
    turned, _ = grid.inward(third)  # at each voxel, its index on the file's third axis
    if turned.shape[0] != grid.shape[2] or turned[0, 0, 0] != turned[0, -1, -1]:
        raise _misfit(path, "the third axis of its volume does not run along the body")
    return np.argsort(turned[:, 0, 0])


def _misfit(subject: Path, found: str) -> DataError:
    return DataError(
        subject,
        found=found,
        needed="a volume and a mask for every patient, and a row for every slice that bleeds",
        remedy="copy the data set again from the publisher, whole",
    )
