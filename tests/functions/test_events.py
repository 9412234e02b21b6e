"""Live updates: streamed by a real server, or handed out in batches."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest
import uvicorn

from cli.dev import listener
from shared.job import Line, Progress
from shared.store import turso
from shared.store.values import Beat
from tests.functions.api import Api

Event = tuple[str, int | None, dict]


class Stream:
    """The messages of one open stream, as they come."""

    def __init__(self, answer: httpx2.Response) -> None:
        assert answer.headers["content-type"].startswith("text/event-stream")
        self._lines = answer.iter_lines()

    def next(self) -> Event:
        """The next message; comments and the retry time are passed over."""
        while True:
            fields = dict(line.split(": ", 1) for line in iter(self._lines.__next__, "") if not line.startswith(":"))
            if "event" in fields:
                number = int(fields["id"]) if "id" in fields else None
                return fields["event"], number, json.loads(fields["data"])

    def until(self, wanted: Callable[[Event], bool]) -> list[Event]:
        """The messages up to the first that is wanted."""
        seen = [self.next()]
        while not wanted(seen[-1]):
            seen.append(self.next())
        return seen


class Server:
    """The API under uvicorn on a free port."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._socket = listener("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._server = uvicorn.Server(uvicorn.Config(api.app, log_level="error", lifespan="off"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    @contextmanager
    def stream(self, headers: dict[str, str] | None = None, **query: str) -> Iterator[Stream]:
        """An open stream."""
        url = f"{self.url}/api/events"
        with httpx2.stream("GET", url, params=query, headers=headers, timeout=30) as answer:
            yield Stream(answer)

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.api.app.state.context.feed.close()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        for thread in feed_threads():
            thread.join()


@pytest.fixture
def server(api) -> Iterator[Server]:
    """A server that streams."""
    with Server(api) as server:
        yield server


def state_of(job_id: str, state: str) -> Callable[[Event], bool]:
    """Tells the message that a job is in a state now."""
    return lambda event: event[0] == "event" and event[2]["job_id"] == job_id and event[2]["message"] == state


def test_a_stream_begins_now_and_tells_what_happens(api, server):
    """hello, then each line of history with its id and each change of a running job."""
    api.submit()
    with server.stream() as stream:
        kind, position, _ = stream.next()
        assert (kind, position) == ("hello", api.store.last_event_id())
        job = api.submit(priority=9)["id"]
        events = stream.until(state_of(job, "pending"))
        assert events[-1][1] == position + 1
        claim = api.claim()
        stream.until(lambda event: event[0] == "job" and event[2]["id"] == job and event[2]["status"] == "running")
        progress = Progress("encoding", 3, 5, 50.0, 300.0, 600.0, 41.0)
        api.store.heartbeat(api.worker, [Beat(claim, progress, (Line(1, "info", "log", "half"),))], lease_s=90)
        seen = stream.until(lambda event: event[0] == "job")
        assert seen[-1][2]["id"] == job
        assert seen[-1][2].items() >= {"stage": "encoding", "progress": 50.0, "eta_s": 41}.items()
        assert "status" not in seen[-1][2]
        assert "half" in [event[2].get("message") for event in seen]
        api.complete(claim)
        stream.until(state_of(job, "completed"))


def test_a_stream_tells_how_far_a_family_is(api, server):
    """A parent does not run, and is told of all the same while a child of it does."""
    child = {"type": "ingest", "params": {"source": "https://example.org/1.mp3"}}
    parent = api.submit(type="flow", params={}, children=[child, child])["id"]
    claim = api.claim()
    with server.stream(job=parent) as stream:
        stream.until(lambda event: event[0] == "job" and event[2]["progress"] == 0)
        api.store.heartbeat(api.worker, [Beat(claim, Progress("encoding", overall=50.0))], lease_s=90)
        assert stream.until(lambda event: event[0] == "job")[-1][2] == {"id": parent, "progress": 25.0}


def test_a_stream_resumes_where_it_broke_off(api, server):
    """With Last-Event-ID nothing is missed and nothing comes twice."""
    first = api.submit()["id"]
    with server.stream() as stream:
        _, position, _ = stream.next()
    missed = [api.submit()["id"] for _ in range(3)]
    with server.stream(headers={"Last-Event-ID": str(position)}) as stream:
        events = stream.until(lambda event: event[0] == "hello")
        assert [event[2]["job_id"] for event in events[:-1]] == missed
        later = api.submit()["id"]
        ids = [number for _, number, _ in [*events[:-1], *stream.until(state_of(later, "pending"))] if number]
        assert ids == sorted(set(ids))
    with server.stream(after="0", job=first) as stream:
        assert [event[2].get("job_id") for event in stream.until(lambda event: event[0] == "hello")] == [first, None]


def test_a_viewer_that_joins_late_is_told_what_runs(api, server):
    """The first viewer's reader serves the second, who begins with every running job in full."""
    job, claim = api.submit()["id"], api.claim()
    with server.stream() as first:
        first.until(lambda event: event[0] == "job")
        with server.stream() as second:
            shown = second.until(lambda event: event[0] == "job")[-1][2]
            assert (shown["id"], shown["status"], shown["attempt"]) == (job, "running", 1)
            api.complete(claim)
            for stream in (first, second):
                stream.until(state_of(job, "completed"))


def test_all_viewers_share_one_reader_that_ends_with_them(api, server):
    """However many look, one thread reads; when the last has gone it reads no more."""
    with server.stream() as first, server.stream() as second, server.stream() as third:
        for stream in (first, second, third):
            stream.next()
        assert len(feed_threads()) == 1
    api.submit()
    for thread in feed_threads():
        thread.join(timeout=30)
    assert feed_threads() == []
    with server.stream() as again:
        assert again.next()[0] == "hello"


def test_a_look_at_a_remote_database_comes_within_the_time_that_the_reader_gives_it(monkeypatch):
    """After some quiet seconds the watch looks seldom; a reader that waits for less would never look again."""
    watch, slept = turso._PollingWatch(), []
    monkeypatch.setattr("shared.store.turso.time.sleep", slept.append)  # the watch's own pauses, which only pass
    assert all(watch.wait(watch.look_s) for _ in range(100))
    assert slept[-1] > 1
    watch.found()
    watch.wait(watch.look_s)
    assert slept[-1] < 1


def test_an_id_from_another_database_is_answered_with_reset(api, server):
    """A client whose last id was never given here is told to read the lists again."""
    with server.stream(headers={"Last-Event-ID": "999999"}) as stream:
        assert stream.next()[:2] == ("reset", api.store.last_event_id())


def test_too_much_missed_is_answered_with_reset(api, server, monkeypatch):
    """A client that was away for long does not get all of history."""
    monkeypatch.setattr("functions.events._MAX_CATCH_UP", 3)
    for _ in range(5):
        api.submit()
    with server.stream(headers={"Last-Event-ID": "0"}) as stream:
        assert stream.next()[:2] == ("reset", api.store.last_event_id())


def test_where_the_host_cannot_stream_each_answer_is_the_next_batch(api_with):
    """On Lambda an EventSource polls by itself: the answer ends at once and names the id to go on from."""
    api = api_with(lambda_function="spool", api_tokens="t", secret="s")
    api.http.headers["Authorization"] = "Bearer t"
    job = api.submit()["id"]
    first = batch(api)
    assert first == [("hello", api.store.last_event_id(), {})]
    claim = api.claim()
    second = batch(api, first[-1][1])
    assert [event[0] for event in second] == ["event", "hello", "job"]
    assert (second[0][2]["message"], second[2][2]["id"]) == ("running", job)
    api.complete(claim)
    assert [event[2].get("message") for event in batch(api, second[1][1])] == ["completed", None]
    assert batch(api, api.store.last_event_id()) == [("hello", api.store.last_event_id(), {})]


def test_where_the_host_cannot_stream_nothing_waits(api_with):
    """Waiting would be billed: `wait` is answered at once, and no reader is started."""
    api = api_with(lambda_function="spool", api_tokens="t", secret="s")
    api.http.headers["Authorization"] = "Bearer t"
    job, before = api.submit()["id"], set(feed_threads())
    etag = api.http.get(f"/api/jobs/{job}").headers["etag"]
    headers = {"If-None-Match": etag}
    assert api.http.get(f"/api/jobs/{job}", params={"wait": 20}, headers=headers).status_code == 304
    assert set(feed_threads()) <= before


def batch(api: Api, last: int | None = None) -> list[Event]:
    """One poll, as an EventSource does it."""
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    answer = api.http.get("/api/events", headers=headers)
    assert answer.text.startswith("retry: 2000\n\n")
    found = []
    for block in answer.text.split("\n\n")[1:-1]:
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((fields["event"], int(fields["id"]) if "id" in fields else None, json.loads(fields["data"])))
    return found


def feed_threads() -> list[threading.Thread]:
    """Readers of live views in this process."""
    return [thread for thread in threading.enumerate() if thread.name == "feed"]
