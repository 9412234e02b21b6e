"""Who may call: holders of a key or a token or, where there are none of both, programs on this machine."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Scope_

from functions.keyring import Keyring
from functions.threads import in_thread
from shared.errors import Forbidden, Unauthorized, Unavailable, UnsupportedMedia
from shared.keys import ApiKey, Scope, digest, id_in

LOCAL = "local"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
#: Open to all: whether the process is up, what Spool is, and addresses that carry their own signature.
_OPEN = {"/", "/healthz", "/docs", "/openapi.json", "/dashboard"}
_OPEN_BELOW = ("/files/", "/dashboard/")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `name` is what jobs and uploads remember, the same for all keys of one owner.

    `scopes` None may do everything.
    """

    name: str
    scopes: frozenset[Scope] | None = None
    key: ApiKey | None = None

    def must(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the caller may do what `scope` stands for."""
        if self.scopes is not None and not self.scopes & {scope, "admin"}:
            raise Forbidden(
                f"This key may not do that: it has the scopes {', '.join(sorted(self.scopes))} and needs {scope}; "
                "make one with `spool keys create`."
            )


class Guard:
    """Lets a request through with its `Caller` in `state.caller`, or raises."""

    def __init__(self, app: ASGIApp, *, tokens: Sequence[str], origins: Sequence[str], keyring: Keyring) -> None:
        self._app = app
        self._tokens = {digest(token): digest(token)[:16] for token in tokens}
        self._origins = set(origins)
        self._keyring = keyring

    async def __call__(self, scope: Scope_, receive: Receive, send: Send) -> None:
        """Decide, then go on."""
        if scope["type"] == "http":
            scope.setdefault("state", {})["caller"] = await self._caller(scope, Headers(scope=scope))
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope_, headers: Headers) -> Caller:
        path = scope["path"]
        if path == "/healthz":
            return Caller("")
        is_open = path in _OPEN or path.startswith(_OPEN_BELOW)
        scheme, _, given = headers.get("authorization", "").partition(" ")
        text = given.strip() if scheme.lower() == "bearer" else ""
        if caller := self._holder(text):
            return caller
        try:
            key = await in_thread(lambda: self._keyring.find(text)) if id_in(text) else None
            local = not self._tokens and await self._nobody_has_a_key()
        except Unavailable:
            # Pages need no database, and readiness is what tells that it is away.
            if not is_open and path != "/readyz":
                raise
            key, local = None, not self._tokens
        if local:
            self._must_be_local(scope, headers)
            return Caller(LOCAL)
        if key is not None:
            return Caller(f"key:{key.name}", frozenset(key.scopes), key)
        if is_open:
            return Caller("")
        sentence = "This key or token is not valid" if given else "This address needs a key"
        raise Unauthorized(
            f"{sentence}; send Authorization: Bearer and a key of `spool keys create`, or one of SPOOL_API_TOKENS."
        )

    def _holder(self, text: str) -> Caller | None:
        """The holder of a token. Every token is compared, so that the time taken says nothing about any of them."""
        given = digest(text)
        names = [name for kept, name in self._tokens.items() if hmac.compare_digest(kept, given)]
        return Caller(names[0]) if names and text else None

    async def _nobody_has_a_key(self) -> bool:
        return self._keyring.empty if self._keyring.fresh else await in_thread(self._keyring.load)

    def _must_be_local(self, scope: Scope_, headers: Headers) -> None:
        """Without keys a web page elsewhere must not be able to steer Spool through its visitor's browser."""
        host = headers.get("host", "")
        if _host_name(host) not in _LOOPBACK:
            raise Forbidden(
                "Without keys and tokens Spool answers on this machine only (localhost, 127.0.0.1 or [::1]); "
                "make a key with `spool keys create`, or set SPOOL_API_TOKENS, to open it to others."
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
