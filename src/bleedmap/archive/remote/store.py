"""Buckets and other stores of files, by fsspec: studies from a prefix, results to one.

Which objects make a study is found as in a folder: by the beginning of each, which is fetched, looked at and removed.
"""

import errno
import hashlib
import json
import posixpath
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import fsspec

from bleedmap.archive.find import Found, Search, Source, explain_empty, read_identity
from bleedmap.archive.remote.dicomweb import MOST_STUDY_BYTES
from bleedmap.archive.remote.web import RemoteError
from bleedmap.arrays import ignore
from bleedmap.errors import BleedmapError, InputError, MissingExtraError, SettingsError

_START_BYTES = 1 << 16  # of each object, to tell what it is
_AT_ONCE = 64  # objects whose beginning is asked for together
_MOST_NAME = 255  # bytes of a file's name
_LIST = ".bleedmap.json"  # in a folder of results: its files
_GIVE = "give credentials as AWS has them (AWS_PROFILE, ~/.aws, a role); for a public bucket set FSSPEC_S3_ANON=true"
_LAST = "summary.json"  # of a study's results, sent when all the rest is there


@lru_cache(maxsize=8)
def _connect(protocol: str, host: str) -> Any:
    del host  # part of what is kept apart
    try:
        return fsspec.filesystem(protocol, **({"auto_mkdir": True} if protocol in ("file", "local") else {}))
    except ImportError as error:
        if protocol in ("s3", "s3a"):
            raise MissingExtraError(f"{protocol}://", "s3", "s3fs") from error
        raise _refuse(
            protocol, f"needs a package that is not installed: {error}", "pip install that package"
        ) from error
    except (ValueError, TypeError) as error:  # TypeError: one that wants more than a host
        raise _refuse(protocol, "is no kind of store that is known", "give https:// or s3://") from error


def _refuse(protocol: str, found: str, remedy: str) -> SettingsError:
    return SettingsError(
        f"{protocol}://", found=found, needed="a folder, a DICOMweb service (https://…) or a bucket (s3://…)",
        remedy=remedy,
    )  # fmt: skip


