"""The pages in a real browser: by keyboard alone, on a tablet, in the dark, without WebGL2; nothing asked outside."""

import io
import re
import shutil
import time

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, Route, expect
from sqlalchemy import select, update

from bleedmap.geometry import PlaneTurn, SliceGrid, axial_affine
from bleedmap.phantom.dicom import ct_instances
from bleedmap.server import view
from bleedmap.server.store.studies import add_event, change
from bleedmap.server.store.tables import correction, identity, reading
from bleedmap.volume import Volume
from browser import NO_WEBGL, open_browser
from server_studies import add_row, add_study, as_bytes, as_zip, phantom, scanned
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


def enter(page: Page, server: Server) -> None:
    """As one who has logged in: attempts to log in are limited."""
    name, value = server.client("admin").headers["Cookie"].split("=", 1)
    page.context.add_cookies([{"name": name, "value": value, "domain": "127.0.0.1", "path": "/", "secure": True}])
    page.goto(server.url)
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
        for _ in range(4):  # a key that is held down saves once
            page.keyboard.down("Enter")
        page.keyboard.up("Enter")
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
        page.mouse.move(left + 0.3 * side, top + 0.6 * side)  # without a click too
        number, row, column, hu = spot(page)
        assert abs(row - 0.6 * 96) <= 1.5
        assert abs(column - 0.3 * 96) <= 1.5
        assert hu == stack[number - 1, row, column]
        page.mouse.wheel(0, -100)
        page.wait_for_timeout(100)
        assert spot(page)[0] == number + 1  # as ArrowUp
        page.mouse.wheel(0, 100)
        x, y = left + 0.62 * side, top + 0.7 * side
        page.mouse.click(x, y)
        whole = spot(page)
        for zoom in (-600, 200):
            page.mouse.move(x, y)
            page.keyboard.down("Control")
            page.mouse.wheel(0, zoom)
            page.keyboard.up("Control")
            page.mouse.click(x, y)  # what is under the pointer stays there
            assert spot(page)[0] == whole[0]
            assert np.abs(np.subtract(spot(page), whole)[1:3]).max() <= 1
        drag(page, "middle", (x, y), (x - 0.2 * side, y - 0.1 * side))
        page.mouse.click(x - 0.2 * side, y - 0.1 * side)
        assert np.abs(np.subtract(spot(page), whole)[1:3]).max() <= 1
        page.keyboard.press("0")
        page.mouse.click(x, y)
        assert spot(page) == whole


