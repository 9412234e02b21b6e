"""Whether the database answers, as this process sees it: one line in the log when it stops, one when it is back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import structlog

from shared.errors import Refused, Unavailable

#: An answer that is lost now and then is asked for again and is no news; no answer at all for so long is.
SILENCE_S = 3.0


class Contact:
    """What all threads of a process together know about one database. `away` once nothing was answered for 3 s."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._silent_since: float | None = None
        self.away = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Around everything that is asked of the database."""
        try:
            yield
        except Unavailable as error:
            self._missed(error.message)
            raise
        except Refused:
            self._answered()
            raise
        else:
            self._answered()

    def _missed(self, reason: str) -> None:
        with self._lock:
            now = self._clock()
            if self._silent_since is None:
                self._silent_since = now
            if self.away or now - self._silent_since < SILENCE_S:
                return
            self.away = True
        if structlog.is_configured():  # a command that has no log tells its user by itself
            structlog.get_logger("spool.database").warning("the database does not answer", reason=reason)

    def _answered(self) -> None:
        if self._silent_since is None:
            return
        with self._lock:
            since, was_away = self._silent_since, self.away
            self._silent_since, self.away = None, False
        if since is not None and was_away and structlog.is_configured():
            away_s = round(self._clock() - since, 1)
            structlog.get_logger("spool.database").info("the database answers again", away_s=away_s)
