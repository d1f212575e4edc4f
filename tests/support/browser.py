"""A real browser, Debian's Chromium, without a screen: what a page does when a person uses it."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import ConsoleMessage, Page, sync_playwright

SOFTWARE = ("--disable-gpu", "--enable-unsafe-swiftshader")
NO_WEBGL = ("--disable-gpu", "--disable-3d-apis")
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


@contextmanager
def open_browser(
    width: int = 1200, height: int = 900, *flags: str, strict: bool = True, touch: bool = False
) -> Iterator[Page]:
    """Yield an empty page; whatever it asks of another host, or complains of in its console, fails the test.

    WebGL, where a page uses it, is drawn by the processor; `flags` go to Chromium. What the console says counts for
    nothing where a page is not ours (`strict` False). With `touch` it is a screen for fingers.
    """
    program = shutil.which("chromium")
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("needs Chromium: apt-get install chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=["--no-sandbox", *(flags or SOFTWARE), *QUIET])
        page = browser.new_context(viewport={"width": width, "height": height}, has_touch=touch).new_page()
        complaints: list[str] = []
        page.on("console", lambda one: complaints.append(one.text) if strict and _complains(one) else None)
        page.on("pageerror", lambda one: complaints.append(str(one)) if strict else None)
        page.on("request", lambda one: complaints.append(one.url) if _leaves(one.url) else None)
        yield page
        browser.close()
        assert complaints == []


def _complains(message: ConsoleMessage) -> bool:
    """Whether it is an error or a warning, other than of a test that reads a canvas back."""
    read_back = "willReadFrequently" in message.text or "GPU stall due to ReadPixels" in message.text
    return message.type in ("error", "warning") and not read_back


def _leaves(url: str) -> bool:
    return not url.startswith(("file:", "data:", "blob:", "http://127.0.0.1", "http://localhost"))
