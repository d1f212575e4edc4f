"""Read CT-ICH's two tables: the labels of each slice, and the patients' demographics."""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from math import nan
from pathlib import Path
from typing import Literal

from bleedmap.errors import DataError, usable

Sex = Literal["male", "female"]

# Most frequent first, counted in lesion slices of release 1.0.0.
TYPES = ("epidural", "intraparenchymal", "subdural", "intraventricular", "subarachnoid")
SHORT_NAMES = {
    "epidural": "EDH",
    "intraparenchymal": "IPH",
    "subdural": "SDH",
    "intraventricular": "IVH",
    "subarachnoid": "SAH",
}
PIXELS, SLICE_MM = 650, 5.0  # a side of the JPEGs; between slices
Row = dict[str, str]
_SEXES: dict[str, Sex] = {"male": "male", "female": "female"}


def slice_id(patient: int, number: int) -> str:
    """Return a slice's id, such as "049/14": the patient in three digits, the slice counted from 1."""
    return f"{patient:03d}/{number}"


@dataclass(frozen=True)
class SliceRecord:
    """One axial slice: the radiologists' labels, and whether a mask marks a lesion in it."""

    patient: int
    number: int  # from 1
    types: frozenset[str]  # of TYPES; empty where no hemorrhage was labelled
    fracture: bool
    has_lesion: bool
    has_bone: bool  # bone-window values can be read too

    @property
    def id(self) -> str:
        """For example "049/14": patient 49, slice 14."""
        return slice_id(self.patient, self.number)


@dataclass(frozen=True)
class SliceLabels:
    """One row of the diagnosis table."""

    line: int  # in the file, from 1
    types: frozenset[str]
    fracture: bool


@dataclass(frozen=True)
class Demographics:
    """One row of the demographics table."""

    age_years: float | None = None
    sex: Sex | None = None
    diagnosis: str = ""  # the condition on file, as text
    types: frozenset[str] = field(default_factory=frozenset)
    fracture: bool = False
    note: str = ""


@dataclass(frozen=True)
class Patient:
    """One patient: the slices in the order of their numbers, and the demographics as filed.

    The two disagree for some patients. The slice labels and masks are the reference.
    """

    number: int
    slices: tuple[SliceRecord, ...]
    on_file: Demographics

    @property
    def types(self) -> frozenset[str]:
        """All types that a slice of this patient is labelled with."""
        return frozenset().union(*(record.types for record in self.slices))

    @property
    def has_lesion(self) -> bool:
        """Whether a mask marks a lesion in any slice."""
        return any(record.has_lesion for record in self.slices)

    @property
    def fracture(self) -> bool:
        """Whether any slice is labelled with a fracture."""
        return any(record.fracture for record in self.slices)


@cache
def read_views_mm() -> Mapping[int, float]:
    """Read by patient the side of a slice in mm: of 36 patients, in a table that the install carries.

    It gives the pixel size in the scanner's matrix of 512; the JPEGs show the same view in 650 pixels. From
    DIDSR/framework-for-synthetic-ICH-to-assess-AI-generalizability at cab0e9f7 (CC0).
    """
    with (Path(__file__).with_name("ct-ich.spacing.csv")).open(encoding="utf-8", newline="") as file:
        return {int(row["patient"]): 512 * float(row["pixel_mm_of_512"]) for row in csv.DictReader(file)}


def find_voxel_ml(patient: int) -> float:
    """Find the mL of a voxel of the JPEGs; NaN where the patient's pixel size is not known."""
    return (read_views_mm().get(patient, nan) / PIXELS) ** 2 * SLICE_MM / 1000


