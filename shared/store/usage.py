"""What this process has asked of its database so far, and what one request of it has."""

from __future__ import annotations

import threading
from contextvars import ContextVar

_of_request: ContextVar[Usage | None] = ContextVar("of_request", default=None)


class Usage:
    """Round trips, and the rows that the server counted for them; a file counts no rows. For many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.round_trips = self.rows_read = self.rows_written = 0

    def count(self, rows_read: int = 0, rows_written: int = 0) -> None:
        """One more round trip."""
        self._add(rows_read, rows_written)
        if (request := _of_request.get()) is not None:
            request._add(rows_read, rows_written)

    def _add(self, rows_read: int, rows_written: int) -> None:
        with self._lock:
            self.round_trips += 1
            self.rows_read += rows_read
            self.rows_written += rows_written


def request_begins() -> Usage:
    """What the request that begins here will have asked, in whichever threads it is answered."""
    usage = Usage()
    _of_request.set(usage)
    return usage
