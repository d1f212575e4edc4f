"""Studies of one's own with masks, to train on: found and read as `bleedmap evaluate --studies` does, by patient.

What a run keeps of them is hashes.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from bleedmap.arrays import FloatArray, Progress, ignore
from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.datasets.ct_ich_tables import SLICE_MM
from bleedmap.datasets.own_split import (
    VALIDATION_FRACTION,
    OwnSplit,
    OwnStudy,
    PatientCounts,
    Side,
    deal_patients,
)
from bleedmap.errors import DataError, SettingsError, SplitError
from bleedmap.evaluation.records import TYPE_NAMES
from bleedmap.evaluation.studies.find import (
    Case,
    Cases,
    NoMask,
    Places,
    find_cases,
    hash_file,
    hash_words,
)
from bleedmap.evaluation.studies.labels import read_table
from bleedmap.evaluation.studies.patients import ALONE, BY_ID, Patients, read_patients
from bleedmap.evaluation.studies.references import read_case
from bleedmap.folds.run import Material
from bleedmap.inference.weights import MeasuredOn, locate
from bleedmap.models.checkpoint import Checkpoint
from bleedmap.models.export import load_onnx
from bleedmap.preprocess import TRAINING_VIEW_MM, Preprocessing
from bleedmap.study.gate.gate import find_refusal
from bleedmap.study.gate.pictures import WANTED, judge_pictures
from bleedmap.study.segment import prepare
from bleedmap.training.config import Recipe
from bleedmap.training.export import TRAINED
from bleedmap.training.loop import network_tensors
from bleedmap.training.samples import Samples
from bleedmap.training.steps import Work
from bleedmap.training.studies import CtIchStudies, JoinedStudies, Shown, Studies, to_reference
from bleedmap.window import BRAIN, Window

_HASH_THREADS = 2


@dataclass(frozen=True)
class OwnPlaces:
    """Where a user's studies, and what belongs to them, lie."""

    studies: Path  # folder of the images
    masks: Path | None  # that of the masks; None where they lie among or beside the images
    patients: Path | None  # table of patients; None: patients.csv in the folder of the images, if it is there
    test: Path | None  # table of the patients who are kept for testing
    ct_ich: Path | None  # the data set, whose patients are trained on too
    run: Path  # the run's folder, which may lie inside
    mask_name: str | None = None  # what masks' names begin or end with, or what their folders are called
    mask_labels: frozenset[int] = frozenset()  # numbers in the masks that are hemorrhage; none: all but 0


@dataclass(frozen=True)
class OwnReading:
    """How studies are read and split; a run keeps it."""

    window: tuple[float, float] = (BRAIN.level_hu, BRAIN.width_hu)  # level and width in which pictures were exported
    accept: tuple[str, ...] = ()  # input checks whose refusal is overruled
    no_mask_means: NoMask = "unknown"  # what a study without a mask file is
    validation: float = VALIDATION_FRACTION  # part of the patients to choose thresholds on


@dataclass(frozen=True, eq=False)
class OwnCase:
    """A study of one's own, its patient, and the hashes by which a run knows it again."""

    case: Case
    patient: str
    types: frozenset[str] | None  # of `TYPE_NAMES`, that it has; None where no table tells
    images: str  # SHA-256
    reference: str  # SHA-256


