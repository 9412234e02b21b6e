"""Who may call: holders of a token or, where there are no tokens, programs on this machine."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.errors import Forbidden, Unauthorized, UnsupportedMedia

LOCAL = "local"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
#: Open to all: whether the process is up, what Spool is, and addresses that carry their own signature.
_OPEN = {"/", "/healthz", "/docs", "/openapi.json", "/dashboard"}
_OPEN_BELOW = ("/files/", "/dashboard/")


class Guard:
    """Lets a request through with its caller's name in `state.caller`, or raises."""

    def __init__(self, app: ASGIApp, *, tokens: Sequence[str], origins: Sequence[str]) -> None:
        self._app = app
        self._tokens = {_digest(token): _digest(token)[:16] for token in tokens}
        self._origins = set(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Decide, then go on."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            if not self._tokens:
                self._must_be_local(scope, headers)
            scope.setdefault("state", {})["caller"] = self._caller(scope["path"], headers)
        await self._app(scope, receive, send)

    def _caller(self, path: str, headers: Headers) -> str:
        if not self._tokens:
            return LOCAL
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = _digest(token.strip())
        # Every token is compared, so that the time taken says nothing about any of them.
        callers = [caller for digest, caller in self._tokens.items() if hmac.compare_digest(digest, given)]
        if scheme.lower() == "bearer" and callers:
            return callers[0]
        if path in _OPEN or path.startswith(_OPEN_BELOW):
            return ""
        sentence = "This token is not valid" if token else "This address needs a token"
        raise Unauthorized(f"{sentence}; send Authorization: Bearer and one of SPOOL_API_TOKENS.")

    def _must_be_local(self, scope: Scope, headers: Headers) -> None:
        """Without tokens a web page elsewhere must not be able to steer Spool through its visitor's browser."""
        if scope["path"] == "/healthz":
            return
        host = headers.get("host", "")
        if _host_name(host) not in _LOOPBACK:
            raise Forbidden(
                "Without tokens Spool answers on this machine only (localhost, 127.0.0.1 or [::1]); "
                "set SPOOL_API_TOKENS to open it to others."
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self._origins and urlsplit(origin).netloc != host:
            raise Forbidden(
                f"Pages of {origin[:100]} may not call Spool; add that origin to SPOOL_CORS_ORIGINS if they should."
            )
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if has_body and kind != "application/json" and not scope["path"].startswith("/files/"):
            raise UnsupportedMedia("The body must be JSON; send it with Content-Type: application/json.")


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
