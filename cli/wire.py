"""Requests to one API and to its storage: what is repeated, what is waited for, and one sentence for each fault."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NewConnectionError, SSLError

from cli.errors import Broken, CommandError, Refused, Unreachable, WrittenTwice
from cli.views import OutputView, UploadPart


class Wire:
    """The way to one Spool API. Safe requests are repeated for a while when the connection breaks."""

    def __init__(self, base_url: str, token: str | None = None, *, say: Callable[[str], None] | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._say = say or (lambda _sentence: None)
        self._pool = urllib3.PoolManager(retries=False, maxsize=4)
        self._headers = {"Accept": "application/json", "User-Agent": "spool-cli"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"

    def close(self) -> None:
        """Let go of all connections."""
        self._pool.clear()

    # --- files: to and from the storage, which may be elsewhere ---------------------------------------------
    def send(self, path: Path, piece: UploadPart, moved: Callable[[int], None]) -> None:
        """Send a piece of a file in constant memory, telling how much of it has gone."""
        url = urljoin(self.base_url + "/", piece["url"])
        to_api = url.startswith(self.base_url + "/")
        with self._explained("" if to_api else url), path.open("rb") as file:
            reply = self._pool.request(
                piece["method"],
                url,
                body=cast("BinaryIO", _Counted(file, piece["first"], piece["size_bytes"], moved)),
                headers={**piece["headers"], "Content-Length": str(piece["size_bytes"])},
                timeout=urllib3.Timeout(connect=5, read=300),
            )
        if reply.status in {409, 412}:
            raise WrittenTwice(f"{path.name} had been sent to this address before. Send it again.")
        if reply.status >= 400:
            raise self._refused(url, reply)

    def _rest_of(self, output: OutputView, first: int) -> Iterator[bytes]:
        """The file's bytes from `first` on."""
        url = urljoin(self.base_url + "/", output["url"])
        to_api = url.startswith(self.base_url + "/")
        headers = {"Range": f"bytes={first}-"} if first else {}
        with self._explained("" if to_api else url), self._open(url, headers) as reply:
            if reply.status != (206 if first else 200):
                raise self._refused(url, reply)
            yield from reply.stream(1 << 18)

    # --- questions to the API ------------------------------------------------------------------------------
    def _json(self, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401 - any JSON value
        return self._read(self._call(method, path, **options))

    def _call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60,
        repeat: bool | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """One request; a broken connection, a busy server or a rate limit is waited out when that is safe."""
        url = self.base_url + path + ("?" + urlencode(query) if query else "")
        sent = self._headers | ({"Content-Type": "application/json"} if body is not None else {}) | dict(headers or {})
        safe = repeat if repeat is not None else method in {"GET", "DELETE"}
        data = None if body is None else json.dumps(body).encode()
        for pause_s in (0.2, 0.5, 1.0, None):
            try:
                with self._explained():
                    reply = self._pool.request(
                        method, url, body=data, headers=sent, timeout=urllib3.Timeout(connect=5, read=timeout_s)
                    )
            except Broken:
                if not safe or pause_s is None:
                    raise
                time.sleep(pause_s)
                continue
            if reply.status == 429 and pause_s is not None:
                seconds = min(float(reply.headers.get("Retry-After", "1")), 120.0)
                self._say(f"The server asks for a pause; going on in {seconds:.0f} s.")
                time.sleep(seconds)
                continue
            if reply.status == 503 and safe and pause_s is not None:
                time.sleep(pause_s)
                continue
            return reply
        return reply

    def _read(self, reply: urllib3.BaseHTTPResponse) -> Any:  # noqa: ANN401 - any JSON value
        if reply.status >= 400:
            raise self._problem(reply)
        if reply.status == 204:
            return None
        try:
            return json.loads(reply.data)
        except ValueError:
            raise self._not_spool(reply) from None

    def _problem(self, reply: urllib3.BaseHTTPResponse) -> CommandError:
        """The error that a problem+json answer stands for."""
        try:
            problem = json.loads(reply.data)
            message = str(problem["detail"])
        except (ValueError, KeyError, TypeError):
            return self._not_spool(reply)
        if reply.status == 401:
            message += "\n  Set SPOOL_API_TOKEN to one of the API's tokens (its SPOOL_API_TOKENS)."
        if reply.status in {502, 503, 504}:
            return Unreachable(message)
        if reply.status >= 500 and (request_id := reply.headers.get("X-Request-Id")):
            message += f"\n  X-Request-Id: {request_id}"
        return Refused(reply.status, str(problem.get("code", "")), message)

    def _refused(self, url: str, reply: urllib3.BaseHTTPResponse) -> CommandError:
        """Why the bytes of a file were not taken or given; `Broken` where the same request may work later."""
        if not url.startswith(self.base_url + "/"):
            return _refused_by_storage(url, reply)
        problem = self._problem(reply)
        return Broken(problem.message) if reply.status in {502, 503, 504} else problem

    def _not_spool(self, reply: urllib3.BaseHTTPResponse) -> Unreachable:
        kind = reply.headers.get("Content-Type", "no content type").partition(";")[0]
        return Unreachable(
            f"What answers at {self.base_url} does not speak Spool (HTTP {reply.status}, {kind}). Check SPOOL_API_URL."
        )

    @contextmanager
    def _open(self, url: str, headers: Mapping[str, str]) -> Iterator[urllib3.BaseHTTPResponse]:
        timeout = urllib3.Timeout(connect=5, read=60)
        reply = self._pool.request("GET", url, headers=headers, preload_content=False, timeout=timeout)
        try:
            yield reply
        finally:
            reply.close()

    @contextmanager
    def _explained(self, url: str = "") -> Iterator[None]:
        """Turn urllib3's errors into one sentence that says how to go on; `url` is where, if it is not the API."""
        try:
            yield
        except (NewConnectionError, ConnectTimeoutError) as error:
            if url and not url.startswith(self.base_url):
                raise Broken(f"The storage at {urlsplit(url).netloc} does not answer. Check the network.") from None
            raise Unreachable(self._nothing_there(error)) from None
        except SSLError as error:
            if "WRONG_VERSION_NUMBER" in str(error):
                sentence = f"{self.base_url} speaks no TLS; write http:// in SPOOL_API_URL, or the port that does."
                raise Unreachable(sentence) from None
            raise Unreachable(f"{self.base_url} has no certificate this machine trusts ({error}).") from None
        except HTTPError as error:
            where = urlsplit(url or self.base_url)
            raise Broken(
                f"The connection to {where.scheme}://{where.netloc} broke ({type(error).__name__}). Try again."
            ) from None

    def _nothing_there(self, error: HTTPError) -> str:
        if urlsplit(self.base_url).hostname in {"localhost", "127.0.0.1", "::1"}:
            return (
                f"Nothing answers at {self.base_url}. Start Spool with `spool dev` in another terminal, "
                "or set SPOOL_API_URL to the address of a running one."
            )
        reason = str(error).rpartition(": ")[2]
        return f"Nothing answers at {self.base_url} ({reason}). Check SPOOL_API_URL and the network."


class _Counted:
    """A piece of a file that says how much of it was read; `size` is what was promised to the server."""

    def __init__(self, file: BinaryIO, first: int, size: int, moved: Callable[[int], None]) -> None:
        file.seek(first)
        self._file, self._size, self._moved = file, size, moved
        self._done = 0

    def read(self, size: int = -1) -> bytes:
        """The next bytes, never more than was promised."""
        left = self._size - self._done
        chunk = self._file.read(left if size < 0 else min(size, left))
        if not chunk and left:
            raise CommandError(
                "The file became shorter while it was sent; wait until it is complete and send it again."
            )
        self._done += len(chunk)
        self._moved(self._done)
        return chunk


def _refused_by_storage(url: str, reply: urllib3.BaseHTTPResponse) -> CommandError:
    """What a bucket answers is XML, and its 403 mostly means that the address has expired."""
    found = re.search(r"<Message>([^<]*)</Message>", reply.data.decode(errors="replace"))
    said = f": {found[1].rstrip('.')}" if found else ""
    sentence = f"The storage at {urlsplit(url).netloc} refused the file ({reply.status}{said}). Send it again."
    return Broken(sentence) if reply.status in {403, 408, 429} or reply.status >= 500 else CommandError(sentence)
