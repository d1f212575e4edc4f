"""What a URL names: an archive to read from, or a target to send to."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from bleedmap.archive.find import Archive, Source, display_path
from bleedmap.archive.remote.send import DicomwebTarget, Target
from bleedmap.archive.remote.web import Service, hide_credentials, is_loopback_host, persist, refuse_credentials
from bleedmap.errors import SettingsError
from bleedmap.io.dicom.header import explain_uid
from bleedmap.io.files import writing

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_STUDIES = re.compile(r"(?P<root>.*?)(?:/studies(?:/(?P<uid>[^/]+))?)?/*")


def is_url(words: str) -> bool:
    """Whether it is a URL, not a path."""
    return _URL.match(words) is not None


def is_dicomweb(url: str) -> bool:
    """Whether a URL is that of a DICOMweb service."""
    return _split_dicomweb(url) is not None


def open_archive(
    url: str, *, token_file: str = "", ca_file: str = "", since: date | None = None, until: date | None = None,
    uids: tuple[str, ...] = (),
) -> Archive:  # fmt: skip
    """Return the archive that a URL names; nobody is asked yet.

    Args:
        url: of a DICOMweb service, of a study there, or of a store's prefix.
        token_file, ca_file: as `Service`.
        since, until: of the studies, both days included.
        uids: Study Instance UIDs, to take these alone.

    Raises:
        SettingsError: the URL holds a password, or names nothing that is known; a choice that it cannot make.
        ImportError: a package of an extra is not installed.
    """
    refuse_credentials(url)
    if (found := _split_dicomweb(url)) is None:
        from bleedmap.archive.remote.store import StoreArchive  # noqa: PLC0415 - of an extra

        if since or until or uids or token_file:
            raise SettingsError(
                hide_credentials(url), found="days, UIDs or a token given for files", needed="a DICOMweb service",
                remedy="leave --since, --until, --uids and --token-file out",
            )  # fmt: skip
        return StoreArchive.open(url)
    import python_multipart  # noqa: F401, PLC0415 - of an extra: better now than at the first study

    from bleedmap.archive.remote.dicomweb import DicomwebArchive  # noqa: PLC0415

    root, uid, query = found
    service = _make_service(root, token_file, ca_file)
    wanted = tuple(dict.fromkeys([uid, *uids] if uid else uids))
    for why in filter(None, map(explain_uid, wanted)):
        raise SettingsError(
            "the study's UID", found=why, needed="a Study Instance UID, as 1.2.840.1", remedy="mend the URL or --uids"
        )
    if since or until:
        low, high = (f"{day:%Y%m%d}" if day else "" for day in (since, until))
        query = (*query, ("StudyDate", f"{low}-{high}"))
    return DicomwebArchive(service, query, wanted)


def open_target(url: str, *, token_file: str = "", ca_file: str = "") -> Target:
    """Return the target that a URL names; nobody is asked yet. `token_file` and `ca_file` as `Service`.

    Raises:
        SettingsError: the URL holds a password, or names nothing that is known.
        ImportError: a package of an extra is not installed.
    """
    refuse_credentials(url)
    if (found := _split_dicomweb(url)) is None:
        from bleedmap.archive.remote.store import StoreTarget  # noqa: PLC0415 - of an extra

        return StoreTarget.open(url)
    return DicomwebTarget(_make_service(found[0], token_file, ca_file))


def _make_service(root: str, token_file: str, ca_file: str) -> Service:
    """Refuse to send a token or a password to another machine where everyone on the way can read it."""
    parts, service = urlsplit(root), Service(root, token_file, ca_file)
    if parts.scheme == "http" and not is_loopback_host(parts.hostname or ""):
        secret = "token" if token_file else "password of ~/.netrc" if service.find_password() else ""
        if secret:
            raise SettingsError(
                root, found=f"a {secret}, and no TLS", needed="https://, so that nobody on the way reads it",
                remedy="give the https address of the service, or a tunnel to it on 127.0.0.1",
            )  # fmt: skip
    return service


def has_same_address(url: str, other: str) -> bool:
    """Whether two URLs are of one server, which may see one token."""
    one, two = (urlsplit(re.sub(r"^dicomweb\+", "", words)) for words in (url, other))
    return (one.scheme, one.netloc) == (two.scheme, two.netloc)


def read_uids(path: Path) -> tuple[str, ...]:
    """Read Study Instance UIDs from a file, one a line; empty lines, and what follows '#', are left out.

    Raises:
        SettingsError: the file cannot be read, or holds none.
    """
    found = "holds no UID"
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        lines, found = [], "cannot be read"
    uids = tuple(uid for line in lines if (uid := line.partition("#")[0].strip()))
    if not uids:
        needed = "a text file with a Study Instance UID on each line"
        raise SettingsError(path, found=found, needed=needed, remedy="mend the file of --uids")
    return uids


def _split_dicomweb(url: str) -> tuple[str, str, tuple[tuple[str, str], ...]] | None:
    """The service's root, a study's UID or '', and the query; None where it is no URL of DICOMweb."""
    parts = urlsplit(re.sub(r"^dicomweb\+", "", url, flags=re.IGNORECASE))
    if parts.scheme not in ("http", "https"):
        return None
    if not parts.hostname:
        raise SettingsError(
            hide_credentials(url), found="names no host", needed="https://pacs/dicom-web", remedy="mend the URL"
        )
    match = _STUDIES.fullmatch(parts.path)
    assert match is not None  # everything may be missing
    return f"{parts.scheme}://{parts.netloc}{match['root']}", match["uid"] or "", tuple(parse_qsl(parts.query))


@contextmanager
def fetched(
    place: Path | Archive, source: Source, copy: Path, persist: Callable[[Callable[[], Source]], Source] = persist
) -> Iterator[Source]:
    """Yield a study's files on a disk; the copy of a remote one is removed on leaving.

    Args:
        place: the folder or archive that holds the study.
        copy: folder for the copy; what lies there is removed.
        persist: asks the archive, again where it is away.
    """
    if isinstance(place, Path):
        yield source
        return

    def fetch() -> Source:
        with writing(copy):
            shutil.rmtree(copy, ignore_errors=True)
            copy.mkdir(parents=True)
            return place.fetch(source, copy)

    try:
        yield persist(fetch)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def name_source(place: Path | Archive, source: Source) -> str:
    """Name a study in its results: by its path, or by the archive's root and its place there."""
    if isinstance(place, Path):
        return display_path(source.path)
    return place.url if source.place == "." else f"{place.url}/{source.place}"
