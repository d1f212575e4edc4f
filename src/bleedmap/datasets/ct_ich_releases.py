"""Read the files of CT-ICH's two releases, held against their tables."""

import functools
import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, ByteArray, FloatArray
from bleedmap.datasets.ct_ich_tables import SliceLabels, SliceRecord, read_labels
from bleedmap.errors import DataError, InputError
from bleedmap.io import nifti
from bleedmap.io.images import read_grey, read_mask
from bleedmap.io.nifti import NiftiGrid
from bleedmap.window import BRAIN, Window

_SLICE = re.compile(r"(\d+)\.jpg")
_MASK = re.compile(r"(\d+)_HGE_Seg\.jpg")
_MASKS = "masks"
_OPEN_THREADS = 4
# Of the JPEG release's bone pictures: with it, the HU of brain are those of the brain window, to 0.5 HU in the mean.
BONE_PICTURE = Window(level_hu=700, width_hu=3200)
_CLEAR_HU = (-18.0, 98.0)  # between, JPEG has moved no clipped pixel off the brain window's ends


class JpegRelease:
    """CT-ICH's open release 1.0.0: `Patients_CT/049/brain/14.jpg`, mask `14_HGE_Seg.jpg`, `bone/14.jpg`.

    Once it is opened, each row has its file and each file its row.

    Raises:
        DataError: a table is missing, or files and rows do not fit together.
    """

    name = "1.0.0 JPEG"
    labels = "hemorrhage_diagnosis.csv"
    demographics = "patient_demographics.csv"
    images = "Patients_CT"

    def __init__(self, root: Path) -> None:
        self.root = root
        self._shapes: dict[str, tuple[int, int]] = {}
        by_patient = read_labels(root / self.labels)
        self._refuse_unlabelled_patients(set(by_patient))
        self.records = {patient: self._list_records(patient, rows) for patient, rows in by_patient.items()}

    def image_path(self, record: SliceRecord) -> Path:
        """Return the path of the brain-window JPEG."""
        return self._folder(record.patient, "brain") / f"{record.number}.jpg"

    def mask_path(self, record: SliceRecord) -> Path:
        """Return the path of the mask JPEG, which exists where `record.has_lesion`."""
        return self._folder(record.patient, "brain") / f"{record.number}_HGE_Seg.jpg"

    def read_hu(self, record: SliceRecord) -> FloatArray:
        """Read (row, column) float32 HU from the brain window's grey: -20 to 100 HU, clipped."""
        grey = read_grey(self.image_path(record))
        self._shapes[record.id] = (grey.shape[0], grey.shape[1])
        return BRAIN.to_hu(grey)

    def read_full_hu(self, record: SliceRecord) -> FloatArray:
        """Read (row, column) float32 HU: beyond the brain window, what the bone window's grey says."""
        hu = self.read_hu(record)
        if not record.has_bone:
            return hu
        path = self._folder(record.patient, "bone") / f"{record.number}.jpg"
        bone = BONE_PICTURE.to_hu(read_grey(path))
        if bone.shape != hu.shape:
            raise InputError(
                path, found=f"a picture of {bone.shape[0]} rows and {bone.shape[1]} columns",
                needed=f"{hu.shape[0]} and {hu.shape[1]}, as its slice in the brain window",
                remedy="fetch it again with `bleedmap data download`",
            )  # fmt: skip
        low, high = _CLEAR_HU
        return np.where(hu > high, np.maximum(hu, bone), np.where(hu < low, np.minimum(hu, bone), hu))

    def read_mask(self, record: SliceRecord) -> BoolArray:
        """Read (row, column) bool on the slice's own grid."""
        if record.id not in self._shapes:
            self.read_hu(record)
        shape = self._shapes[record.id]
        return read_mask(self.mask_path(record), shape) if record.has_lesion else np.zeros(shape, dtype=np.bool_)

    def read_mask_grey(self, record: SliceRecord) -> ByteArray | None:
        """Read (row, column) uint8 as filed: black, white, and JPEG's greys between."""
        return read_grey(self.mask_path(record))

    def file_sha256(self, record: SliceRecord) -> str:
        """Hash the slice's image file and, where there is one, its mask file."""
        files = [self.image_path(record)] + ([self.mask_path(record)] if record.has_lesion else [])
        return " ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)

    def _folder(self, patient: int, window: str) -> Path:
        return self.root / self.images / f"{patient:03d}" / window

    def _refuse_unlabelled_patients(self, labelled: set[int]) -> None:
        for folder in sorted(self.root.glob(f"{self.images}/*/")):
            if folder.name.isdigit() and int(folder.name) not in labelled:
                raise _misfit(folder, f"has no row in {self.labels}")

    def _list_records(self, patient: int, rows: dict[int, SliceLabels]) -> tuple[SliceRecord, ...]:
        names = _list_names(self._folder(patient, "brain"))
        images, masks = _find_numbers(names, _SLICE), _find_numbers(names, _MASK)
        bones = _find_numbers(_list_names(self._folder(patient, "bone")), _SLICE)
        folder = self._folder(patient, "brain")
        for number, row in sorted(rows.items()):
            if number not in images:
                where = f"line {row.line} (patient {patient}, slice {number})"
                path = folder / f"{number}.jpg"
                raise _misfit(self.root / self.labels, f"{where} needs {path}, which is missing")
        for number in sorted(masks - images):
            raise _misfit(folder / f"{number}_HGE_Seg.jpg", f"a mask without its slice {number}.jpg")
        for number in sorted(images - set(rows)):
            raise _misfit(folder / f"{number}.jpg", f"a slice without a row in {self.labels}")
        return tuple(
            SliceRecord(patient, number, row.types, row.fracture, number in masks, number in bones)
            for number, row in sorted(rows.items())
        )


