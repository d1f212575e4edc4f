"""Download CT-ICH's open release from its publisher by pooch, and check every file against its SHA-256 sum.

It needs the extra `data`. pooch and requests are not in the plain install: pydicom imports requests wherever it finds
it, which costs each process 50 ms.
"""

import http
import tempfile
import threading
import urllib.parse
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
from requests import Response, exceptions

from bleedmap import __version__
from bleedmap.arrays import Progress, ignore
from bleedmap.datasets.checksums import SUMS, parse_sums
from bleedmap.errors import DataError, DownloadError, SettingsError
from bleedmap.io.files import writing, written_whole

URL = "https://physionet.org/files/ct-ich/1.0.0/"

_TIMEOUT_S = 30
_CHUNK = 2**16  # bytes
_BUSY = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS)
_BY_HAND = (
    "log in at the publisher's page, https://physionet.org/content/ct-ich/, sign what it asks, download by hand, "
    "then give that folder with --data"
)


@dataclass(frozen=True)
class Downloaded:
    """What a download did: files fetched, files that were there already, bytes received."""

    fetched: int
    kept: int
    received_bytes: int


def download(
    folder: Path, url: str = URL, *, connections: int = 4, tries: int = 5, progress: Progress = ignore
) -> Downloaded:
    """Fetch all files that the publisher lists; those that are there with the right sum are kept.

    A file gets its name only when its sum is right, so that a run that was stopped can be repeated at any time.

    Args:
        url: the folder at the publisher that holds SHA256SUMS.txt.
        connections: files fetched at a time.
        tries: for each file, before giving up.

    Raises:
        SettingsError: `url` is no web address.
        DownloadError: the publisher asks for a login, a file is not there, connections keep breaking, or a file's
            content does not match its sum.
        OutputError: the folder cannot be written.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise SettingsError(
            "--url", found=f"'{url}'", needed="an address that starts with https://", remedy=f"leave it out for {URL}"
        )
    pooch.get_logger().setLevel("WARNING")
    base_url = f"{url.rstrip('/')}/"
    with tempfile.TemporaryDirectory() as place:
        lists = pooch.create(place, base_url, registry={SUMS: None}, retry_if_failed=tries - 1)
        _fetch(lists, SUMS, tries)
        listed = (lists.abspath / SUMS).read_bytes().decode("utf-8", errors="replace")
    try:
        sums = parse_sums(listed, f"{base_url}{SUMS}")
    except DataError as error:
        raise DownloadError(error.subject, found=error.found, needed=error.needed, remedy=_BY_HAND) from None
    addresses = {name: base_url + urllib.parse.quote(name) for name in sums}
    files = pooch.create(folder, base_url, registry=sums, urls=addresses, retry_if_failed=tries - 1)
    sizes = _fetch_all(files, connections, tries, progress)
    with written_whole(folder / SUMS) as temporary:
        temporary.write_text(listed, encoding="utf-8")
    return Downloaded(len(sizes), len(sums) - len(sizes), sum(sizes) + len(listed.encode()))


def _fetch_all(files: pooch.Pooch, connections: int, tries: int, progress: Progress) -> list[int]:
    """Fetch what is missing or changed, several at a time; return its sizes in bytes. The first error stops all."""
    stop = threading.Event()

    def fetch(name: str) -> int | None:
        path = files.abspath / name
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.resolve().is_relative_to(files.abspath.resolve()):
                raise DownloadError(
                    path, found="a link leads out of the folder", needed="a plain folder", remedy="give a new folder"
                )
            return path.stat().st_size if not stop.is_set() and _fetch(files, name, tries) else None

    sizes: list[int] = []
    with ThreadPoolExecutor(connections) as pool:
        try:
            jobs = [pool.submit(fetch, name) for name in files.registry]
            for done, job in enumerate(as_completed(jobs), start=1):
                size = job.result()
                sizes += [] if size is None else [size]
                progress(done, len(jobs))
        except BaseException:  # Ctrl-C too: do not start what waits
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return sizes


def _fetch(files: pooch.Pooch, name: str, tries: int) -> bool:
    """Fetch one file, whole and with the right sum, or not at all; return False where it was there already.

    Raises:
        DownloadError: the server refuses it or does not have it, connections keep breaking, or another content comes.
    """
    headers = {"User-Agent": f"bleedmap/{__version__}", "Accept-Encoding": "identity"}
    receive = pooch.HTTPDownloader(
        chunk_size=_CHUNK, timeout=_TIMEOUT_S, headers=headers, hooks={"response": _refuse_answer}
    )
    try:
        return bool(files.fetch(name, downloader=receive, processor=lambda path, action, _: action != "fetch"))
    except exceptions.HTTPError as error:
        status = error.response.status_code if error.response is not None else "no answer"
        found = f"the server is busy or failing ({status})"
    except exceptions.ChunkedEncodingError as error:
        found = f"the connection broke off ({error})"
    except exceptions.RequestException as error:
        found = f"no connection ({error})"
    except ValueError:  # as pooch says that the sums differ
        found = "its content does not match the publisher's SHA-256 sum"
    raise DownloadError(
        files.get_url(name),
        found=f"{found} (tried {tries} times)",
        needed="the whole file, as the publisher lists it",
        remedy="run the same command again: files that are complete are not fetched again",
    )


def _refuse_answer(answer: Response, **_: Any) -> None:
    """Refuse at once what another try would not change; what is busy or failing is tried again."""
    code, kind = answer.status_code, answer.headers.get("Content-Type", "")
    if code in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
        raise _needs_login(answer.url, f"the server refused it ({code})")
    if 400 <= code < 500 and code not in _BUSY:
        needed = "the folder that holds SHA256SUMS.txt"
        raise DownloadError(answer.url, found=f"the server answered {code}", needed=needed, remedy=_BY_HAND)
    if code == http.HTTPStatus.OK and kind.startswith("text/html"):
        raise _needs_login(answer.url, "the server sent a web page, not the file")


def _needs_login(address: str, found: str) -> DownloadError:
    return DownloadError(address, found=found, needed="files that can be had without a login", remedy=_BY_HAND)
