"""Splits: what is on which side, in proportion, without leaks, tied to the data."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bleedmap.arrays import BoolArray, ByteArray, FloatArray
from bleedmap.datasets.ct_ich import TYPES, CtIch, SliceRecord, open_ct_ich
from bleedmap.datasets.splits import (
    FRACTIONS,
    SIDES,
    Kind,
    Split,
    balanced_slices,
    make_folds,
    make_split,
    read_split,
)
from bleedmap.errors import SplitError

KINDS: tuple[Kind, ...] = ("patient", "slice")
SPLIT = Split(
    "patient", 7, True, "ab" * 32, "1.0.0 JPEG", None, None, ("049/1", "049/2"), ("050/1",), ("051/1", "051/3")
)


class Drawn:
    """A release without pictures: labels alone decide a split."""

    name, demographics, root = "drawn", "", Path("drawn")

    def __init__(self, records: dict[int, tuple[SliceRecord, ...]]) -> None:
        self.records = records

    def read_hu(self, record: SliceRecord) -> FloatArray:
        return np.zeros((1, 1), np.float32)

    def read_mask(self, record: SliceRecord) -> BoolArray:
        return np.full((1, 1), record.has_lesion)

    def read_mask_grey(self, record: SliceRecord) -> ByteArray | None:
        return None

    def file_sha256(self, record: SliceRecord) -> str:
        return record.id


@st.composite
def data_sets(draw: st.DrawFn) -> CtIch:
    """20 to 60 patients of 4 to 12 slices, at least 10 bleeding and 10 bleed-free."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bleeding, free = draw(st.integers(10, 30)), draw(st.integers(10, 30))
    records = {}
    for patient in range(1, bleeding + free + 1):
        slices = int(rng.integers(4, 13))
        lesions = int(rng.integers(1, 4)) if patient <= bleeding else 0
        kinds = [frozenset({TYPES[rng.integers(5)]}) if k < lesions else frozenset[str]() for k in range(slices)]
        records[patient] = tuple(
            SliceRecord(patient, number, types, False, bool(types), True) for number, types in enumerate(kinds, start=1)
        )
    return CtIch(Drawn(records), {})


def units(data: CtIch, names: tuple[str, ...], kind: Kind) -> dict[int | str, bool]:
    """Patient (or slice) -> whether it bleeds."""
    found: dict[int | str, bool] = {}
    for record in map(data.slice, names):
        key = record.patient if kind == "patient" else record.id
        found[key] = found.get(key, False) or record.has_lesion
    return found


@settings(max_examples=25, deadline=None)
@given(data_sets(), st.sampled_from(KINDS), st.integers(0, 2**31), st.booleans())
def test_split_is_complete_disjoint_stratified_and_repeatable(
    data: CtIch, kind: Kind, seed: int, balanced: bool
) -> None:
    chosen = balanced_slices(data, seed) if balanced else data.slices
    states = list(units(data, tuple(record.id for record in chosen), kind).values())
    assume(min(states.count(True), states.count(False)) >= 10)  # else a side of a tenth may get none: refused
    split = make_split(data, kind, seed, balanced)
    assert sorted(split.ids) == sorted(record.id for record in chosen)  # each once
    everyone = units(data, split.ids, kind)
    sides = [units(data, split.side(name), kind) for name in SIDES]
    assert sum(map(len, sides)) == len(everyone)
    for side, fraction in zip(sides, FRACTIONS, strict=True):
        for bleeds in (True, False):
            share = fraction * sum(state == bleeds for state in everyone.values())
            count = sum(state == bleeds for state in side.values())
            assert count >= 1
            assert abs(count - share) < 1
    assert make_split(data, kind, seed, balanced) == split


@settings(max_examples=15, deadline=None)
@given(data_sets(), st.sampled_from(KINDS), st.integers(0, 2**31), st.booleans(), st.integers(2, 5))
def test_each_unit_is_tested_in_exactly_one_fold(
    data: CtIch, kind: Kind, seed: int, balanced: bool, folds: int
) -> None:
    chosen = balanced_slices(data, seed) if balanced else data.slices
    states = list(units(data, tuple(record.id for record in chosen), kind).values())
    assume(min(states.count(True), states.count(False)) >= 10)
    splits = make_folds(data, kind, seed, balanced, folds)
    assert [(split.fold, split.folds) for split in splits] == [(fold, folds) for fold in range(1, folds + 1)]
    everything = sorted(splits[0].ids)
    assert all(sorted(split.ids) == everything for split in splits)
    assert len({split.data_sha256 for split in splits}) == 1
    tested = [key for split in splits for key in units(data, split.test, kind)]
    everyone = units(data, splits[0].ids, kind)
    assert sorted(tested, key=str) == sorted(everyone, key=str)
    for split in splits:
        for bleeds in (True, False):
            total = sum(state == bleeds for state in everyone.values())
            tested_here = sum(state == bleeds for state in units(data, split.test, kind).values())
            assert abs(tested_here - total / folds) < 1
            validated = sum(state == bleeds for state in units(data, split.validation, kind).values())
            assert abs(validated - 0.1 * total) < 2  # rounded twice: after the test side, then itself
    assert make_folds(data, kind, seed, balanced, folds) == splits


