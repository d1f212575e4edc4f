"""The report stands alone, keeps scales apart, says what is missing, and says the same in HTML, JSON and CSV."""

import csv
import json
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from bleedmap.datasets.ct_ich import open_ct_ich
from bleedmap.errors import OutputError
from bleedmap.models.unet import build
from bleedmap.page.section import Picture, Section, Table, format_table
from bleedmap.training.config import TrainConfig
from bleedmap_thesis.pictures import predict_slices
from bleedmap_thesis.plan import SCALES, cells
from bleedmap_thesis.progress import find_collapsed, list_planned, trainings_section
from bleedmap_thesis.report import ANALYSES, NOT_MEASURED, Chapter, Sources, write_chapters, write_report
from html_page import Page
from synthetic_cells import synthetic_cells

SMALL, FULL = SCALES["small"], SCALES["full"]
HOSTILE = "<script>alert(1)</script>"


def plain_figure() -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.add_axes((0, 0, 1, 1)).plot([0, 1])
    return figure


@pytest.fixture(scope="module")
def grid():
    return synthetic_cells(SMALL, parts=("grid",))


@pytest.fixture(scope="module")
def report(grid, tmp_path_factory) -> Path:
    """Of made-up cells of the small scale, without data."""
    out = tmp_path_factory.mktemp("thesis") / "report"
    assert write_report(grid, cells(SMALL), out, Sources(resamples=20)) == out / "report.html"
    return out


@pytest.fixture(scope="module")
def text(report) -> str:
    return (report / "report.html").read_text("utf-8")


@pytest.fixture(scope="module")
def content(report) -> dict:
    return json.loads((report / "report.json").read_text("utf-8"))


def test_the_page_parses_and_needs_nothing_else(text):
    page = Page(text)
    assert page.all("script") == page.all("link") == page.all("iframe") == []
    images = page.all("img")
    assert len(images) >= 4
    for image in images:
        assert (image["src"] or "").startswith("data:image/png;base64,iVBOR")
        assert image["alt"]
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "poster"):
            assert not (attributes.get(name) or "").startswith(("http", "//"))
    assert "url(" not in text
    assert "@import" not in text


def test_anchors_of_the_contents_exist(text):
    page = Page(text)
    anchors = {found["id"] for _, found in page.tags if found.get("id")}
    links = [(found["href"] or "")[1:] for found in page.all("a")]
    assert len(links) > 8
    assert set(links) <= anchors


def test_every_chapter_names_its_scale_and_every_section_its_convention(content):
    for chapter in content["chapters"]:
        if chapter["key"] in SCALES:
            assert SCALES[chapter["key"]].text in chapter["words"]
            others = [scale for scale in SCALES.values() if scale.name != chapter["key"]]
            assert not any(scale.text in json.dumps(chapter, ensure_ascii=False) for scale in others)
        for section in chapter["sections"]:
            for table in section["tables"]:
                told = " ".join((*section["words"], table["note"], *table["columns"]))
                assert any(word in told for word in ("split", "slice", "patient")), table["key"]


def test_full_scale_stands_first_and_not_measured(text, content):
    keys = [chapter["key"] for chapter in content["chapters"]]
    assert keys == ["common", "full", "small"]
    rows = Page(text).tables["full-table-table-1"]
    assert len(rows) == 1 + 2 * 2 * 7
    ours = rows[0].index("Dice")
    assert {row[ours] for row in rows[1:]} == {NOT_MEASURED}
    printed = rows[0].index("Dice, thesis")
    assert [row[printed] for row in rows[1:8]] == ["0.65", "0.78", "0.80", "0.82", "0.83", "", ""]


def test_html_json_and_csv_agree(report, text, content):
    page, compared = Page(text), 0
    for chapter in content["chapters"]:
        for section in chapter["sections"]:
            for table in section["tables"]:
                with (report / table["csv"]).open(encoding="utf-8", newline="") as stream:
                    filed = list(csv.reader(stream))
                assert filed[0] == table["columns"]
                printed = page.tables[f"{chapter['key']}-table-{table['key']}"][1:]
                assert len(filed) - 1 == len(table["rows"]) == len(printed)
                for line, row, cells_ in zip(filed[1:], table["rows"], printed, strict=True):
                    for field, value in zip(line, row, strict=True):
                        if isinstance(value, int | float):
                            assert float(field) == value
                            compared += 1
                        else:
                            assert field == ("" if value is None else value)
                    assert str(row[0]) == cells_[0]
    assert compared > 300


def test_printed_numbers_are_the_rounded_ones(text, content):
    table = next(
        one for chapter in content["chapters"] if chapter["key"] == "small"
        for section in chapter["sections"] for one in section["tables"] if one["key"] == "table-1"
    )  # fmt: skip
    printed = Page(text).tables["small-table-table-1"]
    at, place = table["columns"].index("Dice"), printed[0].index("Dice")
    for row, line in zip(table["rows"], printed[1:], strict=True):
        value, low, high = row[at : at + 3]
        assert line[place] == f"{value:.3f} ({low:.3f} to {high:.3f})"
        assert low <= value <= high


