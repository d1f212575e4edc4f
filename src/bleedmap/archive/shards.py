"""The list of a batch's studies, and shards for the jobs of a cluster: each does those whose key's hash falls to it.

OUT/.batch/studies.jsonl   what the search found, a line a study, with the name of its folder of results
OUT/.batch/shards.json     into how many shards the last run split it

The first shard searches, the others wait for it, and read their own lines alone. Which shard does a study is no part of
its record: a split into another number of shards goes on where the last one stopped.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bleedmap.archive.find import Archive, Found, Passed, Seen, Source, display_path, find_studies, name_studies
from bleedmap.archive.ledger import Finished, Ledger
from bleedmap.archive.remote.web import persist
from bleedmap.archive.summary import STATE, TABLES, THUMBNAILS, read_row
from bleedmap.arrays import ignore
from bleedmap.errors import InputError, SettingsError, usable
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


def batch_ledger(out: Path) -> Ledger:
    """Return the ledger of a batch's folder of results."""
    return Ledger(out, STATE)


def find_in(place: Path | Archive, out: Path, seen: Seen = ignore) -> Found:
    """Look for the studies of a folder, without those of `out` in it, or of an archive.

    Raises:
        InputError: there is none.
        RemoteError: the archive cannot be asked.
    """
    return find_studies(place, out, seen) if isinstance(place, Path) else persist(lambda: place.find(seen))


def list_studies(
    folder: Path | Archive, out: Path, shard: Shard | None, seen: Seen = ignore, *, again: bool = False
) -> Listed:
    """Read a shard's studies, or all, from the list of a batch; search and make it where there is none, or `again`.

    Of shards that begin together one searches, and the others wait for it.

    Raises:
        InputError: no study in the folder, or a damaged list.
        OutputError: `out` is not for a batch, or its disk cannot be written.
    """
    ledger = batch_ledger(out)
    ledger.refuse_foreign_files()
    with ledger.lock("search", wait=True):
        listed = None if again else read_list(ledger, folder, shard)
        if listed is None:
            found = find_in(folder, out, seen)
            write_list(ledger, found, name_folders(found, {one.job.key: one for one in ledger.read_all()}))
            listed = read_list(ledger, folder, shard)
    assert listed is not None
    return listed


def name_folders(found: Found, before: Mapping[str, Finished]) -> dict[str, str]:
    """Name each study's folder by its key; names of earlier runs stay."""
    known = {key: row.name for key, one in before.items() if (row := read_row(one)) is not None}
    whole = found.folder.resolve().name if isinstance(found.folder, Path) else Path(found.root).name
    places = {one.key: one.place if one.place != "." else whole for one in found.sources}
    return name_studies(places, known, (*TABLES, THUMBNAILS))


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
    if not path.exists():
        return
    needed, remedy = "the list that a shard's search wrote", "search again: --search"
    with usable(path, InputError, needed, remedy, found="cannot be read"), path.open(encoding="ascii") as stream:
        for line in stream:
            yield json.loads(line)


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


def _place(folder: Path | Archive) -> str:
    return display_path(folder.resolve()) if isinstance(folder, Path) else folder.search_key
