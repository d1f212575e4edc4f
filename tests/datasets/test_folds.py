"""The protocol's folds: made again from the data, no patient shared, even, and found by an installed program."""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from bleedmap.datasets.ct_ich import SHORT_NAMES, TYPES, CtIch, SliceRecord, open_ct_ich
from bleedmap.datasets.folds import (
    LOADS,
    Fold,
    ProtocolFolds,
    lesion_pixels,
    load_class,
    make_protocol_folds,
    protocol_folds,
)
from bleedmap.datasets.splits import SIDES
from bleedmap.errors import SplitError

DOCUMENT = Path(__file__).parents[2] / "docs/protocol.md"
SMALL = ProtocolFolds("1.0.0 JPEG", "ab" * 32, 0, (Fold(1, (3,), (1, 2)), Fold(2, (1,), (3, 4))))


def test_the_committed_folds_come_again_from_the_data(ct_ich_root: Path, tmp_path: Path) -> None:
    made = make_protocol_folds(open_ct_ich(ct_ich_root))
    assert made == protocol_folds()
    made.write(tmp_path / "folds.json")
    committed = resources.files("bleedmap.datasets") / "ct-ich.folds.json"  # as an installed program finds it
    assert (tmp_path / "folds.json").read_text("utf-8") == committed.read_text("utf-8")
    assert protocol_folds(tmp_path / "folds.json") == made


def test_each_of_82_patients_is_tested_once_and_no_side_shares_one() -> None:
    folds = protocol_folds()
    assert folds.patients == tuple(range(49, 131))
    assert sorted(patient for fold in folds.folds for patient in fold.test) == list(folds.patients)
    assert [fold.fold for fold in folds.folds] == [1, 2, 3, 4, 5]
    for fold in folds.folds:
        sides = folds.sides(fold.fold)
        everyone = [patient for patients in sides.values() for patient in patients]
        assert sorted(everyone) == list(folds.patients)
        assert len(sides["validation"]) == 12
        assert sides["test"] == fold.test


def count_sides(folds: ProtocolFolds, data: CtIch, loads: Mapping[int, int]) -> list[dict[str, int | str]]:
    """What is on the test and validation sides of each fold: a row a side, as the document prints them."""
    by_patient = {patient.number: patient for patient in data.patients}
    rows: list[dict[str, int | str]] = []
    for side in SIDES[:0:-1]:
        for fold in folds.folds:
            patients = [by_patient[number] for number in folds.sides(fold.fold)[side]]
            slices: list[SliceRecord] = [record for patient in patients for record in patient.slices]
            row: dict[str, int | str] = {"side": side, "fold": fold.fold, "patients": len(patients)}
            row["bleeding"] = sum(patient.has_lesion for patient in patients)
            row["slices"], row["lesion slices"] = len(slices), sum(record.has_lesion for record in slices)
            row |= {SHORT_NAMES[name]: sum(name in patient.types for patient in patients) for name in TYPES}
            row |= {name: sum(load_class(loads.get(one.number, 0)) == name for one in patients) for name in LOADS}
            rows.append(row)
    return rows


def test_sides_are_even_and_the_document_prints_them(ct_ich_root: Path) -> None:
    data = open_ct_ich(ct_ich_root)
    rows = count_sides(protocol_folds(), data, lesion_pixels(data))
    assert len(rows) == 10
    for row in rows:
        tested = row["side"] == "test"
        assert row["bleeding"] in ((7, 8) if tested else (5,))
        assert row["slices"] in ((500, 501) if tested else (375,))
        assert abs(row["lesion slices"] - 318 / 5 * (1 if tested else 0.75)) < 1.5
        assert row["EDH"] in ((4, 5) if tested else (3,))
        assert row["IPH"] in ((3, 4) if tested else (2,))
    assert {row["side"] for row in rows if row["SDH"] == 0} == {"test"}  # four patients cannot be in five folds
    table = DOCUMENT.read_text("utf-8")
    for row in rows:
        assert "| " + " | ".join(map(str, row.values())) + " |" in table


def test_a_fold_is_a_split_of_all_slices_of_this_data(ct_ich_root: Path) -> None:
    data, folds = open_ct_ich(ct_ich_root), protocol_folds()
    split = folds.split(2, data)
    assert (split.fold, split.folds, split.kind, len(split.ids)) == (2, 5, "patient", 2501)
    for side, patients in folds.sides(2).items():
        assert split.patients(side) == tuple(f"{patient:03d}" for patient in patients)
    split.check_against(data)


def test_other_data_are_refused(jpeg_release: Path) -> None:
    with pytest.raises(SplitError, match="3 patients"):
        protocol_folds().split(1, open_ct_ich(jpeg_release))


@pytest.mark.parametrize(
    ("folds", "found"),
    [
        ((Fold(1, (), (1, 2)), Fold(2, (), (2, 3))), "4 patients tested, 3 different"),
        ((Fold(1, (1,), (1, 2)), Fold(2, (), (3,))), "both validated on and tested in fold 1"),
        ((Fold(1, (9,), (1, 2)), Fold(2, (), (3,))), "tested in none"),
    ],
)
def test_folds_that_leak_are_refused(folds: tuple[Fold, ...], found: str) -> None:
    with pytest.raises(SplitError, match=found):
        replace(SMALL, folds=folds)


def test_no_such_fold() -> None:
    assert SMALL.sides(1) == {"train": (4,), "validation": (3,), "test": (1, 2)}
    with pytest.raises(SplitError, match="fold 3"):
        SMALL.sides(3)


@pytest.mark.parametrize("damage", [{"format": "other"}, {"folds": 5}, {"folds": [{"fold": 1}]}, {"extra": 1}])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: dict[str, object]) -> None:
    SMALL.write(tmp_path / "folds.json")
    content = json.loads((tmp_path / "folds.json").read_text())
    (tmp_path / "folds.json").write_text(json.dumps(content | damage))
    with pytest.raises(SplitError, match="cannot be used"):
        protocol_folds(tmp_path / "folds.json")


def test_load_classes() -> None:
    expected = {0: None, 1: "small", 7_999: "small", 8_000: "medium", 19_999: "medium", 20_000: "large"}
    assert {pixels: load_class(pixels) for pixels in expected} == expected
