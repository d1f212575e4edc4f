"""The ledger of a folder of results: jobs, each claimed by one process at a time and finished with a record or not.

FOLDER/STATE/settings.json   what all results were made with
FOLDER/STATE/done/KEY.json   the record of a finished job; KEY is a hash of the job's key
FOLDER/STATE/locks/          claims of processes; a killed process lets go of its own
FOLDER/STATE/work/KEY/       what an unfinished job writes

The ledger does not run anything. Whoever does the jobs (this process, worker processes, a cluster, a hospital's queue)
claims, begins and finishes them here, and may be killed at any moment.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from bleedmap.archive.locks import locked
from bleedmap.errors import SettingsError
from bleedmap.io.files import refuse_foreign_files, write_json, writing
from bleedmap.io.names import short_hash

_BEGUN = "begun"  # in an unfinished job's folder: the run that began it, and how often


@dataclass(frozen=True)
class Job:
    """A piece of work whose result is kept."""

    key: str  # the same from run to run, another for each job of a folder
    digest: str  # of the job's input: another after its files were changed
    settings: Mapping[str, Any] = field(repr=False)  # what decides on the result, as JSON can hold it


@dataclass(frozen=True)
class Finished:
    """The record of a finished job."""

    job: Job  # as it was done
    turn: str  # another each time that the job is done
    content: Mapping[str, Any]  # the result, as JSON holds it


class Ledger:
    """The ledger of one folder; several processes may hold it, and one may send it to another."""

    def __init__(
        self, folder: Path, state: str, *, records: str = "done", locks: str = "locks",
        name: Callable[[str], str] = short_hash,
    ) -> None:  # fmt: skip
        """Say where the ledger lies; nothing is written yet.

        Args:
            state: the folder inside it that holds the ledger; '' for `folder` itself.
            records, locks: the folders inside the ledger.
            name: gives the name of a job's files from its key; a function of a module.
        """
        self.folder, self.state = folder, folder / state
        self._records, self._locks, self._name = self.state / records, self.state / locks, name

    def open(
        self, settings: Mapping[str, Any], *, remedy: str, hints: Mapping[str, str], overwrite: bool = False
    ) -> None:
        """Begin a folder of results, or resume one.

        Args:
            settings: what decides on all results, as JSON can hold it.
            remedy: what a user can do who wants other settings than the folder has.
            hints: name of a setting -> a further remedy where it is this one that differs.
            overwrite: take these settings although the folder has others: its jobs are open again.

        Raises:
            OutputError: the folder holds files of others, or cannot be written.
            SettingsError: the folder has other settings, and `overwrite` is not given.
        """
        self.refuse_foreign_files()
        with self.lock("settings", wait=True):
            earlier = self.settings()
            if earlier not in (None, settings) and not overwrite:
                before = earlier if isinstance(earlier, dict) else {}
                names = [name for name in {**settings, **before} if before.get(name) != settings.get(name)]
                other = "; ".join(f"{name} {before.get(name)!r}, now {settings.get(name)!r}" for name in names)
                raise SettingsError(
                    self.folder, found=f"holds results made with other settings: {other}",
                    needed="the same settings for all results in a folder",
                    remedy="; ".join([remedy, *(hints[name] for name in names if name in hints)]),
                )  # fmt: skip
            if earlier != settings:
                write_json(self.state / "settings.json", settings)

    def refuse_foreign_files(self) -> None:
        """Refuse a folder that is neither empty nor has this ledger: to be asked before long work begins.

        Raises:
            OutputError: it is a file, or holds files of others.
        """
        is_new = self.folder.is_dir() and not self.state.is_dir()
        refuse_foreign_files(self.folder, [one.name for one in self.folder.iterdir()] if is_new else ())

    def settings(self) -> Any:
        """The settings that the folder's results were made with; None before the first run."""
        return _read_json(self.state / "settings.json")

    def lock(self, name: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Yield whether a lock of this folder is ours, and hold it while inside; see `locked`."""
        return locked(self._locks / f"{name}.lock", wait=wait)

    def claim(self, job: Job, *, wait: bool) -> AbstractContextManager[bool]:
        """Yield whether no other process is at this job; while inside, none can be."""
        return self.lock(self._name(job.key), wait=wait)

    def read(self, job: Job) -> Finished | None:
        """Read the record of a job, whatever input and settings it was done with; None where there is none."""
        return _parse(self.record_file(job.key), job)

    def read_all(self) -> Iterator[Finished]:
        """Read every record of the folder that can be read, one after the other: there may be a hundred thousand."""
        for path in sorted(self._records.glob("[!.]*.json")):  # not what a killed process had half written
            if (one := _parse(path, None)) is not None:
                yield one

    def begin(self, job: Job, run: str = "") -> Path:
        """Take away a claimed job's earlier record, which is no longer true, and make an empty folder for its files.

        Args:
            run: whose turns `count_ends` counts; '': none are.
        """
        work, ends = self._work(job), self.count_ends(job, run)
        with writing(work):
            shutil.rmtree(work, ignore_errors=True)  # what a killed run left
            self.record_file(job.key).unlink(missing_ok=True)
            work.mkdir(parents=True)
            if run:
                (work / _BEGUN).write_text(f"{run} {ends + 1}", "ascii")
        return work

    def count_ends(self, job: Job, run: str) -> int:
        """Count how often a process of this run began a claimed job and ended, killed, before it was finished."""
        try:
            begun_by, _, times = (self._work(job) / _BEGUN).read_text("ascii").partition(" ")
        except (OSError, ValueError):
            return 0
        return int(times) if run and begun_by == run and times.isdecimal() else 0

    def finish(self, job: Job, content: Mapping[str, Any]) -> None:
        """Write a claimed job's record, whole or not at all; from now on it is finished."""
        shutil.rmtree(self._work(job), ignore_errors=True)
        about = {"key": job.key, "digest": job.digest, "settings": job.settings, "turn": uuid4().hex}
        write_json(self.record_file(job.key), about | dict(content), compact=True)

    def record_file(self, key: str) -> Path:
        """Return where the record of a job is, or will be."""
        return self._records / f"{self._name(key)}.json"

    def _work(self, job: Job) -> Path:
        return self.state / "work" / self._name(job.key)


def _parse(path: Path, job: Job | None) -> Finished | None:
    """Read a record; None where there is none, or where someone changed it: its job is open again.

    Records of `evaluate --studies` once lacked key and settings, which are those of their folder.
    """
    try:
        content = dict(_read_json(path))
        known: dict[str, Any] = {"key": job.key, "settings": job.settings} if job is not None else {}
        known |= {name: content.pop(name) for name in ("key", "digest", "settings") if name in content}
        return Finished(Job(**known), content.pop("turn", ""), content)
    except TypeError:
        return None


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
