"""Two studies compared: who may be, in which order, what is claimed, and what is taken from a folder of results."""

import json
from dataclasses import replace
from datetime import datetime
from importlib.resources import files
from pathlib import Path

import jsonschema
import nibabel as nib
import numpy as np
import pytest
from pydicom import Dataset

import bleedmap
from bleedmap.comparison.cohort import describe_pair
from bleedmap.comparison.compare import compare_examinations, split_accept
from bleedmap.comparison.examination import Examination, Identity, examine, open_source, read_time
from bleedmap.comparison.tables import to_json
from bleedmap.comparison.words import expansion_words
from bleedmap.errors import InputError, SettingsError
from bleedmap.inference.certainty import Certainty
from bleedmap.io import nifti
from bleedmap.phantom.dicom import CtOptions, ct_instances, write_series
from bleedmap.study.segment import Segmenter
from bleedmap.volume import Volume
from dicom_studies import write_scan

SCHEMA = json.loads(files("bleedmap").joinpath("comparison/comparison.schema.json").read_text("utf-8"))
MORNING, NOON = datetime(2024, 5, 3, 8), datetime(2024, 5, 3, 12, 30)


def known(one: Examination, **identity: object) -> Examination:
    return replace(one, identity=replace(Identity("study", MORNING, True, "P1"), **identity))


def certain(one: Examination, *, abstained: tuple[str, ...] = ()) -> Examination:
    slices = (0.9,) * len(one.volume.grid)
    volume_ml = None if abstained else (one.volume_ml * 0.8, one.volume_ml * 1.3)
    return replace(one, certainty=Certainty(slices, 0.99, (("IPH", 0.9),), volume_ml, 0.8, abstained))


@pytest.fixture(scope="module")
def grown(examined: Examination, moved, with_mask) -> Examination:
    """The same head elsewhere, with all marks as they are and a new one in the other half."""
    mask = examined.mask.array.copy()
    mask[14:17, 70:80, 60:70] = True
    return moved(with_mask(examined, mask))


def test_growth_is_the_difference_of_volumes_measured_on_own_slices(examined: Examination, grown: Examination) -> None:
    found = compare_examinations(certain(known(examined)), certain(known(grown, taken=NOON)))
    assert found.alignment.fits
    assert (found.hours, found.reasons) == (4.5, ())
    assert found.growth is not None
    assert found.growth.ml == pytest.approx(grown.volume_ml - examined.volume_ml)
    assert found.growth.interval_ml is not None
    assert found.growth.first_interval_ml == pytest.approx((examined.volume_ml * 0.8, examined.volume_ml * 1.3))
    assert found.growth.second_interval_ml == pytest.approx((grown.volume_ml * 0.8, grown.volume_ml * 1.3))
    kinds = [one.kind for one in found.groups or ()]
    assert kinds.count("new") == 1
    assert set(kinds) == {"matched", "new"}
    content = to_json(found, {})
    jsonschema.validate(content, SCHEMA)
    assert content["growth"]["ml"] == pytest.approx(sum(one["growth_ml"] for one in content["lesions"]), abs=0.001)
    assert [content[side]["volume_ml"] for side in ("first", "second")] == [examined.volume_ml, grown.volume_ml]
    assert "P1" not in json.dumps(content)
    assert repr(found).startswith("Comparison('volume', 'volume': growth: +")


def test_without_a_verdict_no_growth_is_claimed(examined: Examination) -> None:
    unsure = certain(known(examined, taken=NOON), abstained=("The images are unlike any.",))
    found = compare_examinations(certain(known(examined)), unsure)
    assert found.growth is None
    assert found.reasons == ("The program gives no verdict on the second study: The images are unlike any.",)
    content = to_json(found, {})
    jsonschema.validate(content, SCHEMA)
    assert content["growth"] is None
    assert all(one["growth_ml"] is None for one in content["lesions"])


def test_other_weights_or_threshold_claim_no_growth(examined: Examination) -> None:
    found = compare_examinations(known(examined), replace(known(examined, taken=NOON), threshold=0.4))
    assert found.growth is None
    assert "different weights or thresholds" in found.reasons[0]


def test_of_lesions_that_one_study_does_not_show_no_growth_is_claimed(examined: Examination, with_mask) -> None:
    """A bleed at the vertex that only the second study shows is no growth of 0 mL."""
    grid, high = examined.volume.grid, np.zeros(examined.mask.array.shape, np.bool_)
    high[22:24, 55:70, 55:70] = True
    short = replace(examined, volume=Volume(examined.volume.hu[:-8], replace(grid, origins_mm=grid.origins_mm[:-8])))
    first = known(with_mask(short, np.zeros(short.volume.hu.shape, np.bool_)))
    second = replace(known(with_mask(examined, high), taken=NOON))
    found = compare_examinations(first, second)
    assert found.groups is not None
    assert [one.kind for one in found.groups] == ["outside"]
    assert found.growth is None
    assert "All that is marked lies where one of the studies does not show the head" in found.reasons[0]
    assert describe_pair(found, "pair")["status"] == "no growth claimed"
    jsonschema.validate(to_json(found, {}), SCHEMA)


