"""SEG, SR and secondary captures: valid, true to the mask and its place, of the source's patient and study."""

import json
import logging
import pkgutil
from copy import deepcopy
from dataclasses import replace

import highdicom as hd
import numpy as np
import pytest
from highdicom import _standard_utils
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from bleedmap.arrays import BoolArray
from bleedmap.errors import InputError
from bleedmap.inference.backends import BackendRecord
from bleedmap.inference.weights import locate
from bleedmap.io.dicom.producer import write_dicom
from bleedmap.io.dicom.seg import make_mask_segmentation
from bleedmap.io.dicom.seg_read import read_segmentation
from bleedmap.io.dicom.series import DicomSeries, copy_patient_and_study
from bleedmap.results.dicom import OWN_SEGMENTS, lesion_measures, write_dicom_results
from bleedmap.results.pictures import words_height
from bleedmap.results.sr import make_measurement_report
from bleedmap.results.standard import LazyObject, parse_on_demand
from bleedmap.study.gate.check import Check
from bleedmap.study.result import Result, summarise_volume
from bleedmap.volume import Mask, ProbabilityMap
from debian_programs import complaints
from dicom_result_studies import (
    GRIDS,
    LESIONS,
    SHAPE,
    SPACING_MM,
    TURNS,
    grid_of,
    labels_of,
    producer,
    results_of,
    series_of,
)

# What dciodvfy may warn of: our own codes.
ACCEPTED = ("<99BLEEDMAP>",)


def unexpected(path) -> list[str]:
    return [line for line in complaints(path) if not any(known in line for known in ACCEPTED)]


def errors_of(path) -> list[str]:
    """Without warnings: of a source that lacks names, dates and numbers they are just."""
    return [line for line in complaints(path) if line.startswith("Error")]


def written(tmp_path, instance: Dataset):
    path = tmp_path / f"{instance.SOPInstanceUID}.dcm"
    write_dicom(path, instance)
    return path


