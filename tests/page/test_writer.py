"""Pages escape what they are given; CSV holds numbers and no formulas; pictures lie in the page."""

import base64
import csv
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from bleedmap import RESEARCH_ONLY
from bleedmap.errors import OutputError
from bleedmap.page.section import Section, Table, to_json
from bleedmap.page.writer import embed_jpeg, embed_png, environment, write_csv, write_page

COLUMNS = ("name", "x", "x low", "x high")
TABLE = Table("some", "Some <table>", "n = 2", COLUMNS, (("a", 0.1234, 0.1, 0.2), ("b", None, None, None)))


def test_a_table_is_printed_with_its_interval_and_escaped() -> None:
    section = Section("key", "Title", ("first < second",), (TABLE,))
    parts = environment().get_template("parts.html").module
    text = str(parts.contents(section, None, "a-", "tables"))
    assert "<p>first &lt; second</p>" in text
    assert "<h4>Some &lt;table&gt;</h4>" in text
    assert '<td class="number">0.123 (0.100 to 0.200)</td>' in text
    assert '<td class="number none">not measured</td>' in text
    assert "File: tables/a-some.csv" in text
    assert "File:" not in str(parts.contents(section, None))


def test_every_page_knows_that_this_is_research_software() -> None:
    assert environment().from_string("{{ research_only }}").render() == RESEARCH_ONLY


def test_a_page_that_lacks_something_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="content"):
        write_page(tmp_path / "page.html", "external.html")
    assert list(tmp_path.iterdir()) == []


def test_csv_keeps_numbers_and_runs_no_formula(tmp_path: Path) -> None:
    rows = [["=1+1", -0.5, None], [("a", "b"), float("nan"), 3]]
    write_csv(tmp_path / "table.csv", ["x", "y", "z"], rows)
    with (tmp_path / "table.csv").open(encoding="utf-8", newline="") as stream:
        assert list(csv.reader(stream)) == [["x", "y", "z"], ["'=1+1", "-0.5", ""], ["a; b", "", "3"]]
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_csv(tmp_path / "file/table.csv", ["x"], [])


def test_json_has_no_nan() -> None:
    assert to_json({1: (float("nan"), float("inf"), 0.5), "a": [None, "x"]}) == {
        "1": [None, None, 0.5],
        "a": [None, "x"],
    }


def test_pictures_lie_in_the_page(tmp_path: Path) -> None:
    picture = Image.fromarray(np.full((4, 6, 3), 200, np.uint8))
    picture.save(tmp_path / "a.png")
    for uri, kind in ((embed_png(tmp_path / "a.png"), "png"), (embed_jpeg(picture, 90), "jpeg")):
        head, content = uri.split(",")
        assert head == f"data:image/{kind};base64"
        with Image.open(BytesIO(base64.b64decode(content))) as read:
            assert (read.format, read.size) == (kind.upper(), (6, 4))
