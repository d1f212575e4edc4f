"""A small data set of made-up heads that can be learned in seconds, in the layout of CT-ICH's JPEG release."""

from pathlib import Path

import numpy as np
from PIL import Image

from bleedmap.datasets.ct_ich import CtIch, open_ct_ich
from ct_ich_tables import PEOPLE, label_rows

PATIENTS = {
    number: tuple(("Epidural" if number % 2 and index in (1, 2) else "", False) for index in range(4))
    for number in range(50, 62)
}


def write_heads(root: Path) -> CtIch:
    """Twelve patients of four slices, 96×96: a grey head in air; odd ones bleed, a bright disc in two slices."""
    rows, columns = np.mgrid[:96, :96]
    head = (rows - 48) ** 2 + (columns - 48) ** 2 < 40**2
    random = np.random.default_rng(0)
    for patient, slices in PATIENTS.items():
        for window in ("brain", "bone"):
            (root / f"Patients_CT/{patient:03d}/{window}").mkdir(parents=True)
        row, column = random.integers(32, 64, 2)
        lesion = (rows - row) ** 2 + (columns - column) ** 2 < 9**2
        for number, (kind, _) in enumerate(slices, start=1):
            folder = root / f"Patients_CT/{patient:03d}"
            grey = np.where(head, random.normal(110, 6, head.shape), 0)
            grey[lesion & bool(kind)] = 190
            for window in ("brain", "bone"):
                Image.fromarray(grey.clip(0, 255).astype(np.uint8)).save(folder / f"{window}/{number}.jpg", quality=95)
            if kind:
                mask = Image.fromarray((lesion * 255).astype(np.uint8))
                mask.save(folder / f"brain/{number}_HGE_Seg.jpg", quality=95)
    (root / "hemorrhage_diagnosis.csv").write_text("\ufeff" + label_rows(PATIENTS), encoding="utf-8", newline="")
    (root / "patient_demographics.csv").write_text(PEOPLE.splitlines()[0] + "\n" + PEOPLE.splitlines()[1] + "\n")
    return open_ct_ich(root)