def marked_mm(segmentation: Dataset) -> dict[int, np.ndarray]:
    """Segment -> (pixel, 3) LPS mm of its marked pixels, by PS3.3 C.7.6.2.1.1 from the file's own positions."""
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    along_row, down = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    row_mm, column_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    found: dict[int, list[np.ndarray]] = {}
    frames = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    for frame, groups in zip(frames, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        identified = groups if "SegmentIdentificationSequence" in groups else shared
        number = identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        first = np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        rows, columns = np.nonzero(frame)
        places = first + np.outer(columns * column_mm, along_row) + np.outer(rows * row_mm, down)
        found.setdefault(number, []).append(places)
    return {number: np.concatenate(places) for number, places in found.items()}


def in_order(places: np.ndarray) -> np.ndarray:
    return places[np.lexsort(np.round(places, 3).T)]


@pytest.mark.parametrize("turn", TURNS, ids=lambda turn: "".join("-+"[flag] for flag in vars(turn).values()))
@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("multi_frame", [False, True], ids=["classic", "enhanced"])
def test_the_segmentation_is_the_mask_on_the_original_slices(tmp_path, kind, turn, multi_frame):
    grid = grid_of(kind)
    series, instances = series_of(grid, turn, multi_frame=multi_frame)
    labels = labels_of(len(grid))
    path = written(tmp_path, make_mask_segmentation(series, labels, LESIONS, producer()))
    read = hd.seg.segread(path)
    if multi_frame:
        pixels = read.get_pixels_by_source_frame(
            instances[0].SOPInstanceUID,
            list(series.frames),
            combine_segments=True,
            assert_missing_frames_are_empty=True,
        )
    else:
        uids = [one.SOPInstanceUID for one in instances]
        pixels = read.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    assert np.array_equal(turn.apply(pixels), labels)
    for number, places in marked_mm(dcmread(path)).items():
        truth = grid.to_mm(np.argwhere(labels == number))
        assert np.allclose(in_order(places), in_order(truth), atol=1e-4)


@pytest.mark.parametrize("multi_frame", [False, True], ids=["classic", "enhanced"])
@pytest.mark.parametrize("kind", GRIDS)
@pytest.mark.parametrize("found", [True, False], ids=["positive", "negative"])
def test_every_result_passes_dciodvfy(tmp_path, kind, multi_frame, found):
    grid = grid_of(kind)
    series, _ = series_of(grid, TURNS[3], multi_frame=multi_frame)
    for instance in results_of(series, labels_of(len(grid)) * found).all():
        path = written(tmp_path, instance)
        assert unexpected(path) == [], instance.SeriesDescription


def several_sources(kind: str) -> tuple[DicomSeries, list[Dataset]]:
    """One scan whose slices lie in several series, or in several multi-frame instances; and each slice's header."""
    series, instances = series_of(grid_of("both"), TURNS[3], multi_frame=kind == "enhanced")
    headers = [deepcopy(one) for one in instances]
    for number, one in enumerate(headers):
        part = number // 2 if kind == "enhanced" else number
        if kind != "one series":
            one.SeriesInstanceUID = f"1.2.3.{part}"
        if kind == "enhanced":
            one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"1.2.4.{part}"
        if number % 2:
            del one.FrameOfReferenceUID
    frames = (2, 1, 2, 1, 2, 1) if kind == "enhanced" else None
    return replace(series, headers=tuple(headers), frames=frames), headers


@pytest.mark.parametrize("kind", ["one series", "series each", "enhanced"])
def test_results_of_a_joined_scan_refer_to_each_source(tmp_path, kind):
    series, headers = several_sources(kind)
    results = results_of(series, labels_of(6))
    for instance in results.all():
        assert unexpected(written(tmp_path, instance)) == [], instance.SeriesDescription
    sources = {(one.SeriesInstanceUID, one.SOPInstanceUID) for one in headers}
    listed = {
        (own.SeriesInstanceUID, one.ReferencedSOPInstanceUID)
        for own in results.mask.ReferencedSeriesSequence
        for one in own.ReferencedInstanceSequence
    }
    assert listed == sources
    assert len(results.mask.ReferencedSeriesSequence) == len({uid for uid, _ in sources})
    evidence = {uids[1:3] for uids in results.report.get_evidence()}
    assert evidence == sources | {(results.mask.SeriesInstanceUID, results.mask.SOPInstanceUID)}
    assert results.mask.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
    read = hd.seg.segread(written(tmp_path, results.mask))
    frames = series.frames or [None] * 6
    for index, (header, frame) in enumerate(zip(headers, frames, strict=True)):
        if frame is None:
            pixels = read.get_pixels_by_source_instance([header.SOPInstanceUID], combine_segments=True,
                                                        assert_missing_frames_are_empty=True)  # fmt: skip
        else:
            pixels = read.get_pixels_by_source_frame(header.SOPInstanceUID, [frame], combine_segments=True,
                                                     assert_missing_frames_are_empty=True)  # fmt: skip
        assert np.array_equal(TURNS[3].apply(pixels)[0], labels_of(6)[index])
    for group in hd.sr.srread(written(tmp_path, results.report)).content.get_volumetric_roi_measurement_groups():
        named = group.referenced_segment
        if kind == "one series":
            assert named.source_series_for_segmentation.value == headers[0].SeriesInstanceUID
        else:
            images = {one.referenced_sop_instance_uid for one in named.source_images_for_segmentation}
            assert images == {uid for _, uid in sources}
    own = read_segmentation(written(tmp_path, results.mask))
    assert np.array_equal(own.on(series), labels_of(6) > 0)
    assert own.series == {uid for uid, _ in sources}


def test_positions_are_those_of_the_source_files():
    grid = grid_of("both")
    for turn in TURNS:
        series, instances = series_of(grid, turn)
        positions, orientation, spacing_mm = turn.locate_stored(grid, SHAPE[1:])
        assert np.allclose(positions, [one.ImagePositionPatient for one in instances])
        assert np.allclose(orientation, instances[0].ImageOrientationPatient)
        assert np.allclose(spacing_mm, instances[0].PixelSpacing)
        assert results_of(series, labels_of(6)).mask.Rows == instances[0].Rows


def test_a_segment_a_lesion_coded_and_tracked():
    series, instances = series_of(grid_of("upright"))
    mask = results_of(series, labels_of(6)).mask
    assert mask.SegmentationType == "BINARY"
    assert (mask.Modality, mask.SeriesNumber) == ("SEG", 9001)
    assert [one.SegmentLabel for one in mask.SegmentSequence] == ["Lesion 1", "Lesion 2"]
    for segment in mask.SegmentSequence:
        assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "50960005"
        assert segment.AnatomicRegionSequence[0].CodeValue == "12738006"
        assert segment.SegmentAlgorithmType == "AUTOMATIC"
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert "threshold=0.5" in algorithm.AlgorithmParameters
    referenced = mask.ReferencedSeriesSequence[0]
    assert referenced.SeriesInstanceUID == instances[0].SeriesInstanceUID
    uids = {one.ReferencedSOPInstanceUID for one in referenced.ReferencedInstanceSequence}
    assert uids == {one.SOPInstanceUID for one in instances}


def test_peers_5_no_finding_still_gives_every_result(tmp_path):
    series, _ = series_of(grid_of("uneven"))
    results = results_of(series, labels_of(6) * 0)
    read = hd.seg.segread(written(tmp_path, results.mask))
    assert read.number_of_segments == 1
    assert read.NumberOfFrames == 6
    assert not read.pixel_array.any()
    assert "no hemorrhage outlined" in read.SeriesDescription
    report = hd.sr.srread(written(tmp_path, results.report))
    assert "not detected" in report.SeriesDescription
    assert report.content.get_volumetric_roi_measurement_groups() == []
    (whole,) = report.content.get_image_measurement_groups()
    assert whole.finding_type is None
    (presence,) = whole.get_qualitative_evaluations()
    assert presence.name.value == "1386000"
    assert presence.value.value == "260415000"
    assert [one.value for one in whole.get_measurements(codes.SCT.Volume)] == [0]


def test_probabilities_are_stored_in_255_steps(tmp_path):
    series, instances = series_of(grid_of("tilted"), TURNS[5])
    labels = labels_of(6)
    read = hd.seg.segread(written(tmp_path, results_of(series, labels).probability))
    assert (read.SegmentationType, read.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    uids = [one.SOPInstanceUID for one in instances]
    stored = read.get_pixels_by_source_instance(uids, rescale_fractional=True)[..., 0]
    assert np.abs(TURNS[5].apply(stored) - np.where(labels > 0, 0.8, 0.123)).max() <= 0.5 / 255 + 1e-6


def test_the_report_measures_each_segment(tmp_path):
    series, _ = series_of(grid_of("upright"), multi_frame=True)
    results = results_of(series, labels_of(6))
    report = hd.sr.srread(written(tmp_path, results.report))
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE", "UNVERIFIED", "PRELIMINARY",
    )  # fmt: skip
    assert report.SOPClassUID.name == "Comprehensive 3D SR Storage"
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    # OHIF looks for outlines in what is titled 126000 and shows a black page without; all else it shows as text.
    assert report.ConceptNameCodeSequence[0].CodeValue == "report"
    containers = [one for one in report.iterall() if one.keyword == "ContinuityOfContent"]
    assert [one.value for one in containers] == ["SEPARATE"] * 5  # the report, its measurements, a group each
    (observer,) = report.content.get_observer_contexts()
    assert observer.observer_type == codes.DCM.Device
    assert observer.observer_identifying_attributes.model_name == "test-network"
    groups = report.content.get_volumetric_roi_measurement_groups()
    for number, (group, lesion, segment) in enumerate(
        zip(groups, LESIONS, results.mask.SegmentSequence, strict=True), 1
    ):
        assert group.tracking_uid == segment.TrackingUID
        assert group.tracking_identifier == lesion.label
        assert group.referenced_segment.referenced_sop_instance_uid == results.mask.SOPInstanceUID
        assert group.referenced_segment.referenced_segment_numbers == [number]
        said = {
            (one.name.value, one.derivation and one.derivation.value): (one.value, one.unit.value)
            for one in group.get_measurements()
        }
        expected = {
            ("118565006", None): (round(lesion.volume_ml, 3), "mL"),
            ("probability", "373098007"): (round(100 * lesion.mean_probability, 2), "%"),
            ("probability", "56851009"): (round(100 * lesion.highest_probability, 2), "%"),
        }
        if number == 1:
            expected[("112031", "373098007")] = (61.3, "[hnsf'U]")
            expected[("103339001", None)] = (41.3, "mm")
            expected[("131189007", None)] = (20.5, "mm")
            expected[("121207", None)] = (35.0, "mm")
            expected[("skull-distance", None)] = (3.2, "mm")
            expected[("121221", None)] = (14.772, "mL")
            (estimate,) = group.get_measurements(codes.DCM.VolumeOfEllipsoid)
            assert estimate.method.value == "abc2"
        (site,) = group.finding_sites
        assert (site.laterality and site.laterality.meaning) == ("Left" if number == 1 else None)
        assert said == expected
    (whole,) = report.content.get_image_measurement_groups()
    assert whole.get_qualitative_evaluations()[0].value.value == "260373001"
    assert whole.get_measurements(codes.SCT.Volume)[0].value == 12.846


@pytest.mark.parametrize(
    ("side", "code"),
    [("left", "7771000"), ("right", "24028007"), ("both", "51440002"), ("midline", "130290"), (None, None)],
)
def test_the_report_says_the_side_by_its_code(tmp_path, side, code):
    series, _ = series_of(grid_of("upright"))
    labels = np.minimum(labels_of(6), 1)
    measures = [replace(LESIONS[0], side=side)]
    mask = make_mask_segmentation(series, labels, measures, producer())
    report = make_measurement_report(mask, measures, producer(1), highest_probability=0.9)
    (group,) = hd.sr.srread(written(tmp_path, report)).content.get_volumetric_roi_measurement_groups()
    (site,) = group.finding_sites
    assert (site.laterality and site.laterality.value) == code


def test_the_report_refers_to_all_it_looked_at_and_says_what_it_is():
    series, instances = series_of(grid_of("upright"))
    results = results_of(series, labels_of(6))
    evidence = {uids[2] for uids in results.report.get_evidence()}
    assert evidence == {results.mask.SOPInstanceUID, *(one.SOPInstanceUID for one in instances)}
    texts = [
        item.TextValue for item in results.report.ContentSequence if item.ValueType == "TEXT" and "TextValue" in item
    ]
    assert any("not a medical device" in text for text in texts)
    assert "Slice 3 is 5.7 mm x 0.5 mm - missing..." in texts


def test_pictures_are_stored_as_they_are_with_their_slice():
    grid = grid_of("oblique")
    series, instances = series_of(grid, TURNS[6])
    placed, loose = results_of(series, labels_of(6)).captures
    pictures = np.random.default_rng(1).integers(0, 256, (2, *SHAPE[1:], 3), np.uint8)
    assert np.array_equal(placed.pixel_array, pictures[0])
    assert np.array_equal(loose.pixel_array, pictures[1])
    assert (placed.SeriesInstanceUID, placed.InstanceNumber, loose.InstanceNumber) == (loose.SeriesInstanceUID, 1, 2)
    assert placed.BurnedInAnnotation == "NO"
    assert loose.SourceImageSequence[0].ReferencedSOPInstanceUID == instances[5].SOPInstanceUID
    assert list(placed.PatientOrientation) == ["L", "P"]
    assert np.allclose(placed.PixelSpacing, SPACING_MM[1:])
    assert "PixelSpacing" not in loose


def test_pictures_have_no_place_so_that_no_viewer_takes_them_for_a_volume():
    """OHIF takes what has position, orientation and frame of reference for slices of a volume, colours and all."""
    series, _ = series_of(grid_of("tilted"))
    for one in results_of(series, labels_of(6)).captures:
        for keyword in (
            "FrameOfReferenceUID", "PositionReferenceIndicator", "ImagePositionPatient", "ImageOrientationPatient",
            "SliceLocation", "SliceThickness", "SpacingBetweenSlices",
        ):  # fmt: skip
            assert keyword not in one


def test_patient_and_study_match_the_source():
    series, (source, *_) = series_of(grid_of("upright"))
    results = results_of(series, labels_of(6))
    same = (
        "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "StudyInstanceUID", "StudyID",
        "StudyDate", "StudyTime", "StudyDescription", "AccessionNumber", "ReferringPhysicianName",
    )  # fmt: skip
    for instance in results.all():
        assert {key: instance[key].value for key in same} == {key: source[key].value for key in same}
    assert results.mask.FrameOfReferenceUID == source.FrameOfReferenceUID
    kinds = [(one.SeriesInstanceUID, one.SeriesNumber) for one in results.all()]
    assert [number for _, number in kinds] == [9001, 9002, 9003, 9004, 9004]
    assert len(set(kinds)) == 4
    assert len({one.SOPInstanceUID for one in results.all()}) == 5


def test_the_same_producer_gives_the_same_bytes(tmp_path):
    series, _ = series_of(grid_of("both"))
    for name in "ab":
        (tmp_path / name).mkdir()
        for number, one in enumerate(results_of(series, labels_of(6), producer()).all()):
            write_dicom(tmp_path / name / f"{number}", one)
    for number in range(5):
        assert (tmp_path / "a" / f"{number}").read_bytes() == (tmp_path / "b" / f"{number}").read_bytes()


def with_headers(change) -> tuple:
    """A series whose headers went through `change` and a file, as reading them gives."""
    series, instances = series_of(grid_of("upright"))
    headers = []
    for instance in instances:
        header = deepcopy(instance)
        change(header)
        headers.append(header)
    object.__setattr__(series, "headers", tuple(headers))
    return series, headers


def _bare(header: Dataset) -> None:
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
                    "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID", "PatientAge",
                    "SpecificCharacterSet", "StudyDescription", "SeriesNumber"):  # fmt: skip
        header.pop(keyword, None)


