"""One bleeding head in many scans, each through files to results: where the blood lies, and how much it is.

Run as a script it prints the whole matrix in Markdown: `python tests/geometry_matrix.py`.

The network is replaced by the truth, and nothing on the way is told which voxel is which: every voxel of blood has
`BLOOD_HU` in the files, and what was read is marked where it is that bright. So order, flips, places and volumes in the
results all come from the code under test; the truth comes from the phantom's own grid by plain arithmetic.
"""

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import combinations, product
from pathlib import Path

import numpy as np
from geometry_results import Deviation, deviation_of
from pydicom import Dataset
from pydicom.uid import generate_uid

from bleedmap.datasets.phantom import Bleed, PhantomSettings
from bleedmap.datasets.phantom_dicom import TRANSFER_SYNTAXES, CtOptions, ct_instances, enhanced_ct
from bleedmap.datasets.phantom_scan import PhantomScan, ScanGeometry, scan
from bleedmap.errors import InputError
from bleedmap.geometry import PlaneTurn
from bleedmap.inference.backends import BackendRecord
from bleedmap.models.weights import locate
from bleedmap.study.save import save
from bleedmap.study.segment import conclude, read_study
from bleedmap.volume import Mask, Volume

HEAD = PhantomSettings(seed=4, bleeds=(Bleed("IPH", 30.0), Bleed("EDH", 8.0, "right")))
BLOOD_HU, HIGHEST_OTHER_HU = 3000.0, 2000.0
_BLOOD_BOX_MM = np.array(list(product((-72, 60), (2, 72), (-29, 27))), float)  # its corners, LPS

# How the patient lies turns the picture in the patient's axes: PS3.3 C.7.3.1.1.2. Seen from the feet if head first.
POSITIONS = {
    "HFS": PlaneTurn(),
    "HFP": PlaneTurn(False, True, True),
    "HFDL": PlaneTurn(True, True, False),
    "HFDR": PlaneTurn(True, False, True),
    "FFS": PlaneTurn(False, False, True),
    "FFP": PlaneTurn(False, True, False),
    "FFDL": PlaneTurn(True, False, False),
    "FFDR": PlaneTurn(True, True, True),
}
PLANES = {
    "axial": (0.0, 0.0, 0.0),
    "oblique 10°": (6.0, -8.0, 5.0),
    "oblique 25°": (4.0, 24.0, -12.0),
    "oblique 50°": (50.0, 0.0, 0.0),
    "coronal": (90.0, 0.0, 0.0),
    "sagittal": (0.0, 90.0, 0.0),
}
_LEFT_OUT = ("one without a place", "one turned by 3°")  # such a slice is not read, and a note says so
# table steps in mm, one after the other and again; thickness in mm, or None for the steps' own
SPACINGS: dict[str, tuple[tuple[float, ...], float | None]] = {
    "0.5 mm": ((0.5,), None),
    "1.25 mm": ((1.25,), None),
    "2.5 mm": ((2.5,), None),
    "5 mm": ((5.0,), None),
    "10 mm": ((10.0,), None),
    "uneven 2.5–6 mm": ((2.5, 2.5, 4.0, 6.0), None),
    "overlapping, 3 of 5 mm": ((3.0,), 5.0),
    "apart, 4 of 3 mm": ((4.0,), 3.0),
}
PIXELS = {
    "1.8 × 1.8 mm, 100 × 100": ((100, 100), (1.8, 1.8)),
    "1.73 × 2.11 mm, 103 × 87": ((103, 87), (1.73, 2.11)),
}


