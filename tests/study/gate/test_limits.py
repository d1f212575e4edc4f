"""Every limit of the input gate, pinned: a made value just inside it passes, one just outside gets its own verdict."""

from dataclasses import replace

import numpy as np
import pytest

from bleedmap.geometry import SliceGrid, axial_affine
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.study.gate.anatomy import Anatomy, Values, measure_values
from bleedmap.study.gate.check import graver
from bleedmap.study.gate.scan import scan_checks
from bleedmap.study.gate.voxels import voxel_checks
from bleedmap.volume import Volume

VALUES = Values(
    lowest=-1024,
    highest=1500,
    air_share=0.5,
    air_hu=-1000,
    bone_share=0.05,
    padding_share=0.0,
    metal_ml=0.0,
    blank=(),
    cut=(),
    unlike=(),
    repeated=(),
    step_hu=1.0,
)
ANATOMY = Anatomy(
    cavity=(4, 25), cavity_ml=1400, largest_cm2=200, lowest_share=0.05, highest_share=0.1, brain_hu=35, spread_hu=8,
    outline_mm=(200, 150), cut_mm=0, cut_slices=0, middle_hu=35, below_mm=20,
)  # fmt: skip


def of_voxels(check: str, **changes: object) -> str:
    """The verdict of one check on the usual head's measurements, some of them changed."""
    of_values = {name: value for name, value in changes.items() if hasattr(VALUES, name)}
    of_anatomy = {name: value for name, value in changes.items() if hasattr(ANATOMY, name)}
    checks = voxel_checks(replace(VALUES, **of_values), replace(ANATOMY, **of_anatomy), 30)  # type: ignore[arg-type]
    return next(one.verdict for one in checks if one.name == check)


@pytest.mark.parametrize(
    ("check", "measure", "passes", "outside", "verdict"),
    [
        ("air", "air_share", 0.01, 0.0099, "refusal"),
        ("air", "air_hu", -1100, -1101, "warning"),
        ("air", "air_hu", -880, -879, "warning"),
        ("bone", "bone_share", 0.005, 0.0049, "warning"),
        ("bone", "bone_share", 0.25, 0.251, "warning"),
        ("brain density", "brain_hu", 20, 19.9, "warning"),
        ("brain density", "brain_hu", 50, 50.1, "warning"),
        ("noise", "spread_hu", 25, 25.1, "warning"),
        ("noise", "step_hu", 8, 8.1, "warning"),
        ("anatomy", "cavity_ml", 150, 149, "refusal"),
        ("anatomy", "cavity_ml", 2800, 2801, "warning"),
        ("anatomy", "largest_cm2", 100, 99, "warning"),
        ("anatomy", "largest_cm2", 350, 351, "refusal"),
        ("anatomy", "outline_mm", (300, 150), (301, 150), "refusal"),
        ("anatomy", "outline_mm", (150, 300), (150, 301), "refusal"),
        ("coverage", "lowest_share", 0.2, 0.21, "warning"),
        ("coverage", "highest_share", 0.3, 0.31, "warning"),
        ("coverage", "below_mm", 120, 121, "warning"),
        ("blank slices", "blank", (3, 26), (3, 25), "warning"),
        ("blank slices", "blank", (3,), (4,), "warning"),
        ("blank slices", "cut", (3, 26), (3, 25), "warning"),
        ("continuity", "unlike", (3, 26), (3, 25), "warning"),
        ("continuity", "repeated", (3, 4, 5, 6, 7, 8, 9), (4, 5, 6, 7, 8), "warning"),
        ("border", "cut_mm", 29.9, 30, "warning"),
        ("padding", "padding_share", 0.5, 0.51, "warning"),
        ("metal", "metal_ml", 0.1, 0.11, "warning"),
    ],
)
def test_a_limit_on_voxels_lies_where_it_is_said(check, measure, passes, outside, verdict):
    assert of_voxels(check, **{measure: passes}) == "pass"
    assert of_voxels(check, **{measure: outside}) == verdict


@pytest.mark.parametrize(
    ("check", "measure", "warned", "refused"),
    [
        ("bone", "bone_share", 0.002, 0.0019),
        ("bone", "bone_share", 0.4, 0.41),
        ("brain density", "brain_hu", 5, 4.9),
        ("brain density", "brain_hu", 70, 70.1),
        ("anatomy", "cavity_ml", 3500, 3501),
        ("anatomy", "largest_cm2", 75, 74.9),
    ],
)
def test_beyond_a_warning_lies_a_refusal(check, measure, warned, refused):
    assert of_voxels(check, **{measure: warned}) == "warning"
    assert of_voxels(check, **{measure: refused}) == "refusal"


GOOD = Acquisition(
    modality="CT", image_type=("ORIGINAL",), body_part="HEAD", contrast="", kvp=120.0, kernel="J40s", age_years=54.0,
    thickness_mm=5.0, unread="",
)  # fmt: skip


def even_grid(slices: int = 30, spacing_mm: tuple[float, float, float] = (5.0, 0.5, 0.5), size: int = 512) -> SliceGrid:
    return SliceGrid.from_affine(axial_affine(spacing_mm, (slices, size, size)), slices)


def of_scan(check: str, grid: SliceGrid, size: int = 512, scan: Acquisition = GOOD) -> str:
    return next(one.verdict for one in scan_checks(grid, (len(grid), size, size), scan) if one.name == check)


@pytest.mark.parametrize(
    ("kvp", "verdict"), [(69.9, "warning"), (70, "pass"), (150, "pass"), (150.1, "warning"), (200, "warning")]
)
def test_tube_voltage(kvp, verdict):
    assert of_scan("kvp", even_grid(), scan=replace(GOOD, kvp=kvp)) == verdict


