"""Images without valid UIDs are read; DICOM results, which must refer to them by these, are left out and told."""

from io import BytesIO

import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from bleedmap.archive.find import find_studies
from bleedmap.errors import InputError
from bleedmap.io.dicom.files import holds_dicom
from bleedmap.io.dicom.header import set_up_pydicom
from bleedmap.io.dicom.read import read_series, scan
from bleedmap.io.dicom.series import make_source_planes, refer_to_slice
from dicom_studies import assert_same, even_grid, read, series, volume_on, write

set_up_pydicom()  # invalid UIDs are written here
EXPECTED = volume_on(even_grid())
KEPT = (  # of the public RSNA 2019 set
    "Modality", "ImagePositionPatient", "ImageOrientationPatient", "SamplesPerPixel", "PhotometricInterpretation",
    "Rows", "Columns", "PixelSpacing", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation",
    "RescaleIntercept", "RescaleSlope", "PixelData",
)  # fmt: skip


def rsna(number: int, one: Dataset) -> Dataset:
    """What is left of a header there, under names in place of UIDs."""
    new = Dataset()
    for keyword in KEPT:
        new[keyword] = one[keyword]
    new.SOPInstanceUID, new.PatientID = UID(f"ID_{number:09x}"), "ID_0a1b2c3d"
    new.StudyInstanceUID, new.SeriesInstanceUID, new.StudyID = UID("ID_1111111111"), UID("ID_2222222222"), ""
    new.file_meta = FileMetaDataset()
    new.file_meta.MediaStorageSOPClassUID, new.file_meta.MediaStorageSOPInstanceUID = one.SOPClassUID, "1.2.3"
    new.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return new


def write_without_meta(folder, instances, syntax=ImplicitVRLittleEndian):
    """Write data sets alone, as from their first element on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(instances):
        bare = BytesIO()
        one.file_meta = FileMetaDataset()
        pydicom.dcmwrite(
            bare, one, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian,
            enforce_file_format=False,
        )  # fmt: skip
        (folder / f"ID_{number}.dcm").write_bytes(bare.getvalue())
    return folder


def test_headers_of_the_rsna_set_are_read(tmp_path):
    instances = [rsna(number, one) for number, one in enumerate(series(EXPECTED))]
    found = read(write(tmp_path / "a", instances))
    assert_same(found, EXPECTED)
    assert found.unreferable == (
        "SOP Instance UID (0008,0018) has characters other than digits and points in 12 of 12 files"
    )
    (note,) = [note for note in found.notes if "DICOM results" in note]
    assert found.unreferable in note
    assert "NIfTI" in note
    assert "ID_" not in " ".join(found.notes)
    bare = read(write_without_meta(tmp_path / "b", instances))
    assert_same(bare, EXPECTED)
    assert bare.unreferable.startswith("SOP Class UID (0008,0016) is missing")


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian], ids=["implicit", "explicit"])
@pytest.mark.parametrize("first", ["SOPInstanceUID", "Modality", "StudyDate"])
def test_files_without_meta_information_are_known_by_their_first_element(tmp_path, syntax, first):
    instances = series(EXPECTED)
    for one in instances:
        for keyword in ("SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "Modality"):
            if keyword == first:
                break
            if keyword in one and keyword != "Modality":
                delattr(one, keyword)
    for one in instances if first == "Modality" else []:
        for tag in [element.tag for element in one if element.tag.group == 8 and element.keyword != "Modality"]:
            del one[tag]
    folder = write_without_meta(tmp_path / "study", instances, syntax)
    assert holds_dicom(folder)
    assert_same(read(folder), EXPECTED)


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (None, "is missing in 12 of 12 files"), ("1.2.840.0123.4", "has an empty part, or one that begins with 0"),
        ("1." * 40 + "2", "has 81 characters, more than 64"), ("1.2..3", "has an empty part"),
        ("5f4dcc3b5aa765d61d8327deb882cf99", "has characters other than digits and points"),
    ],
)  # fmt: skip
def test_uids_that_are_none(tmp_path, keyword, value, fault):
    instances = series(EXPECTED)
    for number, one in enumerate(instances):
        if value is None:
            delattr(one, keyword)
        else:
            setattr(one, keyword, UID(value + (str(number) if keyword == "SOPInstanceUID" else "")))
        one.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    found = read(write(tmp_path, instances))
    assert_same(found, EXPECTED)
    assert fault.split(" characters, ")[-1] in found.unreferable
    with pytest.raises(InputError, match="no DICOM result can refer"):
        make_source_planes(found) and refer_to_slice(found, 0)


def test_a_class_that_the_meta_information_alone_states_is_referred_to(tmp_path):
    instances = series(EXPECTED)
    for one in instances:
        del one.SOPClassUID
    found = read(write(tmp_path, instances))
    assert_same(found, EXPECTED)
    assert found.unreferable == ""
    assert refer_to_slice(found, 0).ReferencedSOPClassUID == instances[0].file_meta.MediaStorageSOPClassUID


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_one_damaged_uid_among_good_ones_is_a_slice_that_was_not_read(tmp_path, keyword):
    instances = series(EXPECTED)
    setattr(instances[4], keyword, UID("1.2.x"))
    folder = write(tmp_path / "in" / "study", instances)
    found = read(folder)
    assert len(found.volume.hu) == 11
    assert f"no usable {keyword}" in (found.acquisition.unread or "")
    (source,) = find_studies(tmp_path / "in", tmp_path / "out").sources
    assert len(source.files) == 12


def test_a_batch_tells_such_studies_apart(tmp_path):
    for name, study in (("a", "ID_1"), ("b", "ID_2"), ("c", ""), ("d", "")):
        instances = [rsna(number, one) for number, one in enumerate(series(EXPECTED))]
        for one in instances:
            one.StudyInstanceUID = UID(study)
        write(tmp_path / "in" / name, instances)
    sources = find_studies(tmp_path / "in", tmp_path / "out").sources
    assert [(one.place, one.uid, len(one.files)) for one in sources] == [
        ("a", "ID_1", 12), ("b", "ID_2", 12), ("c", "", 12), ("d", "", 12),
    ]  # fmt: skip
    found = scan(tmp_path / "in")
    with pytest.raises(InputError, match=r"holds 3 studies(.|\n)*files without a Study Instance UID"):
        read_series(found)
    assert_same(read_series(found, study="ID_2"), EXPECTED)


def test_series_without_a_uid_are_told_apart_by_number(tmp_path):
    instances = [*series(EXPECTED, series_number=2), *series(volume_on(even_grid(), seed=1), series_number=3)]
    for one in instances:
        del one.SeriesInstanceUID
    found = read(write(tmp_path, instances))
    assert_same(found, EXPECTED)
    assert [line.number for line in found.choice] == [2, 3]


def test_what_names_neither_class_nor_modality_is_no_image(tmp_path):
    instances = [rsna(number, one) for number, one in enumerate(series(EXPECTED))]
    for one in instances:
        del one.Modality
    with pytest.raises(InputError, match=r"names neither SOP Class \(0008,0016\) nor Modality \(0008,0060\)"):
        read(write_without_meta(tmp_path, instances))
