"""What many open pages ask for at the same time: found out once, and given to all of them.

A request takes part by saying `Cache-Control: max-age=2`: an answer that is two seconds old will do. All others get a
fresh one. Everything is forgotten at once when this process changes the queue, or when its live view sees a change.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from time import monotonic
from typing import Any, Self, TypeVar, cast

from starlette.datastructures import Headers
from starlette.responses import Response

T = TypeVar("T")
#: Nothing is shared for longer, whatever a request says.
LONGEST_S = 5.0
#: Different answers that are kept; the largest has 200 jobs.
_MOST = 64
_MAX_AGE = re.compile(r"max-age=(\d{1,6})")


class Answers:
    """What was found out in the last seconds, by key. Safe to use from many threads and event loops."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.clock = clock
        self._lock = threading.Lock()
        self._change = 0
        #: When the finding out began, and what came of it.
        self._found: dict[Hashable, tuple[float, Any]] = {}
        #: What is being found out; a task lives in one event loop, and those who wait there share it.
        self._flights: dict[tuple[asyncio.AbstractEventLoop, Hashable, int], asyncio.Task[Any]] = {}

    def forget(self) -> None:
        """The queue has changed: whoever asks from now on gets what is true now."""
        with self._lock:
            self._change += 1
            self._found.clear()

    async def get(self, key: Hashable, age_s: float, find: Callable[[], Awaitable[T]]) -> T:
        """What belongs to `key`, at most `age_s` old; `find` finds it out, once for all who wait for it."""
        with self._lock:
            at, found = self._found.get(key, (float("-inf"), None))
            if self.clock() - at <= age_s:
                return cast("T", found)
            flight = (asyncio.get_running_loop(), key, self._change)
            task = self._flights.get(flight)
            if task is None:
                # A task of its own goes on when the request that was first is given up.
                task = self._flights[flight] = asyncio.create_task(self._find(key, self._change, find))
                task.add_done_callback(lambda ended: (self._flights.pop(flight, None), ended.exception()))
        return cast("T", await asyncio.shield(task))

    async def _find(self, key: Hashable, change: int, find: Callable[[], Awaitable[T]]) -> T:
        at = self.clock()
        found = await find()
        with self._lock:
            if change == self._change:
                young = {name: old for name, old in self._found.items() if at - old[0] <= LONGEST_S}
                self._found = {key: (at, found)} if len(young) >= _MOST else young | {key: (at, found)}
        return found


@dataclass(frozen=True, slots=True)
class Copied:
    """A response that can be sent many times."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @classmethod
    def of(cls, response: Response) -> Self:
        """What a response says."""
        return cls(response.status_code, tuple(response.raw_headers), bytes(response.body))

    def response(self) -> Response:
        """The same for one more request."""
        response = Response(self.body, self.status)
        response.raw_headers = list(self.headers)
        return response


def accepted_age_s(headers: Headers) -> float:
    """How old an answer may be for this request; 0 when it has to be fresh."""
    match = _MAX_AGE.search(headers.get("cache-control", ""))
    return min(float(match[1]), LONGEST_S) if match else 0.0