def _raw(header: Dataset, tag: int, vr: str, value: bytes) -> None:
    """Any bytes as a value, as a file might hold them."""
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    header._dict[Tag(tag)] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)


def _invalid(header: Dataset) -> None:
    for tag, vr, value in (
        (0x00100030, "DA", b"1970-13-45"), (0x00100040, "CS", b"male"), (0x00101010, "AS", b"sixty "),
        (0x00101030, "DS", b"heavy "), (0x00080020, "DA", b"20240102.x"), (0x00080030, "TM", b"10h30m"),
        (0x00101020, "DS", b"1.7\\1.8 "), (0x00120062, "CS", b"MAYBE "), (0x00081030, "LO", b"x" * 100),
    ):  # fmt: skip
        _raw(header, tag, vr, value)


def _private(header: Dataset) -> None:
    block = header.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", b"\0\1" * 50_000)
    block.add_new(0x11, "UN", b"\xff" * 33)
    _raw(header, 0x00190010, "LO", b"GEMS_ACQU_01")
    _raw(header, 0x0019109E, "XX", b"\xfe\xff")


def _anonymous(header: Dataset) -> None:
    header.PatientIdentityRemoved = "YES"
    header.PatientName = header.PatientID = "ANON-17"


@pytest.mark.parametrize("change", [_bare, _invalid, _private, _anonymous], ids=lambda change: change.__name__[1:])
def test_odd_headers_give_valid_results(tmp_path, change):
    series, _ = with_headers(change)
    for instance in results_of(series, labels_of(6)).all():
        assert errors_of(written(tmp_path, instance)) == []
        assert not any(element.tag.is_private for element in instance)


