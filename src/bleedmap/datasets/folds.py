"""The five folds by patient on which every network of the protocol (docs/protocol.md) is trained and tested.

They are fixed in `ct-ich.folds.json` next to this file, which the install carries: patient numbers only. The file
can be made again from the data (`make_protocol_folds`), and a test does so.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bleedmap.datasets.ct_ich import CtIch
from bleedmap.datasets.ct_ich_tables import slice_id
from bleedmap.datasets.splits import Split, make_folds
from bleedmap.errors import SplitError, usable
from bleedmap.io.files import write_json

FOLDS_FILE = Path(__file__).with_name("ct-ich.folds.json")
FOLDS, SEED = 5, 0
VALIDATION_FRACTION = 0.15  # of all patients: 12, of whom 5 or 6 bleed, must carry thresholds and calibration
# Pixels of all lesions of a patient, at 650×650: each class holds 12 of the 36 bleeding patients.
LOADS = {"small": (1, 8_000), "medium": (8_000, 20_000), "large": (20_000, None)}

_FORMAT = "bleedmap folds 1"


@dataclass(frozen=True)
class Fold:
    """One fold's patients; all others are trained on."""

    fold: int  # from 1
    validation: tuple[int, ...]
    test: tuple[int, ...]


@dataclass(frozen=True)
class ProtocolFolds:
    """Folds by patient: each patient is tested once, and is not validated on where it is tested.

    Raises:
        SplitError: a patient is tested twice or never, or is on two sides of a fold.
    """

    release: str  # of CT-ICH
    data_sha256: str  # `CtIch.content_sha256` of all slices
    seed: int  # that they were drawn with
    folds: tuple[Fold, ...]  # fold 1, 2, …

    def __post_init__(self) -> None:
        tested = [patient for fold in self.folds for patient in fold.test]
        if len(set(tested)) < len(tested):
            raise _bad_split(f"{len(tested)} patients tested, {len(set(tested))} different ones")
        for fold in self.folds:
            if set(fold.test) & set(fold.validation):
                raise _bad_split(f"patients both validated on and tested in fold {fold.fold}")
            if set(fold.validation) - set(tested):
                raise _bad_split(f"patients validated on in fold {fold.fold} and tested in none")

    @property
    def patients(self) -> tuple[int, ...]:
        """All patients, in order."""
        return tuple(sorted(patient for fold in self.folds for patient in fold.test))

    def sides(self, number: int) -> dict[str, tuple[int, ...]]:
        """Return the patients of "train", "validation" and "test" of a fold, counted from 1.

        Raises:
            SplitError: no such fold.
        """
        found = [fold for fold in self.folds if fold.fold == number]
        if not found:
            raise SplitError(
                f"fold {number}", found="no such fold", needed=f"1 to {len(self.folds)}", remedy="give one of these"
            )
        fold = found[0]
        train = tuple(sorted(set(self.patients) - set(fold.test) - set(fold.validation)))
        return {"train": train, "validation": fold.validation, "test": fold.test}

    def split(self, number: int, data: CtIch) -> Split:
        """Make a fold into a split of all its slices, for training and measuring.

        Raises:
            SplitError: no such fold, or another release or other patients than those of the folds.
        """
        own = {patient.number: patient.slices for patient in data.patients}
        if data.release != self.release or tuple(sorted(own)) != self.patients:
            raise SplitError(
                data.root,
                found=f"release {data.release} with {len(own)} patients",
                needed=f"release {self.release} with the {len(self.patients)} patients of the protocol's folds",
                remedy="fetch it with `bleedmap data download`, or make other folds with `bleedmap split --folds`",
            )
        ids = {
            side: tuple(slice_id(record.patient, record.number) for patient in patients for record in own[patient])
            for side, patients in self.sides(number).items()
        }
        return Split(
            "patient", self.seed, False, self.data_sha256, self.release, number, len(self.folds),
            ids["train"], ids["validation"], ids["test"],
        )  # fmt: skip

    def check_against(self, data: CtIch) -> None:
        """Refuse data other than those that the folds were drawn from.

        Raises:
            SplitError: other labels, images or masks.
        """
        if data.content_sha256() != self.data_sha256:
            raise SplitError(
                data.root,
                found="other files than the folds were drawn from",
                needed=f"CT-ICH {self.release}, whole and unchanged",
                remedy="check it with `bleedmap data verify`",
            )

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, {"format": _FORMAT, **asdict(self)})


def protocol_folds(path: Path = FOLDS_FILE) -> ProtocolFolds:
    """Read the committed folds.

    Raises:
        SplitError: the file is missing or damaged.
    """
    needed = "the protocol's folds, as the install holds them"
    with usable(path, SplitError, needed, "install bleedmap again"):
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if content.pop("format") != _FORMAT:
            raise ValueError("of another format")
        folds = [Fold(one["fold"], tuple(one["validation"]), tuple(one["test"])) for one in content.pop("folds")]
        return ProtocolFolds(**content, folds=tuple(folds))


def make_protocol_folds(data: CtIch, seed: int = SEED) -> ProtocolFolds:
    """Draw the folds: stratified by bleed, even in types, slices, lesion slices and load. Reads every mask and image.

    Raises:
        InputError: a mask cannot be read.
        SplitError: too few patients.
    """
    loads = {one.number: 0 for one in data.patients} | lesion_pixels(data)
    further = {one: tuple(int(load_class(pixels) == name) for name in LOADS) for one, pixels in loads.items()}
    splits = make_folds(
        data, "patient", seed, False, FOLDS, validation_fraction=VALIDATION_FRACTION, swaps=True, further=further
    )
    folds = tuple(Fold(k, _numbers(split, "validation"), _numbers(split, "test")) for k, split in enumerate(splits, 1))
    return ProtocolFolds(data.release, splits[0].data_sha256, seed, folds)


def lesion_pixels(data: CtIch) -> dict[int, int]:
    """Count the pixels of all lesions of each bleeding patient, from the masks.

    Raises:
        InputError: a mask cannot be read.
    """
    found: dict[int, int] = {}
    for record in data.slices:
        if record.has_lesion:
            found[record.patient] = found.get(record.patient, 0) + int(data.read_mask(record).sum())
    return found


def load_class(pixels: int) -> str | None:
    """Return the name in `LOADS` for a patient's lesion pixels; None without any."""
    return next(
        (name for name, (low, high) in LOADS.items() if low <= pixels and (high is None or pixels < high)), None
    )


def _numbers(split: Split, side: str) -> tuple[int, ...]:
    return tuple(sorted(int(name) for name in split.patients(side)))


def _bad_split(found: str) -> SplitError:
    return SplitError(
        "folds", found=found, needed="every patient tested once, on one side of a fold",
        remedy="use the folds that the install holds",
    )  # fmt: skip
