"""Spare highdicom its whole table of the DICOM standard.

At its first use highdicom 0.28 parses all 22 MB of the table, though results need 50 of its 436 modules: 0.3 s and
67 MiB for each process. It offers no way around: `SOPClass.__init__` and `Segmentation.from_dataset` look up their
modules there, whatever they are given. So the one private module that reads the table gets another `json.loads`, by
which a module is parsed when it is looked up. Only the version that was tried is touched; with another one, or a table
laid out otherwise, highdicom works as always, at the cost named.
"""

import importlib
import json
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

_TRIED = "0.28."  # of highdicom: its _standard_utils takes `loads` alone of json
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

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def parse_on_demand() -> None:
    """From now on highdicom parses what it looks up; another version of it stays as it is."""
    if version("highdicom").startswith(_TRIED):
        tables = importlib.import_module("highdicom._standard_utils")
        vars(tables)["json"] = SimpleNamespace(loads=_loads)


def _loads(text: str) -> Any:
    try:
        return LazyObject(text) if len(text) >= _LARGE else json.loads(text)
    except ValueError:
        return json.loads(text)