class NiftiRelease:
    """CT-ICH's release 1.3.1 (restricted licence): `ct_scans/049.nii` in HU, `masks/049.nii`.

    Opening reads every mask, to know which slices it marks. Slice k of the table is index k-1 of the file's own third
    axis, whichever way that axis runs: the authors' code takes it so. `io.nifti` turns volumes feet to head, so slices
    are put back in the file's order; rows and columns stay turned (front to back, right to left). A mask belongs to
    its volume voxel by voxel, whatever its own header says, so it is turned by the volume's affine.

    Raises:
        DataError: a table, volume or mask is missing, or rows and slices do not fit together.
    """

    name = "1.3.1 NIfTI"
    labels = "hemorrhage_diagnosis_raw_ct.csv"
    demographics = "Patient_demographics.csv"
    images = "ct_scans"

    def __init__(self, root: Path) -> None:
        self.root = root
        by_patient = read_labels(root / self.labels)
        self._pair = functools.lru_cache(maxsize=1)(self._read_pair)  # slices are read patient by patient
        self._patient_sha256 = functools.lru_cache(maxsize=None)(self._hash_files)
        self._refuse_unlabelled_patients(set(by_patient))
        with ThreadPoolExecutor(_OPEN_THREADS) as pool:
            found = pool.map(self._list_records, by_patient, by_patient.values())
            self.records = dict(zip(by_patient, found, strict=True))

    def read_hu(self, record: SliceRecord) -> FloatArray:
        """Read (row, column) float32 HU."""
        return np.array(self._pair(record.patient)[0][record.number - 1], dtype=np.float32)

    def read_full_hu(self, record: SliceRecord) -> FloatArray:
        """Read (row, column) float32 HU: these files clip nothing."""
        return self.read_hu(record)

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
        for folder in (self.images, _MASKS):
            for path in sorted((self.root / folder).glob("*.nii*")):
                number = path.name.split(".")[0]
                if number.isdigit() and int(number) not in labelled:
                    raise _misfit(path, f"has no row in {self.labels}")

    def _list_records(self, patient: int, rows: dict[int, SliceLabels]) -> tuple[SliceRecord, ...]:
        for folder in (self.images, _MASKS):
            path = self._path(folder, patient)
            if not path.is_file():
                line = min(row.line for row in rows.values())
                raise _misfit(
                    self.root / self.labels, f"line {line} (patient {patient}) needs {path}, which is missing"
                )
        mask, _ = _read_in_file_axes(self._path(_MASKS, patient))
        marked: BoolArray = np.any(mask > 0, axis=(0, 1))
        for number, row in sorted(rows.items()):
            if number > marked.size:
                where = f"line {row.line} (patient {patient}, slice {number})"
                raise _misfit(self.root / self.labels, f"{where} is past the {marked.size} slices of the mask")
        for number in sorted(set((np.flatnonzero(marked) + 1).tolist()) - set(rows)):
            raise _misfit(self._path(_MASKS, patient), f"marks slice {number}, which has no row in {self.labels}")
        return tuple(
            SliceRecord(patient, number, row.types, row.fracture, bool(marked[number - 1]), has_bone=True)
            for number, row in sorted(rows.items())
        )

    def _read_pair(self, patient: int) -> tuple[FloatArray, BoolArray]:
        """Read HU and mask, both (slice in the file's order, row, column)."""
        (hu, grid), mask_path = _read_in_file_axes(self._path(self.images, patient)), self._path(_MASKS, patient)
        mask, _ = _read_in_file_axes(mask_path)
        if mask.shape != hu.shape:
            raise _misfit(mask_path, f"a mask of {mask.shape} voxels for a volume of {hu.shape}")
        order = _find_file_order(grid, mask_path)
        return grid.inward(hu)[0][order], grid.inward(mask > 0)[0][order]

    def _hash_files(self, patient: int) -> str:
        paths = (self._path(self.images, patient), self._path(_MASKS, patient))
        return " ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)


def _list_names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _find_numbers(names: list[str], pattern: re.Pattern[str]) -> set[int]:
    return {int(match[1]) for match in map(pattern.fullmatch, names) if match}


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
        needed="a row in the table for every slice and mask, and a file for every row",
        remedy="run `bleedmap data verify`, then fetch what is missing again with `bleedmap data download`",
    )


Release = JpegRelease | NiftiRelease


def find_kind(folder: Path) -> type[Release] | None:
    """Find which release lies in a folder; None where neither does."""
    for kind in (JpegRelease, NiftiRelease):
        if (folder / kind.images).is_dir() or (folder / kind.labels).is_file():
            return kind
    return None
