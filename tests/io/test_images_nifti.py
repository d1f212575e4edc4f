"""Pictures and NIfTI: round trips in every orientation, and what is refused."""

import gzip
import itertools
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff
from PIL import Image

from bleedmap.arrays import AnyArray, DoubleArray
from bleedmap.errors import InputError
from bleedmap.geometry import SliceGrid, axial_affine, swap_lps_ras
from bleedmap.io import images, nifti
from bleedmap.volume import Mask, ProbabilityMap, Volume

SHAPE = (5, 7, 9)
CODES = ["".join(codes) for order in itertools.permutations(("LR", "PA", "IS")) for codes in itertools.product(*order)]


def oriented(codes: str) -> DoubleArray:
    """An affine to RAS mm of a (5, 7, 9) array whose axes run as `codes` say; voxels 0.5 × 0.6 × 5 mm."""
    spacing = {"R": 0.5, "L": 0.5, "A": 0.6, "P": 0.6, "S": 5.0, "I": 5.0}
    affine = np.zeros((4, 4))
    for axis, code in enumerate(codes):
        row, sign = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}[code]
        affine[row, axis] = sign * spacing[code]
    affine[:3, 3], affine[3, 3] = (-11, 23, -37), 1
    return affine


def tilted(affine: DoubleArray, degrees: float = 17) -> DoubleArray:
    """The same, turned about the left-right axis as by a gantry."""
    turn = np.eye(4)
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    return np.asarray(turn @ affine)


def save(path: Path, array: AnyArray, affine: DoubleArray) -> Path:
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def places(array: AnyArray, affine: DoubleArray) -> set[tuple[float, ...]]:
    """Where (mm, in the affine's own frame) each marked voxel is."""
    index = np.argwhere(array)
    return {tuple(np.round(place, 3) + 0.0) for place in index @ affine[:3, :3].T + affine[:3, 3]}


def test_all_forty_eight_orientations_are_tested() -> None:
    assert len(set(CODES)) == 48


