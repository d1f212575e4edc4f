"""CT-ICH counted: patients, slices, lesions by type, lesion areas."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bleedmap.datasets.ct_ich import SHORT_NAMES, TYPES, CtIch, SliceRecord

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Spread:
    """Median, mean, smallest and largest."""

    median: float
    mean: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value."""
        return cls(float(np.median(values)), float(np.mean(values)), float(min(values)), float(max(values)))


@dataclass(frozen=True)
class TypeCount:
    """One type of hemorrhage: the slices and patients that bear it (a slice can bear several)."""

    name: str
    short_name: str
    slices: int
    patients: int


@dataclass(frozen=True)
class Summary:
    """What the data set holds. Spreads are None where there is nothing to count."""

    release: str
    patients: int
    male: int
    female: int
    age_years: Spread | None
    slices: int
    slices_a_patient: Spread
    bone_slices: int
    lesion_slices: int  # that a mask marks
    lesion_patients: int
    slices_of_lesion_patients: int
    lesion_slices_a_lesion_patient: Spread | None
    types: tuple[TypeCount, ...]
    slices_of_several_types: int
    patients_of_several_types: int
    fracture_slices: int
    fracture_patients: int
    patients_ticked_otherwise: int  # type or fracture ticks of the demographics that disagree with the slices
    lesion_image_sizes: tuple[tuple[int, int], ...]  # (rows, columns) that occur
    lesion_pixels: Spread | None
    lesion_percent_of_image: Spread | None


def summarise(data: CtIch, progress: Progress = lambda done, of: None) -> Summary:
    """Count everything; every mask is read.

    Args:
        data: either release.
        progress: called with the masks read so far and all of them.

    Raises:
        InputError: a mask or its slice cannot be read.
    """
    lesion = [record for record in data.slices if record.has_lesion]
    bleeding = [patient for patient in data.patients if patient.has_lesion]
    ages = [patient.age_years for patient in data.patients if patient.age_years is not None]
    pixels, sizes = _areas(data, lesion, progress)
    percents = [100 * area / (rows * columns) for area, (rows, columns) in zip(pixels, sizes, strict=True)]
    masks = [sum(record.has_lesion for record in patient.slices) for patient in bleeding]
    return Summary(
        release=data.release,
        patients=len(data.patients),
        male=sum(patient.sex == "male" for patient in data.patients),
        female=sum(patient.sex == "female" for patient in data.patients),
        age_years=Spread.of(ages) if ages else None,
        slices=len(data.slices),
        slices_a_patient=Spread.of([len(patient.slices) for patient in data.patients]),
        bone_slices=sum(record.has_bone for record in data.slices),
        lesion_slices=len(lesion),
        lesion_patients=len(bleeding),
        slices_of_lesion_patients=sum(len(patient.slices) for patient in bleeding),
        lesion_slices_a_lesion_patient=Spread.of(masks) if masks else None,
        types=tuple(_count_type(data, name) for name in TYPES),
        slices_of_several_types=sum(len(record.types) > 1 for record in data.slices),
        patients_of_several_types=sum(len(patient.types) > 1 for patient in data.patients),
        fracture_slices=sum(record.fracture for record in data.slices),
        fracture_patients=sum(patient.fracture for patient in data.patients),
        patients_ticked_otherwise=sum(
            (patient.types_on_file, patient.fracture_on_file) != (patient.types, patient.fracture)
            for patient in data.patients
        ),
        lesion_image_sizes=tuple(sorted(set(sizes))),
        lesion_pixels=Spread.of(pixels) if pixels else None,
        lesion_percent_of_image=Spread.of(percents) if percents else None,
    )


def _count_type(data: CtIch, name: str) -> TypeCount:
    slices = sum(name in record.types for record in data.slices)
    patients = sum(name in patient.types for patient in data.patients)
    return TypeCount(name, SHORT_NAMES[name], slices, patients)


def _areas(data: CtIch, lesion: Sequence[SliceRecord], progress: Progress) -> tuple[list[int], list[tuple[int, int]]]:
    """Lesion pixels and (rows, columns) of each slice."""
    pixels, sizes = [], []
    for done, record in enumerate(lesion, start=1):
        mask = data.read_mask(record)
        pixels.append(int(mask.sum()))
        sizes.append((mask.shape[0], mask.shape[1]))
        progress(done, len(lesion))
    return pixels, sizes
