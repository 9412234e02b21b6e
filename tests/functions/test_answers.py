"""Many open pages: what they ask for together is read once, and nobody is shown what is no longer true."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx2
import pytest

from functions.answers import LONGEST_S, Answers
from shared.keys import new_key
from shared.store.hrana import Hrana
from shared.store.local import LocalJobStore
from shared.store.sql import SqlJobStore
from shared.store.turso import TursoJobStore
from tests.contract.factory import job
from tests.functions.api import Api, problem
from tests.functions.test_events import Server, Stream, state_of
from tests.real.sqld import Sqld

#: What a page of functions/dashboard/ says when it reads.
SHARED = {"Cache-Control": "max-age=2"}
LIST = "/api/jobs?limit=25&parent_id=none"
STATS = "/api/stats?count_to=100"


class Clock:
    """The time of an API's answers, which only moves when a test says so."""

    def __init__(self, api: Api) -> None:
        self.now = 1000.0
        api.app.state.context.answers.clock = lambda: self.now


@pytest.fixture
def clock(api) -> Clock:
    """The answers' time."""
    return Clock(api)


@pytest.fixture(params=["sqlite", "libsql"])
def watched(request, settings_for, storage, tmp_path) -> Iterator[Api]:
    """An API over either database, whose answers do not grow old on a slow machine."""
    with ExitStack() as stack:
        store: SqlJobStore = LocalJobStore(tmp_path / "spool.db")
        if request.param == "libsql":
            store = TursoJobStore(Hrana(stack.enter_context(Sqld(tmp_path / "sqld")).url))
        stack.callback(store.close)
        store.migrate()
        found = Api(settings_for(), store, storage)  # type: ignore[arg-type]  # any store has what these tests use
        Clock(found)
        yield found


def marked(store: SqlJobStore, monkeypatch) -> list[str]:
    """The thread of each round trip from now on; `feed` is the one that reads for all live views."""
    marks: list[str] = []

    def mark(run):
        return lambda batch: marks.append(threading.current_thread().name) or run(batch)

    for name in ("_run", "_read"):
        monkeypatch.setattr(store, name, mark(getattr(store, name)))
    return marks


#: What pages share is the API's and not the database's: two hundred of them on one, enough for a queue on the other.
MANY = {LocalJobStore: 200, TursoJobStore: 40}


def test_two_hundred_open_pages_cost_the_database_what_one_costs(watched, monkeypatch, record_property):
    """Each hears of each change and then reads list and counts, as the dashboard does: two round trips for them all."""
    costs = {}
    with Server(watched) as server, ThreadPoolExecutor(20) as pool, ExitStack() as opened:
        client = opened.enter_context(httpx2.Client(base_url=server.url, timeout=60))
        streams: list[Stream] = []
        for pages in (1, MANY[type(watched.store)]):
            fresh = [opened.enter_context(server.stream()) for _ in range(pages - len(streams))]
            assert {stream.next()[0] for stream in fresh} == {"hello"}
            streams += fresh
            with monkeypatch.context() as patch:
                marks = marked(watched.store, patch)
                for _ in range(3):
                    made = watched.store.create([job()])[0].id

                    def look(stream: Stream, job_id: str = made) -> tuple[str, str]:
                        stream.until(state_of(job_id, "pending"))
                        return client.get(LIST, headers=SHARED).text, client.get(STATS, headers=SHARED).text

                    for jobs, counts in pool.map(look, streams):
                        assert made in jobs
                        assert '"pending":' in counts
                costs[pages] = sum(mark == "request" for mark in marks)
    record_property("figure", f"three changes: {costs[1]} round trips for 1 page, {costs[pages]} for {pages}")
    assert set(costs.values()) == {6}


def test_pages_that_come_back_together_catch_up_from_one_reading(api, monkeypatch):
    """When a server was away, every page asks for what it missed, and all for the same."""
    before = api.store.last_event_id()
    made = [api.submit()["id"] for _ in range(3)]
    with Server(api) as server, ExitStack() as opened:
        opened.enter_context(server.stream()).next()  # one who is there already: the reader has begun
        marks = marked(api.store, monkeypatch)
        back = [opened.enter_context(server.stream(headers={"Last-Event-ID": str(before)})) for _ in range(10)]
        for stream in back:
            missed = stream.until(lambda event: event[0] == "hello")
            assert [event[2]["job_id"] for event in missed[:-1]] == made
    assert sum(mark == "request" for mark in marks) == 2  # the lines, and that there are no more


def test_pages_of_a_host_that_cannot_stream_share_too(api_with, monkeypatch):
    """Where every page polls, those that stand at the same place get the same batch for two seconds."""
    api = api_with(lambda_function="spool", api_tokens="t", secret="s")
    clock = Clock(api)
    api.http.headers["Authorization"] = "Bearer t"
    marks = marked(api.store, monkeypatch)
    first = api.http.get("/api/events").text
    asked = len(marks)
    assert [api.http.get("/api/events").text for _ in range(5)] == [first] * 5
    assert len(marks) == asked
    clock.now += 2.1
    api.http.get("/api/events")
    assert len(marks) == 2 * asked