def test_values_that_break_the_standard_are_left_empty():
    series, _ = with_headers(_invalid)
    clean = copy_patient_and_study(series.headers[0])
    assert (clean.PatientSex, clean.PatientBirthDate, clean.StudyTime) == ("", "", "")
    assert "PatientAge" not in clean
    assert "StudyDescription" not in clean


JAPANESE, RUSSIAN, GERMAN = "Yamada^Tarou=山田^太郎", "Люкceмбypг", "Müller^Jörg"


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
@pytest.mark.parametrize(
    ("charset", "name", "kept"),
    [
        (["", "ISO 2022 IR 87"], JAPANESE, ["", "ISO 2022 IR 87"]),
        ("ISO_IR 144", RUSSIAN, "ISO_IR 144"),
        ("ISO_IR 192", JAPANESE, "ISO_IR 192"),
        ("ISO_IR 100", GERMAN, "ISO_IR 100"),
        ("ISO_IR 6", GERMAN, "ISO_IR 100"),  # no defined term, though scanners write it
        (None, GERMAN, "ISO_IR 100"),  # Latin-1 bytes in a file that declares nothing
        ("UTF-8 BOM", GERMAN, "ISO_IR 192"),  # a character set that does not exist
        ("ISO_IR 144", JAPANESE, "ISO_IR 192"),  # one that cannot hold the name
        ("ISO_IR 192", "Plain^Jane", None),
    ],
)
def test_names_survive_in_any_character_set(tmp_path, charset, name, kept):
    def change(header: Dataset) -> None:
        header.PatientName = name
        header.pop("SpecificCharacterSet")
        if charset is not None:
            header.SpecificCharacterSet = charset

    series, _ = with_headers(change)
    for instance in results_of(series, labels_of(6)).all():
        path = written(tmp_path, instance)
        read = dcmread(path)
        assert str(read.PatientName) == name
        assert read.get("SpecificCharacterSet") == kept
        assert errors_of(path) == []