def drag(page: Page, button: str, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down(button=button)  # type: ignore[arg-type]
    page.mouse.move(*end, steps=4)
    page.mouse.up(button=button)  # type: ignore[arg-type]


@pytest.mark.parametrize("flags", [(), NO_WEBGL], ids=["webgl", "pictures"])
def test_the_window_that_is_shown_is_the_window_that_is_said(
    server: Server, study: str, flags: tuple[str, ...]
) -> None:
    with open_browser(960, 640, *flags) as page:
        enter(page, server)
        page.goto(f"{server.url}/#/study/{study}")
        page.locator(".stage[data-ready]").wait_for(timeout=GLASS)
        box = page.locator(".stage").bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        setting, chosen = page.locator(".setting"), page.locator("input[name=window]:checked")
        assert setting.inner_text() == "level 40, width 80"
        before = page.locator(".stage").screenshot()
        drag(page, "right", (x, y), (x + 60, y + 20))
        assert setting.inner_text() == "level 60, width 140"
        expect(chosen).to_have_count(0)
        page.wait_for_timeout(300)
        assert page.locator(".stage").screenshot() != before
        page.mouse.dblclick(x, y)  # nothing else changes it, and no key of NiiVue's
        page.keyboard.press("m")
        assert setting.inner_text() == "level 60, width 140"
        page.keyboard.press("w")
        assert setting.inner_text() == "level 40, width 80"
        expect(page.locator("#window-0")).to_be_checked()


def box_study(server: Server) -> str:
    """A bright box of 82.8 × 46.0 mm (columns × rows) in pixels twice as wide as high, on slices of 10 mm."""
    spacing = (10.0, 1.15, 2.3)
    hu = np.full((10, 192, 96), -1000, np.float32)
    hu[:, 60:100, 24:60] = 1000
    volume = Volume(hu, SliceGrid.from_affine(axial_affine(spacing, hu.shape), len(hu)))
    return add_study(server.place, server.database, ct_instances(volume), np.zeros(hu.shape, np.bool_))


def find_box(page: Page) -> tuple[float, float, float, float]:
    """Left, top, right and bottom edge of what is bright on the slice, as it is seen, in pixels of the page."""
    page.locator(".stage").scroll_into_view_if_needed()
    stage = page.locator(".stage").bounding_box()
    assert stage is not None
    for visible in ("hidden", ""):  # letters and lines are bright too
        page.locator(".stage span, .stage svg").evaluate_all(
            f"all => all.forEach(one => one.style.visibility = '{visible}')"
        )
        if visible:
            picture = Image.open(io.BytesIO(page.locator(".stage").screenshot())).convert("L")
    seen = np.asarray(picture) > 127
    (top, *_, bottom), (left, *_, right) = (np.flatnonzero(seen.any(axis=axis)).tolist() for axis in (1, 0))
    x, y = stage["x"], stage["y"]
    return x + left, y + top, x + right + 1, y + bottom + 1


@pytest.mark.parametrize("flags", [(), NO_WEBGL], ids=["webgl", "pictures"])
def test_a_measured_distance_is_that_of_the_patient(server: Server, flags: tuple[str, ...]) -> None:
    number = box_study(server)
    with open_browser(960, 640, *flags) as page:
        enter(page, server)
        page.goto(f"{server.url}/#/study/{number}")
        page.locator(".stage[data-ready]").wait_for(timeout=GLASS)
        lines = page.locator(".ruler text")

        def measure(*ends: tuple[float, float]) -> float:
            drag(page, "left", *ends)
            said = re.fullmatch(r"(\d+\.\d) mm", lines.last.text_content() or "")
            assert said is not None
            return float(said.group(1))

        page.get_by_role("button", name="Measure (m)").click()
        for size in (960, 700):  # also after the window's size has changed
            page.set_viewport_size({"width": size, "height": 640})
            page.wait_for_timeout(500)
            left, top, right, bottom = find_box(page)
            pixel = 82.8 / (right - left)
            assert measure((left, top + 9), (right, top + 9)) == pytest.approx(82.8, abs=1.5 * pixel)
            assert measure((left + 9, bottom), (left + 9, top)) == pytest.approx(46.0, abs=1.5 * pixel)
            assert measure((left, top), (right, bottom)) == pytest.approx(np.hypot(82.8, 46.0), abs=1.5 * pixel)
        page.set_viewport_size({"width": 960, "height": 640})
        page.wait_for_timeout(500)
        expect(lines).to_have_count(6)
        lengths = lines.all_text_contents()
        for key in ("+", "+", "w"):  # lines grow with the slice; a window does nothing to them
            page.keyboard.press(key)
        page.wait_for_timeout(500)
        left, top, right, bottom = find_box(page)
        line = page.locator(".ruler line").nth(6).bounding_box()
        assert line is not None
        assert (line["x"], line["x"] + line["width"]) == pytest.approx((left, right), abs=3)
        assert lines.all_text_contents() == lengths
        assert measure((left, top + 9), (right, top + 9)) == pytest.approx(82.8, abs=1.5 * 82.8 / (right - left))
        stage = page.locator(".stage").bounding_box()
        assert stage is not None
        for corner in ((stage["x"] + stage["width"] - 4, stage["y"] + 5), (stage["x"] + 5, stage["y"] + 5)):
            drag(page, "left", (left, bottom), corner)
            said = lines.last.bounding_box()
            assert said is not None
            assert stage["x"] <= said["x"]
            assert said["x"] + said["width"] <= stage["x"] + stage["width"]
            assert stage["y"] <= said["y"]
        page.keyboard.press("ArrowUp")  # a line belongs to its slice
        expect(lines.first).to_be_hidden()
        page.keyboard.press("ArrowDown")
        expect(lines.first).to_be_visible()
        page.mouse.click(left + 20, top + 20)  # no line
        expect(lines).to_have_count(9)
        page.keyboard.press("m")
        expect(lines).to_have_count(0)
        drag(page, "left", (left, top), (right, bottom))
        expect(lines).to_have_count(0)


def test_measuring_and_painting_do_not_meet(server: Server, study: str) -> None:
    with open_browser(960, 640) as page:
        enter(page, server)
        page.goto(f"{server.url}/#/study/{study}")
        page.locator(".stage[data-ready]").wait_for(timeout=GLASS)
        box = page.locator(".stage").bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        brush, ruler = page.get_by_role("button", name="Brush (b)"), page.get_by_role("button", name="Measure (m)")
        page.keyboard.press("b")
        page.keyboard.press("m")
        expect(brush).to_have_attribute("aria-pressed", "false")
        before = page.locator(".spot").inner_text()
        drag(page, "left", (x, y), (x + 60, y + 20))
        expect(page.locator(".ruler text")).to_have_count(1)
        expect(page.get_by_text("Not saved yet.")).to_have_count(0)
        assert page.locator(".spot").inner_text().split(" · ")[0] == before.split(" · ")[0]
        page.keyboard.press("b")
        expect(ruler).to_have_attribute("aria-pressed", "false")
        expect(page.locator(".ruler text")).to_have_count(0)
        drag(page, "left", (x, y), (x + 60, y + 20))
        page.get_by_text("Not saved yet.").wait_for()


def test_the_keyboard_measures(server: Server) -> None:
    with open_browser(960, 640, *NO_WEBGL) as page:
        enter(page, server)
        page.goto(f"{server.url}/#/study/{box_study(server)}")
        page.locator(".stage[data-ready]").wait_for(timeout=GLASS)
        lines = page.locator(".ruler text")

        def press(key: str, times: int = 1) -> None:
            for _ in range(times):
                page.keyboard.press(key)

        page.get_by_role("button", name="Measure (m)").click()
        for key, times in (("Space", 1), ("Shift+ArrowRight", 30), ("Shift+ArrowDown", 40), ("Space", 1)):
            press(key, times)
        press("Shift+ArrowLeft", 5)  # the line is done: the cross alone moves
        expect(lines).to_have_text(["50.0 mm"])
        press("Space")
        press("Shift+ArrowUp", 9)
        expect(lines).to_have_text(["50.0 mm", "9.0 mm"])
        press("ArrowUp")  # another slice: what was not finished is gone, what was stays on its own
        press("ArrowDown")
        expect(lines).to_have_text(["50.0 mm"])
        press("m")
        expect(lines).to_have_count(0)
        expect(page.locator(".ruler .cross")).to_have_count(0)


@pytest.mark.exhaustive
def test_a_finger_measures_and_two_enlarge(server: Server, study: str) -> None:
    with open_browser(820, 1100, touch=True) as page:
        enter(page, server)
        page.goto(f"{server.url}/#/study/{study}")
        page.locator(".stage[data-ready]").wait_for(timeout=GLASS)
        box = page.locator(".stage").bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        side = min(box["width"], box["height"])  # the slice is a square of 96 pixels of 2.3 mm
        touch = page.context.new_cdp_session(page)

        def put(kind: str, *fingers: tuple[float, float]) -> None:
            points = [{"x": across, "y": down, "id": number} for number, (across, down) in enumerate(fingers)]
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        page.get_by_role("button", name="Measure (m)").tap()
        begun, lines = page.locator(".spot").inner_text().split(" ")[0], page.locator(".ruler text")
        put("touchStart", (x, y))
        for step in (1, 2, 3):
            put("touchMove", (x, y + step * side / 10))
        put("touchEnd")
        expect(lines).to_have_count(1)
        length = float((lines.text_content() or "").removesuffix(" mm"))
        assert length == pytest.approx(0.3 * 96 * 2.3, abs=0.6)
        put("touchStart", (x, y))
        put("touchStart", (x, y), (x + 80, y))  # a second finger: not a line
        put("touchMove", (x, y), (x + 160, y))
        put("touchEnd")
        expect(lines).to_have_count(1)
        assert page.locator(".spot").inner_text().split(" ")[0] == begun
        page.wait_for_timeout(500)
        line = page.locator(".ruler line").first.bounding_box()
        assert line is not None
        assert line["height"] == pytest.approx(0.6 * side, rel=0.02)


def test_what_was_painted_is_not_lost_without_a_question(server: Server, study: str) -> None:
    with open_browser(960, 640, strict=False) as page:  # a request that is refused stands in the console
        log_in(page, server)
        page.goto(f"{server.url}/#/study/{study}")
        page.locator(".stage[data-ready]").wait_for(timeout=GLASS)
        page.keyboard.press("b")
        page.keyboard.press("Space")
        page.get_by_text("Not saved yet.").wait_for()
        asked = []
        page.once("dialog", lambda one: (asked.append(one.message), one.dismiss()))
        page.get_by_role("link", name="Worklist").click()
        expect(page.locator(".stage")).to_be_visible()
        assert (asked, page.url) == (["Discard what you painted? It is not saved."], f"{server.url}/#/study/{study}")
        page.evaluate(
            "fetch('/api/logout', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'})"
        )
        page.wait_for_timeout(300)
        page.locator(".stage").focus()
        page.keyboard.press("s")  # the session has ended
        page.get_by_text("Log in to save what you painted").wait_for()
        page.get_by_label("Name").fill("root")
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.locator("dialog").wait_for(state="detached")
        page.keyboard.press("s")
        page.get_by_text("Saved as correction").wait_for()
        page.get_by_role("link", name="Worklist").click()  # no question now
        page.locator("a[data-study]").first.wait_for()


def test_every_stroke_can_be_saved_and_taken_back(server: Server, study: str) -> None:
    with open_browser(960, 640) as page:
        enter(page, server)
        page.goto(f"{server.url}/#/study/{study}")
        page.locator(".stage[data-ready]").wait_for(timeout=GLASS)
        box, save = page.locator(".stage").bounding_box(), page.get_by_role("button", name="Save correction (s)")
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.keyboard.press("b")
        page.keyboard.press("z")
        page.get_by_text("Nothing more can be undone.").wait_for()
        drag(page, "left", (x, y), (x, box["y"] - 20))  # the button is let go of beside the slices
        page.get_by_text("Not saved yet.").wait_for()
        page.keyboard.press("b")  # the brush is off
        expect(page.get_by_text("Not saved yet.")).to_be_visible()
        page.get_by_role("slider", name="Slice").focus()  # keys work from there too
        page.keyboard.press("s")
        page.get_by_text("Saved as correction").wait_for()
        expect(save).to_be_disabled()
        expect(page.get_by_label("Begin from")).to_have_text(re.compile("the program's outline.*, admin-"))
        page.keyboard.press("b")
        for _ in range(17):
            page.keyboard.press("Space")
        for _ in range(16):  # more than are kept; it began anew with the newest
            page.keyboard.press("z")
        page.get_by_text("Nothing more can be undone. Not saved yet.").wait_for()


def test_a_page_that_comes_late_is_not_shown(server: Server, study: str) -> None:
    other = add_row(server.database, state="failed", error="this one failed")
    late = """const fetch = window.fetch; window.fetch = async (path, ...more) => {
        const answer = await fetch(path, ...more);
        if (path.endsWith("/v1/view")) await new Promise((come) => { window.come = come; });
        return answer; };"""
    with open_browser(960, 640, *NO_WEBGL) as page:
        enter(page, server)
        page.add_init_script(late)
        page.reload()
        page.locator("a[data-study]").first.wait_for()
        for to, sign in (("#/", "h1:text-is('Worklist')"), (f"#/study/{other}", "text=this one failed")):
            with page.expect_response("**/v1/view"):
                page.evaluate(f"location.hash = '#/study/{study}'")
            page.wait_for_timeout(300)
            page.evaluate(f"location.hash = '{to}'")
            page.locator(sign).first.wait_for()
            page.evaluate("window.come()")
            page.wait_for_timeout(700)
            expect(page.locator(sign).first).to_be_visible()
            expect(page.locator(".stage")).to_have_count(0)


def test_a_reading_is_not_lost_where_the_session_ends_in_another_tab(server: Server, study: str) -> None:
    server.add_user("ben", "reader")
    with open_browser(960, 640, *NO_WEBGL, strict=False) as page:
        log_in(page, server)
        page.goto(f"{server.url}/#/study/{study}")
        page.locator(".stage[data-ready]").wait_for()
        page.get_by_label("Words, if any").fill("beside the falx")
        asked = []
        page.once("dialog", lambda one: (asked.append(one.message), one.dismiss()))
        page.get_by_role("link", name="Worklist").click()
        assert asked == ["Discard your reading? It is not saved."]
        tab = page.context.new_page()
        tab.goto(server.url)
        tab.get_by_role("button", name="Log out").click()
        page.get_by_text("The session has ended. Log in to save your reading.").wait_for()
        page.locator("dialog").get_by_label("Name").fill("root")
        page.locator("dialog").get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.locator("dialog").wait_for(state="detached")
        tab.get_by_text("root (admin)").wait_for()
        page.get_by_label("Cannot say").check()
        page.keyboard.press("Enter")
        page.get_by_text("root said “cannot say”, beside the falx.").wait_for()
        tab.get_by_role("button", name="Log out").click()
        tab.get_by_label("Name").fill("ben")
        tab.get_by_label("Password").fill(PASSWORD)
        tab.keyboard.press("Enter")
        page.get_by_text("ben (reader)").wait_for()  # not root, who would be named for what ben does


def test_an_upload_tells_what_was_left_out(server: Server, study: str) -> None:
    def give(*files: tuple[str, bytes]) -> str:
        page.set_input_files("#files", [{"name": name, "mimeType": "", "buffer": data} for name, data in files])
        said.filter(has_text=re.compile("received")).wait_for()
        words = said.inner_text()
        page.reload()
        page.locator("#files").wait_for()
        return words

    slices = [(f"{number}.dcm", as_bytes(one)) for number, one in enumerate(scanned()[:3])]
    with open_browser(960, 640, strict=False) as page:
        enter(page, server)
        said = page.locator(".tools p")
        words = give(slices[0], ("letter.pdf", b"%PDF-1.4"), *slices[1:])
        assert words.startswith(
            "3 slices received; the study appears when no more come. Left out: 1 unreadable. Not a DICOM"
        )
        assert give(("a.zip", as_zip({"letter.pdf": b"%PDF"}))) == "Nothing was received. Left out: 1 not DICOM."


def test_a_list_that_is_not_up_to_date_says_so(server: Server, study: str) -> None:
    with open_browser(960, 640, strict=False) as page:
        enter(page, server)
        page.set_viewport_size({"width": 1024, "height": 600})
        with server.database.write() as connection:
            connection.execute(update(identity).values(patient_id="9" * 64))
        page.reload()
        page.get_by_text("9" * 64).first.wait_for()
        assert page.locator(".rows .scroll").evaluate("box => box.scrollWidth <= box.clientWidth")
        page.route("**/api/studies*", lambda route: route.abort())
        add_row(server.database, verdict="no bleed marked", score=0.02)
        stale = page.get_by_text("This list is not up to date. The server cannot be reached")
        stale.wait_for()
        page.unroute("**/api/studies*")
        link = page.get_by_role("link", name="history").last
        link.focus()
        add_row(server.database, verdict="no bleed marked", score=0.02)
        stale.wait_for(state="hidden")
        expect(page.locator("a:focus")).to_have_attribute("href", link.get_attribute("href") or "")
        page.route("**/api/studies*", lambda route: route.abort())
        page.keyboard.press("a")  # is told at once
        stale.wait_for()
        page.route("**/api/**", lambda route: route.abort())
        page.goto(f"{server.url}/#/admin")
        page.get_by_text("The server cannot be reached").wait_for()
        page.unroute("**/api/**")
        page.get_by_role("button", name="Try again").click()
        page.get_by_text("Newest entries").wait_for()


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("part", "said"),
    [("stack.nii.gz", "The server cannot be reached"), ("niivue-*.js", "A part of this page cannot be loaded")],
)
def test_slices_that_do_not_come_are_no_fault_of_the_browser(server: Server, study: str, part: str, said: str) -> None:
    with open_browser(960, 640, strict=False) as page:
        enter(page, server)
        page.route(f"**/{part}", lambda route: route.abort())
        page.goto(f"{server.url}/#/study/{study}")
        page.get_by_text(said).wait_for(timeout=GLASS)
        page.unroute(f"**/{part}")
        page.get_by_role("button", name="Try again").click()
        page.locator(".stage[data-ready]").wait_for(timeout=GLASS)
        expect(page.locator(".stage canvas")).to_be_visible()


