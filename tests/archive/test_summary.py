"""What a batch leaves for people: a page to sort and filter, lesions of all, a dictionary, and no patient unasked."""

import csv
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from batch_runs import rows_of
from bleedmap.archive import summary
from bleedmap.archive.find import Found
from bleedmap.archive.ledger import Job
from bleedmap.archive.shards import batch_ledger
from bleedmap.archive.summary import MEANINGS, Row, describe_result
from bleedmap.inference.certainty import Certainty
from bleedmap.io import nifti
from bleedmap.phantom.dicom import ct_instances, write_series
from bleedmap.study.gate.check import Check
from bleedmap.study.read import read_study
from bleedmap.study.segment import Segmenter
from bleedmap.volume import Volume
from browser import open_browser
from command_line import run


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, heads: tuple[Volume, Volume], weights: str) -> Path:
    """A finished batch of four: found (DICOM), not found, refused by checks, unreadable; names beyond ASCII."""
    folder, out = (tmp_path_factory.mktemp(name) for name in ("studies", "results"))
    instances = ct_instances(heads[0])
    for one in instances:
        one.PatientID, one.AccessionNumber, one.StudyDate = "0042", "A-7", "20240503"
    write_series(folder / "dicom", instances)
    nifti.write(folder / "Schädel.nii.gz", heads[1])
    nib.save(nib.Nifti1Image(np.zeros((64, 64, 14), np.int16), np.diag([3, 3, 10, 1])), folder / "blank.nii")
    (folder / "torn.nii.gz").write_bytes(b"\x1f\x8b torn")
    assert run("batch", folder, "-o", out, "--weights", weights, "--processes", 1, "--json") == 0
    return out


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_column_is_in_the_dictionary_with_its_unit(done: Path) -> None:
    known = {(row["file"], row["column"]) for row in table(done / "data-dictionary.csv")}
    for name in ("summary.csv", "lesions.csv"):
        assert {(name, column) for column in table(done / name)[0]} == {one for one in known if one[0] == name}
    assert set(rows_of(done)["dicom"]) <= set(MEANINGS)


def test_lesions_of_all_studies_are_those_of_each(done: Path) -> None:
    lesions = table(done / "lesions.csv")
    own = table(next((done / "dicom").glob("*_lesions.csv")))
    assert [{name: value for name, value in row.items() if name != "name"} for row in lesions] == own
    assert {row["name"] for row in lesions} == {"dicom"}
    assert float(rows_of(done)["dicom"]["largest_lesion_ml"]) == float(own[0]["volume_ml"])


def test_a_row_names_its_reason_for_a_program_and_holds_one_line(done: Path) -> None:
    rows = {row["name"]: row for row in table(done / "summary.csv")}
    assert rows["torn"]["reason_code"] == "unreadable"
    assert "air" in rows["blank"]["reason_code"].split(", ")
    assert all("\n" not in value for row in rows.values() for value in row.values())
    assert ". bone: " in rows["blank"]["error"]  # each reason apart
    assert float(rows["dicom"]["slice_distance_mm"]) == pytest.approx(rows_of(done)["dicom"]["slice_distance_mm"])
    assert (done / "summary.csv").read_bytes().startswith(b"\xef\xbb\xbf")  # ä, for Excel
    assert (done / "data-dictionary.csv").read_bytes().startswith(b"file,")


@pytest.fixture(scope="module")
def result(heads: tuple[Volume, Volume], weights: str):
    return Segmenter.load(weights).segment(read_study(heads[0]))


@pytest.mark.parametrize(
    ("doubted", "own", "status", "reason"),
    [
        ((), (), "found", None),
        (("kvp",), (), "no verdict", "kvp"),
        (("kvp", "slice spacing"), (), "no verdict", "kvp, slice-spacing"),
        ((), ("The two disagree.",), "no verdict", "certainty"),
        (("kvp",), ("The two disagree.",), "no verdict", "kvp, certainty"),
    ],
)
def test_a_study_without_verdict_has_its_reasons(result, doubted, own, status, reason) -> None:
    checks = tuple(Check(name, "warning", "so much", "less") for name in ("age", *doubted))
    reasons = (*own, *(f"'{name}' did not pass" for name in doubted))
    each = (0.9,) * len(result.volume.grid)
    certainty = Certainty(each, 0.9, (("IPH", 0.8),), (10.0, 70.0), 0.8, reasons)
    told = describe_result(replace(result, checks=checks, certainty=certainty))
    assert (told["status"], told.get("reason_code")) == (status, reason)
    assert (told["volume_low_ml"], told["volume_high_ml"], told["interval_coverage"]) == (10.0, 70.0, 0.8)
    assert (told["study_probability"], told["types"]) == (0.9, {"IPH": 0.8})


