"""CT-ICH's two tables, a label a slice and the patients' demographics, and what they say of patients and slices."""

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bleedmap.errors import DataError

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
Row = dict[str, str]


def slice_id(patient: int, number: int) -> str:
    """ "049/14": the patient's number in three digits, the slice's number counted from 1."""
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
class Patient:
    """One patient: demographics as filed, and the slices in the order of their numbers.

    The fields ending in `_on_file` and the diagnosis come from the demographics table, which disagrees with
    the slice labels for some patients. The slice labels and masks are the reference.
    """

    number: int
    age_years: float | None
    sex: Sex | None
    diagnosis: str  # the condition on file, as text
    slices: tuple[SliceRecord, ...]
    types_on_file: frozenset[str] = frozenset()
    fracture_on_file: bool = False
    note_on_file: str = ""

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
    diagnosis: str = ""
    types: frozenset[str] = field(default_factory=frozenset)
    fracture: bool = False
    note: str = ""


def read_labels(path: Path) -> dict[tuple[int, int], SliceLabels]:
    """The diagnosis table as (patient, slice number) -> labels.

    Raises:
        DataError: no such file, a column missing, a cell that is no number, or a slice named twice.
    """
    labels: dict[tuple[int, int], SliceLabels] = {}
    for line, row in _rows(path, ("patientnumber", "slicenumber", "fractureyesno", "nohemorrhage", *TYPES)):
        key = _number(path, line, row, "patientnumber"), _number(path, line, row, "slicenumber")
        if key in labels:
            raise DataError(
                path,
                found=f"lines {labels[key].line} and {line} both label patient {key[0]}, slice {key[1]}",
                needed="one row a slice",
                remedy="restore the file from the publisher",
            )
        types = frozenset(name for name in TYPES if _flag(path, line, row, name))
        if _flag(path, line, row, "nohemorrhage") == bool(types):
            raise DataError(
                path,
                found=f"line {line} (patient {key[0]}, slice {key[1]}): No_Hemorrhage contradicts the types",
                needed="either a type or No_Hemorrhage",
                remedy="restore the file from the publisher",
            )
        labels[key] = SliceLabels(line, types, _flag(path, line, row, "fractureyesno"))
    if not labels:
        raise DataError(path, found="no rows", needed="a row a slice", remedy="restore the file from the publisher")
    return labels


def read_demographics(path: Path) -> dict[int, Demographics]:
    """The demographics table as patient -> row.

    Raises:
        DataError: no such file, or a column missing.
    """
    people = {}
    for line, row in _rows(path, ("patientnumber", "ageyears", "gender")):
        people[_number(path, line, row, "patientnumber")] = Demographics(
            age_years=_age(path, line, row["ageyears"]),
            sex=_sex(row["gender"]),
            diagnosis=row.get("conditiononfile", ""),
            types=frozenset(name for name in TYPES if row.get(name, "") not in ("", "0")),
            fracture=row.get("fractureyesno", "") not in ("", "0"),
            note=row.get("note", row.get("note1", "")),
        )
    return people


def _rows(path: Path, needed: tuple[str, ...]) -> list[tuple[int, Row]]:
    """(line in the file, normalised column name -> stripped cell) of every row that is not blank."""
    try:
        # utf-8-sig: the publisher's diagnosis table starts with a byte-order mark.
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            names = [_normal(cell) for cell in next(reader, [])]
            rows = [
                (reader.line_num, dict(zip(names, (cell.strip() for cell in cells), strict=False)))
                for cells in reader
                if any(cell.strip() for cell in cells)
            ]
    except FileNotFoundError:
        raise DataError(
            path,
            found="no such file",
            needed="the publisher's table beside the images",
            remedy="download the data set again, or copy this file from the publisher",
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            path,
            found=f"cannot be read as a table ({error})",
            needed="the publisher's CSV file in UTF-8",
            remedy="restore the file from the publisher",
        ) from error
    _check_columns(path, names, needed)
    for line, row in rows:
        if len(row) < len(set(names)):
            raise _bad_row(path, line, f"has {len(row)} cells of {len(names)}")
    return rows


def _check_columns(path: Path, names: list[str], needed: tuple[str, ...]) -> None:
    missing = [name for name in needed if name not in names]
    if missing:
        raise DataError(
            path,
            found=f"no column {', '.join(missing)} (spaces, case and signs aside)",
            needed="the publisher's columns",
            remedy="restore the file from the publisher",
        )


def _normal(cell: str) -> str:
    """ "Age\n(years)" -> "ageyears": header cells differ in line breaks, signs and case between releases."""
    return re.sub(r"[^a-z0-9]", "", cell.lower())


def _number(path: Path, line: int, row: Row, column: str) -> int:
    try:
        number = int(row[column])
    except ValueError:
        number = 0
    if number < 1:
        raise _bad_row(path, line, f"has {column} '{row[column]}', not a number from 1")
    return number


def _flag(path: Path, line: int, row: Row, column: str) -> bool:
    if row[column] not in ("0", "1"):
        raise _bad_row(path, line, f"has {column} '{row[column]}', neither 0 nor 1")
    return row[column] == "1"


def _age(path: Path, line: int, cell: str) -> float | None:
    if not cell:
        return None
    try:
        return float(cell)
    except ValueError:
        raise _bad_row(path, line, f"has the age '{cell}', not a number") from None


def _sex(cell: str) -> Sex | None:
    return {"male": "male", "female": "female"}.get(cell.lower())  # type: ignore[return-value]


def _bad_row(path: Path, line: int, what: str) -> DataError:
    return DataError(
        path,
        found=f"line {line} {what}",
        needed="the publisher's table, unchanged",
        remedy="restore the file from the publisher",
    )
