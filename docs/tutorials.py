"""Run the tutorials as a reader would, command by command, and see that what they promise is there.

    python docs/tutorials.py             every page
    python docs/tutorials.py segment     one of them
    python docs/tutorials.py --pictures  and draw its picture again, beside the page

A block ```console holds commands after `$ `. One marked `data` needs the data set that BLEEDMAP_DATA names, one marked
`long` takes minutes (--long); else it is passed by, with what follows from it. The first column of a table
`file` names files that must be there after the blocks above it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PAGES = Path(__file__).parent / "tutorials"
_BLOCK = re.compile(
    r"^```console(?: (data|long))?\n((?s:.*?))^```$|^\| file \|.*\n\|.*\n((?:\|.*\n)+)|^<!-- (picture|page): (\S+) -->",
    re.M,
)

_LONGEST_S = 900  # of a command


def run_page(name: str, folder: Path, *, pictures: bool = False, long: bool = False) -> list[str]:
    """Run a page's commands in a folder.

    Returns:
        The files that it promised and that are there.

    Raises:
        RuntimeError: a command failed, or a promised file is missing; it holds what the command said.
    """
    found, skipped = [], False
    for block in _BLOCK.finditer((PAGES / f"{name}.md").read_text("utf-8")):
        needs, commands, table, kind, picture = block.groups()
        if commands is not None:
            skipped = (needs == "data" and "BLEEDMAP_DATA" not in os.environ) or (needs == "long" and not long)
            for line in () if skipped else commands.splitlines():
                if line.startswith("$ "):
                    run_command(line[2:], folder)
        elif skipped:
            continue
        elif table is not None:
            for promised in re.findall(r"^\| `([^`]+)`", table, re.M):
                if not (folder / promised).is_file():
                    raise RuntimeError(f"{name}.md promises {promised}, which is not there")
                found.append(promised)
        else:
            found.append(picture)
            draw(folder / picture, kind, PAGES / f"{name}.png" if pictures else folder / f"{name}-drawn.png")
    return found


def run_command(command: str, folder: Path) -> None:
    """In a shell of its own, with the programs of this environment first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        done = subprocess.run(
            ["sh", "-ec", command], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True,
            check=False, timeout=_LONGEST_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:  # it waits for what does not come, as where another server has the port
        raise RuntimeError(f"`{command}` did not end within {_LONGEST_S} s") from error
    if done.returncode:
        raise RuntimeError(f"`{command}` ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def draw(source: Path, kind: str, target: Path) -> None:
    """Copy a picture, or take a page's first screen as a browser shows it."""
    if kind == "picture":
        with Image.open(source) as image:
            image.thumbnail((1000, 1000))
            image.convert("RGB").quantize(64).save(target, optimize=True)  # small: it stands in the repository
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        page = browser.new_page(viewport={"width": 1000, "height": 700})
        page.goto(source.as_uri())
        page.screenshot(path=target)
        browser.close()


def main() -> int:
    """Run the pages asked for, each in a folder that goes away."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="*", default=sorted(path.stem for path in PAGES.glob("*.md")))
    parser.add_argument("--long", action="store_true", help="run what takes minutes too")
    parser.add_argument("--pictures", action="store_true", help="draw the pages' pictures again")
    asked = parser.parse_args()
    for name in asked.page:
        with tempfile.TemporaryDirectory() as folder:
            found = run_page(name, Path(folder), pictures=asked.pictures, long=asked.long)
            print(f"{name}: {', '.join(found) or 'commands ran'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
