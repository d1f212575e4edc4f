"""What callers hold in memory gives the same result as the file that it came from."""

import pickle

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - as everybody calls it
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

import bleedmap
from bleedmap.errors import InputError
from bleedmap.io import nifti
from bleedmap.phantom.bleeds import Bleed
from bleedmap.phantom.dicom import ct_instances, write_series
from bleedmap.phantom.dicom_enhanced import enhanced_ct
from drawn_heads import small_head


@pytest.fixture(scope="module")
def head():
    return small_head(Bleed("IPH", 30.0, "left")).volume


@pytest.fixture(scope="module")
def files(head, tmp_path_factory):
    """The head as a NIfTI file and as a folder of DICOM."""
    folder = tmp_path_factory.mktemp("head")
    nifti.write(folder / "head.nii.gz", head)
    write_series(folder / "dicom", ct_instances(head))
    return folder


@pytest.fixture(scope="module")
def segmenter():
    return bleedmap.Segmenter.load()


@pytest.fixture(scope="module")
def of_file(files, segmenter):
    return segmenter.segment(bleedmap.read_study(files / "head.nii.gz"))


@pytest.fixture(scope="module")
def of_folder(files, segmenter):
    return segmenter.segment(bleedmap.read_study(files / "dicom"))


def test_an_image_of_nibabel_gives_the_files_result_and_name(files, segmenter, of_file):
    result = segmenter.segment(bleedmap.read_study(nib.load(files / "head.nii.gz")))
    assert np.array_equal(result.mask.array, of_file.mask.array)
    assert result.name == of_file.name == "head"
    assert of_file.found


@pytest.mark.parametrize("axes", ["RAS", "LPI", "SPL", "ASR"])
def test_an_array_may_run_any_way_and_its_mask_comes_back_that_way(files, segmenter, of_file, axes):
    image = nib.load(files / "head.nii.gz")
    turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(axes))
    array = nib.apply_orientation(np.asanyarray(image.dataobj), turn)
    affine = image.affine @ inv_ornt_aff(turn, image.shape)
    result = segmenter.segment(bleedmap.read_study(array, affine=affine, name="mine"))
    assert np.array_equal(result.mask.array, of_file.mask.array)
    back = result.mask_image()
    assert "".join(nib.aff2axcodes(back.affine)) == axes
    expected = nib.apply_orientation(np.asanyarray(of_file.mask_image().dataobj), turn)
    assert np.array_equal(np.asanyarray(back.dataobj), expected)
    assert result.name == "mine"


def test_an_image_of_simpleitk_gives_the_same_and_takes_its_mask(files, segmenter, of_file):
    image = sitk.ReadImage(files / "head.nii.gz")
    result = segmenter.segment(bleedmap.read_study(image))
    assert np.array_equal(result.mask.array, of_file.mask.array)
    mask = result.mask_image("SimpleITK")
    for one in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(mask, one)(), getattr(image, one)(), atol=1e-4), one
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(mask)
    assert statistics.GetPhysicalSize(1) / 1000 == pytest.approx(of_file.volume_ml, rel=1e-4)


@pytest.mark.parametrize("form", ["files", "data sets", "without file meta", "folders"])
def test_a_list_of_one_study_gives_the_folders_result(files, segmenter, of_folder, form):
    paths = sorted((files / "dicom").glob("*.dcm"), reverse=True)
    held = [pydicom.dcmread(one) for one in paths]
    if form == "without file meta":
        for one in held:
            del one.file_meta
    source = {"files": paths, "folders": [files / "dicom"]}.get(form, held)
    result = segmenter.segment(bleedmap.read_study(source))
    assert np.array_equal(result.mask.array, of_folder.mask.array)
    assert result.dicom is not None
    assert held == [pydicom.dcmread(one) for one in paths]  # what a caller holds stays as it is


