"""Fixtures that several test files share: the real data set, and small ones in its two layouts."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from bleedmap.inference.weights import WeightsFile, locate
from ct_ich_tables import PEOPLE, SMALL, label_rows
from tiny_network import write_spot_network, write_tiny_network

if "MUTANT_UNDER_TEST" in os.environ:  # mutmut runs each test once more in the same process, which hypothesis notices
    # and a busy machine's slowness is no fault that a test notices
    settings.register_profile("mutants", deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    settings.load_profile("mutants")


@pytest.fixture(scope="session", autouse=True)
def keep_compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A network is compiled once for all tests of a process, as for a user; nothing is left in the user's home."""
    os.environ["BLEEDMAP_CACHE"] = str(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(scope="session")
def ct_ich_root() -> Path:
    """The real data set: BLEEDMAP_DATA, or the copy beside the checkout; skipped where neither is there."""
    shared = Path(__file__).parents[2] / "shared"
    root = Path(os.environ.get("BLEEDMAP_DATA") or shared / "data/ct-ich")
    if not root.is_dir():
        reason = f"needs the CT-ICH data set: set BLEEDMAP_DATA to its folder ({root} is not there)"
        if os.environ.get("CI") and shared.is_dir():
            pytest.fail(reason)
        pytest.skip(reason)
    return root


@pytest.fixture(scope="session")
def scanner_files() -> Path:
    """Files of real scanners, public ones that are not committed; skipped where they are not there."""
    shared = Path(__file__).parents[2] / "shared"
    root = shared / "data/dicom"
    if not root.is_dir():
        reason = f"needs the public scanner files named in tests/study/test_scanner_files.py ({root} is not there)"
        if os.environ.get("CI") and shared.is_dir():
            pytest.fail(reason)
        pytest.skip(reason)
    return root


@pytest.fixture
def jpeg_release(tmp_path: Path) -> Path:
    """Release 1.0.0 in small: three patients, eight slices of 24 rows × 32 columns, three masks."""
    root = tmp_path / "ct-ich"
    for patient, slices in SMALL.items():
        for window in ("brain", "bone"):
            (root / f"Patients_CT/{patient:03d}/{window}").mkdir(parents=True)
        for number, (lesion, _) in enumerate(slices, start=1):
            folder = root / f"Patients_CT/{patient:03d}"
            grey = np.full((24, 32), 100 + number, np.uint8)
            Image.fromarray(grey).save(folder / f"brain/{number}.jpg", quality=95)
            Image.fromarray(grey).save(folder / f"bone/{number}.jpg", quality=95)
            if lesion:
                mask = np.zeros((24, 32), np.uint8)
                mask[8:16, 8:24] = 255
                Image.fromarray(mask).save(folder / f"brain/{number}_HGE_Seg.jpg", quality=75)
    (root / "hemorrhage_diagnosis.csv").write_text("\ufeff" + label_rows(SMALL), encoding="utf-8", newline="")
    (root / "patient_demographics.csv").write_text(PEOPLE, encoding="utf-8", newline="")
    return root


@pytest.fixture
def nifti_release(tmp_path: Path) -> Path:
    """Release 1.3.1 in small: patient 50's third axis runs head to feet, 51 is packed; HU tell slices apart.

    Slice k has 10·k HU and the brightest voxel in the first column and row of the file's array; masks mark
    a block that starts at index (2, 1).
    """
    root = tmp_path / "ct-ich-nifti"
    (root / "ct_scans").mkdir(parents=True)
    (root / "masks").mkdir()
    for patient, slices in SMALL.items():
        affine = np.diag([0.5, 0.5, -5.0 if patient == 50 else 5.0, 1.0])
        hu = np.zeros((6, 4, len(slices)), np.int16)
        mask = np.zeros_like(hu, dtype=np.uint8)
        for number, (lesion, _) in enumerate(slices, start=1):
            hu[..., number - 1] = 10 * number
            hu[0, 0, number - 1] = 1000
            mask[2:4, 1:2, number - 1] = 255 if lesion else 0
        suffix = "nii.gz" if patient == 51 else "nii"
        nib.save(nib.Nifti1Image(hu, affine), root / f"ct_scans/{patient:03d}.{suffix}")
        # The publisher's masks need not repeat the scan's header.
        nib.save(nib.Nifti1Image(mask, np.eye(4)), root / f"masks/{patient:03d}.{suffix}")
    (root / "hemorrhage_diagnosis_raw_ct.csv").write_text(label_rows(SMALL), encoding="utf-8", newline="")
    people = PEOPLE.replace('"Age\n(years)"', '" Age\r\n(years) "').replace('"Condition on file","Note"', '"Note1",""')
    (root / "Patient_demographics.csv").write_text(people, encoding="utf-8", newline="")
    return root


@pytest.fixture(scope="session")
def spots(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of a network that finds bright spots, the same for all tests."""
    path = tmp_path_factory.mktemp("spots") / "tiny.onnx"
    write_spot_network(path)
    return str(path)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """The path of the tiny network, in the test's own folder."""
    write_tiny_network(tmp_path / "tiny.onnx")
    return str(tmp_path / "tiny.onnx")


@pytest.fixture
def tiny(weights: str) -> WeightsFile:
    return locate(weights)
