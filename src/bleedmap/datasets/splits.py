"""Split CT-ICH into train, validation and test, by patient or (as the thesis did) by slice.

Neighbouring slices of one patient look alike, so a split by slice shows the network test slices that it has
all but learned: its scores flatter. A split by patient does not leak. Both deal out the same balanced slices,
so that the two can be compared; a patient of whom no slice was drawn is on no side.

Units (patients or slices) are dealt in two strata, bleeding and bleed-free, in proportion to the sides'
sizes. Of many such draws, the one whose sides are most even in lesion slices and in types is taken: 36
bleeding patients with 1 to 19 lesion slices each would often leave a side of ten per cent with too few.

A split is a file of slice ids, checked when it is made, when it is read, and against the data.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from bleedmap.arrays import AnyArray, BoolArray, DoubleArray
from bleedmap.datasets.ct_ich import TYPES, CtIch, SliceRecord
from bleedmap.errors import SplitError, usable
from bleedmap.io.files import write_json

Kind = Literal["patient", "slice"]
SIDES = ("train", "validation", "test")
FRACTIONS = (0.8, 0.1, 0.1)  # train, validation, test
VALIDATION_FRACTION = 0.1  # of all units, in every fold
_DRAWS = 200  # draws to choose the most even from; more gain little on 82 patients

FORMAT = "bleedmap split 1"
_LISTED = 10  # ids that an error names; the rest is counted
_ID = re.compile(r"\d{3}/[1-9]\d*")


@dataclass(frozen=True)
class Split:
    """Slice ids on three sides. A constructed split does not leak.

    `data_sha256` is `CtIch.content_sha256` of the split's slices; `fold` counts from 1 to `folds`, and both
    are None where there are no folds.

    Raises:
        SplitError: a side is empty, a slice is on two sides or, in a split by patient, a patient is.
    """

    kind: Kind
    seed: int
    balanced: bool
    data_sha256: str
    release: str
    fold: int | None
    folds: int | None
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise _bad_split(f"the kind '{self.kind}'", "'patient' or 'slice'")
        if self.seed < 0:
            raise _bad_split(f"the seed {self.seed}", "a whole number from 0")
        fold, folds = (1, 1) if self.fold is self.folds is None else (self.fold, self.folds)
        if fold is None or folds is None or not 1 <= fold <= folds:
            raise _bad_split(f"fold {self.fold} of {self.folds}", "a fold from 1 to `folds`, or neither")
        if empty := [side for side in SIDES if not self.side(side)]:
            raise _bad_split(f"no slices on the {empty[0]} side", "slices on all three sides")
        if bad := [name for name in self.ids if not _ID.fullmatch(name)]:
            raise _bad_split(f"the slice id '{bad[0]}'", 'patient in three digits, slice: "049/14"')
        if twice := _list_repeated(self.ids):
            raise _bad_split(f"named more than once: {twice}", "every slice on one side, once")
        shared = _list_repeated([name for side in SIDES for name in self.patients(side)])
        if self.kind == "patient" and shared:
            raise _bad_split(f"patients on more than one side: {shared}", "every patient on one side")

    @property
    def ids(self) -> tuple[str, ...]:
        """All slices: train, validation, test."""
        return self.train + self.validation + self.test

    def side(self, name: str) -> tuple[str, ...]:
        """Return the slice ids of "train", "validation" or "test".

        Raises:
            SplitError: no such side.
        """
        if name not in SIDES:
            raise _bad_split(f"no side '{name}'", "train, validation or test")
        ids: tuple[str, ...] = getattr(self, name)
        return ids

    def patients(self, side: str) -> tuple[str, ...]:
        """Return the patients of a side, in three digits, in the order of their first slice."""
        return tuple(dict.fromkeys(name.partition("/")[0] for name in self.side(side)))

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, {"format": FORMAT, **asdict(self)})

    def check_against(self, data: CtIch) -> None:
        """Refuse data other than those that the split was made from.

        Raises:
            SplitError: another release, a slice that is not there, or other labels, images or masks.
        """
        remedy = "give the data set that the split was made from, or make a new split with `bleedmap split`"
        if data.release != self.release:
            found, needed = f"release {data.release}", f"release {self.release}"
        elif unknown := sorted(set(self.ids) - {record.id for record in data.slices}):
            found = f"{len(unknown)} of the split's slices are not there, first {', '.join(unknown[:5])}"
            needed = "every slice that the split names"
        elif (content := data.content_sha256(self.ids)) != self.data_sha256:
            found = f"labels, images or masks differ from the split's (SHA-256 {content[:12]}…)"
            needed = f"the same content (SHA-256 {self.data_sha256[:12]}…)"
            remedy = f"run `bleedmap data verify`; {remedy}"
        else:
            return
        raise SplitError(data.root, found=found, needed=needed, remedy=remedy)


def read_split(path: Path) -> Split:
    """Read and check a split file.

    Raises:
        SplitError: no such file, not a split file, or a split that leaks.
    """
    needed = "a split file (JSON) that `bleedmap split` wrote"
    remedy = "make one: `bleedmap split --data FOLDER -o split.json`"
    with usable(path, SplitError, needed, remedy, found="not a split file of this program"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError("of another format")
        for side in SIDES:
            if not all(isinstance(name, str) for name in content[side]):
                raise ValueError(f"{side} is no list of slice ids")
            content[side] = tuple(content[side])
        try:
            return _build_split(content)
        except SplitError as error:
            raise SplitError(path, error.found, error.needed, error.remedy) from None


def _build_split(content: dict[str, Any]) -> Split:
    """Build a split from JSON; refuse for example a seed "7" or a flag 1, which Python would let pass."""
    types: dict[str, tuple[type, ...]] = {
        "kind": (str,), "seed": (int,), "balanced": (bool,), "data_sha256": (str,), "release": (str,),
        "fold": (int, type(None)), "folds": (int, type(None)),
    }  # fmt: skip
    for name, wanted in types.items():
        if type(content[name]) not in wanted:
            raise ValueError(f"{name} is {content[name]!r}")
    return Split(**content)


def _list_repeated(names: Sequence[str]) -> str:
    """List the names that occur more than once; empty where none does."""
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    return ", ".join(repeated[:_LISTED]) + (f" and {len(repeated) - _LISTED} more" if repeated[_LISTED:] else "")


def _bad_split(found: str, needed: str) -> SplitError:
    return SplitError(
        "split", found=found, needed=needed, remedy="make the split with `bleedmap split`, and do not edit it"
    )


UnitT = TypeVar("UnitT")


@dataclass(frozen=True)
class _Unit:
    """What is dealt to a side whole: a patient's chosen slices, or one slice."""

    slices: tuple[SliceRecord, ...]
    further: tuple[int, ...] = ()

    def count(self) -> list[int]:
        """Count what sides should have their share of: slices, lesion slices, units of each type, and further."""
        lesions = sum(record.has_lesion for record in self.slices)
        types = frozenset().union(*(record.types for record in self.slices))
        return [len(self.slices), lesions, *(name in types for name in TYPES), *self.further]


