"""CT-ICH (Hssayeni et al., PhysioNet, doi 10.13026/w8q8-ky94), the thesis' data set, in either release."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

from bleedmap.arrays import BoolArray, ByteArray, FloatArray
from bleedmap.datasets.ct_ich_releases import JpegRelease, NiftiRelease, Release, find_kind
from bleedmap.datasets.ct_ich_tables import (
    SHORT_NAMES,
    TYPES,
    Demographics,
    Patient,
    SliceRecord,
    read_demographics,
    read_views_mm,
)
from bleedmap.errors import DataError, InputError

__all__ = ["SHORT_NAMES", "TYPES", "CtIch", "Patient", "SliceRecord", "data_root", "locate", "open_ct_ich"]

DATA_VARIABLE = "BLEEDMAP_DATA"
_HASH_THREADS = 4


class CtIch:
    """An opened data set: patients, slices, their pixels. Build it with `open_ct_ich`."""

    def __init__(self, files: Release, people: Mapping[int, Demographics]) -> None:
        self._files = files
        self.root = files.root
        self.release = files.name
        self.patients = tuple(
            Patient(number, records, people.get(number, Demographics())) for number, records in files.records.items()
        )

    @cached_property
    def slices(self) -> tuple[SliceRecord, ...]:
        """All slices, by patient, then by number."""
        return tuple(record for patient in self.patients for record in patient.slices)

    @cached_property
    def _by_id(self) -> dict[str, SliceRecord]:
        return {record.id: record for record in self.slices}

    def slice(self, name: str) -> SliceRecord:
        """Find the slice of an id such as "049/14".

        Raises:
            DataError: there is no such slice.
        """
        try:
            return self._by_id[name]
        except KeyError:
            raise DataError(
                self.root,
                found=f"no slice '{name}'",
                needed='a patient in three digits, a stroke, a slice number: "049/14"',
                remedy="list the ids with `bleedmap split`, or check the number in the diagnosis table",
            ) from None

    def read_hu(self, record: SliceRecord) -> FloatArray:
        """Read (row, column) float32 HU. The JPEG release holds -20 to 100 HU only (the brain window, clipped).

        Raises:
            InputError: the file cannot be read.
        """
        return self._files.read_hu(record)

    def read_full_hu(self, record: SliceRecord) -> FloatArray:
        """Read (row, column) float32 HU, air and bone too: beyond the brain window, from the JPEG release's bone
        window (-900 to 2300 HU in 256 greys); where that file is missing, as `read_hu`.

        Raises:
            InputError: a file cannot be read, or the bone picture is of another size.
        """
        return self._files.read_full_hu(record)

    def pixel_mm(self, patient: int, rows: int) -> tuple[float, float] | None:
        """Find the (row, column) spacing of a patient's slices of `rows` pixels a side; None where it is not known.

        The scanner's own, of the 36 patients who bleed: ct-ich.spacing.csv says from where.
        """
        view = read_views_mm().get(patient)
        return None if view is None else (view / rows, view / rows)

    def read_mask(self, record: SliceRecord) -> BoolArray:
        """Read (row, column) bool; all False where `record.has_lesion` is False.

        Raises:
            InputError: the file cannot be read, or is of another size than its slice.
        """
        return self._files.read_mask(record)

    def read_mask_grey(self, record: SliceRecord) -> ByteArray | None:
        """Read a lesion's mask as filed: (row, column) uint8 with JPEG's grey rims; None in the NIfTI release."""
        return self._files.read_mask_grey(record)

    def content_sha256(self, ids: Sequence[str] | None = None) -> str:
        """Hash the ids, labels and bytes of image and mask files of all slices or of `ids`: same data, same hash.

        Raises:
            DataError: an id that is not in the data.
        """
        wanted = self.slices if ids is None else tuple(self.slice(name) for name in set(ids))
        by_patient: dict[int, list[SliceRecord]] = {}
        for record in wanted:
            by_patient.setdefault(record.patient, []).append(record)
        with ThreadPoolExecutor(_HASH_THREADS) as pool:
            lines = [line for found in pool.map(self._describe, by_patient.values()) for line in found]
        return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()

    def _describe(self, records: Sequence[SliceRecord]) -> list[str]:
        """Write a line a slice: id, labels and its files' hashes."""
        labels = [f"{','.join(sorted(record.types))} {int(record.fracture)}" for record in records]
        return [
            f"{record.id} {label} {self._files.file_sha256(record)}\n"
            for record, label in zip(records, labels, strict=True)
        ]


def open_ct_ich(root: Path) -> CtIch:
    """Open the JPEG release 1.0.0 or the NIfTI release 1.3.1: `root` holds its tables, or exactly one folder that does.

    Raises:
        DataError: not that folder, a table is missing, or rows and files do not fit together.
    """
    folder = locate(root)
    files: Release = (find_kind(folder) or JpegRelease)(folder)
    return CtIch(files, read_demographics(folder / files.demographics))


def data_root(flag: Path | None) -> Path:
    """Find where the data set lies: the flag `--data`, else the variable BLEEDMAP_DATA.

    Raises:
        InputError: neither is given.
    """
    if flag is not None:
        return flag
    if value := os.environ.get(DATA_VARIABLE):
        return Path(value)
    raise InputError(
        "CT-ICH data set",
        found="no folder given",
        needed=f"--data FOLDER, or the variable {DATA_VARIABLE} set to it",
        remedy="fetch it first with `bleedmap data download -o ct-ich`, then `--data ct-ich`",
    )


def locate(root: Path) -> Path:
    """Find the folder that holds a release: `root`, or the only one in it.

    Raises:
        DataError: there is none, or more than one.
    """
    if find_kind(root):
        return root
    inside = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    holders = [path for path in inside if find_kind(path)]
    if len(holders) == 1:
        return holders[0]
    if holders:
        found = f"holds {len(holders)} releases: {', '.join(path.name for path in holders)}"
    elif not root.is_dir():
        found = "no such folder"
    else:
        found = "holds no CT-ICH release" if any(root.iterdir()) else "an empty folder"
    raise DataError(
        root,
        found=found,
        needed=f"the folder that holds {JpegRelease.images} and {JpegRelease.labels} "
        f"(or {NiftiRelease.images} and {NiftiRelease.labels})",
        remedy="give that folder, or fetch the data with `bleedmap data download`",
    )
