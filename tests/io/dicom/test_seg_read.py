"""References as SEG objects: ours and highdicom's, of every geometry, on the slices they refer to; damaged and odd."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from bleedmap.errors import InputError
from bleedmap.evaluation.studies.find import Case, Places, find_cases
from bleedmap.evaluation.studies.references import read_case
from bleedmap.io.dicom.producer import write_dicom
from bleedmap.io.dicom.read import read_series, scan
from bleedmap.io.dicom.seg import make_mask_segmentation
from bleedmap.io.dicom.seg_read import read_segmentation
from bleedmap.io.dicom.series import DicomSeries
from bleedmap.phantom.dicom import CtOptions, ct_instances
from bleedmap.window import BRAIN
from dicom_result_studies import GRIDS, LESIONS, SHAPE, TURNS, grid_of, labels_of, producer, results_of, series_of
from dicom_studies import SPACING_MM, even_grid, volume_on

HEMORRHAGE = Code("50960005", "SCT", "Hemorrhage")


def written(folder: Path, instance: Dataset) -> Path:
    path = folder / f"{instance.SOPInstanceUID}.dcm"
    write_dicom(path, instance)
    return path


def ours(folder: Path, series: DicomSeries, labels: np.ndarray, seed: int = 0) -> Path:
    return written(folder, make_mask_segmentation(series, labels, LESIONS[: int(labels.max())], producer(seed)))


def by_highdicom(
    folder: Path, sources: list[Dataset], pixels: np.ndarray, segments: dict[str, Code], **options: object
) -> Path:
    """A reader's SEG: a segment for each name, straight from highdicom; `pixels` (slice, row, column[, segment])."""
    described = [
        hd.seg.SegmentDescription(
            number, name, codes.SCT.MorphologicallyAbnormalStructure, kind, hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, (name, kind) in enumerate(segments.items(), 1)
    ]  # fmt: skip
    kind = options.pop("kind", hd.seg.SegmentationTypeValues.BINARY)
    made = hd.seg.Segmentation(
        sources, pixels, kind, described, generate_uid(), 100, generate_uid(), 1, "a viewer", "its model", "1", "7",
        **options,
    )  # fmt: skip
    path = folder / f"{made.SOPInstanceUID}.dcm"
    made.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("turn", TURNS[::3])
def test_ours_comes_back(tmp_path: Path, kind: str, turn):
    series, _ = series_of(grid_of(kind), turn)
    labels = labels_of(len(series.volume.grid))
    read = read_segmentation(ours(tmp_path, series, labels))
    assert np.array_equal(read.on(series), labels > 0)
    assert len(read.hemorrhage) == 2
    assert read.series == {series.headers[0].SeriesInstanceUID}
    assert "a program outlined it" in " ".join(read.notes)


def test_ours_of_a_multi_frame_series_and_without_a_lesion(tmp_path: Path):
    series, _ = series_of(grid_of("upright"), TURNS[5], multi_frame=True)
    labels = labels_of(SHAPE[0])
    assert np.array_equal(read_segmentation(ours(tmp_path, series, labels)).on(series), labels > 0)
    none = read_segmentation(ours(tmp_path, series, np.zeros_like(labels)))
    assert none.hemorrhage == (1,)
    assert not none.on(series).any()
    fractional = written(tmp_path, results_of(series, labels).probability)
    assert np.array_equal(read_segmentation(fractional).on(series), labels > 0)  # 0.8 in lesions, 0.123 outside


def made(seed: int = 0) -> list[Dataset]:
    """Instances of a series with a tilted gantry, stored transposed and flipped; all of it tissue, as a mask needs."""
    grid = even_grid()
    shift = np.outer(np.arange(len(grid)) * SPACING_MM[0], (0, np.tan(np.radians(15)), 0))
    volume = volume_on(replace(grid, origins_mm=grid.origins_mm + shift), seed=seed)
    tissue = replace(volume, hu=volume.hu % 100)
    return ct_instances(tissue, turn=TURNS[6], options=CtOptions(seed=seed, reverse_numbers=True))


@pytest.fixture
def study(tmp_path: Path) -> tuple[Path, list[Dataset], DicomSeries]:
    """A CT series in a folder, its instances, and as it is read."""
    instances, folder = made(), tmp_path / "study"
    folder.mkdir()
    for one in instances:
        written(folder, one)
    return folder, instances, read_series(scan(folder))


def two_lesions(series: DicomSeries) -> np.ndarray:
    """(slice, row, column) uint8: two lesions without any symmetry."""
    labels = np.zeros(series.volume.hu.shape, np.uint8)
    labels[2:5, 3:9, 5:7] = labels[4, 4:12, 5:20] = 1
    labels[4, 30:32, 3] = labels[-1, 20:25, 29:31] = 2
    return labels


def in_files_order(series: DicomSeries, instances: list[Dataset], mask: np.ndarray) -> np.ndarray:
    """A mask in the standard view -> stored planes in the order of the instances."""
    stored = series.as_stored(mask)
    uids = [header.SOPInstanceUID for header in series.headers]
    return np.stack([stored[uids.index(one.SOPInstanceUID)] for one in instances])


def test_highdicoms_of_several_segments(tmp_path: Path, study):
    _, instances, series = study
    labels = two_lesions(series)
    brain = np.ones_like(labels)
    stacked = np.stack(
        [in_files_order(series, instances, one.astype(np.uint8)) for one in (labels == 1, labels == 2, brain)], axis=-1
    )
    names = {"EDH left": codes.SCT.Tissue, "second": HEMORRHAGE, "Brain": codes.SCT.Brain}
    read = read_segmentation(by_highdicom(tmp_path, instances, stacked, names))
    assert read.hemorrhage == (1, 2)
    assert np.array_equal(read.on(series), labels > 0)
    assert read.notes == ("Segments that are no hemorrhage were left out: Brain.",)


def test_a_label_map(tmp_path: Path, study):
    _, instances, series = study
    labels = two_lesions(series)
    names = {"hematoma": codes.SCT.Tissue, "perihematomal edema": codes.SCT.Edema}
    pixels = in_files_order(series, instances, labels)
    path = by_highdicom(tmp_path, instances, pixels, names, kind=hd.seg.SegmentationTypeValues.LABELMAP)
    assert np.array_equal(read_segmentation(path).on(series), labels == 1)


def changed(path: Path, change: Callable[[Dataset], None]) -> Path:
    one = dcmread(path)
    change(one)
    one.save_as(path, enforce_file_format=True)
    return path


def without_references(one: Dataset) -> None:
    for frame in one.PerFrameFunctionalGroupsSequence:
        frame.pop("DerivationImageSequence", None)


def without_places(one: Dataset) -> None:
    for frame in one.PerFrameFunctionalGroupsSequence:
        frame.pop("PlanePositionSequence", None)


def moved(one: Dataset) -> None:
    for frame in one.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0]
        place.ImagePositionPatient = [float(place.ImagePositionPatient[0]) + 3, *place.ImagePositionPatient[1:]]


