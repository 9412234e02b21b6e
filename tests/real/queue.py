"""New queues in files of SQLite, as many as tests need."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from shared.store.local import LocalJobStore


def new_queue(path: Path) -> LocalJobStore:
    """An empty, migrated queue in a new file: a copy, since migrating waits for the disk time and again."""
    path.write_bytes(_migrated())
    return LocalJobStore(path)


@cache
def _migrated() -> bytes:
    """What the migrations of this tree make of an empty file; made once in a process."""
    with tempfile.TemporaryDirectory(prefix="queue-") as folder:
        path = Path(folder, "spool.db")
        store = LocalJobStore(path)
        store.migrate()
        store.close()
        assert [file.name for file in Path(folder).iterdir()] == [path.name], "nothing of it is left in the log"
        return path.read_bytes()
