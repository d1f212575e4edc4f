"""The phantom as DICOM: each pixel and each position comes back, and the standard's validator has no complaint."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner, Result

from bleedmap.cli.main import bleedmap, main
from bleedmap.cli.phantom import _SYNTAXES
from bleedmap.errors import OutputError, SettingsError
from bleedmap.geometry import PlaneTurn, SliceGrid
from bleedmap.io import nifti
from bleedmap.phantom.dicom import TRANSFER_SYNTAXES, CtOptions, ct_instances, scout, write_series
from bleedmap.phantom.dicom_enhanced import enhanced_ct
from bleedmap.phantom.head import Bleed, PhantomSettings, make_phantom
from bleedmap.phantom.scan import ScanGeometry
from bleedmap.volume import Volume
from debian_programs import complaints

TURNS = [PlaneTurn(*(bool(number & bit) for bit in (1, 2, 4))) for number in range(8)]
GE_LIKE = CtOptions(signed=True, bits_stored=16, padding=-2000, kernel="SOFT", kvp=140.0, contrast="Iohexol")


@cache
def head() -> Volume:
    """Four tilted slices of a head, rows and columns unlike each other."""
    geometry = ScanGeometry(slices=4, shape=(96, 80), pixel_mm=(2.4, 2.7), tilt_deg=15.0, thickness_mm=4.0)
    settings = PhantomSettings(seed=1, spacing_mm=(5.0, 2.4, 2.7), shape=(4, 96, 80), bleeds=(Bleed("IPH", 20.0),))
    return Volume(make_phantom(settings).volume.hu, geometry.grid())


def saturated(hu: np.ndarray) -> np.ndarray:
    return np.clip(hu, -1024, 3071)


def hu_of(one: pydicom.Dataset) -> np.ndarray:
    return one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)


def places_of(one: pydicom.Dataset, index: tuple[int, int]) -> np.ndarray:
    """LPS mm of a stored pixel (row, column), as PS3.3 C.7.6.2.1.1 has it."""
    along_row, along_column = np.reshape(np.array(one.ImageOrientationPatient, float), (2, 3))
    down, across = map(float, one.PixelSpacing)
    return np.array(one.ImagePositionPatient, float) + along_row * across * index[1] + along_column * down * index[0]


@pytest.mark.parametrize("name", TRANSFER_SYNTAXES)
@pytest.mark.parametrize("options", [CtOptions(), GE_LIKE], ids=["unsigned 12", "signed 16 padded"])
def test_every_transfer_syntax_keeps_every_pixel(tmp_path, name, options):
    settings = CtOptions(**{**vars(options), "transfer_syntax": name})
    paths = write_series(tmp_path / "series", ct_instances(head(), options=settings))
    plain = ct_instances(head(), options=options)
    for path, expected in zip(paths, plain, strict=True):
        one = pydicom.dcmread(path)
        assert one.file_meta.TransferSyntaxUID == TRANSFER_SYNTAXES[name]
        np.testing.assert_array_equal(one.pixel_array, expected.pixel_array)
        if name != "deflated":  # the validator cannot inflate
            assert not [one for one in complaints(path) if one.startswith("Error")]


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_pixels_lie_where_the_grid_says_in_every_turn(turn):
    volume = head()
    numbered = Volume(np.arange(volume.hu.size, dtype=np.float32).reshape(volume.hu.shape) % 3000, volume.grid)
    for index, one in enumerate(ct_instances(numbered, turn=turn)):
        hu = hu_of(one)
        np.testing.assert_array_equal(turn.apply(hu), numbered.hu[index])
        assert one.pixel_array.shape == (one.Rows, one.Columns)
        for row, column in ((0, 0), (5, 70), (95, 79)):
            stored = np.argwhere(turn.undo(np.arange(96 * 80).reshape(96, 80)) == 80 * row + column)[0]
            expected = volume.grid.to_mm(np.array([index, row, column]))
            np.testing.assert_allclose(places_of(one, tuple(stored)), expected, atol=1e-4)


@pytest.mark.parametrize("options", [CtOptions(), GE_LIKE, CtOptions(slope=0.5, bits_stored=16), CtOptions(slope=-1.0,
                         bits_stored=16, signed=True, intercept=0.0)])  # fmt: skip
def test_stored_values_are_hu(options):
    one = ct_instances(head(), options=options)[2]
    inner = np.s_[30:66, 25:55]  # within the circle
    np.testing.assert_allclose(hu_of(one)[inner], saturated(head().hu[2])[inner], atol=abs(options.slope) / 2 + 1e-3)


def test_padding_is_outside_a_circle():
    one = ct_instances(head(), options=GE_LIKE)[0]
    assert one.PixelPaddingValue == -2000
    assert one.PixelRepresentation == 1
    assert one.pixel_array[0, 0] == one.pixel_array[-1, -1] == -2000
    assert (one.pixel_array == -2000).mean() == pytest.approx(1 - np.pi / 4 * 80 / 96, abs=0.03)


def test_monochrome1_is_about_display_and_leaves_hu_alone():
    plain, inverted = (ct_instances(head(), options=CtOptions(monochrome1=one))[0] for one in (False, True))
    assert inverted.PhotometricInterpretation == "MONOCHROME1"
    np.testing.assert_array_equal(hu_of(plain), hu_of(inverted))


def test_headers_state_the_scan():
    instances = ct_instances(head(), options=CtOptions(age="007Y", kernel="H70h", reverse_numbers=True))
    first = instances[0]
    assert [one.InstanceNumber for one in instances] == [4, 3, 2, 1]
    assert (str(first.PatientName), first.PatientID) == ("Phantom^Synthetic", "PHANTOM")
    assert (first.PatientAge, first.ConvolutionKernel, first.BodyPartExamined) == ("007Y", "H70h", "HEAD")
    assert float(first.SliceThickness) == 4
    assert float(first.GantryDetectorTilt) == pytest.approx(15)
    heights = [float(one.ImagePositionPatient[2]) for one in instances]
    np.testing.assert_allclose(np.diff(heights), 5)


@pytest.mark.parametrize("tilt_deg", [-25.0, 0.0, 12.0])
@pytest.mark.parametrize("turn", [PlaneTurn(), PlaneTurn(transpose=True, flip_rows=True)])
def test_the_tilt_is_stated_with_its_sign(tilt_deg, turn):
    """PS3.3: negative where the gantry's top, here the face, leans away from where the table enters, here the feet."""
    geometry = ScanGeometry(slices=4, shape=(96, 80), pixel_mm=(2.4, 2.7), tilt_deg=tilt_deg, missing=(2,))
    volume = Volume(np.zeros((3, 96, 80), np.float32), geometry.grid())
    first = ct_instances(volume, turn=turn)[0]
    multi = enhanced_ct(volume, turn=turn).SharedFunctionalGroupsSequence[0].CTAcquisitionDetailsSequence[0]
    assert float(first.GantryDetectorTilt) == pytest.approx(tilt_deg, abs=0.01)
    assert float(multi.GantryDetectorTilt) == pytest.approx(tilt_deg, abs=0.01)
    along_row, down = np.reshape(np.array(first.ImageOrientationPatient, float), (2, 3))
    to_back = next(one for one in (along_row, down, -along_row, -down) if one[1] > 0.7)
    assert np.sign(round(to_back[2], 6)) == np.sign(tilt_deg)  # the back lies nearer to the head where it is positive