@dataclass(frozen=True, eq=False)
class OwnStudies:
    """Studies of one's own, as a network is shown them; a number is the place in `cases`."""

    cases: tuple[OwnCase, ...]
    window: Window  # in which pictures were exported
    accept: tuple[str, ...]  # input checks whose refusal is overruled
    threads: int = 1  # pydicom's settings are the process'
    apart_mm: dict[int, float | None] = field(default_factory=dict)  # from slice to slice, of those read so far

    @property
    def numbers(self) -> tuple[int, ...]:
        """Of all studies."""
        return tuple(range(len(self.cases)))

    def read(self, number: int, settings: Preprocessing) -> Shown:
        """Read a study as `bleedmap segment` shows it to a network: turned, checked, thin slices as slabs.

        Raises:
            InputError: it cannot be read, its mask is on another grid, or an input check refuses it.
        """
        one = self.cases[number]
        read = read_case(one.case, self.window, self.accept)
        if read.study is None:
            refusal = find_refusal(one.case.name, judge_pictures(read.looks, self.window), self.accept, WANTED)
            if refusal is not None:
                raise refusal
            self.apart_mm[number] = None
            pixel = TRAINING_VIEW_MM / max(read.hu.shape[1:])
            return _show(read.hu, np.asarray(read.mask, np.float32), one.types, None, pixel**2 * SLICE_MM / 1000)
        prepared = prepare(read.study, MeasuredOn(), self.accept)
        grid = prepared.volume.grid
        self.apart_mm[number] = grid.spacing_mm[0] if len(grid) > 1 else None
        spacing = (grid.spacing_mm[1], grid.spacing_mm[2])
        share = prepared.share(read.mask)
        return _show(prepared.volume.hu, share, one.types, spacing, float(grid.voxel_ml.mean()))

    def content_sha256(self) -> str:
        """Hash of images and masks of all."""
        return sha256(" ".join(f"{one.images} {one.reference}" for one in self.cases).encode()).hexdigest()

    def describe(self, numbers: Sequence[int]) -> dict[str, Any]:
        """How many, how far apart their slices lie, and their hashes: nothing names a patient."""
        for one in numbers:
            if one not in self.apart_mm:
                self.read(one, Preprocessing())
        apart = [mm for one in numbers if (mm := self.apart_mm[one]) is not None]
        chosen = [self.cases[one] for one in numbers]
        patients = len({one.patient for one in chosen})
        return {
            "trained_on": f"a user's own data: {len(chosen):,} studies of {patients:,} patients",
            "trained_patients": [], "trained_studies": sorted(one.images for one in chosen),
            **({"measured_on": asdict(MeasuredOn.around(apart))} if apart else {}),
        }  # fmt: skip


def _show(
    hu: FloatArray, share: FloatArray, types: frozenset[str] | None, pixel_mm: tuple[float, float] | None,
    voxel_ml: float,
) -> Shown:  # fmt: skip
    """A slice that bleeds has a type for sure where the study has one alone; none that the study has not."""
    bleeds = np.asarray(to_reference(share).any(axis=(1, 2)))
    if bleeds.any() and not types:
        types = None
    held = np.array([name in (types or ()) for name in TYPE_NAMES], np.bool_)
    told = np.where(held, 1.0 if held.sum() == 1 else np.nan, 0.0) if types is not None else np.full(len(held), np.nan)
    labels = np.column_stack([bleeds, np.where(bleeds[:, None], told, 0.0)]).astype(np.float32)
    known = None if types is None and bleeds.any() else bleeds[:, None] & held
    return Shown(hu, share, labels, known, pixel_mm, voxel_ml)


def describe_cases(found: Cases, patients: Patients, progress: Progress = ignore) -> list[OwnCase]:
    """Say whose the studies are, and hash their files; in the order of their images' hashes, whatever their names.

    Raises:
        DataError: the same images twice.
    """
    described = []
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        hashes = pool.map(partial(_hash_case, types=patients.types), found.cases)
        for done, (case, (images, reference)) in enumerate(zip(found.cases, hashes, strict=True), start=1):
            types = None if patients.types is None else patients.types[case.name]
            described.append(OwnCase(case, patients.of[case.name], types, images, reference))
            progress(done, len(found.cases))
    by_images: dict[str, list[str]] = defaultdict(list)
    for one in described:
        by_images[one.images].append(one.case.name)
    for same in by_images.values():
        if len(same) > 1:
            raise DataError(
                found.folder, found=f"the same images twice: {same[0]} and {same[1]}",
                needed="each study once, so that none is both trained on and judged", remedy="take one of them away",
            )  # fmt: skip
    return sorted(described, key=lambda one: one.images)