@pytest.mark.parametrize("codes", CODES)
def test_every_orientation_reads_as_slice_row_column(codes: str, tmp_path: Path) -> None:
    hu = np.random.default_rng(1).normal(30, 10, SHAPE).astype(np.float32)
    volume, grid = nifti.read_volume(save(tmp_path / "head.nii", hu, oriented(codes)))
    # Slices feet to head (LPS z grows), rows front to back (y grows), columns to the patient's left (x grows).
    np.testing.assert_allclose(volume.grid.affine[:3, :3], [[0, 0, 0.5], [0, 0.6, 0], [5, 0, 0]], atol=1e-6)
    assert volume.grid.spacing_mm == pytest.approx((5, 0.6, 0.5))
    # Each voxel stays where the file puts it.
    brightest = np.unravel_index(hu.argmax(), hu.shape), np.unravel_index(volume.hu.argmax(), volume.hu.shape)
    in_file, in_ours = (affine @ [*index, 1] for affine, index in zip((oriented(codes), volume.grid.affine), brightest))  # noqa: B905
    np.testing.assert_allclose(swap_lps_ras(np.eye(4)) @ in_ours, in_file, atol=1e-5)
    np.testing.assert_array_equal(grid.outward(volume.hu), hu)


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("codes", CODES)
def test_results_return_to_the_files_own_grid(codes: str, oblique: bool, tmp_path: Path) -> None:
    affine = tilted(oriented(codes)) if oblique else oriented(codes)
    hu = np.zeros(SHAPE, np.int16)
    hu[1, 2, 3:6] = 70
    path = save(tmp_path / "head.nii.gz", hu, affine)
    volume, grid = nifti.read_volume(path)
    mask = Mask(volume.hu > 50, volume.grid)
    nifti.write(tmp_path / "mask.nii.gz", mask, grid)
    nifti.write(tmp_path / "prob.nii.gz", ProbabilityMap(volume.hu / 70, volume.grid), grid)
    written, probability = nib.load(tmp_path / "mask.nii.gz"), nib.load(tmp_path / "prob.nii.gz")
    np.testing.assert_allclose(written.affine, nib.load(path).affine, atol=1e-6)
    assert written.get_data_dtype() == np.uint8
    assert probability.get_data_dtype() == np.float32
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), hu > 50)
    np.testing.assert_array_equal(probability.get_fdata(), hu / 70)
    back = nifti.read_mask(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(back.array, mask.array)
    assert back.volume_ml == pytest.approx(3 * 0.5 * 0.6 * 5 / 1000)


def test_a_volume_without_a_grid_lands_at_its_own_place(tmp_path: Path) -> None:
    marked = np.zeros((4, 6, 8), bool)
    marked[1, 2, 3] = marked[3, 5, 7] = True
    mask = Mask(marked, SliceGrid.from_affine(axial_affine((5, 0.6, 0.5), marked.shape), len(marked)))
    nifti.write(tmp_path / "mask.nii", mask)
    stored = nib.load(tmp_path / "mask.nii")
    assert places(np.asanyarray(stored.dataobj), stored.affine) == places(marked, swap_lps_ras(mask.grid.affine))
    assert nib.aff2axcodes(stored.affine) == ("L", "P", "S")
    np.testing.assert_array_equal(nifti.read_mask(tmp_path / "mask.nii").array, marked)


def stacked(heights_mm: list[float], tilt_deg: float = 0.0, sideways_mm: float = 0.0) -> SliceGrid:
    """Slices of 20 × 24 pixels at these heights along the table, by a gantry tilted so; the upper half moved aside."""
    tilt = np.radians(tilt_deg)
    heights = np.array(heights_mm)[:, None] * np.array([0, 0, 1.0])
    aside = np.outer(np.arange(len(heights)) >= len(heights) // 2, [sideways_mm, 0, 0])
    return SliceGrid(heights + aside, 0.6 * np.array([0, np.cos(tilt), np.sin(tilt)]), np.array([0.5, 0, 0]), 5.0)


def counted_ml(path: Path) -> tuple[float, float]:
    """The volume of a NIfTI mask as programs count it: voxels times pixdim, and times the affine's determinant."""
    image = nib.load(path)
    voxels = int((np.asarray(image.dataobj) > 0.5).sum())
    sizes = float(np.prod([float(one) for one in image.header.get_zooms()]))
    return voxels * sizes / 1000, voxels * float(abs(np.linalg.det(image.affine[:3, :3]))) / 1000


@pytest.mark.parametrize("tilt_deg", [0.0, -21.0])
def test_beside_a_missing_slice_each_neighbour_has_half_the_gap_in_the_file(tmp_path: Path, tilt_deg: float) -> None:
    grid = stacked([0.0, 5, 10, 20, 25], tilt_deg)
    for index, extent in enumerate([5, 5, 7.5, 7.5, 5]):
        marked = np.zeros((5, 20, 24), np.bool_)
        marked[index, 3:13, 4:14] = True
        nifti.write(tmp_path / "m.nii.gz", Mask(marked, grid))
        nifti.write(tmp_path / "p.nii", ProbabilityMap(marked.astype(np.float32), grid))
        expected = extent * np.cos(np.radians(tilt_deg)) * 100 * 0.6 * 0.5 / 1000
        assert counted_ml(tmp_path / "m.nii.gz") == pytest.approx((expected, expected), rel=1e-5)
        assert counted_ml(tmp_path / "p.nii") == pytest.approx((expected, expected), rel=1e-5)


@given(
    gaps=st.lists(st.floats(0.8, 8), min_size=3, max_size=36), tilt_deg=st.sampled_from([0.0, 18.5, -25.0]),
    sideways_mm=st.sampled_from([0.0, 7.3]), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_the_file_of_uneven_slices_holds_the_stated_volume(gaps, tilt_deg, sideways_mm, seed) -> None:
    grid = stacked([0.0, *np.cumsum(gaps)], tilt_deg, sideways_mm)
    marked = np.random.default_rng(seed).random((len(grid), 20, 24)) < 0.2
    mask = Mask(marked, grid)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mask.nii.gz"
        nifti.write(path, mask)
        counted, determined = counted_ml(path)
        header = nib.load(path).header
    assert counted == pytest.approx(determined, rel=1e-4)
    off = grid.evenly(marked[0].size).off
    assert counted == pytest.approx(mask.volume_ml, rel=off + 1e-4)
    said = bytes(header["descrip"].item()).decode()
    assert f"within {100 * off:.1f} %" in said if off else said == ""


def test_layers_show_the_slice_that_they_belong_to(tmp_path: Path) -> None:
    grid = stacked([0.0, 4, 12, 16, 23])
    hu = np.broadcast_to(np.arange(5, dtype=np.float32)[:, None, None], (5, 20, 24)).copy()
    nifti.write(tmp_path / "v.nii", Volume(hu, grid))
    back, _ = nifti.read_volume(tmp_path / "v.nii")
    # Edges at -2, 2, 8, 14, 19.5, 26.5 mm.
    assert back.grid.spacing_mm[0] == pytest.approx(0.5)
    assert np.bincount(back.hu[:, 0, 0].astype(int)).tolist() == [8, 12, 12, 11, 14]
    assert back.grid.origins_mm[0, 2] == pytest.approx(-1.75)


@pytest.mark.parametrize("value", [1, 2, 255])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32])
def test_a_reference_mask_of_any_value_counts(tmp_path: Path, value: int, kind: type[np.generic]) -> None:
    array = np.zeros(SHAPE, kind)
    array[1:3, 2:5, 4] = value
    path = save(tmp_path / "mask.nii.gz", array, oriented("LPS"))
    assert nifti.read_mask(path).array.sum() == 6


def test_the_files_slope_is_applied_once_and_not_handed_on(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.full(SHAPE, 2128.0), oriented("RAS"))
    image.header.set_data_dtype(np.int16)
    image.header.set_slope_inter(0.5, -1024)
    nib.save(image, tmp_path / "scaled.nii")
    volume, grid = nifti.read_volume(tmp_path / "scaled.nii")
    np.testing.assert_allclose(volume.hu, 40)
    nifti.write(tmp_path / "mask.nii", Mask(volume.hu > 0, volume.grid), grid)
    assert (nib.load(tmp_path / "mask.nii").get_fdata() == 1).all()


def test_hu_survive_a_round_trip(tmp_path: Path) -> None:
    hu = np.random.default_rng(0).normal(0, 500, SHAPE).astype(np.float32)
    nifti.write(tmp_path / "v.nii.gz", Volume(hu, SliceGrid.from_affine(axial_affine((5, 0.5, 0.5), SHAPE), len(hu))))
    back, _ = nifti.read_volume(tmp_path / "v.nii.gz")
    np.testing.assert_array_equal(back.hu, hu)


def test_a_compressed_file_holds_the_plain_ones_bytes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).random((3, 8, 9), np.float32) * np.float32([[[0]], [[0]], [[1]]])
    result = ProbabilityMap(noise, SliceGrid.from_affine(axial_affine((5, 0.5, 0.5), noise.shape), 3))
    plain, compressed = tmp_path / "one.nii", tmp_path / "one.nii.gz"
    nifti.write(plain, result)
    nifti.write(compressed, result)
    packed = compressed.read_bytes()
    assert gzip.decompress(packed) == plain.read_bytes()
    assert packed[3:8] == bytes(5)  # neither name nor time: on one machine the same result is the same file
    assert nib.load(plain).get_fdata().transpose(2, 1, 0) == pytest.approx(noise)


