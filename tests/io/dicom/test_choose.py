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


@pytest.mark.parametrize("word", ["CT_SOM5 MIP", "CT_SOM7 MIP", "CSA MIP", "MIP", "MINIP", "CT_SOM5 SSD", "MAXIMUM"])
def test_a_projection_is_known_by_its_image_type(tmp_path, word):
    """Axial and 5 mm thick, it would be read rather than the thin slices that it was made from."""
    projection = head(3, image_type=("DERIVED", "PRIMARY", "AXIAL", word))
    reformatted = head(4, image_type=("DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 MPR"))
    found = read(write(tmp_path / "thin", [*head(2, grid=thin(48, 2.5)), *projection]))
    assert found.choice[0].number == 2
    assert reasons(found)[3] == f"derived images ({word}), not plain slices in HU"
    assert read(write(tmp_path / "thick", [*projection, *reformatted])).choice[0].number == 4


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


def test_images_of_one_place_are_no_head(tmp_path):
    """As a scanner watches the agent arrive: numbers, times and pixels differ, the place does not."""
    bolus = head(3)[:4]
    for number, one in enumerate(bolus):
        one.ImagePositionPatient = bolus[0].ImagePositionPatient
        one.AcquisitionNumber = number
    found = read(write(tmp_path / "both", [*head(2), *bolus]))
    assert found.choice[0].number == 2
    assert reasons(found)[3] == "4 images of one place, as of a bolus or a perfusion: no stack of slices"
    with pytest.raises(InputError, match="4 images of one place"):
        read(write(tmp_path / "alone", bolus))


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


def test_an_error_names_series_alike_once_and_not_all_of_many(tmp_path):
    study = [other_kind(number, "MR", MRImageStorage) for number in range(30)]
    with pytest.raises(InputError, match="and 10 more") as refused:
        read(write(tmp_path / "many", study))
    assert refused.value.found.count("not a CT image") == 20
    for number, one in enumerate(study):
        one.SeriesNumber, one.SeriesInstanceUID = 1, f"1.2.3.{number}"
    with pytest.raises(InputError, match=r"not a CT image \(30 times\)"):
        read(write(tmp_path / "alike", study))


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
    for one in instances[12:]:
        one.PatientID = ""
    with pytest.raises(InputError, match="images of 1 patient ID and 12 without one"):
        read(write(tmp_path / "without", instances))


def test_another_patient_in_the_study_is_told(tmp_path):
    other = head(3)
    for one in other:
        one.PatientID = "SOMEBODY-ELSE"
    notes = " ".join(read(write(tmp_path, [*head(2), *other])).notes)
    assert "The study holds images of 2 patient IDs." in notes
    assert "SOMEBODY" not in notes


@pytest.mark.parametrize(
    ("keyword", "value", "told"),
    [
        ("PatientName", "Other^Person", "state 2 patient names"),
        ("PatientBirthDate", "19500101", "state 2 patient dates of birth"),
        ("PatientName", "PHANTOM^SYNTHETIC^^", ""),  # another way to write it
    ],
)
def test_another_name_under_one_patient_id_is_told(tmp_path, keyword, value, told):
    instances = head(2)
    for one in instances:
        one.PatientName, one.PatientBirthDate = "Phantom^Synthetic", "19600101"
    for one in instances[12:]:
        setattr(one, keyword, value)
    notes = " ".join(read(write(tmp_path, instances)).notes)
    assert (told in notes) if told else (notes == "")
    assert value not in notes


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


def under_one_uid(*kinds: list[Dataset]) -> list[Dataset]:
    """Bring several reconstructions under the series UID of the first, each instance with a UID of its own."""
    first = kinds[0][0]
    for one in [one for kind in kinds[1:] for one in kind]:
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.SeriesInstanceUID, one.SeriesNumber = first.SeriesInstanceUID, first.SeriesNumber
        one.SeriesDescription = first.SeriesDescription
    return [one for kind in kinds for one in kind]


def test_two_kernels_under_one_uid_are_refused_or_read_by_name(tmp_path):
    """At the same places: which one is meant is not sure, so that the series must be asked for."""
    bone = head(3, kernel="H70h")
    folder = write(tmp_path, under_one_uid(head(2), bone))
    with pytest.raises(InputError, match="24 of kernel H31s, 24 of kernel H70h") as refused:
        read(folder)
    assert "give --series 2 to read the 24 of kernel H31s" in refused.value.remedy
    found = read(folder, series=2)
    assert_same(found, volume_on(HEAD, seed=2))
    assert "24 with kernel (0018,1210) H70h, not H31s" in found.notes[0]
    assert reasons(found)[2].startswith("bone or lung kernel (H70h)")


def test_a_series_of_one_kernel_is_read_rather_than_one_of_two(tmp_path):
    found = read(write(tmp_path, [*under_one_uid(head(2), head(3, kernel="H70h")), *head(4)]))
    assert found.choice[0].number == 4
    assert any(line.reason.startswith("of a series that holds slices of another kernel too") for line in found.choice)


def test_two_kernels_at_interleaved_places_are_two_stacks(tmp_path):
    shifted = replace(HEAD, origins_mm=HEAD.origins_mm + np.array([0, 0, 2.5]))
    folder = write(tmp_path, under_one_uid(head(2), head(3, grid=shifted, kernel="H70h")))
    assert_same(read(folder, series=2), volume_on(HEAD, seed=2))