@dataclass(frozen=True)
class Case:
    """One row: a scan, and how it was written."""

    position: str = "HFS"
    plane: str = "axial"
    tilt_deg: float = 0.0
    spacing: str = "5 mm"
    gaps: str = "none"
    pixels: str = "1.8 × 1.8 mm, 100 × 100"
    syntax: str = "explicit"
    form: str = "classic"
    padding: bool = False
    expected: str = ""  # of a refusal: what its message says

    @property
    def limited(self) -> str:
        """Why these slices themselves hold the volume less well than within 2 %; '' where they must."""
        coarse = self.spacing == "10 mm" or self.spacing.startswith("uneven")
        return "too few slices" if coarse and self.gaps.endswith("missing") else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader must be told, parts of sentences."""
        said = {
            "The gantry was tilted by": bool(self.tilt_deg),
            "The slices are uneven": self.spacing.startswith("uneven"),
            "The slices overlap": self.spacing.startswith("overlapping"),
            "There are gaps between all slices": self.spacing.startswith("apart"),
            "to be missing": self.gaps.endswith("missing") and not self.spacing.startswith("uneven"),
            "1 doubled slice was left out": self.gaps == "one doubled",
            "that belong together were read": self.gaps in _LEFT_OUT,
            "outside the field of view (padding": self.padding,
        }
        return tuple(words for words, needed in said.items() if needed)


FACTORS = {
    "position": tuple(POSITIONS),
    "syntax": tuple(TRANSFER_SYNTAXES),
    "spacing": tuple(SPACINGS)[2:],  # thin slices are many: rows of their own below
    "gaps": ("none", "one missing", "two missing", "one doubled"),
    "tilt_deg": (0.0, 15.0, -15.0, 25.0),
    "plane": ("axial", "oblique 10°", "oblique 25°"),
    "pixels": tuple(PIXELS),
    "form": ("classic", "enhanced"),
    "padding": (False, True),
}
FEW = (
    Case(spacing="0.5 mm", position="HFDR", gaps="two missing", syntax="jpeg-2000", form="enhanced"),
    Case(spacing="1.25 mm", position="FFP", plane="oblique 25°", tilt_deg=15.0, syntax="jpeg-ls", padding=True),
    Case(spacing="1.25 mm", position="HFP", plane="oblique 10°", gaps="one doubled", syntax="rle", tilt_deg=-15.0),
    Case(gaps="one without a place"),  # left out, which a note says
    Case(gaps="one turned by 3°", syntax="jpeg"),
)
REFUSED = (
    Case(plane="coronal", expected="coronal, 90° from axial"),
    Case(plane="coronal", form="enhanced", position="FFDL", expected="coronal, 90° from axial"),
    Case(plane="sagittal", expected="sagittal, 90° from axial"),
    Case(plane="oblique 50°", expected="coronal, 50° from axial"),
    Case(gaps="one doubled, different", expected="a slice at the place of another"),
    Case(gaps="one doubled, different", tilt_deg=25.0, syntax="jpeg-ls", expected="a slice at the place of another"),
    Case(gaps="six missing", expected="a gap of 35.0 mm between slices"),
    Case(gaps="six missing", form="enhanced", expected="a gap of 35.0 mm between slices"),
)


def allowed(row: dict[str, object]) -> bool:
    """A multi-frame instance with one frame twice is not tried: the phantom's writer has no way to say it."""
    return not (row.get("form") == "enhanced" and row.get("gaps") == "one doubled")


def pairwise(factors: dict[str, tuple[object, ...]], seed: int = 0) -> list[dict[str, object]]:
    """Rows in which every allowed pair of two factors' values occurs: greedy, the same for one seed."""
    draw = random.Random(seed)
    cells = [(name, value) for name, values in factors.items() for value in values]
    pairs = {(a, b) for a, b in combinations(cells, 2) if a[0] != b[0] and allowed(dict([a, b]))}
    rows = []
    while pairs:
        starts = draw.choices(sorted(pairs, key=repr), k=20)
        options = [_grown(start, factors, pairs, draw) for start in starts]
        rows.append(max(options, key=lambda row: len(_pairs_in(row, factors, pairs))))
        pairs -= _pairs_in(rows[-1], factors, pairs)
    return rows


def _pairs_in(row: dict[str, object], factors: dict[str, tuple[object, ...]], pairs: set[object]) -> set[object]:
    cells = [(name, row[name]) for name in factors if name in row]
    return pairs.intersection(combinations(cells, 2))


