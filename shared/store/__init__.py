"""The queue: one protocol, one set of statements, an adapter per database."""

from __future__ import annotations

import threading
from pathlib import Path

from shared.settings import Settings
from shared.store.local import LocalJobStore
from shared.store.protocol import JobStore

_lock = threading.Lock()
_stores: dict[str, JobStore] = {}


def get_job_store(settings: Settings) -> JobStore:
    """The store of this process for the configured database; the same object every time."""
    with _lock:
        if settings.database_url not in _stores:
            _stores[settings.database_url] = LocalJobStore(Path(settings.database_url.removeprefix("sqlite:///")))
        return _stores[settings.database_url]


def reset_job_store() -> None:
    """Close every store of this process, so that the next `get_job_store` begins afresh."""
    with _lock:
        for store in _stores.values():
            store.close()
        _stores.clear()
