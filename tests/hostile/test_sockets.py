"""The API as a hostile client meets it: a real server process, and bytes on real sockets."""

from __future__ import annotations

import json
import select
import socket
import sqlite3
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from urllib.parse import urlsplit

import pytest

from tests.hostile.place import Place
from tests.network.deployment import PATIENCE_S

#: More connections that dawdle than the server has threads for requests.
DAWDLERS = 80
BODY = b'{"type": "flow"}'


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The API alone."""
    here = Place(tmp_path_factory.mktemp("api"))
    try:
        here.start_api()
        yield here
        assert "request failed" not in here.parts[0].log.read_text()
    finally:
        here.close()


def connect(here: Place) -> socket.socket:
    """A connection to the API."""
    parts = urlsplit(here.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S)


def told(line: socket.socket) -> tuple[int, bytes]:
    """The status that comes on a connection, and all that follows until its end; 0 when nothing came."""
    text = b""
    try:
        while more := line.recv(65_536):
            text += more
    except ConnectionResetError:
        pass
    return (int(text.split(b" ", 2)[1]) if text.startswith(b"HTTP/1.1 ") else 0), text


def ask(here: Place, request: bytes) -> tuple[int, bytes]:
    """What the API answers to these bytes."""
    with closing(connect(here)) as line:
        line.sendall(request)
        return told(line)


def post(path: str = "/api/jobs", body: bytes = BODY, *headers: bytes, length: int | None = None) -> bytes:
    """A request with a body, and with headers as given, that asks for the connection's end."""
    fields = [b"Host: localhost", b"Connection: close", b"Content-Type: application/json", *headers]
    if length is None or length >= 0:
        fields.append(b"Content-Length: %d" % (len(body) if length is None else length))
    return b"POST " + path.encode() + b" HTTP/1.1\r\n" + b"\r\n".join(fields) + b"\r\n\r\n" + body


def get(path: bytes, *headers: bytes) -> bytes:
    """A request without a body; the path goes out byte for byte."""
    return b"\r\n".join([b"GET " + path + b" HTTP/1.1", b"Host: localhost", b"Connection: close", *headers, b"", b""])


BODIES: dict[str, tuple[bytes, set[int]]] = {
    "100,000 lists in each other": (post(body=b"[" * 100_000 + b"]" * 100_000), {400}),
    "100,000 objects in each other": (post(body=b'{"a":' * 100_000 + b"1" + b"}" * 100_000), {400}),
    "a number of 100,000 digits": (post(body=b'{"type": "flow", "priority": ' + b"9" * 100_000 + b"}"), {400}),
    "two megabytes": (post(body=b'"' + b"x" * 2_000_000 + b'"'), {413}),
    "a length of 10^18 and nothing": (post(body=b"", length=10**18), {413, 0}),
    "a negative length": (post(body=b"", length=-1).replace(b"\r\n\r\n", b"\r\nContent-Length: -5\r\n\r\n"), {400}),
    "two lengths": (post(body=BODY).replace(b"Content-Length: 16", b"Content-Length: 16\r\nContent-Length: 5"), {400}),
    "chunks without an end": (
        post(body=b"ffffffffffffffff\r\nxx", length=-1).replace(b"Host", b"Transfer-Encoding: chunked\r\nHost"),
        {400, 413, 0},
    ),
    "UTF-16": (post(body='{"type": "flow"}'.encode("utf-16")), {400}),
    "another charset": (post().replace(b"/json", b"/json; charset=utf-7"), {400, 415}),
    "a NUL": (post(body=b'{"type": "flow", "tags": ["a\\u0000b"]}'), {422}),
    "half a character": (post(body=b'{"type": "flow", "tags": ["\\ud800"]}'), {400}),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "statuses"), BODIES.values(), ids=BODIES)
def test_a_body_made_to_hurt_is_refused(api, request_, statuses) -> None:
    """With a status that blames the sender, on a connection that ends."""
    with closing(connect(api)) as line:
        line.sendall(request_)
        if 0 in statuses:  # the server waits for more, and hears that there is none
            line.shutdown(socket.SHUT_WR)
        assert told(line)[0] in statuses
    assert ask(api, get(b"/healthz"))[0] == 200


def test_a_client_that_goes_away_half_way_is_no_error(api) -> None:
    """The server's log holds no fault of its own when a body ends before its end."""
    with closing(connect(api)) as line:
        line.sendall(post(length=1000))
        line.shutdown(socket.SHUT_WR)
        assert told(line)[0] in {0, 400}
    assert ask(api, get(b"/healthz"))[0] == 200
    assert "request failed" not in api.parts[0].log.read_text()


