"""External validation: pictures, NIfTI and DICOM measured whole, resumed, by patient, and told in a report."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from batch_runs import until
from bleedmap.cli.main import bleedmap, main
from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.errors import BleedmapError, DataError, InputError, OutputError, SettingsError
from bleedmap.evaluation.records import Choices, Verdict, read_out_of_fold, record_study
from bleedmap.evaluation.scores import cross_validation
from bleedmap.evaluation.studies import report as external_report
from bleedmap.evaluation.studies import run as external
from bleedmap.evaluation.studies.case_index import CaseIndex
from bleedmap.evaluation.studies.find import Case, Cases, Places, find_cases
from bleedmap.evaluation.studies.labels import Labels, gather_labels, read_labels
from bleedmap.evaluation.studies.patients import FIRST_NUMBER, Patients, read_patients
from bleedmap.evaluation.studies.references import read_case
from bleedmap.evaluation.studies.scores import external_scores, to_records
from bleedmap.geometry import SliceGrid
from bleedmap.inference.certainty import Certainty
from bleedmap.inference.outline import segment_slices
from bleedmap.io import nifti
from bleedmap.io.dicom.producer import write_dicom
from bleedmap.io.dicom.read import read_series, scan
from bleedmap.io.dicom.seg import LesionMeasure, make_mask_segmentation
from bleedmap.metrics.surface import SurfaceDistance
from bleedmap.phantom.dicom import CtOptions, ct_instances, write_series
from bleedmap.phantom.head import Bleed, Phantom
from bleedmap.postprocess import label_lesions, to_mask
from bleedmap.study.gate.pictures import PICTURE_CHECKS
from bleedmap.study.segment import Segmenter
from bleedmap.volume import Mask
from bleedmap.window import BRAIN
from dicom_result_studies import producer
from drawn_heads import small_head
from tiny_network import head_hu


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report's bootstrap in a fraction of the time."""
    monkeypatch.setattr(external_report, "external_scores", partial(external_scores, resamples=40))


@pytest.fixture(scope="module")
def weights(spots: str) -> str:
    return spots


@pytest.fixture(scope="module")
def heads() -> dict[str, Phantom]:
    """Two that bleed and one that does not, upright and even."""
    bleeds = {"large": [Bleed("IPH", 30.0, "left")], "small": [Bleed("EDH", 12.0, "right")], "free": []}
    return {name: small_head(*found, seed=seed) for seed, (name, found) in enumerate(bleeds.items(), 1)}


@pytest.fixture
def volumes(tmp_path: Path, heads: dict[str, Phantom]) -> Path:
    """The three as NIfTI pairs; the free one's mask is empty."""
    folder = tmp_path / "hospital"
    for name, one in heads.items():
        folder.mkdir(exist_ok=True)
        nifti.write(folder / f"{name}.nii.gz", one.volume)
        nifti.write(folder / f"{name}_mask.nii.gz", one.mask)
    return folder


@dataclass(frozen=True)
class Flags:
    """What is given to `bleedmap evaluate --studies`."""

    studies: Path
    weights: str
    out: Path
    no_mask: str = "unknown"
    accept: tuple[str, ...] = ()
    labels: Path | None = None

    def words(self) -> list[str]:
        accept = [word for name in self.accept for word in ("--accept", name)]
        accept += [] if self.labels is None else ["--labels", str(self.labels)]
        return ["evaluate", "--studies", str(self.studies), "--weights", self.weights, "-o", str(self.out),
                "--no-mask-means", self.no_mask, *accept]  # fmt: skip


def flags(studies: Path, weights: str, **changes: object) -> Flags:
    return replace(Flags(studies, weights, studies.parent / "out"), **changes)


def run(given: Flags) -> dict:
    bleedmap([*given.words(), "--json"], standalone_mode=False)
    return json.loads((given.out / "report.json").read_text("utf-8"))


def rows(report: dict) -> dict[str, dict]:
    return {one["study"]: one for one in report["studies"]}


def measure(report: dict, key: str) -> dict:
    return {one["key"]: one for one in report["scores"]["measures"]}[key]


def test_nifti_pairs_from_end_to_end(volumes: Path, weights: str, heads: dict[str, Phantom], capsys):
    report = run(flags(volumes, weights))
    assert json.loads(capsys.readouterr().out)["counts"] == report["counts"]
    assert report["counts"] == {
        "studies_with_reference": 3, "measured": 3, "refused": 0, "left_out": 0, "patients": 3, "bleeding_studies": 2,
        "slices": 42, "lesion_slices": sum(int(one.mask.array.any(axis=(1, 2)).sum()) for one in heads.values()),
    }  # fmt: skip
    for name, one in heads.items():
        row = rows(report)[name]
        assert row["reference_ml"] == pytest.approx(one.mask.volume_ml, abs=1e-3)
        assert row["reference_pixels"] == int(one.mask.array.sum())
    assert rows(report)["large"]["marked_pixels"] > 0
    assert rows(report)["large"]["hd95_mm"] is not None
    assert rows(report)["free"]["dice"] is None
    assert rows(report)["free"]["hd95_mm"] is None
    volumes_ml = report["scores"]["volumes_ml"]
    assert {group: one["studies"] for group, one in volumes_ml.items()} == {"all": 3, "bleeding": 2, "bleed-free": 1}
    apart = [one["marked_ml"] - one["reference_ml"] for one in report["studies"]]
    assert volumes_ml["all"]["bias"] == pytest.approx(np.mean(apart))
    assert sum(one["lesions"] for one in report["scores"]["lesions_by_size"]) == sum(
        int(label_lesions(one.mask.array).max()) for one in heads.values()
    )


def test_the_report_is_whole_and_agrees_with_its_records(volumes: Path, weights: str):
    given = flags(volumes, weights)
    report = run(given)
    out = given.out
    assert {path.name for path in out.iterdir()} == {
        external.STATE, "report.json", "report.html", "records.json", "measures.csv", "studies.csv", "lesions.csv",
    }  # fmt: skip
    keys = {one["key"] for one in report["scores"]["measures"]}
    assert not keys & {"authors_dice", "slice_auc_within_folds"}
    assert not any(key.endswith(("_small", "_EDH")) for key in keys)  # CT-ICH's pixels; no table of types
    assert all(one["target"] is None for one in report["scores"]["measures"])
    again = cross_validation(read_out_of_fold(out / "records.json"), resamples=2)
    assert again.score("volume_dice").value == pytest.approx(measure(report, "volume_dice")["value"])
    with (out / "measures.csv").open(encoding="utf-8") as stream:
        table = {row["key"]: row for row in csv.DictReader(stream)}
    assert float(table["volume_dice"]["value"]) == measure(report, "volume_dice")["value"]
    page = (out / "report.html").read_text("utf-8")
    assert "patient 70" not in page
    assert ">1001<" in page  # a name, not an amount
    assert "Research software" in page
    assert "http" not in page.replace("http://www.w3.org", "")  # it stands alone
    HTMLParser(convert_charrefs=True).feed(page)
    anchors = re.findall(r' id="([^"]+)"', page)
    assert len(set(anchors)) == len(anchors)


