"""The records that come with the program: what its own networks predicted out of fold."""

from pathlib import Path

from bleedmap.errors import InputError

RECORDS = Path(__file__).with_name("out_of_fold")


def committed_records(folder: Path = RECORDS) -> tuple[Path, ...]:
    """Files of records, by name; the first is the one that others are held against.

    Raises:
        InputError: none come with this version.
    """
    found = tuple(sorted(folder.glob("*.json")))
    if not found:
        raise InputError(
            "records of the cross-validation",
            found="none come with this version of bleedmap",
            needed="one file of records or more, as a cross-validation writes them",
            remedy="give them: bleedmap evaluate --protocol cross-validation RECORDS.json -o report",
        )
    return found
