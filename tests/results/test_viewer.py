"""The report's viewer in a real browser: every slice, windows, planes, keys, wheel, and the page without a script."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

from bleedmap.phantom.dicom import ct_instances, write_series
from bleedmap.phantom.head import Bleed, PhantomSettings, make_phantom
from bleedmap.results.page import write_report
from bleedmap.results.viewer import _GREY, _HU, _TABLE, WINDOWS, describe_slices
from bleedmap.study.read import read_study
from bleedmap.study.result import Result
from bleedmap.study.segment import Segmenter
from bleedmap.volume import Volume
from browser import open_browser


@pytest.fixture(scope="module")
def head() -> Volume:
    bleeds = (Bleed("IPH", 20.0, "left"), Bleed("EDH", 25.0, "right"))
    settings = PhantomSettings(seed=3, spacing_mm=(5.0, 0.9, 0.9), shape=(28, 256, 256), bleeds=bleeds)
    return make_phantom(settings).volume


@pytest.fixture(scope="module")
def result(head: Volume, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("head")
    instances = ct_instances(head)
    for one in instances:
        one.StudyDate = "20240503"
    write_series(folder / "study", instances)
    made = Segmenter.load().segment(read_study(folder / "study"))
    assert len(made.findings.lesions) >= 2
    return made


@pytest.fixture(scope="module")
def report(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, result, {})
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with open_browser() as page:
        yield page


@pytest.fixture
def page(browser: Page, report: Path) -> Page:
    """The report, opened anew."""
    browser.goto(report.as_uri())
    browser.wait_for_selector("html.scripted")
    return browser


RED = """() => { const c = document.getElementById('axial');
    const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
    let n = 0;
    for (let i = 0; i < d.length; i += 4) n += d[i] > d[i + 1] + 60;
    return n }"""  # how many pixels are coloured


def centre(page, name: str) -> list[int]:
    """The colour in the middle of a canvas."""
    return list(
        page.evaluate(
            """id => { const c = document.getElementById(id);
        return [...c.getContext('2d').getImageData(c.width >> 1, (c.height >> 1) - 40, 1, 1).data] }""",
            name,
        )
    )


def test_every_slice_can_be_reached_and_says_what_the_result_says(page: Page, result: Result) -> None:
    words, viewer = page.locator("#words"), page.locator("#viewer")
    viewer.focus()
    page.keyboard.press("Home")
    assert words.inner_text().startswith("slice 1 of 28")
    page.keyboard.press("ArrowUp")
    assert words.inner_text().startswith("slice 2 of 28")
    page.keyboard.press("End")
    assert words.inner_text().startswith("slice 28 of 28")
    page.keyboard.press("PageDown")
    assert words.inner_text().startswith("slice 23 of 28")
    page.locator("#axial").hover()
    page.mouse.wheel(0, -120)
    page.wait_for_function("document.getElementById('words').textContent.startsWith('slice 24 ')")
    page.get_by_label("Slice", exact=True).fill("5")
    assert words.inner_text().startswith("slice 5 of 28")
    page.get_by_role("button", name="Next lesion").click()
    page.get_by_role("button", name="Next lesion").click()
    first = result.findings.lesions[0]
    place = (first.first[0] + first.last[0]) // 2 + 1
    assert any(
        words.inner_text().startswith(f"slice {number} of 28")
        for number in (place, (result.findings.lesions[1].first[0] + result.findings.lesions[1].last[0]) // 2 + 1)
    )
    assert "mL in" in words.inner_text()


def test_windows_and_outline_change_what_is_drawn(page: Page) -> None:
    page.locator("#viewer").focus()
    wide = {name: centre(page, name) for name in ("axial", "coronal", "sagittal")}
    page.keyboard.press("4")
    assert page.get_by_label("Bone 600/2800").is_checked()
    bone = {name: centre(page, name) for name in wide}
    assert all(bone[name] != wide[name] for name in wide)
    assert page.evaluate(RED) > 500
    page.keyboard.press("o")
    assert page.evaluate(RED) == 0


def test_a_click_moves_the_other_planes(page: Page) -> None:
    picture = "() => document.getElementById('coronal').toDataURL()"
    before = page.evaluate(picture)
    page.locator("#axial").click(position={"x": 200, "y": 120})
    assert page.evaluate(picture) != before


def test_without_a_script_the_still_pictures_stand(browser: Page, report: Path) -> None:
    assert browser.context.browser is not None
    plain = browser.context.browser.new_page(java_script_enabled=False)
    plain.goto(report.as_uri())
    assert plain.locator(".pictures figure").first.is_visible()
    assert not plain.locator("#viewer").is_visible()
    plain.close()


def test_the_page_states_the_date_and_folds_the_passed_checks(report: Path) -> None:
    page = report.read_text("utf-8")
    assert "<dt>Study date</dt><dd>2024-05-03</dd>" in page
    assert "passed</summary>" in page
    assert "default-src 'none'" in page


def test_grey_keeps_each_hu_of_the_narrow_windows() -> None:
    soft = _TABLE[-20 + 1000 : 180 + 1000 + 1].astype(int)
    assert (np.diff(soft) == 1).all()
    assert (np.diff(_TABLE.astype(int)) >= 0).all()
    assert (_TABLE[0], _TABLE[-1]) == (_GREY[0], _GREY[-1])
    for _, level, width in WINDOWS[:3]:
        assert level - width / 2 >= _HU[1]
        assert level + width / 2 <= _HU[2]


def test_many_thin_slices_stay_within_the_pages_size(result: Result) -> None:
    """280 slices of 512 × 512 made of noise like a scanner's."""
    noise = np.random.default_rng(0).normal(35, 6, (1, 512, 512)).astype(np.float32)
    hu = np.broadcast_to(noise, (280, 512, 512))
    origins = result.volume.grid.origins_mm[:1] + np.arange(280)[:, None] * np.array([0, 0, 0.5])
    grid = replace(result.volume.grid, origins_mm=origins)
    many = replace(
        result, volume=Volume(hu, grid), probability=replace(result.probability, array=np.zeros_like(hu), grid=grid),
        findings=replace(result.findings, lesions=(), slices=result.findings.slices * 10, grid=grid), certainty=None,
    )  # fmt: skip
    assert len(describe_slices(many)) < 5e6
