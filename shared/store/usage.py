"""What this process has asked of its database so far."""

from __future__ import annotations

import threading


class Usage:
    """Round trips, and the rows that the server counted for them; a file counts no rows. For many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.round_trips = self.rows_read = self.rows_written = 0

    def count(self, rows_read: int = 0, rows_written: int = 0) -> None:
        """One more round trip."""
        with self._lock:
            self.round_trips += 1
            self.rows_read += rows_read
            self.rows_written += rows_written
