"""How sure the program is, wherever a result is told; and nothing of it where the weights do not say."""

import csv
import gc
import json
import weakref
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.sr.codedict import codes

from bleedmap.cli.main import main
from bleedmap.cli.segment import print_summary
from bleedmap.inference.backends import BackendRecord
from bleedmap.inference.certainty import Certainty
from bleedmap.inference.weights import locate
from bleedmap.io import nifti
from bleedmap.phantom.bleeds import Bleed
from bleedmap.phantom.dicom import ct_instances, write_series
from bleedmap.phantom.head import PhantomSettings, make_phantom
from bleedmap.results import pictures
from bleedmap.results.dicom import write_dicom_results
from bleedmap.results.page import slice_chart, write_report
from bleedmap.results.tables import summary
from bleedmap.study.read import Study, read_study
from bleedmap.study.result import Result
from bleedmap.study.segment import Segmenter, conclude
from bleedmap.study.words import chance, headline, interval, likelihood, slice_line, span_ml, verdict
from debian_programs import complaints
from tiny_network import write_tiny_network

SLICES = 14
TYPES = (("EDH", 0.21), ("IPH", 0.934), ("SDH", 0.08), ("IVH", 0.004), ("SAH", 0.12))
REASONS = ("No head like this one was seen: 4.1 times as far as 99 of 100.", "Outline & slices <disagree> – by 3.")
EACH_SLICE = tuple(round(0.02 + 0.06 * number, 3) for number in range(SLICES))


@pytest.fixture(scope="module")
def phantom():
    bleeds = (Bleed("IPH", 20.0, "left"),)
    return make_phantom(PhantomSettings(seed=3, spacing_mm=(10.0, 1.8, 1.8), shape=(SLICES, 128, 128), bleeds=bleeds))


