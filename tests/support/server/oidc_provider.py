"""A small OpenID Connect provider, a process of its own: authlib's server side, keys and tokens of its own making.

python oidc_provider.py PORT CLIENT_ID CLIENT_SECRET: whoever asks is logged in as the `login_hint` says, or as 'anna'.
"""

import base64
import hashlib
import json
import secrets
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

PEOPLE = {
    "anna": {"sub": "1", "preferred_username": "anna", "groups": ["readers"]},
    "root": {"sub": "2", "preferred_username": "root", "groups": ["readers", "admins"]},
    "guest": {"sub": "3", "preferred_username": "guest", "groups": ["visitors"]},
}
FAULTS = {
    "audience": {"aud": "another"}, "nonce": {"nonce": "another"}, "issuer": {"iss": "http://evil.example"},
    "old": {"exp": 1_000_000_000},
}  # fmt: skip
PORT, CLIENT, SECRET = int(sys.argv[1]), sys.argv[2], sys.argv[3]
ISSUER = f"http://127.0.0.1:{PORT}"
KEY, OTHER = RSAKey.generate_key(2048, {"kid": "one"}), RSAKey.generate_key(2048, {"kid": "one"})
STATE = {"person": "anna", "fault": ""}
CODES: dict[str, dict[str, str]] = {}


class Provider(BaseHTTPRequestHandler):
    def log_message(self, *given: object) -> None:
        pass

    def say(self, content: object, status: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        asked = dict(parse_qsl(parts.query, keep_blank_values=True))
        if parts.path == "/.well-known/openid-configuration":
            ends = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "jwks"}
            self.say({"issuer": ISSUER} | {name: f"{ISSUER}/{end}" for name, end in ends.items()})
        elif parts.path == "/jwks":
            self.say({"keys": [KEY.as_dict(private=False)]})
        elif parts.path == "/be":  # the test chooses who sits there, and what goes wrong
            STATE.update(asked)
            self.say(STATE)
        elif parts.path == "/authorize":
            assert asked["client_id"] == CLIENT
            assert asked["response_type"] == "code"
            assert asked["code_challenge_method"] == "S256"
            code = secrets.token_urlsafe(16)
            CODES[code] = asked
            back = urlencode({"code": code, "state": asked["state"]})
            self.send_response(303)
            self.send_header("Location", f"{asked['redirect_uri']}?{back}")
            self.end_headers()

    def do_POST(self) -> None:
        given = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        asked = CODES.pop(given["code"], {})  # once
        digest = hashlib.sha256(given["code_verifier"].encode()).digest()
        told = {
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "redirect_uri": given["redirect_uri"],
        }
        if self.headers["Authorization"] != f"Basic {basic}" or not told.items() <= asked.items():
            self.say({"error": "invalid_grant"}, 400)
            return
        now, fault = int(time.time()), STATE["fault"]
        claims = {"iss": ISSUER, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": asked["nonce"]}
        claims |= PEOPLE[STATE["person"]] | FAULTS.get(fault, {})
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, OTHER if fault == "signature" else KEY)
        self.say({"access_token": "x", "token_type": "Bearer", "expires_in": 300, "id_token": token})


ThreadingHTTPServer(("127.0.0.1", PORT), Provider).serve_forever()
