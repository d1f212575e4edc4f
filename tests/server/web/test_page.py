"""The pages in a real browser: by keyboard alone, on a tablet, in the dark, without WebGL2; nothing asked outside."""

import re

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import select

from bleedmap.geometry import PlaneTurn
from bleedmap.server import view
from bleedmap.server.store.tables import correction, reading
from browser import NO_WEBGL, open_browser
from server_studies import add_row, add_study, phantom, scanned
from server_web import PASSWORD, Server

GLASS = 60_000  # ms: without a GPU, on a busy machine


@pytest.fixture(scope="module")
def study(server: Server) -> str:
    """A study whose rows and columns are stored transposed and flipped, so that each mistake of order would show."""
    instances = scanned(turn=PlaneTurn(transpose=True, flip_rows=True))
    number = add_study(server.place, server.database, instances, phantom().mask.array)
    server.add_user("root", "admin")
    add_row(server.database, verdict="no bleed marked", score=0.02)
    add_row(server.database, state="refused", error="slice count: 3 slices, 10 to 400 are needed")
    return number


def log_in(page: Page, server: Server) -> None:
    page.goto(server.url)
    page.get_by_label("Name").wait_for()
    page.keyboard.type("root")  # the first field has the focus
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.locator("a[data-study]").first.wait_for()


def open_first(page: Page) -> None:
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator(".stage[data-ready]").wait_for(timeout=GLASS)


def spot(page: Page) -> list[int]:
    """Slice, row, column and HU, as the page says them."""
    found = re.match(r"(\d+) / 14 · row (\d+), column (\d+): (-?\d+) HU", page.locator(".spot").inner_text())
    assert found is not None
    return [int(one) for one in found.groups()]


def test_a_study_is_read_and_corrected_by_keyboard_alone(server: Server, study: str) -> None:
    stack = view.read_view(server.place.view(study, 1) / view.STACK)
    mask = view.read_view(server.place.view(study, 1) / view.MASK) > 0
    with open_browser(960, 640) as page:  # every key draws anew, by the processor
        log_in(page, server)
        open_first(page)
        assert page.url == f"{server.url}/#/study/{study}"
        begun = spot(page)[0]
        page.keyboard.press("ArrowUp")
        assert spot(page)[0] == begun + 1
        page.keyboard.press("PageDown")
        page.keyboard.press("End")
        assert spot(page)[0] == 14
        page.keyboard.press("n")
        assert mask[spot(page)[0] - 1].any()
        page.keyboard.press("w")
        expect(page.locator("#window-1")).to_be_checked()
        with_overlay = page.locator("canvas").screenshot()
        page.keyboard.press("o")
        assert page.locator("canvas").screenshot() != with_overlay
        page.keyboard.press("b")
        for _ in range(6):
            page.keyboard.press("Shift+ArrowLeft")
        number, row, column, hu = spot(page)
        assert hu == stack[number - 1, row, column]
        page.keyboard.press("]")
        page.keyboard.press("Space")
        page.keyboard.press("Shift+ArrowUp")
        page.keyboard.press("Space")
        page.keyboard.press("z")  # the second dab is taken back
        page.keyboard.press("s")
        page.get_by_text("Saved as correction 1").wait_for()
        page.keyboard.press("2")
        page.keyboard.press("Enter")
        page.get_by_text("Saved: missed. You saw").wait_for()
        page.keyboard.press("u")
        page.get_by_text("an input check").or_(page.get_by_text("There is nothing to show yet")).or_(
            page.get_by_text("slice count: 3 slices")
        ).first.wait_for()
    with server.database.read() as connection:
        kept = connection.execute(select(correction)).mappings().one()
        said = connection.execute(select(reading)).mappings().one()
    expected = mask.copy()
    expected[number - 1, row - 3 : row + 4, column - 3 : column + 4] = True
    drawn = view.read_view(server.place.corrections(study) / kept["file"]) > 0
    np.testing.assert_array_equal(drawn, expected)
    assert (said["says"], said["version"], said["slices_seen"] >= 4) == ("missed", 1, True)


def test_pointer_and_brush_meet_the_stored_pixels(server: Server, study: str) -> None:
    stack = view.read_view(server.place.view(study, 1) / view.STACK)
    with open_browser(820, 900) as page:
        page.emulate_media(color_scheme="dark")
        log_in(page, server)
        page.goto(f"{server.url}/#/study/{study}")
        page.locator(".stage[data-ready]").wait_for(timeout=GLASS)
        box = page.locator("canvas").bounding_box()
        assert box is not None
        side = min(box["width"], box["height"])  # the slice is square, in the middle
        left, top = box["x"] + (box["width"] - side) / 2, box["y"] + (box["height"] - side) / 2
        for across, down in ((0.25, 0.4), (0.5, 0.5), (0.7, 0.3), (0.62, 0.81)):
            page.mouse.click(left + across * side, top + down * side)
            number, row, column, hu = spot(page)
            assert abs(row - down * 96) <= 1.5
            assert abs(column - across * 96) <= 1.5
            assert hu == stack[number - 1, row, column]
        page.mouse.wheel(0, -100)
        page.wait_for_timeout(100)
        assert spot(page)[0] != number


def test_without_webgl_pictures_are_shown_and_the_brush_is_off(server: Server, study: str) -> None:
    with open_browser(1280, 900, *NO_WEBGL) as page:
        log_in(page, server)
        page.goto(f"{server.url}/#/study/{study}")
        page.locator(".stage[data-ready]").wait_for()
        expect(page.get_by_text("The brush is off: this browser has no WebGL2")).to_be_visible()
        picture = page.locator(".stage img")
        expect(picture).to_have_js_property("naturalWidth", 768)
        first = picture.get_attribute("src")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("w")
        page.keyboard.press("o")
        last = picture.get_attribute("src")
        assert (first or "").replace("overlay=1", "") != (last or "").replace("overlay=0", "")
        assert "overlay=0" in (last or "")
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        page.get_by_text("Saved: agree").wait_for()


def test_every_screen_is_accessible(server: Server, study: str) -> None:
    screens = {
        "": "a[data-study]", f"#/history/{study}": "text=States", "#/admin": "text=Newest entries",
        "#/password": "text=Present password", f"#/study/{study}": ".stage[data-ready]",
    }  # fmt: skip
    found = []
    with open_browser(1280, 900) as page:
        page.goto(server.url)
        page.get_by_label("Name").wait_for()
        found += find_faults(page, "log in")
        log_in(page, server)
        for screen, sign in screens.items():
            page.goto(f"{server.url}/{screen}")
            page.locator(sign).first.wait_for(timeout=GLASS)
            found += find_faults(page, screen)
            assert "Research software, not a medical device" in page.locator("body").inner_text()
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert found == []


def find_faults(page: Page, screen: str) -> list[str]:
    """Serious faults that axe finds, light on a screen; and of contrast, which alone differs, dark on a tablet."""
    found = []
    for scheme, width, rules in (("light", 1280, {}), ("dark", 820, {"runOnly": ["color-contrast", "target-size"]})):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 800})
        for one in Axe().run(page, options={"resultTypes": ["violations"], **rules}).response["violations"]:
            if one["impact"] in ("serious", "critical"):
                found.append(f"{screen} {scheme}: {one['id']} {[node['html'][:80] for node in one['nodes']][:2]}")
    return found
