"""highdicom's table of the DICOM standard, of which it looks up some parts: only these are parsed.

At first use highdicom (0.28) parses all 22 MB of it: 0.3 s and 67 MiB for 50 of 436 modules.
"""

import importlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

_LARGE = 1 << 20  # characters; its other tables are small
_KEY = '\n  "'  # a key of the outermost object, as `json.dumps(..., indent=2)` writes it


class LazyObject(Mapping[str, Any]):
    """A JSON object written with an indent of 2, each value parsed when it is first asked for.

    Raises:
        ValueError: the text is laid out otherwise.
    """

    def __init__(self, text: str) -> None:
        self._text, self._parsed = text, dict[str, Any]()
        self._places: dict[str, int] = {}
        place = text.find(_KEY)
        while place >= 0:
            start = place + len(_KEY)
            end = text.index('": ', start)
            self._places[text[start:end]] = end + len('": ')
            place = text.find(_KEY, end)
        if not text.startswith("{" + _KEY) or any("\\" in key for key in self._places):
            raise ValueError("not an object of indented JSON, or keys with escapes")

    def __getitem__(self, key: str) -> Any:
        if key not in self._parsed:
            self._parsed[key], _ = json.JSONDecoder().raw_decode(self._text, self._places[key])
        return self._parsed[key]

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class _Json:
    """`json`, but for large objects."""

    def __getattr__(self, name: str) -> Any:
        return getattr(json, name)

    def loads(self, text: Any, **how: Any) -> Any:
        if isinstance(text, str) and len(text) >= _LARGE and not how:
            try:
                return LazyObject(text)
            except ValueError:  # another version's layout
                pass
        return json.loads(text, **how)


def parse_on_demand() -> None:
    """From now on highdicom parses what it looks up; where it is another highdicom, nothing changes."""
    try:
        tables = importlib.import_module("highdicom._standard_utils")
    except ImportError:
        return
    if getattr(tables, "json", None) is json:
        vars(tables)["json"] = _Json()
