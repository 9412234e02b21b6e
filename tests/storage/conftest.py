"""A real S3 server, and one that gives any answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.real.s3 import KEYS, Ministack


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Ministack]:
    """The S3 server of this module."""
    with Ministack(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture
def answering(monkeypatch) -> Iterator[Callable[[int, str, str], str]]:
    """Starts a server that answers everything with one status, body and date; returns its address."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, body: str, date: str = "") -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers.get("content-length", 0)))
                self.send_response_only(status)
                self.send_header("Date", date or self.date_time_string())
                self.send_header("Content-Type", "application/xml")
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body.encode())

            do_GET = do_HEAD = do_POST = do_DELETE = do_PUT  # noqa: N815 - names of http.server

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        running = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        servers.append(running)
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.05}).start()
        return f"http://127.0.0.1:{running.server_port}"

    yield start
    for running in servers:
        running.shutdown()
        running.server_close()
