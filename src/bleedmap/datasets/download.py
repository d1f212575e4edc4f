"""CT-ICH's open release from its publisher: resumed where a connection broke off, every file held to its sum."""

import http.client
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bleedmap import __version__
from bleedmap.datasets.checksums import file_sha256, parse_sums
from bleedmap.errors import DataError, DownloadError, SettingsError
from bleedmap.io.files import output_error, written_whole

URL = "https://physionet.org/files/ct-ich/1.0.0/"
SUMS = "SHA256SUMS.txt"

_LARGEST_LIST = 16 * 2**20  # bytes; the publisher's is half a megabyte
_CHUNK = 2**16  # bytes
_TIMEOUT_S = 30
_LONGEST_WAIT_S = 30.0

_BY_HAND = (
    "log in at the publisher's page, https://physionet.org/content/ct-ich/, sign what it asks, download by hand, "
    "then give that folder with --data"
)

Progress = Callable[[int, int], None]
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Downloaded:
    """What a download did: files fetched, files that were there already, bytes received."""

    fetched: int
    kept: int
    received_bytes: int


class _BrokenError(Exception):
    """A connection that broke, or a server that is overloaded: worth another try."""


class Download:
    """One download of all files that the publisher lists.

    Partial files end in `.part` and stay for the next run; a file gets its own name only when its sum is right.

    Args:
        url: the folder at the publisher that holds SHA256SUMS.txt.
        folder: where to put the files; those with the right sum are kept, others fetched again.
        connections: files fetched at a time.
        tries: for each file, before giving up.
        backoff_s: wait before the second try, doubled for each further one.
        progress: called with files done and files in all.
    """

    def __init__(
        self,
        url: str,
        folder: Path,
        *,
        connections: int = 4,
        tries: int = 5,
        backoff_s: float = 1.0,
        progress: Progress = lambda done, of: None,
    ) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise SettingsError(
                "--url",
                found=f"'{url}'",
                needed="an address that starts with https://",
                remedy=f"leave it out for {URL}",
            )
        self.url = url if url.endswith("/") else f"{url}/"
        self.folder = folder
        self._connections, self._tries, self._backoff_s = connections, tries, backoff_s
        self._progress = progress
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._received = 0

    def run(self) -> Downloaded:
        """Fetch what is missing.

        Raises:
            DownloadError: the publisher asks for a login, a file is not there, connections keep breaking, or a
                file's content does not match its sum.
            OutputError: the folder cannot be written.
        """
        listed = self._retried(SUMS, self._read_list)
        try:
            sums = parse_sums(listed, f"{self.url}{SUMS}")
        except DataError as error:
            raise DownloadError(error.subject, found=error.found, needed=error.needed, remedy=_BY_HAND) from None
        fetched = self._fetch_all(sums)
        with written_whole(self.folder / SUMS) as beside:
            beside.write_text(listed, encoding="utf-8")
        return Downloaded(fetched, len(sums) - fetched, self._received)

    def _fetch_all(self, sums: dict[str, str]) -> int:
        """Fetch files side by side; the first error stops all."""
        fetched = 0
        with ThreadPoolExecutor(self._connections) as pool:
            try:
                jobs = [pool.submit(self._fetch, name, wanted) for name, wanted in sums.items()]
                for done, job in enumerate(as_completed(jobs), start=1):
                    fetched += job.result()
                    self._progress(done, len(jobs))
            except BaseException:  # Ctrl-C too: do not start what waits
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return fetched

    def _fetch(self, name: str, wanted: str) -> bool:
        """Fetch one file unless it is there already; whether it was fetched."""
        path = self.folder / name
        try:
            if path.is_file() and file_sha256(path) == wanted:
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.resolve().is_relative_to(self.folder.resolve()):
                raise DownloadError(
                    path, found="a link leads out of the folder", needed="a plain folder", remedy="give a new folder"
                )
            part = path.with_name(f"{path.name}.part")
            self._retried(name, lambda: self._receive(name, part, wanted))
            part.replace(path)
        except OSError as error:
            raise output_error(path, error) from error
        return True

    def _receive(self, name: str, part: Path, wanted: str) -> None:
        """Fetch into `part`, from where it ends; on return its sum is right.

        A part whose sum is wrong is removed, so that the next try starts anew.
        """
        offset = part.stat().st_size if part.is_file() else 0
        if offset and file_sha256(part) == wanted:
            return
        with self._answer(name, offset) as answer:
            # A server may ignore Range: then the whole file comes, and the part is overwritten.
            resumes = answer.status == http.HTTPStatus.PARTIAL_CONTENT
            if resumes and not answer.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
                part.unlink(missing_ok=True)
                raise _BrokenError("the server continued the file at another place than asked")
            with part.open("ab" if resumes else "wb") as stream:
                for chunk in self._chunks(answer):
                    stream.write(chunk)
        if file_sha256(part) != wanted:
            part.unlink()
            raise _BrokenError("its content does not match the publisher's SHA-256 sum")

    def _read_list(self) -> str:
        with self._answer(SUMS) as answer:
            content = bytearray()
            for chunk in self._chunks(answer):
                content += chunk
                if len(content) > _LARGEST_LIST:
                    break
        return content[:_LARGEST_LIST].decode("utf-8", errors="replace")

    def _chunks(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        """The answer's content; an early end is an error, which `HTTPResponse.read(amount)` passes over."""
        expected, got = answer.length, 0
        while True:
            try:
                chunk = answer.read(_CHUNK)
            except (OSError, http.client.HTTPException) as error:
                raise _BrokenError(f"the connection broke off after {got:,} bytes ({error})") from error
            if not chunk:
                break
            got += len(chunk)
            with self._lock:
                self._received += len(chunk)
            yield chunk
        if expected is not None and got < expected:
            raise _BrokenError(f"the connection broke off after {got:,} of {expected:,} bytes")

    @contextmanager
    def _answer(self, name: str, offset: int = 0) -> Iterator[http.client.HTTPResponse]:
        """The server's answer for a listed file, from byte `offset` if the server can."""
        headers = {"User-Agent": f"bleedmap/{__version__}", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        address = self.url + urllib.parse.quote(name)
        try:
            answer = urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=_TIMEOUT_S)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and offset:
                with self._answer(name) as whole:
                    yield whole
                return
            raise _refusal(address, error.code) from error
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenError(f"no connection ({error})") from error
        with answer:
            if answer.headers.get_content_type() == "text/html":
                raise _login(address, "the server sent a web page, not the file")
            yield answer

    def _retried(self, name: str, action: Callable[[], _Result]) -> _Result:
        """Run `action`, again after each broken connection, with growing waits."""
        last = _BrokenError("not tried")
        for attempt in range(self._tries):
            if attempt and self._stop.wait(min(self._backoff_s * 2 ** (attempt - 1), _LONGEST_WAIT_S)):
                break
            try:
                return action()
            except _BrokenError as error:
                last = error
        raise DownloadError(
            f"{self.url}{name}",
            found=f"{last} (tried {attempt + 1} times)",
            needed="the whole file, as the publisher lists it",
            remedy="run the same command again: it goes on where it stopped",
        )


def _refusal(address: str, code: int) -> Exception:
    if code in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
        return _login(address, f"the server refused it ({code})")
    if code >= 500 or code in (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS):
        return _BrokenError(f"the server is busy or failing ({code})")
    return DownloadError(
        address, found=f"the server answered {code}", needed="the folder that holds SHA256SUMS.txt", remedy=_BY_HAND
    )


def _login(address: str, found: str) -> DownloadError:
    return DownloadError(address, found=found, needed="files that can be had without a login", remedy=_BY_HAND)
