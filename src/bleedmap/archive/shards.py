"""A batch in shards, for the jobs of a cluster: each does the studies whose key's hash falls to it.

OUT/.batch/studies.jsonl   what the search found, a line a study, with the name of its folder of results
OUT/.batch/shards.json     into how many shards the last run split it

The first shard searches, the others wait for it, and read their own lines alone. Which shard does a study is no part of
its record: a split into another number of shards goes on where the last one stopped.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bleedmap.archive.find import Archive, Found, Passed, Source, display_path
from bleedmap.archive.ledger import Ledger
from bleedmap.errors import InputError, SettingsError
from bleedmap.io.files import write_json, written_whole
from bleedmap.io.names import short_hash

_FORMAT = "bleedmap studies 1"
_LIST, _COUNT = "studies.jsonl", "shards.json"


@dataclass(frozen=True)
class Shard:
    """One of the parts that a batch is split into.

    Raises:
        SettingsError: no such part.
    """

    number: int  # from 1
    of: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise SettingsError(
                "--shard", found=f"{self.number}/{self.of}", needed="I/N with I from 1 to N, such as 3/16",
                remedy="in a Slurm array: --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT, tasks from 1",
            )  # fmt: skip

    @classmethod
    def parse(cls, words: str) -> "Shard":
        """From 'I/N'."""
        number, _, of = words.partition("/")
        return cls(int(number), int(of)) if number.isdecimal() and of.isdecimal() else cls(0, 0)

    def holds(self, key: str) -> bool:
        """Whether the study of that key is this shard's; the same on every machine."""
        return shard_of(key, self.of) == self.number


def shard_of(key: str, count: int) -> int:
    """The number, from 1, of the shard that does a study."""
    return int(short_hash(key), 16) % count + 1


@dataclass(frozen=True)
class Listed:
    """Studies of a batch's list."""

    found: Found
    names: dict[str, str]  # a study's key -> the name of its folder of results
    made_at: str


def write_list(ledger: Ledger, found: Found, names: dict[str, str]) -> None:
    """Keep what a search found, whole or not at all."""
    head = {
        "format": _FORMAT, "folder": _place(found.folder), "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "passed": [asdict(one) for one in found.passed],
    }  # fmt: skip
    with written_whole(ledger.state / _LIST) as temporary, temporary.open("w", encoding="ascii") as stream:
        stream.write(json.dumps(head) + "\n")
        for one in found.sources:
            about = {"key": one.key, "name": names[one.key], "path": str(one.path), "place": one.place, "uid": one.uid}
            stream.write(json.dumps(about | {"files": one.files, "digest": one.digest}) + "\n")


def read_list(ledger: Ledger, folder: Path | Archive, shard: Shard | None) -> Listed | None:
    """Read the studies of a shard, or all; None where no search of this folder was kept."""
    lines = _read_lines(ledger.state / _LIST)
    head = next(lines, {})
    if head.get("format") != _FORMAT or head.get("folder") != _place(folder):
        return None
    names, sources = {}, []
    for line in lines:
        if shard is None or shard.holds(line["key"]):
            names[line["key"]] = line["name"]
            path, files = Path(line["path"]), tuple(line["files"])
            sources.append(Source(path, line["place"], line["uid"], files, line["digest"]))
    passed = tuple(Passed(one["reason"], one["count"], tuple(one["examples"])) for one in head["passed"])
    return Listed(Found(folder, tuple(sources), passed), names, head["made_at"])


def _read_lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="ascii") as stream:
            for line in stream:
                yield json.loads(line)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise InputError(
            path, found=f"cannot be read ({error})", needed="the list that a shard's search wrote",
            remedy="search again: --search",
        ) from error  # fmt: skip


def note_shards(ledger: Ledger, shard: Shard) -> int | None:
    """Keep into how many shards a batch is split; return into how many it was before, where that differs."""
    with ledger.lock("shards", wait=True):
        earlier = read_count(ledger)
        if earlier != shard.of:
            write_json(ledger.state / _COUNT, {"shards": shard.of})
    return earlier if earlier not in (None, shard.of) else None


def read_count(ledger: Ledger) -> int | None:
    """Into how many shards a batch was last split; None where it was not."""
    try:
        return int(json.loads((ledger.state / _COUNT).read_text("utf-8"))["shards"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def count_open_shards(keys: Iterator[str], count: int) -> dict[int, int]:
    """Shard -> how many of these studies it has still to do."""
    return dict(sorted(Counter(shard_of(key, count) for key in keys).items()))


def _place(folder: Path | Archive) -> str:
    return display_path(folder.resolve()) if isinstance(folder, Path) else folder.search_key
