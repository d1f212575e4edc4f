"""Images and masks found by name: every layout, and what is left out of each."""

import unicodedata
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from bleedmap.errors import InputError
from bleedmap.evaluation.studies.find import Case, Cases, NoMask, Places, find_cases
from bleedmap.evaluation.studies.references import read_case
from bleedmap.window import BRAIN

SHAPE = (24, 32)


def picture(path: Path, grey: int | np.ndarray = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(SHAPE, grey, np.uint8) if isinstance(grey, int) else grey
    Image.fromarray(pixels).save(path)
    return path


def volume(path: Path, array: np.ndarray | None = None, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((6, 5, 4), np.int16) if array is None else array
    nib.save(nib.Nifti1Image(image, np.diag([0.5, 0.5, 5, 1]) if affine is None else affine), path)
    return path


def find(folder: Path, masks: Path | None = None, no_mask: NoMask = "unknown") -> Cases:
    return find_cases(Places(folder, masks, folder / "out", no_mask))


def listed(found: Cases) -> dict[str, list[tuple[str, str | None]]]:
    """Case -> its images and masks, by name."""
    return {
        one.name: [
            (image.name, mask.name if mask else None)
            for image, mask in zip(one.images, one.masks or (None,), strict=True)
        ]
        for one in found.cases
    }


def reasons(found: Cases) -> set[tuple[str, str]]:
    return {(one.what, one.reason) for one in found.left_out}


def test_ct_ichs_own_layout(jpeg_release: Path):
    found = find(jpeg_release / "Patients_CT", no_mask="lesion-free")
    assert listed(found) == {
        "049": [("1.jpg", None), ("2.jpg", "2_HGE_Seg.jpg"), ("3.jpg", "3_HGE_Seg.jpg")],
        "050": [("1.jpg", None), ("2.jpg", None)],
        "051": [("1.jpg", None), ("2.jpg", "2_HGE_Seg.jpg"), ("3.jpg", None)],
    }
    assert {reason for _, reason in reasons(found)} == {"a bone window, by its folder's name"}
    assert len(found.left_out) == 8
    assert "each of 3 folders" in found.notes[0]


def test_slices_without_a_mask_are_not_taken_for_free_of_lesions(jpeg_release: Path):
    with pytest.raises(InputError, match="no study can be measured") as refused:
        find(jpeg_release / "Patients_CT")
    assert "2 of 3 slices have no mask" not in refused.value.found  # the first patient's words are shown
    assert "049 (1 of 3 slices have no mask)" in refused.value.found
    assert "--no-mask-means lesion-free" in refused.value.remedy
    masks = jpeg_release / "Patients_CT/049/brain"
    picture(masks / "1_HGE_Seg.jpg", 0)
    found = find(jpeg_release / "Patients_CT")
    assert list(listed(found)) == ["049"]
    assert ("050 (2 of 2 slices have no mask)", "slices without a mask") in reasons(found)


def test_slices_are_in_the_order_of_their_numbers(tmp_path: Path):
    for patient in ("a", "b"):
        for number in (10, 2, 1):
            picture(tmp_path / patient / f"{number}.png")
            picture(tmp_path / patient / f"{number}_mask.png", 0)
    found = find(tmp_path)
    assert [name for name, _ in listed(found)["a"]] == ["1.png", "2.png", "10.png"]


def test_a_flat_folder_by_what_names_begin_with(tmp_path: Path):
    for name in ("anna_01", "anna_02", "bob_01"):
        picture(tmp_path / f"{name}.png")
        picture(tmp_path / f"{name}_seg.png", 0)
    found = find(tmp_path)
    assert {name: len(slices) for name, slices in listed(found).items()} == {"anna": 2, "bob": 1}
    assert "2 patients by what their names begin with" in found.notes[0]


@pytest.mark.parametrize("names", [("1", "2", "3"), ("scan_1", "scan_2"), ("anna", "bob")])
def test_a_flat_folder_whose_names_tell_no_patients(tmp_path: Path, names: tuple[str, ...]):
    for name in names:
        picture(tmp_path / f"{name}.png")
        picture(tmp_path / f"{name}_mask.png", 0)
    found = find(tmp_path)
    assert list(listed(found)) == list(names)
    assert "each is taken for a patient of its own" in found.notes[0]


def test_parallel_folders(tmp_path: Path):
    for patient in ("p1", "p2"):
        picture(tmp_path / f"images/{patient}/1.png")
        picture(tmp_path / f"masks/{patient}/1.png", 0)
    picture(tmp_path / "masks/p2/2.png", 0)
    found = find(tmp_path)
    assert listed(found) == {"p1": [("1.png", "1.png")], "p2": [("1.png", "1.png")]}
    assert reasons(found) == {("masks/p2/2.png", "a mask without its image")}


@pytest.mark.parametrize(("image", "mask", "name"), [
    ("train/data/{}.nii.gz", "train/label/{}.nii.gz", "train/{}"),
    ("label_192/images/{}.nii.gz", "label_192/ground truths/{}.nii.gz", "label_192/{}"),
    ("train/images/{}_ct.nii.gz", "train/lesionmask/{}_lesionmask.nii.gz", "train/{}_ct"),
    ("{}/CT/scan.nii.gz", "{}/Segmentation/scan.nii.gz", "{}/scan"),
    ("{}/CT/axial.nii.gz", "{}/masks/axial_lesion.nii.gz", "{}/axial"),
    ("images/{}/CT/1.nii.gz", "labels/{}/CT/1.nii.gz", "{}/CT/1"),
    ("images_test/{}.nii.gz", "lesionmask_test/{}.nii.gz", "{}"),
    ("{}.nii.gz", "masks/{}.nii.gz", "{}"),
    ("{}/image.nii.gz", "{}/label.nii.gz", "{}/image"),
    ("{}/head.nii.gz", "{}/label_reader_1.nii.gz", "{}/head"),
    ("image_{}.nii.gz", "mask_{}.nii.gz", "image_{}"),
    ("{}.nii.gz", "{}ROI.nii", "{}"),
    ("{}_ct.nii.gz", "{}_ground_truth.nii.gz", "{}_ct"),
    ("{}_lesion.nii.gz", "{}_lesion_mask.nii.gz", "{}_lesion"),
    ("images/{}.nii.gz", "SegmentationClass/{}.nii.gz", "{}"),
    ("{}.nii.gz", "{}_mask_v2.nii.gz", "{}"),
    ("seg_{}.nii.gz", "seg_{}_mask.nii.gz", "seg_{}"),
])  # fmt: skip
def test_layouts_that_people_use(tmp_path: Path, image: str, mask: str, name: str):
    names = ("p07", "p08")
    for one in names:
        volume(tmp_path / image.format(one))
        volume(tmp_path / mask.format(one))
    found = find(tmp_path)
    assert {one.name: (one.images, one.masks) for one in found.cases} == {
        name.format(one): ((tmp_path / image.format(one),), (tmp_path / mask.format(one),)) for one in names
    }
    assert not found.left_out


def test_other_copies_beside_the_images_are_told(tmp_path: Path):
    for number in (1, 2):
        for folder in ("images", "overlays", "masks"):
            picture(tmp_path / f"{folder}/anna_{number}.png")
            picture(tmp_path / f"{folder}/bob_{number}.png")
    found = find(tmp_path)
    assert {name: len(slices) for name, slices in listed(found).items()} == {"anna": 2, "bob": 2}
    assert {what.split("/")[0] for what, _ in reasons(found)} == {"overlays"}
    assert {reason for _, reason in reasons(found)} == {"a copy, beside a folder of images with the same names"}


def test_one_of_several_readers_is_named(tmp_path: Path):
    for place in ("a/image", "a/label_annot_1", "a/label_annot_5"):
        volume(tmp_path / f"{place}.nii.gz")
    with pytest.raises(InputError, match="several files are named as its mask") as refused:
        find(tmp_path)
    assert "--mask-name" in refused.value.remedy
    found = find_cases(Places(tmp_path, None, tmp_path / "out", "unknown", mask_name="annot_1"))
    assert [one.masks[0].name for one in found.cases] == ["label_annot_1.nii.gz"]
    assert reasons(found) == {("a/label_annot_5.nii.gz", "no mask of the name that --mask-name gives")}


def test_readers_within_the_names(tmp_path: Path):
    for name in ("a", "a_mask_AB", "a_mask_CD"):
        volume(tmp_path / f"{name}.nii.gz")
    with pytest.raises(InputError, match="several files are named as its mask"):
        find(tmp_path)
    found = find_cases(Places(tmp_path, None, tmp_path / "out", "unknown", mask_name="mask_AB"))
    assert [one.masks[0].name for one in found.cases] == ["a_mask_AB.nii.gz"]
    assert reasons(found) == {("a_mask_CD.nii.gz", "no mask of the name that --mask-name gives")}


def test_a_study_that_lies_there_twice_is_told(tmp_path: Path):
    for place in ("a/head", "b/head", "c/head"):
        image = np.full((6, 5, 4), 7 if place == "c/head" else 40, np.int16)
        volume(tmp_path / f"{place}.nii.gz", image)
        volume(tmp_path / f"{place}_mask.nii.gz")
    assert find(tmp_path).notes == ("The same images under several names, each of which counts: a/head and b/head.",)


def test_a_folder_of_images_and_one_of_masks_of_other_names(tmp_path: Path):
    for name in ("Bilder/a", "Masken/a"):
        volume(tmp_path / f"{name}.nii.gz")
    found = find_cases(Places(tmp_path, None, tmp_path / "out", "unknown", mask_name="masken"))
    assert [one.masks for one in found.cases] == [(tmp_path / "Masken/a.nii.gz",)]


@pytest.mark.parametrize("mask", ["{}_tgt.nii.gz", "tgt/{}.nii.gz", "TGT_{}.nii.gz"])
def test_masks_of_another_name(tmp_path: Path, mask: str):
    for name in ("a", "b"):
        volume(tmp_path / f"{name}.nii.gz")
        volume(tmp_path / mask.format(name))
    with pytest.raises(InputError, match="no mask") as refused:
        find(tmp_path)
    assert "--mask-name" in refused.value.remedy
    found = find_cases(Places(tmp_path, None, tmp_path / "out", "unknown", mask_name="tgt"))
    assert [one.masks for one in found.cases] == [(tmp_path / mask.format(name),) for name in ("a", "b")]


def test_masks_in_a_folder_whose_inner_folders_differ(tmp_path: Path):
    for place in ("ct/P1/scan", "ct/P2/scan", "ct/P3/head_3", "readers/P1", "readers/x/P2_seg", "readers/head_3"):
        volume(tmp_path / f"{place}.nii.gz")
    found = find(tmp_path / "ct", tmp_path / "readers")
    assert [one.masks[0].name for one in found.cases] == ["P1.nii.gz", "P2_seg.nii.gz", "head_3.nii.gz"]


def test_masks_in_a_folder_that_the_user_names(tmp_path: Path):
    for place in ("ct/a.nii.gz", "ct/b.nii.gz", "ct/readers/a.nii.gz", "ct/readers/b_label.nii"):
        volume(tmp_path / place)
    found = find(tmp_path / "ct", tmp_path / "ct/readers")
    assert listed(found) == {"a": [("a.nii.gz", "a.nii.gz")], "b": [("b.nii.gz", "b_label.nii")]}


def test_nnu_nets_layout(tmp_path: Path):
    for name in ("head_001_0000", "head_002_0000", "head_002_0001", "head_003_0000"):
        volume(tmp_path / f"imagesTr/{name}.nii.gz")
    for name in ("head_001", "head_002"):
        volume(tmp_path / f"labelsTr/{name}.nii.gz")
    found = find(tmp_path)
    assert list(listed(found)) == ["head_001", "head_002"]
    assert reasons(found) == {("imagesTr/head_002_0001.nii.gz", "another channel of an image"), ("head_003", "no mask")}


def test_bids(tmp_path: Path):
    volume(tmp_path / "sub-01/ct/sub-01_ct.nii.gz")
    volume(tmp_path / "derivatives/readers/sub-01/ct/sub-01_desc-manual_dseg.nii.gz")
    volume(tmp_path / "sub-02/ct/sub-02_ct.nii.gz")
    volume(tmp_path / "sub-02/ct/sub-02_ct_dseg.nii.gz")
    volume(tmp_path / "sub-02/ct/sub-02_ct_probseg.nii.gz")
    found = find(tmp_path)
    assert [mask for ((_, mask),) in listed(found).values()] == [
        "sub-01_desc-manual_dseg.nii.gz", "sub-02_ct_dseg.nii.gz",
    ]  # fmt: skip
    assert [reason for _, reason in reasons(found)] == ["a probability map, by its name"]


def test_two_masks_of_an_image_and_two_images_of_a_mask_are_left_out(tmp_path: Path):
    for name in ("a", "a_mask", "a_seg", "b", "b_ct", "b_mask", "c", "c_dseg", "lonely_mask"):
        volume(tmp_path / f"{name}.nii")
    found = find(tmp_path)
    assert list(listed(found)) == ["c"]
    told = {(what.split(" ")[0], reason) for what, reason in reasons(found)}
    assert told == {
        ("a.nii", "several files are named as its mask"),
        ("b.nii", "another image has the same mask, by their names"),
        ("b_ct.nii", "another image has the same mask, by their names"),
        ("lonely_mask.nii", "a mask without its image"),
    }


def test_a_patient_with_a_slice_of_two_masks_is_left_out_whole(tmp_path: Path):
    for name in ("anna/1", "anna/2", "anna/2_mask", "anna/2_seg", "anna/3", "bob/1", "bob/2", "bob/2_mask"):
        picture(tmp_path / f"{name}.png")
    found = find(tmp_path, no_mask="lesion-free")
    assert listed(found) == {"bob": [("1.png", None), ("2.png", "2_mask.png")]}
    assert reasons(found) == {
        ("anna/2.png (anna/2_mask.png, anna/2_seg.png)", "several files are named as its mask"),
        ("anna (1 of 3 slices)", "slices whose mask is not clear"),
    }


def test_two_studies_of_one_name_stay_two(tmp_path: Path):
    for name in ("imagesTr/a_0000", "imagesTs/a_0000", "imagesTs/b_0000", "labelsTr/a", "labelsTs/a", "labelsTs/b"):
        volume(tmp_path / f"{name}.nii.gz")
    assert listed(find(tmp_path)) == {
        "b": [("b_0000.nii.gz", "b.nii.gz")],
        "imagesTr/a_0000.nii.gz": [("a_0000.nii.gz", "a.nii.gz")],
        "imagesTs/a_0000.nii.gz": [("a_0000.nii.gz", "a.nii.gz")],
    }


def test_results_of_the_program_are_no_reference(tmp_path: Path):
    volume(tmp_path / "a.nii.gz")
    volume(tmp_path / "result/a.nii.gz")
    volume(tmp_path / "result/a_dseg.nii.gz")
    for name in (".bleedmap.json", "summary.json"):
        (tmp_path / "result" / name).write_text("{}")
    with pytest.raises(InputError, match="1 × no mask"):
        find(tmp_path)
    assert list(listed(find(tmp_path, no_mask="lesion-free"))) == ["a"]


def test_masks_in_a_form_that_is_not_read_are_told(tmp_path: Path):
    for name in ("a", "b", "b_mask"):
        volume(tmp_path / f"{name}.nii.gz")
    (tmp_path / "a_seg.nrrd").write_bytes(b"NRRD0004\ntype: uint8\n")
    assert ("a_seg.nrrd", "an NRRD volume: not read, save it as NIfTI") in reasons(find(tmp_path))


def test_nothing_there(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no pictures"):
        find(tmp_path / "empty")
    with pytest.raises(InputError, match="no such folder"):
        find(tmp_path / "gone")


def case_of(tmp_path: Path, mask: np.ndarray, affine: np.ndarray | None = None) -> Case:
    image = volume(tmp_path / "a.nii.gz")
    return Case("a", "NIfTI", (image,), (volume(tmp_path / "a_mask.nii.gz", mask, affine),))


def labelled(dtype: type, *values: float) -> np.ndarray:
    array = np.zeros((6, 5, 4), dtype)
    for row, value in enumerate(values):
        array[row, 0, 0] = value
    return array


@pytest.mark.parametrize(("mask", "united"), [
    (labelled(np.uint8, 1, 1, 1), ""), (labelled(np.uint8, 255, 255, 255), ""),
    (labelled(np.uint8, 1, 2, 5), "1, 2, 5"), (labelled(np.float32, 1.0, 1.0, 1.0), ""),
    (labelled(np.float64, 3, 4, 5), "3, 4, 5"),
])  # fmt: skip
def test_masks_as_people_store_them(tmp_path: Path, mask: np.ndarray, united: str):
    read = read_case(case_of(tmp_path, mask), BRAIN)
    assert int(read.mask.sum()) == 3
    assert read.mask.shape == read.hu.shape == (4, 5, 6)
    notes = [note for note in read.notes if "united" in note]
    assert [note.split(";")[0] for note in notes] == ([f"Labels {united} of the mask were united"] if united else [])


def test_the_user_says_which_labels_are_hemorrhage(tmp_path: Path):
    case = replace(case_of(tmp_path, labelled(np.uint8, 1, 2, 2)), mask_labels=frozenset({2}))
    read = read_case(case, BRAIN)
    assert int(read.mask.sum()) == 2
    assert not any("united" in note for note in read.notes)
    assert case.digest != replace(case, mask_labels=frozenset()).digest  # it is measured anew
    none = read_case(replace(case, mask_labels=frozenset({7})), BRAIN)
    assert not none.mask.any()
    assert any("label 1, 2, and none that --mask-label names" in note for note in none.notes)
    in_palette().save(tmp_path / "1_mask.png")
    image = picture(tmp_path / "1.png", np.full((200, 200), 90, np.uint8))
    colours = Case("1", "pictures", (image,), (tmp_path / "1_mask.png",), mask_labels=frozenset({2, 3}))
    assert np.array_equal(read_case(colours, BRAIN).mask[0], classes() > 1)


def test_masks_of_no_image_are_told_where_others_count_as_free(tmp_path: Path):
    for name in ("P01", "P02", "P02_mask", "Patient01_mask"):
        volume(tmp_path / f"{name}.nii.gz")
    found = find(tmp_path, no_mask="lesion-free")
    assert any("1 mask fits no image" in note for note in found.notes)


def test_an_empty_mask_is_a_mask(tmp_path: Path):
    assert not read_case(case_of(tmp_path, labelled(np.uint8)), BRAIN).mask.any()


def test_a_mask_stored_along_other_axes_is_on_the_same_grid(tmp_path: Path):
    mask = labelled(np.uint8, 1)
    turned = np.ascontiguousarray(mask[::-1, :, ::-1])
    affine = np.diag([0.5, 0.5, 5, 1]) @ np.array([[-1, 0, 0, 5], [0, 1, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1.0]])
    plain = read_case(case_of(tmp_path, mask), BRAIN)
    other = read_case(case_of(tmp_path, turned, affine), BRAIN)
    assert np.array_equal(plain.mask, other.mask)


@pytest.mark.parametrize(("mask", "affine", "said"), [
    (np.zeros((6, 5, 3), np.uint8), None, r"a mask of 3 × 5 × 6 voxels"),
    (labelled(np.uint8, 1), np.diag([0.5, 0.5, 4.0, 1]), r"corners lie up to 3\.00 mm"),
    (labelled(np.float32, 0.2, 0.7), None, "values such as 0.7"),
    (labelled(np.int16, -1), None, "values such as -1"),
    (np.arange(120).reshape(6, 5, 4).astype(np.int16), None, "120 different values"),
    (labelled(np.float32, np.nan), None, "not finite"),
    (labelled(np.uint8, 1)[..., None].repeat(2, -1), None, r"shape \(6, 5, 4, 2\)"),
])  # fmt: skip
def test_masks_that_are_refused(tmp_path: Path, mask: np.ndarray, affine: np.ndarray | None, said: str):
    with pytest.raises(InputError, match=said) as refused:
        read_case(case_of(tmp_path, mask, affine), BRAIN)
    assert refused.value.remedy
    assert not {"HU", "DICOM"} & set(refused.value.explain().split())  # those are words for an image
    assert str(tmp_path) in refused.value.subject


def test_labels_that_were_rounded_are_whole_and_full_16_bits_are_no_lost_sign(tmp_path: Path):
    plain = read_case(case_of(tmp_path, labelled(np.uint8, 1, 2)), BRAIN).mask
    for mask in (labelled(np.float32, 0.99999, 2.00001), labelled(np.uint16, 65535, 65534)):
        assert np.array_equal(read_case(case_of(tmp_path, mask), BRAIN).mask, plain)


def test_accents_of_two_spellings_are_one_name(tmp_path: Path):
    """A Mac may spell a letter and its accent as two characters, in files and in folders."""
    one, other = (unicodedata.normalize(form, "Käte/Zoë") for form in ("NFC", "NFD"))
    volume(tmp_path / "ct" / f"{one}.nii.gz")
    volume(tmp_path / "readers" / f"{other}_mask.nii.gz")
    assert listed(find(tmp_path / "ct", tmp_path / "readers")).keys() == {one}
    volume(tmp_path / "beside" / f"{other}.nii.gz")
    volume(tmp_path / "beside" / Path(other).parent / f"{Path(one).name}_mask.nii.gz")
    assert listed(find(tmp_path / "beside")).keys() == {one}


def in_picture(value: int, suffix: str, tmp_path: Path) -> np.ndarray:
    pixels = np.zeros(SHAPE, np.uint8)
    pixels[8:16, 8:24] = value
    case = Case("a", "pictures", (picture(tmp_path / "1.png"),), (picture(tmp_path / f"1_mask.{suffix}", pixels),))
    return read_case(case, BRAIN).mask


@pytest.mark.parametrize(("value", "suffix", "marked"), [
    (255, "png", 128), (255, "jpg", 128), (1, "png", 128), (5, "png", 128), (3, "jpg", 0), (0, "png", 0),
    (128, "png", 128), (64, "png", 128), (2, "tif", 128), (3, "bmp", 128), (255, "webp", 128),
])  # fmt: skip
def test_masks_as_pictures(tmp_path: Path, value: int, suffix: str, marked: int):
    assert int(in_picture(value, suffix, tmp_path).sum()) == marked


def drawn(tmp_path: Path, mask: Image.Image, name: str = "1_mask.png") -> np.ndarray:
    """A mask as it is read for a slice of 200 × 200."""
    mask.save(tmp_path / name)
    image = picture(tmp_path / "1.png", np.full((200, 200), 90, np.uint8))
    return read_case(Case("a", "pictures", (image,), (tmp_path / name,)), BRAIN).mask[0]


def classes() -> np.ndarray:
    """0, and three labels of 400, 100 and 20 pixels, the last one thin."""
    array = np.zeros((200, 200), np.uint8)
    array[80:100, 80:100], array[20:30, 20:30], array[150, 20:40] = 1, 2, 3
    return array


def in_palette() -> Image.Image:
    image = Image.fromarray(classes())
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, *[0] * 756])
    return image


@pytest.mark.parametrize("mask", [
    Image.fromarray(np.array([0, 85, 170, 255], np.uint8)[classes()]),
    Image.fromarray(np.array([0, 255, 85, 40], np.uint8)[classes()]),
    Image.fromarray(np.array([[0, 0, 0], [255, 0, 0], [0, 0, 90], [20, 20, 0]], np.uint8)[classes()]),
    Image.fromarray(np.array([[0, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 255], [0, 9, 0, 90]], np.uint8)[classes()]),
    Image.fromarray(np.array([0, 257, 1, 65535], np.uint16)[classes()]),
    in_palette(),
], ids=["greys", "dark greys", "colours", "transparent", "16 bit", "palette"])  # fmt: skip
def test_labels_in_a_picture_are_united(tmp_path: Path, mask: Image.Image):
    assert np.array_equal(drawn(tmp_path, mask), classes() > 0)


def test_soft_edges_are_no_labels_and_grey_areas_of_a_jpeg_are_refused(tmp_path: Path):
    """A label stored as 85 of 255 would be lost without a word; a blurred edge is no label."""
    pixels = np.where(classes() == 1, 255, 0).astype(np.uint8)
    pixels[79, 80:100] = pixels[100, 80:100] = 120
    assert int(drawn(tmp_path, Image.fromarray(pixels)).sum()) == 400
    pixels[20:30, 20:30] = 85
    with pytest.raises(InputError, match="areas of grey"):
        drawn(tmp_path, Image.fromarray(pixels), "1_mask.jpg")


def test_a_slice_with_its_outline_drawn_in_is_no_mask(tmp_path: Path):
    greys = np.random.default_rng(0).integers(0, 256, (200, 200, 1)).astype(np.uint8).repeat(3, axis=2)
    greys[80:100, 80:100] = (255, 0, 0)
    with pytest.raises(InputError, match="neither black nor white") as refused:
        drawn(tmp_path, Image.fromarray(greys))
    assert "not a picture with it drawn in" in refused.value.remedy


def test_a_mask_whose_black_and_white_are_exchanged_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="marks 99% of slice 1"):
        drawn(tmp_path, Image.fromarray(np.where(classes() == 1, 0, 255).astype(np.uint8)))
    with pytest.raises(InputError, match="marks 100% of slice 2"):
        read_case(case_of(tmp_path, 1 - labelled(np.uint8, 1)), BRAIN)


def test_pictures_that_are_no_masks_or_do_not_fit(tmp_path: Path):
    with pytest.raises(InputError, match="neither black nor white"):
        in_picture(128, "jpg", tmp_path)
    small = picture(tmp_path / "2.png", np.full((20, 32), 90, np.uint8))
    with pytest.raises(InputError, match="20 × 32 pixels"):
        read_case(Case("a", "pictures", (picture(tmp_path / "1.png"), small), (None, None)), BRAIN)
    with pytest.raises(InputError, match="a mask of 20×32 pixels"):
        read_case(Case("a", "pictures", (picture(tmp_path / "1.png"),), (small,)), BRAIN)
