"""The report of a cross-validation stands alone, says the same in HTML, JSON and CSV, and draws what was counted."""

import csv
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from bleedmap.cli.main import main
from bleedmap.datasets.ct_ich import CtIch, open_ct_ich
from bleedmap.errors import InputError, OutputError
from bleedmap.evaluation import report_sections
from bleedmap.evaluation.gallery import Pixels, ct_ich_pixels, galleries
from bleedmap.evaluation.protocol import CT_ICH_WORDS
from bleedmap.evaluation.records import Choices, OutOfFold, Verdict, committed_records, record_study, write_prediction
from bleedmap.evaluation.report import evaluate_records, write_report
from bleedmap.evaluation.scores import cross_validation
from bleedmap.figures import prediction as outlines
from html_page import Page
from synthetic_records import all_patients, three_patients

HOSTILE = "<script>alert(1)</script>"
FEW = 60


def stands_alone(page: Page) -> None:
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    assert all((image["src"] or "").startswith("data:image/") for image in page.all("img"))
    assert all((link["href"] or "").startswith("#") for link in page.all("a"))
    assert "url(" not in page.text
    anchors = {found.get("id") for _, found in page.tags}
    assert {(link["href"] or "")[1:] for link in page.all("a")} <= anchors


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two methods, by the command line."""
    folder = tmp_path_factory.mktemp("report")
    good = all_patients(f"good {HOSTILE}", 0.9)
    first, *rest = good.studies
    held = replace(first, verdict=replace(first.verdict, abstained=("too few slices",)))
    replace(good, studies=(held, *rest)).write(folder / "good.json")
    all_patients("poor", 0.4, seed=1).write(folder / "poor.json")
    arguments = [str(folder / "good.json"), str(folder / "poor.json"), "-o", str(folder / "report")]
    with pytest.MonkeyPatch.context() as patch:
        few_draws(patch)
        with pytest.raises(SystemExit) as ended:
            main(["evaluate", "--protocol", "cross-validation", *arguments])
    assert ended.value.code == 0
    return folder / "report"


def few_draws(patch: pytest.MonkeyPatch) -> None:
    """The command line has no flag for this: the protocol says 2,000, which take seconds."""
    patch.setitem(evaluate_records.__kwdefaults__, "resamples", FEW)


def test_the_page_stands_alone_and_says_what_it_is(report: Path) -> None:
    page = Page.read(report / "report.html")
    stands_alone(page)
    assert HOSTILE not in page.text
    for words in ("not a medical device", "cross-validation 2", "Level B", "pictures are left out", "too few slices",
                  "Hssayeni", "Chosen by the protocol", "mirrored yes"):  # fmt: skip
        assert words in page.text, words
    assert len(page.all("img")) == 4  # the figures; no slices without pixels
    assert all(image.get("alt") for image in page.all("img"))
    assert {path.name for path in (report / "figures").iterdir()} == {
        "dice.png", "roc.png", "reliability.png", "sensitivity.png"
    }  # fmt: skip


def test_json_and_csv_hold_the_page_numbers_unrounded(report: Path) -> None:
    content = json.loads((report / "scores.json").read_text("utf-8"))
    rows = list(csv.DictReader((report / "scores.csv").open(encoding="utf-8", newline="")))
    assert [one["method"] for one in content["methods"]] == [f"good {HOSTILE}", "poor"]
    text = (report / "report.html").read_text("utf-8")
    for method in content["methods"]:
        parts = [*method["scores"], *method["abstained"], *(method["without_abstained"] or ())]
        own = [row for row in rows if row["method"] == method["method"]]
        assert [row["key"] for row in own] == [one["key"] for one in parts]
        for row, one in zip(own, parts, strict=True):
            assert row["value"] == ("" if one["value"] is None else str(one["value"]))
            if one["value"] is not None:
                assert f"{one['value']:.3f}" in text, one["key"]
    good, poor = content["methods"]
    assert good["without_abstained"] is not None
    assert poor["without_abstained"] is None
    assert len(good["choices"]) == 5
    (comparison,) = content["comparisons"]
    assert comparison["second"] == "poor"
    assert next(one for one in comparison["differences"] if one["key"] == "volume_dice")["better"].startswith("good")


def test_numbers_are_those_of_the_scores(report: Path) -> None:
    content = json.loads((report / "scores.json").read_text("utf-8"))
    again = cross_validation(all_patients("poor", 0.4, seed=1), resamples=FEW)
    assert content["methods"][1]["scores"] == [asdict(one) for one in again.scores]


def test_an_earlier_report_is_replaced_and_strangers_files_are_not(report: Path, tmp_path: Path) -> None:
    scored = evaluate_records([three_patients()], resamples=5)
    assert write_report(scored, CT_ICH_WORDS, tmp_path / "out") == tmp_path / "out/report.html"
    write_report(scored, CT_ICH_WORDS, tmp_path / "out")
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        write_report(scored, CT_ICH_WORDS, tmp_path / "out")
    assert (tmp_path / "out/mine.txt").read_text() == "mine"


def test_studies_of_one_kind_have_a_page_too(tmp_path: Path) -> None:
    """Nobody bleeds: most measures cannot be had, and the page says so with dashes."""
    records = three_patients()
    page = write_report(
        evaluate_records([replace(records, studies=records.studies[1:2])], resamples=5),
        replace(CT_ICH_WORDS, peers=()), tmp_path / "out",
    )  # fmt: skip
    stands_alone(Page.read(page))
    assert "Published figures" not in page.read_text("utf-8")
    assert "No patient has a lesion." in page.read_text("utf-8")
    assert [path.name for path in (tmp_path / "out/figures").iterdir()] == ["reliability.png"]


def test_methods_may_be_called_as_a_column_is() -> None:
    named = [replace(three_patients(), method=name) for name in ("cases", "better")]
    scored = evaluate_records(named, resamples=5)
    sections = (report_sections.every_measure(scored.methods), report_sections.differences(scored.comparisons))
    for columns in (table.columns for section in sections if section for table in section.tables):
        assert (columns.count("cases"), columns.count("better")) in {(2, 1), (1, 2)}


def test_one_name_for_two_methods_is_refused() -> None:
    with pytest.raises(InputError, match="the name of two methods"):
        evaluate_records([three_patients(), three_patients()], resamples=2)


class TestCommand:
    def ended(self, *arguments: object) -> int:
        with pytest.raises(SystemExit) as found:
            main(["evaluate", "--protocol", "cross-validation", *map(str, arguments)])
        return int(found.value.code or 0)

    def test_json_alone_on_standard_output(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        few_draws(monkeypatch)
        all_patients("method", 0.7).write(tmp_path / "records.json")
        assert self.ended(tmp_path / "records.json", "--json") == 0
        content = json.loads(capsys.readouterr().out)
        assert content["protocol"] == "cross-validation 2"
        assert [one["method"] for one in content["methods"]] == ["method"]
        assert content["comparisons"] == []

    def test_patients_that_are_missing_are_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        records = all_patients("method", 0.7)
        replace(records, studies=records.studies[1:]).write(tmp_path / "records.json")
        assert self.ended(tmp_path / "records.json", "-o", tmp_path / "out") == 2
        assert "all 82 patients" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        "flags", [("--side", "train"), ("--split", "x.json"), ("--grid", "network"), ("--predictions", "x")]
    )
    def test_flags_that_would_do_nothing_are_refused(self, flags: tuple[str, str]) -> None:
        assert self.ended("records.json", *flags) == 2

    def test_a_file_of_something_else_is_refused(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "x.json").write_text("{}")
        assert self.ended(tmp_path / "x.json") == 2
        assert "Traceback" not in capsys.readouterr().err

    def test_several_inputs_need_a_protocol(self) -> None:
        with pytest.raises(SystemExit) as found:
            main(["evaluate", "one.onnx", "other.onnx"])
        assert found.value.code == 2


def test_records_that_come_with_the_program_are_found_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none come with this version"):
        committed_records(tmp_path)
    for name in ("b.json", "a.json", "note.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in committed_records(tmp_path)] == ["a.json", "b.json"]


class TestPictures:
    """On a data set of eight slices: patients 49 and 51 bleed, rows 8 to 15 and columns 8 to 23."""

    @pytest.fixture
    def data(self, jpeg_release: Path) -> CtIch:
        return open_ct_ich(jpeg_release)

    @pytest.fixture
    def records(self, data: CtIch, tmp_path: Path) -> OutOfFold:
        studies = []
        for patient in data.patients:
            reference = np.stack([data.read_mask(one) for one in patient.slices])
            marked = reference.copy()
            marked[:, 12:] = False  # half of each lesion is missed
            marked[0, 1:3, 1:4] = patient.number == 50
            probability = np.where(marked, 0.8, 0.1).astype(np.float32)
            write_prediction(tmp_path / "predictions", patient.number, probability, marked)
            said = Verdict(probability.max(axis=(1, 2)).astype(np.float64), float(probability.max()))
            studies.append(record_study(patient.slices, 1, reference, marked, probability, said))
        return OutOfFold("method", "", (Choices(1, 5, 0.5, 0.5, 0.5),), tuple(studies))

    def test_each_picture_is_of_the_slice_that_it_names(
        self, data: CtIch, records: OutOfFold, tmp_path: Path
    ) -> None:  # fmt: skip
        seen = []

        def slice_of(study, index):
            seen.append((study.patient, study.numbers[index]))
            return pixels.slice_of(study, index)

        pixels = ct_ich_pixels(data, tmp_path / "predictions")
        missed, alarms, ranked = galleries(records, Pixels(slice_of, pixels.mask_of))
        assert [one.name for one in missed.rows[0].pictures] == [
            "patient 049, slice 2", "patient 049, slice 3", "patient 051, slice 2"
        ]  # fmt: skip
        (alarm,) = alarms.rows[0].pictures
        assert alarm.name == "patient 050, slice 1"
        assert "bleed-free patient; 6 pixels marked" in alarm.words
        assert re.search(
            r"EDH; \d+ of \d+ lesion pixels missed, 0 marked beside them", missed.rows[0].pictures[0].words
        )
        assert all(one.uri and one.uri.startswith("data:image/jpeg;base64,") for one in missed.rows[0].pictures)
        assert len(ranked.rows) == 2
        assert set(seen) == {(49, 2), (49, 3), (51, 2), (50, 1)}

    def test_the_page_holds_them(self, data: CtIch, records: OutOfFold, tmp_path: Path) -> None:
        scored = evaluate_records([records], resamples=5)
        path = write_report(
            scored, CT_ICH_WORDS, tmp_path / "out", pixels=ct_ich_pixels(data, tmp_path / "predictions")
        )  # fmt: skip
        page = Page.read(path)
        stands_alone(page)
        assert sum((one["src"] or "").startswith("data:image/jpeg") for one in page.all("img")) == 3 + 1 + 3
        assert "pictures are left out" not in page.text

    def test_other_predictions_are_refused(self, data: CtIch, records: OutOfFold, tmp_path: Path) -> None:
        shape = (len(data.patients[0].slices), 24, 32)
        write_prediction(tmp_path / "predictions", 49, np.zeros(shape, np.float32), np.zeros(shape, bool))
        with pytest.raises(InputError, match="not the one that the records were counted from"):
            galleries(records, ct_ich_pixels(data, tmp_path / "predictions"))

    def test_missing_predictions_are_refused_and_leave_no_report(
        self, data: CtIch, records: OutOfFold, tmp_path: Path
    ) -> None:
        with pytest.raises(InputError, match="no such file"):
            write_report(
                evaluate_records([records], resamples=5), CT_ICH_WORDS, tmp_path / "out",
                pixels=ct_ich_pixels(data, tmp_path / "nowhere"),
            )  # fmt: skip
        assert not (tmp_path / "out").exists()


class TestOutlines:
    UNIT = np.full((60, 60), 0.4, np.float32)

    def drawn(self, reference: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the picture's right half has the reference's colour, and where the prediction's."""
        picture = outlines.outlined_pair(self.UNIT, reference, prediction, side=240)
        half = picture.shape[1] - picture.shape[0]
        assert (np.ptp(picture[:, : picture.shape[0]], axis=-1) == 0).all()  # the left half is plain
        right = picture[:, half:].astype(int)
        return tuple(  # type: ignore[return-value]
            (right == np.rint(np.array(to_rgb(name)) * 255).astype(int)).all(axis=-1)
            for name in (outlines.REFERENCE, outlines.PREDICTION)
        )

    def test_lines_of_masks_that_agree_lie_side_by_side(self) -> None:
        mask = np.zeros((60, 60), bool)
        mask[20:30, 15:40] = True
        outside, inside = self.drawn(mask, mask)
        assert outside.any()
        assert inside.any()
        assert not outside[85:115, 65:155].any()
        assert inside.sum() < outside.sum()
        rows, columns = np.nonzero(inside)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (80, 119, 60, 159)

    def test_an_empty_mask_has_no_line_and_a_pixel_has_one(self) -> None:
        speck = np.zeros((60, 60), bool)
        speck[5, 5] = True
        outside, inside = self.drawn(np.zeros((60, 60), bool), speck)
        assert not outside.any()
        assert inside.any()