def test_a_sheared_voxel_has_its_true_volume() -> None:
    affine = np.diag([5.0, 0.5, 0.5, 1])
    affine[1, 0] = 3  # a tilted gantry, not resampled
    assert SliceGrid.from_affine(affine, 4).voxel_ml == pytest.approx(5 * 0.5 * 0.5 / 1000)


def test_one_time_point_is_a_volume_and_two_are_not(tmp_path: Path) -> None:
    one = save(tmp_path / "one.nii", np.zeros((*SHAPE, 1), np.int16), np.eye(4))
    two = save(tmp_path / "two.nii", np.zeros((*SHAPE, 2), np.int16), np.eye(4))
    assert nifti.read_volume(one)[0].hu.size == np.prod(SHAPE)
    with pytest.raises(InputError, match=r"two\.nii.*\(5, 7, 9, 2\)"):
        nifti.read_volume(two)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_number_are_refused(bad: float, tmp_path: Path) -> None:
    hu = np.zeros(SHAPE, np.float32)
    hu[2, 3, 4] = bad
    with pytest.raises(InputError, match="1 of 315 voxels are not finite") as caught:
        nifti.read_volume(save(tmp_path / "head.nii.gz", hu, np.eye(4)))
    assert caught.value.subject.endswith("head.nii.gz")


