"""Numbers as headers state them: with decimal commas, units, too many or too few; what cannot be used is shown."""

from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmwrite
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from bleedmap.errors import InputError
from bleedmap.io.dicom.header import parse, read_numbers, set_up_pydicom, text
from bleedmap.io.dicom.series import copy_patient_and_study
from bleedmap.phantom.dicom_enhanced import enhanced_ct
from dicom_studies import assert_same, even_grid, read, series, volume_on, write

EXPECTED = volume_on(even_grid())


def put(one: Dataset, keyword: str, value: str | bytes | None) -> None:
    """Store a value as a broken device may write it, past pydicom's checks."""
    tag = Tag(tag_for_keyword(keyword))
    if tag in one:
        del one[tag]
    if value is not None:
        data = value.encode() if isinstance(value, str) else value
        one[tag] = RawDataElement(tag, dictionary_VR(tag), len(data), data, 0, False, True)


def stated(keyword: str, value: str | None, **more: str):
    set_up_pydicom()
    header = Dataset()
    for name, what in more.items():
        setattr(header, name, what)
    put(header, keyword, value)
    count = {"PixelSpacing": 2, "ImagePositionPatient": 3}.get(keyword, 1)
    return read_numbers(header, keyword, count)


@pytest.mark.parametrize(
    ("keyword", "value", "numbers"),
    [
        ("RescaleIntercept", "-1024,0", (-1024.0,)), ("RescaleIntercept", "-1024,000", (-1024.0,)),
        ("RescaleIntercept", "0,0", (0.0,)), ("RescaleIntercept", "-1,024E03", (-1024.0,)),
        ("PixelSpacing", "0,4885\\0,4885", (0.4885, 0.4885)), ("PixelSpacing", "0,488\\0,488", (0.488, 0.488)),
        ("PixelSpacing", "1\\0,5", (1.0, 0.5)), ("SliceThickness", "5,000", (5.0,)), ("KVP", "120,000", (120.0,)),
        ("ImagePositionPatient", "-125,000\\-98,500\\-67,500", (-125.0, -98.5, -67.5)),
        ("ImagePositionPatient", "-1,250\\0,000\\7,5", (-1.25, 0.0, 7.5)),
    ],
)  # fmt: skip
def test_a_decimal_comma_is_read_where_it_can_be_nothing_else(keyword, value, numbers):
    found = stated(keyword, value)
    assert found.numbers == numbers
    assert found.with_commas == value


