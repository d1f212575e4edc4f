"""CT-ICH's open JPEG release 1.0.0: `Patients_CT/049/brain/14.jpg`, mask `14_HGE_Seg.jpg`, `bone/14.jpg`."""

import hashlib
import re
from pathlib import Path

import numpy as np

from bleedmap.arrays import BoolArray, ByteArray, FloatArray
from bleedmap.datasets.ct_ich_tables import SliceLabels, SliceRecord, read_labels
from bleedmap.errors import DataError
from bleedmap.io.images import read_grey, read_mask
from bleedmap.window import BRAIN

LABELS = "hemorrhage_diagnosis.csv"
DEMOGRAPHICS = "patient_demographics.csv"
IMAGES = "Patients_CT"

_SLICE = re.compile(r"(\d+)\.jpg")
_MASK = re.compile(r"(\d+)_HGE_Seg\.jpg")


class JpegRelease:
    """Files of release 1.0.0 below `root`; once opened, each row has its file and each file its row.

    Raises:
        DataError: a table is missing, or files and rows do not fit together.
    """

    name = "1.0.0 JPEG"
    demographics = DEMOGRAPHICS

    def __init__(self, root: Path) -> None:
        self.root = root
        self._shapes: dict[str, tuple[int, int]] = {}
        by_patient = read_labels(root / LABELS)
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
        return self.root / IMAGES / f"{patient:03d}" / window

    def _refuse_unlabelled_patients(self, labelled: set[int]) -> None:
        for folder in sorted(self.root.glob(f"{IMAGES}/*/")):
            if folder.name.isdigit() and int(folder.name) not in labelled:
                raise _misfit(folder, f"has no row in {LABELS}")

    def _list_records(self, patient: int, rows: dict[int, SliceLabels]) -> tuple[SliceRecord, ...]:
        names = _list_names(self._folder(patient, "brain"))
        images, masks = _find_numbers(names, _SLICE), _find_numbers(names, _MASK)
        bones = _find_numbers(_list_names(self._folder(patient, "bone")), _SLICE)
        folder = self._folder(patient, "brain")
        for number, row in sorted(rows.items()):
            if number not in images:
                where = f"line {row.line} (patient {patient}, slice {number})"
                path = folder / f"{number}.jpg"
                raise _misfit(self.root / LABELS, f"{where} needs {path}, which is missing")
        for number in sorted(masks - images):
            raise _misfit(folder / f"{number}_HGE_Seg.jpg", f"a mask without its slice {number}.jpg")
        for number in sorted(images - set(rows)):
            raise _misfit(folder / f"{number}.jpg", f"a slice without a row in {LABELS}")
        return tuple(
            SliceRecord(patient, number, row.types, row.fracture, number in masks, number in bones)
            for number, row in sorted(rows.items())
        )


def _list_names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _find_numbers(names: list[str], pattern: re.Pattern[str]) -> set[int]:
    return {int(match[1]) for match in map(pattern.fullmatch, names) if match}


def _misfit(subject: Path, found: str) -> DataError:
    return DataError(
        subject,
        found=found,
        needed="a row for every slice, a slice for every row and mask",
        remedy="run `bleedmap data verify`, then `bleedmap data download` to fetch what is missing",
    )
