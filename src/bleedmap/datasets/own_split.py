"""Split one's own studies into train, validation and test, by patient.

The file names no patient: a study is the hash of its images, a patient a number. So a folder that was moved, or whose
studies were renamed, is known again, and a study whose images or mask have changed is not taken for the same.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bleedmap.datasets.splits import deal
from bleedmap.errors import SplitError, usable
from bleedmap.io.files import write_json

Side = Literal["train", "validation", "test"]
VALIDATION_FRACTION = 0.2  # of the patients that are not tested
FORMAT = "bleedmap own split 1"
_NEEDED = "a split of one's own studies as `bleedmap train` wrote it"
_REMEDY = "restore the file, or begin a new run with `bleedmap train --studies FOLDER -o RUN`"


@dataclass(frozen=True)
class OwnStudy:
    """A study of a split."""

    images: str  # SHA-256 of its images
    reference: str  # SHA-256 of its masks, and of the types that a table gives it
    patient: int  # from 1
    side: Side


@dataclass(frozen=True)
class OwnSplit:
    """Studies on three sides, the third of which may be empty. A constructed split does not leak.

    `reading`: how the studies were read, as JSON can hold it; `ct_ich`: release and hash of CT-ICH, where its patients
    are trained on too.

    Raises:
        SplitError: a patient or a study is on two sides, or nothing is on the first two.
    """

    seed: int
    reading: Mapping[str, Any]
    ct_ich: Mapping[str, str] | None
    studies: tuple[OwnStudy, ...]

    def __post_init__(self) -> None:
        sides = {(one.patient, one.side) for one in self.studies}
        torn = [patient for patient, times in Counter(patient for patient, _ in sides).items() if times > 1]
        twice = [images for images, times in Counter(one.images for one in self.studies).items() if times > 1]
        lacking = [side for side in ("train", "validation") if not self.side(side)]
        if torn or twice or lacking:
            found = f"patients on more than one side: {len(torn)}" if torn else f"studies named twice: {len(twice)}"
            raise SplitError("split", f"nothing on the {lacking[0]} side" if lacking else found, _NEEDED, _REMEDY)

    def side(self, name: str) -> tuple[OwnStudy, ...]:
        """The studies of "train", "validation" or "test"."""
        return tuple(one for one in self.studies if one.side == name)

    def count(self, name: str) -> str:
        """Studies and patients of a side, in words."""
        chosen = self.side(name)
        studies, patients = len(chosen), len({one.patient for one in chosen})
        return f"{studies:,} {'study' if studies == 1 else 'studies'} of {patients:,} patient{'s' * (patients != 1)}"

    @property
    def data_sha256(self) -> str:
        """Hash of what is trained on and chosen on."""
        used = sorted((one.side, one.images, one.reference) for one in self.studies if one.side != "test")
        return sha256(json.dumps([used, self.ct_ich], sort_keys=True).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        write_json(path, {"format": FORMAT, **asdict(self)})


def read_own_split(path: Path) -> OwnSplit:
    """Read and check what `OwnSplit.write` wrote.

    Raises:
        SplitError: it cannot be read, or leaks.
    """
    with usable(path, SplitError, _NEEDED, _REMEDY):
        content = json.loads(path.read_text("utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError("of another format")
        return OwnSplit(**content | {"studies": tuple(OwnStudy(**one) for one in content["studies"])})


@dataclass(frozen=True)
class PatientCounts:
    """What is dealt to a side whole: a patient's slices, and how many of them bleed."""

    patient: str
    slices: int
    lesion_slices: int


def deal_patients(patients: Sequence[PatientCounts], validation: float, seed: int) -> frozenset[str]:
    """Choose the patients to validate on: seeded, bleeding and bleed-free ones in proportion.

    Args:
        patients: in an order that the same data always have.
        validation: part of the patients.
        seed: the same seed and patients give the same choice.

    Raises:
        SplitError: nobody or everybody bleeds, or a side would have no patient of one kind.
    """
    bleeding = sum(one.lesion_slices > 0 for one in patients)
    free = len(patients) - bleeding
    found = f"{len(patients)} patients to train on, of whom {bleeding} bleed and {free} do not"
    if not bleeding or not free:
        lacking = "without a bleed: an empty mask says so, or --no-mask-means lesion-free" if bleeding else "who bleed"
        raise SplitError(
            "studies", found=found, needed="both kinds, on both sides: to learn from, and to choose thresholds on",
            remedy=f"add patients {lacking}; if studies of several patients count as one's, give --patients",
        )  # fmt: skip
    try:
        sides = deal(
            patients, lambda one: [one.slices, one.lesion_slices], (1 - validation, validation),
            np.random.default_rng([seed, 0]),
        )  # fmt: skip
    except SplitError:
        least = next(count for count in range(2, 10_000) if 1 <= round(count * validation) < count)
        raise SplitError(
            "studies", found=f"{found}: too few for a validation side of {validation:.0%}",
            needed=f"{least} or more of each kind: both are learnt from, and both choose thresholds",
            remedy="add studies, or give more of them to --validation",
        ) from None  # fmt: skip
    return frozenset(one.patient for one in sides[1])