@pytest.fixture(scope="module")
def told(phantom, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    """A phantom's DICOM study with its true mask, or none of it, and a certainty."""
    folder = tmp_path_factory.mktemp("ct")
    write_series(folder, ct_instances(phantom.volume))
    study = replace(read_study(folder), name="head")

    def build(certainty: Certainty | None, *, bleeding: bool = True) -> Result:
        probability = phantom.mask.array * np.float32(bleeding * 0.9)
        return conclude(study, (), probability, locate(), BackendRecord("none", "cpu", "fp32"), 0.5, certainty)

    return build


def sure(*, abstained: tuple[str, ...] = (), volume_ml: tuple[float, float] | None = (14.04, 31.6)) -> Certainty:
    return Certainty(EACH_SLICE, 0.972, TYPES, volume_ml, 0.8, abstained)


# Words


def test_the_verdict_is_what_is_marked_unless_the_program_abstains(told):
    for certainty in (None, sure()):
        assert verdict(told(certainty).findings, certainty) == "bleed marked"
        assert verdict(told(certainty, bleeding=False).findings, certainty) == "no bleed marked"
    for bleeding in (True, False):
        abstained = sure(abstained=REASONS)
        assert verdict(told(abstained, bleeding=bleeding).findings, abstained) == "no verdict"


def test_the_headline_says_what_kind_of_weights_allow(told):
    findings, none = told(None).findings, told(None, bleeding=False).findings
    rest = headline(findings, None).removeprefix("hemorrhage detected, ")
    assert headline(findings, sure()) == f"bleed marked, {rest}"
    assert headline(findings, sure(abstained=REASONS)) == f"no verdict, not to be relied on: bleed marked, {rest}"
    assert headline(none, None) == f"no hemorrhage detected in {SLICES} slices"
    assert headline(none, sure()) == f"no bleed marked in {SLICES} slices"
    assert likelihood(findings, None, 6).startswith("highest probability 0.9")
    assert slice_line(none, sure(), 3) == "slice 4 of 14: nothing marked; slice probability 0.20"


@pytest.mark.parametrize(
    ("volume_ml", "said"),
    [
        ((0.0, 0.004), "0 to <0.01"), ((0.25, 3.14), "0.25 to 3.1"), ((22.4, 41.4), "22 to 41"),
        ((9.96, 1234.0), "10 to 1,230"),
    ],
)  # fmt: skip
def test_an_interval_is_told_no_finer_than_it_is(volume_ml, said):
    assert span_ml(volume_ml) == said
    assert interval(volume_ml, 0.8) == f"likely between {said.replace(' to ', ' and ')} mL (80 % interval)"


@given(st.floats(0, 1))
def test_only_what_is_certain_is_called_so(probability):
    said = chance(probability)
    assert (said == "0.00") == (probability == 0)
    assert (said == "1.00") == (probability == 1)
    assert abs(float(said.strip("<>")) - probability) <= 0.01


# The summary


def test_the_summary_holds_it_or_null(told):
    certain = sure(abstained=REASONS)
    content = json.loads(json.dumps(summary(told(certain), {}), allow_nan=False))
    assert content["verdict"] == "no verdict"
    assert content["hemorrhage_found"]  # the outline is there all the same
    assert content["certainty"] == {
        "study_probability": 0.972, "types": dict(TYPES), "volume_ml": [14.04, 31.6], "coverage": 0.8,
        "abstained": list(REASONS),
    }  # fmt: skip
    assert [one["slice_probability"] for one in content["slices"]] == list(EACH_SLICE)
    without = summary(told(None), {})
    assert without["certainty"] is None
    assert without["verdict"] == "bleed marked"
    assert {one["slice_probability"] for one in without["slices"]} == {None}
    assert summary(told(sure(volume_ml=None)), {})["certainty"]["volume_ml"] is None


def test_a_certainty_of_other_slices_is_not_told(told):
    result = told(replace(sure(), slices=EACH_SLICE[:-1]))
    with pytest.raises(ValueError, match="shorter"):
        summary(result, {})


# The page


class _Words(HTMLParser):
    """A page's words, its tags, and the class of its verdict."""

    def __init__(self, result: Result, folder: Path) -> None:
        super().__init__()
        write_report(folder / "report.html", result, {})
        self.words, self.tags, self.kind, self._style = "", list[str](), "", False
        self.feed((folder / "report.html").read_text("utf-8"))
        self.words = " ".join(self.words.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._style = tag == "style"
        kind = dict(attrs).get("class") or ""
        self.kind = kind if kind.startswith("verdict") else self.kind

    def handle_data(self, data: str) -> None:
        self.words += "" if self._style else f" {data}"


def test_the_page_tells_how_sure_it_is(told, tmp_path):
    result = told(sure())
    page = _Words(result, tmp_path)
    assert page.kind == "verdict positive"
    assert "Volume 19.9 mL, likely between 14 and 32 mL (80 % interval) Lesions" in page.words
    assert "EDH 0.21 IPH 0.93 SDH 0.08 IVH <0.01 SAH 0.12 Types are of the whole study" in page.words
    assert "80 % of bleeding patients" in page.words
    assert "Bleed marked" in page.words
    assert "abstains" not in page.words
    assert page.tags.count("circle") == SLICES
    for index in result.findings.slices_with_lesion:
        assert f"slice probability {EACH_SLICE[index]:.2f}" in page.words


def test_the_page_of_an_abstention_says_why_before_any_figure(told, tmp_path):
    for bleeding in (True, False):
        page = _Words(told(sure(abstained=REASONS), bleeding=bleeding), tmp_path)
        assert page.kind == "verdict abstained"
        section = page.words.partition("as computed by bleedmap")[2]
        places = [section.index(one) for one in ("No verdict", "do not rely on them", *REASONS, "Study probability")]
        assert places == sorted(places)
        assert "Bleed marked" not in page.words
        assert "Hemorrhage detected" not in page.words


def test_the_page_of_other_weights_says_nothing_of_it(told, tmp_path):
    page = _Words(told(None), tmp_path)
    for words in ("Study probability", "80 % interval", "marked</h2>", "abstain", "No verdict", "IVH"):
        assert words not in page.words
    assert "Hemorrhage detected" in page.words
    assert "circle" not in page.tags


def test_without_pixel_sizes_or_types_their_words_are_left_out(told, tmp_path):
    page = _Words(told(replace(sure(volume_ml=None), types=())), tmp_path)
    assert "80 %" not in page.words
    assert "of this type" not in page.words
    assert "Study probability 0.97" in page.words


def test_nothing_of_a_study_outlives_its_page(told, tmp_path):
    result = told(sure(abstained=REASONS))
    gc.collect()
    gc.disable()  # a batch of large studies cannot wait for it
    try:
        _Words(result, tmp_path)
        held = weakref.ref(result)
        del result
        assert held() is None
    finally:
        gc.enable()


def test_the_curve_stands_over_the_bars():
    chart = slice_chart([0.5, 1.0, 0.0], ["a", "b", "c"], top=1.0, curve=[0.5, 0.0, 1.0])
    bars = chart.bars
    for (x, _), bar in zip(chart.curve, bars, strict=True):
        assert x == pytest.approx(bar["x"] + bar["width"] / 2, abs=0.01)
    assert [y for _, y in chart.curve] == [bars[0]["y"], bars[2]["y"], bars[1]["y"]]
    assert slice_chart([0.5], ["a"], top=1.0).curve == []


# Pictures


def test_a_picture_that_is_looked_at_alone_says_that_there_is_no_verdict(told):
    given, abstained = (pictures.capture_pictures(told(one)) for one in (sure(), sure(abstained=REASONS)))
    for (index, one), (other_index, other) in zip(given, abstained, strict=True):
        strip = (len(one) - 512) // 2
        assert index == other_index
        assert (one[:strip] != other[:strip]).any()  # the words above
        np.testing.assert_array_equal(one[strip:], other[strip:])
    assert (pictures.overview(told(sure())) != pictures.overview(told(sure(abstained=REASONS)))).any()


# The structured report


def report_of(result: Result, folder: Path) -> hd.sr.Comprehensive3DSR:
    """As written; dciodvfy may warn of our own codes alone."""
    assert result.dicom is not None
    files = write_dicom_results(folder, result, result.dicom)
    path = folder / files["dicom_report"]
    assert [line for line in complaints(path) if "<99BLEEDMAP>" not in line] == []
    return hd.sr.srread(path)


def numbers_of(report: hd.sr.Comprehensive3DSR) -> dict[str, tuple[float, str]]:
    """Of the whole study; the highest of a pixel goes by 'probability'."""
    (whole,) = report.content.get_image_measurement_groups()
    return {one.name.value: (one.value, one.unit.value) for one in whole.get_measurements()}


def texts_of(report: hd.sr.Comprehensive3DSR) -> list[str]:
    return [item.TextValue for item in report.ContentSequence if "TextValue" in item]


@pytest.mark.parametrize("bleeding", [True, False])
def test_the_structured_report_measures_it(told, tmp_path, bleeding):
    result = told(sure(volume_ml=(0.0, 31.6)), bleeding=bleeding)
    report = report_of(result, tmp_path)
    numbers = numbers_of(report)
    assert numbers["probability-any"] == (97.2, "%")
    assert numbers["coverage"] == (80.0, "%")
    assert {name: numbers[f"probability-{name}"][0] for name, _ in TYPES} == {
        name: pytest.approx(100 * probability) for name, probability in TYPES
    }
    (whole,) = report.content.get_image_measurement_groups()
    (volume,) = whole.get_measurements(codes.SCT.Volume)
    reach = {
        item.ConceptNameCodeSequence[0].CodeValue: (
            float(item.MeasuredValueSequence[0].NumericValue),
            item.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue,
        )
        for item in volume[0].ContentSequence
    }
    assert reach == {
        "371885007": (pytest.approx(result.volume_ml, abs=0.001), "mL"),
        "371886008": (pytest.approx(31.6 - result.volume_ml, abs=0.001), "mL"),
    }
    assert "marked" in report.SeriesDescription
    assert any("likely between 0 and 32 mL (80 % interval)" in text for text in texts_of(report))


def test_an_interval_beside_the_volume_is_told_in_words_alone(told, tmp_path):
    result = told(sure(volume_ml=(100.0, 200.0)))
    report = report_of(result, tmp_path)
    (whole,) = report.content.get_image_measurement_groups()
    assert "ContentSequence" not in whole.get_measurements(codes.SCT.Volume)[0][0]
    assert "coverage" not in numbers_of(report)
    assert any("likely between 100 and 200 mL (80 % interval)" in text for text in texts_of(report))


@pytest.mark.parametrize("bleeding", [True, False])
def test_the_structured_report_of_an_abstention_says_neither(told, tmp_path, bleeding):
    result = told(sure(abstained=REASONS), bleeding=bleeding)
    report = report_of(result, tmp_path)
    (whole,) = report.content.get_image_measurement_groups()
    assert [one.value.value for one in whole.get_qualitative_evaluations()] == ["82334004"]
    assert verdict(result.findings, result.certainty) in report.SeriesDescription
    assert "detected" not in report.SeriesDescription
    assert REASONS[0] in texts_of(report)
    assert "Outline & slices <disagree> - by 3." in texts_of(report)


def test_the_structured_report_of_other_weights_has_nothing_of_it(told, tmp_path):
    report = report_of(told(None), tmp_path)
    assert set(numbers_of(report)) == {"118565006", "probability"}
    assert "hemorrhage detected" in report.SeriesDescription
    assert texts_of(report)[-1].startswith("Probabilities are the network's own per pixel")  # no remark follows


# The terminal


def printed(result: Result, capsys: pytest.CaptureFixture[str]) -> str:
    print_summary(summary(result, {"report": "report.html"}), Path("out"))
    return " ".join(capsys.readouterr().out.split())


def test_the_terminal_tells_it_in_a_line_or_two(told, capsys):
    said = printed(told(sure()), capsys)
    assert "Bleed marked: " in said
    assert "Study probability 0.97; the volume is likely between 14 and 32 mL (80 % interval); types in the" in said
    assert "No verdict" not in said
    abstained = printed(told(sure(abstained=REASONS)), capsys)
    assert abstained.startswith("No verdict: do not rely on what follows. no verdict: No head like this one")
    assert "No bleed marked in 14 slices (highest pixel 0.00" in printed(told(sure(), bleeding=False), capsys)
    plain = printed(told(None), capsys)
    assert plain.startswith("Hemorrhage found: ")
    assert "robability 0.97" not in plain


# Many studies


@pytest.fixture
def three(phantom, tmp_path) -> Path:
    for name in ("a", "b", "c"):
        nifti.write(tmp_path / f"in/{name}.nii", phantom.volume)
    return tmp_path / "in"


def answer_with(monkeypatch: pytest.MonkeyPatch, by_name: dict[str, Certainty | None]) -> None:
    """A tiny network, with a certainty of each study put beside what it says."""
    plain = Segmenter.segment

    def segment(self: Segmenter, study: Study, **rest: object) -> Result:
        return replace(plain(self, study, **rest), certainty=by_name[study.name])  # type: ignore[arg-type]

    monkeypatch.setattr(Segmenter, "segment", segment)


def batch(folder: Path, out: Path) -> None:
    weights = folder.parent / "tiny.onnx"
    write_tiny_network(weights)
    with pytest.raises(SystemExit) as left:
        main(["batch", str(folder), "-o", str(out), "--weights", str(weights)])
    assert left.value.code in (None, 0)


def test_a_batch_counts_abstentions_apart(three, tmp_path, monkeypatch, capsys):
    by_name = {"a": sure(), "b": sure(abstained=REASONS), "c": sure(volume_ml=None)}
    answer_with(monkeypatch, dict(by_name))
    monkeypatch.setenv("COLUMNS", "200")
    batch(three, tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert "Study Status Probability mL 80 % interval" in said
    assert "14 to 32" in said
    assert f"no verdict b: {' '.join(REASONS)}" in said
    assert ", 1 no verdict," in said
    content = json.loads((tmp_path / "out/summary.json").read_text("utf-8"))
    rows = {row["name"]: row for row in content["studies"]}
    assert rows["b"]["status"] == "no verdict"
    assert rows["b"]["abstained"] == list(REASONS)
    assert rows["b"]["volume_ml"] == rows["a"]["volume_ml"]
    assert (rows["a"]["volume_low_ml"], rows["a"]["volume_high_ml"], rows["a"]["interval_coverage"]) == (
        14.04,
        31.6,
        0.8,
    )
    assert {row["study_probability"] for row in rows.values()} == {0.972}
    assert rows["c"]["volume_low_ml"] is None
    assert content["counts"]["no verdict"] == 1
    assert sum(content["counts"].values()) == 3
    assert (tmp_path / "out/b/report.html").is_file()
    with (tmp_path / "out/summary.csv").open(encoding="utf-8-sig", newline="") as stream:
        lines = {line["name"]: line for line in csv.DictReader(stream)}
    assert lines["b"]["abstained"] == "; ".join(REASONS)
    assert lines["a"]["study_probability"] == "0.972"
    assert lines["c"]["volume_high_ml"] == ""
    batch(three, tmp_path / "out")  # the records read back: nothing is done again
    assert json.loads((tmp_path / "out/summary.json").read_text("utf-8")) == content


def test_a_batch_of_other_weights_reads_as_without(three, tmp_path, monkeypatch, capsys):
    answer_with(monkeypatch, dict.fromkeys("abc"))
    monkeypatch.setenv("COLUMNS", "200")
    batch(three, tmp_path / "out")
    said = " ".join(capsys.readouterr().out.split())
    assert "Study Status mL Lesions Slices Highest pixel Seconds Warnings" in said
    assert "verdict" not in said