def test_patients_are_named_only_when_asked_for(done: Path, tmp_path: Path, weights: str) -> None:
    written = [one for one in done.iterdir() if one.suffix in (".csv", ".json", ".html")]
    assert len(written) == 5
    assert not any("0042" in one.read_text("utf-8") or "A-7" in one.read_text("utf-8") for one in written)
    source = json.loads((done / "summary.json").read_text("utf-8"))["settings"]["folder"]
    assert run("batch", source, "-o", done, "--weights", weights, "--identify", "--processes", 1, "--json") == 0
    row = next(row for row in table(done / "summary.csv") if row["name"] == "dicom")
    assert (row["patient_id"], row["study_date"], row["accession_number"]) == ("0042", "2024-05-03", "A-7")
    assert run("batch", source, "-o", done, "--weights", weights, "--processes", 1, "--json") == 0
    assert "0042" not in (done / "summary.csv").read_text("utf-8")


def test_the_page_sorts_and_filters_in_a_browser(done: Path) -> None:
    with open_browser() as page:
        page.goto((done / "index.html").as_uri())
        names = lambda: page.locator("tbody tr:visible th").all_inner_texts()  # noqa: E731
        assert len(names()) == 4
        colour = lambda one: page.locator(one).evaluate("one => getComputedStyle(one).color")  # noqa: E731
        assert colour("[data-status='not found'] .status") == colour("body")  # not green: it excludes no bleed
        assert colour("[data-status='found'] .status") != colour("body")
        page.get_by_role("button", name="mL", exact=True).click()
        assert names()[:2] == ["Schädel", "dicom"]  # what has no volume comes last
        page.get_by_role("button", name="mL", exact=True).click()
        assert names()[:2] == ["dicom", "Schädel"]
        page.get_by_label("Status").select_option("refused")
        assert sorted(names()) == ["blank", "torn"]
        page.get_by_label("Status").select_option("")
        page.get_by_label("Search").fill("schä")
        assert names() == ["Schädel"]
        assert page.locator("#count").inner_text() == "1 of 4 shown"
        shown = page.locator("img").evaluate_all(
            "all => all.map(one => { one.loading = 'eager'; return one.naturalWidth })"
        )
        assert len(shown) == 2
        page.get_by_label("Search").fill("")
        assert page.locator("img").count() == 2
        page.wait_for_function("[...document.images].every(one => one.complete && one.naturalWidth > 0)")


def test_the_terminals_table_fits_80_columns_and_cuts_no_name(
    done: Path, weights: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    source = json.loads((done / "summary.json").read_text("utf-8"))["settings"]["folder"]
    assert run("batch", source, "-o", done, "--weights", weights, "--processes", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = lines[: next(place for place, line in enumerate(lines) if line.startswith("refused"))]
    assert max(map(len, shown)) <= 80
    assert not any("…" in line for line in shown)
    for row in rows_of(done).values():
        assert any(line.startswith(row["name"]) and f" {row['status']} " in line for line in shown), row["name"]


def test_the_page_of_many_studies_shows_those_that_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(summary, "MOST_SHOWN", 3)
    ledger, settings = batch_ledger(tmp_path / "out"), {"folder": "x", "weights": "y"}
    ledger.open(settings, remedy="", hints={})
    for number, status in enumerate(("not found", "refused", "not found", "found", "no verdict")):
        job = Job(f"{number}", "", settings)
        ledger.begin(job)
        ledger.finish(job, {"row": asdict(Row(f"study-{number}", f"{number}", None, status)), "lesions": []})
    summary.write_summary(ledger, settings, Found(tmp_path, (), ()))
    page = (tmp_path / "out/index.html").read_text("utf-8")
    assert re.findall(r'<th scope="row">(study-\d)', page) == ["study-3", "study-4", "study-1"]
    assert "<h1>5 studies</h1>" in page
    assert "shows 3 of them" in page
    assert len((tmp_path / "out/summary.csv").read_text("utf-8").splitlines()) == 6
