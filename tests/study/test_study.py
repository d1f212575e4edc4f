"""A study in, its results out: what `bleedmap.segment`, `read_study` and `save` promise."""

import json
import os
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from pydicom.uid import UID

import bleedmap
from bleedmap.cli.main import main
from bleedmap.errors import InputError, SettingsError
from bleedmap.geometry import SliceGrid
from bleedmap.inference.backends import BackendRecord
from bleedmap.inference.weights import locate
from bleedmap.io import nifti
from bleedmap.io.dicom.acquisition import find_contrast_agent
from bleedmap.phantom.bleeds import Bleed
from bleedmap.phantom.dicom import ct_instances, write_series
from bleedmap.phantom.head import PhantomSettings, make_phantom
from bleedmap.results.save import save
from bleedmap.study.gate.gate import read_accepted
from bleedmap.study.inputs import gather
from bleedmap.study.read import Study, read_study
from bleedmap.study.result import Result
from bleedmap.study.segment import Segmenter, conclude
from bleedmap.volume import Volume

SETTINGS = PhantomSettings(
    seed=3, spacing_mm=(5.0, 1.8, 1.8), shape=(28, 128, 128), bleeds=(Bleed("IPH", 20.0, "left"),)
)


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(SETTINGS)


def with_true_mask(study: Study, mask: np.ndarray) -> Result:
    """The true mask in place of the network's answer."""
    ran = BackendRecord("none", "cpu", "fp32")
    return conclude(study, (), mask.astype(np.float32), locate(None), ran, 0.5)


def at_heights(phantom, heights_mm: list[float]) -> tuple[Volume, np.ndarray]:
    """The phantom's slices at other heights than their own: only the places change."""
    grid = phantom.volume.grid
    origins = grid.origins_mm.copy()
    origins[:, 2] = heights_mm
    return Volume(phantom.volume.hu, replace(grid, origins_mm=origins)), phantom.mask.array


def mixed() -> list[float]:
    return list(np.cumsum([0.0] + [2.5] * 13 + [5.0] * 14))


def near() -> list[float]:
    heights = 5.0 * np.arange(28)
    heights[14] = heights[13] + 0.1
    return list(heights)


def test_dicom_results_are_left_out_and_told_where_they_could_refer_to_nothing(phantom, tmp_path):
    instances = ct_instances(phantom.volume)
    for number, one in enumerate(instances):
        one.StudyInstanceUID, one.SOPInstanceUID = UID("ID_1"), UID(f"ID_{number}")
    write_series(tmp_path / "ct", instances)
    result = with_true_mask(read_study(tmp_path / "ct"), phantom.mask.array)
    content = save(result, tmp_path / "out", fractional=True)
    assert not (tmp_path / "out" / "dicom").exists()
    assert not [name for name in content["files"] if name.startswith("dicom")]
    assert "DICOM results (segmentation, report, pictures) are left out" in content["notes"][0]
    assert "are left out, as they could not refer" in (tmp_path / "out" / "report.html").read_text("utf-8")


@pytest.mark.parametrize("heights", [mixed(), near()], ids=["2.5 then 5 mm", "two slices 0.1 mm apart"])
def test_peer_4_the_nifti_of_uneven_slices_has_the_volume_that_the_summary_states(heights, phantom, tmp_path):
    volume, mask = at_heights(phantom, heights)
    write_series(tmp_path / "ct", ct_instances(volume))
    study = read_study(tmp_path / "ct")
    content = save(with_true_mask(study, mask), tmp_path / "out")
    image = nib.load(tmp_path / "out" / content["files"]["mask"])
    stored_ml = np.asanyarray(image.dataobj).sum() * abs(np.linalg.det(image.affine[:3, :3])) / 1000
    assert stored_ml == pytest.approx(content["volume_ml"], rel=0.02)
    assert image.shape[2] <= 512
    assert "uneven" in " ".join(content["notes"])


def test_a_preview_beside_the_dicom_does_not_hide_it(phantom, tmp_path):
    folder = tmp_path / "cd"
    write_series(folder / "DICOM", ct_instances(phantom.volume))
    Image.new("L", (64, 64)).save(folder / "preview.jpg")
    nifti.write(folder / "converted.nii.gz", phantom.volume)
    assert gather([folder]).study == folder
    assert len(read_study(folder).volume.hu) == 28


def test_a_study_named_beside_another_is_not_dropped(phantom, tmp_path):
    write_series(tmp_path / "ct", ct_instances(phantom.volume))
    nifti.write(tmp_path / "head.nii.gz", phantom.volume)
    with pytest.raises(InputError, match="together with 1 other"):
        gather([tmp_path / "ct", tmp_path / "head.nii.gz"])


@pytest.mark.parametrize("threshold", [float("nan"), 0.0, -1.0, 5.0])
def test_a_threshold_that_is_no_probability_is_refused(threshold, weights):
    with pytest.raises(SettingsError, match="threshold"):
        Segmenter.load(weights, threshold=threshold)


