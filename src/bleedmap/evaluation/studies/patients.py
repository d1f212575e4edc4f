"""Whose the studies of a folder are: a table says so, else the Patient ID of DICOM files, else each study is a patient.

Intervals draw patients, and a split keeps them whole. Who they are is never written: a report has numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bleedmap.errors import DataError
from bleedmap.evaluation.records import TYPE_NAMES
from bleedmap.evaluation.studies.find import Cases
from bleedmap.evaluation.studies.labels import read_flag, read_table

TABLE = "patients.csv"
EACH = "each study counts as one"
BY_ID, ALONE = "ID ", "study "  # before a patient's name, by what it was told
_CORRECT = "correct the table, or leave it out"
# Above any number of CT-ICH, one of whose patients a measure leaves out by its number.
FIRST_NUMBER = 1001


@dataclass(frozen=True)
class Patients:
    """Each study's patient, and what is known of its bleeds.

    `types`: study -> the types of hemorrhage that it has, of `TYPE_NAMES`; None where no table has types.
    """

    of: Mapping[str, str]  # study -> the patient's name, which may be a Patient ID: not to be shown
    types: Mapping[str, frozenset[str]] | None = None
    told: str = EACH  # how the patients were told apart

    def numbers(self) -> dict[str, int]:
        """Number the patients in the order of their studies: study -> its patient's number in records and reports."""
        names = {name: FIRST_NUMBER + row for row, name in enumerate(dict.fromkeys(self.of.values()))}
        return {study: names[patient] for study, patient in self.of.items()}


def read_patients(found: Cases, table: Path | None = None) -> Patients:
    """Read who the patients of some studies are.

    Args:
        found: the studies that are measured or trained on. Their folder may hold `patients.csv`, with the columns
            study, patient and, optionally, the types, 1 or 0 each.
        table: in place of that file.

    Raises:
        DataError: a table that cannot be read, lacks a column or a study, has a study twice, or another value.
    """
    if table is not None or (found.folder / TABLE).is_file():
        return _read_table(table or found.folder / TABLE, [one.name for one in found.cases])
    ids = {one.name: value for one in found.cases if (value := one.read_text("PatientID"))}
    told = "by Patient ID" if ids else EACH
    if len(ids) > 1 and len(set(ids.values())) == 1:
        told += f", which is the same in all {len(ids):,} studies"
    if ids and (others := len(found.cases) - len(ids)):
        told += f"; each study without one counts as a patient ({others:,})"
    names = [one.name for one in found.cases]
    return Patients({name: f"{BY_ID}{ids[name]}" if name in ids else f"{ALONE}{name}" for name in names}, told=told)


def _read_table(path: Path, studies: Sequence[str]) -> Patients:
    rows = read_table(
        path, lambda columns: {"study", "patient"} <= columns,
        f"study, patient, and optionally {', '.join(TYPE_NAMES)}", _CORRECT, ("study", "patient", *TYPE_NAMES),
    )  # fmt: skip
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        study, patient = row["study"], row["patient"]
        if not study or not patient or study in found:
            why = f"names study '{study}' twice" if study in found else "lacks a study or patient"
            raise DataError(path, f"line {row.line} {why}", "a line for each study, with its patient", _CORRECT)
        found[study] = row
    missing = [name for name in studies if name not in found]
    if missing:
        more = ", …" if len(missing) > 3 else ""
        lacking = f"no line for {len(missing)} of {len(studies)} studies ({', '.join(missing[:3])}{more})"
        raise DataError(path, lacking, "a line for each study that has a mask, by the names that stand here", _CORRECT)
    columns = [name for name in TYPE_NAMES if name in rows[0]]
    types = {name: frozenset(one for one in columns if _read_flag(path, found[name], one)) for name in studies}
    of = {name: found[name]["patient"] for name in studies}
    return Patients(of, types if columns else None, f"by {path.name}")


def _read_flag(path: Path, row: Mapping[str, str], column: str) -> bool:
    flag = read_flag(row[column])
    if flag is None and row[column]:
        raise DataError(path, f"'{row[column]}' in column {column} of study '{row['study']}'", "1 or 0", _CORRECT)
    return bool(flag)
