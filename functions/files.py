"""Local storage over HTTP: `/files/…` takes and gives the bytes that signed addresses allow."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from functools import partial
from typing import BinaryIO

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from functions.threads import in_thread
from shared.errors import Invalid, Malformed, NotFound, TooLarge, UnsupportedMedia
from shared.storage.local import Grant, Incoming, LocalStorage
from shared.storage.protocol import Stored, disposition
from shared.store.protocol import JobStore

_CHUNK = 1 << 20
_SEND_CHUNK = 1 << 18
#: A client that sends nothing for this long is gone.
_SILENCE_S = 60.0
#: Files are saved, pages are shown: in a sandbox, where no script runs, nothing is loaded, nothing is of our origin.
_SAVED = "sandbox; default-src 'none'"
_SHOWN = f"{_SAVED}; style-src 'unsafe-inline'; frame-ancestors 'none'"
_RANGE = re.compile(r"\s*bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})\s*")


class LocalFiles:
    """Serves one local storage at `/files/{key}`."""

    def __init__(self, storage: LocalStorage, store: JobStore) -> None:
        self._storage = storage
        self._store = store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the signature decide, then move the bytes."""
        request = Request(scope, receive)
        method = "GET" if request.method == "HEAD" else request.method
        grant = self._storage.admit(method, request.path_params["key"], dict(request.query_params))
        if method == "PUT":
            response = await self._take(request, grant)
            await response(scope, receive, send)
        else:
            with ExitStack() as stack:
                opened = self._storage.open(grant.key)
                stored, file = await in_thread(lambda: stack.enter_context(opened))
                await _give(request, grant, stored, file, send)

    async def _take(self, request: Request, grant: Grant) -> Response:
        _check_declared(request, grant)
        with ExitStack() as stack:
            place = self._storage.receive(grant.key, content_type=grant.content_type)
            incoming = await in_thread(lambda: stack.enter_context(place))
            await _pour(request, incoming, grant)
            stored = await in_thread(partial(incoming.commit, replace=False))
        await in_thread(partial(self._ready, stored))
        return Response(status_code=201, headers={"ETag": f'"{stored.sha256}"'})

    def _ready(self, stored: Stored) -> None:
        try:
            self._store.asset_ready(stored.key.removeprefix("uploads/"), sha256=stored.sha256)
        except NotFound:
            self._storage.delete_prefix(stored.key)
            raise


def _check_declared(request: Request, grant: Grant) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != grant.content_type.lower():
        raise UnsupportedMedia(f"This upload was announced as {grant.content_type}; send it with that Content-Type.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal():
        _check_size(int(declared), grant)


def _check_size(size: int, grant: Grant) -> None:
    wanted = grant.size_bytes or 0
    if size > wanted:
        raise TooLarge(
            f"This upload was announced with {wanted} bytes and has more; announce it anew with its real size."
        )
    if size < wanted:
        raise Invalid(
            f"This upload was announced with {wanted} bytes and ended after {size}; send the whole file again."
        )


async def _pour(request: Request, incoming: Incoming, grant: Grant) -> None:
    """Move the body to disk, a megabyte at a time."""
    chunks = request.stream()
    buffer = bytearray()
    while (chunk := await _next(chunks)) is not None:
        buffer += chunk
        so_far = incoming.size_bytes + len(buffer)
        if so_far > (grant.size_bytes or 0):
            _check_size(so_far, grant)
        if len(buffer) >= _CHUNK:
            await in_thread(partial(incoming.write, bytes(buffer)))
            buffer.clear()
    await in_thread(partial(incoming.write, bytes(buffer)))
    _check_size(incoming.size_bytes, grant)


async def _next(chunks: AsyncGenerator[bytes, None]) -> bytes | None:
    try:
        with anyio.fail_after(_SILENCE_S):
            return await anext(chunks, None)
    except TimeoutError:
        raise Malformed(f"Nothing arrived for {_SILENCE_S:g} s; send the whole file again.") from None
    except ClientDisconnect:
        raise Malformed("The connection ended before the file did; send the whole file again.") from None


async def _give(request: Request, grant: Grant, stored: Stored, file: BinaryIO, send: Send) -> None:
    """Send the file, or the range asked for."""
    etag = f'"{stored.sha256}"'
    shown = grant.content_type.partition(";")[0] == "text/html"
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, max-age=3600",
        "Content-Disposition": disposition(grant.filename or "file", inline=shown),
        "Content-Security-Policy": _SHOWN if shown else _SAVED,
    }
    status, first, end = 200, 0, stored.size_bytes
    if request.headers.get("if-range", etag) == etag and (span := _span(request.headers.get("range"), end)):
        status, (first, end) = 206, span
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{stored.size_bytes}"
    if etag in request.headers.get("if-none-match", ""):
        status = 304
    else:
        headers["Content-Length"] = str(end - first)
        headers["Content-Type"] = grant.content_type
    if status == 304 or request.method == "HEAD":
        end = first
    raw = Response(status_code=status, headers=headers).raw_headers
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await in_thread(partial(file.seek, first))
    while first < end:
        chunk = await in_thread(partial(file.read, min(_SEND_CHUNK, end - first)))
        first += len(chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte asked for and the one after the last; None for what a server may answer in full.

    Raises 416 when the range begins beyond the end.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        first = int(match[1])
        end = min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < first:
            return None
    else:
        first, end = size - min(int(match[2]), size), size
    if first >= size:
        headers = {"Content-Range": f"bytes */{size}"}
        raise HTTPException(416, f"The file has {size} bytes; ask for a range within them.", headers)
    return first, end