@pytest.mark.parametrize(
    ("keyword", "value", "fault"),
    [
        ("RescaleIntercept", "-1,024", "'-1,024' where a number is needed; it may mean -1.024 or -1024"),
        ("ImagePositionPatient", "-1,250\\2,000\\5", "; it may mean -1.250 or -1250"),
        ("RescaleIntercept", "-1.024,0", "'-1.024,0' where a number is needed"),
        ("RescaleIntercept", "1,024,0", "'1,024,0' where a number is needed"),
        ("RescaleIntercept", "-1024 HU", "'-1024 HU' where a number is needed"),
        ("RescaleIntercept", "1_024", "'1_024' where"), ("RescaleIntercept", "NaN", "'NaN' where"),
        ("RescaleIntercept", "1e999", "'1e999' where"), ("RescaleIntercept", "-1024\\-1024", r"'-1024\-1024' where a"),
        ("PixelSpacing", "0,5", "'0,5' where 2 numbers are needed"),
        ("PixelSpacing", "0.5,0.5", "'0.5,0.5' where 2 numbers are needed"),
        ("PixelSpacing", "", "it is empty"), ("PixelSpacing", None, "it is missing"),
        ("PixelSpacing", "0.5\\", r"'0.5\' where 2 numbers are needed"),
        ("KVP", "x" * 60, f"'{'x' * 48}…' where a number is needed"),
        ("KVP", "120\x01kV", "6 characters of something else where a number is needed"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_used_is_shown(keyword, value, fault):
    found = stated(keyword, value)
    assert found.numbers == ()
    assert fault in found.fault


def test_a_value_that_has_swallowed_those_behind_it_is_no_text():
    """A representation that is none makes a reader take the length for a longer one."""
    header = Dataset()
    put(header, "SeriesDescription", b"Head 5.0\x08\x00\x90\x00PN\x08\x00Doe^Jane")
    assert text(header, "SeriesDescription") is None
    put(header, "SeriesDescription", b"Head 5.0\x20\x00\x0d\x00UI\x20\x00Doe^Jane")
    assert text(header, "SeriesDescription") is None
    put(header, "SeriesDescription", b"Head \x1b$B5.0\0")
    assert text(header, "SeriesDescription") == "Head $B5.0"
    put(header, "SeriesDescription", b"Head\x00 5.0")  # one odd byte
    assert text(header, "SeriesDescription") == "Head\x00 5.0"


def test_a_value_that_names_the_patient_is_not_shown():
    assert "Doe" not in stated("KVP", "Doe^Jane").fault
    assert "SMITHSON" not in stated("KVP", "SMITHSON", PatientName="SMITHSON^J").fault
    assert "4711" not in stated("KVP", "ID-4711", PatientID="ID-4711").fault


def test_decimal_commas_are_read_with_a_note(tmp_path):
    instances = series(EXPECTED)
    for one in instances:
        put(one, "RescaleIntercept", "-1024,0 ")
        put(one, "PixelSpacing", "0,6\\0,5 ")
        put(one, "SliceThickness", "5,000 ")
        put(one, "ImagePositionPatient", "\\".join(map(str, one.ImagePositionPatient)).replace(".", ","))
    found = read(write(tmp_path, instances))
    assert_same(found, EXPECTED)
    assert found.acquisition.thickness_mm == 5.0
    assert (
        "Rescale Intercept (0028,1052) has decimal commas in 12 of 12 slices, such as '-1024,0', which was read as "
        "-1024." in found.notes
    )
    assert sum("decimal commas" in note for note in found.notes) >= 3


@pytest.mark.parametrize(
    ("keyword", "value", "found"),
    [
        ("RescaleIntercept", "-1,024", r"no usable Rescale Intercept \(0028,1052\): '-1,024' where a number"),
        ("RescaleSlope", "", r"no usable Rescale Slope \(0028,1053\): it is empty"),
        ("PixelSpacing", "0.5mm\\0.5mm", r"no usable Pixel Spacing \(0028,0030\): '0\.5mm\\0\.5mm' where 2"),
        ("PixelSpacing", "0\\0", r"pixels of 0 × 0 mm, by Pixel Spacing \(0028,0030\)"),
        ("ImagePositionPatient", "1\\2\\nan", r"Image Position \(0020,0032\): '1\\2\\nan' where 3 numbers"),
        ("ImageOrientationPatient", "1\\0\\0\\0\\1", r"Image Orientation \(0020,0037\): '1\\0\\0\\0\\1' where 6"),
        ("Rows", b"\x28\x00\x28\x00", r"no usable Rows \(0028,0010\): '40\\40' where a number"),
        ("BitsStored", b"", r"no usable Bits Stored \(0028,0101\): it is empty"),
    ],
)
def test_what_must_be_a_number_is_refused_with_file_value_and_remedy(tmp_path, keyword, value, found):
    instances = series(EXPECTED)
    for one in instances:
        put(one, keyword, value)
    folder = write(tmp_path, instances)
    with pytest.raises(InputError, match=found) as refused:
        read(folder)
    assert refused.value.subject in map(str, folder.iterdir())
    tag = found.split(r"\(")[1].split(r"\)")[0]
    assert value in (b"", "") or f'dcmodify -i "({tag})=VALUE"' in refused.value.remedy


@pytest.mark.parametrize(
    ("keyword", "value", "note"),
    [
        ("SliceThickness", "5 mm", "Slice Thickness (0018,0050) was not used in 12 of 12 slices: '5 mm' where a"),
        ("SliceThickness", "-5", "not used in 12 of 12 slices: '-5' where a number above 0 is needed"),
        ("SliceThickness", "0", "not used in 12 of 12 slices: '0' where a number above 0 is needed"),
        ("KVP", "120 kV", "KVP (0018,0060) was not used in 12 of 12 slices: '120 kV' where a number is needed"),
        ("KVP", "0", "'0' where a number above 0"),
        ("GantryDetectorTilt", "none", "Gantry/Detector Tilt (0018,1120) was not used in 12 of 12 slices: 'none'"),
    ],
)
def test_what_the_reading_can_do_without_is_left_unused_with_a_note(tmp_path, keyword, value, note):
    instances = series(EXPECTED)
    for one in instances:
        put(one, keyword, value)
    found = read(write(tmp_path, instances))
    np.testing.assert_array_equal(found.volume.hu, EXPECTED.hu)
    assert note in " ".join(found.notes)


def test_frames_of_one_file_are_told_alike(tmp_path):
    one = enhanced_ct(EXPECTED)
    put(one.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0], "RescaleIntercept", "-1024,0")
    found = read(write(tmp_path / "a", [one]))
    assert_same(found, EXPECTED)
    assert "decimal commas in 12 of 12 slices" in " ".join(found.notes)
    put(one, "NumberOfFrames", "twelve")
    with pytest.raises(InputError, match=r"no usable Number of Frames \(0028,0008\): 'twelve' where a number"):
        read(write(tmp_path / "b", [one]))


LATIN1, LOST = b"M\xfcller^J\xf6rg", "M\N{REPLACEMENT CHARACTER}ller"
CHINESE = b"Zhang^X=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab"  # as PS3.5 annex K writes it


@pytest.mark.parametrize(
    ("stated", "name", "read_as"),
    [
        ("ISO_IR 192", LATIN1, "Müller^Jörg"),  # the scanner's letters under the middleware's character set
        ("ISO_IR 192", "Müller^Jörg".encode(), "Müller^Jörg"),
        ("ISO_IR 192", LOST.encode(), LOST),  # by whoever wrote the file
        ("\\ISO 2022 IR 87", LATIN1, "Müller^Jörg"),
        ("\\ISO 2022 IR 58", CHINESE, "Zhang^X=张^小东"),
    ],
)
def test_names_keep_their_letters_whatever_character_set_is_stated(stated, name, read_as):
    header = parse_with(stated, PatientName=name)
    assert text(header, "PatientName") == read_as
    copied = copy_patient_and_study(header)
    copied.SOPClassUID, copied.Modality = header.SOPClassUID, "CT"
    assert text(parse(as_bytes(copied), pixels=False, most=1 << 24).header, "PatientName") == read_as


def test_one_text_in_other_letters_leaves_the_rest_as_it_is():
    given = {"PatientName": "Müller^Jörg".encode(), "StudyDescription": "Schädel".encode("latin-1")}
    header = parse_with("ISO_IR 192", **given)
    assert (text(header, "PatientName"), text(header, "StudyDescription")) == ("Müller^Jörg", "Schädel")
    assert copy_patient_and_study(header).SpecificCharacterSet == "ISO_IR 192"


def parse_with(charset: str, **values: bytes) -> Dataset:
    """Parse a file that holds such bytes, which pydicom would not write."""
    first = series()[0]
    put(first, "SpecificCharacterSet", charset)
    for keyword, value in values.items():
        put(first, keyword, keyword[:1] * len(value))
    data = as_bytes(first)
    for keyword, value in values.items():
        placeholder = keyword[:1].encode() * len(value)
        assert data.count(placeholder) == 1
        data = data.replace(placeholder, value)
    return parse(data, pixels=False, most=1 << 24).header


def as_bytes(one: Dataset) -> bytes:
    stream = BytesIO()
    dcmwrite(stream, one, implicit_vr=False, little_endian=True)
    return stream.getvalue()