def test_an_open_study_tells_of_what_comes_later(server: Server) -> None:
    number = add_study(server.place, server.database, scanned(), phantom().mask.array)
    waiting = add_row(server.database, state="receiving")
    with open_browser(960, 640, *NO_WEBGL) as page:
        enter(page, server)

        def complete(route: Route) -> None:  # after the page was loaded, before it listens
            with server.database.write() as connection:
                change(connection, waiting, 1, state="complete")
                add_event(connection, time.time(), waiting, 1, "complete", "a test")
            time.sleep(1.5)  # longer than the server keeps what it last saw
            route.continue_()

        page.route("**/api/live", complete, times=1)
        page.goto(f"{server.url}/#/study/{waiting}")
        page.get_by_text("the study is complete").wait_for()
        with server.database.write() as connection:
            change(connection, waiting, 1, state="failed", error="PACS does not hold the study")
            add_event(connection, time.time(), waiting, 1, "failed", "a test")
        page.get_by_role("button", name="Mark as read: cannot say").click()  # it would be unread for ever
        page.get_by_text("Saved: cannot say.").wait_for()
        page.goto(f"{server.url}/#/study/{number}")
        page.locator(".stage[data-ready]").wait_for(timeout=GLASS)
        shutil.copytree(server.place.version(number, 1), server.place.version(number, 2))
        with server.database.write() as connection:
            change(connection, number, 1, state="superseded")
        add_row(server.database, id=number, version=2, verdict="no bleed marked", score=0.02, cause="late slices")
        page.get_by_text("This is version 1 of the study. Version 2 is there now: late slices.").wait_for()
        page.get_by_role("button", name="Open version 2").click()
        page.get_by_text("delivered, version 2").wait_for()


