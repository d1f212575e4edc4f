"""A study and its results, stored into a real PACS and read back: nothing is refused, changed or filed elsewhere."""

import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread

from bleedmap.io.dicom.producer import write_dicom
from debian_programs import program
from dicom_result_studies import grid_of, labels_of, producer, results_of, series_of
from orthanc_server import Orthanc, run_orthanc


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory) -> Iterator[Orthanc]:
    with run_orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


def study(folder: Path, *, seed: int, found: bool, multi_frame: bool) -> dict[Path, Dataset]:
    """A CT and its results as files."""
    series, instances = series_of(grid_of("both"), multi_frame=multi_frame, seed=seed)
    made = results_of(series, labels_of(6) * found, producer(seed))
    own = {one.SOPInstanceUID: one for one in instances}  # a multi-frame instance once
    files = {folder / f"{number}.dcm": one for number, one in enumerate([*own.values(), *made.all()])}
    for path, one in files.items():
        write_dicom(path, one)
    return files


def over_rest(server: Orthanc, files: dict[Path, Dataset]) -> None:
    for path in files:
        assert server.json("/instances", path.read_bytes())["Status"] == "Success"


def over_c_store(server: Orthanc, files: dict[Path, Dataset]) -> None:
    command = [program("storescu", "dcmtk"), "-R", "127.0.0.1", str(server.dicom_port), *map(str, files)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("multi_frame", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("found", [True, False], ids=["positive", "negative"])
@pytest.mark.parametrize("store", [over_rest, over_c_store], ids=["rest", "c-store"])
def test_what_is_stored_comes_back_equal_in_its_study(orthanc, tmp_path, store, found, multi_frame):
    seed = 1 + 4 * (store is over_rest) + 2 * found + multi_frame
    files = study(tmp_path, seed=seed, found=found, multi_frame=multi_frame)
    store(orthanc, files)
    for path, made in files.items():
        back = orthanc.stored(made.SOPInstanceUID)
        assert back == dcmread(path), made.SeriesDescription
    instance = next(iter(files.values()))
    (number,) = orthanc.json("/tools/lookup", str(instance.StudyInstanceUID).encode())
    filed = orthanc.json(f"/studies/{number['ID']}/series")
    modalities = sorted(one["MainDicomTags"]["Modality"] for one in filed)
    assert modalities == ["CT", "OT", "SEG", "SEG", "SR"]
    assert sum(len(one["Instances"]) for one in filed) == len(files)


def test_the_pictures_are_shown_as_they_were_made(orthanc, tmp_path):
    files = study(tmp_path, seed=20, found=True, multi_frame=False)
    over_rest(orthanc, files)
    for made in files.values():
        if made.Modality != "OT":
            continue
        (number,) = orthanc.json("/tools/lookup", str(made.SOPInstanceUID).encode())
        shown = Image.open(BytesIO(orthanc.ask(f"/instances/{number['ID']}/preview")))
        assert np.array_equal(np.asarray(shown), made.pixel_array)