@pytest.mark.parametrize(("age_years", "verdict"), [(15.9, "warning"), (16, "pass"), (120, "pass"), (121, "warning")])
def test_age(age_years, verdict):
    assert of_scan("age", even_grid(), scan=replace(GOOD, age_years=age_years)) == verdict


@pytest.mark.parametrize(
    ("slices", "verdict"),
    [(4, "refusal"), (5, "warning"), (9, "warning"), (10, "pass"), (1000, "pass"), (1001, "warning")],
)
def test_few_and_many_slices(slices, verdict):
    assert of_scan("slice count", even_grid(slices)) == verdict


@pytest.mark.parametrize(
    ("between_mm", "verdict"),
    [(0.49, "warning"), (0.5, "pass"), (10, "pass"), (10.1, "warning"), (20, "warning"), (20.1, "refusal")],
)
def test_slice_spacing(between_mm, verdict):
    scan = replace(GOOD, thickness_mm=None)
    assert of_scan("slice spacing", even_grid(spacing_mm=(between_mm, 0.5, 0.5)), scan=scan) == verdict


@pytest.mark.parametrize(("thickness_mm", "verdict"), [(3.75, "pass"), (3.74, "warning")])
def test_how_much_of_the_way_between_slices_their_thickness_covers(thickness_mm, verdict):
    assert of_scan("slice spacing", even_grid(), scan=replace(GOOD, thickness_mm=thickness_mm)) == verdict


@pytest.mark.parametrize(
    ("gap_mm", "usual_mm", "verdict"),
    [(7.5, 5, "pass"), (7.6, 5, "warning"), (20, 15, "pass"), (20.1, 15, "refusal"), (20, 5, "warning")],
)
def test_a_gap_beside_its_neighbours(gap_mm, usual_mm, verdict):
    distances = np.full(20, float(usual_mm))
    distances[10] = gap_mm
    grid = even_grid(21)
    origins = grid.origins_mm.copy()
    origins[:, 2] = np.concatenate([[0], np.cumsum(distances)])
    assert of_scan("gaps", replace(grid, origins_mm=origins)) == verdict


def turned(degrees: float) -> SliceGrid:
    """A stack whose planes are turned about the patient's left-right axis, sheared by nothing."""
    angle = np.radians(degrees)
    affine = axial_affine((5.0, 0.5, 0.5), (30, 512, 512))
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return SliceGrid.from_affine(turn @ affine, 30)


def sheared(degrees: float) -> SliceGrid:
    """Axial slices that a gantry tilted by so much has shifted along the patient."""
    affine = axial_affine((5.0, 0.5, 0.5), (30, 512, 512))
    affine[1, 0] = 5.0 * np.tan(np.radians(degrees))
    return SliceGrid.from_affine(affine, 30)


@pytest.mark.parametrize(
    ("degrees", "verdict"), [(29.9, "pass"), (30.1, "warning"), (44.9, "warning"), (45.1, "refusal")]
)
def test_off_axial(degrees, verdict):
    assert of_scan("orientation", turned(degrees)) == verdict


@pytest.mark.parametrize(("degrees", "verdict"), [(29.9, "pass"), (30.1, "warning")])
def test_gantry_tilt(degrees, verdict):
    assert of_scan("orientation", sheared(degrees)) == verdict


@pytest.mark.parametrize(
    ("size", "pixel_mm", "verdict"),
    [
        (512, 150 / 512, "pass"), (512, 149 / 512, "warning"), (512, 350 / 512, "pass"), (512, 351 / 512, "warning"),
        (128, 200 / 128, "pass"), (127, 200 / 127, "warning"), (64, 200 / 64, "warning"), (63, 200 / 63, "refusal"),
        (4096, 200 / 4096, "pass"), (4097, 200 / 4097, "warning"),
    ],
)  # fmt: skip
def test_field_of_view_and_matrix(size, pixel_mm, verdict):
    grid = even_grid(spacing_mm=(5.0, pixel_mm, pixel_mm), size=size)
    assert of_scan("field of view", grid, size) == verdict


def test_a_scout_is_known_by_any_of_its_words():
    for words in (
        ("LOCALIZER", "ORIGINAL", "PRIMARY"),
        ("ORIGINAL", "SCOUT", "AXIAL"),
        ("ORIGINAL", "PRIMARY", "CT_TOPOGRAM"),
    ):
        assert of_scan("image type", even_grid(), scan=replace(GOOD, image_type=words)) == "refusal"


def test_a_refusal_is_graver_than_a_warning_than_the_unknown_than_a_pass():
    assert graver("warning", "refusal") == graver("refusal", "warning") == "refusal"
    assert graver("pass", "warning", "not known") == "warning"
    assert graver("not known", "pass") == "not known"


@pytest.mark.parametrize(
    ("hu", "field", "counts"),
    [
        (-701, "air_share", True), (-699, "air_share", False), (301, "bone_share", True), (299, "bone_share", False),
        (-1101, "padding_share", True), (-1099, "padding_share", False), (3001, "metal_ml", True),
        (2999, "metal_ml", False),
    ],
)  # fmt: skip
def test_what_counts_as_air_bone_padding_and_metal(hu, field, counts):
    voxels = np.full((6, 16, 16), 40, np.float32)
    voxels[2, 4:8, 4:8] = hu
    study = Volume(voxels, SliceGrid.from_affine(axial_affine((5.0, 1.0, 1.0), voxels.shape), 6))
    assert (getattr(measure_values(study), field) > 0) == counts
