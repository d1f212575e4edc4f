"""What a URL names: an archive to read from, or a target to send to."""

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from bleedmap.archive.find import Archive
from bleedmap.archive.remote.send import Target
from bleedmap.archive.remote.web import Service, hide_credentials, is_loopback_host, refuse_credentials
from bleedmap.errors import SettingsError
from bleedmap.io.dicom.header import explain_uid

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_STUDIES = re.compile(r"(?P<root>.*?)(?:/studies(?:/(?P<uid>[^/]+))?)?/*")


def is_url(words: str) -> bool:
    """Whether it is a URL, not a path."""
    return _URL.match(words) is not None


def is_dicomweb(url: str) -> bool:
    """Whether a URL is that of a DICOMweb service."""
    return _split_dicomweb(url) is not None


@dataclass(frozen=True)
class Access:
    """How a server is asked.

    Attributes:
        token_file: file of a bearer token; '': ~/.netrc.
        ca_file: PEM file of the authority of its certificate; '': the system's.
    """

    token_file: str = ""
    ca_file: str = ""


@dataclass(frozen=True)
class Wanted:
    """Which studies of an archive: of these days, both included, or with these Study Instance UIDs."""

    since: date | None = None
    until: date | None = None
    uids: tuple[str, ...] = ()


def open_archive(url: str, access: Access = Access(), wanted: Wanted = Wanted()) -> Archive:
    """Return the archive that a URL names; nobody is asked yet.

    Raises:
        SettingsError: the URL holds a password, or names nothing that is known; a choice that it cannot make.
        ImportError: a package of an extra is not installed.
    """
    refuse_credentials(url)
    if (found := _split_dicomweb(url)) is None:
        from bleedmap.archive.remote.store import StoreArchive  # noqa: PLC0415 - of an extra

        if wanted != Wanted() or access.token_file:
            raise SettingsError(
                hide_credentials(url), found="days, UIDs or a token given for files", needed="a DICOMweb service",
                remedy="leave --since, --until, --uids and --token-file out",
            )  # fmt: skip
        return StoreArchive.open(url)
    import python_multipart  # noqa: F401, PLC0415 - of an extra: better now than at the first study

    from bleedmap.archive.remote.dicomweb import DicomwebArchive  # noqa: PLC0415

    root, uid, query = found
    _refuse_plain(root, access)
    uids = (*([uid] if uid else []), *wanted.uids)
    for one in uids:
        if why := explain_uid(one):
            raise SettingsError(
                "the study's UID",
                found=why,
                needed="a Study Instance UID, as 1.2.840.1",
                remedy="mend the URL or --uids",
            )
    if wanted.since or wanted.until:
        low, high = (f"{day:%Y%m%d}" if day else "" for day in (wanted.since, wanted.until))
        query = (*query, ("StudyDate", f"{low}-{high}"))
    return DicomwebArchive(Service(root, access.token_file, access.ca_file), query, tuple(dict.fromkeys(uids)))


def open_target(url: str, access: Access = Access()) -> Target:
    """Return the target that a URL names; nobody is asked yet.

    Raises:
        SettingsError: the URL holds a password, or names nothing that is known.
        ImportError: a package of an extra is not installed.
    """
    refuse_credentials(url)
    if (found := _split_dicomweb(url)) is None:
        from bleedmap.archive.remote.store import StoreTarget  # noqa: PLC0415 - of an extra

        return StoreTarget.open(url)
    from bleedmap.archive.remote.send import DicomwebTarget  # noqa: PLC0415

    _refuse_plain(found[0], access)
    return DicomwebTarget(Service(found[0], access.token_file, access.ca_file))


def _refuse_plain(root: str, access: Access) -> None:
    """Refuse to send a token to another machine where everyone on the way can read it."""
    parts = urlsplit(root)
    if access.token_file and parts.scheme == "http" and not is_loopback_host(parts.hostname or ""):
        raise SettingsError(
            root, found="a token, and no TLS", needed="https://, so that nobody on the way reads the token",
            remedy="give the https address of the service, or a tunnel to it on 127.0.0.1",
        )  # fmt: skip


def has_same_address(url: str, other: str) -> bool:
    """Whether two URLs are of one server, which may see one token."""
    one, two = (urlsplit(re.sub(r"^dicomweb\+", "", words)) for words in (url, other))
    return (one.scheme, one.netloc) == (two.scheme, two.netloc)


def read_uids(path: Path) -> tuple[str, ...]:
    """Read Study Instance UIDs from a file, one a line; empty lines, and what follows '#', are left out.

    Raises:
        SettingsError: the file cannot be read, or holds none.
    """
    try:
        lines = [line.partition("#")[0].strip() for line in path.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise _refuse_list(path, "cannot be read") from error
    uids = tuple(line for line in lines if line)
    if not uids:
        raise _refuse_list(path, "holds no UID")
    return uids


def _refuse_list(path: Path, found: str) -> SettingsError:
    return SettingsError(
        path, found=found, needed="a text file with a Study Instance UID on each line", remedy="mend the file of --uids"
    )


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