@dataclass(frozen=True)
class _Store:
    """A prefix of a store; the connection is made where it is used, with the credentials that are there."""

    url: str

    @classmethod
    def open(cls, url: str) -> Self:
        """Of a URL.

        Raises:
            SettingsError: a kind of store that is not known, or whose package is not installed.
        """
        made = cls(url.rstrip("/"))
        made.connect()
        return made

    @property
    def search_key(self) -> str:
        """Another for each prefix."""
        return self.url

    def connect(self) -> Any:
        """The file system of fsspec."""
        protocol, _, rest = self.url.partition("://")
        return _connect(protocol.lower(), rest.split("/")[0])

    @property
    def root(self) -> str:
        """The prefix as fsspec names it."""
        with self.asking():
            return str(self.connect()._strip_protocol(self.url)).rstrip("/")

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Make errors of the store ours; what a library's error says is not repeated, but of the system's kind."""
        try:
            yield
        except BleedmapError:
            raise
        except FileNotFoundError as error:
            raise self.explain("is not there", "check the bucket and the prefix", status=404) from error
        except PermissionError as error:
            raise self.explain("may not be read or written with these credentials", _GIVE, status=403) from error
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # of the disk here
            if type(error).__name__ in ("NoCredentialsError", "ProfileNotFound", "PartialCredentialsError"):
                raise self.explain("asks for credentials, and there are none", _GIVE, status=401) from error
            words = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            remedy = "check the URL and the network, or wait; then give the same command again"
            raise self.explain(f"cannot be reached, or does not answer ({words})", remedy, away=True) from error

    def explain(self, found: str, remedy: str, *, status: int | None = None, away: bool = False) -> RemoteError:
        """Make the error of a store."""
        needed = "a bucket and prefix that may be read or written"
        return RemoteError(self.url, found=found, needed=needed, remedy=remedy, status=status, away=away)


class StoreArchive(_Store):
    """The studies below a prefix of a store."""

    def find(self, seen: Callable[[int], None] = ignore) -> Found:
        """Look at the beginning of every object below the prefix.

        Raises:
            RemoteError: the store cannot be asked.
            InputError: no study is below the prefix.
        """
        store, root = self.connect(), self.root
        with self.asking():
            listed: dict[str, dict[str, Any]] = store.find(root, detail=True)
        about = {
            name[len(root) :].lstrip("/") or posixpath.basename(name): one for name, one in listed.items()
            if not name.endswith("/")  # what some tools leave for a folder
        }  # fmt: skip
        if not about:
            raise self.explain("holds nothing", "check the bucket and the prefix", status=404)
        with tempfile.TemporaryDirectory(prefix="bleedmap-") as folder:
            return self._sort(Path(folder), about, seen)

    def _sort(self, folder: Path, about: Mapping[str, dict[str, Any]], seen: Callable[[int], None]) -> Found:
        search = _StoreSearch(folder, about, lambda name: self._get({name: folder / name}))
        parents = {str(one) for name in about for one in Path(name).parents}
        names, count = [], 0
        for name in sorted(about):
            if not _is_plain(name):
                search.pass_by(folder / "?", "its name cannot be a file's")
            elif name in parents:
                search.pass_by(folder / name, "named as a folder of others")
            elif reason := search.why_left_out(name):
                search.pass_by(folder / name, reason)
            else:
                names.append(name)
        for first in range(0, len(names), _AT_ONCE):
            piece = names[first : first + _AT_ONCE]
            for name, start in zip(piece, self._read_starts(piece, about), strict=True):
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(start)
                search.take(path)
                if path.stat().st_size:  # names of empty ones are looked at again
                    path.unlink()
                seen(count := count + 1)
        return search.found(self)

    def _read_starts(self, names: Sequence[str], about: Mapping[str, dict[str, Any]]) -> list[bytes]:
        ends = [min(_START_BYTES, int(about[name].get("size") or 0)) for name in names]
        filled = [(name, end) for name, end in zip(names, ends, strict=True) if end]
        with self.asking():
            store, root = self.connect(), self.root
            paths = [self._path(root, name) for name, _ in filled]
            read = store.cat_ranges(paths, [0] * len(paths), [end for _, end in filled], on_error="raise")
        starts = dict(zip((name for name, _ in filled), read, strict=True))
        return [starts.get(name, b"") for name in names]

    def _path(self, root: str, name: str) -> str:
        """The object's path; where the prefix is an object itself, that."""
        return root if posixpath.basename(root) == name and self.connect().isfile(root) else f"{root}/{name}"

    def _get(self, files: Mapping[str, Path]) -> None:
        """Fetch objects, all of each.

        Raises:
            RemoteError: the store cannot be asked, or gave fewer bytes than it says.
            InputError: they are larger than a study may be, together.
        """
        with self.asking():
            store, root = self.connect(), self.root
            paths = [self._path(root, name) for name in files]
            sizes = [int(size or 0) for size in store.sizes(paths)]
        if sum(sizes) > MOST_STUDY_BYTES:
            most = f"{MOST_STUDY_BYTES >> 30} GiB"
            raise InputError(
                self.url, found=f"larger than {most}", needed=f"at most {most}",
                remedy="check what lies there; a head CT has a few hundred slices",
            )  # fmt: skip
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        with self.asking():
            store.get(paths, [str(path) for path in files.values()])
        if any(path.stat().st_size != size for path, size in zip(files.values(), sizes, strict=True)):
            raise self.explain("gave fewer bytes than it says that it holds", "give the same command again", away=True)

    def fetch(self, source: Source, folder: Path) -> Source:
        """Fetch all objects of a study into an empty folder.

        Raises:
            RemoteError: the store cannot be asked, or did not give all.
            InputError: the study is too large.
        """
        files = {name: folder / name for name in source.files}
        try:
            self._get(files)
        except RemoteError as error:
            if error.status != 404:
                raise
            raise InputError(
                self.url, found="no longer holds the study", needed="the study", remedy="look again: --search, or "
                "give the command without --shard",
            ) from error  # fmt: skip
        return replace(source, path=folder / source.path, files=tuple(sorted(map(str, files.values()))))

    def identify(self, source: Source) -> dict[str, str | None]:
        """Read patient_id, study_date and accession_number from the study's first file."""
        with tempfile.TemporaryDirectory(prefix="bleedmap-") as folder:
            return read_identity(self.fetch(replace(source, files=source.files[:1]), Path(folder)))


