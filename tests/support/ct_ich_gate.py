"""CT-ICH's patients as volumes of approximate HU, and what the input gate says of them.

`python tests/support/ct_ich_gate.py FOLDER` prints each patient's measurements and every check that did not pass; the
gate's limits were set on its output.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy as np

from bleedmap.datasets.ct_ich import CtIch, Patient, open_ct_ich
from bleedmap.geometry import SliceGrid, axial_affine
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.study.gate.anatomy import measure
from bleedmap.study.gate.gate import check_input
from bleedmap.volume import Volume

SPACING_MM = (5.0, 0.39, 0.39)  # the pixels' is a guess: the release does not give it


def volume_of(data: CtIch, patient: Patient) -> Volume:
    """HU from both windows' pictures; some 250 HU steps."""
    hu = np.stack([data.read_full_hu(one) for one in patient.slices if one.has_bone])  # 084 lacks one
    return Volume(hu, SliceGrid.from_affine(axial_affine(SPACING_MM, hu.shape), len(hu)))


def read_acquisition(patient: Patient) -> Acquisition:
    """What the release says."""
    return Acquisition(modality="CT", contrast="", age_years=patient.on_file.age_years, thickness_mm=SPACING_MM[0])


def main(root: Path) -> None:
    """Print measurements and checks of all patients, then the counts."""
    counts: Counter[tuple[str, str]] = Counter()
    data = open_ct_ich(root)
    for patient in data.patients:
        volume = volume_of(data, patient)
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