def read_labels(path: Path) -> dict[int, dict[int, SliceLabels]]:
    """Read the diagnosis table as patient -> slice number -> labels, patients in the order of their numbers.

    Raises:
        DataError: no such file, a column missing, a cell that is no number, or a slice named twice.
    """
    labels: dict[int, dict[int, SliceLabels]] = {}
    for line, row in _read_rows(path, ("patientnumber", "slicenumber", "fractureyesno", "nohemorrhage", *TYPES)):
        patient, number = (_read_number(path, line, row, column) for column in ("patientnumber", "slicenumber"))
        own, place = labels.setdefault(patient, {}), f"patient {patient}, slice {number}"
        if number in own:
            raise _bad_table(path, f"lines {own[number].line} and {line} both label {place}", "one row a slice")
        types = frozenset(name for name in TYPES if _read_flag(path, line, row, name))
        if _read_flag(path, line, row, "nohemorrhage") == bool(types):
            found = f"line {line} ({place}): No_Hemorrhage contradicts the types"
            raise _bad_table(path, found, "either a type or No_Hemorrhage")
        own[number] = SliceLabels(line, types, _read_flag(path, line, row, "fractureyesno"))
    if not labels:
        raise _bad_table(path, "no rows", "a row a slice")
    return dict(sorted(labels.items()))


def read_demographics(path: Path) -> dict[int, Demographics]:
    """Read the demographics table as patient -> row.

    Raises:
        DataError: no such file, or a column missing.
    """
    people = {}
    for line, row in _read_rows(path, ("patientnumber", "ageyears", "gender")):
        people[_read_number(path, line, row, "patientnumber")] = Demographics(
            age_years=_read_age(path, line, row["ageyears"]),
            sex=_SEXES.get(row["gender"].lower()),
            diagnosis=row.get("conditiononfile", ""),
            types=frozenset(name for name in TYPES if row.get(name, "") not in ("", "0")),
            fracture=row.get("fractureyesno", "") not in ("", "0"),
            note=row.get("note", row.get("note1", "")),
        )
    return people


def _read_rows(path: Path, needed: tuple[str, ...]) -> list[tuple[int, Row]]:
    """Read (line in the file, normalised column name -> stripped cell) of every row that is not blank."""
    wanted = "the publisher's table beside the images, CSV in UTF-8"
    remedy = "download the data set again, or copy this file from the publisher"
    with (
        usable(path, DataError, wanted, remedy, csv.Error, found="cannot be read as a table"),
        # utf-8-sig: the publisher's diagnosis table starts with a byte-order mark.
        path.open(encoding="utf-8-sig", newline="") as stream,
    ):
        reader = csv.reader(stream)
        # "Age\n(years)" is "ageyears": header cells of releases differ in line breaks, signs and case.
        names = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in next(reader, [])]
        rows = [
            (reader.line_num, dict(zip(names, (cell.strip() for cell in cells), strict=False)))
            for cells in reader
            if any(cell.strip() for cell in cells)
        ]
    if missing := [name for name in needed if name not in names]:
        found = f"no column {', '.join(missing)} (spaces, case and signs aside)"
        raise _bad_table(path, found, "the publisher's columns")
    for line, row in rows:
        if len(row) < len(set(names)):
            raise _bad_table(path, f"line {line} has {len(row)} cells of {len(names)}")
    return rows


def _read_number(path: Path, line: int, row: Row, column: str) -> int:
    try:
        number = int(row[column])
    except ValueError:
        number = 0
    if number < 1:
        raise _bad_table(path, f"line {line} has {column} '{row[column]}', not a number from 1")
    return number


def _read_flag(path: Path, line: int, row: Row, column: str) -> bool:
    if row[column] not in ("0", "1"):
        raise _bad_table(path, f"line {line} has {column} '{row[column]}', neither 0 nor 1")
    return row[column] == "1"


def _read_age(path: Path, line: int, cell: str) -> float | None:
    if not cell:
        return None
    try:
        return float(cell)
    except ValueError:
        raise _bad_table(path, f"line {line} has the age '{cell}', not a number") from None


def _bad_table(path: Path, found: str, needed: str = "the publisher's table, unchanged") -> DataError:
    return DataError(path, found=found, needed=needed, remedy="restore the file from the publisher")