@pytest.mark.filterwarnings("ignore:The value length")
def test_identity_is_kept_even_where_it_breaks_the_standard(tmp_path):
    long_id, long_accession = "P" * 80, "A-2024-01-02-0001-EMERGENCY"

    def change(header: Dataset) -> None:
        _raw(header, 0x00100020, "LO", long_id.encode())
        _raw(header, 0x00080050, "SH", long_accession.encode() + b" ")

    series, _ = with_headers(change)
    for instance in results_of(series, labels_of(6)).all():
        read = dcmread(written(tmp_path, instance))
        assert (read.PatientID, read.AccessionNumber) == (long_id, long_accession)


def test_nothing_of_the_patient_is_logged_or_warned_of(caplog, capfd, recwarn):
    def change(header: Dataset) -> None:
        _invalid(header)
        header.PatientName = "Nocaretname"
        _raw(header, 0x00100020, "LO", b"S3CRET" * 20)

    series, _ = with_headers(change)
    with caplog.at_level(logging.WARNING):
        results_of(series, labels_of(6))
        results_of(series, labels_of(6) * 0)
    said = caplog.text + "".join(capfd.readouterr()) + "".join(str(one.message) for one in recwarn)
    assert said == ""


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_without_uids_there_is_nothing_to_refer_to(keyword):
    series, _ = with_headers(lambda header: header.pop(keyword))
    with pytest.raises(InputError, match=keyword):
        results_of(series, labels_of(6))


