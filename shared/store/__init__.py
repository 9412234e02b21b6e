"""The queue: one protocol, one set of statements, an adapter per database."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from shared.crash import armed
from shared.settings import Settings
from shared.store.protocol import JobStore

if TYPE_CHECKING:
    from shared.store.sql import SqlJobStore

Adapter = TypeVar("Adapter", bound="SqlJobStore")
_lock = threading.Lock()
_stores: dict[str, JobStore] = {}


def get_job_store(settings: Settings) -> JobStore:
    """The store of this process for the configured database; the same object every time."""
    with _lock:
        if settings.database_url not in _stores:
            store = _open(settings)
            store.types = tuple(settings.job_types)
            _stores[settings.database_url] = store
        return _stores[settings.database_url]


def reset_job_store() -> None:
    """Close every store of this process, so that the next `get_job_store` begins afresh."""
    with _lock:
        for store in _stores.values():
            store.close()
        _stores.clear()


def _open(settings: Settings) -> SqlJobStore:
    # Each process imports the one adapter it uses: the functions' cold start need not load both drivers.
    if settings.database_url.startswith("sqlite:///"):
        from shared.store.local import LocalJobStore  # noqa: PLC0415 - see above

        return _kind(LocalJobStore)(Path(settings.database_url.removeprefix("sqlite:///")))
    from shared.store.hrana import Hrana  # noqa: PLC0415 - see above
    from shared.store.turso import TursoJobStore  # noqa: PLC0415 - see above

    token = settings.database_token.get_secret_value() if settings.database_token else None
    return _kind(TursoJobStore)(Hrana(settings.database_url, token))


def _kind(adapter: type[Adapter]) -> type[Adapter]:
    """The adapter as it is, or with crash points in a process that a test wants dead."""
    if not armed():
        return adapter
    from shared.store.points import with_store_points  # noqa: PLC0415 - for tests alone

    return with_store_points(adapter)
