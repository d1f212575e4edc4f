"""What CT-ICH says of its patients and slices, in the words that both releases share."""

from dataclasses import dataclass
from typing import Literal

Sex = Literal["male", "female"]

# Most frequent first, counted in lesion slices of release 1.0.0.
TYPES = ("epidural", "intraparenchymal", "subdural", "intraventricular", "subarachnoid")
SHORT_NAMES = {
    "epidural": "EDH",
    "intraparenchymal": "IPH",
    "subdural": "SDH",
    "intraventricular": "IVH",
    "subarachnoid": "SAH",
}


def slice_id(patient: int, number: int) -> str:
    """ "049/14": the patient's number in three digits, the slice's number counted from 1."""
    return f"{patient:03d}/{number}"


@dataclass(frozen=True)
class SliceRecord:
    """One axial slice: the radiologists' labels, and whether a mask marks a lesion in it."""

    patient: int
    number: int  # from 1
    types: frozenset[str]  # of TYPES; empty where no hemorrhage was labelled
    fracture: bool
    has_lesion: bool
    has_bone: bool  # bone-window values can be read too

    @property
    def id(self) -> str:
        """For example "049/14": patient 49, slice 14."""
        return slice_id(self.patient, self.number)


@dataclass(frozen=True)
class Patient:
    """One patient: demographics as filed, and the slices in the order of their numbers.

    The fields ending in `_on_file` and the diagnosis come from the demographics table, which disagrees with
    the slice labels for some patients. The slice labels and masks are the reference.
    """

    number: int
    age_years: float | None
    sex: Sex | None
    diagnosis: str  # the condition on file, as text
    slices: tuple[SliceRecord, ...]
    types_on_file: frozenset[str] = frozenset()
    fracture_on_file: bool = False
    note_on_file: str = ""

    @property
    def types(self) -> frozenset[str]:
        """All types that a slice of this patient is labelled with."""
        return frozenset().union(*(record.types for record in self.slices))

    @property
    def has_lesion(self) -> bool:
        """Whether a mask marks a lesion in any slice."""
        return any(record.has_lesion for record in self.slices)

    @property
    def fracture(self) -> bool:
        """Whether any slice is labelled with a fracture."""
        return any(record.fracture for record in self.slices)