def test_who_does_not_ask_for_a_shared_answer_gets_a_fresh_one(api, clock):
    """A program sees at once what another process did; a page that polls, two seconds later."""
    assert api.http.get(LIST, headers=SHARED).json()["items"] == []
    made = api.store.create([job()])[0].id
    assert [item["id"] for item in api.http.get(LIST).json()["items"]] == [made]
    assert api.http.get(LIST, headers=SHARED).json()["items"] == []
    clock.now += 2.1
    assert [item["id"] for item in api.http.get(LIST, headers=SHARED).json()["items"]] == [made]


def test_what_a_page_has_done_it_sees(api, clock):
    """Whatever this process changes makes it forget what it answered before."""
    api.http.get(LIST, headers=SHARED)
    made = api.submit()["id"]
    assert [item["status"] for item in api.http.get(LIST, headers=SHARED).json()["items"]] == ["pending"]
    api.http.post(f"/api/jobs/{made}/cancel")
    assert [item["status"] for item in api.http.get(LIST, headers=SHARED).json()["items"]] == ["cancelled"]


def test_what_the_live_view_tells_the_next_answer_knows(api, clock):
    """A page that hears of a change of another process and asks is not given what was answered before it."""
    with Server(api) as server, server.stream() as stream:
        stream.next()
        made = api.submit()["id"]
        stream.until(state_of(made, "pending"))
        httpx2.get(server.url + LIST, headers=SHARED)
        claim = api.claim()
        stream.until(state_of(made, "running"))
        (found,) = httpx2.get(server.url + LIST, headers=SHARED).json()["items"]
        assert found["status"] == "running"
        api.complete(claim)


def test_a_shared_answer_is_only_for_who_may_ask(api, clock):
    """What was answered to somebody else opens nothing to a key that may not read."""
    api.http.get(LIST, headers=SHARED)
    made, text = new_key("uploads", ("write",))
    api.store.add_key(made)
    ring = api.app.state.context.keyring
    ring.learn(api.store.api_keys(), ring.clock())
    answer = api.http.get(LIST, headers=SHARED | {"Authorization": f"Bearer {text}"})
    problem(answer, 403, "forbidden")


def test_a_shared_answer_is_that_of_its_own_question(api, clock):
    """Another query and another ETag are other questions; a HEAD has no body; errors are not kept."""
    made = api.submit()["id"]
    path = f"/api/jobs/{made}"
    whole = api.http.get(path, headers=SHARED)
    etag = {"If-None-Match": whole.headers["etag"]}
    assert api.http.get(path, headers=SHARED | etag).status_code == 304
    assert api.http.get(path, headers=SHARED).json() == whole.json()
    assert api.http.get(f"{LIST}&type=flow", headers=SHARED).json()["items"] == []
    assert len(api.http.get(LIST, headers=SHARED).json()["items"]) == 1
    head = api.http.head(LIST, headers=SHARED)
    assert (head.status_code, head.content) == (200, b"")
    problem(api.http.get("/api/jobs?limit=0", headers=SHARED), 422, "invalid", "limit")
    ids = {api.http.get(LIST, headers=SHARED).headers["x-request-id"] for _ in range(3)}
    assert len(ids) == 3


def test_those_who_come_while_it_is_found_out_wait_for_the_same():
    """One finds out for all, and goes on when the first of them goes away."""
    asked = []

    async def together() -> list[str]:
        answers, gate = Answers(), asyncio.Event()

        async def find() -> str:
            asked.append(1)
            await gate.wait()
            return "found"

        first, *others = [asyncio.create_task(answers.get("key", 2, find)) for _ in range(10)]
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        gate.set()
        return [await other for other in others]

    assert asyncio.run(together()) == ["found"] * 9
    assert asked == [1]


def test_what_was_asked_before_a_change_is_not_given_after_it():
    """An answer that was on its way when something changed reaches those who asked before, and nobody later."""

    async def across_a_change() -> list[str]:
        answers, gate, found = Answers(), asyncio.Event(), iter(["old", "new"])

        async def find() -> str:
            text = next(found)
            if text == "old":
                await gate.wait()
            return text

        before = asyncio.create_task(answers.get("key", 5, find))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        answers.forget()
        after = await answers.get("key", 5, find)
        gate.set()
        return [await before, after, await answers.get("key", 5, find)]

    assert asyncio.run(across_a_change()) == ["old", "new", "new"]


def test_a_failure_is_told_to_all_who_waited_and_then_forgotten():
    """The next who asks tries anew."""

    async def fails_once() -> tuple[list[object], str]:
        answers, outcomes = Answers(), iter([OSError("away"), "back"])

        async def find() -> str:
            outcome = next(outcomes)
            if isinstance(outcome, OSError):
                raise outcome
            return outcome

        waited = await asyncio.gather(*(answers.get("key", 5, find) for _ in range(3)), return_exceptions=True)
        return waited, await answers.get("key", 5, find)

    waited, then = asyncio.run(fails_once())
    assert [str(error) for error in waited] == ["away"] * 3
    assert then == "back"


def test_what_is_kept_is_little_and_young():
    """However many questions are asked, memory does not grow, and nothing old stays."""

    async def many() -> int:
        now = [0.0]
        answers = Answers(lambda: now[0])

        async def find() -> str:
            return "found"

        for number in range(1000):
            await answers.get(number, 5, find)
        assert len(answers._found) <= 64
        now[0] += LONGEST_S + 1
        await answers.get("last", 5, find)
        return len(answers._found)

    assert asyncio.run(many()) == 1