def balanced_slices(data: CtIch, seed: int) -> tuple[SliceRecord, ...]:
    """Take all lesion slices and draw as many from those without (in the thesis 318 and 318).

    Raises:
        SplitError: there are fewer slices without a lesion than with one.
    """
    lesion = [record for record in data.slices if record.has_lesion]
    free = [record for record in data.slices if not record.has_lesion]
    if len(free) < len(lesion):
        raise SplitError(
            data.root,
            found=f"{len(lesion)} lesion slices and only {len(free)} without",
            needed="at least as many slices without a lesion",
            remedy="make the split with all slices (`--all-slices`)",
        )
    drawn = np.random.default_rng(seed).choice(len(free), size=len(lesion), replace=False)
    return _sort_records([*lesion, *(free[index] for index in drawn)])


def make_split(
    data: CtIch, kind: Kind, seed: int, balanced: bool, fractions: tuple[float, float, float] = FRACTIONS
) -> Split:
    """Make one split; every side gets bleeding and bleed-free patients (or slices) in proportion.

    Args:
        kind: what stays whole: "patient", or "slice" (which leaks between neighbouring slices).
        seed: the same seed and data give the same split.
        balanced: take `balanced_slices` rather than all.
        fractions: of train, validation and test, in patients (or slices).

    Raises:
        SplitError: the fractions do not add up to 1, or a side would get no bleeding or no bleed-free unit.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise SplitError(
            "split",
            found=f"the fractions {fractions}",
            needed="three numbers above 0 that add up to 1",
            remedy="for example 0.8, 0.1, 0.1",
        )
    sides = deal(_list_units(data, kind, seed, balanced, {}), _Unit.count, fractions, np.random.default_rng([seed, 0]))
    return _make_split(data, kind, seed, balanced, sides, fold=None, folds=None)


def make_folds(
    data: CtIch, kind: Kind, seed: int, balanced: bool, folds: int = 5,
    *, validation_fraction: float = VALIDATION_FRACTION, swaps: bool = False,
    further: Mapping[int, tuple[int, ...]] | None = None,
) -> list[Split]:  # fmt: skip
    """Make the splits of a cross-validation: each patient (or slice) is on the test side of exactly one fold.

    Validation is taken from what is not tested. Other arguments and errors as in `make_split`.

    Args:
        validation_fraction: of all units, in each fold.
        swaps: after dealing, swap pairs between sides for as long as that makes them more even.
        further: by patient, counts (as many for each) of which every side should have its share too.
    """
    if folds < 2:
        raise SplitError("split", found=f"{folds} folds", needed="2 folds or more", remedy="5 is usual: `--folds 5`")
    units = _list_units(data, kind, seed, balanced, further or {})
    tests = deal(units, _Unit.count, [1 / folds] * folds, np.random.default_rng([seed, folds]), swaps)
    validation = validation_fraction * folds / (folds - 1)  # of what is not tested
    splits = []
    for fold, test in enumerate(tests, start=1):
        rest = [unit for other in tests if other is not test for unit in other]
        rng = np.random.default_rng([seed, folds, fold])
        train_side, validation_side = deal(rest, _Unit.count, (1 - validation, validation), rng, swaps)
        sides = [train_side, validation_side, test]
        splits.append(_make_split(data, kind, seed, balanced, sides, fold=fold, folds=folds))
    return splits


def _list_units(
    data: CtIch, kind: Kind, seed: int, balanced: bool, further: Mapping[int, tuple[int, ...]]
) -> list[_Unit]:  # fmt: skip
    chosen = balanced_slices(data, seed) if balanced else data.slices
    if kind == "slice":
        return [_Unit((record,), further.get(record.patient, ())) for record in chosen]
    by_patient: dict[int, list[SliceRecord]] = {}
    for record in chosen:
        by_patient.setdefault(record.patient, []).append(record)
    return [_Unit(tuple(own), further.get(patient, ())) for patient, own in by_patient.items()]


def deal(
    units: Sequence[UnitT], count: Callable[[UnitT], list[int]], shares: Sequence[float], rng: np.random.Generator,
    swaps: bool = False,
) -> list[list[UnitT]]:  # fmt: skip
    """Deal units whole to sides in proportion to `shares`, stratum by stratum: the most even of many draws.

    Every draw deals the same numbers of bleeding and bleed-free units, so all of them are stratified.

    Args:
        count: gives a unit's slices, lesion slices, and what else sides should have their share of.
        shares: of the sides, adding up to 1.
        swaps: as in `make_folds`.

    Raises:
        SplitError: a side would get no bleeding or no bleed-free unit.
    """
    counted = [count(unit) for unit in units]
    bleeds, counts = np.array([one[1] > 0 for one in counted], np.bool_), np.array(counted, np.float64)
    wanted = np.asarray(shares, dtype=np.float64)
    # Rounding favours the last sides with bleeding units and the first with bleed-free: totals stay even.
    sizes = {
        "bleeding": _round_sizes(int(bleeds.sum()), wanted[::-1])[::-1],
        "bleed-free": _round_sizes(int((~bleeds).sum()), wanted),
    }
    for name, size in sizes.items():
        if min(size) == 0:
            raise SplitError(
                "split", found=f"{sum(size)} {name} patients or slices for {len(size)} sides: one would get none",
                needed="bleeding and bleed-free on every side",
                remedy="make fewer folds, or give a larger part to the small sides",
            )  # fmt: skip
    best, least = np.zeros(len(units), dtype=np.int64), np.inf
    for _ in range(_DRAWS):
        side_of = np.empty(len(units), dtype=np.int64)
        side_of[bleeds] = rng.permutation(np.repeat(np.arange(len(wanted)), sizes["bleeding"]))
        side_of[~bleeds] = rng.permutation(np.repeat(np.arange(len(wanted)), sizes["bleed-free"]))
        if (unevenness := _measure_unevenness(counts, side_of, wanted)) < least:
            best, least = side_of, unevenness
    if swaps:
        best = _swap_evener(bleeds, counts, best, wanted)
    return [
        [unit for unit, own in zip(units, best.tolist(), strict=True) if own == side] for side in range(len(wanted))
    ]


def _swap_evener(bleeds: BoolArray, counts: DoubleArray, side_of: AnyArray, shares: DoubleArray) -> AnyArray:
    """Swap two units of one stratum wherever that makes the sides more even, until no swap does."""
    best, least = side_of.copy(), np.inf
    while (before := _measure_unevenness(counts, best, shares)) < least - 1e-12:
        least = before
        for one, other in combinations(range(len(best)), 2):
            if bleeds[one] == bleeds[other] and best[one] != best[other]:
                best[[one, other]] = best[[other, one]]
                if (now := _measure_unevenness(counts, best, shares)) < before - 1e-12:
                    before = now
                else:
                    best[[one, other]] = best[[other, one]]
    return best


def _round_sizes(total: int, shares: Sequence[float] | DoubleArray) -> list[int]:
    """Round to whole numbers that add up to `total`, each within 1 of its share (largest remainder)."""
    exact = total * np.asarray(shares, dtype=np.float64)
    sizes = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-np.round(exact - sizes, 9), kind="stable")
    sizes[order[: total - int(sizes.sum())]] += 1
    return [int(size) for size in sizes]


def _measure_unevenness(counts: DoubleArray, side_of: AnyArray, shares: DoubleArray) -> float:
    """Return 0 where every side has its share of every count; a small side's miss weighs as its own size does.

    `counts` is (units, counted things), `side_of` (units,) each unit's side, `shares` (sides,) adding up to 1.
    """
    member = side_of[None, :] == np.arange(len(shares))[:, None]
    total = counts.sum(axis=0)
    part = (member.astype(np.float64) @ counts) / np.maximum(total, 1)
    miss = (part - shares[:, None]) ** 2 / shares[:, None]
    return float(miss[:, total > 0].sum())


def _make_split(
    data: CtIch, kind: Kind, seed: int, balanced: bool, sides: Sequence[Sequence[_Unit]],
    *, fold: int | None, folds: int | None,
) -> Split:  # fmt: skip
    ids = [
        tuple(record.id for record in _sort_records([record for unit in side for record in unit.slices]))
        for side in sides
    ]
    content = data.content_sha256([name for side in ids for name in side])
    return Split(kind, seed, balanced, content, data.release, fold, folds, ids[0], ids[1], ids[2])


def _sort_records(records: Sequence[SliceRecord]) -> tuple[SliceRecord, ...]:
    """Sort by patient, then by number: volumes are read one after another."""
    return tuple(sorted(records, key=lambda record: (record.patient, record.number)))
