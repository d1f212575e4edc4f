"""Log in by the hospital's OpenID Connect: code flow with PKCE; groups say who reads and who administers."""

import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from bleedmap.errors import MissingExtraError, SettingsError
from bleedmap.server.config import Oidc
from bleedmap.server.log import logger
from bleedmap.server.store import audit, users
from bleedmap.server.web.context import Parts, Web
from bleedmap.server.web.login import enter, note_refusal
from bleedmap.server.web.security import find_address, find_origin, takes_secure

try:
    import httpx
    from authlib.common.security import generate_token
    from authlib.integrations.httpx_client import OAuth2Client
    from authlib.oidc.core import CodeIDToken
    from joserfc import jwt
    from joserfc.jwk import KeySet
except ModuleNotFoundError as error:
    raise MissingExtraError("OpenID Connect", "oidc", error.name or "authlib") from error

_WAITS_S, _MOST_WAITING = 600.0, 1000  # for a person at the provider's page
_HOW = "OpenID Connect"
_COOKIE = "bleedmap-oidc"  # binds the answer to the browser that asked
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384"]  # signed by the provider's key; never "none"
_TIMEOUT_S = 10.0

router = APIRouter()


@dataclass(frozen=True)
class _Asked:
    """A login under way."""

    nonce: str
    verifier: str
    redirect: str
    at: float


_waiting: dict[str, _Asked] = {}
_lock = threading.Lock()


@router.get("/api/oidc/start")
def start(web: Parts, request: Request) -> Response:
    """Send the browser to the provider."""
    web.throttle("oidc", "60/15 minutes", find_address(request))
    redirect = f"{find_origin(request, web)}/api/oidc/callback"
    asked = _Asked(secrets.token_urlsafe(24), generate_token(64), redirect, time.monotonic())
    try:
        about, client = _discover(web.settings.oidc), _make_client(web.settings.oidc, redirect)
    except Exception as error:
        return _give_up(web, request, error)
    url, state = client.create_authorization_url(
        about["authorization_endpoint"], nonce=asked.nonce, code_verifier=asked.verifier
    )
    with _lock:
        for old in [one for one, held in _waiting.items() if time.monotonic() - held.at > _WAITS_S]:
            del _waiting[old]
        while len(_waiting) >= _MOST_WAITING:
            del _waiting[next(iter(_waiting))]
        _waiting[state] = asked
    answer = RedirectResponse(url, 303)
    answer.set_cookie(
        _COOKIE, state, max_age=int(_WAITS_S), path="/api/oidc", httponly=True, samesite="lax",
        secure=takes_secure(request),
    )  # fmt: skip
    return answer


@router.get("/api/oidc/callback")
def finish(web: Parts, request: Request) -> Response:
    """Take the provider's answer; begin a session where one of the groups may."""
    state = request.query_params.get("state", "")
    with _lock:
        asked = _waiting.pop(state, None)
    bound = secrets.compare_digest(request.cookies.get(_COOKIE, "").encode(), state.encode())
    if asked is None or not bound or time.monotonic() - asked.at > _WAITS_S or "code" not in request.query_params:
        return _go_back("failed")
    try:
        claims = _ask_provider(web.settings.oidc, asked, request.query_params["code"])
    except Exception as error:
        return _give_up(web, request, error)
    row = _admit(web, request, claims)
    if row is None:
        return _go_back("refused")
    answer = enter(web, request, row, _HOW, _go_back(""))
    answer.delete_cookie(_COOKIE, path="/api/oidc")
    return answer


def _ask_provider(settings: Oidc, asked: _Asked, code: str) -> dict[str, Any]:
    """Change the code into an ID token, and check it: signature, issuer, audience, nonce, age."""
    about = _discover(settings)
    client = _make_client(settings, asked.redirect)
    token = client.fetch_token(about["token_endpoint"], code=code, code_verifier=asked.verifier)
    keys = KeySet.import_key_set(httpx.get(about["jwks_uri"], timeout=_TIMEOUT_S).raise_for_status().json())
    decoded = jwt.decode(token["id_token"], keys, algorithms=_ALGORITHMS)
    options = {
        "iss": {"essential": True, "value": about["issuer"]}, "aud": {"essential": True, "value": settings.client_id},
    }  # fmt: skip
    claims = CodeIDToken(
        decoded.claims, decoded.header, options, {"nonce": asked.nonce, "client_id": settings.client_id}
    )
    claims.validate(leeway=60)
    return dict(decoded.claims)