def _grown(
    start: tuple[tuple[str, object], ...], factors: dict[str, tuple[object, ...]], pairs: set[object],
    draw: random.Random,
) -> dict[str, object]:  # fmt: skip
    """A whole row from one pair: each further value is the one that adds the most pairs."""
    row = dict(start)
    for name in draw.sample([one for one in factors if one not in row], len(factors) - len(row)):
        options = [row | {name: value} for value in draw.sample(factors[name], len(factors[name]))]
        row = max(filter(allowed, options), key=lambda option: len(_pairs_in(option, factors, pairs)))
    return row


def cases() -> list[Case]:
    """The whole matrix: the pairs, the thin slices, the refusals."""
    return [*(Case(**row) for row in pairwise(FACTORS)), *FEW, *REFUSED]


@lru_cache(maxsize=8)
def _scanned(plane: str, tilt_deg: float, spacing: str, gaps: str, pixels: str) -> PhantomScan:
    """The scan, as long as the blood and a slice beyond it on either side, with the blood marked."""
    steps, thickness_mm = SPACINGS[spacing]
    shape, pixel_mm = PIXELS[pixels]
    table_mm = _table_mm(plane, tilt_deg, steps)
    middle = len(table_mm) // 2
    missing = {"one missing": (middle,), "two missing": (middle - 2, middle + 1)}.get(gaps, ())
    if gaps == "six missing":
        table_mm = (*table_mm, *(table_mm[-1] + step * steps[0] for step in range(1, 9)))
        missing = tuple(range(middle, middle + 6))
    geometry = ScanGeometry(
        thickness_mm=thickness_mm, shape=shape, pixel_mm=pixel_mm, tilt_deg=tilt_deg, turn_deg=PLANES[plane],
        positions_mm=table_mm, missing=missing,
    )  # fmt: skip
    made = scan(HEAD, geometry)
    hu = np.where(made.mask.array, BLOOD_HU, np.clip(made.volume.hu, -1024, HIGHEST_OTHER_HU)).astype(np.float32)
    return replace(made, volume=Volume(hu, made.volume.grid))


def _table_mm(plane: str, tilt_deg: float, steps: tuple[float, ...]) -> tuple[float, ...]:
    """The table's places that show all blood."""
    two = ScanGeometry(slices=2, spacing_mm=1.0, tilt_deg=tilt_deg, turn_deg=PLANES[plane]).grid()
    table = two.origins_mm[1] - two.origins_mm[0]
    normal = np.cross(two.row_step_mm, two.column_step_mm)
    reach = _BLOOD_BOX_MM @ normal / (table @ normal)
    places = [float(reach.min()) - max(steps)]
    while places[-1] < reach.max() + max(steps):
        places.append(places[-1] + steps[(len(places) - 1) % len(steps)])
    return tuple(places)


