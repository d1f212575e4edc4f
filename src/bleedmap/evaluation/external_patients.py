"""Whose studies they are: `patients.csv` in the folder, or each study a patient of its own."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bleedmap.errors import DataError
from bleedmap.evaluation.records import TYPE_NAMES

TABLE = "patients.csv"
_YES, _NO = ("1", "yes", "true", "x"), ("", "0", "no", "false")
# Above any number of CT-ICH, one of whose patients a measure leaves out by its number.
FIRST_NUMBER = 1001


@dataclass(frozen=True)
class Patients:
    """Each study's patient, and what is known of its bleeds.

    Attributes:
        of: study -> the patient's name.
        types: study -> the types of hemorrhage that it has, of `TYPE_NAMES`; None where no table tells types.
        told: whether a table says who the patients are.
    """

    of: Mapping[str, str]
    types: Mapping[str, frozenset[str]] | None
    told: bool

    def numbers(self) -> dict[str, int]:
        """Study -> its patient's number in records."""
        names = {name: FIRST_NUMBER + row for row, name in enumerate(sorted(set(self.of.values())))}
        return {study: names[patient] for study, patient in self.of.items()}


def read_patients(folder: Path, studies: Sequence[str]) -> Patients:
    """Who the patients of some studies are.

    Args:
        folder: may hold `patients.csv` with the columns study, patient and, optionally, the types, 1 or 0 each.
        studies: names of the studies that are measured.

    Raises:
        DataError: a table that cannot be read, lacks a column or a study, has a study twice, or another value.
    """
    path = folder / TABLE
    if not path.is_file():
        return Patients({name: name for name in studies}, None, told=False)
    rows = _rows(path)
    found: dict[str, dict[str, str]] = {}
    for line, row in enumerate(rows, start=2):
        study, patient = row["study"].strip(), row["patient"].strip()
        if not study or not patient or study in found:
            why = f"names study '{study}' twice" if study in found else "lacks a study or patient"
            raise _unfit(path, f"line {line} {why}", "a line for each study, with its patient")
        found[study] = row
    missing = [name for name in studies if name not in found]
    if missing:
        more = ", …" if len(missing) > 3 else ""
        said = f"no line for {len(missing)} of {len(studies)} studies ({', '.join(missing[:3])}{more})"
        raise _unfit(path, said, "a line for each study that has a mask, by the names that stand here")
    columns = [name for name in TYPE_NAMES if name in rows[0]]
    types = {name: frozenset(one for one in columns if _flag(path, found[name], one)) for name in studies}
    return Patients({name: found[name]["patient"].strip() for name in studies}, types if columns else None, told=True)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [{str(key).strip(): value or "" for key, value in row.items()} for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unfit(path, f"cannot be read ({error})", "a table in UTF-8, its columns separated by commas") from error
    if not rows or not {"study", "patient"} <= set(rows[0]):
        columns = ", ".join(rows[0]) if rows else "none, or no lines"
        raise _unfit(path, f"columns {columns}", f"study, patient, and optionally {', '.join(TYPE_NAMES)}")
    return rows


def _flag(path: Path, row: Mapping[str, str], column: str) -> bool:
    value = row[column].strip().casefold()
    if value not in (*_YES, *_NO):
        raise _unfit(path, f"'{row[column]}' in column {column} of study '{row['study']}'", "1 or 0")
    return value in _YES


def _unfit(path: Path, found: str, needed: str) -> DataError:
    return DataError(path, found=found, needed=needed, remedy="correct the table, or take it out of the folder")
