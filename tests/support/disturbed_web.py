"""A web server before another one, which it asks, and which can cut, refuse, redirect or keep answers to itself."""

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

_OPEN = build_opener(ProxyHandler({})).open


@dataclass
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Disturbed:
    """What the server does; tests change it while it runs.

    Attributes:
        url: its own root.
        disturb: given a request, what it does in place of passing it on: an HTTP status, 'cut' (half of the answer),
            'lose' (it is passed on, and the answer lost), an address to redirect to, bytes to answer, or None.
        asked: all requests.
    """

    url: str
    disturb: Callable[[Asked], object] = lambda asked: None
    asked: list[Asked] = field(default_factory=list)


@contextmanager
def disturbed_web(behind: str, certificate: tuple[str, str] | None = None) -> Iterator[Disturbed]:
    """Yield a running server before the one at the URL `behind`, with TLS where it has a certificate and its key."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            """Log nothing."""

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers["Content-Length"])))

        def do_GET(self) -> None:
            self._answer(None)

        def _answer(self, body: bytes | None) -> None:
            asked = Asked(self.command, self.path, dict(self.headers))
            state.asked.append(asked)
            what = state.disturb(asked)
            if isinstance(what, int):
                self.send_error(what)
            elif isinstance(what, bytes):
                self._reply(200, "text/html" if what.startswith(b"<") else "application/dicom+json", what)
            elif isinstance(what, str) and "//" in what:
                self.send_response(302)
                self.send_header("Location", what + self.path)
                self.end_headers()
            else:
                kept = ("Accept", "Content-Type")
                headers = {name: value for name, value in self.headers.items() if name in kept}
                try:
                    with _OPEN(Request(behind + self.path, data=body, headers=headers)) as given:
                        status, kind, content = given.status, given.headers["Content-Type"], given.read()
                except HTTPError as error:
                    status, kind, content = error.code, error.headers["Content-Type"], error.read()
                if what != "lose":
                    self._reply(status, kind, content, len(content) // 2 if what == "cut" else None)
                self.close_connection = True

        def _reply(self, status: int, kind: str, content: bytes, only: int | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:only])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Disturbed(f"http://127.0.0.1:{server.server_address[1]}")
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        state.url = f"https://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