def test_what_is_left_out_leaves_the_criterion_open(examined: Examination, with_mask) -> None:
    """The bleed that both studies show has not grown; the one at the vertex is in the second alone."""
    grid, both = examined.volume.grid, np.zeros(examined.mask.array.shape, np.bool_)
    both[12:14, 55:70, 55:70] = True
    high = both.copy()
    high[22:24, 55:70, 55:70] = True
    short = replace(examined, volume=Volume(examined.volume.hu[:-8], replace(grid, origins_mm=grid.origins_mm[:-8])))
    second = replace(known(with_mask(examined, high), taken=NOON))
    found = compare_examinations(known(with_mask(short, both[:-8])), second)
    assert found.growth is not None
    assert (found.growth.ml, found.growth.expansion) == (pytest.approx(0), "not known")
    assert expansion_words(found.growth).startswith("not known, because lesions are left out")
    assert describe_pair(found, "pair")["status"] == "expansion not known"
    jsonschema.validate(to_json(found, {}), SCHEMA)
    assert replace(found.growth, second_ml=found.growth.first_ml + 7).expansion == "met"


def test_heads_that_do_not_fit_are_told_and_totals_compared(examined: Examination) -> None:
    grid = replace(
        examined.volume.grid, row_step_mm=examined.volume.grid.row_step_mm * 1.12,
        column_step_mm=examined.volume.grid.column_step_mm * 0.9,
    )  # fmt: skip
    other = replace(known(examined, taken=NOON), volume=Volume(examined.volume.hu, grid))
    found = compare_examinations(known(examined), other)
    assert found.groups is None
    assert found.growth is not None
    assert "totals only" in repr(found)
    assert any("could not be laid upon each other" in one for one in found.notes)
    jsonschema.validate(to_json(found, {}), SCHEMA)


def test_two_patients_are_refused_without_telling_their_ids(examined: Examination) -> None:
    one, other = known(examined, patient="SECRET-1"), known(examined, patient="SECRET-2", taken=NOON)
    with pytest.raises(InputError, match="Patient ID differs") as refused:
        compare_examinations(one, other)
    assert "SECRET" not in refused.value.explain()
    assert "--accept patient" in refused.value.remedy
    accepted = compare_examinations(one, other, accept=("patient",))
    assert "differ" in accepted.notes[0]
    assert "SECRET" not in json.dumps(to_json(accepted, {})) + repr(accepted.first.identity)


def test_the_later_study_first_is_refused(examined: Examination) -> None:
    one, other = known(examined, taken=NOON), known(examined)
    with pytest.raises(InputError, match=r"4\.5 hours later"):
        compare_examinations(one, other)
    assert "later" in compare_examinations(one, other, accept=("order",)).notes[0]


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"taken": None}, {}, "not both carry a date"),
        ({"exact": False}, {"taken": NOON}, "of one day"),
        ({"exact": False, "taken": NOON}, {}, "of one day"),
        ({}, {}, "the same date and time"),
        ({"patient": None}, {"taken": NOON}, "is not known"),
        ({"series": "1.2"}, {"series": "1.2", "taken": NOON}, "the same series"),
    ],
)
def test_what_is_not_known_of_patient_and_order_is_told(first, second, said, examined: Examination) -> None:
    from bleedmap.comparison.compare import check_pair

    notes = check_pair(known(examined, **first).identity, known(examined, **second).identity)
    assert len(notes) == 1
    assert said in notes[0]


@pytest.mark.parametrize(
    ("values", "taken", "exact"),
    [
        ({"AcquisitionDate": "20240503", "AcquisitionTime": "081500.25"}, datetime(2024, 5, 3, 8, 15), True),
        ({"AcquisitionDateTime": "20240503081500.1+0200", "StudyDate": "20200101"}, datetime(2024, 5, 3, 8, 15), True),
        ({"StudyDate": "20240503"}, datetime(2024, 5, 3), False),
        ({"StudyDate": "20240503", "StudyTime": "0815", "ContentDate": "20240504"}, datetime(2024, 5, 3, 8, 15), True),
        ({"StudyDate": ""}, None, False),
        ({}, None, False),
    ],
)  # fmt: skip
def test_the_time_of_a_scan_is_read_as_near_to_it_as_the_header_tells(values, taken, exact) -> None:
    header = Dataset()
    for name, value in values.items():
        setattr(header, name, value)
    assert read_time(header) == (taken, exact)


