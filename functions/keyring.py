"""The keys as this process knows them: asked of the queue seldom, and then in a batch that goes there anyway."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from time import monotonic

from shared.keys import ApiKey, id_in
from shared.store.protocol import JobStore

#: What was read longer ago is not trusted: a revoked key opens nothing after so many seconds, in any process.
VALID_S = 30.0
#: A request with a key reads the keys again beside its own statements when they are older.
_RENEW_S = 10.0
#: Unknown keys make the process look for new ones at most so often, whoever sends how many of them.
_LOOK_S = 1.0
#: How often a key's use is written down.
_USED_S = 60.0


class Keyring:
    """Every key of the deployment, live ones and revoked. Safe to use from many threads."""

    def __init__(self, store: JobStore, clock: Callable[[], float] = monotonic) -> None:
        self._store, self.clock = store, clock
        self._lock = threading.Lock()
        self._keys: dict[str, ApiKey] = {}
        self._asked_at = float("-inf")
        self._noted_at: dict[str, float] = {}

    @property
    def fresh(self) -> bool:
        """Whether what is known is still trusted."""
        return self.clock() - self._asked_at < VALID_S

    @property
    def empty(self) -> bool:
        """Whether there never was a key. Revoked ones count: who opened Spool to others has to close it by hand."""
        return not self._keys

    def load(self) -> bool:
        """Read the keys unless that was done just now; returns whether there are none (one round trip)."""
        with self._lock:
            if not self.fresh:
                self._read()
            return self.empty

    def find(self, text: str) -> ApiKey | None:
        """The live key that `text` is; takes a round trip only when the key is unknown or what is known is too old."""
        known = self._known(id_in(text) or "")
        return known if known is not None and known.opens_with(text) else None

    def live(self, key_id: str) -> ApiKey | None:
        """The key with this id unless it was revoked; a round trip as for `find`."""
        known = self._known(key_id)
        return known if known is not None and known.live else None

    def _known(self, key_id: str) -> ApiKey | None:
        known = self._keys.get(key_id)
        if not self.fresh or (known is None and self.clock() - self._asked_at >= _LOOK_S):
            with self._lock:
                if not self.fresh or (key_id not in self._keys and self.clock() - self._asked_at >= _LOOK_S):
                    self._read()
            known = self._keys.get(key_id)
        return known

    @property
    def due(self) -> bool:
        """Whether the next request should bring the keys along."""
        return self.clock() - self._asked_at >= _RENEW_S

    def unnoted(self, key: ApiKey) -> bool:
        """Whether it is time to write down that the key is used."""
        return self.clock() - self._noted_at.get(key.id, float("-inf")) >= _USED_S

    def noted(self, key: ApiKey) -> None:
        """It was written down."""
        self._noted_at[key.id] = self.clock()

    def learn(self, keys: Iterable[ApiKey], asked_at: float) -> None:
        """What was read, and when (on this ring's clock) it was asked for; older news than what is known is none."""
        if asked_at >= self._asked_at:
            self._keys = {key.id: key for key in keys}
            self._asked_at = asked_at

    def _read(self) -> None:
        asked_at = self.clock()
        self.learn(self._store.api_keys(), asked_at)