def test_dicom_with_seg_measures_the_same(tmp_path: Path, volumes: Path, weights: str, heads: dict[str, Phantom]):
    folder = tmp_path / "pacs"
    for number, (name, one) in enumerate(heads.items()):
        options = CtOptions(seed=number, patient_id=f"H-{number}")
        write_series(folder / name, ct_instances(one.volume, options=options))
        series = read_series(scan(folder / name))
        labels = np.minimum(label_lesions(one.mask.array), 1).astype(np.uint8)
        told = [LesionMeasure("Lesion 1", 1.0, None, 0.5, 0.5, None)][: int(labels.max())]
        made = make_mask_segmentation(series, labels, told, producer(number + 100))
        write_dicom(folder / name / "seg.dcm", made)
    dicom = run(flags(folder, weights, out=tmp_path / "out-dicom"))
    plain = run(flags(volumes, weights))
    assert dicom["counts"] == plain["counts"]
    for name in heads:
        one, other = rows(dicom)[name], rows(plain)[name]
        assert one["reference_pixels"] == other["reference_pixels"]
        assert one["reference_ml"] == pytest.approx(other["reference_ml"], rel=1e-3)
        assert one["marked_pixels"] == pytest.approx(other["marked_pixels"], abs=20)  # HU are whole in DICOM
    assert any("a program outlined it" in note["reason"] for note in dicom["notes"])