@pytest.mark.exhaustive
def test_on_a_phone_nothing_overlaps(server: Server, study: str) -> None:
    with open_browser(390, 844) as page:
        enter(page, server)
        for width in (1280, 768, 390):
            page.set_viewport_size({"width": width, "height": 844})
            for box in ("html", ".rows .scroll"):
                assert page.locator(box).evaluate("box => box.scrollWidth <= box.clientWidth"), (width, box)
        reason = page.get_by_text("slice count: 3 slices").bounding_box()
        assert reason is not None
        assert reason["width"] > 250
        page.goto(f"{server.url}/#/study/{study}")
        page.locator(".stage[data-ready]").wait_for(timeout=GLASS)
        boxes = [page.locator(f".stage {one}").bounding_box() for one in (".spot", ".setting", ".front", ".back")]
        for index, one in enumerate(boxes):
            for other in boxes[:index]:
                assert one is not None
                assert other is not None
                assert not (
                    one["x"] < other["x"] + other["width"] and other["x"] < one["x"] + one["width"]
                    and one["y"] < other["y"] + other["height"] and other["y"] < one["y"] + one["height"]
                )  # fmt: skip
        page.get_by_role("button", name="Save correction").scroll_into_view_if_needed()
        expect(page.locator(".stage")).to_be_in_viewport(ratio=0.9)  # what one paints on stays in sight


def test_without_webgl_pictures_are_shown_and_the_brush_is_off(server: Server, study: str) -> None:
    with open_browser(1280, 900, *NO_WEBGL) as page:
        enter(page, server)
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
        held: list[str] = []
        page.route("**/slices/*", lambda route: held.append(route.request.url))
        page.keyboard.press("Home")  # not the slice before under the words of this one
        page.get_by_text("Loading the slice…").wait_for()
        expect(picture).to_be_hidden()
        page.unroute("**/slices/*")
        page.evaluate("document.querySelector('.stage img').dispatchEvent(new Event('error'))")
        page.get_by_text("This slice did not come; it is asked for again.").wait_for()
        expect(picture).to_be_visible()
        expect(picture).to_have_js_property("naturalWidth", 768)


@pytest.mark.exhaustive
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