def moved_without_references(one: Dataset) -> None:
    moved(one)
    without_references(one)


def turned(one: Dataset) -> None:
    shared = one.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    shared.ImageOrientationPatient = [-float(value) for value in shared.ImageOrientationPatient]


def coarser(one: Dataset) -> None:
    one.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [1, 1]


def cut_short(one: Dataset) -> None:
    one.PixelData = one.PixelData[:10]


def too_many_frames(one: Dataset) -> None:
    one.NumberOfFrames = 900_000


@pytest.mark.parametrize("change", [without_references, without_places])
def test_a_frame_is_placed_by_its_reference_or_by_its_place(tmp_path: Path, study, change):
    _, _, series = study
    labels = two_lesions(series)
    path = changed(ours(tmp_path, series, labels), change)
    assert np.array_equal(read_segmentation(path).on(series), labels > 0)


@pytest.mark.parametrize(("change", "said"), [
    (moved, r"lies 3\.00 mm from it"), (moved_without_references, "marked frames lie on no slice"),
    (turned, "run another way"), (coarser, "pixels of 1 × 1 mm"), (cut_short, "pixels that cannot be read"),
    (too_many_frames, "900000 frames"),
])  # fmt: skip
def test_frames_that_do_not_fit_are_refused(tmp_path: Path, study, change, said: str):
    _, _, series = study
    path = changed(ours(tmp_path, series, two_lesions(series)), change)
    with pytest.raises(InputError, match=said) as refused:
        read_segmentation(path).on(series)
    assert refused.value.subject == str(path)


