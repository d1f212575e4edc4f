"""NIfTI states its grid several times over: what agrees is read, what contradicts itself is refused with its values."""

import gzip
import struct
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from bleedmap.arrays import DoubleArray
from bleedmap.errors import InputError
from bleedmap.io import nifti
from bleedmap.study.read import read_study
from bleedmap.volume import Mask
from dicom_studies import series

SHAPE = (40, 48, 12)
AFFINE = np.array([[-0.5, 0, 0, 10], [0, -0.6, 0, 14], [0, 0, 5, -30], [0, 0, 0, 1.0]])


def turned(degrees: float, axis: int = 0) -> DoubleArray:
    """The affine turned about one axis of the patient."""
    turn = np.eye(4)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    others = [one for one in range(3) if one != axis]
    turn[np.ix_(others, others)] = [[c, -s], [s, c]]
    return np.asarray(turn @ AFFINE)


def scaled(*factors: float) -> DoubleArray:
    return np.asarray(AFFINE @ np.diag([*factors, 1]))


def moved(mm: float) -> DoubleArray:
    other = AFFINE.copy()
    other[2, 3] += mm
    return other


def save(
    path: Path, sform: DoubleArray | None, qform: DoubleArray | None, codes: tuple[int, int] = (1, 1), unit: str = "mm"
) -> Path:
    image = nib.Nifti1Image(np.zeros(SHAPE, np.int16), AFFINE)
    image.set_qform(qform, codes[1] if qform is not None else 0)
    image.set_sform(sform, codes[0] if sform is not None else 0)
    if qform is None and sform is not None:
        image.header.set_zooms(np.linalg.norm(sform[:3, :3], axis=0))
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


def patch(path: Path, offset: int, form: str, *values: float) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into("<" + form, data, offset, *values)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("sform", [None, AFFINE, scaled(1.002, 1, 1), turned(0.1)], ids=str)
@pytest.mark.parametrize("qform", [None, AFFINE])
def test_statements_that_agree_are_read_without_a_word(sform, qform, tmp_path):
    if sform is None and qform is None:
        return
    volume, grid = nifti.read_volume(save(tmp_path / "head.nii", sform, qform))
    assert volume.grid.spacing_mm == pytest.approx((5, 0.6, 0.5), rel=0.005)
    assert grid.notes == ()


@pytest.mark.parametrize(
    ("sform", "said"),
    [
        (scaled(1, 1, 1.25), r"0\.5 × 0\.6 × 6\.25 by the sform and 0\.5 × 0\.6 × 5 by qform"),
        (scaled(0.8, 0.8, 0.8), r"0\.4 × 0\.48 × 4 by the sform"),
        (scaled(-1, 1, 1), "mirror images.*RPS by the sform and LPS by the qform"),
        (scaled(1, 1, -1), "mirror images"),
        (scaled(-1, -1, 1), "turned against each other by 180°.*RAS by the sform and LPS"),
        (turned(90), "turned against each other by 90°"),
        (turned(40, axis=2), "turned against each other by 40°"),
    ],
    ids=str,
)
def test_statements_that_leave_size_or_sides_in_doubt_are_refused_with_both(sform, said, tmp_path):
    with pytest.raises(InputError, match=said) as caught:
        nifti.read_volume(save(tmp_path / "head.nii.gz", sform, AFFINE))
    assert "set_qform(image.get_sform(), 1)" in caught.value.remedy
    assert "set_sform(image.get_qform(), 1)" in caught.value.remedy
    with pytest.raises(InputError, match=said):
        nifti.read_mask(tmp_path / "head.nii.gz")


def test_the_remedy_of_a_contradiction_helps(tmp_path):
    path = save(tmp_path / "head.nii.gz", scaled(1, 1, 1.25), AFFINE)
    image = nib.load(path)
    image.set_sform(image.get_qform(), 1)
    nib.save(image, tmp_path / "mended.nii.gz")
    assert nifti.read_volume(tmp_path / "mended.nii.gz")[0].grid.spacing_mm == pytest.approx((5, 0.6, 0.5))


@pytest.mark.parametrize(("sform", "value"), [(moved(40), "40.0 mm"), (turned(12), "12.0°")])
def test_the_same_size_and_sides_at_another_place_are_read_and_told(sform, value, tmp_path):
    volume, grid = nifti.read_volume(save(tmp_path / "head.nii", sform, AFFINE))
    assert volume.grid.voxel_ml == pytest.approx(0.5 * 0.6 * 5 / 1000)
    assert value in grid.notes[0]
    assert "by the sform" in grid.notes[0]


