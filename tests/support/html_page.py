"""A page read as a browser would read it."""

from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """What a page holds; tags that are not closed, or in another order, fail.

    Attributes:
        text: the whole file.
        tags: each tag's name and attributes, in order.
        words: what is read, spaces and line breaks as one space.
        tables: the cells of each row of a table, by the anchor of the `div` that it stands in.
    """

    VOID = frozenset({"meta", "img", "br", "link", "hr", "input", "line", "rect", "stop"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.words = text, ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {"": []}
        self._open: list[str] = []
        self._anchor = ""
        self.feed(text)
        self.close()
        assert not self._open
        self.words = " ".join(self.words.split())

    @classmethod
    def read(cls, path: Path) -> "Page":
        """The page in a file."""
        return cls(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag not in self.VOID:
            self._open.append(tag)
        if tag == "div" and found.get("id"):
            self._anchor = found["id"] or ""
            self.tables[self._anchor] = []
        elif tag == "tr":
            self.tables[self._anchor].append([])
        elif tag in ("td", "th"):
            self.tables[self._anchor][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.words += data
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[self._anchor][-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every such tag."""
        return [attributes for name, attributes in self.tags if name == tag]