def write_case(case: Case, folder: Path) -> PhantomScan:
    """The case's files, under names in no order; and what is true of it."""
    made = _scanned(case.plane, case.tilt_deg, case.spacing, case.gaps, case.pixels)
    options = CtOptions(
        transfer_syntax=case.syntax, padding=4095 if case.padding else None, signed=False, bits_stored=12,
        reverse_numbers=case.position.startswith("FF"),
    )  # fmt: skip
    turn = POSITIONS[case.position]
    if case.form == "enhanced":
        instances = [enhanced_ct(made.volume, turn=turn, options=options)]
    else:
        instances = _spoiled(case, ct_instances(made.volume, turn=turn, options=options))
        made = _without(made, len(instances) // 2) if case.gaps in _LEFT_OUT else made
    folder.mkdir()
    numbers = random.Random(repr(case)).sample(range(10_000), len(instances))
    for number, one in zip(numbers, instances, strict=True):
        one.PatientPosition = case.position
        one.save_as(folder / f"I{number:04d}", enforce_file_format=True)
    return made


def _without(made: PhantomScan, index: int) -> PhantomScan:
    """What is true of the scan less one slice."""
    grid = replace(made.volume.grid, origins_mm=np.delete(made.volume.grid.origins_mm, index, axis=0))
    volume, mask = (np.delete(array, index, axis=0) for array in (made.volume.hu, made.mask.array))
    return replace(made, volume=Volume(volume, grid), mask=Mask(mask, grid))


def _spoiled(case: Case, instances: list[Dataset]) -> list[Dataset]:
    one = instances[len(instances) // 2]
    if case.gaps.startswith("one doubled"):
        again = deepcopy(one)
        again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["doubled"])
        again.InstanceNumber = len(instances) + 1
        if case.gaps.endswith("different"):
            again.RescaleIntercept = -1023
        return [*instances, again]
    if case.gaps == "one without a place":
        del one.ImagePositionPatient
    if case.gaps == "one turned by 3°":
        cosine, sine = np.cos(np.radians(3)), np.sin(np.radians(3))
        one.ImageOrientationPatient = [1, 0, 0, 0, round(float(cosine), 8), round(float(sine), 8)]
    return instances


@dataclass(frozen=True)
class Row:
    """What became of a case: how far its results are off, or the message that refused it."""

    case: Case
    deviation: Deviation | None
    refusal: str
    notes: str = ""

    @property
    def wrong(self) -> str:
        """What is not as it must be; '' where all is."""
        if self.case.expected:
            return "" if self.case.expected in self.refusal else f"not refused as it must be: {self.refusal or 'read'}"
        if self.deviation is None:
            return f"refused: {self.refusal}"
        unsaid = [f"no note says '{words}'" for words in self.case.notes if words not in self.notes]
        return "; ".join([*self.deviation.wrong, *unsaid])


def run(case: Case, folder: Path) -> Row:
    """From the scan to files, from files to results, and these against the scan."""
    made = write_case(case, folder / "in")
    try:
        study = read_study(folder / "in")
    except InputError as error:
        return Row(case, None, error.explain().replace(str(folder / "in"), "IN"))
    truth_as_read = (study.volume.hu > (BLOOD_HU + HIGHEST_OTHER_HU) / 2) & (study.volume.hu < BLOOD_HU + 1)
    backend = BackendRecord("truth", "cpu", "fp32")
    result = conclude(study, (), truth_as_read.astype(np.float32), _weights(), backend, 0.5)
    save(result, folder / "out")
    return Row(case, deviation_of(folder / "in", folder / "out", made, case.limited), "", " ".join(study.notes))


@lru_cache
def _weights() -> object:
    return locate(None)


def run_all(chosen: Sequence[Case], done: Callable[[Row], None] = lambda row: None) -> Iterator[Row]:
    """Each case in a folder of its own, which is gone afterwards; those that share a scan follow one another."""
    shares = ("plane", "tilt_deg", "spacing", "gaps", "pixels")
    for case in sorted(chosen, key=lambda one: tuple(str(getattr(one, name)) for name in shares)):
        with tempfile.TemporaryDirectory() as folder:
            row = run(case, Path(folder))
        done(row)
        yield row


def table(rows: Sequence[Row]) -> str:
    """The matrix in Markdown."""
    names = [one.name for one in fields(Case)][:-1]
    head = [*names, "volume mL", "against the phantom", "NIfTI centroid off, mm", "SEG voxels off, mm", "outcome"]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for row in rows:
        cells = [f"{getattr(row.case, name)}" for name in names]
        if row.deviation is None:
            cells += ["", "", "", "", (row.wrong or "refused: " + "".join(row.refusal.splitlines()[:-2]))]
        else:
            off = row.deviation
            cells += [f"{off.volume_ml:.2f}", f"{off.volume_share:+.2%}", f"{off.nifti_mm:.2f}", f"{off.seg_mm:.4f}"]
            cells += [row.wrong or ("handled" + (f" ({off.limited})" if off.limited else ""))]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    found = list(run_all(cases()))
    print(table(found))
    handled = [row.deviation for row in found if row.deviation is not None]
    print(f"\n{len(found)} rows: {len(handled)} handled, {len(found) - len(handled)} refused, ", end="")
    print(f"{sum(bool(row.wrong) for row in found)} wrong")
