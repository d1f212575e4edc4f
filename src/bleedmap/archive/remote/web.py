"""Ask a web service: its certificate is checked, credentials go to its own address alone, answers are bounded."""

import json
import netrc
import os
import ssl
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from email.message import Message
from http import HTTPStatus
from http.client import HTTPException
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bleedmap.archive.remote.tls import make_client_context
from bleedmap.errors import BleedmapError, SettingsError

_TIMEOUT_S = 60.0
_MEND = "mend the file, or give another with --token-file"
_MOST_JSON = 64 << 20
_LATER = (408, 425, 429, 500, 502, 503, 504)  # HTTP status of a service that may answer another time
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # before each further try
Outcome = TypeVar("Outcome")


class RemoteError(BleedmapError):
    """A server or bucket that does not give or take what it is asked for.

    Attributes:
        status: HTTP status; None where there was no answer.
        away: whether another try may succeed.
    """

    def __init__(
        self, subject: str, *, found: str, needed: str, remedy: str, status: int | None = None, away: bool = False
    ) -> None:
        super().__init__(subject, found=found, needed=needed, remedy=remedy)
        self.status, self.away = status, away


def persist(do: Callable[[], Outcome]) -> Outcome:
    """Do something, and again after growing pauses as long as the server is away: for about a minute.

    Raises:
        RemoteError: of the last try, or of the first that another cannot mend.
    """
    for pause_s in PAUSES_S:
        try:
            return do()
        except RemoteError as error:
            if not error.away:
                raise
        time.sleep(pause_s)
    return do()


def is_loopback_host(host: str) -> bool:
    """Whether a host's name or address is this machine's own, which nobody else reaches."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def refuse_credentials(url: str) -> None:
    """Refuse a URL that holds a user name or a password: it would come into records and lists of processes.

    Raises:
        SettingsError: it does, or is no URL.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - a number, or an error
    except ValueError as error:
        raise SettingsError(
            "the URL", found="cannot be read", needed="https://pacs/dicom-web, or s3://BUCKET/PREFIX",
            remedy="mend it",
        ) from error  # fmt: skip
    if "@" in parts.netloc:
        raise SettingsError(
            hide_credentials(url), found="the URL holds a user name or a password", needed="a URL without them",
            remedy="write them into ~/.netrc (machine HOST login NAME password WORD), or give --token-file",
        )  # fmt: skip


def hide_credentials(url: str) -> str:
    """Return a URL without user, password, query and fragment, for messages and records."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


@dataclass(frozen=True)
class Answer:
    """A service's answer: its headers, and its content, to be read piece by piece."""

    headers: Message
    _read: Callable[[int], bytes]
    _explained: Callable[[], AbstractContextManager[None]]

    def read(self, most: int) -> bytes:
        """Read at most so many bytes; none at the end.

        Raises:
            RemoteError: the connection ended.
        """
        with self._explained():
            return self._read(most)


