"""Our own downloader: ffmpeg never sees a URL, and a URL never leads into the operator's network.

A name is resolved once, all of its addresses are checked, and the connection goes to a checked address, so that an
answer which changes between check and connection changes nothing. Redirects are followed by hand, each checked in
the same way. Everything that can block is cut short when the job is stopped.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import queue
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from shared.errors import JobFailure
from shared.storage.protocol import TransferProgress
from shared.store.values import Feed
from worker.addresses import Address, Policy, public
from worker.failures import NO_SPACE, SOURCE
from worker.stop import Stop

MAX_REDIRECTS = 5
MAX_BYTES = 20 * 1024**3
CHUNK_BYTES = 256 * 1024
#: How long a server may take to accept a connection, and to send nothing.
CONNECT_S, SILENCE_S = 10.0, 30.0
#: How often something that blocks looks whether the job was stopped.
LOOK_S = 0.1
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
#: Refusals that may pass: time out, too early, too many.
_PASSING = frozenset({408, 425, 429})
_PORTS = {"http": 80, "https": 443}

#: The addresses of a host and port. Raises `OSError` when there is none.
Resolve = Callable[[str, int], list[Address]]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A downloaded file; `url` is where it was in the end.

    `unchanged` means that nothing was sent, because the file is still what `known` says. `etag` and `last_modified`
    are the server's words for this version of it.
    """

    url: str
    size_bytes: int
    content_type: str
    sha256: str
    etag: str | None = None
    last_modified: str | None = None
    unchanged: bool = False


@dataclass(frozen=True, slots=True)
class Network:
    """How to reach the world. The default is the only one the product uses: public addresses, the system's
    resolver and the system's certificates."""

    allow: Policy = public
    resolve: Resolve | None = None
    tls: ssl.SSLContext | None = None


def fetch_url(
    url: str,
    path: Path,
    *,
    stop: Stop,
    progress: TransferProgress,
    max_bytes: int = MAX_BYTES,
    timeout_s: float = 3600.0,
    network: Network | None = None,
    pages: bool = False,
    known: Feed | None = None,
) -> Fetched:
    """Download `url` to `path`, calling `progress` as bytes arrive.

    A web page is refused unless `pages`. With `known` the file is only sent when it has changed since.
    Raises `JobFailure` (`network.*`, `bad_input.*`) with a sentence, and `Stopped` soon after `stop` was asked for.
    """
    network = network or Network()
    deadline = time.monotonic() + timeout_s
    headers = {
        "If-None-Match": known.etag if known else None,
        "If-Modified-Since": known.last_modified if known else None,
    }
    for _ in range(MAX_REDIRECTS + 1):
        target = _read_url(url)
        addresses = _addresses(target, network, stop, deadline)
        with (
            closing(_dial(target, addresses, stop, deadline)) as line,
            _watched(line, target, stop, deadline),
            closing(_ask(target, line, network.tls, headers)) as response,
        ):
            location = response.getheader("Location")
            if response.status in _REDIRECTS and location:
                url = urljoin(url, location)
                continue
            if response.status == http.client.NOT_MODIFIED and known is not None:
                return Fetched(url, 0, "", "", known.etag, known.last_modified, unchanged=True)
            _check_status(target, response.status)
            return _save(response, line, path, url, stop=stop, progress=progress, max_bytes=max_bytes, pages=pages)
    raise _final(
        "network.redirects", f"The link redirects more than {MAX_REDIRECTS} times; use the final link of the file."
    )


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    stop: Stop,
    timeout_s: float,
    network: Network | None = None,
) -> int:
    """Send `body` to `url`; returns the status of the answer, whatever it is. Redirects are not followed.

    Raises `JobFailure` (`network.*`) when there is no answer or the address is not public, and `Stopped`.
    """
    network = network or Network()
    deadline = time.monotonic() + timeout_s
    target = _read_url(url)
    addresses = _addresses(target, network, stop, deadline)
    with (
        closing(_dial(target, addresses, stop, deadline)) as line,
        _watched(line, target, stop, deadline),
        closing(_ask(target, line, network.tls, headers, body)) as response,
    ):
        return response.status


# -- the link