def test_a_nifti_that_states_no_orientation_is_flagged(phantom, tmp_path):
    header = nib.Nifti1Header()
    header.set_data_shape(phantom.volume.hu.shape[::-1])
    header.set_zooms((1.8, 1.8, 5.0))
    image = nib.Nifti1Image(phantom.volume.hu.transpose(2, 1, 0), None, header)
    nib.save(image, tmp_path / "head.nii")
    assert "does not say where its axes point" in read_study(tmp_path / "head.nii").notes[0]
    nifti.write(tmp_path / "told.nii", phantom.volume)
    assert read_study(tmp_path / "told.nii").notes == ()


def test_two_passes_in_one_series_are_not_interleaved(phantom, tmp_path):
    first = ct_instances(phantom.volume)
    grid = phantom.volume.grid
    shifted = replace(grid, origins_mm=grid.origins_mm + np.array([0, 0, 1.3]))
    second = ct_instances(Volume(np.roll(phantom.volume.hu, 12, axis=1), shifted))
    for number, one in enumerate(second):
        one.AcquisitionNumber = 2
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"{one.SOPInstanceUID[:50]}.9{number}"
    write_series(tmp_path / "ct", [*first, *second])
    study = read_study(tmp_path / "ct")
    assert len(study.volume.hu) == 28
    assert "pass over the head" in " ".join(study.notes)


def test_skull_base_and_vertex_scanned_one_after_the_other_stay_together(phantom, tmp_path):
    instances = ct_instances(phantom.volume)
    for one in instances[14:]:
        one.AcquisitionNumber = 2
    write_series(tmp_path / "ct", instances)
    assert len(read_study(tmp_path / "ct").volume.hu) == 28


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_path_that_is_no_utf_8_is_read_and_told(phantom, tmp_path, weights, capsys):
    folder = tmp_path / os.fsdecode(b"\xfcbung")
    write_series(folder, ct_instances(phantom.volume))
    with pytest.raises(SystemExit) as left:
        main(["segment", str(folder), "-o", str(tmp_path / "out"), "--weights", weights, "--json"])
    assert left.value.code in (None, 0), capsys.readouterr().err
    json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))


def test_a_link_keeps_its_own_name(phantom, tmp_path):
    nifti.write(tmp_path / "store" / "deadbeef.nii.gz", phantom.volume)
    (tmp_path / "sub-01_ct.nii.gz").symlink_to(tmp_path / "store" / "deadbeef.nii.gz")
    assert read_study(tmp_path / "sub-01_ct.nii.gz").name == "sub-01_ct"


def test_a_folder_of_links_is_a_study(phantom, tmp_path):
    paths = write_series(tmp_path / "store", ct_instances(phantom.volume))
    (tmp_path / "links").mkdir()
    for path in paths:
        (tmp_path / "links" / path.name).symlink_to(path)
    assert len(read_study(tmp_path / "links").volume.hu) == 28


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("HEAD W/O CONTRAST", ""), ("CT HEAD WITHOUT", ""), ("NATIV 5.0", ""), ("HEAD C-", ""),
        ("HEAD W/WO CONTRAST", None), ("HEAD C+/C-", None), ("WITHOUT AND WITH CONTRAST", None), ("BRAIN 5.0", None),
        ("HEAD +C", "+C"), ("SCHAEDEL NACH KM", "NACH KM"), ("CTA HEAD", "CTA"), ("POST GAD", "GAD"),
    ],
)  # fmt: skip
def test_what_a_description_says_of_contrast(words, said):
    found = find_contrast_agent(None, words)
    assert (found == said) if not said else (found is not None and said in found)


def test_flags_of_dicom_are_refused_for_nifti(phantom, tmp_path, weights, capsys):
    nifti.write(tmp_path / "head.nii.gz", phantom.volume)
    for flag in ("--fractional", "--no-dicom"):
        with pytest.raises(SystemExit) as left:
            main(["segment", str(tmp_path / "head.nii.gz"), "-o", str(tmp_path / "out"), flag, "--weights", weights])
        assert left.value.code == 2
        assert "given for a NIfTI volume" in capsys.readouterr().err


def test_an_accepted_check_may_be_one_word():
    assert read_accepted("age") == {"age"}


def test_python_gives_the_same_for_a_path_and_a_volume(phantom, tmp_path, weights, capsys):
    nifti.write(tmp_path / "head.nii.gz", phantom.volume)
    one = bleedmap.segment(tmp_path / "head.nii.gz", weights=weights)
    other = bleedmap.segment(bleedmap.Volume(phantom.volume.hu, phantom.volume.grid), weights=weights)
    assert one.found
    np.testing.assert_array_equal(one.mask.array, other.mask.array)
    assert (one.name, other.name) == ("head", "volume")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_python_refuses_what_is_no_study(phantom):
    with pytest.raises(InputError, match="without an affine"):
        bleedmap.segment(phantom.volume.hu)
    with pytest.raises(AttributeError):
        bleedmap.nonsense  # noqa: B018


def test_an_even_grid_stays_as_it_is():
    grid = SliceGrid.from_affine(np.array([[0, 0, 0.5, 0], [0, 0.5, 0, 0], [5.0, 0, 0, 0], [0, 0, 0, 1]]), 9)
    assert grid.evenly().grid is grid
    assert grid.is_even