def test_uids_follow_the_seed():
    def uids(seed: int, number: int = 2) -> list[tuple[str, str, str]]:
        options = CtOptions(seed=seed, series_number=number)
        return [(one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID)
                for one in ct_instances(head(), options=options)]  # fmt: skip

    one, again, other_series, other_seed = uids(1), uids(1), uids(1, 3), uids(2)
    assert one == again
    assert len({instance for _, _, instance in one}) == 4
    assert {study for study, _, _ in one} == {study for study, _, _ in other_series}
    assert not {series for _, series, _ in one} & {series for _, series, _ in other_series}
    assert not {instance for _, _, instance in one} & {instance for _, _, instance in other_series}
    assert not {study for study, _, _ in one} & {study for study, _, _ in other_seed}


@pytest.mark.parametrize("options", [CtOptions(), GE_LIKE, CtOptions(reverse_numbers=True, transfer_syntax="jpeg-ls")],
                         ids=["plain", "signed, contrast", "reversed, compressed"])  # fmt: skip
def test_an_enhanced_ct_holds_the_same(tmp_path, options):
    turn = PlaneTurn(flip_columns=True)
    (path,) = write_series(tmp_path / "series", [enhanced_ct(head(), turn=turn, options=options)])
    assert not [one for one in complaints(path) if one.startswith("Error")]
    one = pydicom.dcmread(path)
    order = [3, 2, 1, 0] if options.reverse_numbers else [0, 1, 2, 3]
    classic = ct_instances(head(), turn=turn, options=options)
    np.testing.assert_array_equal(one.pixel_array, [classic[index].pixel_array for index in order])
    frames = one.PerFrameFunctionalGroupsSequence
    for frame, index in zip(frames, order, strict=True):
        assert frame.PlanePositionSequence[0].ImagePositionPatient == classic[index].ImagePositionPatient
    shared = one.SharedFunctionalGroupsSequence[0]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == classic[0].ImageOrientationPatient
    assert shared.PixelMeasuresSequence[0].PixelSpacing == classic[0].PixelSpacing


