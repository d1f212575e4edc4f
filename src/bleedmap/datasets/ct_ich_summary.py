"""Count CT-ICH (patients, slices, lesions by type, lesion areas), and find what is odd in the files at hand."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bleedmap.arrays import Progress, ignore
from bleedmap.datasets.ct_ich import SHORT_NAMES, TYPES, CtIch, Patient, SliceRecord
from bleedmap.datasets.ct_ich_releases import JpegRelease
from bleedmap.io.images import MASK_THRESHOLD
from bleedmap.window import BRAIN

# Grey outside these is black or white for the eye; between them lie JPEG's rims.
_BLACK, _WHITE = 20, 235

# Words of the demographics table (with its misspelling) for the types. "Intracranial" covers them all.
_WORDS = {"extradural": "epidural", "extadural": "epidural", "subdural": "subdural", "ivh": "intraventricular"}
_GENERAL_WORDS = ("intracranial", "ich")


@dataclass(frozen=True)
class Spread:
    """Median, mean, smallest and largest."""

    median: float
    mean: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Compute the spread of at least one value."""
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


def summarise(data: CtIch, progress: Progress = ignore) -> Summary:
    """Count everything in either release; every mask is read.

    Raises:
        InputError: a mask or its slice cannot be read.
    """
    lesion = [record for record in data.slices if record.has_lesion]
    bleeding = [patient for patient in data.patients if patient.has_lesion]
    ages = [patient.on_file.age_years for patient in data.patients if patient.on_file.age_years is not None]
    pixels, sizes = _measure_areas(data, lesion, progress)
    percents = [100 * area / (rows * columns) for area, (rows, columns) in zip(pixels, sizes, strict=True)]
    masks = [sum(record.has_lesion for record in patient.slices) for patient in bleeding]
    groups: tuple[tuple[SliceRecord | Patient, ...], ...] = (data.slices, data.patients)
    return Summary(
        release=data.release,
        patients=len(data.patients),
        male=sum(patient.on_file.sex == "male" for patient in data.patients),
        female=sum(patient.on_file.sex == "female" for patient in data.patients),
        age_years=Spread.of(ages) if ages else None,
        slices=len(data.slices),
        slices_a_patient=Spread.of([len(patient.slices) for patient in data.patients]),
        bone_slices=sum(record.has_bone for record in data.slices),
        lesion_slices=len(lesion),
        lesion_patients=len(bleeding),
        slices_of_lesion_patients=sum(len(patient.slices) for patient in bleeding),
        lesion_slices_a_lesion_patient=Spread.of(masks) if masks else None,
        types=tuple(
            TypeCount(name, SHORT_NAMES[name], *(sum(name in one.types for one in of) for of in groups))
            for name in TYPES
        ),
        slices_of_several_types=sum(len(record.types) > 1 for record in data.slices),
        patients_of_several_types=sum(len(patient.types) > 1 for patient in data.patients),
        fracture_slices=sum(record.fracture for record in data.slices),
        fracture_patients=sum(patient.fracture for patient in data.patients),
        patients_ticked_otherwise=sum(
            (patient.on_file.types, patient.on_file.fracture) != (patient.types, patient.fracture)
            for patient in data.patients
        ),
        lesion_image_sizes=tuple(sorted(set(sizes))),
        lesion_pixels=Spread.of(pixels) if pixels else None,
        lesion_percent_of_image=Spread.of(percents) if percents else None,
    )


def _measure_areas(
    data: CtIch, lesion: Sequence[SliceRecord], progress: Progress
) -> tuple[list[int], list[tuple[int, int]]]:
    """Count the lesion pixels of each slice, and give its (rows, columns)."""
    pixels, sizes = [], []
    for done, record in enumerate(lesion, start=1):
        mask = data.read_mask(record)
        pixels.append(int(mask.sum()))
        sizes.append((mask.shape[0], mask.shape[1]))
        progress(done, len(lesion))
    return pixels, sizes


@dataclass(frozen=True)
class Oddity:
    """One oddity: its place, what is found there, and what the program makes of it."""

    place: str
    found: str
    treatment: str


def find_oddities(data: CtIch) -> tuple[Oddity, ...]:
    """Find all oddities: of files first, then of patients, then what holds for every picture.

    Raises:
        InputError: a mask cannot be read.
    """
    checks = (
        _check_tables, _check_bones, _check_labels_and_masks, _check_patients, _check_mask_greys, _state_limits,
    )  # fmt: skip
    return tuple(oddity for check in checks for oddity in check(data))


