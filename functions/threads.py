"""Work that blocks, beside the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar, cast

T = TypeVar("T")
#: Requests that wait for a database or a storage at the same time; more of them wait for a thread.
_MOST = 40


class _Threads:
    """Threads that are begun when they are needed and then stay, for all event loops of the process.

    Those of anyio end with the task that began them, which on Lambda is the request: one more for every poll.
    """

    def __init__(self, most: int) -> None:
        self._room = threading.Semaphore(most)
        self._idle = threading.Semaphore(0)
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def ask(self, errand: Callable[[], None]) -> None:
        """Have it done by a thread that is idle, by a new one, or by the first that has time."""
        self._waiting.put(errand)
        if not self._idle.acquire(blocking=False) and self._room.acquire(blocking=False):
            # A daemon: what was given up in time must not hold up the end of the process.
            threading.Thread(target=self._live, name="request", daemon=True).start()

    def _live(self) -> None:
        while True:
            try:
                errand = self._waiting.get_nowait()
            except queue.Empty:
                self._idle.release()
                errand = self._waiting.get()
            errand()
            del errand  # and with it the request


_threads = _Threads(_MOST)


async def in_thread(work: Callable[[], T]) -> T:
    """Run what blocks without holding up other requests; past the request's time limit it is left to itself."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    ended: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()

    def errand() -> None:
        if ended.cancelled():
            return
        value = error = None
        try:
            value = context.run(work)
        except BaseException as raised:  # noqa: BLE001 - raised again by whoever waits for it
            error = raised
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, value, error)

    def settle(value: T | None, error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result((value, error))

    _threads.ask(errand)
    value, error = await ended
    if error is not None:
        raise error
    return cast("T", value)