PATHS = [
    b"/files/uploads/../../spool.db?signature=x", b"/files/..%2f..%2fspool.db?signature=x",
    b"/files/%2e%2e/%2e%2e/spool.db?signature=x", b"/files/uploads/%00?signature=x",
    b"/files/uploads/..%c0%af..%c0%afspool.db?signature=x", b"/files/uploads%5c..%5c..%5cspool.db?signature=x",
    b"/files//etc/passwd?signature=x", b"/files/%ef%bc%8e%ef%bc%8e/%e2%80%a5/spool.db?signature=x",
    b"/files/uploads/x?signature=%00&expires=%00", b"/files/uploads/x?expires=nan&signature=",
    b"/files/" + b"a/" * 5000 + b"?signature=x",
    b"/api/jobs/../../etc/passwd", b"/api/jobs/%2e%2e%2f%2e%2e", b"/api/jobs/x/outputs/..%2f..%2fspool.db",
    b"/api/jobs/x/outputs/%00", b"/api/jobs/x/outputs/%ff%fe", b"/api/jobs/" + b"%F0%9F%9A%80" * 500,
    b"/dashboard/../app.py", b"/dashboard/..%2fapp.py", b"/dashboard/%2e%2e/app.py", b"/dashboard/%00",
    b"/dashboard/..%5capp.py", b"/dashboard/" + b"x" * 5000, b"//etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS, ids=[path[:60].decode("latin-1") for path in PATHS])
def test_no_path_leads_anywhere_else(api, path) -> None:
    """However it is written, for reading and for writing: a refusal, and nothing of the machine's files in it."""
    for request in (get(path), post(path.decode("latin-1")).replace(b"POST", b"PUT", 1)):
        status, text = ask(api, request)
        assert 400 <= status < 500
        assert b"SQLite format" not in text
        assert b"root:" not in text
        assert b"import " not in text


HEADERS: dict[str, tuple[bytes, set[int]]] = {
    "a line break in the request's id": (get(b"/healthz", b"X-Request-Id: a\r\n b: c"), {200, 400}),
    "a request's id of 60 kB": (get(b"/healthz", b"X-Request-Id: " + b"x" * 60_000), {200, 400, 431}),
    "a header of 2 MB": (get(b"/healthz", b"X-Big: " + b"x" * 2_000_000), {400, 431, 0}),
    "20,000 headers": (get(b"/healthz", *[b"X-%d: y" % n for n in range(20_000)]), {200, 400, 431, 0}),
    "a header that is no ASCII": (get(b"/api/jobs", b"If-None-Match: \xff\xfe\x80"), {200, 400}),
    "an event id that is no number": (get(b"/api/events?after=0", b"Last-Event-ID: 1e9"), {400, 422}),
    "an event id of 1,000 digits": (get(b"/api/events?after=0", b"Last-Event-ID: " + b"9" * 1000), {400, 422}),
    "an event id with Arabic digits": (get(b"/api/events?after=0", b"Last-Event-ID: " + "٣".encode()), {400, 422}),
    "a key with a NUL": (post("/api/jobs", BODY, b"Idempotency-Key: a\0b"), {400, 422}),
    "a cursor of another place": (get(b"/api/jobs?cursor=AAAAAAAAAAH_____________"), {422}),
    "a cursor that is no text": (get(b"/api/jobs?cursor=%ff%fe%00"), {422}),
    "a query of 20,000 fields": (get(b"/api/jobs?" + b"&".join(b"a%d=1" % n for n in range(5000))), {400, 414, 422}),
    "a method of its own": (get(b"/api/jobs").replace(b"GET", b"PROPFIND", 1), {405, 400}),
    "another host": (get(b"/api/jobs").replace(b"localhost", b"evil.example", 1), {403}),
    "two hosts": (get(b"/api/jobs", b"Host: evil.example"), {400, 403}),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n", {400, 0}),
}  # fmt: skip


@pytest.mark.parametrize(("request_", "statuses"), HEADERS.values(), ids=HEADERS)
def test_a_header_made_to_hurt_changes_nothing(api, request_, statuses) -> None:
    """Refused or not minded, never a 5xx, and never a header of the sender's making in the answer."""
    status, text = ask(api, request_)
    assert status in statuses
    assert b"\r\nb: c" not in text
    assert ask(api, get(b"/healthz"))[0] == 200


NAMES = [
    "a\nb.wav", 'quo"te\'s.wav', "\u202egnp.wav", "nul\0.wav", "👩\u200d🚀 take 2.wav", "-rf.wav", "--help", "%s%n.wav",
    "$(reboot).wav", "`id`.wav", "a;b|c&d.wav", "img-%03d.png", "..", ".", "C:\\x.wav", "../../x.wav", "con", " ",
    "Screen Recording 8.00.00\u202fPM.mov", "\u05e9\u05dc\u05d5\u05dd\u200f.wav", "e\u0301" * 60, "x" * 255, "x" * 256,
    "\x1b[31mred.wav", "a\u2028b.wav", "<script>.wav", "\ufeff.wav", "concat:x|y", "http://x/y",
]  # fmt: skip
#: Names that a person's recording may well have, and that must not be refused for what their letters are.
ORDINARY = {
    "👩\u200d🚀 take 2.wav", "Screen Recording 8.00.00\u202fPM.mov", "\u05e9\u05dc\u05d5\u05dd\u200f.wav", "-rf.wav",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=[ascii(name)[:40] for name in NAMES])
def test_a_name_or_title_of_any_letters_is_taken_or_refused_and_never_a_5xx(api, name) -> None:
    """As a file's name, a job's title and a tag: kept as it is, or refused with the field's name."""
    upload = {"filename": name, "content_type": "audio/wav", "size_bytes": 5}
    titled = {"type": "ingest", "params": {"source": "https://example.org/a.wav", "title": name}}
    tagged = {"type": "flow", "tags": [name]}
    for path, body, field in (
        ("/api/uploads", upload, "filename"), ("/api/jobs", titled, "params.title"), ("/api/jobs", tagged, "tags.0"),
    ):  # fmt: skip
        status, text = ask(api, post(path, json.dumps(body).encode()))
        assert status in {201, 422}
        answer = json.loads(text.partition(b"\r\n\r\n")[2])
        if status == 422:
            assert [error["field"] for error in answer["errors"]] == [field]
        assert status == 422 or name.strip().isprintable() or unicodedata.category(min(name)) != "Cc"
        assert status == 201 or name not in ORDINARY or len(name) > 64
        if status == 201 and field == "params.title":
            assert answer["params"]["title"] == name.strip()
    assert ask(api, get(b"/api/jobs?limit=5"))[0] == 200


def test_clients_that_dawdle_hold_up_nobody(api) -> None:
    """Twice as many half-sent requests as there are threads, a byte at a time: others are answered meanwhile, and
    those that are completed at last are answered too."""
    request = post(body=BODY)
    with ExitStack() as stack:
        lines = [stack.enter_context(closing(connect(api))) for _ in range(DAWDLERS)]
        for at in range(len(request) - len(BODY), len(request) - 1):
            for line in lines:
                line.sendall(request[at : at + 1] if at > len(request) - len(BODY) else request[: at + 1])
            assert ask(api, get(b"/healthz"))[0] == 200
            assert ask(api, post(body=BODY))[0] == 201
        for line in lines[:5]:
            line.sendall(request[-1:])
            assert told(line)[0] == 201


def test_clients_that_never_finish_their_headers_hold_up_nobody(api) -> None:
    """Nor do those that say nothing at all."""
    with ExitStack() as stack:
        for number in range(DAWDLERS):
            line = stack.enter_context(closing(connect(api)))
            line.sendall(b"" if number % 2 else b"GET /healthz HTTP/1.1\r\nHost: local")
        assert ask(api, get(b"/readyz"))[0] == 200
        assert ask(api, post(body=BODY))[0] == 201


def test_a_database_that_does_not_answer_stops_no_health_check(api) -> None:
    """More requests wait for it than there are threads, and `/healthz` answers at once; when it is back, so do they."""
    with ExitStack() as stack:
        database = stack.enter_context(closing(sqlite3.connect(api.folder / "spool.db", isolation_level=None)))
        database.execute("BEGIN IMMEDIATE")
        lines = [stack.enter_context(closing(connect(api))) for _ in range(DAWDLERS)]
        for line in lines:
            line.sendall(post())
        assert ask(api, get(b"/healthz"))[0] == 200
        assert not select.select(lines, [], [], 0)[0], "nobody got an answer before"
        database.execute("ROLLBACK")
        assert {told(line)[0] for line in lines} <= {201, 503}
    assert ask(api, post())[0] == 201


def test_tokens_are_compared_whole(tmp_path) -> None:
    """Every prefix of a token, and every token with one letter changed, is refused like any other word."""
    token = "a-token-of-some-length"
    here = Place(tmp_path, {"api_tokens": token})
    try:
        here.start_api()
        wrong = [token[:n] for n in range(len(token))] + [token[:n] + "X" + token[n + 1 :] for n in range(len(token))]
        wrong += [token + "x", token.upper(), f"{token},{token}", " "]
        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(
                lambda word: ask(here, get(b"/api/jobs", f"Authorization: Bearer {word}".encode()))[0], wrong
            )
            assert set(answers) == {401}
        assert ask(here, get(b"/api/jobs", f"Authorization: Bearer {token}".encode()))[0] == 200
    finally:
        here.close()
