"""What divides no scan is joined and told; what is two scans never is."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pydicom import Dataset
from pydicom.uid import generate_uid

from bleedmap.errors import InputError
from bleedmap.evaluation.studies.find import Places, find_cases
from bleedmap.evaluation.studies.references import read_case
from bleedmap.geometry import SliceGrid
from bleedmap.io.dicom.seg import make_mask_segmentation
from bleedmap.io.dicom.series import DicomSeries
from bleedmap.phantom.dicom import CtOptions
from bleedmap.phantom.dicom_enhanced import enhanced_ct
from bleedmap.phantom.scan import ScanGeometry
from bleedmap.volume import Volume
from bleedmap.window import Window
from dicom_result_studies import LESIONS, producer
from dicom_studies import SHAPE, SPACING_MM, assert_same, even_grid, read, series, volume_on, write

SCAN = ScanGeometry(slices=SHAPE[0], spacing_mm=5.0, shape=SHAPE[1:], pixel_mm=SPACING_MM[1:])
WHOLE = volume_on(even_grid())
GE_MM = (0.0, 4.0, 8.0, 12.0, 16.0, 17.1, 24.5, 31.9, 39.3, 46.7, 54.1, 61.5)  # two blocks, as real scanners lay them

Change = Callable[[Dataset], None]


def set_to(keyword: str, value: object) -> Change:
    return lambda one: setattr(one, keyword, value)


def drop(keyword: str) -> Change:
    return lambda one: one.pop(keyword, None) and None


def own_uid(keyword: str) -> Change:
    return lambda one: setattr(one, keyword, generate_uid())


def every(step: int, start: int = 0) -> list[int]:
    return list(range(start, SHAPE[0], step))


def at_heights(*heights_mm: float, thickness_mm: float = 5.0) -> SliceGrid:
    return replace(SCAN, positions_mm=tuple(heights_mm), thickness_mm=thickness_mm).grid()


def changed(where: list[int], change: Change, volume: Volume = WHOLE) -> list[Dataset]:
    instances = series(volume)
    for at in where:
        change(instances[at])
    return instances


def part_of(volume: Volume, slices: list[int]) -> Volume:
    return Volume(volume.hu[slices], replace(volume.grid, origins_mm=volume.grid.origins_mm[slices]))


def assert_joined(found: DicomSeries, expected: Volume = WHOLE, *words: str) -> None:
    """All slices are read, none counts as unread, and a note says what was joined."""
    assert_same(found, expected)
    assert found.acquisition.unread == ""
    assert [line.chosen for line in found.choice] == [True]
    told = [note for note in found.notes if "read as one scan" in note]
    assert len(told) == 1, found.notes
    for word in words:
        assert word in told[0]


HALVES = {"lower half": every(1)[:6], "every other": every(2), "one": [4], "all but one": [*range(11)]}
HARMLESS = {
    "no frame of reference": (drop("FrameOfReferenceUID"), "Frame of Reference UID (0020,0052)"),
    "empty frame of reference": (set_to("FrameOfReferenceUID", ""), "missing in"),
    "another frame of reference": (set_to("FrameOfReferenceUID", "1.2.3"), "2 values in 12 images"),
    "derived": (set_to("ImageType", ["DERIVED", "PRIMARY", "AXIAL"]), "Image Type (0008,0008) value 1: "),
    "derived, secondary": (set_to("ImageType", ["DERIVED", "SECONDARY", "AXIAL"]), "DERIVED in"),
    "no image type": (drop("ImageType"), "missing in"),
    "another value 3": (set_to("ImageType", ["ORIGINAL", "PRIMARY", "OTHER"]), "value 3: "),
    "a series of their own": (set_to("SeriesInstanceUID", "1.2.3"), "Series Instance UID (0020,000E)"),
    "spacing": (set_to("PixelSpacing", ["0.6001", "0.49999"]), "Pixel Spacing (0028,0030): "),
}  # fmt: skip


@pytest.mark.parametrize("where", HALVES)
@pytest.mark.parametrize("what", HARMLESS)
def test_what_divides_no_scan(tmp_path, what, where):
    change, words = HARMLESS[what]
    found = read(write(tmp_path, changed(HALVES[where], change)))
    if what == "spacing":
        assert len(found.volume.hu) == 12
        assert words in found.notes[0]
    else:
        assert_joined(found, WHOLE, words)


@pytest.mark.parametrize(
    "keywords",
    [["FrameOfReferenceUID"], ["SeriesInstanceUID"], ["FrameOfReferenceUID", "SeriesInstanceUID"]],
    ids="+".join,
)
@pytest.mark.parametrize("numbers", [False, True], ids=["one number", "own numbers"])
@pytest.mark.parametrize(
    "grid",
    [even_grid(), replace(SCAN, tilt_deg=20.0).grid(), replace(SCAN, missing=(3, 7)).grid(), at_heights(*GE_MM)],
    ids=["even", "tilted", "missing", "two blocks"],
)
def test_a_value_of_its_own_in_each_file(tmp_path, keywords, numbers, grid):
    whole = volume_on(grid)
    instances = series(whole)
    for number, one in enumerate(instances):
        for keyword in keywords:
            own_uid(keyword)(one)
        one.SeriesNumber = number if numbers else 2
    assert_joined(read(write(tmp_path, instances)), whole, f"{len(grid)} values in {len(grid)} images")


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("PixelSpacing", (["0.6", "0.5"], ["0.60", "0.500000"])),
        ("ImageOrientationPatient", (["1", "0", "0", "0", "1", "0"], ["1.0", "0.0", "-0.0", "0", "0.999999", "0"])),
        ("SliceThickness", ("5", "5.000")), ("SliceThickness", ("5", "4.999")), ("SliceThickness", ("5", "")),
        ("RescaleIntercept", ("-1024", "-1024.0")), ("RescaleSlope", ("1", "1.000000")),
        ("RescaleSlope", ("1", "1.00000001")),
    ],
)  # fmt: skip
def test_numbers_written_with_other_digits_are_not_told(tmp_path, keyword, values):
    instances = series()
    for number, one in enumerate(instances):
        setattr(one, keyword, values[number % 2])
    found = read(write(tmp_path, instances))
    assert np.allclose(found.volume.hu, WHOLE.hu, atol=0.01)
    assert (found.acquisition.unread, found.notes) == ("", ())


PARTS = {
    "halves": [every(1)[:6], every(1)[6:]], "interleaved": [every(3), every(3, 1), every(3, 2)],
    "uneven": [[0], [1, 2, 3, 4, 5, 6, 7], [8, 9], [10, 11]], "one each": [[at] for at in range(12)],
}  # fmt: skip


def enhanced_parts(parts: list[list[int]], *, concatenated: bool, whole: Volume = WHOLE) -> list[Dataset]:
    instances = []
    for number, part in enumerate(parts, start=1):
        one = enhanced_ct(part_of(whole, part), options=CtOptions())
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        one.InstanceNumber = number
        if concatenated:
            one.ConcatenationUID, one.InConcatenationNumber = "1.2.3", number
            one.InConcatenationTotalNumber = len(parts)
        instances.append(one)
    return instances


@pytest.mark.parametrize("concatenated", [True, False])
@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("own_series", [True, False])
def test_several_multi_frame_instances(tmp_path, parts, concatenated, own_series):
    instances = enhanced_parts(PARTS[parts], concatenated=concatenated)
    for one in instances if own_series else []:
        one.SeriesInstanceUID = generate_uid()
    found = read(write(tmp_path, instances))
    assert_joined(found, WHOLE, "SOP Instance UID (0008,0018) of multi-frame images")
    for at in range(12):
        part = next(number for number, one in enumerate(PARTS[parts]) if at in one)
        assert found.headers[at].SOPInstanceUID == instances[part].SOPInstanceUID
        assert found.frames[at] == 1 + PARTS[parts][part].index(at)


def test_uneven_slices_that_lost_their_frame_of_reference(tmp_path):
    """The gaps of real scans are kept as they are where nothing speaks of two scans."""
    whole = volume_on(at_heights(0, 1.9, 7.3, 12, 16.4, 18, 24.4, 31, 36.5, 40, 47, 52))
    assert_joined(read(write(tmp_path, changed(every(2), drop("FrameOfReferenceUID"), whole))), whole)


@pytest.mark.parametrize("one_series", [True, False])
@pytest.mark.parametrize(("below", "above"), [((4.0, 4), (7.0, 7)), ((2.5, 2.5), (5.0, 5)), ((5.0, 5), (2.5, 2.5))])
@pytest.mark.parametrize(("kvp", "kernel"), [(120, "H31s"), (140, "H40s")])
def test_blocks_of_two_thicknesses_one_above_the_other(tmp_path, below, above, one_series, kvp, kernel):
    """Skull base and vertex, as sequential scanners scan them, in one series or two: one head."""
    lower = [at * below[1] for at in range(6)]
    upper = [lower[-1] + (below[1] + above[1]) / 2 + at * above[1] for at in range(6)]
    whole = volume_on(at_heights(*lower, *upper))
    instances = series(whole)
    for number, one in enumerate(instances):
        one.SliceThickness = below[0] if number < 6 else above[0]
        one.KVP, one.ConvolutionKernel = (kvp, kernel) if number < 6 else (120, "H31s")
        if number >= 6 and not one_series:
            one.SeriesInstanceUID, one.SeriesNumber, one.SeriesDescription = "1.2.3", 3, "Head vertex"
    found = read(write(tmp_path, instances))
    assert_same(found, whole)
    assert found.acquisition.unread == ""
    assert one_series or "Series Instance UID" in found.notes[0]
    if not one_series:  # a series that is asked for is read alone
        alone = read(tmp_path, series=3)
        assert_same(alone, part_of(whole, every(1)[6:]))


def two(first: Volume, second: Volume, change: Change, *, one_series: bool = True) -> list[Dataset]:
    """Two scans, the second one changed; of one series or two."""
    others = series(second)
    for one in others:
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        if not one_series:
            one.SeriesInstanceUID, one.SeriesNumber = "1.2.3", 3
        change(one)
    return [*series(first), *others]


OTHER = {
    "another frame of reference": (set_to("FrameOfReferenceUID", "1.2.3"), "Frame of Reference UID"),
    "derived": (set_to("ImageType", ["DERIVED", "SECONDARY", "AXIAL"]), "Image Type (0008,0008) value 1 DERIVED"),
}  # fmt: skip


@pytest.mark.parametrize("one_series", [True, False])
@pytest.mark.parametrize("what", OTHER)
@pytest.mark.parametrize("shift_mm", [0.0, 1.7, 2.5, 3.3])
def test_two_scans_of_the_same_heights_are_never_one(tmp_path, what, one_series, shift_mm):
    """Two times, kernels, contrasts, reconstructions or a moved patient; at the same places or between them."""
    change, words = OTHER[what]
    grid = even_grid()
    moved = replace(grid, origins_mm=grid.origins_mm + np.array([0, 0, shift_mm]))
    second = part_of(volume_on(moved, seed=5), every(1)[:11])
    found = read(write(tmp_path, two(WHOLE, second, change, one_series=one_series)))
    assert_same(found, WHOLE)
    if one_series:
        assert words in found.notes[0]


@pytest.mark.parametrize("what", OTHER)
@pytest.mark.parametrize("gap_mm", [3.2, 6.6, 12.0])
def test_parts_with_a_gap_that_is_no_multiple(tmp_path, what, gap_mm):
    change, words = OTHER[what]
    heights = [*(5.0 * at for at in range(7)), *(30 + gap_mm + 5.0 * at for at in range(5))]
    instances = series(volume_on(at_heights(*heights)))
    for one in instances[7:]:
        change(one)
    found = read(write(tmp_path, instances))
    assert len(found.volume.hu) == 7
    assert "5 slices of the series at other places differ" in found.acquisition.unread
    assert words in found.acquisition.unread
    assert f"{gap_mm:.2f} mm lie between them, where 5.00 mm is usual" in found.acquisition.unread


def test_a_patient_who_moved_sideways(tmp_path):
    instances = changed(every(1)[7:], set_to("FrameOfReferenceUID", "1.2.3"))
    for one in instances[7:]:
        one.ImagePositionPatient = [one.ImagePositionPatient[0] + 6, *one.ImagePositionPatient[1:]]
    found = read(write(tmp_path, instances))
    assert len(found.volume.hu) == 7
    assert "shifted in plane by 6.0 mm" in found.acquisition.unread


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_to("ConvolutionKernel", "H70h"), "kernel (0018,1210) H31s and H70h"),
        (set_to("ContrastBolusAgent", "Iohexol"), "contrast agent (0018,0010) Iohexol and none"),
        (set_to("KVP", "80"), "KVP (0018,0060) 120 kV and 80 kV"),
    ],
)
def test_slices_between_others_that_were_made_otherwise(tmp_path, change, words):
    """Every other slice is of another make and says so by its image type too."""
    instances = changed(every(2), OTHER["derived"][0])
    for one in instances[::2]:
        change(one)
    found = read(write(tmp_path, instances))
    assert len(found.volume.hu) == 6
    assert words in found.notes[0]


def test_two_kernels_whose_every_file_is_a_series(tmp_path):
    soft, bone = series(WHOLE), series(volume_on(even_grid(), seed=7), series_number=3, kernel="H70h")
    for one in (*soft, *bone):
        one.SeriesInstanceUID = generate_uid()
        one.SeriesNumber = 2
    found = read(write(tmp_path, [*soft, *bone]))
    assert_same(found, WHOLE)
    assert [line.instances for line in found.choice] == [12, 12]
    assert found.choice[1].reason == "bone or lung kernel (H70h)"


def test_parts_scanned_hours_apart(tmp_path):
    instances = changed(every(1)[6:], set_to("FrameOfReferenceUID", "1.2.3"))
    for number, one in enumerate(instances):
        one.AcquisitionDate, one.AcquisitionTime = "20240102", "101500" if number < 6 else "143000"
    found = read(write(tmp_path, instances))
    assert len(found.volume.hu) == 6
    assert "acquired 4.2 hours apart" in found.notes[0]


def test_copies_without_a_frame_of_reference_are_left_out(tmp_path):
    copies = changed(every(1), drop("FrameOfReferenceUID"))[3:8]
    found = read(write(tmp_path, [*series(), *copies]))
    assert_same(found, WHOLE)
    assert "5 doubled slices were left out: same place, same pixels." in found.notes


@pytest.mark.parametrize("number", ["", "3"])
def test_acquisition_numbers_that_alternate_divide_nothing(tmp_path, number):
    """As where every other file went through another program; two whole passes are still told apart."""
    instances = changed(every(2), set_to("AcquisitionNumber", number))
    found = read(write(tmp_path, instances))
    assert_same(found, WHOLE)
    assert (found.notes, found.acquisition.unread) == ((), "")


def test_another_series_at_another_angle_refuses_nothing(tmp_path):
    tilted = series(volume_on(replace(SCAN, turn_deg=(12.0, 0.0, 0.0)).grid(), seed=3), series_number=3)
    found = read(write(tmp_path, [*series(), *tilted]))
    assert_same(found, WHOLE)
    assert found.acquisition.unread == ""


@pytest.mark.parametrize("stated", ["InConcatenationTotalNumber", "InConcatenationNumber"])
def test_a_concatenation_of_which_a_part_is_missing(tmp_path, stated):
    """The rest is read, and the part counts as unread."""
    instances = enhanced_parts(PARTS["uneven"], concatenated=True)
    if stated == "InConcatenationNumber":
        for one in instances:
            del one.InConcatenationTotalNumber
    found = read(write(tmp_path, [*instances[:2], instances[3]]))
    assert len(found.volume.hu) == 10
    assert found.acquisition.unread == "the files state 4 parts of a concatenation (0020,9163), 3 are read"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (set_to("PixelSpacing", ["0.7", "0.6"]), "Pixel Spacing (0028,0030) 0.7 × 0.6 mm, not 0.6 × 0.5 mm"),
        (set_to("FrameOfReferenceUID", "1.2.3"), "another Frame of Reference UID (0020,0052)"),
    ],
)
def test_a_series_that_goes_on_and_cannot_be_joined(tmp_path, change, words):
    instances = changed(every(1)[7:], change)
    for one in instances[7:]:
        one.SeriesInstanceUID, one.SeriesNumber, one.SeriesDescription = "1.2.3", 3, "Head vertex"
    found = read(write(tmp_path, instances))
    assert len(found.volume.hu) == 7
    assert found.acquisition.unread.startswith("5 slices of series 3 go on where it ends, and differ (")
    assert words in found.acquisition.unread
    assert read(tmp_path, series=2).acquisition.unread == ""


def test_a_series_that_goes_on_and_overlaps(tmp_path):
    """Blocks that share a slice are not joined; that the other goes on is told all the same."""
    lower, upper = series()[:7], series()[5:]
    for number, one in enumerate(upper):
        one.SeriesInstanceUID, one.SeriesNumber, one.SeriesDescription = "1.2.3", 3, "Head vertex"
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number + 1}"
    found = read(write(tmp_path, [*lower, *upper]))
    assert len(found.volume.hu) == 7
    assert found.acquisition.unread.startswith("7 slices of series 3 go on where it ends, and differ (")


def test_a_study_uid_of_its_own_in_each_file(tmp_path):
    instances = changed(every(1), own_uid("StudyInstanceUID"))
    with pytest.raises(InputError, match=r"12 CT images, each with a Study Instance UID \(0020,000D\) of its own"):
        read(write(tmp_path, instances))


@pytest.mark.parametrize("own", ["series", "instances"])
def test_a_segmentation_of_a_joined_scan_is_read_back_as_reference(tmp_path, own):
    tissue = replace(WHOLE, hu=np.full_like(WHOLE.hu, 40))  # a mask in air or bone would be refused
    instances = series(tissue) if own == "series" else enhanced_parts(PARTS["halves"], concatenated=False, whole=tissue)
    for one in instances:
        one.SeriesInstanceUID = generate_uid()
    found = read(write(tmp_path, instances))
    labels = np.zeros(WHOLE.hu.shape, np.uint8)
    labels[2:9, 5:20, 7:30] = 1
    write(tmp_path, [make_mask_segmentation(found, labels, LESIONS[:1], producer())])
    (case,) = find_cases(Places(tmp_path, None, tmp_path / "out", "unknown")).cases
    assert np.array_equal(read_case(case, Window(40, 120)).mask, labels > 0)


@settings(
    max_examples=25,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
)
@given(data=st.data())
def test_any_mixture_of_what_divides_nothing(tmp_path_factory, data):
    """However slices of a scan, tilted or with slices missing, differ in it, they are one stack, or it is told."""
    keep = data.draw(st.lists(st.integers(0, 11), min_size=8, unique=True).map(sorted))
    whole = part_of(volume_on(replace(SCAN, tilt_deg=data.draw(st.sampled_from([0.0, 17.0]))).grid()), keep)
    instances = series(whole)
    for one in instances:
        for change in data.draw(
            st.lists(
                st.sampled_from(
                    [
                        drop("FrameOfReferenceUID"), drop("ImageType"), own_uid("SeriesInstanceUID"),
                        set_to("ImageType", ["DERIVED", "PRIMARY", "AXIAL"]),
                        set_to("ImageType", ["ORIGINAL", "SECONDARY", "OTHER"]),
                    ]
                ),
                max_size=2,
            )
        ):  # fmt: skip
            change(one)
    found = read(write(tmp_path_factory.mktemp("mixed"), instances))
    if len(found.volume.grid) < len(whole.grid):  # where missing slices leave it open whether the parts fit
        assert found.acquisition.unread
        assert len(keep) < 12
        return
    assert_same(found, whole)
