"""The pages: every file in functions/dashboard/ as it is, with headers that let it reach nothing but this server."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from functions.call import in_thread

_FOLDER = Path(__file__).parent / "dashboard"
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
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "media-src 'self' blob:; font-src 'self'; connect-src 'self'; manifest-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def routes() -> list[Route]:
    """`/`, `/docs`, `/openapi.json`, `/dashboard` and what lies below it."""
    return [
        Route("/", partial(_page, "landing.html")),
        Route("/docs", partial(_page, "docs.html")),
        Route("/openapi.json", _openapi),
        Route("/dashboard", partial(_page, "index.html")),
        Route("/dashboard/", partial(_page, "index.html")),
        Route("/dashboard/{name:path}", _named),
    ]


async def _page(name: str, request: Request) -> Response:
    return await in_thread(partial(_file, _FOLDER, name, request))


async def _named(request: Request) -> Response:
    return await _page(request.path_params["name"], request)


async def _openapi(request: Request) -> Response:
    return await in_thread(partial(_file, Path(__file__).parent, "openapi.json", request))


def _file(folder: Path, name: str, request: Request) -> Response:
    """The file of this name, found among those that there are, so that no name leads elsewhere."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    if name not in found:
        raise HTTPException(404)
    content = found[name].read_bytes()
    headers = _HEADERS | {"ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    kind = _TYPES.get(found[name].suffix, "text/plain; charset=utf-8")
    response = Response(content, headers=headers, media_type=kind)
    if request.method == "HEAD":
        response.body = b""
    return response
