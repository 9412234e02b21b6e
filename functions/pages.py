"""The pages: every file in functions/dashboard/ as it is, with headers that let it reach nothing but this server.

A page names its styles and scripts below the hash of them all, `/dashboard/HASH/main.js`: a browser keeps those for
good, and asks for new ones as soon as anything in them has changed.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from functions.packing import takes_gzip
from functions.threads import in_thread

_FOLDER = Path(__file__).parent / "dashboard"
_DOCUMENT = "openapi.json"
_KEEP = "public, max-age=31536000, immutable"
_HASHED = re.compile(r"([0-9a-f]{16})/(.+)")
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


def routes(storage: str) -> list[Route]:
    """`/`, `/docs`, `/openapi.json`, `/dashboard` and what lies below it.

    `storage` is the origin that pages may send files to and play them from, beside this server's own; or empty.
    """
    serve = partial(_page, _headers(storage))
    return [
        Route("/", partial(serve, "landing.html")),
        Route("/docs", partial(serve, "docs.html")),
        Route(f"/{_DOCUMENT}", partial(serve, _DOCUMENT)),
        Route("/dashboard", partial(serve, "index.html")),
        Route("/dashboard/", partial(serve, "index.html")),
        Route("/dashboard/{name:path}", partial(serve, None)),
    ]


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is sent, and the same packed."""

    kind: str
    content: bytes
    small: bytes
    tag: str


@dataclass(frozen=True, slots=True)
class _Site:
    """All that is served, by name, and the hash of it."""

    hash: str
    files: Mapping[str, _File]


@cache
def _site() -> _Site:
    """Read once. Names are looked up among what there is, so that none leads elsewhere."""
    found = {path.relative_to(_FOLDER).as_posix(): path for path in sorted(_FOLDER.rglob("*")) if path.is_file()}
    texts = {name: path.read_bytes() for name, path in found.items()}
    whole = hashlib.sha256(b"".join(b"%s %d " % (name.encode(), len(text)) + text for name, text in texts.items()))
    version = whole.hexdigest()[:16]
    texts[_DOCUMENT] = (_FOLDER.parent / _DOCUMENT).read_bytes()
    return _Site(version, {name: _file(name, _hashed(name, text, version)) for name, text in texts.items()})


def _hashed(name: str, text: bytes, version: str) -> bytes:
    """Pages name what they load by its hash; what is loaded names its neighbours by relative paths."""
    if not name.endswith(".html"):
        return text
    return re.sub(rb'"/dashboard/([^"]+\.\w+)"', rf'"/dashboard/{version}/\1"'.encode(), text)


def _file(name: str, content: bytes) -> _File:
    kind = _TYPES.get(Path(name).suffix, "text/plain; charset=utf-8")
    return _File(kind, content, gzip.compress(content, mtime=0), hashlib.sha256(content).hexdigest()[:32])


def _headers(storage: str) -> dict[str, str]:
    ours = f"'self' {storage}".strip()
    return {
        "Content-Security-Policy": (
            f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {ours} data: blob:; "
            f"media-src {ours} blob:; font-src 'self'; connect-src {ours}; manifest-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }


async def _page(always: Mapping[str, str], name: str | None, request: Request) -> Response:
    return await in_thread(partial(_answer, always, name or request.path_params["name"], request))


def _answer(always: Mapping[str, str], name: str, request: Request) -> Response:
    site, keep = _site(), "no-cache"
    if hashed := _HASHED.fullmatch(name):
        # Another version's page, while a deployment is changed, gets what there is, and keeps none of it.
        name, keep = hashed[2], _KEEP if hashed[1] == site.hash else "no-store"
    file = site.files.get(name)
    if file is None:
        raise HTTPException(404)
    small = takes_gzip(request.headers)
    headers = {**always, "Cache-Control": keep, "Vary": "Accept-Encoding", "ETag": f'"{file.tag}{"-gz" * small}"'}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if small:
        headers["Content-Encoding"] = "gzip"
    response = Response(file.small if small else file.content, headers=headers, media_type=file.kind)
    if request.method == "HEAD":
        response.body = b""
    return response
