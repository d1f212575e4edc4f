"""CT-ICH's patients as volumes of approximate HU, and what the input gate says of them.

`python tests/support/ct_ich_gate.py FOLDER` prints each patient's measurements and every check that did not pass; the
gate's limits were set on its output.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np

from bleedmap.datasets.ct_ich import Patient, open_ct_ich
from bleedmap.geometry import SliceGrid, axial_affine
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.io.images import read_grey
from bleedmap.study.gate.anatomy import measure
from bleedmap.study.gate.gate import check_input
from bleedmap.volume import Volume
from bleedmap.window import BRAIN, Window

BONE = Window(level_hu=700, width_hu=3200)  # of the bone JPEGs: 12.5 HU a grey level, -900 to 2300 HU
SPACING_MM = (5.0, 0.39, 0.39)  # the pixels' is a guess: the release does not give it
_CLIPPED = 4  # grey levels at either end of the brain window that JPEG may have moved off the end


def volume_of(root: Path, patient: Patient) -> Volume:
    """HU from the bone-window pictures, and from the brain window's where that does not clip; some 250 HU steps."""
    slices = []
    for record in patient.slices:
        if not record.has_bone:
            continue  # patient 84's last slice but one
        folder = root / f"Patients_CT/{patient.number:03d}"
        brain, bone = (read_grey(folder / window / f"{record.number}.jpg") for window in ("brain", "bone"))
        clear = (brain > _CLIPPED) & (brain < 255 - _CLIPPED)
        slices.append(np.where(clear, BRAIN.to_hu(brain), BONE.to_hu(bone)))
    hu = np.stack(slices)
    return Volume(hu, SliceGrid.from_affine(axial_affine(SPACING_MM, hu.shape), len(hu)))


def read_acquisition(patient: Patient) -> Acquisition:
    """What the release says."""
    return Acquisition(modality="CT", contrast="", age_years=patient.on_file.age_years, thickness_mm=SPACING_MM[0])


def main(root: Path) -> None:
    """Print measurements and checks of all patients, then the counts."""
    counts: Counter[tuple[str, str]] = Counter()
    data = open_ct_ich(root)
    for patient in data.patients:
        volume = volume_of(data.root, patient)
        checks = check_input(volume, read_acquisition(patient))
        print(patient.number, patient.on_file.age_years, measure(volume))
        for one in checks:
            counts[one.verdict, one.name] += 1
            if one.verdict in ("warning", "refusal"):
                print(f"    {one.verdict}: {one.name}: {one.found} (limit {one.limit})")
    for (verdict, name), count in sorted(counts.items()):
        print(f"{count:3d} {verdict}: {name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