def test_the_formula_of_the_text_stands_in_the_limits_and_at_the_conventions(text, content):
    assert "computed for the lesion and for the background" in unescape(text.split('id="limits"')[1])
    common = next(chapter for chapter in content["chapters"] if chapter["key"] == "common")
    section = next(one for one in common["sections"] if one["key"] == "conventions")
    assert len(section["tables"][0]["rows"]) == 13


def test_cells_planned_do_not_hang_on_flags(grid):
    for asked in ([], cells(SMALL, ("grid",)), cells(SMALL)):
        planned = list_planned(asked, grid)
        assert sum(cell.scale == "small" for cell in planned) == len(cells(SMALL))
        assert {cell.scale for cell in planned} == {"small", "full"}


def test_missing_data_is_said(text):
    for what in ("Figure 1", "Figure 4", "The figure and the contrast"):
        assert f"{what}" in text
    assert text.count("the data set was not at hand when this report was written") >= 3


def test_no_results_at_all(tmp_path):
    page = write_report([], [], tmp_path / "report", Sources(resamples=20)).read_text("utf-8")
    assert NOT_MEASURED in page
    rows = Page(page).tables["common-table-cells"][1:]
    assert [row[:2] for row in rows] == [["full", "grid"], ["full", "folds"], ["full", "factors"]]
    assert {row[2] for row in rows} == {"0"}
    assert sum(int(row[3]) for row in rows) == len(cells(FULL))


def test_a_hostile_label_is_escaped(tmp_path):
    table = Table("t", HOSTILE, HOSTILE, (HOSTILE, "n"), ((HOSTILE, 1), (None, 2)))
    section = Section("s", HOSTILE, (HOSTILE,), (table,), (Picture("p", f'"{HOSTILE}', plain_figure),))
    out = tmp_path / "report"
    write_chapters([Chapter("small", HOSTILE, HOSTILE, (section,))], {
        "program": HOSTILE, "code": [HOSTILE], "machines": [HOSTILE], "hours": 0.0, "releases": [HOSTILE],
        "data_sha256": None, "split_sha256": [],
    }, out)  # fmt: skip
    text = (out / "report.html").read_text("utf-8")
    assert Page(text).all("script") == []
    assert "&lt;script&gt;" in text


def test_numbers_and_intervals_as_printed():
    table = Table("t", "", "", ("name", "x", "x low", "x high", "n"), (("a", 1234.5, None, 2.0, 1000),
                  ("b", 0.12345, 0.1, 0.2, None), ("c", float("nan"), 0.0, 1.0, 3)), {"x": 2})  # fmt: skip
    found = format_table(table)
    assert found.heads == ("name", "x", "n")
    assert found.numeric == (False, True, True)
    assert found.rows == (
        ("a", "1,234.50", "1,000"), ("b", "0.12 (0.10 to 0.20)", NOT_MEASURED), ("c", NOT_MEASURED, "3"),
    )  # fmt: skip


def test_an_earlier_report_is_replaced_and_other_files_are_not(tmp_path):
    out = tmp_path / "report"
    write_report([], [], out, Sources(resamples=20))
    write_report([], [], out, Sources(resamples=20))
    (out / "mine.txt").write_text("keep", "utf-8")
    with pytest.raises(OutputError):
        write_report([], [], out, Sources(resamples=20))
    assert (out / "mine.txt").read_text("utf-8") == "keep"


def test_with_data_the_samples_and_clahe_are_there(jpeg_release, tmp_path):
    out = tmp_path / "report"
    write_report([], [], out, Sources(open_ct_ich(jpeg_release), resamples=20))
    names = {path.name for path in (out / "figures").iterdir()}
    assert {"common-figure-1-samples.png", "common-clahe.png"} <= names


def test_figure_4_is_predicted_by_the_kept_network(jpeg_release):
    data, settings = open_ct_ich(jpeg_release), TrainConfig(width=0.03125, size=32)
    network = build(settings.network_settings(), seed=0).eval()
    found = predict_slices(network, settings, data, ["049/1", "049/2", "051/2"], {"049"})
    assert [one.record.id for one in found][-1] == "049/1"
    assert {(one.record.patient, one.trained_on) for one in found} == {(49, True), (51, False)}
    for one in found:
        assert one.probability.shape == one.unit.shape == one.reference.shape
        assert 0 < one.probability.max() < 1


def test_every_analysis_has_its_place(content):
    small = next(chapter for chapter in content["chapters"] if chapter["key"] == "small")
    assert len(ANALYSES) == 6
    keys = [section["key"] for section in small["sections"]]
    assert keys[:3] == ["table-1", "trainings", "figures-3-4"]


def test_a_training_that_collapsed_is_named():
    results = synthetic_cells(SCALES["small"], parts=("grid",))
    fallen = results[0]
    losses = [entry["loss"] for entry in fallen.curves]
    curves = [*fallen.curves[:-1], fallen.curves[-1] | {"loss": min(losses) + 0.3}]
    results[0] = replace(fallen, curves=curves)
    assert find_collapsed(results) == [results[0]]
    assert trainings_section(results).tables[0].rows == ((len(results), 1, "grid/model-2-b32/slice-seed0"),)
    assert trainings_section(results[1:]).tables[0].rows == ((len(results) - 1, 0, ""),)
