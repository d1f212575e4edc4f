"""Which series of a study is read, why not the others, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import BasicTextSRStorage, MRImageStorage, SecondaryCaptureImageStorage, generate_uid

from bleedmap.errors import InputError
from bleedmap.io.dicom.acquisition import find_contrast_agent, is_bone_series, is_elsewhere, is_sharp_kernel
from bleedmap.io.dicom.read import read_series, scan
from bleedmap.phantom.dicom import CtOptions, scout
from bleedmap.phantom.scan import ScanGeometry
from dicom_studies import SHAPE, assert_same, even_grid, read, series, volume_on, write

HEAD = even_grid(24)  # 120 mm


def head(number: int, *, grid=HEAD, **options) -> list[Dataset]:
    return series(volume_on(grid, seed=number), series_number=number, **options)


def thin(slices: int = 120, spacing_mm: float = 1.0):
    return even_grid(slices, (spacing_mm, 0.6, 0.5))


def other_kind(number: int, modality: str, sop_class: str) -> Dataset:
    one = head(number)[0]
    one.Modality, one.SOPClassUID = modality, sop_class
    one.file_meta.MediaStorageSOPClassUID = sop_class
    return one


def reasons(found) -> dict:
    return {line.number: line.reason for line in found.choice}


def test_a_whole_study_of_many_series(tmp_path):
    """The thick soft axial head without contrast, and for each of the others the reason."""
    coronal = replace(ScanGeometry(slices=24, shape=SHAPE[1:], pixel_mm=(0.6, 0.5)), turn_deg=(90.0, 0.0, 0.0)).grid()
    study = [
        scout(volume_on(even_grid(24, (5.0, 2.0, 2.0))), options=CtOptions()),
        *head(2, series_description="Head 5.0 H31s", kernel="H31s"),
        *head(3, series_description="Head 5.0 H70h", kernel="H70h"),
        *head(4, grid=thin(), series_description="Head 1.0 H31s"),
        *head(5, series_description="Head 5.0 post", contrast="Iohexol"),
        *head(6, grid=coronal, series_description="Head MPR cor", image_type=("DERIVED", "SECONDARY", "MPR")),
        *head(7, series_description="C-SPINE 5.0", body_part="NECK", grid=even_grid(60)),
        *head(8, grid=even_grid(6), series_description="Head repeat"),
        *head(9, series_description="Head 5.0 H31s", image_type=("DERIVED", "SECONDARY", "AXIAL")),
        *head(10, series_description="MIP", image_type=("DERIVED", "SECONDARY", "MIP")),
        other_kind(11, "MR", MRImageStorage),
        other_kind(12, "SR", BasicTextSRStorage),
        other_kind(13, "CT", SecondaryCaptureImageStorage),
    ]
    found = read(write(tmp_path, study))
    assert_same(found, volume_on(HEAD, seed=2))
    why = reasons(found)
    assert why[2] == "axial, 24 images of 5 mm over 120 mm, soft kernel (H31s), no contrast named"
    assert why[1] == "a scout of 1 image"
    assert why[3] == "bone or lung kernel (H70h)"
    assert why[4] == "slices of 1 mm, further from 5 mm"
    assert why[5] == "with contrast (Iohexol)"
    assert why[6] == "coronal, 90° from axial"
    assert why[7] == "of another part of the body, by its description"
    assert why[8] == "covers 30 mm of 120 mm"
    assert why[9] == "derived rather than original"
    assert why[10] == "derived images (MIP), not plain slices in HU"
    assert why[11] == "MR, not a CT image"
    assert why[12] == "a structured report, not a CT image"
    assert why[13] == "a secondary capture"
    assert [line.chosen for line in found.choice] == [True] + 12 * [False]
    assert found.choice[0].number == 2


@pytest.mark.parametrize(
    "image_type",
    [("ORIGINAL", "PRIMARY", "LOCALIZER", "CT_SOM5 TOP"), ("ORIGINAL", "PRIMARY", "SCOUT", "AP"),
     ("DERIVED", "LOCALIZER", "PRIMARY", "AXIAL")],
)  # fmt: skip
def test_a_scout_is_known_wherever_its_image_type_says_so(tmp_path, image_type):
    """Also one that lies axially, as that of a tilted head holder: it must not be read for its place alone."""
    found = read(write(tmp_path, [*head(2), *head(1, grid=even_grid(3), image_type=image_type)]))
    assert found.choice[0].number == 2
    assert reasons(found)[1] == "a scout of 3 images"


def test_a_series_may_be_named(tmp_path):
    folder = write(tmp_path, [*head(2), *head(3, kernel="BONEPLUS")])
    found = read(folder, series=3)
    assert_same(found, volume_on(HEAD, seed=3))
    assert reasons(found)[2] == "another was asked for" or "equal" in reasons(found)[2]
    assert reasons(found)[3].startswith("asked for: axial")
    assert any("bone or lung kernel (BONEPLUS)" in note for note in found.notes)
    with pytest.raises(InputError, match="holds no series 9, but 2, 3"):
        read(folder, series=9)


def test_the_least_bad_is_read_and_told_where_nothing_better_is(tmp_path):
    """A bone series never wins over a soft one: what speaks against that is for the input checks to say."""
    found = read(write(tmp_path, [*head(2, kernel="H60s"), *head(3, contrast="Iohexol")]))
    assert found.choice[0].number == 3
    assert found.notes[0] == "No better series was found than one with contrast (Iohexol)."
    assert reasons(found)[2] == "bone or lung kernel (H60s)"


def test_nothing_that_can_be_read(tmp_path):
    """Each series is named with what is wrong with it."""
    study = [scout(volume_on(HEAD), options=CtOptions()), other_kind(11, "MR", MRImageStorage)]
    with pytest.raises(InputError, match="no series that can be read") as refused:
        read(write(tmp_path, study))
    assert "series 1 'Scout', 1 file: a scout of 1 image" in refused.value.found
    assert "series 11 'Head 5.0 H31s', 1 file: MR, not a CT image" in refused.value.found


def test_several_studies_need_a_name(tmp_path):
    one, two = head(2), head(2, seed=5)
    folder = write(tmp_path, [*one, *two])
    found = scan(folder)
    with pytest.raises(InputError, match="holds 2 studies with CT images") as refused:
        read_series(found)
    for uid in found.studies:
        assert uid in refused.value.found
        assert {header.StudyInstanceUID for header in read_series(found, study=uid).headers} == {uid}
    with pytest.raises(InputError, match=r"holds no study 1\.2\.3"):
        read_series(found, study="1.2.3")


def test_a_study_of_another_kind_beside_it_needs_no_name(tmp_path):
    other = other_kind(1, "MR", MRImageStorage)
    other.StudyInstanceUID = generate_uid()
    assert_same(read(write(tmp_path, [*head(2), other])), volume_on(HEAD, seed=2))


def test_a_scout_inside_the_series_is_set_aside(tmp_path):
    inside = scout(volume_on(even_grid(24, (5.0, 2.0, 2.0))), options=CtOptions())
    instances = head(2)
    inside.SeriesInstanceUID, inside.SeriesNumber = instances[0].SeriesInstanceUID, 2
    found = read(write(tmp_path, [inside, *instances]))
    assert_same(found, volume_on(HEAD, seed=2))
    assert found.notes == (
        "Series 2 holds 25 images of 2 kinds (1 with Image Type (0008,0008) LOCALIZER); the 24 that belong together "
        "were read.",
    )
    assert found.choice[1].reason == "a scout of 1 image (part 2 of 2)"


def test_two_passes_in_one_series_are_told_apart(tmp_path):
    first, second = head(2), series(volume_on(HEAD, seed=9), series_number=2)
    for one in second:
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.AcquisitionNumber = 2
    found = read(write(tmp_path, [*first, *second[:-1]]))
    assert_same(found, volume_on(HEAD, seed=2))
    assert "pass over the head" in found.notes[0]


def test_an_acquisition_number_for_each_slice_divides_nothing(tmp_path):
    """As in a sequential scan; and one slice of it twice."""
    instances = head(2)
    for number, one in enumerate(instances):
        one.AcquisitionNumber = number
        one.AcquisitionTime = f"0101{number:02d}"
    copy = head(2)[3]
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    copy.AcquisitionNumber = 77
    found = read(write(tmp_path, [*instances, copy]))
    assert_same(found, volume_on(HEAD, seed=2))
    assert found.notes == ("1 doubled slice was left out: same place, same pixels.",)


def test_parts_that_are_not_parallel_are_not_read_in_part(tmp_path):
    instances = head(2)
    tilted = np.radians(12)
    for one in instances[:9]:
        one.ImageOrientationPatient = ["1", "0", "0", "0", f"{np.cos(tilted):.8f}", f"{np.sin(tilted):.8f}"]
    with pytest.raises(InputError, match=r"series 2 holds 15 slices and 9 that are turned by 12\.0° against them"):
        read(write(tmp_path / "a", instances))
    found = read(write(tmp_path / "b", instances[8:]))  # a single stray one is left out
    assert len(found.volume.hu) == 15
    assert "16 images of 2 kinds (1 with another angle, turned by 12.0°)" in found.notes[0]


def test_two_patients_are_never_one_head(tmp_path):
    instances = head(2)
    for one in instances[12:]:
        one.PatientID = "SOMEBODY-ELSE"
    with pytest.raises(InputError, match="images of 2 patient IDs") as refused:
        read(write(tmp_path, instances))
    assert "SOMEBODY" not in refused.value.explain()


def test_equal_series_give_the_lower_number(tmp_path):
    found = read(write(tmp_path, [*head(4), *head(2)]))
    assert found.choice[0].number == 2
    assert reasons(found)[4] == "equal to the one chosen, with a later number"


@pytest.mark.parametrize(
    ("kernel", "sharp"),
    [
        ("H31s", False), ("H40s", False), ("J40s\\3", False), ("Hr40f", False), ("Br38d", False), ("Qr40d", False),
        ("H60s", True), ("H70h", True), ("J70h\\2", True), ("Hr60f", True), ("Hr68h", True), ("Bl57f", True),
        ("U90u", True),
        ("STANDARD", False), ("SOFT", False), ("HEAD", False), ("BONE", True), ("BONEPLUS", True), ("EDGE", True),
        ("DETAIL", True), ("LUNG", True), ("UB", False), ("UC", False), ("B", False), ("YB", True), ("YC", True),
        ("YD", True),
        ("FC21", False), ("FC26", False), ("FC64", False), ("FC68", False), ("FC30", True), ("FC35", True),
        ("FC81", True),
        ("FC52", True), ("H_SOFT_B", False), ("H_SHARP_C", True), ("", None), (None, None),
    ],
)  # fmt: skip
def test_kernels_by_name(kernel, sharp):
    assert is_sharp_kernel(kernel) is sharp


@pytest.mark.parametrize(
    ("agent", "description", "named"),
    [
        ("Omnipaque 350", "Head", "Omnipaque 350"), ("APPLIED", "Head", "APPLIED"), ("NONE", "Head", ""),
        (None, "Head", None), (None, "HEAD W/O CONTRAST", ""), (None, "CT HEAD WITHOUT CONTRAST 5MM", ""),
        (None, "Non-contrast head", ""), (None, "NCCT 5.0", ""), (None, "Schaedel nativ", ""),
        (None, "Head_wo_contrast", ""),
        (None, "Crâne sans IV", ""), (None, "CTA Head", "'CTA' in the series description"),
        (None, "Head post contrast", "'POST CONTRAST' in the series description"),
        (None, "Head C+", "'C+' in the series description"),
    ],
)  # fmt: skip
def test_contrast_by_name(agent, description, named):
    assert find_contrast_agent(agent, description) == named


def test_words_of_place_and_bone():
    assert is_bone_series("Head 5.0 Bone")
    assert is_bone_series("SCHAEDEL KNOCHEN")
    assert not is_bone_series("CTA BONE REMOVAL")
    assert not is_bone_series("Head soft")
    assert is_elsewhere("C-SPINE 2.0", None)
    assert is_elsewhere("Axial 3.0", "CHEST")
    assert not is_elsewhere("HEAD AND NECK", "NECK")
    assert not is_elsewhere("Axial 5.0", "HEAD")


@pytest.mark.parametrize(
    ("age", "birth", "years"),
    [
        ("034Y", "", 34.0),
        ("018M", "", 1.5),
        ("010D", "", 0.03),
        ("", "19800102", 44.0),
        ("Y", "", None),
        ("", "", None),
    ],
)
def test_age(tmp_path, age, birth, years):
    instances = head(2)[:3]
    for one in instances:
        one.PatientAge, one.PatientBirthDate = age, birth
    found = read(write(tmp_path, instances)).acquisition
    assert found.age_years == (None if years is None else pytest.approx(years, abs=0.01))
    assert (found.modality, found.body_part, found.kvp, found.kernel) == ("CT", "HEAD", 120.0, "H31s")
    assert found.description == "Phantom head CT / Head 5.0 H31s"