@settings(max_examples=10, deadline=None)
@given(data_sets(), st.integers(0, 2**31))
def test_balanced_takes_all_lesions_and_as_many_without(data: CtIch, seed: int) -> None:
    chosen = balanced_slices(data, seed)
    assert {record for record in chosen if record.has_lesion} == {r for r in data.slices if r.has_lesion}
    assert sum(not record.has_lesion for record in chosen) == sum(record.has_lesion for record in chosen)
    assert len(set(chosen)) == len(chosen)


def test_thesis_split(ct_ich_root: Path) -> None:
    data = open_ct_ich(ct_ich_root)
    split = make_split(data, "slice", 0, balanced=True)
    assert len(split.ids) == 636
    lesions = [sum(data.slice(name).has_lesion for name in split.side(side)) for side in SIDES]
    assert lesions == [254, 32, 32]
    assert [len(split.side(side)) for side in SIDES] == [508, 64, 64]
    split.check_against(data)


@pytest.mark.parametrize("seed", range(3))
def test_real_folds_by_patient_are_even(ct_ich_root: Path, seed: int) -> None:
    data = open_ct_ich(ct_ich_root)
    folds = make_folds(data, "patient", seed, balanced=False)
    tested = [units(data, split.test, "patient") for split in folds]
    assert sorted(key for side in tested for key in side) == list(range(49, 131))
    assert all(len(side) in (16, 17) and sum(side.values()) in (7, 8) for side in tested)
    lesions = [sum(data.slice(name).has_lesion for name in split.test) for split in folds]
    assert sum(lesions) == 318
    assert all(40 <= count <= 90 for count in lesions)  # 64 on average; chance alone gives 20 to 110


@pytest.fixture(scope="module")
def thirty() -> CtIch:
    """Thirty patients, half of them bleeding, of twenty slices each."""
    return CtIch(Drawn({
        patient: tuple(
            SliceRecord(patient, number, frozenset(TYPES[:1]) if number <= patient % 2 else frozenset(), False,
                        number <= patient % 2, True)
            for number in range(1, 21)
        )
        for patient in range(1, 31)
    }), {})  # fmt: skip


def test_every_draw_depends_on_the_seed(thirty: CtIch) -> None:
    """By chance two seeds never draw alike."""
    draws = {
        "slices without a lesion": lambda seed: balanced_slices(thirty, seed),
        "sides by patient": lambda seed: make_split(thirty, "patient", seed, False).test,
        "sides by slice": lambda seed: make_split(thirty, "slice", seed, False).test,
        "test sides of folds": lambda seed: make_folds(thirty, "patient", seed, False)[0].test,
        "validation sides of folds": lambda seed: make_folds(thirty, "patient", seed, False)[0].validation,
    }
    for name, draw in draws.items():
        assert draw(1) != draw(2), name
        assert draw(1) == draw(1), name


def test_a_seed_draws_the_same_folds_in_every_release(thirty: CtIch) -> None:
    folds = make_folds(thirty, "patient", 7, False)
    assert [units(thirty, one.validation, "patient").keys() for one in folds] == [
        {5, 22, 25}, {1, 4, 11}, {12, 21, 23}, {3, 28, 29}, {6, 7, 23},
    ]  # fmt: skip
    assert units(thirty, folds[0].test, "patient").keys() == {11, 12, 15, 16, 27, 28}


def test_other_seed_other_split(ct_ich_root: Path) -> None:
    data = open_ct_ich(ct_ich_root)
    assert make_split(data, "patient", 1, True).test != make_split(data, "patient", 2, True).test


class TestTooLittle:
    def test_more_folds_than_bleeding_patients(self, jpeg_release: Path) -> None:
        with pytest.raises(SplitError, match="2 bleeding patients or slices for 3 sides"):
            make_folds(open_ct_ich(jpeg_release), "patient", 0, balanced=False, folds=3)

    def test_one_fold(self, jpeg_release: Path) -> None:
        with pytest.raises(SplitError, match="1 folds"):
            make_folds(open_ct_ich(jpeg_release), "patient", 0, balanced=False, folds=1)

    def test_fewer_slices_without_than_with(self) -> None:
        lesions = tuple(SliceRecord(1, k, frozenset({"subdural"}), False, k < 3, True) for k in (1, 2, 3))
        with pytest.raises(SplitError, match="2 lesion slices and only 1 without"):
            balanced_slices(CtIch(Drawn({1: lesions}), {}), 0)

    @pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.2), (1.0, 0.0, 0.0), (1.2, -0.1, -0.1)])
    def test_fractions(self, jpeg_release: Path, fractions: tuple[float, float, float]) -> None:
        with pytest.raises(SplitError, match="fractions"):
            make_split(open_ct_ich(jpeg_release), "slice", 0, False, fractions)