@dataclass(frozen=True, slots=True)
class _Target:
    """The checked parts of a URL; `host` is ASCII without brackets, `resource` is path and query."""

    scheme: str
    host: str
    port: int
    resource: str

    @property
    def authority(self) -> str:
        """What belongs into the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def _read_url(url: str) -> _Target:
    try:
        parts = urlsplit(url)
        host, port = _host(parts), parts.port
    except ValueError:
        raise _final(
            "network.bad_url", "The link is not a valid web address; copy it again from the browser."
        ) from None
    if parts.scheme not in _PORTS:
        raise _final("network.bad_url", "The link is not a web address: only http and https links can be fetched.")
    if parts.username is not None or parts.password is not None:
        raise _final("network.bad_url", "The link has a user name or password in it; use a link that works without.")
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(
        scheme=parts.scheme,
        host=host,
        port=_PORTS[parts.scheme] if port is None else port,
        resource=quote(resource, safe="%/:=&?~+!$,;'@()*[]"),
    )


def _host(parts: SplitResult) -> str:
    """The host in ASCII; raises `ValueError` for what no name server could know."""
    host = parts.hostname or ""
    if ":" in host:
        return str(ipaddress.IPv6Address(host.partition("%")[0])) if "%" not in host else _invalid(host)
    plain = host.encode("idna").decode("ascii")
    return plain if re.fullmatch(r"[A-Za-z0-9._-]{1,253}", plain) else _invalid(host)


def _invalid(host: str) -> NoReturn:
    raise ValueError(f"{host!r} is no host")


# -- reaching it


def system_resolve(host: str, port: int) -> list[Address]:
    """All addresses of a host, as the operating system knows them."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))