def test_data_sets_write_the_same_dicom_results(files, segmenter, of_folder, tmp_path):
    sources = [pydicom.dcmread(one) for one in sorted((files / "dicom").glob("*.dcm"))]
    segmenter.segment(bleedmap.read_study(sources)).save(tmp_path / "memory")
    of_folder.save(tmp_path / "folder")
    held, read = (pydicom.dcmread(next((tmp_path / one / "dicom").glob("*seg*.dcm"))) for one in ("memory", "folder"))
    assert held.PixelData == read.PixelData
    assert held.ReferencedSeriesSequence == read.ReferencedSeriesSequence


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ([], "a list of nothing"),
        ([1.0], "a list of float"),
        (["head.nii.gz", "dicom"], "a NIfTI volume"),
        (["head.nii.gz"], "a NIfTI volume or a zip in a list of paths"),
        (np.zeros((4, 4, 4)), "without an affine"),
        (3.0, "a float"),
        (sitk.Image(4, 4, sitk.sitkInt16), "2 dimensions"),
        (nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4)), "shape (4, 4, 4, 2)"),
    ],
)
def test_what_is_no_study_is_refused_with_a_remedy(files, monkeypatch, source, said):
    monkeypatch.chdir(files)
    with pytest.raises(InputError) as refused:
        bleedmap.read_study(source)
    assert said in str(refused.value)
    assert "remedy: " in str(refused.value)


@pytest.mark.parametrize(
    ("affine", "said"),
    [(np.full((4, 4), np.nan), "maps it to no volume"), (np.diag([1, 0, 1, 1]), "maps it to no volume"),
     ("RAS", "an affine of shape (0,)"), (None, "without an affine")],
    ids=str,
)  # fmt: skip
def test_an_array_needs_an_affine_to_a_volume(affine, said):
    with pytest.raises(InputError) as refused:
        bleedmap.read_study(np.zeros((40, 40, 8)), affine=affine)
    assert said in refused.value.found


@pytest.mark.parametrize("kind", [np.uint8, np.uint32, np.uint64, np.int64, np.float16, np.bool_])
def test_an_array_of_any_type_of_number_is_read(kind):
    hu = (np.arange(40 * 40 * 8).reshape(40, 40, 8) % 100).astype(kind)
    study = bleedmap.read_study(hu, affine=np.diag([2, 2, 5, 1]))
    assert study.nifti is not None
    assert np.array_equal(study.nifti.outward(study.volume.hu), hu)


def test_a_data_set_alone_is_a_study(files):
    one = enhanced_ct(bleedmap.read_study(files / "dicom").volume)
    assert np.array_equal(bleedmap.read_study(one).volume.hu, bleedmap.read_study([one]).volume.hu)


def test_an_affine_belongs_to_an_array_alone(files):
    with pytest.raises(InputError, match="an affine beside a"):
        bleedmap.read_study(files / "head.nii.gz", affine=np.eye(4))


def test_an_error_comes_back_whole_from_another_process():
    with pytest.raises(InputError) as refused:
        bleedmap.read_study("nowhere")
    again = pickle.loads(pickle.dumps(refused.value))
    assert type(again) is InputError
    assert str(again) == str(refused.value)
    assert "remedy: check the path" in str(again)


def test_many_studies_end_each_in_a_result_or_an_error(files):
    outcomes = list(bleedmap.segment_many([files / "nowhere", files / "head.nii.gz"]))
    assert [one.result is None for one in outcomes] == [True, False]
    assert isinstance(outcomes[0].error, bleedmap.BleedmapError)
    assert outcomes[1].error is None


def test_a_result_shows_itself_shortly(of_file, tmp_path):
    assert repr(of_file).startswith("Result('head': ")
    assert "mL in" in repr(of_file)
    assert len(repr(of_file)) < 200
    assert repr(of_file.volume) == "Volume(14 × 128 × 128; 10 × 1.8 × 1.8 mm)"
    page = of_file._repr_html_()
    assert "data:image/jpeg;base64," in page
    assert "not a medical device" in page
    assert of_file.to_dict()["volume_ml"] == pytest.approx(of_file.volume_ml, abs=1e-3)
    assert of_file.save(tmp_path / "out")["name"] == "head"
    assert (tmp_path / "out/report.html").is_file()


def test_dir_lists_what_the_package_offers():
    assert set(bleedmap.__all__) <= set(dir(bleedmap))
    assert all(getattr(bleedmap, name) is not None for name in bleedmap.__all__)
