"""The folder of everything: its names, its rights, and writing that a power cut does not undo.

    DATA/incoming/parts/            what is being received, under names that no two writers share
    DATA/incoming/STUDYKEY/SOPKEY.dcm
    DATA/studies/ID/vN/dicom/       the slices of version N
    DATA/studies/ID/vN/results/     as `bleedmap segment` writes them, whole or not at all
    DATA/studies/ID/vN/view/        what the page shows
    DATA/corrections/ID/
    DATA/keys/                      secrets, 0600
    DATA/logs/
    DATA/server.db                  SQLite

Keys of studies and slices are keyed hashes, identifiers are random: no name, number or UID is in a path.
"""

import hashlib
import hmac
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from bleedmap.io.files import writing
from bleedmap.server.config import GB

_FOLDERS = ("incoming", "incoming/parts", "studies", "corrections", "keys", "logs")
_KEY = "keys/place.key"
_ID = re.compile(r"[0-9a-z]{20}")
_LETTERS = "0123456789abcdefghjkmnpqrstvwxyz"  # base 32 without what is misread


class Place:
    """The server's folder; made with its rights where it is not there yet.

    Raises:
        OutputError: it cannot be made or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        with writing(root):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            root.chmod(0o700)
            for name in _FOLDERS:
                (root / name).mkdir(mode=0o700, exist_ok=True)
                give_to_owner(root / name)
            self._key = self.read_secret(_KEY, lambda: secrets.token_hex(32)).encode()

    def read_secret(self, name: str, make: Callable[[], str]) -> str:
        """Read a secret's file, 0600; the first process to ask makes it, others meanwhile read what it made."""
        path = self.root / name
        if not path.exists():
            part = path.with_name(f".{secrets.token_hex(8)}")
            self.write_whole(part, [make().encode()])
            with suppress(FileExistsError):  # a link is refused where the name is taken: one secret wins
                os.link(part, path)
            part.unlink()
            give_to_owner(path)
        return path.read_text("utf-8").strip()

    def key_of(self, uid: str) -> str:
        """The keyed hash of a UID: the same for the same UID here, and nothing elsewhere."""
        return hmac.new(self._key, uid.strip("\0 ").encode(), hashlib.sha256).hexdigest()[:32]

    def incoming(self, study_key: str) -> Path:
        """Where the slices of a study wait until it is complete."""
        return self.root / "incoming" / study_key

    def list_incoming(self) -> list[str]:
        """The keys of studies of which slices wait."""
        return sorted(one.name for one in (self.root / "incoming").iterdir() if one.is_dir() and one.name != "parts")

    def new_part(self) -> Path:
        """A name that no other writer has, on the disk of `incoming`."""
        return self.root / "incoming/parts" / f"{secrets.token_hex(12)}.part"

    def version(self, study: str, version: int) -> Path:
        """The folder of a version of a study."""
        if not _ID.fullmatch(study):
            raise ValueError(f"not the identifier of a study: {study!r}")
        return self.root / "studies" / study / f"v{version}"

    def dicom(self, study: str, version: int) -> Path:
        """The slices of a version."""
        return self.version(study, version) / "dicom"

    def results(self, study: str, version: int) -> Path:
        """The results of a version, as `bleedmap segment` writes them."""
        return self.version(study, version) / "results"

    def view(self, study: str, version: int) -> Path:
        """What the page shows of a version."""
        return self.version(study, version) / "view"

    def find_earlier(self, study: str, version: int, name: str) -> Path | None:
        """A file or folder of the last version before this one that still has it."""
        earlier = (self.version(study, number) / name for number in range(version - 1, 0, -1))
        return next((one for one in earlier if one.exists()), None)

    def corrections(self, study: str) -> Path:
        """The outlines that readers drew for a study."""
        return self.root / "corrections" / study

    @staticmethod
    def write_whole(path: Path, content: Iterable[bytes | memoryview]) -> None:
        """Write a new file in pieces, 0600, and wait until the disk has it."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())


def new_id() -> str:
    """A random identifier of 100 bits, fit for paths and URLs."""
    return "".join(secrets.choice(_LETTERS) for _ in range(20))


def give_to_owner(path: Path) -> None:
    """Give what root makes to the owner of its folder: the service, of which root tried the settings, is to use it."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # not on Windows
        owner = path.parent.stat()
        with suppress(OSError):  # a share or a container where root may not
            os.chown(path, owner.st_uid, owner.st_gid)


def free_bytes(folder: Path) -> int:
    """Return how many bytes are free on the disk of a folder."""
    return shutil.disk_usage(folder).free


def is_full(folder: Path, free_gb: float) -> bool:
    """Whether less is free than what the server keeps free."""
    return free_bytes(folder) < free_gb * GB
