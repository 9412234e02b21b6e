"""A web server on this machine, and the network in which every name leads to it."""

from __future__ import annotations

import contextlib
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from worker.fetch import Network

LOOPBACK = ipaddress.ip_address("127.0.0.1")
BODY = bytes(range(256)) * 4096


@dataclass
class Site:
    """A web server on this machine: what it was asked, and what it answers."""

    port: int
    asked: list[tuple[str, str]] = field(default_factory=list)
    answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str = "files.example", scheme: str = "http") -> str:
        """A link to it by name."""
        return f"{scheme}://{host}:{self.port}{path}"

    @property
    def network(self) -> Network:
        """The network in which every name leads here."""
        return Network(allow=lambda address, _: address == LOOPBACK, resolve=lambda *_: [LOOPBACK])


def answer(handler, body: bytes = BODY, status: int = 200, **headers: str) -> None:
    """One whole answer."""
    handler.send_response(status)
    for name, value in ({"Content_Length": str(len(body)), "Content_Type": "audio/mpeg"} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


@contextlib.contextmanager
def served(tls: ssl.SSLContext | None = None) -> Iterator[Site]:
    """A running site."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append((self.path, self.headers["Host"]))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client had enough
                site.answers[self.path](self)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass  # a client that refuses our certificate

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    site = Site(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
