"""Nothing answers, or something else does."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cli.client import Client
from cli.errors import CommandError, Refused, Unreachable
from tests.cli.conftest import Spool, environment

Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def a_stranger(*answers: Answer) -> Iterator[tuple[str, list[str]]]:
    """A web server that is not Spool: gives these answers in turn (the last one for ever); yields URL and requests."""
    left = list(answers)
    asked: list[str] = []

    class Stranger(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def __getattr__(self, name: str) -> object:
            return self.answer if name.startswith("do_") else self.__getattribute__(name)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


#: What a command imports only when it is asked for: the parts, the queue, what job types are, and the log.
NOT_FOR_CLIENTS = (
    "functions",
    "worker",
    "shared.store",
    "shared.storage",
    "shared.types",
    "shared.presets",
    "structlog",
)
CLIENT = f"""
import sys
from cli.main import app
try:
    app()
finally:
    print([name for name in {NOT_FOR_CLIENTS!r} if name in sys.modules])
"""
JSON = {"Content-Type": "application/json"}
JOB = b'{"id": "1"}'


@pytest.mark.parametrize(
    "command", ["jobs", "stats", "show x", "watch x", "logs x", "cancel x", "retry x", "purge x", "submit flow"]
)
def test_when_nothing_answers_every_job_command_says_how_to_start_it(lone_spool: Spool, command):
    """Exit code 3, one sentence, nothing on standard output."""
    ran = lone_spool(*command.split())
    assert ran.code == 3
    assert ran.out == ""
    assert "Nothing answers at http://127.0.0.1:9" in ran.err
    assert "spool dev" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_host_that_does_not_exist_is_no_traceback(tmp_path):
    """A typo in the deployment's address."""
    ran = Spool(tmp_path, {"SPOOL_API_URL": "http://spool.invalid"})("jobs")
    assert ran.code == 3
    assert "Nothing answers at http://spool.invalid" in ran.err
    assert "Check SPOOL_API_URL" in ran.err


def test_a_web_page_in_place_of_the_api_is_recognized():
    """Any other web server on the port."""
    with a_stranger((200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>")) as (url, _):
        client = Client(url)
        with pytest.raises(Unreachable, match=r"does not speak Spool \(HTTP 200, text/html\)"):
            client.stats()
        client.close()


def test_https_where_only_http_is_spoken_is_said():
    """One letter too many in the address is no fault of a certificate."""
    with a_stranger((200, {}, b"")) as (url, _):
        client = Client(url.replace("http:", "https:"))
        with pytest.raises(Unreachable, match=r"speaks no TLS; write http://"):
            client.stats()
        client.close()


def test_a_rate_limit_is_waited_out_and_said():
    """The pause that the server asks for is kept."""
    said: list[str] = []
    with a_stranger((429, {"Retry-After": "0"}, b"{}"), (201, JSON, JOB)) as (url, asked):
        client = Client(url, say=said.append)
        assert client.create({})["id"] == "1"
        client.close()
    assert len(asked) == 2
    assert said == ["The server asks for a pause; going on in 0 s."]


def test_a_fault_of_the_server_names_the_request():
    """By the id that its log has."""
    fault = (500, JSON | {"X-Request-Id": "0199-7"}, json.dumps({"detail": "Something went wrong."}).encode())
    with a_stranger(fault) as (url, _):
        client = Client(url)
        with pytest.raises(Refused, match="X-Request-Id: 0199-7"):
            client.schedules()
        client.close()


def test_a_busy_server_is_asked_again_only_when_that_is_safe():
    """Creating and retrying repeat, since their keys find the first; announcing an upload does not."""
    busy = (503, JSON, json.dumps({"detail": "The database is busy."}).encode())
    with a_stranger(busy, (201, JSON, JOB)) as (url, asked):
        client = Client(url)
        client.create({})
        client.close()
    assert len(asked) == 2
    with a_stranger(busy, (201, JSON, JOB)) as (url, asked):
        client = Client(url)
        client.retry("1")
        client.close()
    assert len(asked) == 2
    with a_stranger(busy, (201, JSON, JOB)) as (url, asked):
        client = Client(url)
        with pytest.raises(Unreachable, match="The database is busy"):
            client.begin_upload("a.wav", "audio/wav", 1)
        client.close()
    assert len(asked) == 1


def test_a_damaged_download_leaves_no_file(tmp_path):
    """Size and checksum are compared before the file gets its name."""
    output = {
        "name": "mp3",
        "content_type": "audio/mpeg",
        "size_bytes": 4,
        "sha256": "0" * 64,
        "url": "/f",
        "facts": {},
    }
    with a_stranger((200, {}, b"four")) as (url, _):
        client = Client(url)
        with pytest.raises(CommandError, match="arrived damaged"):
            client.download(output, tmp_path / "out.mp3", lambda done, total: None)
        client.close()
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_only_asks_the_api_imports_nothing_else(tmp_path):
    """Half of what it would take to start: people wait for it at every command, scripts at every line."""
    told = environment(SPOOL_API_URL="http://127.0.0.1:9")
    argv = [sys.executable, "-c", CLIENT, "jobs"]
    ended = subprocess.run(argv, cwd=tmp_path, env=told, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (3, "[]\n"), ended.stderr