def _hash_case(case: Case, types: Mapping[str, frozenset[str]] | None) -> tuple[str, str]:
    """Hash the images, and the masks with the types."""
    masks = [hash_file(path) for path in case.masks]
    told = [] if types is None else sorted(types[case.name])
    told += [str(label) for label in sorted(case.mask_labels)]
    return case.images_sha256, hash_words([*(masks if case.kind == "pictures" else sorted(masks)), *told])


def read_tested(path: Path, cases: Sequence[OwnCase]) -> frozenset[str]:
    """Read which patients are kept for testing.

    Args:
        path: a table with the column patient, study, or both; a study stands for its patient.

    Raises:
        DataError: a table that cannot be read, or names what is not there.
    """
    needed, remedy = "patient, or study", "correct the table of the test side"
    known = ("patient", "study")
    rows = read_table(path, lambda columns: not columns.isdisjoint(known), needed, remedy, known)
    by_study = {one.case.name: one.patient for one in cases}
    patients = {name: name for name in by_study.values()}
    for kind in (ALONE, BY_ID):
        patients |= {name.removeprefix(kind): name for name in by_study.values() if name.startswith(kind)}
    tested = set()
    for row in rows:
        for column, names in (("patient", patients), ("study", by_study)):
            if (name := row.get(column)) and name not in names:
                found = f"line {row.line}: no {column} '{name}' has a mask"
                raise DataError(path, found=found, needed="names of patients or studies of the folder", remedy=remedy)
            if name:
                tested.add(names[name])
    return frozenset(tested)


@dataclass(frozen=True, eq=False)
class OwnFound:
    """What was found: every study, and those that may be trained and validated on."""

    cases: tuple[OwnCase, ...]
    tested: frozenset[str]  # patients kept for testing
    own: OwnStudies  # without theirs
    ct_ich: CtIchStudies | None
    left_out: int  # files and studies without a mask
    patients_told: str  # how patients were told apart

    @property
    def studies(self) -> Studies:
        """What is trained and validated on."""
        return self.own if self.ct_ich is None else JoinedStudies(self.own, self.ct_ich)

    @property
    def joined(self) -> dict[str, str] | None:
        """Release and hash of CT-ICH, where its patients are trained on too."""
        if self.ct_ich is None:
            return None
        return {"release": self.ct_ich.data.release, "data_sha256": self.ct_ich.content_sha256()}

    def describe(self, split: OwnSplit) -> str:
        """Say what is trained on, validated on, and kept for testing."""
        words = f"training on {split.count('train')}, validating on {split.count('validation')}, "
        words += f"never reading {split.count('test')}" if split.side("test") else "testing on none"
        words += f"; patients: {self.patients_told}"
        words += f"; {self.left_out:,} left out for want of a mask" if self.left_out else ""
        return words + ("" if self.ct_ich is None else f"; with CT-ICH's {len(self.ct_ich.numbers)} patients")


def find_own(places: OwnPlaces, given: OwnReading, split: OwnSplit | None, report: Work) -> OwnFound:
    """Find the studies, tell whose they are and hash them.

    Args:
        given: how a new run reads them.
        split: of a run that is resumed: how it reads them, and which they are.

    Raises:
        DataError, InputError, SplitError: nothing to train on, a table that does not fit, or not the run's studies.
    """
    reading = given if split is None else OwnReading(**split.reading)
    look = Places(
        places.studies,
        places.masks,
        places.run,
        reading.no_mask_means,
        mask_name=places.mask_name,
        mask_labels=places.mask_labels,
    )
    found = find_cases(look, lambda files: report("looking for studies", files, files, ""))
    count = len(found.cases)
    patients = read_patients(found, places.patients)
    cases = describe_cases(found, patients, lambda done, of: report("hashing studies", done, count, ""))
    tested = read_tested(places.test, cases) if places.test else frozenset[str]()
    used = [one for one in cases if one.patient not in tested] if split is None else find_again(cases, split)
    own = OwnStudies(tuple(used), Window(*reading.window), tuple(reading.accept))
    ct_ich = None if places.ct_ich is None else CtIchStudies(open_ct_ich(places.ct_ich))
    result = OwnFound(tuple(cases), tested, own, ct_ich, len(found.left_out), patients.told)
    if split is not None and split.ct_ich != result.joined:
        raise SplitError(
            "CT-ICH", found="not as the run began with it",
            needed="its folder with --data, unchanged" if split.ct_ich else "studies of one's own alone",
            remedy="give --data exactly where the run began with it",
        )  # fmt: skip
    return result


