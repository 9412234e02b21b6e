"""The cookie of a login: signed, so that it cannot be made up, and read by no script and sent by no other site.

The cookie says whose key or token it was and when it ends. Nothing is kept here, so every instance can read it; a key
that is revoked, or a token that is taken out of the settings, takes its logins with it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response

#: Long enough that a page on a wall stays open for a working week.
LOGIN_S = 7 * 24 * 3600
_TAG_BYTES = 32
_TEXT = re.compile(rb"(key|token) ([0-9a-f]{12,16}) (\d{1,12})")


@dataclass(frozen=True, slots=True)
class Login:
    """What was given: the key with this id, or the token of this name. `ends_at` is in seconds since 1970."""

    kind: Literal["key", "token"]
    id: str
    ends_at: int


def sealed(login: Login, secret: bytes) -> str:
    """A login as a cookie's value, which cannot be made up or changed."""
    text = f"{login.kind} {login.id} {login.ends_at}".encode()
    return base64.urlsafe_b64encode(_tag(text, secret) + text).decode().rstrip("=")


def opened(value: str, secret: bytes, now: float) -> Login | None:
    """The login that a cookie's value stands for; None when it is not one of ours, or over."""
    try:
        raw = base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    text = raw[_TAG_BYTES:]
    if not hmac.compare_digest(raw[:_TAG_BYTES], _tag(text, secret)) or not (match := _TEXT.fullmatch(text)):
        return None
    kind: Literal["key", "token"] = "key" if match[1] == b"key" else "token"
    login = Login(kind, match[2].decode(), int(match[3]))
    return login if now < login.ends_at else None


def cookie_in(scope: Mapping[str, Any], headers: Headers) -> str | None:
    """The value that the browser sent."""
    return cookie_parser(headers.get("cookie", "")).get(_name(scope, headers))


def keep_cookie(response: Response, value: str, scope: Mapping[str, Any], headers: Headers) -> None:
    """Let the browser keep the value, send it with requests of our own pages only, and show it to no script."""
    response.set_cookie(
        _name(scope, headers),
        value,
        max_age=LOGIN_S if value else 0,
        secure=is_https(scope, headers),
        httponly=True,
        samesite="strict",
    )


def is_https(scope: Mapping[str, Any], headers: Headers) -> bool:
    """Whether the browser came by TLS, to us or to a proxy that says so; no other page can make a browser say it."""
    return scope["scheme"] == "https" or headers.get("x-forwarded-proto", "").partition(",")[0].strip() == "https"


def from_our_page(scope: Mapping[str, Any], headers: Headers) -> bool:
    """Whether a page of this very origin sent the request. Browsers name the origin of everything but a plain GET."""
    origin = urlsplit(headers.get("origin", ""))
    return origin.netloc == headers.get("host", "") != "" and (origin.scheme == "https" or not is_https(scope, headers))


def _name(scope: Mapping[str, Any], headers: Headers) -> str:
    """Over TLS with the prefix that keeps a neighbouring host, or a page without TLS, from setting it."""
    return "__Host-spool" if is_https(scope, headers) else "spool"


def _tag(text: bytes, secret: bytes) -> bytes:
    return hmac.new(secret, b"login\n" + text, hashlib.sha256).digest()
