"""The guard before all routes: who asks, from where, and with what headers the answer goes.

Denied is what is not allowed here: an address that is not among `PUBLIC` needs a session, one of administration an
administrator. A change needs a request from our own page (Origin, Sec-Fetch-Site) in a content type that no form sends.
"""

import asyncio
import hmac
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bleedmap.server.config import is_loopback
from bleedmap.server.store import users
from bleedmap.server.web.context import Actor, Refusal, Web, fail

PUBLIC = {
    ("GET", "/"), ("GET", "/api/login"), ("POST", "/api/login"), ("POST", "/api/first-run"), ("GET", "/healthz"),
    ("GET", "/readyz"), ("GET", "/api/oidc/start"), ("GET", "/api/oidc/callback"), ("GET", "/favicon.ico"),
}  # fmt: skip
_STATIC, _ADMIN, _DICOMWEB = "/static/", "/api/admin", "/dicomweb"
# `data:` is the picture of NiiVue's letters.
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}  # fmt: skip
_KINDS = ("application/json", "application/gzip", "application/dicom", "application/zip", "multipart/related")
_MOST_JSON = 64 * 1024
_HERE = frozenset({"127.0.0.1", "localhost", "[::1]"})
TOKEN = "keys/dicomweb-token"  # of machines that ask by DICOMweb: Authorization: Bearer …


@dataclass(frozen=True)
class Guard:
    """The ASGI application around all others."""

    app: ASGIApp
    web: Web

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then let in; every answer leaves with its headers."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        secure = request.url.scheme == "https"

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    if name not in headers:
                        headers[name] = value
                if secure:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        try:
            check_request(request, self.web)
            is_public, state = _is_public(request), scope.setdefault("state", {})
            if not is_public or scope["path"] == "/api/login":
                state["actor"] = await asyncio.to_thread(self._find_actor, request, is_public)
        except Refusal as refusal:
            await refusal.answer()(scope, receive, send_guarded)
            return
        except Exception as error:
            await fail(request, error)(scope, receive, send_guarded)
            return
        with suppress(Exception):  # answered and told already; its words may hold values of the request
            await self.app(scope, receive, send_guarded)

    def _find_actor(self, request: Request, may_be_nobody: bool) -> Actor | None:
        path = request.scope["path"]
        address = find_address(request)
        if path.startswith(_DICOMWEB) and (said := request.headers.get("authorization")) is not None:
            scheme, _, token = said.partition(" ")
            known = self.web.place.root / TOKEN
            held = known.read_text("utf-8").strip() if known.is_file() else ""
            if not held or scheme.lower() != "bearer" or not hmac.compare_digest(token.encode(), held.encode()):
                self.web.throttle("bearer", "30/15 minutes", address)
                raise Refusal(401, "The token is not the server's", headers={"WWW-Authenticate": "Bearer"})
            return Actor("dicomweb", "dicomweb", "reader", frozenset(), False, address)
        token = request.cookies.get(cookie_name(request), "")
        with self.web.database.read() as connection:
            now = self.web.database.now(connection)
            row = users.find_session(connection, now, token) if token else None
        if row is None and may_be_nobody:
            return None
        if row is None:
            raise Refusal(401, "Log in first", remedy="log in, then try again")
        if path.startswith(_ADMIN) and row["role"] != "admin":
            raise Refusal(403, "This is for administrators", remedy="ask one of them")
        by_itself = path == "/api/live" or "bleedmap-quiet" in request.headers  # no person asked
        if not by_itself and now - row["seen_at"] > users.SEEN_EVERY_S:
            with self.web.database.write() as connection:
                users.touch_session(connection, now, token)
        return Actor.of(row, address)


def _is_public(request: Request) -> bool:
    method = "GET" if request.method == "HEAD" else request.method
    path = request.scope["path"]
    return (method, path) in PUBLIC or (method == "GET" and path.startswith(_STATIC))


def check_request(request: Request, web: Web) -> None:
    """Check what holds for every request: the host's name, and for changes their origin and content type.

    Raises:
        Refusal: 400, 403, 413 or 415.
    """
    host = request.headers.get("host", "")
    allowed = _list_hosts(web)
    if allowed and _name(host) not in allowed:
        raise Refusal(
            400, "The server is not known by this name", f"one of {', '.join(sorted(allowed))}",
            "use that name, or set [web] public_url",
        )  # fmt: skip
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    headers = request.headers
    if "authorization" not in headers and not _is_own(headers, find_origin(request, web)):
        raise Refusal(403, "The request does not come from this server's page", "a request from the page itself")
    length = headers.get("content-length", "")
    if length in ("", "0") and "transfer-encoding" not in headers:
        return
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in _KINDS:
        raise Refusal(415, "The content is of another type", " or ".join(_KINDS))
    if kind == "application/json" and (not length.isdigit() or int(length) > _MOST_JSON):
        raise Refusal(413, "The request is too large", f"at most {_MOST_JSON // 1024} kB of JSON, with its length")


def _is_own(headers: Headers, origin: str) -> bool:
    site = headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    given = headers.get("origin")
    return given == origin if given is not None else site == "same-origin"


def find_origin(request: Request, web: Web) -> str:
    """Our own origin, as browsers state it: of `public_url`, else of this request."""
    if web.settings.web.public_url:
        parts = urlsplit(web.settings.web.public_url)
        return f"{parts.scheme}://{parts.netloc}"
    return f"{request.url.scheme}://{request.headers.get('host', '')}"


def _list_hosts(web: Web) -> frozenset[str]:
    """The names by which we are known: against pages that rename themselves to us (DNS rebinding)."""
    if web.settings.web.public_url:
        return _HERE | {_name(urlsplit(web.settings.web.public_url).netloc)}
    return _HERE if is_loopback(web.settings.web.listen) else frozenset()


def _name(host: str) -> str:
    return host.lower() if host.endswith("]") else host.lower().rpartition(":")[0] or host.lower()


def cookie_name(request: Request) -> str:
    """The session's cookie: where browsers take Secure ones, with the prefix that binds it to this host."""
    return "__Host-bleedmap" if takes_secure(request) else "bleedmap"


def takes_secure(request: Request) -> bool:
    """Whether a browser keeps a Secure cookie of this request: TLS, or this very machine."""
    return request.url.scheme == "https" or _name(request.headers.get("host", "")) in _HERE


def find_address(request: Request) -> str:
    """Where a request comes from; behind a trusted proxy, what that says (uvicorn has put it there)."""
    return request.client.host if request.client else ""
