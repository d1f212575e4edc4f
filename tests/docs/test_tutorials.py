"""The tutorials do what they say: each command runs, each file that a page promises is there."""

import re
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
sys.path.append(str(DOCS))

import tutorials  # noqa: E402

NAMES = sorted(path.stem for path in tutorials.PAGES.glob("*.md"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", NAMES)
def test_a_reader_who_follows_the_page_gets_what_it_promises(name, tmp_path):
    tutorials.run_page(name, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_every_page_is_in_the_sites_contents_and_has_its_picture(name):
    assert f"tutorials/{name}.md" in (DOCS.parent / "zensical.toml").read_text("utf-8")
    text = (tutorials.PAGES / f"{name}.md").read_text("utf-8")
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert pictures
    assert all((tutorials.PAGES / one).is_file() for one in pictures)


def test_a_promise_that_is_not_kept_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(tutorials, "PAGES", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo 1 > one\n```\n\n| file | |\n| --- | --- |\n| `one` | |\n", "utf-8")
    assert tutorials.run_page("page", tmp_path) == ["one"]
    page.write_text(page.read_text("utf-8") + "| `two` | |\n", "utf-8")
    with pytest.raises(RuntimeError, match="two"):
        tutorials.run_page("page", tmp_path)
    page.write_text("```console\n$ false\n```\n", "utf-8")
    with pytest.raises(RuntimeError, match="false"):
        tutorials.run_page("page", tmp_path)