def test_a_seg_of_other_pixels_is_refused(tmp_path: Path, study):
    _, _, series = study
    other, _ = series_of(grid_of("upright"), TURNS[0])
    path = ours(tmp_path, other, labels_of(len(other.volume.grid)))
    with pytest.raises(InputError, match="frames of 25 × 31 pixels"):
        read_segmentation(path).on(series)


def test_a_study_is_found_with_its_seg_and_read(tmp_path: Path, study):
    folder, _, series = study
    labels = two_lesions(series)
    masks = tmp_path / "masks"
    masks.mkdir()
    ours(masks, series, labels)
    stranger, _ = series_of(grid_of("upright"), seed=5)
    ours(masks, stranger, labels_of(len(stranger.volume.grid)), seed=1)
    (case,) = find_cases(Places(folder, masks, tmp_path / "out", "unknown")).cases
    assert (case.kind, len(case.images), len(case.masks)) == ("DICOM", len(labels), 1)
    read = read_case(case, BRAIN)
    assert np.array_equal(read.mask, labels > 0)
    left = find_cases(Places(folder, masks, tmp_path / "out", "unknown")).left_out
    assert [one.reason for one in left] == ["a SEG object of a study that is not in the folder"]


def test_segs_beside_their_series(tmp_path: Path, study):
    folder, instances, series = study
    labels = two_lesions(series)
    for number in (1, 2):  # a SEG for each lesion
        pixels = in_files_order(series, instances, (labels == number).astype(np.uint8))
        by_highdicom(folder, instances, pixels, {f"bleed {number}": codes.SCT.Tissue})
    (case,) = find_cases(Places(tmp_path / "study", None, tmp_path / "out", "unknown")).cases
    read = read_case(case, BRAIN)
    assert np.array_equal(read.mask, labels > 0)
    assert "The hemorrhage of 2 SEG objects was united." in read.notes


def test_the_series_that_was_outlined_is_read_among_others(tmp_path: Path, study):
    folder, _, series = study
    labels = two_lesions(series)
    ours(folder, series, labels)
    for one in made(seed=3):  # of the same study, and as good to read
        one.StudyInstanceUID, one.PatientID = series.headers[0].StudyInstanceUID, series.headers[0].PatientID
        one.SeriesNumber = 1
        written(folder, one)
    (case,) = find_cases(Places(folder, None, tmp_path / "out", "unknown")).cases
    read = read_case(case, BRAIN)
    assert read.study.dicom.headers[0].SeriesInstanceUID == series.headers[0].SeriesInstanceUID
    assert np.array_equal(read.mask, labels > 0)
    own = series.headers[0].SeriesInstanceUID
    others = tuple(one for one in case.images if dcmread(one).SeriesInstanceUID != own)
    with pytest.raises(InputError, match="none of the 1 that the study's files hold"):
        read_case(replace(case, images=others), BRAIN)


def test_no_hemorrhage_named_is_not_no_hemorrhage(tmp_path: Path, study):
    folder, instances, series = study
    pixels = in_files_order(series, instances, (two_lesions(series) > 0).astype(np.uint8))
    path = by_highdicom(tmp_path, instances, pixels, {"Segment_1": codes.SCT.Tissue})
    images = tuple(one for one in folder.iterdir() if one != path)
    with pytest.raises(InputError, match=r"no segment of hemorrhage \(segments: Segment_1\)"):
        read_case(Case("study", "DICOM", images, (path,)), BRAIN)


def test_a_study_without_a_seg(tmp_path: Path, study):
    folder, _, _ = study
    with pytest.raises(InputError, match="1 × no SEG object"):
        find_cases(Places(folder, None, tmp_path / "out", "unknown"))
    (case,) = find_cases(Places(folder, None, tmp_path / "out", "lesion-free")).cases
    assert not read_case(case, BRAIN).mask.any()
