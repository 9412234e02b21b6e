"""The claims that a worker asked for and stopped waiting for: whatever became of them, it does not own the jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable


class GivenUp:
    """Tokens of claims that no slot works on. Every heartbeat names them, so that the queue gives their jobs back.

    Only the worker can tell: in the queue a claim whose reply is on its way looks like one whose reply is lost, and the
    age of a row says nothing once a clock jumped. A token is named for the time of a lease: what it claims later than
    that is rescued when its own lease ends.
    """

    def __init__(self, lease_s: float, clock: Callable[[], float]) -> None:
        self._lease_s, self._clock = lease_s, clock
        self._lock = threading.Lock()
        self._until: dict[str, float] = {}
        self._untold: set[str] = set()

    def add(self, token: str) -> None:
        """Nobody works on what this token claimed, or will claim when it arrives late."""
        with self._lock:
            self._until[token] = self._clock() + self._lease_s
            self._untold.add(token)

    def tokens(self) -> tuple[str, ...]:
        """What the next heartbeat names."""
        with self._lock:
            now = self._clock()
            self._until = {token: until for token, until in self._until.items() if until > now}
            return tuple(self._until)

    def told(self, tokens: tuple[str, ...]) -> None:
        """A heartbeat that named these was answered."""
        with self._lock:
            self._untold.difference_update(tokens)

    @property
    def is_news(self) -> bool:
        """Whether there is one that no answered heartbeat named."""
        with self._lock:
            return bool(self._untold)