def _addresses(target: _Target, network: Network, stop: Stop, deadline: float) -> list[Address]:
    """The addresses of the target, all of them allowed.

    They are asked for in a thread, because the system's resolver cannot be interrupted and a job can.
    """
    answers: queue.SimpleQueue[list[Address]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put((network.resolve or system_resolve)(target.host, target.port))
        except (OSError, ValueError):
            answers.put([])

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    found: list[Address] | None = None
    while found is None:
        stop.check()
        try:
            found = answers.get(timeout=LOOK_S)
        except queue.Empty:
            if time.monotonic() > deadline:
                found = []
    if not found:
        raise _passing("network.dns", f"The host name {target.host} was not found; check the link for typing errors.")
    if not all(network.allow(address, target.port) for address in found):
        raise _final(
            "network.blocked_address",
            f"The link leads to {target.authority}, which is not an ordinary address of the public internet; "
            "use a link that everybody can open, or upload the file.",
        )
    return found


class _Line:
    """A connection that another thread may cut at any time, also in the middle of a TLS handshake."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.was_cut = False

    def secure(self, host: str, context: ssl.SSLContext) -> None:
        """Speak TLS from now on; the certificate must be for `host`. Raises `OSError`."""
        wrapped = context.wrap_socket(self.socket, server_hostname=host, do_handshake_on_connect=False)
        self.socket = wrapped
        wrapped.do_handshake()

    def cut(self) -> None:
        """End whatever blocks on it."""
        self.was_cut = True
        with suppress(OSError):  # it may have ended by itself just now
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)  # below TLS, which is not made for two threads

    def close(self) -> None:
        """Close it."""
        self.socket.close()


def _dial(target: _Target, addresses: list[Address], stop: Stop, deadline: float) -> _Line:
    """A connection to the first of the addresses that accepts one."""
    for address in addresses:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.connect((str(address), target.port))
            give_up = min(deadline, time.monotonic() + CONNECT_S)
            ready = select.poll()
            ready.register(connection, select.POLLOUT)
            while time.monotonic() < give_up and not ready.poll(LOOK_S * 1000):
                stop.check()
            connection.getpeername()  # raises unless the connection stands
            connection.settimeout(SILENCE_S)
        except OSError:
            connection.close()
        except BaseException:  # whatever ends the attempt: the connection is not left open
            connection.close()
            raise
        else:
            return _Line(connection)
    raise _passing("network.refused", f"The server {target.authority} does not accept connections; try again later.")


@contextmanager
def _watched(line: _Line, target: _Target, stop: Stop, deadline: float) -> Iterator[None]:
    """Cuts the connection when the job is stopped or time is up, and gives what breaks then its proper name."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(LOOK_S):
            if stop.reason is not None or time.monotonic() > deadline:
                line.cut()

    watcher = threading.Thread(target=watch, name="watch-download", daemon=True)
    watcher.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        stop.check()
        if isinstance(error, ssl.SSLCertVerificationError):
            raise _final(
                "network.tls", f"The server {target.host} cannot prove that it is {target.host}; check the link."
            ) from error
        if isinstance(error, TimeoutError) or time.monotonic() > deadline:
            raise _passing(
                "network.timeout", f"The server {target.host} is too slow to deliver the file; try again later."
            ) from error
        raise _passing(
            "network.reset", f"The connection to {target.host} broke before the file was complete; try again later."
        ) from error
    finally:
        done.set()
        watcher.join()


# -- the answer


def _ask(
    target: _Target,
    line: _Line,
    tls: ssl.SSLContext | None,
    headers: Mapping[str, str | None],
    body: bytes | None = None,
) -> http.client.HTTPResponse:
    if target.scheme == "https":
        line.secure(target.host, tls or ssl.create_default_context())
    request = http.client.HTTPConnection(target.host, target.port)
    request.sock = line.socket
    request.putrequest("GET" if body is None else "POST", target.resource, skip_host=True, skip_accept_encoding=True)
    usual = {
        "Host": target.authority,
        "User-Agent": "Spool",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
        "Content-Length": None if body is None else str(len(body)),
    }
    for name, value in (usual | dict(headers)).items():
        if value is not None:
            request.putheader(name, value)
    request.endheaders(body)
    return request.getresponse()


def _check_status(target: _Target, status: int) -> None:
    if status == 200:
        return
    if status >= 500:
        raise _passing(
            "network.http_5xx", f"The server {target.host} has a problem of its own (status {status}); try again later."
        )
    if status in _PASSING:
        raise _passing("network.http_4xx", f"The server {target.host} is busy (status {status}); try again later.")
    reason = {
        401: "the file needs a login",
        403: "the server does not allow it",
        404: "there is no file at this link",
        410: "the file was removed",
    }.get(status, "the server refused")
    raise _final(
        "network.http_4xx",
        f"The link cannot be downloaded: {reason} (status {status}); use a link that everybody can open.",
    )


def _save(
    response: http.client.HTTPResponse,
    line: _Line,
    path: Path,
    url: str,
    *,
    stop: Stop,
    progress: TransferProgress,
    max_bytes: int,
    pages: bool,
) -> Fetched:
    """Write the body to `path`, whole or not at all."""
    if response.getheader("Content-Encoding", "identity").strip().lower() not in {"", "identity"}:
        raise _final(
            "network.refused", "The server sends the file packed although it was asked not to; upload the file instead."
        )
    total = response.length
    if total is not None and total > max_bytes:
        raise _too_large(max_bytes)
    content_type = response.getheader("Content-Type", "").partition(";")[0].strip().lower()
    done, digest, head = 0, hashlib.sha256(), b""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            progress(0, total)
            while total is None or done < total:
                stop.check()
                chunk = response.read1(CHUNK_BYTES)
                if not chunk:
                    break
                head = head or chunk[:1024]
                done += len(chunk)
                if done > max_bytes:
                    raise _too_large(max_bytes)
                digest.update(chunk)
                _write(file, chunk)
                progress(done, total)
        if line.was_cut or (total is not None and done < total):
            raise http.client.IncompleteRead(b"")
        if done and not pages and _is_web_page(content_type, head):
            raise _final(
                "bad_input.not_media",
                "The link opens a web page, not a sound or video file; use the link of the file itself.",
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return Fetched(
        url=url,
        size_bytes=done,
        content_type=content_type,
        sha256=digest.hexdigest(),
        etag=_word(response, "ETag"),
        last_modified=_word(response, "Last-Modified"),
    )


def _word(response: http.client.HTTPResponse, name: str) -> str | None:
    """A header that is sent back as it is some day: short and printable, or none."""
    value = response.getheader(name)
    return value if value is not None and len(value) <= 256 and value.isascii() and value.isprintable() else None


def _write(file: BinaryIO, chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError:
        raise NO_SPACE.failure(SOURCE) from None


def _is_web_page(content_type: str, head: bytes) -> bool:
    return content_type in {"text/html", "application/xhtml+xml"} and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(
        b"<"
    )


def _too_large(max_bytes: int) -> JobFailure:
    return _final(
        "bad_input.too_large",
        f"The file behind the link is larger than the {max_bytes / 1e9:.3g} GB one job may fetch; "
        "export it with a lower bit rate or split it.",
    )


def _final(code: str, sentence: str) -> JobFailure:
    return JobFailure(code, sentence)


def _passing(code: str, sentence: str) -> JobFailure:
    """A failure that may be over when it is tried again while it has tries left."""
    return JobFailure(code, sentence, kind="transient")
