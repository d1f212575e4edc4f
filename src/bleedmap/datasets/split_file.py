"""A split in memory and on disk: slice ids on three sides, checked when made, read, and held to the data."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from bleedmap.datasets.ct_ich import CtIch
from bleedmap.errors import SplitError
from bleedmap.io.files import write_json

Kind = Literal["patient", "slice"]
SIDES = ("train", "validation", "test")

_FORMAT = "bleedmap split 1"
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
            raise _invalid(f"the kind '{self.kind}'", "'patient' or 'slice'")
        if self.seed < 0:
            raise _invalid(f"the seed {self.seed}", "a whole number from 0")
        fold, folds = (1, 1) if self.fold is self.folds is None else (self.fold, self.folds)
        if fold is None or folds is None or not 1 <= fold <= folds:
            raise _invalid(f"fold {self.fold} of {self.folds}", "a fold from 1 to `folds`, or neither")
        self._refuse_bad_ids()
        if twice := _repeated(self.ids):
            raise _invalid(f"named more than once: {twice}", "every slice on one side, once")
        shared = _repeated([name for side in SIDES for name in self.patients(side)])
        if self.kind == "patient" and shared:
            raise _invalid(f"patients on more than one side: {shared}", "every patient on one side")

    @property
    def ids(self) -> tuple[str, ...]:
        """All slices: train, validation, test."""
        return self.train + self.validation + self.test

    def side(self, name: str) -> tuple[str, ...]:
        """The slice ids of "train", "validation" or "test".

        Raises:
            SplitError: no such side.
        """
        if name not in SIDES:
            raise _invalid(f"no side '{name}'", "train, validation or test")
        ids: tuple[str, ...] = getattr(self, name)
        return ids

    def patients(self, side: str) -> tuple[str, ...]:
        """The patients of a side, in three digits, in the order of their first slice."""
        return tuple(dict.fromkeys(_patient_of(name) for name in self.side(side)))

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, {"format": _FORMAT, **asdict(self)})

    def check_against(self, data: CtIch) -> None:
        """Refuse data other than those that the split was made from.

        Raises:
            SplitError: another release, a slice that is not there, or other labels, images or masks.
        """
        remedy = "give the data set that the split was made from, or make a new split with `bleedmap split`"
        if data.release != self.release:
            raise SplitError(
                data.root, found=f"release {data.release}", needed=f"release {self.release}", remedy=remedy
            )
        unknown = sorted(set(self.ids) - {record.id for record in data.slices})
        if unknown:
            raise SplitError(
                data.root,
                found=f"{len(unknown)} of the split's slices are not there, first {', '.join(unknown[:5])}",
                needed="every slice that the split names",
                remedy=remedy,
            )
        found = data.content_sha256(self.ids)
        if found != self.data_sha256:
            raise SplitError(
                data.root,
                found=f"labels, images or masks differ from the split's (SHA-256 {found[:12]}…)",
                needed=f"the same content (SHA-256 {self.data_sha256[:12]}…)",
                remedy=f"run `bleedmap data verify`; {remedy}",
            )

    def _refuse_bad_ids(self) -> None:
        for side in SIDES:
            if not self.side(side):
                raise _invalid(f"no slices on the {side} side", "slices on all three sides")
        bad = [name for name in self.ids if not _ID.fullmatch(name)]
        if bad:
            raise _invalid(f"the slice id '{bad[0]}'", 'patient in three digits, slice: "049/14"')


def read_split(path: Path) -> Split:
    """Read and check a split file.

    Raises:
        SplitError: no such file, not a split file, or a split that leaks.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != _FORMAT:
            raise ValueError("of another format")
        for side in SIDES:
            if not all(isinstance(name, str) for name in content[side]):
                raise ValueError(f"{side} is no list of slice ids")
            content[side] = tuple(content[side])
        return _checked_types(content)
    except FileNotFoundError:
        raise _unreadable(path, "no such file") from None
    except SplitError as error:
        raise SplitError(path, found=error.found, needed=error.needed, remedy=error.remedy) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unreadable(path, f"not a split file of this program ({error})") from error


def _checked_types(content: dict[str, Any]) -> Split:
    """JSON -> Split, refusing e.g. a seed "7" or a flag 1 that Python would let pass."""
    types: dict[str, tuple[type, ...]] = {
        "kind": (str,), "seed": (int,), "balanced": (bool,), "data_sha256": (str,), "release": (str,),
        "fold": (int, type(None)), "folds": (int, type(None)),
    }  # fmt: skip
    for name, wanted in types.items():
        if type(content[name]) not in wanted:
            raise ValueError(f"{name} is {content[name]!r}")
    return Split(**content)


def _repeated(names: Sequence[str]) -> str:
    """The names that occur more than once, listed; empty where none does."""
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    return ", ".join(repeated[:_LISTED]) + (f" and {len(repeated) - _LISTED} more" if repeated[_LISTED:] else "")


def _patient_of(name: str) -> str:
    return name.partition("/")[0]


def _invalid(found: str, needed: str) -> SplitError:
    return SplitError(
        "split", found=found, needed=needed, remedy="make the split with `bleedmap split`, and do not edit it"
    )


def _unreadable(path: Path, found: str) -> SplitError:
    return SplitError(
        path,
        found=found,
        needed="a split file (JSON) that `bleedmap split` wrote",
        remedy="make one: `bleedmap split --data FOLDER -o split.json`",
    )