def test_a_tilted_sform_beside_a_qform_that_cannot_hold_it_is_read_and_told(tmp_path):
    sheared = AFFINE.copy()
    sheared[1, 2] = 5 * np.tan(np.radians(20))
    volume, grid = nifti.read_volume(save(tmp_path / "head.nii", sheared, AFFINE))
    assert volume.grid.voxel_ml == pytest.approx(0.5 * 0.6 * 5 / 1000)
    assert "20.0°" in grid.notes[0]


def test_an_sform_to_an_atlas_gives_way_to_the_scanners_qform(tmp_path):
    path = save(tmp_path / "head.nii", scaled(1.2, 1.1, 1.1), AFFINE, codes=(4, 1))
    volume, grid = nifti.read_volume(path)
    assert volume.grid.spacing_mm == pytest.approx((5, 0.6, 0.5))
    assert "atlas" in grid.notes[0]
    nifti.write(tmp_path / "mask.nii", Mask(volume.hu > 0, volume.grid), grid)
    stored, ours = nib.load(path).header, nib.load(tmp_path / "mask.nii").header
    np.testing.assert_allclose(ours.get_sform(), stored.get_sform(), atol=1e-6)
    np.testing.assert_allclose(ours.get_qform(), stored.get_qform(), atol=1e-6)
    assert (int(ours["sform_code"]), int(ours["qform_code"])) == (4, 1)
    with pytest.raises(InputError, match="mirror images"):
        nifti.read_volume(save(tmp_path / "mirrored.nii", scaled(-1.2, 1, 1), AFFINE, codes=(4, 1)))


def test_an_sform_alone_is_compared_with_pixdim(tmp_path):
    path = patch(save(tmp_path / "head.nii", AFFINE, None), 80, "3f", 1, 1, 1)
    with pytest.raises(InputError, match=r"0\.5 × 0\.6 × 5 by the sform and 1 × 1 × 1 by pixdim"):
        nifti.read_volume(path)
    patch(path, 80, "3f", 0, 0, 0)  # not stated
    assert nifti.read_volume(path)[0].grid.spacing_mm == pytest.approx((5, 0.6, 0.5))


@pytest.mark.parametrize("place", [80, 88])
@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, 1e9])
def test_sizes_that_are_none_are_refused(place, value, tmp_path):
    with pytest.raises(InputError, match=r"voxels of|maps the grid to no volume|cannot be read"):
        nifti.read_volume(patch(save(tmp_path / "head.nii", None, AFFINE), place, "f", value))


def test_a_qform_that_does_not_tell_its_sides_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"5 in pixdim\[0\]: right and left"):
        nifti.read_volume(patch(save(tmp_path / "head.nii", None, AFFINE), 76, "f", 5))


