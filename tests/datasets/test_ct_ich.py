"""CT-ICH: both releases read, refused where files and tables do not fit, and counted as published."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bleedmap.datasets.ct_ich import SHORT_NAMES, TYPES, CtIch, data_root, open_ct_ich
from bleedmap.datasets.ct_ich_summary import Summary, explain_diagnosis, find_oddities, summarise
from bleedmap.datasets.ct_ich_tables import Demographics, Patient, SliceRecord, read_views_mm
from bleedmap.errors import DataError, InputError

LABELS = "hemorrhage_diagnosis.csv"


@pytest.fixture(scope="module")
def real(ct_ich_root: Path) -> CtIch:
    return open_ct_ich(ct_ich_root)


@pytest.fixture(scope="module")
def counts(real: CtIch) -> Summary:
    return summarise(real)


class TestRealData:
    """Every count in the description of the data set."""

    def test_patients_and_slices(self, real: CtIch, counts: Summary) -> None:
        assert real.release == "1.0.0 JPEG"
        assert (counts.patients, counts.male, counts.female) == (82, 46, 36)
        assert counts.age_years is not None
        assert round(counts.age_years.mean, 1) == 27.8  # the publisher's own figure
        assert counts.slices == len(real.slices) == 2501
        assert (counts.slices_a_patient.smallest, counts.slices_a_patient.largest) == (19, 40)
        assert [record.id for record in real.slices if not record.has_bone] == ["084/36"]
        assert counts.bone_slices == 2500

    def test_lesions(self, counts: Summary) -> None:
        assert (counts.lesion_slices, counts.lesion_patients, counts.slices_of_lesion_patients) == (318, 36, 1104)
        each = counts.lesion_slices_a_lesion_patient
        assert each is not None
        assert (each.smallest, each.largest) == (1, 19)
        assert (counts.slices_of_several_types, counts.fracture_slices) == (25, 195)

    def test_types(self, counts: Summary) -> None:
        assert {count.name: (count.slices, count.patients) for count in counts.types} == {
            "epidural": (173, 21),
            "intraparenchymal": (73, 16),
            "subdural": (56, 4),
            "intraventricular": (24, 5),
            "subarachnoid": (18, 7),
        }

    def test_lesion_areas(self, counts: Summary) -> None:
        assert counts.lesion_image_sizes == ((650, 650),)
        pixels, percent = counts.lesion_pixels, counts.lesion_percent_of_image
        assert pixels is not None
        assert percent is not None
        assert (pixels.smallest, pixels.largest, pixels.median) == (142, 17582, 1740)
        assert [f"{value:.2g}" for value in (percent.median, percent.mean, percent.smallest, percent.largest)] == [
            "0.41", "0.73", "0.034", "4.2",
        ]  # fmt: skip

    def test_masks_and_labels_name_the_same_slices(self, real: CtIch) -> None:
        assert all(record.has_lesion == bool(record.types) for record in real.slices)

    def test_tissue_and_blood_have_their_hu(self, real: CtIch) -> None:
        blood, brain = [], []
        for record in [record for record in real.slices if record.has_lesion][::8]:
            hu, mask = real.read_hu(record), real.read_mask(record)
            assert hu.shape == mask.shape == (650, 650)
            assert hu.min() >= -20
            assert hu.max() <= 100
            blood.append(hu[mask])
            brain.append(hu[~mask & (hu > 10) & (hu < 60)])
        assert abs(np.median(np.concatenate(blood)) - 58) < 4  # HU; clotted blood is 50 to 80
        assert abs(np.median(np.concatenate(brain)) - 32) < 4  # HU; white matter to grey matter is 25 to 40

    def test_oddities_name_their_place(self, real: CtIch) -> None:
        oddities = find_oddities(real)
        found = {oddity.place: oddity.found for oddity in oddities}
        assert found[LABELS] == "starts with a byte-order mark"
        assert found["patient_demographics.csv"] == "a header cell with a line break"
        assert found["084/36"] == "no bone-window picture"
        assert "2.2 % of a lesion, 10.5 % at the most" in found["masks (318)"]
        assert "no pixel spacing" in found["all pictures"]
        assert found["patient 058"] == "on file 'Normal CT': slices bear IPH"
        assert found["patient 070"].startswith("chronic bleed")
        disagreeing = [oddity.place[-3:] for oddity in oddities if oddity.found.startswith("on file")]
        assert disagreeing == ["050", "051", "058", "074", "076", "082", "085", "089", "090", "095", "097"]

    def test_ticks_agree_with_slices(self, counts: Summary) -> None:
        assert counts.patients_ticked_otherwise == 0


class TestJpegRelease:
    def test_records(self, jpeg_release: Path) -> None:
        data = open_ct_ich(jpeg_release)
        record = data.slice("049/2")
        assert record == SliceRecord(49, 2, frozenset({"epidural"}), True, has_lesion=True, has_bone=True)
        assert [patient.number for patient in data.patients] == [49, 50, 51]
        first, second, third = data.patients
        assert (first.on_file.age_years, first.on_file.sex, first.on_file.diagnosis) == (35, "male", "Extradural HGE")
        assert (second.on_file.age_years, second.on_file.sex) == (0.5, "female")
        assert (third.on_file.age_years, third.on_file.sex, third.on_file.note) == (None, None, "Chronic")
        assert first.on_file.types == frozenset({"epidural"})

    def test_pixels(self, jpeg_release: Path) -> None:
        data = open_ct_ich(jpeg_release)
        hu = data.read_hu(data.slice("049/2"))
        assert hu.shape == (24, 32)
        assert hu.dtype == np.float32
        np.testing.assert_allclose(hu, -20 + 102 * 120 / 255, rtol=1e-6)

    def test_mask_is_thresholded_not_compared(self, jpeg_release: Path) -> None:
        data = open_ct_ich(jpeg_release)
        mask = data.read_mask(data.slice("049/2"))
        expected = np.zeros((24, 32), bool)
        expected[8:16, 8:24] = True
        np.testing.assert_array_equal(mask, expected)

    def test_no_mask_is_all_false_on_the_slices_grid(self, jpeg_release: Path) -> None:
        data = open_ct_ich(jpeg_release)
        mask = data.read_mask(data.slice("050/1"))
        assert mask.shape == (24, 32)
        assert not mask.any()

    def test_parent_folder_will_do(self, jpeg_release: Path) -> None:
        assert open_ct_ich(jpeg_release.parent).root == jpeg_release

    def test_patient_without_demographics_is_kept(self, jpeg_release: Path) -> None:
        table = jpeg_release / "patient_demographics.csv"
        table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
        assert open_ct_ich(jpeg_release).patients[2].on_file.diagnosis == ""


class TestContentHash:
    def test_stays_and_covers_what_is_asked(self, jpeg_release: Path) -> None:
        data, again = open_ct_ich(jpeg_release), open_ct_ich(jpeg_release)
        ids = ["049/1", "050/2"]
        assert data.content_sha256() == again.content_sha256()
        assert data.content_sha256(ids) == data.content_sha256(ids[::-1])
        assert data.content_sha256(ids) != data.content_sha256(ids[:1])

    @pytest.mark.parametrize("name", ["brain/2.jpg", "brain/2_HGE_Seg.jpg"])
    def test_a_changed_picture_changes_it(self, jpeg_release: Path, name: str) -> None:
        before = open_ct_ich(jpeg_release)
        touched, untouched = before.content_sha256(["049/2"]), before.content_sha256(["049/1"])
        with (jpeg_release / "Patients_CT/049" / name).open("ab") as stream:
            stream.write(b"\0")
        after = open_ct_ich(jpeg_release)
        assert after.content_sha256(["049/2"]) != touched
        assert after.content_sha256(["049/1"]) == untouched

    def test_a_changed_label_changes_it(self, jpeg_release: Path) -> None:
        before = open_ct_ich(jpeg_release).content_sha256()
        _edit(jpeg_release / LABELS, "49,2,0,0,0,1,0,0,1", "49,2,0,0,0,1,0,0,0")
        assert open_ct_ich(jpeg_release).content_sha256() != before


class TestRefusals:
    def test_row_without_its_file(self, jpeg_release: Path) -> None:
        (jpeg_release / "Patients_CT/050/brain/2.jpg").unlink()
        _refused(jpeg_release, "line 6 (patient 50, slice 2)", "050/brain/2.jpg")

    def test_file_without_its_row(self, jpeg_release: Path) -> None:
        _edit(jpeg_release / LABELS, "50,2,0,0,0,0,0,1,0\r\n", "")
        _refused(jpeg_release, "050/brain/2.jpg", "a slice without a row")

    def test_folder_without_rows(self, jpeg_release: Path) -> None:
        (jpeg_release / "Patients_CT/077").mkdir()
        _refused(jpeg_release, "077", "no row")

    def test_mask_without_its_slice(self, jpeg_release: Path) -> None:
        brain = jpeg_release / "Patients_CT/050/brain"
        (brain / "9_HGE_Seg.jpg").write_bytes((brain / "1.jpg").read_bytes())
        _refused(jpeg_release, "9_HGE_Seg.jpg", "a mask without its slice")

    def test_mask_of_another_size(self, jpeg_release: Path) -> None:
        Image.new("L", (16, 16)).save(jpeg_release / "Patients_CT/049/brain/2_HGE_Seg.jpg")
        data = open_ct_ich(jpeg_release)
        with pytest.raises(InputError, match="16×16"):
            data.read_mask(data.slice("049/2"))

    @pytest.mark.parametrize("name", [LABELS, "patient_demographics.csv"])
    def test_missing_table(self, jpeg_release: Path, name: str) -> None:
        (jpeg_release / name).unlink()
        _refused(jpeg_release, name, "no such file")

    @pytest.mark.parametrize(
        ("old", "new", "found"),
        [
            ("50,2,0,0,0,0,0,1,0\r\n", "50,1,0,0,0,0,0,1,0\r\n", "lines 5 and 6 both label patient 50, slice 1"),
            ("50,2,0", "50,two,0", "line 6 has slicenumber 'two'"),
            ("50,2,0,0,0,0,0,1,0", "50,2,0,0,0,0,0,1,7", "neither 0 nor 1"),
            ("50,2,0,0,0,0,0,1,0", "50,2,0,0,0,1,0,1,0", "No_Hemorrhage contradicts"),
            ("50,2,0,0,0,0,0,1,0", "50,2,0,0", "line 6 has 4 cells of 9"),
            ("SliceNumber", "Picture", "no column slicenumber"),
        ],
    )
    def test_bad_row(self, jpeg_release: Path, old: str, new: str, found: str) -> None:
        _edit(jpeg_release / LABELS, old, new)
        _refused(jpeg_release, found)

    def test_table_that_is_no_text(self, jpeg_release: Path) -> None:
        (jpeg_release / LABELS).write_bytes(b"\xff\xfe\x00\x81" * 20)
        _refused(jpeg_release, LABELS, "cannot be read as a table")

    def test_folders_that_are_no_data_set(self, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        needed = "the folder that holds Patients_CT and hemorrhage_diagnosis.csv"
        for folder, found in ((tmp_path / "none", "no such folder"), (tmp_path / "other", "an empty folder"),
                              (tmp_path, "holds no CT-ICH release")):  # fmt: skip
            with pytest.raises(DataError, match=found) as caught:
                open_ct_ich(folder)
            assert needed in caught.value.needed

    def test_two_releases_in_one_folder(self, jpeg_release: Path, nifti_release: Path) -> None:
        assert jpeg_release.parent == nifti_release.parent
        _refused(jpeg_release.parent, "holds 2 releases: ct-ich, ct-ich-nifti")

    def test_unknown_slice(self, jpeg_release: Path) -> None:
        with pytest.raises(DataError, match="no slice '049/99'"):
            open_ct_ich(jpeg_release).slice("049/99")


class TestNiftiRelease:
    def test_labels_are_those_of_the_jpeg_layout(self, nifti_release: Path, jpeg_release: Path) -> None:
        data, same = open_ct_ich(nifti_release), open_ct_ich(jpeg_release)
        assert data.release == "1.3.1 NIfTI"
        assert data.slices == same.slices
        assert (data.patients[0].on_file.age_years, data.patients[0].on_file.sex) == (35, "male")

    @pytest.mark.parametrize("name", ["049/3", "050/1", "050/2", "051/2"])
    def test_slice_number_counts_along_the_files_third_axis(self, nifti_release: Path, name: str) -> None:
        data = open_ct_ich(nifti_release)
        hu = data.read_hu(data.slice(name))
        assert hu.shape == (4, 6)  # rows, columns: the file's axes are (columns, rows, slices)
        assert np.median(hu) == 10 * data.slice(name).number

    def test_mask_lies_on_its_scan_whatever_its_header_says(self, nifti_release: Path) -> None:
        data = open_ct_ich(nifti_release)
        record = data.slice("049/2")
        hu, mask = data.read_hu(record), data.read_mask(record)
        (bright_row,), (bright_column,) = np.nonzero(hu == 1000)
        rows, columns = np.nonzero(mask)
        # In the file the bright voxel is at (0, 0) and the mask at (2 and 3, 1).
        assert np.abs(rows - bright_row).tolist() == [1, 1]
        assert sorted(np.abs(columns - bright_column).tolist()) == [2, 3]
        assert not data.read_mask(data.slice("049/1")).any()

    def test_reading_hands_out_copies(self, nifti_release: Path) -> None:
        data = open_ct_ich(nifti_release)
        data.read_hu(data.slice("049/1"))[:] = 0
        assert np.median(data.read_hu(data.slice("049/1"))) == 10

    def test_hash_covers_the_volume(self, nifti_release: Path) -> None:
        before = open_ct_ich(nifti_release).content_sha256(["049/1"])
        path = nifti_release / "ct_scans/049.nii"
        path.write_bytes(path.read_bytes()[:-1] + b"\x01")
        assert open_ct_ich(nifti_release).content_sha256(["049/1"]) != before

    def test_missing_volume(self, nifti_release: Path) -> None:
        (nifti_release / "ct_scans/050.nii").unlink()
        _refused(nifti_release, "line 5 (patient 50)", "050.nii, which is missing")

    def test_row_past_the_volume(self, nifti_release: Path) -> None:
        with (nifti_release / "hemorrhage_diagnosis_raw_ct.csv").open("a") as stream:
            stream.write("51,4,0,0,0,0,0,1,0\n")
        _refused(nifti_release, "line 10 (patient 51, slice 4) is past the 3 slices")

    def test_marked_slice_without_a_row(self, nifti_release: Path) -> None:
        _edit(nifti_release / "hemorrhage_diagnosis_raw_ct.csv", "49,3,0,0,0,1,0,0,0\r\n", "")
        _refused(nifti_release, "049.nii", "marks slice 3")

    def test_volume_without_rows(self, nifti_release: Path) -> None:
        (nifti_release / "masks/052.nii").write_bytes(b"")
        _refused(nifti_release, "052.nii", "no row")

    def test_mask_of_another_size(self, nifti_release: Path) -> None:
        nib.save(nib.Nifti1Image(np.ones((6, 5, 3), np.uint8), np.eye(4)), nifti_release / "masks/049.nii")
        data = open_ct_ich(nifti_release)
        with pytest.raises(DataError, match=r"\(6, 5, 3\) voxels for a volume of \(6, 4, 3\)"):
            data.read_mask(data.slice("049/1"))

    def test_third_axis_across_the_body(self, nifti_release: Path) -> None:
        affine = np.array([[0, 0, 5.0, 0], [0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, 0, 1]])
        nib.save(nib.Nifti1Image(np.zeros((6, 4, 3), np.int16), affine), nifti_release / "ct_scans/049.nii")
        data = open_ct_ich(nifti_release)
        with pytest.raises(DataError, match="does not run along the body"):
            data.read_hu(data.slice("049/1"))

    def test_summary_and_oddities(self, nifti_release: Path) -> None:
        data = open_ct_ich(nifti_release)
        counts = summarise(data)
        assert (counts.lesion_slices, counts.bone_slices) == (3, 8)
        assert counts.lesion_pixels is not None
        assert counts.lesion_pixels.largest == 2
        places = [oddity.place for oddity in find_oddities(data)]
        assert "all pictures" not in places  # volumes state their spacing


class TestFullRange:
    """HU beyond the brain window, and the size of pixels."""

    def test_bone_and_air_come_from_the_bone_window(self, jpeg_release: Path) -> None:
        folder = jpeg_release / "Patients_CT/049"
        shape = np.asarray(Image.open(folder / "brain/1.jpg")).shape[:2]
        brain, bone = np.full((64, 64), 128), np.full((64, 64), 76)  # 40 HU, and about that
        brain[:32], bone[:32] = 255, 152  # bone of 1008 HU
        brain[48:], bone[48:] = 0, 0  # air
        for window, grey in (("brain", brain), ("bone", bone)):
            Image.fromarray(grey.astype(np.uint8)).save(folder / f"{window}/1.jpg", quality=95)
        data = open_ct_ich(jpeg_release)
        hu = data.read_full_hu(data.slice("049/1"))
        assert hu.dtype == np.float32
        assert hu[4:28].mean() == pytest.approx(-900 + 152 * 3200 / 255, abs=5)
        assert hu[36:44].mean() == pytest.approx(-20 + 128 * 120 / 255, abs=0.5)
        assert hu[52:60].mean() == pytest.approx(-900, abs=5)
        assert shape != hu.shape
        np.testing.assert_allclose(np.clip(hu, -20, 100), data.read_hu(data.slice("049/1")), atol=2)

    def test_without_a_bone_picture_the_brain_window_is_all(self, jpeg_release: Path) -> None:
        (jpeg_release / "Patients_CT/049/bone/1.jpg").unlink()
        data = open_ct_ich(jpeg_release)
        record = data.slice("049/1")
        np.testing.assert_array_equal(data.read_full_hu(record), data.read_hu(record))

    def test_a_bone_picture_of_another_size_is_refused(self, jpeg_release: Path) -> None:
        Image.fromarray(np.zeros((7, 9), np.uint8)).save(jpeg_release / "Patients_CT/049/bone/1.jpg")
        data = open_ct_ich(jpeg_release)
        with pytest.raises(InputError, match="7 rows and 9 columns"):
            data.read_full_hu(data.slice("049/1"))

    def test_volumes_have_it_all(self, nifti_release: Path) -> None:
        data = open_ct_ich(nifti_release)
        record = data.slice("049/1")
        np.testing.assert_array_equal(data.read_full_hu(record), data.read_hu(record))

    def test_pixel_sizes_are_known_of_36_patients(self, jpeg_release: Path) -> None:
        data = open_ct_ich(jpeg_release)
        assert data.pixel_mm(49, 512) == pytest.approx((0.41211, 0.41211))
        assert data.pixel_mm(49, 650) == pytest.approx((0.32462, 0.32462), abs=1e-5)
        assert data.pixel_mm(55, 650) is None
        assert len(read_views_mm()) == 36

    def test_who_bleeds_has_a_pixel_size(self, real: CtIch) -> None:
        assert {one.number for one in real.patients if one.has_lesion} == set(read_views_mm())

    @pytest.mark.parametrize("name", ["049/14", "085/10", "101/12"])
    def test_both_windows_agree_on_brain(self, real: CtIch, name: str) -> None:
        hu, full = (read(real.slice(name)) for read in (real.read_hu, real.read_full_hu))
        brain = (hu > 0) & (hu < 80)
        np.testing.assert_array_equal(full[brain], hu[brain])
        assert np.percentile(full[hu > 98], 50) > 200
        assert full.max() > 700
        assert full.min() < -800


class TestOddities:
    @pytest.mark.parametrize(
        ("diagnosis", "types", "fracture", "reason"),
        [
            ("Normal CT", set(), False, None),
            ("Normal CT", {"subdural"}, True, "slices bear SDH and slices bear a fracture"),
            ("Intracranial HGE", {"epidural", "subarachnoid"}, False, None),
            ("Extadural HGE", {"epidural", "subdural"}, False, "slices bear SDH too"),
            ("Subdural HGE+ Intracranial HGE", {"intraparenchymal"}, False, "no slice bears SDH, but IPH"),
            ("", {"epidural"}, False, None),
        ],
    )
    def test_diagnosis(self, diagnosis: str, types: set[str], fracture: bool, reason: str | None) -> None:
        record = SliceRecord(1, 1, frozenset(types), fracture, bool(types), True)
        assert explain_diagnosis(Patient(1, (record,), Demographics(diagnosis=diagnosis))) == reason

    def test_ticks_labels_and_pictures_that_disagree(self, jpeg_release: Path) -> None:
        (jpeg_release / "Patients_CT/049/brain/3_HGE_Seg.jpg").unlink()
        (jpeg_release / "Patients_CT/050/bone/1.jpg").unlink()
        brain = jpeg_release / "Patients_CT/050/brain"
        (brain / "2_HGE_Seg.jpg").write_bytes((brain / "1.jpg").read_bytes())
        found = {(oddity.place, oddity.found) for oddity in find_oddities(open_ct_ich(jpeg_release))}
        assert {
            ("049/3", "labelled EDH, no mask"),
            ("050/1", "no bone-window picture"),
            ("050/2", "a mask, but no type labelled"),
            ("patient 051", "no type ticked on file, slices bear SDH"),
        } <= found


def test_types_have_short_names() -> None:
    assert [SHORT_NAMES[name] for name in TYPES] == ["EDH", "IPH", "SDH", "IVH", "SAH"]


def test_data_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BLEEDMAP_DATA", str(tmp_path))
    assert data_root(None) == tmp_path
    assert data_root(Path("flag")) == Path("flag")
    monkeypatch.delenv("BLEEDMAP_DATA")
    with pytest.raises(InputError) as caught:
        data_root(None)
    assert "--data" in caught.value.needed
    assert "BLEEDMAP_DATA" in caught.value.needed
    assert "bleedmap data download" in caught.value.remedy


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_bytes().decode()
    assert old in text
    path.write_bytes(text.replace(old, new, 1).encode())


def _refused(root: Path, *words: str) -> None:
    with pytest.raises(DataError) as caught:
        open_ct_ich(root)
    for word in words:
        assert word in caught.value.explain()
