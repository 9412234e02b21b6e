"""`spool backup` and `spool restore`: the queue as one file, and a new database from it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from cli.errors import USAGE, CommandError
from cli.live import size_text
from shared.errors import Conflict, Invalid
from shared.settings import Settings
from shared.storage import get_storage
from shared.store import get_job_store
from shared.store.backup import Copied, back_up, fetch_backup, restore
from shared.store.sql import SqlJobStore


def run_backup(settings: Settings, path: Path) -> Copied:
    """Copy the queue into a new file and prove the copy. Raises `CommandError`."""
    database = Path(settings.database_url.removeprefix("sqlite:///"))
    if settings.database_url.startswith("sqlite:///") and not database.exists():
        raise CommandError(
            f"There is no queue at {database}. Go to the folder in which Spool runs, or set SPOOL_DATABASE_URL.", USAGE
        )
    try:
        return back_up(get_job_store(settings), path)
    except Conflict as error:
        raise CommandError(error.message, USAGE) from None
    except OSError as error:
        raise CommandError(f"{path} cannot be written ({error.strerror}); name a file in another folder.") from None


def run_restore(settings: Settings, path: Path | None) -> Copied:
    """Fill the configured, empty database from a copy, None for the storage's newest. Raises `CommandError`."""
    store = get_job_store(settings)
    assert isinstance(store, SqlJobStore)
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            path = Path(folder, "queue.db")
            fetch_backup(get_storage(settings), path, lambda _done, _total: None)
        try:
            return restore(store, path)
        except (Conflict, Invalid) as error:
            raise CommandError(error.message, USAGE) from None


def told(copied: Copied) -> str:
    """What a copy holds, for a person."""
    rows, size = copied.rows, size_text(copied.size_bytes)
    return f"{rows['job']:,} jobs, {rows['event']:,} lines of history, {rows['asset']:,} uploads ({size})"