@pytest.mark.parametrize("by", ["qform", "both"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_a_quaternion_that_was_rounded_up_is_half_a_turn(kind: type[nib.Nifti1Image], by: str, tmp_path: Path) -> None:
    """Public data sets hold such, longer than 1 by more than nibabel bears."""
    half = np.array([[0, 0.6, 0, -14], [0.5, 0, 0, -10], [0, 0, -5, 30], [0, 0, 0, 1]])
    image = kind(np.zeros(SHAPE, np.int16), half)
    image.set_qform(half, 1)
    image.set_sform(half, int(by == "both"))
    nib.save(image, tmp_path / "head.nii")
    offset, form = (256, "2f") if kind is nib.Nifti1Image else (352, "2d")
    patch(tmp_path / "head.nii", offset, form, 0.70712, 0.70712)
    volume, grid = nifti.read_volume(tmp_path / "head.nii")
    assert np.allclose(grid.affine_ras, half, atol=1e-3)
    assert not grid.notes
    nifti.write(tmp_path / "mask.nii.gz", Mask(volume.hu > 0, volume.grid), grid)
    assert np.allclose(nifti.read_mask(tmp_path / "mask.nii.gz").grid.affine, volume.grid.affine, atol=1e-3)


@pytest.mark.parametrize(
    ("by", "found"), [("qform", "no rotation"), ("both", "a qform that maps the grid to no volume")]
)
def test_a_quaternion_that_is_none_is_refused(by, found, tmp_path):
    path = save(tmp_path / "head.nii", AFFINE if by == "both" else None, AFFINE)
    with pytest.raises(InputError, match=found):
        nifti.read_volume(patch(path, 256, "3f", 1, 1, 1))


@pytest.mark.parametrize("forms", [(True, False), (False, True), (True, True)], ids=str)
@pytest.mark.parametrize(("unit", "per_mm", "word"), [("micron", 1000.0, "micrometres"), ("meter", 0.001, "metres")])
def test_other_units_are_converted_told_and_kept_in_the_results(unit, per_mm, word, forms, tmp_path):
    in_unit = np.diag([per_mm, per_mm, per_mm, 1]) @ AFFINE
    path = save(tmp_path / "head.nii", *(in_unit if one else None for one in forms), unit=unit)
    volume, grid = nifti.read_volume(path)
    assert volume.grid.spacing_mm == pytest.approx((5, 0.6, 0.5))
    assert word in grid.notes[0]
    nifti.write(tmp_path / "mask.nii.gz", Mask(volume.hu > -1, volume.grid), grid)
    mask = nifti.read_mask(tmp_path / "mask.nii.gz")
    assert mask.volume_ml == pytest.approx(np.prod(SHAPE) * 0.5 * 0.6 * 5 / 1000)
    np.testing.assert_allclose(nib.load(tmp_path / "mask.nii.gz").affine, nib.load(path).affine)


@pytest.mark.parametrize(
    ("unit", "factor", "said"),
    [
        ("unknown", 1000.0, "500 × 600 × 5000 mm.*no unit"), ("unknown", 0.001, "0.0005 × 0.0006 × 0.005 mm.*no unit"),
        ("micron", 1.0, "0.0005 × 0.0006 × 0.005 mm.*micrometres"), ("meter", 1.0, "500 × 600 × 5000 mm.*metres"),
    ],
)  # fmt: skip
def test_units_that_give_no_head_are_refused_with_the_sizes(unit, factor, said, tmp_path):
    affine = np.diag([factor, factor, factor, 1]) @ AFFINE
    with pytest.raises(InputError, match=said) as caught:
        nifti.read_volume(save(tmp_path / "head.nii", affine, None, unit=unit))
    assert "set_xyzt_units" in caught.value.remedy


@pytest.mark.parametrize(("code", "said"), [(0, False), (2, False), (10, False), (4, True), (5, True), (7, True)])
def test_a_unit_that_the_standard_does_not_define_is_told(code, said, tmp_path):
    _, grid = nifti.read_volume(patch(save(tmp_path / "head.nii", AFFINE, None), 123, "B", code))
    assert any("no unit of length" in one for one in grid.notes) is said


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("made", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("kind", ["i2", "u2", "i4", "f4", "f8"])
def test_both_byte_orders_and_versions_are_read(order, made, kind, tmp_path):
    hu = np.random.default_rng(0).integers(0, 90, SHAPE)
    image = made(hu.astype(kind), AFFINE, made.header_class(endianness=order))
    image.set_data_dtype(order + kind)
    nib.save(image, tmp_path / "head.nii.gz")
    volume, grid = nifti.read_volume(tmp_path / "head.nii.gz")
    np.testing.assert_array_equal(grid.outward(volume.hu), hu)


def test_hu_that_lost_their_sign_colour_and_complex_numbers_are_refused(tmp_path):
    hu = np.full(SHAPE, -1000, np.int16)
    hu[10:30, 10:30] = 40
    nib.save(nib.Nifti1Image(hu.view(np.uint16), AFFINE), tmp_path / "unsigned.nii")
    with pytest.raises(InputError, match="64,536 in 16 bits without sign"):
        nifti.read_volume(tmp_path / "unsigned.nii")
    colour = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, AFFINE), tmp_path / "colour.nii")
    with pytest.raises(InputError, match="colour of several values"):
        nifti.read_volume(tmp_path / "colour.nii")
    nib.save(nib.Nifti1Image(hu.astype(np.complex64), AFFINE), tmp_path / "complex.nii")
    with pytest.raises(InputError, match="complex64"):
        nifti.read_volume(tmp_path / "complex.nii")


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [((40, 48, 12, 3), "extract a single volume"), ((40, 48, 1, 12), "convert the study again"), ((40, 48), "convert")],
)
def test_what_is_not_one_volume_is_refused_with_a_way_that_leads_to_one(shape, remedy, tmp_path):
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), AFFINE), tmp_path / "head.nii")
    with pytest.raises(InputError) as refused:
        nifti.read_volume(tmp_path / "head.nii")
    assert refused.value.remedy.startswith(remedy)


