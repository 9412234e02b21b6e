"""Work that blocks, beside the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar, cast

T = TypeVar("T")
#: Requests that wait for a database or a storage at the same time; more of them wait for a thread.
_MOST = 40
#: Does the work, and returns what tells of it.
_Errand = Callable[[], Callable[[], object]]
_Inbox = queue.SimpleQueue[_Errand]


class _Threads:
    """Threads that are begun when they are needed and then stay, for all event loops of the process.

    Those of anyio end with the task that began them, which on Lambda is the request: one more for every poll.
    """

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._most, self._begun = most, 0
        #: Of each thread that rests the place it takes from; the last one to rest is the first to work.
        self._idle: list[_Inbox] = []
        self._waiting: deque[_Errand] = deque()

    def ask(self, errand: _Errand) -> None:
        """Have it done by a thread that rests, by a new one, or by the first that has time."""
        with self._lock:
            if self._idle:
                self._idle.pop().put(errand)
            elif self._begun < self._most:
                # A daemon: what was given up in time must not hold up the end of the process.
                threading.Thread(target=self._live, args=(errand,), name="request", daemon=True).start()
                self._begun += 1
            else:
                self._waiting.append(errand)

    def _live(self, errand: _Errand) -> None:
        inbox: _Inbox = queue.SimpleQueue()
        while True:
            tell = errand()
            # Whoever is told may ask again at once: there is a thread for it already.
            with self._lock:
                if self._waiting:
                    inbox.put(self._waiting.popleft())
                else:
                    self._idle.append(inbox)
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                tell()
            del errand, tell  # and with them the request
            errand = inbox.get()


_threads = _Threads(_MOST)


async def in_thread(work: Callable[[], T]) -> T:
    """Run what blocks without holding up other requests; past the request's time limit it is left to itself."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    ended: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()

    def errand() -> Callable[[], object]:
        value = error = None
        try:
            value = None if ended.cancelled() else context.run(work)
        except BaseException as raised:  # noqa: BLE001 - raised again by whoever waits for it
            error = raised
        return partial(loop.call_soon_threadsafe, settle, value, error)

    def settle(value: T | None, error: BaseException | None) -> None:
        if not ended.done():
            ended.set_result((value, error))

    _threads.ask(errand)
    value, error = await ended
    if error is not None:
        raise error
    return cast("T", value)
