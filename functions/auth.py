"""Who may call: holders of a key or a token or, where there are none of both, programs on this machine."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from time import time
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Scope_

from functions.cookie import LOGIN_S, Login, cookie_in, from_our_page, opened
from functions.keyring import Keyring
from functions.threads import in_thread
from shared.errors import Forbidden, Unauthorized, Unavailable, UnsupportedMedia
from shared.keys import ApiKey, Scope, digest, id_in

LOCAL = "local"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_SAFE = {"GET", "HEAD", "OPTIONS"}
#: Open to all: whether the process is up, what Spool is, the way in, and addresses that carry their own signature.
_OPEN = {"/", "/healthz", "/docs", "/openapi.json", "/dashboard", "/api/login", "/api/logout", "/api/me"}
_OPEN_BELOW = ("/files/", "/dashboard/")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: `name` is what jobs and uploads remember, the same for all keys of one owner.

    `scopes` None may do everything. `until` is when a login ends (seconds since 1970), None for all other callers.
    """

    name: str
    scopes: frozenset[Scope] | None = None
    key: ApiKey | None = None
    until: int | None = None

    def may(self, scope: Scope) -> bool:
        """Whether the caller may do what `scope` stands for."""
        return self.scopes is None or bool(self.scopes & {scope, "admin"})

    def must(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the caller may."""
        if self.scopes is not None and not self.may(scope):
            raise Forbidden(
                f"This key may not do that: it has the scopes {', '.join(sorted(self.scopes))} and needs {scope}; "
                "make one with `spool keys create`."
            )


NOBODY = Caller("", frozenset())


class Access:
    """Who holds a token or a key, and who has logged in with one."""

    def __init__(self, *, tokens: Sequence[str], keyring: Keyring, secret: bytes) -> None:
        self._tokens = {digest(token): digest(token)[:16] for token in tokens}
        self._keyring, self._secret = keyring, secret

    def holder(self, text: str) -> Caller | None:
        """The holder of a token. Every token is compared, so that the time taken says nothing about any of them."""
        given = digest(text)
        names = [name for kept, name in self._tokens.items() if hmac.compare_digest(kept, given)]
        return Caller(names[0]) if names and text else None

    def key_holder(self, text: str) -> Caller | None:
        """The holder of a key (a round trip when the key is unknown, or what is known of keys too old)."""
        key = self._keyring.find(text) if id_in(text) else None
        return None if key is None else _with_key(key)

    def log_in(self, text: str) -> tuple[Caller, Login] | None:
        """Who gives this key or token, and their login from now on."""
        ends_at = int(time()) + LOGIN_S
        if holder := self.holder(text):
            return holder, Login("token", holder.name, ends_at)
        if (holder := self.key_holder(text)) and holder.key:
            return holder, Login("key", holder.key.id, ends_at)
        return None

    def login_in(self, cookie: str | None) -> Login | None:
        """The login of a cookie, if it is one of ours and not over."""
        return None if cookie is None else opened(cookie, self._secret, time())

    def returned(self, login: Login) -> Caller | None:
        """Who logged in, as long as their key or token is good (a round trip as for `key_holder`)."""
        if login.kind == "token":
            return Caller(login.id, until=login.ends_at) if login.id in self._tokens.values() else None
        key = self._keyring.live(login.id)
        return None if key is None else _with_key(key, until=login.ends_at)

    def still(self, caller: Caller) -> bool:
        """Whether who was let in a while ago would be let in now; for answers that go on for hours."""
        if caller.until is not None and time() >= caller.until:
            return False
        try:
            return caller.key is None or self._keyring.live(caller.key.id) is not None
        except Unavailable:  # nothing new is known, and nothing new is shown
            return True

    async def is_for_all_here(self) -> bool:
        """Whether there are neither tokens nor keys, so that programs on this machine need none."""
        if self._tokens:
            return False
        return self._keyring.empty if self._keyring.fresh else await in_thread(self._keyring.load)

    @property
    def has_tokens(self) -> bool:
        """Whether any token is set."""
        return bool(self._tokens)


class Guard:
    """Lets a request through with its `Caller` in `state.caller`, or raises."""

    def __init__(self, app: ASGIApp, *, origins: Sequence[str], access: Access) -> None:
        self._app = app
        self._origins = set(origins)
        self._access = access

    async def __call__(self, scope: Scope_, receive: Receive, send: Send) -> None:
        """Decide, then go on."""
        if scope["type"] == "http":
            scope.setdefault("state", {})["caller"] = await self._caller(scope, Headers(scope=scope))
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope_, headers: Headers) -> Caller:
        path = scope["path"]
        if path == "/healthz":
            return NOBODY
        is_open = path in _OPEN or path.startswith(_OPEN_BELOW)
        given = headers.get("authorization", "")
        scheme, _, rest = given.partition(" ")
        text = rest.strip() if scheme.lower() == "bearer" else ""
        if caller := self._access.holder(text):
            return caller
        login = None if given else self._access.login_in(cookie_in(scope, headers))
        try:
            if login is not None:
                caller = await in_thread(lambda: self._access.returned(login))
            elif id_in(text):
                caller = await in_thread(lambda: self._access.key_holder(text))
            local = await self._access.is_for_all_here()
        except Unavailable:
            # Pages need no database, and readiness is what tells that it is away.
            if not is_open and path != "/readyz":
                raise
            caller, local = None, not self._access.has_tokens
        if local:
            self._must_be_local(scope, headers)
            return Caller(LOCAL)
        if caller is not None:
            if login is not None:
                self._must_be_our_page(scope, headers)
            return caller
        if is_open:
            return NOBODY
        sentence = "This key or token is not valid" if given else "This address needs a key"
        raise Unauthorized(
            f"{sentence}; send Authorization: Bearer and a key of `spool keys create`, or one of SPOOL_API_TOKENS."
        )

    def _must_be_our_page(self, scope: Scope_, headers: Headers) -> None:
        """A browser sends the cookie by itself, so what changes something must come from a page of ours."""
        if scope["method"] in _SAFE:
            return
        if not from_our_page(scope, headers):
            raise Forbidden(
                "A login is for Spool's own pages, and this request comes from elsewhere; programs and other pages "
                "send Authorization: Bearer and a key."
            )
        self._must_be_json(scope, headers)

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
        self._must_be_json(scope, headers)

    def _must_be_json(self, scope: Scope_, headers: Headers) -> None:
        """A form of any page can be sent anywhere, but never as JSON."""
        has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if has_body and kind != "application/json" and not scope["path"].startswith("/files/"):
            raise UnsupportedMedia("The body must be JSON; send it with Content-Type: application/json.")


def _with_key(key: ApiKey, until: int | None = None) -> Caller:
    return Caller(f"key:{key.name}", frozenset(key.scopes), key, until)


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