@pytest.mark.parametrize(
    ("keyword", "values", "told"),
    [
        ("ContrastBolusAgent", (None, "Iohexol"), "contrast agent (0018,0010) Iohexol"),
        ("KVP", ("120", "80"), "KVP (0018,0060) 80 kV, not 120 kV"),
        (
            "ImageType",
            (["ORIGINAL", "PRIMARY", "AXIAL", "A"], ["ORIGINAL", "PRIMARY", "AXIAL", "B"]),
            "Image Type (0008,0008) from value 3 AXIAL\\",
        ),
        ("ReconstructionDiameter", ("250", "180"), "Reconstruction Diameter (0018,1100) "),
        ("FilterType", ("HEAD", "FLAT"), "Filter Type (0018,1160) "),
        ("TriggerTime", ("0", "1500"), "another pass over the head: another Trigger Time (0018,1060)"),
        ("AcquisitionNumber", (1, 2), "another pass over the head: Acquisition Number (0020,0012) 2, not 1"),
    ],
)
def test_reconstructions_and_passes_under_one_uid_are_told_apart(tmp_path, keyword, values, told):
    """At the same places, with as many images each: the plain, first one is read, and what was set aside is told."""
    kinds = head(2), head(3)
    for kind, value in zip(kinds, values, strict=True):
        for one in kind:
            if value is not None:
                setattr(one, keyword, value)
    found = read(write(tmp_path, under_one_uid(*kinds)))
    assert len(found.volume.hu) == 24
    if keyword in ("ContrastBolusAgent", "KVP"):
        assert_same(found, volume_on(HEAD, seed=2))
    assert "48 images of 2 kinds" in found.notes[0]
    assert told in found.notes[0]


def test_four_reconstructions_under_one_uid(tmp_path):
    """Two kernels, each plain and enhanced: none alone leaves a place taken once."""
    kinds = [
        head(number, kernel=kernel, contrast=agent)
        for number, (kernel, agent) in enumerate(
            [("H70h", None), ("H31s", "Iohexol"), ("H31s", None), ("H70h", "Iohexol")], start=2
        )
    ]
    found = read(write(tmp_path, under_one_uid(*kinds)), series=2)
    assert_same(found, volume_on(HEAD, seed=4))
    assert "96 images of 4 kinds" in found.notes[0]


def energies(*words: str, **kv: float) -> list[Dataset]:
    return [
        one
        for number, description in enumerate(words, start=3)
        for one in head(number, series_description=description, kvp=kv.get(f"kv{number}", 120.0))
    ]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        (("DE HeadNCCT A_80kV", "DE HeadNCCT B_Sn140kV", "DE HeadNCCT F_0.5"), 5),
        (("DE_Head_M_0.6", "DE_Head_(A)100kV", "DE_Head_(B)Sn150kV"), 3),
        (("Head 80kV", "Head 120kV"), 4),
        (("MonoE 40 keV", "Conventional", "MonoE 70 keV"), 4),
        (("GSI Head 50 keV", "GSI Head 70 keV", "GSI Head 65 keV"), 4),
        (("Iodine(Water)", "GSI 70 keV", "Z Effective"), 4),
        (("Iodine no water", "VNC Head", "Head 5.0", "Monoenergetic Plus 70 keV"), 5),
    ],
)
def test_of_several_energies_the_mixed_one_is_read_and_the_others_are_told(tmp_path, words, chosen):
    found = read(write(tmp_path, energies(*words)))
    assert found.choice[0].number == chosen
    (note,) = [note for note in found.notes if "X-ray energies" in note]
    for number, one in enumerate(words, start=3):
        assert f"series {number} '{one}'" in note


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("Iodine(Water)", "iodine map, computed"), ("DE Head Iodine", "iodine map"), ("IOD MAP", "iodine map"),
        ("DE_VNC", "virtual non-contrast images"), ("Virtual Non Contrast", "virtual non-contrast images"),
        ("VNCa", "virtual non-calcium images"), ("Z effective", "map of atomic numbers"),
        ("Electron Density", "map of electron density"), ("Water(Iodine)", "map of a material"),
        ("MonoE 40[keV]", "monoenergetic, 40 keV: HU unlike"), ("Mono+ 190 keV", "monoenergetic, 190 keV"),
        ("VMI", "monoenergetic, energy not stated"),
    ],
)  # fmt: skip
def test_maps_and_far_energies_are_never_read(tmp_path, words, fault):
    with pytest.raises(InputError, match="no series that can be read") as refused:
        read(write(tmp_path, energies(words)))
    assert fault in refused.value.found


@pytest.mark.parametrize(
    "words", ["CT HEAD WITHOUT IODINE", "CRANE VUE AXIALE", "Head 120kV", "TC DE CRANEO M", "AVG 5.0"]
)
def test_plain_words_are_no_dual_energy(tmp_path, words):
    found = read(write(tmp_path, energies(words, "Head 5.0")))
    assert not [note for note in found.notes if "energies" in note]


def test_a_head_sized_field_is_read_rather_than_a_magnified_one(tmp_path):
    wide, near = even_grid(24, (5.0, 5.0, 4.5)), even_grid(24, (5.0, 2.4, 2.0))
    found = read(write(tmp_path, [*head(2, grid=near), *head(3, grid=wide)]))
    assert found.choice[0].number == 3
    assert reasons(found)[2] == "a field of view of 96 mm, less than a head takes"


def test_contrast_that_some_slices_state_is_not_overlooked(tmp_path):
    instances = head(2)
    for one in instances[5:]:
        one.ContrastBolusAgent = "Iohexol"
    found = read(write(tmp_path, instances))
    assert found.acquisition.contrast == "Iohexol"
    assert len(found.volume.hu) == 24