@pytest.mark.parametrize("mask", ["{}/mask.nii.gz", "masks/{}.nii.gz", "{}-label.nii.gz"])
def test_dicom_with_nifti_masks(tmp_path: Path, heads: dict[str, Phantom], mask: str):
    folder = tmp_path / "pacs"
    for number, (name, one) in enumerate(heads.items()):
        write_series(folder / name, ct_instances(one.volume, options=CtOptions(seed=number)))
        place = folder / mask.format(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        nifti.write(place, one.mask)
    found = find_cases(Places(folder, None, tmp_path / "out", "unknown"))
    assert [one.kind for one in found.cases] == ["DICOM"] * 3
    assert not found.left_out
    for one in found.cases:
        read = read_case(one, BRAIN)
        assert np.array_equal(read.mask, heads[one.name].mask.array > 0)


def test_a_dicom_study_whose_files_lie_in_two_folders(tmp_path: Path, heads: dict[str, Phantom]):
    one, folder = heads["large"], tmp_path / "pacs"
    write_series(folder / "a", ct_instances(one.volume, options=CtOptions()))
    (folder / "b").mkdir()
    for path in sorted((folder / "a").iterdir())[7:]:
        path.rename(folder / "b" / path.name)
    nifti.write(folder / "b" / "mask.nii.gz", one.mask)
    (found,) = find_cases(Places(folder, None, tmp_path / "out", "unknown")).cases
    assert np.array_equal(read_case(found, BRAIN).mask, one.mask.array > 0)


def write_labels(path: Path, columns: str, lines: Sequence[str]) -> Path:
    path.write_text("\n".join([columns, *lines]) + "\n", encoding="utf-8")
    return path


SLICE_KEYS = ("slice_auc", "slice_sensitivity", "slice_specificity", "lesion_free_slices_marked", "slice_brier")
STUDY_KEYS = ("study_auc", "study_sensitivity", "study_specificity", "bleed_free_patients_marked", "study_brier")


def test_slice_labels_rank_and_call_as_the_masks_they_come_from(
    volumes: Path, weights: str, heads: dict[str, Phantom], tmp_path: Path
):
    lines = []
    for name, one in heads.items():
        bleeds = one.mask.array.any(axis=(1, 2))
        lines += [f"{name},{number},{int(flag)}" for number, flag in enumerate(bleeds, start=1)]
    table = write_labels(tmp_path / "readers.csv", "study,slice,bleeds", lines)
    by_masks = run(flags(volumes, weights))
    for path in volumes.glob("*_mask.nii.gz"):
        path.unlink()
    by_labels = run(flags(volumes, weights, out=tmp_path / "labelled", labels=table))
    assert by_labels["counts"] == by_masks["counts"]
    for key in (*SLICE_KEYS, *STUDY_KEYS):
        assert measure(by_labels, key) == measure(by_masks, key), key
    keys = {one["key"] for one in by_labels["scores"]["measures"]}
    assert not {key for key in keys if "dice" in key or key.startswith(("lesion_sens", "false_pos", "volume"))}
    assert by_labels["scores"]["volumes_ml"] == {}
    assert rows(by_labels)["large"]["reference_pixels"] is rows(by_labels)["large"]["dice"] is None
    assert rows(by_labels)["large"]["bleeds"]
    assert not (tmp_path / "labelled/lesions.csv").exists()
    assert any("which slices or studies bleed, not where" in words for words in by_labels["understood"])
    again = read_out_of_fold(tmp_path / "labelled/records.json")
    assert {one.known for one in again.studies} == {"slices"}


def test_boxes_on_dicom_slices_are_labels(tmp_path: Path, volumes: Path, weights: str, heads: dict[str, Phantom]):
    """A line for each box, by UIDs; a study without one does not bleed, if that is said."""
    folder, lines = tmp_path / "pacs", []
    for number, (name, one) in enumerate(heads.items()):
        options = CtOptions(seed=number, patient_id=f"H-{number}")
        write_series(folder / name, ct_instances(one.volume, options=options))
        series = read_series(scan(folder / name))
        for index in np.flatnonzero(one.mask.array.any(axis=(1, 2))):
            header = series.headers[int(index)]
            lines += [f"{header.StudyInstanceUID},{header.SOPInstanceUID},10,20,30,40"] * 2  # two boxes
    table = write_labels(tmp_path / "boxes.csv", "StudyInstanceUID,SOPInstanceUID,x,y,width,height", lines)
    unknown = run(flags(folder, weights, labels=table, out=tmp_path / "unknown"))
    assert unknown["counts"]["measured"] == 2
    assert [(one["reason"], one["examples"]) for one in unknown["left_out"]] == [
        ("no line in the table of labels", ["free"])
    ]
    boxed = run(flags(folder, weights, labels=table, no_mask="lesion-free", out=tmp_path / "boxed"))
    masks = run(flags(volumes, weights))
    assert boxed["counts"] == masks["counts"]
    for name in heads:
        assert rows(boxed)[name]["lesion_slices"] == rows(masks)[name]["lesion_slices"]
    assert measure(boxed, "study_auc")["value"] == measure(masks, "study_auc")["value"]


def test_labels_of_studies_alone_say_nothing_of_slices(volumes: Path, weights: str, tmp_path: Path):
    table = write_labels(tmp_path / "reads.csv", "study,bleeds", ["large,1", "small,yes", "free,0", "elsewhere,1"])
    report = run(flags(volumes, weights, labels=table))
    assert report["counts"]["bleeding_studies"] == 2
    assert [one["reason"] for one in report["left_out"]] == ["a line of the table of labels, but no such study"]
    keys = {one["key"] for one in report["scores"]["measures"]}
    assert set(STUDY_KEYS) <= keys
    assert {key for key in keys if key.startswith("slice_")} <= {"slice_specificity", "slice_specificity_answered"}
    assert measure(report, "lesion_free_slices_marked")["cases"] == 14  # of the one that does not bleed
    assert measure(report, "study_auc")["cases"] == 3
    assert rows(report)["large"]["lesion_slices"] is None
    assert rows(report)["free"]["lesion_slices"] == 0
    table.write_text(table.read_text().replace("large,1", "large,0"))
    changed = run(flags(volumes, weights, labels=table))  # measured anew, with the new label
    assert changed["counts"]["bleeding_studies"] == 1


def test_pictures_are_labelled_by_their_names(tmp_path: Path, weights: str):
    for patient in ("anna", "bob"):
        (tmp_path / "ct" / patient).mkdir(parents=True)
        for number in (1, 2, 3):
            unit = (head_hu(64, 64, bleed=number == 2) + 20) / 120
            picture = Image.fromarray((np.clip(unit, 0, 1) * 255).astype(np.uint8))
            picture.save(tmp_path / "ct" / patient / f"{number}.png")
    table = write_labels(tmp_path / "labels.csv", "study,slice", ["anna,2.png", "bob,2"])
    report = run(flags(tmp_path / "ct", weights, labels=table, accept=PICTURE_CHECKS))
    assert report["counts"] == {
        "studies_with_reference": 2, "measured": 2, "refused": 0, "left_out": 0, "patients": 2, "bleeding_studies": 2,
        "slices": 6, "lesion_slices": 2,
    }  # fmt: skip
    odd = write_labels(tmp_path / "odd.csv", "study,slice", ["anna,9", "bob,2"])
    refused = run(flags(tmp_path / "ct", weights, labels=odd, out=tmp_path / "odd", accept=PICTURE_CHECKS))
    assert refused["counts"]["measured"] == 1
    assert "names slice '9', which is none of its 3 slices" in refused["refused"][0]["error"]


def test_a_slice_whose_number_is_in_its_pictures_name_is_no_place(tmp_path: Path):
    """Tables lose leading zeros, and names may begin at 0: '3' is 003.png, which is the fourth."""
    for number in range(6):
        Image.fromarray(np.full((20, 20), 90, np.uint8)).save(tmp_path / f"{number:03d}.png")
    images = tuple(sorted(tmp_path.glob("*.png")))

    def flag(name: str) -> list[int]:
        case = Case("a", "pictures", images, (), labels=Labels(True, frozenset({name})))
        return np.flatnonzero(read_case(case, BRAIN).mask.any(axis=(1, 2))).tolist()

    assert flag("3") == flag("003") == flag("003.png") == [3]
    assert flag("0") == [0]
    with pytest.raises(InputError, match="names slice '6', which is none of its 6 slices"):
        flag("6")


@pytest.mark.parametrize(("columns", "lines", "said"), [
    ("study,side", ["a,left"], "columns study, side"),
    ("Fall,Blutung", ["a,1"], "columns Fall, Blutung"),
    ("study,R1:ICH,R2:ICH", ["a,,"], "line 2: nothing under R1:ICH, R2:ICH"),
    ("study,bleeds", [], "no lines"),
    ("study,bleeds", ["a,perhaps"], "bleeds 'perhaps'"),
    ("study,bleeds", ["a,"], "nothing under bleeds"),
    ("study,bleeds", ["", "a,1", ",", "b,maybe"], "line 5: bleeds 'maybe'"),
    ("study,slice", [",3"], "study ''"),
    ("study,bleeds", ["a,1", "a,0"], "the opposite of study 'a'"),
    ("study,slice,bleeds", ["a,,0", "a,4,1"], "said not to bleed, and a slice of it to"),
    ("study,slice,bleeds", ["a,,1", "a,4,0"], "said to bleed, and none of its slices"),
    ("study,bleeds", ["nobody,1"], "none of its 1 names is that of one study in"),
    ("study,bleeds,bleeds", ["large,1,0"], "two columns are called 'bleeds'"),
])  # fmt: skip
def test_tables_of_labels_that_are_refused(
    columns: str, lines: list[str], said: str, volumes: Path, weights: str, tmp_path: Path
):
    table = write_labels(tmp_path / "labels.csv", columns, lines)
    with pytest.raises(DataError) as refused:
        run(flags(volumes, weights, labels=table))
    assert said in refused.value.explain()


def told(path: Path, columns: str, lines: Sequence[str], *named: tuple[str, str]) -> dict[str, Labels]:
    table = read_labels(write_labels(path, columns, lines), named)
    return gather_labels(table.path, table.lines)


def test_the_majority_of_several_readers_counts(tmp_path: Path):
    columns = "name,Category," + ",".join(
        f"R{reader}:{what}" for reader in (1, 2, 3) for what in ("ICH", "ChronicBleed")
    )
    lines = ["a,B1,1,0,1,0,0,0", "b,B1,1,1,0,1,0,1", "c,B2,1,0,0,0,,0"]
    assert told(tmp_path / "reads.csv", columns, lines) == {"a": Labels(True, None), "b": Labels(False, frozenset())}
    notes = read_labels(tmp_path / "reads.csv").notes
    assert "if most of 3 readers say so (R1:ICH, R2:ICH, R3:ICH)" in notes[0]


def test_columns_that_are_called_by_readers_alone(tmp_path: Path):
    said = {"a": Labels(True, None), "b": Labels(False, frozenset())}
    assert told(tmp_path / "labels.csv", "study,R1,R2,R3", ["a,1,0,1", "b,0,0,1"]) == said
    assert told(tmp_path / "labels.csv", "study,Reader A,Reader B,ICH", ["a,0,0,1", "b,1,1,0"]) == said


def test_numbers_with_decimals_are_the_whole_ones(tmp_path: Path):
    """A program of tables writes a column of numbers with a gap as 1.0 and 10.0."""
    cases = tuple(Case(name, "NIfTI", (tmp_path / f"{name}.nii.gz",), ()) for name in ("1", "10"))
    index = CaseIndex(cases)
    assert [index.find_study(name) for name in ("1.0", "10,00", "100.0")] == [(cases[0],), (cases[1],), ()]
    assert index.find_name(cases[0], "10.0") == "10"


@pytest.mark.parametrize(("columns", "lines"), [
    ("PatientNumber,SliceNumber,Epidural,Subdural,No_Hemorrhage,Fracture", ["49,1,0,0,1,1", "49,2,1,0,0,0"]),
    ("PatientID;Slice Number;subdural hemorrhage;intraparenchymal", ["49;1;0,0;0", "49;2;0;1,0"]),
    ("patient\tslice\tbleeding", ["49\t1\tnein", "49\t2\tja"]),
    ("scan,image,No_Hemorrhage", ["49,1,1", "49,2,0"]),
    ("id,filename,label", ["49,1,0", "49,2,1"]),
])  # fmt: skip
def test_columns_are_known_by_their_usual_names(tmp_path: Path, columns: str, lines: list[str]):
    assert told(tmp_path / "labels.csv", columns, lines) == {"49": Labels(True, frozenset({"2"}))}


def test_columns_that_the_user_names(tmp_path: Path):
    named = (("study", "Fall"), ("bleeds", "Blutung 1"), ("bleeds", "Blutung 2"))
    lines = ["a;0;1;0", "b;0;0;1"]
    found = told(tmp_path / "labels.csv", "Fall;Blutung 1;Blutung 2;ICH", lines, *named)
    assert found == {"a": Labels(True, None), "b": Labels(False, frozenset())}
    with pytest.raises(DataError, match="no column 'Blut'"):
        read_labels(tmp_path / "labels.csv", [("study", "Fall"), ("bleeds", "Blut")])


def test_names_that_end_with_a_type(tmp_path: Path):
    """As in RSNA 2019: a line for each slice and type, and no word of its study."""
    lines = [f"ID_{one}_{word},{int(one == 'b')}" for one in "ab" for word in ("epidural", "any")]
    found = told(tmp_path / "train.csv", "ID,Label", [*lines, "ID_c_subdural,1"])
    assert {name: one.bleeds for name, one in found.items()} == {"ID_a": False, "ID_b": True, "ID_c": True}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_tables_as_spreadsheets_encode_them(tmp_path: Path, encoding: str):
    (tmp_path / "labels.csv").write_text("sep=;\r\nstudy;bleeds\r\nMüller 7;1\r\n", encoding=encoding, newline="")
    table = read_labels(tmp_path / "labels.csv")
    assert [(line.study, line.bleeds) for line in table.lines] == [("Müller 7", True)]


def test_a_spreadsheet_is_refused_with_what_to_do(tmp_path: Path):
    (tmp_path / "labels.xlsx").write_bytes(b"PK\x03\x04 and more")
    with pytest.raises(DataError, match="spreadsheet of Excel") as refused:
        read_labels(tmp_path / "labels.xlsx")
    assert "save the sheet as CSV" in refused.value.remedy


def boxed_coco(folder: Path) -> Path:
    names = {1: "P1/1.png", 2: "P1/2.png", 3: "images/P2/1.png"}
    content = {
        "images": [{"id": of, "file_name": name} for of, name in names.items()],
        "categories": [{"id": 7, "name": "subdural"}, {"id": 8, "name": "normal"}],
        "annotations": [{"image_id": 2, "category_id": 7, "bbox": [1, 2, 3, 4]}, {"image_id": 3, "category_id": 8}],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder / "boxes.json"


def boxed_yolo(folder: Path) -> Path:
    for name, boxes in (("P1/1", ""), ("P1/2", "0 0.5 0.5 0.1 0.1\n"), ("P2/1", "\n")):
        (folder / "yolo" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "yolo" / f"{name}.txt").write_text(boxes)
    (folder / "yolo/classes.txt").write_text("subdural\n")
    return folder / "yolo"


@pytest.mark.parametrize("boxes", [boxed_coco, boxed_yolo])
def test_boxes_of_pictures(tmp_path: Path, boxes: Callable[[Path], Path]):
    for name in ("P1/1", "P1/2", "P2/1"):
        (tmp_path / "ct" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((20, 20), 90, np.uint8)).save(tmp_path / "ct" / f"{name}.png")
    found = find_cases(Places(tmp_path / "ct", None, tmp_path / "out", "unknown", boxes(tmp_path)))
    assert {one.name: one.labels for one in found.cases} == {
        "P1": Labels(True, frozenset({"2.png"})), "P2": Labels(False, frozenset()),
    }  # fmt: skip
    assert not found.left_out


def test_a_label_of_one_picture_is_its_slices(tmp_path: Path):
    Image.fromarray(np.full((20, 20), 90, np.uint8)).save(tmp_path / "1.png")
    case = Case("1", "pictures", (tmp_path / "1.png",), (), labels=Labels(True, None))
    assert read_case(case, BRAIN).known == "slices"


def test_boxes_that_are_refused(tmp_path: Path):
    (tmp_path / "boxes.json").write_text('{"shapes": []}')
    with pytest.raises(DataError, match="cannot be read as boxes"):
        read_labels(tmp_path / "boxes.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="a folder without text files"):
        read_labels(tmp_path / "empty")


def labelled(tmp_path: Path, folder: Path, columns: str, lines: Sequence[str]) -> tuple[dict[str, Labels], set[str]]:
    table = write_labels(tmp_path / "labels.csv", columns, lines)
    found = find_cases(Places(folder, None, tmp_path / "out", "unknown", table))
    return {one.name: one.labels for one in found.cases}, {one.reason for one in found.left_out}


@pytest.fixture
def archive(tmp_path: Path, heads: dict[str, Phantom]) -> Path:
    """Two studies as an archive gives them away: a folder for each patient."""
    for number, name in enumerate(("large", "free")):
        options = CtOptions(seed=number, patient_id=f"H-{number + 7}")
        write_series(
            tmp_path / f"archive/CQ500CT{number} CQ500CT{number}/Unknown Study/CT Plain",
            ct_instances(heads[name].volume, options=options),
        )
    return tmp_path / "archive"


@pytest.mark.parametrize("names", [("CQ500-CT-0", "CQ500-CT-1"), ("H7", "h_8")])
def test_studies_are_known_by_folders_and_patient_ids(tmp_path: Path, archive: Path, names: tuple[str, str]):
    found, left = labelled(tmp_path, archive, "name,R1:ICH", [f"{names[0]},1", f"{names[1]},0", "CQ500-CT-9,1"])
    assert [one.bleeds for one in found.values()] == [True, False]
    assert left == {"a line of the table of labels, but no such study"}


def test_a_name_that_several_studies_have_is_nobodys(tmp_path: Path, archive: Path):
    for path in archive.glob("*1/**/*.dcm"):
        header = dcmread(path)
        header.PatientID = "H-7"
        header.save_as(path)
    found, left = labelled(tmp_path, archive, "patient,bleeds", ["CQ500-CT-1,1", "H-7,1"])
    assert len(found) == 1
    assert left == {"a line for several studies", "no line in the table of labels"}
    with pytest.raises(DataError, match="1 may be of several"):
        labelled(tmp_path, archive, "patient,bleeds", ["H-7,1"])
    write_labels(tmp_path / "labels.csv", "patient,bleeds", ["CQ500-CT-1,1", "H-7,1"])
    again = find_cases(Places(archive, None, tmp_path / "out", "unknown", tmp_path / "labels.csv"))
    assert [one.what for one in again.left_out if "several" in one.reason] == ["line 3"]  # no Patient ID in reports


def test_slices_without_a_word_of_their_study(tmp_path: Path, archive: Path):
    (first, second), *_ = ([dcmread(path) for path in sorted(archive.glob("*0/**/*.dcm"))[2:4]],)
    found, left = labelled(tmp_path, archive, "SOPInstanceUID,any", [
        f"{first.SOPInstanceUID},0", f"{second.SOPInstanceUID},1", "1.2.3,1",
    ])  # fmt: skip
    assert list(found.values()) == [Labels(True, frozenset({str(second.SOPInstanceUID)}))]
    assert "a line of the table of labels, but no such study" in left


def test_slices_of_several_series_are_those_of_the_one_that_is_read(tmp_path: Path, heads: dict[str, Phantom]):
    folder = tmp_path / "pacs"
    uids = {}
    for number, description in ((2, "Head 5.0 H31s"), (3, "Head 5.0 H60s")):
        options = CtOptions(series_number=number, series_description=description, kernel=description.split()[-1])
        write_series(folder / description, ct_instances(heads["large"].volume, options=options), names="uid")
        uids[number] = [str(one.SOPInstanceUID) for one in read_series(scan(folder / description)).headers]
    lines = [f"{uids[number][row]},1" for number, row in ((2, 6), (2, 7), (3, 6))]
    table = write_labels(tmp_path / "labels.csv", "SOPInstanceUID,ICH", lines)
    (case,) = find_cases(Places(folder, None, tmp_path / "out", "unknown", table)).cases
    read = read_case(case, BRAIN)
    assert np.flatnonzero(read.mask.any(axis=(1, 2))).tolist() == [6, 7]
    assert any("slices of several series" in note for note in read.notes)


def test_a_table_of_labels_that_is_not_there(volumes: Path, weights: str, tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        run(flags(volumes, weights, labels=tmp_path / "none.csv"))


def test_what_is_refused_is_counted_and_the_rest_goes_on(volumes: Path, weights: str, heads: dict[str, Phantom]):
    body = heads["free"].volume
    nifti.write(volumes / "body.nii.gz", replace(body, hu=np.full_like(body.hu, 40.0)))  # no head
    nifti.write(volumes / "body_mask.nii.gz", heads["free"].mask)
    (volumes / "torn.nii.gz").write_bytes(b"\x1f\x8b torn")
    (volumes / "torn_mask.nii.gz").write_bytes((volumes / "free_mask.nii.gz").read_bytes())
    cut = heads["free"].mask
    nifti.write(volumes / "lone_mask.nii.gz", cut)
    report = run(flags(volumes, weights))
    assert report["counts"]["measured"] == 3
    errors = {one["study"]: one["error"] for one in report["refused"]}
    assert set(errors) == {"body", "torn"}
    assert "refused by the input checks" in errors["body"]
    assert "cannot be read as NIfTI" in errors["torn"]
    assert "remedy" in errors["torn"]
    assert report["left_out"] == [{"reason": "a mask without its image", "count": 1, "examples": ["lone_mask.nii.gz"]}]


def test_a_mask_of_another_place_is_refused_or_told(volumes: Path, weights: str, heads: dict[str, Phantom]):
    """Its grid is right, and its voxels are not: an axis was reversed, or it is another study's."""
    mask = heads["large"].mask
    nifti.write(volumes / "large_mask.nii.gz", Mask(np.flip(mask.array, 2).copy(), mask.grid))
    shifted = np.roll(heads["small"].mask.array, 64, axis=1)
    nifti.write(volumes / "small_mask.nii.gz", Mask(shifted, heads["small"].mask.grid))
    report = run(flags(volumes, weights))
    assert [one["study"] for one in report["refused"]] == ["small"]
    assert "in air or bone" in report["refused"][0]["error"]
    (note,) = (one for one in report["notes"] if "Reversed from right to left" in one["reason"])
    assert note["examples"] == ["large"]
    accepted = run(flags(volumes, weights, out=volumes.parent / "accepted", accept=("reference",)))
    assert (accepted["refused"], accepted["counts"]["measured"]) == ([], 3)
    (note,) = (one for one in accepted["notes"] if "in air or bone" in one["reason"])
    assert note["examples"] == ["small"]


@pytest.mark.parametrize(("turned", "how"), [
    (lambda mask: mask.transpose(0, 2, 1), "With rows and columns exchanged, the"),
    (lambda mask: mask[:, ::-1, ::-1], "Reversed from front to back and from right to left, the"),
    (lambda mask: np.rot90(mask, axes=(1, 2)), "With rows and columns exchanged and reversed from "),
    (lambda mask: mask, ""),
    (lambda mask: np.roll(mask, 17, axis=1), ""),
    (lambda mask: mask & False, ""),
])  # fmt: skip
def test_axes_that_were_reversed_or_exchanged_are_told(turned: Callable[[np.ndarray], np.ndarray], how: str):
    marked = np.zeros((3, 64, 64), np.bool_)
    marked[0:2, 5:9, 20:30] = True
    notes = external._note_mirrored(np.ascontiguousarray(turned(marked)), marked)
    assert [one.startswith(how) for one in notes] == [True] * bool(how)


def test_a_second_run_goes_on_where_the_first_stopped(volumes: Path, weights: str, monkeypatch):
    given, turns = flags(volumes, weights), []
    real: Callable[..., object] = external.read_case

    def counted(case, window, accept):
        if len(turns) == 2:
            raise KeyboardInterrupt
        turns.append(case.name)
        return real(case, window, accept)

    monkeypatch.setattr(external, "read_case", counted)
    with pytest.raises(SystemExit, match="130"):
        run(given)
    assert not (given.out / "report.json").exists()
    monkeypatch.setattr(external, "read_case", lambda *given: (turns.append(given[0].name), real(*given))[1])
    first = run(given)
    assert turns == ["free", "large", "small"]  # each once
    assert run(given) == first
    for record in (given.out / external.STATE / "done").glob("*.json"):
        if json.loads(record.read_text("utf-8"))["study"]["name"] == "small":
            record.write_text("{}", "utf-8")  # torn
    os.utime(volumes / "large.nii.gz", ns=(1, 1))  # written anew
    again = run(given)
    assert turns == ["free", "large", "small", "large", "small"]
    assert measure(again, "volume_dice") == measure(first, "volume_dice")


def start(given: Flags) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bleedmap.cli.main", *given.words()]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


@pytest.mark.exhaustive
def test_two_commands_share_a_folder_and_a_killed_one_leaves_its_study_to_the_other(volumes: Path, weights: str):
    given = flags(volumes, weights)
    records = given.out / external.STATE / "done"
    first = start(given)
    until(lambda: list((given.out / external.STATE).glob("work/*")))
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert not (given.out / "report.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in records.glob("*")}
    two = [start(given) for _ in range(2)]
    said = [one.communicate(timeout=120)[1] for one in two]
    assert [one.returncode for one in two] == [0, 0], said
    assert len(list(records.glob("*"))) == 3
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    report = json.loads((given.out / "report.json").read_text("utf-8"))
    assert report["counts"]["measured"] == 3
    times = {path: path.stat().st_mtime_ns for path in records.glob("*")}
    again = run(given)
    assert {path: path.stat().st_mtime_ns for path in records.glob("*")} == times  # all were measured
    assert rows(again) == rows(report)


def test_a_folder_of_the_version_before_is_resumed(volumes: Path, weights: str):
    """Its records had neither key nor settings, and its lock lay beside them."""
    given = flags(volumes, weights)
    first, state = run(given), given.out / external.STATE
    shutil.rmtree(state / "locks")
    (state / "lock").touch()
    for path in (state / "done").glob("*.json"):
        content = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps({"digest": content["digest"], "study": content["study"]}), "utf-8")
    times = {path: path.stat().st_mtime_ns for path in (state / "done").glob("*")}
    assert run(given) == first
    assert {path: path.stat().st_mtime_ns for path in (state / "done").glob("*")} == times


def test_a_study_that_changed_and_cannot_be_measured_now_has_no_old_record(volumes: Path, weights: str, monkeypatch):
    given = flags(volumes, weights)
    run(given)
    os.utime(volumes / "large.nii.gz", ns=(1, 1))

    def stop(*given):
        raise KeyboardInterrupt

    monkeypatch.setattr(external, "read_case", stop)
    with pytest.raises(SystemExit):
        run(given)
    left = [json.loads(path.read_text("utf-8"))["key"] for path in (given.out / external.STATE / "done").glob("*")]
    assert sorted(left) == ["free", "small"]


def test_other_settings_and_folders_of_others_are_refused(volumes: Path, weights: str):
    given = flags(volumes, weights)
    run(given)
    with pytest.raises(SettingsError, match="other settings: no_mask_means 'unknown', now 'lesion-free'"):
        run(replace(given, no_mask="lesion-free"))
    with pytest.raises(SettingsError, match="no check is named 'nonsense'"):
        run(replace(given, accept=("nonsense",), out=volumes.parent / "fresh"))
    strange = volumes.parent / "strange"
    strange.mkdir()
    (strange / "thesis.docx").write_text("mine")
    with pytest.raises(OutputError, match="not earlier results"):
        run(replace(given, out=strange))
    with pytest.raises(OutputError, match="holds the input"):
        run(replace(given, out=volumes.parent))


def test_pictures_measure_as_the_protocol_does(jpeg_release: Path, tmp_path: Path, weights: str):
    """CT-ICH's own layout, read by us as a stranger's folder, and by the data set's own reader."""
    for path in sorted(jpeg_release.glob("Patients_CT/*/brain/*.jpg")):
        bleeds = path.with_name(f"{path.stem}_HGE_Seg.jpg").exists()
        if not path.stem.endswith("_Seg"):
            unit = (head_hu(24, 32, bleed=bleeds or path.stem == "1") + 20) / 120
            Image.fromarray((np.clip(unit, 0, 1) * 255).astype(np.uint8)).save(path, quality=95)
    given = flags(jpeg_release / "Patients_CT", weights, no_mask="lesion-free", out=tmp_path / "out")
    cases = find_cases(Places(given.studies, None, given.out, "lesion-free")).cases
    refused = external._measure_or_refuse(cases[0], Segmenter.load(weights), external.ExternalOptions())
    assert "picture size: 3 of 3 pictures" in (refused.error or "")  # as `segment` refuses them
    given = replace(given, accept=PICTURE_CHECKS)
    report = run(given)
    assert report["scores"]["volumes_ml"] == {}
    assert rows(report)["049"]["reference_ml"] is None
    data, segmenter = open_ct_ich(jpeg_release), Segmenter.load(weights)
    found = read_out_of_fold(tmp_path / "out/records.json")
    for number, patient in enumerate(data.patients):
        hu = np.stack([data.read_hu(one) for one in patient.slices])
        mask = np.stack([data.read_mask(one) for one in patient.slices])
        probability = segment_slices(hu, segmenter.weights.preprocessing, segmenter.backend).probability
        highest = probability.max(axis=(1, 2)).astype(float)
        wanted = record_study(
            patient.slices, 1, mask, to_mask(probability), probability, Verdict(highest, float(highest.max()))
        ).to_dict()
        ours = found.studies[number].to_dict()
        assert ours.pop("patient") == FIRST_NUMBER + number
        for one in (ours, wanted):
            one["types"] = one["lesions"].pop("types")  # which the data set's table tells, and a folder does not
            one.pop("types")
        wanted.pop("patient")
        assert ours == wanted


def studies_of(counts: Sequence[tuple[str, float, float]], silent: tuple[str, ...]) -> list[external.ExternalStudy]:
    """(name, reference mL, marked mL) -> a study of two slices, 10 pixels a mL, marked pixels among the reference's."""
    found = []
    for name, reference_ml, marked_ml in counts:
        reference, marked = np.zeros((2, 20, 20), bool), np.zeros((2, 20, 20), bool)
        reference[0].flat[: int(10 * reference_ml)] = marked[0].flat[: int(10 * marked_ml)] = True
        probability = np.where(marked, 0.9, 0.1).astype(np.float32)
        verdict = Verdict(probability.max(axis=(1, 2)), float(probability.max()), abstained=silent * (name == "d1"))
        record = external._count_record(reference, marked, probability, verdict)
        sizes = (reference_ml,) if reference_ml else ()
        surface = SurfaceDistance(2.0, 1.0) if reference_ml and marked_ml else None
        size = external.Size(reference_ml, marked_ml, sizes, surface)
        found.append(external.ExternalStudy(name, "measured", None, (), record, size, 0.1))
    return found


STUDIES = (("a1", 10, 5), ("a2", 10, 5), ("a3", 10, 5), ("b1", 20, 20), ("c1", 0, 0), ("d1", 0, 1))


def scored(patients: Patients, silent: tuple[str, ...] = ()):
    studies = studies_of(STUDIES, silent)
    records = to_records(studies, patients, "ours", Choices(1, 0, 0.5, 0.5, 0.5), {})
    return external_scores(records, studies, patients, resamples=400), records


def test_intervals_are_over_patients_of_several_studies():
    names = [name for name, _, _ in STUDIES]
    each, _ = scored(Patients({name: name for name in names}))
    whose, _ = scored(Patients({name: name[0] for name in names}))
    alone, by_patient = ({one.key: one for one in found.measures} for found in (each, whose))
    dice = 2 * 5 / 15
    assert alone["volume_dice"].value == by_patient["volume_dice"].value == pytest.approx((3 * dice + 1) / 4)
    assert (alone["volume_dice"].patients, by_patient["volume_dice"].patients) == (4, 2)
    assert by_patient["volume_dice"].low == pytest.approx(dice)  # draws of patient a alone
    assert by_patient["volume_dice"].high == pytest.approx(1.0)
    share = by_patient["study_sensitivity"]  # all four are called: Wilson's, of two patients
    assert (share.value, share.interval, share.cases, share.patients) == (1.0, "wilson", 4, 2)
    assert share.low == pytest.approx(2 / (2 + 1.96**2), abs=1e-3)
    assert alone["study_sensitivity"].low == pytest.approx(4 / (4 + 1.96**2), abs=1e-3)
    assert whose.volumes["bleeding"].patients == 2
    assert whose.volumes["bleeding"].bias == pytest.approx(-15 / 4)
    assert [(one.lesions, one.touched) for one in whose.lesions] == [(0, 0), (0, 0), (4, 4)]
    assert whose.surfaces is not None
    assert (whose.surfaces.studies, whose.surfaces.hd95_median_mm) == (4, 2.0)


def test_one_patient_gives_no_interval(tmp_path: Path):
    """Draws of one patient are all alike: an interval without width would claim to be sure."""
    found, _ = scored(Patients({name: "anna" for name, _, _ in STUDIES}))
    by_key = {one.key: one for one in found.measures}
    for key in ("volume_dice", "study_auc", "study_specificity"):
        one = by_key[key]
        assert (one.value is not None, one.low, one.high, one.interval, one.patients) == (True, None, None, None, 1)
    assert by_key["study_sensitivity"].interval == "wilson"
    assert found.volumes["all"].bias_interval is None
    assert found.to_dict()["volumes_ml"]["all"]["bias_interval"] is None


IDS = {"monday": "secret-7", "tuesday": " secret-7 ", "bob": "B", "eve": ""}


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory, heads: dict[str, Phantom]) -> Path:
    """Four DICOM studies with NIfTI masks; two are of one patient, one has no Patient ID."""
    folder = tmp_path_factory.mktemp("pacs")
    for seed, (name, patient) in enumerate(IDS.items()):
        one = heads["free" if name == "eve" else "large"]
        options = CtOptions(seed=seed, patient_id=patient)
        write_series(folder / name, ct_instances(one.volume, options=options))
        nifti.write(folder / name / "mask.nii.gz", one.mask)
    return folder


def test_patients_are_told_apart_by_their_id(pacs: Path, weights: str, tmp_path: Path, capsys):
    """Two studies of one patient are drawn together, as `train` splits them; the ID itself is written nowhere."""
    out = tmp_path / "out"
    report = run(flags(pacs, weights, out=out))
    numbers = {name: one["patient"] for name, one in rows(report).items()}
    assert numbers["monday"] == numbers["tuesday"]
    assert (len(set(numbers.values())), report["counts"]["patients"]) == (3, 3)
    assert (measure(report, "volume_dice")["cases"], measure(report, "volume_dice")["patients"]) == (3, 2)
    assert report["patients_told"] == "by Patient ID; each study without one counts as a patient (1)"
    assert {one.patient for one in read_out_of_fold(out / "records.json").studies} == set(numbers.values())
    assert report["patients_told"] in (out / "report.html").read_text("utf-8")
    said = "".join(capsys.readouterr())
    assert "secret-7" not in said + "".join(
        path.read_text("utf-8", "replace") for path in out.rglob("*") if path.is_file()
    )


def test_a_table_goes_before_patient_ids(pacs: Path, weights: str, tmp_path: Path):
    table = tmp_path / "whose.csv"
    table.write_text("study,patient\n" + "".join(f"{name},{name[0]}\n" for name in IDS))
    given = flags(pacs, weights, out=tmp_path / "out")
    bleedmap([*given.words(), "--patients", str(table), "--json"], standalone_mode=False)
    report = json.loads((given.out / "report.json").read_text("utf-8"))
    assert (report["counts"]["patients"], report["patients_told"]) == (4, "by whose.csv")


def test_an_id_that_all_studies_have_is_told(pacs: Path, tmp_path: Path):
    """Programs that take names away may write the same Patient ID into all."""
    folder = tmp_path / "studies"
    for name in ("monday", "tuesday"):
        shutil.copytree(pacs / name, folder / name)
    found = read_patients(find_cases(Places(folder, None, tmp_path / "out", "unknown")))
    assert found.told == "by Patient ID, which is the same in all 2 studies"
    assert len(set(found.numbers().values())) == 1


def test_a_study_without_a_verdict_is_told_beside_all():
    names = [name for name, _, _ in STUDIES]
    silent = ("0.43 is too near to even",)
    told = external_report._notes(studies_of(STUDIES, silent))
    assert told == [{"reason": "No verdict: … is too near to even", "count": 1, "examples": ["d1"]}]
    found, _ = scored(Patients({name: name[0] for name in names}), silent)
    by_key = {one.key: one for one in found.measures}
    assert (by_key["abstained"].value, by_key["abstained"].patients) == (pytest.approx(1 / 6), 4)
    assert by_key["study_specificity"].value == 0.5  # d1 is marked
    assert by_key["study_specificity_answered"].value == 1.0
    assert by_key["study_specificity_answered"].over == "bleed-free studies, with a verdict"
    assert "authors_dice_answered" not in by_key


def test_types_of_a_table_count_under_the_study():
    names = [name for name, _, _ in STUDIES]
    types = {name: frozenset({"EDH"} if name == "b1" else {"SAH", "IVH"} if name == "a1" else ()) for name in names}
    found, records = scored(Patients({name: name for name in names}, types))
    by_key = {one.key: one for one in found.measures}
    assert by_key["lesion_sensitivity_touched_EDH"].cases == 1
    assert by_key["lesion_sensitivity_overlapped_IVH"].value == 1.0
    assert "slice_auc_EDH" not in by_key  # this network tells no types
    assert records.studies[3].types[:, 0].tolist() == [True, False]  # the slice with the lesion


def test_numbers_keep_clear_of_the_patient_that_a_measure_leaves_out():
    names = [f"{number:03d}" for number in range(49, 131)]
    numbers = Patients({name: name for name in names}).numbers()
    assert 70 not in numbers.values()
    assert len(set(numbers.values())) == len(names)


def cases(folder: Path, *names: str) -> Cases:
    return Cases(folder, tuple(Case(name, "NIfTI", (), ()) for name in names), (), ())


def test_a_table_of_patients(tmp_path: Path):
    table = tmp_path / "patients.csv"
    table.write_text(
        "\ufeffstudy,patient,EDH,SAH\nx/1,anna,1,0\nx/2,anna,,yes\ny,bob,0,\nspare,eve,0,0\n", encoding="utf-8"
    )
    found = read_patients(cases(tmp_path, "x/1", "x/2", "y"))
    assert found.told == "by patients.csv"
    assert found.of == {"x/1": "anna", "x/2": "anna", "y": "bob"}
    assert found.types == {"x/1": {"EDH"}, "x/2": {"SAH"}, "y": set()}
    assert len(set(found.numbers().values())) == 2
    table.write_text("study,patient\ny,bob\n")
    assert read_patients(cases(tmp_path, "y")).types is None


def test_a_table_as_a_spreadsheet_of_another_country_writes_it(tmp_path: Path):
    """Semicolons, spaces, and empty lines where rows were deleted."""
    (tmp_path / "patients.csv").write_text(
        "\ufeffStudy; PATIENT;edh\r\n'a, b'/1;anna;1\r\ny; bob;0\r\n;;\r\n;;\r\n", encoding="utf-8"
    )
    found = read_patients(cases(tmp_path, "'a, b'/1", "y"))
    assert found.of == {"'a, b'/1": "anna", "y": "bob"}
    assert found.types == {"'a, b'/1": {"EDH"}, "y": set()}
    (tmp_path / "labels.csv").write_text("study;bleeds\nx;1\ny;0\n")
    table = read_labels(tmp_path / "labels.csv")
    assert gather_labels(table.path, table.lines) == {"x": Labels(True, None), "y": Labels(False, frozenset())}


@pytest.mark.parametrize(("text", "said"), [
    ("study,patient\nx,anna\n", r"no line for 1 of 2 studies \(y\)"),
    ("study,patient\nx,anna\nx,bob\ny,c\n", "line 3 names study 'x' twice"),
    ("study,patient\nx,\ny,c\n", "line 2 lacks a study or patient"),
    ("study,who\nx,a\n", "columns study, who"),
    ("study,patient,EDH\nx,a,maybe\ny,b,1\n", "'maybe' in column EDH of study 'x'"),
    ("", "columns none"),
])  # fmt: skip
def test_tables_that_are_refused(tmp_path: Path, text: str, said: str):
    (tmp_path / "patients.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_patients(cases(tmp_path, "x", "y"))


def test_the_first_figures_are_printed(volumes: Path, weights: str, capsys):
    bleedmap(flags(volumes, weights).words(), standalone_mode=False)
    said = " ".join(capsys.readouterr().out.split())
    for words in ("3 of 3 studies measured", "each study counts as one", "Volume, bleeding (2): bias", "trained on"):
        assert words in said


@pytest.mark.parametrize(("arguments", "said"), [
    (("--studies", "x"), "give -o REPORT_FOLDER too"), (("--masks", "x"), "--masks is for --studies FOLDER"),
    (("--studies", "x", "-o", "y", "--side", "test"), "--side is not for --studies"),
    (("--studies", "x", "-o", "y", "--protocol", "cross-validation"), "--protocol is not for --studies"),
    (("a.onnx", "--studies", "x", "-o", "y", "--weights", "b.onnx"), "measures one network"),
    (("--studies", "x", "-o", "y"), "x: no such folder"),
    (("--labels", "x"), "--labels is for --studies FOLDER"),
    (("--studies", "x", "-o", "y", "--labels", "z", "--masks", "m"), "two kinds of reference"),
])  # fmt: skip
def test_flags_that_do_not_go_together(arguments: tuple[str, ...], said: str, capsys, monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["evaluate", *arguments])
    assert left.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_verb(volumes: Path, weights: str, capsys):
    out = volumes.parent / "out"
    with pytest.raises(SystemExit) as left:
        main(["evaluate", weights, "--studies", str(volumes), "-o", str(out), "--json"])
    assert not left.value.code
    said = json.loads(capsys.readouterr().out)
    assert said["counts"]["measured"] == 3
    assert (out / "report.html").is_file()


def test_errors_are_the_users_words(tmp_path: Path, weights: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BleedmapError) as refused:
        run(flags(tmp_path / "empty", weights))
    assert "docs/external-validation.md" in refused.value.explain()
    assert not (tmp_path / "out").exists()


def test_the_whole_real_data_set_is_found(ct_ich_root: Path, tmp_path: Path):
    from bleedmap.evaluation.studies.find import Places, find_cases

    found = find_cases(Places(ct_ich_root / "Patients_CT", None, tmp_path / "out", "lesion-free"))
    assert len(found.cases) == 82
    assert sum(len(one.images) for one in found.cases) == 2501
    assert sum(mask is not None for one in found.cases for mask in one.masks) == 318


def test_on_uneven_slices_the_interval_holds_a_volume_as_in_ml() -> None:
    """Two slices of 1 mm and one that stands for much more: voxels of the mean size would judge otherwise."""
    origins = np.array([[0, 0, 0], [0, 0, 1], [0, 0, 30]], np.float64)
    grid = SliceGrid(origins, np.array([0, 1.0, 0]), np.array([1.0, 0, 0]), 1.0)
    reference = np.zeros((3, 20, 20), np.bool_)
    reference[0] = True
    true_ml = float(reference.sum(axis=(1, 2)) @ grid.voxel_ml)
    said = Certainty((0.9,) * 3, 0.9, (), (0.9 * true_ml, 1.1 * true_ml), 0.8)
    low, high = external._read_verdict(np.zeros(reference.shape, np.float32), said, grid, reference).voxels
    assert low < reference.sum() < high
    assert low * float(grid.voxel_ml.mean()) > 1.1 * true_ml  # by the mean voxel it would lie outside
    low, high = external._read_verdict(np.zeros(reference.shape, np.float32), said, grid, reference & False).voxels
    assert (low, high) == pytest.approx([one / float(grid.voxel_ml.mean()) for one in said.volume_ml])
