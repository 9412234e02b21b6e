"""Put on the path of a process of Spool: its SQLite reads a clock that a test can set, through the file CHAOS_CLOCK.

Every process of one machine reads the machine's clock, so every process of a test reads the same file.
"""

import os
import sqlite3
from pathlib import Path

_NOW = "julianday('now')"


class _Connection(sqlite3.Connection):
    """Runs what it is given with the time moved; within one statement the time stands still, as SQLite promises."""

    def execute(self, text, *params):
        """Run a statement."""
        ahead = Path(os.environ["CHAOS_CLOCK"]).read_text()
        return super().execute(text.replace(_NOW, f"julianday('now', '{ahead} seconds')"), *params)


def _connect(*args, _connect=sqlite3.connect, **options):
    return _connect(*args, **{"factory": _Connection} | options)


if "CHAOS_CLOCK" in os.environ:
    sqlite3.connect = _connect