def explain_diagnosis(patient: Patient) -> str | None:
    """Explain why the diagnosis on file disagrees with the slice labels; None where it does not."""
    text = patient.on_file.diagnosis.lower()
    named = {name for word, name in _WORDS.items() if word in text}
    reasons = []
    if "normal" in text:
        if patient.types:
            reasons.append(f"slices bear {_shorten(patient.types)}")
        if patient.fracture:
            reasons.append("slices bear a fracture")
    elif text:
        if absent := named - patient.types:
            reasons.append(f"no slice bears {_shorten(absent)}, but {_shorten(patient.types) or 'none'}")
        elif not any(word in text for word in _GENERAL_WORDS) and (unnamed := patient.types - named):
            reasons.append(f"slices bear {_shorten(unnamed)} too")
    return " and ".join(reasons) or None


def _shorten(types: frozenset[str] | set[str]) -> str:
    return ", ".join(SHORT_NAMES[name] for name in TYPES if name in types)


def _check_tables(data: CtIch) -> Iterator[Oddity]:
    labels, demographics = data.root / JpegRelease.labels, data.root / JpegRelease.demographics
    if labels.is_file() and labels.read_bytes().startswith(b"\xef\xbb\xbf"):
        yield Oddity(labels.name, "starts with a byte-order mark", "skipped when read")
    if demographics.is_file():
        with demographics.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            next(reader, None)
        if reader.line_num > 1:
            yield Oddity(demographics.name, "a header cell with a line break", "columns match by letters only")
    if data.patients[0].number < 100:
        yield Oddity("tables and folders", "patient 49 in the tables, 049 in the folders", "read as numbers")


def _check_bones(data: CtIch) -> Iterator[Oddity]:
    for record in data.slices:
        if not record.has_bone:
            yield Oddity(record.id, "no bone-window picture", "only the brain window is used")


def _check_labels_and_masks(data: CtIch) -> Iterator[Oddity]:
    for record in data.slices:
        if record.types and not record.has_lesion:
            yield Oddity(record.id, f"labelled {_shorten(record.types)}, no mask", "counts as lesion-free")
        if record.has_lesion and not record.types:
            yield Oddity(record.id, "a mask, but no type labelled", "counts as a lesion of no type")


def _check_patients(data: CtIch) -> Iterator[Oddity]:
    for patient in data.patients:
        place = f"patient {patient.number:03d}"
        if reason := explain_diagnosis(patient):
            yield Oddity(place, f"on file '{patient.on_file.diagnosis}': {reason}", "labels and masks decide")
        if patient.on_file.types != patient.types:
            ticks = _shorten(patient.on_file.types) or "no type"
            found = f"{ticks} ticked on file, slices bear {_shorten(patient.types) or 'none'}"
            yield Oddity(place, found, "labels and masks decide")
        if patient.on_file.fracture != patient.fracture:
            words = ("no ", "") if patient.fracture else ("a ", "no ")
            found = f"{words[0]}fracture on file, {words[1]}fracture in the slices"
            yield Oddity(place, found, "slice labels decide")
        if "chronic" in patient.on_file.diagnosis.lower():
            found = f"chronic bleed ({patient.on_file.note or patient.on_file.diagnosis}): darker than brain"
            yield Oddity(place, found, "kept; its authors left it out of their test")


def _check_mask_greys(data: CtIch) -> Iterator[Oddity]:
    shares: list[float] = []
    darkest_white, brightest_black = 255, 0
    for record in data.slices:
        grey = data.read_mask_grey(record) if record.has_lesion else None
        if grey is None:
            continue
        lesion = grey > MASK_THRESHOLD
        darkest_white = min(darkest_white, int(grey[lesion].min(initial=255)))
        brightest_black = max(brightest_black, int(grey[~lesion].max(initial=0)))
        rim = int(((grey > _BLACK) & (grey < _WHITE)).sum())
        shares.append(100 * rim / max(int(lesion.sum()), 1))
    if shares and max(shares) > 0:
        yield Oddity(
            f"masks ({len(shares)})",
            f"grey pixels between {_BLACK} and {_WHITE}, from JPEG: {np.mean(shares):.1f} % of a lesion, "
            f"{max(shares):.1f} % at the most; none between {brightest_black} and {darkest_white}",
            f"lesion is grey above {MASK_THRESHOLD}",
        )


def _state_limits(data: CtIch) -> Iterator[Oddity]:
    if data.release.endswith("JPEG"):
        highest_hu = BRAIN.lowest_hu + BRAIN.width_hu
        spans = f"grey 0 to 255 spans {BRAIN.lowest_hu:.0f} to {highest_hu:.0f} HU"
        yield Oddity("brain pictures", spans, "HU beyond are lost")
        yield Oddity("all pictures", "no pixel spacing is given", "areas in pixels, no mL")
