"""One bleeding head in many scans, each through files to results: where the blood lies, and how much it is.

Run as a script it prints the whole matrix in Markdown: `python tests/support/matrices/geometry_matrix.py`.

The network is replaced by the truth, and nothing on the way is told which voxel is which: every voxel of blood has
`BLOOD_HU` in the files, and what was read is marked where it is that bright. So order, flips, places and volumes in the
results all come from the code under test; the truth comes from the phantom's own grid by plain arithmetic.
"""

import random
import tempfile
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import product
from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.uid import generate_uid

from bleedmap.errors import InputError
from bleedmap.inference.backends import BackendRecord
from bleedmap.inference.weights import locate
from bleedmap.io import nifti
from bleedmap.io.files import write_json
from bleedmap.phantom.dicom import CtOptions, ct_instances
from bleedmap.phantom.dicom_enhanced import enhanced_ct
from bleedmap.phantom.head import Bleed, PhantomSettings
from bleedmap.phantom.scan import PhantomScan, ScanGeometry, scan
from bleedmap.results.dicom import write_dicom_results
from bleedmap.results.save import save
from bleedmap.results.tables import summary
from bleedmap.study.read import read_study
from bleedmap.study.result import Result
from bleedmap.study.segment import conclude
from bleedmap.volume import Mask, Volume
from geometry_cases import LEFT_OUT, PIXELS, PLANES, POSITIONS, SPACINGS, Case, cases
from geometry_results import Deviation, deviation_of

HEAD = PhantomSettings(seed=4, bleeds=(Bleed("IPH", 30.0), Bleed("EDH", 8.0, "right")))
BLOOD_HU, HIGHEST_OTHER_HU = 3000.0, 2000.0
_BLOOD_BOX_MM = np.array(list(product((-72, 60), (2, 72), (-29, 27))), float)  # its corners, LPS


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
        made = _without(made, len(instances) // 2) if case.gaps in LEFT_OUT else made
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


def run(case: Case, folder: Path, *, pictures: bool = True) -> Row:
    """From the scan to files, from files to results, and these against the scan.

    Without `pictures` what `save` draws is left out, which takes two thirds of its time.
    """
    made = write_case(case, folder / "in")
    try:
        study = read_study(folder / "in")
    except InputError as error:
        return Row(case, None, error.explain().replace(str(folder / "in"), "IN"))
    truth_as_read = (study.volume.hu > (BLOOD_HU + HIGHEST_OTHER_HU) / 2) & (study.volume.hu < BLOOD_HU + 1)
    backend = BackendRecord("truth", "cpu", "fp32")
    result = conclude(study, (), truth_as_read.astype(np.float32), _weights(), backend, 0.5)
    if pictures:
        save(result, folder / "out")
    else:
        _save_without_pictures(result, folder / "out")
    return Row(case, deviation_of(folder / "in", folder / "out", made, case.limited), "", " ".join(study.notes))


def _save_without_pictures(result: Result, folder: Path) -> None:
    (folder / "dicom").mkdir(parents=True)
    nifti.write(folder / f"{result.name}_dseg.nii.gz", result.mask)
    write_dicom_results(folder / "dicom", result, result.dicom, pictures=False)
    write_json(folder / "summary.json", summary(result, {}))


@lru_cache
def _weights() -> object:
    return locate(None)


def run_all(chosen: Sequence[Case], *, pictures_every: int = 1) -> Iterator[Row]:
    """Each case in a folder of its own, which is gone afterwards."""
    for number, case in enumerate(chosen):
        with tempfile.TemporaryDirectory() as folder:
            yield run(case, Path(folder), pictures=number % pictures_every == 0)


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