def split_own(found: OwnFound, samples: Samples, reading: OwnReading, seed: int) -> OwnSplit:
    """Split by patient: those kept for testing, a part to validate on, stratified by bleed, the rest to train on.

    Args:
        reading: how, and the part to validate on.

    Raises:
        SplitError: too few patients of one kind.
    """
    counts: dict[str, list[int]] = {}
    for number, one in enumerate(found.own.cases):
        lesions = samples.has_lesion[samples.study == number]
        known = counts.setdefault(one.patient, [0, 0])
        known[0] += len(lesions)
        known[1] += int(lesions.sum())
    chosen = deal_patients([PatientCounts(name, *two) for name, two in counts.items()], reading.validation, seed)
    numbers = {name: row for row, name in enumerate(dict.fromkeys(one.patient for one in found.cases), start=1)}

    def side(patient: str) -> Side:
        return "test" if patient in found.tested else "validation" if patient in chosen else "train"

    return OwnSplit(seed, asdict(reading), found.joined, tuple(
        OwnStudy(one.images, one.reference, numbers[one.patient], side(one.patient)) for one in found.cases
    ))  # fmt: skip


def material_of(found: OwnFound, split: OwnSplit, start: Checkpoint | None) -> Material:
    """What a run is trained on; CT-ICH's patients are trained on alone."""
    sides = {side: {one.images for one in split.side(side)} for side in ("train", "validation")}
    train, validation = (
        tuple(number for number, one in enumerate(found.own.cases) if one.images in images) for images in sides.values()
    )
    studies, begun = found.studies, None if start is None else start.record
    others = studies.of_ct_ich if isinstance(studies, JoinedStudies) else ()
    return Material(studies, (*train, *others), validation, split, begun)


def find_again(cases: Sequence[OwnCase], split: OwnSplit) -> list[OwnCase]:
    """The studies that a run trains and validates on, by their hashes; others are left out.

    Raises:
        SplitError: one is missing, or its mask or types have changed.
    """
    wanted = {one.images: one for one in split.studies if one.side != "test"}
    used = [one for one in cases if one.images in wanted]
    changed = [one.case.name for one in used if one.reference != wanted[one.images].reference]
    if changed or len(used) < len(wanted):
        missing = f"{len(wanted) - len(used)} of the run's {len(wanted)} studies are missing or have other images"
        raise SplitError(
            "studies",
            found=f"other masks or types than the run began with: {', '.join(changed[:3])}" if changed else missing,
            needed="the studies that the run began with, unchanged",
            remedy="give their folder and table, or begin a new run",
        )  # fmt: skip
    return used


def load_start(name: str, recipe: Recipe) -> Checkpoint:
    """Load a finished network to go on from.

    Args:
        name: installed weights by name, or an .onnx file.
        recipe: the first stage's.

    Raises:
        SettingsError: the recipe trains another network, or one that sees studies otherwise.
        WeightsError: missing or damaged.
    """
    weights = locate(name)
    settings = replace(weights.preprocessing, size=recipe.size)
    if weights.network != recipe.network() or settings != recipe.preprocessing():
        raise SettingsError(
            weights.name, found="another network than this preset trains", needed="one of the same preset",
            remedy="leave --start out, or give another --preset: ct-ich-lite is of the preset lite",
        )  # fmt: skip
    network, _ = load_onnx(weights.content, weights.path)
    tensors: dict[str, Tensor] = network_tensors(network.state_dict())
    seen = {key: weights.record.get(key, []) for key in TRAINED}
    about = {"name": weights.name, "sha256": weights.sha256, "trained_on": weights.trained_on, **seen}
    return Checkpoint(tensors, about)