@pytest.mark.parametrize("slope", [0.0, np.nan])
def test_an_intercept_without_a_slope_is_told(slope, tmp_path):
    path = patch(save(tmp_path / "head.nii", AFFINE, AFFINE), 112, "2f", slope, -1024)
    volume, grid = nifti.read_volume(path)
    assert not volume.hu.any()
    assert "intercept of -1024" in grid.notes[0]
    assert nifti.read_volume(patch(path, 112, "2f", slope, 0))[1].notes == ()


def test_a_file_is_read_by_its_content_where_its_name_is_wrong(tmp_path):
    plain = save(tmp_path / "head.nii", AFFINE, AFFINE).read_bytes()
    for name, content in (("a.nii", gzip.compress(plain)), ("b.nii.gz", plain), ("c", plain)):
        (tmp_path / name).write_bytes(content)
        assert nifti.is_nifti(tmp_path / name)
        volume, grid = nifti.read_volume(tmp_path / name)
        assert volume.hu.shape == (12, 48, 40)
        assert any("unlike its name says" in one for one in grid.notes) == (name != "c")


def test_a_folder_named_as_nifti_is_a_folder(tmp_path):
    """As some data sets and unpackers name the folder around each file."""
    folder = tmp_path / "head.nii"
    folder.mkdir()
    save(folder / "head.nii", AFFINE, AFFINE)
    with pytest.raises(InputError) as refused:
        read_study(folder)
    assert refused.value.remedy.startswith(f"give the NIfTI file itself, as {folder / 'head.nii'}")
    for number, one in enumerate(series()):
        one.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    assert len(read_study(folder).volume.hu) == len(series())


@pytest.mark.parametrize(
    ("inside", "advice"),
    [
        ("head.nii", "give the NIfTI file itself, as sub/head.nii;"),
        ("study.zip", "give that zip itself: sub/study.zip"),
        ("slice.png", "give the folder that holds the study, or JPEG or PNG slices"),
    ],
)
def test_a_zip_without_dicom_says_what_it_holds(inside, advice, tmp_path):
    content = {
        "head.nii": save(tmp_path / "head.nii", AFFINE, AFFINE).read_bytes(), "study.zip": b"PK\x03\x04" + bytes(200),
        "slice.png": b"\x89PNG\r\n\x1a\n" + bytes(200),
    }  # fmt: skip
    with zipfile.ZipFile(tmp_path / "sent.zip", "w") as archive:
        archive.writestr(f"sub/{inside}", content[inside])
    with pytest.raises(InputError) as refused:
        read_study(tmp_path / "sent.zip")
    assert refused.value.remedy.startswith(f"unpack sent.zip, then {advice}")


@pytest.mark.parametrize("packed", [False, True])
def test_a_cut_file_says_how_much_is_missing(packed, tmp_path):
    path = save(tmp_path / "head.nii", AFFINE, AFFINE)
    data = path.read_bytes()[:20_000]
    path.write_bytes(gzip.compress(data) if packed else data)
    with pytest.raises(InputError, match="ends after 20,000 of 46,432 bytes"):
        nifti.read_volume(path)


@pytest.mark.parametrize("at", [0.0, 348.0])
def test_voxels_never_begin_in_the_header(at, tmp_path):
    path = patch(save(tmp_path / "head.nii", AFFINE, AFFINE), 108, "f", at)
    with pytest.raises(InputError, match=r"(?i)vox.offset"):
        nifti.read_volume(path)


@pytest.mark.parametrize("kind", ["upright", "tilted", "uneven", "both", "oblique", "lone"])
def test_a_result_is_read_back_on_the_study_s_own_slices(kind: str, tmp_path: Path) -> None:
    from dicom_result_studies import SHAPE, grid_of

    grid = grid_of(kind)
    shape = (len(grid), *SHAPE[1:])
    array = np.random.default_rng(0).random(shape) < 0.3
    nifti.write(tmp_path / "mask.nii.gz", Mask(array, grid))
    np.testing.assert_array_equal(nifti.read_result(tmp_path / "mask.nii.gz", grid, shape), array)
    with pytest.raises(InputError, match="the grid of its study"):
        nifti.read_result(tmp_path / "mask.nii.gz", grid, (shape[0], shape[1] + 1, shape[2]))
