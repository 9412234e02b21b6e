"""What a request costs its caller: which limits hold for it, and who was refused a moment ago."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic
from typing import Literal

from functions.auth import LOCAL, Caller
from shared.errors import RateLimited, TooManyWaiting
from shared.settings import Settings
from shared.store.values import Admission

#: `job` makes jobs, `write` writes something else, `free` is neither limited nor counted.
Cost = Literal["job", "write", "free"]
_MOST_REMEMBERED = 1000


class Limits:
    """Decides what a request carries to the queue. A caller who was refused is refused from memory until its time."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        self._settings, self._clock = settings, clock
        self._lock = threading.Lock()
        self._refused: dict[tuple[str, type[RateLimited]], tuple[float, RateLimited]] = {}

    def admission(self, caller: Caller, cost: Cost) -> Admission:
        """What the request takes along. Raises `RateLimited` for who was refused a moment ago."""
        if cost == "free":
            return Admission(caller.name)
        self._recall(caller.name, RateLimited)
        per_minute, waiting = self._settings.limits(trusted=caller.name == LOCAL)
        if cost == "job":
            self._recall(caller.name, TooManyWaiting)
        return Admission(caller.name, per_minute, waiting if cost == "job" else 0)

    def remember(self, caller: Caller, error: RateLimited) -> None:
        """The queue refused this caller."""
        with self._lock:
            if len(self._refused) >= _MOST_REMEMBERED:
                self._refused.clear()
            self._refused[caller.name, type(error)] = (self._clock() + error.retry_after_s, error)

    def _recall(self, name: str, kind: type[RateLimited]) -> None:
        with self._lock:
            until, error = self._refused.get((name, kind), (0.0, None))
            left_s = until - self._clock()
            if error is None or left_s <= 0:
                self._refused.pop((name, kind), None)
                return
        raise kind(error.message, retry_after_s=math.ceil(left_s), quota=error.quota)
