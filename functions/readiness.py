"""Whether the parts behind the API answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from shared.errors import SpoolError, Unavailable
from shared.storage.protocol import StorageAdapter
from shared.store.protocol import JobStore

_VALID_S = 2.0


class Readiness:
    """Remembers for two seconds what was found, so that probes cost little however often they come."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._found: tuple[float, list[str]] | None = None

    def faults(self, store: JobStore, storage: StorageAdapter) -> list[str]:
        """One sentence for each part that does not answer."""
        with self._lock:
            if self._found is None or self._clock() - self._found[0] >= _VALID_S:
                found = [*_faults_of(lambda: _check_database(store)), *_faults_of(storage.check)]
                self._found = (self._clock(), found)
            return self._found[1]


def _check_database(store: JobStore) -> None:
    store.check()
    if missing := store.pending_migrations():
        raise Unavailable(f"The database lacks {', '.join(missing)}; run `spool migrate`.")


def _faults_of(check: Callable[[], None]) -> list[str]:
    try:
        check()
    except SpoolError as error:
        return [error.message]
    return []