@pytest.mark.parametrize("count", [0, 2, OWN_SEGMENTS + 5])
def test_a_studys_results_are_written_with_its_own_measures(tmp_path, count):
    series, instances = series_of(grid_of("both"), TURNS[5])
    labels = labels_of(6) * 0
    labels[1:3, 20:24, 20:30] = count > 0
    rows, columns = np.divmod(np.arange(max(count - 1, 0)), 8)
    labels[4, 2 * rows, 2 * columns] = 1
    result = a_result(series, labels > 0)
    files = write_dicom_results(tmp_path, result, series, fractional=True)
    assert sorted(files) == ["dicom_pictures", "dicom_probability", "dicom_report", "dicom_segmentation"]
    uids = [one.SOPInstanceUID for one in instances]
    read = hd.seg.segread(tmp_path / files["dicom_segmentation"])
    assert read.number_of_segments == max(1, min(count, OWN_SEGMENTS + 1))
    pixels = read.get_pixels_by_source_instance(uids, combine_segments=True, assert_missing_frames_are_empty=True)
    assert np.array_equal(TURNS[5].apply(pixels) > 0, result.mask.array)
    report = hd.sr.srread(tmp_path / files["dicom_report"]).content
    (whole,) = report.get_image_measurement_groups()
    assert whole.get_measurements(codes.SCT.Volume)[0].value == pytest.approx(result.volume_ml, abs=0.002)
    each = [one.get_measurements(codes.SCT.Volume)[0].value for one in report.get_volumetric_roi_measurement_groups()]
    assert sum(each) == pytest.approx(result.volume_ml, abs=0.02)
    assert len(each) == min(count, OWN_SEGMENTS + 1)
    pictures = sorted((tmp_path / files["dicom_pictures"]).iterdir())
    assert len(pictures) == (result.mask.array.any(axis=(1, 2)).sum() or 6)
    for one in map(dcmread, pictures):  # the slice fills the picture between the words
        shown = np.array([one.Rows - 2 * words_height(one.Columns), one.Columns]) * np.array(one.PixelSpacing, float)
        assert shown == pytest.approx(np.array(SHAPE[1:]) * SPACING_MM[1:], rel=1e-4)
    for path in [*pictures, *(tmp_path / files[f"dicom_{kind}"] for kind in ("report", "segmentation", "probability"))]:
        assert unexpected(path) == []


