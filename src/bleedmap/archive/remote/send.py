"""Results to a server or bucket: ask what is there, send what is missing, ask again, keep a record.

OUT/.batch/sent/KEY.json   the record: which turn of a study was sent where, or why it waits

A study is sent when the server itself says that it holds every object. A kill at any moment doubles nothing: objects
have their UIDs and names from the folder of results, and what is there is not sent again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bleedmap.archive.ledger import Finished, Job, Ledger
from bleedmap.archive.remote.dicomweb import Object, find_held, store
from bleedmap.archive.remote.web import RemoteError, Service, persist
from bleedmap.archive.summary import STATE, describe_error


class Target(Protocol):
    """Who takes results; it can be sent to another process, and holds no secret."""

    @property
    def url(self) -> str:
        """Its root, for records."""

    def take(self, folder: Path) -> int:
        """Bring the results in a study's folder; return the number of objects that it holds now.

        Raises:
            RemoteError: it cannot be asked, or does not take them.
        """

    def take_tables(self, folder: Path, names: Sequence[str]) -> None:
        """Bring the tables of a batch, where it takes such."""


@dataclass(frozen=True)
class DicomwebTarget:
    """A DICOMweb service that takes segmentation, report and pictures."""

    service: Service

    @property
    def url(self) -> str:
        """The service's root."""
        return self.service.url

    def take(self, folder: Path) -> int:
        """Bring the DICOM results of a study; none where it has none."""
        objects = [Object.read(path) for path in sorted((folder / "dicom").rglob("*.dcm"))]
        missing = self._find_missing(objects)
        if not missing:
            return len(objects)
        refused = {reason for reason in store(self.service, missing).values() if reason}
        if lacking := self._find_missing(objects):
            why = f"refuses ({', '.join(sorted(refused))})" if refused else "took and does not list"
            raise self.service.explain(
                f"{why} {len(lacking)} of {len(objects)} objects", "a service that stores SEG, SR and SC objects",
                "look into its log, then give the same command again", away=not refused,
            )  # fmt: skip
        return len(objects)

    def _find_missing(self, objects: Sequence[Object]) -> list[Object]:
        held = find_held(self.service, objects)
        return [one for one in objects if one.sop_uid not in held]

    def take_tables(self, folder: Path, names: Sequence[str]) -> None:
        """Take none: they are no DICOM objects."""


@dataclass(frozen=True)
class Sending:
    """Where the results of a batch in the folder `out` are sent, and its record of what was."""

    target: Target
    out: Path

    def is_sent(self, finished: Finished) -> bool:
        """Whether the target holds what this turn of a study gave."""
        job = self._job(finished)
        sent = self._ledger.read(job)
        return sent is not None and sent.job == job and not sent.content.get("waiting")

    def send(self, finished: Finished, place: Path, persist: Callable[[Callable[[], Any]], Any]) -> bool:
        """Send a claimed study's results, and keep that they were sent, or why they wait; return which.

        Args:
            persist: does what asks a server, again where it is away.
        """
        try:
            content = {"objects": persist(lambda: self.target.take(place)), "waiting": ""}
        except Exception as error:  # the study waits, the others go on
            content = {"objects": 0, "waiting": describe_error(error)}
        self._ledger.finish(self._job(finished), content)
        return not content["waiting"]

    def send_tables(self, names: Sequence[str]) -> str:
        """Send the tables of the batch; return '', or why they wait."""
        try:
            persist(lambda: self.target.take_tables(self.out, names))
        except RemoteError as error:
            return describe_error(error)
        return ""

    def count(self, finished: Iterable[Finished]) -> dict[str, Any]:
        """Say to whom studies were sent: how many, how many objects, and which wait, with the reason."""
        sent, objects, waiting = 0, 0, dict[str, str]()
        for one in finished:
            record = self._ledger.read(job := self._job(one))
            if record is not None and record.job == job:
                why = str(record.content.get("waiting", ""))
                sent, objects = sent + (not why), objects + int(record.content.get("objects", 0))
                if why:
                    waiting[one.content["row"]["name"]] = why
        return {"to": self.target.url, "sent": sent, "objects": objects, "waiting": waiting}

    @property
    def _ledger(self) -> Ledger:
        return Ledger(self.out, STATE, records="sent")

    def _job(self, finished: Finished) -> Job:
        return Job(finished.job.key, finished.turn, {"to": self.target.url})