def test_a_folder_of_results_gives_its_mask_and_the_study_is_not_segmented_again(
    head: Volume, spots: str, tmp_path: Path
) -> None:
    study = write_scan(tmp_path / "study", head, ("20240503", "080000"), "P1")
    result = Segmenter.load(spots).segment(bleedmap.read_study(study))
    result.save(tmp_path / "result", dicom=False)
    content = json.loads((tmp_path / "result/summary.json").read_text("utf-8"))
    content["certainty"] = {
        "study_probability": 0.9,
        "types": {"IPH": 0.8},
        "volume_ml": [10.0, 70.0],
        "coverage": 0.8,
        "abstained": [],
    }  # fmt: skip - as of a network that says how sure it is
    (tmp_path / "result/summary.json").write_text(json.dumps(content), "utf-8")
    taken = examine(open_source(tmp_path / "result"), lambda: pytest.fail("it was segmented again"))
    np.testing.assert_array_equal(taken.mask.array, result.mask.array)
    assert taken.findings.volume_ml == result.findings.volume_ml
    assert (taken.identity.patient, taken.identity.taken, taken.edited) == ("P1", MORNING, False)
    assert taken.certainty is not None
    assert taken.certainty.volume_ml == (10.0, 70.0)

    mask = tmp_path / "result" / "study_dseg.nii.gz"
    image = nib.load(mask)
    edited = np.asanyarray(image.dataobj).copy()
    edited[60:64, 60:64, 14] = 1
    nib.save(nib.Nifti1Image(edited, image.affine, image.header), mask)
    corrected = examine(open_source(tmp_path / "result"), lambda: pytest.fail("it was segmented again"))
    assert corrected.edited
    assert corrected.certainty is None  # what the program said was said of another outline
    assert corrected.mask.array.sum() == (edited > 0).sum()
    assert any("mask was changed" in one for one in compare_examinations(taken, corrected).notes)


def test_results_of_another_series_than_the_default_keep_their_series(head: Volume, spots: str, tmp_path: Path) -> None:
    """Of two series of one shape, `--series` took the second, which lies elsewhere and has other HU."""
    elsewhere = np.add(head.grid.origins_mm, (9.0, 0.0, 40.0))
    other = replace(head, hu=head.hu + 3, grid=replace(head.grid, origins_mm=elsewhere))
    for number, volume in ((2, head), (3, other)):
        options = CtOptions(seed=1, series_number=number)
        write_series(tmp_path / "study" / str(number), ct_instances(volume, options=options))
    result = Segmenter.load(spots).segment(bleedmap.read_study(tmp_path / "study", series=3))
    result.save(tmp_path / "result", dicom=False)
    taken = examine(open_source(tmp_path / "result"), lambda: pytest.fail("it was segmented again"))
    np.testing.assert_array_equal(taken.volume.hu, result.volume.hu)
    np.testing.assert_array_equal(taken.mask.array, result.mask.array)


@pytest.mark.parametrize("suffix", [".nii.gz", ""])
def test_an_edited_mask_may_be_stored_along_other_axes(head: Volume, spots: str, tmp_path: Path, suffix: str) -> None:
    """Some programs write what they edit in the order right, front, top, with an affine that says so."""
    study = tmp_path / f"study{suffix}"
    if suffix:
        nifti.write(study, head)
        image = nib.load(study)
        turn = nib.orientations.axcodes2ornt(("L", "A", "I"))
        nib.save(image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), turn)), study)
    else:
        write_scan(study, head, ("20240503", "080000"), "P1")
    result = Segmenter.load(spots).segment(bleedmap.read_study(study))
    content = result.save(tmp_path / "result", dicom=False)
    path = tmp_path / "result" / content["files"]["mask"]
    canonical = nib.as_closest_canonical(nib.load(path))
    nib.save(nib.Nifti1Image(np.asanyarray(canonical.dataobj), canonical.affine), path)
    taken = examine(open_source(tmp_path / "result"), lambda: pytest.fail("it was segmented again"))
    np.testing.assert_array_equal(taken.mask.array, result.mask.array)
    assert not taken.edited


def test_pictures_are_refused_with_the_reason(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("L", (64, 64), 90).save(tmp_path / "1.png")
    for source in (tmp_path, tmp_path / "1.png"):
        with pytest.raises(InputError, match="pixels have no size"):
            open_source(source)


def test_accept_takes_checks_of_the_pair_and_of_the_inputs() -> None:
    assert split_accept(("Patient", "slice-count", "order")) == (("patient", "order"), ("slice-count",))
    with pytest.raises(SettingsError, match="patients"):
        split_accept(("patients",))
