"""Build the documentation's site strictly, and see that a page, when read, loads nothing from any other host."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
SITE = ROOT / "site"
_LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "link": "href"}


class _Loads(HTMLParser):
    """Collects what a page loads by itself: links to click are not among it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in _LOADS and values.get("rel") != "canonical":
            self.found.append(values.get(_LOADS[tag]) or "")


def find_foreign(page: Path) -> list[str]:
    """Addresses on other hosts that the page loads."""
    loads = _Loads()
    loads.feed(page.read_text("utf-8"))
    return [one for one in loads.found if one.startswith(("http:", "https:", "//"))]


def main() -> int:
    """Build and check; the number of faults."""
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if built.returncode:
        print(built.stdout + built.stderr)
        return 1
    pages = sorted(SITE.rglob("*.html"))
    faults = [f"{page.relative_to(SITE)} loads {one}" for page in pages for one in find_foreign(page)]
    print(*faults, f"{len(pages)} pages, {len(faults)} loads from elsewhere", sep="\n")
    return len(faults)


if __name__ == "__main__":
    sys.exit(main())