def test_a_scout_is_another_series_of_the_same_study(tmp_path):
    series = ct_instances(head())
    picture = scout(head())
    paths = write_series(tmp_path / "study", [picture, *series], names="uid")
    assert [path.name for path in paths] == [one.SOPInstanceUID for one in (picture, *series)]
    assert not [one for one in complaints(paths[0]) if one.startswith("Error")]
    one = pydicom.dcmread(paths[0])
    assert one.ImageType[2] == "LOCALIZER"
    assert one.StudyInstanceUID == series[0].StudyInstanceUID
    assert one.FrameOfReferenceUID == series[0].FrameOfReferenceUID
    assert one.SeriesInstanceUID != series[0].SeriesInstanceUID
    middle = places_of(one, (one.Rows / 2 - 0.5, one.Columns / 2 - 0.5))
    np.testing.assert_allclose(middle, head().grid.to_mm(np.array([1.5, 47.5, 39.5])), atol=1e-3)


def test_what_dicom_cannot_say_is_refused():
    steps = np.array([0, 1.0, 0]), np.array([1.0, 0.2, 0])
    slanted = SliceGrid(np.array([[0, 0, 0], [0, 0, 5.0]]), *steps, thickness_mm=5.0)
    with pytest.raises(SettingsError, match="planes"):
        ct_instances(Volume(np.zeros((2, 32, 32), np.float32), slanted))
    with pytest.raises(SettingsError, match="transfer syntax"):
        ct_instances(head(), options=CtOptions(transfer_syntax="zip"))
    with pytest.raises(SettingsError, match="enhanced"):
        enhanced_ct(head(), options=CtOptions(monochrome1=True))
    for wrong in ({"bits_stored": 8}, {"padding": -2000}, {"slope": 0.0}, {"intercept": float("nan")}):
        with pytest.raises(SettingsError):
            CtOptions(**wrong)


def test_a_folder_with_other_files_is_kept(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError):
        write_series(tmp_path, ct_instances(head()))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


SMALL = ["--spacing", "5", "1.8", "1.8", "--shape", "20", "128", "112", "--bleed", "IPH:12"]


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(bleedmap, ["phantom", *map(str, words)], catch_exceptions=False)


def test_the_command_names_every_transfer_syntax():
    assert tuple(TRANSFER_SYNTAXES) == _SYNTAXES


def test_the_command_writes_a_tilted_series_with_a_gap(tmp_path):
    out, mask = tmp_path / "study", tmp_path / "truth.nii.gz"
    result = run("--dicom", "-o", out, "--mask", mask, "--tilt", "20", "--gap", "0", "--gap", "3",
                 "--transfer-syntax", "rle", "--json", *SMALL)  # fmt: skip
    record = json.loads(result.stdout)
    headers = [pydicom.dcmread(path) for path in sorted(out.glob("*.dcm"))]
    assert len(headers) == 18
    assert {one.file_meta.TransferSyntaxUID for one in headers} == {pydicom.uid.RLELossless}
    heights = [float(one.ImagePositionPatient[2]) for one in headers]
    np.testing.assert_allclose(np.diff(heights), [5, 10, *[5] * 15], atol=1e-6)
    assert record["tilt_deg"] == 20
    assert record["gaps"] == [0, 3]
    assert record["true_volume_ml"] == pytest.approx(12, rel=0.03)
    assert record["mask_volume_ml"] == pytest.approx(record["true_volume_ml"], rel=0.02)
    assert nifti.read_mask(mask).array.any()


def test_the_command_writes_one_multi_frame_file(tmp_path):
    out = tmp_path / "study"
    assert "Written" in run("--dicom", "--multi-frame", "-o", out, *SMALL).stdout
    (path,) = out.glob("*.dcm")
    assert pydicom.dcmread(path).NumberOfFrames == 20
    assert run("--dicom", "-o", out, "--overwrite", *SMALL).exit_code == 0
    assert len(list(out.glob("*.dcm"))) == 20


def test_a_tilted_nifti_has_a_sheared_affine(tmp_path):
    run("-o", tmp_path / "head.nii.gz", "--tilt", "-10", *SMALL)
    assert nifti.read_volume(tmp_path / "head.nii.gz")[0].grid.shear_deg == pytest.approx(10, abs=0.01)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["-o", "head.nii.gz", "--gap", "2"], "--gap"),
        (["-o", "head.nii.gz", "--multi-frame"], "--multi-frame"),
        (["-o", "head.nii.gz", "--transfer-syntax", "rle"], "--transfer-syntax"),
        (["-o", "head.nii.gz", "--dicom"], "a folder"),
        (["-o", "study", "--dicom", "--mask", "study/truth.nii.gz"], "a place of its own"),
        (["-o", "study", "--dicom", "--gap", "20"], "missing slices"),
        (["-o", "study", "--dicom", "--tilt", "70"], "tilt"),
    ],
)
def test_a_mix_that_cannot_be_is_explained_and_nothing_is_written(tmp_path, monkeypatch, capsys, words, named):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["phantom", *words, *SMALL])
    assert ended.value.code == 2
    assert named in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