class TestSplit:
    def test_sides_and_patients(self) -> None:
        assert SPLIT.side("test") == ("051/1", "051/3")
        assert SPLIT.patients("train") == ("049",)
        with pytest.raises(SplitError, match="no side 'tset'"):
            SPLIT.side("tset")

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            ({"test": ("049/3", "050/2", "051/1")}, "patients on more than one side: 049, 050"),
            ({"test": ("049/2",), "kind": "slice"}, "named more than once: 049/2"),
            ({"train": ("049/1", "049/1")}, "named more than once: 049/1"),
            ({"validation": ()}, "no slices on the validation side"),
            ({"train": ("49/1",)}, "the slice id '49/1'"),
            ({"kind": "study"}, "the kind 'study'"),
            ({"seed": -1}, "the seed -1"),
            ({"fold": 6, "folds": 5}, "fold 6 of 5"),
            ({"fold": 0, "folds": 5}, "fold 0 of 5"),
            ({"fold": 1}, "fold 1 of None"),
        ],
    )
    def test_a_split_that_leaks_or_contradicts_itself_cannot_be_made(
        self, change: dict[str, object], found: str
    ) -> None:
        with pytest.raises(SplitError) as caught:
            replace(SPLIT, **change)
        assert found in str(caught.value)

    def test_slices_of_one_patient_may_part_in_a_split_by_slice(self) -> None:
        assert replace(SPLIT, kind="slice", test=("049/3",)).test == ("049/3",)


class TestFile:
    def test_round_trip(self, tmp_path: Path) -> None:
        split = replace(SPLIT, fold=2, folds=5)
        split.write(tmp_path / "split.json")
        assert read_split(tmp_path / "split.json") == split

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            ({"format": "other"}, "of another format"),
            ({"seed": "7"}, "seed is '7'"),
            ({"balanced": 1}, "balanced is 1"),
            ({"train": [1, 2]}, "train is no list of slice ids"),
            ({"test": ["049/9"]}, "patients on more than one side: 049"),
            ({"note": "x"}, "note"),
        ],
    )
    def test_edited_file(self, tmp_path: Path, change: dict[str, object], found: str) -> None:
        path = tmp_path / "split.json"
        SPLIT.write(path)
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(SplitError) as caught:
            read_split(path)
        assert found in caught.value.found
        assert caught.value.subject == str(path)

    @pytest.mark.parametrize("content", ["", "[]", "{}", '"text"', "\udcff"])
    def test_no_split_file(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "split.json"
        path.write_bytes(content.encode(errors="surrogateescape"))
        with pytest.raises(SplitError, match="not a split file"):
            read_split(path)

    def test_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(SplitError, match="no such file"):
            read_split(tmp_path / "none.json")


class TestCheckAgainstData:
    @pytest.fixture
    def split(self, jpeg_release: Path) -> Split:
        data = open_ct_ich(jpeg_release)
        ids = ("049/2", "051/2", "050/1")
        content = data.content_sha256(ids)
        return Split("slice", 0, True, content, data.release, None, None, ids[:1], ids[1:2], ids[2:])

    def test_the_same_data(self, jpeg_release: Path, split: Split) -> None:
        split.check_against(open_ct_ich(jpeg_release))

    def test_changed_mask(self, jpeg_release: Path, split: Split) -> None:
        with (jpeg_release / "Patients_CT/049/brain/2_HGE_Seg.jpg").open("ab") as stream:
            stream.write(b"\0")
        with pytest.raises(SplitError, match="differ"):
            split.check_against(open_ct_ich(jpeg_release))

    def test_unknown_slices(self, jpeg_release: Path, split: Split) -> None:
        with pytest.raises(SplitError, match="1 of the split's slices are not there, first 049/99"):
            replace(split, train=("049/99",)).check_against(open_ct_ich(jpeg_release))

    def test_other_release(self, nifti_release: Path, split: Split) -> None:
        with pytest.raises(SplitError, match=r"release 1\.3\.1 NIfTI") as caught:
            split.check_against(open_ct_ich(nifti_release))
        assert caught.value.needed == "release 1.0.0 JPEG"
