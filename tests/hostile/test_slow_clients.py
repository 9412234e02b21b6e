"""Clients that hold connections open: a real API with short patience, and bytes that come in drops or never."""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import urllib3

from tests.hostile.place import Place
from tests.hostile.test_sockets import BODY, ask, connect, get, post, told
from tests.network.deployment import PATIENCE_S, until

#: Instead of half a minute.
LIMIT_S = 1.0
HASTY = f"""
import cli.connections, functions.call
cli.connections.HEAD_LIMIT_S = functions.call.BODY_LIMIT_S = {LIMIT_S}
from cli.main import app
app()
"""
HEAD, _, _ = post().partition(b"\r\n\r\n")


class Hasty(Place):
    """An API that waits for a second."""

    @property
    def _spool(self) -> Sequence[str]:
        return [sys.executable, "-c", HASTY]

    def connections(self) -> int:
        """How many sockets it has open, the one it listens on included."""
        count = 0
        for one in Path(f"/proc/{self.parts[0].process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since it was listed
                count += str(one.readlink()).startswith("socket:")
        return count


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hasty]:
    """The API alone."""
    here = Hasty(tmp_path_factory.mktemp("hasty"))
    try:
        here.start_api()
        yield here
        assert "request failed" not in here.parts[0].log.read_text()
    finally:
        here.close()


def answer(line: socket.socket) -> tuple[int, str, str]:
    """Status, code and sentence of a refusal, which ends the connection."""
    status, text = told(line)
    head, _, body = text.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower(), text
    problem = json.loads(body)
    assert problem["status"] == status
    return status, problem["code"], problem["detail"]


def dripped(line: socket.socket, *drops: bytes) -> tuple[int, str, str]:
    """The answer to somebody who sends the first of these, and then the second again and again."""
    first, drop = drops
    line.sendall(first)
    give_up = time.monotonic() + PATIENCE_S
    while not select.select([line], [], [], 0.05)[0]:
        assert time.monotonic() < give_up, "it is still being waited for"
        line.sendall(drop)
    return answer(line)


def test_a_request_that_comes_in_drops_is_refused(api) -> None:
    """Neither headers nor body may take their time, however steadily they come: 408, and the connection's end."""
    with closing(connect(api)) as line:
        assert dripped(line, HEAD + b"\r\nX-Drop: ", b"x") == (
            408, "too_slow", "The headers took longer than 1 s; send the whole request again.",
        )  # fmt: skip
    body = b'{"type": "flow", "tags": ["'
    with closing(connect(api)) as line:
        assert dripped(line, post(body=body, length=100_000), b"x") == (
            408, "too_slow", "The body took longer than 1 s; send the whole request again.",
        )  # fmt: skip
    assert ask(api, post())[0] == 201


def test_connections_of_those_who_dawdle_are_closed(api) -> None:
    """Silent ones, half a head, half a body: none is left after the limit, and whoever is being answered stays."""
    before = api.connections()
    with ExitStack() as stack:
        stream = stack.enter_context(closing(connect(api)))
        stream.sendall(get(b"/api/events"))
        assert stream.recv(65_536).startswith(b"HTTP/1.1 200")
        for start in (b"", HEAD, post(body=b"x", length=900_000)) * 20:
            stack.enter_context(closing(connect(api))).sendall(start)
        until(lambda: api.connections() == before + 1, "the end of all others")
        made = json.loads(ask(api, post())[1].partition(b"\r\n\r\n")[2])["id"].encode()
        seen = more = stream.recv(65_536)
        while more and made not in seen:
            more = stream.recv(65_536)
            seen += more
        assert made in seen, "the stream has ended"
    until(lambda: api.connections() == before, "the end of the stream")


def test_a_connection_may_be_kept_for_the_next_request(api) -> None:
    """What was answered leaves the connection as it was."""
    with urllib3.HTTPConnectionPool(urlsplit(api.url).netloc, maxsize=1) as pool:
        assert [pool.request("GET", "/healthz").status for _ in range(3)] == [200] * 3
        assert pool.num_connections == 1


TOO_MUCH = {
    "a body that says it is too large": (
        post(body=b"", length=2_000_000), 413, "too_large", "larger than 1000000 bytes",
    ),
    "a length of 20 digits": (
        post(body=b"", length=10**19), 413, "too_large", "larger than 1000000 bytes",
    ),
    "a body in pieces that is too large": (
        post(body=b"FFFFF\r\n" + b"x" * 0xFFFFF + b"\r\n0\r\n\r\n", length=-1).replace(
            b"Host", b"Transfer-Encoding: chunked\r\nHost", 1
        ), 413, "too_large", "larger than 1000000 bytes",
    ),
    "a body that is too deep": (
        post(body=b'{"type": ' + b"[" * 40 + b"]" * 40 + b"}"), 400, "malformed", "more than 32 levels deep",
    ),
    "a body without a bottom": (
        post(body=b"[" * 100_000 + b"]" * 100_000), 400, "malformed", "nested too deeply",
    ),
    "headers that are too large": (
        HEAD + b"\r\nX-Big: " + b"x" * (65_540 - len(HEAD) - len(b"\r\nX-Big: ")),
        431, "headers_too_large", "larger than 65536 bytes",
    ),
    "no HTTP": (b"HELO example.org\r\n\r\n", 400, "malformed", "no HTTP/1.1 request"),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "status", "code", "words"), TOO_MUCH.values(), ids=TOO_MUCH)
def test_what_is_over_a_limit_is_told_which(api, request_, status, code, words) -> None:
    """One sentence of the same shape as every other, with the number, wherever in the server it is refused."""
    with closing(connect(api)) as line:
        line.sendall(request_)
        found = answer(line)
    assert found[:2] == (status, code)
    assert words in found[2]
    assert found[2].endswith(".")


def test_a_body_just_within_its_limit_is_read(api) -> None:
    """The limit is the one that is told."""
    padding = b" " * (1_000_000 - len(BODY))
    assert ask(api, post(body=BODY + padding))[0] == 201
    assert ask(api, post(body=BODY + padding + b" "))[0] == 413