def a_result(series: DicomSeries, marked: BoolArray) -> Result:
    volume = series.volume
    probability = ProbabilityMap(np.where(marked, np.float32(0.9), np.float32(0.1)), volume.grid)
    mask = Mask(marked, volume.grid)
    return Result(
        name="head", source="head", volume=volume, mask=mask, probability=probability,
        findings=summarise_volume(probability, mask, volume), acquisition=series.acquisition, dicom=series,
        checks=(Check("age", "warning", "12 years", "from 16 years", "No child was seen in training."),), nifti=None,
        weights=locate(), backend=BackendRecord("openvino", "cpu", "fp32"), threshold=0.5, notes=("Slice 3 missing.",),
    )  # fmt: skip


def test_small_lesions_share_the_last_segment():
    rows = [
        {
            "lesion": number, "pixels": 100 - number, "volume_ml": 1.0 / number, "mean_hu": 50.0 + number,
            "mean_probability": 0.6, "highest_probability": 0.7 + number / 1000, "longest_axial_diameter_mm": 3.0,
            "perpendicular_diameter_mm": 2.0, "height_mm": 5.0, "abc2_ml": 0.01, "skull_distance_mm": None,
            "side": ("left", "right", "both", "midline", None)[number % 5],
        }
        for number in range(1, OWN_SEGMENTS + 4)
    ]  # fmt: skip
    measures = lesion_measures(rows)
    assert len(measures) == OWN_SEGMENTS + 1
    assert measures[-1].label == f"Lesions {OWN_SEGMENTS + 1} to {OWN_SEGMENTS + 3}"
    assert sum(one.volume_ml for one in measures) == pytest.approx(sum(row["volume_ml"] for row in rows))
    assert measures[-1].highest_probability == rows[-1]["highest_probability"]
    assert measures[-1].longest_axial_mm is None
    assert 71 < measures[-1].mean_hu < 72
    assert len(lesion_measures(rows[:OWN_SEGMENTS])) == OWN_SEGMENTS
    assert lesion_measures([]) == ()


def test_what_is_parsed_of_highdicoms_table_is_what_json_parses() -> None:
    text = (pkgutil.get_data("highdicom", "_standard/module_attribute_map.json") or b"").decode("utf-8")
    whole, lazy = json.loads(text), LazyObject(text)
    assert list(lazy) == list(whole)
    assert dict(lazy) == whole
    assert "segmentation-image" in lazy
    assert "no such module" not in lazy
    with pytest.raises(KeyError):
        lazy["no such module"]


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"a": 1}', '{"a": 1,\n  "b": 2}', '{\n  "a\\"": 1\n}', '["x",\n  "y"]', ""]
)
def test_a_table_laid_out_otherwise_is_not_guessed_at(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whichever
        LazyObject(text)


@pytest.fixture
def highdicoms_tables(monkeypatch):
    """highdicom's module as it is before anybody looked anything up."""
    monkeypatch.setattr(_standard_utils, "json", json)
    _standard_utils.get_module_attribute_map.cache_clear()
    yield _standard_utils
    _standard_utils.get_module_attribute_map.cache_clear()


def test_results_parse_a_part_of_highdicoms_table(tmp_path, highdicoms_tables):
    series, _ = series_of(grid_of("both"), TURNS[5])
    write_dicom_results(tmp_path, a_result(series, labels_of(6) > 0), series)
    table = highdicoms_tables.get_module_attribute_map()
    assert isinstance(table, LazyObject)
    assert 0 < len(table._parsed) < len(table) / 4


def test_another_highdicom_is_left_as_it_is(highdicoms_tables, monkeypatch):
    monkeypatch.setattr("bleedmap.results.standard.version", lambda name: "0.29.0")
    parse_on_demand()
    assert highdicoms_tables.json is json
