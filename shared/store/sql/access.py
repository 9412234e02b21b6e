"""API keys."""

from __future__ import annotations

import json
from collections.abc import Sequence

from shared.errors import Conflict, NotFound
from shared.keys import MAX_LIVE, ApiKey
from shared.store.rows import to_key
from shared.store.sql.batches import Batches, Bound, Statement
from shared.store.statements import access


class AccessVerbs(Batches):
    """Who is let in."""

    def add_key(self, key: ApiKey) -> ApiKey:
        """Let a key in; repeats are safe."""
        params: Bound = {
            "id": key.id,
            "name": key.name,
            "hash": key.hash,
            "scopes": json.dumps(key.scopes),
            "most": MAX_LIVE,
        }
        rows = self._run([Statement(access.ADD_KEY, params), Statement(access.KEY, {"id": key.id})])[1]
        if not rows:
            raise Conflict(f"{key.name} has {MAX_LIVE} live keys already; revoke one of them first.")
        return to_key(rows[0])

    def api_keys(self) -> Sequence[ApiKey]:
        """Every key there ever was, oldest first."""
        return [to_key(row) for row in self._read([Statement(access.KEYS)])[0]]

    def revoke_key(self, key_id: str) -> ApiKey:
        """Shut a key out, for good."""
        rows = self._run([Statement(access.REVOKE_KEY, {"id": key_id})])[0]
        if not rows:
            raise NotFound(f"There is no key {key_id}; `spool keys list` shows them.")
        return to_key(rows[0])