def test_a_grid_without_volume_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.eye(4))
    image.header.set_sform(np.diag([0.0, 1, 1, 1]), code=1)
    image.header.set_qform(None, code=0)
    nib.save(image, tmp_path / "flat.nii")
    raw = bytearray((tmp_path / "flat.nii").read_bytes())
    raw[280:296] = bytes(16)  # srow_x: nibabel mends a flat sform on saving
    (tmp_path / "flat.nii").write_bytes(raw)
    with pytest.raises(InputError, match="maps the grid to no volume"):
        nifti.read_volume(tmp_path / "flat.nii")


@pytest.mark.parametrize("name", ["head.nii", "head.nii.gz"])
@pytest.mark.parametrize("part", [0.0, 0.1, 0.6, 0.95])
def test_a_cut_nifti_is_refused(name: str, part: float, tmp_path: Path) -> None:
    path = save(tmp_path / name, np.random.default_rng(0).integers(0, 99, (32, 32, 8), np.int16), np.eye(4))
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(InputError, match="cannot be read as NIfTI"):
        nifti.read_volume(path)


def test_a_single_changed_bit_in_a_compressed_volume_is_noticed(tmp_path: Path) -> None:
    hu = np.random.default_rng(0).normal(30, 20, (32, 32, 8)).astype(np.int16)
    path = save(tmp_path / "head.nii.gz", hu, np.eye(4))
    whole = path.read_bytes()
    for place in np.linspace(400, len(whole) - 9, 12).astype(int):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="cannot be read as NIfTI"):
            nifti.read_volume(path)


def test_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        nifti.read_volume(tmp_path / "absent.nii")
    with pytest.raises(InputError, match="no such file"):
        images.read_grey(tmp_path / "absent.png")


GREY = (np.add.outer(np.arange(40) * 3, np.arange(50) * 2) % 256).astype(np.uint8)


def test_masks_and_pictures_round_trip(tmp_path: Path) -> None:
    mask = GREY > 100
    images.write_png(tmp_path / "m.png", mask)
    np.testing.assert_array_equal(images.read_mask(tmp_path / "m.png", mask.shape), mask)
    assert set(np.unique(images.read_grey(tmp_path / "m.png"))) == {0, 255}
    images.write_png(tmp_path / "g.png", GREY)
    np.testing.assert_array_equal(images.read_grey(tmp_path / "g.png"), GREY)
    deep = np.array([[0, 1], [32768, 65535]], np.uint16)
    images.write_png(tmp_path / "d.png", deep)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "d.png")), deep)


def test_a_mask_counts_above_127(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)).save(tmp_path / "m.png")
    assert images.read_mask(tmp_path / "m.png", (1, 4)).tolist() == [[False, False, True, True]]


def test_orientation_helpers_agree_with_nibabel() -> None:
    """`oriented` is itself right: nibabel reads the codes back, and undoes a turn to the same affine."""
    for codes in CODES:
        assert "".join(nib.aff2axcodes(oriented(codes))) == codes
    turn = axcodes2ornt(("R", "A", "S"))
    np.testing.assert_allclose(oriented("RAS") @ inv_ornt_aff(turn, SHAPE), oriented("RAS"))