class _StoreSearch(Search):
    """The search in a folder, of files that are there for a moment."""

    def __init__(self, folder: Path, about: Mapping[str, dict[str, Any]], get_whole: Callable[[str], None]) -> None:
        super().__init__(folder)
        self._about, self._get_whole = about, get_whole
        self._results = {
            parent for name in about for parent in [posixpath.dirname(name)]
            if all(posixpath.join(parent, one) in about for one in (_LIST, _LAST))
        }  # fmt: skip

    def why_left_out(self, name: str) -> str | None:
        """Say why an object is not looked at, as folders are not entered."""
        if any(part.startswith(".") for part in name.split("/")):
            return "hidden"
        above = {str(one) if str(one) != "." else "" for one in Path(name).parents}
        return "results of bleedmap" if above & self._results else None

    def take(self, path: Path) -> None:
        """Sort one file in, whose beginning is there; all of it is fetched where that tells too little."""
        try:
            self._take(path)
        except InputError as error:  # it would have to be fetched whole, and is too large
            self.pass_by(path, error.found)

    def _take(self, path: Path) -> None:
        if path.suffix.lower() == ".zip":
            self._get_whole(self._name(path))
        super().take(path)
        damaged = self._damaged.get(str(path.parent), [])
        if str(path) in damaged and path.stat().st_size < int(self._about[self._name(path)].get("size") or 0):
            damaged.remove(str(path))
            if not damaged:
                del self._damaged[str(path.parent)]
            self._get_whole(self._name(path))
            super().take(path)

    def _name(self, path: Path | str) -> str:
        return Path(path).relative_to(self.folder).as_posix()

    def _digest(self, names: Any) -> str:
        """Digest names, sizes, and the tag or time that the store gives."""
        digest = hashlib.sha256()
        for path in sorted(names):
            name = self._name(path)
            one = self._about[name]
            state = one.get("ETag") or one.get("LastModified") or one.get("mtime") or one.get("created") or ""
            digest.update(f"{name}\0{one.get('size')} {state}\0".encode())
        return digest.hexdigest()

    def found(self, archive: StoreArchive) -> Found:
        """What was found, with names below the prefix."""
        sources = []
        for one in self.sources():
            names = tuple(self._name(name) for name in one.files)
            sources.append(replace(one, path=one.path.relative_to(self.folder), files=names))
        passed = self.passed()
        if not sources:
            raise explain_empty(archive.url, passed)
        return Found(archive, tuple(sorted(sources, key=lambda one: (one.place, one.key))), passed)


def _is_plain(name: str) -> bool:
    parts = name.split("/")
    return "\0" not in name and not any(
        part in ("", ".", "..") or len(part.encode("utf-8", "surrogatepass")) > _MOST_NAME for part in parts
    )


class StoreTarget(_Store):
    """A prefix of a store that takes the folders of results."""

    def take(self, folder: Path) -> int:
        """Bring a study's folder of results: the list of its files first, summary.json last."""
        names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        with self.asking():
            store, place = self.connect(), f"{self.root}/{folder.name}"
            before = _read_listed(store, f"{place}/{_LIST}")
            for names_now in ([_LIST], [one for one in names if one not in (_LIST, _LAST)], [_LAST]):
                _put(store, {folder / name: f"{place}/{name}" for name in names_now if name in names})
            for name in before - set(names):
                if store.exists(f"{place}/{name}"):
                    store.rm_file(f"{place}/{name}")
            store.invalidate_cache()
            held = {path: int(one.get("size") or 0) for path, one in store.find(place, detail=True).items()}
        if any(held.get(f"{place}/{name}") != (folder / name).stat().st_size for name in names):
            raise self.explain("does not list all that it took", "give the same command again", away=True)
        return len(names)

    def take_tables(self, folder: Path, names: Sequence[str]) -> None:
        """Bring the tables of the batch, and the pictures of its page."""
        pictures = sorted(path.relative_to(folder).as_posix() for path in folder.glob("thumbnails/*.jpg"))
        with self.asking():
            store, root = self.connect(), self.root
            _put(store, {folder / name: f"{root}/{name}" for name in (*pictures, *names)})


def _put(store: Any, files: Mapping[Path, str]) -> None:
    if files:
        store.put([str(path) for path in files], list(files.values()))


def _read_listed(store: Any, place: str) -> set[str]:
    """The files of the results that are there; of names that lead elsewhere none."""
    try:
        listed = json.loads(store.cat_file(place))["files"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in listed if isinstance(name, str) and _is_plain(name)}