@dataclass(frozen=True)
class Service:
    """A web service, and how to ask it. It holds no secret: those are read for each question."""

    url: str  # its root, without a slash at the end
    token_file: str = ""  # file of a bearer token; '': name and password of the host in ~/.netrc, if there are
    ca_file: str = ""  # PEM file of the authority of its certificate; '': the system's
    proxies: bool = True  # whether the proxies that the environment names are used

    @contextmanager
    def open(
        self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None,
        with_body: tuple[int, ...] = (),
    ) -> Iterator[Answer]:  # fmt: skip
        """Yield the answer to a GET, or to a POST where there is a body.

        Raises:
            RemoteError: it cannot be reached, or refuses.
            SettingsError: the token's file, ~/.netrc or the authority's file cannot be used.
        """
        given = {**(headers or {}), **self._authorization()}
        handlers: list[Any] = [_Redirects()]
        if not self.proxies:
            handlers.append(urllib.request.ProxyHandler({}))
        if self.url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=make_client_context(self.ca_file)))
        request = urllib.request.Request(self.url + path, data=body, headers=given)
        with self._explained():
            try:
                answer = urllib.request.build_opener(*handlers).open(request, timeout=_TIMEOUT_S)
            except urllib.error.HTTPError as error:
                if error.code not in with_body:
                    raise
                answer = error
        with answer:
            yield Answer(answer.headers, answer.read, self._explained)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except urllib.error.HTTPError as error:
            with error:
                raise self._explain_status(error.code) from error
        except (urllib.error.URLError, OSError, HTTPException, ValueError) as error:
            raise self._explain_absence(error) from error

    def ask(
        self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None,
        with_body: tuple[int, ...] = (),
    ) -> tuple[Any, Message]:  # fmt: skip
        """Ask for JSON; return it, [] where there is none, and the answer's headers.

        Args:
            path, body, headers: as `open`.
            with_body: HTTP status of errors whose content is an answer too.

        Raises:
            RemoteError: as `open`, or the answer is no JSON.
        """
        accepting = {"Accept": "application/dicom+json", **(headers or {})}
        with self.open(path, body, accepting, with_body) as answer:
            content, about = answer.read(_MOST_JSON + 1), answer.headers
        if len(content) > _MOST_JSON:
            raise self.explain(f"its answer is longer than {_MOST_JSON >> 20} MiB", "a list in pieces")
        stated = about.get("Content-Length", "")
        if stated.isdecimal() and len(content) < int(stated):
            raise self.explain("ends its answer early", "a whole answer", away=True)
        try:
            return (json.loads(content) if content.strip() else []), about
        except ValueError as error:
            kind = about.get_content_type()
            raise self.explain(f"answers with {kind}, which is not JSON", "a DICOMweb service", _CHECK_URL) from error

    def explain(self, found: str, needed: str, remedy: str = "", *, away: bool = False) -> RemoteError:
        """Make the error of a service that answers wrongly."""
        return RemoteError(
            self.url, found=found, needed=needed, remedy=remedy or "give the same command again later", away=away
        )

    def _authorization(self) -> dict[str, str]:
        if self.token_file:
            found = "holds no token"
            try:
                token = Path(self.token_file).read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError):
                token, found = "", "cannot be read"
            if not token or not token.isascii() or not token.isprintable() or " " in token:
                raise SettingsError(self.token_file, found, "a file that holds the token alone", _MEND)
            return {"Authorization": f"Bearer {token}"}
        if (known := self.find_password()) is None:
            return {}
        return {"Authorization": "Basic " + b64encode(":".join(known).encode()).decode("ascii")}

    def find_password(self) -> tuple[str, str] | None:
        """Find the host's name and password in ~/.netrc, or in the file that the variable NETRC names; None without.

        Raises:
            SettingsError: the file cannot be read.
        """
        path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
        try:
            known = netrc.netrc(str(path)).authenticators(urlsplit(self.url).hostname or "") if path.is_file() else None
        except (OSError, netrc.NetrcParseError, UnicodeDecodeError):  # whose text may quote a password
            needed = "lines of: machine HOST login NAME password WORD"
            raise SettingsError(path, "cannot be read", needed, _MEND) from None
        return None if known is None else (known[0], known[2])

    def _explain_status(self, status: int) -> RemoteError:
        phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "unknown status"
        if status in (401, 403):
            needed, remedy = "leave to do this", "give --token-file FILE, or write the host into ~/.netrc"
        elif status in _LATER:
            needed, remedy = "a service that answers", "wait until it does, then give the same command again"
        else:
            needed, remedy = "the root of a DICOMweb service, as https://pacs/dicom-web", _CHECK_URL
        return RemoteError(
            self.url, found=f"HTTP {status} {phrase}", needed=needed, remedy=remedy, status=status,
            away=status in _LATER,
        )  # fmt: skip

    def _explain_absence(self, error: Exception) -> RemoteError:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            return self.explain(
                f"its certificate is not trusted: {cause.verify_message}", "a certificate of a known authority",
                "give the authority's PEM file with --ca-file",
            )  # fmt: skip
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
            return self.explain(f"does not speak TLS as we do ({cause.reason})", "TLS 1.2 or later", _CHECK_URL)
        words = cause.strerror if isinstance(cause, OSError) and cause.strerror else type(cause).__name__
        if isinstance(cause, ValueError):
            return self.explain(f"cannot be asked ({words})", "the URL of a DICOMweb service", _CHECK_URL)
        return self.explain(
            f"cannot be reached, or ends the connection ({words})", "a server that is up, and a network to it",
            "check the URL and the network, or wait; then give the same command again", away=True,
        )  # fmt: skip


_CHECK_URL = "check the URL"


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects of questions alone, never away from TLS; to another address without our credentials."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if req.data is not None or (before.scheme, after.scheme) == ("https", "http"):
            return None
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and (before.scheme, before.netloc) != (after.scheme, after.netloc):
            request.remove_header("Authorization")
        return request
