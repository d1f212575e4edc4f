"""Studies with references, as a network is shown them: CT-ICH's patients, studies of one's own, or both.

Training, and the choice of thresholds after it, take them from here alone.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from bleedmap.arrays import BoolArray, FloatArray
from bleedmap.datasets.ct_ich import TYPES, CtIch
from bleedmap.datasets.ct_ich_tables import PIXELS, SLICE_MM
from bleedmap.inference.weights import MeasuredOn
from bleedmap.preprocess import TRAINING_VIEW_MM, Preprocessing, guess_pixel_mm

# Of CT-ICH, by the training view, a guess.
VOXEL_ML = (TRAINING_VIEW_MM / PIXELS) ** 2 * SLICE_MM / 1000
CT_ICH = {  # by release, with its licence
    "1.0.0 JPEG": "CT-ICH 1.0.0 (Hssayeni et al., doi 10.13026/w8q8-ky94, CC BY 4.0)",
    "1.3.1 NIfTI": "CT-ICH 1.3.1 (Hssayeni et al., PhysioNet, restricted licence)",
}


@dataclass(frozen=True, eq=False)
class Shown:
    """One study as a network is shown it, with its reference.

    `labels`: (slice, 6) float32 0 or 1 in the order of `bleedmap.models.networks.LABELS`; NaN where not known.
    `types`: (slice, 5) bool, which types its slices hold, right for the study as a whole; None where not known.
    `pixel_mm`: (row, column) spacing, for a network that sees true sizes at least; None where not known.
    """

    hu: FloatArray  # (slice, row, column) float32, feet first, bone's own values too where the network sees them
    share: BoolArray | FloatArray  # the same shape, bool or float32: the lesion's share of each pixel
    labels: FloatArray
    types: BoolArray | None
    pixel_mm: tuple[float, float] | None
    voxel_ml: float  # of a voxel, or the best guess

    @property
    def reference(self) -> BoolArray:
        """(slice, row, column) bool."""
        return to_reference(self.share)


class Studies(Protocol):
    """Studies with references, by their numbers."""

    @property
    def threads(self) -> int:
        """That may read at a time."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of all studies, ascending."""

    def read(self, number: int, settings: Preprocessing) -> Shown:
        """Read a study for a network with that preprocessing.

        Raises:
            InputError: it cannot be read or used.
        """

    def content_sha256(self) -> str:
        """Hash images and references of all studies."""

    def describe(self, numbers: Sequence[int]) -> dict[str, Any]:
        """What the file of a network says that was trained on those: 'trained_on', 'trained_patients', and more."""


def to_reference(share: BoolArray | FloatArray) -> BoolArray:
    """A lesion's share of pixels -> bool; what fills no pixel by half is not lost."""
    return np.asarray(share >= min(0.5, float(share.max()) or 0.5))


class CtIchStudies:
    """CT-ICH's patients, a study each."""

    threads = 2

    def __init__(self, data: CtIch) -> None:
        self.data = data
        self._patients = {one.number: one for one in data.patients}

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of all patients."""
        return tuple(self._patients)

    def read(self, number: int, settings: Preprocessing) -> Shown:
        """Read a patient; the spacing is known, or guessed by the head, for a network that sees true sizes alone."""
        slices = self._patients[number].slices
        read = self.data.read_full_hu if settings.bone else self.data.read_hu
        hu = np.stack([read(one) for one in slices])
        masks = np.stack([self.data.read_mask(one) for one in slices])
        types = np.array([[name in one.types for name in TYPES] for one in slices], np.bool_)
        labels = np.column_stack([[one.has_lesion for one in slices], types]).astype(np.float32)
        pixel_mm = None
        if settings.frame_mm:
            pixel_mm = self.data.pixel_mm(number, hu.shape[1]) or guess_pixel_mm(hu, settings.window)
        voxel_ml = VOXEL_ML if pixel_mm is None else pixel_mm[0] * pixel_mm[1] * SLICE_MM / 1000
        return Shown(hu, masks, labels, types, pixel_mm, voxel_ml)

    def content_sha256(self) -> str:
        """Hash of the data set."""
        return self.data.content_sha256()

    def describe(self, numbers: Sequence[int]) -> dict[str, Any]:
        """The data set, its licence, and the patients in three digits."""
        slices = sum(len(self._patients[one].slices) for one in numbers)
        return {
            "trained_on": f"{CT_ICH[self.data.release]}: {slices:,} slices of {len(numbers)} patients",
            "trained_patients": [f"{one:03d}" for one in numbers],
        }


@dataclass(frozen=True, eq=False)
class JoinedStudies:
    """Studies of one's own and CT-ICH's, whose numbers come after all others."""

    own: Studies
    ct_ich: CtIchStudies
    threads: int = 1

    @cached_property
    def _first(self) -> int:
        return max(self.own.numbers) + 1

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of one's own, then of CT-ICH."""
        return (*self.own.numbers, *self.of_ct_ich)

    @property
    def of_ct_ich(self) -> tuple[int, ...]:
        """The numbers that CT-ICH's patients have here."""
        return tuple(self._first + one for one in self.ct_ich.numbers)

    def read(self, number: int, settings: Preprocessing) -> Shown:
        """Read a study of either kind."""
        if number < self._first:
            return self.own.read(number, settings)
        return self.ct_ich.read(number - self._first, settings)

    def content_sha256(self) -> str:
        """Hashes of both."""
        return f"{self.own.content_sha256()} {self.ct_ich.content_sha256()}"

    def describe(self, numbers: Sequence[int]) -> dict[str, Any]:
        """Both, one after the other."""
        own = self.own.describe([one for one in numbers if one < self._first])
        other = self.ct_ich.describe([one - self._first for one in numbers if one >= self._first])
        if "measured_on" in own:  # of both; CT-ICH's are the defaults
            ends = own["measured_on"]["spacing_mm"], MeasuredOn.spacing_mm
            both = min(one[0] for one in ends), max(one[1] for one in ends)
            own["measured_on"] = asdict(MeasuredOn(spacing_mm=both))
        return {**own, **other, "trained_on": f"{own['trained_on']}; {other['trained_on']}"}
