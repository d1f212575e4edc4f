"""The page in a real browser, the picture, and the two verbs' tables."""

import csv
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bleedmap.comparison.compare import Comparison, compare_examinations
from bleedmap.comparison.examination import Examination, Identity
from bleedmap.inference.certainty import Certainty
from browser import open_browser


@pytest.fixture(scope="module")
def comparison(examined: Examination, moved) -> Comparison:
    slices = (0.9,) * len(examined.volume.grid)
    ones = []
    for hour, one in ((8, examined), (12, moved(examined))):
        certainty = Certainty(slices, 0.99, (), (one.volume_ml * 0.8, one.volume_ml * 1.3), 0.8)
        identity = Identity("study", datetime(2024, 5, 3, hour), True, "P1")
        ones.append(replace(one, identity=identity, certainty=certainty))
    return compare_examinations(*ones)


@pytest.fixture(scope="module")
def saved(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "out"
    content = comparison.save(folder)
    assert content == json.loads((folder / "compare.json").read_text("utf-8"))
    return folder


def test_the_folder_holds_page_picture_table_and_json(saved: Path, comparison: Comparison) -> None:
    assert {one.name for one in saved.iterdir() if not one.name.startswith(".")} == {
        "compare.html", "compare.json", "compare.png", "growth.csv",
    }  # fmt: skip
    rows = list(csv.DictReader((saved / "growth.csv").read_text("utf-8").splitlines()))
    assert [row["kind"] for row in rows] == [one.kind for one in comparison.groups or ()]
    picture = np.asarray(Image.open(saved / "compare.png"))
    red = (picture[..., 0] > 200) & (picture[..., 1] < 80)
    assert red.any()
    assert (saved / "compare.html").stat().st_size < 5_000_000


RED = """id => { const c = document.getElementById(id);
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let n = 0;
    for (let i = 0; i < d.length; i += 4) n += d[i] > d[i + 1] + 60;
    return n }"""  # how many pixels of a canvas are coloured


def test_both_studies_scroll_together_on_the_same_places(saved: Path) -> None:
    with open_browser() as page:
        page.goto((saved / "compare.html").as_uri())
        page.wait_for_selector("html.scripted")
        assert "mL" in page.locator("#verdict").inner_text()
        assert "(Dowlatshahi" in page.locator(".verdict").inner_text()
        first, second = (page.evaluate(RED, one) for one in ("first", "second"))
        assert first > 300
        assert second == pytest.approx(first, rel=0.4)  # the moved head is shown where the first one lies
        page.locator("#viewer").focus()
        said = page.locator("#words").inner_text()
        page.keyboard.press("ArrowUp")
        assert page.locator("#words").inner_text() != said
        page.keyboard.press("ArrowDown")
        page.keyboard.press("o")
        assert page.evaluate(RED, "first") < first / 20
        page.keyboard.press("Home")
        assert page.locator("#slice").input_value() == "1"
        assert page.evaluate("document.documentElement.scrollWidth") <= 1200
        page.emulate_media(media="print")
        assert page.locator(".pairs figure").first.is_visible()


def test_without_growth_the_page_says_so_first(comparison: Comparison, tmp_path: Path) -> None:
    unsure = replace(comparison, growth=None, reasons=("The program gives no verdict on the first study.",))
    unsure.save(tmp_path / "out")
    text = (tmp_path / "out/compare.html").read_text("utf-8")
    assert "No growth is claimed" in text
    assert "gives no verdict on the first study" in text
    assert "Criterion of hematoma expansion" not in text
