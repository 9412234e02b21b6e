"""Work beside the event loop: by threads that stay, with its errors, and not at all once nobody waits for it."""

from __future__ import annotations

import asyncio
import threading

import pytest

from functions import threads
from functions.threads import in_thread


def test_threads_outlive_the_request_that_needed_them(monkeypatch):
    """On Lambda every request is a run of the loop of its own; none of them has to begin a thread again."""
    monkeypatch.setattr(threads, "_threads", threads._Threads(20))
    with asyncio.Runner() as runner:
        used = {runner.run(in_thread(threading.current_thread)) for _ in range(20)}
    assert len(used) == 1
    assert threading.current_thread() not in used


def test_no_more_threads_are_begun_than_work_at_once(monkeypatch):
    """Three streams of work are done by three threads, however they overtake each other."""
    monkeypatch.setattr(threads, "_threads", threads._Threads(40))
    used: set[threading.Thread] = set()

    async def stream() -> None:
        for _ in range(300):
            used.add(await in_thread(threading.current_thread))

    async def all_of_them() -> None:
        await asyncio.gather(*(stream() for _ in range(3)))

    asyncio.run(all_of_them())
    assert len(used) <= 3


@pytest.mark.parametrize("error", [LookupError, StopIteration, SystemExit])
def test_an_error_reaches_whoever_waits(error):
    """Whatever is raised in the thread ends the wait; the thread goes on with the next."""

    def work() -> None:
        raise error("a sentence")

    async def ask() -> None:
        await in_thread(work)

    # Python makes a RuntimeError of a StopIteration that leaves a coroutine.
    with pytest.raises(RuntimeError if error is StopIteration else error):
        asyncio.run(ask())
    assert asyncio.run(in_thread(lambda: "on")) == "on"


def test_work_that_was_given_up_before_it_began_is_not_done(monkeypatch):
    """It waits for a thread when its request is over; the thread passes it by, and the work before goes its way."""
    monkeypatch.setattr(threads, "_threads", threads._Threads(1))
    begun, on, done = threading.Event(), threading.Event(), []

    async def ask() -> None:
        first = asyncio.create_task(in_thread(lambda: begun.set() or on.wait(60)))
        while not begun.is_set():
            await asyncio.sleep(0)
        second = asyncio.create_task(in_thread(lambda: done.append("second")))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        on.set()
        assert await first
        await in_thread(lambda: done.append("third"))

    asyncio.run(ask())
    assert done == ["third"]
