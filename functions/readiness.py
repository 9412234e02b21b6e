"""Whether the parts behind the API answer, and what else is wrong with the deployment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from time import monotonic

from shared.health import Finding, deployment
from shared.storage.protocol import StorageAdapter
from shared.store.protocol import JobStore

_VALID_S = 2.0


class Readiness:
    """Remembers for two seconds what was found, so that probes cost little however often they come."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._found: tuple[float, list[Finding]] | None = None

    def findings(self, store: JobStore, storage: StorageAdapter, programs: Collection[str] = ()) -> list[Finding]:
        """Everything that was looked at; `programs` are the job types of those that this API knows."""
        with self._lock:
            if self._found is None or self._clock() - self._found[0] >= _VALID_S:
                self._found = (self._clock(), list(deployment(store, storage, programs)))
            return self._found[1]