def _admit(web: Web, request: Request, claims: dict[str, Any]) -> Any:
    """Find or make the user of an ID token, with the role of its groups; None where it has none, or is disabled."""
    settings = web.settings.oidc
    groups = claims.get("groups", [])
    groups = set(groups if isinstance(groups, list) else [groups])
    is_admin = bool(settings.admin_group) and settings.admin_group in groups
    if not is_admin and not (settings.reader_group and settings.reader_group in groups):
        note_refusal(web, request, "unknown", "refused", how=_HOW)
        return None
    role, subject = "admin" if is_admin else "reader", f"{claims['iss']} {claims['sub']}"
    with web.database.write() as connection:
        row = users.find_by_subject(connection, subject)
        if row is None:
            wanted = str(claims.get("preferred_username") or claims.get("email") or claims["sub"])[: users.LONGEST_NAME]
            taken = users.find_by_name(connection, wanted) is not None
            name = f"{wanted[:50]} {secrets.token_hex(3)}" if taken else wanted
            users.add_user(connection, web.database.now(connection), name, role, subject=subject)
        elif row["disabled_at"] is not None:
            now = web.database.now(connection)
            audit.record(connection, now, row["id"], "login", outcome="refused", address=find_address(request))
            return None
        elif row["role"] != role:
            users.set_role(connection, row["id"], role)
        return users.find_by_subject(connection, subject)


def try_provider(settings: Oidc) -> None:
    """Try whether the provider answers, and whether the secret can be read.

    Raises:
        SettingsError: it does not, or cannot.
    """
    try:
        _discover(settings)
        _make_client(settings, "")
    except Exception as error:
        raise SettingsError(
            "oidc.issuer", found=_explain(error), needed="a provider of OpenID Connect, and the file of our secret",
            remedy="mend [oidc] in the settings, or start the provider",
        ) from error  # fmt: skip


def _give_up(web: Web, request: Request, error: Exception) -> Response:
    """Answer a fault of the provider, the network or the settings, or a token that is not ours: the log says which."""
    logger.warning("a log-in by %s failed: %s", _HOW, _explain(error))
    note_refusal(web, request, "unknown", "failed", how=_HOW)
    return _go_back("failed")


def _explain(error: Exception) -> str:
    """What failed, without anything of a person: the status of an answer, OAuth's own code, or the kind of error."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"HTTP {error.response.status_code} from {error.request.url.host}"
    code, name = str(getattr(error, "error", "") or ""), type(error).__name__
    said = str(error) if isinstance(error, OSError | httpx.TransportError) else code
    return f"{name}: {said}" if said else name


def _discover(settings: Oidc) -> dict[str, Any]:
    """Where the provider's endpoints are; asked each time, for keys and addresses change."""
    url = f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration"
    about: dict[str, Any] = httpx.get(url, timeout=_TIMEOUT_S, follow_redirects=True).raise_for_status().json()
    if about["issuer"].rstrip("/") != settings.issuer.rstrip("/"):
        raise OSError("its issuer is not the one of the settings")
    return about


def _make_client(settings: Oidc, redirect: str) -> OAuth2Client:
    secret = Path(settings.client_secret_file).read_text("utf-8").strip() if settings.client_secret_file else None
    return OAuth2Client(
        client_id=settings.client_id, client_secret=secret, redirect_uri=redirect, scope="openid profile email groups",
        code_challenge_method="S256", timeout=_TIMEOUT_S,
        token_endpoint_auth_method="client_secret_basic" if secret else "none",
    )  # fmt: skip


def _go_back(why: str) -> Response:
    """Send the browser to our page, which says why nobody entered."""
    return RedirectResponse(f"/?{urlencode({'login': why})}" if why else "/", 303)
