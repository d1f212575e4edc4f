"""Files of real scanners: each is read, every voxel in its place, or refused with the true reason.

They are public: `ge-tilted` is neurolabusc/dcm_qa_ct at d03e30e4 (BSD-2-Clause), a person's head on a GE HiSpeed;
`head-slice` is from pydicom/pydicom-data at b0d40d1e (MIT); `geometry` from icometrix/dicom2nifti at d68253ef (MIT),
four slices of a series each, whose pixels were replaced by noise below -770 HU.
"""

import json

import nibabel as nib
import numpy as np
import pydicom
import pytest
from click.testing import CliRunner

from bleedmap.cli.main import bleedmap
from bleedmap.errors import InputError
from bleedmap.study.read import read_study

FEW, ONLY_AIR = "too few to say anything of a head", "no body; nothing but air is shown"
ONE_SLICE = ("slice count: 1 slice; too few", "so little of a head is shown")
REFUSED = {
    "head-slice": ONE_SLICE,
    "head-slice/693_UNCR.dcm": ONE_SLICE,
    "head-slice/693_J2KR.dcm": ONE_SLICE,
    "head-slice/693_UNCI.dcm": ONE_SLICE,
    "geometry/gantrytilting-001": ("slice count: 4 slices", FEW, ONLY_AIR),
    "geometry/sliceincrement-001": ("slice count: 4 slices", FEW, ONLY_AIR),
    "geometry/sliceincrement-002": ("slice count: 4 slices", FEW, ONLY_AIR),
    "geometry/notavolume-001": ("4 images of one place",),
}
SLICES = {  # from the feet, mm between slices along their normal, worked out by hand from (0020,0032) and (0020,0037)
    "ge-tilted": [4.22 * np.cos(np.radians(18.5))] * 13
    + [1.14 * np.cos(np.radians(18.5))]
    + [7.38 * np.cos(np.radians(18.5))] * 13,
    "head-slice": [],
    "geometry/gantrytilting-001": [5 * np.cos(np.radians(14))] * 3,
    "geometry/sliceincrement-001": [5, 5, 10],
    "geometry/sliceincrement-002": [0.778 * np.cos(np.radians(15.5))] * 2 + [1.556 * np.cos(np.radians(15.5))],
}
NOTES = {
    "ge-tilted": ("The gantry was tilted by 18.5°", "The slices are uneven, 1.08 to 7.00 mm apart"),
    "geometry/gantrytilting-001": ("The gantry was tilted by 14.0°",),
    "geometry/sliceincrement-001": ("1 slice seems to be missing, between slices 3 and 4",),
    "geometry/sliceincrement-002": ("The gantry was tilted by 15.5°", "1 slice seems to be missing, between slices 3"),
}


def test_each_file_stands_in_a_table(scanner_files):
    there = {str(one.parent.relative_to(scanner_files)) for one in scanner_files.rglob("*.dcm")}
    assert there <= set(SLICES) | set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_study_is_refused_with_the_true_reason(scanner_files, tmp_path, name):
    result = CliRunner().invoke(bleedmap, ["segment", str(scanner_files / name), "-o", str(tmp_path / "out")])
    error = result.exception
    assert isinstance(error, InputError)
    said = error.explain()
    for reason in REFUSED[name]:
        assert reason in said
    for untrue in ("no head", "scale is wrong", "cut to a window", "without thickness"):
        assert untrue not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", SLICES)
def test_slices_are_in_their_places_with_their_values(scanner_files, name):
    """By pydicom alone: PS3.3 C.7.6.2.1.1 and C.11.1."""
    study = read_study(scanner_files / name)
    grid = study.volume.grid
    assert np.diff(grid.heights_mm) == pytest.approx(SLICES[name], abs=2e-3)
    for note in NOTES.get(name, ()):
        assert any(note in one for one in study.notes)
    files = {one.SOPInstanceUID: one for one in map(pydicom.dcmread, sorted((scanner_files / name).glob("*.dcm")))}
    assert study.dicom is not None
    for index, header in enumerate(study.dicom.headers):
        one = files[header.SOPInstanceUID]
        first, (along, down) = (
            np.array(one.ImagePositionPatient, float),
            np.reshape(one.ImageOrientationPatient, (2, 3)),
        )
        row_mm, column_mm = map(float, one.PixelSpacing)
        for row, column in ((0, 0), (17, 300), (511, 511)):  # all are stored as they are viewed
            place = first + row * row_mm * np.array(down, float) + column * column_mm * np.array(along, float)
            assert grid.to_mm(np.array([index, row, column])) == pytest.approx(place, abs=1e-3)
        hu = one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)
        shown = hu > -1024
        assert shown.any()
        np.testing.assert_array_equal(study.volume.hu[index][shown], hu[shown])


def test_a_tilted_uneven_head_is_segmented_and_its_mask_holds_what_is_stated(scanner_files, tmp_path):
    result = CliRunner().invoke(bleedmap, ["segment", str(scanner_files / "ge-tilted"), "-o", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    summary = json.loads((tmp_path / "out/summary.json").read_text("utf-8"))
    assert summary["geometry"]["gantry_tilt_deg"] == pytest.approx(18.5, abs=0.01)
    assert summary["acquisition"]["gantry_tilt_deg"] == 18.5
    assert not any(one["verdict"] == "refusal" for one in summary["checks"])
    mask = nib.load(tmp_path / "out" / summary["files"]["mask"])
    layers_mm = float(mask.header.get_zooms()[2])
    read = read_study(scanner_files / "ge-tilted").volume.grid
    held_mm = np.bincount(read.evenly(512 * 512).slices) * layers_mm
    assert held_mm == pytest.approx(read.extents_mm, rel=0.02)
    assert np.asarray(mask.dataobj).shape == (512, 512, len(read.evenly(512 * 512).slices))
