"""The pages: every file in functions/dashboard/ as it is, with headers that let it reach nothing but this server."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from functions.threads import in_thread

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


def routes(storage: str) -> list[Route]:
    """`/`, `/docs`, `/openapi.json`, `/dashboard` and what lies below it.

    `storage` is the origin that pages may send files to and play them from, beside this server's own; or empty.
    """
    serve = partial(_page, _headers(storage))
    return [
        Route("/", partial(serve, _FOLDER, "landing.html")),
        Route("/docs", partial(serve, _FOLDER, "docs.html")),
        Route("/openapi.json", partial(serve, Path(__file__).parent, "openapi.json")),
        Route("/dashboard", partial(serve, _FOLDER, "index.html")),
        Route("/dashboard/", partial(serve, _FOLDER, "index.html")),
        Route("/dashboard/{name:path}", partial(serve, _FOLDER, None)),
    ]


def _headers(storage: str) -> dict[str, str]:
    ours = f"'self' {storage}".strip()
    return {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": (
            f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {ours} data: blob:; "
            f"media-src {ours} blob:; font-src 'self'; connect-src {ours}; manifest-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }


async def _page(always: Mapping[str, str], folder: Path, name: str | None, request: Request) -> Response:
    return await in_thread(partial(_file, always, folder, name or request.path_params["name"], request))


def _file(always: Mapping[str, str], folder: Path, name: str, request: Request) -> Response:
    """The file of this name, found among those that there are, so that no name leads elsewhere."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    if name not in found:
        raise HTTPException(404)
    content = found[name].read_bytes()
    headers = {**always, "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    kind = _TYPES.get(found[name].suffix, "text/plain; charset=utf-8")
    response = Response(content, headers=headers, media_type=kind)
    if request.method == "HEAD":
        response.body = b""
    return response
